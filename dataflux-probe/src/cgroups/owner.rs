//! Whose a cgroup is, by its path: a unit of systemd, a container of some runtime, a pod of Kubernetes.
//!
//! Runtimes name cgroups in two ways: units of systemd (`docker-ID.scope`) or plain folders (`docker/ID`).

/// What a path says. Of things inside each other, such as a container in a container, the innermost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The unit, with its ending and as systemd escapes it. A slice only if the path has nothing else.
    pub(crate) unit: Option<String>,
    pub(crate) container: Option<Container>,
    /// The uid of the pod, as Kubernetes writes it.
    pub(crate) pod: Option<String>,
    /// Whether the last part of the path is the container or the pod itself, rather than a cgroup in it.
    pub(crate) is_itself: bool,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// What the runtime calls it: 64 hexadecimal digits, or a name.
    pub(crate) id: String,
    /// `None` where only Kubernetes names the cgroup, which does not tell.
    pub(crate) runtime: Option<&'static str>,
}

/// Scopes of systemd, by what comes before the id.
const SCOPES: [(&str, &str); 6] = [
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-", "podman"),
    ("containerd-", "containerd"),
];

/// Endings of units that hold processes, the slice not among them.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

impl Owner {
    /// Of a path below the root of a hierarchy.
    pub(crate) fn of(path: &str) -> Self {
        let mut owner = Self::default();
        let mut slice = None;
        let mut above = "";
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let container = container(above, part);
            let pod = pod(part);
            owner.is_itself = container.is_some() || pod.is_some();
            if pod.is_some() {
                // What is in a pod is not in what the node itself may run in.
                (owner.pod, owner.container) = (pod, None);
            }
            owner.container = container.or(owner.container);
            if UNITS.iter().any(|ending| part.ends_with(ending)) {
                owner.unit = Some(part.to_owned());
            } else if part.ends_with(".slice") {
                slice = Some(part);
            }
            above = part;
        }
        owner.unit = owner.unit.or_else(|| slice.map(str::to_owned));
        owner
    }
}

/// The container that a part of a path, in another one, is.
fn container(above: &str, part: &str) -> Option<Container> {
    let of = |id: &str, runtime| {
        Some(Container {
            id: id.to_owned(),
            runtime,
        })
    };
    let scope = part.strip_suffix(".scope").unwrap_or(part);
    for (before, runtime) in SCOPES {
        if let Some(id) = scope.strip_prefix(before)
            && is_id(id)
        {
            return of(id, Some(runtime));
        }
    }
    if is_id(part) {
        let runtime = match above {
            "docker" => Some("docker"),
            "libpod_parent" => Some("podman"),
            "nerdctl" | "k8s.io" | "default" => Some("containerd"),
            _ => None,
        };
        return of(part, runtime);
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return of(name, Some("lxc"));
    }
    if above == "lxc" || above == "lxc.payload" {
        return of(part, Some("lxc"));
    }
    let unit = part.strip_prefix("systemd-nspawn@");
    if let Some(name) = unit.and_then(|unit| unit.strip_suffix(".service")) {
        return of(name, Some("systemd-nspawn"));
    }
    // Of those that systemd-machined keeps, virtual machines are none.
    let machine = part.strip_prefix("machine-")?.strip_suffix(".scope")?;
    let is_other = ["qemu\\x2d", "lxc\\x2d", "libvirt"]
        .iter()
        .any(|kind| machine.starts_with(kind));
    if is_other {
        return None;
    }
    of(machine, Some("systemd-nspawn"))
}

