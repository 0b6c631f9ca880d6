//! What cannot be delivered: gaps, and envelopes in parts.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_rejected_or_cannot_be_formatted_is_a_gap_of_the_next_envelope() {
    let setup = Setup {
        unformattable: |number| number == 5,
        ..Setup::default()
    };
    let mut bench = Bench::new(setup, |text| {
        if text["first"] == 3 || text["first"] == 4 {
            Answer::reject()
        } else {
            Answer::OK
        }
    });
    for _ in 0..6 {
        bench.tick_after(SECOND).await;
    }
    bench.close(SECOND).await;
    bench.check();
    assert_eq!(bench.told_lost(), [3, 4, 5]);
    let counters = &bench.inbox.counters;
    assert_eq!(
        (
            counters.lost_rejected.get(),
            counters.lost_unformattable.get()
        ),
        (2, 1)
    );
    let attempts = bench.wire.attempts.lock().unwrap();
    let last = &attempts.last().unwrap().1;
    assert_eq!(
        last["gaps"].to_string(),
        r#"[{"cause":"rejected","first":3,"last":4},{"cause":"unformattable","first":5,"last":5}]"#
    );
}

#[tokio::test(start_paused = true)]
async fn gaps_and_the_past_stay_with_an_envelope_on_repeats_and_go_on_if_it_is_lost() {
    let past = r#"{"out": {"id": "out-before", "last": 9, "stop_time": 7, "gaps": []}}"#;
    let setup = Setup {
        past: serde_json::from_str(past).unwrap(),
        ..Setup::default()
    };
    let mut calls = 0;
    let mut bench = Bench::new(setup, move |_| {
        calls += 1;
        match calls {
            1 => Answer::reject(), // number 1
            2 => Answer::retry(),  // number 2
            3 => Answer::reject(), // number 2 again
            _ => Answer::OK,
        }
    });
    for _ in 0..3 {
        bench.tick_after(SECOND).await;
    }
    bench.close(SECOND).await;
    bench.check();
    let attempts = bench.wire.attempts.lock().unwrap();
    let gaps: Vec<Vec<u64>> = attempts
        .iter()
        .map(|(_, text)| numbers(&text["gaps"]).collect())
        .collect();
    assert_eq!(gaps, [vec![], vec![1], vec![1], vec![1, 2]]);
    for (_, text) in &*attempts {
        assert_eq!(text["previous"]["id"], "out-before");
    }
}

#[tokio::test(start_paused = true)]
async fn too_large_envelopes_are_split_by_source_and_series() {
    let setup = Setup {
        series: 40,
        limits: Limits {
            payload_bytes: 1500,
            in_flight: 3,
            in_flight_bytes: usize::MAX,
        },
        ..Setup::default()
    };
    // The limit it states is not all: it refuses more.
    let mut bench = Bench::new(setup, |text| {
        if text["series"].as_str().unwrap().len() > 600 {
            Answer {
                arrives: false,
                after: SECOND,
                result: Err(SendError::TooLarge),
            }
        } else {
            Answer::OK
        }
    });
    for _ in 0..4 {
        bench.tick_after(SECOND).await;
    }
    bench.close(1000 * SECOND).await;
    bench.check();
    assert_eq!(bench.ranges(), [(1, 1), (2, 2), (3, 3), (4, 4)]);
    assert_eq!(bench.told_lost(), [0; 0]);
    let attempts = bench.wire.attempts.lock().unwrap();
    assert!(
        attempts
            .iter()
            .all(|(_, text)| text.to_string().len() <= 1500)
    );
    assert!(bench.wire.most_in_flight.load(Ordering::Relaxed) <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_single_series_that_is_too_large_is_rejected() {
    let setup = Setup {
        limits: Limits {
            payload_bytes: 150,
            in_flight: 1,
            in_flight_bytes: usize::MAX,
        },
        ..Setup::default()
    };
    let mut bench = Bench::new(setup, |_| Answer::OK);
    bench.tick();
    bench.close(SECOND).await;
    assert_eq!(bench.attempts(), [0; 0]);
    assert_eq!(bench.inbox.counters.lost_rejected.get(), 1);
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn a_long_past_is_told_in_pieces_that_get_through() {
    let end = |start: u64| {
        let gaps = (0..10).map(|gap| {
            format!(
                r#"{{"first":{0},"last":{0},"cause":"stopped"}}"#,
                2 * gap + 1
            )
        });
        let gaps = gaps.collect::<Vec<_>>().join(",");
        format!(r#""id":"out-{start:016x}","last":20,"stop_time":7,"gaps":[{gaps}]"#)
    };
    let earlier: Vec<String> = (0..69).map(|start| format!("{{{}}}", end(start))).collect();
    let past = format!(
        r#"{{"out":{{{},"earlier":[{}]}}}}"#,
        end(69),
        earlier.join(",")
    );
    let mut setup = Setup {
        past: serde_json::from_str(&past).unwrap(),
        ..Setup::default()
    };
    setup.limits.payload_bytes = 6_000;
    let mut bench = Bench::new(setup, |_| Answer::OK);
    for _ in 0..40 {
        bench.tick_after(SECOND).await;
    }
    bench.close(SECOND).await;
    bench.check();
    let attempts = bench.wire.attempts.lock().unwrap();
    let mut told = BTreeSet::new();
    for (_, text) in attempts.iter() {
        let mut before = &text["previous"];
        while !before.is_null() {
            let id = before["id"].as_str().unwrap().to_owned();
            told.extend(numbers(&before["gaps"]).map(|number| (id.clone(), number)));
            before = &before["previous"];
        }
    }
    assert_eq!(told.len(), 70 * 10);
}

#[tokio::test(start_paused = true)]
async fn losses_are_told_by_the_other_kind_of_stream_when_there_is_no_successor() {
    for (per_reader, before) in [(false, "out/alpha"), (true, "out")] {
        let past = format!(
            r#"{{"{before}":{{"id":"{before}-1","last":9,"stop_time":7,"gaps":[{{"first":3,"last":9,"cause":"stopped"}}]}}}}"#
        );
        let setup = Setup {
            per_reader,
            past: serde_json::from_str(&past).unwrap(),
            ..Setup::default()
        };
        let mut bench = Bench::new(setup, |_| Answer::OK);
        for _ in 0..3 {
            bench.tick_after(SECOND).await;
        }
        bench.close(SECOND).await;
        bench.check();
        let attempts = bench.wire.attempts.lock().unwrap();
        let told: Vec<&Json> = attempts
            .iter()
            .map(|(_, text)| &text["previous"])
            .filter(|previous| !previous.is_null())
            .collect();
        assert_eq!(told.len(), 1, "once: {told:?}");
        assert_eq!(told[0]["id"], format!("{before}-1"));
        assert!(numbers(&told[0]["gaps"]).eq(3..=9));
    }
}
