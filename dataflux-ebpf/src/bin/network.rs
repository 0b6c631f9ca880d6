//! `network`: packets and bytes by interface and direction, packet sizes, drops by reason.
//!
//! Hooks: netif_receive_skb, net_dev_xmit and kfree_skb, as BTF tracepoints (5.10 and later). Work per event: no clock read,
//! one look-up in an array of CPUs.
//!
//! The hooks fire for every network namespace, and interface indexes repeat there: only the namespace of process 1 is
//! counted by interface, everything else in the place of the others.
//!
//! Races: receive and send run with bottom halves off, so a counter has one writer, its CPU. A drop may interrupt a drop,
//! so those are added atomically.
// SPDX-License-Identifier: MIT OR GPL-2.0
#![no_std]
#![no_main]

use core::ptr::addr_of_mut;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, map},
    maps::Array,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::info;
use dataflux_common::{
    histogram::bucket,
    limits::{INTERFACES, OTHER_INTERFACE},
    network::*,
};
use dataflux_ebpf::{add, add_shared, constant, count, count_shared, field, has, load};

/// The kernel's facts; see `dataflux_common::network`.
#[unsafe(no_mangle)]
static FIELDS: [u32; dataflux_common::network::FIELDS] = [0; dataflux_common::network::FIELDS];

/// Inode number of process 1's network namespace; 0 = not known, so nothing is counted by interface. Set by userspace.
#[unsafe(no_mangle)]
static HOST_NAMESPACE: u32 = 0;

/// One per possible CPU; userspace sets the number and reads it through a mapping.
#[map]
static CPUS: Array<Cpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Link type of loopback (include/uapi/linux/if_arp.h).
const ARPHRD_LOOPBACK: u16 = 772;
/// Bytes of an Ethernet header, which loopback packets carry on the way out though the interface does not count it.
const ETHERNET_HEADER: u64 = 14;

/// This CPU's counters. Without a place in the map the event counts as lost.
#[inline(always)]
fn this_cpu() -> Option<*mut Cpu> {
    // SAFETY: the helper has no preconditions.
    let cpu = CPUS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() });
    if cpu.is_none()
        && let Some(first) = CPUS.get_ptr_mut(0)
    {
        // SAFETY: the pointer comes from a map look-up.
        unsafe { add_shared(addr_of_mut!((*first).outside), 1) };
    }
    cpu
}

/// The interface's index if it is reported by itself, 0 otherwise.
///
/// # Safety
/// `device` is a `struct net_device`.
#[inline(always)]
unsafe fn reported_index(device: *const u8) -> u64 {
    // SAFETY: upheld by the caller.
    unsafe {
        if has(&FIELDS, DEVICE_NAMESPACE) {
            let namespace: *const u8 = load(device, field(&FIELDS, DEVICE_NAMESPACE));
            if load::<u32>(namespace, field(&FIELDS, NAMESPACE_INODE)) != constant(&HOST_NAMESPACE)
            {
                return 0;
            }
        }
        u64::from(load::<u32>(device, field(&FIELDS, DEVICE_INDEX)))
    }
}

/// Counts one packet of an interface. A place that belongs to another interface is left alone: the packet goes to the others.
///
/// # Safety
/// `device` is a `struct net_device`.
#[inline(always)]
unsafe fn packet<const DIRECTION: usize>(
    context: &BtfTracePointContext,
    device: *const u8,
    bytes: u64,
) {
    let Some(cpu) = this_cpu() else { return };
    // SAFETY: upheld by the caller; `cpu` is this CPU's, and the index is below the number of places.
    unsafe {
        let index = reported_index(device);
        let places = addr_of_mut!((*cpu).interfaces).cast::<Interface>();
        let position = index as usize & (INTERFACES - 1);
        let mut place = places.add(position);
        let reported = index != 0 && position != OTHER_INTERFACE;
        if !reported || (*place).tag != index {
            if reported && (*place).tag == 0 {
                (*place).tag = index;
            } else {
                place = places.add(OTHER_INTERFACE);
                if index != 0 && (*place).tag == 0 {
                    (*place).tag = 1;
                    info!(
                        context,
                        "network: interface {} has no place of its own: counted among the others",
                        index
                    );
                }
            }
        }
        let direction = addr_of_mut!((*place).directions)
            .cast::<Direction>()
            .add(DIRECTION);
        add(addr_of_mut!((*direction).bytes), bytes);
        count(addr_of_mut!((*direction).sizes), bucket(bytes));
    }
}

/// `netif_receive_skb(struct sk_buff *skb)`: a packet, possibly merged from several by GRO, goes to the protocols.
#[btf_tracepoint(function = "netif_receive_skb")]
pub fn netif_receive_skb(context: BtfTracePointContext) -> i32 {
    let skb = context.arg::<*const u8>(0);
    // SAFETY: the tracepoint passes a packet.
    unsafe {
        let device: *const u8 = load(skb, field(&FIELDS, PACKET_DEVICE));
        let mut bytes = u64::from(load::<u32>(skb, field(&FIELDS, PACKET_LENGTH)));
        if load::<u16>(device, field(&FIELDS, DEVICE_TYPE)) != ARPHRD_LOOPBACK {
            // What lies between the link-layer header and the current one has been taken off already.
            let data: u64 = load(skb, field(&FIELDS, PACKET_DATA));
            let head: u64 = load(skb, field(&FIELDS, PACKET_HEAD));
            let link = u64::from(load::<u16>(skb, field(&FIELDS, PACKET_LINK_HEADER)));
            let header = data.wrapping_sub(head).wrapping_sub(link);
            if header <= 256 {
                bytes += header;
            }
        }
        packet::<RECEIVED>(&context, device, bytes);
    }
    0
}

/// `net_dev_xmit(struct sk_buff *skb, int rc, struct net_device *dev, unsigned int skb_len)`: the driver took the packet
/// over if `rc` is 0. The packet itself may be gone by now.
#[btf_tracepoint(function = "net_dev_xmit")]
pub fn net_dev_xmit(context: BtfTracePointContext) -> i32 {
    if context.arg::<u64>(1) as u32 != 0 {
        return 0;
    }
    let device = context.arg::<*const u8>(2);
    let mut bytes = u64::from(context.arg::<u64>(3) as u32);
    // SAFETY: the tracepoint passes a device.
    unsafe {
        if load::<u16>(device, field(&FIELDS, DEVICE_TYPE)) == ARPHRD_LOOPBACK {
            bytes = bytes.saturating_sub(ETHERNET_HEADER);
        }
        packet::<SENT>(&context, device, bytes);
    }
    0
}

/// `kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason, ...)`: a packet is dropped.
#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(context: BtfTracePointContext) -> i32 {
    if !has(&FIELDS, DROP_REASON) {
        return 0;
    }
    let reason = context.arg::<u64>(2) as u32 as usize;
    if let Some(cpu) = this_cpu() {
        // SAFETY: `cpu` comes from a map look-up.
        unsafe { count_shared(addr_of_mut!((*cpu).drops), reason) };
    }
    0
}
