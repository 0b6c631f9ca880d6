//! What a reload asks of a running pipeline.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::oneshot;

use super::{Metadata, Output, Reader};

/// What a running pipeline may be asked for.
pub enum Order {
    /// Every logger is to open its files anew.
    Reopen,
    /// Another configuration is in force from now on.
    Change(Change),
}

/// A whole configuration, built, and which of its parts run already just as it wants them.
pub struct Change {
    /// Its metric readers, attached.
    pub readers: Vec<Reader>,
    /// Its metadata readers.
    pub metadata: Vec<Metadata>,
    /// Its outputs; none is open.
    pub outputs: Vec<Output>,
    /// How long outputs may go on delivering when they end.
    pub drain_limit: Duration,
    /// What goes on.
    pub same: Same,
    /// Told when the change is through: what is gone has ended, what is new has begun.
    pub done: oneshot::Sender<()>,
}

/// Names of what goes on with its state. Of readers, their intervals and labels may differ all the same: those are taken over.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Same {
    /// Metric readers.
    pub readers: BTreeSet<String>,
    /// Metadata readers.
    pub metadata: BTreeSet<String>,
    /// Outputs.
    pub outputs: BTreeSet<String>,
}
