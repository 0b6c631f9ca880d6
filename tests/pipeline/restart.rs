//! What a start knows of the one before it.

use dataflux_tests::{
    probe::{self, Probe, until},
    sequence::{account, envelopes},
};
use serde_json::Value;

const CONFIG: &str = "
[probe]
interval = '100ms'
state_dir = 'DIR/state'
[metrics.memory]
[output.main]
formatter = 'json'
logger = 'file'
file.path = 'DIR/envelopes'
";

/// The envelopes of the last start, once there are some.
fn of_a_new_stream(probe: &Probe, known: &[String]) -> (String, Vec<Value>) {
    until("envelopes of a new stream", || {
        let id = |envelope: &Value| {
            envelope["stream"]["id"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let all = envelopes(&probe.path("envelopes"));
        let new = all.last().map(id).filter(|id| !known.contains(id))?;
        let own: Vec<_> = all
            .into_iter()
            .filter(|envelope| id(envelope) == new)
            .collect();
        (own.len() > 3).then_some((new, own))
    })
}

/// Scenario: a start, a stop by SIGTERM, a start, SIGKILL, a start.
/// Guarantees: the first envelope of a stream, and no other, names the stream before it; after a stop by its last number and
/// time exactly, after a kill by a number that it had at least.
#[test]
fn a_stream_names_the_one_before_it() {
    let mut probe = Probe::start(CONFIG);
    let (first, own) = of_a_new_stream(&probe, &[]);
    assert!(
        own.iter()
            .all(|envelope| envelope["stream"].get("previous").is_none()),
        "{own:?}"
    );
    probe.stop();
    let last = envelopes(&probe.path("envelopes"))
        .pop()
        .expect("there are some");

    probe.restart();
    let (second, own) = of_a_new_stream(&probe, std::slice::from_ref(&first));
    let previous = &own[0]["stream"]["previous"];
    assert_eq!(previous["id"], *first);
    assert_eq!(previous["last"], last["stream"]["last"]);
    assert_eq!(previous["stop_time"], last["stop_time"]);
    assert_eq!(previous["gaps"], Value::Array(Vec::new()));
    assert!(
        own[1..]
            .iter()
            .all(|envelope| envelope["stream"].get("previous").is_none()),
        "{own:?}"
    );
    until("the state of this stream", || {
        let state = std::fs::read_to_string(probe.path("state/streams.json")).ok()?;
        state.contains(&second).then_some(())
    });
    probe.kill();
    let streams =
        account(&envelopes(&probe.path("envelopes"))).unwrap_or_else(|error| panic!("{error}"));

    probe.restart();
    let (_, own) = of_a_new_stream(&probe, &[first, second.clone()]);
    let previous = &own[0]["stream"]["previous"];
    assert_eq!(previous["id"], *second);
    let last = previous["last"].as_u64().expect("a number");
    // A number may be kept before its envelope is delivered, never long after.
    assert!(
        (1..=streams[&second].last() + 1).contains(&last),
        "{last} of {streams:?}"
    );
}

/// Scenario: a second probe with a state folder in use, and one whose state folder cannot be.
/// Guarantees: the first ends with 1 and says why, and writes nothing; the other one runs without.
#[test]
fn a_state_folder_in_use_stops_the_start_and_an_impossible_one_does_not() {
    let running = Probe::start(CONFIG);
    of_a_new_stream(&running, &[]);
    let folder = running.path("state").display().to_string();
    let mut second = Probe::start(&CONFIG.replace("DIR/state", &folder));
    let ended = second.wait();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.diagnostics);
    assert!(
        ended.diagnostics.contains("in use"),
        "{}",
        ended.diagnostics
    );
    assert!(!second.path("envelopes").exists());

    // A link to nowhere is where the folder should come.
    let mut third = Probe::prepare(&CONFIG.replace("DIR/state", "DIR/link/state"));
    let (link, nowhere) = (third.path("link"), third.path("nowhere"));
    std::os::unix::fs::symlink(nowhere, link).expect("the folder is writable");
    third.restart();
    of_a_new_stream(&third, &[]);
    let ended = third.stop();
    assert!(
        ended.diagnostics.contains("link/state"),
        "{}",
        ended.diagnostics
    );
}

/// Scenario: a state folder that cannot be made at the start (a link to nowhere is in its way) and can be after a while; the output is away.
/// Then SIGKILL, and a start with everything in place.
/// Guarantees: the probe takes the folder as soon as it can, and from then on nothing is lost by a kill; the next start names
/// this one.
#[test]
fn a_state_folder_that_comes_later_is_taken() {
    let config = CONFIG
        .replace("DIR/state", "DIR/late/state")
        .replace("DIR/envelopes", "DIR/missing/folder/envelopes")
        + "spool_bytes = '1MiB'\n";
    let mut probe = Probe::prepare(&config);
    let nowhere = probe.path("nowhere");
    std::os::unix::fs::symlink(nowhere, probe.path("late")).expect("the folder is writable");
    probe.restart();
    until("a word about the folder", || {
        probe
            .diagnostics()
            .contains("going on in memory")
            .then_some(())
    });
    std::fs::remove_file(probe.path("late")).expect("it is there");
    until("the spool", || {
        probe.diagnostics().contains("works again").then_some(())
    });
    until("the state", || {
        probe.path("late/state/streams.json").exists().then_some(())
    });
    probe.kill();
    std::fs::create_dir(probe.path("missing")).expect("the folder is writable");
    probe.restart();
    let path = probe.path("missing/folder/envelopes");
    let all = until("both streams", || {
        let all = envelopes(&path);
        (account(&all).ok()?.len() == 2).then_some(all)
    });
    let streams = account(&all).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        streams.values().all(|stream| stream.lost.is_empty()),
        "{streams:?}"
    );
    let named = |envelope: &&Value| envelope["stream"].get("previous").is_some();
    let naming: Vec<_> = all.iter().filter(named).collect();
    assert_eq!(naming.len(), 1);
    assert_eq!(
        naming[0]["stream"]["previous"]["id"],
        all[0]["stream"]["id"]
    );
}

/// Scenario: the same configuration twice, with another comment, and with another value.
/// Guarantees: the hash in the `agent` section is that of what is in force: the same after a restart and for another comment,
/// another one for another value.
#[test]
fn the_agent_section_has_the_hash_of_the_configuration() {
    let hash = |text: &str| {
        let probe = Probe::prepare(text);
        let path = probe.path("probe.toml").display().to_string();
        let output = probe::run(&[
            "once", "--window", "10ms", "--format", "json", "--config", &path,
        ]);
        let envelope: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
        envelope["header"]["agent"]["config_hash"].clone()
    };
    let text =
        "[metadata.agent]\n[metrics.memory]\n[output.a]\nformatter = 'json'\nlogger = 'stdout'\n";
    assert!(hash(text).is_string());
    assert_eq!(hash(text), hash(text));
    assert_eq!(hash(text), hash(&format!("{text}# that's all\n")));
    assert_ne!(hash(text), hash(&format!("{text}queue_bytes = '1MiB'\n")));
}
