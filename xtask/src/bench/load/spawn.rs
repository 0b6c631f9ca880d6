//! Processes that start, run a program, and end, one after another.

use std::process::{Command, Stdio};

use anyhow::Context;

use super::{counters::Counters, workers};

/// Runs until it is killed; counts ended processes.
pub(super) fn run(counters: Counters) -> anyhow::Result<()> {
    workers::pin(0)?;
    let ended = counters.worker(0);
    loop {
        let status = Command::new("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("running `true`")?;
        anyhow::ensure!(status.success(), "`true` failed");
        ended.add();
    }
}
