//! What a load loses to the running probe, beside what it loses to chance.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    load::{Kind, Load},
    running_probe::{Installation, RunningProbe},
    statistics::{Bar, Spread, Verdict},
};
use crate::command::say;

/// How long each part of a pair is measured.
const WINDOW: Duration = Duration::from_millis(900);
/// How long the load pauses at least before each window: as long as the probe takes to start, so that no window follows a
/// shorter rest than another.
const PAUSE: Duration = Duration::from_millis(600);
/// How long the load settles after a pause.
const SETTLE: Duration = Duration::from_millis(250);

/// Pairs for each round of the bench: whole loads scatter more than single programs.
const PAIRS: usize = 2;

/// How the ratio of a load is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    /// Time per operation: above 1 is slower.
    Time,
    /// Operations per second: below 1 is slower.
    Operations,
}

/// The loads, how their ratios are written, and their bars.
const LOADS: &[(Kind, Measure, Option<Bar>)] = &[
    (Kind::PingPong, Measure::Time, Some(Bar::AtMost(1.15))),
    (Kind::Hackbench, Measure::Time, Some(Bar::AtMost(1.08))),
    (
        Kind::DirectIo,
        Measure::Operations,
        Some(Bar::AtLeast(0.93)),
    ),
    (Kind::PacketsSent, Measure::Operations, None),
];

/// One load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) load: Kind,
    pub(super) measure: Measure,
    /// Operations per second without the probe.
    pub(super) rate: Spread,
    /// With the probe against without, pair by pair.
    pub(super) probed: Spread,
    /// Without against without, pair by pair: the noise.
    pub(super) unprobed: Spread,
    pub(super) bar: Option<Bar>,
    pub(super) verdict: Option<Verdict>,
}

/// The windows of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Plain,
    Again,
    Probed,
}

/// The order rotates from round to round: each kind of pair has the same distances.
const ORDERS: [[Window; 3]; 3] = [
    [Window::Plain, Window::Probed, Window::Again],
    [Window::Probed, Window::Plain, Window::Again],
    [Window::Plain, Window::Again, Window::Probed],
];

/// Measures every load in [`PAIRS`] rounds of three windows for each of `rounds`.
///
/// # Errors
/// A load or the probe does not run.
pub(super) fn measure(
    rounds: usize,
    probe: &Installation,
    folder: &Path,
) -> anyhow::Result<Vec<Row>> {
    let pairs = rounds * PAIRS;
    LOADS
        .iter()
        .map(|&(kind, measure, bar)| {
            say(format_args!(
                "slowdown: {} ({}), {pairs} pairs",
                kind.name(),
                kind.summary()
            ));
            measure_load(kind, measure, bar, pairs, probe, folder)
                .with_context(|| format!("measuring the slowdown of {}", kind.name()))
        })
        .collect()
}

fn measure_load(
    kind: Kind,
    measure: Measure,
    bar: Option<Bar>,
    pairs: usize,
    probe: &Installation,
    folder: &Path,
) -> anyhow::Result<Row> {
    let load = Load::start(kind, folder)?;
    load.rate(WINDOW)?;
    let mut rates = Vec::new();
    for round in 0..pairs {
        let [mut plain, mut again, mut probed] = [0.0; 3];
        for window in ORDERS[round % ORDERS.len()] {
            match window {
                Window::Plain => plain = rate(&load, None)?,
                Window::Again => again = rate(&load, None)?,
                Window::Probed => probed = rate(&load, Some(probe))?,
            }
        }
        rates.push((plain, again, probed));
    }
    let ratio = |with: f64, without: f64| match measure {
        Measure::Time => without / with,
        Measure::Operations => with / without,
    };
    let spread = |ratios: Vec<f64>| Spread::of(ratios).context("no round was measured");
    let probed = spread(
        rates
            .iter()
            .map(|&(plain, _, probed)| ratio(probed, plain))
            .collect(),
    )?;
    Ok(Row {
        load: kind,
        measure,
        rate: spread(rates.iter().map(|&(plain, ..)| plain).collect())?,
        probed,
        unprobed: spread(
            rates
                .iter()
                .map(|&(plain, again, _)| ratio(again, plain))
                .collect(),
        )?,
        bar,
        verdict: bar.map(|bar| bar.judge_median(probed)),
    })
}

/// Operations per second, with the probe running or without. The load pauses while the probe starts and stops.
fn rate(load: &Load, probe: Option<&Installation>) -> anyhow::Result<f64> {
    load.pause()?;
    let paused = Instant::now();
    let running = probe.map(Installation::start_and_wait).transpose()?;
    sleep(PAUSE.saturating_sub(paused.elapsed()));
    load.resume()?;
    sleep(SETTLE);
    let rate = load.rate(WINDOW)?;
    load.pause()?;
    running.map_or(Ok(()), RunningProbe::stop)?;
    load.resume()?;
    Ok(rate)
}
