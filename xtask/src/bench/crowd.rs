//! Processes that sleep, and cgroups that they sleep in: what readers of both have to get through.

use std::{
    fs,
    io::ErrorKind,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use rustix::process::{Signal, set_parent_process_death_signal};

pub(super) const PROCESSES: usize = 500;
pub(super) const CGROUPS: usize = 200;

/// The folder of the crowd in each hierarchy.
const NAME: &str = "dataflux-bench";
/// Controllers whose hierarchies of version 1 readers look at.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuacct", "memory", "blkio"];

/// They end, and are removed, when this is dropped; processes also if the bench is killed, and its next run removes the cgroups.
#[derive(Debug)]
pub(super) struct Crowd {
    processes: Vec<Child>,
    /// The crowd's folder in each hierarchy.
    folders: Vec<PathBuf>,
}

impl Crowd {
    /// Makes them.
    ///
    /// # Errors
    /// A cgroup cannot be made, or a process not be started.
    pub(super) fn gather() -> anyhow::Result<Self> {
        let mut crowd = Self {
            processes: Vec::new(),
            folders: hierarchies()?,
        };
        for folder in &crowd.folders {
            remove(folder)?;
            for number in 0..CGROUPS {
                let cgroup = cgroup(folder, number);
                fs::create_dir_all(&cgroup).with_context(|| cgroup.display().to_string())?;
            }
        }
        for number in 0..PROCESSES {
            let process = sleeper()?;
            let pid = process.id().to_string();
            crowd.processes.push(process);
            for folder in &crowd.folders {
                let members = cgroup(folder, number % CGROUPS).join("cgroup.procs");
                fs::write(&members, &pid).with_context(|| members.display().to_string())?;
            }
        }
        Ok(crowd)
    }

    /// How many hierarchies have the cgroups.
    pub(super) fn hierarchies(&self) -> usize {
        self.folders.len()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // An error means that it has ended already.
            _ = process.kill();
            _ = process.wait();
        }
        for folder in &self.folders {
            if let Err(error) = remove(folder) {
                crate::command::say(format_args!("{error:#}"));
            }
        }
    }
}

fn sleeper() -> anyhow::Result<Child> {
    let mut command = Command::new("sleep");
    command
        .arg("infinity")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    // SAFETY: the closure makes one system call and neither allocates nor locks.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    command.spawn().context("running sleep")
}

fn cgroup(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:03}"))
}

/// Where the crowd's folders belong: version 2's hierarchy, and those of version 1 that readers look at.
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let wanted = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let has_controller = || {
            options
                .split(',')
                .any(|option| CONTROLLERS.contains(&option))
        };
        let is_wanted = kind == "cgroup2" || kind == "cgroup" && has_controller();
        is_wanted.then(|| Path::new(path).join(NAME))
    };
    Ok(mounts.lines().filter_map(wanted).collect())
}

/// Removes a crowd's folder; a cgroup has no files that one could delete.
fn remove(folder: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            let path = entry.path();
            fs::remove_dir(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    fs::remove_dir(folder).with_context(|| format!("removing {}", folder.display()))
}
