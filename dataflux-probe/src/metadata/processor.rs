//! `processor`: what the machine computes with.

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

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "processor",
    summary: "model and vendor of the processors, how many sockets, cores and threads are online",
    needs: Needs {
        kernel: "/proc/cpuinfo, /sys/devices/system/cpu",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Processor {
            cpuinfo: context.roots.proc.join("cpuinfo"),
            cpus: context.roots.sys.join("devices/system/cpu"),
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
    model: Option<Model>,
    /// Which CPUs were online, and what that came to.
    counted: Option<(String, Counts)>,
}

/// Of the first CPU.
#[derive(Clone, Default)]
struct Model {
    name: Option<String>,
    vendor: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    sockets: usize,
    cores: usize,
    threads: usize,
}

impl MetadataReader for Processor {
    /// Keys: `model` and `vendor` where the architecture tells them; `sockets`, `cores` and `threads` that are online.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        if self.model.is_none() {
            self.model = text(&self.cpuinfo).and_then(|text| model(&text));
        }
        let Model { name, vendor } = self.model.clone().unwrap_or_default();
        let counts = self.counts();
        let count = |value: fn(Counts) -> usize| counts.map(|counts| Value::from(value(counts)));
        let section = super::section([
            ("model", name.map(Value::from)),
            ("vendor", vendor.map(Value::from)),
            ("sockets", count(|counts| counts.sockets)),
            ("cores", count(|counts| counts.cores)),
            ("threads", count(|counts| counts.threads)),
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
    fn counts(&mut self) -> Option<Counts> {
        let online = first_line(&self.cpus.join("online"))?;
        if let Some((then, counts)) = &self.counted
            && *then == online
        {
            return Some(*counts);
        }
        let counts = count(&self.cpus)?;
        self.counted = Some((online, counts));
        Some(counts)
    }
}

fn model(cpuinfo: &str) -> Option<Model> {
    let first = cpuinfo.split("\n\n").next()?;
    let cpus = CpuInfo::from_buf_read(first.as_bytes()).ok()?;
    Some(Model {
        name: cpus.model_name(0).map(str::to_owned),
        vendor: cpus.vendor_id(0).map(str::to_owned),
    })
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
