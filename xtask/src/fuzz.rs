//! `fuzz`: mutated inputs for everything that reads what somebody else has written: disks, the kernel, people.

mod config;
mod host_files;
mod mutate;
mod template;

use std::{
    fs, panic,
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use dataflux_probe::{
    metadata::fuzzing,
    pipeline::spool::fuzzing::{TARGETS, Target},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{command::say, workspace};
use mutate::{Corpus, Random};

/// Throw mutated files at what reads them; without a target, at each in turn
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder of fuzz/corpus: config, template, host_files, cgroup_path, http_answer, mountinfo, envelope, journal or segment
    target: Option<String>,
    /// How long each target is run
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where the random numbers begin; another one for each run if it is not given
    #[arg(long)]
    seed: Option<u64>,
}

/// One input may take so long.
const SLOW: Duration = Duration::from_secs(5);
/// The limit of memory for the whole program: reading must not allocate much more than the 64 MiB of the largest envelope.
const MEMORY: u64 = 2 << 30;

/// Beside those that read spools.
const MORE: &[Target] = &[
    Target {
        name: config::NAME,
        run: config::run,
    },
    Target {
        name: host_files::NAME,
        run: host_files::run,
    },
    Target {
        name: template::NAME,
        run: template::run,
    },
];

fn targets() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().chain(fuzzing::TARGETS).chain(MORE)
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let limit = Rlimit {
        current: Some(MEMORY),
        ..getrlimit(Resource::As)
    };
    setrlimit(Resource::As, limit).context("cannot limit the memory")?;
    let seed = args.seed.unwrap_or_else(|| u64::from(process::id()));
    let mut known = targets().map(|target| target.name);
    if let Some(name) = &args.target
        && !known.any(|known| known == name)
    {
        let known: Vec<_> = targets().map(|target| target.name).collect();
        bail!("there is no target {name}; known: {}", known.join(", "));
    }
    for target in targets() {
        if args.target.as_ref().is_none_or(|name| name == target.name) {
            let runs = run(target, Duration::from_secs(args.seconds), seed)?;
            say(format_args!(
                "{}: {} inputs, {} ways to deal with them, no failure",
                target.name, runs.inputs, runs.outcomes
            ));
        }
    }
    Ok(())
}

/// What a target was run with.
#[derive(Debug)]
struct Runs {
    inputs: u64,
    outcomes: usize,
}

/// Runs a target with its corpus, and then with what becomes of that, until the time is up.
fn run(target: &Target, time: Duration, seed: u64) -> anyhow::Result<Runs> {
    let folder = workspace::root().join("fuzz");
    let mut corpus = Corpus::load(&folder.join("corpus").join(target.name))?;
    let artifacts = folder.join("artifacts");
    fs::create_dir_all(&artifacts).context("cannot make fuzz/artifacts")?;
    let guard = Guard::new(artifacts.join(format!("{}-{seed}-running", target.name)));
    let mut random = Random::new(seed);
    let begin = Instant::now();
    let mut inputs = 0;
    while begin.elapsed() < time || inputs < corpus.kept() as u64 {
        let input = corpus.next(inputs, &mut random);
        guard.note(&input)?;
        let started = Instant::now();
        // The panic itself says where it was, on standard error.
        let outcome = panic::catch_unwind(|| (target.run)(&input));
        inputs += 1;
        match outcome {
            Ok(outcome) if started.elapsed() < SLOW => corpus.learn(outcome, input),
            outcome => {
                let path = guard.keep(target.name, &input)?;
                let what = match outcome {
                    Ok(_) => "is too slow",
                    Err(_) => "fails",
                };
                bail!("{} {what} with {}", target.name, path.display());
            }
        }
    }
    Ok(Runs {
        inputs,
        outcomes: corpus.outcomes(),
    })
}

/// A file with the input that is being tried: if it ends the process, that is what is left.
struct Guard {
    path: PathBuf,
}

impl Guard {
    fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn note(&self, input: &[u8]) -> anyhow::Result<()> {
        write(&self.path, input)
    }

    /// Keeps an input under a name that tells it from others.
    fn keep(&self, target: &str, input: &[u8]) -> anyhow::Result<PathBuf> {
        let name = format!("{target}-{:016x}", mutate::hash(input));
        let path = self.path.with_file_name(name);
        write(&path, input)?;
        Ok(path)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // If it stays, it is one that was dealt with.
        drop(fs::remove_file(&self.path));
    }
}

fn write(path: &Path, input: &[u8]) -> anyhow::Result<()> {
    fs::write(path, input).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_fails_within_two_seconds() {
        for target in targets() {
            let runs = run(target, Duration::from_secs(2), 1).unwrap();
            assert!(
                runs.outcomes > 5,
                "{}: {runs:?}: is the corpus still of use?",
                target.name
            );
        }
    }

    #[test]
    fn a_failure_is_kept_and_named() {
        fn fails(input: &[u8]) -> u64 {
            assert!(input.len() < 100, "found");
            u64::from(input.len() > 50)
        }
        let target = Target {
            name: "segment",
            run: fails,
        };
        let error = run(&target, Duration::from_secs(60), 7)
            .unwrap_err()
            .to_string();
        let path = error.strip_prefix("segment fails with ").unwrap();
        assert!(fs::read(path).unwrap().len() >= 100);
        fs::remove_file(path).unwrap();
    }
}
