//! All outputs at work: begun at the start or by a reload, ended by a reload or at the end.

use std::{collections::BTreeSet, fs, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    sync::{Notify, oneshot, watch},
    task::{self, JoinSet, spawn_blocking},
    time::{Instant, timeout},
};

use super::{
    Output, SpoolSync,
    clock::Clock,
    counters::Counters,
    envelope::Tick,
    inbox::Inbox,
    output::Delivery,
    publication::{Publication, Publisher},
    random,
    run::LAST_WRITE,
    spool::{self, dead_letters::DeadLetters, worker::Worker},
    state::{Keeper, Kept, StateDir},
    streams::{Ends, Streams},
};
use crate::health::Beat;

/// The outputs that ticks hand envelopes to, and what they share.
pub(super) struct Outputs {
    running: Vec<Running>,
    site: Site,
    /// Waits for those that a reload has taken out, and that still deliver what they have.
    leaving: JoinSet<()>,
    keeper: JoinSet<()>,
    last_write: oneshot::Sender<()>,
}

/// What outputs share.
#[derive(Clone)]
struct Site {
    state_dir: Option<Arc<StateDir>>,
    clock: Clock,
    /// Told whenever what must outlive the process changes.
    changed: Arc<Notify>,
    kept: Arc<Kept>,
    /// The pipeline's pulse, for those who are asked for it.
    beats: watch::Receiver<Beat>,
}

/// Where an output takes what ticks give.
#[derive(Clone)]
enum Intake {
    /// Every window is delivered.
    Windows(Arc<Inbox>),
    /// Windows add up, and totals are handed over.
    Totals(Arc<Publication>),
}

/// An output at work.
struct Running {
    name: String,
    intake: Intake,
    closing: watch::Sender<Option<Instant>>,
    /// Ends with everything that belongs to it.
    task: task::JoinHandle<()>,
}

/// An output before its delivery begins.
struct Idle {
    output: Output,
    intake: Intake,
}

impl Outputs {
    /// Must be called in a runtime.
    pub(super) fn start(
        outputs: Vec<Output>,
        state_dir: Option<Arc<StateDir>>,
        counters: &Counters,
        clock: &Clock,
        beats: watch::Receiver<Beat>,
    ) -> anyhow::Result<Self> {
        let start = random::bits()?;
        let site = Site {
            state_dir,
            clock: Arc::clone(clock),
            changed: Arc::default(),
            kept: Arc::default(),
            beats,
        };
        let past = site.past();
        let mut running = Vec::new();
        for output in outputs {
            let idle = Idle::new(output, start, &past, &site, counters);
            let threads = idle.begin(&site)?;
            idle.intake.keep(&site.kept);
            running.push(Running::new(idle, |idle, closed| {
                tokio::spawn(idle.live(threads, site.clone(), closed))
            }));
        }
        let (last_write, last) = oneshot::channel();
        let mut keeper = JoinSet::new();
        if let Some(state_dir) = &site.state_dir {
            let keeps = Keeper {
                state_dir: Arc::clone(state_dir),
                kept: Arc::clone(&site.kept),
                changed: Arc::clone(&site.changed),
            };
            keeper.spawn(keeps.run(last));
        }
        Ok(Self {
            running,
            site,
            leaving: JoinSet::new(),
            keeper,
            last_write,
        })
    }

    /// Gives every output what a tick gave.
    pub(super) fn accept(&self, tick: &mut Tick) {
        for running in &self.running {
            match &running.intake {
                Intake::Windows(inbox) => inbox.accept(tick),
                Intake::Totals(publication) => publication.accept(tick),
            }
        }
    }

    /// Of those that deliver every window.
    pub(super) fn inboxes(&self) -> impl Iterator<Item = &Arc<Inbox>> {
        let all = self.running.iter();
        all.filter_map(|running| running.intake.inbox())
    }

