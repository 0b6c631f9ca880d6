//! The names of entities by their ids, and the other way round, for the envelope's join.

use std::{
    collections::HashMap,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::DirEntryExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    cgroups::Tree,
    host_file::first_line,
    model::{Entity, EntityKey, EntityKind},
    raw_name::shown,
};

/// How old names may be: renames are noticed after that.
const MAX_AGE: Duration = Duration::from_secs(10);

/// What is kept of each kind at most, far above what machines have; more have no names.
const MAX_ENTITIES: usize = 16_384;

/// Names of block devices, interfaces and cgroups, as sysfs has them.
#[derive(Debug)]
pub struct Names {
    devices: Table,
    interfaces: Table,
    cgroups: Table,
    /// When the tick began.
    tick: Instant,
}

impl Names {
    /// Reads nothing yet. `sys` is the host's `/sys`.
    #[must_use]
    pub fn new(sys: PathBuf) -> Self {
        Self {
            devices: Table::new(Place::Folder(sys.join("dev/block"), device)),
            interfaces: Table::new(Place::Folder(sys.join("class/net"), interface)),
            cgroups: Table::new(Place::Cgroups(Tree::unified(&sys))),
            tick: Instant::now(),
        }
    }

    /// The id and the name of an entity, as far as they are known. Looks again at its kind in sysfs when the entity is
    /// unknown or a cgroup by its path, at most once per call of [`Names::begin_tick`], and when what it knows is older than
    /// ten seconds.
    pub fn resolve(&mut self, entity: &Entity) -> (Option<u64>, Option<Arc<str>>) {
        if entity.key == EntityKey::Other {
            return (None, None);
        }
        let tick = self.tick;
        let table = self.table(entity.kind);
        // Where a service starts again, another cgroup has the path at once.
        let may_be_another =
            entity.kind == EntityKind::Cgroup && matches!(entity.key, EntityKey::Name(_));
        let old = may_be_another
            || table
                .looked
                .is_none_or(|looked| tick.duration_since(looked) >= MAX_AGE);
        if table.may_look && (old || !table.knows(&entity.key)) {
            table.may_look = false;
            table.looked = Some(tick);
            table.look();
        }
        table.resolve(&entity.key)
    }

    /// Allows one more look at each kind.
    pub fn begin_tick(&mut self) {
        self.tick = Instant::now();
        self.devices.begin_tick();
        self.interfaces.begin_tick();
        self.cgroups.begin_tick();
    }

    fn table(&mut self, kind: EntityKind) -> &mut Table {
        match kind {
            EntityKind::Device => &mut self.devices,
            EntityKind::Interface => &mut self.interfaces,
            EntityKind::Cgroup => &mut self.cgroups,
        }
    }
}

/// The id and the name of an entry of sysfs, if it is an entity.
type Identify = fn(&Path) -> Option<(u64, Arc<str>)>;

/// Where the entities of a kind are.
#[derive(Debug)]
enum Place {
    /// The entries of a folder.
    Folder(PathBuf, Identify),
    /// The folders of a hierarchy, by path.
    Cgroups(Tree),
}

/// The entities of one kind.
#[derive(Debug)]
struct Table {
    place: Place,
    looked: Option<Instant>,
    may_look: bool,
    /// By the entry's inode number and file name. Sysfs gives no number twice, so both together are an entity that cannot
    /// have changed.
    entries: HashMap<(u64, Arc<str>), (u64, Arc<str>)>,
    present: Index,
    /// Those that a look in this tick, and in the one before, did not find any more: readers may still find last values.
    vanished: [Index; 2],
}

#[derive(Debug, Default)]
struct Index {
    names: HashMap<u64, Arc<str>>,
    ids: HashMap<Arc<str>, u64>,
}

impl Index {
    fn insert(&mut self, id: u64, name: Arc<str>) {
        self.names.insert(id, Arc::clone(&name));
        self.ids.insert(name, id);
    }
}

impl Table {
    fn new(place: Place) -> Self {
        Self {
            place,
            looked: None,
            may_look: true,
            entries: HashMap::new(),
            present: Index::default(),
            vanished: Default::default(),
        }
    }

    fn knows(&self, key: &EntityKey) -> bool {
        match key {
            EntityKey::Id(id) => self.present.names.contains_key(id),
            EntityKey::Name(name) => self.present.ids.contains_key(name),
            EntityKey::Other => true,
        }
    }

    fn resolve(&self, key: &EntityKey) -> (Option<u64>, Option<Arc<str>>) {
        let mut indexes = [&self.present].into_iter().chain(&self.vanished);
        match key {
            EntityKey::Id(id) => {
                let name = indexes.find_map(|index| index.names.get(id));
                (Some(*id), name.cloned())
            }
            EntityKey::Name(name) => {
                let id = indexes.find_map(|index| index.ids.get(name));
                (id.copied(), Some(Arc::clone(name)))
            }
            EntityKey::Other => (None, None),
        }
    }

