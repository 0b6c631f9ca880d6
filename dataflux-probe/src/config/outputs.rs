//! `[output.NAME]`: which formatter writes for which logger, and what is done when it does not keep up.

mod shaping;

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{
    Fingerprint, Noted, Registries, Section,
    effective::Effective,
    known,
    problem::Problems,
    readers::build,
    values::{Bytes, Time},
};
use crate::{
    health::Settings,
    http,
    loggers::{Logger, claims::collide},
    pipeline::{self, SpoolSync, WhenFull, shape::Entities},
    plugin::{Context, Keep, Plugin},
};

/// As long as the name of a folder may be, and what a segment's header has room for.
const LONGEST_NAME: usize = 255;

/// The keys of `[output.NAME]` itself; the sub-sections belong to its formatter and its logger.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    formatter: String,
    logger: String,
    #[serde(default)]
    envelope: Contents,
    #[serde(default)]
    zeros: Zeros,
    #[serde(default)]
    sources: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    filters: Vec<Spanned<String>>,
    #[serde(default)]
    fields: Option<Vec<String>>,
    #[serde(default)]
    empty_labels: EmptyLabels,
    #[serde(default)]
    entities: Entities,
    #[serde(default)]
    resolution: Option<Time>,
    #[serde(default = "default_queue_bytes")]
    queue_bytes: Bytes,
    #[serde(default)]
    when_full: WhenFull,
    spread: Option<Time>,
    spool_bytes: Option<Bytes>,
    spool_sync: Option<SpoolSync>,
    dead_letter_bytes: Option<Bytes>,
    #[serde(default = "default_enabled")]
    enabled: bool,
}

/// The keys that it knows.
pub(super) fn keys() -> Option<&'static [&'static str]> {
    known::keys::<Output>()
}

/// What the keys are that need not be there, as far as that depends on nothing else; as TOML.
const DEFAULTS: [(&str, &str); 7] = [
    ("empty_labels", "\"keep\""),
    ("enabled", "true"),
    ("entities", "\"both\""),
    ("envelope", "\"combined\""),
    ("queue_bytes", "\"16MiB\""),
    ("when_full", "\"coalesce\""),
    ("zeros", "\"drop\""),
];

/// Less than one small envelope takes.
const SMALLEST_QUEUE: u64 = 4 << 10;
/// A spool has at least this much room: its journal and its reserve take a part.
const SMALLEST_SPOOL: u64 = 1 << 20;
/// And at most this much: places in segments have 32 bits.
const LARGEST_SPOOL: u64 = 64 << 30;

fn default_queue_bytes() -> Bytes {
    Bytes(16 << 20)
}

fn default_enabled() -> bool {
    true
}

/// What one envelope holds.
#[derive(Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Contents {
    #[default]
    Combined,
    PerReader,
}

/// What is done with counters and histograms without change.
#[derive(Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Zeros {
    #[default]
    Drop,
    Keep,
}

/// What is done with labels whose value is empty.
#[derive(Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EmptyLabels {
    #[default]
    Keep,
    Drop,
}

/// What outputs can choose from.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) registries: Registries,
    /// Metric readers that are switched on.
    pub(super) readers: &'a [pipeline::Reader],
    /// How often envelopes leave.
    pub(super) interval: Duration,
    /// Whether there is a place for spools.
    pub(super) has_state_dir: bool,
    /// What else claims a path or a port.
    pub(super) health: &'a Settings,
}

/// Builds the outputs of `[output]`. At least one must run, and no two may write to one place.
pub(super) fn outputs(
    mut group: Section<'_>,
    choice: Choice<'_>,
    context: &Context,
    keep: &mut Vec<Keep>,
    noted: &mut Noted,
    problems: &mut Problems,
) -> Vec<pipeline::Output> {
    let already = problems.len();
    let sections = group.take_sections();
    group.refuse_rest("must be a section", problems);
    let Settings { listen, file } = choice.health;
    let file = file.iter().map(|path| path.display().to_string());
    let health = file.chain(listen.map(http::claim));
    let mut claimed: Vec<_> = health.map(|claim| (claim, "health".to_owned())).collect();
    let mut outputs = Vec::new();
    for (name, section) in sections {
        let output = one(
            &name,
            section.clone(),
            choice,
            context,
            &mut noted.sections,
            problems,
        );
        let Some((output, kept)) = problems.note(output).flatten() else {
            continue;
        };
        let claims = output.logger.claims();
        let is_taken = |taken: &str| claims.iter().any(|claim| collide(claim, taken));
        // One is enough: who shares a file shares its closed ones, too.
        if let Some((claim, other)) = claimed.iter().find(|(claim, _)| is_taken(claim)) {
            let message = format!("{claim} belongs to {other} already");
            problems.push(section.error(None, message));
        }
        claimed.extend(
            claims
                .into_iter()
                .map(|claim| (claim, format!("output.{name}"))),
        );
        keep.extend(kept);
        let print = section.fingerprint();
        let print = Fingerprint {
            whole: print,
            plugin: print,
        };
        noted.prints.insert(section.path().to_owned(), print);
        outputs.push(output);
    }
    if outputs.is_empty() && problems.len() == already {
        let message = "nothing is switched on; add a section like [output.main] with a formatter and a logger";
        problems.push(group.error(None, message));
    }
    outputs
}

