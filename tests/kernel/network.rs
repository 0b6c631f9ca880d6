//! `network` against `/sys/class/net/*/statistics`, on a veth pair of its own.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    process::Command,
    thread,
    time::Duration,
};

use dataflux_common::limits;
use dataflux_probe::model::{Entity, EntityKey, EntityKind};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_getcpu, sched_setaffinity,
};

use crate::{
    harness::{Attached, Totals, machine, skipped_without},
    interfaces::{Lone, free_index, ip},
};

const PACKETS: u64 = 2_003;
const PAYLOAD: usize = 700;
/// Ethernet, IPv4 and UDP headers.
const HEADERS: u64 = 14 + 20 + 8;

/// Scenario: known numbers of datagrams go both ways over a private veth pair. UDP is not merged by GRO on veth.
/// Guarantees: exactly these packets and bytes are counted, exactly as the interface itself counts them.
#[test]
fn packets_and_bytes_are_exact() {
    let Some(_machine) = machine() else { return };
    let pair = VethPair::new();
    let ends = pair.ends();
    let mut reader = Attached::new("network", "");
    let (first_kernel, first) = (pair.statistics(), reader.read());
    ends.exchange(PACKETS);
    let (last_kernel, last) = (pair.statistics(), reader.read());
    let entity = pair.entity();
    for (direction, kernel) in [("received", 0), ("sent", 1)] {
        let rise = |metric: &str| {
            let of = |totals: &Totals| totals.counter(metric, Some(&entity), &[direction]);
            of(&last) - of(&first)
        };
        let size =
            |totals: &Totals| totals.histogram("network.packet_size", Some(&entity), &[direction]);
        let kernel = (
            last_kernel[kernel].0 - first_kernel[kernel].0,
            last_kernel[kernel].1 - first_kernel[kernel].1,
        );
        assert_eq!(
            kernel,
            (PACKETS, PACKETS * (PAYLOAD as u64 + HEADERS)),
            "somebody else {direction} on the test's pair"
        );
        assert_eq!(
            (rise("network.packets"), rise("network.bytes")),
            kernel,
            "{direction}"
        );
        assert_eq!(
            (
                size(&last).0 - size(&first).0,
                size(&last).1 - size(&first).1
            ),
            kernel,
            "sizes {direction}"
        );
    }
    // What the other end counts belongs to another namespace.
    let other = Entity {
        kind: EntityKind::Interface,
        key: EntityKey::Other,
    };
    assert!(
        last.counter("network.packets", Some(&other), &["received"])
            - first.counter("network.packets", Some(&other), &["received"])
            >= PACKETS
    );
}

/// Scenario: 23 datagrams go to a port where nobody listens.
/// Guarantees: at least 23 drops for want of a socket, by the running kernel's own name for it.
#[test]
fn a_closed_port_is_a_reason_to_drop() {
    const DATAGRAMS: u64 = 23;
    let Some(_machine) = machine() else { return };
    if skipped_without("network.drops") {
        return;
    }
    let mut reader = Attached::new("network", "");
    let dropped = |totals: Totals| totals.counter("network.drops", None, &["no_socket"]);
    let first = dropped(reader.read());
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .expect("a free port");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    for _ in 0..DATAGRAMS {
        socket
            .send_to(&[7; 100], closed)
            .expect("sending to loopback");
    }
    thread::sleep(Duration::from_millis(50));
    let rise = dropped(reader.read()) - first;
    assert!(rise >= DATAGRAMS, "{rise} drops for {DATAGRAMS} datagrams");
}

/// Scenario: two interfaces whose indexes are equal modulo the number of places; then the first one is removed.
/// Guarantees: the second one counts among the others, not into the first one's series; what the first one counted is read
/// to its end, its series ends, and its place is free for the second one.
#[test]
fn a_place_belongs_to_one_interface_until_it_is_gone() {
    const PLACES: u32 = limits::INTERFACES as u32;
    const FRAMES: u64 = 23;
    let Some(_machine) = machine() else { return };
    // Each CPU has places of its own.
    stay_on_this_cpu();
    let low = free_index();
    let mut first = Lone::new(low);
    let second = Lone::new(low + PLACES);
    let mut reader = Attached::new("network", "");
    let sent = |totals: &Totals, key: EntityKey| {
        let entity = Entity {
            kind: EntityKind::Interface,
            key,
        };
        totals.counter("network.packets", Some(&entity), &["sent"])
    };
    first.send(FRAMES);
    second.send(FRAMES);
    let both = reader.read();
    assert_eq!(sent(&both, EntityKey::Id(first.index.into())), FRAMES);
    assert_eq!(
        sent(&both, EntityKey::Id(second.index.into())),
        0,
        "the place is taken"
    );
    assert!(
        sent(&both, EntityKey::Other) >= FRAMES,
        "counted among the others"
    );

    first.send(1);
    first.delete();
    let last = reader.read();
    assert_eq!(
        sent(&last, EntityKey::Id(first.index.into())),
        FRAMES + 1,
        "read to its end"
    );
    second.send(FRAMES);
    let after = reader.read();
    assert_eq!(
        sent(&after, EntityKey::Id(first.index.into())),
        0,
        "a series that has ended"
    );
    assert_eq!(
        sent(&after, EntityKey::Id(second.index.into())),
        FRAMES,
        "the place is free again"
    );
}

