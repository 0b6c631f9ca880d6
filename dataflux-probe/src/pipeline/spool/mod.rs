//! The queue of an output on disk.

#![expect(
    dead_code,
    reason = "the queue on disk that stands on these modules comes next"
)]

mod codec;
mod dead_letters;
mod segment;
