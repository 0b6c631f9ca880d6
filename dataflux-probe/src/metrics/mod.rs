//! Metric readers: what is measured.

mod block_io;
mod cgroup;
mod clock;
mod cpu;
mod disk;
mod hwmon;
mod interface;
mod limits;
mod load;
mod memory;
mod network;
mod network_stack;
mod power;
mod pressure;
mod probe;
mod process;
mod scheduler;
mod temperature;
mod vm;

use crate::{
    kernel::Kernel,
    model::Snapshot,
    plugin::{Capability, Plugin},
};

pub(crate) use network::host_namespace;

/// Measures one thing.
pub trait MetricReader: Send {
    /// Loads programs and attaches them. Called once, on the main thread, before privileges are given up. Readers of
    /// `/proc` keep the default.
    fn attach(&mut self, _kernel: &Kernel) -> Result<(), AttachError> {
        Ok(())
    }

    /// Whether its series belong to entities, so that its section may choose among them.
    fn has_entities(&self) -> bool {
        false
    }

    /// Appends the current cumulative value of every series. Runs off the async threads, never beside itself.
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()>;
}

/// Why a reader could not attach.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// This machine lacks what it needs: run without, say so once.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A privilege is missing.
    #[error("needs {}", .0.name())]
    Denied(Capability),
    /// It should have worked.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Every metric reader, alphabetical. Add yours here.
pub const REGISTRY: &[&Plugin<dyn MetricReader>] = &[
    &block_io::PLUGIN,
    &cgroup::PLUGIN,
    &clock::PLUGIN,
    &cpu::PLUGIN,
    &disk::PLUGIN,
    &interface::PLUGIN,
    &limits::PLUGIN,
    &load::PLUGIN,
    &memory::PLUGIN,
    &network::PLUGIN,
    &network_stack::PLUGIN,
    &power::PLUGIN,
    &pressure::PLUGIN,
    &probe::PLUGIN,
    &process::PLUGIN,
    &scheduler::PLUGIN,
    &temperature::PLUGIN,
    &vm::PLUGIN,
];
