//! Groups of senders and receivers over socket pairs, every sender to every receiver of its group, as hackbench does it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use super::{counters::Counters, workers};

const GROUPS: usize = 4;
/// Senders of a group, and receivers.
const PEERS: usize = 10;
const MESSAGE: usize = 100;

/// What it does, in one line.
pub(super) fn summary() -> String {
    format!(
        "{GROUPS} groups of {PEERS} senders and {PEERS} receivers, {MESSAGE} bytes through socket pairs"
    )
}

/// Runs until it is killed; counts messages received.
pub(super) fn run(counters: Counters) -> anyhow::Result<()> {
    for group in 0..GROUPS {
        let mut towards = Vec::new();
        for receiver in 0..PEERS {
            let (to, mut from) = UnixStream::pair()?;
            let received = counters.worker(group * PEERS + receiver);
            workers::fork(move || {
                let mut message = [0; MESSAGE];
                loop {
                    from.read_exact(&mut message)?;
                    received.add();
                }
            })?;
            towards.push(to);
        }
        for _ in 0..PEERS {
            workers::fork(|| {
                loop {
                    for mut receiver in &towards {
                        receiver.write_all(&[0; MESSAGE])?;
                    }
                }
            })?;
        }
    }
    workers::wait_forever()
}
