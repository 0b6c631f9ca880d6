//! Merges the windows of each stream to longer ones, before they get a number.

use std::time::Duration;

use super::{
    clock::nanoseconds,
    envelope::{Shaped, weight},
    merge,
};
use crate::model::WallTime;

/// A tick that comes this little before a boundary is the one that was aimed at it.
const EARLY: i64 = 50_000_000;

/// What is being merged for one output. Merged windows end at the multiples of the resolution on the wall clock, as ticks do.
/// One that cannot, because ticks were missed or the clock was set, ends at the first tick behind; one that gets too large,
/// because series come and go, ends at once.
pub(super) struct Resolution {
    length: i64,
    /// Bytes that a merged window may take.
    most: u64,
    /// At most one for each stream.
    pending: Vec<Shaped>,
}

impl Resolution {
    pub(super) fn new(length: Duration, most: u64) -> Self {
        Self {
            length: nanoseconds(length).max(1),
            most,
            pending: Vec::new(),
        }
    }

    /// Takes a stream's next window, and gives the merged one that it completes, if it does.
    pub(super) fn take(&mut self, next: Shaped) -> Option<Shaped> {
        let window = next.envelope.window;
        let complete = self.place(window.start) != self.place(window.stop);
        let same = |pending: &Shaped| pending.reader == next.reader;
        let place = self.pending.iter().position(same);
        let merged = match place.map(|place| self.pending.remove(place)) {
            Some(earlier) => join(earlier, next),
            None => next,
        };
        if complete || merged.weight > self.most {
            return Some(merged);
        }
        self.pending.push(merged);
        None
    }

    /// What was taken and not given.
    pub(super) fn pending(&self) -> &[Shaped] {
        &self.pending
    }

    /// Gives what is not complete: nothing else will come.
    pub(super) fn finish(&mut self) -> Vec<Shaped> {
        std::mem::take(&mut self.pending)
    }

    /// Gives what is not complete of the stream of a reader that is gone.
    pub(super) fn finish_of(&mut self, reader: &str) -> Option<Shaped> {
        let place = self
            .pending
            .iter()
            .position(|pending| pending.reader == Some(reader))?;
        Some(self.pending.remove(place))
    }

    /// Which multiple of the resolution a time lies behind.
    fn place(&self, time: WallTime) -> i64 {
        (time + EARLY).div_euclid(self.length)
    }
}

fn join(earlier: Shaped, later: Shaped) -> Shaped {
    let envelope = merge::envelopes(earlier.envelope, later.envelope);
    Shaped {
        reader: earlier.reader,
        weight: weight(&envelope),
        envelope,
    }
}

#[cfg(test)]
mod tests;
