//! Readers that are late, broken or absent, those of metadata, and a single window without outputs.

use std::sync::{
    atomic::{AtomicU64, Ordering},
    mpsc,
};

use tokio::{sync::Notify, task::yield_now, time::advance};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_panicking_and_a_failing_reader_do_not_disturb_the_others() {
    let mut reads = 0;
    let mut grumpy = 0;
    let bench = Bench::new()
        .read("panics", SECOND, |_| panic!("no good"))
        .read("fails", SECOND, move |out| {
            reads += 1;
            out.counter(&EVENTS, None, ["a"], reads);
            anyhow::ensure!(reads != 3, "the third time");
            Ok(())
        })
        .read("doubts", SECOND, move |out| {
            grumpy += 1;
            out.health = Health::new(Status::Suspect, "odd");
            out.lost = 2 * grumpy;
            Ok(())
        })
        .count("works", SECOND);
    let (capture, counters) = bench.run(sleep(5 * SECOND)).await;
    for (_, source) in capture.sources("panics") {
        assert_eq!(
            source.health,
            Health::new(Status::Failed, "panicked: no good")
        );
        assert_eq!(source.covered, Duration::ZERO);
    }
    let fails = capture.sources("fails");
    let statuses: Vec<_> = fails
        .iter()
        .map(|(_, source)| source.health.status)
        .collect();
    assert_eq!(
        statuses[..4],
        [Status::Ok, Status::Failed, Status::Ok, Status::Ok]
    );
    assert_eq!(fails[2].1.covered.as_secs(), 2);
    assert_eq!(value(&fails[2].1), Some(2));
    for (_, source) in capture.sources("doubts") {
        assert_eq!((source.health.status, source.lost), (Status::Suspect, 2));
    }
    let works = capture.sources("works");
    assert!(
        works
            .iter()
            .all(|(_, source)| source.health.status == Status::Ok)
    );
    let of = |name| counters.reader(name);
    assert_eq!(
        (of("fails").failures.get(), of("panics").reads.get()),
        (1, 0)
    );
    assert_eq!(of("works").reads.get() as usize, works.len() + 1);
}

/// Gives threads the real time they need, while the paused time stands still.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        std::thread::sleep(MS);
        yield_now().await;
    }
    panic!("waited for a minute");
}

