//! Kernels that keep their tracepoints quiet while process 1 runs.
//!
//! Some sandboxes run a kernel that hides the process that manages them: no tracepoint fires while one of its threads is
//! the current task, neither for our programs nor for any other tracer. Their switches are in `/proc/stat` all the same, and a
//! completion interrupt that hits one of them is in `/proc/diskstats`. On such a kernel a test knows exactly how many switches
//! are hidden, from the threads' own counters; on all others nothing is ever forgiven.

use std::{fs, ops::RangeInclusive, sync::OnceLock, thread, time::Duration};

use crate::harness::Attached;

/// Context switches since boot, as the kernel counts them.
fn ctxt() -> u64 {
    stat("ctxt ")
}

/// A number of `/proc/stat`.
pub(crate) fn stat(name: &str) -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let value = stat
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("the line is there");
    value.trim().parse().expect("a number")
}

/// Switches away from the threads of process 1.
pub(crate) fn switches_of_process_1() -> u64 {
    let threads = fs::read_dir("/proc/1/task").expect("process 1");
    let statuses = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let count = |line: &str| {
        line.split_once("ctxt_switches:")?
            .1
            .trim()
            .parse::<u64>()
            .ok()
    };
    statuses
        .map(|status| status.lines().filter_map(count).sum::<u64>())
        .sum()
}

/// Whether this kernel hides process 1. Found out once, when its threads have switched at least three times: then as many
/// switches of the machine are missing.
pub(crate) fn process_1_is_hidden() -> bool {
    static HIDDEN: OnceLock<bool> = OnceLock::new();
    *HIDDEN.get_or_init(|| {
        let mut reader = Attached::new("scheduler", "");
        let first = Switches::read(&mut reader);
        for _ in 0..500 {
            thread::sleep(Duration::from_millis(10));
            let rise = Switches::read(&mut reader).since(&first);
            if *rise.of_process_1.start() >= 3 {
                let hidden = !rise.all.contains(&rise.counted)
                    && rise.not_of_process_1().contains(&rise.counted);
                if hidden {
                    println!("this kernel hides process 1: {rise:?}");
                }
                return hidden;
            }
        }
        false
    })
}

/// Switches as the program counts them, and the kernel's own counts read right before and right after.
pub(crate) struct Switches {
    of_process_1: (u64, u64),
    all: (u64, u64),
    counted: u64,
}

impl Switches {
    /// Reads them now.
    pub(crate) fn read(reader: &mut Attached) -> Self {
        let before = (switches_of_process_1(), ctxt());
        let counted = reader
            .read()
            .counter("scheduler.context_switches", None, &[]);
        let after = (ctxt(), switches_of_process_1());
        Self {
            of_process_1: (before.0, after.1),
            all: (before.1, after.0),
            counted,
        }
    }

    /// What was added since then.
    pub(crate) fn since(&self, first: &Self) -> Rise {
        let bracket =
            |now: (u64, u64), then: (u64, u64)| now.0.saturating_sub(then.1)..=now.1 - then.0;
        Rise {
            of_process_1: bracket(self.of_process_1, first.of_process_1),
            all: bracket(self.all, first.all),
            counted: self.counted - first.counted,
        }
    }
}

/// Switches between two reads: what the program counted, and what the kernel's own counts allow.
#[derive(Debug)]
pub(crate) struct Rise {
    of_process_1: RangeInclusive<u64>,
    /// Of the whole machine.
    pub(crate) all: RangeInclusive<u64>,
    /// By the program.
    pub(crate) counted: u64,
}

impl Rise {
    /// Of all but process 1.
    pub(crate) fn not_of_process_1(&self) -> RangeInclusive<u64> {
        self.all.start().saturating_sub(*self.of_process_1.end())
            ..=self.all.end() - self.of_process_1.start()
    }
}
