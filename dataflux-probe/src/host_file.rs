//! The files of `/proc` and `/sys` as readers take them: whole, and with the path in every error.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use procfs::{ProcError, ProcResult};

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

    /// Reads all of the file and gives it to `parse`. Bytes that are not UTF-8 (names can have them) are replaced.
    ///
    /// # Errors
    /// The file cannot be read, does not end with a whole line, or `parse` refuses it. All name the file.
    pub(crate) fn read<T>(
        &mut self,
        parse: impl FnOnce(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.read_bytes(|text| parse(&String::from_utf8_lossy(text)))
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
    fn fill(&mut self) -> std::io::Result<usize> {
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

/// A small file; `None` if it cannot be read. Bytes that are not UTF-8 are replaced.
pub(crate) fn text(path: &Path) -> Option<String> {
    match fs::read(path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
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