#[tokio::test(start_paused = true)]
async fn a_late_reader_joins_the_next_envelope_and_delays_nobody() {
    let (release, held) = mpsc::channel::<()>();
    let holding = Arc::new(Notify::new());
    let starts = Arc::clone(&holding);
    let quick_reads = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&quick_reads);
    let mut reads = 0;
    let bench = Bench::new()
        .read("late", SECOND, move |out| {
            reads += 1;
            out.counter(&EVENTS, None, ["reads"], reads);
            if reads == 3 {
                starts.notify_one();
                held.recv()?;
            }
            Ok(())
        })
        .read("quick", SECOND, move |out| {
            let count = counting.fetch_add(1, Ordering::Relaxed) + 1;
            out.counter(&EVENTS, None, ["reads"], count);
            Ok(())
        });
    let envelopes = bench.capture.clone();
    let driver = async move {
        // The third read is that of envelope 2. As long as a thread is at work, paused time moves only by hand.
        holding.notified().await;
        for number in 2..=4 {
            advance(PATIENCE + MS).await;
            until(|| quick_reads.load(Ordering::Relaxed) == number + 1).await;
            // Its thread hands over what it read right after that, which nobody can see from here.
            std::thread::sleep(300 * MS);
            advance(550 * MS).await;
            until(|| envelopes.envelopes().len() as u64 == number).await;
            if number < 4 {
                advance(400 * MS).await;
            }
        }
        release.send(()).unwrap();
        sleep(4 * SECOND).await;
    };
    let (capture, counters) = bench.run(driver).await;
    let quick = capture.sources("quick");
    for (number, source) in &quick[..quick.len() - 1] {
        assert_eq!(value(source), Some(1), "{number}");
        assert!(
            (800 * MS..1200 * MS).contains(&source.window.duration),
            "{:?}",
            source.window
        );
    }
    let late = capture.sources("late");
    let statuses: Vec<_> = late
        .iter()
        .map(|(_, source)| source.health.status)
        .collect();
    // Envelope 5 has the read that was late and its own.
    assert_eq!(
        statuses[..6],
        [
            Status::Ok,
            Status::Degraded,
            Status::Degraded,
            Status::Degraded,
            Status::Ok,
            Status::Ok
        ],
        "{statuses:?}"
    );
    assert_eq!(value(&late[4].1), Some(2));
    let covered: Duration = late.iter().map(|(_, source)| source.covered).sum();
    let first = late[0].1.window.start;
    let last = late[late.len() - 1].1.window.stop;
    assert_eq!(nanoseconds(covered), last - first);
    assert_eq!(counters.reader("late").late.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_did_not_attach_is_never_read_and_says_why() {
    let mut bench = Bench::new()
        .read("absent", SECOND, |_| panic!("is never read"))
        .count("works", SECOND);
    bench.pipeline.readers[0].attached = Health::new(Status::Unsupported, "no such hook");
    let (capture, counters) = bench.run(sleep(3 * SECOND)).await;
    let absent = capture.sources("absent");
    assert_eq!(absent.len(), capture.sources("works").len());
    for (_, source) in &absent {
        assert_eq!(
            source.health,
            Health::new(Status::Unsupported, "no such hook")
        );
        assert_eq!(source.unsupported, [&EVENTS, &LEVEL]);
        assert!(source.window.duration <= 1100 * MS);
    }
    assert_eq!(counters.reader("absent").failures.get(), 0);
}

/// Counts its reads in the header; fails from the third on.
struct Owner {
    reads: u64,
}

impl MetadataReader for Owner {
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        self.reads += 1;
        let section = json!({"reads": self.reads}).as_object().unwrap().clone();
        out.sections.insert("owner", section);
        anyhow::ensure!(self.reads < 3, "gone");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_is_refreshed_and_an_error_leaves_it() {
    let mut bench = Bench::new().count("a", SECOND);
    bench.pipeline.metadata.push(MetadataSetup {
        name: "owner",
        interval: 4 * SECOND,
        reader: Box::new(Owner { reads: 0 }),
    });
    let (capture, _) = bench.run(sleep(20 * SECOND)).await;
    let envelopes = capture.envelopes();
    let reads: Vec<_> = envelopes
        .iter()
        .map(|envelope| {
            envelope.metadata.sections["owner"]["reads"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!((reads[0], reads[reads.len() - 1]), (1, 2), "{reads:?}");
    assert!(reads.is_sorted());
    // What did not change is shared.
    assert!(Arc::ptr_eq(
        &envelopes[18].metadata,
        &envelopes[17].metadata
    ));
}

#[test]
fn once_measures_one_window() {
    let bench_readers = |name| {
        let mut reads = 0;
        reader(
            name,
            SECOND,
            Box::new(FakeReader(move |out: &mut Snapshot| {
                reads += 5;
                out.counter(&EVENTS, None, ["a"], reads);
                out.counter(&EVENTS, None, ["same"], 1);
                Ok(())
            })),
        )
    };
    let pipeline = Pipeline {
        place: 0,
        readers: vec![bench_readers("a"), bench_readers("b")],
        metadata: vec![MetadataSetup {
            name: "owner",
            interval: SECOND,
            reader: Box::new(Owner { reads: 0 }),
        }],
        outputs: Vec::new(),
        names: Names::new("/nowhere".into()),
        counters: Arc::default(),
        state_dir: None,
        pulse: Pulse::default(),
        drain_limit: Duration::ZERO,
    };
    let record = pipeline.once(20 * MS).unwrap();
    assert_eq!(record.range, 1..=1);
    let envelope = &record.envelope;
    assert!(envelope.window.duration >= 20 * MS);
    assert_eq!(envelope.metadata.sections["owner"]["reads"], 1);
    assert_eq!(envelope.sources.len(), 2);
    for source in &envelope.sources {
        assert_eq!((source.metrics.len(), value(source)), (1, Some(5)));
    }
}
