//! SIGHUP: loggers open their files anew, then the configuration is read again, and what has changed is put in force.
//!
//! All of it or nothing: a configuration with a mistake, or with a change that needs what was given up at the start, is
//! refused as a whole, told, and the one before goes on.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    select,
    signal::unix::Signal,
    sync::{mpsc, oneshot},
};

use super::{attempt::Attempt, start};
use crate::{
    config::{Config, Fingerprints, Registries, Setting},
    health::{Pulse, Settings},
    metrics,
    model::Status,
    pipeline::{Change, Order, Same},
    plugin::{Context, Keep},
    privileges::{FileLock, Files, Plan},
};

/// Sections of readers that load programs cannot come, go or change.
const RESTART: &str = "these need a restart";

/// How long a new configuration may take to be read and built: its files may be on a disk that hangs, and later signals wait.
pub(super) const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// What reloads the configuration of a running pipeline.
pub(super) struct Reloader {
    /// The configuration file.
    pub(super) path: PathBuf,
    pub(super) start: Arc<Start>,
    /// What the configuration in force says.
    pub(super) fingerprints: Fingerprints,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) pulse: Pulse,
    pub(super) loading: Attempt<anyhow::Result<(Config, Same)>>,
}

/// What was decided at the start, and stays.
pub(super) struct Start {
    /// What is set beside the file.
    pub(super) settings: Vec<Setting>,
    pub(super) context: Context,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) health: Settings,
    pub(super) keep: Vec<Keep>,
    /// Which files were asked for.
    pub(super) plan: Files,
    /// Which files may be opened, if that is restricted.
    pub(super) files: Option<FileLock>,
}

/// What is different in a new configuration, for people.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    new: Vec<String>,
    changed: Vec<String>,
    gone: Vec<String>,
}

impl Reloader {
    /// Reloads at every signal, one after the other.
    pub(super) async fn run(mut self, mut hangup: Signal) {
        loop {
            select! {
                signal = hangup.recv() => if signal.is_none() {
                    return;
                },
                () = self.loading.late() => {
                    self.forget_others();
                    let path = self.path.display();
                    tracing::warn!(
                        "{path}: what a given up reload was reading has come, too late to be used; another SIGHUP reads it again"
                    );
                    continue;
                }
            }
            self.pulse.reloading();
            let counters = Arc::clone(&self.start.context.counters);
            let refused = match self.reload().await {
                Ok(told) => {
                    counters.reloads.add(1);
                    tracing::info!("reloaded {}: {told}", self.path.display());
                    false
                }
                Err(error) => {
                    counters.reloads_refused.add(1);
                    let old = "the configuration before stays in force, as a whole";
                    tracing::error!("not reloaded, {old}: {error:#}");
                    true
                }
            };
            // One that was refused has counters, too.
            self.forget_others();
            self.pulse.reloaded(refused);
        }
    }

    /// Says what has changed.
    async fn reload(&mut self) -> anyhow::Result<Difference> {
        self.order(Order::Reopen).await?;
        let (path, start, running) = (
            self.path.clone(),
            Arc::clone(&self.start),
            self.fingerprints.clone(),
        );
        let loaded = self.loading.of(move || load(&path, &start, &running));
        let reading = || format!("reading {}, with what it includes", self.path.display());
        let (config, same) = loaded.await.with_context(reading)??;
        let difference = Difference::new(&self.fingerprints, &config.fingerprints);
        let spooled: Vec<_> = config
            .outputs
            .iter()
            .filter(|output| output.spool.is_some())
            .map(|output| output.name.clone())
            .collect();
        let (done, is_done) = oneshot::channel();
        self.order(Order::Change(Change {
            readers: config.readers,
            metadata: config.metadata,
            outputs: config.outputs,
            drain_limit: config.drain,
            same,
            done,
        }))
        .await?;
        is_done.await?;
        self.fingerprints = config.fingerprints;
        if let Some(state_dir) = &self.start.state_dir {
            super::run::tell_abandoned(state_dir, &spooled);
        }
        Ok(difference)
    }

    async fn order(&self, order: Order) -> anyhow::Result<()> {
        let sent = self.orders.send(order).await;
        sent.map_err(|_| anyhow::anyhow!("the probe is about to end"))
    }

    /// Readers and outputs that do not run are not reported any more.
    fn forget_others(&self) {
        let runs =
            |group: &str, name: &str| self.fingerprints.contains_key(&format!("{group}.{name}"));
        let counters = &self.start.context.counters;
        counters.retain(|name| runs("metrics", name), |name| runs("output", name));
    }
}

