//! The real binary on real configurations, without root.
