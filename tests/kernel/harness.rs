//! A reader attached to the running kernel, and what its snapshots hold.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dataflux_common::histogram::highest;
use dataflux_probe::{
    config::section::File,
    kernel::{Kernel, ProgramOutcome, load::Outcome, objects},
    metadata,
    metrics::{AttachError, MetricReader, REGISTRY},
    model::{Entity, Metadata, Series, Snapshot, Total},
    pipeline::counters::Counters,
    plugin::{Context, Roots},
};
use serde_json::{Map, Value};

/// What came into the kernel after the oldest release that is supported.
pub(crate) struct Later {
    /// The program that needs it.
    program: &'static str,
    /// The metric that is missing without it.
    metric: &'static str,
    /// What it is.
    what: &'static str,
    /// The release that has it: major and minor number.
    since: (u32, u32),
}

/// The only reasons for which a program may be unsupported or a test may be skipped.
const LATER: [Later; 1] = [Later {
    program: "kfree_skb",
    metric: "network.drops",
    what: "reasons of dropped packets",
    since: (5, 17),
}];

impl Later {
    /// Whether the running kernel is older. One that is new enough must have it.
    fn is_lacking(&self) -> bool {
        release() < self.since
    }
}

/// Whether this kernel is too old for a metric; then the test is skipped, which this says.
pub(crate) fn skipped_without(metric: &str) -> bool {
    let Some(later) = LATER.iter().find(|later| later.metric == metric) else {
        panic!("{metric} is on every kernel");
    };
    if later.is_lacking() {
        let (major, minor) = later.since;
        println!(
            "skipped: this kernel lacks {}, which are there since Linux {major}.{minor}",
            later.what
        );
    }
    later.is_lacking()
}

/// Whether something is missing that only guests are sure to have; then the test is skipped, which this says.
pub(crate) fn skipped_outside_guests(what: &str, is_there: bool) -> bool {
    if !is_there {
        let in_guest = std::env::var_os("DATAFLUX_GUEST").is_some();
        assert!(!in_guest, "every guest has {what}");
        println!("skipped: this machine has no {what}");
    }
    !is_there
}

/// Major and minor number of the running kernel.
fn release() -> (u32, u32) {
    let name = rustix::system::uname();
    let text = name.release().to_string_lossy();
    let mut numbers = text.split(['.', '-', '+']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("{text} is no release of a kernel"),
    }
}

/// One test at a time: they count what the whole machine does.
static MACHINE: Mutex<()> = Mutex::new(());

