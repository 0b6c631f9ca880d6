//! The real binary on real configurations, without root but for containers.

mod commands;
mod config_errors;
mod config_texts;
mod container;
mod deploy;
mod diagnostics;
mod file_logger;
mod formats;
mod grid;
mod health;
mod kills;
mod labels;
mod outputs;
mod registry;
mod reload;
mod resolution;
mod restart;
mod rolling;
mod roots;
mod shutdown;
mod spool_command;
mod spool_folder;
mod tidy;
mod trusted_tools_host;
mod trusted_tools_process;
