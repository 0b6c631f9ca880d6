//! What librdkafka reports of one producer: deliveries, errors, statistics, log lines, and its wish for a token.

use std::{
    error::Error,
    mem::discriminant,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message as _,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryResult, ProducerContext},
};
use tokio::sync::oneshot;

use super::{
    SendError,
    config::Settings,
    errors::{self, Verdict},
    security::{Secrets, Token},
    statistics::Statistics,
};
use crate::pipeline::counters::KafkaCounters;

/// Log lines of librdkafka that are told between two deliveries; what differs in numbers only is told once.
const LINES: usize = 16;

/// What is kept of a payload until its delivery report.
pub(super) struct Handed {
    pub(super) answer: oneshot::Sender<Result<(), SendError>>,
    /// Payload and key.
    pub(super) size: usize,
    pub(super) at: Instant,
}

/// The other end of one producer.
pub(super) struct Events {
    settings: Arc<Settings>,
    counters: Arc<KafkaCounters>,
    secrets: Secrets,
    /// Records in one request have this many bytes at most.
    pub(super) batch_bytes: usize,
    statistics: Mutex<Statistics>,
    /// Payloads without a delivery report.
    flight: AtomicUsize,
    began: Instant,
    /// When the last delivery report came, or a payload was handed over while there was none in flight; ms since it began.
    progress_ms: AtomicU64,
    /// How long the last one delivered took, ms.
    latency_ms: AtomicU64,
    /// A payload was delivered.
    delivered: AtomicBool,
    /// A payload failed, so nothing more is to be handed over to this producer.
    pub(super) failed: AtomicBool,
    /// A batch of several payloads was too large for the broker.
    pub(super) too_large: AtomicBool,
    /// It can do no more.
    pub(super) fatal: AtomicBool,
    /// The brokers do not take the probe for who it says it is.
    pub(super) refused: AtomicBool,
    /// The token that was given last.
    token: Mutex<Option<Token>>,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    errors: Vec<RDKafkaErrorCode>,
    lines: Vec<String>,
}

