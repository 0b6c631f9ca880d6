//! `cgroup`: what each control group uses, is allowed, and waits for, from the hierarchies of v2 and v1.
//!
//! A cgroup's values have those of all cgroups in it. One that is not reported by itself is thus in the nearest one above it
//! that is. Where a hierarchy of v1 has a controller, its values are v1's, by path; all others are v2's, by id. A cgroup in
//! which a controller is not enabled has none of its series.

mod definitions;
mod hierarchy;
mod sources;
mod text;
mod v1;
mod v2;

use std::{path::PathBuf, ptr};

use anyhow::ensure;
use serde::Deserialize;

use super::{AttachError, MetricReader};
use crate::{
    cgroups::Tree,
    config::Section,
    host_file::raise_open_files,
    kernel::Kernel,
    model::{Health, MetricDef, Snapshot, Status},
    plugin::{Context, Needs, Plugin},
};
use definitions::ALL;
use hierarchy::{Hierarchy, Rules, Shared};
use sources::{Devices, Part, Source};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "cgroup",
    summary: "processor time, throttling, memory, I/O, tasks and pressure of each control group, of v2 and v1",
    needs: Needs {
        kernel: "/sys/fs/cgroup: v2, or v1's cpu, cpuacct, memory, blkio and pids",
        ..Needs::NOTHING
    },
    example: "\
enabled = false     # every cgroup has some 20 gauges and counters in each envelope
# include = [\"*\"]   # wildcards of the paths that are read: \"/system.slice/*\"; a * is any text, slashes too; default all
# exclude = []      # and of those that are not: \"*.mount\"; default none
# max_depth = 6     # how far below the root, which is 0 and is never read; deeper ones are in those above; default 6, at most 64
# max_cgroups = 250 # how many of each hierarchy are reported, those near the root first; default 250, at most 10000
# max_devices = 64  # block devices whose I/O is told; default 64, at most 10000
# parts = [\"cpu\", \"memory\", \"io\", \"tasks\", \"pressure\"]  # what is read; default all
",
    metrics: &ALL,
    build: |section, context| Ok(Box::new(Cgroups::new(Config::parse(section)?, context))),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default = "default_max_depth")]
    max_depth: usize,
    #[serde(default = "default_max_cgroups")]
    max_cgroups: usize,
    #[serde(default = "default_max_devices")]
    max_devices: usize,
    #[serde(default = "default_parts")]
    parts: Vec<Part>,
}

const fn default_max_depth() -> usize {
    6
}

const fn default_max_cgroups() -> usize {
    250
}

const fn default_max_devices() -> usize {
    64
}

fn default_parts() -> Vec<Part> {
    Part::ALL.into()
}

impl Config {
    fn parse(section: &Section<'_>) -> anyhow::Result<Self> {
        section.build(|config: Self, problems| {
            let limits = [
                ("max_depth", config.max_depth, 64),
                ("max_cgroups", config.max_cgroups, 10_000),
                ("max_devices", config.max_devices, 10_000),
            ];
            for (key, value, most) in limits {
                if !(1..=most).contains(&value) {
                    let message = format!("{value} is not between 1 and {most}");
                    problems.push(section.error(Some(key), message));
                }
            }
            if config.parts.is_empty() {
                return Err(section.error(Some("parts"), "is empty; leave the key out for all"));
            }
            Ok(config)
        })
    }
}

struct Cgroups {
    /// The host's `/sys`.
    sys: PathBuf,
    parts: Vec<Part>,
    rules: Rules,
    devices: Devices,
    /// Found at the first read.
    hierarchies: Vec<Hierarchy>,
    /// How many files may still be kept open.
    room: usize,
    buffer: Vec<u8>,
}