    /// Asks only about entries that are new, or were no entities at the last look. A folder that cannot be read has none.
    fn look(&mut self) {
        let mut before = std::mem::take(&mut self.entries);
        let mut changed = false;
        let mut keep = |key, identify: &dyn Fn() -> Option<(u64, Arc<str>)>| {
            if let Some((key, entity)) = before.remove_entry(&key) {
                self.entries.insert(key, entity);
            } else if let Some(entity) = identify() {
                self.entries.insert(key, entity);
                changed = true;
            }
        };
        match &mut self.place {
            Place::Folder(folder, identify) => {
                let listed = fs::read_dir(folder).into_iter().flatten().flatten();
                for entry in listed.take(MAX_ENTITIES) {
                    let key = (entry.ino(), shown(entry.file_name().as_bytes()).into());
                    keep(key, &|| identify(&entry.path()));
                }
            }
            Place::Cgroups(tree) => {
                if let Err(error) = tree.refresh() {
                    tracing::debug!("no names of cgroups: {error}");
                }
                if !tree.is_complete() {
                    tracing::debug!(
                        "not all cgroups have names: there are too many, or some are too deep"
                    );
                }
                tree.each(&mut |cgroup, _| {
                    let entity = (cgroup.id(), Arc::clone(cgroup.path()));
                    keep(entity.clone(), &|| Some(entity.clone()));
                });
            }
        }
        if !changed && before.is_empty() {
            return;
        }
        self.present = Index::default();
        for (id, name) in self.entries.values() {
            self.present.insert(*id, Arc::clone(name));
        }
        for (id, name) in before.into_values() {
            self.vanished[0].insert(id, name);
        }
    }

    fn begin_tick(&mut self) {
        self.may_look = true;
        self.vanished.swap(0, 1);
        self.vanished[0] = Index::default();
    }
}

/// `/sys/dev/block/254:0` is a link whose last component is the name, with `!` where the name has a slash.
fn device(link: &Path) -> Option<(u64, Arc<str>)> {
    let (major, minor) = link.file_name()?.to_str()?.split_once(':')?;
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    let target = fs::read_link(link).ok()?;
    let name = shown(target.file_name()?.as_bytes()).replace('!', "/");
    (major < 1 << 12 && minor < 1 << 20).then(|| (major << 20 | minor, name.into()))
}

