//! Looks after closed files on a thread of its own, which is there only while there is something to do: mends, compresses,
//! removes.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use anyhow::Context as _;

use super::{
    Settings,
    closed::{self, Closed, Listing, surplus},
    end::{Note, mend},
    names::{self, Values},
};
use crate::model::WallTime;

/// Without anything new it looks for files that are too old this often, and tries again what failed.
const PACE: WallTime = 600 * 1_000_000_000;
/// As considerate as a thread can be.
const NICE: i32 = 19;

/// Begins passes over closed files, one at a time.
pub(super) struct Keeper {
    settings: Arc<Settings>,
    shared: Arc<Mutex<Shared>>,
    /// When the last one was asked for.
    last: Option<WallTime>,
    /// The thread of the last one that was begun.
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The next pass.
    wanted: Option<Pass>,
    running: bool,
    /// It was said that it does not work.
    failing: bool,
    /// Nothing that takes long is begun any more, and what is under way is left.
    ending: Arc<AtomicBool>,
}

/// Looks once at everything.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) now: WallTime,
    /// As the files that are being written have it.
    pub(super) host: String,
    /// Whether records are made of lines.
    pub(super) is_text: bool,
    /// The first one after a start, when files may be torn.
    pub(super) is_first: bool,
}

impl Keeper {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            shared: Arc::default(),
            last: None,
            thread: None,
        }
    }

    /// Called after every record: begins a pass if a file was closed, or if it is time. Never waits.
    pub(super) fn tend(&mut self, now: WallTime, host: &str, is_text: bool, closed: bool) {
        let is_due = |last: WallTime| (now - last).abs() >= PACE;
        if !self.settings.closes_files() || !closed && !self.last.is_none_or(is_due) {
            return;
        }
        let is_first = self.last.replace(now).is_none();
        let mut shared = lock(&self.shared);
        // One that has not begun yet sees all that this one would.
        let is_first = is_first || shared.wanted.as_ref().is_some_and(|pass| pass.is_first);
        shared.wanted = Some(Pass {
            now,
            host: names::plain(host),
            is_text,
            is_first,
        });
        if shared.running {
            return;
        }
        let running = Running {
            settings: Arc::clone(&self.settings),
            shared: Arc::clone(&self.shared),
        };
        let begun = thread::Builder::new()
            .name("closed files".to_owned())
            .spawn(move || running.run());
        match begun {
            Ok(thread) => {
                shared.running = true;
                self.thread = Some(thread);
            }
            Err(error) => shared.tell(&self.settings, Err(error.into())),
        }
    }

    /// Ends what is under way, and waits for that: a compression leaves its file as it was. The next start does the rest.
    pub(super) fn end(&mut self) {
        {
            let mut shared = lock(&self.shared);
            shared.ending.store(true, Relaxed);
            shared.wanted = None;
        }
        if let Some(thread) = self.thread.take() {
            // Whether it panicked does not matter any more.
            thread.join().ok();
        }
    }
}

impl Shared {
    /// Says once that it does not work, and once that it does again.
    fn tell(&mut self, settings: &Settings, result: anyhow::Result<()>) {
        let folder = settings.template.base().display();
        match result {
            Ok(()) if std::mem::take(&mut self.failing) => {
                tracing::info!(%folder, "closed files are looked after again");
            }
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::warn!(%folder, "cannot look after closed files, will try again: {error:#}");
            }
            _ => {}
        }
    }
}

/// The thread.
struct Running {
    settings: Arc<Settings>,
    shared: Arc<Mutex<Shared>>,
}

impl Running {
    fn run(self) {
        // Only what it takes from others would be more.
        rustix::process::setpriority_process(None, NICE).ok();
        let ending = Arc::clone(&lock(&self.shared).ending);
        loop {
            let pass = {
                let mut shared = lock(&self.shared);
                let pass = shared.wanted.take();
                shared.running = pass.is_some();
                pass
            };
            let Some(pass) = pass else { return };
            let result = pass.run(&self.settings, &ending);
            lock(&self.shared).tell(&self.settings, result);
        }
    }
}

