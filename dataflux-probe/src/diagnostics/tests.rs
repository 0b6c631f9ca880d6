//! What comes out of events, and how often.

use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use tracing::Dispatch;

use super::{repeats::Repeats, *};

/// Takes what is written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Runs `tell` with diagnostics of this format, and repeats of their own.
fn with(format: Format, tell: impl FnOnce(&Paper, &'static Repeats)) {
    let paper = Paper::default();
    let out = paper.clone();
    let repeats: &'static Repeats = Box::leak(Box::default());
    let layer = Limited {
        layer: format.layer(move || out.clone(), false, true),
        repeats,
    };
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(EnvFilter::new("info")));
    tracing::dispatcher::with_default(&Dispatch::new(subscriber), || tell(&paper, repeats));
}

fn fail(attempt: u64, reason: &str) {
    tracing::warn!(output = "main", "attempt {attempt}: {reason}");
}

#[test]
fn a_message_is_told_five_times_and_then_counted() {
    with(Format::Text, |paper, repeats| {
        for attempt in 1..=40 {
            fail(attempt, "away");
        }
        let told = paper.lines();
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(
            told[4].ends_with("attempt 5: away output=\"main\""),
            "{told:?}"
        );
        repeats.tell();
        let told = paper.lines();
        assert_eq!(told.len(), 1, "{told:?}");
        let expected = "WARN repeated 35 times: attempt 1: away output=\"main\"";
        assert!(told[0].ends_with(expected), "{told:?}");
        // A new period, in which nothing came more often than it was told.
        fail(41, "away");
        assert_eq!(paper.lines().len(), 1);
        repeats.tell();
        repeats.tell();
        assert_eq!(paper.lines(), [""; 0]);
    });
}

#[test]
fn other_words_and_other_places_are_other_messages() {
    with(Format::Text, |paper, _| {
        for _ in 0..9 {
            fail(1, "away");
            fail(1, "full");
            tracing::warn!(output = "main", "attempt 1: away");
        }
        assert_eq!(paper.lines().len(), 15);
    });
}

#[test]
fn a_place_that_never_says_the_same_is_limited_too() {
    with(Format::Text, |paper, repeats| {
        for round in 0..4096_u32 {
            // Different letters, since numbers do not count.
            let word: String = format!("{round:012b}").replace('0', "a").replace('1', "b");
            fail(1, &word);
        }
        let told = paper.lines().len();
        assert!((256..300).contains(&told), "{told}");
        repeats.tell();
        let told = paper.lines();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("repeated 3835 times"), "{told:?}");
    });
}

#[test]
fn what_is_not_told_at_all_is_not_counted() {
    with(Format::Text, |paper, repeats| {
        for _ in 0..9 {
            tracing::debug!("a detail");
        }
        repeats.tell();
        assert_eq!(paper.lines(), [""; 0]);
    });
}

#[test]
fn json_is_one_object_per_line() {
    with(Format::Json, |paper, _| {
        fail(3, "two\nlines, and \u{e4}");
        let lines = paper.lines();
        assert_eq!(lines.len(), 1);
        let event: Json = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(event["level"], "WARN");
        assert_eq!(event["message"], "attempt 3: two\nlines, and \u{e4}");
        assert_eq!(event["output"], "main");
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
    });
}
