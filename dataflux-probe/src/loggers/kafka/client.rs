//! The producer and its thread, which does everything that may block: making, polling and ending it.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use rdkafka::{
    config::FromClientConfigAndContext as _,
    producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig},
};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Acknowledgement, SendError,
    bell::Bell,
    config::Settings,
    events::{Events, Handed},
    routing::Message,
};
use crate::pipeline::counters::KafkaCounters;

pub(super) type Producer = BaseProducer<Events>;

/// How long the thread waits for events before it looks whether it is to do something else.
const TURN: Duration = Duration::from_millis(200);

/// With more payloads in flight than this and an idempotent producer, librdkafka (2.0 to 2.16) burns a core until the next
/// delivery report.
const CALM: usize = 4;

/// A delivery report is late after this, or after four times what the last one took, whichever is longer.
const LATE: Duration = Duration::from_millis(500);

/// Longest wait for a delivery report with more than a few in flight.
const LATEST: Duration = Duration::from_secs(10);

/// A producer that has had no delivery report for this long, though a broker is connected, is replaced: librdkafka (2.12 to
/// 2.14 at least) never sends to a partition again that it was once told to have no leader. Twice as long after each
/// producer that had none at all.
const STUCK: Duration = Duration::from_secs(20);

/// Longest wait of that kind.
const LONGEST_STUCK: Duration = Duration::from_secs(120);

/// How often files with secrets are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How long a purge may take to give its reports.
const PURGE: Duration = Duration::from_millis(300);

/// How long closing waits for a producer to end.
const END: Duration = Duration::from_millis(150);

/// The logger's side of the producer.
pub(super) struct Client {
    shared: Arc<Shared>,
    began: bool,
}

/// What both sides know.
struct Shared {
    settings: Arc<Settings>,
    counters: Arc<KafkaCounters>,
    state: Mutex<State>,
    wake: Condvar,
    /// Largest batch; smaller after a broker refused one.
    batch_bytes: AtomicUsize,
}

#[derive(Default)]
struct State {
    producer: Option<Arc<Producer>>,
    /// Handed over while there is no producer, in order.
    waiting: Vec<(Message, Handed)>,
    closing: Option<Closing>,
}

/// The end is asked for.
#[derive(Default)]
struct Closing {
    closed: Option<oneshot::Sender<()>>,
}

impl Client {
    /// Starts nothing.
    pub(super) fn new(settings: Arc<Settings>, counters: Arc<KafkaCounters>) -> Self {
        let shared = Shared {
            batch_bytes: AtomicUsize::new(settings.batch_bytes),
            settings,
            counters,
            state: Mutex::default(),
            wake: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            began: false,
        }
    }

    /// Hands a message over. Never blocks.
    pub(super) fn send(&mut self, message: Message) -> Acknowledgement {
        if let Err(error) = self.begin() {
            return Box::pin(ready(Err(SendError::Retry(error))));
        }
        let (answer, result) = oneshot::channel();
        let size = message.bytes.len() + message.key.as_ref().map_or(0, String::len);
        let handed = Handed {
            answer,
            size,
            at: Instant::now(),
        };
        self.shared.hand_over(message, handed);
        Box::pin(async {
            let gone = || Err(SendError::Retry(anyhow!("the producer is gone")));
            result.await.unwrap_or_else(|_| gone())
        })
    }

