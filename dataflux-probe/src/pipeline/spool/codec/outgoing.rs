//! Envelopes on their way out, as what is read back: the same fields in the same order, without a copy of the series.

use std::{ptr, time::Duration};

use serde::{Serialize, Serializer};

use super::{Header, WireDefinition, definitions};
use crate::model::{
    Entity, Envelope, Health, LabelValue, Metric, MetricDef, Source, Value, Window,
};

/// What it takes to write an envelope, kept from one to the next.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The definitions of the envelope, in the order of their first series.
    definitions: Vec<&'static MetricDef>,
    /// Those of the one before, which [`definitions::find`] gives.
    remembered: Vec<&'static MetricDef>,
    /// For each source, one after the other: the places of the definitions of what is unsupported, then of its series.
    places: Vec<u32>,
}

#[derive(Serialize)]
pub(super) struct WireEnvelope<'a> {
    window: Window,
    sections: Vec<(&'a str, &'a str)>,
    definitions: Vec<WireDefinition<'a>>,
    sources: Vec<WireSource<'a>>,
}

#[derive(Serialize)]
struct WireSource<'a> {
    reader: &'a str,
    health: &'a Health,
    window: Window,
    covered: Duration,
    lost: u64,
    unsupported: &'a [u32],
    #[serde(serialize_with = "write_series")]
    metrics: (&'a [Metric], &'a [u32]),
}

#[derive(Serialize)]
struct WireMetric<'a> {
    definition: u32,
    entity: &'a Option<Entity>,
    entity_id: Option<u64>,
    entity_name: Option<&'a str>,
    labels: &'a [LabelValue],
    value: &'a Value,
}

impl Outgoing {
    /// The envelope as it is written.
    pub(super) fn wire<'a>(
        &'a mut self,
        envelope: &'a Envelope,
        header: &'a Header,
    ) -> WireEnvelope<'a> {
        self.place(&envelope.sources);
        let mut places = &self.places[..];
        let mut next = |count| {
            let (these, rest) = places.split_at(count);
            places = rest;
            these
        };
        let sources = envelope.sources.iter().map(|source| WireSource {
            reader: source.reader,
            health: &source.health,
            window: source.window,
            covered: source.covered,
            lost: source.lost,
            unsupported: next(source.unsupported.len()),
            metrics: (&source.metrics, next(source.metrics.len())),
        });
        let definition = |def: &&'static MetricDef| WireDefinition {
            name: def.name,
            kind: def.kind,
            unit: def.unit,
            labels: def.labels.into(),
        };
        let sections = header.sections.iter().map(|(name, text)| (*name, &**text));
        WireEnvelope {
            window: envelope.window,
            sections: sections.collect(),
            sources: sources.collect(),
            definitions: self.definitions.iter().map(definition).collect(),
        }
    }

    /// Finds the definitions and gives each series its place among them.
    fn place(&mut self, sources: &[Source]) {
        let Self {
            definitions,
            remembered,
            places,
        } = self;
        std::mem::swap(definitions, remembered);
        definitions.clear();
        places.clear();
        let mut place = |def: &'static MetricDef| {
            // From the end, because most readers give the series of a metric one after the other.
            let known = definitions.iter().rposition(|&known| ptr::eq(known, def));
            let place = known.unwrap_or_else(|| {
                let place = definitions.len();
                if !remembered
                    .get(place)
                    .is_some_and(|&like| ptr::eq(like, def))
                {
                    definitions::remember(def);
                }
                definitions.push(def);
                place
            });
            u32::try_from(place).expect("definitions are few")
        };
        for source in sources {
            places.extend(source.unsupported.iter().map(|def| place(def)));
            places.extend(source.metrics.iter().map(|metric| place(metric.def)));
        }
    }
}

fn write_series<S: Serializer>(
    (metrics, places): &(&[Metric], &[u32]),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let series = metrics.iter().zip(*places);
    serializer.collect_seq(series.map(|(metric, &definition)| WireMetric {
        definition,
        entity: &metric.entity,
        entity_id: metric.entity_id,
        entity_name: metric.entity_name.as_deref(),
        labels: &metric.labels,
        value: &metric.value,
    }))
}
