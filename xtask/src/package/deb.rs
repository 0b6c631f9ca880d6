//! The Debian package, by cargo-deb from `[package.metadata.deb]` of the probe's manifest, and what lintian says of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    build_ebpf,
    command::{self, say},
    probe_binary::{self, Profile},
    setup::{self, CARGO_DEB},
    workspace,
};

/// Tags that are known. The package is the project's own and no upload to Debian, which would close a bug there.
const EXPLAINED: [&str; 1] = ["initial-upload-closes-no-bugs"];

/// Shells whose completions are installed.
const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// Builds kernel objects, probe and package, and gives the package's path.
pub(super) fn build() -> anyhow::Result<PathBuf> {
    build_ebpf::build(&setup::kernel_tools()?)?;
    probe_binary::build(Profile::Release)?;
    let folder = workspace::root().join("target/debian");
    fs::create_dir_all(&folder).context("cannot make target/debian")?;
    let package = pack(&folder, 1)?;
    say(format_args!("\n{}", package.display()));
    Ok(package)
}

/// Packs the release program that is there, under this revision, without the lines that its profile keeps for backtraces.
pub(super) fn pack(folder: &Path, revision: u32) -> anyhow::Result<PathBuf> {
    let tool = match CARGO_DEB.find() {
        Some(tool) => tool,
        None => CARGO_DEB.install(|_| {})?,
    };
    manual(&folder.join("manual"))?;
    let package = folder.join(format!("dataflux-probe-{revision}.deb"));
    command::run(
        Command::new(tool)
            .current_dir(workspace::root().join("dataflux-probe"))
            .args(["--no-build", "--quiet", "--strip", "--deb-revision"])
            .arg(revision.to_string())
            .arg("--output")
            .arg(&package),
    )?;
    Ok(package)
}

/// What the release program says of itself: manual pages, and completions.
fn manual(folder: &Path) -> anyhow::Result<()> {
    let probe = workspace::root().join("target/release/dataflux-probe");
    let pages = folder.join("man");
    fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
    command::run(Command::new(&probe).arg("man").arg("--dir").arg(&pages))?;
    for shell in SHELLS {
        let script = command::read(Command::new(&probe).args(["completions", shell]))?;
        let path = folder.join(shell);
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Fails for every complaint that is not explained here.
pub(super) fn lint(package: &Path) -> anyhow::Result<()> {
    setup::install_packages("judging the package", &["lintian"])?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "none"]);
    command::announce(lintian.arg(package));
    let said = command::read(&mut lintian)?;
    let unexplained: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("E: ") || line.starts_with("W: "))
        .filter(|line| !EXPLAINED.iter().any(|tag| line.contains(tag)))
        .collect();
    if !unexplained.is_empty() {
        bail!("lintian: {}", unexplained.join("; "));
    }
    Ok(())
}
