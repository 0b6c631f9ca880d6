//! The target `host_files`: each reader of `/proc` and `/sys`, with one of its files being anything.
//!
//! An input's first line names the reader and the file, as in `metrics.cpu proc/stat`; what follows is the file. The corpus says
//! which readers have which files.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher as _},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::Context as _;
use dataflux_probe::{
    config::{Config, Registries},
    kernel::Kernel,
    model::{Metadata, Snapshot},
};
use tempfile::TempDir;

use crate::workspace;

/// The folder of this target's corpus.
pub(super) const NAME: &str = "host_files";

/// More series than that are all the same way to deal with a file.
const MANY: usize = 50;

/// A host whose files are those that tests have, and the corpus's.
struct Host {
    folder: TempDir,
    /// Readers and files, as first lines name them.
    known: Vec<String>,
}

/// Lets the reader read: an error is as good as an answer.
pub(super) fn run(input: &[u8]) -> u64 {
    static HOST: OnceLock<Mutex<Host>> = OnceLock::new();
    let host = HOST.get_or_init(|| Mutex::new(Host::new().expect("a host can be made")));
    // A panic is what we are looking for: it leaves no file behind that the next input does not write anew.
    let host = host.lock().unwrap_or_else(PoisonError::into_inner);
    host.deal_with(input)
        .expect("the host's files can be written")
}

impl Host {
    fn new() -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        }?;
        copy(&workspace::root().join("tests/fixtures"), folder.path())?;
        let mut known = BTreeSet::new();
        for entry in fs::read_dir(workspace::root().join("fuzz/corpus").join(NAME))? {
            let input = fs::read(entry?.path())?;
            let (first, file) = split(&input);
            let (_, path) = first.split_once(' ').context("a reader and a file")?;
            let path = folder.path().join(path);
            if !path.exists() {
                write(&path, file)?;
            }
            known.insert(first.into_owned());
        }
        Ok(Self {
            folder,
            known: known.into_iter().collect(),
        })
    }

    fn deal_with(&self, input: &[u8]) -> anyhow::Result<u64> {
        let (first, file) = split(input);
        // Mutations of the first line choose another one.
        let chosen = self.known.iter().find(|known| **known == first);
        let any = usize::try_from(hash(&first) >> 1)? % self.known.len();
        let chosen = chosen.unwrap_or(&self.known[any]);
        let (reader, path) = chosen.split_once(' ').context("a reader and a file")?;
        let path = self.folder.path().join(path);
        let before = fs::read(&path)?;
        write(&path, file)?;
        let read = self.read(reader);
        write(&path, &before)?;
        Ok(match read {
            Ok(found) => hash(&(chosen, found.min(MANY))),
            Err(error) => {
                let told = format!("{error:#}");
                let same = told.replace(|c: char| !c.is_ascii_alphabetic(), "");
                hash(&(chosen, same))
            }
        })
    }

    /// Builds it anew and reads once. Gives how much it has found.
    fn read(&self, reader: &str) -> anyhow::Result<usize> {
        let of = |name: &str| self.folder.path().join(name).display().to_string();
        let output = "[output.a]\nformatter = 'json'\nlogger = 'stdout'\n";
        let others = if reader.starts_with("metadata.") {
            "[metrics.probe]\n"
        } else {
            ""
        };
        let text = format!(
            "[probe]\nproc = '{}'\nsys = '{}'\nroot = '{}'\n{others}[{reader}]\nenabled = true\n{output}",
            of("proc"),
            of("sys"),
            of("root")
        );
        let config = Config::parse(Path::new("fuzz"), text, Registries::BUILT_IN)
            .expect("the corpus names readers");
        if let Some(mut reader) = config.metadata.into_iter().next() {
            let mut found = Metadata::default();
            reader.reader.read(&mut found)?;
            return Ok(format!("{:?}", found.sections).len() / 64);
        }
        let kernel = Kernel::new(config.context.roots, config.context.counters);
        let mut found = Snapshot::default();
        for mut reader in config.readers {
            // What cannot attach is not read.
            if reader.reader.attach(&kernel).is_ok() {
                reader.reader.read(&mut found)?;
            }
        }
        Ok(found.series.len())
    }
}

