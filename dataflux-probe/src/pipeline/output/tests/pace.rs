//! When payloads are handed over, and how many at once.

use super::*;
use crate::pipeline::output::window::FEW;

#[tokio::test(start_paused = true)]
async fn sends_wait_for_the_moment_of_the_host_but_a_backlog_and_the_end_do_not() {
    let setup = Setup {
        spread: SECOND / 4,
        ..Setup::default()
    };
    let start = Instant::now();
    let away = move || (5 * SECOND..8 * SECOND).contains(&start.elapsed());
    let mut bench = Bench::new(
        setup,
        move |_| {
            if away() { Answer::retry() } else { Answer::OK }
        },
    );
    for _ in 0..20 {
        bench.tick_after(SECOND).await;
    }
    sleep(SECOND / 2).await;
    bench.tick();
    yield_now().await;
    bench.close(SECOND).await;
    bench.check();
    let attempts = bench.wire.attempts.lock().unwrap();
    let times = attempts
        .iter()
        .map(|(at, text)| (text["first"].as_u64().unwrap(), *at - start));
    let times: std::collections::BTreeMap<_, _> = times.collect();
    for number in [1, 2, 3, 4, 18, 19, 20] {
        assert_eq!(times[&number], number as u32 * SECOND + SECOND / 4);
    }
    assert!(times[&5] >= 8 * SECOND && times[&7] - times[&5] < SECOND / 100);
    assert_eq!(times[&21], 20 * SECOND + SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_acknowledged_only_a_few_are_handed_over() {
    let slow = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let mut bench = Bench::new(Setup::default(), move |_| Answer {
        after: if is_slow.load(Ordering::Relaxed) {
            100 * SECOND
        } else {
            Duration::ZERO
        },
        ..Answer::OK
    });
    bench.tick_after(SECOND).await;
    bench.tick_after(SECOND).await;
    slow.store(true, Ordering::Relaxed);
    for _ in 0..20 {
        bench.tick_after(SECOND).await;
    }
    assert_eq!(bench.wire.most_in_flight.load(Ordering::Relaxed), FEW);
    bench.close(1000 * SECOND).await;
    bench.check();
}
