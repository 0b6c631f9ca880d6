//! How an output tells entities apart: by name, by id, or by both.
//!
//! Done when a record leaves its queue: until then a series is what its reader keys it by, so that windows can merge.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::model::{EntityKey, EntityKind, Envelope, Metric, Numbered};

/// What an output gives of an entity of which both are known. Of one of which only one is known, it gives that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entities {
    /// The name. Where one name stands for two ids in one envelope, they have their ids too.
    Names,
    /// The id. Where one id stands for two names in one envelope, they have their names too.
    Ids,
    /// Both.
    #[default]
    Both,
}

impl Entities {
    /// The record with what is wanted of its entities. The same record always gives the same.
    pub(in crate::pipeline) fn render(self, mut record: Numbered) -> Numbered {
        if self == Self::Both {
            return record;
        }
        let doubtful = self.doubtful(&record.envelope);
        let mut envelope = Envelope::clone(&record.envelope);
        let metrics = envelope
            .sources
            .iter_mut()
            .flat_map(|source| &mut source.metrics);
        for metric in metrics {
            let known = Known::of(metric);
            if let Some(known) = known
                && !doubtful.contains(&known.kept(self))
            {
                self.strip(metric);
            }
        }
        record.envelope = Arc::new(envelope);
        record
    }

    /// What is wanted of an entity and stands for more than one.
    fn doubtful(self, envelope: &Envelope) -> HashSet<(EntityKind, Kept)> {
        let mut left_out = HashMap::new();
        let mut doubtful = HashSet::new();
        let metrics = envelope.sources.iter().flat_map(|source| &source.metrics);
        for known in metrics.filter_map(Known::of) {
            let (kept, other) = (known.kept(self), known.left_out(self));
            if *left_out
                .entry(kept.clone())
                .or_insert_with(|| other.clone())
                != other
            {
                doubtful.insert(kept);
            }
        }
        doubtful
    }

    fn strip(self, metric: &mut Metric) {
        let (id, name) = metric.id_and_name();
        let key = match (self, id, name) {
            (Self::Names, _, Some(name)) => EntityKey::Name(name.into()),
            (Self::Ids, Some(id), _) => EntityKey::Id(id),
            _ => return,
        };
        (metric.entity_id, metric.entity_name) = (None, None);
        if let Some(entity) = &mut metric.entity {
            entity.key = key;
        }
    }
}

/// An id or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kept {
    Id(u64),
    Name(Box<str>),
}

/// An entity of which both are known.
struct Known<'a> {
    kind: EntityKind,
    id: u64,
    name: &'a str,
}

impl<'a> Known<'a> {
    fn of(metric: &'a Metric) -> Option<Self> {
        let kind = metric.entity.as_ref()?.kind;
        match metric.id_and_name() {
            (Some(id), Some(name)) => Some(Self { kind, id, name }),
            _ => None,
        }
    }

    fn kept(&self, entities: Entities) -> (EntityKind, Kept) {
        let kept = match entities {
            Entities::Names => Kept::Name(self.name.into()),
            Entities::Ids | Entities::Both => Kept::Id(self.id),
        };
        (self.kind, kept)
    }

    fn left_out(&self, entities: Entities) -> Kept {
        match entities {
            Entities::Names => Kept::Id(self.id),
            Entities::Ids | Entities::Both => Kept::Name(self.name.into()),
        }
    }
}
