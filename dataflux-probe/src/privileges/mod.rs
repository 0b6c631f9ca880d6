//! What the running probe may do: everything that the start needed and the rest does not is given up, for good.
//!
//! Capabilities, `no_new_privs`, system call filter and Landlock belong to threads, and threads that begin later inherit
//! them. So this happens on the main thread while it is the only one.

mod capabilities;
mod files;
mod look_ups;
mod system_calls;
#[cfg(test)]
mod tests;

use std::{fmt, fs, path::Path};

use crate::{
    config::Config,
    plugin::{Keep, Roots},
};

pub use capabilities::Capabilities;
pub use files::{FileLock, Files};

/// What the running probe goes on needing.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What plugins keep.
    pub keep: Vec<Keep>,
    /// The files that it will open.
    pub files: Files,
    /// The folders through which it sees its host.
    pub roots: Roots,
}

impl Plan {
    /// What a configuration needs; `path` is its file. Opens nothing.
    #[must_use]
    pub fn new(config: &Config, path: &Path) -> Self {
        let mut files = Files::default();
        files.read.push(path.to_owned());
        files.read.extend(config.paths.iter().cloned());
        files.write.extend(config.state_dir.clone());
        let health = config.health.file.as_deref().and_then(Path::parent);
        files.write.extend(health.map(Path::to_owned));
        for output in &config.outputs {
            files.extend(output.logger.files());
        }
        Self {
            keep: config.keep.clone(),
            files,
            roots: config.context.roots.clone(),
        }
    }

    fn keeps(&self, what: Keep) -> bool {
        self.keep.contains(&what)
    }
}

/// What is in force for the thread that gave privileges up, and for all threads that it begins.
#[derive(Debug)]
pub struct Restricted {
    /// The capabilities that stay.
    pub capabilities: Capabilities,
    /// How many system calls are refused, always or by their arguments.
    pub system_calls: anyhow::Result<usize>,
    /// What Landlock does.
    pub files: anyhow::Result<FileLock>,
    /// Threads that had begun before, and so keep what they have.
    pub other_threads: usize,
}

/// Gives up, for good, whatever the plan does not need: capabilities, new privileges by running a program, dangerous system
/// calls, and files. What cannot be had on this kernel is in the result; the probe measures all the same.
///
/// # Errors
/// The capabilities cannot be given up: nothing else was tried.
pub fn give_up(plan: &Plan) -> anyhow::Result<Restricted> {
    let other_threads = fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count() - 1);
    let capabilities = capabilities::give_up(plan)?;
    // By what the probe may still write to, hence after the capabilities.
    let files = files::lock(plan);
    let system_calls = system_calls::refuse(plan);
    Ok(Restricted {
        capabilities,
        system_calls,
        files,
        other_threads,
    })
}

/// What this kernel has for giving privileges up, for people.
#[must_use]
pub fn available() -> String {
    let calls = match rustix::thread::secure_computing_mode() {
        Ok(_) => "system calls by seccomp",
        Err(_) => "system calls not (this kernel has no seccomp)",
    };
    match files::landlock() {
        Ok(version) => format!("{calls}, files by Landlock {version}"),
        Err(error) => format!("{calls}, files not ({error:#})"),
    }
}

impl Restricted {
    /// What this kernel does not have, as sentences.
    #[must_use]
    pub fn lacking(&self) -> Vec<String> {
        let calls = self.system_calls.as_ref().err();
        let files = self.files.as_ref().err();
        let calls = calls.map(|error| format!("system calls are not filtered: {error:#}"));
        let files = files.map(|error| format!("files are not locked: {error:#}"));
        calls.into_iter().chain(files).collect()
    }

    /// What somebody has to do something about, as sentences.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let threads = (self.other_threads > 0).then(|| {
            format!(
                "{} threads had begun before privileges were given up, and keep theirs: a defect of the probe",
                self.other_threads
            )
        });
        let files = self.files.iter().flat_map(FileLock::problems);
        threads.into_iter().chain(files).collect()
    }
}

/// `no capability, 82 system calls refused, files by Landlock 7`.
impl fmt::Display for Restricted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.capabilities)?;
        if let Ok(count) = &self.system_calls {
            write!(out, ", {count} system calls refused")?;
        }
        if let Ok(lock) = &self.files {
            write!(out, ", files by Landlock {}", lock.abi)?;
        }
        Ok(())
    }
}
