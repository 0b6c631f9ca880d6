//! `labels`: what the host's owner says about it.

use std::collections::BTreeMap;

use super::MetadataReader;
use crate::{
    model::Metadata,
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "labels",
    summary: "names and values from the configuration, for whoever reads the envelopes",
    needs: Needs::NOTHING,
    example: "\
# Every key is a label of this host and every value its text; default none. A key has letters a-z, digits and _, begins with a
# letter and has 63 characters at most; a value may be empty. The keys `enabled` and `interval` are not labels.
# environment = \"production\"
# rack = \"b12\"
",
    metrics: &[],
    build: |section, _context| {
        section.build(|labels: BTreeMap<String, String>, problems| {
            for key in labels.keys().filter(|key| !is_name(key)) {
                problems.push(section.error(Some(key), RULE));
            }
            Ok(Box::new(Labels { labels }) as _)
        })
    },
};

/// What [`is_name`] asks for.
pub(crate) const RULE: &str =
    "a label has letters a-z, digits and _, begins with a letter, and has 63 characters at most";

/// A name that needs no quoting in any of the formats.
pub(crate) fn is_name(key: &str) -> bool {
    key.len() <= 63
        && key.starts_with(|first: char| first.is_ascii_lowercase())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

struct Labels {
    labels: BTreeMap<String, String>,
}

impl MetadataReader for Labels {
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let labels = self.labels.iter();
        let section = labels.map(|(key, value)| (key.clone(), value.as_str().into()));
        out.sections.insert(PLUGIN.name, section.collect());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::{metadata::testing::read, plugin::testing::context};

    fn labels(config: &str) -> Result<Value, String> {
        let section = read(&PLUGIN, config, &context(Path::new("/nowhere")));
        section.map(Value::from).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_and_values_are_taken_over() {
        let config = "rack = 'b12'\nempty = ''\nz9_ = '\u{fc}'\n";
        assert_eq!(
            labels(config),
            Ok(json!({"rack": "b12", "empty": "", "z9_": "\u{fc}"}))
        );
        assert_eq!(labels(""), Ok(json!({})));
    }

    #[test]
    fn a_wrong_key_or_value_is_an_error_with_its_line() {
        let long = format!("{} = ''", "a".repeat(64));
        for config in [
            "\nRack = 'b12'",
            "\n\"a b\" = ''",
            "\n9 = ''",
            "\n\"\" = ''",
            &format!("\n{long}"),
        ] {
            let error = labels(config).unwrap_err();
            assert!(error.starts_with("test.toml:2: "), "{error}");
            assert!(error.ends_with("63 characters at most"), "{error}");
        }
        let error = labels("\nrack = 12").unwrap_err();
        assert!(
            error.starts_with("test.toml:2: ") && error.contains("expected a string"),
            "{error}"
        );
    }
}
