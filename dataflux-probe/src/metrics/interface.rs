//! `interface`: what each network interface of the host moved and lost, from `/proc/1/net/dev`.

use std::{collections::BTreeMap, path::Path};

use anyhow::ensure;
use procfs::{FromBufRead, net::DeviceStatus, net::InterfaceDeviceStatus};
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::{HostFile, parsed},
    model::{Entity, EntityKey, EntityKind, MetricDef, Snapshot, Unit},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "interface",
    summary: "bytes, packets, errors and drops of each network interface, as the interface counts them",
    needs: Needs {
        kernel: "/proc/1/net/dev: the interfaces of process 1's network namespace",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[
        &BYTES,
        &PACKETS,
        &ERRORS,
        &DROPS,
        &OVERRUNS,
        &COMPRESSED,
        &FRAME_ERRORS,
        &MULTICAST,
        &COLLISIONS,
        &CARRIER_ERRORS,
    ],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Interfaces::new(&context.roots.proc)))
    },
};

const DIRECTIONS: &[&str] = &["direction"];

static BYTES: MetricDef = def(
    "interface.bytes",
    Unit::Bytes,
    "Bytes received and sent, with the link-layer header except on loopback.",
);
static PACKETS: MetricDef = def(
    "interface.packets",
    Unit::Count,
    "Packets received and sent; where the hardware merges or splits them, as its driver counts.",
);
static ERRORS: MetricDef = def(
    "interface.errors",
    Unit::Count,
    "Packets that were bad when received or could not be sent.",
);
static DROPS: MetricDef = def(
    "interface.drops",
    Unit::Count,
    "Packets that the interface dropped for want of room or of a taker, those that the hardware missed included.",
);
static OVERRUNS: MetricDef = def(
    "interface.overruns",
    Unit::Count,
    "Errors because a queue of the hardware ran over or ran dry.",
);
static COMPRESSED: MetricDef = def(
    "interface.compressed",
    Unit::Count,
    "Packets that were compressed on the link.",
);
static FRAME_ERRORS: MetricDef = def(
    "interface.frame_errors",
    Unit::Count,
    "Packets received with a wrong length, checksum or frame; part of the errors.",
);
static MULTICAST: MetricDef = def(
    "interface.multicast",
    Unit::Count,
    "Multicast packets received.",
);
static COLLISIONS: MetricDef = def(
    "interface.collisions",
    Unit::Count,
    "Collisions while sending.",
);
static CARRIER_ERRORS: MetricDef = def(
    "interface.carrier_errors",
    Unit::Count,
    "Packets not sent because the carrier was lost or the transmission broke off; part of the errors.",
);

