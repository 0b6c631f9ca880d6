//! Loading, ending and living side by side leave nothing behind and disturb nobody.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use dataflux_probe::plugin::Roots;
use dataflux_tests::{
    probe::{Probe, until},
    sequence::{envelopes, series},
};
use serde_json::Value;

use crate::{
    harness::{Attached, kernel, machine},
    interfaces::{Lone, free_index},
    listing::Listing,
};

const READERS: [(&str, &str); 3] = [
    ("scheduler", ""),
    ("block_io", "issue_stamps = \"always\""),
    ("network", ""),
];
/// Programs of these readers that every kernel has: all but the one on drops, which have reasons since 5.17.
const LEAST_PROGRAMS: usize = 11;

const CONFIG: &str = r#"
[probe]
interval = "200ms"
state_dir = "DIR/state"
[metrics.scheduler]
[metrics.block_io]
issue_stamps = "always"
[metrics.network]
[output.file]
formatter = "json"
logger = "file"
[output.file.file]
path = "DIR/envelopes.jsonl"
"#;

#[test]
fn loading_fifty_times_leaves_nothing_behind() {
    load_and_drop(50);
}

/// `cargo xtask soak loads` runs it.
#[test]
#[ignore = "takes minutes"]
fn soak_loads() {
    load_and_drop(1_000);
}

/// Scenario: all kernel readers are loaded, attached, read and dropped so many times, of which every tenth reads the kernel's
/// types anew.
/// Guarantees: the kernel lists none of their programs, maps and links any more; the process has as many descriptors as
/// after the first ones, and between two readings of the types, which leave holes in the heap, it does not grow.
fn load_and_drop(times: usize) {
    const STARTS: usize = 10;
    const MOST_GROWTH: u64 = 4 << 20;
    let Some(_machine) = machine() else { return };
    let mut made = Listing::default();
    let mut programs = None;
    let mut descriptors = None;
    let mut grown = 0;
    let begin = Instant::now();
    for start in 0..times / STARTS {
        let host = kernel(Roots::default());
        let mut first = None;
        for time in 0..STARTS {
            let attach = |(reader, section)| {
                let attached = Attached::with(&host, reader, section);
                attached.unwrap_or_else(|error| panic!("{start}, {time}: {reader}: {error}"))
            };
            let mut readers = READERS.map(attach);
            for reader in &mut readers {
                reader.read_in_part();
            }
            let listing = Listing::of(std::process::id());
            let links = listing.links.len();
            assert!(links >= LEAST_PROGRAMS, "{listing:?}");
            assert_eq!(*programs.get_or_insert(links), links, "{listing:?}");
            assert!(!listing.maps.is_empty(), "{listing:?}");
            made.add(&listing);
            drop(readers);
            first.get_or_insert_with(resident);
        }
        grown += resident().saturating_sub(first.unwrap_or_default());
        let open = open_descriptors();
        assert_eq!(*descriptors.get_or_insert(open), open, "descriptors");
    }
    let took = begin.elapsed() / times as u32;
    assert_eq!(
        made.links.len(),
        times * programs.unwrap_or_default(),
        "numbers were given out twice"
    );
    let left = gone(&made);
    assert!(left.is_empty(), "still there: {left:?}");
    println!(
        "figure: {times} times, {took:?} each: {} programs, {} maps, {} links gone; {grown} bytes more",
        made.programs.len(),
        made.maps.len(),
        made.links.len(),
    );
    assert!(grown <= MOST_GROWTH, "grown by {grown} bytes");
}

/// What is left of these once the kernel has let go of what nobody holds.
fn gone(made: &Listing) -> Listing {
    const PATIENCE: Duration = Duration::from_secs(30);
    let begin = Instant::now();
    loop {
        let left = made.remaining();
        if left.is_empty() || begin.elapsed() > PATIENCE {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd")
        .expect("/proc/self/fd")
        .count()
}

/// Bytes of memory in use.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("VmRSS") << 10
}

/// Starts a probe with all kernel readers; it has everything attached and has delivered.
fn running() -> (Probe, Listing) {
    let probe = Probe::start(CONFIG);
    let file = probe.path("envelopes.jsonl");
    until("the first envelope", || envelopes(&file).pop());
    let listing = Listing::of(probe.pid());
    assert!(
        listing.links.len() >= LEAST_PROGRAMS,
        "{listing:?}: {}",
        probe.diagnostics()
    );
    (probe, listing)
}

/// Scenario: a running probe is killed.
/// Guarantees: the kernel takes its programs off their hooks and lists nothing of it any more.
#[test]
fn a_killed_probe_leaves_nothing_attached() {
    let Some(_machine) = machine() else { return };
    let (mut probe, listing) = running();
    assert_eq!(
        listing.remaining(),
        listing,
        "all of it is listed while it runs"
    );
    probe.kill();
    let left = gone(&listing);
    assert!(left.is_empty(), "still there: {left:?}");
}

/// Scenario: two probes run side by side with folders of their own; frames leave an interface; one probe is killed, and more
/// frames leave.
/// Guarantees: both count exactly the frames of their time; the end of one takes nothing from the other.
#[test]
fn two_probes_do_not_disturb_each_other() {
    const FRAMES: u64 = 1_009;
    const MORE: u64 = 503;
    let Some(_machine) = machine() else { return };
    let pair = Lone::new(free_index());
    let ((mut one, of_one), (mut other, of_other)) = (running(), running());
    assert!(
        of_one.maps.is_disjoint(&of_other.maps),
        "maps are nobody else's"
    );
    pair.send(FRAMES);
    let sent = |probe: &Probe| frames_sent(&probe.path("envelopes.jsonl"), pair.index);
    for probe in [&one, &other] {
        until("the frames", || (sent(probe) >= FRAMES).then_some(()));
    }
    one.kill();
    let left = gone(&of_one);
    assert!(left.is_empty(), "still there: {left:?}");
    assert_eq!(
        of_other.remaining(),
        of_other,
        "of the other one nothing is missing"
    );
    pair.send(MORE);
    other.stop();
    assert_eq!(sent(&one), FRAMES);
    assert_eq!(sent(&other), FRAMES + MORE);
}

/// Frames that left an interface, by all envelopes of a file.
fn frames_sent(file: &Path, index: u32) -> u64 {
    let index = index.to_string();
    let sent = |series: &Value| {
        series["labels"]["direction"] == "sent" && series["interface"]["id"] == index
    };
    envelopes(file)
        .iter()
        .flat_map(|envelope| series(envelope, "network.packets"))
        .filter(sent)
        .filter_map(|series| series["value"].as_u64())
        .sum()
}
