//! The probe in a container made of namespaces, as the DaemonSet starts it: what it reports is the host. Needs root, `unshare`,
//! `mount` and `setpriv`.

use std::{
    collections::BTreeSet,
    fs,
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use dataflux_tests::{
    probe::{self, Probe},
    sequence::series,
};
use serde_json::Value;

/// Makes mounts of the host's `/proc`, `/sys` and `/` in the folder `$1`, then namespaces, a machine id and a host name of the
/// container's own, and becomes the probe (`$2`) with the capabilities that the DaemonSet adds, as user 0.
const CONTAINER: &str = r#"
set -eu
host=$1 probe=$2
mount --make-rprivate /
mount --rbind /proc "$host/proc"
mount --rbind /sys "$host/sys"
mount --bind / "$host/root"
exec unshare $NAMESPACES --pid --uts --ipc --fork sh -euc '
mount -t proc proc /proc
mount -t tmpfs tmpfs /etc
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
echo container >/proc/sys/kernel/hostname
exec setpriv --bounding-set=-all,+bpf,+perfmon,+sys_resource$MORE --inh-caps=-all --no-new-privs -- \
    "$0" once --window 2s --format json --config "$1/probe.toml"
' "$probe" "$host"
"#;

const CONFIG: &str = "[probe]\nproc = 'DIR/proc'\nsys = 'DIR/sys'\nroot = 'DIR/root'\n\
     [metadata.addresses]\n[metadata.host]\n[metadata.os]\n\
     [metrics.cpu]\n[metrics.interface]\n[metrics.memory]\n[metrics.network]\n[metrics.scheduler]\n\
     [output.a]\nformatter = 'json'\nlogger = 'stdout'\n";

/// Events that the test makes on the host, outside of the container; packets are of a size that few others have.
const STARTED: u64 = 53;
const PACKETS: u64 = 101;

/// Becomes process 1 of a host of its own, which keeps its network namespace, and runs the rest there. What process 1 of the
/// machine is, and whether it lets anybody look at it, does not matter then.
const HOST: [&str; 6] = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c"];
const PROCESS_1: [&str; 2] = ["\"$@\"; exit $?", "host"];

/// What it measured with these namespaces of its own and more capabilities, or `None` where there can be no container, which
/// is said.
#[expect(clippy::print_stdout, reason = "the test says that it was skipped")]
fn measure(namespaces: &str, more: &str) -> Option<Value> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let probe = Probe::prepare(CONFIG);
    for name in ["proc", "sys", "root"] {
        fs::create_dir(probe.path(name)).expect("the folder is writable");
    }
    let folder = probe.path("");
    let mut container = Command::new(HOST[0])
        .args([&HOST[1..], &PROCESS_1].concat())
        .args(["unshare", "--mount", "sh", "-c", CONTAINER, "container"])
        .arg(
            folder
                .as_os_str()
                .to_str()
                .expect("ASCII")
                .trim_end_matches('/'),
        )
        .arg(probe::binary())
        .env("NAMESPACES", namespaces)
        .env("MORE", more)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    // In every part of the window, wherever it begins.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the host has a loopback");
    let to = socket.local_addr().expect("it is bound");
    while container.try_wait().expect("it is a child").is_none() {
        for _ in 0..STARTED {
            Command::new("true").status().expect("it runs");
        }
        for _ in 0..PACKETS {
            socket.send_to(&[0; 64], to).expect("the loopback takes it");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = container.wait_with_output().expect("it is a child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}")))
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// The interfaces of the test's own network namespace, which is the host's.
fn interfaces() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/1/net/dev").expect("it can be read");
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value
        .as_object()
        .into_iter()
        .flat_map(|object| object.keys().cloned())
        .collect()
}

fn source<'a>(envelope: &'a Value, reader: &str) -> &'a Value {
    let sources = envelope["sources"].as_array().expect("sources");
    let found = sources.iter().find(|source| source["reader"] == reader);
    found.unwrap_or_else(|| panic!("no {reader} in {envelope}"))
}

