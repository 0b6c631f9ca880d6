//! The contract of the four registries: what is declared is registered, named after its file, and documented.

use std::{collections::BTreeSet, fs, path::Path};

use dataflux_probe::{
    config::{Config, Registries},
    model::{Kind, MetricDef},
    plugin::{Needs, Plugin},
};
use dataflux_tests::workspace;

/// What the tests look at, whatever the plugin's trait is.
struct Entry {
    name: &'static str,
    summary: &'static str,
    example: &'static str,
    needs: &'static Needs,
    metrics: &'static [&'static MetricDef],
}

/// A registry: its folder, its entries, and a configuration with this text in the section of a plugin.
struct Registry {
    folder: &'static str,
    entries: Vec<Entry>,
    config: fn(&str, &str) -> String,
}

fn entries<T: ?Sized>(registry: &'static [&'static Plugin<T>]) -> Vec<Entry> {
    let entry = |plugin: &&'static Plugin<T>| Entry {
        name: plugin.name,
        summary: plugin.summary,
        example: plugin.example,
        needs: &plugin.needs,
        metrics: plugin.metrics,
    };
    registry.iter().map(entry).collect()
}

fn registries() -> [Registry; 4] {
    let Registries {
        metadata,
        metrics,
        formatters,
        loggers,
    } = Registries::BUILT_IN;
    [
        Registry {
            folder: "metadata",
            entries: entries(metadata),
            config: |name, text| format!("[metadata.{name}]\n{text}\n{OUTPUT}"),
        },
        Registry {
            folder: "metrics",
            entries: entries(metrics),
            config: |name, text| format!("[metrics.{name}]\n{text}\n{OUTPUT}"),
        },
        Registry {
            folder: "formatters",
            entries: entries(formatters),
            config: |name, text| {
                format!(
                    "[output.a]\nformatter = '{name}'\nlogger = 'stdout'\n[output.a.{name}]\n{text}"
                )
            },
        },
        Registry {
            folder: "loggers",
            entries: entries(loggers),
            config: |name, text| {
                format!(
                    "[output.a]\nformatter = 'json'\nlogger = '{name}'\n[output.a.{name}]\n{text}"
                )
            },
        },
    ]
}

const OUTPUT: &str = "[output.a]\nformatter = 'json'\nlogger = 'stdout'\n";

/// The mistakes that are found in a configuration; empty if there are none.
fn mistakes(text: &str) -> String {
    // An example may switch its reader off.
    let reader = if text.contains("[metrics.memory]") {
        ""
    } else {
        "\n[metrics.memory]\n"
    };
    let text = format!("{text}{reader}");
    let config = Config::parse(Path::new("example"), text, Registries::BUILT_IN);
    config
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

/// Scenario: the source files of the four folders that declare a plugin.
/// Guarantees: each is registered under the name of its file, and nothing else is; the registry is alphabetical.
#[test]
fn every_file_is_registered() {
    for registry in registries() {
        let folder = workspace::root()
            .join("dataflux-probe/src")
            .join(registry.folder);
        let declared: BTreeSet<_> = workspace::rust_files(&folder)
            .into_iter()
            .filter(|path| {
                let text = fs::read_to_string(path).expect("a source file can be read");
                text.contains("static PLUGIN: Plugin<")
            })
            .map(|path| {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                assert_eq!(
                    path.parent(),
                    Some(&*folder),
                    "plugins stand in their folder itself: {name}"
                );
                name.into_owned()
            })
            .collect();
        let registered: Vec<_> = registry
            .entries
            .iter()
            .map(|entry| entry.name.to_owned())
            .collect();
        let sorted: Vec<_> = declared.into_iter().collect();
        assert_eq!(
            registered, sorted,
            "{}: REGISTRY and its files",
            registry.folder
        );
    }
}

/// Scenario: the example of every plugin as its section, and again with the keys that it shows as comments.
/// Guarantees: the real build takes both.
#[test]
fn every_example_is_accepted() {
    for registry in registries() {
        for entry in &registry.entries {
            let shown = (registry.config)(entry.name, entry.example);
            let all = (registry.config)(entry.name, &with_comments(entry.example));
            assert_eq!(mistakes(&shown), "", "{shown}");
            assert_eq!(mistakes(&all), "", "{all}");
        }
    }
}

/// The example with `# key = value` as `key = value`, unless the key is there already.
fn with_comments(example: &str) -> String {
    let mut keys: BTreeSet<&str> = example.lines().filter_map(key).collect();
    let uncomment = |line| {
        let bare = str::trim_start_matches(line, ['#', ' ']);
        if key(bare).is_some_and(|key| keys.insert(key)) {
            bare
        } else {
            line
        }
    };
    let lines: Vec<_> = example.lines().map(uncomment).collect();
    lines.join("\n")
}

/// The key that a line of an example sets.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    key.bytes().all(plain).then_some(key)
}

