//! How often each kernel program ran and how long that took, by the kernel's own statistics while they are switched on.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::sys::{Stats, enable_stats};

use super::{COUNTER, def};
use crate::{
    kernel::cost::ProgramStatistics,
    model::{Health, MetricDef, Snapshot, Status, Unit},
    pipeline::counters::RunningProgram,
};

const PROGRAM: &[&str] = &["reader", "program"];

pub(super) static RUN_TIME: MetricDef = def(
    "probe.program.run_time",
    COUNTER,
    Unit::Nanoseconds,
    "Time in a kernel program, with `accounting = true`; what the measuring itself takes is in it.",
    PROGRAM,
);
pub(super) static RUNS: MetricDef = def(
    "probe.program.runs",
    COUNTER,
    Unit::Count,
    "Runs of a kernel program, with `accounting = true`.",
    PROGRAM,
);

/// The kernel's statistics of programs (`BPF_ENABLE_STATS`, Linux 5.8), which are on for the whole machine as long as
/// somebody holds a descriptor of them. Opening one takes CAP_SYS_ADMIN; holding it takes nothing.
#[derive(Default)]
pub(super) struct Accounting {
    statistics: Option<OwnedFd>,
    /// Why they are not on.
    problem: String,
}

impl Accounting {
    /// To be called before privileges are given up.
    pub(super) fn switch_on(&mut self) {
        match enable_stats(Stats::RunTime) {
            Ok(descriptor) => self.statistics = Some(descriptor),
            Err(error) => {
                self.problem = match error.io_error.raw_os_error() {
                    Some(libc::EPERM) => "accounting needs CAP_SYS_ADMIN at the start".to_owned(),
                    _ => format!("accounting: {error}: {}", error.io_error),
                };
                tracing::warn!("probe: {}", self.problem);
            }
        }
    }

    pub(super) fn push(&self, out: &mut Snapshot, programs: &[RunningProgram]) {
        if self.statistics.is_none() {
            out.unsupported.extend([&RUN_TIME, &RUNS]);
            if out.health.status == Status::Ok {
                out.health = Health::new(Status::Degraded, self.problem.as_str());
            }
            return;
        }
        for program in programs {
            // One whose reader is gone is an ended series.
            if let Some(descriptor) = program.descriptor.upgrade() {
                let told = ProgramStatistics::read(descriptor.as_fd());
                let labels = || [program.reader, program.name];
                out.counter(&RUN_TIME, None, labels(), told.run_time_ns);
                out.counter(&RUNS, None, labels(), told.run_cnt);
            }
        }
    }
}
