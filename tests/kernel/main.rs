//! Real programs on the running kernel, against independent counters. Needs root.

mod harness;
mod scheduler;
