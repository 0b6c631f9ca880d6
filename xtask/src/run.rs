//! `run`: sets up what is missing, builds everything in release, and runs the probe with its default configuration.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::Context as _;

use crate::{
    build_ebpf,
    command::say,
    probe_binary::{self, Profile},
    setup, workspace,
};

/// Set up what is missing, build in release, run the probe with deploy/probe.toml
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments for the probe, in place of `--config deploy/probe.toml`
    #[arg(last = true)]
    probe: Vec<OsString>,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    build_ebpf::build(&setup::kernel_tools()?)?;
    let probe = probe_binary::build(Profile::Release)?;
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(&probe)
    } else {
        say("kernel programs need root: sudo for the run itself");
        let mut sudo = Command::new("sudo");
        sudo.arg(&probe);
        sudo
    };
    if args.probe.is_empty() {
        command
            .arg("--config")
            .arg(workspace::root().join("deploy/probe.toml"));
    } else {
        command.args(&args.probe);
    }
    // The probe takes this program's place, so that signals and the exit code are its own.
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", probe.display()))
}
