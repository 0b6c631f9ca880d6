//! One guest from its first file system to its report.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    cpio::Archive,
    kernel::Kernel,
    modules,
    name::Architecture,
    programs::Programs,
    qemu::{self, Accelerator, Ended, Machine},
    userland,
};
use crate::command::say;

/// What a guest is asked to do.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Commands in the guest, before the tests.
    pub(crate) commands: Vec<Vec<String>>,
    /// Words that a test's name must contain one of; none for all.
    pub(crate) filters: Vec<String>,
    /// Of the guest.
    pub(crate) processors: u8,
    /// How long one command or test may take.
    pub(crate) each: Duration,
    /// How long the guest may take.
    pub(crate) all: Duration,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// Why.
    Skipped(String),
    Failed,
}

/// A test in a guest.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
    pub(crate) output: String,
}

/// A command in a guest.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) line: String,
    pub(crate) success: bool,
    pub(crate) status: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Everything that one guest said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// As its kernel calls itself; empty if it never came so far.
    pub(crate) release: String,
    pub(crate) commands: Vec<Ran>,
    pub(crate) tests: Vec<Test>,
    /// What it could not prepare, and what its kernel complained about.
    pub(crate) troubles: Vec<String>,
    /// How many tests it was not asked for.
    pub(crate) left_out: usize,
    pub(super) begun: Option<String>,
    pub(super) complete: bool,
}

/// The first file system of a kernel's guests, in memory.
pub(crate) fn initramfs(
    kernel: &Kernel,
    programs: &Programs,
    job: &Job,
) -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let mut archive = Archive::default();
    for folder in [
        "bin", "dev", "etc", "lib", "lib64", "modules", "proc", "run", "sys", "tmp",
    ] {
        archive.folder(folder);
    }
    // Before devtmpfs is mounted the first process has only this to speak.
    archive.device("dev/console", 5, 1);
    for (place, path) in [
        ("init", &programs.init),
        ("bin/dataflux-probe", &programs.probe),
        ("bin/kernel-tests", &programs.tests),
    ] {
        archive.file(
            place,
            &fs::read(path).with_context(|| path.display().to_string())?,
        );
    }
    userland::add(&mut archive, kernel.name.architecture)?;
    let (modules, missing) = modules::choose(&kernel.modules)?;
    let mut order = String::new();
    for module in &modules {
        archive.file(&format!("modules/{}", module.file), &module.bytes);
        order += &format!("{}\n", module.line);
    }
    archive.file("modules/order", order.as_bytes());
    let job = json!({
        "commands": job.commands, "filters": job.filters, "limit_seconds": job.each.as_secs(),
    });
    archive.file("job.json", job.to_string().as_bytes());
    let missing = missing
        .iter()
        .map(|name| format!("this kernel has no module {name}"));
    Ok((archive.finish(), missing.collect()))
}

/// How long a guest may take to its first process; emulated ones take a minute on a busy machine.
const BOOT: Duration = Duration::from_secs(240);

/// Boots a kernel with a job; `hear` gets each test as it ends. A boot that hangs before the guest's first process has none of
/// the probe in it: it is told, and tried once more.
pub(crate) fn run(
    kernel: &Kernel,
    programs: &Programs,
    job: &Job,
    mut hear: impl FnMut(&Test),
) -> anyhow::Result<Report> {
    let folder = super::folder().join("guests").join(kernel.name.to_string());
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let (bytes, missing) = initramfs(kernel, programs, job)?;
    let initramfs: PathBuf = folder.join("initramfs");
    fs::write(&initramfs, bytes).with_context(|| initramfs.display().to_string())?;
    let machine = Machine {
        architecture: kernel.name.architecture,
        accelerator: accelerator(kernel)?,
        processors: job.processors,
        image: &kernel.image,
        initramfs: &initramfs,
        folder: &folder,
        limit: job.all,
        silence: BOOT,
    };
    let mut boot = || -> anyhow::Result<_> {
        let mut report = Report {
            troubles: missing.clone(),
            ..Report::default()
        };
        let ended = machine.run(|line| {
            let known = report.tests.len();
            report.take(line);
            report.tests[known..].iter().for_each(&mut hear);
        })?;
        Ok((report, ended))
    };
    let (mut report, mut ended) = boot()?;
    if report.release.is_empty() && ended.status.is_none() {
        let words = qemu::last_words(&ended);
        say(format_args!(
            "{}: hangs at boot, once more:\n{words}",
            kernel.name
        ));
        (report, ended) = boot()?;
    }
    report.close(&ended, job.all);
    Ok(report)
}

fn accelerator(kernel: &Kernel) -> anyhow::Result<Accelerator> {
    let architecture: Architecture = kernel.name.architecture;
    qemu::accelerator(architecture, &kernel.image)
}

impl Report {
    /// Whether everything that was asked for happened and succeeded.
    pub(crate) fn failed(&self) -> bool {
        !self.complete
            || !self.troubles.is_empty()
            || self.commands.iter().any(|ran| !ran.success)
            || self
                .tests
                .iter()
                .any(|test| test.outcome == Outcome::Failed)
    }

