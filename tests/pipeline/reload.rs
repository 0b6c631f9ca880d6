//! SIGHUP: files are opened anew, and what has changed in the configuration is put in force without a hole in anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{account, envelopes, one_stream, series},
    sums::totals,
};
use serde_json::Value;

const PROBE: &str = "
[probe]
interval = '100ms'
state_dir = 'DIR/state'
[metadata.agent]
";

/// An output into the file of its name.
fn output(name: &str, more: &str) -> String {
    format!(
        "[output.{name}]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/{name}'\n{more}\n"
    )
}

fn of<'a>(envelope: &'a Value, reader: &str) -> Option<&'a Value> {
    let mut sources = envelope["sources"].as_array()?.iter();
    sources.find(|source| source["reader"] == reader)
}

/// Waits for so many more envelopes of an output that `is_it`.
fn more(probe: &Probe, output: &str, count: usize, is_it: impl Fn(&Value) -> bool) {
    let so_far = envelopes(&probe.path(output)).len();
    until("more envelopes", || {
        let all = envelopes(&probe.path(output));
        let new = all.iter().skip(so_far).filter(|envelope| is_it(envelope));
        (new.count() >= count).then_some(())
    });
}

/// The windows of a reader meet, from its first to its last.
fn check_windows(all: &[Value], reader: &str) -> usize {
    let sources: Vec<_> = all
        .iter()
        .filter_map(|envelope| of(envelope, reader))
        .collect();
    for pair in sources.windows(2) {
        assert_eq!(pair[0]["stop_time"], pair[1]["start_time"], "{reader}");
        assert_eq!(pair[1]["status"], "ok", "{}", pair[1]);
    }
    sources.len()
}

/// Scenario: a machine under load; while the probe runs a reader is added, another one gets another interval, an output is
/// added, changed and taken away, the file gets a mistake and is mended, and a reader goes.
/// Guarantees: the output that is not touched keeps its stream and its numbers, without a hole; windows of readers meet, and
/// add up to the difference of their totals; an output that is changed begins a stream that names the one before; a mistake
/// changes nothing and is told with its line.
#[test]
fn a_reload_leaves_no_hole_in_what_it_does_not_change() {
    let loaded = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let folder = tempfile::tempdir().expect("there is room for temporary files");
            while loaded.load(Ordering::Relaxed) {
                fs::write(folder.path().join("load"), [1; 1 << 16]).expect("there is room");
                fs::read_dir("/proc").expect("it is there").for_each(drop);
            }
        });
        let _unloads = Unloads(&loaded);
        change_everything();
    });
}

/// Ends the load, also when the test fails.
struct Unloads<'a>(&'a AtomicBool);

impl Drop for Unloads<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn change_everything() {
    let main = output("main", "");
    let base = format!("{PROBE}[metrics.cpu]\n[metrics.memory]\n[metrics.probe]\n");
    let mut probe = Probe::start(&(base.clone() + &main));
    more(&probe, "main", 3, |_| true);
    let hash = |probe: &Probe| {
        let last = envelopes(&probe.path("main"))
            .pop()
            .expect("there are some");
        last["header"]["agent"]["config_hash"].clone()
    };
    let first_hash = hash(&probe);

    let added = format!("{base}[metrics.disk]\n");
    let told = probe.reload(&(added.clone() + &main));
    assert!(told.ends_with("new metrics.disk"), "{told}");
    more(&probe, "main", 3, |envelope| of(envelope, "disk").is_some());
    until("the hash of the new file", || {
        (hash(&probe) != first_hash).then_some(())
    });

    let slower = added.replace("[metrics.memory]", "[metrics.memory]\ninterval = '300ms'");
    let told = probe.reload(&(slower.clone() + &main));
    assert!(told.ends_with("changed metrics.memory"), "{told}");
    more(&probe, "main", 3, |envelope| {
        let source = of(envelope, "memory");
        source.is_some_and(|source| source["duration_ns"].as_u64() > Some(200_000_000))
    });

