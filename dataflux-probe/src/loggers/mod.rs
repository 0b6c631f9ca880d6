//! Loggers: deliver payloads, nothing else. Numbering, queueing, retry and order are the pipeline's business.

#[cfg(test)]
mod contract;
pub(crate) mod claims;
mod file;
mod kafka;
mod prometheus;
mod stdout;
mod worker;

use std::{future::Future, ops::RangeInclusive, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    health::Beat,
    model::{Metadata, Part, Stream},
    plugin::Plugin,
    privileges::Files,
};

/// Delivers payloads.
pub trait Logger: Send {
    /// Opens files, ports and connections; called on the main thread before privileges are given up. After `Retry` the
    /// pipeline calls it again later, with backoff.
    fn open(&mut self) -> Result<(), SendError> {
        Ok(())
    }

    /// Takes one payload over; payloads come in order. The future resolves once it is safe at the other end.
    fn send(&mut self, payload: Payload) -> Acknowledgement;

    /// What it can take.
    fn limits(&self) -> Limits {
        Limits::ONE_AT_A_TIME
    }

    /// Closes files, so that the next payload opens by name what stands there then: somebody has moved them (SIGHUP). Never
    /// waits.
    fn reopen(&mut self) {}

    /// Paths and ports that no second output may use, for `check`. `{host}`, `{date}` and `{time}` in them stand for what is
    /// not known yet.
    fn claims(&self) -> Vec<String> {
        Vec::new()
    }

    /// What it opens after the start, which is all that it may open then.
    fn files(&self) -> Files {
        Files::default()
    }

    /// Whether many hosts deliver to the same place, so that they had better not do so in the same moment.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether the places that it delivers to, each by its name, can be reached within the limit. Sends nothing; `doctor`.
    fn reach(&mut self, _limit: Duration) -> Vec<(String, anyhow::Result<String>)> {
        Vec::new()
    }

    /// Whether it keeps the newest totals for others to fetch, in every media type that there is, instead of delivering each
    /// window.
    fn is_fetched(&self) -> bool {
        false
    }

    /// What it does beside sends once it is open, until it is closed. Called in the runtime; gets the pipeline's pulse.
    fn serve(&mut self, _beats: watch::Receiver<Beat>) -> Option<Serving> {
        None
    }

    /// Called once; what is acknowledged until it is done still counts.
    fn close(&mut self) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
        Box::pin(async { Ok(()) })
    }
}

/// Never resolves by itself.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Resolves when a payload is safe at the other end, or cannot be.
pub type Acknowledgement = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>>;

/// Why a payload was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Try the same payload again later: whatever can heal.
    #[error("{0:#}")]
    Retry(anyhow::Error),
    /// Split it and try the parts.
    #[error("payload too large")]
    TooLarge,
    /// It will never be accepted: count it, go on.
    #[error("rejected: {0:#}")]
    Reject(anyhow::Error),
}

/// What a logger can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload in bytes.
    pub payload_bytes: usize,
    /// How many payloads may wait for their acknowledgement.
    pub in_flight: usize,
    /// How many bytes of them, unless it is only one.
    pub in_flight_bytes: usize,
}

impl Limits {
    /// Any size, one after the other.
    pub const ONE_AT_A_TIME: Self = Self {
        payload_bytes: usize::MAX,
        in_flight: 1,
        in_flight_bytes: usize::MAX,
    };
}

/// Bytes, and what a transport may want to route by.
#[derive(Debug, Clone)]
pub struct Payload {
    /// One formatted record.
    pub bytes: Bytes,
    /// What a new file starts with.
    pub file_header: Bytes,
    /// Media type of `bytes`.
    pub content_type: &'static str,
    /// The stream it belongs to.
    pub stream: Arc<Stream>,
    /// The numbers it covers.
    pub range: RangeInclusive<u64>,
    /// Which part of the envelope it is.
    pub part: Part,
    /// The readers in it.
    pub readers: Vec<&'static str>,
    /// The envelope's header.
    pub metadata: Arc<Metadata>,
}

impl Payload {
    /// The host's name, if the envelope's header says it.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.metadata.sections.get("host")?.get("name")?.as_str()
    }
}

/// Every logger, alphabetical. Add yours here.
pub const REGISTRY: &[&Plugin<dyn Logger>] = &[
    &file::PLUGIN,
    &kafka::PLUGIN,
    &prometheus::PLUGIN,
    &stdout::PLUGIN,
];
