//! `container`: whether the probe itself is in a container, and in which.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::MetadataReader;
use crate::{
    cgroups::{self, Owner},
    host_file::{first_line, text},
    model::Metadata,
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "container",
    summary: "whether the probe itself is in a container; its runtime, id and image as far as they can be told from inside",
    needs: Needs {
        kernel: "the probe's own /proc/self, /.dockerenv, /run/.containerenv, /run/systemd/container",
        ..Needs::NOTHING
    },
    example: "\
# The image is known where the runtime says it (podman), or DATAFLUX_IMAGE in the probe's environment does.
",
    metrics: &[],
    build: |section, _context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Container {
            root: "/".into(),
            variable: |name| env::var(name).ok(),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

/// Runtimes that say who they are, by how their names begin.
const RUNTIMES: [(&str, &str); 5] = [
    ("podman", "podman"),
    ("docker", "docker"),
    ("lxc", "lxc"),
    ("systemd-nspawn", "systemd-nspawn"),
    ("crio", "cri-o"),
];

/// The kernel's first PID namespace (PROC_PID_INIT_INO), which has this number everywhere.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// The probe's own surroundings, not its host's.
struct Container {
    root: PathBuf,
    variable: fn(&str) -> Option<String>,
}

/// What was found out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    is_inside: bool,
    runtime: Option<&'static str>,
    id: Option<String>,
    image: Option<String>,
}

impl MetadataReader for Container {
    /// Keys: `inside`, and of a container `runtime`, `id` and `image` as far as they are known.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let found = self.look();
        let section = super::section([
            ("inside", Some(Value::from(found.is_inside))),
            ("runtime", found.runtime.map(Value::from)),
            ("id", found.id.map(Value::from)),
            ("image", found.image.map(Value::from)),
        ]);
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

impl Container {
    /// What the runtime says itself comes before what is concluded.
    fn look(&self) -> Found {
        let mut found = Found::default();
        if let Some(text) = text(&self.root.join("run/.containerenv")) {
            found.add(value(&text, "engine").and_then(runtime).or(Some("podman")));
            found.id = value(&text, "id").map(str::to_owned);
            found.image = value(&text, "image").map(str::to_owned);
        }
        for said in [
            (self.variable)("container"),
            first_line(&self.root.join("run/systemd/container")),
        ] {
            found.is_inside |= said.as_deref().is_some_and(|it| !it.is_empty());
            found.add(said.as_deref().and_then(runtime));
        }
        let own = self.root.join("proc/self");
        let is_pod = (self.variable)("KUBERNETES_SERVICE_HOST").is_some();
        let cgroup = text(&own.join("cgroup")).unwrap_or_default();
        if let Some(of) = cgroups::telling(&cgroup).and_then(|path| Owner::of(path).container) {
            found.is_inside = true;
            found.add(of.runtime);
            found.id = found.id.or(Some(of.id));
        }
        // Of a pod these files belong to another container, which only holds its namespaces.
        let mounts = text(&own.join("mountinfo")).unwrap_or_default();
        if let Some((id, runtime)) = mounted_from(&mounts).filter(|_| !is_pod) {
            found.add(Some(runtime));
            found.id = found.id.or_else(|| Some(id.to_owned()));
        }
        if self.root.join(".dockerenv").exists() {
            found.add(Some("docker"));
        }
        found.is_inside |= is_pod || is_elsewhere(&own);
        if found.is_inside {
            found.image = found.image.or_else(|| (self.variable)("DATAFLUX_IMAGE"));
        }
        found
    }
}

impl Found {
    /// The first runtime that is told is the one.
    fn add(&mut self, runtime: Option<&'static str>) {
        self.is_inside |= runtime.is_some();
        self.runtime = self.runtime.or(runtime);
    }
}

fn runtime(said: &str) -> Option<&'static str> {
    let known = RUNTIMES.iter().find(|(name, _)| said.starts_with(name));
    known.map(|(_, runtime)| *runtime)
}

/// Of a line `key="value"`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim_matches('"');
    (!value.is_empty()).then_some(value)
}

/// Whether a process is in another PID namespace than the kernel's first.
fn is_elsewhere(process: &Path) -> bool {
    let namespace = fs::read_link(process.join("ns/pid"));
    namespace.is_ok_and(|own| own != Path::new(FIRST_NAMESPACE))
}

