//! The keys of an output that say what it gets of each envelope.

use std::{collections::BTreeSet, time::Duration};

use toml::Spanned;

use super::{Choice, Contents, EmptyLabels, Output, Zeros};
use crate::{
    config::{Section, problem::Problems},
    formatters::Fields,
    model::MetricDef,
    pipeline::shape::{Filter, Known, Shape},
};

/// Which sources and series.
pub(super) fn shape(
    output: &Output,
    section: &Section<'_>,
    choice: Choice<'_>,
    problems: &mut Problems,
) -> Shape {
    let shape = Shape {
        per_reader: output.envelope == Contents::PerReader,
        keep_zeros: output.zeros == Zeros::Keep,
        sources: sources(output, section, choice, problems),
        filters: filters(output, section, choice, problems),
    };
    if let Some(resolution) = output.resolution {
        let checked = check_resolution(resolution.0, &shape, choice);
        let checked = checked.map_err(|message| section.error(Some("resolution"), message));
        problems.note(checked);
    }
    shape
}

fn sources(
    output: &Output,
    section: &Section<'_>,
    choice: Choice<'_>,
    problems: &mut Problems,
) -> Option<BTreeSet<&'static str>> {
    let wanted = output.sources.as_ref()?;
    let known = readers(choice);
    let mut sources = BTreeSet::new();
    let before = problems.len();
    for name in wanted {
        match known
            .iter()
            .find(|known| **known == name.get_ref().as_str())
        {
            Some(name) => {
                sources.insert(*name);
            }
            None => {
                let message = format!(
                    "unknown reader `{}`; known: {}",
                    name.get_ref(),
                    known.join(", ")
                );
                problems.push(section.error_at(name.span().start, "sources", message));
            }
        }
    }
    let any_runs = choice
        .readers
        .iter()
        .any(|reader| sources.contains(reader.name));
    if problems.len() == before && !any_runs {
        let message = "none of these readers is switched on, so nothing would ever be sent";
        problems.push(section.error(Some("sources"), message));
    }
    Some(sources)
}

fn filters(
    output: &Output,
    section: &Section<'_>,
    choice: Choice<'_>,
    problems: &mut Problems,
) -> Vec<Filter> {
    let readers = readers(choice);
    let metrics: Vec<&'static MetricDef> = choice
        .registries
        .metrics
        .iter()
        .flat_map(|plugin| plugin.metrics)
        .copied()
        .collect();
    let known = Known {
        readers: &readers,
        metrics: &metrics,
    };
    let filter = |text: &Spanned<String>| {
        let filter = Filter::parse(text.get_ref());
        let filter = filter.and_then(|filter| filter.check(known).map(|()| filter));
        filter.map_err(|mistake| section.error_at(text.span().start, "filters", mistake))
    };
    let filters = output.filters.iter().map(filter);
    filters.filter_map(|filter| problems.note(filter)).collect()
}

fn readers(choice: Choice<'_>) -> Vec<&'static str> {
    let plugins = choice.registries.metrics.iter();
    plugins.map(|plugin| plugin.name).collect()
}

/// Every boundary of the resolution must be a tick of the stream.
fn check_resolution(resolution: Duration, shape: &Shape, choice: Choice<'_>) -> Result<(), String> {
    const LONGEST: Duration = Duration::from_hours(24);
    let time = |time| humantime::format_duration(time);
    let given = time(resolution);
    if resolution.is_zero() || resolution > LONGEST {
        return Err(format!(
            "{given} is not between the interval and {}",
            time(LONGEST)
        ));
    }
    let divides = |part: Duration, whole: Duration| {
        part.as_nanos() > 0 && whole.as_nanos().is_multiple_of(part.as_nanos())
    };
    let mut wanted = choice
        .readers
        .iter()
        .filter(|reader| shape.wants(reader.name));
    if shape.per_reader {
        // The windows of a slower reader are not merged.
        let odd = wanted.find(|reader| {
            !divides(reader.interval, resolution) && !divides(resolution, reader.interval)
        });
        return odd.map_or(Ok(()), |reader| {
            let interval = time(reader.interval);
            Err(format!(
                "{given} is not a multiple of {interval}, the interval of metrics.{}",
                reader.name
            ))
        });
    }
    let Some(shortest) = wanted.clone().map(|reader| reader.interval).min() else {
        return Ok(());
    };
    if wanted.any(|reader| divides(reader.interval, resolution)) {
        return Ok(());
    }
    let shortest = time(shortest);
    Err(format!(
        "{given} is not a multiple of {shortest}, how often this output's envelopes are made"
    ))
}

/// Which of the fields that records can do without.
pub(super) fn fields(
    output: &Output,
    section: &Section<'_>,
    choice: Choice<'_>,
    problems: &mut Problems,
) -> Fields {
    let empty_labels = output.empty_labels == EmptyLabels::Keep;
    let Some(names) = &output.fields else {
        let mut all = Fields::default();
        all.empty_labels = empty_labels;
        return all;
    };
    let plugins = choice.registries.metadata.iter();
    let sections: Vec<_> = plugins.map(|plugin| plugin.name).collect();
    let fields = Fields::parse(names.iter().map(|name| &**name), empty_labels, &sections)
        .map_err(|message| section.error(Some("fields"), message));
    problems.note(fields).unwrap_or_default()
}
