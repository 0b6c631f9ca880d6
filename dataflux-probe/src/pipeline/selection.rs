//! Which entities of a reader are reported by themselves: those that its section includes, up to a bound. The rest is added
//! up in one series for each metric and label.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem, ptr,
    sync::Arc,
};

use super::{merge, shape::wildcard};
use crate::model::{Entity, EntityKey, EntityKind, LabelValue, Metric, Value};

/// How many entities of a reader are reported by themselves, unless its section says otherwise.
pub const MOST_ENTITIES: usize = 1000;

/// What a reader's section says about its entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// An entity's name has to be like one of these wildcards; if there are none, all are included.
    pub include: Vec<String>,
    /// And like none of these.
    pub exclude: Vec<String>,
    /// How many of those that are left are reported by themselves.
    pub max_entities: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            max_entities: MOST_ENTITIES,
        }
    }
}

impl Rules {
    /// Of one without a name the id counts, as people write it.
    fn pass(&self, metric: &Metric, entity: &Entity) -> bool {
        if self.include.is_empty() && self.exclude.is_empty() {
            return true;
        }
        let id = match (metric.id_and_name(), &entity.key) {
            ((_, Some(name)), _) => name.to_owned(),
            ((Some(id), None), _) => entity.kind.format_id(id),
            ((None, None), _) => return self.include.is_empty(),
        };
        let like = |patterns: &[String]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| wildcard::matches(pattern, &id))
        };
        (self.include.is_empty() || like(&self.include)) && !like(&self.exclude)
    }
}

/// What becomes of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Reported by itself until it ends.
    Own,
    /// Added to the rest until it ends, or there is room.
    Rest,
    /// Left out.
    Excluded,
}

#[derive(Debug)]
struct Known {
    place: Place,
    /// By which that was decided.
    name: Option<Arc<str>>,
    /// The last window that it was there at the end of.
    seen: u64,
}

/// The entities of one reader.
#[derive(Debug)]
pub(super) struct Selection {
    rules: Rules,
    known: HashMap<Entity, Known>,
    /// How many of them are reported by themselves.
    own: usize,
    window: u64,
    /// Of the rest's counters.
    others: HashMap<Series, Running>,
}

/// What tells a series of the rest from others: its metric's address, kind of entity and labels.
type Series = (usize, EntityKind, Box<[LabelValue]>);

/// The running total of a counter of the rest. Totals of entities cannot be added: they come and go.
#[derive(Debug)]
struct Running {
    total: u64,
    /// Until then it is the total of what the reader itself does not tell apart.
    has_entities: bool,
}

