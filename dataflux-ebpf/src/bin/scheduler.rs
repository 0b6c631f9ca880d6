//! `scheduler`: run-queue latency, time slices, off-CPU time, switches, wake-ups, migrations and the life of tasks.
//!
//! Hooks: sched_switch, sched_wakeup, sched_wakeup_new, sched_migrate_task, sched_process_fork, sched_process_exec and
//! sched_process_exit, as BTF tracepoints (5.10 and later). Work per event: at most one clock read, two look-ups in an array
//! of tasks and one in an array of CPUs; no hash, no loop.
//!
//! Races: the switch and wake-up hooks run with interrupts off and under the run queue's or the task's lock, so a task's
//! entry has one writer at a time. Counters have one writer, their CPU.
// SPDX-License-Identifier: MIT OR GPL-2.0
#![no_std]
#![no_main]

use core::ptr::addr_of_mut;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::{btf_tracepoint, map},
    maps::Array,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use dataflux_common::{limits, scheduler::*};
use dataflux_ebpf::{add, add_shared, field, has, load, record};

/// The kernel's facts; see `dataflux_common::scheduler`.
#[unsafe(no_mangle)]
static FIELDS: [u32; dataflux_common::scheduler::FIELDS] = [0; dataflux_common::scheduler::FIELDS];

/// One per possible CPU; userspace sets the number and reads it through a mapping.
#[map]
static CPUS: Array<Cpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// By thread id modulo its length.
#[map]
static TASKS: Array<Task> = Array::with_max_entries(limits::TASKS as u32, 0);

/// The state of a task that runs for the last time (include/linux/sched.h).
const TASK_DEAD: u32 = 0x80;

/// This CPU's counters. Without a place in the map the event counts as lost.
#[inline(always)]
fn this_cpu() -> Option<*mut Cpu> {
    // SAFETY: the helper has no preconditions.
    let cpu = CPUS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() });
    if cpu.is_none()
        && let Some(first) = CPUS.get_ptr_mut(0)
    {
        // SAFETY: the pointer comes from a map look-up.
        unsafe { add_shared(addr_of_mut!((*first).outside), 1) };
    }
    cpu
}