impl Drop for Running {
    /// After a panic another thread may begin.
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.shared).running = false;
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pass {
    /// Does everything that can be done, without compressing once it is to end; the first error counts.
    pub(super) fn run(&self, settings: &Settings, ending: &AtomicBool) -> anyhow::Result<()> {
        let list = || {
            let own = Values::new(&self.host, "", self.now);
            let base = settings.template.base();
            closed::list(settings, &own).with_context(|| format!("reading {}", base.display()))
        };
        let mut first = Ok(());
        let mut note = |result: anyhow::Result<()>| {
            if first.is_ok() {
                first = result;
            }
        };
        let listing = list()?;
        for part in &listing.parts {
            note(remove_part(part));
        }
        if self.is_first {
            self.mend(&listing, &mut note);
        }
        for file in listing.closed.iter().filter(|file| !file.packed) {
            note(finish(&listing, file));
        }
        self.remove(&list()?, settings, &mut note);
        let mut changed = false;
        for file in list()?.closed.iter().filter(|file| !file.packed) {
            let compressed = self.compress(file, settings, ending);
            changed |= matches!(compressed, Ok(true));
            note(compressed.map(drop));
        }
        if changed {
            self.remove(&list()?, settings, &mut note);
        }
        first
    }

    /// A kill may have torn the files of earlier days, which nobody writes to any more.
    fn mend(&self, listing: &Listing, note: &mut impl FnMut(anyhow::Result<()>)) {
        let unnamed = listing
            .closed
            .iter()
            .filter(|file| !file.is_named && !file.packed);
        for file in unnamed {
            note(self.mend_one(&file.path));
        }
        for path in &listing.noted {
            note(Note::of(path).remove());
        }
    }

    fn mend_one(&self, path: &Path) -> anyhow::Result<()> {
        let mending = || format!("mending {}", path.display());
        let opened = File::options().read(true).append(true).open(path);
        let file = opened.with_context(mending)?;
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            mend(&file, path, &mut Note::of(path), self.is_text).with_context(mending)?;
        }
        Ok(())
    }

    fn compress(
        &self,
        file: &Closed,
        settings: &Settings,
        ending: &AtomicBool,
    ) -> anyhow::Result<bool> {
        let compressing = || format!("compressing {}", file.path.display());
        let Some(suffix) = settings.compress.suffix() else {
            return Ok(false);
        };
        let mut path = file.path.clone();
        let is_taken = fs::symlink_metadata(names::packed(&path, suffix)).is_ok();
        if is_taken && !file.is_named {
            // The clock went back to a day whose file had been compressed before.
            path = settings.template.closed(&file.values, file.modified);
            fs::rename(&file.path, &path).with_context(compressing)?;
        }
        settings
            .compress
            .replace(&path, settings.modes, ending)
            .with_context(compressing)
    }

    fn remove(
        &self,
        listing: &Listing,
        settings: &Settings,
        note: &mut impl FnMut(anyhow::Result<()>),
    ) {
        for file in surplus(&listing.closed, settings.limits, self.now) {
            let removed = remove(&file.path);
            let is_removed = removed.is_ok();
            note(removed.with_context(|| format!("removing {}", file.path.display())));
            let above = file.path.ancestors().skip(1);
            let base = settings.template.base();
            for folder in above.take_while(|above| is_removed && *above != base) {
                // Most often something else is in it.
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }
}

/// Removes what is compressed already: a kill came between the two.
fn finish(listing: &Listing, file: &Closed) -> anyhow::Result<()> {
    let is_of_file = |packed: &&Closed| {
        let name = packed.path.as_os_str().as_encoded_bytes();
        let suffix = name.strip_prefix(file.path.as_os_str().as_encoded_bytes());
        suffix.is_some_and(|suffix| suffix.starts_with(b".")) && packed.modified == file.modified
    };
    let mut packed = listing.closed.iter().filter(|file| file.packed);
    match packed.find(is_of_file) {
        None => Ok(()),
        Some(_) => remove(&file.path).with_context(|| format!("removing {}", file.path.display())),
    }
}

/// Removes what a compression had not finished, unless it is at work.
fn remove_part(part: &Path) -> anyhow::Result<()> {
    let is_at_work =
        File::open(part).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    if is_at_work {
        return Ok(());
    }
    remove(part).with_context(|| format!("removing {}", part.display()))
}

/// What is gone already is as it should be.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