/// 64 hexadecimal digits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Of `podUID` below `kubepods`, and `kubepods-burstable-podUID.slice` with underscores, what kubelet may put before included.
fn pod(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) if slice.contains("kubepods") => slice.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    // Pods that kubelet has from files have the hash of these.
    let is_uid = matches!(uid.len(), 32 | 36)
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "6f1c2d3e-0000-4a5b-8c9d-0123456789ab";

    fn parts(
        path: &str,
    ) -> (
        Option<String>,
        Option<String>,
        Option<&'static str>,
        Option<String>,
    ) {
        let path = path
            .replace("U_U", &UID.replace('-', "_"))
            .replace("UID", UID)
            .replace("ID", ID);
        let Owner {
            unit,
            container,
            pod,
            ..
        } = Owner::of(&path);
        let runtime = container.as_ref().and_then(|it| it.runtime);
        let id = container.map(|it| it.id.replace(ID, "ID"));
        let unit = unit.map(|it| it.replace(ID, "ID").replace(&UID.replace('-', "_"), "U_U"));
        (unit, id, runtime, pod.map(|it| it.replace(UID, "UID")))
    }

    #[track_caller]
    fn expect(path: &str, unit: &str, id: &str, runtime: &str, pod: &str) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (own_unit, own_id, own_runtime, own_pod) = parts(path);
        assert_eq!(own_unit, some(unit), "{path}");
        assert_eq!(own_id, some(id), "{path}");
        assert_eq!(own_runtime.unwrap_or_default(), runtime, "{path}");
        assert_eq!(own_pod, some(pod), "{path}");
    }

    #[test]
    fn units_are_the_innermost() {
        expect("/", "", "", "", "");
        expect("/system.slice", "system.slice", "", "", "");
        expect("/system.slice/cron.service", "cron.service", "", "", "");
        expect(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service",
            "a.service",
            "",
            "",
            "",
        );
        expect("/jobs/7", "", "", "", "");
    }

    #[test]
    fn containers_of_both_drivers() {
        expect(
            "/system.slice/docker-ID.scope",
            "docker-ID.scope",
            "ID",
            "docker",
            "",
        );
        expect(
            "/system.slice/docker-ID.scope/init",
            "docker-ID.scope",
            "ID",
            "docker",
            "",
        );
        expect("/docker/ID", "", "ID", "docker", "");
        expect(
            "/machine.slice/libpod-ID.scope",
            "libpod-ID.scope",
            "ID",
            "podman",
            "",
        );
        expect(
            "/machine.slice/libpod-conmon-ID.scope",
            "libpod-conmon-ID.scope",
            "",
            "",
            "",
        );
        expect("/libpod_parent/libpod-ID", "", "ID", "podman", "");
        expect(
            "/system.slice/nerdctl-ID.scope",
            "nerdctl-ID.scope",
            "ID",
            "containerd",
            "",
        );
        expect("/k8s.io/ID", "", "ID", "containerd", "");
        expect("/lxc/web", "", "web", "lxc", "");
        expect(
            "/lxc.payload.web/system.slice/a.service",
            "a.service",
            "web",
            "lxc",
            "",
        );
        expect("/lxc.monitor.web", "", "", "", "");
        let nspawn = "systemd-nspawn@deb.service";
        expect(
            &format!("/machine.slice/{nspawn}/payload"),
            nspawn,
            "deb",
            "systemd-nspawn",
            "",
        );
        expect(
            "/machine.slice/machine-deb.scope",
            "machine-deb.scope",
            "deb",
            "systemd-nspawn",
            "",
        );
        let guest = "machine-qemu\\x2d1\\x2dvm.scope";
        expect(&format!("/machine.slice/{guest}"), guest, "", "", "");
        expect("/ecs/task/ID", "", "ID", "", "");
        expect(
            "/system.slice/docker-abc.scope",
            "docker-abc.scope",
            "",
            "",
            "",
        );
    }

    #[test]
    fn pods_of_both_drivers() {
        let slices = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_U.slice";
        let of_containerd = format!("{slices}/cri-containerd-ID.scope");
        expect(
            &of_containerd,
            "cri-containerd-ID.scope",
            "ID",
            "containerd",
            "UID",
        );
        let of_crio = format!("{slices}/crio-ID.scope/container");
        expect(&of_crio, "crio-ID.scope", "ID", "cri-o", "UID");
        expect(slices, "kubepods-burstable-podU_U.slice", "", "", "UID");
        expect("/kubepods/besteffort/podUID/ID", "", "ID", "", "UID");
        expect("/kubepods/podUID/crio-ID", "", "ID", "cri-o", "UID");
        // A node that is a container itself.
        expect("/docker/ID/kubelet/kubepods/podUID", "", "", "", "UID");
        expect("/kubepods/pod1", "", "", "", "");
        assert!(Owner::of(&format!("/docker/{ID}")).is_itself);
        assert!(!Owner::of(&format!("/docker/{ID}/init")).is_itself);
    }

    proptest! {
        #[test]
        fn any_path_has_an_owner(path: String, parts in "(/[a-z.@-]{0,9}|/docker-|/machine-|/pod|/lxc){0,5}") {
            for path in [&path, &parts] {
                let owner = Owner::of(path);
                prop_assert!(owner.unit.is_none_or(|unit| path.contains(&unit)));
                prop_assert!(owner.container.is_none_or(|it| path.contains(&it.id)));
            }
        }
    }
}
