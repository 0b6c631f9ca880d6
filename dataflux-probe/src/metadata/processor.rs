//! `processor`: what the machine computes with.

mod caches;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use procfs::{CpuInfo, FromBufRead};
use serde::Deserialize;
use serde_json::Value;

use super::MetadataReader;
use crate::{
    host_file::{first_line, text},
    model::Metadata,
    plugin::{Needs, Plugin},
};
use caches::Cache;

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "processor",
    summary: "model and vendor of the processors, how many sockets, cores and threads are online, MHz, caches and NUMA nodes",
    needs: Needs {
        kernel: "/proc/cpuinfo, /sys/devices/system/cpu and node",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Processor {
            cpuinfo: context.roots.proc.join("cpuinfo"),
            cpus: context.roots.sys.join("devices/system/cpu"),
            nodes: context.roots.sys.join("devices/system/node"),
            model: None,
            counted: None,
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

/// `/proc/cpuinfo` and the topology of hundreds of CPUs are not cheap, so neither is read again while it must be the same.
struct Processor {
    cpuinfo: PathBuf,
    cpus: PathBuf,
    nodes: PathBuf,
    model: Option<Model>,
    /// Which CPUs were online, and what that came to.
    counted: Option<(String, Counts, Vec<Cache>)>,
}

/// Of the first CPU.
#[derive(Clone, Default)]
struct Model {
    name: Option<String>,
    vendor: Option<String>,
    /// What it ran at when it was looked at first.
    mhz: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    sockets: usize,
    cores: usize,
    threads: usize,
}

impl MetadataReader for Processor {
    /// Keys: `model` and `vendor` where the architecture tells them; `sockets`, `cores` and `threads` that are online; `mhz`, the
    /// most that the first CPU is made for, or where that is not told what it ran at when the probe started; `caches`, each
    /// kind with its size and how many there are; `numa_nodes` that are online.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        if self.model.is_none() {
            self.model = text(&self.cpuinfo).and_then(|text| model(&text));
        }
        let Model { name, vendor, mhz } = self.model.clone().unwrap_or_default();
        let highest = first_line(&self.cpus.join("cpu0/cpufreq/cpuinfo_max_freq"));
        let highest = highest.and_then(|khz| Some(khz.parse::<u64>().ok()? / 1000));
        let nodes = first_line(&self.nodes.join("online"));
        let (counts, caches) = match self.counts() {
            Some((counts, caches)) => (Some(counts), caches),
            None => (None, Vec::new()),
        };
        let count = |value: fn(Counts) -> usize| counts.map(|counts| Value::from(value(counts)));
        let section = super::section([
            ("model", name.map(Value::from)),
            ("vendor", vendor.map(Value::from)),
            ("sockets", count(|counts| counts.sockets)),
            ("cores", count(|counts| counts.cores)),
            ("threads", count(|counts| counts.threads)),
            ("mhz", highest.or(mhz).map(Value::from)),
            (
                "caches",
                (!caches.is_empty()).then_some(serde_json::to_value(caches)?),
            ),
            (
                "numa_nodes",
                nodes.and_then(|nodes| Some(caches::length(&nodes)?.into())),
            ),
        ]);
        ensure!(
            !section.is_empty(),
            "neither {} nor {} says anything about processors",
            self.cpuinfo.display(),
            self.cpus.display()
        );
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

impl Processor {
    fn counts(&mut self) -> Option<(Counts, Vec<Cache>)> {
        let online = first_line(&self.cpus.join("online"))?;
        if let Some((then, counts, caches)) = &self.counted
            && *then == online
        {
            return Some((*counts, caches.clone()));
        }
        let (counts, caches) = (count(&self.cpus)?, caches::of(&self.cpus));
        self.counted = Some((online, counts, caches.clone()));
        Some((counts, caches))
    }
}

fn model(cpuinfo: &str) -> Option<Model> {
    let first = cpuinfo.split("\n\n").next()?;
    let cpus = CpuInfo::from_buf_read(first.as_bytes()).ok()?;
    Some(Model {
        name: cpus.model_name(0).map(str::to_owned),
        vendor: cpus.vendor_id(0).map(str::to_owned),
        mhz: mhz(first),
    })
}

/// In whole MHz.
fn mhz(cpu: &str) -> Option<u64> {
    let line = cpu.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split_once(':')?.1.trim().parse().ok()?;
    (1.0..1e6).contains(&mhz).then_some(mhz.round() as u64)
}

/// Threads that share a core, and cores that share a package, name the same list of CPUs. A CPU that is offline has no
/// topology. The names of the files are those since 5.3.
fn count(cpus: &Path) -> Option<Counts> {
    let (mut packages, mut cores) = (BTreeSet::new(), BTreeSet::new());
    let mut threads = 0;
    for entry in fs::read_dir(cpus).ok()?.flatten() {
        let topology = entry.path().join("topology");
        let core = first_line(&topology.join("core_cpus_list"));
        let package = first_line(&topology.join("package_cpus_list"));
        if let (Some(core), Some(package)) = (core, package) {
            cores.insert(core);
            packages.insert(package);
            threads += 1;
        }
    }
    (threads > 0).then_some(Counts {
        sockets: packages.len(),
        cores: cores.len(),
        threads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metadata::testing::read,
        plugin::testing::{context, fixtures},
    };

    #[test]
    fn model_and_vendor_are_the_first_processor_s() {
        let section = read(&PLUGIN, "", &context(fixtures())).unwrap();
        assert_eq!(section["model"], "Example(R) Processor X1 @ 2.30GHz");
        assert_eq!(section["vendor"], "GenuineExample");
    }

    #[test]
    fn frequency_and_numa_nodes_are_told_where_they_are_known() {
        assert_eq!(mhz("processor : 0\ncpu MHz\t\t: 2299.998\n"), Some(2300));
        for nothing in ["", "cpu MHz : \n", "cpu MHz : nan\n", "cpu MHz : -1\n"] {
            assert_eq!(mhz(nothing), None);
        }
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 800.1\n\n");
        write("sys/devices/system/node/online", "0-3\n");
        let section = || read(&PLUGIN, "", &context(folder.path())).unwrap();
        assert_eq!(section()["mhz"], 800);
        assert_eq!(section()["numa_nodes"], 4);
        write(
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq",
            "3500000\n",
        );
        assert_eq!(section()["mhz"], 3500);
    }

    #[test]
    fn two_packages_of_two_cores_of_which_one_thread_is_offline() {
        let folder = tempfile::tempdir().unwrap();
        let write = |cpu: u32, core: &str, package: &str| {
            let topology = folder.path().join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("core_cpus_list"), core).unwrap();
            fs::write(topology.join("package_cpus_list"), package).unwrap();
        };
        write(0, "0,4\n", "0-1,4-5\n");
        write(1, "1,5\n", "0-1,4-5\n");
        write(2, "2,6\n", "2-3,6\n");
        write(3, "3\n", "2-3,6\n");
        write(4, "0,4\n", "0-1,4-5\n");
        write(5, "1,5\n", "0-1,4-5\n");
        write(6, "2,6\n", "2-3,6\n");
        fs::create_dir_all(folder.path().join("cpu7")).unwrap();
        fs::create_dir_all(folder.path().join("cpufreq")).unwrap();
        let counts = Counts {
            sockets: 2,
            cores: 4,
            threads: 7,
        };
        assert_eq!(count(folder.path()), Some(counts));
    }

    #[test]
    fn this_machine_has_as_many_threads_as_the_kernel_says() {
        let mut context = context(fixtures());
        context.roots.sys = "/sys".into();
        let section = read(&PLUGIN, "", &context).unwrap();
        // SAFETY: sysconf has no preconditions.
        let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        assert_eq!(section["threads"], online);
        assert!(section["cores"].as_u64() <= section["threads"].as_u64());
        assert!(section["sockets"].as_u64() <= section["cores"].as_u64());
    }

    #[test]
    fn nothing_known_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        read(&PLUGIN, "", &context(folder.path())).unwrap_err();
    }
}
