//! What kernel programs have to say reaches the probe's diagnostics.

use dataflux_tests::probe::{Probe, until};

use crate::{
    harness::machine,
    interfaces::{Lone, free_index},
};

const CONFIG: &str = r#"
[probe]
interval = "100ms"
[metrics.network]
[output.file]
formatter = "json"
logger = "file"
[output.file.file]
path = "DIR/envelopes.jsonl"
"#;

/// Scenario: the probe runs, and packets come from an interface that has no place of its own in the kernel's map.
/// Guarantees: the program says so, once per CPU at most, and the probe prints it.
#[test]
fn a_full_map_is_told_once() {
    const TOLD: &str = "has no place of its own";
    let Some(_machine) = machine() else { return };
    // The peer of such a pair has the number of the place that all others share.
    let pair = Lone::new(free_index());
    let mut probe = Probe::start(CONFIG);
    until("the first envelope", || {
        let file = probe.path("envelopes.jsonl").metadata().ok()?;
        (file.len() > 0).then_some(())
    });
    until("the diagnostic", || {
        pair.send(1);
        probe.diagnostics().contains(TOLD).then_some(())
    });
    pair.send(100);
    let diagnostics = probe.stop().diagnostics;
    let times = diagnostics.matches(TOLD).count();
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    assert!((1..=cpus).contains(&times), "{times} times: {diagnostics}");
}
