//! What the probe says of the network, beside what the tools say that people trust, at the same moment.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _};

use dataflux_tests::{
    sequence::series,
    tools::{measured, printed, printed_json},
};
use serde_json::Value;

/// Whether the tests see the network as process 1 does, like the probe.
fn shares_network() -> bool {
    let inode = |path| fs::metadata(path).ok().map(|file| file.ino());
    let own = inode("/proc/thread-self/net/dev");
    own.is_some() && own == inode("/proc/1/net/dev")
}

/// What `nstat` calls some of the series, by metric and labels.
const NSTAT: [(&str, &[&str], &str); 14] = [
    (
        "network_stack.ip_packets",
        &["ipv4", "received"],
        "IpInReceives",
    ),
    (
        "network_stack.ip_packets",
        &["ipv4", "sent"],
        "IpOutRequests",
    ),
    (
        "network_stack.ip_packets",
        &["ipv6", "received"],
        "Ip6InReceives",
    ),
    (
        "network_stack.ip_bytes",
        &["ipv4", "sent"],
        "IpExtOutOctets",
    ),
    (
        "network_stack.icmp_messages",
        &["ipv4", "sent"],
        "IcmpOutMsgs",
    ),
    (
        "network_stack.icmp_types",
        &["ipv4", "received", "unreachable"],
        "IcmpInDestUnreachs",
    ),
    ("network_stack.tcp_segments", &["received"], "TcpInSegs"),
    ("network_stack.tcp_segments", &["sent"], "TcpOutSegs"),
    ("network_stack.tcp_retransmits", &[], "TcpRetransSegs"),
    (
        "network_stack.tcp_connections",
        &["active"],
        "TcpActiveOpens",
    ),
    ("network_stack.tcp_listen_drops", &[], "TcpExtListenDrops"),
    ("network_stack.tcp_timeouts", &[], "TcpExtTCPTimeouts"),
    (
        "network_stack.udp_datagrams",
        &["ipv4", "sent"],
        "UdpOutDatagrams",
    ),
    (
        "network_stack.udp_errors",
        &["ipv4", "no_port"],
        "UdpNoPorts",
    ),
];

/// Scenario: `nstat`, the probe while packets come and go over the loopback, `nstat`.
/// Guarantees: every counter that the probe has is between what `nstat` says before and after.
#[test]
fn the_network_stack_is_that_of_nstat() {
    if !shares_network() {
        return;
    }
    let look = || Some(printed_json("nstat", &["-asz", "--json"])?["kernel"].clone());
    let Some(before) = look() else { return };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("there is a loopback");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let envelope = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // Nobody has the port.
                drop(socket.send_to(b"x", "127.0.0.1:9"));
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        let envelope = measured("[metrics.network_stack]");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        envelope
    });
    let Some(after) = look() else { return };
    let mut compared = 0;
    for (metric, labels, name) in NSTAT {
        for series in series(&envelope, metric) {
            let own: Vec<_> = series["labels"].as_object().into_iter().flatten().collect();
            let same = own.len() == labels.len()
                && labels
                    .iter()
                    .all(|label| own.iter().any(|(_, value)| *value == label));
            if same {
                let total = series["total"].as_u64().expect("a counter has a total");
                let [low, high] = [&before, &after].map(|look| look[name].as_u64().expect(name));
                assert!(
                    (low..=high).contains(&total),
                    "{name}: {low} {total} {high}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 5, "only {compared}: {envelope}");
}

/// Scenario: `ss -s`, the probe, `ss -s`, until nothing has changed between the two.
/// Guarantees: TCP and UDP sockets of IPv4 and IPv6 are as many as `ss` says.
#[test]
fn sockets_are_those_of_ss() {
    if !shares_network() {
        return;
    }
    let look = || {
        let text = printed("ss", &["-s"])?;
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            let numbers = line.split_ascii_whitespace().skip(2);
            Some(
                numbers
                    .filter_map(|word| word.parse().ok())
                    .collect::<Vec<u64>>(),
            )
        };
        Some([row("TCP\t").or_else(|| row("TCP "))?, row("UDP")?])
    };
    for _ in 0..20 {
        let Some(before) = look() else { return };
        let envelope = measured("[metrics.network_stack]");
        let Some(after) = look() else { return };
        if before != after {
            continue;
        }
        let sockets = |protocol: &str| -> Vec<u64> {
            let all = series(&envelope, "network_stack.sockets");
            let own = all
                .iter()
                .filter(|series| series["labels"]["protocol"] == protocol);
            own.map(|series| series["value"].as_f64().expect("a number") as u64)
                .collect()
        };
        if [sockets("tcp"), sockets("udp")] == before {
            return;
        }
    }
    panic!("never the same");
}

/// Scenario: `ip`, the probe, `ip`.
/// Guarantees: interfaces have the bytes, the MTU, the state and the addresses that `ip` says.
#[test]
fn interfaces_are_those_of_ip() {
    if !shares_network() {
        return;
    }
    let look = || printed_json("ip", &["-j", "-s", "addr"]);
    let Some(before) = look() else { return };
    let envelope = measured("[metadata.addresses]\n[metrics.interface]");
    let Some(after) = look() else { return };
    let rows = |value: Value| {
        let rows = value.as_array().cloned().unwrap_or_default();
        let named = rows
            .into_iter()
            .map(|row| (row["ifname"].as_str().unwrap_or_default().to_owned(), row));
        named.collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (rows(before), rows(after));
    for series in series(&envelope, "interface.bytes") {
        let name = series["interface"]["name"].as_str().unwrap_or_default();
        let direction = if series["labels"]["direction"] == "sent" {
            "tx"
        } else {
            "rx"
        };
        let total = series["total"].as_u64().expect("a counter has a total");
        let [low, high] =
            [&before, &after].map(|rows| rows[name]["stats64"][direction]["bytes"].as_u64());
        let (Some(low), Some(high)) = (low, high) else {
            continue;
        };
        assert!(
            (low..=high).contains(&total),
            "{name} {direction}: {low} {total} {high}"
        );
    }
    let interfaces = &envelope["header"]["addresses"]["interfaces"];
    for (name, row) in &before {
        let own = &interfaces[name];
        assert_eq!(own["mtu"], row["mtu"], "{name}");
        let state = row["operstate"].as_str().unwrap_or_default().to_lowercase();
        assert_eq!(own["state"], state, "{name}");
        for address in row["addr_info"].as_array().into_iter().flatten() {
            let family = if address["family"] == "inet" {
                "ipv4"
            } else {
                "ipv6"
            };
            let text = format!(
                "{}/{}",
                address["local"].as_str().unwrap_or_default(),
                address["prefixlen"]
            );
            let known = own[family]
                .as_array()
                .is_some_and(|known| known.iter().any(|it| *it == text));
            assert!(known, "{name} has {text}: {own}");
        }
    }
}
