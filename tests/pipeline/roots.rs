//! A host that is seen through mounts, as from a container.

use std::{fs, path::Path};

use dataflux_tests::{
    probe::{self, Probe, until},
    sequence::{envelopes, series},
};
use serde_json::Value;

/// A host of the test's own: its files and what stands in them.
const HOST: &[(&str, &str)] = &[
    (
        "proc/stat",
        "cpu  10 0 20 300 0 0 0 0 0 0\ncpu0 10 0 20 300 0 0 0 0 0 0\nintr 5\nctxt 7\nbtime 1700000000\nprocesses 9\nprocs_running 3\nprocs_blocked 0\nsoftirq 4\n",
    ),
    (
        "proc/meminfo",
        "MemTotal:        1234 kB\nMemFree:          234 kB\nMemAvailable:     567 kB\nBuffers:            0 kB\nCached:             0 kB\nSwapCached:         0 kB\nActive:             0 kB\nInactive:           0 kB\nSwapTotal:          0 kB\nSwapFree:           0 kB\nDirty:              0 kB\nWriteback:          0 kB\nAnonPages:          0 kB\nMapped:             0 kB\nShmem:              0 kB\nSlab:               0 kB\nSReclaimable:       0 kB\nSUnreclaim:         0 kB\nPageTables:         0 kB\nCommitted_AS:       0 kB\nVmallocTotal:       0 kB\nVmallocUsed:        0 kB\nVmallocChunk:       0 kB\n",
    ),
    ("proc/vmstat", "pgfault 1\npgmajfault 0\n"),
    ("proc/sys/kernel/hostname", "other-host\n"),
    ("proc/sys/kernel/osrelease", "9.9.9-test\n"),
    (
        "proc/sys/kernel/random/boot_id",
        "11111111-2222-3333-4444-555555555555\n",
    ),
    ("root/etc/hostname", "other-host\n"),
    ("root/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    (
        "root/etc/os-release",
        "NAME=\"Test Linux\"\nID=test\nVERSION_ID=\"42\"\n",
    ),
];

fn make(host: &Path) {
    for (name, text) in HOST {
        let path = host.join(name);
        fs::create_dir_all(path.parent().expect("it is in a folder"))
            .expect("the folder is writable");
        fs::write(path, text).expect("the folder is writable");
    }
    fs::create_dir_all(host.join("sys")).expect("the folder is writable");
}

/// Scenario: `[probe] proc`, `sys` and `root` name a tree of the test's own.
/// Guarantees: header and metrics come from that tree and not from the machine that runs the test.
#[test]
fn the_host_is_where_the_roots_are() {
    let probe = Probe::prepare(
        "[probe]\nproc = 'DIR/proc'\nsys = 'DIR/sys'\nroot = 'DIR/root'\n\
         [metadata.host]\n[metadata.os]\n[metrics.cpu]\n[metrics.memory]\n\
         [output.a]\nformatter = 'json'\nlogger = 'stdout'\n",
    );
    let config = probe.path("probe.toml");
    make(config.parent().expect("it is in a folder"));
    let config = config.display().to_string();
    let output = probe::run(&[
        "once", "--window", "10ms", "--format", "json", "--config", &config,
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let envelope: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let header = envelope["header"].to_string();
    for word in [
        "other-host",
        "0123456789abcdef0123456789abcdef",
        "9.9.9-test",
        "Test Linux",
    ] {
        assert!(header.contains(word), "{word} is not in {header}");
    }
    let value = |metric: &str| series(&envelope, metric)[0]["value"].clone();
    assert_eq!(value("memory.total"), 1234.0 * 1024.0, "{envelope}");
    assert_eq!(value("cpu.running"), 3.0, "{envelope}");
    assert_eq!(envelope["sources"][0]["status"], "ok", "{envelope}");
}

/// Scenario: all kernel readers and two of files run on a kernel that does not describe its types.
/// Guarantees: the probe runs; one line says what is missing and whom it concerns; envelopes hold the readers of files as
/// ever and the others as unsupported, with the reason.
#[test]
fn without_kernel_types_the_readers_of_files_run_and_one_line_says_so() {
    const KERNEL_READERS: [&str; 3] = ["block_io", "network", "scheduler"];
    let mut probe = Probe::prepare(
        "[probe]\ninterval = '100ms'\nsys = 'DIR/sys'\n\
         [metrics.cpu]\n[metrics.memory]\n[metrics.block_io]\n[metrics.network]\n[metrics.scheduler]\n\
         [output.a]\nformatter = 'json'\nlogger = 'file'\n[output.a.file]\npath = 'DIR/envelopes.jsonl'\n",
    );
    let cpus = probe.path("sys/devices/system/cpu");
    fs::create_dir_all(&cpus).expect("the folder is writable");
    fs::write(cpus.join("possible"), "0-3\n").expect("the folder is writable");
    probe.restart();
    let file = probe.path("envelopes.jsonl");
    let envelope = until("an envelope", || envelopes(&file).pop());
    let diagnostics = probe.stop().diagnostics;
    let told: Vec<_> = diagnostics
        .lines()
        .filter(|line| line.contains("no kernel types"))
        .collect();
    let [line] = told[..] else {
        panic!("not one line, but {told:#?} of {diagnostics}");
    };
    let sentence = format!(
        "block_io, network, scheduler unsupported (no kernel types: there is no {}; kernels have it that are built with CONFIG_DEBUG_INFO_BTF)",
        probe.path("sys/kernel/btf/vmlinux").display()
    );
    assert!(line.contains(&sentence), "{line}");
    for source in envelope["sources"].as_array().expect("sources") {
        let reader = source["reader"].as_str().expect("a name");
        let expected = if KERNEL_READERS.contains(&reader) {
            assert!(
                source["reason"].to_string().contains("no kernel types"),
                "{source}"
            );
            "unsupported"
        } else {
            "ok"
        };
        assert_eq!(source["status"], expected, "{source}");
    }
    assert!(!series(&envelope, "memory.total").is_empty(), "{envelope}");
}
