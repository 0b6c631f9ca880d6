//! What the probe itself takes: CPU time of a tick, memory, kernel memory, and the time until everything is attached.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dataflux_probe::kernel::cost;
use rustix::process::Pid;
use serde::Serialize;

use super::{
    kernel_objects,
    running_probe::{Installation, RunningProbe},
    statistics::{Bar, Spread, Verdict},
};
use crate::command::say;

/// How long the probe runs before it is measured: start, baseline and the first envelopes.
const WARM_UP: Duration = Duration::from_secs(4);
/// Ticks over which CPU time is measured.
const TICKS: u32 = 20;
/// The interval of every reader.
const TICK: Duration = Duration::from_secs(1);
/// How often the start is timed.
const STARTS: usize = 9;

/// Possible CPUs and the bar on kernel memory for that many, MiB.
const BUDGETS: [(usize, f64); 3] = [(2, 12.0), (64, 24.0), (256, 64.0)];
pub(super) const MIB: f64 = 1_048_576.0;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) unit: &'static str,
    pub(super) value: f64,
    /// Of figures that were measured several times.
    pub(super) spread: Option<Spread>,
    pub(super) bar: Option<Bar>,
    pub(super) verdict: Option<Verdict>,
}

impl Row {
    pub(super) fn new(
        what: impl Into<String>,
        unit: &'static str,
        value: f64,
        bar: Option<Bar>,
    ) -> Self {
        Self {
            what: what.into(),
            unit,
            value,
            spread: None,
            bar,
            verdict: bar.map(|bar| bar.judge(value, 0.0)),
        }
    }

    /// The median of several rounds.
    pub(super) fn of_rounds(
        what: impl Into<String>,
        unit: &'static str,
        spread: Spread,
        bar: Option<Bar>,
    ) -> Self {
        Self {
            spread: Some(spread),
            verdict: bar.map(|bar| bar.judge_median(spread)),
            ..Self::new(what, unit, spread.median, bar)
        }
    }

    /// The mean of several steps, which is what all of them took.
    pub(super) fn of_mean(
        what: impl Into<String>,
        unit: &'static str,
        mean: f64,
        spread: Spread,
        bar: Bar,
    ) -> Self {
        Self {
            spread: Some(spread),
            verdict: Some(bar.judge(mean, spread.width())),
            ..Self::new(what, unit, mean, Some(bar))
        }
    }
}

/// Measures the probe with every reader at 1 s on an otherwise quiet machine.
///
/// # Errors
/// The probe does not run.
pub(super) fn measure(probe: &Installation) -> anyhow::Result<Vec<Row>> {
    say(format_args!("process: every reader at 1 s, {TICKS} ticks"));
    let mut running = probe.start_and_wait()?;
    sleep(WARM_UP);
    let mut rows = vec![cpu(&running, Bar::AtMost(0.2))?];
    rows.extend(resident(&running.folder)?);
    rows.extend(kernel_memory(&running.folder)?);
    let programs = running.count_links()?;
    running.stop()?;
    say(format_args!("process: {STARTS} starts"));
    rows.push(first_attach(probe, programs)?);
    Ok(rows)
}

/// CPU time of all threads of the probe, in user mode and in the kernel on its behalf.
pub(super) fn cpu(running: &RunningProbe, bar: Bar) -> anyhow::Result<Row> {
    let mut shares = Vec::new();
    let clock = CpuClock::of(running.pid())?;
    let (mut before, mut start) = (clock.read()?, Instant::now());
    for _ in 0..TICKS {
        sleep(TICK);
        let (now, at) = (clock.read()?, Instant::now());
        let took = (now - before).as_secs_f64();
        shares.push(100.0 * took / (at - start).as_secs_f64());
        (before, start) = (now, at);
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let spread = Spread::of(shares).context("no tick was measured")?;
    Ok(Row::of_mean(
        format!("CPU of the probe, mean of {TICKS} ticks"),
        "% of one CPU",
        mean,
        spread,
        bar,
    ))
}

/// The clock of CPU time of another process.
pub(super) struct CpuClock(libc::clockid_t);

impl CpuClock {
    pub(super) fn of(process: Pid) -> anyhow::Result<Self> {
        let mut clock = 0;
        // SAFETY: the pointer is to a local variable.
        let error =
            unsafe { libc::clock_getcpuclockid(process.as_raw_nonzero().get(), &raw mut clock) };
        anyhow::ensure!(
            error == 0,
            "no clock for the CPU time of the probe: {error}"
        );
        Ok(Self(clock))
    }

    pub(super) fn read(&self) -> anyhow::Result<Duration> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the pointer is to a local variable.
        let result = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        anyhow::ensure!(
            result == 0,
            "reading the CPU time of the probe: {}",
            std::io::Error::last_os_error()
        );
        Ok(Duration::new(
            u64::try_from(time.tv_sec)?,
            u32::try_from(time.tv_nsec)?,
        ))
    }
}

