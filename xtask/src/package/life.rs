//! The life of the Debian package under a real systemd: a folder of Debian boots as a container, and a script inside installs,
//! runs, upgrades, removes and purges.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::deb;
use crate::{
    command::{self, say},
    setup, workspace,
};

/// The oldest release that the package is for.
const SUITE: &str = "bookworm";

/// What the script is called inside, and its last line.
const SCENARIO: &str = include_str!("scenario.sh");
const PASSED: &str = "scenario: passed";

/// Runs the script when everything else is started, then ends the container.
const SERVICE: &str = "\
[Service]
Type=oneshot
ExecStart=/scenario.sh
StandardOutput=file:/result/log
StandardError=inherit
ExecStopPost=/bin/systemctl --no-block exit
";

/// What a machine allows everybody and the container by itself does not.
const SYSTEM_CALLS: [&str; 4] = [
    "bpf",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
];

/// Far longer than it takes.
const LONGEST_SECONDS: &str = "600";

pub(super) fn test(given: Option<&Path>) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a container needs root: sudo ./x package life");
    }
    setup::install_packages(
        "a folder of Debian with systemd",
        &["debootstrap", "systemd-container"],
    )?;
    let folder = workspace::root().join("target/debian");
    fs::create_dir_all(&folder).context("cannot make target/debian")?;
    let first = match given {
        Some(package) => package.to_owned(),
        None => deb::build()?,
    };
    deb::lint(&first)?;
    let second = match given {
        Some(package) => package.to_owned(),
        None => deb::pack(&folder, 2)?,
    };
    let container = prepare(&first, &second)?;
    let booted = boot(&container);
    let log = fs::read_to_string(container.join("result/log")).unwrap_or_default();
    say(&log);
    fs::remove_dir_all(&container).context("cannot remove the container's folder")?;
    booted?;
    if log.lines().last() != Some(PASSED) {
        bail!("the package's life went wrong: see above");
    }
    Ok(())
}

/// A folder of Debian, from the cache if it is there, with both packages and the script.
fn prepare(first: &Path, second: &Path) -> anyhow::Result<PathBuf> {
    let cache = workspace::root().join("target/debootstrap");
    let base = cache.join(format!("{SUITE}-dbus"));
    if !base.is_dir() {
        let unfinished = cache.join("unfinished");
        fs::create_dir_all(&cache).context("cannot make target/debootstrap")?;
        command::run(
            Command::new("debootstrap")
                .args(["--variant=minbase", "--include=systemd-sysv,adduser,dbus"])
                .arg(SUITE)
                .arg(&unfinished),
        )?;
        fs::rename(&unfinished, &base).context("cannot keep the folder of Debian")?;
    }
    let container = cache.join("container");
    if container.exists() {
        fs::remove_dir_all(&container).context("cannot remove the last container's folder")?;
    }
    command::run(
        Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(&base)
            .arg(&container),
    )?;
    let inside = |name: &str| container.join(name);
    for name in ["packages", "result"] {
        fs::create_dir(inside(name)).context("cannot make a folder in the container")?;
    }
    fs::copy(first, inside("packages/first.deb")).context("cannot copy the package")?;
    fs::copy(second, inside("packages/second.deb")).context("cannot copy the package")?;
    fs::write(inside("scenario.sh"), SCENARIO).context("cannot write the script")?;
    fs::set_permissions(inside("scenario.sh"), fs::Permissions::from_mode(0o755))
        .context("cannot make the script a program")?;
    let units = inside("etc/systemd/system");
    fs::write(units.join("scenario.service"), SERVICE).context("cannot write the unit")?;
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted).context("cannot enable the unit")?;
    symlink("../scenario.service", wanted.join("scenario.service"))
        .context("cannot enable the unit")?;
    Ok(container)
}

/// Boots it and waits until it has ended itself. It is in the host's network namespace, with a `/proc` and user 0 of its own.
fn boot(container: &Path) -> anyhow::Result<()> {
    let mut nspawn = Command::new("timeout");
    nspawn
        .args([
            "--kill-after=5",
            LONGEST_SECONDS,
            "systemd-nspawn",
            "--boot",
        ])
        .args(["--quiet", "--register=no", "--keep-unit", "--console=pipe"])
        .args(["--capability=CAP_BPF,CAP_PERFMON"])
        .arg(format!("--system-call-filter={}", SYSTEM_CALLS.join(" ")))
        .arg("--directory")
        .arg(container)
        .stdin(Stdio::null());
    command::announce(&nspawn);
    let ended = nspawn.output().context("cannot run systemd-nspawn")?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        bail!("the container: {}: {}", ended.status, said.trim());
    }
    Ok(())
}
