//! Several outputs at once, stopping, and starting again.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_dead_output_delays_no_other() {
    let mut bench = Bench::new().count("a", SECOND);
    let dead = Sink {
        delivers: false,
        ..SINK
    };
    let stuck = Sink {
        after: 3600 * SECOND,
        ..SINK
    };
    let dead = output("dead", Capture::default(), dead);
    let stuck = output("stuck", Capture::default(), stuck);
    bench.pipeline.outputs.insert(0, stuck);
    bench.pipeline.outputs.insert(0, dead);
    let (capture, counters) = bench.run(sleep(60 * SECOND)).await;
    assert_eq!(capture.envelopes().len(), 60);
    assert_eq!(counters.missed_ticks.get(), 0);
    let outputs: Vec<_> = counters
        .outputs()
        .into_iter()
        .map(|(name, output)| (name, output.delivered.get()))
        .collect();
    let expected = [("dead", 0), ("stuck", 0), ("main", 60)]
        .map(|(name, delivered)| (name.to_owned(), delivered));
    assert_eq!(outputs, expected);
}

#[tokio::test(start_paused = true)]
async fn an_envelope_per_reader_has_a_stream_and_windows_of_its_own() {
    let mut bench = Bench::new()
        .count("quick", SECOND)
        .count("slow", 3 * SECOND);
    Arc::make_mut(&mut bench.pipeline.outputs[0].shape).per_reader = true;
    let (capture, _) = bench.run(sleep(10 * SECOND + 500 * MS)).await;
    let records = capture.0.lock().unwrap();
    for reader in ["quick", "slow"] {
        let own: Vec<_> = records
            .iter()
            .filter(|record| record.envelope.sources[0].reader == reader)
            .collect();
        let numbers: Vec<_> = own.iter().map(|record| *record.range.start()).collect();
        assert_eq!(numbers, (1..=own.len() as u64).collect::<Vec<_>>());
        assert!(own[0].stream.id.starts_with(&format!("main/{reader}-")));
        for record in &own {
            assert_eq!(record.envelope.sources.len(), 1);
            let (window, source) = (record.envelope.window, record.envelope.sources[0].window);
            assert!(
                window.duration.abs_diff(source.duration) < 5 * MS,
                "{window:?} {source:?}"
            );
        }
        let envelopes: Vec<_> = own
            .iter()
            .map(|record| Arc::clone(&record.envelope))
            .collect();
        check_windows(&envelopes);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_start_knows_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let start = |logger| {
        let mut bench = Bench::new().count("a", SECOND);
        bench.pipeline.state_dir = Some(Arc::new(StateDir::new(folder.path().to_owned())));
        bench.pipeline.outputs = vec![output("main", bench.capture.clone(), logger)];
        bench
    };
    let (first, _) = start(SINK).run(sleep(3 * SECOND + 500 * MS)).await;
    let first = first.0.lock().unwrap().clone();
    assert!(first.iter().all(|record| record.stream.previous.is_none()));
    let last = &first[first.len() - 1];

    // Everything of the second start is lost at its end.
    let (second, _) = start(Sink {
        delivers: false,
        ..SINK
    })
    .run(sleep(2 * SECOND + 500 * MS))
    .await;
    let second = second.0.lock().unwrap().clone();
    let previous = second[0].stream.previous.as_ref().unwrap();
    assert_eq!(
        (&previous.id, previous.last),
        (&last.stream.id, *last.range.end())
    );
    assert_eq!(previous.stop_time, last.envelope.window.stop);
    assert_eq!(previous.gaps, []);

    let (third, _) = start(SINK).run(sleep(2 * SECOND)).await;
    let third = third.0.lock().unwrap().clone();
    let previous = third[0].stream.previous.as_ref().unwrap();
    assert_eq!(previous.id, second[0].stream.id);
    let gaps: Vec<_> = previous
        .gaps
        .iter()
        .map(|gap| (gap.first, gap.last, gap.cause.name()))
        .collect();
    assert_eq!(gaps, [(1, previous.last, "stopped")]);
    assert!(third[1].stream.previous.is_none(), "said once");
}

#[tokio::test(start_paused = true)]
async fn starts_that_deliver_nothing_forget_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let start = |delivers| {
        let mut bench = Bench::new().count("a", SECOND);
        bench.pipeline.state_dir = Some(Arc::new(StateDir::new(folder.path().to_owned())));
        let sink = Sink { delivers, ..SINK };
        bench.pipeline.outputs = vec![output("main", bench.capture.clone(), sink)];
        bench
    };
    let mut dead = Vec::new();
    for _ in 0..3 {
        let (capture, _) = start(false).run(sleep(2 * SECOND + 500 * MS)).await;
        dead.push(Arc::clone(&capture.0.lock().unwrap()[0].stream.id));
    }
    let (capture, _) = start(true).run(sleep(2 * SECOND)).await;
    let record = capture.0.lock().unwrap()[0].clone();
    let mut told = Vec::new();
    let mut before = record.stream.previous.as_ref();
    while let Some(previous) = before {
        let lost: Vec<u64> = previous
            .gaps
            .iter()
            .flat_map(|gap| gap.first..=gap.last)
            .collect();
        assert_eq!(lost, (1..=previous.last).collect::<Vec<_>>());
        told.insert(0, Arc::clone(&previous.id));
        before = previous.previous.as_deref();
    }
    assert_eq!(told, dead);
}

#[tokio::test(start_paused = true)]
async fn stopping_before_the_first_tick_sends_nothing() {
    let bench = Bench::new().count("a", 3600 * SECOND);
    let (capture, _) = bench.run(sleep(MS)).await;
    assert_eq!(capture.envelopes().len(), 0);
}
