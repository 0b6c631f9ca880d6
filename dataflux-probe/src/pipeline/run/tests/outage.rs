//! Outages at the shortest interval with a small spool, beside a file that gets everything: both have to say the same.

mod account;
mod workload;

use std::{
    fs,
    ops::RangeInclusive,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::{
    formatters,
    loggers::{self, Limits},
    pipeline::{SpoolSync, Spooling},
    plugin::testing::context,
};
use account::Account;

/// Bound of the spool's files.
const SPOOL_BYTES: u64 = 8 << 20;

/// Time runs as fast as the work is done: no reader is read while more than this waits in an output, or the records that
/// the disk has not taken yet would fill the memory.
const MOST_QUEUED: u64 = 6 << 20;

/// What arrived: the numbers and the bytes, repeats included.
type Arrived = Arc<Mutex<Vec<(RangeInclusive<u64>, Vec<u8>)>>>;

/// A transport that can be away. What it has when it goes arrives without an acknowledgement.
#[derive(Clone, Default)]
struct Distant {
    away: Arc<AtomicBool>,
    arrived: Arrived,
    /// Whether it was away at the last payload.
    was_away: bool,
}

impl Logger for Distant {
    fn send(&mut self, payload: Payload) -> Acknowledgement {
        let away = self.away.load(Ordering::Relaxed);
        if !away || !std::mem::replace(&mut self.was_away, away) {
            let arrived = (payload.range, payload.bytes.to_vec());
            self.arrived.lock().unwrap().push(arrived);
        }
        self.was_away = away;
        Box::pin(async move {
            sleep(200 * MS).await;
            if away {
                return Err(SendError::Retry(anyhow::anyhow!("away")));
            }
            Ok(())
        })
    }

    fn limits(&self) -> Limits {
        Limits {
            in_flight: 64,
            ..Limits::ONE_AT_A_TIME
        }
    }
}

/// A pipeline with a spooled output to a distant place and one to a file.
struct Outage {
    bench: Bench,
    distant: Distant,
    folder: tempfile::TempDir,
}

/// What an outage left.
struct Left {
    distant: Account,
    file: Account,
    /// Most bytes of the spool's files.
    largest: u64,
    /// Bytes of all segments that were begun.
    written: u64,
    /// Numbers that the outage began and ended with.
    numbers: RangeInclusive<u64>,
}

impl Outage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let distant = Distant::default();
        let bench = bench(folder.path(), &distant);
        Self {
            bench,
            distant,
            folder,
        }
    }

    /// Runs well for a while, is cut off, has what `meanwhile` does to the clocks happen every second, and recovers.
    async fn last(self, seconds: u32, mut meanwhile: impl FnMut(u32, &Script)) -> Left {
        let counters = Arc::clone(&self.bench.pipeline.counters);
        let outputs = ["distant", "file"].map(|name| counters.output(name));
        let (distant, script) = (self.distant.clone(), self.bench.script.clone());
        let spool = self.folder.path().join("spool/distant");
        let mut left = (0, 0, 0..=0);
        let (largest, written, numbers) = &mut left;
        let cut = &mut 0;
        self.bench
            .run(async {
                sleep(5 * SECOND).await;
                distant.away.store(true, Ordering::Relaxed);
                let begin = outputs[0].envelopes.get();
                for second in 0..seconds {
                    sleep(SECOND).await;
                    meanwhile(second, &script);
                    let (bytes, begun) = files(&spool);
                    (*largest, *written) = (bytes.max(*largest), begun.max(*written));
                }
                distant.away.store(false, Ordering::Relaxed);
                *numbers = begin..=outputs[0].envelopes.get();
                while *cut < *numbers.end() || outputs[1].delivered.get() < *cut {
                    sleep(100 * MS).await;
                    let arrived = distant.arrived.lock().unwrap();
                    *cut = arrived.last().map_or(0, |(range, _)| *range.end());
                }
            })
            .await;
        for output in &outputs {
            let lost = [
                &output.lost_queue_full,
                &output.lost_rejected,
                &output.lost_damaged,
            ];
            assert!(lost.iter().all(|lost| lost.get() == 0), "{output:?}");
        }
        let (largest, written, numbers) = left;
        let arrived = distant.arrived.lock().unwrap();
        let file = fs::read(self.folder.path().join("envelopes")).unwrap();
        Left {
            distant: Account::new(arrived.iter().map(|(_, bytes)| &**bytes), *cut),
            file: Account::new(file.split_inclusive(|&byte| byte == b'\n'), *cut),
            largest,
            written,
            numbers,
        }
    }
}

