//! `addresses`: the network interfaces of the host and their addresses.

mod ipv4;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::Context as _;
use procfs::{FromBufRead, net::RouteEntries, net::RouteEntry};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MetadataReader;
use crate::{
    host_file::{first_line, text},
    model::Metadata,
    plugin::{Needs, Plugin, Roots},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "addresses",
    summary: "network interfaces with their IPv4, IPv6 and hardware addresses, MTU, speed, duplex and state, and which is the primary one",
    needs: Needs {
        kernel: "/proc/1/net, /sys/class/net",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Addresses {
            roots: context.roots.clone(),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Addresses {
    roots: Roots,
}

/// What is known of an interface.
#[derive(Debug, Default, Serialize)]
struct Interface {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    /// Hardware address; interfaces without a link have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    /// In Mbit/s; not told of interfaces that are down or have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_mbit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplex: Option<String>,
    /// By RFC 2863; `unknown` where the driver does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// Addresses with the length of their network's prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ipv4: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ipv6: Vec<String>,
}

impl MetadataReader for Addresses {
    /// Keys: `primary`, the interface with the default route of the lowest metric (of IPv6 only where IPv4 has none);
    /// `interfaces`, by name; and `ipv4`, the addresses whose interface cannot be told. All are of process 1's network
    /// namespace, provided that `sys` is the host's.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let Roots { proc, sys, .. } = &self.roots;
        let net = proc.join("1/net");
        let mut interfaces = interfaces(&net, sys)?;
        for (name, address) in ipv6(&text(&net.join("if_inet6")).unwrap_or_default()) {
            interfaces.entry(name).or_default().ipv6.push(address);
        }
        let routes = routes(&net);
        let own_namespace = ipv4::shares_network(proc);
        let (known, unknown) = if own_namespace {
            (ipv4::of_own_namespace()?, Vec::new())
        } else {
            let trie = text(&net.join("fib_trie")).unwrap_or_default();
            ipv4::of_routes(&trie, &routes)
        };
        for (name, address) in known {
            interfaces.entry(name).or_default().ipv4.push(address);
        }
        let primary = primary(&routes)
            .or_else(|| primary_ipv6(&text(&net.join("ipv6_route")).unwrap_or_default()));
        let section = super::section([
            ("primary", primary.map(Value::from)),
            ("interfaces", Some(serde_json::to_value(interfaces)?)),
            ("ipv4", (!unknown.is_empty()).then(|| unknown.into())),
        ]);
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

/// All interfaces of process 1's namespace, with what sysfs has of them.
fn interfaces(net: &Path, sys: &Path) -> anyhow::Result<BTreeMap<String, Interface>> {
    let path = net.join("dev");
    let dev = text(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let names = dev
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let interface = |name: &str| {
        let files = sys.join("class/net").join(name);
        let line = |name: &str| first_line(&files.join(name));
        let mac = line("address");
        Interface {
            index: line("ifindex").and_then(|index| index.parse().ok()),
            mtu: line("mtu").and_then(|mtu| mtu.parse().ok()),
            // -1 where there is none.
            speed_mbit: line("speed").and_then(|speed| speed.parse().ok()),
            duplex: line("duplex").filter(|duplex| duplex != "unknown"),
            state: line("operstate"),
            mac: mac.filter(|mac| mac.bytes().any(|byte| !matches!(byte, b'0' | b':'))),
            ..Interface::default()
        }
    };
    Ok(names
        .map(|name| (name.to_owned(), interface(name)))
        .collect())
}

/// The lines of if_inet6: address, index, prefix length, scope, flags, all in hexadecimal digits, and the interface.
fn ipv6(if_inet6: &str) -> impl Iterator<Item = (String, String)> {
    if_inet6.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(words.next()?, 16).ok()?);
        let prefix = u8::from_str_radix(words.nth(1)?, 16).ok()?;
        let name = words.nth(2)?;
        Some((name.to_owned(), format!("{address}/{prefix}")))
    })
}

/// The routes of the main table.
fn routes(net: &Path) -> Vec<RouteEntry> {
    let text = text(&net.join("route")).unwrap_or_default();
    match RouteEntries::from_buf_read(text.as_bytes()) {
        Ok(RouteEntries(routes)) => routes,
        Err(error) => {
            tracing::debug!(
                "cannot make sense of {}: {error}",
                net.join("route").display()
            );
            Vec::new()
        }
    }
}

/// `RTF_UP` and `RTF_REJECT` of route flags: whether a route leads anywhere.
fn leads_on(flags: u32) -> bool {
    flags & 0x0001 != 0 && flags & 0x0200 == 0
}

fn primary(routes: &[RouteEntry]) -> Option<String> {
    let default = routes.iter().filter(|route| {
        leads_on(route.flags.into())
            && route.destination == Ipv4Addr::UNSPECIFIED
            && route.mask == Ipv4Addr::UNSPECIFIED
    });
    Some(default.min_by_key(|route| route.metrics)?.iface.clone())
}

/// The lines of ipv6_route: destination, its prefix length, source, its prefix length, next hop, metric, two counts, flags,
/// all in hexadecimal digits, and the interface.
fn primary_ipv6(ipv6_route: &str) -> Option<String> {
    let default = ipv6_route.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [
            destination,
            prefix,
            _,
            source_prefix,
            _,
            metric,
            _,
            _,
            flags,
            name,
        ] = words[..]
        else {
            return None;
        };
        let hexadecimal = |word| u32::from_str_radix(word, 16).ok();
        let everything = destination.bytes().all(|byte| byte == b'0')
            && hexadecimal(prefix)? == 0
            && hexadecimal(source_prefix)? == 0;
        (everything && leads_on(hexadecimal(flags)?)).then_some((hexadecimal(metric)?, name))
    });
    Some(default.min_by_key(|&(metric, _)| metric)?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        metadata::testing::read,
        plugin::testing::{context, fixtures},
    };

    /// The host of the fixtures; the probe is in another network namespace, for there is no `thread-self`.
    #[test]
    fn everything_is_joined_by_the_names_of_process_1() {
        let section = read(&PLUGIN, "", &context(fixtures())).unwrap();
        let expected = json!({
            "primary": "eth0",
            "interfaces": {
                "lo": {"index": 1, "ipv4": ["127.0.0.1/8"], "ipv6": ["::1/128"]},
                "eth0": {
                    "index": 2,
                    "mac": "02:00:00:00:00:2a",
                    "ipv4": ["192.0.2.2/24"],
                    "ipv6": ["fe80::fc:ff:fe00:1/64", "2001:db8::2/64"],
                },
                "a-long-name-15b": {"index": 7},
            },
            "ipv4": ["203.0.113.9"],
        });
        assert_eq!(Value::from(section), expected);
    }

    #[test]
    fn the_primary_interface_has_the_default_route_of_the_lowest_metric() {
        let header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let lines = [
            "eth0 00000000 010200C0 0003 0 0 600 00000000 0 0 0\n",
            "eth1 00000000 010200C0 0003 0 0 100 00000000 0 0 0\n",
            "eth2 00000000 00000000 0001 0 0 0 000000FF 0 0 0\n",
            "* 00000000 00000000 0201 0 0 1 00000000 0 0 0\n",
        ];
        let of = |lines: &[&str]| {
            let text = lines
                .iter()
                .fold(header.to_owned(), |text, line| text + line);
            primary(&RouteEntries::from_buf_read(text.as_bytes()).unwrap().0)
        };
        assert_eq!(of(&lines).as_deref(), Some("eth1"));
        assert_eq!(of(&lines[2..]), None);
    }

    #[test]
    fn without_ipv4_the_default_route_of_ipv6_tells() {
        let zero = "0".repeat(32);
        let line = |prefix, metric, flags, name| {
            format!("{zero} {prefix} {zero} 00 {zero} {metric} 00000001 00000000 {flags} {name}\n")
        };
        let text = line("00", "00000400", "00000003", "wlan0")
            + &line("00", "00000064", "00000003", "eth0")
            + &line("00", "00000001", "00200201", "lo")
            + &line("40", "00000001", "00000001", "eth1");
        assert_eq!(primary_ipv6(&text).as_deref(), Some("eth0"));
        assert_eq!(primary_ipv6(""), None);
    }

    #[test]
    fn a_host_whose_interfaces_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(&PLUGIN, "", &context(folder.path()))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("proc/1/net/dev"), "{error}");
    }

    #[test]
    fn a_changed_interface_and_a_new_one_are_there_at_the_next_look() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let context = context(folder.path());
        let mut reader = PLUGIN.build_from("", &context).unwrap();
        let mut look = || {
            let mut metadata = Metadata::default();
            reader.read(&mut metadata).unwrap();
            metadata.sections.remove("addresses").unwrap()["interfaces"].clone()
        };
        write("proc/1/net/dev", "head\nhead\n  eth0: 1 2\n");
        for (file, text) in [
            ("ifindex", "2\n"),
            ("mtu", "1500\n"),
            ("speed", "-1\n"),
            ("duplex", "unknown\n"),
            ("operstate", "down\n"),
        ] {
            write(&format!("sys/class/net/eth0/{file}"), text);
        }
        let down = json!({"eth0": {"index": 2, "mtu": 1500, "state": "down"}});
        assert_eq!(look(), down);
        for (file, text) in [
            ("mtu", "9000\n"),
            ("speed", "25000\n"),
            ("duplex", "full\n"),
            ("operstate", "up\n"),
        ] {
            write(&format!("sys/class/net/eth0/{file}"), text);
        }
        write("proc/1/net/dev", "head\nhead\n  eth0: 1 2\n eth1: 1 2\n");
        let address = "20010db8000000000000000000000002 02 40 00 80 eth0\n";
        write("proc/1/net/if_inet6", address);
        let eth0 = json!({
            "index": 2, "mtu": 9000, "speed_mbit": 25_000, "duplex": "full", "state": "up",
            "ipv6": ["2001:db8::2/64"],
        });
        assert_eq!(look(), json!({"eth0": eth0, "eth1": {}}));
    }

    fn this_machine() -> serde_json::Map<String, Value> {
        let mut context = context(fixtures());
        context.roots = Roots::default();
        read(&PLUGIN, "", &context).unwrap()
    }

    #[test]
    fn of_this_machine_it_says_what_sysfs_says() {
        if !ipv4::shares_network(Path::new("/proc")) {
            return;
        }
        let section = this_machine();
        assert_eq!(section["interfaces"]["lo"]["index"], 1);
        let names = std::fs::read_dir("/sys/class/net").unwrap().flatten();
        for entry in names.filter(|entry| entry.path().join("ifindex").exists()) {
            let own = &section["interfaces"][entry.file_name().to_str().unwrap()];
            let index = std::fs::read_to_string(entry.path().join("ifindex")).unwrap();
            assert_eq!(own["index"].to_string(), index.trim());
        }
    }

    /// Needs root for its namespace; without, there is nothing to test.
    #[test]
    fn from_another_namespace_it_says_the_same_as_far_as_the_routes_tell() {
        if !ipv4::shares_network(Path::new("/proc")) {
            return;
        }
        let mut from_inside = this_machine();
        let elsewhere = std::thread::spawn(|| {
            // SAFETY: it gives a network namespace of its own to this thread, which ends with the closure.
            let alone = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
            alone.then(|| {
                assert!(!ipv4::shares_network(Path::new("/proc")));
                this_machine()
            })
        });
        let Some(mut from_outside) = elsewhere.join().unwrap() else {
            return;
        };
        let addresses = |section: &mut serde_json::Map<String, Value>| {
            let mut found = Vec::new();
            for (name, interface) in section["interfaces"].as_object_mut().unwrap() {
                let ipv4 = interface.as_object_mut().unwrap().remove("ipv4");
                let ipv4 = ipv4
                    .into_iter()
                    .flat_map(|it| it.as_array().unwrap().clone());
                found.extend(ipv4.map(|address| (name.clone(), address)));
            }
            found
        };
        let (inside, outside) = (addresses(&mut from_inside), addresses(&mut from_outside));
        assert!(
            outside.iter().all(|it| inside.contains(it)),
            "{outside:?} {inside:?}"
        );
        let unknown = from_outside
            .remove("ipv4")
            .map_or(0, |it| it.as_array().unwrap().len());
        assert_eq!(outside.len() + unknown, inside.len());
        assert_eq!(from_outside, from_inside);
    }
}