/// The new configuration, its new readers attached, and what of it runs already.
fn load(path: &Path, start: &Start, running: &Fingerprints) -> anyhow::Result<(Config, Same)> {
    let mut config =
        Config::load_again(path, &start.settings, Registries::BUILT_IN, &start.context)?;
    let obstacles = start.obstacles(&config, running, path);
    anyhow::ensure!(
        obstacles.is_empty(),
        "{}: {RESTART}: {}",
        path.display(),
        obstacles.join("; ")
    );
    let same = same(&config, running);
    let is_new = |name: &str| !same.readers.contains(name);
    let new = config.readers.iter_mut();
    start::attach_all(new.filter(|reader| is_new(reader.name)), &config.context);
    for reader in config.readers.iter().filter(|reader| is_new(reader.name)) {
        if reader.attached.status != Status::Ok {
            tracing::warn!("metrics.{}: {}", reader.name, reader.attached);
        }
    }
    Ok((config, same))
}

fn same(config: &Config, running: &Fingerprints) -> Same {
    let goes_on = |path: String| {
        let before = running.get(&path);
        before.is_some_and(|before| config.fingerprints[&path].plugin == before.plugin)
    };
    let metrics = config.readers.iter().map(|reader| reader.name);
    let metadata = config.metadata.iter().map(|reader| reader.name);
    let outputs = config.outputs.iter().map(|output| &*output.name);
    let names = |group: &str, names: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
        let going_on = names.filter(|name| goes_on(format!("{group}.{name}")));
        going_on.map(str::to_owned).collect()
    };
    let mut same = Same {
        readers: names("metrics", &mut metrics.into_iter()),
        metadata: names("metadata", &mut metadata.into_iter()),
        outputs: names("output", &mut outputs.into_iter()),
    };
    // It says what the whole file says.
    same.metadata.remove("agent");
    same
}

impl Start {
    /// What of a new configuration needs what is given up.
    fn obstacles(&self, config: &Config, running: &Fingerprints, path: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let kernel: Vec<_> = metrics::REGISTRY
            .iter()
            .filter(|plugin| !plugin.needs.attach.is_empty())
            .map(|plugin| format!("metrics.{}", plugin.name))
            .filter(|path| {
                let [before, now] = [running, &config.fingerprints].map(|all| all.get(path));
                before.map(|print| print.plugin) != now.map(|print| print.plugin)
            })
            .collect();
        if !kernel.is_empty() {
            found.push(format!("kernel readers changed ({})", kernel.join(", ")));
        }
        let (old, new) = (&self.context.roots, &config.context.roots);
        for (differs, what) in [
            (
                self.state_dir != config.state_dir,
                "[probe] state_dir changed",
            ),
            (old != new, "[probe] proc, sys or root changed"),
            (self.health != config.health, "[health] changed"),
        ] {
            if differs {
                found.push(what.to_owned());
            }
        }
        let more = config.keep.iter().filter(|keep| !self.keep.contains(keep));
        found.extend(more.map(|keep| format!("a reader or an output that keeps {}", keep.name())));
        if let Some(lock) = &self.files {
            let beyond = lock.beyond(&Plan::new(config, path).files).into_iter();
            // What could not be had at the start is no reason now.
            let new = beyond
                .filter(|path| !self.plan.write.contains(path) && !self.plan.read.contains(path));
            found.extend(new.map(|path| {
                let path = path.display();
                format!("{path} is not within the files that were allowed at the start")
            }));
        }
        found
    }
}

impl Difference {
    fn new(before: &Fingerprints, now: &Fingerprints) -> Self {
        let mut difference = Self::default();
        for (path, print) in now {
            match before.get(path) {
                None => difference.new.push(path.clone()),
                Some(old) if old != print => difference.changed.push(path.clone()),
                Some(_) => {}
            }
        }
        let gone = before.keys().filter(|path| !now.contains_key(*path));
        difference.gone.extend(gone.cloned());
        difference
    }
}

/// `new metrics.cpu; changed output.main`.
impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<_> = [
            ("new", &self.new),
            ("changed", &self.changed),
            ("gone", &self.gone),
        ]
        .into_iter()
        .filter(|(_, paths)| !paths.is_empty())
        .map(|(what, paths)| format!("{what} {}", paths.join(", ")))
        .collect();
        match parts.as_slice() {
            [] => out.write_str("no reader and no output has changed"),
            parts => out.write_str(&parts.join("; ")),
        }
    }
}
