//! `network`: packets, bytes and packet sizes by interface and direction, and dropped packets by reason.
//!
//! Kernel side: dataflux-ebpf/src/bin/network.rs. Shared types: dataflux-common/src/network.rs.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    mem::offset_of,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dataflux_common::{
    limits::{DROP_REASONS, INTERFACES, OTHER_INTERFACE},
    network::{
        Cpu, DEVICE_INDEX, DEVICE_TYPE, DROP_REASON, Direction, Interface, KERNEL_FIELDS,
        NAMESPACE_INODE, PACKET_DATA, PACKET_DEVICE, PACKET_HEAD, PACKET_LENGTH,
        PACKET_LINK_HEADER, RECEIVED_PACKET, SENT_DEVICE, SENT_LENGTH, SENT_RESULT, SIZE_BUCKETS,
    },
};
use serde::Deserialize;

use super::{AttachError, MetricReader};
use crate::{
    kernel::{
        Kernel,
        btf::Btf,
        drain::MappedArray,
        load::{Loaded, Object, Program},
        possible_cpus,
    },
    model::{
        Born, Buckets, Entity, EntityKey, EntityKind, Fall, Health, Kind, MetricDef, Snapshot,
        Status, Unit,
    },
    plugin::{Capability, Needs, Plugin, Roots},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "network",
    summary: "packets, bytes and packet sizes by interface and direction, drops by reason",
    needs: Needs {
        kernel: "BTF and the network tracepoints (Linux 5.10; drop reasons 5.17), /proc/1/net",
        attach: &[Capability::Bpf, Capability::Perfmon],
        keep: &[],
    },
    example: "",
    metrics: &[&PACKETS, &BYTES, &PACKET_SIZE, &DROPS],
    build: |section, _| {
        section.parse::<Config>()?;
        Ok(Box::new(Network { attached: None }))
    },
};

const COUNTER: Kind = Kind::Counter {
    born: Born::Zero,
    fall: Fall::Restart,
};

static PACKETS: MetricDef = MetricDef {
    name: "network.packets",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Packets received (as handed to the protocols, after merging by GRO) and sent (taken over by the driver, before segmentation); a stacked device (bridge, bond, VLAN) and the one below it count the same packet each where each sees it; other namespaces are together `other`.",
    labels: &["direction"],
};
static BYTES: MetricDef = MetricDef {
    name: "network.bytes",
    kind: COUNTER,
    unit: Unit::Bytes,
    help: "Bytes of these packets, with the link-layer header, except on loopback.",
    labels: &["direction"],
};
static PACKET_SIZE: MetricDef = MetricDef {
    name: "network.packet_size",
    kind: Kind::Histogram,
    unit: Unit::Bytes,
    help: "Sizes of these packets.",
    labels: &["direction"],
};
static DROPS: MetricDef = MetricDef {
    name: "network.drops",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Dropped packets by the kernel's reason, all interfaces and namespaces together; reasons of subsystems share `subsystem`.",
    labels: &["reason"],
};

static PROGRAMS: [Program; 3] = [
    Program {
        name: "netif_receive_skb",
        tracepoint: "netif_receive_skb",
        fields: &[
            PACKET_DEVICE,
            PACKET_LENGTH,
            PACKET_DATA,
            PACKET_HEAD,
            PACKET_LINK_HEADER,
            DEVICE_INDEX,
            DEVICE_TYPE,
            NAMESPACE_INODE,
            RECEIVED_PACKET,
        ],
        either: &[],
        metrics: &[&PACKETS, &BYTES, &PACKET_SIZE],
    },
    Program {
        name: "net_dev_xmit",
        tracepoint: "net_dev_xmit",
        fields: &[
            DEVICE_INDEX,
            DEVICE_TYPE,
            NAMESPACE_INODE,
            SENT_RESULT,
            SENT_DEVICE,
            SENT_LENGTH,
        ],
        either: &[],
        metrics: &[&PACKETS, &BYTES, &PACKET_SIZE],
    },
    Program {
        name: "kfree_skb",
        tracepoint: "kfree_skb",
        fields: &[DROP_REASON],
        either: &[],
        metrics: &[&DROPS],
    },
];