    /// Gives what is in flight the time that the configuration grants, then ends the producer. Takes less than a second more.
    pub(super) fn close(&mut self) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
        if !self.began {
            return Box::pin(ready(Ok(())));
        }
        let (closed, done) = oneshot::channel();
        let limit = self.shared.settings.flush_timeout + TURN + PURGE + END;
        self.shared.close(Some(closed));
        Box::pin(async move {
            // Without an answer librdkafka hangs, in a resolver for example; the process ends without it.
            timeout(limit, done)
                .await
                .map(drop)
                .context("librdkafka does not end")
        })
    }

    /// The thread begins with the first message, so that it has no privilege that was given up before.
    fn begin(&mut self) -> anyhow::Result<()> {
        if !self.began {
            let shared = Arc::clone(&self.shared);
            thread::Builder::new()
                .name("kafka".to_owned())
                .spawn(move || shared.run())
                .context("starting the thread of the producer")?;
            self.began = true;
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.close(None);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, closed: Option<oneshot::Sender<()>>) {
        self.lock().closing.get_or_insert_default().closed = closed;
        self.wake.notify_one();
    }

    fn hand_over(&self, message: Message, handed: Handed) {
        let mut state = self.lock();
        match &state.producer {
            // One that failed is replaced as soon as all that it has has settled, which the pipeline waits for, too.
            Some(producer) if !producer.context().failed.load(Ordering::Acquire) => {
                produce(producer, message, handed);
            }
            _ => {
                state.waiting.push((message, handed));
                self.wake.notify_one();
            }
        }
    }

    /// The thread.
    fn run(&self) {
        let mut patience = STUCK;
        while self.wait_for_work() {
            match self.make() {
                Ok(producer) => {
                    self.install(&producer);
                    self.serve(&producer, patience);
                    patience = if producer.context().has_delivered() {
                        STUCK
                    } else {
                        LONGEST_STUCK.min(2 * patience)
                    };
                    self.lock().producer = None;
                    self.retire(producer);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    for (_, handed) in self.take_waiting() {
                        let error = SendError::Retry(anyhow!("{error}"));
                        handed.answer.send(Err(error)).ok();
                    }
                }
            }
        }
        let closed = self
            .lock()
            .closing
            .take()
            .and_then(|closing| closing.closed);
        if let Some(closed) = closed {
            closed.send(()).ok();
        }
    }

    /// `false` when it is to end.
    fn wait_for_work(&self) -> bool {
        let state = self.lock();
        let idle = |state: &mut State| state.waiting.is_empty() && state.closing.is_none();
        let state = self
            .wake
            .wait_while(state, idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.closing.is_none()
    }

    fn make(&self) -> anyhow::Result<Arc<Producer>> {
        let secrets = self.settings.security.read()?;
        let mut client = self.settings.client(&secrets)?;
        let batch_bytes = self.batch_bytes.load(Ordering::Relaxed);
        client.set("batch.size", batch_bytes.to_string());
        let events = Events::new(
            Arc::clone(&self.settings),
            Arc::clone(&self.counters),
            secrets.clone(),
            batch_bytes,
        );
        let producer = Producer::from_config_and_context(&client, events);
        self.counters.producers.add(1);
        producer
            .map(Arc::new)
            .map_err(|error| anyhow!("{}", secrets.hide(&error.to_string())))
            .context("making a producer")
    }

    /// From now on messages go to this producer, those that waited first.
    fn install(&self, producer: &Arc<Producer>) {
        let mut state = self.lock();
        for (message, handed) in std::mem::take(&mut state.waiting) {
            produce(producer, message, handed);
        }
        state.producer = Some(Arc::clone(producer));
    }

    fn take_waiting(&self) -> Vec<(Message, Handed)> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Polls until the producer is to end, for whatever reason.
    fn serve(&self, producer: &Producer, patience: Duration) {
        let events = producer.context();
        let security = &self.settings.security;
        let (looks, mut looked) = (security.look(), Instant::now());
        let (mut changed, mut connected) = (false, None::<Instant>);
        let bell = Bell::new(producer).inspect_err(|error| {
            let output = &self.settings.output;
            tracing::warn!(
                output,
                "kafka: polling, which takes more of the CPU: {error}"
            );
        });
        loop {
            match &bell {
                Ok(bell) => bell.serve(TURN),
                Err(_) => producer.poll(TURN),
            }
            if self.lock().closing.is_some() {
                self.flush(producer);
                return;
            }
            let idle = events.in_flight() == 0;
            let failed = events.failed.load(Ordering::Acquire);
            if events.too_large.swap(false, Ordering::Relaxed) {
                self.batch_bytes
                    .store((events.batch_bytes / 2).max(1), Ordering::Relaxed);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                changed = changed || security.look() != looks;
            }
            let refused = events.refused.load(Ordering::Relaxed);
            connected = if self.is_connected() {
                connected.or_else(|| Some(Instant::now()))
            } else {
                None
            };
            let connected_for = connected.map_or(Duration::ZERO, |since| since.elapsed());
            let over = events.fatal.load(Ordering::Relaxed)
                || (idle && (failed || changed))
                || (changed && refused)
                || is_stalled(events)
                || connected_for.min(events.silence().0) > patience;
            if over {
                return;
            }
        }
    }

    /// Whether librdkafka's last statistics have a broker with a connection that works.
    fn is_connected(&self) -> bool {
        self.counters.brokers().iter().any(|broker| broker.up)
    }

    /// Gives what is in flight a last chance, unless there was no delivery report for as long already.
    fn flush(&self, producer: &Producer) {
        let events = producer.context();
        let (begin, limit) = (Instant::now(), self.settings.flush_timeout);
        while events.in_flight() > 0 && begin.elapsed() < limit && events.silence().0 < limit {
            producer.poll(Duration::from_millis(10));
        }
    }

    /// Takes back what is in flight and ends the producer, on a thread of its own: it may hang.
    fn retire(&self, producer: Arc<Producer>) {
        producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
        let begin = Instant::now();
        while producer.context().in_flight() > 0 && begin.elapsed() < PURGE {
            producer.poll(Duration::from_millis(10));
        }
        let (ended, end) = mpsc::channel();
        let ending = thread::Builder::new()
            .name("kafka-end".to_owned())
            .spawn(move || {
                drop(producer);
                ended.send(()).ok();
            });
        if ending.is_ok() && self.lock().closing.is_some() {
            end.recv_timeout(END).ok();
        }
    }
}

fn is_stalled(events: &Events) -> bool {
    let (silence, latency) = events.silence();
    events.in_flight() > CALM && silence > (4 * latency).clamp(LATE, LATEST)
}

fn produce(producer: &Producer, message: Message, handed: Handed) {
    let mut record = BaseRecord::<str, [u8], _>::with_opaque_to(&message.topic, Box::new(handed))
        .payload(&*message.bytes)
        .headers(message.headers);
    record.key = message.key.as_deref();
    let events = producer.context();
    events.handing();
    if let Err((error, record)) = producer.send(record) {
        events.settle(*record.delivery_opaque, Err((error, &message.topic)));
    }
}
