//! `drives`: the disks of the machine, and what of them is mounted where.
//!
//! A drive has a device behind it. Loops, RAM and layers (dm, md) have none: whoever replaces disks does not look for them here,
//! and `metrics.disk` has their requests, as the file systems on them have their room. Where a layer is mounted, the disks below
//! it say.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MetadataReader;
use crate::{
    host_file::first_line,
    model::Metadata,
    mounts::{self, Mount},
    plugin::{Needs, Plugin, Roots},
    raw_name::shown,
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "drives",
    summary: "disks with model, serial number, size, whether they rotate, and where they and what is built on them (LVM, RAID) are mounted; dm, md, loop and zram devices are no drives, metrics.disk has these",
    needs: Needs {
        kernel: "/sys/block, /proc/1/mountinfo",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Drives {
            roots: context.roots.clone(),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Drives {
    roots: Roots,
}

/// What is known of a disk.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
struct Drive {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotational: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removable: Option<bool>,
    /// Of the disk, its partitions, and what is built on them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<String>,
}

/// The header is in every envelope.
const MOST: usize = 128;

/// Mount points of each file system at most, the shortest of the whole file system first.
const POINTS: usize = 8;

impl MetadataReader for Drives {
    /// Keys: `disks`, by name, those with a device behind them (no loops, RAM, or layers like dm and md), with `model`,
    /// `serial`, `size_bytes`, `rotational`, `removable` and `mounts` as far as they are told; and `more`, how many others there
    /// are beyond 128.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let Roots { proc, sys, root } = &self.roots;
        let folder = sys.join("block");
        let listed =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let mut names: Vec<_> = listed.flatten().map(|entry| entry.file_name()).collect();
        names.retain(|name| folder.join(name).join("device").exists());
        names.sort();
        let more = names.len().saturating_sub(MOST);
        names.truncate(MOST);
        let points = points(&proc.join("1/mountinfo"), root);
        let mut disks = BTreeMap::new();
        for name in names {
            let files = folder.join(&name);
            let mut drive = drive(&files);
            let mut devices = BTreeSet::new();
            devices_on(&folder, &files, &mut devices);
            let own = devices.iter().filter_map(|device| points.get(device));
            drive.mounts = own.flatten().cloned().collect();
            disks.insert(shown(name.as_bytes()).replace('!', "/"), drive);
        }
        let section = super::section([
            ("disks", Some(serde_json::to_value(disks)?)),
            ("more", (more > 0).then(|| Value::from(more))),
        ]);
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

/// What sysfs has of a disk, whose folder this is.
fn drive(files: &Path) -> Drive {
    let line = |name: &str| first_line(&files.join(name));
    let flag = |name: &str| line(name).map(|value| value == "1");
    // A sector is 512 bytes here, whatever the disk's own are.
    let sectors = line("size").and_then(|size| size.parse::<u64>().ok());
    Drive {
        model: line("device/model").or_else(|| line("device/name")),
        serial: line("device/serial")
            .or_else(|| line("serial"))
            .or_else(|| serial(&fs::read(files.join("device/vpd_pg80")).ok()?)),
        size_bytes: sectors.and_then(|sectors| sectors.checked_mul(512)),
        rotational: flag("queue/rotational"),
        removable: flag("removable"),
        mounts: Vec::new(),
    }
}

/// The serial number in SCSI's page of that (0x80): four bytes of which the last two are a length, then text.
fn serial(page: &[u8]) -> Option<String> {
    let (&[_, 0x80, high, low], text) = page.split_first_chunk::<4>()? else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let text = std::str::from_utf8(text.get(..length)?).ok()?.trim();
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
    plain.then(|| text.to_owned())
}

/// The numbers of a device, of its partitions, and of all that is built on these, as far as they are not known yet.
fn devices_on(block: &Path, files: &Path, devices: &mut BTreeSet<u64>) {
    let number = first_line(&files.join("dev")).and_then(|number| mounts::device_number(&number));
    if !number.is_some_and(|number| devices.insert(number)) {
        return;
    }
    for holder in fs::read_dir(files.join("holders"))
        .into_iter()
        .flatten()
        .flatten()
    {
        devices_on(block, &block.join(holder.file_name()), devices);
    }
    for part in fs::read_dir(files).into_iter().flatten().flatten() {
        if part.path().join("partition").exists() {
            devices_on(block, &part.path(), devices);
        }
    }
}

/// Where each device is mounted. A file that cannot be read has no mounts.
fn points(mountinfo: &Path, root: &Path) -> HashMap<u64, Vec<String>> {
    let text = fs::read(mountinfo).unwrap_or_default();
    let mounts = mounts::parse(&text).unwrap_or_else(|error| {
        tracing::debug!("cannot make sense of {}: {error:#}", mountinfo.display());
        Vec::new()
    });
    let covered = mounts::covered(&mounts);
    let mut on: HashMap<u64, Vec<&Mount>> = HashMap::new();
    for (mount, covered) in mounts.iter().zip(covered) {
        if let Some(device) = mount.device_below(root)
            && !covered
        {
            on.entry(device).or_default().push(mount);
        }
    }
    let named = |mut mounts: Vec<&Mount>| {
        mounts.sort_by_key(|mount| (!mount.whole, mount.point.as_os_str().len()));
        let names = mounts.iter().map(|mount| mount.name());
        names.take(POINTS).map(|name| name.into_owned()).collect()
    };
    on.into_iter()
        .map(|(device, mounts)| (device, named(mounts)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{metadata::testing::read, plugin::testing};

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(machine.0.path().join("sys/block")).unwrap();
            machine
        }

        fn write(&self, path: &str, text: impl AsRef<[u8]>) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn section(&self) -> Value {
            read(&PLUGIN, "", &testing::context(self.0.path()))
                .unwrap()
                .into()
        }
    }

    #[test]
    fn a_disk_is_mounted_where_its_partitions_and_what_is_built_on_them_are() {
        let machine = Machine::new();
        let page = [b"\0\x80\0\x0a".as_slice(), b"  WD-1234 "].concat();
        for (path, text) in [
            ("sda/dev", "8:0\n".as_bytes()),
            ("sda/size", b"2048\n"),
            ("sda/removable", b"0\n"),
            ("sda/queue/rotational", b"1\n"),
            ("sda/device/model", b"WDC WD40EFRX   \n"),
            ("sda/device/vpd_pg80", &page),
            ("sda/sda1/partition", b"1\n"),
            ("sda/sda1/dev", b"8:1\n"),
            ("sda/sda2/partition", b"2\n"),
            ("sda/sda2/dev", b"8:2\n"),
            ("dm-0/dev", b"253:0\n"),
            ("loop0/dev", b"7:0\n"),
            ("cciss!c0d0/dev", b"104:0\n"),
            ("cciss!c0d0/device/serial", b"S1\n"),
        ] {
            machine.write(&format!("sys/block/{path}"), text);
        }
        let block = machine.0.path().join("sys/block");
        fs::create_dir_all(block.join("sda/sda2/holders")).unwrap();
        symlink("../../../dm-0", block.join("sda/sda2/holders/dm-0")).unwrap();
        machine.write(
            "proc/1/mountinfo",
            "1 0 253:0 / / rw - ext4 /dev/mapper/x rw
2 1 8:1 / /boot rw - ext4 /dev/sda1 rw
3 1 253:0 /sub /data rw - ext4 /dev/mapper/x rw
4 1 0:5 / /proc rw - proc proc rw
",
        );
        let expected = json!({"disks": {
            "sda": {
                "model": "WDC WD40EFRX",
                "serial": "WD-1234",
                "size_bytes": 1_048_576,
                "rotational": true,
                "removable": false,
                "mounts": ["/boot", "/", "/data"],
            },
            "cciss/c0d0": {"serial": "S1"},
        }});
        assert_eq!(machine.section(), expected);
    }

    #[test]
    fn a_new_disk_and_a_new_mount_are_there_at_the_next_look() {
        let machine = Machine::new();
        let context = testing::context(machine.0.path());
        let mut reader = PLUGIN.build_from("", &context).unwrap();
        let mut look = || {
            let mut metadata = Metadata::default();
            reader.read(&mut metadata).unwrap();
            Value::from(metadata.sections.remove("drives").unwrap())
        };
        assert_eq!(look(), json!({"disks": {}}));
        machine.write("sys/block/vda/dev", "254:0\n");
        machine.write("sys/block/vda/device/x", "");
        assert_eq!(look(), json!({"disks": {"vda": {}}}));
        machine.write("proc/1/mountinfo", "1 0 254:0 / / rw - ext4 /dev/vda rw\n");
        assert_eq!(look(), json!({"disks": {"vda": {"mounts": ["/"]}}}));
        fs::remove_dir_all(machine.0.path().join("sys/block/vda")).unwrap();
        assert_eq!(look(), json!({"disks": {}}));
    }

    #[test]
    fn more_disks_than_a_header_can_bear_are_counted() {
        let machine = Machine::new();
        for number in 0..MOST + 3 {
            machine.write(&format!("sys/block/d{number:03}/device/x"), "");
        }
        let section = machine.section();
        assert_eq!(section["disks"].as_object().unwrap().len(), MOST);
        assert_eq!(section["more"], 3);
    }

    #[test]
    fn without_sysfs_it_is_an_error_that_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(&PLUGIN, "", &testing::context(folder.path())).unwrap_err();
        assert!(format!("{error:#}").contains("sys/block"), "{error:#}");
    }

    proptest! {
        #[test]
        fn any_page_is_a_serial_number_or_none(page in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(serial) = serial(&page) {
                prop_assert!(!serial.is_empty() && serial.is_ascii());
            }
        }
    }
}
