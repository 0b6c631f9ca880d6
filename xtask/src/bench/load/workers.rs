//! The processes and CPUs that loads run on.

use std::time::Duration;

use anyhow::Context;
use rustix::{
    process::{Signal, getppid, set_parent_process_death_signal},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Has the kernel kill this process when its parent ends, so that no load outlives the bench, however that ends.
pub(super) fn die_with_parent() -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    anyhow::ensure!(
        getppid().is_some_and(|parent| !parent.is_init()),
        "the bench has gone"
    );
    Ok(())
}

/// Runs `work`, which never ends by itself, in a child process that dies with this one.
///
/// # Errors
/// The kernel refuses another process. An error of `work` is printed by the child.
pub(super) fn fork(
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<rustix::process::Pid> {
    // SAFETY: a load forks before it starts any thread, so the child finds no lock held by another one.
    let child = unsafe { libc::fork() };
    if child != 0 {
        return rustix::process::Pid::from_raw(child)
            .filter(|_| child > 0)
            .context("forking a worker");
    }
    let result = die_with_parent().and_then(|()| work());
    super::complain(
        &result
            .err()
            .unwrap_or_else(|| anyhow::anyhow!("the worker ended")),
    );
    // SAFETY: ends the process at once, without the exit handlers that belong to its parent.
    unsafe { libc::_exit(1) }
}

/// Ties the calling thread to one CPU: the `index`th last of those it may use, counted from 0.
///
/// The last ones, because the first one has most of a machine's interrupts.
pub(super) fn pin(index: usize) -> anyhow::Result<()> {
    let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .collect();
    let mut chosen = CpuSet::new();
    chosen.set(usable[usable.len() - 1 - index % usable.len()]);
    sched_setaffinity(None, &chosen).context("sched_setaffinity")
}

/// Waits until the bench kills this process.
pub(super) fn wait_forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
