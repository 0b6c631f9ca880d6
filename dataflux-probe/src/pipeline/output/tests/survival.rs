//! Random transports, by seed: whatever they do, every number is accounted for.

use super::*;

/// A transport with good and bad times, by seed.
fn moody(mut random: Random) -> impl FnMut(&Json) -> Answer + Send {
    let mut mood = 0;
    move |text| {
        if random.percent(10) {
            mood = random.below(6);
        }
        let after = Duration::from_millis(match random.below(4) {
            0 => 0,
            1 => random.below(50),
            _ => random.below(3000),
        });
        let series = text["series"].as_str().unwrap().len();
        let mut answer = match mood {
            // Away, now and then after it took the payload.
            0 | 1 => Answer {
                arrives: random.percent(20),
                ..Answer::retry()
            },
            2 if random.percent(30) => Answer::reject(),
            3 if series > 300 => Answer {
                result: Err(SendError::TooLarge),
                ..Answer::reject()
            },
            4 if random.percent(20) => Answer::retry(),
            _ => Answer::OK,
        };
        answer.after = after;
        answer
    }
}

async fn survive(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let limits = Limits {
        payload_bytes: [usize::MAX, 900][random.below(2) as usize],
        in_flight: 1 + random.below(8) as usize,
        in_flight_bytes: usize::MAX,
    };
    let setup = Setup {
        per_reader: random.percent(30),
        queue_bytes: [5_000, 20_000, u64::MAX][random.below(3) as usize],
        when_full: [
            WhenFull::Coalesce,
            WhenFull::DropOldest,
            WhenFull::DropNewest,
        ][random.below(3) as usize],
        limits,
        series: 1 + random.below(6) as usize,
        unformattable: |number| number % 17 == 16,
        ..Setup::default()
    };
    let (bound, per_reader) = (setup.queue_bytes, setup.per_reader);
    let moods = Random(random.below(u64::MAX - 1) + 1);
    let mut bench = Bench::new(setup, moody(moods));
    let heaviest = 5_000;
    for _ in 0..random.below(120) {
        let pause = if random.percent(80) {
            random.below(500)
        } else {
            random.below(20_000)
        };
        bench.tick_after(Duration::from_millis(pause)).await;
        let bytes = bench.inbox.counters.queue_bytes.get();
        let streams = if per_reader { 2 } else { 1 };
        assert!(
            bytes <= bound.saturating_add(streams * heaviest),
            "{bytes} bytes"
        );
    }
    let limit = if random.percent(50) {
        20 * 3600 * SECOND
    } else {
        random.below(5) as u32 * SECOND
    };
    bench.close(limit).await;
    assert!(bench.wire.most_in_flight.load(Ordering::Relaxed) <= limits.in_flight);
    check_first_attempts(&bench);
    bench.check();
    assert!(
        limit < 3600 * SECOND || bench.inbox.left() == 0,
        "drained in the end"
    );
}

/// First attempts of a stream leave in order, and a number that was handed over once never appears in another range.
fn check_first_attempts(bench: &Bench) {
    let attempts = bench.wire.attempts.lock().unwrap();
    let mut ranges: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
    for (_, text) in &*attempts {
        let ranges = ranges.entry(text["id"].as_str().unwrap()).or_default();
        let range = (
            text["first"].as_u64().unwrap(),
            text["last"].as_u64().unwrap(),
        );
        if !ranges.contains(&range) {
            let newest = ranges.last().map_or(0, |&(_, last)| last);
            assert!(range.0 > newest, "{range:?} after {ranges:?}");
            ranges.push(range);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_number_goes_missing_whatever_the_transport_does() {
    for seed in 1..=200 {
        survive(seed).await;
    }
}
