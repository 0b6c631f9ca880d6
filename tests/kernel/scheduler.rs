//! `scheduler` against `/proc/stat` and schedstat.

use std::{
    collections::BTreeMap,
    fs, hint,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    harness::{Attached, Totals, machine},
    hidden::{Switches, process_1_is_hidden, stat},
};

/// Scenario: the machine does what it does; the kernel's own count is read right before and right after each drain.
/// Guarantees: the probe's count always lies between the two. The kernel counts a switch a moment before its tracepoint fires
/// (`__schedule` of kernel/sched/core.c), so one on each other CPU may be under way at the first read and at the last; a count
/// that is off by no more goes again from the beginning, and anything else is wrong at once.
#[test]
fn context_switches_lie_between_the_kernels_own_counts() {
    const ATTEMPTS: usize = 5;
    let Some(_machine) = machine() else { return };
    let hidden = process_1_is_hidden();
    let others = thread::available_parallelism().expect("CPUs").get() as u64 - 1;
    let mut reader = Attached::new("scheduler", "");
    for attempt in 1..=ATTEMPTS {
        let first = Switches::read(&mut reader);
        let agrees = (0..100).all(|round| {
            thread::sleep(Duration::from_millis(20));
            let rise = Switches::read(&mut reader).since(&first);
            let bracket = if hidden {
                rise.not_of_process_1()
            } else {
                rise.all.clone()
            };
            let under_way = bracket.start().saturating_sub(others)..=bracket.end() + others;
            assert!(
                under_way.contains(&rise.counted),
                "round {round}: {} is not in {bracket:?}",
                rise.counted
            );
            let agrees = bracket.contains(&rise.counted);
            if !agrees {
                println!(
                    "attempt {attempt}, round {round}: {} is not in {bracket:?}",
                    rise.counted
                );
            }
            agrees
        });
        if agrees {
            return;
        }
    }
    panic!("a switch was under way {ATTEMPTS} times");
}

/// Scenario: 23 children are forked, run a program and are reaped, and 23 threads begin and end.
/// Guarantees: at least 23 forks, execs and exits of processes and of threads; new tasks agree with the kernel's `processes`.
/// The kernel counts a task a moment before its tracepoint fires, so somebody else's may fall between: then it goes again.
#[test]
fn forks_execs_and_exits_are_counted() {
    const CHILDREN: u64 = 23;
    const ATTEMPTS: usize = 5;
    let Some(_machine) = machine() else { return };
    let mut reader = Attached::new("scheduler", "");
    let agrees = (1..=ATTEMPTS).any(|attempt| {
        let (outer, first, inner) = (stat("processes "), reader.read(), stat("processes "));
        for _ in 0..CHILDREN {
            let status = Command::new("/bin/true").status().expect("a child");
            assert!(status.success());
        }
        let threads: Vec<_> = (0..CHILDREN).map(|_| thread::spawn(|| {})).collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("an idle thread"));
        // Joining a thread waits for its memory, which it gives up before its tracepoint fires.
        thread::sleep(Duration::from_millis(100));
        let (least, last, most) = (stat("processes "), reader.read(), stat("processes "));
        let rise = |metric: &str, labels: &[&str]| {
            last.counter(metric, None, labels) - first.counter(metric, None, labels)
        };
        for kind in ["process", "thread"] {
            assert!(
                rise("scheduler.forks", &[kind]) >= CHILDREN,
                "forks of a {kind}"
            );
            assert!(
                rise("scheduler.exits", &[kind]) >= CHILDREN,
                "exits of a {kind}"
            );
        }
        assert!(rise("scheduler.execs", &[]) >= CHILDREN, "execs");
        let (forked, bracket) = (rise("scheduler.forks", &[]), least - inner..=most - outer);
        println!("attempt {attempt}: {forked} new tasks, by the kernel {bracket:?}");
        bracket.contains(&forked)
    });
    assert!(agrees, "new tasks never agreed with the kernel's");
}

