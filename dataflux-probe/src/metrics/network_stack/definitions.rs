//! What the metrics of `network_stack` mean.
//!
//! Meanings are those of RFC 4293 (IP, ICMP), 4022 (TCP) and 4113 (UDP) as Documentation/networking/snmp_counter.rst of the
//! kernel says them, and where it does not, those of the places in the kernel that count.

use crate::model::{MetricDef, Unit};

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDef {
    MetricDef::running_counter(name, Unit::Count, help, labels)
}

pub(super) static IP_PACKETS: MetricDef = counter(
    "network_stack.ip_packets",
    "IP packets by stage: received from interfaces, merged ones as one; delivered to protocols; forwarded; and sent, by this host alone on newer kernels, with those forwarded before Linux 6.7.",
    &["family", "stage"],
);
pub(super) static IP_BYTES: MetricDef = MetricDef {
    unit: Unit::Bytes,
    ..counter(
        "network_stack.ip_octets",
        "Bytes of IP packets received and sent, IP headers included and link headers not.",
        &["family", "direction"],
    )
};
pub(super) static IP_DROPS: MetricDef = counter(
    "network_stack.ip_drops",
    "IP packets dropped by reason: a bad header, an address that is not this host's, an unknown protocol, a truncated packet, one too big to forward, no route when received or sent, want of memory or room when received or sent, or a reverse path that is another.",
    &["family", "reason"],
);
pub(super) static IP_FRAGMENTS_RECEIVED: MetricDef = counter(
    "network_stack.ip_fragments_received",
    "IP fragments received that need to be put together.",
    &["family"],
);
pub(super) static IP_REASSEMBLIES: MetricDef = counter(
    "network_stack.ip_reassemblies",
    "IP packets put together of fragments, and failures to do so, those after a timeout included.",
    &["family", "outcome"],
);
pub(super) static IP_FRAGMENTATIONS: MetricDef = counter(
    "network_stack.ip_fragmentations",
    "IP packets divided into fragments, and packets that would have to be but must not or could not.",
    &["family", "outcome"],
);
pub(super) static IP_FRAGMENTS_CREATED: MetricDef = counter(
    "network_stack.ip_fragments_created",
    "IP fragments made to send packets.",
    &["family"],
);
pub(super) static ICMP_MESSAGES: MetricDef = counter(
    "network_stack.icmp_messages",
    "ICMP messages received, bad ones included, and sent.",
    &["family", "direction"],
);
pub(super) static ICMP_ERRORS: MetricDef = counter(
    "network_stack.icmp_errors",
    "ICMP messages that were bad or could not be handled when received, or not sent because of a problem within ICMP.",
    &["family", "direction"],
);
pub(super) static ICMP_TYPES: MetricDef = counter(
    "network_stack.icmp_types",
    "ICMP messages received and sent of the types that matter most.",
    &["family", "direction", "type"],
);
pub(super) static TCP_SEGMENTS: MetricDef = counter(
    "network_stack.tcp_segments",
    "TCP segments received, bad ones included and merged ones as one, and sent, retransmitted ones not.",
    &["direction"],
);
pub(super) static TCP_RETRANSMITS: MetricDef = counter(
    "network_stack.tcp_retransmits",
    "TCP segments sent again.",
    &[],
);
pub(super) static TCP_RETRANSMIT_KINDS: MetricDef = counter(
    "network_stack.tcp_retransmit_kinds",
    "TCP segments sent again by kind, as far as the kernel tells: after duplicate acknowledgements (fast), after a timeout (slow_start), or when opening (syn).",
    &["kind"],
);
pub(super) static TCP_TIMEOUTS: MetricDef = counter(
    "network_stack.tcp_timeouts",
    "Expired TCP retransmission timers, of connections being opened included.",
    &[],
);
pub(super) static TCP_SPURIOUS_TIMEOUTS: MetricDef = counter(
    "network_stack.tcp_spurious_timeouts",
    "Expired TCP retransmission timers that turned out to be needless.",
    &[],
);
pub(super) static TCP_ERRORS: MetricDef = counter(
    "network_stack.tcp_errors",
    "TCP segments received that were bad, such as with a wrong checksum.",
    &[],
);
pub(super) static TCP_RESETS_SENT: MetricDef = counter(
    "network_stack.tcp_resets_sent",
    "TCP segments with RST that the kernel tried to send.",
    &[],
);
pub(super) static TCP_CONNECTIONS: MetricDef = counter(
    "network_stack.tcp_connections",
    "TCP connections by event: begun by this host (active), by others (passive), failed before they were established, and reset when they were.",
    &["event"],
);
pub(super) static TCP_ESTABLISHED: MetricDef = MetricDef::gauge(
    "network_stack.tcp_established",
    Unit::Count,
    "TCP connections that are ESTABLISHED or CLOSE-WAIT.",
    &[],
);
pub(super) static TCP_LISTEN_DROPS: MetricDef = counter(
    "network_stack.tcp_listen_drops",
    "TCP connections and requests dropped at listening sockets, for whatever reason, overflows included.",
    &[],
);
pub(super) static TCP_LISTEN_OVERFLOWS: MetricDef = counter(
    "network_stack.tcp_listen_overflows",
    "TCP connections and requests dropped because the queue of a listening socket was full.",
    &[],
);
pub(super) static TCP_DROPS: MetricDef = counter(
    "network_stack.tcp_drops",
    "TCP segments dropped by reason: a full backlog, receive queue, queue of what is out of order, or queue of requests; no window; beyond the window (Linux 6.17); an old timestamp; too small a TTL; memory for others only; a deferred accept.",
    &["reason"],
);
pub(super) static TCP_OUT_OF_ORDER: MetricDef = counter(
    "network_stack.tcp_out_of_order",
    "TCP segments queued because others before them were missing.",
    &[],
);
pub(super) static TCP_OUT_OF_WINDOW: MetricDef = counter(
    "network_stack.tcp_out_of_window_icmp",
    "ICMP messages about TCP connections that were ignored because what they quote is out of the window.",
    &[],
);
pub(super) static TCP_ABORTS: MetricDef = counter(
    "network_stack.tcp_aborts",
    "TCP connections aborted by reason: data that came after closing or was not read when closing, want of memory, a timeout, or lingering; and aborts whose RST failed.",
    &["reason"],
);
pub(super) static TCP_MEMORY_PRESSURES: MetricDef = counter(
    "network_stack.tcp_memory_pressures",
    "Times that TCP came under memory pressure.",
    &[],
);
pub(super) static TCP_PRUNED: MetricDef = counter(
    "network_stack.tcp_pruned",
    "Times that the receive queue of a socket had to be shortened for want of room.",
    &[],
);
pub(super) static TCP_ZERO_WINDOWS: MetricDef = counter(
    "network_stack.tcp_zero_windows",
    "Times that a socket began to announce that it has no room.",
    &[],
);
pub(super) static TCP_SYN_COOKIES: MetricDef = counter(
    "network_stack.tcp_syn_cookies",
    "SYN cookies sent, received back, and received back but wrong.",
    &["event"],
);
pub(super) static UDP_DATAGRAMS: MetricDef = counter(
    "network_stack.udp_datagrams",
    "UDP datagrams delivered to sockets, and sent.",
    &["family", "direction"],
);
pub(super) static UDP_RECEIVE_ERRORS: MetricDef = counter(
    "network_stack.udp_receive_errors",
    "UDP datagrams that could not be delivered for any other reason than that nobody has the port.",
    &["family"],
);
pub(super) static UDP_ERRORS: MetricDef = counter(
    "network_stack.udp_errors",
    "UDP datagrams lost by reason: nobody has the port, a full receive buffer, a full send buffer, a wrong checksum, want of memory.",
    &["family", "reason"],
);
pub(super) static SOCKETS: MetricDef = MetricDef::gauge(
    "network_stack.sockets",
    Unit::Count,
    "Sockets in use by protocol; of TCP those that are not in TIME-WAIT.",
    &["family", "protocol"],
);
pub(super) static SOCKETS_USED: MetricDef = MetricDef::gauge(
    "network_stack.sockets_used",
    Unit::Count,
    "Sockets of all families in use.",
    &[],
);
pub(super) static TCP_SOCKETS: MetricDef = MetricDef::gauge(
    "network_stack.tcp_sockets",
    Unit::Count,
    "TCP sockets that no process has any more (orphan), in TIME-WAIT, and allocated; orphan and allocated may count those of other network namespaces.",
    &["state"],
);
pub(super) static SOCKET_MEMORY: MetricDef = MetricDef::gauge(
    "network_stack.socket_memory",
    Unit::Bytes,
    "Memory of the buffers of all sockets of the machine by protocol, in whole pages.",
    &["protocol"],
);
pub(super) static FRAGMENT_MEMORY: MetricDef = MetricDef::gauge(
    "network_stack.fragment_memory",
    Unit::Bytes,
    "Memory of IP fragments that wait for the rest of their packets.",
    &["family"],
);
pub(super) static CONNTRACK_ENTRIES: MetricDef = MetricDef::gauge(
    "network_stack.conntrack_entries",
    Unit::Count,
    "Connections that the firewall keeps track of.",
    &[],
);
pub(super) static CONNTRACK_LIMIT: MetricDef = MetricDef::gauge(
    "network_stack.conntrack_limit",
    Unit::Count,
    "Connections that the firewall may keep track of; when it is reached, packets of new ones are dropped.",
    &[],
);
pub(super) static CONNTRACK_EVENTS: MetricDef = counter(
    "network_stack.conntrack_events",
    "What went wrong in tracking connections: packets that belong to none (invalid), entries that were there already (insert_failed), packets dropped (drop), and entries given up early to make room (early_drop).",
    &["event"],
);

