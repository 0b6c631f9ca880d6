//! Whole pipelines on scripted clocks: ticks, late and broken readers, steps, suspension, shutdown.

use std::sync::{Mutex, mpsc};

use serde_json::json;
use tokio::{
    sync::Notify,
    time::{advance, timeout},
};

use super::{
    super::{
        Metadata as MetadataSetup, Output, Reader, WhenFull,
        clock::nanoseconds,
        fakes::{EVENTS, FakeReader, LEVEL, Script},
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
                drain_limit: SECOND,
            },
            capture,
            script: Script::new(),
            stop: Arc::default(),
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
            .run_by(self.script.clock(), async move { stop.notified().await });
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
        per_reader: false,
        keep_zeros: true,
        queue_bytes: 1 << 20,
        when_full: WhenFull::Coalesce,
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

#[tokio::test(start_paused = true)]
async fn a_panicking_and_a_failing_reader_do_not_disturb_the_others() {
    let mut reads = 0;
    let mut grumpy = 0;
    let bench = Bench::new()
        .read("panics", SECOND, |_| panic!("no good"))
        .read("fails", SECOND, move |out| {
            reads += 1;
            out.counter(&EVENTS, None, ["a"], reads);
            anyhow::ensure!(reads != 3, "the third time");
            Ok(())
        })
        .read("doubts", SECOND, move |out| {
            grumpy += 1;
            out.health = Health::new(Status::Suspect, "odd");
            out.lost = 2 * grumpy;
            Ok(())
        })
        .count("works", SECOND);
    let (capture, counters) = bench.run(sleep(5 * SECOND)).await;
    for (_, source) in capture.sources("panics") {
        assert_eq!(
            source.health,
            Health::new(Status::Failed, "panicked: no good")
        );
        assert_eq!(source.covered, Duration::ZERO);
    }
    let fails = capture.sources("fails");
    let statuses: Vec<_> = fails
        .iter()
        .map(|(_, source)| source.health.status)
        .collect();
    assert_eq!(
        statuses[..4],
        [Status::Ok, Status::Failed, Status::Ok, Status::Ok]
    );
    assert_eq!(fails[2].1.covered.as_secs(), 2);
    assert_eq!(value(&fails[2].1), Some(2));
    for (_, source) in capture.sources("doubts") {
        assert_eq!((source.health.status, source.lost), (Status::Suspect, 2));
    }
    let works = capture.sources("works");
    assert!(
        works
            .iter()
            .all(|(_, source)| source.health.status == Status::Ok)
    );
    let of = |name| counters.reader(name);
    assert_eq!(
        (of("fails").failures.get(), of("panics").reads.get()),
        (1, 0)
    );
    assert_eq!(of("works").reads.get() as usize, works.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_reader_joins_the_next_envelope_and_delays_nobody() {
    let (release, held) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel::<()>();
    let mut reads = 0;
    let bench = Bench::new()
        .read("late", SECOND, move |out| {
            reads += 1;
            out.counter(&EVENTS, None, ["reads"], reads);
            if reads == 3 {
                started.send(()).unwrap();
                held.recv().unwrap();
            }
            Ok(())
        })
        .count("quick", SECOND);
    let driver = async {
        // While a thread is at work, time moves only by hand.
        let mut held_for = 0;
        let mut is_held = false;
        for _ in 0..900 {
            advance(10 * MS).await;
            // Threads need real time for what they do in none of the paused one.
            timeout(Duration::ZERO, pending::<()>()).await.ok();
            std::thread::sleep(MS);
            is_held |= starts.try_recv().is_ok();
            held_for += u32::from(is_held);
            if held_for == 250 {
                release.send(()).unwrap();
            }
        }
    };
    let (capture, counters) = bench.run(driver).await;
    let quick = capture.sources("quick");
    for (number, source) in &quick[..quick.len() - 1] {
        assert_eq!(value(source), Some(1), "{number}");
        assert!(
            (800 * MS..1200 * MS).contains(&source.window.duration),
            "{:?}",
            source.window
        );
    }
    let late = capture.sources("late");
    let statuses: Vec<_> = late
        .iter()
        .map(|(_, source)| source.health.status)
        .collect();
    // The third read is the one of envelope 2; it is held for 2.5 s, so it is in envelope 5, together with the read of its own.
    assert_eq!(
        statuses[..6],
        [
            Status::Ok,
            Status::Degraded,
            Status::Degraded,
            Status::Degraded,
            Status::Ok,
            Status::Ok
        ],
        "{statuses:?}"
    );
    assert_eq!(value(&late[4].1), Some(2));
    let covered: Duration = late.iter().map(|(_, source)| source.covered).sum();
    let first = late[0].1.window.start;
    let last = late[late.len() - 1].1.window.stop;
    assert_eq!(nanoseconds(covered), last - first);
    assert_eq!(counters.reader("late").late.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_did_not_attach_is_never_read_and_says_why() {
    let mut bench = Bench::new()
        .read("absent", SECOND, |_| panic!("is never read"))
        .count("works", SECOND);
    bench.pipeline.readers[0].attached = Health::new(Status::Unsupported, "no such hook");
    let (capture, counters) = bench.run(sleep(3 * SECOND)).await;
    let absent = capture.sources("absent");
    assert_eq!(absent.len(), capture.sources("works").len());
    for (_, source) in &absent {
        assert_eq!(
            source.health,
            Health::new(Status::Unsupported, "no such hook")
        );
        assert_eq!(source.unsupported, [&EVENTS, &LEVEL]);
        assert!(source.window.duration <= 1100 * MS);
    }
    assert_eq!(counters.reader("absent").failures.get(), 0);
}

/// Counts its reads in the header; fails from the third on.
struct Owner {
    reads: u64,
}

impl MetadataReader for Owner {
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        self.reads += 1;
        let section = json!({"reads": self.reads}).as_object().unwrap().clone();
        out.sections.insert("owner", section);
        anyhow::ensure!(self.reads < 3, "gone");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_is_refreshed_and_an_error_leaves_it() {
    let mut bench = Bench::new().count("a", SECOND);
    bench.pipeline.metadata.push(MetadataSetup {
        name: "owner",
        interval: 4 * SECOND,
        reader: Box::new(Owner { reads: 0 }),
    });
    let (capture, _) = bench.run(sleep(20 * SECOND)).await;
    let envelopes = capture.envelopes();
    let reads: Vec<_> = envelopes
        .iter()
        .map(|envelope| {
            envelope.metadata.sections["owner"]["reads"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!((reads[0], reads[reads.len() - 1]), (1, 2), "{reads:?}");
    assert!(reads.is_sorted());
    // What did not change is shared.
    assert!(Arc::ptr_eq(
        &envelopes[18].metadata,
        &envelopes[17].metadata
    ));
}

#[tokio::test(start_paused = true)]
async fn a_dead_output_delays_no_other() {
    let mut bench = Bench::new().count("a", SECOND);
    let dead = Sink {
        delivers: false,
        ..SINK
    };
    let stuck = Sink {
        after: 3600 * SECOND,
        ..SINK
    };
    let dead = output("dead", Capture::default(), dead);
    let stuck = output("stuck", Capture::default(), stuck);
    bench.pipeline.outputs.insert(0, stuck);
    bench.pipeline.outputs.insert(0, dead);
    let (capture, counters) = bench.run(sleep(60 * SECOND)).await;
    assert_eq!(capture.envelopes().len(), 60);
    assert_eq!(counters.missed_ticks.get(), 0);
    let outputs: Vec<_> = counters
        .outputs()
        .into_iter()
        .map(|(name, output)| (name, output.delivered.get()))
        .collect();
    let expected = [("dead", 0), ("stuck", 0), ("main", 60)]
        .map(|(name, delivered)| (name.to_owned(), delivered));
    assert_eq!(outputs, expected);
}

#[tokio::test(start_paused = true)]
async fn an_envelope_per_reader_has_a_stream_and_windows_of_its_own() {
    let mut bench = Bench::new()
        .count("quick", SECOND)
        .count("slow", 3 * SECOND);
    bench.pipeline.outputs[0].per_reader = true;
    let (capture, _) = bench.run(sleep(10 * SECOND + 500 * MS)).await;
    let records = capture.0.lock().unwrap();
    for reader in ["quick", "slow"] {
        let own: Vec<_> = records
            .iter()
            .filter(|record| record.envelope.sources[0].reader == reader)
            .collect();
        let numbers: Vec<_> = own.iter().map(|record| *record.range.start()).collect();
        assert_eq!(numbers, (1..=own.len() as u64).collect::<Vec<_>>());
        assert!(own[0].stream.id.starts_with(&format!("main/{reader}-")));
        for record in &own {
            assert_eq!(record.envelope.sources.len(), 1);
            let (window, source) = (record.envelope.window, record.envelope.sources[0].window);
            assert!(
                window.duration.abs_diff(source.duration) < 5 * MS,
                "{window:?} {source:?}"
            );
        }
        let envelopes: Vec<_> = own
            .iter()
            .map(|record| Arc::clone(&record.envelope))
            .collect();
        check_windows(&envelopes);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_start_knows_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let start = |logger| {
        let mut bench = Bench::new().count("a", SECOND);
        bench.pipeline.state_dir = Some(folder.path().to_owned());
        bench.pipeline.outputs = vec![output("main", bench.capture.clone(), logger)];
        bench
    };
    let (first, _) = start(SINK).run(sleep(3 * SECOND + 500 * MS)).await;
    let first = first.0.lock().unwrap();
    assert!(first.iter().all(|record| record.stream.previous.is_none()));
    let last = &first[first.len() - 1];

    // Everything of the second start is lost at its end.
    let (second, _) = start(Sink {
        delivers: false,
        ..SINK
    })
    .run(sleep(2 * SECOND + 500 * MS))
    .await;
    let second = second.0.lock().unwrap();
    let previous = second[0].stream.previous.as_ref().unwrap();
    assert_eq!(
        (&previous.id, previous.last),
        (&last.stream.id, *last.range.end())
    );
    assert_eq!(previous.stop_time, last.envelope.window.stop);
    assert_eq!(previous.gaps, []);

    let (third, _) = start(SINK).run(sleep(2 * SECOND)).await;
    let third = third.0.lock().unwrap();
    let previous = third[0].stream.previous.as_ref().unwrap();
    assert_eq!(previous.id, second[0].stream.id);
    let gaps: Vec<_> = previous
        .gaps
        .iter()
        .map(|gap| (gap.first, gap.last, gap.cause.name()))
        .collect();
    assert_eq!(gaps, [(1, previous.last, "stopped")]);
    assert!(third[1].stream.previous.is_none(), "said once");
}

#[tokio::test(start_paused = true)]
async fn stopping_before_the_first_tick_sends_nothing() {
    let bench = Bench::new().count("a", 3600 * SECOND);
    let (capture, _) = bench.run(sleep(MS)).await;
    assert_eq!(capture.envelopes().len(), 0);
}

#[test]
fn once_measures_one_window() {
    let bench_readers = |name| {
        let mut reads = 0;
        reader(
            name,
            SECOND,
            Box::new(FakeReader(move |out: &mut Snapshot| {
                reads += 5;
                out.counter(&EVENTS, None, ["a"], reads);
                out.counter(&EVENTS, None, ["same"], 1);
                Ok(())
            })),
        )
    };
    let pipeline = Pipeline {
        readers: vec![bench_readers("a"), bench_readers("b")],
        metadata: vec![MetadataSetup {
            name: "owner",
            interval: SECOND,
            reader: Box::new(Owner { reads: 0 }),
        }],
        outputs: Vec::new(),
        names: Names::new("/nowhere".into()),
        counters: Arc::default(),
        state_dir: None,
        drain_limit: Duration::ZERO,
    };
    let record = pipeline.once(20 * MS).unwrap();
    assert_eq!(record.range, 1..=1);
    let envelope = &record.envelope;
    assert!(envelope.window.duration >= 20 * MS);
    assert_eq!(envelope.metadata.sections["owner"]["reads"], 1);
    assert_eq!(envelope.sources.len(), 2);
    for source in &envelope.sources {
        assert_eq!((source.metrics.len(), value(source)), (1, Some(5)));
    }
}
