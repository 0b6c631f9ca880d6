//! Which of the host's mounts are asked, and which of them stand for one file system.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    metrics::disk::Config,
    mounts::{self, Mount},
    pipeline::shape::wildcard,
};

/// Types that have no room of their own, or none that anything can fill: what the kernel shows as files, ramfs that has no
/// limit, images that are full from the beginning, and layers over other file systems. tmpfs has a limit, and programs that
/// cannot write to `/run`, `/tmp` or `/dev/shm` fail.
pub(in super::super) const WITHOUT_ROOM: [&str; 35] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cramfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.snapfuse",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nfsd",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "xenfs",
];

/// Mount points that come and go with containers, services and sessions, and those of what the kernel shows as files: v1's
/// cgroups are in a tmpfs.
pub(in super::super) const COMING_AND_GOING: [&str; 8] = [
    "/run/containerd/*",
    "/run/containers/*",
    "/run/credentials/*",
    "/run/user/*",
    "/sys/*",
    "/var/lib/containers/storage/*",
    "/var/lib/docker/*",
    "/var/lib/kubelet/pods/*",
];

/// Types that are in this machine although they are on no device, or on several. Every other one without a device may be
/// somewhere else, and so may keep whoever asks waiting.
const LOCAL: [&str; 15] = [
    "bcachefs",
    "btrfs",
    "cgroup",
    "cgroup2",
    "devtmpfs",
    "erofs",
    "hugetlbfs",
    "overlay",
    "proc",
    "ramfs",
    "rootfs",
    "sysfs",
    "tmpfs",
    "ubifs",
    "zfs",
];

/// How many mounts of one file system are tried.
const POINTS: usize = 8;
/// And how many places of the probe's own, if none of them leads to it.
const PLACES: usize = 2;

/// A file system that is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// Its own device number.
    pub(super) device: u64,
    /// The block device that it is on.
    pub(super) entity: Option<u64>,
    pub(super) kind: String,
    /// Where it is mounted, the best name first; not empty.
    pub(super) points: Vec<Point>,
    /// Whether all of its mounts are.
    pub(super) read_only: bool,
    /// Whether an answer may never come.
    pub(super) remote: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    /// As the host names it.
    pub(super) name: String,
    /// As the probe reaches it.
    pub(super) path: PathBuf,
}

impl FileSystem {
    /// Its best name.
    pub(super) fn name(&self) -> &str {
        &self.points[0].name
    }
}

/// What the configuration wants.
pub(super) struct Selection {
    exclude_types: Vec<String>,
    exclude_mounts: Vec<String>,
    most: usize,
    remote: bool,
}

impl Selection {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            exclude_types: config.exclude_types.clone(),
            exclude_mounts: config.exclude_mounts.clone(),
            most: config.max_file_systems,
            remote: config.remote,
        }
    }

    /// The file systems to ask, in the order of their first mounts, and how many there are beyond that.
    pub(super) fn of(&self, mounts: &[Mount], root: &Path) -> (Vec<FileSystem>, usize) {
        let covered = mounts::covered(mounts);
        let elsewhere = elsewhere(mounts);
        let mut systems: Vec<Vec<&Mount>> = Vec::new();
        let mut places: HashMap<u64, usize> = HashMap::new();
        for (mount, covered) in mounts.iter().zip(covered) {
            if covered || !self.wants(mount) {
                continue;
            }
            let place = *places.entry(mount.device).or_insert_with(|| {
                systems.push(Vec::new());
                systems.len() - 1
            });
            systems[place].push(mount);
        }
        let mut systems: Vec<FileSystem> = systems
            .into_iter()
            .map(|mounts| file_system(mounts, &elsewhere, root))
            .filter(|system| self.remote || !system.remote)
            .collect();
        let beyond = systems.len().saturating_sub(self.most);
        systems.truncate(self.most);
        (systems, beyond)
    }

    fn wants(&self, mount: &Mount) -> bool {
        let point = mount.name();
        !self.exclude_types.contains(&mount.kind)
            && !self
                .exclude_mounts
                .iter()
                .any(|pattern| wildcard::matches(pattern, &point))
    }
}

/// Where each file system of these mounts can be reached without a detour through a remote one, by device number.
pub(super) fn places(mounts: &[Mount]) -> HashMap<u64, Vec<PathBuf>> {
    let elsewhere = elsewhere(mounts);
    let mut places: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    for (mount, covered) in mounts.iter().zip(mounts::covered(mounts)) {
        let direct = !elsewhere.iter().any(|&path| mount.point.starts_with(path));
        let known = places.entry(mount.device).or_default();
        if known.len() < PLACES && !covered && (direct || is_remote(mount)) {
            known.push(mount.point.clone());
        }
    }
    places
}

/// The points of remote mounts. The root may be one, too, but if that is away, so is everything.
fn elsewhere(mounts: &[Mount]) -> Vec<&Path> {
    let remote = mounts
        .iter()
        .filter(|mount| is_remote(mount) && mount.point != Path::new("/"));
    remote.map(|mount| &*mount.point).collect()
}

/// Of its mounts, those of the whole file system and then the shortest have the best names. It is remote if the way to a mount
/// leads through another one that is.
fn file_system(mut mounts: Vec<&Mount>, elsewhere: &[&Path], root: &Path) -> FileSystem {
    mounts.sort_by_key(|mount| (!mount.whole, mount.point.as_os_str().len()));
    let first = mounts[0];
    let through = |mount: &Mount| elsewhere.iter().any(|&path| mount.point.starts_with(path));
    let direct: Vec<&Mount> = mounts
        .iter()
        .copied()
        .filter(|mount| !through(mount))
        .collect();
    let remote = is_remote(first) || direct.is_empty();
    let tried = if remote { &mounts } else { &direct };
    let point = |mount: &&Mount| Point {
        name: mount.name().into_owned(),
        path: mounts::below(root, &mount.point),
    };
    FileSystem {
        device: first.device,
        entity: first.device_below(root),
        kind: first.kind.clone(),
        points: tried.iter().take(POINTS).map(point).collect(),
        read_only: mounts.iter().all(|mount| mount.read_only),
        remote,
    }
}

