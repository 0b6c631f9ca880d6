//! How envelopes move: from readers, through deltas and queues, to loggers.

mod run;
mod reload;
#[doc(hidden)]
pub mod benching;
mod clock;
mod schedule;
mod sweep;
mod readers;
mod delta;
mod identity;
mod envelope;
mod merge;
pub mod selection;
pub mod shape;
mod resolution;
mod inbox;
mod streams;
mod queue;
pub mod spool;
mod output;
mod totals;
mod publication;
mod outputs;
mod split;
mod backoff;
mod random;
pub mod state;
#[cfg(test)]
mod fakes;
pub mod counters;

use std::{sync::Arc, time::Duration};

use crate::{
    formatters::Formatter,
    health::Pulse,
    loggers::Logger,
    metadata::{MetadataReader, names::Names},
    metrics::MetricReader,
    model::{Health, Labels, MetricDef},
};
use counters::Counters;

pub use reload::{Change, Order, Same};
use selection::Rules;
use shape::{Entities, Shape};
pub use spool::worker::SpoolSync;

/// Everything that runs: built from the configuration, attached and opened on the main thread.
pub struct Pipeline {
    /// Metric readers. An envelope leaves at every tick at which one of them is due.
    pub readers: Vec<Reader>,
    /// Metadata readers.
    pub metadata: Vec<Metadata>,
    /// Where envelopes go.
    pub outputs: Vec<Output>,
    /// Joins ids and names.
    pub names: Names,
    /// The pipeline's counters of itself.
    pub counters: Arc<Counters>,
    /// Where what must outlive the process is kept; `None` when it cannot be.
    pub state_dir: Option<Arc<state::StateDir>>,
    /// Where the host is among all hosts: what an output's sends wait after a tick is this part of its spread, of 2^32.
    pub place: u32,
    /// Where the pipeline says that it moves.
    pub pulse: Pulse,
    /// How long outputs may go on delivering after the last read.
    pub drain_limit: Duration,
}

/// A metric reader and how it attached.
pub struct Reader {
    /// Its name.
    pub name: &'static str,
    /// How often it is read.
    pub interval: Duration,
    /// What it measures.
    pub metrics: &'static [&'static MetricDef],
    /// What its sources say about it.
    pub labels: Labels,
    /// Which of its entities are reported by themselves.
    pub selection: Rules,
    /// `Ok` if it is to be read; otherwise every envelope that it would be in says why not, and it is never read.
    pub attached: Health,
    /// The reader.
    pub reader: Box<dyn MetricReader>,
}

/// A metadata reader.
pub struct Metadata {
    /// Its name.
    pub name: &'static str,
    /// How often it is read.
    pub interval: Duration,
    /// The reader.
    pub reader: Box<dyn MetadataReader>,
}

/// One output: a formatter, a logger, and the queue between.
pub struct Output {
    /// Its name in the configuration.
    pub name: String,
    /// Formats what leaves.
    pub formatter: Box<dyn Formatter>,
    /// Delivers it.
    pub logger: Box<dyn Logger>,
    /// Whether the logger is open; if not, the pipeline tries again with backoff.
    pub opened: bool,
    /// Which sources and series it wants.
    pub shape: Arc<Shape>,
    /// How it tells entities apart.
    pub entities: Entities,
    /// Whether it tells what has added up since the start, instead of what happened in each window.
    pub totals: bool,
    /// How long windows are merged to before they are numbered, if they are.
    pub resolution: Option<Duration>,
    /// Bound of the queue, or of the totals.
    pub queue_bytes: u64,
    /// What happens when the queue is full.
    pub when_full: WhenFull,
    /// Sends begin within this time after a tick; when exactly depends on the host.
    pub spread: Duration,
    /// Whether the queue is on disk.
    pub spool: Option<Spooling>,
    /// Bound of the files that keep what was rejected, if they are wanted.
    pub dead_letter_bytes: Option<u64>,
}

/// A queue on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spooling {
    /// Bound of its files.
    pub bytes: u64,
    /// When what is written is made to survive a power cut.
    pub sync: SpoolSync,
}

/// What happens when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Two old windows merge into a longer one.
    #[default]
    Coalesce,
    /// The oldest envelope is lost.
    DropOldest,
    /// The incoming envelope is lost.
    DropNewest,
}
