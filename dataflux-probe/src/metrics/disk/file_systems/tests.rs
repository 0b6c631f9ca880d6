//! Tests of the file systems of hosts that are folders, with answers of the tests' own.

use std::{
    fs,
    io::{Error, ErrorKind},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{ask::Found, *};
use crate::{config::values::Time, host_file::testing::total, model::Total, plugin::testing};

const HOST: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,errors=remount-ro
28 27 0:5 / /proc rw - proc proc rw
29 27 254:16 / /data\\040disk ro - xfs /dev/vdb ro
30 27 0:40 / /net rw - nfs4 server:/export rw
31 30 0:41 / /net/pool rw - zfs pool rw
";

const ROOM: Room = Room {
    size: 1000 << 12,
    free: 300 << 12,
    available: 250 << 12,
    inodes: 500,
    free_inodes: 400,
};

/// A host with these mounts, which the probe sees as they are.
fn host(mounts: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for process in ["1", "self"] {
        set(&folder, process, mounts);
    }
    folder
}

fn set(folder: &TempDir, process: &str, mounts: &str) {
    let path = folder.path().join("proc").join(process);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("mountinfo"), mounts).unwrap();
}

/// The numbers of the mounts at the points of `HOST`.
fn mount_at(root: &Path, path: &Path) -> Option<u64> {
    match &*path.strip_prefix(root).ok()?.to_string_lossy() {
        "" => Some(27),
        "data disk" => Some(29),
        "net" => Some(30),
        "net/pool" => Some(31),
        _ => None,
    }
}

/// The file systems of a host, each of which says the same.
fn reader(folder: &TempDir, config: &Config) -> FileSystems {
    let root = folder.path().join("root");
    asking(folder, config, move |path| {
        let mount = mount_at(&root, path).ok_or(ErrorKind::NotFound)?;
        Ok(Found { mount, room: ROOM })
    })
}

fn asking(
    folder: &TempDir,
    config: &Config,
    ask: impl Fn(&Path) -> std::io::Result<Found> + Send + Sync + 'static,
) -> FileSystems {
    FileSystems::asking(config, &testing::context(folder.path()), Arc::new(ask))
}

fn read(reader: &mut FileSystems) -> Snapshot {
    let mut snapshot = Snapshot::default();
    reader.read(&mut snapshot);
    snapshot
}

/// The points of a snapshot's series, each once.
fn points(snapshot: &Snapshot) -> Vec<&str> {
    let mut points: Vec<&str> = snapshot.series.iter().map(|it| &*it.labels[0]).collect();
    points.dedup();
    points
}

fn remote() -> Config {
    Config {
        remote: true,
        remote_timeout: Time(Duration::from_millis(20)),
        ..Config::default()
    }
}

#[test]
fn the_states_of_space_and_inodes_add_up() {
    let folder = host(HOST);
    let snapshot = read(&mut reader(&folder, &Config::default()));
    assert_eq!(points(&snapshot), ["/", "/data disk"]);
    let gauge = |name, labels: &[&str]| match total(&snapshot, name, labels) {
        Some(Total::Gauge(value)) => value as u64,
        other => panic!("{name} {labels:?}: {other:?}"),
    };
    let space = |state| gauge("disk.space", &["/", "ext4", state]) >> 12;
    assert_eq!(
        [space("used"), space("available"), space("reserved")],
        [700, 250, 50]
    );
    let inodes = |state| gauge("disk.inodes", &["/data disk", "xfs", state]);
    assert_eq!([inodes("used"), inodes("free")], [100, 400]);
    assert_eq!(gauge("disk.read_only", &["/", "ext4"]), 0);
    assert_eq!(gauge("disk.read_only", &["/data disk", "xfs"]), 1);
    let entity = snapshot.series[0].entity.clone().unwrap();
    assert_eq!(entity.key, EntityKey::Id(254 << 20));
    assert_eq!(snapshot.health, Health::default());
}

