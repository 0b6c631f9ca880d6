//! An output that tells totals: every tick adds to them, and what is formatted and handed over is always all of them.
//!
//! So there is no queue, no spool and no number to acknowledge: what was not delivered is in what comes next.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::{JoinError, JoinSet, spawn_blocking, yield_now},
    time::{Instant, timeout_at},
};

use super::{
    clock::Clock,
    counters::OutputCounters,
    envelope::Tick,
    output::{Opened, Place, opening},
    shape::{Entities, Shape},
    sweep::without_panic,
    totals::Totals,
};
use crate::{
    formatters::Formatter,
    health::Beat,
    loggers::{Payload, SendError},
    model::{Cause, Numbered, Part, Stream},
};

/// A logger has at least this long to close.
const CLOSING: Duration = Duration::from_secs(1);

/// The totals of one output, between the ticks, which add to them, and the task that hands them over.
pub(super) struct Publication {
    name: String,
    shape: Arc<Shape>,
    entities: Entities,
    stream: Arc<Stream>,
    totals: Mutex<Totals>,
    /// There is something new to hand over.
    changed: Notify,
    /// The logger is to open its files anew.
    pub(super) reopen: Notify,
    counters: Arc<OutputCounters>,
}

impl Publication {
    /// `start` is the random id of this start of the probe.
    pub(super) fn new(output: &super::Output, start: u64, counters: Arc<OutputCounters>) -> Self {
        Self {
            name: output.name.clone(),
            shape: Arc::clone(&output.shape),
            entities: output.entities,
            stream: Arc::new(Stream {
                id: format!("{}-{start:016x}", output.name).into(),
                previous: None,
            }),
            totals: Mutex::new(Totals::new(output.queue_bytes)),
            changed: Notify::new(),
            reopen: Notify::new(),
            counters,
        }
    }

    /// Adds what a tick gave. Never waits for who formats or fetches.
    pub(super) fn accept(&self, tick: &mut Tick) {
        let mut totals = self.lock();
        for shaped in tick.shape(&self.shape) {
            totals.add(&shaped.envelope);
            self.counters.envelopes.add(1);
        }
        let left_out = totals.left_out();
        if left_out > 0 && self.counters.left_out.get() == 0 {
            let output = &self.name;
            tracing::warn!(
                output,
                "leaves {left_out} series out: queue_bytes has no room for them"
            );
        }
        self.counters.left_out.set(left_out);
        self.counters.queue_bytes.set(totals.weight());
        self.changed.notify_one();
    }

    /// What there is to tell; nothing before the first window.
    fn record(&self) -> Option<Numbered> {
        let totals = self.lock();
        let last = totals.windows();
        let record = Numbered {
            stream: Arc::clone(&self.stream),
            range: 1..=last,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: totals.told(),
        };
        drop(totals);
        (last > 0).then(|| self.entities.render(record))
    }

    /// Totals stay valid when a thread panics while it holds them.
    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that hands an output's totals over.
pub(super) struct Publisher {
    publication: Arc<Publication>,
    /// One for each media type.
    formatters: Vec<Box<dyn Formatter>>,
    logger: Place,
    clock: Clock,
    beats: watch::Receiver<Beat>,
    /// What the logger does beside sends.
    serving: JoinSet<()>,
    /// How large a payload will be, about: an eighth more than the last one.
    about: usize,
    /// How many windows were in what was handed over last.
    published: u64,
    failures: u64,
    /// Whether it is known, and was said, that nothing gets through.
    outage: bool,
}

impl Publisher {
    pub(super) fn new(
        output: super::Output,
        publication: Arc<Publication>,
        clock: Clock,
        beats: watch::Receiver<Beat>,
    ) -> Self {
        let mut formatters = vec![output.formatter];
        if output.logger.is_fetched() {
            let others = formatters[0].alternatives();
            formatters.extend(others);
        }
        Self {
            publication,
            formatters,
            logger: if output.opened {
                Place::Open(output.logger)
            } else {
                Place::Closed(output.logger)
            },
            clock,
            beats,
            serving: JoinSet::new(),
            about: 0,
            published: 0,
            failures: 0,
            outage: false,
        }
    }

    /// Hands over after every tick until `closing` names a time, and then once more until that time; then closes the logger.
    pub(super) async fn run(mut self, closing: watch::Receiver<Option<Instant>>) {
        self.serve();
        let publication = Arc::clone(&self.publication);
        let mut ending = closing.clone();
        let over = async {
            // Both a time and a sender that is gone mean that the end has come.
            drop(ending.wait_for(Option::is_some).await);
        };
        let mut over = pin!(over);
        loop {
            tokio::select! {
                () = &mut over => break,
                opened = opening(&mut self.logger) => self.opened(opened),
                () = publication.reopen.notified() => {
                    // One that is not here opens them anew anyway.
                    self.logger.reopen(&publication.name);
                }
                () = publication.changed.notified() => {
                    self.open();
                    tokio::select! {
                        () = &mut over => break,
                        () = self.publish() => {}
                    }
                }
            }
        }
        let soon = Instant::now() + CLOSING;
        let until = closing.borrow().map_or(soon, |deadline| deadline.max(soon));
        self.close(until).await;
    }

