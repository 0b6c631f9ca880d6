//! What delivery costs and how fast it is: beside librdkafka alone, beside the disk, beside a broker that goes and comes.

mod backlog;
mod broker;
pub(super) mod envelopes;
mod outage;
pub(super) mod size;
mod spool;
mod topic;
mod whole_path;

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use super::process::Row;

/// A part of what is measured here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scenario {
    /// Size and formatting of the default configuration's envelope
    Envelope,
    /// Spool beside the disk; start with a spool of 1 GiB
    Spool,
    /// Envelopes per second beside librdkafka alone
    Kafka,
    /// CPU of the probe with a broker that serves, is away, hangs and returns
    Outage,
    /// Delivery of what a day has left in the spool
    Backlog,
}

/// The figures of one part.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) rows: Vec<Row>,
}

impl Scenario {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::Envelope,
        Self::Spool,
        Self::Kafka,
        Self::Outage,
        Self::Backlog,
    ];

    /// Measures this part with the probe's release program. `folder` is a place for files, on a disk.
    ///
    /// # Errors
    /// Something that is measured does not run, or is wrong: a number that is missing, for example.
    pub(super) fn measure(
        self,
        rounds: usize,
        probe: &Path,
        folder: &Path,
    ) -> anyhow::Result<Section> {
        let folder = folder.join(format!("{self:?}").to_lowercase());
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        match self {
            Self::Envelope => size::measure(rounds, &folder),
            Self::Spool => spool::measure(rounds, probe, &folder),
            Self::Kafka => whole_path::measure(rounds, &folder),
            Self::Outage => outage::measure(rounds, probe, &folder),
            Self::Backlog => backlog::measure(rounds, probe, &folder),
        }
    }
}

/// An empty folder; what was there is gone.
fn empty(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| folder.display().to_string());
        }
        _ => {}
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}
