//! What of this machine stands in the way of which reader, each with a sentence of its own and the way out.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;

use crate::{
    metrics::host_namespace,
    plugin::{Capability, Needs, Roots},
    privileges::Capabilities,
};

/// What is looked at.
pub(super) struct Machine<'a> {
    /// Where the host's files are.
    pub(super) roots: &'a Roots,
    /// What this process may do.
    pub(super) capabilities: Capabilities,
    /// Its limit of locked memory in bytes, if there is one.
    pub(super) memlock: Option<u64>,
    /// Bytes of all maps.
    pub(super) maps: u64,
}

/// A reader and what it says it needs.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) needs: &'static Needs,
}

impl Wanted {
    fn loads_programs(&self) -> bool {
        self.needs.attach.contains(&Capability::Bpf)
    }

    fn reads(&self, path: &str) -> bool {
        let mut needed = self.needs.kernel.split(", ");
        needed.any(|needed| needed.starts_with(path))
    }
}

/// Something that stands in the way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// The sentence.
    what: String,
    /// Which readers give nothing because of it, or something wrong.
    pub(super) concerns: Vec<&'static str>,
    /// What to do.
    way_out: &'static str,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  {}", self.what)?;
        writeln!(out, "      concerns {}", self.concerns.join(", "))?;
        write!(out, "      -> {}", self.way_out)
    }
}

/// Linux 5.11 and newer do not charge maps to the limit of locked memory.
const CHARGES_MEMLOCK_BEFORE: (u32, u32) = (5, 11);