const DIRECTIONS: [&str; 2] = ["received", "sent"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Network {
    attached: Option<Attached>,
}

struct Attached {
    loaded: Loaded,
    cpus: MappedArray<Cpu>,
    reasons: Vec<Cow<'static, str>>,
    interfaces: LiveInterfaces,
    /// Why nothing can be counted by interface, if so.
    no_namespace: Option<String>,
}

/// What one interface counted on all CPUs.
struct Sums([[u64; WORDS]; 2]);

/// Words of a [`Direction`].
const WORDS: usize = size_of::<Direction>() / size_of::<u64>();

impl MetricReader for Network {
    fn has_entities(&self) -> bool {
        true
    }

    fn attach(&mut self, kernel: &Kernel) -> Result<(), AttachError> {
        let cpus = possible_cpus(&kernel.roots.sys).map_err(AttachError::Failed)?;
        let namespace = host_namespace(&kernel.roots.proc);
        let mut loaded = kernel.load(&Object {
            reader: "network",
            fields: &KERNEL_FIELDS,
            programs: &PROGRAMS,
            unwanted: &[],
            constants: vec![("HOST_NAMESPACE", *namespace.as_ref().unwrap_or(&0))],
            max_entries: vec![("CPUS", cpus)],
        })?;
        self.attached = Some(Attached {
            cpus: loaded.map("CPUS", &kernel.counters)?,
            loaded,
            reasons: kernel.btf().map(reason_names).unwrap_or_default(),
            interfaces: LiveInterfaces::new(&kernel.roots),
            no_namespace: namespace.err().map(|error| format!("{error:#}")),
        });
        Ok(())
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let Some(attached) = &mut self.attached else {
            anyhow::bail!("not attached")
        };
        attached.loaded.report(out);
        out.lost += (0..attached.cpus.len())
            .map(|cpu| attached.cpus.word(cpu, offset_of!(Cpu, outside)))
            .sum::<u64>();
        if let Some(reason) = &attached.no_namespace {
            out.health = Health::new(
                Status::Degraded,
                format!("all interfaces are together `other`: {reason}"),
            );
        }
        if attached.loaded.gives(&DROPS) {
            attached.drops(out);
        }
        if attached.loaded.gives(&PACKETS) {
            attached.packets(out)?;
        }
        Ok(())
    }
}

impl Attached {
    fn drops(&self, out: &mut Snapshot) {
        let mut totals = [0; DROP_REASONS];
        (0..self.cpus.len())
            .for_each(|cpu| self.cpus.add_to(&mut totals, cpu, offset_of!(Cpu, drops)));
        for (reason, &total) in totals.iter().enumerate().filter(|&(_, &total)| total > 0) {
            let name = match self.reasons.get(reason) {
                _ if reason == DROP_REASONS - 1 => Cow::Borrowed("subsystem"),
                Some(name) if !name.is_empty() => name.clone(),
                _ => Cow::Owned(reason.to_string()),
            };
            out.counter(&DROPS, None, [name], total);
        }
    }

    fn packets(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let mut interfaces: BTreeMap<EntityKey, Sums> = BTreeMap::new();
        // The owners of the places before the interfaces that exist, so that none is taken for gone because it is new; those
        // before the counters, so that what has gone is counted to its end.
        let owned = self.owned();
        self.interfaces
            .read(owned.iter().filter_map(Owned::index))?;
        let live = &self.interfaces.indexes;
        let mut is_hosts = None;
        let mut gone = Vec::new();
        for place in owned {
            if let Some(index) = place.index()
                && !live.contains(&index)
                && *is_hosts.get_or_insert_with(|| self.interfaces.are_the_hosts())
            {
                gone.push((place.cpu, place.at, index));
            }
            let sums = interfaces.entry(place.key).or_insert(Sums([[0; WORDS]; 2]));
            for (direction, sums) in sums.0.iter_mut().enumerate() {
                let at = place.at
                    + offset_of!(Interface, directions)
                    + direction * size_of::<Direction>();
                self.cpus.add_to(sums, place.cpu, at);
            }
        }
        for (key, sums) in interfaces {
            let entity = Entity {
                kind: EntityKind::Interface,
                key,
            };
            for (direction, sums) in DIRECTIONS.into_iter().zip(&sums.0) {
                series(out, &entity, direction, sums);
            }
        }
        for (cpu, at, index) in gone {
            self.cpus.clear(cpu, at, size_of::<Interface>());
            out.ended.push(Entity {
                kind: EntityKind::Interface,
                key: EntityKey::Id(index.into()),
            });
        }
        Ok(())
    }

    /// The places in use, on all CPUs.
    fn owned(&self) -> Vec<Owned> {
        let places = (0..self.cpus.len()).flat_map(|cpu| (0..INTERFACES).map(move |at| (cpu, at)));
        let owned = |(cpu, place)| {
            let at = offset_of!(Cpu, interfaces) + place * size_of::<Interface>();
            let tag = self.cpus.word(cpu, at + offset_of!(Interface, tag));
            let key = match u32::try_from(tag) {
                _ if place == OTHER_INTERFACE => EntityKey::Other,
                Ok(0) | Err(_) => return None,
                Ok(index) => EntityKey::Id(index.into()),
            };
            Some(Owned { cpu, at, key })
        };
        places.filter_map(owned).collect()
    }
}

/// A place in use: its CPU, its offset there, and whose it is.
struct Owned {
    cpu: usize,
    at: usize,
    key: EntityKey,
}

impl Owned {
    /// The index of the interface that owns it, if that is a single one.
    fn index(&self) -> Option<u32> {
        match self.key {
            EntityKey::Id(index) => u32::try_from(index).ok(),
            EntityKey::Name(_) | EntityKey::Other => None,
        }
    }
}

/// Inode number of process 1's network namespace. Where its `ns` folder may not be read, the probe's own stands in if both
/// have the same `net/dev`: every namespace has files of its own under `/proc/<pid>/net`.
///
/// # Errors
/// It is another one than the probe's, and only who may trace process 1 can tell which.
pub(crate) fn host_namespace(proc: &Path) -> anyhow::Result<u32> {
    let inode = |path: &str| {
        let path = proc.join(path);
        let file = fs::metadata(&path).with_context(|| path.display().to_string())?;
        anyhow::Ok(file.ino())
    };
    let namespace = inode("1/ns/net").or_else(|error| {
        anyhow::ensure!(
            inode("1/net/dev")? == inode("self/net/dev")?,
            error.context("the network namespace of process 1")
        );
        inode("self/ns/net")
    })?;
    Ok(u32::try_from(namespace)?)
}

/// Adds the series of one interface and direction, if there was ever anything.
fn series(out: &mut Snapshot, entity: &Entity, direction: &'static str, words: &[u64; WORDS]) {
    let sizes = offset_of!(Direction, sizes) / size_of::<u64>();
    let bytes = words[offset_of!(Direction, bytes) / size_of::<u64>()];
    let sizes = Buckets::from_dense(bytes, words[sizes..sizes + SIZE_BUCKETS].iter().copied());
    let packets = sizes.count();
    if packets == 0 {
        return;
    }
    out.counter(&PACKETS, Some(entity.clone()), [direction], packets);
    out.counter(&BYTES, Some(entity.clone()), [direction], bytes);
    out.histogram(&PACKET_SIZE, Some(entity.clone()), [direction], sizes);
}

/// The names of drop reasons by number, as the running kernel's own types have them.
fn reason_names(btf: &Btf) -> Vec<Cow<'static, str>> {
    let mut names = vec![Cow::Borrowed(""); DROP_REASONS];
    for (name, value) in btf
        .enumerators("skb_drop_reason")
        .ok()
        .flatten()
        .unwrap_or_default()
    {
        let short = name
            .strip_prefix("SKB_DROP_REASON_")
            .or_else(|| name.strip_prefix("SKB_"))
            .unwrap_or(name);
        if let Some(place) = names.get_mut(value as usize) {
            *place = Cow::Owned(short.to_ascii_lowercase());
        }
    }
    names
}

