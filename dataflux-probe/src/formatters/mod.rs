//! Formatters: envelope to bytes, nothing else.

use crate::{
    model::{Numbered, WallTime},
    plugin::Plugin,
};

/// Turns envelopes into bytes. Pure: no clock, no I/O, no state.
pub trait Formatter: Send + Sync {
    /// The media type of what it writes.
    fn content_type(&self) -> &'static str;

    /// What a new file starts with, such as a CSV header row; travels with the payload.
    fn file_header(&self) -> &[u8] {
        &[]
    }

    /// Appends one complete record to `out`, stamped with the time of its hand-over to the transport.
    fn format(
        &self,
        envelope: &Numbered,
        trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()>;
}

/// Every formatter, alphabetical. Add yours here.
pub const REGISTRY: &[&Plugin<dyn Formatter>] = &[];