/// RSS, with the mapped kernel arrays apart.
fn resident(process: &Path) -> anyhow::Result<[Row; 2]> {
    let resident = Resident::of(process)?;
    Ok([
        Row::new(
            "RSS without mapped kernel arrays",
            "MiB",
            resident.own as f64 / MIB,
            Some(Bar::AtMost(15.0)),
        ),
        Row::new(
            "RSS of mapped kernel arrays",
            "MiB",
            resident.kernel_arrays as f64 / MIB,
            None,
        ),
    ])
}

/// Bytes of memory in use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resident {
    pub(super) own: u64,
    pub(super) kernel_arrays: u64,
}

impl Resident {
    /// Of a process, by its folder in `/proc`.
    pub(super) fn of(process: &Path) -> anyhow::Result<Self> {
        let path = process.join("smaps");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Self::parse(&text))
    }

    /// From `/proc/PID/smaps`: a line with an address range and a name opens each mapping.
    fn parse(smaps: &str) -> Self {
        let mut resident = Self {
            own: 0,
            kernel_arrays: 0,
        };
        let mut of_the_kernel = false;
        for line in smaps.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("Rss:") => {
                    let kib: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                    if of_the_kernel {
                        resident.kernel_arrays += kib << 10;
                    } else {
                        resident.own += kib << 10;
                    }
                }
                Some(first) if !first.ends_with(':') => {
                    of_the_kernel = line.ends_with("anon_inode:bpf-map")
                }
                _ => {}
            }
        }
        resident
    }
}

fn kernel_memory(process: &Path) -> anyhow::Result<Vec<Row>> {
    let links = kernel_objects::links(process)?;
    let memory = kernel_objects::memory(&links)?;
    let mut rows = vec![
        Row::new(
            "kernel memory of maps here",
            "MiB",
            memory.maps as f64 / MIB,
            None,
        ),
        Row::new(
            format!("kernel memory of {} programs here", links.len()),
            "MiB",
            memory.programs as f64 / MIB,
            None,
        ),
    ];
    rows.extend(BUDGETS.map(|(cpus, bar)| {
        Row::new(
            format!("kernel memory computed for {cpus} CPUs"),
            "MiB",
            cost::budget(cpus) as f64 / MIB,
            Some(Bar::AtMost(bar)),
        )
    }));
    Ok(rows)
}

/// From right before the process is made to the last of its programs being attached, as another process sees it.
fn first_attach(probe: &Installation, programs: usize) -> anyhow::Result<Row> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let mut running = probe.start()?;
        while running.count_links()? < programs {
            sleep(Duration::from_micros(500));
        }
        times.push(running.started.elapsed().as_secs_f64() * 1e3);
        // Killed: it may not listen to signals yet.
        drop(running);
    }
    let spread = Spread::of(times).context("no start was measured")?;
    Ok(Row::of_rounds(
        "process start to all programs attached",
        "ms",
        spread,
        Some(Bar::AtMost(300.0)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_kernel_arrays_are_told_apart() {
        let smaps = "55a0-55b0 r--p 00000000 fe:00 12 /usr/bin/dataflux-probe\n\
                     Size: 64 kB\nRss: 40 kB\nPss: 40 kB\nVmFlags: rd mr\n\
                     7f00-7f10 rw-s 00000000 00:0e 11 anon_inode:bpf-map\nRss:                  24 kB\n\
                     7f10-7f20 rw-p 00000000 00:00 0\nRss:  8 kB\n";
        let expected = Resident {
            own: 48 << 10,
            kernel_arrays: 24 << 10,
        };
        assert_eq!(Resident::parse(smaps), expected);
    }
}
