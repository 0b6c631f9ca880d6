//! What an output that is scraped costs at every tick: adding the window to the totals, and writing them in each media type.

use std::{io::Write as _, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use dataflux_probe::{
    config::{Config, Registries},
    formatters::Formatter,
    metrics,
    model::{
        Entity, EntityKey, EntityKind, Envelope, Health, Kind, Metric, MetricDef, Source, Value,
    },
    pipeline::{Output, benching::Sum},
};
use flate2::{Compression, write::GzEncoder};

use super::{
    delivery::{Section, envelopes, size},
    process::Row,
    readers::cpu_time,
    statistics::{Bar, Spread},
};
use crate::command::say;

/// What an envelope covers.
const WINDOW: Duration = Duration::from_secs(5);
/// The cgroups of a node with many containers, and the series of each.
const CGROUPS: u64 = 200;
const SERIES: usize = 20;
/// Ticks of a round: the first ones find cold caches.
const TICKS: usize = 8;
/// Of a tick, us: an interval of 1 s is the shortest that one would scrape, and this is a thousandth of it.
const DEFAULT_BAR: f64 = 1_000.0;
/// A cgroup's series cost what others do, so this is what a tenth of the memory of the default bound of totals costs.
const CGROUPS_BAR: f64 = 5_000.0;

/// Measures the totals of the default configuration's readers, and of a node with many containers.
///
/// # Errors
/// The output cannot be built, the readers do not run, or nothing can be written.
pub(super) fn measure(rounds: usize) -> anyhow::Result<Section> {
    say(format_args!("totals: {rounds} rounds of {TICKS} ticks"));
    let default = envelopes::read_for(vec![output()?], WINDOW)?;
    let cgroups = cgroups(&default)?;
    let mut rows = Vec::new();
    for (what, window, bar) in [
        ("default configuration", &default, DEFAULT_BAR),
        ("200 containers", &cgroups, CGROUPS_BAR),
    ] {
        rows.extend(tick(what, window, rounds, bar)?);
    }
    Ok(Section {
        title: "The output `prometheus`: CPU time of a tick and its parts, and of a scrape"
            .to_owned(),
        rows,
    })
}

/// As the documentation has it.
fn output() -> anyhow::Result<Output> {
    let text =
        "[metrics.cpu]\n[output.bench]\nformatter = \"prometheus\"\nlogger = \"prometheus\"\n";
    let config = Config::parse(Path::new("bench"), text.to_owned(), Registries::BUILT_IN)?;
    let output = config.outputs.into_iter().next();
    output.context("one output was configured")
}

/// Times of the parts of each tick, us.
#[derive(Default)]
struct Times {
    merging: Vec<f64>,
    formatting: [Vec<f64>; 2],
    together: Vec<f64>,
    gzip: Vec<f64>,
}

fn tick(what: &str, window: &Envelope, rounds: usize, bar: f64) -> anyhow::Result<Vec<Row>> {
    let Output {
        formatter,
        queue_bytes,
        ..
    } = output()?;
    let other = formatter.alternatives().pop();
    let formatters = [formatter, other.context("there are two syntaxes")?];
    let mut sum = Sum::new(queue_bytes);
    let mut times = Times::default();
    let mut bytes = [Vec::new(), Vec::new()];
    let mut packed = 0;
    for _ in 0..rounds * TICKS {
        packed = one_tick(window, &formatters, &mut sum, &mut bytes, &mut times)?;
    }
    let series: usize = sum.told().sources.iter().map(|one| one.metrics.len()).sum();
    let kib = |bytes: usize| bytes as f64 / 1024.0;
    let row = |part: String, times: Vec<f64>, bar| {
        let times = Spread::of(times).context("nothing was measured")?;
        anyhow::Ok(Row::of_rounds(format!("{what}: {part}"), "us", times, bar))
    };
    let [text, open] = times.formatting;
    let [text_size, open_size] = bytes.map(|bytes| kib(bytes.len()));
    Ok(vec![
        row(
            format!("prometheus output, one tick, {series} series"),
            times.together,
            Some(Bar::AtMost(bar)),
        )?,
        row("of that adding the window".to_owned(), times.merging, None)?,
        row(format!("of that text, {text_size:.0} KiB"), text, None)?,
        row(
            format!("of that OpenMetrics, {open_size:.0} KiB"),
            open,
            None,
        )?,
        row(
            format!(
                "first scrape after a tick that takes gzip, {:.0} KiB",
                kib(packed)
            ),
            times.gzip,
            None,
        )?,
    ])
}

/// What the output does with a window; how large its text is after gzip.
fn one_tick(
    window: &Envelope,
    formatters: &[Box<dyn Formatter>; 2],
    sum: &mut Sum,
    bytes: &mut [Vec<u8>; 2],
    times: &mut Times,
) -> anyhow::Result<usize> {
    let begin = cpu_time();
    sum.add(window);
    let mut before = cpu_time();
    times.merging.push(us(before - begin));
    {
        let record = size::numbered(&sum.told(), 1);
        for (place, formatter) in formatters.iter().enumerate() {
            // As large as the last one, and new each time, because who scrapes may still have that.
            let mut out = Vec::with_capacity(bytes[place].len() * 9 / 8);
            formatter.format(&record, window.window.stop, &mut out)?;
            bytes[place] = out;
            let now = cpu_time();
            times.formatting[place].push(us(now - before));
            before = now;
        }
    }
    times.together.push(us(before - begin));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&bytes[0])?;
    let packed = encoder.finish()?.len();
    times.gzip.push(us(cpu_time() - before));
    Ok(packed)
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The window with cgroups in the place of its sources, called as Kubernetes does.
fn cgroups(like: &Envelope) -> anyhow::Result<Envelope> {
    let mut plugins = metrics::REGISTRY.iter();
    let plugin = plugins.find(|plugin| plugin.name == "cgroup");
    let defs = plugin.context("there is no reader of cgroups")?.metrics;
    let metrics = (1..=CGROUPS).flat_map(|cgroup| {
        let defs = defs.iter().take(SERIES);
        defs.map(move |def| series(def, cgroup))
    });
    let source = Source {
        reader: "cgroup",
        labels: Arc::default(),
        health: Health::default(),
        window: like.window,
        covered: like.window.duration,
        lost: 0,
        unsupported: Vec::new(),
        metrics: metrics.collect(),
    };
    Ok(Envelope {
        sources: vec![source],
        ..like.clone()
    })
}

fn series(def: &'static MetricDef, cgroup: u64) -> Metric {
    let pod = format!("kubepods-burstable-pod{cgroup:08x}_4b6e_4a53_9d0c_2f7d1c9e55a1.slice");
    let path = format!(
        "/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{cgroup:064x}.scope"
    );
    Metric {
        def,
        entity: Some(Entity {
            kind: EntityKind::Cgroup,
            key: EntityKey::Id(cgroup << 20),
        }),
        entity_id: None,
        entity_name: Some(path.into()),
        labels: def.labels.iter().map(|label| (*label).into()).collect(),
        value: match def.kind {
            Kind::Gauge => gauge(cgroup as f64 * 4096.0),
            Kind::Counter { .. } | Kind::Histogram => Value::Counter {
                value: Some(cgroup * 1_234_567),
                total: cgroup * 123_456_789,
            },
        },
    }
}

fn gauge(value: f64) -> Value {
    Value::Gauge {
        value,
        min: value,
        max: value,
    }
}
