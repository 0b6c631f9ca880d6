//! A Kafka for the bench: `cargo xtask kafka up` as a process of its own, which ends with the bench.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::empty;
use crate::kafka::{self, Cluster};

/// How long a broker may take to be reached again.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running broker. Taken down when dropped.
pub(super) struct Broker {
    process: Child,
    folder: PathBuf,
    /// Where its plain listener is.
    pub(super) address: String,
}

impl Broker {
    /// Starts an empty one.
    ///
    /// # Errors
    /// There is neither Docker nor Java, or it does not start.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("kafka");
        // One that an earlier bench left behind, if that was killed with what it had started.
        kafka::down(&folder)?;
        empty(&folder)?;
        let mut process = Command::new(env::current_exe().context("finding this program")?)
            .args(["kafka", "up", "--attached"])
            // What consumers see is when the broker had it.
            .args(["--property", "log.message.timestamp.type=LogAppendTime"])
            .arg("--folder")
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("starting a Kafka")?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("it is piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let cluster = Cluster::load(&folder)?.context("Kafka did not start")?;
        Ok(Self {
            process,
            address: cluster.bootstrap["plaintext"].clone(),
            folder,
        })
    }

    /// `cargo xtask kafka node 1 ACT`.
    ///
    /// # Errors
    /// It fails.
    pub(super) fn act(&self, act: &str) -> anyhow::Result<()> {
        let status = Command::new(env::current_exe().context("finding this program")?)
            .args(["kafka", "node", "1", act, "--folder"])
            .arg(&self.folder)
            .status()?;
        anyhow::ensure!(status.success(), "node 1 {act}: {status}");
        Ok(())
    }

    /// Starts it after a stop, and tells when somebody could first connect to it.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn come_back(&self) -> anyhow::Result<Returned> {
        let mut starting = Command::new(env::current_exe().context("finding this program")?)
            .args(["kafka", "node", "1", "start", "--folder"])
            .arg(&self.folder)
            .spawn()?;
        let begin = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            anyhow::ensure!(begin.elapsed() < PATIENCE, "the broker does not come back");
            sleep(Duration::from_millis(2));
        }
        let reachable = Moment::now();
        let status = starting.wait()?;
        anyhow::ensure!(status.success(), "node 1 start: {status}");
        Ok(Returned {
            reachable,
            serves: Moment::now(),
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The end of its standard input is its signal.
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

/// When a broker came back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Returned {
    /// Its port took a connection.
    pub(super) reachable: Moment,
    /// It said that it had started.
    pub(super) serves: Moment,
}

/// A time on the wall clock, ms, as Kafka has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) i64);

impl Moment {
    pub(super) fn now() -> Self {
        let since = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Seconds from `earlier` to this.
    pub(super) fn seconds_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / 1e3
    }
}