#[test]
fn without_a_fixed_number_of_inodes_there_are_none_and_without_room_there_is_nothing() {
    let folder = host(HOST);
    let root = folder.path().join("root");
    let mut reader = asking(&folder, &Config::default(), move |path| {
        let mount = mount_at(&root, path).unwrap();
        let size = if mount == 27 { ROOM.size } else { 0 };
        let room = Room {
            size,
            inodes: 0,
            free_inodes: 0,
            ..ROOM
        };
        Ok(Found { mount, room })
    });
    let snapshot = read(&mut reader);
    assert_eq!(points(&snapshot), ["/"]);
    let names: Vec<_> = snapshot.series.iter().map(|it| it.def.name).collect();
    assert!(!names.contains(&"disk.inodes"), "{names:?}");
}

#[test]
fn what_another_mount_says_is_not_told_as_the_file_system_s() {
    let folder = host(HOST);
    // A sandbox has something of its own at one point, and the other is not there.
    set(
        &folder,
        "self",
        "90 1 254:0 / / rw - ext4 /dev/vda rw\n91 90 0:77 / /data\\040disk rw - tmpfs none rw\n",
    );
    let root = folder.path().join("root");
    let mut reader = asking(&folder, &Config::default(), move |path| {
        let mount = if path == root.as_path() || path == root.join("") {
            90
        } else {
            91
        };
        Ok(Found { mount, room: ROOM })
    });
    let snapshot = read(&mut reader);
    assert_eq!(points(&snapshot), ["/"]);
    assert_eq!(snapshot.health.status, Status::Degraded);
    let reason = &*snapshot.health.reason;
    assert!(
        reason.starts_with("out of the probe's sight") && reason.ends_with(": /data disk"),
        "{reason}"
    );
}

#[test]
fn a_file_that_a_container_has_of_a_file_system_stands_for_it() {
    let folder = host(HOST);
    let file = folder.path().join("root/etc/machine-id");
    let mounts = format!(
        "90 1 0:70 / / rw - overlay none rw\n91 90 254:0 /etc/machine-id {} ro - ext4 /dev/vda rw\n",
        file.display()
    );
    set(&folder, "self", &mounts);
    let mut reader = asking(&folder, &Config::default(), move |path| {
        let mount = if path == file { 91 } else { 90 };
        Ok(Found { mount, room: ROOM })
    });
    let snapshot = read(&mut reader);
    assert_eq!(
        points(&snapshot),
        ["/"],
        "by the name that the host has for it"
    );
    let reason = &snapshot.health.reason;
    assert!(reason.ends_with(": /data disk"), "{reason}");
}

#[test]
fn a_remote_file_system_that_hangs_holds_up_nobody_and_gets_one_thread() {
    let folder = host(HOST);
    let root = folder.path().join("root");
    let (release, hangs) = channel::<()>();
    let hangs = Mutex::new(hangs);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let mut reader = asking(&folder, &remote(), move |path| {
        let mount = mount_at(&root, path).unwrap();
        if mount == 30 && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            hangs.lock().unwrap().recv().unwrap();
        }
        Ok(Found { mount, room: ROOM })
    });
    for _ in 0..3 {
        let snapshot = read(&mut reader);
        let points = points(&snapshot);
        assert!(points.starts_with(&["/", "/data disk"]), "{points:?}");
        assert!(!points.contains(&"/net"), "{points:?}");
        assert_eq!(snapshot.health.status, Status::Degraded);
        assert!(
            snapshot.health.reason.contains("no answer: /net"),
            "{}",
            snapshot.health
        );
        assert_eq!(calls.load(Ordering::SeqCst), 1, "one thread waits");
    }
    release.send(()).unwrap();
    reader.timeout = Duration::from_secs(60);
    // It is asked anew as soon as the thread that hung is done.
    let healed = (0..10_000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        let snapshot = read(&mut reader);
        points(&snapshot).contains(&"/net").then_some(snapshot)
    });
    let snapshot = healed.unwrap();
    assert_eq!(snapshot.health, Health::default());
    assert_eq!(
        points(&snapshot),
        ["/", "/data disk", "/net", "/net/pool"],
        "what is mounted behind it, too"
    );
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn what_cannot_be_asked_and_what_is_too_much_is_told() {
    let folder = host(HOST);
    let config = Config {
        max_file_systems: 1,
        ..Config::default()
    };
    let mut reader = asking(&folder, &config, |_| {
        Err(Error::from(ErrorKind::PermissionDenied))
    });
    let snapshot = read(&mut reader);
    assert!(snapshot.series.is_empty());
    assert_eq!(
        &*snapshot.health.reason,
        "cannot be asked: /: permission denied; 1 file systems more than max_file_systems"
    );
}

