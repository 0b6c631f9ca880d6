//! What has become of a record that was handed over, piece by piece.

use crate::{
    formatters::Formatter,
    model::{Cause, Numbered},
    pipeline::split,
};

/// A record from its first hand-over to its end.
pub(super) struct Record {
    whole: Numbered,
    /// How it has to be cut. Stays the same for all repeats, or parts of different cuts could be taken for one set.
    parts: Option<Vec<Numbered>>,
    /// Pieces that have not settled.
    pending: usize,
    pub(super) again: bool,
    /// How large its pieces may be, when one was too large.
    pub(super) too_large: Option<usize>,
    /// Why it is lost, for the consumer and for people.
    pub(super) lost: Option<(Cause, String)>,
}

/// What is to be done about a record whose pieces have all settled.
pub(super) enum Fate {
    Delivered,
    Again,
    Lost(Cause, String),
}

impl Record {
    pub(super) fn new(whole: Numbered) -> Self {
        Self {
            whole,
            parts: None,
            pending: 0,
            again: false,
            too_large: None,
            lost: None,
        }
    }

    /// The pieces to hand over now.
    pub(super) fn begin(&mut self) -> &[Numbered] {
        let pieces = match &self.parts {
            Some(parts) => parts.as_slice(),
            None => std::slice::from_ref(&self.whole),
        };
        (self.pending, self.again, self.too_large) = (pieces.len(), false, None);
        pieces
    }

    /// One piece has settled. With the last one it is decided what becomes of the record; it is cut if it has to be.
    pub(super) fn settled(&mut self, formatter: &dyn Formatter) -> Option<Fate> {
        self.pending -= 1;
        if self.pending > 0 {
            return None;
        }
        if let (None, Some(limit)) = (&self.lost, self.too_large) {
            match split::parts(formatter, &self.whole, limit) {
                Ok(Some(parts)) => self.parts = Some(parts),
                Ok(None) => {
                    let reason = "a single series is too large".to_owned();
                    self.lost = Some((Cause::Rejected, reason));
                }
                Err(error) => self.lost = Some((Cause::Unformattable, format!("{error:#}"))),
            }
        }
        Some(match self.lost.take() {
            Some((cause, reason)) => Fate::Lost(cause, reason),
            None if self.again || self.too_large.is_some() => Fate::Again,
            None => Fate::Delivered,
        })
    }
}
