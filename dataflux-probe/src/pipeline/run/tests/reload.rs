//! Another configuration between two ticks.

use tokio::sync::oneshot;

use super::*;
use crate::pipeline::{Change, Same};

/// A reader whose counter grows by one with each read.
fn counting(name: &'static str, interval: Duration) -> Reader {
    let mut count = 0;
    let read = move |out: &mut Snapshot| {
        count += 1;
        out.counter(&EVENTS, None, ["reads"], count);
        Ok(())
    };
    reader(name, interval, Box::new(FakeReader(read)))
}

fn same(readers: &[&str], outputs: &[&str]) -> Same {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Same {
        readers: names(readers),
        metadata: names(&[]),
        outputs: names(outputs),
    }
}

/// What is to run from now on, and when that is so.
fn change(
    readers: Vec<Reader>,
    outputs: Vec<Output>,
    same: Same,
) -> (Order, oneshot::Receiver<()>) {
    let (done, is_done) = oneshot::channel();
    let change = Change {
        readers,
        metadata: Vec::new(),
        outputs,
        drain_limit: SECOND,
        same,
        done,
    };
    (Order::Change(change), is_done)
}

fn milliseconds(time: WallTime) -> i64 {
    (time / 1_000_000).rem_euclid(60_000)
}

#[tokio::test(start_paused = true)]
async fn readers_go_on_come_and_go() {
    let mut bench = Bench::new()
        .count("stays", SECOND)
        .count("slows", SECOND)
        .count("goes", SECOND);
    let (orders, asked) = mpsc::channel(1);
    bench.orders = asked;
    let capture = bench.capture.clone();
    let (capture, counters) = bench
        .run(async move {
            sleep(5 * SECOND + 500 * MS).await;
            // Its readers that go on are not needed: they would begin to count anew.
            let readers = vec![
                counting("comes", SECOND),
                counting("slows", 2 * SECOND),
                counting("stays", SECOND),
            ];
            let outputs = vec![output("main", capture, SINK)];
            let same = same(&["slows", "stays"], &["main"]);
            let (order, done) = change(readers, outputs, same);
            orders.send(order).await.unwrap();
            done.await.unwrap();
            sleep(6 * SECOND).await;
        })
        .await;
    let envelopes = capture.envelopes();
    check_windows(&envelopes);
    assert_eq!(counters.missed_ticks.get(), 0);
    let records = capture.0.lock().unwrap();
    let numbers: Vec<_> = records.iter().map(|record| *record.range.start()).collect();
    assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>());
    assert!(
        records
            .iter()
            .all(|record| record.stream.id == records[0].stream.id)
    );
    drop(records);

    for name in ["stays", "slows", "goes", "comes"] {
        let sources = capture.sources(name);
        assert!(sources.len() >= 4, "{name}: {}", sources.len());
        for (number, source) in &sources {
            assert_eq!(
                (source.health.status, value(source)),
                (Status::Ok, Some(1)),
                "{name} {number}"
            );
        }
        for pair in sources.windows(2) {
            assert_eq!(pair[0].1.window.stop, pair[1].1.window.start, "{name}");
        }
    }
    // 30 ms past a minute at the beginning.
    let (_, last) = capture.sources("goes").pop().unwrap();
    assert_eq!(milliseconds(last.window.stop), 5_530);
    let comes = capture.sources("comes");
    assert_eq!(milliseconds(comes[0].1.window.start), 5_530);
    let slows: Vec<_> = capture.sources("slows");
    let stops: Vec<_> = slows[4..7]
        .iter()
        .map(|(_, source)| milliseconds(source.window.stop))
        .collect();
    assert_eq!(stops, [6_000, 8_000, 10_000]);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_changes_names_the_stream_before() {
    let mut bench = Bench::new().count("a", SECOND);
    let (orders, asked) = mpsc::channel(1);
    bench.orders = asked;
    let (other, changed) = (Capture::default(), Capture::default());
    // It needs half a second for each.
    let slow = Sink {
        after: 500 * MS,
        ..SINK
    };
    bench
        .pipeline
        .outputs
        .push(output("other", other.clone(), slow));
    let (main, after) = (bench.capture.clone(), changed.clone());
    let (capture, _) = bench
        .run(async move {
            // Right behind a tick: what it gave is in flight.
            sleep(5 * SECOND + 100 * MS).await;
            let outputs = vec![output("main", main, SINK), output("other", after, SINK)];
            let (order, done) = change(
                vec![counting("a", SECOND)],
                outputs,
                same(&["a"], &["main"]),
            );
            orders.send(order).await.unwrap();
            done.await.unwrap();
            sleep(5 * SECOND).await;
        })
        .await;
    check_windows(&capture.envelopes());
    let (other, changed) = (other.0.lock().unwrap(), changed.0.lock().unwrap());
    let (last, first) = (&other[other.len() - 1], &changed[0]);
    assert_ne!(last.stream.id, first.stream.id);
    assert_eq!(first.range, 1..=1);
    let previous = first.stream.previous.as_ref().unwrap();
    assert_eq!(previous.id, last.stream.id);
    assert_eq!(
        (previous.last, &*previous.gaps),
        (*last.range.end(), &[][..])
    );
    assert_eq!(last.envelope.window.stop, first.envelope.window.start);
    assert_eq!(other.len() + changed.len(), capture.envelopes().len());
    assert!(
        changed[1..]
            .iter()
            .all(|record| record.stream.previous.is_none())
    );
}