/// A start of the probe with its state in a folder.
fn bench(folder: &Path, distant: &Distant) -> Bench {
    let mut bench = Bench::new();
    bench.pipeline.state_dir = Some(Arc::new(StateDir::new(folder.to_owned())));
    bench.pipeline.outputs = vec![
        setup("distant", Box::new(distant.clone()), Some(SPOOL_BYTES)),
        setup("file", file(folder), None),
    ];
    let counters = Arc::clone(&bench.pipeline.counters);
    for reader in workload::readers(move || wait_for_disks(&counters)) {
        bench.pipeline.readers.push(reader);
    }
    bench
}

fn setup(name: &str, logger: Box<dyn Logger>, spool: Option<u64>) -> Output {
    let json = formatters::REGISTRY
        .iter()
        .find(|plugin| plugin.name == "json");
    Output {
        formatter: json
            .unwrap()
            .build_from("", &context(Path::new("/nowhere")))
            .unwrap(),
        logger,
        opened: false,
        shape: Arc::default(),
        queue_bytes: 1 << 30,
        spool: spool.map(|bytes| Spooling {
            bytes,
            sync: SpoolSync::None,
        }),
        ..output(name, Capture::default(), SINK)
    }
}

fn file(folder: &Path) -> Box<dyn Logger> {
    let plugin = loggers::REGISTRY
        .iter()
        .find(|plugin| plugin.name == "file");
    let path = folder.join("envelopes");
    plugin
        .unwrap()
        .build_from(
            &format!("path = '{}'\nroll_bytes = 0\n", path.display()),
            &context(Path::new("/nowhere")),
        )
        .unwrap()
}

/// Blocks the thread of a reader, so that no time passes, until the outputs have room.
fn wait_for_disks(counters: &Counters) {
    let begin = std::time::Instant::now();
    let full = || {
        let outputs = counters.outputs();
        outputs
            .iter()
            .any(|(_, output)| output.queue_bytes.get() > MOST_QUEUED)
    };
    while full() {
        assert!(begin.elapsed() < 60 * SECOND, "a disk hangs");
        thread::sleep(MS);
    }
}

/// Bytes of the files in a spool, and of all its segments so far.
fn files(spool: &Path) -> (u64, u64) {
    let (mut bytes, mut newest) = (0, 0);
    for entry in fs::read_dir(spool).into_iter().flatten().flatten() {
        // One that is gone by now has no length.
        bytes += entry.metadata().map_or(0, |found| found.len());
        let name = entry.file_name().into_string().unwrap();
        if let Some(number) = name.strip_suffix(".seg") {
            newest = newest.max(number.parse().unwrap());
        }
    }
    (bytes, newest * (SPOOL_BYTES / 64))
}

