//! What an output wants of each tick: which sources, which series of them, and how entities are told apart.

mod entities;
mod filter;
mod parser;
pub(crate) mod wildcard;

use std::{collections::BTreeSet, sync::Arc};

pub use entities::Entities;
pub use filter::{Filter, Known};

use crate::model::{Metric, Source};

/// What an output wants. Outputs of equal shape share their envelopes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// An envelope for each reader instead of one for all.
    pub per_reader: bool,
    /// Counters and histograms without change too.
    pub keep_zeros: bool,
    /// The readers whose sources it wants; all of them if `None`.
    pub sources: Option<BTreeSet<&'static str>>,
    /// A series has to pass every one of them.
    pub filters: Vec<Filter>,
}

impl Shape {
    /// Whether it wants this reader's sources.
    pub(crate) fn wants(&self, reader: &str) -> bool {
        self.sources
            .as_ref()
            .is_none_or(|sources| sources.contains(reader))
    }

    /// Whether it wants this series of a reader.
    pub(super) fn passes(&self, reader: &str, metric: &Metric) -> bool {
        (self.keep_zeros || !metric.value.is_zero())
            && self
                .filters
                .iter()
                .all(|filter| filter.passes(reader, metric))
    }

    /// The source with the series that it wants; all the source's own fields stay.
    pub(super) fn cut(&self, source: &Source) -> Source {
        Source {
            metrics: source
                .metrics
                .iter()
                .filter(|metric| self.passes(source.reader, metric))
                .cloned()
                .collect(),
            labels: Arc::clone(&source.labels),
            unsupported: source.unsupported.clone(),
            health: source.health.clone(),
            ..*source
        }
    }
}