/// With what its plugins keep. `None` if it is switched off.
fn one(
    name: &str,
    mut section: Section<'_>,
    choice: Choice<'_>,
    context: &Context,
    in_force: &mut Vec<Effective>,
    problems: &mut Problems,
) -> anyhow::Result<Option<(pipeline::Output, Vec<Keep>)>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || !name.bytes().all(plain) {
        // The name is part of stream ids and of file names.
        return Err(section.error(None, "a name has ASCII letters, digits, `_` and `-` only"));
    }
    if name.len() > LONGEST_NAME {
        let message = format!("a name has at most {LONGEST_NAME} characters");
        return Err(section.error(None, message));
    }
    let whole = section.clone();
    let mut own_sections = section.take_sections();
    let before = problems.len();
    let Some(output) = section.read::<Output>(problems) else {
        return Ok(None);
    };
    let is_known = problems.len() == before;
    if output.queue_bytes.0 < SMALLEST_QUEUE {
        let message = "leaves no room for an envelope: at least 4KiB; the default is 16MiB";
        problems.push(section.error(Some("queue_bytes"), message));
    }
    let mut shape = shaping::shape(&output, &section, choice, problems);
    let context = Context {
        output: name.to_owned(),
        // If that cannot be read, nothing that needs it is wrong.
        per_reader: shape.per_reader || !is_known,
        fields: Arc::new(shaping::fields(&output, &section, choice, problems)),
        ..context.clone()
    };
    let dead_letter_bytes = problems.note(dead_letters(&output, &section, choice.has_state_dir));
    let spool = problems.note(spool(&output, &section, choice.has_state_dir));
    let formatter = find(
        choice.registries.formatters,
        "formatter",
        &output.formatter,
        &section,
    );
    let logger = find(
        choice.registries.loggers,
        "logger",
        &output.logger,
        &section,
    );
    let (formatter, logger) = (problems.note(formatter), problems.note(logger));
    let examples = [
        formatter.map(|plugin| (plugin.name, plugin.example)),
        logger.map(|plugin| (plugin.name, plugin.example)),
    ];
    let examples: Vec<_> = examples.into_iter().flatten().collect();
    let defaults = DEFAULTS.map(|(key, value)| (key, value.to_owned()));
    in_force.push(Effective::new(&whole, &defaults, "", &examples));
    let kept = [
        formatter.map(|plugin| plugin.needs.keep),
        logger.map(|plugin| plugin.needs.keep),
    ];
    let mut own = |name: &str| match own_sections.iter().position(|(own, _)| own == name) {
        Some(index) => own_sections.remove(index).1,
        None => section.empty(name),
    };
    let (formatter, logger) = match (formatter, logger) {
        // Of one name they share a section, and each gets what is not the other's alone.
        (Some(formatter), Some(logger)) if formatter.name == logger.name => {
            let both = own(formatter.name);
            let part = both.without(formatter.keys_beside(logger));
            let formatter_built = problems.note(build(formatter, &part, &context));
            let part = both.without(logger.keys_beside(formatter));
            // What is unknown to both is told once.
            let logger_built = formatter_built
                .as_ref()
                .and_then(|_| problems.note(build(logger, &part, &context)));
            (formatter_built, logger_built)
        }
        (formatter, logger) => (
            formatter.and_then(|plugin| problems.note(build(plugin, &own(plugin.name), &context))),
            logger.and_then(|plugin| problems.note(build(plugin, &own(plugin.name), &context))),
        ),
    };
    let known = [&output.formatter, &output.logger];
    for (_, unknown) in own_sections.iter().filter(|(own, _)| !known.contains(&own)) {
        let message = format!("unknown section; known: {}, {}", known[0], known[1]);
        problems.push(unknown.error(None, message));
    }
    let (Some(formatter), Some(logger), true) = (formatter, logger, output.enabled) else {
        return Ok(None);
    };
    let spread = problems.note(spread(&output, &section, &*logger, choice.interval));
    let totals = formatter.writes_totals() || logger.is_fetched();
    if totals {
        refuse_delivery(&output, &section, problems);
        // What is not among them has ended.
        shape.keep_zeros = true;
    }
    let output = pipeline::Output {
        name: context.output,
        formatter,
        logger,
        opened: false,
        shape: Arc::new(shape),
        entities: output.entities,
        totals,
        resolution: output.resolution.map(|resolution| resolution.0),
        queue_bytes: output.queue_bytes.0,
        when_full: output.when_full,
        spool: spool.flatten(),
        dead_letter_bytes: dead_letter_bytes.flatten(),
        spread: spread.unwrap_or_default(),
    };
    let kept = kept.into_iter().flatten().flatten().copied().collect();
    Ok(Some((output, kept)))
}

