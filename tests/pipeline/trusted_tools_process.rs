//! What the probe says of processes, and what `ps` says at the same moment.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
};

use dataflux_tests::{probe, tools};
use serde_json::Value;

/// The series of one envelope of the real machine, by metric.
fn once(metrics: &str) -> BTreeMap<String, Vec<Value>> {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("probe.toml");
    let text = format!("{metrics}\n[output.a]\nformatter = 'json'\nlogger = 'stdout'\n");
    fs::write(&file, text).expect("it is writable");
    let file = file.display().to_string();
    let arguments = [
        "once", "--window", "500ms", "--format", "json", "--config", &file,
    ];
    let output = probe::run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let envelope: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let source = &envelope["sources"][0];
    assert_eq!(source["status"], "ok", "{source}");
    let metrics = source["metrics"].as_array().expect("metrics").iter();
    let series = |metric: &Value| {
        let name = metric["name"].as_str().expect("a name").to_owned();
        (name, metric["series"].as_array().expect("series").clone())
    };
    metrics.map(series).collect()
}

/// What `ps` prints, by line and word; `None` if it is not there.
fn ps(arguments: &[&str]) -> Option<Vec<Vec<String>>> {
    let text = tools::printed("ps", arguments)?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    Some(text.lines().map(words).collect())
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    fn new(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Scenario: a process that computes and one that sleeps; `ps` before and after the probe.
/// Guarantees: command, user, memory, threads and processor time are those of `ps`, of which times can only be between; what
/// computes is among the first by itself, what sleeps because its name is wanted.
#[test]
fn processes_are_those_of_ps() {
    let busy = Running::new("sh", &["-c", "while :; do :; done"]);
    let idle = Running::new("sleep", &["600"]);
    let pids = [&busy, &idle].map(|running| running.0.id().to_string());
    let look = || {
        let columns = "comm=,user:32=,rss=,nlwp=,cputimes=";
        let of = |pid: &String| Some(ps(&["-p", pid, "-o", columns])?.remove(0));
        Some([of(&pids[0])?, of(&pids[1])?])
    };
    let Some(before) = look() else { return };
    // On a busy machine a process may not run for a whole window; then it is not among the first.
    let mut windows = (0..40)
        .map(|_| once("[metrics.process]\ntop_cpu = 1000\ntop_memory = 0\ncommands = ['sleep']"));
    let has_run = |told: &BTreeMap<String, Vec<Value>>| {
        let mut series = told.get("process.cpu_time").into_iter().flatten();
        series.any(|series| series["labels"]["pid"] == *pids[0])
    };
    let told = windows.find(has_run).expect("it computes");
    let after = look().expect("it was there before");
    let of = |metric: &str, pid: &str| -> Vec<Value> {
        let series = told.get(metric).into_iter().flatten();
        series
            .filter(|series| series["labels"]["pid"] == *pid)
            .cloned()
            .collect()
    };
    for (place, pid) in pids.iter().enumerate() {
        let resident = &of("process.resident", pid)[0];
        let [before, after] = [&before[place], &after[place]];
        assert_eq!(resident["labels"]["command"], before[0]);
        assert_eq!(resident["labels"]["user"], before[1]);
        let number = |text: &String| -> f64 { text.parse().expect("a number") };
        let range = number(&before[2]) * 1024.0..=number(&after[2]) * 1024.0;
        let value = resident["value"].as_f64().expect("a number");
        assert!(range.contains(&value), "{range:?} {value}");
        let threads = &of("process.threads", pid)[0];
        assert_eq!(threads["value"].as_f64(), Some(number(&before[3])));
        let total = |series: &Value| series["total"].as_u64().expect("a total") as f64;
        let total: f64 = of("process.cpu_time", pid).iter().map(total).sum();
        let seconds = number(&before[4])..=number(&after[4]) + 1.0;
        assert!(seconds.contains(&(total / 1e9)), "{seconds:?} {total}");
    }
    let value = |series: &Value| series["value"].as_u64().expect("no baseline");
    let used: u64 = of("process.cpu_time", &pids[0]).iter().map(value).sum();
    assert!(used > 0, "it computed in the window");
}

/// Scenario: all processes of the machine, which come and go.
/// Guarantees: there are about as many as `ps` lists, and their states are all processes.
#[test]
fn there_are_as_many_processes_as_ps_lists() {
    let look = || ps(&["-e", "-o", "nlwp="]);
    let Some(before) = look() else { return };
    let told = once("[metrics.process]\ntop_memory = 0");
    let after = look().expect("it was there before");
    let sum = |metric: &str| -> f64 {
        let values = told[metric].iter().map(|series| &series["value"]);
        values.map(|value| value.as_f64().expect("a number")).sum()
    };
    // Other tests start and end programs meanwhile.
    let near = |value: f64, counts: [f64; 2]| {
        let [low, high] = [counts[0].min(counts[1]), counts[0].max(counts[1])];
        assert!(
            low * 0.7 - 20.0 <= value && value <= high * 1.3 + 20.0,
            "{counts:?} {value}"
        );
    };
    near(
        sum("process.processes"),
        [before.len() as f64, after.len() as f64],
    );
    let threads = |lines: &[Vec<String>]| -> f64 {
        let threads = lines
            .iter()
            .map(|line| line[0].parse::<f64>().expect("a number"));
        threads.sum()
    };
    near(sum("process.tasks"), [threads(&before), threads(&after)]);
}
