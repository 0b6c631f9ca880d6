//! What runs the brokers: a container engine, or this machine's Java with Kafka's published artefacts.

use std::{fmt, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use super::artefacts;
use crate::command;

/// The version of Kafka that runs.
pub(super) const VERSION: &str = "4.1.0";

/// Of one broker.
const MEMORY: &str = "-Xmx512m";

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// Docker if an engine answers, otherwise Java
    Auto,
    /// A container engine
    Docker,
    /// Java and Maven, installed where that may be
    Java,
}

/// What runs a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    /// The image `apache/kafka` on the host's network.
    Docker,
    /// Processes of this machine.
    Java,
}

fn docker_answers() -> bool {
    command::find("docker").is_some() && command::read(Command::new("docker").arg("info")).is_ok()
}

impl Engine {
    /// The one that is asked for, ready to run.
    pub(super) fn find(choice: Choice) -> anyhow::Result<Self> {
        let docker = match choice {
            Choice::Auto => docker_answers(),
            Choice::Docker => true,
            Choice::Java => false,
        };
        if docker {
            return Ok(Self::Docker);
        }
        artefacts::provide()?;
        Ok(Self::Java)
    }

    /// A Java with Kafka's classes, to which options and a class are to be added; files in the folder have the same paths for
    /// it. The name tells a container from others.
    pub(super) fn java(self, folder: &Path, name: &str) -> Command {
        match self {
            Self::Docker => {
                let mut docker = Command::new("docker");
                let user = rustix::process::geteuid().as_raw();
                let group = rustix::process::getegid().as_raw();
                let folder = folder.display();
                docker
                    .args(["run", "--rm", "--network", "host", "--name", name])
                    .args(["--user", &format!("{user}:{group}")])
                    .args(["--volume", &format!("{folder}:{folder}")])
                    .args(["--entrypoint", "java", &format!("apache/kafka:{VERSION}")])
                    .args([MEMORY, "-cp", "/opt/kafka/libs/*"]);
                docker
            }
            Self::Java => {
                let mut java = Command::new(artefacts::java());
                java.args([MEMORY, "-cp"])
                    .arg(artefacts::folder().join("*"));
                java
            }
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Docker => "Docker",
            Self::Java => "Java",
        })
    }
}
