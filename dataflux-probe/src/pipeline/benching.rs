//! What `cargo xtask bench` drives: real outputs fed at any rate, without readers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Output,
    clock::{self, Clock},
    counters::Counters,
    envelope::Assembler,
    inbox::Inbox,
    outputs::Outputs,
    state::StateDir,
    totals::Totals,
};
use crate::{
    formatters::rfc3339::Rfc3339,
    health::Pulse,
    metadata::names::Names,
    model::{Envelope, WallTime},
};

pub use super::spool::benching::{Passed, pass};

/// A wall time as envelopes write it.
#[must_use]
pub fn text_of(time: WallTime) -> String {
    Rfc3339(time).to_string()
}

/// Outputs at work, and what gives them an envelope when the bench says so.
pub struct Feed {
    outputs: Outputs,
    assembler: Assembler,
    clock: Clock,
}

impl Feed {
    /// Starts outputs that are open. Must be called in a runtime with time enabled.
    ///
    /// # Errors
    /// As [`super::Pipeline::run`].
    pub fn start(
        outputs: Vec<Output>,
        state_dir: Option<PathBuf>,
        counters: &Counters,
        names: Names,
    ) -> anyhow::Result<Self> {
        let clock = clock::system();
        let mut assembler = Assembler::new(names);
        assembler.start(clock());
        Ok(Self {
            outputs: Outputs::start(
                outputs,
                state_dir.map(|path| Arc::new(StateDir::new(path))),
                counters,
                &clock,
                Pulse::default().watch(),
            )?,
            assembler,
            clock,
        })
    }

    /// A tick whose readers gave this: from here on the way of every envelope.
    pub fn tick(&mut self, read: Envelope) {
        let Envelope {
            metadata: header,
            mut sources,
            ..
        } = read;
        self.assembler.join(&mut sources);
        let mut tick = self.assembler.assemble((self.clock)(), header, sources);
        self.outputs.accept(&mut tick);
    }

    /// Envelopes of all outputs that are neither delivered nor lost.
    #[must_use]
    pub fn left(&self) -> usize {
        self.outputs.inboxes().map(|inbox| inbox.left()).sum()
    }

    /// Of those, the envelopes that are not with a logger.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let inboxes = self.outputs.inboxes();
        let in_flight: u64 = inboxes.map(|inbox| inbox.counters.in_flight.get()).sum();
        let in_flight = usize::try_from(in_flight).unwrap_or(usize::MAX);
        self.left().saturating_sub(in_flight)
    }

    /// Envelopes of all outputs that are in memory, because no spool has taken them yet.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        let inboxes = self.outputs.inboxes();
        inboxes.map(|inbox| inbox.in_memory()).sum()
    }

    /// Bytes that wait in memory or on disk.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        let bytes = |inbox: &Arc<Inbox>| inbox.counters.queue_bytes.get();
        self.outputs.inboxes().map(bytes).sum()
    }

    /// Ends as the probe does.
    pub async fn stop(self, limit: Duration) {
        self.outputs.stop(limit).await;
    }
}

/// What an output that tells totals has added up.
pub struct Sum(Totals);

impl Sum {
    /// Of nothing yet; its series may take `most` bytes.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self(Totals::new(most))
    }

    /// Adds the next window.
    pub fn add(&mut self, window: &Envelope) {
        self.0.add(window);
    }

    /// All of it, for who formats it: to be gone when the next window comes.
    #[must_use]
    pub fn told(&self) -> Arc<Envelope> {
        self.0.told()
    }
}
