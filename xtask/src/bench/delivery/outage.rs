//! The probe's program beside a broker that serves, is away, returns and hangs.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dataflux_probe::pipeline::benching::text_of;

use super::{
    super::{
        configuration,
        process::{CpuClock, Row},
        running_probe::{Installation, RunningProbe},
        statistics::{Bar, Spread},
    },
    Section,
    broker::{Broker, Returned},
    empty,
    topic::{Arrived, Topic},
};
use crate::command::say;

/// How long the probe runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long each of the ways of a broker is watched.
const WATCHED: Duration = Duration::from_secs(60);
/// How long the broker is away.
const OUTAGE: Duration = Duration::from_secs(360);
/// CPU time is taken this often.
const STEP: Duration = Duration::from_secs(5);
/// The same number of envelopes at the shortest interval, for more rounds.
const SHORT: Duration = Duration::from_secs(36);
const CORE: f64 = 0.05;

pub(super) fn measure(rounds: usize, probe: &Path, folder: &Path) -> anyhow::Result<Section> {
    let broker = Broker::start(folder)?;
    let mut rows = in_real_time(probe, folder, &broker)?;
    rows.extend(in_short(rounds.min(5), probe, folder, &broker)?);
    Ok(Section {
        title: "The probe's program with Kafka, the readers of deploy/probe.toml, spool on"
            .to_owned(),
        rows,
    })
}

/// A probe with a spool and its topic.
struct Agent {
    topic: Topic,
    installation: Installation,
}

impl Agent {
    fn new(
        probe: &Path,
        folder: &Path,
        broker: &Broker,
        topic: &str,
        interval: &str,
    ) -> anyhow::Result<Self> {
        let state = folder.join("state");
        empty(&state)?;
        let text = configuration::to_kafka(&state, &broker.address, topic, interval);
        let arriving = Topic::new(&broker.address, topic)?;
        Ok(Self {
            topic: arriving,
            installation: Installation::with_configuration(probe.to_owned(), folder, &text)?,
        })
    }

    /// Waits until something that was read after this call has arrived.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        let now = wall_clock();
        self.topic.until("an envelope of now", |arrived| {
            arrived.last().is_some_and(|last| last.stop_time > now)
        })
    }
}