/// The container whose files its runtime mounts over `/etc/hostname` and `/etc/hosts`, by where these are on the host.
fn mounted_from(mountinfo: &str) -> Option<(&str, &'static str)> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (from, to) = (fields.next()?, fields.next()?);
        if !matches!(to, "/etc/hostname" | "/etc/hosts") {
            return None;
        }
        let parts: Vec<&str> = from.split('/').collect();
        let is_id =
            |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let place = parts.iter().position(is_id)?;
        let before = parts.get(..place)?;
        let runtime = match before {
            [.., "docker", "containers"] => "docker",
            [.., "overlay-containers"] => "podman",
            _ if before.contains(&"nerdctl") => "containerd",
            _ => return None,
        };
        Some((parts[place], runtime))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn surroundings(namespace: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("ID", ID)).unwrap();
        }
        fs::create_dir_all(folder.path().join("proc/self/ns")).unwrap();
        symlink(namespace, folder.path().join("proc/self/ns/pid")).unwrap();
        folder
    }

    fn look(folder: &tempfile::TempDir, variable: fn(&str) -> Option<String>) -> Found {
        let root = folder.path().to_owned();
        Container { root, variable }.look()
    }

    fn found(runtime: Option<&'static str>, id: Option<&str>, image: Option<&str>) -> Found {
        Found {
            is_inside: true,
            runtime,
            id: id.map(str::to_owned),
            image: image.map(str::to_owned),
        }
    }

    #[test]
    fn a_host_is_no_container() {
        let host = surroundings(
            FIRST_NAMESPACE,
            &[("proc/self/cgroup", "0::/system.slice/p.service\n")],
        );
        assert_eq!(look(&host, |_| None), Found::default());
    }

    #[test]
    fn docker_is_told_by_where_its_files_come_from() {
        let mounts = "700 600 254:1 /var/lib/docker/containers/ID/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n";
        let inside = surroundings(
            "pid:[4026532000]",
            &[
                ("proc/self/mountinfo", mounts),
                ("proc/self/cgroup", "0::/\n"),
                (".dockerenv", ""),
            ],
        );
        let image = |name: &str| (name == "DATAFLUX_IMAGE").then(|| "probe:1".to_owned());
        let expected = found(Some("docker"), Some(ID), Some("probe:1"));
        assert_eq!(look(&inside, image), expected);
        let of_v1 = surroundings(
            FIRST_NAMESPACE,
            &[("proc/self/cgroup", "3:memory:/docker/ID\n0::/\n")],
        );
        assert_eq!(
            look(&of_v1, |_| None),
            found(Some("docker"), Some(ID), None)
        );
    }

    #[test]
    fn podman_says_everything_itself() {
        let said = "engine=\"podman-5.4.2\"\nname=\"probe\"\nid=\"ID\"\nimage=\"localhost/probe:2\"\nimageid=\"x\"\n";
        let inside = surroundings("pid:[1]", &[("run/.containerenv", said)]);
        let expected = found(Some("podman"), Some(ID), Some("localhost/probe:2"));
        assert_eq!(look(&inside, |_| None), expected);
        let silent = surroundings("pid:[1]", &[("run/.containerenv", "")]);
        assert_eq!(look(&silent, |_| None), found(Some("podman"), None, None));
    }

    #[test]
    fn a_pod_does_not_take_its_sandbox_for_itself() {
        let mounts =
            "1 2 0:1 /var/lib/docker/containers/ID/hostname /etc/hostname ro - ext4 /dev/vda1 rw\n";
        let inside = surroundings(FIRST_NAMESPACE, &[("proc/self/mountinfo", mounts)]);
        let variable =
            |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.0.0.1".to_owned());
        assert_eq!(look(&inside, variable), found(None, None, None));
    }

    #[test]
    fn machines_in_a_container_say_so_by_their_first_process() {
        let inside = surroundings(FIRST_NAMESPACE, &[("run/systemd/container", "lxc\n")]);
        assert_eq!(look(&inside, |_| None), found(Some("lxc"), None, None));
        let by_variable = |name: &str| (name == "container").then(|| "systemd-nspawn".to_owned());
        let inside = surroundings(FIRST_NAMESPACE, &[]);
        assert_eq!(
            look(&inside, by_variable),
            found(Some("systemd-nspawn"), None, None)
        );
        let unknown = surroundings("pid:[4026532000]", &[]);
        assert_eq!(look(&unknown, |_| None), found(None, None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart(text: String, lines in "([0-9a-f/ ]{0,20}/etc/hosts \n){0,3}") {
            for text in [&text, &lines] {
                prop_assert!(mounted_from(text).is_none_or(|(id, _)| id.len() == 64));
                prop_assert!(value(text, "id").is_none_or(|id| text.contains(id)));
            }
        }
    }
}
