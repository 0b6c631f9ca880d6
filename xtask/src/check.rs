//! `check`: everything that a change must pass beside its tests.

use crate::{command, docs};

/// rustfmt, clippy on both sides, generated documents, the default configuration, dependencies
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> anyhow::Result<()> {
    command::run(command::cargo("fmt").args(["--all", "--check"]))?;
    docs::main(&docs::Args { check: true })
}
