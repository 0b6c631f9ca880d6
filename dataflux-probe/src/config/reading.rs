//! Files of a configuration as text, however much is behind their names.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Bytes of the longest file that is read: far more than any configuration, and far less than memory. `/dev/zero` has no end.
const LONGEST: usize = 16 << 20;

/// What may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinds {
    /// Files, and also pipes and devices, whose writers are waited for.
    All,
    /// Files, and nothing else is waited for.
    Files,
}

/// The text of a file.
///
/// # Errors
/// It cannot be read, is of another kind, is longer than [`LONGEST`], or is not UTF-8.
pub(super) fn read(path: &Path, kinds: Kinds) -> io::Result<String> {
    let mut options = File::options();
    options.read(true);
    if kinds == Kinds::Files {
        // Opens a pipe without a writer.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path)?;
    if kinds == Kinds::Files && !file.metadata()?.is_file() {
        let message = "is not a file; only a start reads a pipe or a device";
        return Err(io::Error::other(message));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST {
        let message = format!("is longer than {} MiB", LONGEST >> 20);
        return Err(io::Error::other(message));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_never_ends_is_not_read_to_the_end() {
        let error = read(Path::new("/dev/zero"), Kinds::All).unwrap_err();
        assert_eq!(error.to_string(), "is longer than 16 MiB");
        assert_eq!(read(Path::new("/dev/null"), Kinds::All).unwrap(), "");
    }

    #[test]
    fn nobody_waits_for_the_writer_of_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        for path in [&path, Path::new("/dev/null")] {
            let error = read(path, Kinds::Files).unwrap_err();
            assert!(error.to_string().starts_with("is not a file"), "{error}");
        }
    }

    #[test]
    fn the_longest_is_read_and_must_be_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        fs::write(&path, vec![b'#'; LONGEST]).unwrap();
        assert_eq!(read(&path, Kinds::Files).unwrap().len(), LONGEST);
        fs::write(&path, b"\xff").unwrap();
        let error = read(&path, Kinds::All).unwrap_err();
        assert_eq!(error.to_string(), "is not UTF-8");
    }
}
