//! Prometheus for the tests of the endpoint: its server, promtool, and a parser of its formats that is not ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    command::{self, say},
    setup, workspace,
};

/// Tells the tests that what they need is there, so that one that lacks it is a failure.
pub(crate) const REQUIRED: (&str, &str) = ("DATAFLUX_PROMETHEUS_TESTS", "required");

/// Debian's packages of it.
const PACKAGES: [&str; 2] = ["prometheus", "python3-prometheus-client"];

/// Makes sure of all of it. The packages are unpacked and not installed: installed, the first would start a server that
/// nobody asked for.
pub(crate) fn provide() -> anyhow::Result<()> {
    if command::find("python3").is_none() && setup::has_apt() {
        setup::install_packages("the tests of the Prometheus endpoint", &["python3"])?;
    }
    anyhow::ensure!(command::find("python3").is_some(), "there is no python3");
    let folder = workspace::root().join("target/prometheus");
    if folder.is_dir() {
        return Ok(());
    }
    anyhow::ensure!(
        setup::has_apt(),
        "there is no Debian to have Prometheus from"
    );
    say(format_args!(
        "unpacking {} into {}",
        PACKAGES.join(" and "),
        folder.display()
    ));
    let new = folder.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).context("cannot clear what was begun before")?;
    }
    fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
    if download(&new).is_err() && rustix::process::geteuid().is_root() {
        command::run(Command::new("apt-get").args(["update", "-q"]))?;
    }
    let packages = download(&new)?;
    anyhow::ensure!(packages.len() == PACKAGES.len(), "apt gave {packages:?}");
    for package in packages {
        command::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&new))?;
        fs::remove_file(&package).context("cannot remove what is unpacked")?;
    }
    fs::rename(&new, &folder).context("cannot put the programs in their place")
}

/// Has the packages fetched into a folder, and says where they are.
fn download(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut apt = Command::new("apt-get");
    apt.args(["download", "-q"]).args(PACKAGES);
    command::run(apt.current_dir(folder))?;
    let entries = fs::read_dir(folder).context("cannot look at what apt gave")?;
    let paths = entries.flatten().map(|entry| entry.path());
    let is_package = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "deb");
    Ok(paths.filter(is_package).collect())
}
