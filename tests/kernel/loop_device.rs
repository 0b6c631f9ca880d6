//! A loop device of a test's own, and what the kernel accounts for it.

use std::{
    fs::{self, File, OpenOptions},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use dataflux_probe::model::{Entity, EntityKey, EntityKind};
use tempfile::TempDir;

/// Operations, as [`DiskStats`] numbers them.
pub(crate) const READ: usize = 0;
/// See [`READ`].
pub(crate) const WRITE: usize = 1;
/// See [`READ`].
pub(crate) const DISCARD: usize = 2;
/// See [`READ`].
pub(crate) const FLUSH: usize = 3;

/// Completed requests and sectors of one device by operation (Documentation/admin-guide/iostats.rst).
#[derive(PartialEq)]
pub(crate) struct DiskStats([(u64, u64); 4]);

impl DiskStats {
    /// The kernel counts a request after it has told its owner: waits until nothing changes any more.
    pub(crate) fn settled(device: &LoopDevice) -> Self {
        let mut last = Self::read(device);
        loop {
            thread::sleep(Duration::from_millis(5));
            let now = Self::read(device);
            if now == last {
                return now;
            }
            last = now;
        }
    }

    fn read(device: &LoopDevice) -> Self {
        let (major, minor) = device.number;
        let text = fs::read_to_string("/proc/diskstats").expect("/proc/diskstats");
        let fields = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let wanted =
            |fields: &Vec<&str>| fields[0] == major.to_string() && fields[1] == minor.to_string();
        let fields = fields
            .into_iter()
            .find(wanted)
            .expect("the loop device is in diskstats");
        let number = |index: usize| fields[index].parse::<u64>().expect("a number");
        Self([
            (number(3), number(5)),
            (number(7), number(9)),
            (number(14), number(16)),
            (number(18), 0),
        ])
    }

    /// Requests and bytes since then.
    pub(crate) fn since(&self, before: &Self, operation: usize) -> (u64, u64) {
        let (now, then) = (self.0[operation], before.0[operation]);
        (now.0 - then.0, (now.1 - then.1) * 512)
    }
}

/// A loop device on a file of its own; gone when dropped.
pub(crate) struct LoopDevice {
    /// Opened for direct I/O.
    pub(crate) file: File,
    path: String,
    number: (u32, u32),
    /// Whether a file system of its own is mounted on the folder.
    mounted: bool,
    folder: TempDir,
}

impl LoopDevice {
    /// Everything is allocated, so that the file system below has nothing to do later.
    pub(crate) fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("disk"), vec![1; bytes as usize]).expect("room for a disk");
        Self::attach(folder, false)
    }

    /// Nothing is allocated, and nothing can be.
    pub(crate) fn on_a_full_file_system(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                "size=64k",
                "tmpfs",
                &folder.path().display().to_string(),
            ],
        );
        let disk = File::create(folder.path().join("disk")).expect("a file");
        disk.set_len(bytes).expect("a file with nothing in it");
        fs::write(folder.path().join("rest"), vec![1; 64 << 10]).expect("filling the file system");
        Self::attach(folder, true)
    }

    fn attach(folder: TempDir, mounted: bool) -> Self {
        let disk = folder.path().join("disk").display().to_string();
        let path = run("losetup", &["--find", "--show", &disk]);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .expect("opening the loop device");
        let device = fs::metadata(Path::new(&path))
            .expect("the loop device")
            .rdev();
        Self {
            file,
            path,
            number: (libc::major(device), libc::minor(device)),
            mounted,
            folder,
        }
    }

    /// What the probe reports it as.
    pub(crate) fn entity(&self) -> Entity {
        Entity {
            kind: EntityKind::Device,
            key: EntityKey::Id((self.number.0 << 20 | self.number.1).into()),
        }
    }

    /// Discards a range of bytes.
    pub(crate) fn discard(&self, start: u64, bytes: u64) {
        /// `_IO(0x12, 119)` of include/uapi/linux/fs.h.
        const BLKDISCARD: libc::Ioctl = 0x1277;
        let range = [start, bytes];
        // SAFETY: BLKDISCARD reads two u64 at the pointer.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), BLKDISCARD, range.as_ptr()) };
        assert_eq!(result, 0, "BLKDISCARD: {}", std::io::Error::last_os_error());
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let mut commands = vec![("losetup", vec!["--detach", self.path.as_str()])];
        let folder = self.folder.path().display().to_string();
        if self.mounted {
            commands.push(("umount", vec!["--lazy", &folder]));
        }
        for (program, arguments) in commands {
            let done = Command::new(program).args(&arguments).status();
            assert!(
                done.is_ok_and(|status| status.success()) || thread::panicking(),
                "{program} {arguments:?}"
            );
        }
    }
}

/// Runs a program of util-linux; gives what it prints.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("util-linux and mount are installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {said}",
        arguments.join(" ")
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
