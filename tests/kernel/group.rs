//! A cgroup of a test's own, and what its files say.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use dataflux_probe::model::{Entity, EntityKey, EntityKind};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test calls it hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cgroup of the test's own, in every hierarchy. Its children and it are gone when dropped.
pub(crate) struct Group {
    pub(crate) path: String,
    /// One for v2, or one for each controller of v1 and one of v2 beside it.
    folders: Vec<PathBuf>,
    pub(crate) is_v2: bool,
    children: Vec<Child>,
}

impl Group {
    /// `None` where there are no cgroups that can be made, which it says.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let path = format!("/dataflux-test-{}-{name}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let mut roots = vec![root.to_owned()];
        if is_v2 {
            for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
                // Without it the root gives its children processor time only.
                let wanted = format!("+{controller}");
                drop(fs::write(root.join("cgroup.subtree_control"), wanted));
            }
        } else {
            // v2 without controllers beside v1 has pressure all the same.
            roots = ["cpu", "cpuacct", "memory", "pids", "blkio", "unified"]
                .map(|it| root.join(it))
                .into();
            roots.retain(|root| root.join("cgroup.procs").exists());
        }
        let folders: Vec<_> = roots.iter().map(|root| root.join(&path[1..])).collect();
        let made = folders.iter().all(|folder| fs::create_dir(folder).is_ok());
        if folders.is_empty() || !made {
            println!("skipped: this machine has no cgroups that a test can make");
            return None;
        }
        Some(Self {
            path,
            folders,
            is_v2,
            children: Vec::new(),
        })
    }

    /// Of whichever hierarchy has it.
    pub(crate) fn file(&self, v2: &str, v1: &str) -> Option<PathBuf> {
        let name = if self.is_v2 { v2 } else { v1 };
        let mut files = self.folders.iter().map(|folder| folder.join(name));
        files.find(|file| file.exists())
    }

    /// Where a file exists.
    pub(crate) fn set(&self, v2: &str, v1: &str, value: &str) {
        if let Some(file) = self.file(v2, v1) {
            fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }

    /// A number in a file: the whole, or that of the line which begins with a name.
    pub(crate) fn number(
        &self,
        (v2, v2_name): (&str, &str),
        (v1, v1_name): (&str, &str),
    ) -> Option<u64> {
        let text = fs::read_to_string(self.file(v2, v1)?).expect("the cgroup is there");
        let name = if self.is_v2 { v2_name } else { v1_name };
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?.trim();
        Some(value.parse().expect("a number"))
    }

    /// Starts a program in it.
    pub(crate) fn run(&mut self, script: &str) {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a shell");
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), child.id().to_string()).expect("it moves");
        }
        let mut stdin = child.stdin.take().expect("a pipe");
        writeln!(stdin).expect("it waits for that");
        self.children.push(child);
    }

    /// How the program ended that was started last; waits for that.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until(|| {
            let child = self.children.last_mut().expect("one was started");
            status = child.try_wait().expect("it is a child");
            status.is_some()
        });
        status.expect("it ended")
    }

    /// Nothing in it runs from now on.
    pub(crate) fn stop(&self) {
        // Without v2 by a signal. Where it can be done without, nobody is to be sent SIGHUP because a parent of stopped children
        // ends: that goes to all of a process group, and the test is in it.
        if !self.freeze("1") {
            for pid in self.processes() {
                kill_process(pid, Signal::STOP).expect("it runs");
            }
        }
        // The kernel goes on counting periods of the limit for one or two of them, each a tenth of a second.
        let counted = || {
            let periods = self.file("cpu.stat", "cpu.stat").map(fs::read_to_string);
            (self.usage(), periods.and_then(Result::ok))
        };
        until(|| {
            let before = counted();
            thread::sleep(Duration::from_millis(350));
            before == counted()
        });
    }

    /// `false` without v2.
    fn freeze(&self, value: &str) -> bool {
        let file = self.file("cgroup.freeze", "cgroup.freeze");
        file.is_some_and(|file| fs::write(file, value).is_ok())
    }

    /// Of these cgroups alone.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let text = |folder: &PathBuf| fs::read_to_string(folder.join("cgroup.procs"));
        let all = self.folders.first().and_then(|folder| text(folder).ok());
        let pids = all.unwrap_or_default();
        pids.lines()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    }

    /// Nanoseconds.
    pub(crate) fn usage(&self) -> Option<u64> {
        let usage = self.number(("cpu.stat", "usage_usec "), ("cpuacct.usage", ""))?;
        Some(if self.is_v2 { usage * 1000 } else { usage })
    }

    pub(crate) fn entity(&self) -> Entity {
        let key = if self.is_v2 {
            let folder = fs::metadata(&self.folders[0]).expect("it is there");
            EntityKey::Id(folder.ino())
        } else {
            EntityKey::Name(self.path.as_str().into())
        };
        Entity {
            kind: EntityKind::Cgroup,
            key,
        }
    }

    /// The time in a file of pressure: `some avg10=0.00 avg60=0.00 avg300=0.00 total=1`, in nanoseconds. `None` without it.
    pub(crate) fn pressure(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.file(file, file)?).ok()?;
        let line = text.lines().find(|line| line.starts_with("some "))?;
        let total: u64 = line.rsplit_once("total=")?.1.parse().ok()?;
        Some(total * 1000)
    }

    /// As which the reader knows a file of v2 in it, which may be beside v1.
    pub(crate) fn entity_of(&self, file: &str) -> Option<Entity> {
        let folder = self.file(file, file)?.parent()?.metadata().ok()?;
        Some(Entity {
            kind: EntityKind::Cgroup,
            key: EntityKey::Id(folder.ino()),
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.freeze("0");
        let begun = Instant::now();
        while !self.processes().is_empty() && begun.elapsed() < PATIENCE {
            for pid in self.processes() {
                kill_process(pid, Signal::KILL).ok();
            }
            for child in &mut self.children {
                drop(child.try_wait());
            }
            thread::sleep(Duration::from_millis(10));
        }
        for child in &mut self.children {
            drop(child.wait());
        }
        for folder in &self.folders {
            remove(folder);
        }
    }
}

/// With the cgroups in it; their files go by themselves.
fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    drop(fs::remove_dir(folder));
}

/// Waits until something is so.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "hangs");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The reader's options for a group and what is in it.
pub(crate) fn section(group: &Group) -> String {
    format!("include = ['{}*']", group.path)
}
