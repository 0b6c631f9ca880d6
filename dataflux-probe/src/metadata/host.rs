//! `host`: the machine's name, its identity, and when it was started.

use std::{
    fs,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::ensure;
use serde::Deserialize;

use super::MetadataReader;
use crate::{
    host_file::{first_line, text},
    model::Metadata,
    plugin::{Needs, Plugin, Roots},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "host",
    summary: "name, machine id, boot id and boot time",
    needs: Needs {
        kernel: "/proc/sys/kernel, /etc/hostname, /etc/machine-id",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Host {
            roots: context.roots.clone(),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Host {
    roots: Roots,
}

impl MetadataReader for Host {
    /// Keys: `name`, `machine_id`, `boot_id`, and `boot_time` in whole seconds, which moves when the wall clock is set.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let Roots { proc, root, .. } = &self.roots;
        let boot_time = text(&proc.join("stat")).and_then(|stat| boot_time(&stat));
        let facts = [
            ("name", name(proc, root)),
            ("machine_id", machine_id(root)),
            (
                "boot_id",
                first_line(&proc.join("sys/kernel/random/boot_id")),
            ),
            ("boot_time", boot_time),
        ];
        let section = super::section(facts);
        ensure!(
            !section.is_empty(),
            "neither {} nor {} says anything about the host",
            proc.display(),
            root.display()
        );
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

/// A number that differs between hosts and stays the same for one, evenly spread: of its identity and its name, because
/// machines made from one image can share the identity.
pub(crate) fn place(roots: &Roots) -> u32 {
    let identity = machine_id(&roots.root).unwrap_or_default();
    let name = name(&roots.proc, &roots.root).unwrap_or_default();
    crc32c::crc32c(format!("{identity} {name}").as_bytes())
}

/// The name that the kernel has for the host. `/proc` shows each process the name of its own UTS namespace: where the probe
/// is in another one than process 1, the name is the one that the host is configured to have.
pub(crate) fn name(proc: &Path, root: &Path) -> Option<String> {
    let running = first_line(&proc.join("sys/kernel/hostname"));
    if shares_names(proc) {
        return running;
    }
    let configured = first_line(&root.join("etc/hostname"));
    configured.filter(|name| !name.starts_with('#')).or(running)
}

/// Whether the probe is in process 1's UTS namespace. Its link may be closed to the probe; the namespace that the kernel was
/// started with, where process 1 is if it did not leave, has the same number everywhere (PROC_UTS_INIT_INO).
fn shares_names(proc: &Path) -> bool {
    let namespace = |process: &str| fs::read_link(proc.join(process).join("ns/uts")).ok();
    let own = namespace("self");
    own.is_some()
        && (own == namespace("1") || own.as_deref() == Some(Path::new("uts:[4026531838]")))
}

/// Not there while systemd has not given one yet: the file says so, or is empty.
fn machine_id(root: &Path) -> Option<String> {
    let id = first_line(&root.join("etc/machine-id"));
    id.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn boot_time(stat: &str) -> Option<String> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.trim().parse().ok()?))?;
    super::rfc3339(time)
}

#[cfg(test)]
mod tests {
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
        let context = testing::context(folder.path());
        let keys = || {
            Some(
                read(&PLUGIN, "", &context)
                    .ok()?
                    .into_iter()
                    .collect::<Vec<_>>(),
            )
        };
        let pair = |key: &str, value: &str| (key.to_owned(), serde_json::Value::from(value));
        let mut expected = vec![
            pair("boot_id", BOOT_ID),
            pair("boot_time", "2023-11-14T22:13:10Z"),
            pair("machine_id", "9f2c5d0f8f6d4b7fb0b8f1a3c0d5e6a7"),
            pair("name", "running"),
        ];
        assert_eq!(keys().unwrap(), expected);
        fs::write(folder.path().join("root/etc/machine-id"), "uninitialized\n").unwrap();
        fs::write(
            folder.path().join("proc/stat"),
            "cpu 1\nbtime 99999999999999999\n",
        )
        .unwrap();
        expected.retain(|(key, _)| key == "boot_id" || key == "name");
        assert_eq!(keys().unwrap(), expected);
        fs::remove_dir_all(folder.path().join("proc")).unwrap();
        assert_eq!(keys().unwrap(), [pair("name", "configured")]);
        fs::remove_dir_all(folder.path().join("root")).unwrap();
        assert_eq!(keys(), None);
    }
}
