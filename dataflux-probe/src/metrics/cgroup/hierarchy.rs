//! One hierarchy of cgroups: which of them are reported, and reading their files.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::io::Errno;

use super::{
    definitions::CGROUPS,
    sources::{Devices, Out, Source},
};
use crate::{
    cgroups::{Cgroup, Folder, Tree},
    model::{Entity, EntityKey, EntityKind, Snapshot},
    pipeline::shape::wildcard,
};

/// How often settings are read, and files looked for that were not there.
const SELDOM: Duration = Duration::from_secs(10);

/// Which cgroups are reported.
#[derive(Debug)]
pub(super) struct Rules {
    /// Wildcards of paths; empty for all.
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) max_depth: usize,
    pub(super) max_cgroups: usize,
}

impl Rules {
    fn judge(&self, cgroup: &Cgroup) -> State {
        let path = cgroup.path();
        let like = |patterns: &[String]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| wildcard::matches(pattern, path))
        };
        if !(self.include.is_empty() || like(&self.include)) || like(&self.exclude) {
            State::Excluded
        } else if cgroup.depth() > self.max_depth {
            State::TooDeep
        } else {
            State::TooMany
        }
    }
}

/// Why a cgroup is reported or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reported,
    Excluded,
    TooDeep,
    /// Waits for room.
    TooMany,
}

impl State {
    const NAMES: [&'static str; 4] = ["reported", "excluded", "too_deep", "too_many"];
}

/// What readers of several hierarchies share.
pub(super) struct Shared<'a> {
    pub(super) rules: &'a Rules,
    pub(super) devices: &'a mut Devices,
    /// How many files may still be kept open.
    pub(super) room: &'a mut usize,
    pub(super) buffer: &'a mut Vec<u8>,
}

/// The cgroups of one hierarchy.
pub(super) struct Hierarchy {
    name: &'static str,
    tree: Tree,
    /// Whether their ids are the same for everybody: those of v2.
    has_ids: bool,
    sources: Vec<&'static Source>,
    known: HashMap<u64, Known>,
    /// Counts reads.
    round: u64,
    /// Whether the last successful read knew all cgroups there were.
    knew_all: bool,
}

struct Known {
    /// The last round that found it.
    round: u64,
    state: State,
    /// Not there at the last successful read, which knew all.
    is_new: bool,
    files: Option<Files>,
}

/// The files of a cgroup that is reported.
struct Files {
    slots: Box<[Slot]>,
    /// When settings are read again.
    due: Instant,
}

#[derive(Default)]
struct Slot {
    file: Option<File>,
    is_absent: bool,
    /// Of a setting.
    text: Option<Box<[u8]>>,
}

impl Hierarchy {
    pub(super) fn new(
        name: &'static str,
        tree: Tree,
        has_ids: bool,
        sources: Vec<&'static Source>,
    ) -> Self {
        Self {
            name,
            tree,
            has_ids,
            sources,
            known: HashMap::new(),
            round: 0,
            knew_all: false,
        }
    }

    /// Adds the series of all cgroups that are reported.
    ///
    /// Gives the files that were looked for, and whether any cgroup had them.
    ///
    /// # Errors
    /// The hierarchy is gone, or a file cannot be read or has no sense.
    pub(super) fn read(
        &mut self,
        shared: &mut Shared<'_>,
        out: &mut Snapshot,
    ) -> anyhow::Result<Vec<(&'static Source, Option<bool>)>> {
        let walked = self.tree.refresh();
        walked.with_context(|| format!("cannot read the hierarchy of {}", self.name))?;
        self.choose(shared);
        self.count(out);
        let given = self.read_files(shared, out)?;
        for known in self.known.values_mut() {
            known.is_new = false;
        }
        self.knew_all = self.tree.is_complete();
        Ok(self.sources.iter().copied().zip(given).collect())
    }

    /// Finds out which cgroups are reported. One that is stays so until it ends; of those that wait for room, the ones nearer
    /// to the root come first.
    fn choose(&mut self, shared: &mut Shared<'_>) {
        self.round += 1;
        let Self {
            known,
            round,
            knew_all,
            tree,
            sources,
            ..
        } = self;
        let mut waiting = Vec::new();
        tree.each(&mut |cgroup, _| {
            if cgroup.depth() == 0 {
                return;
            }
            let known = known.entry(cgroup.id()).or_insert_with(|| Known {
                round: 0,
                state: shared.rules.judge(cgroup),
                is_new: *knew_all,
                files: None,
            });
            known.round = *round;
            if known.state == State::TooMany {
                waiting.push((cgroup.depth(), cgroup.id()));
            }
        });
        known.retain(|_, known| {
            let is_there = known.round == *round;
            if let (false, Some(files)) = (is_there, &known.files) {
                *shared.room += files
                    .slots
                    .iter()
                    .filter(|slot| slot.file.is_some())
                    .count();
            }
            is_there
        });
        let reported = known.values().filter(|known| known.files.is_some()).count();
        waiting.sort_by_key(|&(depth, _)| depth);
        let room = shared.rules.max_cgroups.saturating_sub(reported);
        for (_, id) in waiting.into_iter().take(room) {
            if let Some(known) = known.get_mut(&id) {
                known.state = State::Reported;
                known.files = Some(Files::new(sources.len()));
            }
        }
    }