impl Cgroups {
    fn new(config: Config, context: &Context) -> Self {
        Self {
            sys: context.roots.sys.clone(),
            parts: config.parts,
            rules: Rules {
                include: config.include,
                exclude: config.exclude,
                max_depth: config.max_depth,
                max_cgroups: config.max_cgroups,
            },
            devices: Devices::new(config.max_devices),
            hierarchies: Vec::new(),
            room: 0,
            buffer: Vec::new(),
        }
    }

    /// Those that have something of what is wanted.
    fn find(&self) -> Vec<Hierarchy> {
        let wanted = |source: &Source| self.parts.contains(&source.part);
        let mut of_v1 = Vec::new();
        let mut found = Vec::new();
        let mut unified = Tree::unified(&self.sys);
        let is_there = unified.refresh().is_ok();
        if !unified.is_alone() {
            for controller in &v1::CONTROLLERS {
                let mut tree = Tree::of_controller(&self.sys, controller.name, controller.sign);
                let sources: Vec<_> = controller.sources.iter().filter(|it| wanted(it)).collect();
                if tree.refresh().is_ok() {
                    of_v1.push(controller.part);
                    if !sources.is_empty() {
                        found.push(Hierarchy::new(controller.name, tree, false, sources));
                    }
                }
            }
        }
        let rest = |source: &&Source| wanted(source) && !of_v1.contains(&source.part);
        let sources: Vec<_> = v2::SOURCES.iter().filter(rest).collect();
        if is_there && !sources.is_empty() {
            found.push(Hierarchy::new("unified", unified, true, sources));
        }
        found
    }

    /// What is wanted and no cgroup has.
    fn unsupported(&self, read: &[(&Source, Option<bool>)]) -> Vec<&'static MetricDef> {
        let is_wanted = |def: &MetricDef| {
            let mut sources = v2::SOURCES
                .iter()
                .filter(|source| self.parts.contains(&source.part));
            sources.any(|source| source.metrics.iter().any(|it| ptr::eq(*it, def)))
        };
        // Without a cgroup nothing can be said.
        let can_be = |def: &MetricDef| {
            let gives = |source: &Source| source.metrics.iter().any(|it| ptr::eq(*it, def));
            let mut read = read.iter();
            read.any(|(source, given)| gives(source) && *given != Some(false))
        };
        let all = ALL.into_iter();
        all.filter(|def| is_wanted(def) && !can_be(def)).collect()
    }
}

impl MetricReader for Cgroups {
    fn attach(&mut self, _kernel: &Kernel) -> Result<(), AttachError> {
        self.hierarchies = self.find();
        if self.hierarchies.is_empty() {
            let message = format!("no hierarchy in {}", self.sys.join("fs/cgroup").display());
            return Err(AttachError::Unsupported(message));
        }
        self.room = raise_open_files() / 2;
        Ok(())
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        if self.hierarchies.is_empty() {
            self.hierarchies = self.find();
        }
        let folder = self.sys.join("fs/cgroup");
        ensure!(
            !self.hierarchies.is_empty(),
            "no hierarchy of cgroups in {}",
            folder.display()
        );
        let mut hierarchies = std::mem::take(&mut self.hierarchies);
        let read = self.read_all(&mut hierarchies, out);
        self.hierarchies = hierarchies;
        read
    }
}

impl Cgroups {
    fn read_all(
        &mut self,
        hierarchies: &mut [Hierarchy],
        out: &mut Snapshot,
    ) -> anyhow::Result<()> {
        let mut shared = Shared {
            rules: &self.rules,
            devices: &mut self.devices,
            room: &mut self.room,
            buffer: &mut self.buffer,
        };
        let mut read = Vec::new();
        for hierarchy in hierarchies {
            read.extend(hierarchy.read(&mut shared, out)?);
        }
        out.unsupported.extend(self.unsupported(&read));
        let refused = self.devices.take_refused();
        if refused > 0 {
            let reason =
                format!("the I/O of {refused} devices more than `max_devices` is left out");
            out.health = Health::new(Status::Degraded, reason);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