/// The keys that all readers, or those of entities, have in common: they stand once in deploy/probe.toml.
const COMMON: [&str; 6] = [
    "enabled",
    "interval",
    "labels",
    "include",
    "exclude",
    "max_entities",
];

/// Scenario: a key that no plugin has, so that the error lists those it has.
/// Guarantees: the example says something about each of them.
#[test]
fn every_key_is_documented() {
    for registry in registries() {
        for entry in &registry.entries {
            let found = mistakes(&(registry.config)(entry.name, "no_such_key = 1"));
            let Some((_, known)) = found.split_once("no_such_key: unknown key; known: ") else {
                continue;
            };
            let known = known.lines().next().unwrap_or_default().split(", ");
            for key in known.filter(|key| !COMMON.contains(key)) {
                assert!(
                    entry.example.contains(&format!("{key} = ")),
                    "the example of {} lacks its key `{key}`",
                    entry.name
                );
            }
        }
    }
}

/// Scenario: all metric definitions.
/// Guarantees: each has its reader's prefix, a name of its own, a full sentence, and labels from the field's alphabet.
#[test]
fn every_metric_is_well_defined() {
    let mut names = BTreeSet::new();
    for registry in registries() {
        for entry in &registry.entries {
            assert_eq!(
                registry.folder == "metrics",
                !entry.metrics.is_empty(),
                "{}",
                entry.name
            );
            for metric in entry.metrics {
                let name = metric.name;
                assert!(names.insert(name), "{name} is defined twice");
                let noun = name
                    .strip_prefix(entry.name)
                    .and_then(|rest| rest.strip_prefix('.'));
                assert!(
                    noun.is_some_and(is_plain),
                    "{name}: is not {}.noun",
                    entry.name
                );
                assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
                assert!(
                    metric
                        .help
                        .starts_with(|first: char| first.is_ascii_uppercase()),
                    "{name}: {}",
                    metric.help
                );
                assert!(
                    metric.labels.iter().all(|label| is_plain(label)),
                    "{name}: {:?}",
                    metric.labels
                );
                let distinct: BTreeSet<_> = metric.labels.iter().collect();
                assert_eq!(
                    distinct.len(),
                    metric.labels.len(),
                    "{name}: {:?}",
                    metric.labels
                );
                for unit in ["_ns", "_bytes", "_seconds", "_count"] {
                    assert!(
                        !name.ends_with(unit),
                        "{name}: the unit has a field of its own"
                    );
                }
                assert!(
                    metric.kind != Kind::Histogram || noun != Some("total"),
                    "{name}: every histogram is a total"
                );
            }
        }
    }
}

/// Lower case words, joined by `_` and, for a part of something, by `.`.
fn is_plain(name: &str) -> bool {
    let letter =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(letter)
}

/// Scenario: all entries.
/// Guarantees: summaries are one line without a period; a plugin that attaches programs says to what; the header's sections
/// and the readers have different words.
#[test]
fn every_entry_is_described() {
    let registries = registries();
    for entry in registries.iter().flat_map(|registry| &registry.entries) {
        let summary = entry.summary;
        assert!(
            !summary.is_empty() && !summary.contains('\n'),
            "{}: {summary}",
            entry.name
        );
        assert!(!summary.ends_with('.'), "{}: {summary}", entry.name);
        let privileged = !entry.needs.attach.is_empty() || !entry.needs.keep.is_empty();
        assert!(
            !privileged || !entry.needs.kernel.is_empty(),
            "{}: for what?",
            entry.name
        );
    }
    let names = |registry: &Registry| -> BTreeSet<_> {
        registry.entries.iter().map(|entry| entry.name).collect()
    };
    let both: Vec<_> = names(&registries[0])
        .intersection(&names(&registries[1]))
        .copied()
        .collect();
    assert!(
        both.is_empty(),
        "a metadata reader and a metric reader share a word: {both:?}"
    );
}
