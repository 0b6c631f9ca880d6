//! What the developer commands need beside cargo: finds it, and installs it where it may.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    command::{self, say},
    toolchain::{self, Route},
    workspace,
};

/// The version of LLVM that Debian's compiler for kernel objects is built on.
const DEBIAN_LLVM: u32 = 22;
/// Debian's compiler with `core` for BPF.
const COMPILER_PACKAGES: [&str; 3] = ["cargo-web", "rustc-web", "libstd-rust-web-dev-bpf"];

/// What kernel objects are built with.
#[derive(Debug)]
pub(crate) struct KernelTools {
    /// The compiler.
    pub(crate) route: Route,
    /// Path of bpf-linker.
    pub(crate) linker: PathBuf,
}

/// A program that cargo can install.
#[derive(Debug)]
pub(crate) struct Tool {
    name: &'static str,
    /// The version that this workspace is built and checked with.
    version: &'static str,
}

/// Links LLVM bitcode into one BPF object.
const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.13.0",
};
/// Judges licences, sources and known faults of the dependencies.
pub(crate) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};

/// Makes the Debian package.
pub(crate) const CARGO_DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
};

/// The compiler and the linker if both are there; otherwise the error names the commands that bring them.
pub(crate) fn find_kernel_tools() -> anyhow::Result<KernelTools> {
    let Some(route) = Route::find() else {
        bail!(
            "no compiler for kernel objects here. Either of these brings one:\n{}",
            both_routes()
        );
    };
    match BPF_LINKER.find() {
        Some(linker) => Ok(KernelTools { route, linker }),
        None => bail!(
            "bpf-linker is neither on PATH nor in target/tools/bin. `cargo xtask run` installs it, or:\n{}",
            linker_commands(&route)
        ),
    }
}

/// The compiler and the linker, installed if they are missing and this is root on Debian.
pub(crate) fn kernel_tools() -> anyhow::Result<KernelTools> {
    let route = match Route::find() {
        Some(route) => route,
        None => {
            if !has_apt() {
                return find_kernel_tools();
            }
            // All at once: whoever must type the commands types them once.
            let linker = linker_packages(DEBIAN_LLVM);
            let mut packages = COMPILER_PACKAGES.to_vec();
            if BPF_LINKER.find().is_none() {
                packages.extend(linker.iter().map(String::as_str));
            }
            install_packages("the compiler of kernel objects", &packages)?;
            match Route::find() {
                Some(route) => route,
                None => return find_kernel_tools(),
            }
        }
    };
    let linker = match BPF_LINKER.find() {
        Some(linker) => linker,
        None if route.is_packaged() && has_apt() => install_linker(&route)?,
        None => return find_kernel_tools(),
    };
    Ok(KernelTools { route, linker })
}

/// Installs those of Debian's packages that are missing; an error names the commands where this is not root.
pub(crate) fn install_packages(purpose: &str, packages: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        bail!(
            "{purpose} is missing; this installs it:\n    sudo apt-get update\n    sudo {APT_INSTALL} {packages}"
        );
    }
    say(format_args!("installing for {purpose}: {packages}"));
    command::run(Command::new("apt-get").args(["update", "-q"]))?;
    let mut words = APT_INSTALL.split(' ');
    command::run(
        Command::new(words.next().expect("the command has a name"))
            .args(words)
            .arg("-q")
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// A program that comes with a toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Companion {
    Rustfmt,
    Clippy,
}

impl Companion {
    fn program(self) -> &'static str {
        match self {
            Self::Rustfmt => "cargo-fmt",
            Self::Clippy => "cargo-clippy",
        }
    }

    fn component(self) -> &'static str {
        match self {
            Self::Rustfmt => "rustfmt",
            Self::Clippy => "clippy",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Rustfmt => "rustfmt-web",
            Self::Clippy => "rust-web-clippy",
        }
    }
}

/// Makes sure that the cargo that runs this has a companion.
pub(crate) fn companion_of_cargo(companion: Companion) -> anyhow::Result<()> {
    companion_in(command::cargo_path().parent(), companion)
}

/// Makes sure that the compiler of kernel objects has a companion.
pub(crate) fn companion_of_route(route: &Route, companion: Companion) -> anyhow::Result<()> {
    companion_in(Some(route.bin()), companion)
}

