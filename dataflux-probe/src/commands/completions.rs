//! `completions`: what a shell needs to complete this command line.

use std::io::Write;

use clap_complete::Shell;

pub(super) const EXAMPLES: &str = "\
Examples:
  dataflux-probe completions bash > /etc/bash_completion.d/dataflux-probe
  dataflux-probe completions zsh > /usr/local/share/zsh/site-functions/_dataflux-probe
  dataflux-probe completions fish > ~/.config/fish/completions/dataflux-probe.fish

The Debian package has installed those of bash, zsh and fish.";

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let mut command = super::command_line();
    clap_complete::generate(arguments.shell, &mut command, "dataflux-probe", &mut script);
    out.write_all(&script)?;
    Ok(())
}
