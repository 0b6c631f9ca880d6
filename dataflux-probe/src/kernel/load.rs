//! Loading one reader's object and attaching its programs, each with an outcome of its own.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{MapError, MapType},
    programs::{BtfTracePoint, ProgramError},
    sys::{SyscallError, is_map_supported},
};
use aya_log::EbpfLogger;
use dataflux_common::{
    kernel_fields::{ABSENT, KernelField},
    limits::DIAGNOSTICS_BYTES,
    shared::Shared,
};

use super::{Kernel, KernelTypes, cost, drain::MappedArray, globals, objects};
use crate::{
    metrics::AttachError,
    model::{Health, MetricDef, Snapshot, Status},
    pipeline::counters::Counters,
    plugin::Capability,
};

/// What a reader asks to be loaded.
pub struct Object {
    /// The reader's name, which is that of the object.
    pub reader: &'static str,
    /// The facts its programs need, in the order of its `FIELDS`.
    pub fields: &'static [KernelField],
    /// Its programs.
    pub programs: &'static [Program],
    /// Programs that this configuration or machine does not want.
    pub unwanted: &'static [&'static str],
    /// Frozen constants beside `FIELDS`.
    pub constants: Vec<(&'static str, u32)>,
    /// Maps whose number of entries depends on the machine.
    pub max_entries: Vec<(&'static str, u32)>,
}

/// One program of an object.
pub struct Program {
    /// Its function in the object.
    pub name: &'static str,
    /// The tracepoint it runs on.
    pub tracepoint: &'static str,
    /// The facts it cannot do without, by index.
    pub fields: &'static [usize],
    /// Facts that stand in for each other: of each group it needs one, and none may be there in an unusable form.
    pub either: &'static [&'static [usize]],
    /// The metrics that are wrong or missing without it.
    pub metrics: &'static [&'static MetricDef],
}

/// How a program fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It runs.
    Ok,
    /// The kernel lacks this.
    Unsupported(String),
    /// This privilege is missing.
    Denied(Capability),
    /// It should have worked: the error, with the verifier's last lines.
    Failed(String),
}

impl Outcome {
    /// As a status with its reason.
    #[must_use]
    pub fn health(&self) -> Health {
        match self {
            Self::Ok => Health::default(),
            Self::Unsupported(what) => Health::new(Status::Unsupported, what.as_str()),
            Self::Denied(capability) => {
                Health::new(Status::Denied, format!("needs {}", capability.name()))
            }
            Self::Failed(why) => Health::new(Status::Failed, why.as_str()),
        }
    }
}

/// A reader's object in the kernel. Dropping it detaches its programs.
pub struct Loaded {
    ebpf: Ebpf,
    diagnostics: Option<EbpfLogger<&'static dyn log::Log>>,
    programs: Vec<(&'static Program, Outcome)>,
    /// Of the programs that run.
    running: Vec<Arc<OwnedFd>>,
    health: Health,
}

impl Kernel {
    /// Loads a reader's object and attaches what can be attached. Records the outcome of every program.
    ///
    /// # Errors
    /// None of the programs works; the first of their outcomes says why.
    pub fn load(&self, object: &Object) -> Result<Loaded, AttachError> {
        let attempt = || {
            let types = self.types()?;
            let fields = Fields::resolve(types, object.fields);
            let ebpf = load_object(&mut types.loader.borrow_mut(), object, &fields.values)?;
            Ok((types, fields, ebpf))
        };
        let (types, fields, mut ebpf) = attempt().map_err(|outcome: Outcome| {
            for program in object.programs {
                self.record(object.reader, program.name, &outcome);
            }
            outcome.into_error()
        })?;
        let wanted = object
            .programs
            .iter()
            .filter(|program| !object.unwanted.contains(&program.name));
        let programs: Vec<_> = wanted
            .map(|program| {
                let outcome = match fields.lacking(program) {
                    Some(reason) => Outcome::Unsupported(reason),
                    None => attach(&mut ebpf, types, program)
                        .err()
                        .unwrap_or(Outcome::Ok),
                };
                self.record(object.reader, program.name, &outcome);
                (program, outcome)
            })
            .collect();
        // One that has no metrics of its own only helps the others.
        let measures = |(program, outcome): &(&Program, Outcome)| {
            *outcome == Outcome::Ok && !program.metrics.is_empty()
        };
        if !programs.iter().any(measures)
            && let Some((_, outcome)) = programs.iter().find(|(_, outcome)| *outcome != Outcome::Ok)
        {
            return Err(outcome.clone().into_error());
        }
        let health = roll_up(&programs);
        let diagnostics = EbpfLogger::init(&mut ebpf)
            .inspect_err(|error| {
                tracing::warn!("{}: its programs cannot be heard: {error}", object.reader)
            })
            .ok();
        cost::publish(&ebpf, &self.counters);
        Ok(Loaded {
            running: cost::register(&ebpf, object.reader, &programs, &self.counters),
            ebpf,
            diagnostics,
            programs,
            health,
        })
    }
}

fn load_object(
    loader: &mut EbpfLoader<'static>,
    object: &Object,
    fields: &[u32],
) -> Result<Ebpf, Outcome> {
    let embedded = objects::OBJECTS
        .iter()
        .find(|(name, _)| *name == object.reader);
    let Some((_, bytes)) = embedded else {
        let why =
            "this probe was built without kernel objects; build them with `cargo xtask build-ebpf`";
        return Err(Outcome::Unsupported(why.into()));
    };
    let constants = object.constants.iter();
    let globals: Vec<_> = constants
        .map(|(name, value)| (*name, std::slice::from_ref(value)))
        .chain([("FIELDS", fields)])
        .collect();
    let bytes =
        globals::set(bytes, &globals).map_err(|error| Outcome::Failed(format!("{error:#}")))?;
    // The loader keeps them for the next object, which sets those of its own.
    for (name, entries) in &object.max_entries {
        loader.map_max_entries(name, *entries);
    }
    loader.map_max_entries("AYA_LOGS", DIAGNOSTICS_BYTES as u32);
    loader.load(&bytes).map_err(|error| match &error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => {
            failure(Some(io_error), lacking_for_maps(), &error)
        }
        _ => failure(None, Capability::Bpf, &error),
    })
}

