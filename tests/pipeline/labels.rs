//! What a reader's section says of it: its labels, and which of its entities are reported.

use std::{collections::BTreeSet, fs};

use dataflux_tests::{probe, workspace};
use serde_json::Value;

/// One envelope of the real machine.
fn once(metrics: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("probe.toml");
    let text = format!("{metrics}\n[output.a]\nformatter = 'json'\nlogger = 'stdout'\n");
    fs::write(&file, text).expect("a configuration");
    let file = file.display().to_string();
    let arguments = [
        "once", "--window", "50ms", "--format", "json", "--config", &file,
    ];
    let output = probe::run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

/// Scenario: two readers, one of them with labels.
/// Guarantees: its source has them, the other has none.
#[test]
fn labels_are_in_their_source() {
    let envelope = once(
        "[metrics.cpu]\nlabels = { team = 'x', note = '' }\n[metrics.memory]\ninterval = '10s'",
    );
    let sources = &envelope["sources"];
    assert_eq!(
        sources[0]["labels"],
        serde_json::json!({"note": "", "team": "x"})
    );
    assert!(sources[1].get("labels").is_none(), "{}", sources[1]);
}

/// Scenario: every interface, none but the loopback, all but it, none by itself.
/// Guarantees: each series of the reader belongs to the interfaces that are asked for; those beyond the bound are together.
#[test]
fn a_reader_is_kept_to_some_interfaces() {
    let names = |keys: &str| -> BTreeSet<String> {
        let envelope = once(&format!("[metrics.memory]\n[metrics.interface]\n{keys}"));
        let sources = envelope["sources"].as_array().expect("sources").iter();
        let metrics = sources.flat_map(|source| source["metrics"].as_array().expect("metrics"));
        let series = metrics.flat_map(|metric| metric["series"].as_array().expect("series"));
        let interfaces = series.filter_map(|series| series.get("interface"));
        interfaces
            .map(|interface| match &interface["name"] {
                Value::String(name) => name.clone(),
                _ => interface.to_string(),
            })
            .collect()
    };
    // Something has to happen on it.
    let listener = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sending = std::thread::spawn(move || {
        for _ in 0..4_000 {
            listener.send_to(b"x", address).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    assert!(names("").contains("lo"));
    assert_eq!(names("include = ['l?']"), ["lo".to_owned()].into());
    assert!(!names("exclude = ['lo']").contains("lo"));
    let other = serde_json::json!({"other": true}).to_string();
    assert_eq!(names("max_entities = 0"), [other].into());
    sending.join().unwrap();
}

/// Scenario: a segment that a probe without labels of sources wrote, which the corpus of the fuzzer has.
/// Guarantees: its envelopes are read as they were.
#[test]
fn an_old_spool_is_read() {
    let stored = workspace::root().join("fuzz/corpus/segment/whole");
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool/main");
    fs::create_dir_all(&spool).unwrap();
    // The first byte tells the fuzzer what to do with the rest.
    fs::write(
        spool.join("0000000000.seg"),
        &fs::read(stored).unwrap()[1..],
    )
    .unwrap();
    let state_dir = folder.path().display().to_string();
    let output = probe::run(&["spool", "cat", "--state-dir", &state_dir]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let envelopes: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(!envelopes.is_empty(), "{said}");
    for envelope in envelopes {
        let sources = envelope["sources"].as_array().expect("sources");
        assert!(!sources.is_empty());
        assert!(sources.iter().all(|source| source.get("labels").is_none()));
    }
}