    /// Lets every logger open its files anew.
    pub(super) fn reopen(&self) {
        for running in &self.running {
            match &running.intake {
                Intake::Windows(inbox) => inbox.reopen.notify_one(),
                Intake::Totals(publication) => publication.reopen.notify_one(),
            }
        }
    }

    /// Goes on with these: those whose names are in `same` as they are, the others anew. Whatever is not among them any more
    /// delivers what it has, within the limit, and only then the new ones begin to deliver: they may use the same paths,
    /// ports and spools. From now on they take envelopes. `done` is told when the old ones have ended.
    ///
    /// # Errors
    /// The kernel gives no random numbers for the streams' ids: nothing has changed.
    pub(super) fn change(
        &mut self,
        outputs: Vec<Output>,
        same: &BTreeSet<String>,
        limit: Duration,
        counters: &Counters,
        done: oneshot::Sender<()>,
    ) -> anyhow::Result<()> {
        let start = random::bits()?;
        let (mut going_on, mut new) = (Vec::new(), Vec::new());
        for output in outputs {
            let is_it = |running: &Running| running.name == output.name;
            let place = self.running.iter().position(is_it);
            match place.filter(|_| same.contains(&output.name)) {
                Some(place) => {
                    let running = self.running.remove(place);
                    if let Some(inbox) = running.intake.inbox() {
                        inbox.set_spread(output.spread);
                    }
                    going_on.push(running);
                }
                None => new.push(output),
            }
        }
        let old = std::mem::replace(&mut self.running, going_on);
        let (gone, is_gone) = watch::channel(());
        for output in new {
            let idle = Idle::new(output, start, &Ends::new(), &self.site, counters);
            let (site, is_gone) = (self.site.clone(), is_gone.clone());
            let running = Running::new(idle, |idle, closed| {
                tokio::spawn(idle.follow(is_gone, site, closed))
            });
            self.running.push(running);
        }
        old.iter().for_each(|old| old.end(Instant::now() + limit));
        let kept = Arc::clone(&self.site.kept);
        self.leaving.spawn(async move {
            for mut old in old {
                old.wait().await;
                if let Some(inbox) = old.intake.inbox() {
                    kept.remove(inbox);
                }
            }
            drop(gone);
            // Nobody has to wait for it.
            done.send(()).ok();
        });
        while self.leaving.try_join_next().is_some() {}
        Ok(())
    }

    /// Lets the outputs deliver what they have, within the limit.
    pub(super) async fn stop(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.running
            .iter()
            .for_each(|running| running.end(deadline));
        self.leaving.join_all().await;
        for running in &mut self.running {
            running.wait().await;
        }
        // Without a state folder nobody listens.
        self.last_write.send(()).ok();
        if timeout(LAST_WRITE, self.keeper.join_all()).await.is_err() {
            tracing::warn!("the state could not be written in time");
        }
    }
}

impl Running {
    fn new(
        idle: Idle,
        begin: impl FnOnce(Idle, watch::Receiver<Option<Instant>>) -> task::JoinHandle<()>,
    ) -> Self {
        let (closing, closed) = watch::channel(None);
        Self {
            name: idle.output.name.clone(),
            intake: idle.intake.clone(),
            closing,
            task: begin(idle, closed),
        }
    }

    /// Asks it to deliver what it has until then.
    fn end(&self, deadline: Instant) {
        if let Some(inbox) = self.intake.inbox() {
            inbox.flush();
        }
        self.closing.send_replace(Some(deadline));
    }

    /// Waits for its end.
    async fn wait(&mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(output = self.name, "broke down: {error}");
        }
    }
}

impl Intake {
    fn inbox(&self) -> Option<&Arc<Inbox>> {
        match self {
            Self::Windows(inbox) => Some(inbox),
            Self::Totals(_) => None,
        }
    }

    /// Has its numbers kept, if it gives any.
    fn keep(&self, kept: &Kept) {
        if let Some(inbox) = self.inbox() {
            kept.add(inbox);
        }
    }
}

