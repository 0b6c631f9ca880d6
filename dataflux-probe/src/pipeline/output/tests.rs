//! One output against transports of every kind: in the end, each number is delivered or named by a gap.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use serde_json::Value as Json;
use tokio::{sync::Notify, task::JoinHandle, time::sleep};

use super::{
    super::{
        WhenFull,
        counters::OutputCounters,
        envelope::Assembler,
        fakes::{Answer, FakeFormatter, FakeLogger, Random, Script, Wire, numbers, source},
        shape::{Entities, Shape},
        streams::{Ends, Streams},
    },
    *,
};
use crate::{
    loggers::{Limits, Logger},
    metadata::names::Names,
    model::Window,
};

mod losses;
mod pace;
mod survival;

/// An output under test, fed by ticks.
struct Bench {
    script: Script,
    assembler: Assembler,
    inbox: Arc<Inbox>,
    wire: Arc<Wire>,
    closing: watch::Sender<Option<Instant>>,
    delivery: JoinHandle<()>,
    ticks: u64,
    readers: &'static [&'static str],
    series: usize,
    /// Length of each tick's window.
    windows: Vec<Duration>,
}

struct Setup {
    per_reader: bool,
    queue_bytes: u64,
    when_full: WhenFull,
    spread: Duration,
    limits: Limits,
    series: usize,
    unformattable: fn(u64) -> bool,
    opened: bool,
    past: Ends,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            per_reader: false,
            queue_bytes: u64::MAX,
            when_full: WhenFull::Coalesce,
            spread: Duration::ZERO,
            limits: Limits {
                payload_bytes: usize::MAX,
                in_flight: 8,
                in_flight_bytes: usize::MAX,
            },
            series: 2,
            unformattable: |_| false,
            opened: true,
            past: Ends::new(),
        }
    }
}

impl Bench {
    fn new(setup: Setup, answer: impl FnMut(&Json) -> Answer + Send + 'static) -> Self {
        let wire = Arc::<Wire>::default();
        let logger = FakeLogger {
            wire: Arc::clone(&wire),
            limits: setup.limits,
            answer,
        };
        Self::with(setup, wire, logger)
    }

    fn with(setup: Setup, wire: Arc<Wire>, logger: impl Logger + 'static) -> Self {
        let script = Script::new();
        let output = crate::pipeline::Output {
            name: "out".to_owned(),
            formatter: Box::new(FakeFormatter {
                fails: setup.unformattable,
            }),
            logger: Box::new(logger),
            opened: setup.opened,
            shape: Arc::new(Shape {
                per_reader: setup.per_reader,
                ..Shape::default()
            }),
            entities: Entities::Both,
            totals: false,
            resolution: None,
            queue_bytes: setup.queue_bytes,
            when_full: setup.when_full,
            spread: setup.spread,
            spool: None,
            dead_letter_bytes: None,
        };
        let inbox = Arc::new(Inbox::new(
            &output,
            Streams::new("out".to_owned(), 0xfeed, &setup.past),
            Arc::new(Notify::new()),
            Arc::new(OutputCounters::default()),
            false,
        ));
        let (closing, closed) = watch::channel(None);
        let delivery = Delivery::new(output, Arc::clone(&inbox), script.clock());
        let mut assembler = Assembler::new(Names::new("/nowhere".into()));
        assembler.start(script.now());
        Self {
            assembler,
            inbox,
            wire,
            closing,
            delivery: tokio::spawn(delivery.run(closed)),
            ticks: 0,
            readers: &["alpha", "beta"],
            series: setup.series,
            windows: Vec::new(),
            script,
        }
    }

    /// Number n of each stream has n in each of its series.
    fn tick(&mut self) {
        self.ticks += 1;
        let values = vec![self.ticks; self.series];
        let with = |&reader: &&'static str| source(reader, Window::default(), &values);
        let sources = self.readers.iter().map(with).collect();
        let mut tick = self
            .assembler
            .assemble(self.script.now(), Arc::default(), sources);
        self.windows
            .push(tick.shape(&Arc::default())[0].envelope.window.duration);
        self.inbox.accept(&mut tick);
    }

