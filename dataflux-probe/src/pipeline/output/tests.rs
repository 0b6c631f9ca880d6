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
        streams::{Ends, Streams},
    },
    *,
};
use crate::{loggers::Limits, metadata::names::Names, model::Window};

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
            limits: Limits {
                payload_bytes: usize::MAX,
                in_flight: 8,
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
        let script = Script::new();
        let wire = Arc::<Wire>::default();
        let output = crate::pipeline::Output {
            name: "out".to_owned(),
            formatter: Box::new(FakeFormatter {
                fails: setup.unformattable,
            }),
            logger: Box::new(FakeLogger {
                wire: Arc::clone(&wire),
                limits: setup.limits,
                answer,
            }),
            opened: setup.opened,
            per_reader: setup.per_reader,
            keep_zeros: false,
            queue_bytes: setup.queue_bytes,
            when_full: setup.when_full,
        };
        let inbox = Arc::new(Inbox::new(
            &output,
            Streams::new("out".to_owned(), 0xfeed, setup.past),
            Arc::new(Notify::new()),
            Arc::new(OutputCounters::default()),
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
            .push(tick.shape(false, true)[0].envelope.window.duration);
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
        for previous in ends.values() {
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
async fn while_nothing_is_acknowledged_only_a_few_are_handed_over() {
    let slow = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let mut bench = Bench::new(Setup::default(), move |_| Answer {
        after: if is_slow.load(Ordering::Relaxed) {
            100 * SECOND
        } else {
            Duration::ZERO
        },
        ..Answer::OK
    });
    bench.tick_after(SECOND).await;
    bench.tick_after(SECOND).await;
    slow.store(true, Ordering::Relaxed);
    for _ in 0..20 {
        bench.tick_after(SECOND).await;
    }
    assert_eq!(bench.wire.most_in_flight.load(Ordering::Relaxed), FEW);
    bench.close(1000 * SECOND).await;
    bench.check();
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
    // 1 proves the transport; 2 to 9 are in flight when 2 fails; nothing new is handed over before 2 has proved it again.
    assert_eq!(attempts[..9], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(attempts[9..12], [2, 10, 11]);
    assert_eq!(attempts.len(), 31);
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_or_cannot_be_formatted_is_a_gap_of_the_next_envelope() {
    let setup = Setup {
        unformattable: |number| number == 5,
        ..Setup::default()
    };
    let mut bench = Bench::new(setup, |text| {
        if text["first"] == 3 || text["first"] == 4 {
            Answer::reject()
        } else {
            Answer::OK
        }
    });
    for _ in 0..6 {
        bench.tick_after(SECOND).await;
    }
    bench.close(SECOND).await;
    bench.check();
    assert_eq!(bench.told_lost(), [3, 4, 5]);
    let counters = &bench.inbox.counters;
    assert_eq!(
        (
            counters.lost_rejected.get(),
            counters.lost_unformattable.get()
        ),
        (2, 1)
    );
    let attempts = bench.wire.attempts.lock().unwrap();
    let last = &attempts.last().unwrap().1;
    assert_eq!(
        last["gaps"].to_string(),
        r#"[{"cause":"rejected","first":3,"last":4},{"cause":"unformattable","first":5,"last":5}]"#
    );
}

#[tokio::test(start_paused = true)]
async fn gaps_and_the_past_stay_with_an_envelope_on_repeats_and_go_on_if_it_is_lost() {
    let past = r#"{"out": {"id": "out-before", "last": 9, "stop_time": 7, "gaps": []}}"#;
    let setup = Setup {
        past: serde_json::from_str(past).unwrap(),
        ..Setup::default()
    };
    let mut calls = 0;
    let mut bench = Bench::new(setup, move |_| {
        calls += 1;
        match calls {
            1 => Answer::reject(), // number 1
            2 => Answer::retry(),  // number 2
            3 => Answer::reject(), // number 2 again
            _ => Answer::OK,
        }
    });
    for _ in 0..3 {
        bench.tick_after(SECOND).await;
    }
    bench.close(SECOND).await;
    bench.check();
    let attempts = bench.wire.attempts.lock().unwrap();
    let gaps: Vec<Vec<u64>> = attempts
        .iter()
        .map(|(_, text)| numbers(&text["gaps"]).collect())
        .collect();
    assert_eq!(gaps, [vec![], vec![1], vec![1], vec![1, 2]]);
    for (_, text) in &*attempts {
        assert_eq!(text["previous"]["id"], "out-before");
    }
}

#[tokio::test(start_paused = true)]
async fn too_large_envelopes_are_split_by_source_and_series() {
    let setup = Setup {
        series: 40,
        limits: Limits {
            payload_bytes: 1500,
            in_flight: 3,
        },
        ..Setup::default()
    };
    // The limit it states is not all: it refuses more.
    let mut bench = Bench::new(setup, |text| {
        if text["series"].as_str().unwrap().len() > 600 {
            Answer {
                arrives: false,
                after: SECOND,
                result: Err(SendError::TooLarge),
            }
        } else {
            Answer::OK
        }
    });
    for _ in 0..4 {
        bench.tick_after(SECOND).await;
    }
    bench.close(1000 * SECOND).await;
    bench.check();
    assert_eq!(bench.ranges(), [(1, 1), (2, 2), (3, 3), (4, 4)]);
    assert_eq!(bench.told_lost(), [0; 0]);
    let attempts = bench.wire.attempts.lock().unwrap();
    assert!(
        attempts
            .iter()
            .all(|(_, text)| text.to_string().len() <= 1500)
    );
    assert!(bench.wire.most_in_flight.load(Ordering::Relaxed) <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_single_series_that_is_too_large_is_rejected() {
    let setup = Setup {
        limits: Limits {
            payload_bytes: 150,
            in_flight: 1,
        },
        ..Setup::default()
    };
    let mut bench = Bench::new(setup, |_| Answer::OK);
    bench.tick();
    bench.close(SECOND).await;
    assert_eq!(bench.attempts(), [0; 0]);
    assert_eq!(bench.inbox.counters.lost_rejected.get(), 1);
    bench.check();
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
    let mut bench = Bench::new(setup, |_| Answer::OK);
    bench.delivery.abort();
    let (closing, closed) = watch::channel(None);
    bench.closing = closing;
    let output = crate::pipeline::Output {
        name: "out".to_owned(),
        formatter: Box::new(FakeFormatter { fails: |_| false }),
        logger: Box::new(Shy {
            opens: 0,
            inner: FakeLogger {
                wire: Arc::clone(&bench.wire),
                limits: Limits::ONE_AT_A_TIME,
                answer: |_: &Json| Answer::OK,
            },
        }),
        opened: false,
        per_reader: false,
        keep_zeros: false,
        queue_bytes: u64::MAX,
        when_full: WhenFull::Coalesce,
    };
    let delivery = Delivery::new(output, Arc::clone(&bench.inbox), bench.script.clock());
    bench.delivery = tokio::spawn(delivery.run(closed));
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
    let gaps = &ends["out"].gaps;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(
        (gaps[0].first, gaps[0].last, gaps[0].cause),
        (1, 3, Cause::Stopped)
    );
}

/// A transport with good and bad times, by seed.
fn moody(mut random: Random) -> impl FnMut(&Json) -> Answer + Send {
    let mut mood = 0;
    move |text| {
        if random.percent(10) {
            mood = random.below(6);
        }
        let after = Duration::from_millis(match random.below(4) {
            0 => 0,
            1 => random.below(50),
            _ => random.below(3000),
        });
        let series = text["series"].as_str().unwrap().len();
        let mut answer = match mood {
            // Away, now and then after it took the payload.
            0 | 1 => Answer {
                arrives: random.percent(20),
                ..Answer::retry()
            },
            2 if random.percent(30) => Answer::reject(),
            3 if series > 300 => Answer {
                result: Err(SendError::TooLarge),
                ..Answer::reject()
            },
            4 if random.percent(20) => Answer::retry(),
            _ => Answer::OK,
        };
        answer.after = after;
        answer
    }
}

async fn survive(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let limits = Limits {
        payload_bytes: [usize::MAX, 900][random.below(2) as usize],
        in_flight: 1 + random.below(8) as usize,
    };
    let setup = Setup {
        per_reader: random.percent(30),
        queue_bytes: [5_000, 20_000, u64::MAX][random.below(3) as usize],
        when_full: [
            WhenFull::Coalesce,
            WhenFull::DropOldest,
            WhenFull::DropNewest,
        ][random.below(3) as usize],
        limits,
        series: 1 + random.below(6) as usize,
        unformattable: |number| number % 17 == 16,
        ..Setup::default()
    };
    let (bound, per_reader) = (setup.queue_bytes, setup.per_reader);
    let moods = Random(random.below(u64::MAX - 1) + 1);
    let mut bench = Bench::new(setup, moody(moods));
    let heaviest = 5_000;
    for _ in 0..random.below(120) {
        let pause = if random.percent(80) {
            random.below(500)
        } else {
            random.below(20_000)
        };
        bench.tick_after(Duration::from_millis(pause)).await;
        let bytes = bench.inbox.counters.queue_bytes.get();
        let streams = if per_reader { 2 } else { 1 };
        assert!(
            bytes <= bound.saturating_add(streams * heaviest),
            "{bytes} bytes"
        );
    }
    let limit = if random.percent(50) {
        20 * 3600 * SECOND
    } else {
        random.below(5) as u32 * SECOND
    };
    bench.close(limit).await;
    assert!(bench.wire.most_in_flight.load(Ordering::Relaxed) <= limits.in_flight);
    check_first_attempts(&bench);
    bench.check();
    assert!(
        limit < 3600 * SECOND || bench.inbox.left() == 0,
        "drained in the end"
    );
}

/// First attempts of a stream leave in order, and a number that was handed over once never appears in another range.
fn check_first_attempts(bench: &Bench) {
    let attempts = bench.wire.attempts.lock().unwrap();
    let mut ranges: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
    for (_, text) in &*attempts {
        let ranges = ranges.entry(text["id"].as_str().unwrap()).or_default();
        let range = (
            text["first"].as_u64().unwrap(),
            text["last"].as_u64().unwrap(),
        );
        if !ranges.contains(&range) {
            let newest = ranges.last().map_or(0, |&(_, last)| last);
            assert!(range.0 > newest, "{range:?} after {ranges:?}");
            ranges.push(range);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_number_goes_missing_whatever_the_transport_does() {
    for seed in 1..=300 {
        survive(seed).await;
    }
}
