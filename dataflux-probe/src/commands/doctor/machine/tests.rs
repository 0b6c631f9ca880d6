//! Every obstacle on hosts that are made up.

use tempfile::TempDir;

use super::*;
use crate::{metadata, metrics};

/// A host on which nothing is missing, and changes to it.
struct Host {
    folder: TempDir,
    roots: Roots,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots {
            proc: folder.path().join("proc"),
            sys: folder.path().join("sys"),
            root: folder.path().to_owned(),
        };
        let host = Self { folder, roots };
        for (path, text) in [
            ("proc/stat", "cpu\n"),
            ("proc/1/net/dev", ""),
            ("proc/1/ns/net", ""),
            ("proc/2/comm", "kthreadd\n"),
            ("proc/sys/kernel/osrelease", "5.10.0-30-amd64\n"),
            ("proc/sys/kernel/perf_event_paranoid", "3\n"),
            ("proc/sys/kernel/unprivileged_bpf_disabled", "1\n"),
            ("sys/devices/system/cpu/possible", "0-1\n"),
            ("sys/kernel/btf/vmlinux", "BTF"),
            (
                "sys/kernel/security/lockdown",
                "none [integrity] confidentiality\n",
            ),
        ] {
            host.put(path, text);
        }
        host
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn without(self, path: &str) -> Self {
        let path = self.folder.path().join(path);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.unwrap();
        self
    }

    /// Sentences of what is found, and whom it concerns.
    fn found(&self, capabilities: &[Capability], memlock: Option<u64>) -> Vec<(String, String)> {
        let machine = Machine {
            roots: &self.roots,
            capabilities: Capabilities::of(capabilities),
            memlock,
            maps: 7 << 20,
        };
        let obstacles = machine.obstacles(&everything()).into_iter();
        obstacles
            .map(|one| {
                (
                    one.what
                        .replace(&*self.folder.path().display().to_string(), ""),
                    one.concerns.join(" "),
                )
            })
            .collect()
    }
}

/// Readers that need different things, so that a test can tell whom an obstacle concerns.
const READERS: [&str; 10] = [
    "addresses",
    "processor",
    "block_io",
    "cpu",
    "disk",
    "interface",
    "load",
    "memory",
    "network",
    "scheduler",
];

fn everything() -> Vec<Wanted> {
    let metadata = metadata::REGISTRY
        .iter()
        .map(|plugin| (plugin.name, &plugin.needs));
    let metrics = metrics::REGISTRY
        .iter()
        .map(|plugin| (plugin.name, &plugin.needs));
    metadata
        .chain(metrics)
        .filter(|(name, _)| READERS.contains(name))
        .map(|(name, needs)| Wanted { name, needs })
        .collect()
}

const BOTH: [Capability; 2] = [Capability::Bpf, Capability::Perfmon];
const KERNEL: &str = "block_io network scheduler";

#[track_caller]
fn only(found: &[(String, String)], sentence: &str, concerned: &str) {
    assert_eq!(found, [(sentence.to_owned(), concerned.to_owned())]);
}

#[test]
fn where_nothing_is_missing_nothing_is_found() {
    assert_eq!(Host::new().found(&BOTH, None), []);
    assert_eq!(Host::new().found(&BOTH, Some(64 << 20)), []);
}

#[test]
fn a_missing_capability_is_named() {
    only(
        &Host::new().found(&[Capability::Bpf], None),
        "CAP_PERFMON is missing, for programs that read kernel memory",
        KERNEL,
    );
    assert_eq!(Host::new().found(&[], None).len(), 2);
}

#[test]
fn lockdown_matters_for_confidentiality_only() {
    let host = Host::new();
    host.put(
        "sys/kernel/security/lockdown",
        "none integrity [confidentiality]\n",
    );
    only(
        &host.found(&BOTH, None),
        "the kernel is locked down for confidentiality: no program may read its memory",
        KERNEL,
    );
    assert_eq!(
        Host::new()
            .without("sys/kernel/security")
            .found(&BOTH, None),
        []
    );
}

#[test]
fn a_small_limit_of_locked_memory_matters_where_maps_are_charged_to_it() {
    let host = Host::new();
    only(
        &host.found(&BOTH, Some(64 << 10)),
        "the limit of locked memory is 64.0 KiB, and Linux 5.10.0-30-amd64 charges maps to it, up to 7.0 MiB",
        KERNEL,
    );
    let may_raise = [
        Capability::Bpf,
        Capability::Perfmon,
        Capability::SysResource,
    ];
    assert_eq!(host.found(&may_raise, Some(64 << 10)), []);
    host.put("proc/sys/kernel/osrelease", "5.11.0\n");
    assert_eq!(host.found(&BOTH, Some(64 << 10)), []);
}

#[test]
fn kernel_types_that_are_missing_are_named() {
    only(
        &Host::new().without("sys/kernel/btf").found(&BOTH, None),
        "/sys/kernel/btf/vmlinux cannot be read: programs do not find their way in kernel structs",
        KERNEL,
    );
}

#[test]
fn a_container_without_sys_or_proc_is_told() {
    let host = Host::new().without("sys");
    only(
        &host.found(&BOTH, None),
        "/sys is no /sys file system",
        "addresses processor block_io disk memory network scheduler",
    );
    let found = Host::new().without("proc").found(&BOTH, None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].0.starts_with("/proc is no /proc file system"),
        "{found:?}"
    );
    for reader in ["cpu", "memory", "interface"] {
        assert!(
            found[0].1.split(' ').any(|name| name == reader),
            "{found:?}"
        );
    }
}

#[test]
fn a_container_with_its_own_proc_is_told() {
    let sentence =
        "/proc is a container's own: its process 1 has the container's network, not the host's";
    let host = Host::new().without("proc/2");
    only(
        &host.found(&BOTH, None),
        sentence,
        "addresses disk interface network",
    );
    host.put("proc/2/comm", "sleep\n");
    only(
        &host.found(&BOTH, None),
        sentence,
        "addresses disk interface network",
    );
    let hidden = Host::new().without("proc/1").found(&BOTH, None);
    only(
        &hidden,
        "/proc hides process 1 from this user",
        "addresses disk interface network",
    );
}

#[test]
fn another_network_namespace_than_process_1s_is_told() {
    let host = Host::new().without("proc/1/ns");
    host.put("proc/self/net/dev", "");
    only(
        &host.found(&BOTH, None),
        "process 1 of /proc is in another network namespace, and this one may not ask in which: all interfaces count together",
        "network",
    );
}

#[test]
fn settings_that_do_not_matter_are_told_as_such() {
    let host = Host::new();
    let machine = Machine {
        roots: &host.roots,
        capabilities: Capabilities::of(&BOTH),
        memlock: None,
        maps: 0,
    };
    let told = machine.settings();
    for (setting, told) in [
        "lockdown = integrity",
        "perf_event_paranoid = 3",
        "unprivileged_bpf_disabled = 1",
    ]
    .iter()
    .zip(&told)
    {
        assert!(
            told.starts_with(setting) && told.contains("does not matter"),
            "{told}"
        );
    }
    assert_eq!(told.len(), 3);
}
