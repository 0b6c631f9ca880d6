//! `host`: the machine's name, its identity, when it was started, and what kind of machine it is.

mod installation;
mod virtualization;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::ensure;
use serde::Deserialize;

use super::{MetadataReader, dmi::Dmi, os};
use crate::{
    host_file::{first_line, text},
    model::Metadata,
    plugin::{Needs, Plugin, Roots},
};
use virtualization::Hypervisor;

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "host",
    summary: "name, machine id, boot id and boot time, time zone, platform, chassis and kind of virtual machine, and an id of the installation",
    needs: Needs {
        kernel: "/proc/sys/kernel, /etc/hostname, /etc/machine-id, /etc/os-release, /etc/localtime, /sys/class/dmi",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Host {
            roots: context.roots.clone(),
            state_dir: context.state_dir.clone(),
            hypervisor: virtualization::hypervisor,
            virtualization: None,
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Host {
    roots: Roots,
    state_dir: Option<PathBuf>,
    /// Asks the processor.
    hypervisor: fn() -> Hypervisor,
    /// It stays while the kernel runs, and may take a look at all of `/proc/cpuinfo`.
    virtualization: Option<&'static str>,
}

impl MetadataReader for Host {
    /// Keys: `name`, `machine_id`, `boot_id`, and `boot_time` in whole seconds, which moves when the wall clock is set;
    /// `timezone` by the name that the tz database has for it; `platform` and `platform_family`, os-release's ID and ID_LIKE
    /// (ID where the distribution is like no other); `vendor`, `product` and `chassis`, which `hostnamectl` may set;
    /// `virtualization` as `systemd-detect-virt --vm` says it; and `installation_id`, of the state folder, if there is one.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let Roots { proc, sys, root } = &self.roots;
        let dmi = Dmi::read(sys);
        let look = || virtualization::kind(proc, sys, &dmi, (self.hypervisor)());
        let virtualization = self.virtualization.or_else(look);
        self.virtualization = virtualization;
        let release = os::release(root);
        let platform = os::variable(&release, "ID");
        let family = os::variable(&release, "ID_LIKE").or_else(|| platform.clone());
        let boot_time = text(&proc.join("stat")).and_then(|stat| boot_time(&stat));
        let facts = [
            ("name", name(proc, root)),
            ("machine_id", machine_id(root)),
            (
                "boot_id",
                first_line(&proc.join("sys/kernel/random/boot_id")),
            ),
            ("boot_time", boot_time),
            ("timezone", timezone(root)),
            ("platform", platform),
            ("platform_family", family),
            ("chassis", chassis(root, virtualization, &dmi)),
            ("vendor", dmi.sys_vendor),
            ("product", dmi.product_name),
            ("virtualization", virtualization.map(str::to_owned)),
            ("installation_id", self.installation()),
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

impl Host {
    fn installation(&self) -> Option<String> {
        installation::id(self.state_dir.as_ref()?)
            .inspect_err(|error| tracing::debug!("no id of the installation: {error:#}"))
            .ok()
    }
}

/// What `/etc/localtime` is a link to, or the name beside it where it is a copy. Without it the time is UTC (localtime(5)).
fn timezone(root: &Path) -> Option<String> {
    let path = root.join("etc/localtime");
    if let Ok(target) = fs::read_link(&path) {
        let target = target.to_string_lossy();
        let (_, name) = target.split_once("zoneinfo/")?;
        return Some(name.to_owned());
    }
    if path.exists() {
        return first_line(&root.join("etc/timezone"));
    }
    root.join("etc").exists().then(|| "UTC".to_owned())
}

/// Whoever runs the machine may say what it is (machine-info(5)).
fn chassis(root: &Path, virtualization: Option<&str>, dmi: &Dmi) -> Option<String> {
    let information = text(&root.join("etc/machine-info")).unwrap_or_default();
    let said = os::variable(&information, "CHASSIS");
    said.or_else(|| {
        let virtual_machine = virtualization.is_some_and(|kind| kind != "none");
        let kind = if virtual_machine {
            Some("vm")
        } else {
            dmi.chassis()
        };
        kind.map(str::to_owned)
    })
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
mod tests;