impl Machine<'_> {
    /// What stands in the way of these readers; those with nothing in their way are in none of them.
    pub(super) fn obstacles(&self, wanted: &[Wanted]) -> Vec<Obstacle> {
        let found = [
            self.without_proc(),
            self.foreign_proc(),
            self.hidden_process_1(),
            self.foreign_network(),
            self.without_sys(),
            self.without_root(),
            self.without_types(),
            self.lockdown(),
            self.without(Capability::Bpf, "to make maps and load programs"),
            self.without(Capability::Perfmon, "for programs that read kernel memory"),
            self.little_memlock(),
        ];
        let concerned = |concerns: fn(&Wanted) -> bool| -> Vec<_> {
            let concerned = wanted.iter().filter(|wanted| concerns(wanted));
            concerned.map(|wanted| wanted.name).collect()
        };
        found
            .into_iter()
            .flatten()
            .map(|(what, concerns, way_out)| Obstacle {
                what,
                concerns: concerned(concerns),
                way_out,
            })
            .filter(|obstacle| !obstacle.concerns.is_empty())
            .collect()
    }

    fn without_proc(&self) -> Option<Found> {
        found(
            !self.has_proc(),
            || format!("{} is no /proc file system", self.roots.proc.display()),
            |wanted| wanted.reads("/proc"),
            "mount the host's /proc into the container, read-only, and name it in [probe] proc",
        )
    }

    /// Process 2 of a machine is the kernel's own, which begins its threads; in a container it is anything or nothing.
    fn foreign_proc(&self) -> Option<Found> {
        let kernels = read(&self.proc("2/comm")).is_some_and(|name| name == "kthreadd");
        found(
            self.has_proc() && self.has_process_1() && !kernels,
            || {
                format!(
                    "{} is a container's own: its process 1 has the container's network, not the host's",
                    self.roots.proc.display()
                )
            },
            |wanted| wanted.reads("/proc/1"),
            "mount the host's /proc into the container and name it in [probe] proc, or share the host's process ids (hostPID)",
        )
    }

    fn hidden_process_1(&self) -> Option<Found> {
        found(
            self.has_proc() && !self.has_process_1(),
            || {
                format!(
                    "{} hides process 1 from this user",
                    self.roots.proc.display()
                )
            },
            |wanted| wanted.reads("/proc/1"),
            "mount it without hidepid, or with gid= of a group that the probe's user is in",
        )
    }

    fn foreign_network(&self) -> Option<Found> {
        found(
            self.has_process_1() && host_namespace(&self.roots.proc).is_err(),
            || {
                format!(
                    "process 1 of {} is in another network namespace, and this one may not ask in which: all interfaces count together",
                    self.roots.proc.display()
                )
            },
            |wanted| wanted.reads("/proc/1") && wanted.loads_programs(),
            "start in the host's network namespace (hostNetwork), or with CAP_SYS_PTRACE in the first user namespace, if AppArmor or SELinux let it look at process 1",
        )
    }

    fn without_sys(&self) -> Option<Found> {
        found(
            !self.has_sys(),
            || format!("{} is no /sys file system", self.roots.sys.display()),
            |wanted| wanted.reads("/sys") || wanted.loads_programs(),
            "mount the host's /sys into the container, read-only, and name it in [probe] sys",
        )
    }

    fn without_root(&self) -> Option<Found> {
        found(
            !self.roots.root.is_dir(),
            || format!("{} is no folder", self.roots.root.display()),
            |wanted| wanted.needs.kernel.contains("/etc/"),
            "mount the host's / into the container, read-only, and name it in [probe] root",
        )
    }

    fn without_types(&self) -> Option<Found> {
        let path = self.roots.sys.join("kernel/btf/vmlinux");
        found(
            self.has_sys() && fs::File::open(&path).is_err(),
            || {
                format!(
                    "{} cannot be read: programs do not find their way in kernel structs",
                    path.display()
                )
            },
            Wanted::loads_programs,
            "a kernel with CONFIG_DEBUG_INFO_BTF, as those of all current distributions are",
        )
    }

    fn lockdown(&self) -> Option<Found> {
        found(
            self.lockdown_mode().as_deref() == Some("confidentiality"),
            || {
                "the kernel is locked down for confidentiality: no program may read its memory"
                    .to_owned()
            },
            Wanted::loads_programs,
            "boot it with lockdown=integrity, which does not matter here, or without",
        )
    }

    fn without(&self, capability: Capability, use_of_it: &str) -> Option<Found> {
        found(
            !self.capabilities.has(capability),
            || format!("{} is missing, {use_of_it}", capability.name()),
            Wanted::loads_programs,
            "start as root, or with CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8): ambient for a service, added for a container",
        )
    }

    fn little_memlock(&self) -> Option<Found> {
        let limit = self.memlock.filter(|&limit| limit < self.maps)?;
        let release = read(&self.proc("sys/kernel/osrelease"))?;
        let mut numbers = release.split(|byte: char| !byte.is_ascii_digit());
        let mut number = || numbers.next()?.parse::<u32>().ok();
        let charges = (number()?, number()?) < CHARGES_MEMLOCK_BEFORE;
        let size = |bytes| ByteSize(bytes).display().iec();
        found(
            charges && !self.capabilities.has(Capability::SysResource),
            || {
                format!(
                    "the limit of locked memory is {}, and Linux {release} charges maps to it, up to {}",
                    size(limit),
                    size(self.maps)
                )
            },
            Wanted::loads_programs,
            "LimitMEMLOCK=infinity for a service, ulimit -l unlimited, or CAP_SYS_RESOURCE",
        )
    }

    /// Settings that people look for, and what they mean here.
    pub(super) fn settings(&self) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(mode) = self.lockdown_mode() {
            told.push(match &*mode {
                "confidentiality" => "lockdown = confidentiality: see below".to_owned(),
                mode => format!("lockdown = {mode}: does not matter"),
            });
        }
        if let Some(value) = self.sysctl("perf_event_paranoid") {
            told.push(format!(
                "perf_event_paranoid = {value}: does not matter, programs are attached by bpf(2) alone"
            ));
        }
        if let Some(value) = self.sysctl("unprivileged_bpf_disabled") {
            told.push(match &*value {
                "0" => "unprivileged_bpf_disabled = 0: does not matter, programs that trace need privileges all the same".to_owned(),
                value => format!(
                    "unprivileged_bpf_disabled = {value}: does not matter with CAP_BPF; it is given up once maps are mapped"
                ),
            });
        }
        told
    }

    /// The lockdown mode; `None` where the kernel has no such thing, or does not say.
    fn lockdown_mode(&self) -> Option<String> {
        let modes = read(&self.roots.sys.join("kernel/security/lockdown"))?;
        modes.split(['[', ']']).nth(1).map(str::to_owned)
    }

    fn sysctl(&self, name: &str) -> Option<String> {
        read(&self.proc("sys/kernel").join(name))
    }

    fn proc(&self, path: &str) -> PathBuf {
        self.roots.proc.join(path)
    }

    fn has_proc(&self) -> bool {
        self.proc("stat").exists()
    }

    fn has_process_1(&self) -> bool {
        self.proc("1/net").exists()
    }

    fn has_sys(&self) -> bool {
        self.roots.sys.join("devices/system").exists()
    }
}

/// A sentence, whom it concerns, and the way out.
type Found = (String, fn(&Wanted) -> bool, &'static str);

fn found(
    is: bool,
    what: impl FnOnce() -> String,
    concerns: fn(&Wanted) -> bool,
    way_out: &'static str,
) -> Option<Found> {
    is.then(|| (what(), concerns, way_out))
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests;
