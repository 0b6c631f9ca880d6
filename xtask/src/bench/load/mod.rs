//! Loads that the bench makes: processes of its own that run until it stops them, and count what they finish.

mod counters;
mod direct_io;
mod hackbench;
mod packets;
mod ping_pong;
mod spawn;
mod workers;

use std::{
    fmt::Display,
    io::{Read, Write},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;

use counters::Counters;
use packets::End;

/// What a load does. Of the packets, the one end lives in the network namespace of the load's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(super) enum Kind {
    PingPong,
    Hackbench,
    DirectIo,
    PacketsSent,
    PacketsReceived,
    Spawn,
}

impl Kind {
    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PingPong => "ping-pong",
            Self::Hackbench => "hackbench",
            Self::DirectIo => "direct I/O",
            Self::PacketsSent => "packets sent",
            Self::PacketsReceived => "packets received",
            Self::Spawn => "fork and exec",
        }
    }

    /// What it does, in one line.
    pub(super) fn summary(self) -> String {
        match self {
            Self::PingPong => "two processes on one CPU, a byte through two pipes".to_owned(),
            Self::Hackbench => hackbench::summary(),
            Self::DirectIo => direct_io::summary(),
            Self::PacketsSent | Self::PacketsReceived => packets::summary(),
            Self::Spawn => "`true`, one after another on one CPU".to_owned(),
        }
    }
}

/// The hidden command that is a load's process.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    kind: Kind,
    /// Where a load may keep files that need a real file system.
    folder: PathBuf,
}

/// Runs a load until the bench kills it. Standard input is the file of its counters.
///
/// # Errors
/// The machine lacks something the load needs.
pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    workers::die_with_parent()?;
    let counters = Counters::open(std::io::stdin()).context("the bench starts this command")?;
    match args.kind {
        Kind::PingPong => ping_pong::run(counters),
        Kind::Hackbench => hackbench::run(counters),
        Kind::DirectIo => direct_io::run(counters, &args.folder),
        Kind::PacketsSent => packets::run(counters, End::Sender),
        Kind::PacketsReceived => packets::run(counters, End::Receiver),
        Kind::Spawn => spawn::run(counters),
    }
}

/// Tells the user why a load does not go on.
fn complain(error: &dyn Display) {
    // Nobody is left to tell when standard error is gone too.
    _ = writeln!(std::io::stderr(), "load: {error:#}");
}

/// A running load. Ends when dropped.
#[derive(Debug)]
pub(super) struct Load {
    process: Child,
    counters: Counters,
}

/// How long a load may take to set itself up.
const SET_UP: Duration = Duration::from_secs(30);

impl Load {
    /// Starts a load and waits until it finishes operations.
    ///
    /// # Errors
    /// It did not start; it has said why on standard error.
    pub(super) fn start(kind: Kind, folder: &std::path::Path) -> anyhow::Result<Self> {
        let (counters, file) = Counters::create()?;
        let process = Command::new(std::env::current_exe().context("finding this program")?)
            .arg("bench-load")
            .arg(
                clap::ValueEnum::to_possible_value(&kind)
                    .context("a load has a name")?
                    .get_name(),
            )
            .arg(folder)
            .stdin(Stdio::from(file))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("starting a load")?;
        let mut load = Self { process, counters };
        let start = Instant::now();
        while load.counters.total() == 0 {
            if let Some(status) = load.process.try_wait()? {
                anyhow::bail!("the load `{}` ended: {status}", kind.name());
            }
            anyhow::ensure!(
                start.elapsed() < SET_UP,
                "the load `{}` did nothing for {SET_UP:?}",
                kind.name()
            );
            sleep(Duration::from_millis(5));
        }
        Ok(load)
    }

    /// The network namespace of its first process, as a path.
    pub(super) fn network_namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.process.id()))
    }

    /// Has all processes of the load stand still.
    ///
    /// # Errors
    /// The load has ended.
    pub(super) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// The load has ended.
    pub(super) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process_group(Pid::from_child(&self.process), signal).context("pausing the load")
    }

    /// Lets the load run for a while and returns operations per second.
    ///
    /// # Errors
    /// The load stands still.
    pub(super) fn rate(&self, during: Duration) -> anyhow::Result<f64> {
        let (before, start) = (self.counters.total(), Instant::now());
        sleep(during);
        let finished = self.counters.total() - before;
        anyhow::ensure!(finished > 0, "the load stands still");
        Ok(finished as f64 / start.elapsed().as_secs_f64())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // An error means that it has ended already.
        _ = self.process.kill();
        _ = self.process.wait();
        // All of the load's processes hold this pipe: its end is their end.
        if let Some(mut pipe) = self.process.stdout.take() {
            _ = pipe.read_to_end(&mut Vec::new());
        }
    }
}
