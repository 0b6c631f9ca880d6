//! The start that `run`, `once` and `doctor` share: readers attach on the main thread, and one line sums it up.

use std::{path::Path, sync::Arc};

use crate::{
    config::{Config, Invalid, Registries, Setting},
    kernel::{Kernel, ProgramOutcome, load::Outcome, objects},
    metrics::AttachError,
    model::{Health, Status},
    pipeline::Reader,
    plugin::Context,
    privileges::{self, FileLock, Plan},
};

/// Attaches every reader and says in one line how that went.
pub(super) fn attach(readers: &mut [Reader], context: &Context) {
    if objects::OBJECTS.is_empty() {
        tracing::warn!(
            "built without kernel objects, so only /proc is read: run `cargo xtask build-ebpf` and build again"
        );
    }
    let programs = attach_all(readers.iter_mut(), context);
    let fared: Vec<_> = readers
        .iter()
        .map(|reader| (reader.name, fared(reader, &programs)))
        .collect();
    if fared.iter().all(|(_, health)| health.status == Status::Ok) {
        tracing::info!("{}", summary(&fared));
    } else {
        tracing::warn!("{}", summary(&fared));
    }
}

/// Attaches every reader; one that cannot is left out of the reads, and every envelope says why. Gives how each program
/// fared. What was read of the kernel's types, some megabytes, is gone when it returns.
pub(super) fn attach_all<'a>(
    readers: impl Iterator<Item = &'a mut Reader>,
    context: &Context,
) -> Vec<ProgramOutcome> {
    let kernel = Kernel::new(context.roots.clone(), Arc::clone(&context.counters));
    for reader in readers {
        let attached = reader.reader.attach(&kernel);
        reader.attached = attached.map_or_else(health, |()| Health::default());
    }
    kernel.outcomes()
}

/// Gives up the privileges that the plan does without, and says in one line what is in force. Whatever cannot be given up is
/// told; the probe measures all the same. Gives what is in force for files, if anything is.
pub(super) fn give_up(plan: &Plan) -> Option<FileLock> {
    match privileges::give_up(plan) {
        Ok(restricted) => {
            tracing::info!("from here on: {restricted}");
            for lacking in restricted.lacking() {
                tracing::info!("{lacking}");
            }
            for problem in restricted.problems() {
                tracing::warn!("{problem}");
            }
            restricted.files.ok()
        }
        Err(error) => {
            tracing::warn!("going on with all privileges: {error:#}");
            None
        }
    }
}