    fn count(&self, out: &mut Snapshot) {
        let mut counts = [0_u32; State::NAMES.len()];
        for known in self.known.values() {
            counts[known.state as usize] += 1;
        }
        for (state, count) in State::NAMES.into_iter().zip(counts) {
            out.gauge(&CGROUPS, None, [self.name, state], count.into());
        }
    }

    /// Says of each source whether any cgroup has its file; `None` without any cgroup.
    fn read_files(
        &mut self,
        shared: &mut Shared<'_>,
        out: &mut Snapshot,
    ) -> anyhow::Result<Vec<Option<bool>>> {
        let mut given = vec![None; self.sources.len()];
        let mut failure = None;
        let now = Instant::now();
        let Self {
            tree,
            known,
            sources,
            has_ids,
            ..
        } = self;
        tree.each(&mut |cgroup, folder| {
            let Some(known) = known.get_mut(&cgroup.id()) else {
                return;
            };
            let (None, Some(files)) = (&failure, &mut known.files) else {
                return;
            };
            let key = if *has_ids {
                EntityKey::Id(cgroup.id())
            } else {
                EntityKey::Name(Arc::clone(cgroup.path()))
            };
            let mut out = Out {
                snapshot: &mut *out,
                entity: Entity {
                    kind: EntityKind::Cgroup,
                    key,
                },
                is_new: known.is_new,
                devices: &mut *shared.devices,
                period: None,
            };
            let mut place = Place {
                folder,
                room: &mut *shared.room,
                buffer: &mut *shared.buffer,
            };
            failure = files
                .read(sources, &mut place, now, &mut out, &mut given)
                .err();
        });
        failure.map_or(Ok(given), Err)
    }
}

/// Where and with what files are read.
struct Place<'a> {
    folder: &'a Folder<'a>,
    room: &'a mut usize,
    buffer: &'a mut Vec<u8>,
}

impl Files {
    fn new(count: usize) -> Self {
        Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            due: Instant::now(),
        }
    }

    /// Adds what the files say. What a cgroup that ends in the middle of it has said so far was true.
    fn read(
        &mut self,
        sources: &[&'static Source],
        place: &mut Place<'_>,
        now: Instant,
        out: &mut Out<'_>,
        given: &mut [Option<bool>],
    ) -> anyhow::Result<()> {
        let is_due = now >= self.due;
        if is_due {
            self.due = now + SELDOM;
        }
        for ((source, slot), given) in sources.iter().zip(&mut self.slots).zip(given) {
            let path = || place.folder.path().join(source.file);
            let read = slot.read(source, place, is_due);
            let length = match read {
                Ok(length) => length,
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path().display()));
                }
            };
            *given = Some(given.unwrap_or(false) || length.is_some());
            let text = match (&slot.text, length) {
                (_, None) => continue,
                (Some(text), _) => text,
                (None, Some(length)) => &place.buffer[..length],
            };
            (source.push)(text, out)
                .with_context(|| format!("cannot make sense of {}", path().display()))?;
        }
        Ok(())
    }
}

impl Slot {
    /// How much of the buffer holds the file, or of the text of a setting; `None` if there is no such file.
    fn read(
        &mut self,
        source: &Source,
        place: &mut Place<'_>,
        is_due: bool,
    ) -> io::Result<Option<usize>> {
        if self.is_absent && !is_due {
            return Ok(None);
        }
        if let (Some(text), false) = (&self.text, is_due) {
            return Ok(Some(text.len()));
        }
        let read = match &self.file {
            Some(file) => read_whole(file, place.buffer),
            None => self.open_and_read(source, place),
        };
        match read {
            Ok(length) => {
                self.is_absent = false;
                if source.is_setting {
                    self.text = Some(place.buffer[..length].into());
                }
                Ok(Some(length))
            }
            Err(error) if is_absent(&error) && place.folder.path().exists() => {
                (self.is_absent, self.text) = (true, None);
                // One that was there before belongs to a controller that is not any more.
                *place.room += usize::from(self.file.take().is_some());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn open_and_read(&mut self, source: &Source, place: &mut Place<'_>) -> io::Result<usize> {
        let file = File::open(place.folder.path().join(source.file))?;
        let length = read_whole(&file, place.buffer)?;
        // A setting is not read often enough.
        if *place.room > 0 && !source.is_setting {
            *place.room -= 1;
            self.file = Some(file);
        }
        Ok(length)
    }
}

/// The kernel gives these files in one piece: where less comes than there is room for, that was all.
fn read_whole(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if buffer.len() - length < 4096 {
            buffer.resize(buffer.len() + 16 * 1024, 0);
        }
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(read) if read < buffer.len() - length => return Ok(length + read),
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The cgroup of an open file, or of a folder, has ended.
fn is_gone(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NODEV | Errno::NOENT))
}

/// The controller is not enabled there, or the kernel was told not to count pressure.
fn is_absent(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::NODEV))
}