impl Selection {
    /// With the rules of another configuration: begins anew if they differ.
    pub(super) fn go_on(self, rules: Rules) -> Self {
        if self.rules == rules {
            self
        } else {
            Self::new(rules)
        }
    }

    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            known: HashMap::new(),
            own: 0,
            window: 0,
            others: HashMap::new(),
        }
    }

    /// Of a window's joined series, leaves those of entities that are reported by themselves, and adds the rest up.
    pub(super) fn apply(&mut self, metrics: &mut Vec<Metric>) {
        if metrics.iter().all(|metric| metric.entity.is_none()) {
            return;
        }
        let places = self.places(metrics);
        if places.iter().all(|&place| place == Place::Own) {
            return;
        }
        let mut own = Vec::with_capacity(metrics.len());
        let mut rest = Vec::new();
        for (metric, place) in mem::take(metrics).into_iter().zip(places) {
            match place {
                Place::Own => own.push(metric),
                Place::Rest => rest.push(metric),
                Place::Excluded => {}
            }
        }
        own.extend(self.add_up(rest));
        *metrics = own;
    }

    /// Ends the window: entities that are not among these have ended, and there is room again. Gives how many there are in
    /// the rest.
    pub(super) fn settle<'a>(&mut self, living: impl Iterator<Item = &'a Entity>) -> usize {
        if self.known.is_empty() {
            return 0;
        }
        self.window += 1;
        let mut last = None;
        for entity in living {
            if last == Some(entity) {
                continue;
            }
            last = Some(entity);
            if let Some(known) = self.known.get_mut(entity) {
                known.seen = self.window;
            }
        }
        self.known.retain(|_, known| known.seen == self.window);
        let count = |place| {
            let places = self.known.values().map(|known| known.place);
            places.filter(|&known| known == place).count()
        };
        self.own = count(Place::Own);
        count(Place::Rest)
    }

    fn places(&mut self, metrics: &[Metric]) -> Vec<Place> {
        // Most readers give the series of an entity one after the other.
        let mut last: Option<(&Entity, Place)> = None;
        let mut places = Vec::with_capacity(metrics.len());
        for metric in metrics {
            let Some(entity) = &metric.entity else {
                places.push(Place::Own);
                continue;
            };
            let place = match last {
                Some((same, place)) if same == entity => place,
                _ => self.place(metric, entity),
            };
            last = Some((entity, place));
            places.push(place);
        }
        places
    }

    /// Decided when an entity is seen for the first time, and again when it has another name.
    fn place(&mut self, metric: &Metric, entity: &Entity) -> Place {
        if entity.key == EntityKey::Other {
            return Place::Rest;
        }
        let name = &metric.entity_name;
        let before = self.known.get(entity);
        let mut place = match before {
            // One whose name cannot be had any more stays what it was.
            Some(known) if name.is_none() || *name == known.name => known.place,
            _ if !self.rules.pass(metric, entity) => Place::Excluded,
            Some(Known {
                place: Place::Own, ..
            }) => Place::Own,
            _ => Place::Rest,
        };
        // What is excluded now, or ends, gives its room back when the window is over: no entity is divided within one.
        if place == Place::Rest && self.own < self.rules.max_entities {
            self.own += 1;
            place = Place::Own;
        }
        let known = self.known.entry(entity.clone()).or_insert(Known {
            place,
            name: None,
            seen: self.window,
        });
        known.place = place;
        if name.is_some() && *name != known.name {
            known.name.clone_from(name);
        }
        place
    }

    /// One series for all that differ in their entity alone. Gauges have no sum.
    fn add_up(&mut self, rest: Vec<Metric>) -> Vec<Metric> {
        let mut sums: Vec<Sum> = Vec::new();
        let mut places: HashMap<Series, usize> = HashMap::new();
        for metric in rest {
            let Some(entity) = &metric.entity else {
                continue;
            };
            let is_entity = entity.key != EntityKey::Other;
            if is_entity && matches!(metric.value, Value::Gauge { .. }) {
                continue;
            }
            let def = ptr::from_ref(metric.def).addr();
            match places.entry((def, entity.kind, metric.labels.clone())) {
                Entry::Vacant(new) => {
                    new.insert(sums.len());
                    sums.push(Sum::new(metric, is_entity));
                }
                Entry::Occupied(known) => sums[*known.get()].add(metric, is_entity),
            }
        }
        for (series, place) in places {
            self.count_on(series, &mut sums[place]);
        }
        sums.into_iter().map(|sum| sum.metric).collect()
    }

    /// Gives a counter its running total.
    fn count_on(&mut self, series: Series, sum: &mut Sum) {
        let Value::Counter { value, total } = &mut sum.metric.value else {
            return;
        };
        let running = self.others.entry(series).or_insert_with(|| {
            let (value, total) = sum.reader.unwrap_or_default();
            Running {
                total: total.saturating_sub(value),
                has_entities: false,
            }
        });
        running.has_entities |= sum.has_entities;
        running.total = if running.has_entities {
            running.total.saturating_add(value.unwrap_or(0))
        } else {
            *total
        };
        *total = running.total;
    }
}

/// What stands for several series.
struct Sum {
    metric: Metric,
    /// Value and total of the reader's own series for what it does not tell apart, if that is a counter.
    reader: Option<(u64, u64)>,
    has_entities: bool,
}

impl Sum {
    fn new(mut metric: Metric, is_entity: bool) -> Self {
        (metric.entity_id, metric.entity_name) = (None, None);
        if let Some(entity) = &mut metric.entity {
            entity.key = EntityKey::Other;
        }
        Self {
            reader: Self::of_reader(&metric, is_entity),
            metric,
            has_entities: is_entity,
        }
    }

    fn add(&mut self, metric: Metric, is_entity: bool) {
        self.reader = self.reader.or(Self::of_reader(&metric, is_entity));
        self.has_entities |= is_entity;
        match (&mut self.metric.value, metric.value) {
            (Value::Counter { value, .. }, Value::Counter { value: more, .. }) => {
                *value = match (*value, more) {
                    (Some(value), Some(more)) => Some(value.saturating_add(more)),
                    (value, more) => value.or(more),
                };
            }
            (Value::Histogram(sum), Value::Histogram(more)) => *sum = merge::add(sum, &more),
            // A definition has one kind, and of gauges only the reader's own is here.
            _ => debug_assert!(false, "{}: no sum", self.metric.def.name),
        }
    }

    fn of_reader(metric: &Metric, is_entity: bool) -> Option<(u64, u64)> {
        match metric.value {
            Value::Counter { value, total } if !is_entity => Some((value.unwrap_or(0), total)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
