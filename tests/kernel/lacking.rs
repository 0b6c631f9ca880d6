//! Kernels whose type information lacks something, made from the running kernel's own by giving it another name there.

use std::{fs, hint::black_box, os::unix::fs::symlink, path::Path, process::Command, thread};

use dataflux_probe::{metrics::AttachError, plugin::Roots};
use tempfile::TempDir;

use crate::{
    harness::{Attached, machine},
    interfaces::{Lone, free_index},
};

const VMLINUX: &str = "kernel/btf/vmlinux";

/// A host like this one, except for a part of its `/sys`.
pub(crate) struct Host(TempDir);

impl Host {
    /// Whose kernel calls something otherwise.
    fn without(name: &str) -> Self {
        let host = Self::like_this_one(&["block", "class", "dev", "devices"]);
        let mut types = fs::read(Path::new("/sys").join(VMLINUX)).expect("the kernel's types");
        let name = [b"\0", name.as_bytes(), b"\0"].concat();
        let mut at = 0;
        let mut renamed = 0;
        while let Some(found) = types[at..]
            .windows(name.len())
            .position(|part| part == name)
        {
            at += found + name.len() - 1;
            // Its last letter.
            types[at - 1] = b'#';
            renamed += 1;
        }
        assert!(renamed > 0, "this kernel has no {name:?}");
        let path = host.0.path().join(VMLINUX);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
        fs::write(path, types).expect("there is room for the types");
        host
    }

    /// With these folders of `/sys`, and no types.
    fn like_this_one(folders: &[&str]) -> Self {
        let host = Self(tempfile::tempdir().expect("there is room for temporary files"));
        for folder in folders {
            let link = host.0.path().join(folder);
            symlink(Path::new("/sys").join(folder), link).expect("a symbolic link");
        }
        host
    }

    /// With this list of possible CPUs.
    pub(crate) fn with_possible_cpus(list: &str) -> Self {
        let host = Self::like_this_one(&["block", "class", "dev", "kernel"]);
        let cpus = host.0.path().join("devices/system/cpu");
        fs::create_dir_all(&cpus).expect("a folder");
        fs::write(cpus.join("possible"), list).expect("there is room for a line");
        host
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots {
            sys: self.0.path().to_owned(),
            ..Roots::default()
        }
    }
}

/// Scenario: the running kernel's types lack a tracepoint, a member of a struct, or the type of an argument.
/// Guarantees: the metrics that need it are unsupported; the others of the same reader go on counting.
#[test]
fn what_the_kernel_lacks_takes_only_its_own_metrics_away() {
    let Some(_machine) = machine() else { return };
    let pair = Lone::new(free_index());
    let something_happens = || {
        assert!(
            Command::new("/bin/true")
                .status()
                .expect("a child")
                .success()
        );
        thread::spawn(|| black_box(1))
            .join()
            .expect("an idle thread");
        pair.send(23);
    };
    for (name, reader, gone, left) in [
        (
            "btf_trace_sched_process_exec",
            "scheduler",
            "scheduler.execs",
            "scheduler.forks",
        ),
        (
            "btf_trace_sched_wakeup",
            "scheduler",
            "scheduler.run_queue_latency",
            "scheduler.forks",
        ),
        (
            "btf_trace_sched_switch",
            "scheduler",
            "scheduler.context_switches",
            "scheduler.wakeups",
        ),
        (
            "tgid",
            "scheduler",
            "scheduler.forks",
            "scheduler.context_switches",
        ),
        (
            "btf_trace_kfree_skb",
            "network",
            "network.drops",
            "network.packets",
        ),
    ] {
        let host = Host::without(name);
        let (mut attached, outcomes) = match Attached::on(host.roots(), reader, "") {
            Ok(attached) => attached,
            Err((error, outcomes)) => panic!("without {name}: {error}: {outcomes:#?}"),
        };
        let first = attached.read_in_part();
        something_happens();
        let last = attached.read_in_part();
        assert!(
            last.unsupported().contains(&gone),
            "without {name}: {:?}",
            last.unsupported()
        );
        assert!(
            !last.unsupported().contains(&left),
            "without {name}: {:?}",
            last.unsupported()
        );
        assert_eq!(last.counter_or_histogram(gone), 0, "{gone} without {name}");
        let rise = last.counter_or_histogram(left) - first.counter_or_histogram(left);
        assert!(rise > 0, "{left} stands still without {name}");
        let told = outcomes.iter().any(|program| {
            let health = program.outcome.health().to_string();
            health.contains("this kernel has no ")
                && health.contains(name.trim_start_matches("btf_trace_"))
        });
        assert!(told, "without {name}: {outcomes:#?}");
    }
}

/// Scenario: the running kernel's types lack what all metrics of a reader need.
/// Guarantees: the reader is unsupported and says what is missing; no program of it stays, not even one that could run.
#[test]
fn a_reader_that_can_measure_nothing_is_unsupported() {
    let Some(_machine) = machine() else { return };
    for (name, reader, section, missing) in [
        (
            "__data_len",
            "block_io",
            "issue_stamps = \"always\"",
            "request.__data_len",
        ),
        ("first_minor", "block_io", "", "gendisk.first_minor"),
    ] {
        let host = Host::without(name);
        match Attached::on(host.roots(), reader, section) {
            Err((AttachError::Unsupported(what), _)) => {
                assert_eq!(what, format!("this kernel has no {missing}"));
            }
            Err((error, _)) => panic!("without {name}: {error}"),
            Ok((_, outcomes)) => panic!("without {name} it attached: {outcomes:#?}"),
        }
    }
}

/// Scenario: the running kernel does not describe its types.
/// Guarantees: every kernel reader is unsupported for that reason.
#[test]
fn a_kernel_without_types_supports_no_kernel_reader() {
    let Some(_machine) = machine() else { return };
    let host = Host::like_this_one(&["block", "class", "dev", "devices"]);
    for reader in ["scheduler", "block_io", "network"] {
        match Attached::on(host.roots(), reader, "") {
            Err((AttachError::Unsupported(what), _)) => {
                assert!(what.starts_with("no kernel types: "), "{reader}: {what}");
            }
            Err((error, _)) => panic!("{reader}: {error}"),
            Ok(_) => panic!("{reader} attached without types"),
        }
    }
}
