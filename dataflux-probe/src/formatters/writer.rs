//! Writes objects and arrays straight into bytes, without a tree and without asking what comes next.

use std::{marker::PhantomData, time::Duration};

use super::{numbers, rfc3339};
use crate::model::WallTime;

/// How the values of a document become bytes. A parameter of what is below, and not a trait object, because a document is
/// thousands of small writes.
pub(super) trait Encoding {
    /// What stands before an object's first key.
    fn begin_object(out: &mut Vec<u8>);
    /// A key that has nothing to escape; `place` is how many were before.
    fn key(key: &str, place: usize, out: &mut Vec<u8>);
    /// Any key.
    fn any_key(key: &str, place: usize, out: &mut Vec<u8>);
    /// The object that begins at `start` has so many keys.
    fn end_object(start: usize, length: usize, out: &mut Vec<u8>);
    /// What stands before an array's first item.
    fn begin_array(out: &mut Vec<u8>);
    /// What stands before an item; `place` is how many were before.
    fn item(place: usize, out: &mut Vec<u8>);
    /// The array that begins at `start` has so many items.
    fn end_array(start: usize, length: usize, out: &mut Vec<u8>);
    /// An array of numbers.
    fn numbers(values: impl ExactSizeIterator<Item = u64>, out: &mut Vec<u8>);
    /// ASCII that has nothing to escape.
    fn plain(text: &[u8], out: &mut Vec<u8>);
    /// Any text.
    fn text(text: &str, out: &mut Vec<u8>);
    /// Every digit of it.
    fn unsigned(value: u64, out: &mut Vec<u8>);
    /// Every digit of it.
    fn signed(value: i64, out: &mut Vec<u8>);
    /// Exactly this number; what is not finite is null.
    fn float(value: f64, out: &mut Vec<u8>);
    /// Nothing.
    fn null(out: &mut Vec<u8>);
    /// True.
    fn yes(out: &mut Vec<u8>);
    /// A value from elsewhere.
    fn json(value: &serde_json::Value, out: &mut Vec<u8>);
}

/// A place for one value.
pub(super) struct Writer<'a, E> {
    out: &'a mut Vec<u8>,
    encoding: PhantomData<E>,
}

/// An object that was begun; [`Object::end`] ends it.
pub(super) struct Object<'a, E> {
    out: &'a mut Vec<u8>,
    start: usize,
    length: usize,
    encoding: PhantomData<E>,
}

/// An array that was begun; [`Array::end`] ends it.
pub(super) struct Array<'a, E> {
    out: &'a mut Vec<u8>,
    start: usize,
    length: usize,
    encoding: PhantomData<E>,
}

impl<'a, E: Encoding> Writer<'a, E> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            encoding: PhantomData,
        }
    }

    pub(super) fn object(self) -> Object<'a, E> {
        let start = self.out.len();
        E::begin_object(self.out);
        Object {
            out: self.out,
            start,
            length: 0,
            encoding: PhantomData,
        }
    }

    fn array(self) -> Array<'a, E> {
        let start = self.out.len();
        E::begin_array(self.out);
        Array {
            out: self.out,
            start,
            length: 0,
            encoding: PhantomData,
        }
    }

    /// Text that has nothing to escape.
    pub(super) fn plain(self, text: &str) {
        E::plain(text.as_bytes(), self.out);
    }
}

impl<'a, E: Encoding> Object<'a, E> {
    /// One that `out` ends with, and that has keys already.
    pub(super) fn resumed(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            start: 0,
            length: 1,
            encoding: PhantomData,
        }
    }

    /// A place for the value of a key that has nothing to escape.
    #[inline]
    pub(super) fn key(&mut self, key: &str) -> Writer<'_, E> {
        E::key(key, self.length, self.out);
        self.length += 1;
        Writer::new(self.out)
    }

    /// A place for the value of any key.
    pub(super) fn any_key(&mut self, key: &str) -> Writer<'_, E> {
        E::any_key(key, self.length, self.out);
        self.length += 1;
        Writer::new(self.out)
    }

    pub(super) fn object(&mut self, key: &str) -> Object<'_, E> {
        self.key(key).object()
    }

    pub(super) fn array(&mut self, key: &str) -> Array<'_, E> {
        self.key(key).array()
    }

    /// Text that has nothing to escape.
    #[inline]
    pub(super) fn plain(&mut self, key: &str, text: &str) {
        E::plain(text.as_bytes(), self.key(key).out);
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        E::text(text, self.key(key).out);
    }

    /// Any text under any key.
    pub(super) fn any_text(&mut self, key: &str, text: &str) {
        E::text(text, self.any_key(key).out);
    }

    #[inline]
    pub(super) fn number(&mut self, key: &str, value: u64) {
        E::unsigned(value, self.key(key).out);
    }

    /// An array of numbers.
    pub(super) fn numbers(&mut self, key: &str, values: impl ExactSizeIterator<Item = u64>) {
        E::numbers(values, self.key(key).out);
    }

    pub(super) fn signed(&mut self, key: &str, value: i64) {
        E::signed(value, self.key(key).out);
    }

    /// Null if it is not finite.
    pub(super) fn float(&mut self, key: &str, value: f64) {
        E::float(value, self.key(key).out);
    }

    pub(super) fn nanoseconds(&mut self, key: &str, time: Duration) {
        self.number(key, nanoseconds(time));
    }

    pub(super) fn time(&mut self, key: &str, time: WallTime) {
        E::plain(&rfc3339::text(time), self.key(key).out);
    }

    /// The numbers of an entity's id, as text.
    pub(super) fn id(&mut self, key: &str, (major, minor): (Option<u64>, u64)) {
        let mut text = [0; 2 * numbers::LONGEST + 1];
        let mut length = 0;
        if let Some(major) = major {
            length = numbers::put(major, &mut text);
            text[length] = b':';
            length += 1;
        }
        length += numbers::put(minor, &mut text[length..]);
        E::plain(&text[..length], self.key(key).out);
    }

    pub(super) fn null(&mut self, key: &str) {
        E::null(self.key(key).out);
    }

    pub(super) fn yes(&mut self, key: &str) {
        E::yes(self.key(key).out);
    }

    /// A key and a value from elsewhere.
    pub(super) fn json(&mut self, key: &str, value: &serde_json::Value) {
        E::json(value, self.any_key(key).out);
    }

    pub(super) fn end(self) {
        E::end_object(self.start, self.length, self.out);
    }
}

impl<E: Encoding> Array<'_, E> {
    /// A place for the next item.
    pub(super) fn item(&mut self) -> Writer<'_, E> {
        E::item(self.length, self.out);
        self.length += 1;
        Writer::new(self.out)
    }

    pub(super) fn end(self) {
        E::end_array(self.start, self.length, self.out);
    }
}

/// A length of time as envelopes have it; more than 584 years are as much as fits.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
