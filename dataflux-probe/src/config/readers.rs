//! `[metadata.*]` and `[metrics.*]`: which readers run, and how often.

use std::time::Duration;

use super::{Section, problem::Problems, values::Time};
use crate::{
    metadata::MetadataReader,
    metrics::MetricReader,
    model::Health,
    pipeline,
    plugin::{Context, Keep, Plugin},
};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_hours(24);

/// Who a host is seldom changes.
const METADATA_INTERVAL: Duration = Duration::from_mins(1);

/// A reader's section and what came out of it.
struct Built<'a, T: ?Sized + 'static> {
    plugin: &'static Plugin<T>,
    section: Section<'a>,
    interval: Duration,
    reader: Box<T>,
}

/// Builds the metadata readers of `[metadata]`.
pub(super) fn metadata(
    section: Section<'_>,
    registry: &'static [&'static Plugin<dyn MetadataReader>],
    context: &Context,
    keep: &mut Vec<Keep>,
    problems: &mut Problems,
) -> Vec<pipeline::Metadata> {
    all(section, registry, context, METADATA_INTERVAL, problems)
        .into_iter()
        .inspect(|built| keep.extend(built.plugin.needs.keep))
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
    problems: &mut Problems,
) -> (Vec<pipeline::Reader>, Duration) {
    let built = all(section, registry, context, default_interval, problems);
    keep.extend(built.iter().flat_map(|built| built.plugin.needs.keep));
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
        attached: Health::default(),
        reader: built.reader,
    });
    (readers.collect(), shortest)
}

/// Builds the plugin of each sub-section; those that are switched off are checked and left out.
fn all<'a, T: ?Sized>(
    mut group: Section<'a>,
    registry: &'static [&'static Plugin<T>],
    context: &Context,
    default_interval: Duration,
    problems: &mut Problems,
) -> Vec<Built<'a, T>> {
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
        built.extend(one(plugin, section, context, default_interval, problems));
    }
    built
}

fn one<'a, T: ?Sized>(
    plugin: &'static Plugin<T>,
    whole: Section<'a>,
    context: &Context,
    default_interval: Duration,
    problems: &mut Problems,
) -> Option<Built<'a, T>> {
    let mut section = whole.clone();
    let enabled = problems.note(section.take::<bool>("enabled"));
    let interval = problems.note(section.take::<Time>("interval")).flatten();
    if let Some(interval) = interval {
        problems.note(check_interval(&whole, interval));
    }
    let reader = problems.note(build(plugin, &section, context))?;
    enabled?.unwrap_or(true).then_some(Built {
        plugin,
        section: whole,
        interval: interval.map_or(default_interval, |interval| interval.0),
        reader,
    })
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
