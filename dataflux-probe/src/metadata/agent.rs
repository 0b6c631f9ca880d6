//! `agent`: which probe this is.

use std::{
    process,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde::Deserialize;
use serde_json::Value;

use super::MetadataReader;
use crate::{
    model::{Metadata, WallTime},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "agent",
    summary: "version of the probe, when it was started, its process id and a hash of its configuration",
    needs: Needs::NOTHING,
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Agent {
            started: context.started,
            config_hash: Arc::clone(&context.config_hash),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Agent {
    started: WallTime,
    config_hash: Arc<str>,
}

impl MetadataReader for Agent {
    /// Keys: `version`, `start_time`, `pid` (as the probe itself sees it) and `config_hash`.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let since = u64::try_from(self.started).ok().map(Duration::from_nanos);
        let start_time = since.and_then(|since| super::rfc3339(UNIX_EPOCH + since));
        let section = super::section([
            ("version", Some(Value::from(env!("CARGO_PKG_VERSION")))),
            ("start_time", start_time.map(Value::from)),
            ("pid", Some(process::id().into())),
            ("config_hash", Some((*self.config_hash).into())),
        ]);
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::{metadata::testing::read, plugin::testing::context};

    #[test]
    fn it_tells_what_it_was_built_with() {
        let mut context = context(Path::new("/nowhere"));
        let mut expected = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "start_time": "2023-11-14T22:13:20.123456789Z",
            "pid": process::id(),
            "config_hash": "5f0c",
        });
        assert_eq!(Value::from(read(&PLUGIN, "", &context).unwrap()), expected);
        context.started = -1;
        expected.as_object_mut().unwrap().remove("start_time");
        assert_eq!(Value::from(read(&PLUGIN, "", &context).unwrap()), expected);
    }
}
