//! `memory`, `load`, `vm`, `limits` and `clock` against `free`, `uptime`, `vmstat`, `sysctl`, `ps` and `adjtimex`.
//!
//! Each tool is asked before and after the probe. What moves both ways meanwhile is compared again if it has moved.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use dataflux_tests::tools;
use serde_json::Value;

/// So often is something compared that may move while it is.
const TRIES: usize = 15;

fn gauge(envelope: &Value, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let series = tools::series(envelope, metric, labels);
    let value = series.and_then(|series| series["value"].as_f64());
    value.unwrap_or_else(|| panic!("{metric} {labels:?} is not in {envelope}"))
}

/// Bytes by the column of `free`, with `swap_` before those of its second line.
fn free() -> Option<BTreeMap<String, f64>> {
    let text = tools::printed("free", &["--bytes", "--wide"])?;
    let mut lines = text.lines();
    let names: Vec<_> = lines.next()?.split_whitespace().collect();
    let mut columns = BTreeMap::new();
    for (line, prefix) in lines.zip(["", "swap_"]) {
        for (name, value) in names.iter().zip(line.split_whitespace().skip(1)) {
            columns.insert(format!("{prefix}{name}"), value.parse().ok()?);
        }
    }
    Some(columns)
}

/// Scenario: `free`, the probe, `free`.
/// Guarantees: what cannot change is the same; what changes lies between or close by.
#[test]
fn memory_is_what_free_says() {
    let mut apart = String::new();
    for _ in 0..TRIES {
        let Some(before) = free() else { return };
        let envelope = tools::measured("[metrics.memory]\nnodes = false\ndetails = true");
        let after = free().expect("it was there before");
        for (column, metric) in [
            ("total", "memory.total"),
            ("swap_total", "memory.swap_total"),
        ] {
            assert_eq!(gauge(&envelope, metric, &[]), before[column], "{metric}");
        }
        let slack = before["total"] / 200.0;
        let cache = gauge(&envelope, "memory.cached", &[])
            + gauge(&envelope, "memory.slab_reclaimable", &[]);
        let moving = [
            ("free", gauge(&envelope, "memory.free", &[])),
            ("shared", gauge(&envelope, "memory.shared", &[])),
            ("buffers", gauge(&envelope, "memory.buffers", &[])),
            ("available", gauge(&envelope, "memory.available", &[])),
            ("swap_free", gauge(&envelope, "memory.swap_free", &[])),
            ("cache", cache),
        ];
        let strays = moving.into_iter().find(|(column, value)| {
            let (low, high) = (
                before[*column].min(after[*column]),
                before[*column].max(after[*column]),
            );
            !(low - slack..=high + slack).contains(value)
        });
        match strays {
            None => return,
            Some((column, value)) => {
                apart = format!("{column}: {} {value} {}", before[column], after[column]);
            }
        }
    }
    panic!("{apart}");
}

/// The figures of `vmstat -s` by what they are.
fn vmstat() -> Option<BTreeMap<String, u64>> {
    let text = tools::printed("vmstat", &["--stats"])?;
    let figures = text.lines().filter_map(|line| {
        let (figure, what) = line.trim().split_once(' ')?;
        Some((what.trim().to_owned(), figure.parse().ok()?))
    });
    Some(figures.collect())
}

/// Writes to the disk until it is told to stop.
fn write_until(stop: &AtomicBool) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trusted-tools-host");
    while !stop.load(Relaxed) {
        let mut file = File::create(&path).expect("the target folder is writable");
        file.write_all(&[1; 1 << 16]).expect("there is room");
        file.sync_all().expect("the disk works");
    }
    std::fs::remove_file(path).expect("it was made");
}

/// Scenario: `vmstat -s`, the probe, `vmstat -s`, while something is written to the disk.
/// Guarantees: what was paged out lies between the two, exactly.
#[test]
fn paging_is_what_vmstat_says() {
    if vmstat().is_none() {
        return;
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| write_until(&stop));
        let before = vmstat();
        let envelope = tools::measured("[metrics.vm]");
        let after = vmstat();
        stop.store(true, Relaxed);
        let (before, after) = (before.expect("it was there"), after.expect("it was there"));
        let paged = tools::series(&envelope, "vm.paged", &[("direction", "out")]);
        let Some(paged) = paged.and_then(|series| series["total"].as_u64()) else {
            // A target folder in memory: nothing is paged.
            assert_eq!(before["K paged out"], after["K paged out"], "{envelope}");
            return;
        };
        let range = before["K paged out"]..=after["K paged out"];
        assert!(range.contains(&(paged / 1024)), "{paged} {range:?}");
    });
}

