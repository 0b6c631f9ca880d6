//! `man`: the manual pages, one for the program and one for each command.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap_mangen::Man;

pub(super) const EXAMPLES: &str = "\
Examples:
  dataflux-probe man | man -l -
  dataflux-probe man --dir /usr/local/share/man/man1

The Debian package has installed them.";

/// The arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Write a page for each command into this folder, which is there, instead of the first page to standard output.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let command = super::command_line();
    let Some(folder) = &arguments.dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        out.write_all(&page)?;
        return Ok(());
    };
    write_pages(folder, &command)
}

/// The page of a command and those of the commands below it.
fn write_pages(folder: &Path, command: &clap::Command) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    let below = command.get_subcommands();
    for command in below.filter(|command| command.get_name() != "help") {
        write_pages(folder, command)?;
    }
    Ok(())
}
