//! Asking a file system how much room it has.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstatvfs, open, statx};

use super::select::FileSystem;

/// A way to ask what is at a path.
pub(super) type Ask = dyn Fn(&Path) -> io::Result<Found> + Send + Sync;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The number of the mount that the path leads to, in the probe's own namespace.
    pub(super) mount: u64,
    pub(super) room: Room,
}

/// What statvfs(2) says, in bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) size: u64,
    pub(super) free: u64,
    /// Of what is free, what users without privileges can have.
    pub(super) available: u64,
    /// 0 where there is no fixed number.
    pub(super) inodes: u64,
    pub(super) free_inodes: u64,
}

/// What the probe itself sees.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// The device number of the file system of each mount, by the mount's number.
    pub(super) devices: HashMap<u64, u64>,
    /// Where it can reach each file system without a detour, by device number: in a container, also what is only a folder or
    /// a file of it.
    pub(super) places: HashMap<u64, Vec<PathBuf>>,
}

/// What came of asking a file system.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is mounted at the point at this place.
    Found(usize, Room),
    /// No path of its mounts leads to it from where the probe is.
    OutOfSight,
    Failed(io::Error),
}

/// Asks at one mount after the other until the answer is this file system's own, and at last wherever the probe sees it.
pub(super) fn first_in_sight(system: &FileSystem, sight: &Sight, ask: &Ask) -> Outcome {
    let mut outcome = Outcome::OutOfSight;
    let own = sight.places.get(&system.device).into_iter().flatten();
    let points = system.points.iter().enumerate();
    let points = points.map(|(at, point)| (at, &point.path));
    for (at, path) in points.chain(own.map(|path| (0, path))) {
        match ask(path) {
            Ok(found) if sight.devices.get(&found.mount) == Some(&system.device) => {
                return Outcome::Found(at, found.room);
            }
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => outcome = Outcome::Failed(error),
        }
    }
    outcome
}

/// By statx(2) and statvfs(2) of the same place; neither is restricted by Landlock, and nothing is opened for reading.
pub(super) fn statvfs(path: &Path) -> io::Result<Found> {
    let place = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let status = statx(&place, c"", flags, StatxFlags::MNT_ID)?;
    if !StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::MNT_ID) {
        return Err(io::Error::other(
            "this kernel does not tell mounts apart (Linux 5.8)",
        ));
    }
    let room = fstatvfs(&place)?;
    let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
    Ok(Found {
        mount: status.stx_mnt_id,
        room: Room {
            size: bytes(room.f_blocks),
            free: bytes(room.f_bfree),
            available: bytes(room.f_bavail),
            inodes: room.f_files,
            free_inodes: room.f_ffree,
        },
    })
}
