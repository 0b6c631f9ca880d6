//! The real probe as a process of its own.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::{configuration, kernel_objects};

/// How long the probe may take to attach everything.
const START: Duration = Duration::from_secs(20);
/// How long the probe may take to stop after SIGTERM.
const STOP: Duration = Duration::from_secs(10);

/// The probe's program, and the configuration that runs everything.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    pub(super) program: PathBuf,
    config: PathBuf,
    diagnostics: PathBuf,
}

/// A running probe. Killed when dropped.
#[derive(Debug)]
pub(super) struct RunningProbe {
    process: Child,
    /// Its folder in `/proc`.
    pub(super) folder: PathBuf,
    /// Right before it was started.
    pub(super) started: Instant,
    diagnostics: PathBuf,
}

impl Installation {
    /// With every reader, and an output to a file in `folder`.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub(super) fn new(program: PathBuf, folder: &Path) -> anyhow::Result<Self> {
        Self::with_configuration(program, folder, &configuration::everything(folder))
    }

    /// Writes the configuration into `folder`, where the probe's diagnostics go too.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn with_configuration(
        program: PathBuf,
        folder: &Path,
        text: &str,
    ) -> anyhow::Result<Self> {
        let config = folder.join("probe.toml");
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        Ok(Self {
            program,
            config,
            diagnostics: folder.join("probe.stderr"),
        })
    }

    /// Starts the probe and does not wait for it.
    pub(super) fn start(&self) -> anyhow::Result<RunningProbe> {
        let diagnostics = File::create(&self.diagnostics)
            .with_context(|| format!("creating {}", self.diagnostics.display()))?;
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(diagnostics);
        // SAFETY: the closure makes one system call and neither allocates nor locks.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let started = Instant::now();
        let process = command
            .spawn()
            .with_context(|| format!("running {}", self.program.display()))?;
        Ok(RunningProbe {
            folder: PathBuf::from(format!("/proc/{}", process.id())),
            process,
            started,
            diagnostics: self.diagnostics.clone(),
        })
    }

    /// Starts the probe and waits until it has attached everything and listens to signals: then it runs.
    pub(super) fn start_and_wait(&self) -> anyhow::Result<RunningProbe> {
        let mut probe = self.start()?;
        while probe.count_links()? == 0 || !probe.is_confined()? {
            sleep(Duration::from_millis(5));
        }
        Ok(probe)
    }
}

impl RunningProbe {
    /// How many programs it has attached.
    ///
    /// # Errors
    /// It has ended, or takes too long to attach any.
    pub(super) fn count_links(&mut self) -> anyhow::Result<usize> {
        if let Some(status) = self.process.try_wait()? {
            anyhow::bail!("the probe ended: {status}\n{}", self.said());
        }
        let attached = kernel_objects::count_links(&self.folder)?;
        anyhow::ensure!(
            attached > 0 || self.started.elapsed() < START,
            "the probe attached nothing within {START:?}\n{}",
            self.said()
        );
        Ok(attached)
    }

    /// Whether it has given up its privileges, which ends its start, but for giving back memory.
    fn is_confined(&self) -> anyhow::Result<bool> {
        Ok(self.status("Seccomp")? == 2)
    }

    /// Waits until it works: its spool has a thread then.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn wait_for_threads(&self) -> anyhow::Result<()> {
        while self.status("Threads")? < 2 {
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// A number of `/proc/PID/status`.
    fn status(&self, name: &str) -> anyhow::Result<u64> {
        let path = self.folder.join("status");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let field = |line: &str| {
            line.strip_prefix(name)?
                .strip_prefix(':')?
                .trim()
                .parse()
                .ok()
        };
        text.lines()
            .find_map(field)
            .with_context(|| format!("{}: no {name}", path.display()))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Stops it as a service manager would.
    ///
    /// # Errors
    /// It does not stop, or does not end well.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(self.pid(), Signal::TERM).context("stopping the probe")?;
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            anyhow::ensure!(
                asked.elapsed() < STOP,
                "the probe did not stop within {STOP:?}\n{}",
                self.said()
            );
            sleep(Duration::from_millis(2));
        };
        anyhow::ensure!(
            status.success(),
            "the probe ended: {status}\n{}",
            self.said()
        );
        Ok(())
    }

    /// The last lines it wrote to standard error.
    fn said(&self) -> String {
        let text = fs::read_to_string(&self.diagnostics).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for RunningProbe {
    fn drop(&mut self) {
        // An error means that it has ended already.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