    async fn tick_after(&mut self, time: Duration) {
        sleep(time).await;
        self.tick();
    }

    async fn close(&mut self, limit: Duration) {
        self.closing.send_replace(Some(Instant::now() + limit));
        (&mut self.delivery).await.unwrap();
    }

    /// Nothing is missing, and what is there adds up.
    fn check(&self) {
        let ends = self.inbox.ends();
        let consumer = self.wire.consumer.lock().unwrap();
        for previous in ends.values().map(|end| &end.stream) {
            assert_eq!(previous.last, self.ticks);
            let gaps = serde_json::to_value(&previous.gaps).unwrap();
            let at_the_end: BTreeSet<u64> = numbers(&gaps).collect();
            let Some(stream) = consumer.streams.get(&*previous.id) else {
                assert_eq!(at_the_end.len() as u64, self.ticks, "nothing came through");
                continue;
            };
            assert_eq!(
                stream.missing(self.ticks, &at_the_end),
                [0; 0],
                "{previous:?}"
            );
            let of_a_tick = if previous.id.contains('/') {
                1
            } else {
                self.readers.len()
            };
            for (&(first, last), &(sum, window)) in &stream.ranges {
                let expected: u64 = (first..=last).sum();
                assert_eq!(
                    sum,
                    expected * (of_a_tick * self.series) as u64,
                    "{first}..{last}"
                );
                let windows = &self.windows[first as usize - 1..last as usize];
                let whole: Duration = windows.iter().sum();
                assert_eq!(u128::from(window), whole.as_nanos(), "{first}..{last}");
            }
        }
    }

    /// The numbers lost for good and told so, of the only stream.
    fn told_lost(&self) -> Vec<u64> {
        let consumer = self.wire.consumer.lock().unwrap();
        let streams = consumer.streams.values();
        streams
            .flat_map(|stream| stream.lost.iter().copied())
            .collect()
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        let consumer = self.wire.consumer.lock().unwrap();
        let streams = consumer.streams.values();
        streams
            .flat_map(|stream| stream.ranges.keys().copied())
            .collect()
    }

