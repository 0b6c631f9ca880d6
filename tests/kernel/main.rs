//! Real programs on the running kernel, against independent counters. Needs root.

mod block_io;
mod harness;
mod hidden;
mod network;
mod scheduler;
