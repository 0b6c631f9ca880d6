//! Metadata readers: who this host is.

pub mod names;

use crate::{model::Metadata, plugin::Plugin};

/// Says who this host is.
pub trait MetadataReader: Send {
    /// Adds or replaces this reader's section of the header. Called at start and then every `interval` of its section
    /// (default 60 s), off the async threads. After an error the section stays as it was.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()>;
}

/// Every metadata reader, alphabetical. Add yours here.
pub const REGISTRY: &[&Plugin<dyn MetadataReader>] = &[];
