//! `[metadata.*]` and `[metrics.*]`: which readers run, and how often.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use super::{
    Fingerprint, Fingerprints, Noted, Section,
    effective::{self, Effective},
    problem::Problems,
    values::Time,
};
use crate::{
    metadata::{MetadataReader, labels},
    metrics::MetricReader,
    model::{Health, Labels},
    pipeline::{
        self,
        selection::{MOST_ENTITIES, Rules},
    },
    plugin::{Context, Keep, Plugin},
};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_hours(24);

/// They are in every envelope.
const MOST_LABELS: usize = 32;

/// Who a host is seldom changes.
const METADATA_INTERVAL: Duration = Duration::from_mins(1);

/// A reader's section and what came out of it.
struct Built<'a, T: ?Sized + 'static, C> {
    plugin: &'static Plugin<T>,
    section: Section<'a>,
    interval: Duration,
    enabled: bool,
    /// What the keys say that all readers of its kind have.
    common: C,
    reader: Box<T>,
    print: Fingerprint,
}

impl<T: ?Sized, C> Built<'_, T, C> {
    /// Adds what its section says.
    fn note(&self, prints: &mut Fingerprints) {
        prints.insert(self.section.path().to_owned(), self.print);
    }

    /// What is in force of its section.
    fn in_force(&self, max_entities: Option<usize>) -> Effective {
        let mut defaults = vec![
            ("enabled", self.enabled.to_string()),
            ("interval", effective::time(self.interval)),
        ];
        defaults.extend(max_entities.map(|most| ("max_entities", most.to_string())));
        Effective::new(&self.section, &defaults, self.plugin.example, &[])
    }
}

/// Takes the keys out of a section that all readers of a kind have.
type Take<C> = fn(&mut Section<'_>, &mut Problems) -> C;

/// Builds the metadata readers of `[metadata]`.
pub(super) fn metadata(
    section: Section<'_>,
    registry: &'static [&'static Plugin<dyn MetadataReader>],
    context: &Context,
    keep: &mut Vec<Keep>,
    noted: &mut Noted,
    problems: &mut Problems,
) -> Vec<pipeline::Metadata> {
    let nothing = |_: &mut Section<'_>, _: &mut Problems| ();
    all(
        section,
        registry,
        context,
        METADATA_INTERVAL,
        nothing,
        problems,
    )
    .into_iter()
    .inspect(|built| noted.sections.push(built.in_force(None)))
    .filter(|built| built.enabled)
    .inspect(|built| keep.extend(built.plugin.needs.keep))
    .inspect(|built| built.note(&mut noted.prints))
    .map(|built| pipeline::Metadata {
        name: built.plugin.name,
        interval: built.interval,
        reader: built.reader,
    })
    .collect()
}

/// Builds the metric readers of `[metrics]`, and finds the interval that all of theirs are multiples of.
pub(super) fn metrics(
    section: Section<'_>,
    registry: &'static [&'static Plugin<dyn MetricReader>],
    context: &Context,
    default_interval: Duration,
    keep: &mut Vec<Keep>,
    noted: &mut Noted,
    problems: &mut Problems,
) -> (Vec<pipeline::Reader>, Duration) {
    let built = all(
        section,
        registry,
        context,
        default_interval,
        common,
        problems,
    );
    for built in &built {
        let chooses = built.reader.has_entities();
        let most = chooses.then_some(built.common.rules.max_entities);
        noted.sections.push(built.in_force(most));
        if built.common.chooses && !chooses {
            let key = SELECTION.iter().find(|key| built.section.has(key));
            let message = "nothing to choose from: its series belong to no device or interface";
            problems.push(built.section.error(key.copied(), message));
        }
    }
    let built: Vec<_> = built.into_iter().filter(|built| built.enabled).collect();
    keep.extend(built.iter().flat_map(|built| built.plugin.needs.keep));
    built.iter().for_each(|built| built.note(&mut noted.prints));
    // Zero is a mistake that is noted already.
    let possible = built.iter().filter(|built| !built.interval.is_zero());
    let shortest = possible.min_by_key(|built| built.interval);
    let Some((shortest, name)) = shortest.map(|built| (built.interval, built.plugin.name)) else {
        return (Vec::new(), default_interval);
    };
    for built in &built {
        if built.interval.as_nanos() % shortest.as_nanos() != 0 {
            let message = format!(
                "{} is not a multiple of {}, the interval of metrics.{name}, which is the shortest in use",
                humantime::format_duration(built.interval),
                humantime::format_duration(shortest),
            );
            problems.push(built.section.error(Some("interval"), message));
        }
    }
    let readers = built.into_iter().map(|built| pipeline::Reader {
        name: built.plugin.name,
        interval: built.interval,
        metrics: built.plugin.metrics,
        labels: built.common.labels,
        selection: built.common.rules,
        attached: Health::default(),
        reader: built.reader,
    });
    (readers.collect(), shortest)
}

