//! Process ids that are given again.

use std::{thread, time::Duration};

use crate::{
    harness::{Attached, machine},
    tasks::{Sharing, Task},
};

/// Scenario: a process ends while it waits, and seconds later another one gets its id, for three times; the ids are the
/// highest that a kernel can give, behind which they begin anew.
/// Guarantees: every fork and exit counts, and the new one waited for a CPU since its own start, not since the other's.
#[test]
fn a_process_id_that_is_given_again_is_another_task() {
    const TIMES: u64 = 3;
    const PAUSE: Duration = Duration::from_secs(2);
    let Some(_machine) = machine() else { return };
    let Some(sharing) = Sharing::new() else {
        return;
    };
    let mut reader = Attached::new("scheduler", "");
    let first = reader.read();
    for _ in 0..TIMES {
        let task = Task::new(sharing.high, 0);
        task.pass();
        drop(task);
        thread::sleep(PAUSE);
    }
    let last = reader.read();
    for metric in ["scheduler.forks", "scheduler.exits"] {
        let counted =
            last.counter(metric, None, &["process"]) - first.counter(metric, None, &["process"]);
        assert!(counted >= TIMES, "{metric}: {counted}");
    }
    let longest = Duration::from_nanos(last.longest("scheduler.run_queue_latency"));
    println!("the longest wait for a CPU: {longest:?}");
    assert!(longest < PAUSE, "a task waited for {longest:?}");
}
