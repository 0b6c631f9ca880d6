//! `scheduler`: what its kernel programs keep, and the kernel facts they need.

use crate::{
    histogram::Histogram,
    kernel_fields,
    kernel_fields::{argument, member},
    shared,
};

kernel_fields! {
    /// Thread id of a task.
    TASK_PID = member("task_struct", &["pid"], 4);
    /// Process id of a task.
    TASK_TGID = member("task_struct", &["tgid"], 4);
    /// Why a task is off the CPU; 0 = it still wants to run. A `long` before 5.14: its low half has all the bits that count.
    TASK_STATE = member("task_struct", &["__state"], 4), or member("task_struct", &["state"], 8);
    /// Argument that carries the previous task's state, on kernels where the task's own field may change under the tracepoint.
    SWITCH_STATE = argument("sched_switch", "unsigned int", &[3]);
    /// Argument that says whether the previous task was preempted.
    SWITCH_PREEMPT = argument("sched_switch", "bool", &[0]), or argument("sched_switch", "_Bool", &[0]);
    /// The previous task.
    SWITCH_PREVIOUS = argument("sched_switch", "struct task_struct *", &[1]);
    /// The next task.
    SWITCH_NEXT = argument("sched_switch", "struct task_struct *", &[2]);
    /// The task that is woken.
    WAKEUP_TASK = argument("sched_wakeup", "struct task_struct *", &[0]);
    /// The task that is woken for the first time.
    WAKEUP_NEW_TASK = argument("sched_wakeup_new", "struct task_struct *", &[0]);
    /// The task that is made, behind the one that makes it.
    FORK_CHILD = argument("sched_process_fork", "struct task_struct *", &[1]);
    /// The task that ends.
    EXIT_TASK = argument("sched_process_exit", "struct task_struct *", &[0]);
    /// Argument that says whether the last task of a process exits (6.16).
    EXIT_GROUP_DEAD = argument("sched_process_exit", "bool", &[1]), or argument("sched_process_exit", "_Bool", &[1]);
}

/// Voluntary switches: the task blocked.
pub const VOLUNTARY: usize = 0;
/// Involuntary switches: the task was preempted or yielded.
pub const INVOLUNTARY: usize = 1;
/// Switches away from the idle task.
pub const IDLE: usize = 2;

/// Wake-ups of tasks that existed before.
pub const KNOWN: usize = 0;
/// First wake-ups of new tasks.
pub const NEW: usize = 1;

/// Index of whole processes in counters that tell tasks apart.
pub const PROCESS: usize = 0;
/// Index of further threads of a process.
pub const THREAD: usize = 1;

shared! {
    /// Counters and histograms of one CPU. Written only by programs that run on this CPU with interrupts off, or, for the
    /// rare ones, where a lost race would need a nested event of the same kind.
    pub struct Cpu {
        /// When the running task was switched in, CLOCK_MONOTONIC ns; 0 before the first switch.
        pub switched_at: u64,
        /// By [`VOLUNTARY`], [`INVOLUNTARY`], [`IDLE`]; their sum is the kernel's `ctxt`.
        pub context_switches: [u64; 3],
        /// Wake-ups, by [`KNOWN`] and [`NEW`].
        pub wakeups: [u64; 2],
        /// Moves of tasks to another CPU.
        pub migrations: u64,
        /// New tasks, by [`PROCESS`] and [`THREAD`].
        pub forks: [u64; 2],
        /// Program starts.
        pub execs: u64,
        /// Ended tasks, by [`PROCESS`] and [`THREAD`].
        pub exits: [u64; 2],
        /// Stamps later than the event that ends their interval: the interval is not recorded.
        pub disordered: u64,
        /// Live stamps overwritten by another task that shares their place: the interval of each is not recorded.
        pub lost: u64,
        /// Events on CPUs that have no place in the map, of all of them in the first place: added atomically.
        pub outside: u64,
        /// From runnable to running, ns.
        pub run_queue_latency: Histogram,
        /// From switched in to switched out, ns.
        pub slice: Histogram,
        /// From switched out blocked or preempted to switched in, ns.
        pub off_cpu: Histogram,
    }

    /// The stamps of one task. 32 bytes, so that an entry never straddles two cache lines.
    pub struct Task {
        /// Thread id of the owner; 0 = free.
        pub pid: u32,
        /// Keeps the size a power of two.
        pub unused: u32,
        /// When it began to wait for a CPU, CLOCK_MONOTONIC ns; 0 = it does not.
        pub queued_at: u64,
        /// When it left the CPU, CLOCK_MONOTONIC ns; 0 = not seen.
        pub off_at: u64,
        /// Keeps the size a power of two.
        pub unused_tail: u64,
    }
}
