//! Tests with hosts that are folders.

use std::os::unix::fs::symlink;

use super::*;
use crate::{metadata::testing::read, plugin::testing};

const BOOT_ID: &str = "12345678-1234-4234-8234-123456789abc";

/// A host with process 1 and the probe in these UTS namespaces.
fn host(first: Option<&str>, own: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("proc/sys/kernel/hostname", "running\n");
    write("proc/sys/kernel/random/boot_id", &format!("{BOOT_ID}\n"));
    write("proc/stat", "cpu  1\nbtime 1699999990\nprocesses 2\n");
    write("proc/1/ns/pid", "");
    write("proc/self/ns/pid", "");
    write("root/etc/hostname", "configured\n");
    write("root/etc/machine-id", "9f2c5d0f8f6d4b7fb0b8f1a3c0d5e6a7\n");
    symlink(own, folder.path().join("proc/self/ns/uts")).unwrap();
    if let Some(first) = first {
        symlink(first, folder.path().join("proc/1/ns/uts")).unwrap();
    }
    folder
}

#[test]
fn the_host_is_named_as_process_1_sees_it() {
    let name = |first, own| {
        let folder = host(first, own);
        read(&PLUGIN, "", &testing::context(folder.path())).unwrap()["name"].clone()
    };
    assert_eq!(name(Some("uts:[1]"), "uts:[1]"), "running");
    assert_eq!(name(None, "uts:[4026531838]"), "running");
    assert_eq!(name(Some("uts:[4026531838]"), "uts:[2]"), "configured");
    assert_eq!(name(None, "uts:[2]"), "configured");
}

#[test]
fn a_missing_file_is_a_missing_key_and_only_nothing_at_all_is_an_error() {
    let folder = host(None, "uts:[4026531838]");
    let keys = || {
        let mut metadata = Metadata::default();
        let mut host = Host {
            roots: testing::context(folder.path()).roots,
            state_dir: None,
            hypervisor: || Hypervisor::Untold,
            virtualization: None,
        };
        host.read(&mut metadata).ok()?;
        let section = metadata.sections.remove("host").unwrap();
        Some(section.into_iter().collect::<Vec<_>>())
    };
    let pair = |key: &str, value: &str| (key.to_owned(), serde_json::Value::from(value));
    let mut expected = vec![
        pair("boot_id", BOOT_ID),
        pair("boot_time", "2023-11-14T22:13:10Z"),
        pair("machine_id", "9f2c5d0f8f6d4b7fb0b8f1a3c0d5e6a7"),
        pair("name", "running"),
        pair("timezone", "UTC"),
    ];
    assert_eq!(keys().unwrap(), expected);
    fs::write(folder.path().join("root/etc/machine-id"), "uninitialized\n").unwrap();
    fs::write(
        folder.path().join("proc/stat"),
        "cpu 1\nbtime 99999999999999999\n",
    )
    .unwrap();
    expected.retain(|(key, _)| ["boot_id", "name", "timezone"].contains(&&**key));
    assert_eq!(keys().unwrap(), expected);
    fs::remove_dir_all(folder.path().join("proc")).unwrap();
    assert_eq!(
        keys().unwrap(),
        [pair("name", "configured"), pair("timezone", "UTC")]
    );
    fs::remove_dir_all(folder.path().join("root")).unwrap();
    assert_eq!(keys(), None);
}

#[test]
fn what_kind_of_machine_it_is_comes_from_firmware_distribution_and_processor() {
    let folder = host(None, "uts:[4026531838]");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "root/etc/os-release",
        "ID=almalinux\nID_LIKE=\"rhel centos fedora\"\n",
    );
    write("sys/class/dmi/id/sys_vendor", "Dell Inc.\n");
    write("sys/class/dmi/id/product_name", "PowerEdge R640\n");
    write("sys/class/dmi/id/chassis_type", "23\n");
    symlink(
        "../usr/share/zoneinfo/Europe/Berlin",
        folder.path().join("root/etc/localtime"),
    )
    .unwrap();
    let section = |hypervisor: fn() -> Hypervisor| {
        let mut metadata = Metadata::default();
        let mut host = Host {
            roots: testing::context(folder.path()).roots,
            state_dir: Some(folder.path().to_owned()),
            hypervisor,
            virtualization: None,
        };
        host.read(&mut metadata).unwrap();
        metadata.sections.remove("host").unwrap()
    };
    let metal = section(|| Hypervisor::Absent);
    for (key, expected) in [
        ("platform", "almalinux"),
        ("platform_family", "rhel centos fedora"),
        ("timezone", "Europe/Berlin"),
        ("vendor", "Dell Inc."),
        ("product", "PowerEdge R640"),
        ("chassis", "server"),
        ("virtualization", "none"),
    ] {
        assert_eq!(metal[key], expected);
    }
    let again = section(|| Hypervisor::Named(*b"VMwareVMware"));
    assert_eq!(again["virtualization"], "vmware");
    assert_eq!(again["chassis"], "vm");
    assert_eq!(again["installation_id"], metal["installation_id"]);
    write("root/etc/machine-info", "CHASSIS=embedded\n");
    write("root/etc/os-release", "ID=debian\n");
    let said = section(|| Hypervisor::Absent);
    assert_eq!(said["chassis"], "embedded");
    assert_eq!(said["platform_family"], "debian");
}