/// Whether it may have to be fetched from somewhere: file systems in userspace are, as their programs may hang.
fn is_remote(mount: &Mount) -> bool {
    match mount.block_device() {
        Some(_) => mount.kind == "fuseblk",
        None => !LOCAL.contains(&&*mount.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &Config, mountinfo: &str) -> (Vec<FileSystem>, usize) {
        let mounts = mounts::parse(mountinfo.as_bytes()).unwrap();
        Selection::new(config).of(&mounts, Path::new("/host/root"))
    }

    fn names(systems: &[FileSystem]) -> Vec<&str> {
        systems.iter().map(FileSystem::name).collect()
    }

    #[test]
    fn many_mounts_of_one_file_system_are_one_with_the_shortest_whole_name() {
        let (systems, _) = of(
            &Config::default(),
            "1 0 8:1 /sub /s rw - ext4 /dev/a rw
2 1 8:1 / /long/name ro - ext4 /dev/a rw
3 1 8:1 / /data ro - ext4 /dev/a rw
4 1 8:2 / /boot ro - vfat /dev/b ro
",
        );
        assert_eq!(names(&systems), ["/data", "/boot"]);
        let points: Vec<_> = systems[0].points.iter().map(|point| &*point.name).collect();
        assert_eq!(points, ["/data", "/long/name", "/s"]);
        assert_eq!(
            systems[0].points[2].path,
            Path::new("/host/root/s"),
            "as the probe reaches it"
        );
        assert_eq!(systems[0].entity, Some(8 << 20 | 1));
        assert!(!systems[0].read_only, "one mount can be written to");
        assert!(systems[1].read_only);
    }

    #[test]
    fn names_that_differ_in_bytes_that_are_no_text_stay_two() {
        let mountinfo =
            b"1 0 8:1 / /a\xff rw - ext4 /dev/a rw\n2 0 8:2 / /a\xfe rw - ext4 /dev/b rw\n";
        let mounts = mounts::parse(mountinfo).unwrap();
        let all = Selection::new(&Config::default());
        assert_eq!(
            names(&all.of(&mounts, Path::new("/")).0),
            [r"/a\xff", r"/a\xfe"]
        );
        let one = Config {
            exclude_mounts: vec![r"*\xff".into()],
            ..Config::default()
        };
        let (systems, _) = Selection::new(&one).of(&mounts, Path::new("/"));
        assert_eq!(names(&systems), [r"/a\xfe"]);
    }

    #[test]
    fn what_has_no_room_comes_with_containers_or_is_hidden_is_left_out() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw
2 1 0:4 / /proc rw - proc proc rw
3 1 0:5 / /run rw - tmpfs tmpfs rw
4 1 8:2 / /var/lib/kubelet/pods/1/volume rw - ext4 /dev/b rw
5 1 8:3 / /mnt rw - ext4 /dev/c rw
6 5 8:4 / /mnt rw - ext4 /dev/d rw
7 3 0:6 / /run/user/1000 rw - tmpfs tmpfs rw
8 1 0:7 / /sys/fs/cgroup ro - tmpfs tmpfs ro
9 10 0:8 / /dev/shm rw - tmpfs tmpfs rw
10 1 0:9 / /dev rw - devtmpfs udev rw
";
        let told = ["/", "/run", "/mnt", "/dev/shm"];
        assert_eq!(names(&of(&Config::default(), mounts).0), told);
        let all = Config {
            exclude_types: Vec::new(),
            exclude_mounts: vec!["/mn?".into()],
            max_file_systems: 3,
            ..Config::default()
        };
        let (systems, beyond) = of(&all, mounts);
        assert_eq!(names(&systems), ["/", "/proc", "/run"]);
        assert_eq!(beyond, 5);
    }

    #[test]
    fn what_may_be_elsewhere_is_remote_and_so_is_what_is_behind_it() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw
2 1 0:40 / /net rw - nfs4 server:/x rw
3 2 8:2 / /net/local rw - ext4 /dev/b rw
4 1 0:41 / /ssh rw - fuse.sshfs host:/ rw
5 1 8:3 / /ntfs rw - fuseblk /dev/c rw
6 1 0:42 / /pool rw - zfs pool rw
7 1 0:43 / /new rw - madeupfs x rw
8 1 8:1 /sub /net/sub rw - ext4 /dev/a rw
";
        assert_eq!(names(&of(&Config::default(), mounts).0), ["/", "/pool"]);
        let remote = Config {
            remote: true,
            ..Config::default()
        };
        let (systems, _) = of(&remote, mounts);
        let elsewhere: Vec<_> = systems.iter().filter(|system| system.remote).collect();
        let names: Vec<_> = elsewhere.iter().map(|system| system.name()).collect();
        assert_eq!(names, ["/net", "/net/local", "/ssh", "/ntfs", "/new"]);
        assert_eq!(
            systems[0].points.len(),
            1,
            "the way through the network is not taken"
        );
    }

    #[test]
    fn a_remote_root_does_not_make_everything_remote() {
        let (systems, _) = of(
            &Config::default(),
            "1 0 0:20 / / rw - nfs server:/root rw\n2 1 8:1 / /data rw - ext4 /dev/a rw\n",
        );
        assert_eq!(names(&systems), ["/data"]);
    }
}