    /// First numbers of all attempts, in order.
    fn attempts(&self) -> Vec<u64> {
        let attempts = self.wire.attempts.lock().unwrap();
        attempts
            .iter()
            .map(|(_, text)| text["first"].as_u64().unwrap())
            .collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn everything_arrives_in_order_at_a_healthy_transport() {
    let mut bench = Bench::new(Setup::default(), |_| Answer::OK);
    for _ in 0..20 {
        bench.tick_after(SECOND).await;
    }
    bench.close(SECOND).await;
    bench.check();
    assert_eq!(bench.attempts(), (1..=20).collect::<Vec<_>>());
    assert_eq!(bench.inbox.counters.delivered.get(), 20);
    assert_eq!(bench.inbox.counters.queue_bytes.get(), 0);
    assert_eq!(bench.wire.closed.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_transport_is_tried_again_without_end_and_less_and_less_often() {
    let start = Instant::now();
    let mut bench = Bench::new(Setup::default(), move |_| {
        if start.elapsed() < 3600 * SECOND {
            Answer::retry()
        } else {
            Answer::OK
        }
    });
    for _ in 0..360 {
        bench.tick_after(10 * SECOND).await;
    }
    let attempts = bench.attempts().len();
    assert!(
        (120..=260).contains(&attempts),
        "{attempts} attempts in an hour"
    );
    sleep(40 * SECOND).await;
    assert_eq!(bench.inbox.left(), 0, "heals by itself");
    bench.check();
    assert_eq!(bench.told_lost(), [0; 0]);
    assert_eq!(bench.inbox.counters.retries.get() as usize, attempts);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_drains_with_many_in_flight_and_a_failure_settles_first() {
    let mut calls = 0;
    let mut bench = Bench::new(Setup::default(), move |_| {
        calls += 1;
        let answer = if calls == 2 {
            Answer::retry()
        } else {
            Answer::OK
        };
        Answer {
            after: Duration::from_millis(50),
            ..answer
        }
    });
    for _ in 0..30 {
        bench.tick();
    }
    bench.close(100 * SECOND).await;
    bench.check();
    assert_eq!(bench.wire.most_in_flight.load(Ordering::Relaxed), 8);
    let attempts = bench.attempts();
    // 1 proves the transport; 2 to 5 are in flight when 2 fails; nothing new is handed over before 2 has proved it again.
    assert_eq!(attempts[..5], [1, 2, 3, 4, 5]);
    assert_eq!(attempts[5..8], [2, 6, 7]);
    assert_eq!(attempts.len(), 31);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_one_payload_proves_the_transport() {
    let away = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let mut bench = Bench::new(Setup::default(), move |_| {
        let answer = if is_away.load(Ordering::Relaxed) {
            Answer::retry()
        } else {
            Answer::OK
        };
        Answer {
            after: SECOND / 2,
            ..answer
        }
    });
    bench.tick_after(SECOND).await;
    bench.tick_after(SECOND).await;
    sleep(SECOND).await;
    away.store(true, Ordering::Relaxed);
    bench.tick();
    sleep(SECOND / 4).await;
    // Number 4 is handed over before 3 fails, 5 while 4 has not settled: it has to wait.
    bench.tick();
    sleep(3 * SECOND / 8).await;
    assert_eq!(bench.attempts(), [1, 2, 3, 4]);
    bench.tick();
    yield_now().await;
    assert_eq!(bench.attempts(), [1, 2, 3, 4]);
    bench.wire.most_in_flight.store(0, Ordering::Relaxed);
    for _ in 0..10 {
        bench.tick_after(SECOND).await;
    }
    assert_eq!(bench.wire.most_in_flight.load(Ordering::Relaxed), 1);
    assert!(bench.attempts()[4..].iter().all(|&number| number == 3));
    away.store(false, Ordering::Relaxed);
    bench.close(100 * SECOND).await;
    bench.check();
    assert_eq!(bench.ranges().len(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_transport_is_a_failure_to_repeat() {
    let mut calls = 0;
    let mut bench = Bench::new(Setup::default(), move |_| {
        calls += 1;
        assert!(calls != 1, "the first call panics");
        Answer::OK
    });
    bench.tick();
    bench.close(10 * SECOND).await;
    bench.check();
    assert_eq!(bench.ranges(), [(1, 1)]);
}

/// Opens at the third attempt.
struct Shy<L> {
    inner: L,
    opens: u32,
}

impl<L: Logger> Logger for Shy<L> {
    fn open(&mut self) -> Result<(), SendError> {
        self.opens += 1;
        if self.opens < 3 {
            return Err(SendError::Retry(anyhow::anyhow!("not yet")));
        }
        Ok(())
    }

    fn send(&mut self, payload: Payload) -> crate::loggers::Acknowledgement {
        assert!(self.opens >= 3, "is not open");
        self.inner.send(payload)
    }
}

#[tokio::test(start_paused = true)]
async fn a_logger_that_did_not_open_is_opened_later() {
    let setup = Setup {
        opened: false,
        ..Setup::default()
    };
    let wire = Arc::<Wire>::default();
    let shy = Shy {
        opens: 0,
        inner: FakeLogger {
            wire: Arc::clone(&wire),
            limits: setup.limits,
            answer: |_: &Json| Answer::OK,
        },
    };
    let mut bench = Bench::with(setup, wire, shy);
    bench.tick();
    bench.close(10 * SECOND).await;
    assert_eq!(bench.ranges(), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_at_its_limit_and_names_what_is_left() {
    let mut bench = Bench::new(Setup::default(), |_| Answer {
        after: 3600 * SECOND,
        ..Answer::OK
    });
    for _ in 0..3 {
        bench.tick_after(SECOND).await;
    }
    let before = Instant::now();
    bench.close(5 * SECOND).await;
    assert!(before.elapsed() <= 6 * SECOND);
    assert_eq!(bench.wire.closed.load(Ordering::Relaxed), 1);
    let ends = bench.inbox.ends();
    let gaps = &ends["out"].stream.gaps;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(
        (gaps[0].first, gaps[0].last, gaps[0].cause),
        (1, 3, Cause::Stopped)
    );
}
