//! `file`: records appended to files, which are closed by size and time, compressed, and removed when they are too many.

mod appender;
mod closed;
mod compress;
mod end;
mod keeper;
mod modes;
mod names;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf, absolute},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use super::{Acknowledgement, Logger, Payload, SendError, worker::Worker};
use crate::{
    config::{
        Problems, Section, places,
        values::{Bytes, Time},
    },
    metadata::host,
    model::WallTime,
    plugin::{Context, Needs, Plugin, Roots},
    privileges,
};
use appender::{Appender, Record};
use closed::Limits;
use compress::Compress;
use keeper::Keeper;
use modes::{Mode, Modes};
use names::Template;

pub(super) static PLUGIN: Plugin<dyn Logger> = Plugin {
    name: "file",
    summary: "records appended to files, rolled by size and time, compressed, kept within limits",
    needs: Needs::NOTHING,
    example: r#"path = "/var/log/dataflux-probe/envelopes.jsonl"  # required; may hold {host}, {date} and, with per_reader, {reader}
roll_bytes = "64MiB"  # begin a new file rather than let this one grow beyond; 0 = never; default: 64MiB
# roll_every = "1h"   # and at every full hour (of UTC); default: never
keep = 5              # closed files to keep (of each reader, with {reader}); default: 5, all if keep_age or keep_bytes is there
# keep_age = "7d"     # remove closed files that were last written to so long ago; default: never
# keep_bytes = "1GiB" # remove the oldest closed files while all together have more; default: never
compress = "none"     # closed files: "gzip" or "zstd"; default: "none"
sync = "none"         # "every" = on disk before a record counts as delivered, survives a power cut; default: "none"
# file_mode = "0640"  # of new files, whatever the umask; default: 0640 without what the umask takes away
# folder_mode = "0750"  # of new folders; default: 0750 without what the umask takes away"#,
    metrics: &[],
    build: |section, context| Ok(Box::new(File::new(section, context)?)),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    path: PathBuf,
    #[serde(default = "default_roll_bytes")]
    roll_bytes: Bytes,
    roll_every: Option<Time>,
    keep: Option<u32>,
    keep_age: Option<Time>,
    keep_bytes: Option<Bytes>,
    #[serde(default)]
    compress: Compress,
    #[serde(default)]
    sync: Sync,
    file_mode: Option<String>,
    folder_mode: Option<String>,
}

/// When the disk is asked to have a record.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sync {
    /// When the kernel likes: a power cut may cost what the page cache held.
    #[default]
    None,
    /// Before it is acknowledged.
    Every,
}

const fn default_roll_bytes() -> Bytes {
    Bytes(64 << 20)
}

/// Closed files to keep where nothing else limits them.
const KEEP: u32 = 5;

/// Files that are open at once; another host name or more readers than that close the one that was not used for longest.
const MOST_OPEN: usize = 64;

/// What an output's files are like.
#[derive(Debug)]
struct Settings {
    template: Template,
    /// 0 means any size.
    roll_bytes: u64,
    /// In ns, counted from 1970.
    roll_every: Option<WallTime>,
    limits: Limits,
    compress: Compress,
    sync: bool,
    modes: Modes,
}

impl Settings {
    fn new(section: &Section<'_>, context: &Context) -> anyhow::Result<Self> {
        section.build(|config, problems| Self::check(config, section, context, problems))
    }

    fn check(
        config: Config,
        section: &Section<'_>,
        context: &Context,
        problems: &mut Problems,
    ) -> anyhow::Result<Self> {
        let wrong = |key, message: &str| section.error(Some(key), message);
        if config.roll_every.is_some_and(|time| time.0 < SECOND) {
            problems.push(wrong("roll_every", "must be at least 1s"));
        }
        let mut mode = |key, text: Option<String>, owner, default| {
            let mode = match text {
                Some(text) => Mode::parse(&text, owner).map_err(|message| wrong(key, &message)),
                None => Ok(Mode::at_most(default)),
            };
            problems.note(mode).unwrap_or(Mode::at_most(default))
        };
        let modes = Modes {
            file: mode("file_mode", config.file_mode, 0o600, 0o640),
            folder: mode("folder_mode", config.folder_mode, 0o700, 0o750),
        };
        let template = template(&config.path, context.per_reader);
        let template = template.map_err(|mistakes| section.errors("path", mistakes))?;
        let is_limited = config.keep_age.is_some() || config.keep_bytes.is_some();
        Ok(Self {
            template,
            roll_bytes: config.roll_bytes.0,
            roll_every: config.roll_every.map(nanoseconds),
            limits: Limits {
                keep: config.keep.or((!is_limited).then_some(KEEP)),
                age: config.keep_age.map(nanoseconds),
                bytes: config.keep_bytes.map(|bytes| bytes.0),
            },
            compress: config.compress,
            sync: config.sync == Sync::Every,
            modes,
        })
    }

    /// Whether files are closed by the probe itself. If not, what is there is somebody else's business.
    fn closes_files(&self) -> bool {
        self.roll_bytes > 0 || self.roll_every.is_some() || self.template.has_date()
    }
}

