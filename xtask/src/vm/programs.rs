//! Builds what runs in a guest, without any shared library: the probe, its kernel tests, and the first process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::name::Architecture;
use crate::{
    command::{self, say},
    setup,
};

/// Statically linked programs for one architecture.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) probe: PathBuf,
    pub(crate) tests: PathBuf,
    /// The first process.
    pub(crate) init: PathBuf,
}

/// How they are compiled: a profile of their own, so that nothing else is built again because of it.
const PROFILE: &str = "guest";

/// A target of the compiler, and what it needs beside the compiler.
struct Target {
    triple: &'static str,
    packages: &'static [&'static str],
    /// Variables for cargo and for what compiles C.
    environment: &'static [(&'static str, &'static str)],
}

const MUSL: Target = Target {
    triple: "x86_64-unknown-linux-musl",
    packages: &["musl-tools"],
    environment: &[("CC_x86_64_unknown_linux_musl", "musl-gcc")],
};
/// Debian's own compiler has no musl.
const GLIBC: Target = Target {
    triple: "x86_64-unknown-linux-gnu",
    packages: &["gcc", "libc6-dev"],
    environment: &[("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", STATIC)],
};
/// Debian has a C compiler for arm64 with glibc only, which can be linked statically too.
const ARM64: Target = Target {
    triple: "aarch64-unknown-linux-gnu",
    packages: &[
        "gcc-aarch64-linux-gnu",
        "g++-aarch64-linux-gnu",
        "libc6-dev-arm64-cross",
    ],
    environment: &[
        // librdkafka's configure knows no targets, only what is called CC.
        ("CC", "aarch64-linux-gnu-gcc"),
        ("CXX", "aarch64-linux-gnu-g++"),
        ("HOST_CC", "gcc"),
        ("HOST_CXX", "g++"),
        ("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc"),
        (
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
            "aarch64-linux-gnu-gcc",
        ),
        ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", STATIC),
    ],
};
const STATIC: &str = "-C target-feature=+crt-static";

/// Builds them with the kernel objects that are in `target/bpf`.
pub(crate) fn build(architecture: Architecture) -> anyhow::Result<Programs> {
    let target = target(architecture)?;
    setup::install_packages("static programs for guests", target.packages)?;
    say(format_args!(
        "building the probe and its kernel tests for {} (static)",
        target.triple
    ));
    let mut cargo = command::cargo("build");
    cargo
        .args(["--package", "dataflux-probe", "--package", "dataflux-tests"])
        .args([
            "--bin",
            "dataflux-probe",
            "--bin",
            "guest",
            "--test",
            "kernel",
        ])
        .args(["--profile", PROFILE, "--target", target.triple])
        .envs(target.environment.iter().copied());
    let output = cargo
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo build")?;
    if !output.status.success() {
        bail!("building for {} failed: {}", target.triple, output.status);
    }
    let messages: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let program = |name: &str| -> anyhow::Result<PathBuf> {
        let found = messages
            .iter()
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from));
        let path = found.with_context(|| format!("cargo built no {name}"))?;
        refuse_dynamic(&path)?;
        Ok(path)
    };
    Ok(Programs {
        probe: program("dataflux-probe")?,
        tests: program("kernel")?,
        init: program("guest")?,
    })
}

/// The target for an architecture, with the compiler's library for it installed where rustup can.
fn target(architecture: Architecture) -> anyhow::Result<&'static Target> {
    let wanted = match architecture {
        Architecture::X86_64 => &MUSL,
        Architecture::Aarch64 => &ARM64,
    };
    if libraries(wanted)?.is_dir() {
        return Ok(wanted);
    }
    if let Some(rustup) = command::find("rustup") {
        let sysroot = sysroot()?;
        let toolchain = sysroot.file_name().context("a toolchain has a name")?;
        let mut add = Command::new(rustup);
        add.args(["target", "add", wanted.triple, "--toolchain"])
            .arg(toolchain);
        command::run(&mut add)?;
        return Ok(wanted);
    }
    if architecture == Architecture::X86_64 && libraries(&GLIBC)?.is_dir() {
        say(format_args!(
            "this compiler has no {}: static with glibc instead",
            wanted.triple
        ));
        return Ok(&GLIBC);
    }
    bail!(
        "this compiler cannot build for {}, and Debian has no package for that: get a toolchain by rustup, then\n    rustup target add {}",
        wanted.triple,
        wanted.triple
    )
}

fn libraries(target: &Target) -> anyhow::Result<PathBuf> {
    Ok(sysroot()?
        .join("lib/rustlib")
        .join(target.triple)
        .join("lib"))
}

/// Of the compiler beside the cargo that runs this.
fn sysroot() -> anyhow::Result<PathBuf> {
    let beside = command::cargo_path().with_file_name("rustc");
    let rustc = if beside.is_file() {
        beside
    } else {
        PathBuf::from("rustc")
    };
    let sysroot = command::read(Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// A guest has no loader for the program's libraries.
fn refuse_dynamic(program: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    // The loader's path is the content of a segment, which stands near the start.
    let head = &bytes[..bytes.len().min(4096)];
    if head.windows(8).any(|window| window == b"/ld-linu") {
        bail!("{} is not linked statically", program.display());
    }
    Ok(())
}
