//! `test`: the set-up of `run`, then every test, and one summary.

use crate::{build_ebpf, command, setup};

/// Set up what is missing, then run every test; as root the kernel tests too
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> anyhow::Result<()> {
    build_ebpf::build(&setup::kernel_tools()?)?;
    command::run(command::cargo("test").args(["--workspace", "--no-fail-fast"]))
}
