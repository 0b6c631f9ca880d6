//! What becomes of the queue when somebody takes its folder away.

use std::{fs, thread, time::Duration};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{account, envelopes},
};

const CONFIG: &str = "
[probe]
interval = '100ms'
state_dir = 'DIR/state'
[metrics.memory]
[output.main]
formatter = 'json'
logger = 'file'
file.path = 'DIR/missing/folder/envelopes'
spool_bytes = '1MiB'
";

/// Waits until the newest stream has noted so many numbers.
fn wait_for(probe: &Probe, number: u64) {
    until("numbers in the state", || {
        let state = fs::read(probe.path("state/streams.json")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        (state["main"]["last"].as_u64()? >= number).then_some(())
    });
}

/// Scenario: an output is away. The folder of its spool becomes a file, twice the disk is tried in vain, and then it may be
/// made again; the output is back.
/// Guarantees: nothing is lost, neither what was in the folder nor what came while there was none.
#[test]
fn a_folder_that_cannot_be_made_again_for_a_while_loses_nothing() {
    let mut probe = Probe::start(CONFIG);
    wait_for(&probe, 10);
    let spool = probe.path("state/spool");
    fs::remove_dir_all(&spool).expect("it is there");
    fs::write(&spool, "").expect("the folder is writable");
    until("a failure", || {
        probe
            .diagnostics()
            .contains("going on in memory")
            .then_some(())
    });
    thread::sleep(Duration::from_secs(2));
    fs::remove_file(&spool).expect("it is there");
    until("the spool", || {
        let works = probe.diagnostics().contains("the spool works again");
        works.then_some(())
    });
    fs::create_dir(probe.path("missing")).expect("the folder is writable");
    let file = probe.path("missing/folder/envelopes");
    until("envelopes", || (envelopes(&file).len() > 40).then_some(()));
    let ended = probe.stop();
    let streams = account(&envelopes(&file)).unwrap_or_else(|error| panic!("{error}"));
    let lost: usize = streams.values().map(|stream| stream.lost.len()).sum();
    assert_eq!(lost, 0, "{streams:?}");
    let told = ended.diagnostics.matches("somebody has deleted").count();
    assert_eq!(told, 1, "{}", ended.diagnostics);
}