impl Events {
    pub(super) fn new(
        settings: Arc<Settings>,
        counters: Arc<KafkaCounters>,
        secrets: Secrets,
        batch_bytes: usize,
    ) -> Self {
        Self {
            settings,
            counters,
            secrets,
            batch_bytes,
            statistics: Mutex::default(),
            flight: AtomicUsize::new(0),
            began: Instant::now(),
            progress_ms: AtomicU64::new(0),
            latency_ms: AtomicU64::new(0),
            delivered: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            too_large: AtomicBool::new(false),
            fatal: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            token: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// Payloads without a delivery report.
    pub(super) fn in_flight(&self) -> usize {
        self.flight.load(Ordering::Acquire)
    }

    /// Whether anything was ever delivered.
    pub(super) fn has_delivered(&self) -> bool {
        self.delivered.load(Ordering::Relaxed)
    }

    /// A payload is about to be handed over.
    pub(super) fn handing(&self) {
        if self.flight.fetch_add(1, Ordering::AcqRel) == 0 {
            self.progress();
        }
    }

    /// How long there was no delivery report though payloads are in flight, and how long the last one took.
    pub(super) fn silence(&self) -> (Duration, Duration) {
        let progress = self.progress_ms.load(Ordering::Relaxed);
        let latency = self.latency_ms.load(Ordering::Relaxed);
        let silence = if self.in_flight() == 0 {
            Duration::ZERO
        } else {
            let progress = Duration::from_millis(progress);
            self.began.elapsed().saturating_sub(progress)
        };
        (silence, Duration::from_millis(latency))
    }

    fn progress(&self) {
        self.progress_ms
            .store(milliseconds(self.began.elapsed()), Ordering::Relaxed);
    }

    /// A payload is delivered, or not.
    pub(super) fn settle(&self, handed: Handed, result: Result<(), (KafkaError, &str)>) {
        self.flight.fetch_sub(1, Ordering::AcqRel);
        let answer = match result {
            Ok(()) => {
                let latency = handed.at.elapsed();
                self.progress();
                self.delivered.store(true, Ordering::Relaxed);
                self.latency_ms
                    .store(milliseconds(latency), Ordering::Relaxed);
                self.counters.acknowledge(latency);
                self.recovered();
                Ok(())
            }
            Err((error, topic)) => Err(self.failure(&error, topic, handed.size)),
        };
        // Nobody listens any more when the output has closed.
        handed.answer.send(answer).ok();
    }

    fn failure(&self, error: &KafkaError, topic: &str, size: usize) -> SendError {
        if errors::is_fatal(error) {
            self.fatal.store(true, Ordering::Relaxed);
        }
        match errors::verdict(error) {
            // Librdkafka puts what is larger than a batch into a request of its own.
            Verdict::TooLarge if size >= self.batch_bytes => SendError::TooLarge,
            Verdict::TooLarge => {
                self.too_large.store(true, Ordering::Relaxed);
                self.failed.store(true, Ordering::Release);
                SendError::Retry(anyhow::anyhow!(
                    "the broker takes no request of {} bytes for topic {topic}; trying smaller ones",
                    self.batch_bytes
                ))
            }
            Verdict::Retry => {
                self.failed.store(true, Ordering::Release);
                SendError::Retry(errors::explain(error, topic))
            }
        }
    }

    fn recovered(&self) {
        let mut said = self.said();
        if !said.errors.is_empty() {
            tracing::info!(output = self.settings.output, "kafka: acknowledged again");
        }
        *said = Said::default();
    }

    /// The text without any secret.
    fn hide(&self, text: &str) -> String {
        let text = self.secrets.hide(text);
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        match &*token {
            Some(token) => token.hide(&text),
            None => text,
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl ProducerContext for Events {
    type DeliveryOpaque = Box<Handed>;

    fn delivery(&self, result: &DeliveryResult<'_>, handed: Box<Handed>) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, message)) => Err((error.clone(), message.topic())),
        };
        self.settle(*handed, result);
    }
}

impl ClientContext for Events {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let output = &*self.settings.output;
        if matches!(level, RDKafkaLogLevel::Debug) {
            let text = self.hide(text);
            tracing::info!(output, "librdkafka: {facility}: {text}");
            return;
        }
        let kind: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        {
            let mut said = self.said();
            if said.lines.len() >= LINES || said.lines.contains(&kind) {
                return;
            }
            said.lines.push(kind);
        }
        let text = self.hide(text);
        match level {
            // Comes as an error, too.
            _ if facility == "FAIL" => tracing::debug!(output, "librdkafka: {facility}: {text}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::debug!(output, "librdkafka: {facility}: {text}");
            }
            _ => tracing::info!(output, "librdkafka: {facility}: {text}"),
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        let mut statistics = self
            .statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        statistics.take(json, &self.counters);
    }

    /// An error that is not about one payload.
    fn error(&self, error: KafkaError, reason: &str) {
        if errors::is_fatal(&error) {
            self.fatal.store(true, Ordering::Relaxed);
        }
        if errors::is_authentication(&error) {
            self.refused.store(true, Ordering::Relaxed);
        }
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        let known = |said: &RDKafkaErrorCode| discriminant(said) == discriminant(&code);
        {
            let mut said = self.said();
            if said.errors.iter().any(known) {
                return;
            }
            said.errors.push(code);
        }
        let reason = self.hide(reason);
        tracing::warn!(
            output = self.settings.output,
            "kafka, will try again: {reason}"
        );
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let token = self
            .settings
            .security
            .token()
            .map_err(|error| format!("{error:#}"))?;
        let (exposed, principal_name, lifetime_ms) = token.expose();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(OAuthToken {
            token: exposed,
            principal_name,
            lifetime_ms,
        })
    }
}