fn split(input: &[u8]) -> (std::borrow::Cow<'_, str>, &[u8]) {
    let newline = input.iter().position(|&byte| byte == b'\n');
    let end = newline.unwrap_or(input.len());
    let rest = input.get(end + 1..).unwrap_or_default();
    (String::from_utf8_lossy(&input[..end]), rest)
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// A folder with all that is in it; links stay links.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (kind, target): (_, PathBuf) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use rustix::fs::inotify;

    use super::*;

    /// These read maps of the kernel, ask the kernel, list folders, or look at the probe's own process.
    const WITHOUT_FILES: [&str; 10] = [
        "metadata.agent",
        "metadata.container",
        "metadata.containers",
        "metadata.kubernetes",
        "metadata.labels",
        "metrics.block_io",
        "metrics.clock",
        "metrics.network",
        "metrics.probe",
        "metrics.scheduler",
    ];

    /// The folders below one, itself included.
    fn folders(folder: &Path, found: &mut Vec<PathBuf>) {
        found.push(folder.to_owned());
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders(&entry.path(), found);
            }
        }
    }

    /// The files that are opened while something runs.
    fn opened(below: &Path, run: impl FnOnce()) -> BTreeSet<PathBuf> {
        let events = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let mut watched = Vec::new();
        folders(below, &mut watched);
        let watch = |folder| {
            let flags = inotify::WatchFlags::OPEN;
            let number = inotify::add_watch(&events, &folder, flags).unwrap();
            (number, folder)
        };
        let watched: Vec<_> = watched.into_iter().map(watch).collect();
        run();
        let mut found = BTreeSet::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&events, &mut buffer);
        while let Ok(event) = events.next() {
            let folder = watched.iter().find(|(number, _)| *number == event.wd());
            let is_folder = event.events().contains(inotify::ReadFlags::ISDIR);
            if let (Some((_, folder)), Some(name), false) = (folder, event.file_name(), is_folder) {
                found.insert(folder.join(name.to_str().unwrap()));
            }
        }
        found
    }

    /// A file and its namesakes below the same root: `temp1_crit` of one device is like `temp2_crit` of another.
    fn kind(path: &Path, host: &Path) -> String {
        let root = path.strip_prefix(host).unwrap().iter().next().unwrap();
        let name = Path::new(root).join(path.file_name().unwrap());
        let name = name.display().to_string();
        let mut kind = name.replace(|c: char| c.is_ascii_digit(), "#");
        while kind.contains("##") {
            kind = kind.replace("##", "#");
        }
        kind
    }

    #[test]
    fn every_file_that_a_reader_opens_is_fuzzed() {
        let host = Host::new().unwrap();
        let below = fs::canonicalize(host.folder.path()).unwrap();
        let mut fuzzed: BTreeSet<(String, String)> = BTreeSet::new();
        for known in &host.known {
            let (reader, path) = known.split_once(' ').unwrap();
            let path = fs::canonicalize(below.join(path)).unwrap();
            fuzzed.insert((reader.to_owned(), kind(&path, &below)));
        }
        let Registries {
            metadata, metrics, ..
        } = Registries::BUILT_IN;
        let metadata = metadata.iter().map(|it| format!("metadata.{}", it.name));
        let metrics = metrics.iter().map(|it| format!("metrics.{}", it.name));
        let mut missing = BTreeSet::new();
        for reader in metadata.chain(metrics) {
            if WITHOUT_FILES.contains(&reader.as_str()) {
                continue;
            }
            let files = opened(&below, || drop(host.read(&reader)));
            if files.is_empty() {
                missing.insert((reader.clone(), "all".to_owned()));
            }
            let kinds = files
                .iter()
                .map(|file| (reader.clone(), kind(file, &below)));
            missing.extend(kinds.filter(|kind| !fuzzed.contains(kind)));
        }
        assert!(missing.is_empty(), "not in the corpus: {missing:#?}");
    }
}
