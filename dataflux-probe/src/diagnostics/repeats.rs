//! The same message from the same place is told a few times in a period, and then how often it came again.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// How often a message is told in one period.
const MOST: u64 = 5;

/// After this, [`tell_repeats`] is to be called, and everything may be told again.
pub const PERIOD: Duration = Duration::from_secs(60);

/// How many messages of a place are told apart in a period; beyond that, the place alone counts.
const KINDS: usize = 256;

/// How much of a message is kept for the end of its period.
const LONGEST: usize = 300;

/// Those of this process.
pub(super) static REPEATS: Repeats = Repeats::new();

/// What was told in this period.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<BTreeMap<u64, Kind>>);

/// A message: its place and its text, of which numbers do not count.
#[derive(Debug)]
struct Kind {
    level: Level,
    text: String,
    times: u64,
}

/// Says what came more often than it was told, and begins the next period.
pub fn tell_repeats() {
    REPEATS.tell();
}

impl Repeats {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether a message is to be told.
    fn note(&self, event: &Event<'_>) -> bool {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let mut kinds = self.lock();
        let mut key = key(metadata, &text.0);
        if kinds.len() >= KINDS && !kinds.contains_key(&key) {
            key = self::key(metadata, "");
        }
        let kind = kinds.entry(key).or_insert_with(|| Kind {
            level: *metadata.level(),
            text: text.0,
            times: 0,
        });
        kind.times += 1;
        kind.times <= MOST
    }

    pub(super) fn tell(&self) {
        let kinds = std::mem::take(&mut *self.lock());
        for kind in kinds.into_values().filter(|kind| kind.times > MOST) {
            let told = format_args!("repeated {} times: {}", kind.times - MOST, kind.text);
            match kind.level {
                Level::ERROR => tracing::error!("{told}"),
                Level::WARN => tracing::warn!("{told}"),
                Level::INFO => tracing::info!("{told}"),
                Level::DEBUG => tracing::debug!("{told}"),
                Level::TRACE => tracing::trace!("{told}"),
            }
        }
    }

    /// Nothing that panics runs while it is held.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(metadata: &Metadata<'_>, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    metadata.callsite().hash(&mut hasher);
    let words = text.bytes().filter(|byte| !byte.is_ascii_digit());
    words.for_each(|byte| hasher.write_u8(byte));
    hasher.finish()
}

/// The message of an event and its fields, in one line.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.0.len() >= LONGEST {
            return;
        }
        // Writing to a string cannot fail.
        let _infallible = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        let mut end = self.0.len().min(LONGEST);
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        self.0.truncate(end);
    }
}

/// Lets nothing through to a layer that was told often enough. A layer around a layer and no filter: where it is the only
/// one, a filter that refuses an event by what it says leaves tracing-subscriber's own state behind.
pub(super) struct Limited<L> {
    pub(super) layer: L,
    pub(super) repeats: &'static Repeats,
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Limited<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if self.repeats.note(event) {
            self.layer.on_event(event, context);
        }
    }
}
