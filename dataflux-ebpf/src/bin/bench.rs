//! What `cargo xtask bench` compares programs with: nothing, and one clock read. No reader's object; the probe does not carry it.
//!
//! Hooks: any BTF tracepoint (5.5 and later); the bench chooses at load. Work per event: none, or one clock read.
// SPDX-License-Identifier: MIT OR GPL-2.0
#![no_std]
#![no_main]

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use dataflux_ebpf as _;

/// What the kernel needs to call a program at all, and to time it.
#[btf_tracepoint]
pub fn empty(_context: BtfTracePointContext) -> i32 {
    0
}

/// The least that a program which takes a time can cost.
#[btf_tracepoint]
pub fn clock_read(_context: BtfTracePointContext) -> i32 {
    // SAFETY: the helper has no preconditions. The compiler keeps the call because it knows nothing about its effects.
    unsafe { bpf_ktime_get_ns() };
    0
}
