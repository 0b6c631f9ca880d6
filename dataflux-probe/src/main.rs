//! `dataflux-probe`: reads kernel and host metrics and delivers them as envelopes.

fn main() {}
