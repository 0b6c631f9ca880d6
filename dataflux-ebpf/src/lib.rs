//! What every kernel program uses: reading the kernel's structs, its facts, and counting.
// SPDX-License-Identifier: MIT OR GPL-2.0
#![no_std]
#![feature(asm_experimental_arch)]

use core::ptr::{addr_of_mut, read_volatile};

use dataflux_common::{
    histogram::{Histogram, bucket},
    kernel_fields::ABSENT,
};

/// The licence that the kernel asks for before it lends its helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Programs never panic; the compiler wants a handler all the same.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// A frozen constant set by userspace at load. Volatile, so that the compiler does not take its initial value for granted.
#[inline(always)]
pub fn constant<T: Copy>(global: &'static T) -> T {
    // SAFETY: a reference is valid to read.
    unsafe { read_volatile(global) }
}

/// One of the reader's kernel facts.
#[inline(always)]
pub fn field<const N: usize>(fields: &'static [u32; N], index: usize) -> u32 {
    constant(&fields[index])
}

/// Whether the running kernel has this fact.
#[inline(always)]
pub fn has<const N: usize>(fields: &'static [u32; N], index: usize) -> bool {
    field(fields, index) != ABSENT
}

/// Reads a member of a kernel struct at an offset the verifier knows to be constant.
///
/// # Safety
/// `object` points to the kernel struct that `offset` was looked up in; the kernel turns a bad address into 0.
#[inline(always)]
pub unsafe fn load<T: Copy>(object: *const u8, offset: u32) -> T {
    // SAFETY: upheld by the caller, and checked against the kernel's types by the verifier.
    unsafe { read_volatile(object.add(offset as usize).cast::<T>()) }
}

/// Adds to a counter that only this CPU writes.
///
/// # Safety
/// `counter` is valid, and no other CPU writes it.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, value: u64) {
    // SAFETY: upheld by the caller.
    unsafe { *counter += value };
}

/// Records a value in a histogram that only this CPU writes.
///
/// # Safety
/// `histogram` is valid, and no other CPU writes it.
#[inline(always)]
pub unsafe fn record(histogram: *mut Histogram, value: u64) {
    // SAFETY: upheld by the caller; the index is checked against the array's length.
    unsafe {
        count(addr_of_mut!((*histogram).counts), bucket(value));
        add(addr_of_mut!((*histogram).sum), value);
    }
}

/// Counts into an array that only this CPU writes; an index past its end counts into the last place.
///
/// # Safety
/// `counts` is valid, and no other CPU writes it.
#[inline(always)]
pub unsafe fn count<const N: usize>(counts: *mut [u64; N], index: usize) {
    let index = if index >= N { N - 1 } else { index };
    // SAFETY: upheld by the caller, and the index is below the length.
    unsafe { add(counts.cast::<u64>().add(index), 1) };
}

/// Adds to a counter that several CPUs, or a nested event, may write.
///
/// Written as the instruction itself: core has no atomic addition for this target, and the form that returns the old value
/// is missing in kernels before 5.12.
///
/// # Safety
/// `counter` is valid and aligned.
#[inline(always)]
pub unsafe fn add_shared(counter: *mut u64, value: u64) {
    // SAFETY: upheld by the caller.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {value}",
            counter = in(reg) counter,
            value = in(reg) value,
            options(nostack, preserves_flags)
        );
    }
}

/// Counts into an array that several CPUs may write; an index past its end counts into the last place.
///
/// # Safety
/// `counts` is valid.
#[inline(always)]
pub unsafe fn count_shared<const N: usize>(counts: *mut [u64; N], index: usize) {
    let index = if index >= N { N - 1 } else { index };
    // SAFETY: upheld by the caller, and the index is below the length.
    unsafe { add_shared(counts.cast::<u64>().add(index), 1) };
}

/// Records a value in a histogram that several CPUs may write.
///
/// # Safety
/// `histogram` is valid.
#[inline(always)]
pub unsafe fn record_shared(histogram: *mut Histogram, value: u64) {
    // SAFETY: upheld by the caller.
    unsafe {
        count_shared(addr_of_mut!((*histogram).counts), bucket(value));
        add_shared(addr_of_mut!((*histogram).sum), value);
    }
}
