//! What must outlive the process: how the streams of each output ended, in `<state_dir>/streams.json`.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use rustix::fs::{FlockOperation, flock};
use tokio::{
    sync::{Notify, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use super::{inbox::Inbox, streams::Ends};

/// Whoever has locked this file in the folder has the folder.
const LOCK: &str = "lock";

/// The file is written at most this often.
const PACE: Duration = Duration::from_secs(1);

/// A state folder. From when it could be taken it belongs to this process, for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    taken: OnceLock<Taken>,
    taking: Mutex<()>,
}

#[derive(Debug)]
struct Taken {
    /// Kept open.
    lock: Mutex<File>,
    /// How the streams of earlier starts ended.
    past: Ends,
}

impl StateDir {
    /// Touches nothing.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            taken: OnceLock::new(),
            taking: Mutex::new(()),
        }
    }

    /// Takes the folder unless that has been done: makes it if it is not there, keeps other probes out, and reads how earlier
    /// starts ended.
    ///
    /// # Errors
    /// Another probe has it, or it cannot be written: then an [`std::io::Error`] is the root cause.
    pub fn take(&self) -> anyhow::Result<()> {
        self.past().map(drop)
    }

    /// As [`StateDir::take`]; gives how the streams of earlier starts ended.
    pub(super) fn past(&self) -> anyhow::Result<&Ends> {
        let _one = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = self.taken.get() {
            return Ok(&taken.past);
        }
        let lock = lock(&self.path)?;
        let past = load(&self.path);
        let lock = Mutex::new(lock);
        let taken = self.taken.get_or_init(|| Taken { lock, past });
        Ok(&taken.past)
    }

    /// Locks the folder again where somebody has deleted the lock, or all of it: another probe would take what is made again.
    fn hold(&self) -> anyhow::Result<()> {
        let Some(taken) = self.taken.get() else {
            return Ok(());
        };
        let mut held = taken.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = held.metadata()?;
        let named = fs::metadata(self.path.join(LOCK));
        if !named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            *held = lock(&self.path)?;
        }
        Ok(())
    }

    /// Whether it could be taken.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.get().is_some()
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(state_dir: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(state_dir)
        .with_context(|| format!("cannot make the state_dir {}", state_dir.display()))?;
    let path = state_dir.join(LOCK);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(anyhow!(
            "state_dir {} is in use by another probe",
            state_dir.display()
        )),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Reads how the streams of earlier starts ended. A file that cannot be understood is put aside: a lost past is no reason not
/// to measure.
fn load(state_dir: &Path) -> Ends {
    let path = file(state_dir);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ends::new(),
        Err(error) => {
            tracing::warn!("cannot read {}: {error}", path.display());
            return Ends::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        let aside = path.with_extension("json.broken");
        tracing::warn!(
            "{} is broken ({error}) and is put aside as {}: the next envelopes do not say what was before them",
            path.display(),
            aside.display()
        );
        if let Err(error) = fs::rename(&path, &aside) {
            tracing::warn!("cannot put {} aside: {error}", path.display());
        }
        Ends::new()
    })
}

