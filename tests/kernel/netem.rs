//! `network` with a queue that loses packets before the interface gets them.

use std::process::Command;

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
    if skipped_outside_guests("netem", lose(&pair.name, "30%")) {
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

/// Lets an interface's queue lose packets; `false` where the kernel or the machine has nothing for that.
fn lose(interface: &str, part: &str) -> bool {
    let queue = [
        "qdisc", "add", "dev", interface, "root", "netem", "loss", part,
    ];
    let added = Command::new("tc").args(queue).output();
    added.is_ok_and(|added| added.status.success())
}