fn companion_in(folder: Option<&Path>, companion: Companion) -> anyhow::Result<()> {
    let folder = folder.context("cargo did not say where it is")?;
    if folder.join(companion.program()).is_file() {
        return Ok(());
    }
    if folder.starts_with("/usr") && has_apt() {
        return install_packages(companion.program(), &[companion.package()]);
    }
    // A folder of a toolchain of rustup: toolchains/NAME/bin.
    let toolchain = folder.parent().and_then(Path::file_name);
    let (Some(rustup), Some(toolchain)) = (command::find("rustup"), toolchain) else {
        bail!("no {} in {}", companion.program(), folder.display());
    };
    say(format_args!(
        "installing {} by rustup",
        companion.component()
    ));
    command::run(
        Command::new(rustup)
            .args(["component", "add", companion.component(), "--toolchain"])
            .arg(toolchain),
    )
}

const APT_INSTALL: &str = "apt-get install -y --no-install-recommends";

impl Tool {
    /// Where it is: among this workspace's own tools, on `PATH`, or in cargo's home.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let own = workspace::tools().join("bin").join(self.name);
        let home = toolchain::cargo_home().join("bin").join(self.name);
        [Some(own), command::find(self.name), Some(home)]
            .into_iter()
            .flatten()
            .find(|path| path.is_file())
    }

    /// Builds and installs it for this workspace alone.
    pub(crate) fn install(&self, configure: impl FnOnce(&mut Command)) -> anyhow::Result<PathBuf> {
        let folder = workspace::tools();
        say(format_args!(
            "installing {} {} into {} (a few minutes)",
            self.name,
            self.version,
            folder.display()
        ));
        let mut cargo = command::cargo("install");
        cargo
            .args([
                "--locked",
                "--quiet",
                "--version",
                self.version,
                self.name,
                "--root",
            ])
            .arg(&folder);
        cargo.env_remove("CARGO_TARGET_DIR");
        configure(&mut cargo);
        command::run(&mut cargo)?;
        self.find()
            .with_context(|| format!("cargo installed no {}", self.name))
    }
}

/// Installs bpf-linker for a packaged compiler: with the LLVM of the same packages.
fn install_linker(route: &Route) -> anyhow::Result<PathBuf> {
    let llvm = route.llvm()?;
    let packages = linker_packages(llvm);
    install_packages(
        "bpf-linker",
        &packages.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    BPF_LINKER.install(|cargo| {
        let prefix = llvm_prefix(llvm);
        cargo
            .env("LLVM_PREFIX", &prefix)
            .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix);
        cargo
            .args(["--no-default-features", "--features"])
            .arg(format!("llvm-{llvm}"));
    })
}

fn linker_packages(llvm: u32) -> [String; 5] {
    [
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "zlib1g-dev".to_owned(),
        "libzstd-dev".to_owned(),
        "g++".to_owned(),
    ]
}

fn llvm_prefix(llvm: u32) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

pub(crate) fn has_apt() -> bool {
    command::find("apt-get").is_some() && Path::new("/etc/debian_version").exists()
}

fn is_installed(package: &str) -> bool {
    command::read(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// The exact commands of both ways to a compiler and a linker.
fn both_routes() -> String {
    format!(
        "  1. Debian 12 or newer, as root:\n         apt-get update\n         {APT_INSTALL} {} {}\n         {}\n  \
         2. elsewhere, by rustup:\n         rustup toolchain install nightly --component rust-src\n         \
         cargo install cargo-binstall\n         cargo binstall bpf-linker",
        COMPILER_PACKAGES.join(" "),
        linker_packages(DEBIAN_LLVM).join(" "),
        linker_build(DEBIAN_LLVM),
    )
}

/// The exact commands that bring a linker for a compiler that is there.
fn linker_commands(route: &Route) -> String {
    match route.llvm() {
        Ok(llvm) if route.is_packaged() => format!(
            "    {APT_INSTALL} {}\n    {}",
            linker_packages(llvm).join(" "),
            linker_build(llvm)
        ),
        _ => "    cargo install cargo-binstall\n    cargo binstall bpf-linker".to_owned(),
    }
}

fn linker_build(llvm: u32) -> String {
    let prefix = llvm_prefix(llvm);
    format!(
        "LLVM_PREFIX={prefix} LLVM_SYS_{llvm}1_PREFIX={prefix} cargo install --locked --root target/tools \
         bpf-linker --version {} --no-default-features --features llvm-{llvm}",
        BPF_LINKER.version
    )
}
