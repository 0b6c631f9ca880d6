//! Every process, in one pass over `/proc`.

use std::{
    fs::File,
    io::Write as _,
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use rustix::{
    fs::{Mode, OFlags, RawDir, openat},
    io::{Errno, pread, retry_on_intr},
};

use super::stat::{Stat, State, decimal};
use crate::raw_name::shown;

/// Longer than any line of `/proc/PID/stat`, whose 52 fields have 20 digits at most and whose command has 64 bytes.
const LONGEST_LINE: usize = 2048;

/// A process as it was when the pass came to it.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) command: Arc<str>,
    pub(super) state: State,
    pub(super) is_kernel_thread: bool,
    pub(super) threads: u64,
    /// In ticks since boot. With the pid, what makes it the same process.
    pub(super) started: u64,
    /// In pages.
    pub(super) resident: u64,
    pub(super) counted: Counted,
    /// Its `stat`, kept open: reading it again costs half of opening it. It never becomes that of another process.
    file: Option<Arc<OwnedFd>>,
}

/// What only grows while a process lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// In ticks.
    pub(super) user: u64,
    /// In ticks.
    pub(super) system: u64,
    pub(super) major_faults: u64,
}

/// The processes that a pass found, by pid.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) processes: Vec<Process>,
    /// Processes that may not be looked at.
    pub(super) hidden: usize,
}

impl Pass {
    /// Whether process 1 is among them: it is in every PID namespace, and never ends.
    pub(super) fn has_first(&self) -> bool {
        self.processes.first().is_some_and(|first| first.pid == 1)
    }

    /// The process with this pid, if it is the one that started then.
    pub(super) fn find(&self, pid: u32, started: u64) -> Option<&Process> {
        self.with_pid(pid).filter(|found| found.started == started)
    }

    fn with_pid(&self, pid: u32) -> Option<&Process> {
        let place = self.processes.binary_search_by_key(&pid, |it| it.pid);
        self.processes.get(place.ok()?)
    }
}

/// Makes passes.
#[derive(Debug)]
pub(super) struct Table {
    proc: PathBuf,
    /// How many files may be kept open.
    pub(super) room: usize,
    entries: Box<[MaybeUninit<u8>]>,
    line: Box<[u8; LONGEST_LINE]>,
}

impl Table {
    pub(super) fn new(proc: PathBuf) -> Self {
        Self {
            proc,
            room: 0,
            entries: vec![MaybeUninit::uninit(); 32 * 1024].into(),
            line: Box::new([0; LONGEST_LINE]),
        }
    }

    /// All processes there are. One that ends before the pass comes to it is none.
    ///
    /// # Errors
    /// `/proc` cannot be listed, or a line of it has no sense. All name the file.
    pub(super) fn pass(&mut self, before: &Pass) -> anyhow::Result<Pass> {
        let Self {
            proc,
            room,
            entries,
            line,
        } = self;
        let cannot_list = || format!("cannot list {}", proc.display());
        let folder: OwnedFd = File::open(&*proc).with_context(cannot_list)?.into();
        let mut pass = Pass {
            processes: Vec::with_capacity(before.processes.len() + 16),
            hidden: 0,
        };
        let mut kept = 0;
        let mut listed = RawDir::new(folder.as_fd(), entries);
        while let Some(entry) = listed.next() {
            let entry = entry.with_context(cannot_list)?;
            let pid = decimal(entry.file_name().to_bytes()).and_then(|pid| u32::try_from(pid).ok());
            let Some(pid) = pid else { continue };
            let path = || proc.join(pid.to_string()).join("stat");
            let known = before.with_pid(pid);
            match read_stat(&folder, pid, known, line) {
                Ok((length, file)) => {
                    let stat = Stat::parse(&line[..length])
                        .with_context(|| format!("cannot make sense of {}", path().display()))?;
                    let file = Some(file).filter(|_| kept < *room);
                    kept += usize::from(file.is_some());
                    pass.processes.push(Process::new(pid, &stat, known, file));
                }
                Err(error) if is_gone(error) => {}
                Err(Errno::ACCESS | Errno::PERM) => pass.hidden += 1,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path().display()));
                }
            }
        }
        // The kernel lists them in this order anyway.
        pass.processes.sort_by_key(|process| process.pid);
        Ok(pass)
    }

    pub(super) fn proc(&self) -> &Path {
        &self.proc
    }
}

impl Process {
    /// `known` spares allocating its name again.
    pub(super) fn new(
        pid: u32,
        stat: &Stat<'_>,
        known: Option<&Self>,
        file: Option<Arc<OwnedFd>>,
    ) -> Self {
        let known = known.filter(|known| known.command.as_bytes() == stat.command);
        Self {
            pid,
            command: known.map_or_else(
                || shown(stat.command).into(),
                |known| Arc::clone(&known.command),
            ),
            state: stat.state,
            is_kernel_thread: stat.is_kernel_thread,
            threads: stat.threads,
            started: stat.started,
            resident: stat.resident,
            counted: Counted {
                user: stat.user,
                system: stat.system,
                major_faults: stat.major_faults,
            },
            file,
        }
    }
}

impl Counted {
    /// Processor time.
    pub(super) fn ticks(self) -> u64 {
        self.user.saturating_add(self.system)
    }
}

/// Fills in the line of a process. Gives its length, and the file.
fn read_stat(
    proc: &OwnedFd,
    pid: u32,
    known: Option<&Process>,
    line: &mut [u8; LONGEST_LINE],
) -> Result<(usize, Arc<OwnedFd>), Errno> {
    if let Some(file) = known.and_then(|known| known.file.as_ref())
        && let Ok(length) = retry_on_intr(|| pread(file, &mut line[..], 0))
    {
        return Ok((length, Arc::clone(file)));
    }
    // It is new, or another one has its pid now.
    let mut name = [0; 20];
    let mut rest = &mut name[..];
    let room = rest.len();
    write!(rest, "{pid}/stat").map_err(|_| Errno::INVAL)?;
    let length = room - rest.len();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(proc, &name[..length], flags, Mode::empty())?;
    let length = retry_on_intr(|| pread(&file, &mut line[..], 0))?;
    Ok((length, Arc::new(file)))
}

fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::SRCH | Errno::NOTDIR)
}
