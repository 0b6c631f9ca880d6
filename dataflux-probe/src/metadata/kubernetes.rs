//! `kubernetes`: the pod that the probe itself runs as, and its node, from the downward API.

use std::{env, path::PathBuf};

use serde::Deserialize;

use super::MetadataReader;
use crate::{
    cgroups::{self, Owner},
    host_file::{first_line, text},
    model::Metadata,
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "kubernetes",
    summary: "node, namespace, name and uid of the probe's own pod, as the downward API tells them",
    needs: Needs {
        kernel: "NODE_NAME, POD_NAMESPACE, POD_NAME and POD_UID in the environment, or files of a downward API volume",
        ..Needs::NOTHING
    },
    example: "\
# folder = \"/etc/podinfo\"  # a volume with files `namespace`, `name` and `uid`, for what the environment does not have; below
#                          # /etc, or a folder that the probe may read after its start; default \"/etc/podinfo\"
",
    metrics: &[],
    build: |section, _context| {
        section.build(|config: Config, _| {
            if !config.folder.is_absolute() {
                return Err(section.error(Some("folder"), "is not an absolute path"));
            }
            Ok(Box::new(Kubernetes {
                folder: config.folder,
                own_cgroup: "/proc/self/cgroup".into(),
                variable: |name| env::var(name).ok(),
            }) as _)
        })
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "default_folder")]
    folder: PathBuf,
}

fn default_folder() -> PathBuf {
    "/etc/podinfo".into()
}

struct Kubernetes {
    folder: PathBuf,
    own_cgroup: PathBuf,
    variable: fn(&str) -> Option<String>,
}

impl MetadataReader for Kubernetes {
    /// Keys: `node`, `namespace`, `pod` and `uid`, as far as they are known. There is no section outside of a pod.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let variable = |name| (self.variable)(name).filter(|value| !value.is_empty());
        let file = |name| first_line(&self.folder.join(name));
        let uid = variable("POD_UID").or_else(|| file("uid"));
        let section = super::section([
            ("node", variable("NODE_NAME")),
            (
                "namespace",
                variable("POD_NAMESPACE").or_else(|| file("namespace")),
            ),
            ("pod", variable("POD_NAME").or_else(|| file("name"))),
            ("uid", uid.or_else(|| self.uid_of_cgroup())),
        ]);
        if !section.is_empty() {
            out.sections.insert(PLUGIN.name, section);
        }
        Ok(())
    }
}

impl Kubernetes {
    /// The pod whose cgroup the probe is in, where its own namespace of cgroups does not hide that.
    fn uid_of_cgroup(&self) -> Option<String> {
        let text = text(&self.own_cgroup)?;
        Owner::of(cgroups::telling(&text)?).pod
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::json;

    use super::*;
    use crate::plugin::testing::context;

    const UID: &str = "6f1c2d3e-0000-4a5b-8c9d-0123456789ab";

    fn read(folder: &Path, variable: fn(&str) -> Option<String>) -> Option<serde_json::Value> {
        let mut reader = Kubernetes {
            folder: folder.to_owned(),
            own_cgroup: folder.join("cgroup"),
            variable,
        };
        let mut metadata = Metadata::default();
        reader.read(&mut metadata).unwrap();
        metadata.sections.remove("kubernetes").map(Into::into)
    }

    #[test]
    fn the_environment_comes_before_files_and_files_before_the_cgroup() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), |_| None), None, "no pod");
        let cgroup = format!(
            "0::/kubepods.slice/kubepods-pod{}.slice/x\n",
            UID.replace('-', "_")
        );
        fs::write(folder.path().join("cgroup"), cgroup).unwrap();
        assert_eq!(read(folder.path(), |_| None), Some(json!({ "uid": UID })));
        fs::write(folder.path().join("uid"), "from the file").unwrap();
        fs::write(folder.path().join("name"), "probe-x7k2p\n").unwrap();
        let expected = json!({ "pod": "probe-x7k2p", "uid": "from the file" });
        assert_eq!(read(folder.path(), |_| None), Some(expected));
        let all = |name: &str| {
            Some(if name == "NODE_NAME" {
                String::new()
            } else {
                format!("its {name}")
            })
        };
        let expected = json!({
            "namespace": "its POD_NAMESPACE", "pod": "its POD_NAME", "uid": "its POD_UID",
        });
        assert_eq!(read(folder.path(), all), Some(expected));
    }

    #[test]
    fn a_folder_is_an_absolute_path() {
        let build = |config| PLUGIN.build_from(config, &context(Path::new("/nowhere")));
        assert!(build("folder = \"podinfo\"").is_err());
        build("").unwrap();
    }
}
