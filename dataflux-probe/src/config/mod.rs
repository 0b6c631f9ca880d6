//! The configuration file: what runs, and the values with units in it.

mod text;
pub mod section;
pub mod values;
pub mod variables;
pub(crate) mod secrets;
mod effective;
mod gather;
mod health;
mod known;
mod outputs;
pub(crate) mod places;
mod problem;
mod readers;
mod reading;
mod settings;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize;

use crate::{
    formatters::{self, Formatter},
    health::Settings,
    loggers::{self, Logger},
    metadata::{self, MetadataReader},
    metrics::{self, MetricReader},
    model::WallTime,
    pipeline,
    plugin::{Context, Keep, Plugin, Roots},
};
use outputs::Choice;
use reading::Kinds;
use text::File;
use values::Time;
use variables::Environment;

pub use effective::Effective;
pub use problem::Invalid;
pub(crate) use problem::Problems;
pub use section::Section;
pub use settings::Setting;

/// The plugins that a configuration can name.
#[derive(Clone, Copy)]
pub struct Registries {
    /// What `[metadata.*]` can be.
    pub metadata: &'static [&'static Plugin<dyn MetadataReader>],
    /// What `[metrics.*]` can be.
    pub metrics: &'static [&'static Plugin<dyn MetricReader>],
    /// What `formatter` can be.
    pub formatters: &'static [&'static Plugin<dyn Formatter>],
    /// What `logger` can be.
    pub loggers: &'static [&'static Plugin<dyn Logger>],
}

impl Registries {
    /// The plugins of this program.
    pub const BUILT_IN: Self = Self {
        metadata: metadata::REGISTRY,
        metrics: metrics::REGISTRY,
        formatters: formatters::REGISTRY,
        loggers: loggers::REGISTRY,
    };
}

/// A valid configuration, with all its plugins built. Nothing is attached or open yet.
pub struct Config {
    /// How often envelopes leave: the shortest interval in use, which all others are multiples of.
    pub interval: Duration,
    /// Where to keep what must outlive the process.
    pub state_dir: Option<PathBuf>,
    /// How long outputs may go on delivering after the last read.
    pub drain: Duration,
    /// Who is told whether the probe works.
    pub health: Settings,
    /// What all plugins were built with.
    pub context: Context,
    /// Metadata readers.
    pub metadata: Vec<pipeline::Metadata>,
    /// Metric readers; none is attached.
    pub readers: Vec<pipeline::Reader>,
    /// Outputs; none is open.
    pub outputs: Vec<pipeline::Output>,
    /// What all these plugins go on doing that would otherwise be refused.
    pub keep: Vec<Keep>,
    /// What the section of each of these plugins and outputs says, by its path.
    pub fingerprints: Fingerprints,
    /// The sections that this came from: what is in force of each, also of those that are switched off.
    pub sections: Vec<Effective>,
    /// The files and folders that were read for it.
    pub paths: Vec<PathBuf>,
}

/// What sections say, for comparing two configurations, by their paths: `metrics.cpu`.
pub type Fingerprints = BTreeMap<String, Fingerprint>;

/// What sections came to.
#[derive(Default)]
struct Noted {
    prints: Fingerprints,
    sections: Vec<Effective>,
}

/// What a section says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// All of it, with the interval that it has or inherits.
    pub whole: u64,
    /// What the plugin was built from: of a reader without the keys that all readers have.
    pub plugin: u64,
}

/// `[probe]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Probe {
    interval: Time,
    state_dir: Option<PathBuf>,
    drain: Time,
    proc: PathBuf,
    sys: PathBuf,
    root: PathBuf,
}

impl Default for Probe {
    fn default() -> Self {
        let Roots { proc, sys, root } = Roots::default();
        Self {
            interval: Time(Duration::from_secs(10)),
            state_dir: None,
            drain: Time(Duration::from_secs(5)),
            proc,
            sys,
            root,
        }
    }
}

