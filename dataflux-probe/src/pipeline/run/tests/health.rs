//! The pulse of whole pipelines: what holds it up, and what must not.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::*;
use crate::health::{Beat, GRACE};

fn is_live(beats: &watch::Receiver<Beat>) -> bool {
    beats.borrow().stalled().is_none()
}

fn is_ready(beats: &watch::Receiver<Beat>) -> bool {
    beats.borrow().not_ready().is_none()
}

#[tokio::test(start_paused = true)]
async fn the_first_window_makes_it_ready_and_the_drain_ends_that() {
    let bench = Bench::new().count("a", 10 * SECOND);
    let beats = bench.pipeline.pulse.watch();
    let asked = beats.clone();
    let driver = async {
        // The first tick is 9.97 s away, the first window 10 s more.
        sleep(15 * SECOND).await;
        assert_eq!((is_live(&asked), is_ready(&asked)), (true, false));
        sleep(6 * SECOND).await;
        assert_eq!((is_live(&asked), is_ready(&asked)), (true, true));
    };
    bench.run(driver).await;
    assert_eq!((is_live(&beats), is_ready(&beats)), (true, false));
    assert!(beats.has_changed().is_err(), "the end is known");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_away_does_not_stop_the_pulse() {
    let mut bench = Bench::new().count("a", SECOND);
    let away = Sink {
        after: 3600 * SECOND,
        delivers: false,
    };
    bench.pipeline.outputs = vec![
        output("hangs", Capture::default(), away),
        output(
            "refuses",
            Capture::default(),
            Sink {
                delivers: false,
                ..SINK
            },
        ),
    ];
    let beats = bench.pipeline.pulse.watch();
    bench
        .run(async {
            for _ in 0..600 {
                sleep(SECOND).await;
                assert!(is_live(&beats));
            }
            assert!(is_ready(&beats));
        })
        .await;
}

#[test]
fn a_reader_that_hangs_does_not_stop_the_pulse() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let bench = Bench::new()
        .read("hangs", 100 * MS, move |_| Ok(held.recv()?))
        .count("works", 100 * MS);
    let mut beats = bench.pipeline.pulse.watch();
    let running = Pipeline::run(bench.pipeline, bench.orders, async move {
        // The real clock: while a thread is at work, a paused one stands still.
        let mut ready = 0;
        while ready < 5 {
            timeout(GRACE, beats.changed()).await.unwrap().unwrap();
            assert!(is_live(&beats));
            ready += u32::from(is_ready(&beats));
        }
        drop(release);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(running).unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_ticks_the_pulse_ends() {
    let bench = Bench::new().count("a", SECOND);
    let beats = bench.pipeline.pulse.watch();
    let script = bench.script.clone();
    let stuck = Arc::new(AtomicBool::new(false));
    let is_stuck = Arc::clone(&stuck);
    let held = Mutex::new(script.now());
    let clock: Clock = Arc::new(move || {
        let mut held = held.lock().unwrap();
        if !is_stuck.load(Ordering::Relaxed) {
            *held = script.now();
        }
        *held
    });
    let stop = async {
        sleep(10 * SECOND).await;
        assert!(is_live(&beats));
        stuck.store(true, Ordering::Relaxed);
        sleep(GRACE + 2 * SECOND).await;
        assert!(!is_live(&beats));
        assert!(!is_ready(&beats));
        stuck.store(false, Ordering::Relaxed);
        sleep(3 * SECOND).await;
        assert!(is_ready(&beats), "it moves again");
    };
    let running = bench.pipeline.run_by(clock, bench.orders, stop);
    running.await.unwrap();
}