/// The place of a thread id, whoever has it now.
#[inline(always)]
fn place(pid: u32) -> Option<*mut Task> {
    TASKS.get_ptr_mut(pid & (limits::TASKS as u32 - 1))
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
unsafe fn pid_of(task: *const u8) -> u32 {
    // SAFETY: the caller passes a task.
    unsafe { load(task, field(&FIELDS, TASK_PID)) }
}

/// Makes the place belong to `pid`, counting the stamps of another task that are lost by it. One that runs has none.
///
/// # Safety
/// Both pointers come from map look-ups.
#[inline(always)]
unsafe fn claim(task: *mut Task, cpu: *mut Cpu, pid: u32) {
    // SAFETY: upheld by the caller.
    unsafe {
        if (*task).pid != pid {
            if (*task).pid != 0 {
                let live = u64::from((*task).queued_at != 0) + u64::from((*task).off_at != 0);
                add(addr_of_mut!((*cpu).lost), live);
            }
            (*task).pid = pid;
            (*task).queued_at = 0;
            (*task).off_at = 0;
        }
    }
}

/// Records the time since a stamp, if there is one.
///
/// # Safety
/// `cpu` is this CPU's; `histogram` belongs to it.
#[inline(always)]
unsafe fn elapsed(
    cpu: *mut Cpu,
    histogram: *mut dataflux_common::histogram::Histogram,
    since: u64,
    now: u64,
) {
    if since == 0 {
        return;
    }
    // SAFETY: upheld by the caller.
    unsafe {
        if now < since {
            add(addr_of_mut!((*cpu).disordered), 1);
        } else {
            record(histogram, now - since);
        }
    }
}

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)`
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(context: BtfTracePointContext) -> i32 {
    let preempted = context.arg::<u64>(0) & 1 != 0;
    let (prev, next) = (context.arg::<*const u8>(1), context.arg::<*const u8>(2));
    let Some(cpu) = this_cpu() else { return 0 };
    // SAFETY: the tracepoint passes two tasks; `cpu` and the places come from map look-ups.
    unsafe {
        let now = now();
        let next_pid = pid_of(next);
        if next_pid != 0
            && let Some(task) = place(next_pid)
            && (*task).pid == next_pid
        {
            elapsed(
                cpu,
                addr_of_mut!((*cpu).run_queue_latency),
                (*task).queued_at,
                now,
            );
            elapsed(cpu, addr_of_mut!((*cpu).off_cpu), (*task).off_at, now);
            (*task).queued_at = 0;
            (*task).off_at = 0;
        }
        let switched_at = (*cpu).switched_at;
        (*cpu).switched_at = now;

        let prev_pid = pid_of(prev);
        if prev_pid == 0 {
            add(addr_of_mut!((*cpu).context_switches[IDLE]), 1);
            return 0;
        }
        let state = if has(&FIELDS, SWITCH_STATE) {
            context.arg::<u64>(3) as u32
        } else {
            load::<u32>(prev, field(&FIELDS, TASK_STATE))
        };
        elapsed(cpu, addr_of_mut!((*cpu).slice), switched_at, now);
        let runnable = preempted || state == 0;
        let kind = if runnable { INVOLUNTARY } else { VOLUNTARY };
        add(addr_of_mut!((*cpu).context_switches[kind & 1]), 1);

        let Some(task) = place(prev_pid) else {
            return 0;
        };
        if !preempted && state & TASK_DEAD != 0 {
            if (*task).pid == prev_pid {
                (*task).pid = 0;
            }
            return 0;
        }
        claim(task, cpu, prev_pid);
        (*task).off_at = now;
        (*task).queued_at = if runnable { now } else { 0 };
    }
    0
}

/// `sched_wakeup(struct task_struct *p)`
#[btf_tracepoint(function = "sched_wakeup")]
pub fn sched_wakeup(context: BtfTracePointContext) -> i32 {
    let Some(cpu) = this_cpu() else { return 0 };
    // SAFETY: the tracepoint passes a task; the pointers come from map look-ups.
    unsafe {
        add(addr_of_mut!((*cpu).wakeups[KNOWN]), 1);
        let pid = pid_of(context.arg::<*const u8>(0));
        let Some(task) = place(pid) else { return 0 };
        claim(task, cpu, pid);
        // A task that waits already, or that was woken before it left the CPU, keeps its first stamp.
        if (*task).queued_at == 0 {
            (*task).queued_at = now();
        }
    }
    0
}

/// `sched_wakeup_new(struct task_struct *p)`
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new(context: BtfTracePointContext) -> i32 {
    let Some(cpu) = this_cpu() else { return 0 };
    // SAFETY: the tracepoint passes a task; the pointers come from map look-ups.
    unsafe {
        add(addr_of_mut!((*cpu).wakeups[NEW]), 1);
        let pid = pid_of(context.arg::<*const u8>(0));
        let Some(task) = place(pid) else { return 0 };
        claim(task, cpu, pid);
        // A reused thread id starts afresh.
        (*task).off_at = 0;
        (*task).queued_at = now();
    }
    0
}

/// `sched_migrate_task(struct task_struct *p, int dest_cpu)`
#[btf_tracepoint(function = "sched_migrate_task")]
pub fn sched_migrate_task(_context: BtfTracePointContext) -> i32 {
    if let Some(cpu) = this_cpu() {
        // SAFETY: `cpu` is this CPU's.
        unsafe { add(addr_of_mut!((*cpu).migrations), 1) };
    }
    0
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    let child = context.arg::<*const u8>(1);
    if let Some(cpu) = this_cpu() {
        // SAFETY: the tracepoint passes a task; `cpu` is this CPU's.
        unsafe {
            let leader = pid_of(child) == load::<u32>(child, field(&FIELDS, TASK_TGID));
            let kind = if leader { PROCESS } else { THREAD };
            add(addr_of_mut!((*cpu).forks[kind & 1]), 1);
        }
    }
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(_context: BtfTracePointContext) -> i32 {
    if let Some(cpu) = this_cpu() {
        // SAFETY: `cpu` is this CPU's.
        unsafe { add(addr_of_mut!((*cpu).execs), 1) };
    }
    0
}

/// `sched_process_exit(struct task_struct *p, bool group_dead)`; without the argument a process ends with its first thread.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    let task = context.arg::<*const u8>(0);
    if let Some(cpu) = this_cpu() {
        // SAFETY: the tracepoint passes a task; `cpu` is this CPU's.
        unsafe {
            let process = if has(&FIELDS, EXIT_GROUP_DEAD) {
                context.arg::<u64>(1) & 1 != 0
            } else {
                pid_of(task) == load::<u32>(task, field(&FIELDS, TASK_TGID))
            };
            let kind = if process { PROCESS } else { THREAD };
            add(addr_of_mut!((*cpu).exits[kind & 1]), 1);
        }
    } else {
        warn!(
            &context,
            "scheduler: a CPU has no place in the map of CPUs: its events are lost"
        );
    }
    0
}
