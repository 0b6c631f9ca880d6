//! Interfaces with chosen indexes, made by a test and gone with it.

use std::{fs, os::fd::AsRawFd as _, process::Command, thread};

use dataflux_common::limits;
use dataflux_tests::probe::until;
use rustix::net::{AddressFamily, SocketType};

/// An interface index that is not in use, nor the one that would share its place, and whose place is not that of the others.
pub(crate) fn free_index() -> u32 {
    let indexes: Vec<u32> = fs::read_dir("/sys/class/net")
        .expect("/sys/class/net")
        .flatten()
        .filter_map(|entry| {
            fs::read_to_string(entry.path().join("ifindex"))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
        .collect();
    let places = limits::INTERFACES as u32;
    let free = |index: &u32| {
        let place = index % places;
        place as usize != limits::OTHER_INTERFACE
            && indexes.iter().all(|used| used % places != place)
    };
    (7_000..7_000 + places).find(free).expect("a place is free")
}

/// An interface that carries nothing but what is sent on it; gone when dropped. Its peer shares the place of the others.
pub(crate) struct Lone {
    name: String,
    pub(crate) index: u32,
}

impl Lone {
    pub(crate) fn new(index: u32) -> Self {
        Self::called(index, index)
    }

    /// One that has the names of the interface with the other index.
    pub(crate) fn called(like: u32, index: u32) -> Self {
        let lone = Self {
            name: format!("dfpl{like}"),
            index,
        };
        let peer = format!("dfpp{like}");
        let places = limits::INTERFACES as u32;
        let peer_index = index * places + limits::OTHER_INTERFACE as u32;
        let (index, peer_index) = (index.to_string(), peer_index.to_string());
        ip(&[
            "link",
            "add",
            &lone.name,
            "index",
            &index,
            "type",
            "veth",
            "peer",
            "name",
            &peer,
            "index",
            &peer_index,
        ]);
        for end in [&lone.name, &peer] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1")
                .expect("switching IPv6 off");
            ip(&["link", "set", end, "up"]);
        }
        for end in [&lone.name, &peer] {
            until_it_sends(end);
        }
        lone
    }

    /// Sends frames of an experimental Ethernet type, which nobody answers.
    pub(crate) fn send(&self, frames: u64) {
        const EXPERIMENTAL: u16 = 0x88b5;
        let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None)
            .expect("a packet socket");
        let mut frame = [0xff; 60];
        frame[12..14].copy_from_slice(&EXPERIMENTAL.to_be_bytes());
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: EXPERIMENTAL.to_be(),
            sll_ifindex: self.index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0xff; 8],
        };
        for _ in 0..frames {
            // SAFETY: the buffers are valid for the lengths that go with them.
            let sent = unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const address).cast(),
                    size_of_val(&address) as u32,
                )
            };
            assert_eq!(sent, frame.len() as isize, "sending on {}", self.name);
        }
    }

    pub(crate) fn delete(&mut self) {
        ip(&["link", "delete", &self.name]);
        self.name.clear();
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let deleted = Command::new("ip")
                .args(["link", "delete", &self.name])
                .status();
            assert!(
                deleted.is_ok_and(|status| status.success()) || thread::panicking(),
                "deleting {}",
                self.name
            );
        }
    }
}

/// The kernel notices a carrier later, when it gets round to it; until then an interface that is up drops what it is to send.
fn until_it_sends(interface: &str) {
    until("a carrier", || {
        let state = fs::read_to_string(format!("/sys/class/net/{interface}/operstate"));
        (state.ok()?.trim() == "up").then_some(())
    });
    // The state is set a moment before the queue is, both under the lock that this waits for.
    ip(&["link", "set", interface, "up"]);
}

/// Runs `ip` of iproute2.
pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip of iproute2");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