/// A configuration of all readers of this machine, with one output that has this formatter.
pub(super) fn everything(formatter: &str, settings: &[Setting]) -> Result<Config, Invalid> {
    let registries = Registries::BUILT_IN;
    let metadata = registries
        .metadata
        .iter()
        // It asks a service outside of the machine, which nobody wants who has not said so.
        .filter(|plugin| plugin.name != "cloud")
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
    Config::parse_with(Path::new("everything"), text, settings, registries)
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

/// A reader's health, with what became of its programs.
pub(super) fn fared(reader: &Reader, programs: &[ProgramOutcome]) -> Health {
    if reader.attached.status != Status::Ok {
        return reader.attached.clone();
    }
    let own: Vec<_> = programs
        .iter()
        .filter(|program| program.reader == reader.name)
        .collect();
    let (works, rest): (Vec<_>, Vec<_>) = own
        .into_iter()
        .partition(|program| program.outcome == Outcome::Ok);
    let broken = rest
        .iter()
        .any(|program| !matches!(program.outcome, Outcome::Unsupported(_)));
    let status = if broken { Status::Degraded } else { Status::Ok };
    let mut reasons: Vec<_> = rest
        .iter()
        .map(|program| format!("{} {}", program.program, program.outcome.health()))
        .collect();
    match works.len() {
        0 => {}
        1 => reasons.insert(0, "1 program".to_owned()),
        count => reasons.insert(0, format!("{count} programs")),
    }
    Health::new(status, reasons.join(", "))
}

/// `cpu, memory ok; scheduler ok (7 programs)`: readers that fared alike stand together.
fn summary(fared: &[(&str, Health)]) -> String {
    let mut groups: Vec<(&Health, Vec<&str>)> = Vec::new();
    for (name, health) in fared {
        match groups.iter_mut().find(|(known, _)| *known == health) {
            Some((_, names)) => names.push(name),
            None => groups.push((health, vec![name])),
        }
    }
    groups.sort_by_key(|(health, _)| health.status);
    let groups = groups
        .iter()
        .map(|(health, names)| format!("{} {health}", names.join(", ")));
    groups.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::Kernel, metrics::MetricReader, model::Snapshot, pipeline::selection::Rules,
        plugin::Capability,
    };

    /// Fails to attach with this, if anything.
    struct Fake(Option<AttachError>);

    impl MetricReader for Fake {
        fn attach(&mut self, _: &Kernel) -> Result<(), AttachError> {
            self.0.take().map_or(Ok(()), Err)
        }

        fn read(&mut self, _: &mut Snapshot) -> anyhow::Result<()> {
            Ok(())
        }
    }

    fn reader(name: &'static str, error: Option<AttachError>) -> Reader {
        Reader {
            name,
            interval: std::time::Duration::from_secs(1),
            metrics: &[],
            labels: Arc::default(),
            selection: Rules::default(),
            attached: Health::default(),
            reader: Box::new(Fake(error)),
        }
    }

    fn outcome(program: &'static str, outcome: Outcome) -> ProgramOutcome {
        ProgramOutcome {
            reader: "network",
            program,
            outcome,
        }
    }

    #[test]
    fn everything_asks_nobody_outside_of_the_machine() {
        let everything = everything("text", &[]).unwrap_or_else(|error| panic!("{error}"));
        let named: Vec<_> = everything.metadata.iter().map(|one| one.name).collect();
        let registries = Registries::BUILT_IN;
        let mut known: Vec<_> = registries.metadata.iter().map(|one| one.name).collect();
        known.retain(|name| *name != "cloud");
        assert_eq!(named, known);
        assert_eq!(everything.readers.len(), registries.metrics.len());
    }

    #[test]
    fn readers_that_fared_alike_stand_together_and_the_worst_last() {
        let mut readers = [
            reader("block_io", Some(AttachError::Denied(Capability::Bpf))),
            reader("cpu", None),
            reader(
                "exotic",
                Some(AttachError::Unsupported("no such hook".into())),
            ),
            reader("memory", None),
            reader("scheduler", Some(AttachError::Denied(Capability::Bpf))),
        ];
        let everything = everything("json", &[]).unwrap_or_else(|error| panic!("{error}"));
        attach_all(readers.iter_mut(), &everything.context);
        let fared: Vec<_> = readers
            .iter()
            .map(|reader| (reader.name, fared(reader, &[])))
            .collect();
        assert_eq!(
            summary(&fared),
            "cpu, memory ok; exotic unsupported (no such hook); block_io, scheduler denied (needs CAP_BPF)"
        );
    }

    #[test]
    fn what_became_of_the_programs_is_told() {
        let told =
            |outcomes: &[ProgramOutcome]| fared(&reader("network", None), outcomes).to_string();
        let [received, sent] = ["received", "sent"].map(|program| outcome(program, Outcome::Ok));
        assert_eq!(told(&[received.clone(), sent.clone()]), "ok (2 programs)");
        let dropped = outcome("dropped", Outcome::Unsupported("no reason".into()));
        assert_eq!(
            told(&[received, dropped]),
            "ok (1 program, dropped unsupported (no reason))"
        );
        let dropped = outcome("dropped", Outcome::Failed("verifier".into()));
        assert_eq!(
            told(&[sent, dropped]),
            "degraded (1 program, dropped failed (verifier))"
        );
    }
}
