//! Kafka clients that are not ours, for the tests: kcat, and Python's in an environment of its own.

use std::{path::PathBuf, process::Command};

use super::engine::{Choice, Engine};
use crate::{
    command::{self, say},
    setup, workspace,
};

/// Debian's packages of what the tests read with.
const PACKAGES: [&str; 3] = ["kcat", "python3", "python3-venv"];

/// Makes sure of a broker and its clients, installed where that may be; the error says what the Kafka tests lack here.
pub(crate) fn provide() -> anyhow::Result<()> {
    Engine::find(Choice::Auto)?;
    if (command::find("kcat").is_none() || command::find("python3").is_none()) && setup::has_apt() {
        setup::install_packages("the Kafka tests", &PACKAGES)?;
    }
    anyhow::ensure!(command::find("kcat").is_some(), "there is no kcat");
    let folder = workspace::root().join("target/kafka-python");
    if has_client() {
        return Ok(());
    }
    say(format_args!(
        "installing Python's Kafka client into {}",
        folder.display()
    ));
    let make = |command: &mut Command| command::run(command.args(["-m", "venv"]).arg(&folder));
    if make(&mut Command::new("python3")).is_err() && setup::has_apt() {
        // Debian cuts this module out of its Python.
        setup::install_packages("the Kafka tests", &PACKAGES)?;
        make(&mut Command::new("python3"))?;
    }
    command::run(
        Command::new(python())
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(workspace::root().join("deploy/consumer/requirements.txt")),
    )
}

/// The reference consumer's own tests; they need no broker.
pub(crate) fn test_consumer() -> anyhow::Result<()> {
    command::run(
        Command::new(python())
            .args(["-B", "-m", "unittest", "discover"])
            .arg(workspace::root().join("deploy/consumer")),
    )
}

fn has_client() -> bool {
    command::read(Command::new(python()).args(["-c", "import confluent_kafka"])).is_ok()
}

fn python() -> PathBuf {
    workspace::root().join("target/kafka-python/bin/python")
}
