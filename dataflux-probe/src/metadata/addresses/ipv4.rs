//! IPv4 addresses of process 1's network namespace: as the kernel tells them where the probe is in it, else from its routes.

use std::{
    collections::BTreeSet, ffi::CStr, fs, io, net::Ipv4Addr, os::unix::fs::MetadataExt, path::Path,
    ptr,
};

use anyhow::Context as _;
use procfs::net::RouteEntry;

use super::leads_on;
use crate::raw_name::shown;

/// Whether the calling thread is in process 1's network namespace. Links to namespaces may be closed to the probe, but the
/// files of `/proc/<pid>/net` are made once for each namespace, so that equal inode numbers mean the same one.
pub(super) fn shares_network(proc: &Path) -> bool {
    let inode = |thread: &str| {
        fs::metadata(proc.join(thread).join("net/dev"))
            .ok()
            .map(|it| it.ino())
    };
    let own = inode("thread-self");
    own.is_some() && own == inode("1")
}

/// Interface and address with prefix length, of the calling thread's namespace.
pub(super) fn of_own_namespace() -> anyhow::Result<Vec<(String, String)>> {
    let mut list = ptr::null_mut();
    // SAFETY: the pointer is valid for the write of one pointer.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot list IPv4 addresses");
    }
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: getifaddrs made the list, it ends with a null pointer, and it is not freed before the loop is over.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: both are null, or sockaddrs as long as their family says.
        let (address, mask) = unsafe { (address(entry.ifa_addr), address(entry.ifa_netmask)) };
        if let (Some(address), Some(mask)) = (address, mask) {
            // SAFETY: an entry's name is a string that lives as long as the list.
            let label = unsafe { CStr::from_ptr(entry.ifa_name) };
            let label = shown(label.to_bytes());
            // An address can have a label of its own: the interface, a colon, and anything.
            let name = label.split(':').next().unwrap_or_default();
            found.push((name.to_owned(), with_prefix(address, mask)));
        }
    }
    // SAFETY: getifaddrs made the list, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// # Safety
/// The pointer is null or points to a sockaddr of its family's size.
unsafe fn address(socket: *const libc::sockaddr) -> Option<Ipv4Addr> {
    // SAFETY: by this function's contract it is readable unless null.
    let family = unsafe { socket.as_ref() }?.sa_family;
    if i32::from(family) != libc::AF_INET {
        return None;
    }
    // SAFETY: by this function's contract a socket address of AF_INET is a whole sockaddr_in.
    let address = unsafe { socket.cast::<libc::sockaddr_in>().read_unaligned() };
    Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)))
}

fn with_prefix(address: Ipv4Addr, mask: Ipv4Addr) -> String {
    format!("{address}/{}", mask.to_bits().leading_ones())
}

/// Interface and address with prefix length; and the addresses whose interface the routes do not tell. fib_trie has the
/// addresses without their interfaces. An address is that of an interface if there is exactly one with a direct route to a
/// network that holds the address and whose broadcast address is the host's too, as the kernel sets all three up together.
pub(super) fn of_routes(
    fib_trie: &str,
    routes: &[RouteEntry],
) -> (Vec<(String, String)>, Vec<String>) {
    let leaves = |kind| leaves(fib_trie, kind);
    let broadcasts = leaves("/32 link BROADCAST");
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for address in leaves("/32 host LOCAL") {
        let bits = address.to_bits();
        let holds = |route: &&RouteEntry| {
            let mask = route.mask.to_bits();
            leads_on(route.flags.into())
                && route.gateway.is_unspecified()
                && bits & mask == route.destination.to_bits()
                && broadcasts.contains(&Ipv4Addr::from_bits(bits | !mask))
        };
        let owners: BTreeSet<(&str, Ipv4Addr)> = routes
            .iter()
            .filter(holds)
            .map(|route| (&*route.iface, route.mask))
            .collect();
        match (owners.first(), owners.len()) {
            (Some((name, mask)), 1) => {
                known.push(((*name).to_owned(), with_prefix(address, *mask)))
            }
            _ if address.is_loopback() => known.push(("lo".to_owned(), format!("{address}/8"))),
            _ => unknown.push(address.to_string()),
        }
    }
    (known, unknown)
}

/// The addresses of a trie that have an entry of this kind: a line with the address, then lines with its entries.
fn leaves(fib_trie: &str, kind: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == kind {
            found.extend(leaf);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use procfs::{FromBufRead, net::RouteEntries};

    use super::*;

    const TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 192.0.2.0
        /24 link UNICAST
Local:
     |-- 127.0.0.0
        /8 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.2
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
     |-- 198.51.100.7
        /32 host LOCAL
     |-- 198.51.100.255
        /32 link BROADCAST
     |-- 203.0.113.9
        /32 host LOCAL
";

    #[test]
    fn an_address_is_given_to_an_interface_only_where_the_routes_leave_no_doubt() {
        let route = "\
Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0
eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0
eth1 006433C6 00000000 0001 0 0 0 00FFFFFF 0 0 0
eth2 006433C6 00000000 0001 0 0 600 00FFFFFF 0 0 0
tun0 007100CB 00000000 0001 0 0 0 00FFFFFF 0 0 0
";
        let RouteEntries(routes) = RouteEntries::from_buf_read(route.as_bytes()).unwrap();
        let (known, unknown) = of_routes(TRIE, &routes);
        let pair = |name: &str, address: &str| (name.to_owned(), address.to_owned());
        assert_eq!(
            known,
            [pair("lo", "127.0.0.1/8"), pair("eth0", "192.0.2.2/24")]
        );
        assert_eq!(unknown, ["198.51.100.7", "203.0.113.9"]);
    }

    #[test]
    fn both_ways_agree_on_this_machine() {
        let proc = Path::new("/proc");
        if !shares_network(proc) {
            return;
        }
        let exact: BTreeSet<_> = of_own_namespace().unwrap().into_iter().collect();
        let trie = fs::read_to_string("/proc/1/net/fib_trie").unwrap();
        let (known, unknown) = of_routes(&trie, &super::super::routes(&proc.join("1/net")));
        assert!(
            known.iter().all(|it| exact.contains(it)),
            "{known:?} {exact:?}"
        );
        let mut plain: Vec<_> = exact
            .iter()
            .map(|(_, it)| it.split('/').next().unwrap())
            .collect();
        let mut found: Vec<_> = known
            .iter()
            .map(|(_, it)| it.split('/').next().unwrap())
            .chain(unknown.iter().map(String::as_str))
            .collect();
        plain.sort_unstable();
        plain.dedup();
        found.sort_unstable();
        assert_eq!(found, plain);
    }
}
