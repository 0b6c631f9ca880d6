//! Builds the probe's program and says where it is.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, bail};

use crate::command::{self, say};

/// How the probe is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build; beside the tests.
    Dev,
    /// What is installed and measured.
    Release,
}

/// Builds `dataflux-probe` with the kernel objects that are in `target/bpf`, and returns its path.
pub(crate) fn build(profile: Profile) -> anyhow::Result<PathBuf> {
    let mut cargo = command::cargo("build");
    cargo.args(["--package", "dataflux-probe", "--bin", "dataflux-probe"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    say(format_args!("building dataflux-probe ({profile:?})"));
    // Cargo alone knows where its output goes: the environment and its configuration move it.
    let output = cargo
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo build")?;
    if !output.status.success() {
        bail!("building dataflux-probe failed: {}", output.status);
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built no dataflux-probe")
}
