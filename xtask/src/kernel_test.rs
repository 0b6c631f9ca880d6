//! `kernel-test`: the kernel tests on this machine, or in guests with the kernels that people run.

use std::{
    collections::VecDeque,
    fs,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    build_ebpf,
    command::{self, say},
    setup,
    vm::{
        document,
        guest::{self, Job, Outcome, Report, Test},
        kernel::{self, Kernel},
        name::{Architecture, Name},
        programs::{self, Programs},
        qemu, record, userland,
    },
    workspace,
};

/// Run the kernel tests here, or with --vm in guests that run Debian's kernels
#[derive(clap::Args)]
pub(crate) struct Args {
    /// In guests: 6.1, 6.1-generic, 6.1-arm64, newest, ...; without a name the oldest, 6.1 and the newest
    #[arg(long, num_args = 0.., value_name = "KERNEL")]
    vm: Option<Vec<Name>>,
    /// In guests with every kernel of the matrix
    #[arg(long, conflicts_with = "vm")]
    matrix: bool,
    /// Write what works on these kernels into docs/reference/kernels.md
    #[arg(long)]
    record: bool,
    /// Look for newer releases of the kernels than those that are there
    #[arg(long)]
    fresh: bool,
    /// Only tests whose names contain this; may be repeated
    #[arg(long = "only", value_name = "WORD")]
    filters: Vec<String>,
    /// How many processors a guest has
    #[arg(long, default_value_t = 2, conflicts_with = "record", value_parser = clap::value_parser!(u8).range(1..=64))]
    processors: u8,
    /// How many guests at a time; each uses one processor of this machine
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// What continuous integration runs: the oldest kernel, a long-term one, and the newest.
const THREE: [&str; 3] = ["5.10", "6.1", "newest"];

/// What a run is written into.
const RECORD: &str = "docs/reference/kernels.md";

/// Emulated guests take some ten times as long for anything as this machine.
const EACH: Duration = Duration::from_secs(180);
const ALL: Duration = Duration::from_secs(900);

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    build_ebpf::build(&setup::kernel_tools()?)?;
    let names = match &args.vm {
        Some(names) if !names.is_empty() => names.clone(),
        Some(_) => THREE
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?,
        None if args.matrix => kernel::matrix(args.fresh)?,
        None => return on_this_machine(&args.filters),
    };
    let job = Job {
        commands: [
            &["/bin/dataflux-probe", "doctor"][..],
            &[
                "/bin/dataflux-probe",
                "once",
                "--format",
                "json",
                "--window",
                "2s",
            ][..],
        ]
        .map(|words| words.iter().map(|&word| word.to_owned()).collect())
        .to_vec(),
        filters: args.filters.clone(),
        processors: args.processors,
        each: EACH,
        all: ALL,
    };
    let guests = Guests::prepare(&names, args.fresh)?;
    let reports = guests.run(&job, args.jobs.max(1));
    let failed: Vec<_> = guests
        .kernels
        .iter()
        .zip(&reports)
        .filter(|(kernel, report)| conclude(kernel, report))
        .map(|(kernel, _)| kernel.name.to_string())
        .collect();
    if args.record {
        write_record(&guests.kernels, &reports)?;
    }
    if !failed.is_empty() {
        bail!("kernel tests failed in guests with {}", failed.join(", "));
    }
    Ok(())
}

/// Adds to the record what these guests reported, in place of what it said of their kernels.
fn write_record(kernels: &[Kernel], reports: &[anyhow::Result<Report>]) -> anyhow::Result<()> {
    let mut columns = Vec::new();
    for (kernel, report) in kernels.iter().zip(reports) {
        let report = report.as_ref().ok();
        match report.and_then(|report| record::column(&kernel.name, report)) {
            Some(column) => columns.push(column),
            None => say(format_args!(
                "not recorded, as its guest did not come to its end: {}",
                kernel.name
            )),
        }
    }
    let path = workspace::root().join(RECORD);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {RECORD}"))?;
    let earlier = document::read(&text)
        .with_context(|| format!("{RECORD} is not as this command writes it"))?;
    fs::write(&path, document::write(&document::merge(earlier, columns)))
        .with_context(|| format!("cannot write {RECORD}"))?;
    say(format_args!("wrote {RECORD}"));
    Ok(())
}

