//! Delivers what an output has accepted: formats, hands over, repeats, splits.

mod place;
mod record;
#[cfg(test)]
mod tests;
mod told;
mod window;

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet, spawn_blocking, yield_now},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    backoff::Backoff,
    clock::Clock,
    inbox::{Inbox, Ticket},
    random, split,
    sweep::without_panic,
};
use crate::{
    formatters::Formatter,
    loggers::{Payload, SendError},
    model::{Cause, Numbered, Part},
};
pub(super) use place::{Opened, Place, opening};
use record::{Fate, Record};
use told::Told;
use window::{SILENCE, Window};

/// A logger has at least this long to close.
const CLOSING: Duration = Duration::from_secs(1);

/// The task of one output.
pub(super) struct Delivery {
    name: String,
    formatter: Box<dyn Formatter>,
    file_header: Bytes,
    logger: Place,
    inbox: Arc<Inbox>,
    clock: Clock,
    /// With the logger, not acknowledged.
    flight: JoinSet<Result<(), SendError>>,
    /// Of each payload in flight: its record and its size.
    payloads: HashMap<Id, (Ticket, usize)>,
    /// The sum of their sizes.
    flight_bytes: usize,
    /// How large a payload will be, about: an eighth more than the last one.
    about: usize,
    /// Every record that was handed over and is neither delivered nor lost.
    records: HashMap<Ticket, Record>,
    /// The inbox was told what has become of a record, others were not.
    settled: bool,
    /// Pieces of records that are handed over, in order.
    outbox: VecDeque<(Ticket, Numbered)>,
    window: Window,
    /// A failure, until everything in flight has settled.
    failed: bool,
    /// Nothing is handed over before.
    retry_at: Option<Instant>,
    /// The logger is to open its files anew, once it is here.
    reopen: bool,
    /// When sends begin, if that is still to come.
    spread_until: Option<Instant>,
    backoff: Backoff,
    /// Whether it is known, and was said, that nothing gets through.
    outage: bool,
    /// The kinds of losses that were told.
    told: Told,
}

impl Delivery {
    pub(super) fn new(output: super::Output, inbox: Arc<Inbox>, clock: Clock) -> Self {
        Self {
            name: output.name,
            file_header: Bytes::copy_from_slice(output.formatter.file_header()),
            formatter: output.formatter,
            logger: if output.opened {
                Place::Open(output.logger)
            } else {
                Place::Closed(output.logger)
            },
            inbox,
            clock,
            flight: JoinSet::new(),
            payloads: HashMap::new(),
            flight_bytes: 0,
            about: 0,
            records: HashMap::new(),
            settled: false,
            outbox: VecDeque::new(),
            window: Window::new(),
            failed: false,
            retry_at: None,
            reopen: false,
            spread_until: None,
            backoff: Backoff::default(),
            outage: false,
            told: Told::default(),
        }
    }

