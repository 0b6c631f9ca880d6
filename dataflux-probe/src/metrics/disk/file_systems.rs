//! The file systems of the host: how much room they have, from `/proc/1/mountinfo` and statvfs(2).
//!
//! Each is asked where one of its mounts can be reached; that the answer is really that file system's, and not of what a
//! container or a sandbox has in its place, is told by the number of the mount that was reached.

mod ask;
pub(super) mod select;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Config;
use crate::{
    host_file::HostFile,
    model::{
        Entity, EntityKey, EntityKind, Health, Kind, LabelValue, MetricDef, Snapshot, Status, Unit,
    },
    mounts::{self, Mount},
    plugin::Context,
    question::{Answer, Question},
};
use ask::{Ask, Outcome, Room, Sight};
use select::{FileSystem, Selection};

pub(super) static SPACE: MetricDef = MetricDef {
    name: "disk.space",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    help: "Room of a file system by state: used, available to every user, and reserved for root; together all of it.",
    labels: &["mount_point", "type", "state"],
};
pub(super) static INODES: MetricDef = MetricDef {
    name: "disk.inodes",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Inodes of a file system that has a fixed number of them, used and free.",
    labels: &["mount_point", "type", "state"],
};
pub(super) static READ_ONLY: MetricDef = MetricDef {
    name: "disk.read_only",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Whether a file system cannot be written to through any of its mounts, also when the kernel made it so after an error: 1 or 0.",
    labels: &["mount_point", "type"],
};

/// Threads that wait for remote file systems at most.
const OPEN_QUESTIONS: usize = 32;

/// What a reason names of what it counts.
const NAMED: usize = 3;

pub(super) struct FileSystems {
    /// The mounts of process 1.
    host: Mounts,
    /// Those that the probe itself sees.
    own: Mounts,
    root: PathBuf,
    selection: Selection,
    timeout: Duration,
    ask: Arc<Ask>,
    /// What is asked, from the mounts as they were at the last read.
    asked: Vec<Arc<FileSystem>>,
    /// How many more there are than may be asked.
    left_out: usize,
    sight: Arc<Sight>,
    /// By the file system's device number. A thread that hangs is never joined by another for the same one.
    open: HashMap<u64, Question<Outcome>>,
}

/// A file of mounts that is parsed only when it has changed.
struct Mounts {
    file: HostFile,
    text: Vec<u8>,
}

impl Mounts {
    fn new(path: PathBuf) -> Self {
        Self {
            file: HostFile::new(path),
            text: Vec::new(),
        }
    }

    /// The mounts, if they are others than at the last call.
    fn changed(&mut self) -> anyhow::Result<Option<Vec<Mount>>> {
        let Self { file, text } = self;
        file.read_bytes(|now| {
            if now == text {
                return Ok(None);
            }
            let mounts = mounts::parse(now)?;
            now.clone_into(text);
            Ok(Some(mounts))
        })
    }
}

impl FileSystems {
    pub(super) fn new(config: &Config, context: &Context) -> Self {
        Self::asking(config, context, Arc::new(ask::statvfs))
    }

    fn asking(config: &Config, context: &Context, ask: Arc<Ask>) -> Self {
        let proc = &context.roots.proc;
        Self {
            host: Mounts::new(proc.join("1/mountinfo")),
            own: Mounts::new(proc.join("self/mountinfo")),
            root: context.roots.root.clone(),
            selection: Selection::new(config),
            timeout: config.remote_timeout.0,
            ask,
            asked: Vec::new(),
            left_out: 0,
            sight: Arc::default(),
            open: HashMap::new(),
        }
    }

    /// Appends the gauges of all file systems that answer. What does not is told in the snapshot's health.
    pub(super) fn read(&mut self, out: &mut Snapshot) {
        let mut troubles = Troubles::default();
        match self.look() {
            Ok(()) => self.ask_all(out, &mut troubles),
            Err(error) => troubles.whole = Some(format!("no file systems: {error:#}")),
        }
        if let Some(reason) = troubles.reason() {
            let health = std::mem::take(&mut out.health);
            out.health = health.worse(Health::new(Status::Degraded, reason));
        }
    }

    /// Finds out what to ask, if mounts have changed.
    fn look(&mut self) -> anyhow::Result<()> {
        if let Some(own) = self.own.changed()? {
            let device = |mount: &Mount| (mount.id, mount.device);
            self.sight = Arc::new(Sight {
                devices: own.iter().map(device).collect(),
                places: select::places(&own),
            });
        }
        if let Some(mounts) = self.host.changed()? {
            let (systems, left_out) = self.selection.of(&mounts, &self.root);
            self.asked = systems.into_iter().map(Arc::new).collect();
            self.left_out = left_out;
        }
        Ok(())
    }