/// Builds the plugin of each sub-section; those that are switched off are checked and left out.
fn all<'a, T: ?Sized, C>(
    mut group: Section<'a>,
    registry: &'static [&'static Plugin<T>],
    context: &Context,
    default_interval: Duration,
    take: Take<C>,
    problems: &mut Problems,
) -> Vec<Built<'a, T, C>> {
    let sections = group.take_sections();
    let names: Vec<_> = registry.iter().map(|plugin| plugin.name).collect();
    group.refuse_rest("must be a section", problems);
    let mut built = Vec::new();
    for (name, section) in sections {
        let Some(plugin) = registry.iter().find(|plugin| plugin.name == name) else {
            let message = format!("unknown plugin; known: {}", names.join(", "));
            problems.push(section.error(None, message));
            continue;
        };
        built.extend(one(
            plugin,
            section,
            context,
            default_interval,
            take,
            problems,
        ));
    }
    built
}

fn one<'a, T: ?Sized, C>(
    plugin: &'static Plugin<T>,
    whole: Section<'a>,
    context: &Context,
    default_interval: Duration,
    take: Take<C>,
    problems: &mut Problems,
) -> Option<Built<'a, T, C>> {
    let mut section = whole.clone();
    let enabled = problems.note(section.take::<bool>("enabled"));
    let interval = problems.note(section.take::<Time>("interval")).flatten();
    if let Some(interval) = interval {
        problems.note(check_interval(&whole, interval));
    }
    let common = take(&mut section, problems);
    let reader = problems.note(build(plugin, &section, context))?;
    let interval = interval.map_or(default_interval, |interval| interval.0);
    let mut hasher = DefaultHasher::new();
    (whole.fingerprint(), interval).hash(&mut hasher);
    let print = Fingerprint {
        whole: hasher.finish(),
        plugin: section.fingerprint(),
    };
    Some(Built {
        enabled: enabled?.unwrap_or(true),
        plugin,
        section: whole,
        interval,
        common,
        reader,
        print,
    })
}

/// What metric readers have in common beside their interval.
struct Common {
    labels: Labels,
    rules: Rules,
    /// Whether the section says anything of the rules.
    chooses: bool,
}

/// The reader that does not even read what it is not to report. Its keys are its own, and nothing is added up: cgroups contain
/// each other.
const CHOOSES_ITSELF: &str = "metrics.cgroup";

/// The keys of [`Rules`].
const SELECTION: [&str; 3] = ["include", "exclude", "max_entities"];

fn common(section: &mut Section<'_>, problems: &mut Problems) -> Common {
    let labels = own_labels(section, problems);
    if section.path() == CHOOSES_ITSELF {
        let rules = Rules {
            max_entities: usize::MAX,
            ..Rules::default()
        };
        return Common {
            labels,
            rules,
            chooses: false,
        };
    }
    let chooses = SELECTION.iter().any(|key| section.has(key));
    let [include, exclude] = ["include", "exclude"].map(|key| wildcards(key, section, problems));
    let max_entities = problems.note(section.take("max_entities")).flatten();
    Common {
        labels,
        rules: Rules {
            include,
            exclude,
            max_entities: max_entities.unwrap_or(MOST_ENTITIES),
        },
        chooses,
    }
}

/// No list of what to include means all, so an empty one is a mistake, as is a wildcard that is like nothing.
fn wildcards(key: &'static str, section: &mut Section<'_>, problems: &mut Problems) -> Vec<String> {
    let before = section.clone();
    let found: Option<Vec<String>> = problems.note(section.take(key)).flatten();
    let wrong = match &found {
        Some(found) if found.is_empty() && key == SELECTION[0] => {
            Some("is empty, and would include nothing; leave the key out for all")
        }
        Some(found) if found.iter().any(String::is_empty) => Some("an empty text is like no name"),
        _ => None,
    };
    problems.note(wrong.map_or(Ok(()), |wrong| Err(before.error(Some(key), wrong))));
    found.unwrap_or_default()
}

/// What a metric reader's sources say about it.
fn own_labels(section: &mut Section<'_>, problems: &mut Problems) -> Labels {
    let Some(labels) = problems.note(section.take_table("labels")).flatten() else {
        return Labels::default();
    };
    let found: BTreeMap<String, String> = labels.read(problems).unwrap_or_default();
    for name in found.keys().filter(|name| !labels::is_name(name)) {
        problems.push(labels.error(Some(name), labels::RULE));
    }
    if found.len() > MOST_LABELS {
        let message = format!("has more than {MOST_LABELS} labels");
        problems.push(labels.error(None, message));
    }
    found.into()
}

/// Builds a plugin; whatever it does not like has a path and a line.
pub(super) fn build<T: ?Sized>(
    plugin: &Plugin<T>,
    section: &Section<'_>,
    context: &Context,
) -> anyhow::Result<Box<T>> {
    (plugin.build)(section, context).map_err(|error| {
        if error.is::<super::Invalid>() {
            return error;
        }
        section.error(None, format!("{error:#}"))
    })
}

/// Whether the section's `interval` is one that the schedule can keep.
pub(super) fn check_interval(section: &Section<'_>, interval: Time) -> anyhow::Result<()> {
    if (SHORTEST..=LONGEST).contains(&interval.0) {
        return Ok(());
    }
    let message = format!(
        "{} is not between {} and {}",
        humantime::format_duration(interval.0),
        humantime::format_duration(SHORTEST),
        humantime::format_duration(LONGEST)
    );
    Err(section.error(Some("interval"), message))
}