/// Every metric, in the order of the fields.
pub(super) static METRICS: [&MetricDef; 40] = [
    &IP_PACKETS,
    &IP_BYTES,
    &IP_DROPS,
    &IP_FRAGMENTS_RECEIVED,
    &IP_REASSEMBLIES,
    &IP_FRAGMENTATIONS,
    &IP_FRAGMENTS_CREATED,
    &ICMP_MESSAGES,
    &ICMP_ERRORS,
    &ICMP_TYPES,
    &TCP_SEGMENTS,
    &TCP_RETRANSMITS,
    &TCP_RETRANSMIT_KINDS,
    &TCP_TIMEOUTS,
    &TCP_SPURIOUS_TIMEOUTS,
    &TCP_ERRORS,
    &TCP_RESETS_SENT,
    &TCP_CONNECTIONS,
    &TCP_ESTABLISHED,
    &TCP_LISTEN_DROPS,
    &TCP_LISTEN_OVERFLOWS,
    &TCP_DROPS,
    &TCP_OUT_OF_ORDER,
    &TCP_OUT_OF_WINDOW,
    &TCP_ABORTS,
    &TCP_MEMORY_PRESSURES,
    &TCP_PRUNED,
    &TCP_ZERO_WINDOWS,
    &TCP_SYN_COOKIES,
    &UDP_DATAGRAMS,
    &UDP_RECEIVE_ERRORS,
    &UDP_ERRORS,
    &SOCKETS,
    &SOCKETS_USED,
    &TCP_SOCKETS,
    &SOCKET_MEMORY,
    &FRAGMENT_MEMORY,
    &CONNTRACK_ENTRIES,
    &CONNTRACK_LIMIT,
    &CONNTRACK_EVENTS,
];
