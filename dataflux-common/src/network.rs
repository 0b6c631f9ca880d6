//! `network`: what its kernel programs keep, and the kernel facts they need.

use crate::{
    kernel_fields,
    kernel_fields::{argument, member},
    limits::{DROP_REASONS, INTERFACES},
    shared,
};

kernel_fields! {
    /// The interface of a packet.
    PACKET_DEVICE = member("sk_buff", &["dev"], 8);
    /// Bytes of a packet from its current header on.
    PACKET_LENGTH = member("sk_buff", &["len"], 4);
    /// Address of the packet's current header.
    PACKET_DATA = member("sk_buff", &["data"], 8);
    /// Address of the packet's buffer.
    PACKET_HEAD = member("sk_buff", &["head"], 8);
    /// Offset of the link-layer header in the buffer.
    PACKET_LINK_HEADER = member("sk_buff", &["mac_header"], 2);
    /// Index of an interface, unique within its network namespace.
    DEVICE_INDEX = member("net_device", &["ifindex"], 4);
    /// Link type of an interface (`ARPHRD_*`).
    DEVICE_TYPE = member("net_device", &["type"], 2);
    /// The network namespace of an interface. Absent without CONFIG_NET_NS: there is only one.
    DEVICE_NAMESPACE = member("net_device", &["nd_net", "net"], 8);
    /// Inode number of a network namespace.
    NAMESPACE_INODE = member("net", &["ns", "inum"], 4);
    /// Argument that says why a packet is dropped (5.17).
    DROP_REASON = argument("kfree_skb", "enum skb_drop_reason", &[2]);
    /// The packet that is received.
    RECEIVED_PACKET = argument("netif_receive_skb", "struct sk_buff *", &[0]);
    /// What the driver said of a packet; 0 = it took it over.
    SENT_RESULT = argument("net_dev_xmit", "int", &[1]);
    /// The interface that a packet is sent on.
    SENT_DEVICE = argument("net_dev_xmit", "struct net_device *", &[2]);
    /// Bytes of a packet that is sent.
    SENT_LENGTH = argument("net_dev_xmit", "unsigned int", &[3]);
}

/// Packets handed to the protocols.
pub const RECEIVED: usize = 0;
/// Packets that the driver took over.
pub const SENT: usize = 1;

/// Size histogram buckets: reach 512 KiB, which even merged packets stay below.
pub const SIZE_BUCKETS: usize = 136;

shared! {
    /// Packets of one direction. Their number is the sum of `sizes`.
    pub struct Direction {
        /// Bytes, with the link-layer header except on loopback.
        pub bytes: u64,
        /// Packets by size in bytes.
        pub sizes: [u64; SIZE_BUCKETS],
    }

    /// One interface on one CPU. The slot is the interface's until userspace clears it.
    pub struct Interface {
        /// Interface index; 0 = free.
        pub tag: u64,
        /// By [`RECEIVED`] and [`SENT`].
        pub directions: [Direction; 2],
    }

    /// What one CPU counts.
    pub struct Cpu {
        /// Events on CPUs that have no place in the map, of all of them in the first place: added atomically.
        pub outside: u64,
        /// Dropped packets by reason.
        pub drops: [u64; DROP_REASONS],
        /// By index modulo their number; the last one is that of the others.
        pub interfaces: [Interface; INTERFACES],
    }
}
