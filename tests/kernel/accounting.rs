//! `accounting = true` of the `probe` reader: the kernel's statistics of the probe's own programs.

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{envelopes, series},
};
use rustix::thread::CapabilitySet;
use serde_json::Value;

use crate::harness::machine;

const CONFIG: &str = "
[probe]
interval = '200ms'
[metrics.probe]
accounting = true
[metrics.scheduler]
[output.main]
formatter = 'json'
logger = 'file'
file.path = 'DIR/envelopes'
";

/// Sums a counter over all envelopes: of this program, or of all series.
fn sum(all: &[Value], metric: &str, program: Option<&str>) -> u64 {
    let series = all.iter().flat_map(|envelope| series(envelope, metric));
    series
        .filter(|one| program.is_none_or(|program| one["labels"]["program"] == program))
        .filter_map(|one| one["value"].as_u64())
        .sum()
}

/// Scenario: the probe accounts for its programs for some seconds, its privileges given up.
/// Guarantees: the kernel's count of runs of the program on `sched_switch` is that of the context switches it counted, but
/// for the moment between the two reads; and a run takes a time that can be.
#[test]
fn the_kernel_counts_as_many_runs_as_the_program_counts_events() {
    let Some(_machine) = machine() else { return };
    let mut probe = Probe::start(CONFIG);
    let file = probe.path("envelopes");
    until("envelopes", || (envelopes(&file).len() >= 15).then_some(()));
    probe.stop();
    let all = envelopes(&file);
    let runs = sum(&all, "probe.program.runs", Some("sched_switch"));
    let switches = sum(&all, "scheduler.context_switches", None);
    assert!(switches > 100, "{switches}");
    let apart = runs.abs_diff(switches) as f64 / switches as f64;
    assert!(
        apart < 0.1,
        "{runs} runs, {switches} context switches: {apart:.3} apart"
    );
    let time = sum(&all, "probe.program.run_time", Some("sched_switch"));
    let each = time / runs;
    println!("{runs} runs, {switches} context switches, {each} ns each");
    assert!((10..1_000_000).contains(&each), "{each} ns");
}

/// Scenario: a user of its own asks for accounting without the capability that it takes.
/// Guarantees: the reader says so and gives everything else; the kernel's programs count.
#[test]
fn without_its_capability_only_accounting_is_missing() {
    let Some(_machine) = machine() else { return };
    let mut probe = Probe::prepare(CONFIG);
    probe.start_as_nobody(CapabilitySet::BPF | CapabilitySet::PERFMON);
    probe.restart();
    let file = probe.path("envelopes");
    until("envelopes", || (envelopes(&file).len() >= 5).then_some(()));
    probe.stop();
    let all = envelopes(&file);
    assert!(sum(&all, "scheduler.context_switches", None) > 0);
    assert!(sum(&all, "probe.reader.reads", None) > 0);
    let sources = all.iter().flat_map(|one| one["sources"].as_array());
    let own: Vec<_> = sources
        .flatten()
        .filter(|source| source["reader"] == "probe")
        .collect();
    assert!(!own.is_empty());
    for source in own {
        assert_eq!(source["status"], "degraded", "{source}");
        assert_eq!(
            source["reason"], "accounting needs CAP_SYS_ADMIN at the start",
            "{source}"
        );
        let unsupported = source["unsupported"].as_array().expect("a list");
        assert!(
            unsupported.contains(&"probe.program.runs".into()),
            "{source}"
        );
    }
}
