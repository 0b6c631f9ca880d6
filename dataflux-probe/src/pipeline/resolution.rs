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
/// One that cannot, because ticks were missed or the clock was set, ends at the first tick behind.
pub(super) struct Resolution {
    length: i64,
    /// At most one for each stream.
    pending: Vec<Shaped>,
}

impl Resolution {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length: nanoseconds(length).max(1),
            pending: Vec::new(),
        }
    }

    /// Takes a stream's next window, and gives the merged one that it completes, if it does.
    pub(super) fn take(&mut self, next: Shaped) -> Option<Shaped> {
        let window = next.envelope.window;
        let complete = self.place(window.start) != self.place(window.stop);
        let same = |pending: &Shaped| pending.reader == next.reader;
        let place = self.pending.iter().position(same);
        if complete {
            let earlier = place.map(|place| self.pending.remove(place));
            return Some(match earlier {
                Some(earlier) => join(earlier, next),
                None => next,
            });
        }
        match place {
            Some(place) => {
                let earlier = self.pending.swap_remove(place);
                self.pending.push(join(earlier, next));
            }
            None => self.pending.push(next),
        }
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
