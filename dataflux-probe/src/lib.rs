//! The userspace of DataFlux Probe. The order of the modules is the reading order: the data path first.

pub mod model;
pub mod metrics;
pub mod metadata;
pub mod pipeline;
pub mod formatters;
pub mod loggers;
pub mod health;
mod http;
pub mod kernel;
pub mod privileges;
mod host_file;
mod raw_name;
mod cgroups;
mod mounts;
mod question;
pub mod histogram;
pub mod plugin;
pub mod config;
pub mod diagnostics;
pub mod commands;
