//! Metadata readers: who this host is.

mod addresses;
mod agent;
mod cloud;
mod container;
mod containers;
mod dmi;
mod drives;
pub(crate) mod host;
mod kubernetes;
pub(crate) mod labels;
mod os;
mod processor;
mod ram;
pub mod names;
pub mod fuzzing;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::{model::Metadata, plugin::Plugin};

/// Says who this host is.
pub trait MetadataReader: Send {
    /// Adds or replaces this reader's section of the header. Called at start and then every `interval` of its section
    /// (default 60 s), off the async threads. After an error the section stays as it was.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()>;
}

/// Every metadata reader, alphabetical. Add yours here.
pub const REGISTRY: &[&Plugin<dyn MetadataReader>] = &[
    &addresses::PLUGIN,
    &agent::PLUGIN,
    &cloud::PLUGIN,
    &container::PLUGIN,
    &containers::PLUGIN,
    &drives::PLUGIN,
    &host::PLUGIN,
    &kubernetes::PLUGIN,
    &labels::PLUGIN,
    &os::PLUGIN,
    &processor::PLUGIN,
    &ram::PLUGIN,
];

/// A section of the facts that are known; the others leave no key behind.
fn section<const N: usize, T: Into<Value>>(facts: [(&str, Option<T>); N]) -> Map<String, Value> {
    let known = facts
        .into_iter()
        .filter_map(|(key, fact)| Some((key.to_owned(), fact?.into())));
    known.collect()
}

/// As it stands in a header, with a fraction only where there is one; `None` outside of the years 1970 to 9999.
fn rfc3339(time: SystemTime) -> Option<String> {
    const LAST: u64 = 253_402_300_799;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    (since.as_secs() <= LAST).then(|| humantime::format_rfc3339(time).to_string())
}

#[cfg(test)]
mod testing {
    use serde_json::{Map, Value};

    use super::MetadataReader;
    use crate::{
        model::Metadata,
        plugin::{Context, Plugin},
    };

    /// The section that a reader with this config gives.
    pub(super) fn read(
        plugin: &Plugin<dyn MetadataReader>,
        config: &str,
        context: &Context,
    ) -> anyhow::Result<Map<String, Value>> {
        let mut metadata = Metadata::default();
        plugin.build_from(config, context)?.read(&mut metadata)?;
        assert_eq!(metadata.sections.len(), 1, "only its own");
        Ok(metadata.sections.remove(plugin.name).unwrap())
    }
}