    let told = probe.reload(&(slower.clone() + &main + &output("extra", "")));
    assert!(told.ends_with("new output.extra"), "{told}");
    more(&probe, "extra", 3, |_| true);
    let changed = output("extra", "zeros = 'keep'");
    let told = probe.reload(&(slower.clone() + &main + &changed));
    assert!(told.ends_with("changed output.extra"), "{told}");
    more(&probe, "extra", 3, |_| true);

    let told = probe.reload(&(slower.clone() + "[metrics.cpo]\n" + &main));
    assert!(
        told.contains("not reloaded") && told.contains("probe.toml:"),
        "{told}"
    );
    assert!(told.contains(": metrics.cpo: unknown plugin"), "{told}");
    more(&probe, "extra", 3, |_| true);
    let told = probe.reload(&(slower.clone() + &main));
    assert!(told.ends_with("gone output.extra"), "{told}");
    let extra = envelopes(&probe.path("extra"));

    let gone = slower.replace("[metrics.disk]\n", "");
    let told = probe.reload(&(gone.clone() + &main));
    assert!(told.ends_with("gone metrics.disk"), "{told}");
    more(&probe, "main", 5, |envelope| of(envelope, "disk").is_none());
    let told = probe.reload(&(gone + &main));
    assert!(
        told.ends_with("no reader and no output has changed"),
        "{told}"
    );
    more(&probe, "main", 2, |_| true);
    probe.stop();

    let all = envelopes(&probe.path("main"));
    let stream = one_stream(&all);
    assert!(stream.lost.is_empty(), "{stream:?}");
    let reloads: BTreeMap<_, _> = all
        .iter()
        .flat_map(|envelope| series(envelope, "probe.reloads"))
        .map(|series| {
            (
                series["labels"]["outcome"].to_string(),
                series["total"].as_u64(),
            )
        })
        .collect();
    let expected = [("\"in_force\"", 7), ("\"refused\"", 1)];
    let expected = expected.map(|(outcome, times)| (outcome.to_owned(), Some(times)));
    assert_eq!(reloads, expected.into());
    for reader in ["cpu", "memory", "disk"] {
        let windows = check_windows(&all, reader);
        assert!(windows > 3, "{reader}: {windows}");
    }
    assert!(totals(&all) > 100);
    assert_eq!(extra, envelopes(&probe.path("extra")), "it is gone");
    let streams = account(&extra).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        streams.values().all(|stream| stream.lost.is_empty()),
        "{streams:?}"
    );
    assert_eq!(streams.len(), 2, "{streams:?}");
    let previous: Vec<_> = extra
        .iter()
        .filter_map(|envelope| envelope["stream"].get("previous"))
        .collect();
    let first = &extra[0]["stream"]["id"];
    assert_eq!(previous.len(), 1, "{previous:?}");
    assert_eq!(&previous[0]["id"], first);
    let last = streams[first.as_str().expect("an id")].last();
    assert_eq!(previous[0]["last"], last);
    // What the first stream ended with is where the second begins.
    let (one, two): (Vec<_>, Vec<_>) = extra
        .iter()
        .partition(|envelope| &envelope["stream"]["id"] == first);
    assert_eq!(one[one.len() - 1]["stop_time"], two[0]["start_time"]);
}