/// Every key about single windows on their way: totals hold them all, so none is kept or sent by itself.
fn refuse_delivery(output: &Output, section: &Section<'_>, problems: &mut Problems) {
    let given = [
        ("envelope", output.envelope != Contents::default()),
        ("resolution", output.resolution.is_some()),
        ("when_full", output.when_full != WhenFull::default()),
        ("spread", output.spread.is_some()),
        ("spool_bytes", output.spool_bytes.is_some()),
        ("spool_sync", output.spool_sync.is_some()),
        ("dead_letter_bytes", output.dead_letter_bytes.is_some()),
    ];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        let message = "has no use here: this output tells totals, so what is not delivered is in what comes next";
        problems.push(section.error(Some(key), message));
    }
}

/// The bound of what keeps rejected records, if they are to be kept.
fn dead_letters(
    output: &Output,
    section: &Section<'_>,
    has_state_dir: bool,
) -> anyhow::Result<Option<u64>> {
    let key = Some("dead_letter_bytes");
    match output.dead_letter_bytes {
        None => Ok(None),
        Some(Bytes(bytes)) if bytes < SMALLEST_SPOOL => {
            Err(section.error(key, "must be at least 1MiB"))
        }
        Some(_) if !has_state_dir => {
            Err(section.error(key, "needs a folder to be in: set state_dir in [probe]"))
        }
        Some(Bytes(bytes)) => Ok(Some(bytes)),
    }
}

/// A tenth of the interval, if others deliver to the same place and nothing else is said.
fn spread(
    output: &Output,
    section: &Section<'_>,
    logger: &dyn Logger,
    interval: Duration,
) -> anyhow::Result<Duration> {
    match output.spread {
        Some(Time(spread)) if spread >= interval => {
            let interval = humantime::format_duration(interval);
            let message = format!("must be less than the interval, {interval}");
            Err(section.error(Some("spread"), message))
        }
        Some(Time(spread)) => Ok(spread),
        None if logger.is_shared() => Ok(interval / 10),
        None => Ok(Duration::ZERO),
    }
}

/// The spool, if there is to be one.
fn spool(
    output: &Output,
    section: &Section<'_>,
    has_state_dir: bool,
) -> anyhow::Result<Option<pipeline::Spooling>> {
    let Some(Bytes(bytes)) = output.spool_bytes else {
        return match output.spool_sync {
            Some(_) if !section.has("spool_bytes") => {
                let message = "needs a spool: set spool_bytes in this output";
                Err(section.error(Some("spool_sync"), message))
            }
            _ => Ok(None),
        };
    };
    let wrong = |message: &str| Err(section.error(Some("spool_bytes"), message));
    if !(SMALLEST_SPOOL..=LARGEST_SPOOL).contains(&bytes) {
        return wrong(
            "a spool has between 1MiB and 64GiB; without this key the queue is in memory",
        );
    }
    if !has_state_dir {
        return wrong("needs a folder to be in: set state_dir in [probe]");
    }
    Ok(Some(pipeline::Spooling {
        bytes,
        sync: output.spool_sync.unwrap_or_default(),
    }))
}

fn find<T: ?Sized>(
    registry: &'static [&'static Plugin<T>],
    what: &str,
    name: &str,
    section: &Section<'_>,
) -> anyhow::Result<&'static Plugin<T>> {
    let found = registry.iter().find(|plugin| plugin.name == name);
    found.copied().ok_or_else(|| {
        let known: Vec<_> = registry.iter().map(|plugin| plugin.name).collect();
        let message = format!("unknown plugin `{name}`; known: {}", known.join(", "));
        section.error(Some(what), message)
    })
}

#[cfg(test)]
mod tests;