/// The facts of one object on this kernel.
struct Fields {
    table: &'static [KernelField],
    values: Vec<u32>,
    /// Why a fact is absent, where the kernel has it in an unusable form.
    unusable: BTreeMap<usize, String>,
}

impl Fields {
    fn resolve(types: &KernelTypes, table: &'static [KernelField]) -> Self {
        let mut unusable = BTreeMap::new();
        let values = table
            .iter()
            .enumerate()
            .map(|(index, field)| match types.own.resolve(field) {
                Ok(found) => found.unwrap_or(ABSENT),
                Err(error) => {
                    unusable.insert(index, error.to_string());
                    ABSENT
                }
            })
            .collect();
        Self {
            table,
            values,
            unusable,
        }
    }

    /// What a program needs and this kernel lacks.
    fn lacking(&self, program: &Program) -> Option<String> {
        let absent = |index: &usize| self.values[*index] == ABSENT;
        let single = program.fields.chunks(1);
        let mut groups = single.chain(program.either.iter().copied());
        groups.find_map(|group| {
            let unusable = group.iter().find_map(|index| self.unusable.get(index));
            let names = || group.iter().map(|index| self.table[*index].to_string());
            let lacks = || {
                format!(
                    "this kernel has no {}",
                    names().collect::<Vec<_>>().join(" or ")
                )
            };
            unusable
                .cloned()
                .or_else(|| group.iter().all(absent).then(lacks))
        })
    }
}

fn attach(ebpf: &mut Ebpf, types: &KernelTypes, program: &Program) -> Result<(), Outcome> {
    match types.own.has_tracepoint(program.tracepoint) {
        Ok(true) => {}
        Ok(false) => {
            return Err(Outcome::Unsupported(format!(
                "this kernel has no tracepoint {}",
                program.tracepoint
            )));
        }
        Err(error) => return Err(Outcome::Failed(error.to_string())),
    }
    let missing = || Outcome::Failed(format!("the object has no program {}", program.name));
    let found: &mut BtfTracePoint = ebpf
        .program_mut(program.name)
        .ok_or_else(missing)?
        .try_into()
        .map_err(|_| missing())?;
    found
        .load(program.tracepoint, &types.aya)
        .map_err(|error| match &error {
            // The verifier says why it refuses; a missing privilege leaves its log empty.
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } if verifier_log.to_string().trim().is_empty() => {
                failure(Some(io_error), Capability::Perfmon, &error)
            }
            _ => failure(None, Capability::Perfmon, &error),
        })?;
    found.attach().map(|_| ()).map_err(|error| match &error {
        ProgramError::SyscallError(SyscallError { io_error, .. }) => {
            failure(Some(io_error), Capability::Perfmon, &error)
        }
        _ => failure(None, Capability::Perfmon, &error),
    })
}