    /// Remote ones are asked first and heard last, so that they take their time while the others answer.
    fn ask_all(&mut self, out: &mut Snapshot, troubles: &mut Troubles) {
        troubles.left_out = self.left_out;
        let now = Instant::now();
        let deadline = now + self.timeout;
        // An answer that came too late is as old as nobody knows.
        self.open
            .retain(|_, question| matches!(question.answer(now), Answer::Open));
        let (remote, local): (Vec<_>, Vec<_>) = self.asked.iter().partition(|system| system.remote);
        let mut heard = Vec::with_capacity(remote.len());
        for system in remote {
            if self.open.contains_key(&system.device) || self.open.len() >= OPEN_QUESTIONS {
                troubles.silent.push(system.name().to_owned());
                continue;
            }
            let (asked, sight, ask) = (system.clone(), self.sight.clone(), self.ask.clone());
            match Question::ask(move || ask::first_in_sight(&asked, &sight, &*ask)) {
                Ok(question) => {
                    self.open.insert(system.device, question);
                    heard.push(system);
                }
                Err(error) => troubles.note(system, Outcome::Failed(error), out),
            }
        }
        for system in local {
            let outcome = ask::first_in_sight(system, &self.sight, &*self.ask);
            troubles.note(system, outcome, out);
        }
        for system in heard {
            match self.open[&system.device].answer(deadline) {
                Answer::Here(outcome) => troubles.note(system, outcome, out),
                Answer::Open | Answer::Never => troubles.silent.push(system.name().to_owned()),
            }
        }
    }
}

/// What stands in the way of some file systems.
#[derive(Default)]
struct Troubles {
    /// Of all of them.
    whole: Option<String>,
    /// Did not answer in time.
    silent: Vec<String>,
    out_of_sight: Vec<String>,
    /// With what is wrong.
    failed: Vec<String>,
    /// Beyond the number that is asked.
    left_out: usize,
}

impl Troubles {
    /// Appends what was found, or keeps what was not.
    fn note(&mut self, system: &FileSystem, outcome: Outcome, out: &mut Snapshot) {
        match outcome {
            Outcome::Found(at, room) => push(out, system, &system.points[at].name, room),
            Outcome::OutOfSight => self.out_of_sight.push(system.name().to_owned()),
            Outcome::Failed(error) => self.failed.push(format!("{}: {error}", system.name())),
        }
    }

    /// All of it in a sentence; `None` if nothing is wrong.
    fn reason(self) -> Option<String> {
        let named = |what: &str, names: Vec<String>| {
            let more = names.len().saturating_sub(NAMED);
            let first = names[..names.len() - more].join(", ");
            match more {
                _ if names.is_empty() => None,
                0 => Some(format!("{what}: {first}")),
                more => Some(format!("{what}: {first} and {more} more")),
            }
        };
        let sight =
            "out of the probe's sight (is the host's / mounted for it with all that is below?)";
        let parts = [
            self.whole,
            named("no answer", self.silent),
            named(sight, self.out_of_sight),
            named("cannot be asked", self.failed),
            (self.left_out > 0)
                .then(|| format!("{} file systems more than max_file_systems", self.left_out)),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// One without any blocks has no room that could be told.
fn push(out: &mut Snapshot, system: &FileSystem, point: &str, room: Room) {
    if room.size == 0 {
        return;
    }
    let entity = || {
        system.entity.map(|id| Entity {
            kind: EntityKind::Device,
            key: EntityKey::Id(id),
        })
    };
    let place = || [point, &*system.kind].map(|label| LabelValue::from(label.to_owned()));
    let mut by_state = |def: &'static MetricDef, state: &'static str, value: u64| {
        let [point, kind] = place();
        out.gauge(def, entity(), [point, kind, state.into()], value as f64);
    };
    by_state(&SPACE, "used", room.size.saturating_sub(room.free));
    by_state(&SPACE, "available", room.available);
    by_state(&SPACE, "reserved", room.free.saturating_sub(room.available));
    if room.inodes > 0 {
        by_state(
            &INODES,
            "used",
            room.inodes.saturating_sub(room.free_inodes),
        );
        by_state(&INODES, "free", room.free_inodes);
    }
    let read_only = f64::from(u8::from(system.read_only));
    out.gauge(&READ_ONLY, entity(), place(), read_only);
}

#[cfg(test)]
mod tests;
