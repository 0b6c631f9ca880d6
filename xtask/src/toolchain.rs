//! The compiler for kernel objects: which of the two routes this machine offers.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{command, workspace};

/// The compilation target of kernel objects: little-endian BPF.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// The oldest compiler the workspace accepts is 1.this: `rust-version` in its Cargo.toml.
const OLDEST: u32 = 95;

/// A way to compile the kernel crate.
#[derive(Debug)]
pub(crate) struct Route {
    /// Where the target's `core` comes from.
    core: Core,
    rustc: PathBuf,
    /// `rustc --print sysroot`.
    sysroot: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Core {
    /// It came with the compiler, as Debian packages it.
    Prebuilt,
    /// A nightly compiler builds it from `rust-src`.
    FromSource,
}

impl Route {
    /// The first route that this machine offers, if any.
    pub(crate) fn find() -> Option<Self> {
        Self::prebuilt().or_else(Self::nightly)
    }

    /// For people.
    pub(crate) fn description(&self) -> String {
        let how = match self.core {
            Core::Prebuilt => "with its prebuilt core",
            Core::FromSource => "nightly, building core from rust-src",
        };
        format!("{} {how}", self.rustc.display())
    }

    /// The major version of the compiler's LLVM, which the linker's must not be older than.
    pub(crate) fn llvm(&self) -> anyhow::Result<u32> {
        self.version("LLVM version: ")
    }

    /// Whether the compiler is the distribution's, so that its other tools are packages too.
    pub(crate) fn is_packaged(&self) -> bool {
        self.core == Core::Prebuilt && self.rustc.starts_with("/usr")
    }

    /// The folder with the compiler's companions: cargo, clippy.
    pub(crate) fn bin(&self) -> &Path {
        self.rustc.parent().expect("a compiler lies in a folder")
    }

    /// A cargo command on the kernel crate of the workspace at `root`; `linker` is bpf-linker.
    ///
    /// Only its own settings reach it: what the environment says about userspace builds would change the objects.
    pub(crate) fn cargo(
        &self,
        root: &Path,
        subcommand: &str,
        linker: &Path,
    ) -> anyhow::Result<Command> {
        let beside = |name| Some(self.bin().join(name)).filter(|path| path.is_file());
        let cargo = beside("cargo").unwrap_or_else(command::cargo_path);
        // Cargo would look for a subcommand in its home first, where rustup keeps one for another compiler.
        let program = beside(&format!("cargo-{subcommand}")).unwrap_or_else(|| cargo.clone());
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_userspace_setting) {
                command.env_remove(name);
            }
        }
        command
            .current_dir(workspace::kernel_crate(root))
            .env("CARGO", cargo)
            .env("RUSTC", &self.rustc)
            .env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf")
            .env("CARGO_TARGET_DIR", workspace::kernel_target(root))
            .env("PATH", path_with([linker.parent(), Some(self.bin())])?)
            .args([subcommand, "--release", "--target", TARGET]);
        match self.core {
            // The kernel's helpers are behind unstable features of the language.
            Core::Prebuilt => command.env("RUSTC_BOOTSTRAP", "1"),
            Core::FromSource => command.arg("-Zbuild-std=core"),
        };
        Ok(command)
    }

    /// Pairs of folders and the names they get in the objects' debug information, so that it does not depend on where
    /// the workspace, cargo's home and the compiler are.
    pub(crate) fn path_names(&self, root: &Path) -> Vec<(PathBuf, &'static str)> {
        vec![
            (root.to_owned(), "/dataflux-probe"),
            (cargo_home(), "/cargo"),
            (self.sysroot.join("lib/rustlib/src/rust"), "/rust"),
        ]
    }

    fn prebuilt() -> Option<Self> {
        let known = PathBuf::from("/usr/bin/rustc");
        command::find("rustc")
            .into_iter()
            .chain([known])
            .find_map(|rustc| {
                let sysroot = sysroot(&mut Command::new(&rustc))?;
                let core = sysroot.join("lib/rustlib").join(TARGET);
                let route = Self {
                    core: Core::Prebuilt,
                    rustc,
                    sysroot,
                };
                (core.is_dir() && route.is_new_enough()).then_some(route)
            })
    }

    fn nightly() -> Option<Self> {
        // The proxy that rustup puts on PATH must not install what is not there.
        let sysroot = sysroot(
            Command::new("rustc")
                .arg("+nightly")
                .env("RUSTUP_AUTO_INSTALL", "0"),
        )?;
        let core = sysroot.join("lib/rustlib/src/rust/library");
        let route = Self {
            core: Core::FromSource,
            rustc: sysroot.join("bin/rustc"),
            sysroot,
        };
        (core.is_dir() && route.is_new_enough()).then_some(route)
    }

    fn is_new_enough(&self) -> bool {
        self.version("release: 1.")
            .is_ok_and(|minor| minor >= OLDEST)
    }

    /// The number that follows some words in what the compiler says about itself.
    fn version(&self, words: &str) -> anyhow::Result<u32> {
        let text = command::read(Command::new(&self.rustc).arg("-vV"))?;
        text.lines()
            .find_map(|line| line.strip_prefix(words)?.split('.').next()?.parse().ok())
            .with_context(|| format!("`{} -vV` says no `{words}`", self.rustc.display()))
    }
}

/// Cargo's home, by its own rules.
pub(crate) fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cargo"),
        PathBuf::from,
    )
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let sysroot = command::read(rustc.args(["--print", "sysroot"])).ok()?;
    Some(PathBuf::from(sysroot.trim()))
}

/// Whether an environment variable is about the toolchain or the build that runs this.
fn is_userspace_setting(name: &str) -> bool {
    const PREFIXES: [&str; 5] = [
        "CARGO_BUILD_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "RUSTC",
    ];
    const NAMES: [&str; 9] = [
        "CARGO",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "LD_LIBRARY_PATH",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// `PATH` with folders in front.
fn path_with(folders: [Option<&Path>; 2]) -> anyhow::Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = folders.into_iter().flatten().map(Path::to_owned);
    env::join_paths(folders.chain(env::split_paths(&path)))
        .context("cannot put a tool's folder on PATH")
}
