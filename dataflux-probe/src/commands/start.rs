//! The start that `run`, `once` and `doctor` share: readers attach on the main thread, and one line sums it up.

use std::path::Path;

use crate::{
    config::{Config, Invalid, Registries},
    kernel::{Kernel, objects},
    metrics::AttachError,
    model::{Health, Status},
    pipeline::Reader,
};

/// Attaches every reader and says in one line how that went.
pub(super) fn attach(readers: &mut [Reader], kernel: &Kernel) {
    if objects::OBJECTS.is_empty() {
        tracing::warn!(
            "built without kernel objects, so only /proc is read: run `cargo xtask build-ebpf` and build again"
        );
    }
    attach_all(readers, kernel);
    if readers
        .iter()
        .all(|reader| reader.attached.status == Status::Ok)
    {
        tracing::info!("{}", summary(readers));
    } else {
        tracing::warn!("{}", summary(readers));
    }
}

/// Attaches every reader; one that cannot is left out of the reads, and every envelope says why.
pub(super) fn attach_all(readers: &mut [Reader], kernel: &Kernel) {
    for reader in readers {
        let attached = reader.reader.attach(kernel);
        reader.attached = attached.map_or_else(health, |()| Health::default());
    }
}

/// A configuration of all readers, with one output that has this formatter.
pub(super) fn everything(formatter: &str) -> Result<Config, Invalid> {
    let registries = Registries::BUILT_IN;
    let metadata = registries
        .metadata
        .iter()
        .map(|plugin| ("metadata", plugin.name));
    let metrics = registries
        .metrics
        .iter()
        .map(|plugin| ("metrics", plugin.name));
    let mut text = String::new();
    for (group, name) in metadata.chain(metrics) {
        text.push_str(&format!("[{group}.{name}]\n"));
    }
    text.push_str(&format!(
        "[output.once]\nformatter = \"{formatter}\"\nlogger = \"stdout\"\n"
    ));
    Config::parse(Path::new("everything"), text, registries)
}

fn health(error: AttachError) -> Health {
    let status = match &error {
        AttachError::Unsupported(_) => Status::Unsupported,
        AttachError::Denied(_) => Status::Denied,
        AttachError::Failed(_) => Status::Failed,
    };
    let reason = match error {
        AttachError::Unsupported(reason) => reason,
        error => error.to_string(),
    };
    Health::new(status, reason)
}

/// `cpu, memory ok; block_io, scheduler denied (needs CAP_BPF)`: readers that fared alike stand together.
fn summary(readers: &[Reader]) -> String {
    let mut groups: Vec<(&Health, Vec<&str>)> = Vec::new();
    for reader in readers {
        match groups
            .iter_mut()
            .find(|(health, _)| **health == reader.attached)
        {
            Some((_, names)) => names.push(reader.name),
            None => groups.push((&reader.attached, vec![reader.name])),
        }
    }
    groups.sort_by_key(|(health, _)| health.status);
    let groups = groups
        .iter()
        .map(|(health, names)| format!("{} {health}", names.join(", ")));
    groups.collect::<Vec<_>>().join("; ")
}