/// The machine for one test, or `None` where a kernel test cannot run, which it says. `cargo xtask test` builds the objects
/// first and sets `DATAFLUX_KERNEL_TESTS=required`: then what is missing is a failure, except for the privilege.
pub(crate) fn machine() -> Option<MutexGuard<'static, ()>> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    if objects::OBJECTS.is_empty() {
        let required =
            std::env::var("DATAFLUX_KERNEL_TESTS").is_ok_and(|value| value == "required");
        assert!(
            !required,
            "no kernel objects are embedded: cargo xtask build-ebpf"
        );
        println!("skipped: no kernel objects are embedded: cargo xtask build-ebpf");
        return None;
    }
    Some(MACHINE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A reader that is attached to the running kernel.
pub(crate) struct Attached(Box<dyn MetricReader>);

impl Attached {
    /// Builds a reader from its section's text and attaches it. All of its programs must work, but for those of [`LATER`].
    pub(crate) fn new(reader: &str, section: &str) -> Self {
        let (built, outcomes) = match Self::on(Roots::default(), reader, section) {
            Ok(attached) => attached,
            Err((error, outcomes)) => panic!("attaching {reader}: {error}; {outcomes:#?}"),
        };
        for program in outcomes {
            let excused = matches!(program.outcome, Outcome::Unsupported(_))
                && LATER
                    .iter()
                    .any(|later| later.program == program.program && later.is_lacking());
            assert!(
                excused || program.outcome == Outcome::Ok,
                "{reader}: {} {}",
                program.program,
                program.outcome.health()
            );
        }
        built
    }

    /// As [`Attached::new`], with a host of the test's own, and with programs that may not work.
    pub(crate) fn on(
        roots: Roots,
        reader: &str,
        section: &str,
    ) -> Result<(Self, Vec<ProgramOutcome>), (AttachError, Vec<ProgramOutcome>)> {
        let kernel = kernel(roots);
        match Self::with(&kernel, reader, section) {
            Ok(attached) => Ok((attached, kernel.outcomes())),
            Err(error) => Err((error, kernel.outcomes())),
        }
    }

    /// As [`Attached::on`], with a start of the probe that other readers take part in.
    pub(crate) fn with(kernel: &Kernel, reader: &str, section: &str) -> Result<Self, AttachError> {
        let plugin = REGISTRY
            .iter()
            .find(|plugin| plugin.name == reader)
            .expect("a registered reader");
        let context = context(kernel.roots.clone());
        let file = File::new(Path::new("test.toml"), section.to_owned());
        let section = file.parse().expect("the section is TOML");
        let mut built = (plugin.build)(&section, &context).expect("the section is valid");
        built.attach(kernel)?;
        Ok(Self(built))
    }

    /// Reads everything that kernels of this release have.
    pub(crate) fn read(&mut self) -> Totals {
        let totals = self.read_in_part();
        for metric in totals.unsupported() {
            let excused = |later: &Later| later.metric == metric && later.is_lacking();
            assert!(LATER.iter().any(excused), "{metric} is unsupported");
        }
        totals
    }

    /// Reads what this kernel gives, which may not be everything.
    pub(crate) fn read_in_part(&mut self) -> Totals {
        let mut snapshot = Snapshot::default();
        self.0.read(&mut snapshot).expect("the reader reads");
        assert_eq!(snapshot.health.to_string(), "ok");
        Totals(snapshot)
    }
}

/// The kernel of a host, as a start of the probe sees it.
pub(crate) fn kernel(roots: Roots) -> Kernel {
    Kernel::new(roots, Arc::default())
}

/// The section that a metadata reader gives of this machine.
pub(crate) fn header(reader: &str) -> anyhow::Result<Map<String, Value>> {
    let plugin = metadata::REGISTRY
        .iter()
        .find(|plugin| plugin.name == reader)
        .expect("a registered reader");
    let file = File::new(Path::new("test.toml"), String::new());
    let section = file.parse().expect("the section is TOML");
    let mut built = (plugin.build)(&section, &context(Roots::default()))?;
    let mut found = Metadata::default();
    built.read(&mut found)?;
    Ok(found.sections.remove(plugin.name).unwrap_or_default())
}

/// What plugins of a test are built with.
fn context(roots: Roots) -> Context {
    Context {
        roots,
        counters: Arc::new(Counters::default()),
        output: String::new(),
        per_reader: false,
        fields: Arc::default(),
        config_hash: "test".into(),
        state_dir: None,
        started: 0,
    }
}

/// A snapshot, by metric.
#[derive(Debug)]
pub(crate) struct Totals(Snapshot);

impl Totals {
    /// Events that the kernel side could not record.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost
    }

    /// The metrics that this kernel does not give, sorted.
    pub(crate) fn unsupported(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self
            .0
            .unsupported
            .iter()
            .map(|metric| metric.name)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Sum of the counters of a metric, of this entity if one is named, whose first labels are these.
    pub(crate) fn counter(&self, metric: &str, entity: Option<&Entity>, labels: &[&str]) -> u64 {
        let value = |series: &Series| match series.value {
            Total::Counter(value) => value,
            ref other => panic!("{metric} is no counter: {other:?}"),
        };
        self.matching(metric, entity, labels).map(value).sum()
    }

    /// The gauge of a metric of this entity whose first labels are these, if there is one.
    pub(crate) fn gauge(
        &self,
        metric: &str,
        entity: Option<&Entity>,
        labels: &[&str],
    ) -> Option<f64> {
        let series = self.matching(metric, entity, labels).next()?;
        match series.value {
            Total::Gauge(value) => Some(value),
            ref other => panic!("{metric} is no gauge: {other:?}"),
        }
    }

    /// The entities that have a series of a metric.
    pub(crate) fn entities<'a>(&'a self, metric: &'a str) -> Vec<&'a Entity> {
        let series = self.matching(metric, None, &[]);
        series.filter_map(|series| series.entity.as_ref()).collect()
    }

    /// The entities whose series of a metric begin with this snapshot, from 0.
    pub(crate) fn begun<'a>(&'a self, metric: &str) -> Vec<&'a Entity> {
        let of_metric =
            |series: &&Series| series.def.name == metric && series.value == Total::Counter(0);
        let earlier = self.0.earlier.iter().filter(of_metric);
        earlier
            .filter_map(|series| series.entity.as_ref())
            .collect()
    }

    /// Count and sum of the histograms of a metric, of this entity if one is named, whose first labels are these.
    pub(crate) fn histogram(
        &self,
        metric: &str,
        entity: Option<&Entity>,
        labels: &[&str],
    ) -> (u64, u64) {
        let value = |series: &Series| -> (u64, u64) {
            match &series.value {
                Total::Histogram(buckets) => (buckets.count(), buckets.sum),
                other => panic!("{metric} is no histogram: {other:?}"),
            }
        };
        self.matching(metric, entity, labels)
            .map(value)
            .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// At least the largest value in the histograms of a metric, at most an eighth more.
    pub(crate) fn longest(&self, metric: &str) -> u64 {
        let last = |series: &Series| match &series.value {
            Total::Histogram(buckets) => buckets.counts.last().map(|(bucket, _)| *bucket),
            other => panic!("{metric} is no histogram: {other:?}"),
        };
        let last = self.matching(metric, None, &[]).filter_map(last).max();
        last.map_or(0, |bucket| highest(usize::from(bucket)))
    }

    /// At least the smallest value in the histograms of a metric of this entity, at most an eighth more.
    pub(crate) fn shortest(&self, metric: &str, entity: &Entity) -> u64 {
        let first = |series: &Series| match &series.value {
            Total::Histogram(buckets) => buckets.counts.first().map(|(bucket, _)| *bucket),
            other => panic!("{metric} is no histogram: {other:?}"),
        };
        let series = self.matching(metric, Some(entity), &[]);
        let first = series.filter_map(first).min();
        first.map_or(0, |bucket| highest(usize::from(bucket)))
    }

    /// What a counter or histogram has counted, of all entities and labels.
    pub(crate) fn counter_or_histogram(&self, metric: &str) -> u64 {
        let value = |series: &Series| match &series.value {
            Total::Counter(value) => *value,
            Total::Histogram(buckets) => buckets.count(),
            other => panic!("{metric} does not count: {other:?}"),
        };
        self.matching(metric, None, &[]).map(value).sum()
    }

    fn matching<'a>(
        &'a self,
        metric: &'a str,
        entity: Option<&'a Entity>,
        labels: &'a [&'a str],
    ) -> impl Iterator<Item = &'a Series> {
        self.0.series.iter().filter(move |series| {
            series.def.name == metric
                && entity.is_none_or(|entity| series.entity.as_ref() == Some(entity))
                && labels
                    .iter()
                    .zip(&series.labels)
                    .all(|(wanted, have)| wanted == have)
        })
    }
}
