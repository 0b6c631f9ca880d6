//! What crosses the kernel boundary: shared structs, limits, the histogram buckets and the kernel fields that programs read.
//!
//! Compiled twice, for the kernel's virtual machine and for userspace, so that neither side can drift from the other.

#![no_std]

pub mod block_io;
pub mod histogram;
pub mod kernel_fields;
pub mod limits;
pub mod network;
pub mod scheduler;
pub mod shared;
