//! The kernel side as userspace sees it: loading objects, resolving kernel facts, draining maps.

use std::{
    cell::{OnceCell, RefCell},
    io::ErrorKind,
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use aya::EbpfLoader;

use crate::{pipeline::counters::Counters, plugin::Roots};

pub mod load;
pub mod btf;
pub mod drain;
pub mod cost;
pub mod objects;
mod globals;

use btf::Btf;
use load::Outcome;

/// What loading and attaching needs of this machine, and how every program fared. Lives on the main thread during the start.
pub struct Kernel {
    /// Where the host's files are.
    pub roots: Roots,
    /// Where the memory of maps and programs is counted.
    pub counters: Arc<Counters>,
    types: OnceCell<Result<KernelTypes, Outcome>>,
    outcomes: RefCell<Vec<ProgramOutcome>>,
}

/// How one program fared.
#[derive(Debug, Clone)]
pub struct ProgramOutcome {
    /// The reader it belongs to.
    pub reader: &'static str,
    /// Its name.
    pub program: &'static str,
    /// How it fared.
    pub outcome: Outcome,
}

/// The kernel's types, once for our look-ups and once for aya's attaching, and what loads every object.
struct KernelTypes {
    own: Btf,
    aya: aya::Btf,
    /// Making one reads the running kernel's types again, which takes longer than loading an object.
    loader: RefCell<EbpfLoader<'static>>,
}

impl Kernel {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(roots: Roots, counters: Arc<Counters>) -> Self {
        Self {
            roots,
            counters,
            types: OnceCell::new(),
            outcomes: RefCell::default(),
        }
    }

    /// How every program fared so far, in the order of loading.
    #[must_use]
    pub fn outcomes(&self) -> Vec<ProgramOutcome> {
        self.outcomes.borrow().clone()
    }

    /// The kernel's own types, for names that programs do not need.
    #[must_use]
    pub fn btf(&self) -> Option<&Btf> {
        self.types().ok().map(|types| &types.own)
    }

    fn record(&self, reader: &'static str, program: &'static str, outcome: &Outcome) {
        self.outcomes.borrow_mut().push(ProgramOutcome {
            reader,
            program,
            outcome: outcome.clone(),
        });
    }

    /// Parsed once, for all readers.
    fn types(&self) -> Result<&KernelTypes, Outcome> {
        let parse = || {
            let path = self.roots.sys.join("kernel/btf/vmlinux");
            let bytes = std::fs::read(&path).map_err(|error| {
                let path = path.display();
                Outcome::Unsupported(match error.kind() {
                    ErrorKind::NotFound => format!(
                        "no kernel types: there is no {path}; kernels have it that are built with CONFIG_DEBUG_INFO_BTF"
                    ),
                    _ => format!("no kernel types: {path}: {error}"),
                })
            })?;
            let damaged = |error: &dyn std::fmt::Display| {
                Outcome::Failed(format!("{}: {error}", path.display()))
            };
            let aya = aya::Btf::parse(&bytes, aya::Endianness::default())
                .map_err(|error| damaged(&error))?;
            let own = Btf::parse(bytes).map_err(|error| damaged(&error))?;
            let mut loader = EbpfLoader::new();
            // Only relocations of fields would need them, and the objects have none.
            loader.btf(None);
            Ok(KernelTypes {
                own,
                aya,
                loader: loader.into(),
            })
        };
        self.types.get_or_init(parse).as_ref().map_err(Clone::clone)
    }
}

/// The length of maps by CPU: one more than the highest number a CPU of this machine may ever have.
///
/// # Errors
/// The kernel's list cannot be read.
pub fn possible_cpus(sys: &Path) -> anyhow::Result<u32> {
    let path = sys.join("devices/system/cpu/possible");
    let list = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let last = list.trim().rsplit([',', '-']).next().unwrap_or_default();
    let last: u32 = last
        .parse()
        .with_context(|| format!("{}: {list:?}", path.display()))?;
    Ok(last + 1)
}
