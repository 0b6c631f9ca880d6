//! `network` with a queue that loses or delays packets before the interface gets them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    harness::{Attached, Totals, machine, skipped_outside_guests, skipped_without},
    network::VethPair,
};

/// Scenario: datagrams leave through a queue that loses nearly a third of them.
/// Guarantees: sent are exactly those that the interface itself counts; every other one is dropped, for the queue's reason.
#[test]
fn what_a_queue_loses_is_dropped_and_not_sent() {
    const DATAGRAMS: u64 = 997;
    let Some(_machine) = machine() else { return };
    if skipped_without("network.drops") {
        return;
    }
    let pair = VethPair::new();
    let ends = pair.ends();
    if skipped_outside_guests("netem", queue(&pair.name, &["loss", "30%"])) {
        return;
    }
    let mut reader = Attached::new("network", "");
    let (first_kernel, first) = (pair.statistics(), reader.read());
    for _ in 0..DATAGRAMS {
        let sent = ends.here.send_to(&[7; 100], ends.to_there());
        sent.expect("sending");
    }
    let (last_kernel, last) = (pair.statistics(), reader.read());
    let entity = pair.entity();
    let rise = |of: &dyn Fn(&Totals) -> u64| of(&last) - of(&first);
    let sent = rise(&|totals| totals.counter("network.packets", Some(&entity), &["sent"]));
    let dropped = rise(&|totals| totals.counter("network.drops", None, &["qdisc_drop"]));
    println!("{DATAGRAMS} datagrams, {sent} sent, {dropped} dropped");
    assert_eq!(sent, last_kernel[1].0 - first_kernel[1].0, "packets sent");
    assert!(
        sent > 0 && sent < DATAGRAMS,
        "{sent} sent: no queue lost any"
    );
    assert_eq!(sent + dropped, DATAGRAMS, "{sent} sent, {dropped} dropped");
}

/// Scenario: datagrams leave through a queue that keeps each for a while.
/// Guarantees: nothing of them is sent before the queue lets it go, and then all are, as the interface itself counts them.
#[test]
fn what_a_queue_delays_is_sent_once_it_leaves() {
    const DATAGRAMS: u64 = 211;
    let Some(_machine) = machine() else { return };
    let pair = VethPair::new();
    let ends = pair.ends();
    // Longer than the slowest guest takes to send and to read.
    if skipped_outside_guests("netem", queue(&pair.name, &["delay", "5s"])) {
        return;
    }
    let mut reader = Attached::new("network", "");
    let entity = pair.entity();
    let sent = |totals: &Totals| totals.counter("network.packets", Some(&entity), &["sent"]);
    let (first_kernel, first) = (pair.statistics(), reader.read_in_part());
    let begin = Instant::now();
    for _ in 0..DATAGRAMS {
        let sent = ends.here.send_to(&[7; 100], ends.to_there());
        sent.expect("sending");
    }
    let waiting = sent(&reader.read_in_part()) - sent(&first);
    let in_time = begin.elapsed() < Duration::from_secs(5);
    assert!(waiting == 0 || !in_time, "{waiting} sent at once");
    let mut buffer = [0; 100];
    for _ in 0..DATAGRAMS {
        ends.there.recv(&mut buffer).expect("receiving");
    }
    let (last_kernel, last) = (pair.statistics(), reader.read_in_part());
    let counted = sent(&last) - sent(&first);
    assert_eq!(counted, DATAGRAMS, "datagrams sent");
    assert_eq!(
        counted,
        last_kernel[1].0 - first_kernel[1].0,
        "packets sent"
    );
}

/// Gives an interface a queue of its own; `false` where the kernel or the machine has nothing for that.
fn queue(interface: &str, what: &[&str]) -> bool {
    let queue = ["qdisc", "add", "dev", interface, "root", "netem"];
    let added = Command::new("tc").args(queue).args(what).output();
    added.is_ok_and(|added| added.status.success())
}
