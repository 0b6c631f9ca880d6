//! Two processes on one CPU that pass a byte back and forth through two pipes: nothing but switches and wake-ups.

use std::io::{Read, Write, pipe};

use super::{counters::Counters, workers};

/// Runs until it is killed; counts round trips.
pub(super) fn run(counters: Counters) -> anyhow::Result<()> {
    let (mut request, mut ask) = pipe()?;
    let (mut answer, mut reply) = pipe()?;
    workers::pin(0)?;
    workers::fork(|| {
        let mut byte = [0];
        loop {
            request.read_exact(&mut byte)?;
            reply.write_all(&byte)?;
        }
    })?;
    let finished = counters.worker(0);
    let mut byte = [0];
    loop {
        ask.write_all(&byte)?;
        answer.read_exact(&mut byte)?;
        finished.add();
    }
}
