//! Running with a configuration until a signal: everything is attached and opened, and then privileges are given up, before
//! anything runs beside it.

use std::{
    io,
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    attempt::Attempt,
    reload::{LOAD_LIMIT, Reloader, Start},
    start,
};
use crate::{
    config::{Config, Registries, Setting},
    diagnostics,
    health::{Monitor, Pulse},
    metadata::{host, names::Names},
    pipeline::{
        Order, Output, Pipeline,
        spool::reading::{self, Kind},
        state::StateDir,
    },
    privileges::Plan,
};

/// Signals this close to the first are the same wish.
const SAME: Duration = Duration::from_millis(50);

/// How long the end of the pipeline may take to be told.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Gives the exit code: 0, or 128 and the number of the signal that was too impatient to wait for the end.
pub(super) fn run(path: &Path, settings: &[Setting]) -> anyhow::Result<u8> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    // Whoever wants a reload may be quicker than the first reading of the configuration.
    let entered = runtime.enter();
    let hangup = signal(SignalKind::hangup()).context("listening for signals")?;
    let config = Config::load_with(path, settings, Registries::BUILT_IN)?;
    let plan = Plan::new(&config, path);
    // From here on a signal does not end the process but the pipeline, which begins nothing before it is asked.
    let signals = Signals::new().context("listening for signals")?;
    drop(entered);
    let spooled = config.outputs.iter().any(|output| output.spool.is_some());
    let state_dir = config
        .state_dir
        .clone()
        .map(|path| Arc::new(StateDir::new(path)));
    if let Some(state_dir) = &state_dir
        && take(state_dir, spooled)?
    {
        let spooled = config
            .outputs
            .iter()
            .filter(|output| output.spool.is_some());
        let spooled: Vec<_> = spooled.map(|output| output.name.clone()).collect();
        tell_abandoned(state_dir.path(), &spooled);
    }
    let mut readers = config.readers;
    let mut outputs = config.outputs;
    start::attach(&mut readers, &config.context);
    open(&mut outputs);
    let pulse = Pulse::default();
    let monitor = Monitor::open(config.health.clone(), pulse.watch());
    let files = start::give_up(&plan);
    give_back_memory();
    let (orders, asked) = mpsc::channel(1);
    let reloader = Reloader {
        path: path.to_owned(),
        start: Arc::new(Start {
            settings: settings.to_vec(),
            context: config.context.clone(),
            state_dir: config.state_dir,
            health: config.health,
            keep: config.keep,
            plan: plan.files,
            files,
        }),
        fingerprints: config.fingerprints,
        orders,
        pulse: pulse.clone(),
        loading: Attempt::new(LOAD_LIMIT),
    };
    let pipeline = Pipeline {
        readers,
        metadata: config.metadata,
        outputs,
        place: host::place(&config.context.roots),
        names: Names::new(config.context.roots.sys),
        counters: config.context.counters,
        state_dir,
        pulse,
        drain_limit: config.drain,
    };
    let ended = runtime.block_on(async {
        let telling = tokio::spawn(monitor.run());
        tokio::spawn(async {
            loop {
                sleep(diagnostics::PERIOD).await;
                diagnostics::tell_repeats();
            }
        });
        let reloading = tokio::spawn(reloader.run(hangup));
        let ended = until_stopped(pipeline, asked, signals, reloading).await;
        // The last of it is that the probe is gone; whoever hears it late must not keep the process.
        drop(timeout(LAST_WORD, telling).await);
        ended
    });
    // A reader that hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Takes the state folder, and says whether that worked. The probe measures all the same, and the pipeline tries again; only
/// another probe in it stops the start.
fn take(state_dir: &StateDir, spooled: bool) -> anyhow::Result<bool> {
    match state_dir.take() {
        Ok(()) => Ok(true),
        Err(error) if error.root_cause().is::<io::Error>() => {
            let spools = if spooled {
                "queues are in memory until then, and "
            } else {
                ""
            };
            tracing::warn!("{error:#}; trying again: {spools}a start cannot say what it follows");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Says where envelopes wait that no output of this configuration delivers: all but the `spooled` ones.
pub(super) fn tell_abandoned(state_dir: &Path, spooled: &[String]) {
    let Ok(folders) = reading::outputs(state_dir, Kind::Envelopes) else {
        return;
    };
    for (name, folder) in folders {
        if spooled.contains(&name) {
            continue;
        }
        let Ok(files) = reading::files(&folder, Kind::Envelopes) else {
            continue;
        };
        let waiting = reading::pending(&files, &reading::journal(&folder)).len();
        if waiting > 0 {
            tracing::warn!(
                "{waiting} envelopes in {} are not delivered: the configuration has no output {name} with spool_bytes",
                folder.display()
            );
        }
    }
}

/// What does not open now is tried again by the pipeline.
fn open(outputs: &mut [Output]) {
    for output in outputs {
        match output.logger.open() {
            Ok(()) => output.opened = true,
            Err(error) => tracing::warn!("output {}: {error}; trying again later", output.name),
        }
    }
}

/// What parsing and loading took and no longer need.
fn give_back_memory() {
    // SAFETY: takes no pointer and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Runs until the first signal, then lets the outputs drain unless a second one comes.
async fn until_stopped(
    pipeline: Pipeline,
    orders: mpsc::Receiver<Order>,
    mut signals: Signals,
    reloading: JoinHandle<()>,
) -> anyhow::Result<u8> {
    let limit = humantime::format_duration(pipeline.drain_limit);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut running = pin!(pipeline.run(orders, async {
        // Both a message and a dropped sender mean stop.
        drop(stopped.await);
    }));
    let first = tokio::select! {
        ended = &mut running => return ended.map(|()| 0),
        signal = signals.next() => signal,
    };
    // It holds an end of the pulse.
    reloading.abort();
    tracing::info!(
        "{}: reading once more and delivering for at most {limit}",
        first.name
    );
    drop(stop);
    tokio::select! {
        ended = running => ended.map(|()| 0),
        second = signals.another() => {
            tracing::warn!("{}: ending at once", second.name);
            Ok(128 + second.number)
        }
    }
}

/// The signals that ask the probe to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// One of them.
struct Ending {
    name: &'static str,
    number: u8,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Another one than the first. What sends a signal to the process and to its group, as timeout(1) does, means one.
    async fn another(&mut self) -> Ending {
        let first = Instant::now();
        loop {
            let ending = self.next().await;
            if first.elapsed() > SAME {
                return ending;
            }
        }
    }

    async fn next(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending { name: "SIGTERM", number: 15 },
            _ = self.interrupt.recv() => Ending { name: "SIGINT", number: 2 },
        }
    }
}
