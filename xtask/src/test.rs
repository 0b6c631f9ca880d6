//! `test`: the set-up of `run`, then every test, and one summary.

use std::{fmt, process::Command};

use anyhow::bail;

use crate::{
    build_ebpf,
    command::{self, say},
    kafka, prometheus, setup,
};

/// Set up what is missing, then run every test; as root the kernel tests too
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Tells the kernel tests that their objects were built, so that one that cannot run as root is a failure.
pub(crate) const KERNEL_TESTS: (&str, &str) = ("DATAFLUX_KERNEL_TESTS", "required");

/// Debian's packages of the programs that kernel tests make devices with: `ip`, `losetup` and `mount`.
const DEVICE_PACKAGES: [&str; 2] = ["iproute2", "mount"];

/// Tells tests that the programs which they compare the probe with were installed, so that one that is missing is a failure.
const TRUSTED_TOOLS: (&str, &str) = ("DATAFLUX_TRUSTED_TOOLS", "required");

/// And of these programs: `free`, `vmstat`, `ps`, `sysctl`, `uptime`; `adjtimex`; `df`; `iostat`; `lscpu`,
/// `lsblk`.
const TOOL_PACKAGES: [&str; 5] = ["procps", "adjtimex", "coreutils", "sysstat", "util-linux"];

/// And of what judges the unit of systemd.
const UNIT_PACKAGES: [&str; 1] = ["systemd"];

pub(crate) fn main(_args: &Args) -> anyhow::Result<()> {
    build_ebpf::build(&setup::kernel_tools()?)?;
    if rustix::process::geteuid().is_root() && setup::has_apt() {
        setup::install_packages("the kernel tests' devices", &DEVICE_PACKAGES)?;
        setup::install_packages("the test of the unit", &UNIT_PACKAGES)?;
    }
    let kafka = kafka::provide();
    let prometheus = prometheus::provide();
    let mut tests = command::cargo("test");
    tests
        .args(["--workspace", "--no-fail-fast"])
        .env(KERNEL_TESTS.0, KERNEL_TESTS.1);
    if rustix::process::geteuid().is_root() && setup::has_apt() {
        setup::install_packages("what the probe is compared with", &TOOL_PACKAGES)?;
        tests.env(TRUSTED_TOOLS.0, TRUSTED_TOOLS.1);
    }
    if kafka.is_ok() {
        tests.env(kafka::REQUIRED.0, kafka::REQUIRED.1);
    }
    if prometheus.is_ok() {
        tests.env(prometheus::REQUIRED.0, prometheus::REQUIRED.1);
    }
    let mut outcome = run(&mut tests)?;
    match kafka {
        Ok(()) => outcome.failed |= kafka::test_consumer().is_err(),
        Err(error) => say(format_args!(
            "SKIPPED: tests against a real Kafka (those of the mock cluster ran): {error:#}"
        )),
    }
    if let Err(error) = prometheus {
        say(format_args!(
            "SKIPPED: tests with a real Prometheus: {error:#}"
        ));
    }
    say("");
    if !rustix::process::geteuid().is_root() {
        // Each returned at once.
        for name in kernel_tests()? {
            say(format_args!("skipped, needs root: {name}"));
            outcome.counts.skip_one();
        }
    }
    say(format_args!("all tests: {}", outcome.counts));
    if outcome.failed {
        bail!("tests failed");
    }
    Ok(())
}

/// What `cargo test` came to.
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
    skipped: usize,
}

impl Counts {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; other lines change nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|result| result.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let sum = match what {
                "passed" => &mut self.passed,
                "failed" => &mut self.failed,
                "ignored" => &mut self.ignored,
                _ => continue,
            };
            *sum += number.parse::<usize>().unwrap_or(0);
        }
    }

    /// A test that passed because it could not run.
    fn skip_one(&mut self) {
        self.passed = self.passed.saturating_sub(1);
        self.skipped += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            ignored,
            skipped,
        } = self;
        write!(
            out,
            "{passed} passed, {failed} failed, {ignored} ignored, {skipped} skipped"
        )
    }
}

/// The names of the kernel tests.
fn kernel_tests() -> anyhow::Result<Vec<String>> {
    // Of the whole workspace, so that its crates have the same features and are not built again.
    let mut list = command::cargo("test");
    list.args(["--workspace", "--test", "kernel", "--quiet", "--", "--list"]);
    Ok(command::read(&mut list)?
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// Runs tests, shows what they print, and counts.
fn run(command: &mut Command) -> anyhow::Result<Outcome> {
    let mut counts = Counts::default();
    let passed = command::watch(command, |line| counts.add(line))?;
    Ok(Outcome {
        counts,
        failed: !passed,
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
        counts.skip_one();
        assert_eq!(
            counts.to_string(),
            "3 passed, 2 failed, 1 ignored, 1 skipped"
        );
    }
}