/// Scenario: changes that need what was given up at the start, each together with one that does not.
/// Guarantees: each is named, and nothing of that file is in force.
#[test]
fn what_needs_a_restart_is_named_and_refused_as_a_whole() {
    let outside = tempfile::tempdir().expect("there is room for temporary files");
    let main = output("main", "");
    let config = format!("{PROBE}[metrics.memory]\n{main}");
    let mut probe = Probe::start(&config);
    more(&probe, "main", 2, |_| true);
    let locked = probe.diagnostics().contains("files by Landlock");
    let more_readers = config.replace("[metrics.memory]", "[metrics.memory]\n[metrics.cpu]");
    let elsewhere = more_readers.replace(
        "DIR/main",
        &outside.path().join("main").display().to_string(),
    );
    let mut wrong = vec![
        (
            more_readers.replace("DIR/state", "DIR/other"),
            "[probe] state_dir changed",
        ),
        (
            more_readers.clone() + "[health]\nfile = 'DIR/health'\n",
            "[health] changed",
        ),
        (
            more_readers.replace("[metrics.cpu]", "[metrics.cpu]\n[metrics.scheduler]"),
            "kernel readers changed (metrics.scheduler)",
        ),
        (
            more_readers.replace("[metadata.agent]", "root = '/usr'\n[metadata.agent]"),
            "proc, sys or root changed",
        ),
    ];
    if locked {
        wrong.push((elsewhere, "is not within the files that were allowed"));
    }
    for (config, expected) in wrong {
        let told = probe.reload(&config);
        assert!(
            told.contains("not reloaded") && told.contains("these need a restart"),
            "{told}"
        );
        assert!(told.contains(expected), "{told} does not say {expected}");
    }
    more(&probe, "main", 3, |_| true);
    probe.stop();
    let all = envelopes(&probe.path("main"));
    assert!(one_stream(&all).lost.is_empty());
    let readers: BTreeSet<_> = all
        .iter()
        .flat_map(|envelope| envelope["sources"].as_array().into_iter().flatten())
        .filter_map(|source| source["reader"].as_str())
        .collect();
    assert_eq!(readers, ["memory"].into());
}

/// Scenario: logrotate moves the file of an output away and sends SIGHUP.
/// Guarantees: the output goes on in a new file of the old name; both together have every number once.
#[test]
fn a_file_that_is_moved_away_is_begun_anew() {
    let config = format!("{PROBE}[metrics.memory]\n{}", output("main", ""));
    let mut probe = Probe::start(&config);
    more(&probe, "main", 3, |_| true);
    fs::rename(probe.path("main"), probe.path("main.old")).expect("it is there");
    probe.reload(&config);
    until("the new file", || {
        (envelopes(&probe.path("main")).len() > 3).then_some(())
    });
    probe.stop();
    let mut all = envelopes(&probe.path("main.old"));
    all.extend(envelopes(&probe.path("main")));
    let stream = one_stream(&all);
    assert!(stream.lost.is_empty(), "{stream:?}");
    assert_eq!(stream.ranges.len(), all.len(), "each once");
}

/// Scenario: an output with a spool, whose receiver is away, is changed by a reload; then the receiver is back.
/// Guarantees: what the old one had undelivered waits in the spool, and the new one delivers it first; nothing is lost.
#[test]
fn a_spool_outlives_the_reload_of_its_output() {
    let away = |more: &str| {
        let probe = PROBE.replace("[metadata.agent]", "drain = '1s'");
        let main = output("main", more).replace("DIR/main", "DIR/missing/folder/main");
        format!("{probe}[metrics.memory]\n{main}")
    };
    let mut probe = Probe::start(&away("spool_bytes = '1MiB'"));
    until("envelopes in the spool", || {
        let spool = fs::read_dir(probe.path("state/spool/main")).ok()?;
        let segments = spool
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|kind| kind == "seg"));
        let bytes: u64 = segments
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum();
        (bytes > 4096).then_some(())
    });
    let told = probe.reload(&away("spool_bytes = '1MiB'\nqueue_bytes = '8MiB'"));
    assert!(told.ends_with("changed output.main"), "{told}");
    fs::create_dir(probe.path("missing")).expect("the folder is writable");
    let path = "missing/folder/main";
    until("both streams", || {
        let all = envelopes(&probe.path(path));
        (account(&all).ok()?.len() == 2).then_some(())
    });
    more(&probe, path, 3, |_| true);
    probe.stop();
    let all = envelopes(&probe.path(path));
    let streams = account(&all).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(streams.len(), 2, "{streams:?}");
    assert!(
        streams.values().all(|stream| stream.lost.is_empty()),
        "{streams:?}"
    );
}