/// Scenario: more spinning threads than CPUs for two seconds.
/// Guarantees: the time slices of all tasks add up to CPUs x window within 3 %. A slice counts where it ends, so what lies on
/// both sides of an edge of the window is counted on one: a machine that lets a slice last for long makes the edges wide, and
/// is asked again.
#[test]
fn time_slices_add_up_to_the_cpus_time() {
    const ATTEMPTS: usize = 10;
    let Some(_machine) = machine() else { return };
    let cpus = thread::available_parallelism().expect("CPUs").get();
    for attempt in 1..=ATTEMPTS {
        let mut reader = Attached::new("scheduler", "");
        let load = Spinners::start(cpus * 2, None);
        thread::sleep(Duration::from_millis(300));
        let (earliest, first, latest) = (Instant::now(), reader.read(), Instant::now());
        thread::sleep(Duration::from_secs(2));
        let (least, last, most) = (latest.elapsed(), reader.read(), earliest.elapsed());
        load.stop();
        // Those that lay across the end of the window have ended by now.
        let longest = reader.read().longest("scheduler.slice");
        let slices = last.histogram("scheduler.slice", None, &[]).1
            - first.histogram("scheduler.slice", None, &[]).1;
        let of_all = |window: Duration| window.as_secs_f64() * cpus as f64;
        let edge = Duration::from_nanos(longest).as_secs_f64();
        let slices = Duration::from_nanos(slices).as_secs_f64();
        println!(
            "attempt {attempt}: slices {slices:.4} s, CPUs {:.4} to {:.4} s, the longest slice {edge:.4} s",
            of_all(least),
            of_all(most)
        );
        let possible = of_all(least) - edge * cpus as f64..=of_all(most) + edge * cpus as f64;
        assert!(
            (possible.start() * 0.97..=possible.end() * 1.03).contains(&slices),
            "slices of {slices:.4} s are not possible"
        );
        if (of_all(least) * 0.97..=of_all(most) * 1.03).contains(&slices) {
            return;
        }
        // On each CPU one slice lies across each edge.
        assert!(
            edge > 0.03 * least.as_secs_f64(),
            "slices of {slices:.4} s with sharp edges"
        );
    }
    println!("skipped in part: slices were too long {ATTEMPTS} times to tell a difference of 3 %");
}

/// Scenario: four threads spin on one CPU, pinned, so that the kernel's own run delay is exact.
/// Guarantees: run-queue latency rises, and its sum as much as the run delays of all tasks, within 5 %. The kernel restarts
/// the delay of a waiting task that it moves to another CPU, and that of a task that ends is gone, so while others use the
/// machine only the load's own delays are exact: the sum never falls short of those, and the test says that it saw no more.
#[test]
fn run_queue_latency_agrees_with_the_kernels_run_delay() {
    const ATTEMPTS: usize = 10;
    /// New tasks in two seconds.
    const QUIET: u64 = 10;
    let Some(_machine) = machine() else { return };
    let mut reader = Attached::new("scheduler", "");
    for attempt in 1..=ATTEMPTS {
        let load = Spinners::start(4, Some(0));
        thread::sleep(Duration::from_millis(300));
        let (begun, first_delays, first) = (stat("processes "), run_delays(), reader.read());
        thread::sleep(Duration::from_secs(2));
        let (last_delays, last, new) = (run_delays(), reader.read(), stat("processes ") - begun);
        load.stop();
        let latency =
            |totals: &Totals| totals.histogram("scheduler.run_queue_latency", None, &[]).1;
        let counted = latency(&last) - latency(&first);
        let rise = |(task, delay): (&Task, &u64)| {
            (
                *task,
                delay - first_delays.get(task).copied().unwrap_or(0).min(*delay),
            )
        };
        let rises: BTreeMap<_, _> = last_delays.iter().map(rise).collect();
        let kernel: u64 = rises.values().sum();
        let own: u64 = rises
            .iter()
            .filter(|((process, _), _)| *process == std::process::id())
            .map(|(_, rise)| rise)
            .sum();
        // Three of the four always wait.
        assert!(own > 4_000_000_000, "the load did not wait: {own} ns");
        let least = counted as f64 / own as f64;
        assert!(
            least >= 0.95,
            "{counted} ns, but the load alone waited {own} ns: {least:.4}"
        );
        let ratio = counted as f64 / kernel as f64;
        println!("{counted} ns, run delays {kernel} ns, of these {own} ns of the load: {ratio:.4}");
        if kernel - own < own / 50 && new <= QUIET {
            assert!(
                (0.95..=1.05).contains(&ratio),
                "{counted} ns against {kernel} ns: {ratio:.4}"
            );
            return;
        }
        println!("attempt {attempt}: the machine is busy, {new} new tasks");
    }
    println!(
        "skipped in part: the machine was too busy {ATTEMPTS} times to compare with all tasks"
    );
}

/// Process and thread.
type Task = (u32, u32);

/// Time each task of the machine waited for a CPU, ns (the second field of schedstat), by process and thread.
fn run_delays() -> BTreeMap<Task, u64> {
    let numbered = |path: &str| -> Vec<u32> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    };
    let mut delays = BTreeMap::new();
    for process in numbered("/proc") {
        for task in numbered(&format!("/proc/{process}/task")) {
            let text = fs::read_to_string(format!("/proc/{process}/task/{task}/schedstat"))
                .unwrap_or_default();
            if let Some(delay) = text
                .split_whitespace()
                .nth(1)
                .and_then(|delay| delay.parse().ok())
            {
                delays.insert((process, task), delay);
            }
        }
    }
    delays
}

/// Threads that do nothing but run.
struct Spinners {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Spinners {
    fn start(count: usize, cpu: Option<usize>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                if let Some(cpu) = cpu {
                    let mut set = CpuSet::new();
                    set.set(cpu);
                    sched_setaffinity(None, &set).expect("pinning to a CPU");
                }
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            })
        };
        let threads = (0..count).map(spin).collect();
        Self { stop, threads }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().expect("a spinning thread"));
    }
}
