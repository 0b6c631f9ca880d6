//! `containers`: whose the host's cgroups are.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
    sync::Arc,
};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MetadataReader;
use crate::{
    cgroups::{Owner, Tree},
    model::Metadata,
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "containers",
    summary: "the host's cgroups by path, with id, systemd unit, container and its runtime, pod",
    needs: Needs {
        kernel: "/sys/fs/cgroup",
        ..Needs::NOTHING
    },
    example: "\
enabled = false     # 100 to 300 bytes in every envelope for each cgroup
# units = false     # units of systemd too, or containers and pods alone; default false
# max_cgroups = 200 # how many at most; `left_out` has the number of the rest; default 200, at most 10000
",
    metrics: &[],
    build: |section, context| {
        section.build(|config: Config, _| {
            if !(1..=MOST).contains(&config.max_cgroups) {
                let message = format!("{} is not between 1 and {MOST}", config.max_cgroups);
                return Err(section.error(Some("max_cgroups"), message));
            }
            Ok(Box::new(Containers {
                sys: context.roots.sys.clone(),
                unified: Tree::unified(&context.roots.sys),
                of_v1: HIERARCHIES
                    .map(|name| Tree::of_controller(&context.roots.sys, name, "cgroup.procs")),
                config,
            }) as _)
        })
    },
};

const MOST: usize = 10_000;

/// Those of v1 in which runtimes sort their processes. They have the same paths where they have them at all.
const HIERARCHIES: [&str; 5] = ["systemd", "memory", "pids", "cpu", "cpuacct"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    units: bool,
    #[serde(default = "default_max_cgroups")]
    max_cgroups: usize,
}

const fn default_max_cgroups() -> usize {
    200
}

struct Containers {
    sys: PathBuf,
    unified: Tree,
    of_v1: [Tree; HIERARCHIES.len()],
    config: Config,
}

/// What is known of a cgroup.
#[derive(Debug, Serialize)]
struct Known {
    /// Of v2, as in the entities of metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
}

impl MetadataReader for Containers {
    /// Keys: `cgroups`, by path below the root, each with `id` (v2), `unit`, `container`, `runtime` and `pod` as far as they are
    /// known; `left_out`, how many more there are. The first by path are kept.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let mut found = BTreeMap::new();
        let mut any = self.unified.refresh().is_ok();
        add(&self.unified, true, self.config.units, &mut found);
        if !self.unified.is_alone() {
            for tree in &mut self.of_v1 {
                any |= tree.refresh().is_ok();
                add(tree, false, self.config.units, &mut found);
            }
        }
        ensure!(
            any,
            "no hierarchy of cgroups in {}",
            self.sys.join("fs/cgroup").display()
        );
        let left_out = found.len().saturating_sub(self.config.max_cgroups);
        let kept = found.into_iter().take(self.config.max_cgroups);
        let kept: BTreeMap<String, Known> = kept.map(|(path, it)| (path.to_string(), it)).collect();
        let section = super::section([
            ("cgroups", Some(serde_json::to_value(kept)?)),
            ("left_out", (left_out > 0).then(|| Value::from(left_out))),
        ]);
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

/// Adds the cgroups of a hierarchy that are wanted and not there yet.
fn add(tree: &Tree, has_ids: bool, units: bool, found: &mut BTreeMap<Arc<str>, Known>) {
    tree.each(&mut |cgroup, _| {
        let Entry::Vacant(place) = found.entry(Arc::clone(cgroup.path())) else {
            return;
        };
        let owner = Owner::of(cgroup.path());
        let is_unit = || {
            let name = cgroup.path().rsplit('/').next();
            owner.unit.as_deref() == name
        };
        if owner.is_itself || units && is_unit() {
            let (container, runtime) = match owner.container {
                Some(container) => (Some(container.id), container.runtime),
                None => (None, None),
            };
            place.insert(Known {
                id: has_ids.then(|| cgroup.id().to_string()),
                unit: owner.unit,
                container,
                runtime,
                pod: owner.pod,
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use serde_json::json;

    use super::*;
    use crate::{metadata::testing::read, plugin::testing::context};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn machine(folders: &[&str], signs: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sys/fs/cgroup");
        for path in folders {
            fs::create_dir_all(root.join(path.replace("ID", ID))).unwrap();
        }
        for sign in signs {
            fs::write(root.join(sign), "").unwrap();
        }
        folder
    }

    #[test]
    fn containers_have_the_ids_of_their_series() {
        let host = machine(
            &[
                "system.slice/docker-ID.scope/init",
                "system.slice/cron.service",
            ],
            &["cgroup.controllers"],
        );
        let scope = format!("system.slice/docker-{ID}.scope");
        let inode = fs::metadata(host.path().join("sys/fs/cgroup").join(&scope))
            .unwrap()
            .ino();
        let section = read(&PLUGIN, "", &context(host.path())).unwrap();
        let expected = json!({
            "id": inode.to_string(),
            "unit": format!("docker-{ID}.scope"),
            "container": ID,
            "runtime": "docker",
        });
        assert_eq!(section["cgroups"], json!({ format!("/{scope}"): expected }));
        let units = read(
            &PLUGIN,
            "units = true\nmax_cgroups = 2",
            &context(host.path()),
        )
        .unwrap();
        let paths: Vec<_> = units["cgroups"].as_object().unwrap().keys().collect();
        assert_eq!(paths, ["/system.slice", "/system.slice/cron.service"]);
        assert_eq!(units["left_out"], 1);
    }

    #[test]
    fn hierarchies_of_v1_are_looked_through_and_none_is_an_error() {
        let host = machine(
            &["memory/docker/ID", "pids/docker/ID", "cpu/lxc/web"],
            &[
                "memory/cgroup.procs",
                "pids/cgroup.procs",
                "cpu/cgroup.procs",
            ],
        );
        let section = read(&PLUGIN, "", &context(host.path())).unwrap();
        let expected = json!({
            format!("/docker/{ID}"): { "container": ID, "runtime": "docker" },
            "/lxc/web": { "container": "web", "runtime": "lxc" },
        });
        assert_eq!(section["cgroups"], expected);
        let nothing = machine(&["memory"], &[]);
        read(&PLUGIN, "", &context(nothing.path())).unwrap_err();
        let error = PLUGIN.build_from("max_cgroups = 0", &context(nothing.path()));
        assert!(error.is_err());
    }
}