/// What is missing where a map is refused. Kernels that charge maps to the limit of locked memory refuse one that exceeds it
/// as they refuse one without the privilege; then a map of one byte is still possible.
fn lacking_for_maps() -> Capability {
    match is_map_supported(MapType::Array) {
        Ok(true) => Capability::SysResource,
        Ok(false) | Err(_) => Capability::Bpf,
    }
}

/// Tells a missing privilege from everything else. Of a verifier's log only the last lines say what is wrong.
fn failure(
    cause: Option<&io::Error>,
    needed: Capability,
    error: &dyn std::error::Error,
) -> Outcome {
    if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied) {
        return Outcome::Denied(needed);
    }
    let text = error.to_string();
    // The verifier ends with what it cost; before that stands what it objects to.
    let cost = ["processed ", "verification time ", "stack depth "];
    let told = |line: &&str| !line.is_empty() && !cost.iter().any(|cost| line.starts_with(cost));
    let lines: Vec<_> = text.lines().map(str::trim).filter(told).collect();
    let (first, rest) = lines.split_first().unwrap_or((&"", &[]));
    let last = &rest[rest.len().saturating_sub(VERIFIER_LINES)..];
    Outcome::Failed([&[*first], last].concat().join(" | "))
}

/// How many of the verifier's last lines an outcome carries.
const VERIFIER_LINES: usize = 3;

/// The health of a reader of which at least one program works.
fn roll_up(programs: &[(&'static Program, Outcome)]) -> Health {
    let broken = |outcome: &Outcome| matches!(outcome, Outcome::Denied(_) | Outcome::Failed(_));
    let reasons: Vec<_> = programs
        .iter()
        .filter(|(_, outcome)| broken(outcome))
        .map(|(program, outcome)| format!("{} {}", program.name, outcome.health()))
        .collect();
    if reasons.is_empty() {
        Health::default()
    } else {
        Health::new(Status::Degraded, reasons.join(", "))
    }
}

impl Outcome {
    fn into_error(self) -> AttachError {
        match self {
            Self::Unsupported(what) => AttachError::Unsupported(what),
            Self::Denied(capability) => AttachError::Denied(capability),
            Self::Failed(why) => AttachError::Failed(anyhow::anyhow!(why)),
            Self::Ok => unreachable!("only outcomes of programs that do not run become errors"),
        }
    }
}

impl Loaded {
    /// Maps one of the object's arrays into the probe.
    ///
    /// # Errors
    /// The object has no such array of `T`.
    pub fn map<T: Shared>(
        &mut self,
        name: &str,
        counters: &Counters,
    ) -> Result<MappedArray<T>, AttachError> {
        let map = self.ebpf.take_map(name);
        let mapped = map
            .ok_or_else(|| anyhow::anyhow!("no such map"))
            .and_then(MappedArray::new);
        let mapped =
            mapped.map_err(|error| AttachError::Failed(error.context(format!("map {name}"))))?;
        counters.mapped_bytes.add(mapped.bytes() as u64);
        Ok(mapped)
    }

    /// Whether every program that a metric needs runs.
    #[must_use]
    pub fn gives(&self, metric: &'static MetricDef) -> bool {
        self.programs.iter().all(|(program, outcome)| {
            *outcome == Outcome::Ok
                || !program
                    .metrics
                    .iter()
                    .any(|needed| std::ptr::eq(*needed, metric))
        })
    }

    /// Passes on what the programs had to say, and states health, unsupported metrics and events that the kernel skipped
    /// because the same program was already running on that CPU.
    pub fn report(&mut self, out: &mut Snapshot) {
        if let Some(diagnostics) = &mut self.diagnostics {
            diagnostics.flush();
        }
        out.health = self.health.clone();
        for (program, outcome) in &self.programs {
            if *outcome != Outcome::Ok {
                out.unsupported.extend(program.metrics);
            }
        }
        out.lost += self.skipped();
    }

    /// Events that the kernel skipped because the same program was already running on that CPU (counted since 5.12).
    fn skipped(&self) -> u64 {
        let statistics = self.running.iter();
        statistics
            .map(|program| cost::ProgramStatistics::read(program.as_fd()).recursion_misses)
            .sum()
    }
}
