//! Runs the real binary with a configuration in a folder of its own.

use std::{
    env, fs,
    os::unix::{fs::chown, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::CapabilitySet,
};
use tempfile::TempDir;

use crate::{user, workspace};

/// How long anything may take before a test calls it hung.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The probe's program, built with the profile of the test that asks; or the one that `DATAFLUX_PROBE` names, where nothing can
/// be built.
///
/// # Panics
/// It cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let given = || env::var_os("DATAFLUX_PROBE").map(PathBuf::from);
    BINARY.get_or_init(|| given().unwrap_or_else(|| workspace::build("dataflux-probe")))
}

/// Runs the probe to its end.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn run(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .expect("the probe starts")
}

/// A running probe with a folder of its own. Killed when dropped.
pub struct Probe {
    folder: TempDir,
    child: Option<Child>,
    /// A program and arguments that become the probe; empty for none.
    under: Vec<String>,
    /// Starts as a user that owns nothing but the folder, with these capabilities.
    nobody: Option<CapabilitySet>,
    /// More arguments for the probe.
    arguments: Vec<String>,
}

/// How a probe ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its diagnostics.
    pub diagnostics: String,
}

impl Probe {
    /// Starts the probe with a configuration, in which `DIR` stands for the folder.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(config: &str) -> Self {
        let mut probe = Self::prepare(config);
        probe.restart();
        probe
    }

    /// Makes the folder and the configuration, and starts nothing yet.
    ///
    /// # Panics
    /// The folder cannot be made.
    #[must_use]
    pub fn prepare(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let text = config.replace("DIR", &folder.path().display().to_string());
        fs::write(folder.path().join("probe.toml"), text).expect("the folder is writable");
        Self {
            folder,
            child: None,
            under: Vec::new(),
            nobody: None,
            arguments: Vec::new(),
        }
    }

    /// From now on it starts through a program that gets the probe's own command as its last arguments and becomes it.
    pub fn start_under(&mut self, words: &[&str]) {
        self.under = words.iter().map(|&word| word.to_owned()).collect();
    }

    /// From now on it starts with these arguments, too.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        self.arguments.extend(arguments);
    }

    /// From now on it starts as a user that owns its folder and nothing else, with these capabilities and no others. Needs
    /// root.
    ///
    /// # Panics
    /// The folder cannot be given away.
    pub fn start_as_nobody(&mut self, capabilities: CapabilitySet) {
        // That user need not be able to get at where the program was built.
        fs::copy(binary(), self.path("program")).expect("there is room for temporary files");
        let entries = fs::read_dir(self.folder.path()).expect("it is there");
        let paths = entries.flatten().map(|entry| entry.path());
        for path in paths.chain([self.folder.path().to_owned()]) {
            chown(path, Some(user::NOBODY), Some(user::NOBODY)).expect("the test is root");
        }
        self.nobody = Some(capabilities);
    }

    /// Starts it, again after an end, with the same folder and configuration.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn restart(&mut self) {
        self.restart_into(Stdio::null());
    }

    /// As [`Probe::restart`], with a standard output. Gives the reading end if that is piped.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn restart_into(&mut self, stdout: Stdio) -> Option<ChildStdout> {
        let diagnostics = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("diagnostics"))
            .expect("the folder is writable");
        let mut command = match self.under.split_first() {
            None if self.nobody.is_some() => Command::new(self.path("program")),
            None => Command::new(binary()),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary());
                command
            }
        };
        if let Some(capabilities) = self.nobody {
            user::start_as_nobody(&mut command, capabilities);
        }
        let mut child = command
            .arg("--config")
            .arg(self.path("probe.toml"))
            .args(&self.arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(diagnostics)
            .spawn()
            .expect("the probe starts");
        let stdout = child.stdout.take();
        self.child = Some(child);
        stdout
    }

    /// A file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its diagnostics so far.
    #[must_use]
    pub fn diagnostics(&self) -> String {
        fs::read_to_string(self.path("diagnostics")).unwrap_or_default()
    }

    /// Its process.
    ///
    /// # Panics
    /// It was not started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the test started it").id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It is not running.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process has a number"), signal).expect("the probe runs");
    }

    /// Gives it another configuration, SIGHUP, and waits for what it says of that: for the line.
    ///
    /// # Panics
    /// It says nothing in time.
    pub fn reload(&self, config: &str) -> String {
        let text = config.replace("DIR", &self.folder.path().display().to_string());
        fs::write(self.path("probe.toml"), text).expect("the folder is writable");
        let told = |diagnostics: &str| -> Vec<String> {
            let lines = diagnostics.lines().filter(|line| line.contains("reloaded"));
            lines.map(str::to_owned).collect()
        };
        let before = told(&self.diagnostics()).len();
        self.signal(Signal::HUP);
        until("a word about the reload", || {
            told(&self.diagnostics()).into_iter().nth(before)
        })
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// It has not ended in time.
    pub fn wait(&mut self) -> Ended {
        let mut child = self.child.take().expect("the test started it");
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is a child of the test") {
                break status;
            }
            if begin.elapsed() > PATIENCE {
                end(&mut child);
                panic!("the probe did not end: {}", self.diagnostics());
            }
            thread::sleep(Duration::from_millis(5));
        };
        Ended {
            status,
            diagnostics: self.diagnostics(),
        }
    }

    /// SIGTERM, and waits until it has ended.
    ///
    /// # Panics
    /// It has not ended with 0 in time.
    pub fn stop(&mut self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.wait();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.diagnostics);
        ended
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// It ended before.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let ended = self.wait();
        assert_eq!(ended.status.signal(), Some(9), "{}", ended.diagnostics);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

/// Both fail only if the child is gone already.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// There is none in time.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
