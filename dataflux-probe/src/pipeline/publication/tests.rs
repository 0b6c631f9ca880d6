//! Hand-over of totals: always all of them, in every media type, and never waited for.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::sleep;

use super::*;
use crate::{
    health::Pulse,
    loggers::{Acknowledgement, Limits, Logger, Serving},
    metadata::names::Names,
    model::WallTime,
    pipeline::{
        self, WhenFull,
        envelope::Assembler,
        fakes::{Script, source},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// Writes the media type and the totals of the one counter.
struct Kind(&'static str);

impl Formatter for Kind {
    fn content_type(&self) -> &'static str {
        self.0
    }

    fn writes_totals(&self) -> bool {
        true
    }

    fn alternatives(&self) -> Vec<Box<dyn Formatter>> {
        vec![Box::new(Kind("second"))]
    }

    fn format(&self, record: &Numbered, _: WallTime, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let range = &record.range;
        let values = &record.envelope.sources[0].metrics[0].value;
        out.extend(format!("{} {range:?} {values:?}", self.0).bytes());
        Ok(())
    }
}

/// What arrived, and how it answers.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<String>>>,
    fetched: bool,
    /// So many times it cannot be opened, and so many sends fail.
    refusals: Arc<AtomicUsize>,
    failures: Arc<AtomicUsize>,
    hangs: bool,
}

impl Receiver {
    fn got(&self) -> Vec<String> {
        std::mem::take(&mut self.got.lock().unwrap())
    }
}

fn one_less(left: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

impl Logger for Receiver {
    fn open(&mut self) -> Result<(), SendError> {
        match one_less(&self.refusals) {
            true => Err(SendError::Retry(anyhow::anyhow!("the port is taken"))),
            false => Ok(()),
        }
    }

    fn send(&mut self, payload: Payload) -> Acknowledgement {
        let text = String::from_utf8(payload.bytes.to_vec()).unwrap();
        let fails = one_less(&self.failures);
        if !fails {
            self.got.lock().unwrap().push(text);
        }
        let hangs = self.hangs;
        Box::pin(async move {
            match fails {
                true => Err(SendError::Retry(anyhow::anyhow!("away"))),
                false if hangs => std::future::pending().await,
                false => Ok(()),
            }
        })
    }

    fn limits(&self) -> Limits {
        Limits::ONE_AT_A_TIME
    }

    fn is_fetched(&self) -> bool {
        self.fetched
    }

    fn serve(&mut self, _: watch::Receiver<Beat>) -> Option<Serving> {
        self.got.lock().unwrap().push("serving".to_owned());
        Some(Box::pin(std::future::pending()))
    }
}

/// An output at work.
struct Bench {
    publication: Arc<Publication>,
    closing: watch::Sender<Option<Instant>>,
    task: tokio::task::JoinHandle<()>,
    assembler: Assembler,
    script: Script,
    total: u64,
}

impl Bench {
    fn start(receiver: &Receiver, opened: bool) -> Self {
        let output = pipeline::Output {
            name: "scraped".into(),
            formatter: Box::new(Kind("first")),
            logger: Box::new(receiver.clone()),
            opened,
            shape: Arc::default(),
            entities: Entities::default(),
            totals: true,
            resolution: None,
            queue_bytes: 1 << 20,
            when_full: WhenFull::default(),
            spread: Duration::ZERO,
            spool: None,
            dead_letter_bytes: None,
        };
        let script = Script::new();
        let publication = Arc::new(Publication::new(&output, 7, Arc::default()));
        let (closing, closed) = watch::channel(None);
        let publisher = Publisher::new(
            output,
            Arc::clone(&publication),
            script.clock(),
            Pulse::default().watch(),
        );
        let mut assembler = Assembler::new(Names::new("/nowhere".into()));
        assembler.start(script.now());
        Self {
            publication,
            closing,
            task: tokio::spawn(publisher.run(closed)),
            assembler,
            script,
            total: 0,
        }
    }

    /// One event more.
    async fn tick(&mut self) {
        sleep(SECOND).await;
        self.total += 1;
        let mut read = source("fake", crate::model::Window::default(), &[1]);
        if let crate::model::Value::Counter { total, .. } = &mut read.metrics[0].value {
            *total = self.total;
        }
        let mut tick = self
            .assembler
            .assemble(self.script.now(), Arc::default(), vec![read]);
        self.publication.accept(&mut tick);
        sleep(SECOND / 100).await;
    }

    async fn stop(self) {
        self.closing.send_replace(Some(Instant::now() + SECOND));
        self.task.await.unwrap();
    }
}

fn record(kind: &str, ticks: u64) -> String {
    format!("{kind} 1..={ticks} Counter {{ value: Some({ticks}), total: {ticks} }}")
}

#[tokio::test(start_paused = true)]
async fn every_tick_hands_all_totals_over_in_every_media_type() {
    let receiver = Receiver {
        fetched: true,
        ..Receiver::default()
    };
    let mut bench = Bench::start(&receiver, true);
    bench.tick().await;
    assert_eq!(
        receiver.got(),
        ["serving", &record("first", 1), &record("second", 1)]
    );
    bench.tick().await;
    assert_eq!(receiver.got(), [record("first", 2), record("second", 2)]);
    assert_eq!(bench.publication.counters.delivered.get(), 4);
    bench.stop().await;
    assert!(receiver.got().is_empty(), "nothing came since");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_choose_gets_one_media_type_and_what_came_last_at_the_end() {
    let receiver = Receiver::default();
    let mut bench = Bench::start(&receiver, true);
    bench.tick().await;
    assert_eq!(receiver.got(), ["serving", &record("first", 1)]);
    receiver.failures.store(1, Ordering::Relaxed);
    bench.tick().await;
    assert!(receiver.got().is_empty());
    bench.stop().await;
    assert_eq!(receiver.got(), [record("first", 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_loses_nothing_because_the_next_totals_hold_it() {
    let receiver = Receiver::default();
    receiver.failures.store(2, Ordering::Relaxed);
    let mut bench = Bench::start(&receiver, true);
    for _ in 0..3 {
        bench.tick().await;
    }
    assert_eq!(receiver.got(), ["serving", &record("first", 3)]);
    assert_eq!(bench.publication.counters.retries.get(), 2);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_logger_that_does_not_open_is_tried_again_with_the_next_tick() {
    let receiver = Receiver::default();
    receiver.refusals.store(1, Ordering::Relaxed);
    let mut bench = Bench::start(&receiver, false);
    while receiver.got.lock().unwrap().is_empty() {
        bench.tick().await;
        assert!(bench.total < 100, "never opened");
    }
    bench.tick().await;
    let got = receiver.got();
    assert_eq!(got[0], "serving");
    assert_eq!(got.last(), Some(&record("first", bench.total)));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_holds_up_no_tick_and_not_the_end() {
    let receiver = Receiver {
        hangs: true,
        ..Receiver::default()
    };
    let mut bench = Bench::start(&receiver, true);
    for _ in 0..5 {
        bench.tick().await;
    }
    assert_eq!(receiver.got(), ["serving", &record("first", 1)]);
    bench.stop().await;
}
