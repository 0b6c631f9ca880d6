//! What a day of outage leaves in the spool, and how fast and at which cost it leaves again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use dataflux_probe::{
    config::{Config, Registries},
    metadata::names::Names,
    model::Envelope,
    pipeline::benching::Feed,
};

use super::{
    super::{
        configuration,
        process::{CpuClock, MIB, Resident, Row},
        running_probe::Installation,
        statistics::{Bar, Spread},
    },
    Section,
    broker::{Broker, Moment},
    empty, envelopes,
    topic::Topic,
};
use crate::command::say;

/// A day at 10 s.
const DAY: u64 = 8_640;
/// Different envelopes among them.
const VARIANTS: usize = 64;
/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:9";

/// A state folder with envelopes in the spool of its output `main`, which an earlier start left.
pub(super) struct Backlog {
    pub(super) state: PathBuf,
    /// How many envelopes.
    pub(super) count: u64,
}

impl Backlog {
    /// Fills a spool, by the probe's own pipeline with a broker that is not there, until `enough` says so.
    ///
    /// # Errors
    /// The spool does not take them.
    pub(super) fn fill(folder: &Path, enough: impl Fn(&Feed, u64) -> bool) -> anyhow::Result<Self> {
        let state = folder.join("state");
        empty(&state)?;
        let like = envelopes::read(Duration::from_secs(2))?;
        let envelopes = envelopes::varied(&like, VARIANTS);
        let text = configuration::to_kafka(&state, NOBODY, "nowhere", "100ms");
        let config = Config::parse(Path::new("bench"), text, Registries::BUILT_IN)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let count = runtime.block_on(async {
            let names = Names::new(config.context.roots.sys);
            let counters = &config.context.counters;
            let mut feed = Feed::start(config.outputs, Some(state.clone()), counters, names)?;
            let mut count = 0;
            while !enough(&feed, count) {
                feed.tick(Envelope::clone(&envelopes[count as usize % VARIANTS]));
                count += 1;
                // The spool's thread is to keep up, so that nothing merges in memory.
                while feed.in_memory() > 64 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            while feed.in_memory() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            feed.stop(Duration::ZERO).await;
            anyhow::Ok(count)
        })?;
        runtime.shutdown_background();
        let merged = config.context.counters.output("main").merged.get();
        anyhow::ensure!(
            merged == 0,
            "{merged} envelopes merged while the spool was filled"
        );
        Ok(Self { state, count })
    }
}

/// Starts the probe and gives the seconds from there to the broker's first envelope of it; then kills the probe.
pub(super) fn first_arrival(
    probe: &Path,
    backlog: &Backlog,
    broker: &Broker,
    topic: &str,
) -> anyhow::Result<f64> {
    let folder = backlog.state.parent().context("a folder has a parent")?;
    let text = configuration::to_kafka(&backlog.state, &broker.address, topic, "1s");
    let installation = Installation::with_configuration(probe.to_owned(), folder, &text)?;
    let mut arriving = Topic::new(&broker.address, topic)?;
    let started = Moment::now();
    let running = installation.start()?;
    arriving.until("the first envelope", |arrived| !arrived.is_empty())?;
    drop(running);
    Ok(arriving.arrived[0].at.seconds_since(started))
}

pub(super) fn measure(rounds: usize, probe: &Path, folder: &Path) -> anyhow::Result<Section> {
    let rounds = rounds.min(5);
    let broker = Broker::start(folder)?;
    let mut measured: [Vec<f64>; 5] = Default::default();
    for round in 0..rounds {
        say(format_args!("backlog: round {} of {rounds}", round + 1));
        let backlog = Backlog::fill(folder, |_, count| count == DAY)?;
        let topic = format!("backlog-{round}");
        let drained = drain(probe, &backlog, &broker, &topic)?;
        for (list, value) in measured.iter_mut().zip(drained) {
            list.push(value);
        }
    }
    let [drain, delay, missed, memory, cpu] =
        measured.map(|values| Spread::of(values).context("no round was measured"));
    Ok(Section {
        title: format!(
            "A day at 10 s in the spool, {DAY} envelopes, drained beside ticks of 100 ms"
        ),
        rows: vec![
            Row::of_rounds(
                "start to the last of them",
                "s",
                drain?,
                Some(Bar::AtMost(60.0)),
            ),
            Row::of_rounds(
                "latest tick meanwhile",
                "ms late",
                delay?,
                Some(Bar::AtMost(50.0)),
            ),
            Row::of_rounds(
                "ticks left out meanwhile",
                "",
                missed?,
                Some(Bar::AtMost(0.0)),
            ),
            Row::of_rounds(
                "largest RSS meanwhile, without mapped kernel arrays",
                "MiB",
                memory?,
                Some(Bar::AtMost(32.0)),
            ),
            Row::of_rounds("CPU of the probe for it", "s", cpu?, None),
        ],
    })
}

/// Seconds, ms of delay, ticks left out, MiB, and s of CPU.
fn drain(
    probe: &Path,
    backlog: &Backlog,
    broker: &Broker,
    topic: &str,
) -> anyhow::Result<[f64; 5]> {
    const TICK: f64 = 0.1;
    let folder = backlog.state.parent().context("a folder has a parent")?;
    let text = configuration::to_kafka(&backlog.state, &broker.address, topic, "100ms");
    let installation = Installation::with_configuration(probe.to_owned(), folder, &text)?;
    let mut arriving = Topic::new(&broker.address, topic)?;
    let started = Moment::now();
    let running = installation.start_and_wait()?;
    running.wait_for_threads()?;
    // The kernel's types, which were read at the start, are given back.
    let clear = running.folder.join("clear_refs");
    fs::write(&clear, "5").with_context(|| clear.display().to_string())?;
    let clock = CpuClock::of(running.pid())?;
    let before = clock.read()?;
    arriving.until("the backlog", |arrived| {
        // The next one was read after the drain.
        let old = |one: &&super::topic::Arrived| one.last == DAY;
        arrived.len() as u64 > DAY && arrived.iter().any(|one| old(&one))
    })?;
    let cpu = clock.read()? - before;
    let arrays = Resident::of(&running.folder)?.kernel_arrays as f64 / MIB;
    let memory = peak_memory(&running.folder)? - arrays;
    running.stop()?;
    let old = arriving.arrived[0].stream.clone();
    let (backlogged, fresh): (Vec<_>, Vec<_>) =
        arriving.arrived.iter().partition(|one| one.stream == old);
    let last = backlogged.iter().map(|one| one.at).max();
    let last = last.context("nothing of the backlog arrived")?;
    anyhow::ensure!(
        arriving.check_complete()? >= DAY,
        "a part of the backlog is missing"
    );
    let longest = fresh.iter().map(|one| one.duration.as_secs_f64());
    let longest = longest.fold(TICK, f64::max);
    let missed = fresh
        .iter()
        .map(|one| (one.duration.as_secs_f64() / TICK).round() - 1.0)
        .sum::<f64>();
    Ok([
        last.seconds_since(started),
        (longest - TICK) * 1e3,
        missed,
        memory,
        cpu.as_secs_f64(),
    ])
}

/// The most memory that a process had since that was asked last, MiB.
fn peak_memory(process: &Path) -> anyhow::Result<f64> {
    let path = process.join("status");
    let status = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{}: no VmHWM", path.display()))? / 1024.0)
}