/// Scenario: the other end is away for half an hour at 100 ms, with 8 MiB of disk, while series come and go and reads fail.
/// Guarantees: every number arrives once, merged where there was no room, the newest fine; every counter, bucket, sum, extreme,
/// loss and duration is that of the file; the spool never takes more than it may.
#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the test says what it measured")]
async fn half_an_hour_away_costs_resolution_and_no_count() {
    let left = Outage::new().last(1_800, |_, _| {}).await;
    let Left {
        distant,
        file,
        largest,
        written,
        numbers,
    } = left;
    let widths = distant.widths(&numbers);
    println!(
        "figure: {} numbers in {} envelopes, at most {largest} bytes on disk, {written} written",
        numbers.clone().count(),
        widths.len()
    );
    assert!(numbers.clone().count() >= 18_000, "{numbers:?}");
    assert!(largest <= SPOOL_BYTES, "{largest} bytes on disk");
    assert!(
        written > 4 * SPOOL_BYTES,
        "{written} bytes overfill nothing"
    );
    // What was in flight at the beginning is single for ever; what was merged last, while it drained, is not so wide.
    let widest = widths.iter().position(|&width| width >= 1_000);
    assert!(widest.is_some_and(|place| place <= 64), "{widths:?}");
    let newest = &widths[widths.len() - 500..];
    assert!(newest.iter().all(|&width| width == 1), "{widths:?}");
    assert!(file.widths(&numbers).iter().all(|&width| width == 1));
    distant.assert_equals(&file);
}

/// Scenario: while the other end is away, the clock is set forth and back, and the machine is suspended: scripted here,
/// since no process has a wall clock of its own that could be set under the real binary.
/// Guarantees: as above, and both outputs tell the same steps and suspensions.
#[tokio::test(start_paused = true)]
async fn clocks_that_jump_during_an_outage_change_no_count() {
    let left = Outage::new()
        .last(60, |second, script| match second {
            10 => script.step(3_600_123_456_789),
            25 => script.suspend(600 * SECOND),
            40 => script.step(-7_200_987_654_321),
            _ => {}
        })
        .await;
    left.distant.assert_equals(&left.file);
    assert_eq!(left.file.clock_step, -3_600_864_197_532);
    assert_eq!(left.file.suspended, 600_000_000_000);
}

/// Scenario: a start that never gets through; another in whose beginning the clock shows 1970, until it is set right.
/// Guarantees: every number of both arrives, those of the first start first; the second names the end of the first.
#[tokio::test(start_paused = true)]
async fn a_start_in_1970_sends_what_the_last_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let distant = Distant::default();
    distant.away.store(true, Ordering::Relaxed);
    bench(folder.path(), &distant).run(sleep(5 * SECOND)).await;
    // What was in flight when it stopped arrives again.
    distant.away.store(false, Ordering::Relaxed);
    let second = bench(folder.path(), &distant);
    let (script, counters) = (second.script.clone(), second.pipeline.counters.clone());
    let right = script.now().wall;
    script.step(-right);
    second
        .run(async {
            sleep(3 * SECOND).await;
            script.step(right);
            let output = counters.output("distant");
            while output.envelopes.get() < 40 || output.queue_envelopes.get() > 2 {
                sleep(100 * MS).await;
            }
        })
        .await;
    let arrived = distant.arrived.lock().unwrap();
    let mut streams: Vec<(Arc<str>, Vec<u64>)> = Vec::new();
    let mut named = None;
    for (_, bytes) in &*arrived {
        let line: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let stream = &line["stream"];
        assert_eq!(stream["gaps"], json!([]));
        let id = stream["id"].as_str().unwrap();
        if streams.last().is_none_or(|(known, _)| **known != *id) {
            streams.push((id.into(), Vec::new()));
        }
        let numbers = stream["first"].as_u64().unwrap()..=stream["last"].as_u64().unwrap();
        let known = &mut streams.last_mut().unwrap().1;
        known.extend(numbers);
        if let Some(previous) = stream.get("previous") {
            assert!(line["start_time"].as_str().unwrap().starts_with("1970-"));
            named = Some((previous["id"].clone(), previous["last"].clone()));
        }
    }
    for (_, numbers) in &mut streams {
        numbers.dedup();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
    }
    let [(first, numbers), (_, later)] = &streams[..] else {
        panic!("one start after the other: {streams:?}");
    };
    assert_eq!(named, Some((json!(first), json!(numbers.len()))));
    assert!(numbers.len() >= 49 && later.len() >= 38, "{streams:?}");
}