/// Writes the file so that it is always whole: the old one or the new one.
fn save(state_dir: &Path, ends: &Ends, durably: bool) -> anyhow::Result<()> {
    let path = file(state_dir);
    let new = path.with_extension("json.new");
    let write = || -> anyhow::Result<()> {
        let mut out = File::create(&new)?;
        out.write_all(&serde_json::to_vec_pretty(ends)?)?;
        if durably {
            out.sync_data()?;
        }
        fs::rename(&new, &path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("streams.json")
}

/// The outputs whose streams are to be kept, and what those came to that a reload has ended.
#[derive(Default)]
pub(super) struct Kept(Mutex<(Vec<Arc<Inbox>>, Ends)>);

impl Kept {
    /// From now on this output's streams follow those that ended before.
    pub(super) fn add(&self, inbox: &Arc<Inbox>) {
        self.lock().0.push(Arc::clone(inbox));
    }

    /// This output has ended.
    pub(super) fn remove(&self, inbox: &Arc<Inbox>) {
        let ends = inbox.ends();
        let (inboxes, gone) = &mut *self.lock();
        inboxes.retain(|one| !Arc::ptr_eq(one, inbox));
        gone.extend(ends);
    }

    /// What those came to that have ended.
    pub(super) fn gone(&self) -> Ends {
        self.lock().1.clone()
    }

    fn ends(&self) -> Ends {
        let (inboxes, gone) = &*self.lock();
        let mut ends = gone.clone();
        ends.extend(inboxes.iter().flat_map(|inbox| inbox.ends()));
        ends
    }

    fn recall(&self, past: &Ends) {
        self.lock().0.iter().for_each(|inbox| inbox.recall(past));
    }

    /// Whole after a panic, too: every change is one call.
    fn lock(&self) -> MutexGuard<'_, (Vec<Arc<Inbox>>, Ends)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what the outputs come to, whenever `changed` says so and once more when `last` resolves.
pub(super) struct Keeper {
    pub(super) state_dir: Arc<StateDir>,
    pub(super) kept: Arc<Kept>,
    pub(super) changed: Arc<Notify>,
}

impl Keeper {
    pub(super) async fn run(self, mut last: oneshot::Receiver<()>) {
        let mut written = Ends::new();
        // If it could not be taken at the start, that was said.
        let mut failing = !self.state_dir.is_taken();
        let mut ended = false;
        while !ended {
            tokio::select! {
                _ = &mut last => ended = true,
                () = self.changed.notified() => {
                    // What follows at once, such as the delivery, is written along with it.
                    // The first is not kept waiting: a process that is killed early must not be forgotten by the next start.
                    let pace = if written.is_empty() { Duration::ZERO } else { PACE };
                    ended = timeout(pace, &mut last).await.is_ok();
                }
            }
            let ends = self.kept.ends();
            if ends == written && !ended {
                continue;
            }
            let late = !self.state_dir.is_taken();
            let (state_dir, copy) = (Arc::clone(&self.state_dir), ends.clone());
            // Only the last one is forced to disk: doing so every second would disturb what is measured.
            let saved = spawn_blocking(move || keep(&state_dir, copy, ended)).await;
            if late && let Ok(past) = self.state_dir.past() {
                self.kept.recall(past);
            }
            match saved.map_err(anyhow::Error::from).flatten() {
                Ok(()) => {
                    written = ends;
                    if std::mem::take(&mut failing) {
                        tracing::info!("the state is kept in {}", self.state_dir.path.display());
                    }
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!("{error:#}");
                    }
                    failing = true;
                }
            }
        }
    }
}

/// Writes what this start came to. Streams that number nothing in it stay as earlier starts left them.
fn keep(state_dir: &StateDir, ends: Ends, durably: bool) -> anyhow::Result<()> {
    let mut all = state_dir.past()?.clone();
    all.extend(ends);
    state_dir.hold()?;
    save(&state_dir.path, &all, durably)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Cause, Gap, Previous},
        pipeline::streams::End,
    };

    fn ends() -> Ends {
        let gaps = vec![Gap {
            first: 3,
            last: 7,
            cause: Cause::Stopped,
        }];
        let of = |id: &str| Previous {
            id: id.into(),
            last: 7,
            stop_time: -5,
            gaps: gaps.clone(),
            previous: None,
        };
        let end = End {
            stream: of("main-3"),
            earlier: vec![of("main-1"), of("main-2")],
            spooled: true,
        };
        Ends::from([("main".to_owned(), end)])
    }

    /// Whoever is killed early must not be forgotten by the next start, and later nobody writes at every tick.
    #[tokio::test(start_paused = true)]
    async fn the_first_note_is_written_at_once_and_later_ones_at_their_pace() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = Arc::new(StateDir::new(folder.path().to_owned()));
        state_dir.take().unwrap();
        let (kept, changed) = (Arc::new(Kept::default()), Arc::new(Notify::new()));
        let (stop, last) = oneshot::channel();
        let keeper = Keeper {
            state_dir,
            kept: Arc::clone(&kept),
            changed: Arc::clone(&changed),
        };
        let running = tokio::spawn(keeper.run(last));
        let mut now = ends();
        for is_first in [true, false, false] {
            let begin = tokio::time::Instant::now();
            kept.lock().1 = now.clone();
            changed.notify_one();
            while load(folder.path()) != now {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(begin.elapsed() < PACE, is_first, "{:?}", begin.elapsed());
            now.values_mut().for_each(|end| end.stream.last += 1);
        }
        kept.lock().1 = now.clone();
        stop.send(()).unwrap();
        running.await.unwrap();
        assert_eq!(load(folder.path()), now);
    }

    #[test]
    fn a_folder_that_is_made_again_is_locked_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let [first, second] = [&path, &path].map(|path| StateDir::new(path.clone()));
        first.take().unwrap();
        fs::remove_dir_all(&path).unwrap();
        keep(&first, ends(), false).unwrap();
        let error = second.take().unwrap_err().to_string();
        assert!(error.ends_with("is in use by another probe"), "{error}");
        // What is there stays as it is.
        keep(&first, ends(), false).unwrap();
        assert_eq!(load(&path), ends());
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()), Ends::new());
        for durably in [false, true] {
            save(folder.path(), &ends(), durably).unwrap();
            assert_eq!(load(folder.path()), ends());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_or_truncated_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &ends(), false).unwrap();
        let whole = fs::read(file(folder.path())).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(file(folder.path()), &whole[..length]).unwrap();
            assert_eq!(load(folder.path()), Ends::new());
            let aside = fs::read(folder.path().join("streams.json.broken")).unwrap();
            assert_eq!(aside, &whole[..length]);
            assert!(!file(folder.path()).exists());
        }
    }

    #[test]
    fn a_folder_belongs_to_one_probe() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| StateDir::new(folder.path().join("new/one")));
        first.take().unwrap();
        first.take().unwrap();
        let error = second.take().unwrap_err().to_string();
        assert!(error.ends_with("is in use by another probe"), "{error}");
        drop(first);
        second.take().unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let error = StateDir::new("/proc/nowhere".into()).take().unwrap_err();
        assert!(format!("{error:#}").contains("/proc/nowhere"), "{error:#}");
        assert!(error.root_cause().is::<std::io::Error>());
    }
}