/// Scenario: between two reads an interface is replaced by another of the same name, which has another index.
/// Guarantees: the second one keeps its place, and what it counts adds up over several reads.
#[test]
fn a_replacement_of_the_same_name_is_no_interface_that_is_gone() {
    const FRAMES: u64 = 23;
    let Some(_machine) = machine() else { return };
    let mut first = Lone::new(free_index());
    let like = first.index;
    let index = free_index();
    let mut reader = Attached::new("network", "");
    reader.read();
    first.delete();
    let second = Lone::called(like, index);
    let entity = Entity {
        kind: EntityKind::Interface,
        key: EntityKey::Id(second.index.into()),
    };
    for round in 1..=3 {
        second.send(FRAMES);
        let sent = reader
            .read()
            .counter("network.packets", Some(&entity), &["sent"]);
        assert_eq!(sent, round * FRAMES, "frames after round {round}");
    }
}

fn stay_on_this_cpu() {
    let mut set = CpuSet::new();
    set.set(sched_getcpu());
    sched_setaffinity(None, &set).expect("a thread may stay where it is");
}

fn switch_ipv6_off(interface: &str) {
    fs::write(
        format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"),
        "1",
    )
    .expect("switching IPv6 off");
}

/// Tells the kernel a neighbour's link address for good: it would ask now and then, and tests count every packet.
fn know_neighbour(address: Ipv4Addr, link: &str, interface: &str) {
    let address = address.to_string();
    let entry = ["lladdr", link, "dev", interface, "nud", "permanent"];
    ip(&[&["neigh", "replace", &address], entry.as_slice()].concat());
}

/// A socket at each end of a veth pair.
pub(crate) struct Ends {
    pub(crate) here: UdpSocket,
    pub(crate) there: UdpSocket,
}

impl Ends {
    /// The address of the socket there.
    pub(crate) fn to_there(&self) -> SocketAddr {
        self.there.local_addr().expect("an address")
    }

    /// Sends datagrams both ways, each received before the next one leaves.
    fn exchange(&self, count: u64) {
        let Self { here, there } = self;
        let (to_here, to_there) = (here.local_addr().expect("an address"), self.to_there());
        let mut buffer = [0; PAYLOAD];
        for _ in 0..count {
            here.send_to(&[1; PAYLOAD], to_there)
                .expect("sending there");
            there.recv(&mut buffer).expect("receiving there");
            there.send_to(&[2; PAYLOAD], to_here).expect("sending here");
            here.recv(&mut buffer).expect("receiving here");
        }
    }
}

/// The link addresses of both ends of a pair, of those that anyone may give.
const LINK_HERE: &str = "02:00:c6:12:4d:01";
const LINK_THERE: &str = "02:00:c6:12:4d:02";

/// A veth pair: one end in this namespace, the other in one of its own; gone when dropped.
pub(crate) struct VethPair {
    namespace: String,
    /// Of the end here.
    pub(crate) name: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

impl VethPair {
    pub(crate) fn new() -> Self {
        let id = std::process::id() % 100_000;
        let pair = Self {
            namespace: format!("dfp-test-{id}"),
            name: format!("dfpt{id}"),
            here: Ipv4Addr::new(198, 18, 77, 1),
            there: Ipv4Addr::new(198, 18, 77, 2),
        };
        let (namespace, name) = (pair.namespace.as_str(), pair.name.as_str());
        ip(&["netns", "add", namespace]);
        let link = ["link", "add", name, "address", LINK_HERE, "type", "veth"];
        let peer = ["peer", "name", "there", "address", LINK_THERE];
        ip(&[&link, peer.as_slice(), &["netns", namespace]].concat());
        // IPv6 would send packets of its own.
        switch_ipv6_off(name);
        let (here, there) = (format!("{}/30", pair.here), format!("{}/30", pair.there));
        ip(&["addr", "add", &here, "dev", name]);
        ip(&["link", "set", name, "up"]);
        know_neighbour(pair.there, LINK_THERE, name);
        let address_here = pair.here;
        pair.enter(move || {
            switch_ipv6_off("there");
            ip(&["addr", "add", &there, "dev", "there"]);
            ip(&["link", "set", "there", "up"]);
            know_neighbour(address_here, LINK_HERE, "there");
        });
        pair
    }

    /// A socket at each end, between which packets pass by now.
    pub(crate) fn ends(&self) -> Ends {
        let address = self.there;
        let ends = Ends {
            here: UdpSocket::bind((self.here, 0)).expect("a socket here"),
            there: self.enter(move || UdpSocket::bind((address, 0)).expect("a socket there")),
        };
        ends.exchange(1);
        ends
    }

    /// Acts in the other namespace, on a thread that goes there.
    fn enter<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace =
            File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace");
        let go = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entering the namespace");
            act()
        };
        thread::spawn(go).join().expect("the thread acted there")
    }

    pub(crate) fn entity(&self) -> Entity {
        let index =
            fs::read_to_string(format!("/sys/class/net/{}/ifindex", self.name)).expect("ifindex");
        Entity {
            kind: EntityKind::Interface,
            key: EntityKey::Id(index.trim().parse().expect("a number")),
        }
    }

    /// Packets and bytes, received and sent, as the interface counts them.
    pub(crate) fn statistics(&self) -> [(u64, u64); 2] {
        let number = |name: &str| -> u64 {
            let text =
                fs::read_to_string(format!("/sys/class/net/{}/statistics/{name}", self.name))
                    .expect("statistics");
            text.trim().parse().expect("a number")
        };
        [
            (number("rx_packets"), number("rx_bytes")),
            (number("tx_packets"), number("tx_bytes")),
        ]
    }
}

impl Drop for VethPair {
    fn drop(&mut self) {
        // The namespace would take the pair along, but only some time later.
        for what in [["link", &self.name], ["netns", &self.namespace]] {
            let deleted = Command::new("ip")
                .args([what[0], "delete", what[1]])
                .status();
            assert!(
                deleted.is_ok_and(|status| status.success()) || thread::panicking(),
                "deleting {what:?}"
            );
        }
    }
}
