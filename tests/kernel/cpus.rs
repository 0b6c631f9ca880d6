//! CPUs that go and come back, and CPUs that the probe was not told of.

use std::{fs, path::PathBuf, thread, time::Duration};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    harness::{Attached, machine},
    hidden::Switches,
    lacking::Host,
};

/// The CPU with the highest number, provided that there is another one.
pub(crate) fn last_cpu() -> Option<usize> {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").expect("the kernel's list");
    let last = online.trim().rsplit([',', '-']).next()?.parse().ok()?;
    if last == 0 {
        println!("skipped: there is one CPU only");
    }
    (last > 0).then_some(last)
}

/// Keeps this thread on a CPU.
pub(crate) fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("pinning to a CPU");
}

/// A CPU that is switched off; on again when dropped.
struct Off(PathBuf);

impl Off {
    /// `None` where the kernel cannot, which it says.
    fn new(cpu: usize) -> Option<Self> {
        let switch = PathBuf::from(format!("/sys/devices/system/cpu/cpu{cpu}/online"));
        match fs::write(&switch, "0") {
            Ok(()) => Some(Self(switch)),
            Err(error) => {
                println!("skipped: no CPU hot-plug: {}: {error}", switch.display());
                None
            }
        }
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        let on = fs::write(&self.0, "1");
        assert!(
            on.is_ok() || thread::panicking(),
            "{}: {on:?}",
            self.0.display()
        );
    }
}

/// Scenario: three times a CPU is switched off and on while everything is counted; meanwhile more CPUs are possible than are
/// online.
/// Guarantees: the count of context switches lies between the kernel's own, except for the few on a CPU that is on its way
/// off or on, where the kernel keeps all tracepoints quiet, and one under way on each other CPU, which the kernel counts a
/// moment before its tracepoint fires; and nothing is lost.
#[test]
fn a_cpu_may_go_and_come_back() {
    /// Switches of a CPU on its way: to the task that stops it, and to the idle one.
    const QUIET: u64 = 8;
    let Some(_machine) = machine() else { return };
    let Some(cpu) = last_cpu() else { return };
    let mut reader = Attached::new("scheduler", "");
    let lost = reader.read().lost();
    let others = cpu as u64;
    let first = Switches::read(&mut reader);
    let mut check = |when: &str, ways: u64| {
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(20));
            let rise = Switches::read(&mut reader).since(&first);
            // Those of process 1 may be hidden.
            let least = *rise.not_of_process_1().start();
            let least = least.saturating_sub(ways * QUIET + others);
            let bracket = least..=*rise.all.end() + others;
            assert!(
                bracket.contains(&rise.counted),
                "{when}: {} is not in {bracket:?}",
                rise.counted
            );
        }
    };
    check("before", 0);
    for time in 0..3 {
        let Some(off) = Off::new(cpu) else { return };
        check("while a CPU is off", 2 * time + 1);
        drop(off);
        check("after it came back", 2 * time + 2);
    }
    assert_eq!(reader.read().lost(), lost);
}

/// Scenario: the host's list of possible CPUs has only the first one, and a task switches on the last one.
/// Guarantees: the events that have no place are counted as lost.
#[test]
fn events_on_a_cpu_without_a_place_are_lost_and_counted() {
    const SLEEPS: u64 = 211;
    let Some(_machine) = machine() else { return };
    let Some(cpu) = last_cpu() else { return };
    let host = Host::with_possible_cpus("0\n");
    let (mut reader, _) = match Attached::on(host.roots(), "scheduler", "") {
        Ok(attached) => attached,
        Err((error, outcomes)) => panic!("{error}: {outcomes:#?}"),
    };
    let sleep = move || {
        stay_on(cpu);
        (0..SLEEPS).for_each(|_| thread::sleep(Duration::from_micros(50)));
    };
    let first = reader.read();
    thread::spawn(sleep).join().expect("a sleeping thread");
    let last = reader.read();
    let lost = last.lost() - first.lost();
    // Each sleep is a switch away, a wake-up and a switch back.
    assert!(lost >= 2 * SLEEPS, "{lost} lost of {SLEEPS} sleeps");
    // Nothing of it is in the counters of the CPU that has a place: they hold that one's own.
    let mut all = Attached::new("scheduler", "");
    let before = all.read();
    thread::spawn(sleep).join().expect("a sleeping thread");
    assert_eq!(all.read().lost(), before.lost());
}
