//! Runs other programs, shows what it runs, and turns their failures into errors that name them.

use std::{
    env,
    ffi::OsStr,
    fmt::Display,
    io::{self, BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::workspace;

/// Says something to the person at the terminal, on standard error.
pub(crate) fn say(message: impl Display) {
    // A closed terminal must not end a build.
    drop(writeln!(io::stderr(), "{message}"));
}

/// Shows a command before it runs.
pub(crate) fn announce(command: &Command) {
    say(format_args!("+ {}", line(command)));
}

/// Runs a program to its end in this terminal.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    announce(command);
    let line = line(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a program to its end, shows its standard output line by line, and gives each line to `each`. Says whether it
/// succeeded.
pub(crate) fn watch(command: &mut Command, mut each: impl FnMut(&str)) -> anyhow::Result<bool> {
    announce(command);
    let line = line(command);
    let cannot_read = || format!("cannot read what `{line}` prints");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{line}`"))?;
    let printed = child.stdout.take().with_context(cannot_read)?;
    let mut terminal = io::stdout();
    for line in BufReader::new(printed).split(b'\n') {
        let line = line.with_context(cannot_read)?;
        let line = String::from_utf8_lossy(&line);
        writeln!(terminal, "{line}").context("cannot write to the terminal")?;
        each(&line);
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{line}`"))?;
    Ok(status.success())
}

/// Runs a program quietly and returns what it prints to standard output.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<String> {
    let line = line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{line}`"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}: {}", output.status, errors.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed no UTF-8"))
}

/// Where a program is on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The cargo that runs this.
pub(crate) fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// A cargo command on the userspace of this workspace.
///
/// Cargo would look for a subcommand in its home first, where another toolchain may keep one: that beside it goes first.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let cargo = cargo_path();
    let beside = cargo.with_file_name(format!("cargo-{subcommand}"));
    let mut command = Command::new(if beside.is_file() { beside } else { cargo });
    command.current_dir(workspace::root()).arg(subcommand);
    command
}

/// A program and its arguments as a person would type them.
fn line(command: &Command) -> String {
    let mut line = String::new();
    for part in std::iter::once(command.get_program()).chain(command.get_args()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&quoted(part));
    }
    line
}

fn quoted(part: &OsStr) -> String {
    let part = part.to_string_lossy();
    if part.is_empty() || part.contains([' ', '\'', '"', '$', '*', ';']) {
        format!("'{}'", part.replace('\'', r"'\''"))
    } else {
        part.into_owned()
    }
}
