//! What kinds of metrics are called, and the id and the name of a series' entity.

use super::{EntityKey, Kind, Metric};

impl Kind {
    /// What they are called, all of them.
    pub const NAMES: [&str; 3] = ["counter", "gauge", "histogram"];

    /// As it stands in an envelope: `counter`, `gauge`, `histogram`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter { .. } => Self::NAMES[0],
            Self::Gauge => Self::NAMES[1],
            Self::Histogram => Self::NAMES[2],
        }
    }
}

impl Metric {
    /// The id and the name of its entity, from its reader or from the join. Neither is known of [`EntityKey::Other`], and
    /// there is neither without an entity.
    #[must_use]
    pub fn id_and_name(&self) -> (Option<u64>, Option<&str>) {
        let (id, name) = match self.entity.as_ref().map(|entity| &entity.key) {
            Some(EntityKey::Id(id)) => (Some(*id), None),
            Some(EntityKey::Name(name)) => (None, Some(&**name)),
            Some(EntityKey::Other) | None => return (None, None),
        };
        (id.or(self.entity_id), name.or(self.entity_name.as_deref()))
    }
}
