//! The entry of a plugin in its registry, and what plugins are built from.

use std::{path::PathBuf, sync::Arc};

use crate::{config::Section, formatters::Fields, model::MetricDef, pipeline::counters::Counters};

/// One entry of a registry. `T` is the plugin's trait object: the one generic struct that serves four registries.
pub struct Plugin<T: ?Sized + 'static> {
    /// File name, config section and metric prefix.
    pub name: &'static str,
    /// One line for `list` and the documentation.
    pub summary: &'static str,
    /// What it needs of the machine.
    pub needs: Needs,
    /// Its config section as commented TOML, without the section's header. A test parses it.
    pub example: &'static str,
    /// What it measures; metric readers only.
    pub metrics: &'static [&'static MetricDef],
    /// Validates the section and builds the plugin. Opens nothing.
    pub build: fn(&Section<'_>, &Context) -> anyhow::Result<Box<T>>,
}

impl<T: ?Sized> Plugin<T> {
    /// The keys that its section can have. Its example shows each of them, commented out or not; a test sees to that.
    fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.example.lines().filter_map(|line| {
            let (key, _) = line.trim_start_matches(['#', ' ']).split_once(" = ")?;
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            key.bytes().all(plain).then_some(key)
        })
    }

    /// The keys of another plugin that are none of its own.
    pub(crate) fn keys_beside<U: ?Sized>(
        &self,
        other: &Plugin<U>,
    ) -> impl Iterator<Item = &'static str> {
        other
            .keys()
            .filter(|key| self.keys().all(|own| own != *key))
    }
}

/// What a plugin needs of the machine.
pub struct Needs {
    /// Kernel features, files or hooks, for people.
    pub kernel: &'static str,
    /// Capabilities to attach or open with.
    pub attach: &'static [Capability],
    /// What it goes on doing afterwards that would otherwise be refused.
    pub keep: &'static [Keep],
}

/// What a running plugin may ask for; whatever nobody asks for is given up after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// To look up, change and delete entries of maps by system calls; mapped arrays need none. Where the kernel asks for a
    /// capability to do that, it stays.
    MapCalls,
    /// To run other programs, which are restricted as the probe is, and may read every file that its user may.
    Execution,
    /// A capability.
    Capability(Capability),
}

impl Keep {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MapCalls => "system calls on its maps",
            Self::Execution => "running programs",
            Self::Capability(capability) => capability.name(),
        }
    }
}

impl Needs {
    /// Nothing of the kernel, no capability.
    pub const NOTHING: Self = Self {
        kernel: "",
        attach: &[],
        keep: &[],
    };
}

/// Capabilities that plugins ask for (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Load programs and create maps.
    Bpf,
    /// Attach to tracepoints and read kernel memory from programs.
    Perfmon,
    /// Raise the limit of locked memory, which maps count towards before Linux 5.11.
    SysResource,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bpf, Self::Perfmon, Self::SysResource];

    /// As capabilities(7) writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysResource => "CAP_SYS_RESOURCE",
        }
    }
}

/// What plugins are built with beside their section.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where the host's files are.
    pub roots: Roots,
    /// The pipeline's own counters, which the `probe` reader reports.
    pub counters: Arc<Counters>,
    /// The name of the output that a formatter or logger belongs to; empty for readers.
    pub output: String,
    /// Whether each envelope of that output holds one reader only.
    pub per_reader: bool,
    /// What that output's records have of the fields that they can do without.
    pub fields: Arc<Fields>,
    /// A short hash of the configuration file, for the `agent` section.
    pub config_hash: Arc<str>,
    /// Where what must outlive the process is kept, if anywhere. It need not be there yet.
    pub state_dir: Option<PathBuf>,
    /// When the probe started.
    pub started: crate::model::WallTime,
}

/// The folders through which the probe sees its host; a container mounts them elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The host's `/proc`. Network and mounts are read of its process 1.
    pub proc: PathBuf,
    /// The host's `/sys`.
    pub sys: PathBuf,
    /// The host's `/`.
    pub root: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            root: "/".into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;

    use super::{Context, Counters, Plugin, Roots};
    use crate::config::section::File;

    /// A context whose roots are `proc`, `sys` and `root` in one folder.
    pub(crate) fn context(folder: &Path) -> Context {
        Context {
            roots: Roots {
                proc: folder.join("proc"),
                sys: folder.join("sys"),
                root: folder.join("root"),
            },
            counters: Counters::default().into(),
            output: String::new(),
            per_reader: false,
            fields: std::sync::Arc::default(),
            config_hash: "5f0c".into(),
            state_dir: None,
            started: 1_700_000_000_123_456_789,
        }
    }

    /// Where the files of hosts that tests read are kept.
    pub(crate) fn fixtures() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"))
    }

    impl<T: ?Sized> Plugin<T> {
        /// Builds it from the text of its section.
        pub(crate) fn build_from(&self, text: &str, context: &Context) -> anyhow::Result<Box<T>> {
            let file = File::new(Path::new("test.toml"), text.to_owned());
            (self.build)(&file.parse()?, context)
        }
    }
}