impl Idle {
    fn new(output: Output, start: u64, past: &Ends, site: &Site, counters: &Counters) -> Self {
        let counters = counters.output(&output.name);
        let intake = if output.totals {
            Intake::Totals(Arc::new(Publication::new(&output, start, counters)))
        } else {
            Intake::Windows(Arc::new(Inbox::new(
                &output,
                Streams::new(output.name.clone(), start, past),
                Arc::clone(&site.changed),
                counters,
                output.spool.is_some() && site.state_dir.is_some(),
            )))
        };
        Self { output, intake }
    }

    /// Begins the threads of its spool and its dead letters.
    fn begin(&self, site: &Site) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let Self { output, intake } = self;
        let (Some(state_dir), Some(inbox)) = (&site.state_dir, intake.inbox()) else {
            return Ok(Vec::new());
        };
        let mut threads = Vec::new();
        if let Some(bytes) = output.dead_letter_bytes {
            let folder = state_dir.path().join("dead_letters").join(&output.name);
            let letters = DeadLetters::new(folder, output.name.clone(), bytes);
            let (sender, thread) = letters.start()?;
            inbox.send_rejected_to(sender);
            threads.push(thread);
        }
        if let Some(spooling) = output.spool {
            let settings = spool::Settings {
                folder: state_dir.path().join("spool").join(&output.name),
                output: output.name.clone(),
                bytes: spooling.bytes,
                when_full: output.when_full,
                syncs: spooling.sync != SpoolSync::None,
                boot_id: boot_id()?,
            };
            let (state_dir, inbox) = (Arc::clone(state_dir), Arc::clone(inbox));
            threads.push(Worker::start(settings, spooling.sync, state_dir, inbox)?);
        }
        Ok(threads)
    }

    /// Delivers until its end, and for as long as its threads need for the rest.
    async fn live(
        self,
        threads: Vec<JoinHandle<()>>,
        site: Site,
        closed: watch::Receiver<Option<Instant>>,
    ) {
        let Self { output, intake } = self;
        let name = output.name.clone();
        let inbox = match intake {
            Intake::Windows(inbox) => inbox,
            Intake::Totals(publication) => {
                let publisher = Publisher::new(output, publication, site.clock, site.beats);
                return publisher.run(closed).await;
            }
        };
        let delivery = Delivery::new(output, Arc::clone(&inbox), site.clock);
        // In a task of its own: its threads are to end whatever becomes of it.
        if let Err(error) = tokio::spawn(delivery.run(closed)).await {
            tracing::error!(output = name, "broke down: {error}");
        }
        inbox.finish();
        let written = spawn_blocking(|| threads.into_iter().all(|thread| thread.join().is_ok()));
        if !matches!(timeout(LAST_WRITE, written).await, Ok(Ok(true))) {
            tracing::warn!(output = name, "its spool could not be written in time");
        }
    }

    /// As [`Idle::live`], once all before it are gone. What they came to is its past.
    async fn follow(
        self,
        mut gone: watch::Receiver<()>,
        site: Site,
        closed: watch::Receiver<Option<Instant>>,
    ) {
        // Nothing is ever sent: it ends when the sender is dropped.
        while gone.changed().await.is_ok() {}
        if let Some(inbox) = self.intake.inbox() {
            inbox.recall(&site.past());
        }
        match self.begin(&site) {
            Ok(threads) => {
                self.intake.keep(&site.kept);
                self.live(threads, site, closed).await;
            }
            Err(error) => {
                tracing::error!(output = self.output.name, "cannot begin: {error:#}");
            }
        }
    }
}

impl Site {
    /// How streams ended before: those of earlier starts, and those of outputs that a reload has ended.
    fn past(&self) -> Ends {
        let earlier = self.state_dir.as_ref().and_then(|dir| dir.past().ok());
        let mut past = earlier.cloned().unwrap_or_default();
        past.extend(self.kept.gone());
        past
    }
}

/// Tells this start of the machine from others. One that cannot be known is taken for another.
fn boot_id() -> anyhow::Result<String> {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Ok(format!("unknown-{:016x}", random::bits()?)),
    }
}
