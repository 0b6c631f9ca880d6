//! `file`: records appended to a file that is rolled by size.

mod appender;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf, absolute},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use serde::Deserialize;

use super::{Acknowledgement, Logger, Payload, SendError, worker::Worker};
use crate::{
    config::{Section, values::Bytes},
    plugin::{Needs, Plugin},
    privileges::Files,
};
use appender::Appender;

pub(super) static PLUGIN: Plugin<dyn Logger> = Plugin {
    name: "file",
    summary: "records appended to a file, rolled by size",
    needs: Needs::NOTHING,
    example: r#"path = "/var/log/dataflux-probe/envelopes.jsonl"  # required; its folder is made if only that is missing
roll_bytes = "64MiB"  # begin a new file rather than let this one grow beyond; 0 = never; default: 64MiB
keep = 5              # rolled files to keep: path.1 (the newest), path.2, ...; 0 = none; default: 5
sync = "none"         # "every" = on disk before a record counts as delivered, survives a power cut; default: "none""#,
    metrics: &[],
    build: |section, _context| Ok(Box::new(File::new(section)?)),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    path: PathBuf,
    #[serde(default = "default_roll_bytes")]
    roll_bytes: Bytes,
    #[serde(default = "default_keep")]
    keep: u16,
    #[serde(default)]
    sync: Sync,
}

/// When the disk is asked to have a record.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sync {
    /// When the kernel likes: a power cut may cost what the page cache held.
    #[default]
    None,
    /// Before it is acknowledged.
    Every,
}

const fn default_roll_bytes() -> Bytes {
    Bytes(64 << 20)
}

const fn default_keep() -> u16 {
    5
}

struct File {
    appender: Arc<Mutex<Appender>>,
    worker: Worker,
    claims: Vec<String>,
    folder: Option<PathBuf>,
}

impl File {
    fn new(section: &Section<'_>) -> anyhow::Result<Self> {
        let config: Config = section.parse()?;
        if config.path.file_name().is_none() {
            return Err(section.error(Some("path"), "is not the path of a file"));
        }
        let path = absolute(&config.path).context("finding the current folder")?;
        if config.path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir() {
            return Err(section.error(Some("path"), "is a folder; name a file in it"));
        }
        let claims = std::iter::once(path.clone())
            .chain((1..=config.keep).map(|number| appender::rolled(&path, number)))
            .map(|path| path.display().to_string())
            .collect();
        let folder = path.parent().map(Path::to_owned);
        Ok(Self {
            appender: Arc::new(Mutex::new(Appender::new(
                path,
                config.roll_bytes.0,
                config.keep,
                config.sync == Sync::Every,
            ))),
            worker: Worker::new("file"),
            claims,
            folder,
        })
    }
}

impl Logger for File {
    fn open(&mut self) -> Result<(), SendError> {
        self.appender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open()
            .map_err(SendError::Retry)
    }

    fn send(&mut self, payload: Payload) -> Acknowledgement {
        let appender = Arc::clone(&self.appender);
        self.worker.run(move || {
            appender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&payload.file_header, &payload.bytes)
                .map_err(SendError::Retry)
        })
    }

    fn files(&self) -> Files {
        Files {
            write: self.folder.clone().into_iter().collect(),
            ..Files::default()
        }
    }

    fn claims(&self) -> Vec<String> {
        self.claims.clone()
    }
}
