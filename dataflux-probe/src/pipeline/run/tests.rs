//! Whole pipelines on scripted clocks: aligned ticks, steps, suspension.

use std::sync::Mutex;

use serde_json::json;
use tokio::{sync::Notify, time::timeout};

use super::{
    super::{
        Metadata as MetadataSetup, Output, Reader, WhenFull,
        clock::nanoseconds,
        fakes::{EVENTS, FakeReader, LEVEL, Script},
        selection::Rules,
        shape::{Entities, Shape},
        state::StateDir,
    },
    *,
};
use crate::{
    formatters::Formatter,
    loggers::{Acknowledgement, Logger, Payload, SendError},
    metadata::{MetadataReader, names::Names},
    metrics::MetricReader,
    model::{Envelope, Health, Metadata, MetricDef, Snapshot, Source, Status, Value, WallTime},
};

mod health;
mod outage;
mod outputs;
mod readers;
mod reload;

/// What every fake reader may give.
static DEFS: &[&MetricDef] = &[&EVENTS, &LEVEL];

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Keeps what it is given to format.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<Numbered>>>);

impl Formatter for Capture {
    fn content_type(&self) -> &'static str {
        "none"
    }

    fn format(&self, record: &Numbered, _: WallTime, out: &mut Vec<u8>) -> anyhow::Result<()> {
        self.0.lock().unwrap().push(record.clone());
        out.extend_from_slice(b"{}");
        Ok(())
    }
}

impl Capture {
    fn envelopes(&self) -> Vec<Arc<Envelope>> {
        let records = self.0.lock().unwrap();
        records
            .iter()
            .map(|record| Arc::clone(&record.envelope))
            .collect()
    }

    /// The sources of a reader, each with the number of its envelope.
    fn sources(&self, reader: &str) -> Vec<(u64, Source)> {
        let records = self.0.lock().unwrap();
        let of = |record: &Numbered| {
            let number = *record.range.start();
            let source = record
                .envelope
                .sources
                .iter()
                .find(|source| source.reader == reader);
            source.map(|source| (number, source.clone()))
        };
        records.iter().filter_map(of).collect()
    }
}

/// A pipeline under test.
struct Bench {
    pipeline: Pipeline,
    capture: Capture,
    script: Script,
    stop: Arc<Notify>,
    orders: mpsc::Receiver<Order>,
}

impl Bench {
    fn new() -> Self {
        let capture = Capture::default();
        Self {
            pipeline: Pipeline {
                readers: Vec::new(),
                metadata: Vec::new(),
                outputs: vec![output("main", capture.clone(), SINK)],
                names: Names::new("/nowhere".into()),
                counters: Arc::default(),
                state_dir: None,
                place: 0,
                pulse: Pulse::default(),
                drain_limit: SECOND,
            },
            capture,
            script: Script::new(),
            stop: Arc::default(),
            orders: mpsc::channel(1).1,
        }
    }