    /// Hands all totals over, in every media type.
    async fn publish(&mut self) {
        let Some(record) = self.publication.record() else {
            return;
        };
        let last = *record.range.end();
        // Once the logger is open, it gets what is newest then; if it does not open, that is told.
        if last == self.published || matches!(self.logger, Place::Opening(_)) {
            return;
        }
        let failures = self.failures;
        let counters = Arc::clone(&self.publication.counters);
        for place in 0..self.formatters.len() {
            let formatter = &*self.formatters[place];
            let mut bytes = Vec::with_capacity(self.about);
            let now = (self.clock)().wall;
            let formatted = without_panic(|| formatter.format(&record, now, &mut bytes));
            if let Err(error) = formatted {
                counters.lose(Cause::Unformattable, 1);
                self.fail(&format!("cannot format: {error:#}"));
                continue;
            }
            self.about = bytes.len() + bytes.len() / 8;
            let size = bytes.len() as u64;
            match self.send(place, &record, bytes.into()).await {
                Ok(()) => {
                    counters.delivered.add(1);
                    counters.delivered_bytes.add(size);
                    if std::mem::take(&mut self.outage) {
                        tracing::info!(output = self.publication.name, "delivers again");
                    }
                }
                Err(SendError::Retry(error)) => {
                    counters.retries.add(1);
                    self.fail(&format!("will try again with newer totals: {error:#}"));
                }
                Err(error) => {
                    counters.lose(Cause::Rejected, 1);
                    self.fail(&error.to_string());
                }
            }
            // Others wait for this thread, too.
            yield_now().await;
        }
        if self.failures == failures {
            self.published = last;
        }
    }

    async fn send(
        &mut self,
        place: usize,
        record: &Numbered,
        bytes: Bytes,
    ) -> Result<(), SendError> {
        let Place::Open(logger) = &mut self.logger else {
            return Err(SendError::Retry(anyhow::anyhow!("not open")));
        };
        if bytes.len() > logger.limits().payload_bytes {
            return Err(SendError::TooLarge);
        }
        let formatter = &*self.formatters[place];
        let envelope = &record.envelope;
        let payload = Payload {
            bytes,
            file_header: Bytes::copy_from_slice(formatter.file_header()),
            content_type: formatter.content_type(),
            stream: Arc::clone(&record.stream),
            range: record.range.clone(),
            part: record.part,
            readers: envelope.sources.iter().map(|one| one.reader).collect(),
            metadata: Arc::clone(&envelope.metadata),
        };
        without_panic(|| Ok(logger.send(payload)))
            .map_err(SendError::Retry)?
            .await
    }

    /// Says once that nothing gets through.
    fn fail(&mut self, why: &str) {
        self.failures += 1;
        if !std::mem::replace(&mut self.outage, true) {
            tracing::warn!(output = self.publication.name, "cannot deliver: {why}");
        }
    }

    /// Opens a logger that is not open, beside this task.
    fn open(&mut self) {
        if let Place::Closed(_) = self.logger
            && let Place::Closed(mut logger) = std::mem::replace(&mut self.logger, Place::Gone)
        {
            self.logger = Place::Opening(spawn_blocking(move || {
                let opened = without_panic(|| Ok(logger.open()));
                let opened = opened.unwrap_or_else(|panic| Err(SendError::Retry(panic)));
                (logger, opened)
            }));
        }
    }

    /// One that did not open is tried again with the next tick.
    fn opened(&mut self, opened: Result<Opened, JoinError>) {
        self.logger = match opened {
            Ok((logger, Ok(()))) => {
                // What came meanwhile.
                self.publication.changed.notify_one();
                Place::Open(logger)
            }
            Ok((logger, Err(error))) => {
                self.fail(&error.to_string());
                Place::Closed(logger)
            }
            Err(error) => {
                self.fail(&format!("its logger is gone: {error}"));
                Place::Gone
            }
        };
        self.serve();
    }

    /// Lets an open logger do what it does beside sends.
    fn serve(&mut self) {
        if self.serving.is_empty()
            && let Place::Open(logger) = &mut self.logger
            && let Some(serving) = logger.serve(self.beats.clone())
        {
            self.serving.spawn(serving);
        }
    }

    /// Hands over what came last, and closes the logger.
    async fn close(mut self, until: Instant) {
        let name = self.publication.name.clone();
        if timeout_at(until, self.publish()).await.is_err() {
            tracing::warn!(output = name, "the last totals are not delivered");
        }
        self.serving.shutdown().await;
        if let Place::Open(logger) = &mut self.logger {
            match timeout_at(until, logger.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(output = name, "cannot close: {error:#}"),
                Err(_) => tracing::warn!(output = name, "did not close in time"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