    /// Takes one line of the guest's.
    fn take(&mut self, line: &str) {
        let Ok(said) = serde_json::from_str::<Value>(line) else {
            self.troubles
                .push(format!("a report that cannot be read: {line}"));
            return;
        };
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        match said["kind"].as_str() {
            Some("up") => {
                self.release = text("release");
                let troubles = said["troubles"].as_array().into_iter().flatten();
                self.troubles
                    .extend(troubles.filter_map(Value::as_str).map(str::to_owned));
            }
            Some("command") => {
                let words: Vec<_> = said["command"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                self.commands.push(Ran {
                    line: words.join(" "),
                    success: said["success"] == true,
                    status: text("status"),
                    stdout: text("stdout"),
                    stderr: text("stderr"),
                });
            }
            Some("begin") => self.begun = Some(text("test")),
            Some("test") => {
                self.begun = None;
                let output = text("output");
                self.tests.push(Test {
                    name: text("test"),
                    outcome: outcome(said["success"] == true, &output),
                    seconds: said["seconds"].as_f64().unwrap_or_default(),
                    output,
                });
            }
            Some("left out") => {
                let tests = said["tests"].as_u64().unwrap_or_default();
                self.left_out = usize::try_from(tests).unwrap_or(usize::MAX);
            }
            Some("end") => self.complete = true,
            _ => self.troubles.push(text("text")),
        }
    }

    /// Judges how the machine ended.
    fn close(&mut self, ended: &Ended, limit: Duration) {
        let complaint = qemu::complaint(&ended.console);
        if let Some(name) = self.begun.take() {
            let why = match (&complaint, ended.status) {
                (Some(complaint), _) => complaint.clone(),
                (None, None) => {
                    format!("the guest was ended after {} s, its limit", limit.as_secs())
                }
                (None, Some(_)) => "the guest ended".to_owned(),
            };
            self.tests.push(Test {
                name,
                outcome: Outcome::Failed,
                seconds: 0.0,
                output: why,
            });
        }
        if let Some(complaint) = complaint {
            self.troubles.push(format!("the kernel says:\n{complaint}"));
        }
        if !self.complete {
            let why = match ended.status {
                None if self.release.is_empty() => "hung at boot, twice".to_owned(),
                None => format!("ended after {} s, its limit", limit.as_secs()),
                Some(status) => format!("ended early, qemu with {status}"),
            };
            self.troubles
                .push(format!("the guest {why}:\n{}", qemu::last_words(ended)));
        }
    }
}

/// A test that returns without having tested says so.
fn outcome(success: bool, output: &str) -> Outcome {
    // The first line of a test stands behind its name.
    let skipped = output.lines().find_map(|line| {
        let said = line.rsplit_once(" ... ").map_or(line, |(_, said)| said);
        said.strip_prefix("skipped: ")
    });
    match (success, skipped) {
        (false, _) => Outcome::Failed,
        (true, None) => Outcome::Ok,
        (true, Some(why)) => Outcome::Skipped(why.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn ended(status: Option<i32>, console: &str) -> Ended {
        Ended {
            status: status.map(std::process::ExitStatus::from_raw),
            console: console.into(),
            errors: String::new(),
        }
    }

    fn heard(lines: &[Value]) -> Report {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.take(&line.to_string()));
        report
    }

    fn test(name: &str, success: bool, output: &str) -> Value {
        json!({"kind": "test", "test": name, "success": success, "seconds": 1.5, "output": output})
    }

    #[test]
    fn a_complete_report_is_judged_by_its_tests() {
        let up = json!({"kind": "up", "release": "6.1.0", "troubles": []});
        let skipped = test("b", true, "\ntest b ... skipped: this kernel lacks it\n");
        let lines = [
            up,
            test("a", true, "skipped in part"),
            skipped,
            json!({"kind": "end"}),
        ];
        let mut report = heard(&lines);
        report.close(&ended(Some(0), "all is well"), Duration::from_secs(9));
        let outcomes: Vec<_> = report
            .tests
            .iter()
            .map(|test| test.outcome.clone())
            .collect();
        assert_eq!(
            outcomes,
            [Outcome::Ok, Outcome::Skipped("this kernel lacks it".into())]
        );
        assert!(!report.failed());
        report.take(&test("c", false, "skipped: never").to_string());
        assert!(report.failed());
    }

    #[test]
    fn a_panic_is_the_result_of_the_test_that_ran() {
        let mut report = heard(&[json!({"kind": "begin", "test": "a"})]);
        report.close(
            &ended(Some(0), "Kernel panic - not syncing"),
            Duration::from_secs(9),
        );
        assert_eq!(report.tests[0].outcome, Outcome::Failed);
        assert!(report.tests[0].output.contains("Kernel panic"));
        assert!(report.failed());
    }

    #[test]
    fn a_guest_that_hangs_or_ends_early_has_failed() {
        let mut hung = heard(&[json!({"kind": "begin", "test": "a"})]);
        hung.close(&ended(None, ""), Duration::from_secs(9));
        assert!(hung.tests[0].output.contains("after 9 s"), "{hung:?}");
        let mut short = heard(&[test("a", true, "")]);
        short.close(&ended(Some(0), ""), Duration::from_secs(9));
        assert!(short.failed());
    }
}