/// The names of the files, or why there cannot be files of these names.
fn template(path: &Path, per_reader: bool) -> Result<Template, Vec<String>> {
    let one = |mistake: &str| Err(vec![mistake.to_owned()]);
    if path.file_name().is_none() {
        return one("is not the path of a file");
    }
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return one("is a folder; name a file in it");
    }
    let path =
        absolute(path).map_err(|error| vec![format!("finding the current folder: {error}")])?;
    if let Some(obstacle) = places::no_file(&path) {
        return one(&obstacle);
    }
    let template = Template::parse(&path)?;
    if template.has_reader() && !per_reader {
        let message =
            "{reader} needs envelope = \"per_reader\": otherwise an envelope holds all readers";
        return one(message);
    }
    Ok(template)
}

const SECOND: Duration = Duration::from_secs(1);

fn nanoseconds(time: Time) -> WallTime {
    WallTime::try_from(time.0.as_nanos()).unwrap_or(WallTime::MAX)
}

/// The files of one output.
struct Files {
    settings: Arc<Settings>,
    /// The host's name, for envelopes whose header does not say it.
    host: String,
    /// The one that was used last at the end.
    open: Vec<Appender>,
    keeper: Keeper,
}

impl Files {
    fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self {
            keeper: Keeper::new(Arc::clone(&settings)),
            settings,
            host: String::new(),
            open: Vec::new(),
        }
    }

    /// Opens what is written to whatever comes; else only sees to the folder.
    fn open(&mut self, roots: &Roots, now: WallTime) -> anyhow::Result<()> {
        self.host = host::name(&roots.proc, &roots.root).unwrap_or_default();
        let template = &self.settings.template;
        if template.has_reader() {
            let base = template.base();
            return self.settings.modes.make_folders(base, &base.join("file"));
        }
        let host = self.host.clone();
        self.appender(&host, "").open(now)
    }

    fn append(&mut self, payload: &Payload, now: WallTime) -> anyhow::Result<()> {
        let host = payload.host().unwrap_or(&self.host).to_owned();
        let reader = match payload.readers.first() {
            Some(reader) if self.settings.template.has_reader() => reader,
            _ => "",
        };
        let record = Record {
            header: &payload.file_header,
            bytes: &payload.bytes,
            is_text: is_text(payload.content_type),
        };
        let closed = self.appender(&host, reader).append(now, record)?;
        self.keeper.tend(now, &host, record.is_text, closed);
        Ok(())
    }

    fn appender(&mut self, host: &str, reader: &str) -> &mut Appender {
        let known = self.open.iter().position(|open| open.is_of(host, reader));
        let appender = known.map_or_else(
            || {
                let settings = Arc::clone(&self.settings);
                Appender::new(settings, host.to_owned(), reader.to_owned())
            },
            |known| self.open.remove(known),
        );
        if self.open.len() >= MOST_OPEN {
            self.open.remove(0);
        }
        self.open.push_mut(appender)
    }

    /// Closes the files, and leaves those that are closed already to the next start.
    fn end(&mut self) {
        self.close();
        self.keeper.end();
    }

    fn close(&mut self) {
        self.open.iter_mut().for_each(Appender::close);
    }
}

/// Whether records of this type are lines: other bytes may be newlines by chance.
fn is_text(content_type: &str) -> bool {
    ["text", "json", "csv"]
        .iter()
        .any(|word| content_type.contains(word))
}

fn now() -> WallTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallTime::try_from(since.as_nanos()).unwrap_or(WallTime::MAX)
}

struct File {
    files: Arc<Mutex<Files>>,
    worker: Worker,
    /// Somebody has moved the files.
    moved: Arc<AtomicBool>,
    claims: Vec<String>,
    folder: PathBuf,
    roots: Roots,
}

impl File {
    fn new(section: &Section<'_>, context: &Context) -> anyhow::Result<Self> {
        let settings = Settings::new(section, context)?;
        Ok(Self {
            claims: settings.template.claims(),
            folder: settings.template.base().to_owned(),
            files: Arc::new(Mutex::new(Files::new(settings))),
            worker: Worker::new("file"),
            moved: Arc::default(),
            roots: context.roots.clone(),
        })
    }

    /// Works with the files after everything before.
    fn run(
        &mut self,
        work: impl FnOnce(&mut Files) -> anyhow::Result<()> + Send + 'static,
    ) -> Acknowledgement {
        let files = Arc::clone(&self.files);
        let moved = Arc::clone(&self.moved);
        self.worker.run(move || {
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            if moved.swap(false, Relaxed) {
                files.close();
            }
            work(&mut files).map_err(SendError::Retry)
        })
    }
}

impl Logger for File {
    fn open(&mut self) -> Result<(), SendError> {
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open(&self.roots, now())
            .map_err(SendError::Retry)
    }

    fn send(&mut self, payload: Payload) -> Acknowledgement {
        self.run(move |files| files.append(&payload, now()))
    }

    fn reopen(&mut self) {
        self.moved.store(true, Relaxed);
        // If it has no room for this, whatever is waiting there closes them as well.
        drop(self.run(|_| Ok(())));
    }

    fn files(&self) -> privileges::Files {
        privileges::Files {
            write: vec![self.folder.clone()],
            ..privileges::Files::default()
        }
    }

    fn claims(&self) -> Vec<String> {
        self.claims.clone()
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
        let ended = self.run(|files| {
            files.end();
            Ok(())
        });
        Box::pin(async { Ok(ended.await?) })
    }
}
