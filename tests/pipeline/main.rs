//! The real binary on real configurations, without root.

mod commands;
mod config_errors;
mod registry;
mod tidy;