impl Config {
    /// Reads a file and builds what it names.
    ///
    /// # Errors
    /// [`Invalid`]: the file cannot be read, or something in it is wrong.
    pub fn load(path: &Path, registries: Registries) -> Result<Self, Invalid> {
        Self::load_with(path, &[], registries)
    }

    /// As [`Config::load`], with keys that are set beside the file.
    ///
    /// # Errors
    /// As [`Config::load`], or one of the keys or values is wrong.
    pub fn load_with(
        path: &Path,
        settings: &[Setting],
        registries: Registries,
    ) -> Result<Self, Invalid> {
        let text = read(path, Kinds::All)?;
        Self::parse_with(path, text, settings, registries)
    }

    /// As [`Config::load_with`], for a process that runs with a configuration already: its plugins share that one's counters.
    /// Whoever reads a pipe waits for its writer, and one that was read already is empty, so the configuration must be a file.
    ///
    /// # Errors
    /// As [`Config::load_with`], or it is a pipe or a device.
    pub fn load_again(
        path: &Path,
        settings: &[Setting],
        registries: Registries,
        running: &Context,
    ) -> Result<Self, Invalid> {
        let file = File::whole(
            path,
            read(path, Kinds::Files)?,
            settings,
            variables::process,
        );
        Self::build(&file, registries, Some(running))
    }

    /// Builds what a configuration names. `name` stands in errors.
    ///
    /// # Errors
    /// [`Invalid`]: everything that is wrong with it.
    pub fn parse(name: &Path, text: String, registries: Registries) -> Result<Self, Invalid> {
        Self::parse_with(name, text, &[], registries)
    }

    /// As [`Config::parse`], with keys that are set beside the text.
    ///
    /// # Errors
    /// As [`Config::parse`], or one of the keys or values is wrong.
    pub fn parse_with(
        name: &Path,
        text: String,
        settings: &[Setting],
        registries: Registries,
    ) -> Result<Self, Invalid> {
        Self::parse_in(name, text, settings, variables::process, registries)
    }

    /// As [`Config::parse_with`], in any environment.
    ///
    /// # Errors
    /// As [`Config::parse_with`].
    pub fn parse_in(
        name: &Path,
        text: String,
        settings: &[Setting],
        environment: Environment,
        registries: Registries,
    ) -> Result<Self, Invalid> {
        let file = File::whole(name, text, settings, environment);
        Self::build(&file, registries, None)
    }

    fn build(
        file: &File,
        registries: Registries,
        running: Option<&Context>,
    ) -> Result<Self, Invalid> {
        let root = file.parse()?;
        let hash = hash(&effective::shown(&root));
        let mut problems = Problems::default();
        let mut config = build(root, hash, registries, running, &mut problems);
        problems.finish()?;
        config.paths = file.paths().to_vec();
        Ok(config)
    }
}

fn read(path: &Path, kinds: Kinds) -> Result<String, Invalid> {
    let wrong = |what: &str| Invalid::without_line(format!("{}: {what}", path.display()));
    if path.is_dir() {
        return Err(wrong(
            "is a folder: name a file, which can have include = \"FOLDER\"",
        ));
    }
    reading::read(path, kinds).map_err(|error| wrong(&error.to_string()))
}

/// Who stops a service waits less than that.
const LONGEST_DRAIN: Duration = Duration::from_hours(1);

const SECTIONS: [&str; 5] = ["probe", "health", "metadata", "metrics", "output"];

