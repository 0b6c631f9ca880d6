//! Makes files and folders with the modes that were asked for.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use rustix::{fs::Mode as Bits, process::umask};

/// With which modes files and folders are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modes {
    pub(super) file: Mode,
    pub(super) folder: Mode,
}

/// The mode of something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    bits: u32,
    /// Whatever the umask says.
    exact: bool,
}

impl Mode {
    /// Without what the umask takes away.
    pub(super) const fn at_most(bits: u32) -> Self {
        Self { bits, exact: false }
    }

    /// As `"0640"` says; it must let the owner do what `owner` says.
    pub(super) fn parse(text: &str, owner: u32) -> Result<Self, String> {
        let bits = u32::from_str_radix(text, 8)
            .ok()
            .filter(|&bits| bits <= 0o777);
        let bits = bits.ok_or_else(|| format!("`{text}` is not a mode like \"0640\""))?;
        if bits & owner != owner {
            return Err(format!(
                "`{text}` locks the probe out: the owner needs 0{owner:o} at least"
            ));
        }
        Ok(Self { bits, exact: true })
    }

    /// Calls what makes something of this mode.
    fn make<T>(self, make: impl FnOnce(u32) -> T) -> T {
        if !self.exact {
            return make(self.bits);
        }
        // Changing the mode of a file is refused after the start, and the umask is the whole process's. So for a moment it lets
        // these bits through, which is what somebody wanted for the most public files of this process.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = Bits::from_bits_truncate(self.bits);
        let before = umask(Bits::from_bits_truncate(0o027) - wanted);
        umask(before - wanted);
        let made = make(self.bits);
        umask(before);
        made
    }
}

impl Modes {
    /// Opens a file for appending, and makes it if it is missing.
    pub(super) fn append_to(self, path: &Path) -> io::Result<File> {
        self.open(path, OpenOptions::new().read(true).append(true))
    }

    /// Opens a file for writing anywhere in it, and makes it if it is missing.
    pub(super) fn write_to(self, path: &Path) -> io::Result<File> {
        self.open(path, OpenOptions::new().read(true).write(true))
    }

    fn open(self, path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        // A pipe by that name is refused, not waited for.
        options.custom_flags(libc::O_NONBLOCK);
        match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => self
                .file
                .make(|bits| options.create(true).mode(bits).open(path)),
            opened => opened,
        }
    }

    /// Makes a file's folder and those above it up to `base`, but not the folder that `base` is in: a missing mount point or a
    /// typing error stays visible.
    pub(super) fn make_folders(self, base: &Path, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().context("it has no folder")?;
        let above = folder
            .ancestors()
            .take_while(|above| above.starts_with(base));
        let mut folders: Vec<_> = above.collect();
        folders.reverse();
        for folder in folders {
            let made = self
                .folder
                .make(|bits| DirBuilder::new().mode(bits).create(folder));
            match made {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error)
                        .with_context(|| format!("making the folder {}", folder.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
