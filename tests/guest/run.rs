//! Runs commands and tests, one process each, and reports how they ended.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions},
};
use serde_json::json;

use crate::{Reports, job::Job};

/// The program that holds the kernel tests.
const TESTS: &str = "/bin/kernel-tests";

/// What the tests find in their environment.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("PATH", "/bin"),
    ("HOME", "/tmp"),
    ("DATAFLUX_PROBE", "/bin/dataflux-probe"),
    ("DATAFLUX_KERNEL_TESTS", "required"),
    ("DATAFLUX_GUEST", "1"),
];

/// Each in a process of its own: one that crashes or hangs takes no other with it.
pub(crate) fn everything(job: &Job, reports: &mut Reports) {
    for words in &job.commands {
        let ended = words.split_first().context("an empty command");
        let ended = ended.and_then(|(program, arguments)| run(program, arguments, job.limit));
        reports.send(&match ended {
            Ok(ended) => json!({
                "kind": "command", "command": words, "status": ended.status.to_string(),
                "success": ended.status.success(), "stdout": ended.stdout, "stderr": ended.stderr,
            }),
            Err(error) => json!({
                "kind": "command", "command": words, "status": format!("{error:#}"),
                "success": false, "stdout": "", "stderr": "",
            }),
        });
    }
    let names = match names() {
        Ok(names) => names,
        Err(error) => {
            return reports.send(&json!({"kind": "trouble", "text": format!("{error:#}")}));
        }
    };
    let wanted = |name: &&String| {
        job.filters.is_empty() || job.filters.iter().any(|filter| name.contains(filter))
    };
    let (wanted, left_out): (Vec<_>, Vec<_>) = names.iter().partition(wanted);
    reports.send(&json!({"kind": "left out", "tests": left_out.len()}));
    for name in wanted {
        reports.send(&json!({"kind": "begin", "test": name}));
        let begin = Instant::now();
        let arguments = ["--exact", name, "--nocapture", "--test-threads=1"].map(str::to_owned);
        let (success, output) = match run(TESTS, &arguments, job.limit) {
            Ok(ended) => (
                ended.status.success(),
                // A signal leaves no other trace.
                format!("{}{}{}\n", ended.stdout, ended.stderr, ended.status),
            ),
            Err(error) => (false, format!("{error:#}")),
        };
        let seconds = begin.elapsed().as_secs_f64();
        reports.send(&json!({
            "kind": "test", "test": name, "success": success, "seconds": seconds, "output": output,
        }));
    }
}

fn names() -> anyhow::Result<Vec<String>> {
    let listed = run(TESTS, &["--list".to_owned()], Duration::from_secs(60))?;
    if !listed.status.success() {
        bail!("{TESTS} --list: {}: {}", listed.status, listed.stderr);
    }
    let names = listed
        .stdout
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs a program to its end, or ends it with all that it started.
fn run(program: &str, arguments: &[String], limit: Duration) -> anyhow::Result<Ended> {
    let (out, err) = ("/run/stdout", "/run/stderr");
    let child = Command::new(program)
        .args(arguments)
        .envs(ENVIRONMENT)
        .stdin(Stdio::null())
        .stdout(File::create(out)?)
        .stderr(File::create(err)?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let status = wait(child, limit);
    let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let (stdout, stderr) = (text(out), text(err));
    match status? {
        Some(status) => Ok(Ended {
            status,
            stdout,
            stderr,
        }),
        None => bail!(
            "ended after {} s, the limit\n{stdout}{stderr}",
            limit.as_secs()
        ),
    }
}

/// The status, or `None` if it had to be ended. Whatever it left behind is ended and reaped, as the first process must.
fn wait(mut child: Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let group = Pid::from_child(&child);
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begin.elapsed() > limit {
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    match rustix::process::kill_process_group(group, Signal::KILL) {
        // There may be nobody left.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    if status.is_none() {
        child.wait()?;
    }
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    Ok(status)
}