/// What is wrong is noted; the result only counts if nothing is.
fn build(
    mut root: Section<'_>,
    hash: Arc<str>,
    registries: Registries,
    running: Option<&Context>,
    problems: &mut Problems,
) -> Config {
    let sections = SECTIONS.map(|name| problems.note(root.take_section(name)).flatten());
    let [probe, health, metadata, metrics, output] = sections;
    let [probe, metadata, metrics, output] = [
        (probe, "probe"),
        (metadata, "metadata"),
        (metrics, "metrics"),
        (output, "output"),
    ]
    .map(|(section, name)| section.unwrap_or_else(|| root.empty(name)));
    let known = SECTIONS.join(", ");
    root.refuse_rest(&format!("unknown section; known: {known}"), problems);
    let mut noted = Noted::default();
    let has_state_dir = probe.has("state_dir");
    let probe = parse_probe(&probe, &mut noted.sections, problems);
    if let Some(health) = &health {
        let defaults = [("enabled", "true".to_owned())];
        noted
            .sections
            .push(Effective::new(health, &defaults, "", &[]));
    }
    let health = health.and_then(|section| problems.note(health::settings(&section)));
    let health = health.unwrap_or_default();
    let context = Context {
        roots: Roots {
            proc: probe.proc,
            sys: probe.sys,
            root: probe.root,
        },
        counters: running.map_or_else(Arc::default, |context| Arc::clone(&context.counters)),
        output: String::new(),
        per_reader: false,
        fields: Arc::default(),
        config_hash: hash,
        state_dir: probe.state_dir.clone(),
        started: running.map_or_else(now, |context| context.started),
    };
    let mut keep = Vec::new();
    let metadata = readers::metadata(
        metadata,
        registries.metadata,
        &context,
        &mut keep,
        &mut noted,
        problems,
    );
    let (readers, interval) = readers::metrics(
        metrics,
        registries.metrics,
        &context,
        probe.interval.0,
        &mut keep,
        &mut noted,
        problems,
    );
    let choice = Choice {
        registries,
        readers: &readers,
        interval,
        has_state_dir,
        health: &health,
    };
    let outputs = outputs::outputs(output, choice, &context, &mut keep, &mut noted, problems);
    if readers.is_empty() && problems.is_empty() {
        let message = "metrics: nothing is switched on; add a section like [metrics.cpu]";
        problems.push(root.error(None, message));
    }
    Config {
        interval,
        state_dir: probe.state_dir,
        drain: probe.drain.0,
        health,
        context,
        metadata,
        readers,
        outputs,
        keep,
        fingerprints: noted.prints,
        sections: noted.sections,
        paths: Vec::new(),
    }
}

fn parse_probe(
    section: &Section<'_>,
    in_force: &mut Vec<Effective>,
    problems: &mut Problems,
) -> Probe {
    let probe: Probe = section.read(problems).unwrap_or_default();
    let path = |path: &Path| effective::quote(&path.display().to_string());
    let defaults = [
        ("interval", effective::time(probe.interval.0)),
        ("drain", effective::time(probe.drain.0)),
        ("proc", path(&probe.proc)),
        ("sys", path(&probe.sys)),
        ("root", path(&probe.root)),
    ];
    in_force.push(Effective::new(section, &defaults, "", &[]));
    problems.note(readers::check_interval(section, probe.interval));
    for (key, path) in [
        ("proc", &probe.proc),
        ("sys", &probe.sys),
        ("root", &probe.root),
    ] {
        if !path.is_absolute() {
            problems.push(section.error(Some(key), "is no absolute path"));
        }
    }
    if let Some(obstacle) = probe.state_dir.as_deref().and_then(places::no_folder) {
        problems.push(section.error(Some("state_dir"), obstacle));
    }
    if probe.drain.0 > LONGEST_DRAIN {
        let message = format!(
            "{} is longer than {}",
            humantime::format_duration(probe.drain.0),
            humantime::format_duration(LONGEST_DRAIN)
        );
        problems.push(section.error(Some("drain"), message));
    }
    probe
}

/// The sections that are not a plugin's, and their keys, for documents.
#[must_use]
pub fn keys() -> [(&'static str, &'static [&'static str]); 3] {
    let (probe, health) = (known::keys::<Probe>(), health::keys());
    [
        ("[probe]", probe.unwrap_or_default()),
        ("[health]", health.unwrap_or_default()),
        ("[output.NAME]", outputs::keys().unwrap_or_default()),
    ]
}

/// The wall clock.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    WallTime::try_from(since.as_nanos()).unwrap_or(WallTime::MAX)
}

/// FNV-1a with 64 bits in hexadecimal: the same for the same text in every version of the probe.
fn hash(text: &str) -> Arc<str> {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}").into()
}

#[cfg(test)]
mod tests;