/// Sum of a counter's series that have this in them.
fn sum(envelope: &Value, metric: &str, having: &str) -> u64 {
    let values = series(envelope, metric);
    let having = values
        .iter()
        .filter(|series| series.to_string().contains(having));
    having.filter_map(|series| series["value"].as_u64()).sum()
}

/// What is the same with and without the host's network.
fn is_the_host(envelope: &Value) {
    let header = &envelope["header"];
    assert_ne!(header["host"]["name"], "container", "{header}");
    let id = first_line("/etc/machine-id");
    if Path::new("/etc/machine-id").exists() && !id.is_empty() {
        assert_eq!(header["host"]["machine_id"], id.as_str(), "{header}");
    }
    let release = first_line("/proc/sys/kernel/osrelease");
    assert!(header["os"].to_string().contains(&release), "{header}");
    assert_eq!(keys(&header["addresses"]["interfaces"]), interfaces());
    let total = fs::read_to_string("/proc/meminfo").expect("it can be read");
    let total = total
        .split_whitespace()
        .nth(1)
        .and_then(|total| total.parse::<f64>().ok());
    let measured = series(envelope, "memory.total")[0]["value"].as_f64();
    assert_eq!(measured, total.map(|total| total * 1024.0));
    for reader in ["cpu", "interface", "memory"] {
        assert_eq!(source(envelope, reader)["status"], "ok", "{envelope}");
    }
    assert!(
        sum(envelope, "interface.packets", "\"lo\"") >= PACKETS,
        "{envelope}"
    );
    if has_programs(envelope) {
        for metric in ["scheduler.forks", "scheduler.execs"] {
            assert!(sum(envelope, metric, "") >= STARTED, "{metric}: {envelope}");
        }
    }
}

/// Whether the programs work here; where no kernel objects are built, or the kernel has no types, they cannot.
fn has_programs(envelope: &Value) -> bool {
    source(envelope, "scheduler")["status"] == "ok"
}

/// Scenario: mount, pid, UTS and IPC namespaces of its own, the host's network, `/host/...` mounts, two capabilities and that
/// for locked memory, as the DaemonSet has it; processes start and packets pass outside.
/// Guarantees: name, identity, interfaces, `/proc` metrics, and what the kernel programs count are the host's.
#[test]
fn with_the_hosts_network_everything_is_the_hosts() {
    let Some(envelope) = measure("", "") else {
        return;
    };
    is_the_host(&envelope);
    if has_programs(&envelope) {
        assert_eq!(source(&envelope, "network")["status"], "ok", "{envelope}");
        assert!(
            sum(&envelope, "network.packets", "\"lo\"") >= PACKETS,
            "{envelope}"
        );
    }
}

/// Scenario: as above, with a network namespace of its own, too.
/// Guarantees: `/proc` metrics and interfaces are still the host's; the network reader says that it cannot tell interfaces
/// apart, and counts the host's packets all the same. This is why the DaemonSet asks for the host's network.
#[test]
fn without_the_hosts_network_the_network_reader_says_what_it_lacks() {
    let Some(envelope) = measure("--net", "") else {
        return;
    };
    is_the_host(&envelope);
    if has_programs(&envelope) {
        let network = source(&envelope, "network");
        assert_eq!(network["status"], "degraded", "{envelope}");
        assert!(
            network
                .to_string()
                .contains("network namespace of process 1"),
            "{network}"
        );
        assert!(
            sum(&envelope, "network.packets", "other") >= PACKETS,
            "{network}"
        );
        assert_eq!(sum(&envelope, "network.packets", "\"lo\""), 0, "{network}");
    }
}

/// Scenario: as above, with the capability to look at process 1.
/// Guarantees: the network reader tells the host's interfaces apart.
#[test]
fn who_may_trace_process_1_needs_no_network_of_the_hosts() {
    let Some(envelope) = measure("--net", ",+sys_ptrace") else {
        return;
    };
    if has_programs(&envelope) {
        let network = source(&envelope, "network");
        assert_eq!(network["status"], "ok", "{network}");
        assert!(
            sum(&envelope, "network.packets", "\"lo\"") >= PACKETS,
            "{network}"
        );
    }
}
