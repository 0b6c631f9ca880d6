//! `check`: everything that a change must pass beside its tests.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};

use crate::{
    build_ebpf,
    command::{self, say},
    docs,
    probe_binary::{self, Profile},
    setup::{self, CARGO_DENY, Companion, KernelTools},
    workspace,
};

/// rustfmt, clippy on both sides, reproducible objects, generated documents, the default configuration, dependencies
#[derive(clap::Args)]
pub(crate) struct Args {}

/// How long the database of known faults may take to arrive. Networks without a way to it often drop packets silently.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn main(_args: &Args) -> anyhow::Result<()> {
    let tools = setup::kernel_tools()?;
    let steps: [(&str, &dyn Fn() -> anyhow::Result<()>); 7] = [
        ("rustfmt", &rustfmt),
        ("kernel objects", &|| {
            build_ebpf::build(&tools)?;
            build_ebpf::verify_reproducible(&tools)
        }),
        ("clippy on the kernel crate", &|| kernel_clippy(&tools)),
        ("clippy on userspace", &userspace_clippy),
        ("generated documents", &|| {
            docs::main(&docs::Args { check: true })
        }),
        ("deploy/probe.toml", &default_configuration),
        ("dependencies", &dependencies),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        say(format_args!("\n=== {name}"));
        if let Err(error) = step() {
            say(format_args!("error: {error:#}"));
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    say("\ncheck passed");
    Ok(())
}

fn rustfmt() -> anyhow::Result<()> {
    setup::companion_of_cargo(Companion::Rustfmt)?;
    command::run(command::cargo("fmt").args(["--all", "--check"]))?;
    let kernel = workspace::kernel_crate(workspace::root()).join("Cargo.toml");
    command::run(
        command::cargo("fmt")
            .arg("--manifest-path")
            .arg(kernel)
            .arg("--check"),
    )
}

fn userspace_clippy() -> anyhow::Result<()> {
    setup::companion_of_cargo(Companion::Clippy)?;
    command::run(command::cargo("clippy").args([
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn kernel_clippy(tools: &KernelTools) -> anyhow::Result<()> {
    setup::companion_of_route(&tools.route, Companion::Clippy)?;
    let mut clippy = tools
        .route
        .cargo(workspace::root(), "clippy", &tools.linker)?;
    command::run(clippy.args(["--lib", "--bins", "--", "-D", "warnings"]))
}

/// The probe itself judges it, without root.
fn default_configuration() -> anyhow::Result<()> {
    let probe = probe_binary::build(Profile::Dev)?;
    command::run(
        Command::new(probe)
            .arg("check")
            .arg(workspace::root().join("deploy/probe.toml")),
    )
}

/// Licences, sources and known faults of what both workspaces depend on.
fn dependencies() -> anyhow::Result<()> {
    let deny = match CARGO_DENY.find() {
        Some(deny) => deny,
        None => CARGO_DENY.install(|_| {})?,
    };
    let on = |manifest: &str| {
        let mut command = Command::new(&deny);
        command.current_dir(workspace::root()).args([
            "--config",
            "deny.toml",
            "--manifest-path",
            manifest,
        ]);
        command
    };
    let database = within(on("Cargo.toml").args(["fetch", "db"]), DATABASE_PATIENCE);
    let mut failed = false;
    for manifest in ["Cargo.toml", "dataflux-ebpf/Cargo.toml"] {
        let mut check = on(manifest);
        check.args(["check", "--hide-inclusion-graph"]);
        if manifest != "Cargo.toml" {
            // The list of licences is that of both; userspace alone must need every one of it.
            check.args(["--allow", "license-not-encountered"]);
        }
        check.args(["licenses", "bans", "sources"]);
        if database.is_ok() {
            check.arg("advisories");
        }
        failed |= command::run(&mut check).is_err();
    }
    if let Err(error) = database {
        say(format_args!(
            "SKIPPED: known faults of dependencies (advisories): their database cannot be fetched: {error:#}"
        ));
    }
    if failed {
        bail!("cargo-deny found what deny.toml does not allow");
    }
    Ok(())
}

/// Runs a program quietly, and ends it with its children when it takes too long.
fn within(command: &mut Command, patience: Duration) -> anyhow::Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot run it")?;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for it")? {
            if status.success() {
                return Ok(());
            }
            let mut errors = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                stderr
                    .read_to_string(&mut errors)
                    .context("cannot read its errors")?;
            }
            bail!(
                "{}",
                errors
                    .lines()
                    .rfind(|line| !line.is_empty())
                    .unwrap_or("it failed and does not say why")
            );
        }
        if Instant::now() >= deadline {
            let group = Pid::from_child(&child);
            rustix::process::kill_process_group(group, Signal::KILL).context("cannot end it")?;
            child.wait().context("cannot wait for it")?;
            bail!("no answer within {} s", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