/// `/sys/class/net/eth0/ifindex`; the folder has files that are no interfaces.
fn interface(folder: &Path) -> Option<(u64, Arc<str>)> {
    let index = first_line(&folder.join("ifindex"))?.parse().ok()?;
    Some((index, shown(folder.file_name()?.as_bytes()).into()))
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::fs::{MetadataExt, symlink},
    };

    use super::*;
    use crate::plugin::testing::fixtures;

    fn id(kind: EntityKind, id: u64) -> Entity {
        let key = EntityKey::Id(id);
        Entity { kind, key }
    }

    fn name(kind: EntityKind, name: &str) -> Entity {
        let key = EntityKey::Name(name.into());
        Entity { kind, key }
    }

    fn known(id: u64, name: &str) -> (Option<u64>, Option<Arc<str>>) {
        (Some(id), Some(name.into()))
    }

    /// A folder like sysfs with interfaces; no inode number is ever used twice, for nothing is deleted.
    struct Sysfs(tempfile::TempDir);

    impl Sysfs {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("class/net")).unwrap();
            fs::create_dir_all(folder.path().join("attic")).unwrap();
            Self(folder)
        }

        fn names(&self) -> Names {
            Names::new(self.0.path().to_owned())
        }

        fn add(&self, name: impl AsRef<Path>, index: u64) {
            let folder = self.0.path().join("class/net").join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("ifindex"), format!("{index}\n")).unwrap();
        }

        fn remove(&self, name: &str) {
            let from = self.0.path().join("class/net").join(name);
            let attic = self.0.path().join("attic");
            fs::rename(
                from,
                attic.join(fs::read_dir(&attic).unwrap().count().to_string()),
            )
            .unwrap();
        }
    }

    const NET: EntityKind = EntityKind::Interface;

    #[test]
    fn ids_and_names_find_each_other() {
        let mut names = Names::new(fixtures().join("sys"));
        let disk = EntityKind::Device;
        assert_eq!(names.resolve(&id(disk, 254 << 20)), known(254 << 20, "vda"));
        assert_eq!(
            names.resolve(&name(disk, "vda1")),
            known(254 << 20 | 1, "vda1")
        );
        assert_eq!(
            names.resolve(&id(disk, 259 << 20 | 0xf_ffff)),
            known(259 << 20 | 0xf_ffff, "nvme0n1")
        );
        assert_eq!(names.resolve(&id(NET, 2)), known(2, "eth0"));
        assert_eq!(names.resolve(&name(NET, "lo")), known(1, "lo"));
        assert_eq!(names.resolve(&id(NET, 9)), (Some(9), None));
        assert_eq!(
            names.resolve(&name(NET, "eth9")),
            (None, Some("eth9".into()))
        );
        let other = Entity {
            kind: NET,
            key: EntityKey::Other,
        };
        assert_eq!(names.resolve(&other), (None, None));
    }

    #[test]
    fn slashes_in_names_of_devices_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("104:0");
        symlink("../../devices/pci/block/cciss!c0d0", &link).unwrap();
        assert_eq!(device(&link), Some((104 << 20, "cciss/c0d0".into())));
        let nonsense = folder.path().join("4096:0");
        symlink("../../devices/block/x", &nonsense).unwrap();
        assert_eq!(device(&nonsense), None);
    }

    #[test]
    fn names_that_differ_in_bytes_that_are_no_text_stay_two() {
        let sysfs = Sysfs::new();
        sysfs.add(OsStr::from_bytes(b"e\xff"), 2);
        sysfs.add(OsStr::from_bytes(b"e\xfe"), 3);
        let mut names = sysfs.names();
        assert_eq!(names.resolve(&name(NET, r"e\xff")), known(2, r"e\xff"));
        assert_eq!(names.resolve(&name(NET, r"e\xfe")), known(3, r"e\xfe"));
    }

    #[test]
    fn what_is_unknown_is_looked_for_once_in_a_tick() {
        let sysfs = Sysfs::new();
        sysfs.add("eth0", 2);
        let mut names = sysfs.names();
        assert_eq!(names.resolve(&id(NET, 2)), known(2, "eth0"));
        sysfs.add("eth1", 3);
        assert_eq!(
            names.resolve(&id(NET, 3)),
            (Some(3), None),
            "it has looked in this tick"
        );
        names.begin_tick();
        assert_eq!(names.resolve(&id(NET, 3)), known(3, "eth1"));
    }

    #[test]
    fn a_rename_and_a_new_owner_of_a_name_are_noticed_once_it_is_old() {
        let sysfs = Sysfs::new();
        sysfs.add("eth0", 2);
        let mut names = sysfs.names();
        assert_eq!(names.resolve(&id(NET, 2)), known(2, "eth0"));
        let net = sysfs.0.path().join("class/net");
        fs::rename(net.join("eth0"), net.join("lan0")).unwrap();
        sysfs.add("eth0", 5);
        names.begin_tick();
        assert_eq!(names.resolve(&id(NET, 2)), known(2, "eth0"), "not old yet");
        names.begin_tick();
        names.tick += MAX_AGE;
        assert_eq!(names.resolve(&id(NET, 2)), known(2, "lan0"));
        assert_eq!(names.resolve(&name(NET, "eth0")), known(5, "eth0"));
    }

    #[test]
    fn what_vanished_is_known_for_one_more_tick() {
        let sysfs = Sysfs::new();
        sysfs.add("eth0", 2);
        let mut names = sysfs.names();
        assert_eq!(names.resolve(&id(NET, 2)), known(2, "eth0"));
        sysfs.remove("eth0");
        names.begin_tick();
        assert_eq!(names.resolve(&id(NET, 9)), (Some(9), None), "makes it look");
        assert_eq!(names.resolve(&id(NET, 2)), known(2, "eth0"));
        names.begin_tick();
        assert_eq!(names.resolve(&name(NET, "eth0")), known(2, "eth0"));
        names.begin_tick();
        assert_eq!(names.resolve(&id(NET, 2)), (Some(2), None));
        sysfs.add("eth0", 3);
        names.begin_tick();
        assert_eq!(names.resolve(&name(NET, "eth0")), known(3, "eth0"));
    }

    #[test]
    fn a_cgroup_that_is_made_anew_is_another_one() {
        let sysfs = Sysfs::new();
        let root = sysfs.0.path().join("fs/cgroup");
        let make = |path: &str| {
            fs::create_dir_all(root.join(path)).unwrap();
            fs::metadata(root.join(path)).unwrap().ino()
        };
        let mut names = sysfs.names();
        let kind = EntityKind::Cgroup;
        assert_eq!(names.resolve(&id(kind, 1)), (Some(1), None), "none here");
        let first = make("app.slice/one.service");
        fs::write(root.join("cgroup.controllers"), "cpu\n").unwrap();
        names.begin_tick();
        let path = "/app.slice/one.service";
        assert_eq!(names.resolve(&id(kind, first)), known(first, path));
        fs::rename(root.join("app.slice"), sysfs.0.path().join("attic/app")).unwrap();
        let second = make("app.slice/one.service");
        names.begin_tick();
        assert_eq!(names.resolve(&name(kind, path)), known(second, path));
        assert_eq!(names.resolve(&id(kind, second)), known(second, path));
        assert_eq!(names.resolve(&id(kind, first)), known(first, path));
        names.begin_tick();
        names.begin_tick();
        assert_eq!(names.resolve(&id(kind, first)), (Some(first), None));
    }

    #[test]
    fn this_machine_s_names_are_those_of_its_own_files() {
        let mut names = Names::new("/sys".into());
        assert_eq!(names.resolve(&id(NET, 1)), known(1, "lo"));
        for line in fs::read_to_string("/proc/diskstats").unwrap().lines() {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            let number: u64 =
                words[0].parse::<u64>().unwrap() << 20 | words[1].parse::<u64>().unwrap();
            assert_eq!(
                names.resolve(&id(EntityKind::Device, number)),
                known(number, words[2])
            );
        }
    }
}
