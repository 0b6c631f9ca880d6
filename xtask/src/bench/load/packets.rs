//! UDP packets over a veth pair between two network namespaces of its own: most to a receiver, some to a closed port.
//!
//! The namespaces and the pair go with the processes that live in them.

use std::{
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    thread::sleep,
    time::Duration,
};

use anyhow::Context as _;
use rustix::{process::getpid, thread::UnshareFlags};

use super::{counters::Counters, workers};

const SENDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Where the receiver listens.
const OPEN_PORT: u16 = 9;
/// Where nobody does.
const CLOSED_PORT: u16 = 10;
/// Every how many packets one goes to the closed port.
const TO_CLOSED_PORT: u64 = 4;
const PAYLOAD: [u8; 64] = [0x5a; 64];

/// One end of the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Sender,
    Receiver,
}

/// What it does, in one line.
pub(super) fn summary() -> String {
    format!(
        "UDP, {} bytes, over a veth pair of its own; every {TO_CLOSED_PORT}th to a closed port",
        PAYLOAD.len()
    )
}

/// Runs until it is killed; counts packets sent. This process, and its network namespace, become one end.
pub(super) fn run(counters: Counters, this: End) -> anyhow::Result<()> {
    let other = match this {
        End::Sender => End::Receiver,
        End::Receiver => End::Sender,
    };
    let (mut hear, say) = pipe()?;
    let (there, tell) = pipe()?;
    let peer = workers::fork(|| {
        own_network()?;
        let mut meeting = Meeting { hear: there, say };
        meeting.arrive()?;
        meeting.wait()?;
        work(other, counters, meeting)
    })?;
    hear.read_exact(&mut [0])?;
    own_network()?;
    let namespace = peer.as_raw_nonzero().to_string();
    ip(&[
        "link",
        "add",
        this.interface(),
        "type",
        "veth",
        "peer",
        "name",
        other.interface(),
        "netns",
        &namespace,
    ])?;
    let mut meeting = Meeting { hear, say: tell };
    meeting.arrive()?;
    work(this, counters, meeting)
}

fn work(end: End, counters: Counters, mut meeting: Meeting) -> anyhow::Result<()> {
    ip(&[
        "address",
        "add",
        &format!("{}/30", end.address()),
        "dev",
        end.interface(),
    ])?;
    ip(&["link", "set", end.interface(), "up"])?;
    match end {
        End::Sender => {
            meeting.wait()?;
            workers::pin(0)?;
            send(counters)
        }
        End::Receiver => {
            let socket = UdpSocket::bind((RECEIVER, OPEN_PORT))?;
            meeting.arrive()?;
            workers::pin(1)?;
            receive(&socket)
        }
    }
}

impl End {
    fn interface(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }

    fn address(self) -> Ipv4Addr {
        match self {
            Self::Sender => SENDER,
            Self::Receiver => RECEIVER,
        }
    }
}

/// How the two ends wait for each other.
struct Meeting {
    hear: PipeReader,
    say: PipeWriter,
}

impl Meeting {
    fn arrive(&mut self) -> anyhow::Result<()> {
        self.say.write_all(&[0]).context("the other end has gone")
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        self.hear
            .read_exact(&mut [0])
            .context("the other end has gone")
    }
}

fn receive(socket: &UdpSocket) -> anyhow::Result<()> {
    let mut packet = [0; 2 * PAYLOAD.len()];
    loop {
        socket.recv(&mut packet)?;
    }
}

fn send(counters: Counters) -> anyhow::Result<()> {
    let open = UdpSocket::bind((SENDER, 0))?;
    let closed = UdpSocket::bind((SENDER, 0))?;
    let sent = counters.worker(0);
    loop {
        for _ in 1..TO_CLOSED_PORT {
            send_one(&open, OPEN_PORT)?;
            sent.add();
        }
        send_one(&closed, CLOSED_PORT)?;
        sent.add();
    }
}

fn send_one(socket: &UdpSocket, port: u16) -> anyhow::Result<()> {
    match socket.send_to(&PAYLOAD, (RECEIVER, port)) {
        // The queue of a link that is coming up may be full.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
            sleep(Duration::from_millis(1))
        }
        result => {
            result.with_context(|| format!("sending to {RECEIVER}:{port}"))?;
        }
    }
    Ok(())
}

/// Moves this process, which has one thread, to a network namespace of its own.
fn own_network() -> anyhow::Result<()> {
    // SAFETY: the flag concerns the network only, neither open files nor memory.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.with_context(|| {
        format!(
            "a network namespace for process {}",
            getpid().as_raw_nonzero()
        )
    })
}

/// Runs the `ip` command in the namespace of this process.
fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .context("running `ip` (Debian package iproute2)")?;
    anyhow::ensure!(status.success(), "`ip {}` failed", arguments.join(" "));
    Ok(())
}
