//! A reader attached to the running kernel, and what its snapshots hold.

use std::{path::Path, sync::Arc};

use dataflux_probe::{
    config::section::File,
    kernel::Kernel,
    metrics::{MetricReader, REGISTRY},
    model::{Buckets, Entity, Snapshot, Total},
    pipeline::counters::Counters,
    plugin::{Context, Roots},
};

/// A reader that is attached to the running kernel.
pub(crate) struct Attached(Box<dyn MetricReader>);

impl Attached {
    /// Builds a reader from its section's text and attaches it.
    pub(crate) fn new(reader: &str, section: &str) -> Self {
        let plugin = REGISTRY
            .iter()
            .find(|plugin| plugin.name == reader)
            .expect("a registered reader");
        let context = context();
        let file = File::new(Path::new("test.toml"), section.to_owned());
        let section = file.parse().expect("the section is TOML");
        let mut built = (plugin.build)(&section, &context).expect("the section is valid");
        let kernel = Kernel::new(context.roots.clone(), Arc::clone(&context.counters));
        if let Err(error) = built.attach(&kernel) {
            panic!("attaching {reader}: {error}; {:#?}", kernel.outcomes());
        }
        for program in kernel.outcomes() {
            assert_eq!(
                program.outcome.health().to_string(),
                "ok",
                "{reader}: {}",
                program.program
            );
        }
        Self(built)
    }

    /// Reads everything.
    pub(crate) fn read(&mut self) -> Totals {
        let mut snapshot = Snapshot::default();
        self.0.read(&mut snapshot).expect("the reader reads");
        Totals(snapshot)
    }
}

/// What plugins of a test are built with.
pub(crate) fn context() -> Context {
    Context {
        roots: Roots::default(),
        counters: Arc::new(Counters::default()),
        output: String::new(),
        per_reader: false,
        config_hash: "test".into(),
        started: 0,
    }
}

/// A snapshot, by metric.
#[derive(Debug)]
pub(crate) struct Totals(pub(crate) Snapshot);

impl Totals {
    fn matching<'a>(
        &'a self,
        metric: &'a str,
        entity: Option<&'a Entity>,
        labels: &'a [&'a str],
    ) -> impl Iterator<Item = &'a Total> {
        self.0
            .series
            .iter()
            .filter(move |series| {
                series.def.name == metric
                    && entity.is_none_or(|entity| series.entity.as_ref() == Some(entity))
                    && labels
                        .iter()
                        .zip(&series.labels)
                        .all(|(wanted, have)| wanted == have)
            })
            .map(|series| &series.value)
    }

    /// Sum of the counters of a metric whose first labels are these.
    pub(crate) fn counter(&self, metric: &str, entity: Option<&Entity>, labels: &[&str]) -> u64 {
        self.matching(metric, entity, labels)
            .map(|total| match total {
                Total::Counter(value) => *value,
                other => panic!("{metric} is no counter: {other:?}"),
            })
            .sum()
    }

    /// The histogram of a metric, empty if there is none.
    pub(crate) fn histogram(
        &self,
        metric: &str,
        entity: Option<&Entity>,
        labels: &[&str],
    ) -> Buckets {
        match self.matching(metric, entity, labels).next() {
            Some(Total::Histogram(buckets)) => buckets.clone(),
            Some(other) => panic!("{metric} is no histogram: {other:?}"),
            None => Buckets::default(),
        }
    }
}
