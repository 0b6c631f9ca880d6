//! What makes two series the same one, and finding a series among those of another window.

use std::{collections::HashMap, ptr};

use crate::model::{Entity, LabelValue, Metric, MetricDef, Series};

/// The identity of a series: its metric, its entity as the reader keys it, its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity<'a> {
    def: *const MetricDef,
    entity: Option<&'a Entity>,
    labels: &'a [LabelValue],
}

/// Something that is one window's view of a series.
pub(super) trait Identified {
    /// Which series it is.
    fn identity(&self) -> Identity<'_>;
}

impl Identified for Series {
    fn identity(&self) -> Identity<'_> {
        Identity {
            def: ptr::from_ref(self.def),
            entity: self.entity.as_ref(),
            labels: &self.labels,
        }
    }
}

impl Identified for Metric {
    fn identity(&self) -> Identity<'_> {
        Identity {
            def: ptr::from_ref(self.def),
            entity: self.entity.as_ref(),
            labels: &self.labels,
        }
    }
}

/// Finds series in a list. Generic because deltas look among series as read, and merges among those of an envelope.
pub(super) struct Finder<'a, T> {
    items: &'a [T],
    /// Readers keep their order, so what is looked for is nearly always the one after the last found.
    next: usize,
    /// Made when that fails for the first time.
    places: Option<HashMap<Identity<'a>, usize>>,
}

impl<'a, T: Identified> Finder<'a, T> {
    /// Looks among `items`, which have different identities.
    pub(super) fn new(items: &'a [T]) -> Self {
        Self {
            items,
            next: 0,
            places: None,
        }
    }

    /// The place of the series, if it is there.
    pub(super) fn find(&mut self, wanted: Identity<'_>) -> Option<usize> {
        let items = self.items;
        let expected = items.get(self.next).map(T::identity);
        let found = if expected == Some(wanted) {
            self.next
        } else {
            let places = self.places.get_or_insert_with(|| {
                (0..)
                    .zip(items)
                    .map(|(place, item)| (item.identity(), place))
                    .collect()
            });
            *places.get(&wanted)?
        };
        self.next = found + 1;
        Some(found)
    }
}