/// Scenario: `uptime`, the probe, `uptime`.
/// Guarantees: the load averages are the same unless they changed meanwhile.
#[test]
fn load_is_what_uptime_says() {
    let averages = || -> Option<Vec<f64>> {
        let text = tools::printed("uptime", &[])?;
        let (_, averages) = text.rsplit_once("load average: ")?;
        let parsed = averages.trim().split(", ").map(str::parse);
        parsed.collect::<Result<_, _>>().ok()
    };
    for _ in 0..TRIES {
        let Some(before) = averages() else { return };
        let envelope = tools::measured("[metrics.load]");
        let over = |over| gauge(&envelope, "load.average", &[("over", over)]);
        let measured = ["1m", "5m", "15m"].map(over);
        if averages().as_ref() != Some(&before) {
            continue;
        }
        assert_eq!(measured, *before);
        return;
    }
    panic!("the averages changed {TRIES} times");
}

/// Scenario: `sysctl`, the probe.
/// Guarantees: what is allowed is the same; the threads are about those that `ps` lists.
#[test]
fn limits_are_what_sysctl_says() {
    let sysctl = |name: &str| -> Option<f64> {
        let text = tools::printed("sysctl", &["-n", name])?;
        text.split_whitespace().next_back()?.parse().ok()
    };
    for _ in 0..TRIES {
        let threads = || {
            Some(
                tools::printed("ps", &["-eL", "--no-headers"])?
                    .lines()
                    .count() as f64,
            )
        };
        let Some(before) = threads() else { return };
        let envelope = tools::measured("[metrics.limits]");
        let after = threads().expect("it was there before");
        for (resource, name) in [
            ("files", "fs.file-nr"),
            ("threads", "kernel.threads-max"),
            ("thread_ids", "kernel.pid_max"),
        ] {
            let allowed = gauge(&envelope, "limits.allowed", &[("resource", resource)]);
            assert_eq!(Some(allowed), sysctl(name), "{resource}");
        }
        // The tools are threads, too, and so is the probe.
        let used = gauge(&envelope, "limits.used", &[("resource", "threads")]);
        let near = before.min(after) - 20.0..=before.max(after) + 20.0;
        if near.contains(&used) {
            return;
        }
    }
    panic!("the threads were never near those that ps lists");
}

/// Scenario: `adjtimex --print`, the probe, `adjtimex --print`.
/// Guarantees: the clock is synchronised or not as it says, and is corrected and errs as much.
#[test]
fn clock_is_what_adjtimex_says() {
    let look = || -> Option<BTreeMap<String, f64>> {
        let text = tools::printed("adjtimex", &["--print"])?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        let number = |text: &str| text.split_whitespace().next()?.parse().ok();
        let pairs =
            pairs.filter_map(|(name, value)| Some((name.trim().to_owned(), number(value)?)));
        Some(pairs.collect())
    };
    let Some(before) = look() else { return };
    let envelope = tools::measured("[metrics.clock]");
    let after = look().expect("it was there before");
    let between = |name: &str, value: f64| {
        let (low, high) = (before[name].min(after[name]), before[name].max(after[name]));
        assert!(
            (low..=high).contains(&value),
            "{name}: {low} {value} {high}"
        );
    };
    let synchronised = gauge(&envelope, "clock.synchronised", &[]) > 0.0;
    assert_eq!(synchronised, before["status"] as u32 & 64 == 0);
    between(
        "esterror",
        gauge(&envelope, "clock.error_estimated", &[]) / 1000.0,
    );
    between(
        "maxerror",
        gauge(&envelope, "clock.error_maximum", &[]) / 1000.0,
    );
    if before == after {
        let tick = (before["tick"] - 10_000.0) / 10_000.0;
        let expected = tick + before["frequency"] / 65_536e6;
        let correction = gauge(&envelope, "clock.correction", &[]);
        assert!(
            (correction - expected).abs() < 1e-12,
            "{correction} {expected}"
        );
    }
}