#[test]
fn mounts_come_and_go() {
    let folder = host("27 1 254:0 / / rw - ext4 /dev/vda rw\n");
    let mut reader = reader(&folder, &Config::default());
    assert_eq!(points(&read(&mut reader)), ["/"]);
    for process in ["1", "self"] {
        set(&folder, process, HOST);
    }
    assert_eq!(points(&read(&mut reader)), ["/", "/data disk"]);
    for process in ["1", "self"] {
        set(&folder, process, "27 1 254:0 / / ro - ext4 /dev/vda rw\n");
    }
    let snapshot = read(&mut reader);
    assert_eq!(points(&snapshot), ["/"]);
    assert_eq!(
        total(&snapshot, "disk.read_only", &["/", "ext4"]),
        Some(Total::Gauge(1.0))
    );
}

#[test]
fn without_mountinfo_there_are_no_file_systems_and_the_reason_names_the_file() {
    let folder = host(HOST);
    for text in ["", "nonsense\n", "27 1 254:0 / / rw - ext4 /dev/vda rw"] {
        set(&folder, "1", text);
        let snapshot = read(&mut reader(&folder, &Config::default()));
        assert!(snapshot.series.is_empty());
        assert_eq!(snapshot.health.status, Status::Degraded);
        let reason = &snapshot.health.reason;
        assert!(reason.contains("proc/1/mountinfo"), "{text:?}: {reason}");
        assert!(!reason.contains('\n'), "{reason}");
    }
}

#[test]
fn the_root_of_this_machine_is_as_large_as_statvfs_says() {
    let mut context = testing::context(testing::fixtures());
    context.roots = crate::plugin::Roots::default();
    if fs::read("/proc/1/mountinfo").is_err() {
        return;
    }
    let config = Config {
        exclude_types: Vec::new(),
        max_file_systems: 10_000,
        ..Config::default()
    };
    let snapshot = read(&mut FileSystems::new(&config, &context));
    let mounts = mounts::parse(&fs::read("/proc/self/mountinfo").unwrap()).unwrap();
    let kind = |point: &str| {
        let at = mounts.iter().rev().find(|it| it.point == Path::new(point));
        at.map(|mount| mount.kind.clone())
    };
    for point in points(&snapshot) {
        let kind = kind(point).unwrap();
        let sum: u64 = ["used", "available", "reserved"]
            .map(
                |state| match total(&snapshot, "disk.space", &[point, &kind, state]) {
                    Some(Total::Gauge(value)) => value as u64,
                    other => panic!("{point}: {other:?}"),
                },
            )
            .iter()
            .sum();
        let expected = rustix::fs::statvfs(point).unwrap();
        assert_eq!(sum, expected.f_blocks * expected.f_frsize, "{point}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn damaged_mounts_are_no_panic(flips in prop::collection::vec((0..HOST.len(), any::<u8>()), 1..6)) {
        let mut text = HOST.as_bytes().to_vec();
        for (at, bits) in flips {
            text[at] ^= bits;
        }
        let folder = host("");
        fs::write(folder.path().join("proc/1/mountinfo"), &text).unwrap();
        fs::write(folder.path().join("proc/self/mountinfo"), HOST).unwrap();
        let root = folder.path().join("root");
        let mut reader = asking(&folder, &Config::default(), move |path| {
            let mount = mount_at(&root, path).ok_or(ErrorKind::NotFound)?;
            Ok(Found { mount, room: ROOM })
        });
        let snapshot = read(&mut reader);
        prop_assert!(!snapshot.series.is_empty() || snapshot.health.status == Status::Degraded || text != HOST.as_bytes());
    }
}
