//! Gives what a disk names the `'static` things that the probe works with: metric definitions, readers, sections.
//!
//! What this version of the probe does not have, because another one wrote the record, is made and kept for good; so there is
//! a limit.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    ptr,
    sync::{LazyLock, PoisonError, RwLock},
};

use super::Damaged;
use crate::{
    metadata, metrics,
    model::{Kind, MetricDef, Unit},
};

/// So many definitions, and so many names, are made at most.
const MOST: usize = 4_096;
/// The longest name of anything here.
const LONGEST_NAME: usize = 255;
/// The most labels of a metric.
const MOST_LABELS: usize = 64;

static DEFINITIONS: LazyLock<RwLock<Definitions>> = LazyLock::new(|| {
    let mut known = Definitions::default();
    for def in metrics::REGISTRY.iter().flat_map(|reader| reader.metrics) {
        known.by_name.entry(def.name).or_default().push(def);
    }
    RwLock::new(known)
});

static NAMES: LazyLock<RwLock<HashSet<&'static str>>> = LazyLock::new(|| {
    let readers = metrics::REGISTRY.iter().map(|reader| reader.name);
    let sections = metadata::REGISTRY.iter().map(|reader| reader.name);
    RwLock::new(readers.chain(sections).collect())
});

#[derive(Default)]
struct Definitions {
    by_name: HashMap<&'static str, Vec<&'static MetricDef>>,
    made: usize,
}

impl Definitions {
    fn find(
        &self,
        name: &str,
        kind: Kind,
        unit: Unit,
        labels: &[&str],
    ) -> Option<&'static MetricDef> {
        self.by_name
            .get(name)?
            .iter()
            .find(|def| def.kind == kind && def.unit == unit && def.labels == labels)
            .copied()
    }
}

/// The definition with these properties. The help text stays behind in the version that wrote it.
pub(super) fn find(
    name: &str,
    kind: Kind,
    unit: Unit,
    labels: &[&str],
) -> Result<&'static MetricDef, Damaged> {
    let known = DEFINITIONS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(def) = known.find(name, kind, unit, labels) {
        return Ok(def);
    }
    drop(known);
    let long = |name: &str| name.len() > LONGEST_NAME;
    if long(name) || labels.len() > MOST_LABELS || labels.iter().any(|label| long(label)) {
        return Err(Damaged("a metric with a name or labels that are too long"));
    }
    let mut known = DEFINITIONS.write().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have been quicker.
    if let Some(def) = known.find(name, kind, unit, labels) {
        return Ok(def);
    }
    if known.made >= MOST {
        return Err(Damaged("more unknown metrics than there can be"));
    }
    known.made += 1;
    let labels = labels
        .iter()
        .map(|label| &*label.to_string().leak())
        .collect::<Vec<_>>();
    let def: &'static MetricDef = Box::leak(Box::new(MetricDef {
        name: name.to_owned().leak(),
        kind,
        unit,
        help: "",
        labels: labels.leak(),
    }));
    known.by_name.entry(def.name).or_default().push(def);
    Ok(def)
}

/// Lets [`find`] give this one: series are the same only if their definitions are one and the same.
pub(super) fn remember(def: &'static MetricDef) {
    thread_local! {
        /// Addresses of those that were remembered, so that nearly always nothing has to be locked or compared.
        static REMEMBERED: RefCell<HashSet<usize>> = RefCell::default();
    }
    let address = ptr::from_ref(def).addr();
    if !REMEMBERED.with_borrow_mut(|known| known.insert(address)) {
        return;
    }
    let find = |known: &Definitions| {
        known
            .find(def.name, def.kind, def.unit, def.labels)
            .is_some()
    };
    if !find(&DEFINITIONS.read().unwrap_or_else(PoisonError::into_inner)) {
        let mut known = DEFINITIONS.write().unwrap_or_else(PoisonError::into_inner);
        if !find(&known) {
            known.by_name.entry(def.name).or_default().push(def);
        }
    }
}

/// The name of a reader.
pub(super) fn name(name: &str) -> Result<&'static str, Damaged> {
    let known = NAMES.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(&known) = known.get(name) {
        return Ok(known);
    }
    drop(known);
    if name.len() > LONGEST_NAME {
        return Err(Damaged("a reader with a name that is too long"));
    }
    let mut known = NAMES.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(&known) = known.get(name) {
        return Ok(known);
    }
    if known.len() >= MOST {
        return Err(Damaged("more unknown readers than there can be"));
    }
    let name: &'static str = name.to_owned().leak();
    known.insert(name);
    Ok(name)
}
