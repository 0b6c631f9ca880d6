//! `test`: the set-up of `run`, then every test, and one summary.
//!
//! Kernel tests are `#[ignore]`d, so that a plain `cargo test` passes without root and without kernel objects. Here they
//! run when this is root, one after the other: each counts what the whole machine does.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    build_ebpf,
    command::{self, say},
    setup,
};

/// Set up what is missing, then run every test; as root the kernel tests too
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args) -> anyhow::Result<()> {
    build_ebpf::build(&setup::kernel_tools()?)?;
    let workspace = run(command::cargo("test").args(["--workspace", "--no-fail-fast"]))?;
    let kernel_tests = kernel_tests()?;
    let kernel = if rustix::process::geteuid().is_root() {
        Some(run(kernel_test_target().args([
            "--",
            "--ignored",
            "--test-threads=1",
        ]))?)
    } else {
        for name in &kernel_tests {
            say(format_args!("skipped, needs root: {name}"));
        }
        None
    };
    say(format_args!(
        "\nwithout root:  {}\nkernel tests:  {}",
        workspace.counts.without_ignored(kernel_tests.len()),
        match &kernel {
            Some(kernel) => kernel.counts.to_string(),
            None => format!("{} skipped: they need root", kernel_tests.len()),
        }
    ));
    if workspace.failed || kernel.is_some_and(|kernel| kernel.failed) {
        bail!("tests failed");
    }
    Ok(())
}

/// What one `cargo test` came to.
struct Outcome {
    counts: Counts,
    /// A test failed, or did not compile.
    failed: bool,
}

/// Sums of the closing lines of test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Counts {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; other lines change nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |what: &str| {
            let words: Vec<_> = result
                .split([' ', ';'])
                .filter(|word| !word.is_empty())
                .collect();
            words
                .windows(2)
                .find_map(|pair| {
                    if pair[1] == what {
                        pair[0].parse::<usize>().ok()
                    } else {
                        None
                    }
                })
                .unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
    }

    /// Without tests that another run stands for.
    fn without_ignored(mut self, others: usize) -> Self {
        self.ignored = self.ignored.saturating_sub(others);
        self
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} passed, {} failed, {} ignored",
            self.passed, self.failed, self.ignored
        )
    }
}

/// The names of the kernel tests.
fn kernel_tests() -> anyhow::Result<Vec<String>> {
    let list = command::read(kernel_test_target().args(["--quiet", "--", "--list", "--ignored"]))?;
    Ok(list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// The kernel tests alone, with the crates' features as the whole workspace needs them, so that nothing is built twice.
fn kernel_test_target() -> Command {
    let mut command = command::cargo("test");
    command.args(["--workspace", "--test", "kernel"]);
    command
}

/// Runs tests, shows what they print, and counts.
fn run(command: &mut Command) -> anyhow::Result<Outcome> {
    command::announce(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let output = child
        .stdout
        .take()
        .context("a piped program has an output")?;
    let mut counts = Counts::default();
    let mut terminal = io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what the tests print")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(terminal, "{line}").context("cannot write to the terminal")?;
        counts.add(&line);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    Ok(Outcome {
        counts,
        failed: !status.success(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            counts.add(line);
        }
        assert_eq!(
            counts,
            Counts {
                passed: 4,
                failed: 2,
                ignored: 1
            }
        );
    }
}