fn on_this_machine(filters: &[String]) -> anyhow::Result<()> {
    let mut tests = command::cargo("test");
    tests
        .args(["--workspace", "--test", "kernel", "--"])
        .args(filters)
        .env("DATAFLUX_KERNEL_TESTS", "required");
    command::run(&mut tests)
}

/// Kernels, and the programs for their architectures.
struct Guests {
    kernels: Vec<Kernel>,
    programs: Vec<(Architecture, Programs)>,
}

impl Guests {
    /// Installs, fetches and builds what is missing.
    fn prepare(names: &[Name], fresh: bool) -> anyhow::Result<Self> {
        let mut built = Vec::new();
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            if names.iter().any(|name| name.architecture == architecture) {
                qemu::provide(architecture)?;
                userland::provide(architecture)?;
                built.push((architecture, programs::build(architecture)?));
            }
        }
        let provide = |name| Kernel::provide(name, fresh).with_context(|| format!("kernel {name}"));
        Ok(Self {
            kernels: names.iter().map(provide).collect::<Result<_, _>>()?,
            programs: built,
        })
    }

    fn programs(&self, architecture: Architecture) -> &Programs {
        let found = self
            .programs
            .iter()
            .find(|(built, _)| *built == architecture);
        &found.expect("programs of every architecture were built").1
    }

    /// Runs all guests, several at a time, and gives their reports in the order of the kernels.
    fn run(&self, job: &Job, at_a_time: usize) -> Vec<anyhow::Result<Report>> {
        let waiting: Mutex<VecDeque<_>> = Mutex::new(self.kernels.iter().enumerate().collect());
        let next = || {
            waiting
                .lock()
                .expect("no thread panics with it")
                .pop_front()
        };
        let work = || {
            let mut done = Vec::new();
            while let Some((index, kernel)) = next() {
                say(format_args!("booting {}: {}", kernel.name, kernel.release));
                let begin = Instant::now();
                let programs = self.programs(kernel.name.architecture);
                let report = guest::run(kernel, programs, job, |test| tell(kernel, test));
                say(format_args!(
                    "{}: done after {:.0} s",
                    kernel.name,
                    begin.elapsed().as_secs_f64()
                ));
                done.push((index, report));
            }
            done
        };
        let mut reports: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, _>| {
                worker.join().expect("a guest's thread does not panic")
            };
            workers.into_iter().flat_map(join).collect()
        });
        reports.sort_by_key(|(index, _)| *index);
        reports.into_iter().map(|(_, report)| report).collect()
    }
}

/// One line for a test that has ended.
fn tell(kernel: &Kernel, test: &Test) {
    let Test {
        name,
        outcome,
        seconds,
        ..
    } = test;
    let outcome = match outcome {
        Outcome::Ok => "ok".to_owned(),
        Outcome::Skipped(why) => format!("skipped: {why}"),
        Outcome::Failed => "FAILED".to_owned(),
    };
    say(format_args!(
        "{:<14} {name:<70} {seconds:>6.1} s  {outcome}",
        kernel.name.to_string()
    ));
}

/// Says how a guest fared, with the whole output of what failed; `true` if something did.
fn conclude(kernel: &Kernel, report: &anyhow::Result<Report>) -> bool {
    let name = &kernel.name;
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            say(format_args!("\n=== {name}: {error:#}"));
            return true;
        }
    };
    for trouble in &report.troubles {
        say(format_args!("\n=== {name}: {trouble}"));
    }
    for ran in report.commands.iter().filter(|ran| !ran.success) {
        say(format_args!(
            "\n=== {name}: `{}`: {}\n{}{}",
            ran.line, ran.status, ran.stdout, ran.stderr
        ));
    }
    for test in report
        .tests
        .iter()
        .filter(|test| test.outcome == Outcome::Failed)
    {
        say(format_args!(
            "\n=== {name}: {} FAILED\n{}",
            test.name, test.output
        ));
    }
    let count = |wanted: fn(&Outcome) -> bool| {
        report
            .tests
            .iter()
            .filter(|test| wanted(&test.outcome))
            .count()
    };
    say(format_args!(
        "{name}: {}: {} passed, {} failed, {} skipped",
        report.release,
        count(|outcome| *outcome == Outcome::Ok),
        count(|outcome| *outcome == Outcome::Failed),
        count(|outcome| matches!(outcome, Outcome::Skipped(_))),
    ));
    report.failed()
}
