//! The probe against a real Kafka, read by consumers that are not ours. `cargo xtask soak` runs the long ones.
#![expect(
    clippy::print_stdout,
    reason = "the tests say what they measured, repeated or skipped"
)]

mod cluster;
mod consume;
mod delivery;
mod disk;
mod faults;
mod kills;
mod operators;
mod proxy;
mod security;
mod silence;
mod soak;