/// The indexes of the interfaces that exist. An interface may be replaced by another of the same name, so they are read again
/// not only when the names change but also when an unknown one has counted, and now and then.
struct LiveInterfaces {
    /// `<sys>/class/net`: the interfaces of the namespace that sysfs was mounted in.
    folder: PathBuf,
    /// `<proc>/1/net/dev`: those of process 1's.
    hosts: PathBuf,
    names: BTreeSet<OsString>,
    indexes: BTreeSet<u32>,
    read: Option<Instant>,
}

impl LiveInterfaces {
    const FRESH: Duration = Duration::from_secs(30);

    fn new(roots: &Roots) -> Self {
        Self {
            folder: roots.sys.join("class/net"),
            hosts: roots.proc.join("1/net/dev"),
            names: BTreeSet::new(),
            indexes: BTreeSet::new(),
            read: None,
        }
    }

    /// Whether sysfs shows the interfaces of process 1's namespace. Where it does not, such as after `ip netns exec`, nothing can
    /// be told to be gone.
    fn are_the_hosts(&self) -> bool {
        let text = fs::read(&self.hosts).unwrap_or_default();
        let name = |line: &[u8]| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some(OsStr::from_bytes(line[..colon].trim_ascii()).to_owned())
        };
        let lines = text.split(|&byte| byte == b'\n');
        lines.filter_map(name).collect::<BTreeSet<_>>() == self.names
    }

    /// What exists now, as far as `counted` can tell: an index that is not among `indexes` afterwards is gone.
    fn read(&mut self, counted: impl IntoIterator<Item = u32>) -> anyhow::Result<()> {
        let listing = || -> std::io::Result<BTreeSet<_>> {
            let mut names = BTreeSet::new();
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                // Bonding has a file among them.
                if !entry.file_type()?.is_file() {
                    names.insert(entry.file_name());
                }
            }
            Ok(names)
        };
        let names = listing().with_context(|| self.folder.display().to_string())?;
        let unknown = |index| !self.indexes.contains(&index);
        if names != self.names
            || counted.into_iter().any(unknown)
            || self.read.is_none_or(|read| read.elapsed() > Self::FRESH)
        {
            // An interface that vanishes meanwhile has no index to read; the next look notices.
            let index = |name| {
                fs::read_to_string(self.folder.join(name).join("ifindex"))
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            };
            self.indexes = names.iter().filter_map(index).collect();
            self.names = names;
            self.read = Some(Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::context;

    #[test]
    fn the_hosts_interfaces_are_known_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut live = LiveInterfaces::new(&context(folder.path()).roots);
        for (name, index) in [(&b"lo"[..], "1"), (b"a\xff", "7")] {
            let interface = live.folder.join(OsStr::from_bytes(name));
            fs::create_dir_all(&interface).unwrap();
            fs::write(interface.join("ifindex"), index).unwrap();
        }
        fs::write(live.folder.join("bonding_masters"), "").unwrap();
        fs::create_dir_all(live.hosts.parent().unwrap()).unwrap();
        fs::write(&live.hosts, b"Inter-|\n face |\n    lo: 1\n a\xff: 2\n").unwrap();
        live.read([]).unwrap();
        assert!(live.are_the_hosts() && live.indexes == [1, 7].into());
    }
}