/// The wall clock as envelopes have it.
fn wall_clock() -> String {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    text_of(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

/// Cores that the probe takes, step by step.
fn cores(running: &RunningProbe, during: Duration) -> anyhow::Result<Vec<f64>> {
    let clock = CpuClock::of(running.pid())?;
    let begin = Instant::now();
    let (mut before, mut start) = (clock.read()?, begin);
    let mut cores = Vec::new();
    while begin.elapsed() < during {
        sleep(STEP.min(during));
        let (now, at) = (clock.read()?, Instant::now());
        cores.push((now - before).as_secs_f64() / (at - start).as_secs_f64());
        (before, start) = (now, at);
    }
    Ok(cores)
}

/// The mean of the steps, with their spread.
fn row(what: &str, unit: &'static str, steps: Vec<f64>, bar: f64) -> anyhow::Result<Row> {
    let mean = steps.iter().sum::<f64>() / steps.len() as f64;
    let spread = Spread::of(steps).context("nothing was measured")?;
    Ok(Row::of_mean(what, unit, mean, spread, Bar::AtMost(bar)))
}

/// One probe at 1 s through everything that a broker does.
fn in_real_time(probe: &Path, folder: &Path, broker: &Broker) -> anyhow::Result<Vec<Row>> {
    let mut agent = Agent::new(probe, folder, broker, "real", "1s")?;
    let running = agent.installation.start_and_wait()?;
    sleep(WARM_UP);
    let mut rows = Vec::new();

    say("outage: a minute with a broker that serves");
    let steps = cores(&running, WATCHED)?;
    let per_minute = steps.iter().map(|cores| cores * 60.0).collect();
    rows.push(row(
        "CPU at 1 s, mean of 5 s steps",
        "s per minute",
        per_minute,
        0.2,
    )?);

    say("outage: a minute with a broker that hangs");
    broker.act("pause")?;
    let steps = cores(&running, WATCHED)?;
    broker.act("resume")?;
    rows.push(row("CPU while it hangs (SIGSTOP)", "cores", steps, CORE)?);
    let steps = cores(&running, 2 * STEP)?;
    rows.push(row("CPU while it goes on, 10 s", "cores", steps, CORE)?);
    agent.catch_up()?;

    say("outage: six minutes without the broker");
    broker.act("stop")?;
    let steps = cores(&running, OUTAGE)?;
    rows.push(row(
        "CPU while it is away, six minutes",
        "cores",
        steps,
        CORE,
    )?);
    let clock = CpuClock::of(running.pid())?;
    let (cpu, begin) = (clock.read()?, Instant::now());
    let returned = broker.come_back()?;
    agent.catch_up()?;
    sleep((2 * STEP).saturating_sub(begin.elapsed()));
    let share = (clock.read()? - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    rows.push(Row::new(
        "CPU while it starts and the backlog drains",
        "cores",
        share,
        Some(Bar::AtMost(CORE)),
    ));
    let drained = Drained::of(&agent.topic.arrived, returned)?;
    rows.push(Row::new(
        format!(
            "{} envelopes of six minutes drained, after the first",
            drained.count
        ),
        "s",
        drained.from_first,
        Some(Bar::AtMost(1.0)),
    ));
    rows.push(Row::new(
        "the same, after its port was open",
        "s",
        drained.from_reachable,
        None,
    ));
    rows.push(Row::new(
        "the same, after it said that it had started",
        "s",
        drained.from_serving,
        None,
    ));

    say("outage: SIGTERM while the broker is away");
    broker.act("stop")?;
    sleep(Duration::from_secs(15));
    let asked = Instant::now();
    running.stop()?;
    rows.push(Row::new(
        "SIGTERM to the end, broker away for 15 s",
        "s",
        asked.elapsed().as_secs_f64(),
        Some(Bar::AtMost(2.0)),
    ));
    broker.come_back()?;
    let running = agent.installation.start_and_wait()?;
    agent.catch_up()?;
    broker.act("pause")?;
    sleep(Duration::from_secs(15));
    let asked = Instant::now();
    running.stop()?;
    rows.push(Row::new(
        "SIGTERM to the end, broker hangs for 15 s",
        "s",
        asked.elapsed().as_secs_f64(),
        Some(Bar::AtMost(2.0)),
    ));
    broker.act("resume")?;
    let running = agent.installation.start_and_wait()?;
    agent.catch_up()?;
    running.stop()?;
    agent.catch_end()?;
    let complete = agent.topic.check_complete()?;
    rows.push(Row::new(
        format!("of {complete} numbers through all of this: lost or undeclared"),
        "",
        0.0,
        Some(Bar::AtMost(0.0)),
    ));
    Ok(rows)
}

/// As many envelopes, ten times as fast, for more rounds.
fn in_short(
    rounds: usize,
    probe: &Path,
    folder: &Path,
    broker: &Broker,
) -> anyhow::Result<Vec<Row>> {
    let (mut first, mut reachable, mut serving) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        say(format_args!(
            "outage: 36 s at 100 ms, round {} of {rounds}",
            round + 1
        ));
        let mut agent = Agent::new(probe, folder, broker, &format!("short-{round}"), "100ms")?;
        let running = agent.installation.start_and_wait()?;
        agent.catch_up()?;
        broker.act("stop")?;
        sleep(SHORT);
        let returned = broker.come_back()?;
        agent.catch_up()?;
        running.stop()?;
        let drained = Drained::of(&agent.topic.arrived, returned)?;
        first.push(drained.from_first);
        reachable.push(drained.from_reachable);
        serving.push(drained.from_serving);
        agent.topic.check_complete()?;
    }
    let spread = |values| Spread::of(values).context("no round was measured");
    Ok(vec![
        Row::of_rounds(
            "36 s at 100 ms drained, after the first",
            "s",
            spread(first)?,
            Some(Bar::AtMost(1.0)),
        ),
        Row::of_rounds(
            "the same, after its port was open",
            "s",
            spread(reachable)?,
            None,
        ),
        Row::of_rounds(
            "the same, after it said that it had started",
            "s",
            spread(serving)?,
            None,
        ),
    ])
}

/// How fast what an outage left arrived.
struct Drained {
    count: usize,
    from_first: f64,
    from_reachable: f64,
    from_serving: f64,
}

impl Drained {
    fn of(arrived: &[Arrived], returned: Returned) -> anyhow::Result<Self> {
        // Of those that the broker got after its return: what was read before.
        let before = text_of(returned.reachable.0 * 1_000_000);
        let late: Vec<_> = arrived
            .iter()
            .filter(|one| one.at >= returned.reachable && one.stop_time <= before)
            .collect();
        let first = late
            .iter()
            .map(|one| one.at)
            .min()
            .context("nothing waited")?;
        let last = late
            .iter()
            .map(|one| one.at)
            .max()
            .context("nothing waited")?;
        Ok(Self {
            count: late.len(),
            from_first: last.seconds_since(first),
            from_reachable: last.seconds_since(returned.reachable),
            from_serving: last.seconds_since(returned.serves),
        })
    }
}

impl Agent {
    /// Reads to the end of the topic.
    fn catch_end(&mut self) -> anyhow::Result<()> {
        let end = self.topic.end()?;
        self.topic.until("the end of the topic", |arrived| {
            arrived.len() as i64 >= end
        })
    }
}