/// Restart: a smaller number is that of a replaced interface, or of a driver that counts in 32 bits.
const fn def(name: &'static str, unit: Unit, help: &'static str) -> MetricDef {
    MetricDef::running_counter(name, unit, help, DIRECTIONS)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Interfaces {
    dev: HostFile,
}

impl Interfaces {
    /// Process 1's file is open to every user. Where it is not (`hidepid`), the read fails: the probe's own namespace is no
    /// substitute, since it may be another one.
    fn new(proc: &Path) -> Self {
        Self {
            dev: HostFile::new(proc.join("1/net/dev")),
        }
    }
}

impl MetricReader for Interfaces {
    fn has_entities(&self) -> bool {
        true
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        for (name, status) in self.dev.read(parse)? {
            let entity = Entity {
                kind: EntityKind::Interface,
                key: EntityKey::Name(name.into()),
            };
            push(out, &entity, &status);
        }
        Ok(())
    }
}

/// By name, so that the order of the series stays the same.
fn parse(text: &str) -> anyhow::Result<BTreeMap<String, DeviceStatus>> {
    let InterfaceDeviceStatus(interfaces) =
        parsed(InterfaceDeviceStatus::from_buf_read(text.as_bytes()))?;
    ensure!(!interfaces.is_empty(), "it names no interface");
    Ok(interfaces.into_iter().collect())
}

fn push(out: &mut Snapshot, entity: &Entity, status: &DeviceStatus) {
    for (def, received, sent) in [
        (&BYTES, status.recv_bytes, status.sent_bytes),
        (&PACKETS, status.recv_packets, status.sent_packets),
        (&ERRORS, status.recv_errs, status.sent_errs),
        (&DROPS, status.recv_drop, status.sent_drop),
        (&OVERRUNS, status.recv_fifo, status.sent_fifo),
        (&COMPRESSED, status.recv_compressed, status.sent_compressed),
    ] {
        out.counter(def, Some(entity.clone()), ["received"], received);
        out.counter(def, Some(entity.clone()), ["sent"], sent);
    }
    for (def, direction, value) in [
        (&FRAME_ERRORS, "received", status.recv_frame),
        (&MULTICAST, "received", status.recv_multicast),
        (&COLLISIONS, "sent", status.sent_colls),
        (&CARRIER_ERRORS, "sent", status.sent_carrier),
    ] {
        out.counter(def, Some(entity.clone()), [direction], value);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        host_file::testing::survives_damage,
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn read(proc: &Path) -> Snapshot {
        let mut snapshot = Snapshot::default();
        Interfaces::new(proc).read(&mut snapshot).unwrap();
        snapshot
    }

    fn value(snapshot: &Snapshot, name: &str, def: &MetricDef, direction: &str) -> u64 {
        let key = EntityKey::Name(name.into());
        let mut found = snapshot.series.iter().filter(|series| {
            series.def == def
                && series.labels[0] == direction
                && series
                    .entity
                    .as_ref()
                    .is_some_and(|entity| entity.key == key)
        });
        match (found.next().map(|series| &series.value), found.next()) {
            (Some(&Total::Counter(value)), None) => value,
            other => panic!("{name} {}: {other:?}", def.name),
        }
    }

    #[test]
    fn every_column_is_the_metric_that_its_heading_says() {
        let snapshot = read(&fixtures().join("proc"));
        let columns = [
            (&BYTES, "received"),
            (&PACKETS, "received"),
            (&ERRORS, "received"),
            (&DROPS, "received"),
            (&OVERRUNS, "received"),
            (&FRAME_ERRORS, "received"),
            (&COMPRESSED, "received"),
            (&MULTICAST, "received"),
            (&BYTES, "sent"),
            (&PACKETS, "sent"),
            (&ERRORS, "sent"),
            (&DROPS, "sent"),
            (&OVERRUNS, "sent"),
            (&COLLISIONS, "sent"),
            (&CARRIER_ERRORS, "sent"),
            (&COMPRESSED, "sent"),
        ];
        for (column, (def, direction)) in (1..).zip(columns) {
            assert_eq!(value(&snapshot, "eth0", def, direction), column * 1111);
        }
        assert_eq!(
            value(&snapshot, "a-long-name-15b", &BYTES, "sent"),
            u64::MAX
        );
        assert_eq!(snapshot.series.len(), 3 * 16);
    }

    #[test]
    fn this_machine_lies_between_two_looks_at_it() {
        let look = |name: &str, file: &str| -> u64 {
            let path = Path::new("/sys/class/net")
                .join(name)
                .join("statistics")
                .join(file);
            fs::read_to_string(path).unwrap().trim().parse().unwrap()
        };
        if fs::metadata("/proc/1/net/dev").is_err() {
            return;
        }
        for (def, direction, file) in [
            (&BYTES, "received", "rx_bytes"),
            (&BYTES, "sent", "tx_bytes"),
            (&PACKETS, "sent", "tx_packets"),
            (&MULTICAST, "received", "multicast"),
            (&COLLISIONS, "sent", "collisions"),
        ] {
            let before = look("lo", file);
            let snapshot = read(Path::new("/proc"));
            let after = look("lo", file);
            let value = value(&snapshot, "lo", def, direction);
            assert!((before..=after).contains(&value), "{file}: {value}");
        }
    }

    #[test]
    fn the_probe_s_own_namespace_is_no_substitute() {
        let folder = tempfile::tempdir().unwrap();
        let net = folder.path().join("proc/self/net");
        fs::create_dir_all(&net).unwrap();
        fs::copy(fixtures().join("proc/1/net/dev"), net.join("dev")).unwrap();
        let mut reader = PLUGIN.build_from("", &context(folder.path())).unwrap();
        let error = reader
            .read(&mut Snapshot::default())
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("proc/1/net/dev"), "{error}");
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        survives_damage(&PLUGIN, &["1/net/dev"]);
    }
}
