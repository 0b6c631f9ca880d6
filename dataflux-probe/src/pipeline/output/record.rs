//! What has become of a record that was handed over, piece by piece.

use crate::{
    formatters::Formatter,
    model::{Cause, Numbered},
    pipeline::split,
};

/// A record from its first hand-over to its end. Its content is with the queue, which gives it again for a repeat.
#[derive(Default)]
pub(super) struct Record {
    /// How large its pieces may be, if it has to be cut. Stays the same for all repeats, or parts of different cuts could be
    /// taken for one set.
    cut: Option<usize>,
    /// Pieces that have not settled.
    pending: usize,
    pub(super) again: bool,
    /// How large its pieces may be, when one was too large.
    pub(super) too_large: Option<usize>,
    /// Why it is lost, for the consumer and for people.
    pub(super) lost: Option<(Cause, String)>,
}

/// What is to be done about a record whose pieces have all settled.
#[derive(Debug)]
pub(super) enum Fate {
    Delivered,
    Again,
    Lost(Cause, String),
}

impl Record {
    /// The pieces to hand over now.
    ///
    /// # Errors
    /// It cannot be cut as it has to be: that is its end.
    pub(super) fn begin(
        &mut self,
        whole: Numbered,
        formatter: &dyn Formatter,
    ) -> Result<Vec<Numbered>, (Cause, String)> {
        let pieces = match self.cut {
            None => vec![whole],
            Some(limit) => match split::parts(formatter, &whole, limit) {
                Ok(Some(parts)) => parts,
                Ok(None) => {
                    let reason = "a single series is too large".to_owned();
                    return Err((Cause::Rejected, reason));
                }
                Err(error) => return Err((Cause::Unformattable, format!("{error:#}"))),
            },
        };
        self.pending = pieces.len();
        Ok(pieces)
    }

    /// One piece has settled. With the last one it is decided what becomes of the record.
    pub(super) fn settled(&mut self) -> Option<Fate> {
        self.pending -= 1;
        if self.pending > 0 {
            return None;
        }
        let (again, too_large) = (std::mem::take(&mut self.again), self.too_large.take());
        self.cut = too_large.or(self.cut);
        Some(match self.lost.take() {
            Some((cause, reason)) => Fate::Lost(cause, reason),
            None if again || too_large.is_some() => Fate::Again,
            None => Fate::Delivered,
        })
    }
}
