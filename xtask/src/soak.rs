//! `soak`: the long tests against a real Kafka and the running kernel, in release, and a table of their figures.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::{
    build_ebpf,
    command::{self, say},
    kafka, setup, test,
};

/// The long tests: 200 kills, a 30-minute outage, a backlog of a day, 1,000 loads; or one of them
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which; all of them, one after the other, without it
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// How long the outage lasts [30], or how much the backlog stands for [1440]
    #[arg(long)]
    minutes: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Scenario {
    /// 200 rounds of SIGKILL (some ten minutes)
    Kills,
    /// The broker is away for half an hour; sums are compared with a file's to the last count
    Outage,
    /// As many envelopes as a day has at 10 s; made in 15 minutes, delivered in one
    Backlog,
    /// All kernel readers loaded, attached and dropped 1,000 times; needs root
    Loads,
}

impl Scenario {
    const ALL: [Self; 4] = [Self::Kills, Self::Outage, Self::Backlog, Self::Loads];

    /// The test's program and its name there.
    const fn test(self) -> (&'static str, &'static str) {
        match self {
            Self::Kills => (KAFKA, "soak::soak_kills"),
            Self::Outage => (KAFKA, "soak::soak_outage"),
            Self::Backlog => (KAFKA, "soak::soak_backlog"),
            Self::Loads => ("kernel", "lifecycle::soak_loads"),
        }
    }
}

/// The program of the tests that need a real Kafka.
const KAFKA: &str = "kafka";

/// What came of a scenario.
struct Outcome {
    scenario: Scenario,
    passed: bool,
    took: Duration,
    figures: Vec<String>,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    build_ebpf::build(&setup::kernel_tools()?)?;
    let chosen = args
        .scenario
        .map_or(Scenario::ALL.to_vec(), |one| vec![one]);
    if chosen.iter().any(|scenario| scenario.test().0 == KAFKA) {
        kafka::provide()?;
    }
    let outcomes = chosen
        .into_iter()
        .map(|scenario| run(scenario, args.minutes))
        .collect::<anyhow::Result<Vec<_>>>()?;
    say("");
    for outcome in &outcomes {
        let verdict = if outcome.passed { "passed" } else { "FAILED" };
        let scenario = format!("{:?}", outcome.scenario).to_lowercase();
        say(format_args!(
            "{scenario:<10} {verdict} in {:.0} s",
            outcome.took.as_secs_f64()
        ));
        for figure in &outcome.figures {
            say(format_args!("           {figure}"));
        }
    }
    if outcomes.iter().any(|outcome| !outcome.passed) {
        bail!("soak failed");
    }
    Ok(())
}

fn run(scenario: Scenario, minutes: Option<u32>) -> anyhow::Result<Outcome> {
    let (program, name) = scenario.test();
    let mut test = command::cargo("test");
    test.args(["--workspace", "--release", "--test", program, "--"])
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(kafka::REQUIRED.0, kafka::REQUIRED.1)
        .env(test::KERNEL_TESTS.0, test::KERNEL_TESTS.1);
    if let Some(minutes) = minutes {
        test.env("DATAFLUX_SOAK_MINUTES", minutes.to_string());
    }
    let begin = Instant::now();
    let mut figures = Vec::new();
    let passed = command::watch(&mut test, |line| {
        let figure = line.split_once("figure: ");
        figures.extend(figure.map(|(_, figure)| figure.to_owned()));
    })?;
    Ok(Outcome {
        scenario,
        passed,
        took: begin.elapsed(),
        figures,
    })
}