    fn read<F>(mut self, name: &'static str, interval: Duration, read: F) -> Self
    where
        F: FnMut(&mut Snapshot) -> anyhow::Result<()> + Send + 'static,
    {
        self.pipeline
            .readers
            .push(reader(name, interval, Box::new(FakeReader(read))));
        self
    }

    /// A reader whose counter grows by one with each read.
    fn count(self, name: &'static str, interval: Duration) -> Self {
        let mut count = 0;
        self.read(name, interval, move |out| {
            count += 1;
            out.counter(&EVENTS, None, ["reads"], count);
            Ok(())
        })
    }

    /// Runs until `end` is through.
    async fn run(self, end: impl Future<Output = ()>) -> (Capture, Arc<Counters>) {
        let counters = Arc::clone(&self.pipeline.counters);
        let stop = Arc::clone(&self.stop);
        let running = self
            .pipeline
            .run_by(self.script.clock(), self.orders, async move {
                stop.notified().await;
            });
        let ending = async {
            end.await;
            self.stop.notify_one();
        };
        let (ended, ()) = tokio::join!(running, ending);
        ended.unwrap();
        (self.capture, counters)
    }
}

fn reader(name: &'static str, interval: Duration, reader: Box<dyn MetricReader>) -> Reader {
    Reader {
        name,
        interval,
        metrics: DEFS,
        labels: Arc::default(),
        selection: Rules::default(),
        attached: Health::default(),
        reader,
    }
}

/// A logger that gives one answer after a while.
struct Sink {
    after: Duration,
    delivers: bool,
}

const SINK: Sink = Sink {
    after: Duration::ZERO,
    delivers: true,
};

impl Logger for Sink {
    fn send(&mut self, _: Payload) -> Acknowledgement {
        let Self { after, delivers } = *self;
        Box::pin(async move {
            sleep(after).await;
            if delivers {
                return Ok(());
            }
            Err(SendError::Retry(anyhow::anyhow!("away")))
        })
    }
}

fn output(name: &str, formatter: impl Formatter + 'static, logger: Sink) -> Output {
    Output {
        name: name.to_owned(),
        formatter: Box::new(formatter),
        logger: Box::new(logger),
        opened: true,
        shape: Arc::new(Shape {
            keep_zeros: true,
            ..Shape::default()
        }),
        entities: Entities::Both,
        totals: false,
        resolution: None,
        queue_bytes: 1 << 20,
        when_full: WhenFull::Coalesce,
        spread: Duration::ZERO,
        spool: None,
        dead_letter_bytes: None,
    }
}

/// The windows follow each other without a break, and none is empty.
fn check_windows(envelopes: &[Arc<Envelope>]) {
    for (earlier, later) in envelopes.iter().zip(&envelopes[1..]) {
        assert_eq!(earlier.window.stop, later.window.start);
        assert!(later.window.duration > Duration::ZERO);
    }
}

fn value(source: &Source) -> Option<u64> {
    match source.metrics.first()?.value {
        Value::Counter { value, .. } => value,
        _ => None,
    }
}

fn past_tick(time: WallTime, interval: Duration) -> Duration {
    let past = time.rem_euclid(nanoseconds(interval));
    Duration::from_nanos(past.unsigned_abs())
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_100_ms_keeps_its_ticks_for_a_minute() {
    let bench = Bench::new().count("fast", 100 * MS);
    let (capture, counters) = bench.run(sleep(60 * SECOND + 35 * MS)).await;
    let envelopes = capture.envelopes();
    assert_eq!(counters.missed_ticks.get(), 0);
    // The baseline is at 70 ms, and the end, at 60,035 ms, makes one more.
    assert_eq!(envelopes.len(), 600);
    check_windows(&envelopes);
    for envelope in &envelopes[..599] {
        assert!(
            past_tick(envelope.window.stop, 100 * MS) <= 2 * MS,
            "{:?}",
            envelope.window
        );
    }
    let last = envelopes[599].window.duration;
    assert!((64 * MS..=66 * MS).contains(&last), "{last:?}");
    for (_, source) in capture.sources("fast") {
        assert_eq!(
            (value(&source), source.covered),
            (Some(1), source.window.duration)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn setting_the_clock_gives_neither_burst_nor_stall() {
    for step in [3_600_250_000_000, -3_600_250_000_000_i64] {
        let bench = Bench::new().count("a", SECOND).count("b", 2 * SECOND);
        let script = bench.script.clone();
        let (capture, counters) = bench
            .run(async {
                sleep(10 * SECOND + 500 * MS).await;
                script.step(step);
                sleep(10 * SECOND).await;
            })
            .await;
        let envelopes = capture.envelopes();
        assert_eq!(counters.missed_ticks.get(), 0);
        assert!(
            (20..=22).contains(&envelopes.len()),
            "{} envelopes",
            envelopes.len()
        );
        check_windows(&envelopes);
        let steps: Vec<_> = envelopes
            .iter()
            .map(|envelope| envelope.window.clock_step)
            .filter(|&step| step != 0)
            .collect();
        assert_eq!(steps, [step]);
        let longest = envelopes
            .iter()
            .map(|envelope| envelope.window.duration)
            .max();
        assert!(longest < Some(1600 * MS), "{longest:?}");
        for envelope in &envelopes[14..envelopes.len() - 1] {
            assert!(
                past_tick(envelope.window.stop, SECOND) <= 2 * MS,
                "{:?}",
                envelope.window
            );
        }
        let whole: Duration = envelopes
            .iter()
            .map(|envelope| envelope.window.duration)
            .sum();
        assert!((19 * SECOND..21 * SECOND).contains(&whole), "{whole:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn suspension_is_one_window_with_missed_ticks() {
    let bench = Bench::new().count("a", SECOND);
    let script = bench.script.clone();
    let (capture, counters) = bench
        .run(async {
            sleep(5 * SECOND + 500 * MS).await;
            script.suspend(3600 * SECOND);
            sleep(5 * SECOND).await;
        })
        .await;
    let envelopes = capture.envelopes();
    check_windows(&envelopes);
    let suspended: Vec<_> = envelopes
        .iter()
        .filter(|envelope| !envelope.window.suspended.is_zero())
        .collect();
    assert_eq!(suspended.len(), 1);
    let window = suspended[0].window;
    assert_eq!((window.suspended, window.clock_step), (3600 * SECOND, 0));
    assert!(window.duration < 1100 * MS, "{window:?}");
    assert_eq!(counters.missed_ticks.get(), 3600);
    assert!(
        (10..=12).contains(&envelopes.len()),
        "{} envelopes",
        envelopes.len()
    );
}

#[tokio::test(start_paused = true)]
async fn readers_with_intervals_of_their_own_have_windows_of_their_own() {
    let bench = Bench::new()
        .count("quick", SECOND)
        .count("slow", 3 * SECOND);
    let (capture, _) = bench.run(sleep(13 * SECOND + 500 * MS)).await;
    let quick = capture.sources("quick");
    assert!(quick.len() >= 12);
    let slow = capture.sources("slow");
    // Both have their baseline at the first second, which is no multiple of 3; the rest of the 3 s is enough for a window.
    let windows: Vec<_> = slow
        .iter()
        .map(|(_, source)| source.window.duration.as_millis().div_ceil(10) / 100)
        .collect();
    assert_eq!(windows[1..4], [3, 3, 3], "{windows:?}");
    for (number, source) in &slow {
        assert_eq!(value(source), Some(1), "{number}");
        assert_eq!(source.covered, source.window.duration);
    }
    check_windows(&capture.envelopes());
}
