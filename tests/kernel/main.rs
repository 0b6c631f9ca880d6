//! Real programs on the running kernel, against independent counters, and disks that fail. Needs root.
#![expect(
    clippy::print_stdout,
    reason = "the tests say what they measured, repeated or skipped"
)]

mod accounting;
mod block_io;
mod cgroup_work;
mod cgroups;
mod cpus;
mod diagnostics;
mod group;
mod hardware;
mod harness;
mod hidden;
mod interfaces;
mod lacking;
mod lifecycle;
mod listing;
mod loop_device;
mod lost;
mod netem;
mod network;
mod null_block;
mod pids;
mod privileges;
mod scheduler;
mod spool_disk;
mod tasks;
mod verifier;
mod verifier_log;
