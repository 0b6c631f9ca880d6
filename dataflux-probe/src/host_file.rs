//! The files of `/proc` and `/sys` as readers take them: whole, and with the path in every error.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use procfs::{ProcError, ProcResult};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::raw_name::shown;

/// A file of `/proc` that is read again and again. It stays open between reads, which spares the kernel setting it up anew.
#[derive(Debug)]
pub(crate) struct HostFile {
    path: PathBuf,
    file: Option<File>,
    text: Vec<u8>,
}

impl HostFile {
    /// Opens nothing yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            text: Vec::new(),
        }
    }

    /// Reads all of the file and gives it to `parse`. Bytes that are not UTF-8 (names can have them) are
    /// escaped, see [`shown`].
    ///
    /// # Errors
    /// The file cannot be read, does not end with a whole line, or `parse` refuses it. All name the file.
    pub(crate) fn read<T>(
        &mut self,
        parse: impl FnOnce(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.read_bytes(|text| parse(&shown(text)))
    }

    /// As [`HostFile::read`], with the bytes as they are.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn read_bytes<T>(
        &mut self,
        parse: impl FnOnce(&[u8]) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let read = self.fill();
        if read.is_err() {
            self.file = None;
        }
        let length = read.with_context(|| format!("cannot read {}", self.path.display()))?;
        let text = &self.text[..length];
        let parsed = if text.ends_with(b"\n") {
            parse(text)
        } else {
            Err(anyhow!("it does not end with a whole line"))
        };
        parsed.with_context(|| format!("cannot make sense of {}", self.path.display()))
    }

    /// How much of `text` holds the file.
    fn fill(&mut self) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => closed.insert(File::open(&self.path)?),
        };
        let mut length = 0;
        loop {
            if self.text.len() - length < 4096 {
                self.text.resize(self.text.len() + 16 * 1024, 0);
            }
            match file.read_at(&mut self.text[length..], length as u64) {
                Ok(0) => return Ok(length),
                Ok(read) => length += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A file of sysfs or `/proc/sys` with one short value, read again and again. It stays open between reads.
#[derive(Debug)]
pub(crate) struct ValueFile {
    path: PathBuf,
    file: Option<File>,
}

/// The longest value that a [`ValueFile`] takes, and one byte to see that it is longer.
const VALUE: usize = 256;

impl ValueFile {
    /// Opens nothing yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Where it is, for errors.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file and gives it to `parse`.
    ///
    /// # Errors
    /// What opening or reading came to, or `InvalidData` where the file is too long, no text, or `parse` makes nothing of it.
    pub(crate) fn read<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
        let mut text = [0; VALUE];
        let read = self.fill(&mut text);
        if read.is_err() {
            self.file = None;
        }
        let text = &text[..read?];
        let short = (text.len() < VALUE).then_some(text);
        short
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(parse)
            .ok_or_else(|| {
                let text = text[..text.len().min(60)].escape_ascii();
                io::Error::new(ErrorKind::InvalidData, format!("it holds `{text}`"))
            })
    }

    /// The first numbers of the file, between blanks.
    ///
    /// # Errors
    /// As of [`ValueFile::read`].
    pub(crate) fn numbers<const N: usize>(&mut self) -> io::Result<[i64; N]> {
        self.read(|text| {
            let mut words = text.split_ascii_whitespace();
            let mut numbers = [0; N];
            for number in &mut numbers {
                *number = words.next()?.parse().ok()?;
            }
            Some(numbers)
        })
    }

    /// What reading this file came to, with its path in the error; `None` where there is no such file.
    ///
    /// # Errors
    /// It is there and could not be read.
    pub(crate) fn optional<T>(&self, result: io::Result<T>) -> anyhow::Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.path.display()))
            }
        }
    }

    /// A driver makes its whole value at the first read; what follows would be the rest of an older one.
    fn fill(&mut self, text: &mut [u8]) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => closed.insert(File::open(&self.path)?),
        };
        loop {
            match file.read_at(text, 0) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// The numbers of a file with lines `NAME NUMBER`, `NAME: NUMBER` or `NAME: NUMBER kB`, and before each perhaps `Node 0 `, added
/// up. kB become bytes.
#[derive(Debug)]
pub(crate) struct Sums {
    file: HostFile,
    /// Which sum a line belongs to, by its name.
    places: HashMap<&'static str, usize>,
    sums: Vec<Option<u64>>,
}

impl Sums {
    /// Of the lines with these names, each with the place of its sum. Opens nothing yet.
    pub(crate) fn new(
        path: PathBuf,
        places: impl IntoIterator<Item = (&'static str, usize)>,
    ) -> Self {
        let places: HashMap<_, _> = places.into_iter().collect();
        let sums = places.values().max().map_or(0, |last| last + 1);
        Self {
            file: HostFile::new(path),
            places,
            sums: vec![None; sums],
        }
    }

    /// Where it is, for errors.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Reads the file. A sum of which it has no line is `None`.
    ///
    /// # Errors
    /// As of [`HostFile::read`], or a line that counts has no number. All name the file.
    pub(crate) fn read(&mut self) -> anyhow::Result<&[Option<u64>]> {
        let Self { file, places, sums } = self;
        file.read(|text| add_up(text, places, sums))?;
        Ok(sums)
    }
}

fn add_up(
    text: &str,
    places: &HashMap<&'static str, usize>,
    sums: &mut [Option<u64>],
) -> anyhow::Result<()> {
    sums.fill(None);
    for line in text.lines() {
        let node = line.strip_prefix("Node ");
        let own = node
            .and_then(|node| node.split_once(' '))
            .map_or(line, |(_, own)| own);
        let (name, value) = own.split_once([':', ' ']).unwrap_or((own, ""));
        let Some(&place) = places.get(name) else {
            continue;
        };
        let value = value.trim_start();
        let (digits, scale) = match value.strip_suffix(" kB") {
            Some(digits) => (digits, 1024),
            None => (value, 1),
        };
        let number: Option<u64> = digits.parse().ok();
        let number = number
            .and_then(|number| number.checked_mul(scale))
            .with_context(|| format!("`{line}` has no number"))?;
        let sum = &mut sums[place];
        *sum = Some(sum.unwrap_or(0).saturating_add(number));
    }
    Ok(())
}

/// How many files the probe keeps open at most, where that is allowed.
const MOST_FILES: u64 = 16_384;

/// Raises how many files the probe may have open, which is little by default, as far as that is allowed. Gives how many.
pub(crate) fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(MOST_FILES, |most| most.min(MOST_FILES));
    let enough = limit.current.is_none_or(|current| current >= wanted);
    let mut raised = limit;
    raised.current = Some(wanted);
    let now = match enough {
        false if setrlimit(Resource::Nofile, raised).is_ok() => wanted,
        _ => limit.current.unwrap_or(wanted).min(MOST_FILES),
    };
    usize::try_from(now).unwrap_or(usize::MAX)
}

/// What the procfs crate found, with its complaint reduced to what is wrong with the text: the last line.
pub(crate) fn parsed<T>(result: ProcResult<T>) -> anyhow::Result<T> {
    result.map_err(|error| match error {
        ProcError::InternalError(error) => {
            anyhow!("{}", error.msg.lines().last().unwrap_or_default())
        }
        error => error.into(),
    })
}

/// The first line of a small file without blanks around it; `None` if it cannot be read or is empty.
pub(crate) fn first_line(path: &Path) -> Option<String> {
    let text = text(path)?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A small file; `None` if it cannot be read. Bytes that are not UTF-8 are escaped, see [`shown`].
pub(crate) fn text(path: &Path) -> Option<String> {
    match fs::read(path) {
        Ok(bytes) => Some(shown(&bytes).into_owned()),
        Err(error) => {
            tracing::debug!("cannot read {}: {error}", path.display());
            None
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{fs, path::Path};

    use proptest::{
        prelude::{ProptestConfig, Strategy, any, prop},
        test_runner::TestRunner,
    };

    use crate::{
        metrics::MetricReader,
        model::{Snapshot, Total},
        plugin::{Plugin, testing},
    };

    /// What is left of a text after bits were flipped and its end was cut off.
    fn damaged(text: String) -> impl Strategy<Value = Vec<u8>> {
        let length = text.len();
        let flips = prop::collection::vec((0..length, any::<u8>()), 0..6);
        (0..=length, any::<bool>(), flips).prop_map(move |(cut, cuts, flips)| {
            let mut bytes = text.clone().into_bytes();
            for (at, bits) in flips {
                bytes[at] ^= bits;
            }
            if cuts {
                bytes.truncate(cut);
            }
            bytes
        })
    }

    /// Lets a reader read its files of `/proc`, each damaged in many ways and once missing: it must not panic, and an
    /// error must name the file.
    pub(crate) fn survives_damage(plugin: &Plugin<dyn MetricReader>, files: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (testing::fixtures().join("proc"), folder.path().join("proc"));
        for file in files {
            fs::create_dir_all(to.join(file).parent().unwrap()).unwrap();
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
        let mut context = testing::context(testing::fixtures());
        context.roots.proc.clone_from(&to);
        let read = |path: &Path| match plugin
            .build_from("", &context)
            .unwrap()
            .read(&mut Snapshot::default())
        {
            Ok(()) => true,
            Err(error) => {
                let error = format!("{error:#}");
                assert!(error.contains(path.to_str().unwrap()), "{error}");
                assert!(!error.contains('\n'), "{error}");
                false
            }
        };
        for file in files {
            let path = to.join(file);
            assert!(read(&path), "{file} is not damaged yet");
            let text = fs::read_to_string(&path).unwrap();
            let config = ProptestConfig {
                failure_persistence: None,
                ..ProptestConfig::default()
            };
            let every_way = TestRunner::new(config).run(&damaged(text.clone()), |bytes| {
                fs::write(&path, bytes).unwrap();
                read(&path);
                Ok(())
            });
            every_way.unwrap();
            fs::write(&path, &text[..text.len() - 1]).unwrap();
            assert!(!read(&path), "a cut-off line is an error");
            fs::remove_file(&path).unwrap();
            assert!(!read(&path), "no file is an error");
            fs::write(&path, &text).unwrap();
        }
    }

    /// The only series of a snapshot with this name and these labels.
    pub(crate) fn total(snapshot: &Snapshot, name: &str, labels: &[&str]) -> Option<Total> {
        let mut found = snapshot
            .series
            .iter()
            .filter(|series| series.def.name == name && series.labels.iter().eq(labels));
        let first = found.next();
        assert!(found.next().is_none(), "{name} {labels:?} is there twice");
        first.map(|series| series.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn added_up(text: &str) -> anyhow::Result<Vec<Option<u64>>> {
        let places = HashMap::from([("MemTotal", 0), ("numa_hit", 1), ("numa_miss", 1)]);
        let mut sums = vec![Some(7); 3];
        add_up(text, &places, &mut sums).map(|()| sums)
    }

    #[test]
    fn every_way_to_write_a_line_is_understood() {
        let text =
            "Node 3 MemTotal:       2 kB\nnuma_hit 40\nnuma_miss 2\nother x\n\nMemTotalX: 1\n";
        assert_eq!(added_up(text).unwrap(), [Some(2048), Some(42), None]);
        for bad in [
            "numa_hit",
            "numa_hit -1",
            "numa_hit 1 2",
            "MemTotal: 1 MB",
            "MemTotal: 18446744073709551615 kB",
        ] {
            assert!(added_up(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_is_read_again_and_again_and_follows_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        let mut file = ValueFile::new(path.clone());
        let missing = file.numbers::<1>();
        assert_eq!(file.optional(missing).unwrap(), None);
        fs::write(&path, "5 -6\t7\n").unwrap();
        assert_eq!(file.numbers().unwrap(), [5, -6, 7]);
        fs::write(&path, "8\n").unwrap();
        assert_eq!(file.numbers().unwrap(), [8]);
        let error = file.numbers::<2>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let error = file.optional::<()>(Err(error)).unwrap_err();
        assert!(format!("{error:#}").contains(path.to_str().unwrap()));
    }

    proptest! {
        #[test]
        fn any_lines_are_numbers_or_an_error(text in "((Node 0 )?(MemTotal|numa_hit|x)[: ]{0,3}-?[0-9]{0,22}( kB)?\\n?){0,9}") {
            if let Ok(sums) = added_up(&text) {
                prop_assert!(sums[0].is_none() || text.contains("MemTotal"));
            }
        }

        #[test]
        fn any_bytes_are_a_number_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("value");
            fs::write(&path, &bytes).unwrap();
            if let Ok([number]) = ValueFile::new(path).numbers() {
                let text = String::from_utf8(bytes).unwrap();
                let first = text.split_ascii_whitespace().next();
                prop_assert_eq!(first.unwrap().parse(), Ok(number));
            }
        }
    }
}