    /// Delivers until `closing` names a time and everything is delivered, or until that time; then closes the logger.
    pub(super) async fn run(mut self, mut closing: watch::Receiver<Option<Instant>>) {
        loop {
            let deadline = *closing.borrow_and_update();
            if deadline.is_some_and(|deadline| self.is_over(deadline)) {
                break;
            }
            self.open();
            self.reopen = self.reopen && !self.logger.reopen(&self.name);
            while let Some(settled) = self.flight.try_join_next_with_id() {
                self.settle(settled);
            }
            let handed_over = self.hand_over();
            if std::mem::take(&mut self.settled) {
                self.inbox.settled();
            }
            if handed_over {
                yield_now().await;
                continue;
            }
            tokio::select! {
                Some(settled) = self.flight.join_next_with_id() => self.settle(settled),
                opened = opening(&mut self.logger) => self.opened(opened),
                () = self.inbox.filled.notified() => self.spread(deadline),
                () = self.inbox.reopen.notified() => self.reopen = true,
                () = until(self.retry_at) => self.retry_at = None,
                () = until(self.spread_until) => self.spread_until = None,
                () = until(deadline) => {}
                () = sleep(SILENCE), if deadline.is_some() => {}
                changed = closing.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    // The last chance is worth attempts at once and in quick succession.
                    (self.retry_at, self.spread_until) = (None, None);
                    self.backoff.reset();
                }
            }
        }
        let deadline = *closing.borrow();
        self.close(deadline).await;
    }

    /// Whether there is nothing more to be done. What outlives the process need not be tried while nothing gets through.
    fn is_over(&self, deadline: Instant) -> bool {
        let silent = !self.flight.is_empty() && self.window.silence() > SILENCE;
        self.inbox.left() == 0
            || Instant::now() >= deadline
            || self.inbox.is_durable() && (self.outage || silent)
    }

    /// Something new came. It waits for the host's moment, unless there was more to be done anyway or the end has come.
    fn spread(&mut self, closing: Option<Instant>) {
        let idle = self.flight.is_empty() && self.retry_at.is_none() && self.outbox.is_empty();
        let spread = self.inbox.spread();
        if idle && closing.is_none() && !spread.is_zero() {
            self.spread_until = Some(Instant::now() + spread);
        }
    }

    /// Hands one payload over, if one may go now.
    fn hand_over(&mut self) -> bool {
        let Place::Open(logger) = &self.logger else {
            return false;
        };
        let limits = logger.limits();
        let in_flight = self.flight.len();
        let full = in_flight > 0 && self.flight_bytes >= limits.in_flight_bytes;
        let waits = self.retry_at.is_some() || self.spread_until.is_some();
        if waits || full || !self.window.has_room(in_flight, limits.in_flight) {
            return false;
        }
        if self.outbox.is_empty() {
            self.take_next();
        }
        let Some((ticket, piece)) = self.outbox.pop_front() else {
            self.window.idle(in_flight);
            return false;
        };
        match split::format(&*self.formatter, &piece, (self.clock)().wall, self.about) {
            Err(error) => self.unformattable(ticket, &error),
            Ok(bytes) if bytes.len() > limits.payload_bytes => {
                let whole = piece.part == Part::WHOLE;
                let limit = if whole {
                    limits.payload_bytes
                } else {
                    bytes.len() / 2
                };
                self.conclude(ticket, |record| record.too_large = Some(limit));
            }
            Ok(bytes) => self.send(ticket, &piece, bytes.into()),
        }
        true
    }

    /// Puts the next record's pieces into the outbox.
    fn take_next(&mut self) {
        while let Some((ticket, whole)) = self.inbox.next() {
            let record = self.records.entry(ticket).or_default();
            match record.begin(whole, &*self.formatter) {
                Ok(pieces) => {
                    let pieces = pieces.into_iter().map(|piece| (ticket, piece));
                    return self.outbox.extend(pieces);
                }
                Err((cause, reason)) => self.end(ticket, Fate::Lost(cause, reason)),
            }
        }
    }

    fn send(&mut self, ticket: Ticket, piece: &Numbered, bytes: Bytes) {
        let Place::Open(logger) = &mut self.logger else {
            return;
        };
        let size = bytes.len();
        self.about = size + size / 8;
        let payload = Payload {
            bytes,
            file_header: self.file_header.clone(),
            content_type: self.formatter.content_type(),
            stream: Arc::clone(&piece.stream),
            range: piece.range.clone(),
            part: piece.part,
            readers: piece
                .envelope
                .sources
                .iter()
                .map(|source| source.reader)
                .collect(),
            metadata: Arc::clone(&piece.envelope.metadata),
        };
        match without_panic(|| Ok(logger.send(payload))) {
            Ok(acknowledgement) => {
                self.window.handed_over(self.flight.len());
                let id = self.flight.spawn(acknowledgement).id();
                self.payloads.insert(id, (ticket, size));
                self.flight_bytes += size;
                self.publish();
            }
            Err(panic) => self.answer(ticket, size, Err(SendError::Retry(panic))),
        }
    }

    fn settle(&mut self, settled: Result<(Id, Result<(), SendError>), JoinError>) {
        let (id, result) = match settled {
            Ok(settled) => settled,
            Err(panic) => (panic.id(), Err(SendError::Retry(panic.into()))),
        };
        if let Some((ticket, size)) = self.payloads.remove(&id) {
            self.flight_bytes -= size;
            self.publish();
            self.answer(ticket, size, result);
        }
    }

    /// What the transport says of one payload.
    fn answer(&mut self, ticket: Ticket, size: usize, result: Result<(), SendError>) {
        match result {
            Ok(()) => {
                self.acknowledged(size);
                self.conclude(ticket, |_| {});
            }
            Err(SendError::Retry(error)) => {
                self.inbox.counters.retries.add(1);
                self.fail(&error);
                self.conclude(ticket, |record| record.again = true);
                for (ticket, _) in std::mem::take(&mut self.outbox) {
                    self.conclude(ticket, |record| record.again = true);
                }
            }
            Err(SendError::TooLarge) => {
                self.conclude(ticket, |record| record.too_large = Some(size / 2));
            }
            Err(SendError::Reject(error)) => {
                let reason = format!("{error:#}");
                self.conclude(ticket, |record| {
                    record.lost = Some((Cause::Rejected, reason));
                });
            }
        }
        self.retry_when_settled();
    }

    fn unformattable(&mut self, ticket: Ticket, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        self.conclude(ticket, |record| {
            record.lost = Some((Cause::Unformattable, reason));
        });
    }

    /// One piece of a record has settled, as `note` says.
    fn conclude(&mut self, ticket: Ticket, note: impl FnOnce(&mut Record)) {
        let Some(record) = self.records.get_mut(&ticket) else {
            return;
        };
        note(record);
        if let Some(fate) = record.settled() {
            self.end(ticket, fate);
        }
    }

    fn end(&mut self, ticket: Ticket, fate: Fate) {
        self.settled = true;
        match fate {
            Fate::Again => self.inbox.again(ticket),
            Fate::Delivered => {
                self.records.remove(&ticket);
                self.inbox.delivered(ticket);
            }
            Fate::Lost(cause, reason) => {
                self.records.remove(&ticket);
                self.told.tell(&self.name, &reason);
                self.inbox.lose(ticket, cause, &reason);
            }
        }
    }

    fn acknowledged(&mut self, size: usize) {
        self.inbox.counters.delivered.add(1);
        self.inbox.counters.delivered_bytes.add(size as u64);
        let limit = match &self.logger {
            Place::Open(logger) => logger.limits().in_flight,
            _ => 1,
        };
        // While a failure settles, what was handed over before it proves nothing.
        self.window.acknowledged(!self.failed, limit);
        if !self.failed {
            self.backoff.reset();
            if std::mem::take(&mut self.outage) {
                tracing::info!(output = self.name, "delivers again");
            }
        }
    }

    /// Nothing more is handed over until everything in flight has settled, and then not for a while.
    fn fail(&mut self, error: &anyhow::Error) {
        self.failed = true;
        self.window.failed();
        if !std::mem::replace(&mut self.outage, true) {
            tracing::warn!(
                output = self.name,
                "cannot deliver, will try again: {error:#}"
            );
        }
    }

    fn retry_when_settled(&mut self) {
        if self.failed && self.flight.is_empty() {
            self.failed = false;
            // Without random bits the waits are only less spread.
            let random = random::bits().unwrap_or(0);
            self.retry_at = Some(Instant::now() + self.backoff.next(random));
        }
    }

    /// Opens a logger that is not open.
    fn open(&mut self) {
        if self.retry_at.is_none() && matches!(self.logger, Place::Closed(_)) {
            let place = std::mem::replace(&mut self.logger, Place::Gone);
            if let Place::Closed(mut logger) = place {
                self.logger = Place::Opening(spawn_blocking(move || {
                    let opened = without_panic(|| Ok(logger.open()));
                    (
                        logger,
                        opened.unwrap_or_else(|panic| Err(SendError::Retry(panic))),
                    )
                }));
            }
        }
    }

    fn opened(&mut self, opened: Result<Opened, JoinError>) {
        self.logger = match opened {
            Ok((logger, Ok(()))) => Place::Open(logger),
            Ok((logger, Err(error))) => {
                self.fail(&error.into());
                self.retry_when_settled();
                Place::Closed(logger)
            }
            Err(error) => {
                tracing::error!(output = self.name, "its logger is gone: {error}");
                Place::Gone
            }
        };
    }

    /// Closes the logger. What is acknowledged while it does still counts.
    async fn close(mut self, deadline: Option<Instant>) {
        let soon = Instant::now() + CLOSING;
        let until = deadline.map_or(soon, |deadline| deadline.max(soon));
        let closed = match &mut self.logger {
            Place::Open(logger) => Some(logger.close()),
            _ => None,
        };
        if let Some(closed) = closed {
            let mut closed = pin!(timeout_at(until, closed));
            let closed = loop {
                tokio::select! {
                    biased;
                    Some(settled) = self.flight.join_next_with_id() => self.settle(settled),
                    closed = &mut closed => break closed,
                }
            };
            match closed {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(output = self.name, "cannot close: {error:#}"),
                Err(_) => tracing::warn!(output = self.name, "did not close in time"),
            }
        }
        while let Some(settled) = self.flight.try_join_next_with_id() {
            self.settle(settled);
        }
        self.flight.abort_all();
        self.inbox.settled();
        let left = self.inbox.left();
        if left > 0 && self.inbox.is_durable() {
            tracing::info!(output = self.name, "{left} envelopes stay in the spool");
        } else if left > 0 {
            tracing::warn!(output = self.name, "{left} envelopes are not delivered");
        }
    }

    fn publish(&self) {
        self.inbox.counters.in_flight.set(self.flight.len() as u64);
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
