//! Runs the pipeline: ticks, reads, envelopes, outputs, shutdown.

use std::{
    fs,
    future::{Future, pending},
    pin::pin,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::{
    Pipeline, SpoolSync,
    clock::{self, Clock, Moment},
    counters::Counters,
    envelope::Assembler,
    inbox::Inbox,
    output::Delivery,
    random,
    readers::Readers,
    schedule::Schedule,
    spool::{self, dead_letters::DeadLetters, worker::Worker},
    state::{Keeper, StateDir},
    streams::Streams,
    sweep::Sweeper,
};
use crate::{
    health::{Pulse, Stage},
    model::{Numbered, Part, Stream},
};

/// An envelope waits for its readers at most this long.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Readers get one more thread when some have to wait this long for their turn.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long the last writing of the state may take.
const LAST_WRITE: Duration = Duration::from_secs(2);

impl Pipeline {
    /// Reads and delivers until `stop` resolves; then reads once more, drains the outputs within the drain limit and closes
    /// them. Needs a tokio runtime with time enabled. A reader that hangs keeps a blocking thread of the runtime: end the
    /// runtime with `shutdown_background`.
    ///
    /// # Errors
    /// The kernel gives no random numbers for the streams' ids.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.run_by(clock::system(), stop).await
    }

    async fn run_by(mut self, clock: Clock, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        for output in &mut self.outputs {
            output.spread = output
                .spread
                .mul_f64(f64::from(self.place) / 2_f64.powi(32));
        }
        let keep_zeros = self.outputs.iter().any(|output| output.shape.keep_zeros);
        let outputs = Outputs::start(self.outputs, self.state_dir, &self.counters, &clock)?;
        let readers = Readers::new(self.readers, self.metadata, &self.counters, keep_zeros);
        let ticker = Ticker {
            schedule: Schedule::new(readers.intervals(), clock()),
            sweeper: Sweeper::new(Arc::clone(&clock)),
            clock,
            readers,
            assembler: Assembler::new(self.names),
            begun: false,
            counters: self.counters,
        };
        ticker.run(&outputs, &self.pulse, stop).await;
        self.pulse
            .beat(Stage::Draining, self.drain_limit + 2 * LAST_WRITE);
        outputs.stop(self.drain_limit).await;
        Ok(())
    }

    /// One envelope of one window, read on the calling thread, without the outputs: everything is read, after `window` it is
    /// read again. Series without change are left out.
    ///
    /// # Errors
    /// The kernel gives no random numbers for the stream's id.
    pub fn once(self, window: Duration) -> anyhow::Result<Numbered> {
        let clock = clock::system();
        let mut readers = Readers::new(self.readers, self.metadata, &self.counters, false);
        let mut assembler = Assembler::new(self.names);
        let all = readers.all();
        let baseline = clock();
        readers.start(baseline);
        assembler.start(baseline);
        for job in readers.metadata_jobs(baseline) {
            readers.accept(job.run(&clock));
        }
        for job in readers.metric_jobs(&all) {
            readers.accept(job.run(&clock));
        }
        std::thread::sleep(window);
        let at = clock();
        for job in readers.metric_jobs(&all) {
            readers.accept(job.run(&clock));
        }
        let mut sources = readers.sources(at, &all);
        assembler.join(&mut sources);
        readers.select(&mut sources);
        let mut tick = assembler.assemble(at, Arc::clone(&readers.header), sources);
        let shape = &tick.shape(&Arc::default())[0];
        Ok(Numbered {
            stream: Arc::new(Stream {
                id: format!("once-{:016x}", random::bits()?).into(),
                previous: None,
            }),
            range: 1..=1,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::clone(&shape.envelope),
        })
    }
}

/// Reads at each tick and gives the outputs an envelope.
struct Ticker {
    clock: Clock,
    schedule: Schedule,
    sweeper: Sweeper,
    readers: Readers,
    assembler: Assembler,
    /// Whether there was a tick: the first one is the baseline.
    begun: bool,
    counters: Arc<Counters>,
}

impl Ticker {
    async fn run(mut self, outputs: &Outputs, pulse: &Pulse, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let now = (self.clock)();
        pulse.beat(Stage::Starting, self.until_next());
        self.sweeper.start(self.readers.metadata_jobs(now));
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.next_tick() => {
                    let now = (self.clock)();
                    let due = self.schedule.fire(now);
                    self.counters.missed_ticks.add(due.missed);
                    let stage = if self.begun { Stage::Measuring } else { Stage::Baseline };
                    self.tick(now, &due.readers, outputs).await;
                    // A tick that nobody is due at moves nothing.
                    if !due.readers.is_empty() {
                        pulse.beat(stage, self.until_next());
                    }
                }
            }
        }
        pulse.beat(Stage::Draining, LONGEST_WAIT);
        if self.begun {
            let all = self.readers.all();
            self.tick((self.clock)(), &all, outputs).await;
        }
    }

    /// How long it is to the next tick. Without readers there is none.
    fn until_next(&self) -> Duration {
        let now = (self.clock)().monotonic;
        let next = self.schedule.next();
        next.map_or(Duration::MAX, |deadline| deadline.saturating_sub(now))
    }

    async fn next_tick(&self) {
        match self.until_next() {
            Duration::MAX => pending().await,
            wait => sleep(wait).await,
        }
    }

    /// Reads the readers that are due. The first time gives the baseline, every other time an envelope.
    async fn tick(&mut self, now: Moment, due: &[usize], outputs: &Outputs) {
        self.collect();
        if !self.begun {
            self.readers.start(now);
            self.assembler.start(now);
        }
        let mut jobs = self.readers.metric_jobs(due);
        jobs.extend(self.readers.metadata_jobs(now));
        self.sweeper.start(jobs);
        let shortest = due.iter().map(|&place| self.readers.interval(place)).min();
        let interval = shortest.unwrap_or(LONGEST_WAIT);
        self.sweeper
            .settled(PATIENCE.min(interval / 8), LONGEST_WAIT.min(interval / 2))
            .await;
        self.collect();
        if !std::mem::replace(&mut self.begun, true) {
            return;
        }
        let mut sources = self.readers.sources(now, due);
        self.assembler.join(&mut sources);
        self.readers.select(&mut sources);
        let header = Arc::clone(&self.readers.header);
        let mut tick = self.assembler.assemble(now, header, sources);
        for inbox in &outputs.inboxes {
            inbox.accept(&mut tick);
        }
    }

    /// Takes what has been read since the last time.
    fn collect(&mut self) {
        for done in self.sweeper.take() {
            self.readers.accept(done);
        }
    }
}

/// All outputs at work.
pub(super) struct Outputs {
    pub(super) inboxes: Vec<Arc<Inbox>>,
    deliveries: JoinSet<()>,
    closing: watch::Sender<Option<Instant>>,
    /// Threads of spools and dead letters.
    spools: Vec<JoinHandle<()>>,
    keeper: JoinSet<()>,
    last_write: oneshot::Sender<()>,
}

impl Outputs {
    /// Must be called in a runtime.
    pub(super) fn start(
        outputs: Vec<super::Output>,
        state_dir: Option<Arc<StateDir>>,
        counters: &Counters,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        let start = random::bits()?;
        let past = state_dir
            .as_ref()
            .and_then(|state_dir| state_dir.past().ok());
        let past = past.cloned().unwrap_or_default();
        let changed = Arc::new(Notify::new());
        let (closing, closed) = watch::channel(None);
        let mut deliveries = JoinSet::new();
        let mut inboxes = Vec::new();
        let mut spools = Vec::new();
        for output in outputs {
            let mut dead_letters = None;
            if let (Some(bytes), Some(state_dir)) = (output.dead_letter_bytes, &state_dir) {
                let folder = state_dir.path().join("dead_letters").join(&output.name);
                let letters = DeadLetters::new(folder, output.name.clone(), bytes);
                let (sender, thread) = letters.start()?;
                dead_letters = Some(sender);
                spools.push(thread);
            }
            let inbox = Arc::new(Inbox::new(
                &output,
                Streams::new(output.name.clone(), start, &past),
                Arc::clone(&changed),
                counters.output(&output.name),
                output.spool.is_some() && state_dir.is_some(),
                dead_letters,
            ));
            inboxes.push(Arc::clone(&inbox));
            if let (Some(spooling), Some(state_dir)) = (output.spool, &state_dir) {
                let settings = spool::Settings {
                    folder: state_dir.path().join("spool").join(&output.name),
                    output: output.name.clone(),
                    bytes: spooling.bytes,
                    when_full: output.when_full,
                    syncs: spooling.sync != SpoolSync::None,
                    boot_id: boot_id()?,
                };
                let (state_dir, inbox) = (Arc::clone(state_dir), Arc::clone(&inbox));
                spools.push(Worker::start(settings, spooling.sync, state_dir, inbox)?);
            }
            let delivery = Delivery::new(output, inbox, Arc::clone(clock));
            deliveries.spawn(delivery.run(closed.clone()));
        }
        let (last_write, last) = oneshot::channel();
        let mut keeper = JoinSet::new();
        if let Some(state_dir) = state_dir {
            let inboxes = inboxes.clone();
            keeper.spawn(
                Keeper {
                    state_dir,
                    inboxes,
                    changed,
                }
                .run(last),
            );
        }
        Ok(Self {
            inboxes,
            deliveries,
            closing,
            spools,
            keeper,
            last_write,
        })
    }

    /// Lets the outputs deliver what they have, within the limit.
    pub(super) async fn stop(mut self, limit: Duration) {
        self.inboxes.iter().for_each(|inbox| inbox.flush());
        self.closing.send_replace(Some(Instant::now() + limit));
        while let Some(ended) = self.deliveries.join_next().await {
            if let Err(error) = ended {
                tracing::error!("an output broke down: {error}");
            }
        }
        self.inboxes.iter().for_each(|inbox| inbox.finish());
        let written = spawn_blocking(|| self.spools.into_iter().all(|spool| spool.join().is_ok()));
        if !matches!(timeout(LAST_WRITE, written).await, Ok(Ok(true))) {
            tracing::warn!("the spools could not be written in time");
        }
        // Without a state folder nobody listens.
        self.last_write.send(()).ok();
        if timeout(LAST_WRITE, self.keeper.join_all()).await.is_err() {
            tracing::warn!("the state could not be written in time");
        }
    }
}

/// Tells this start of the machine from others. One that cannot be known is taken for another.
fn boot_id() -> anyhow::Result<String> {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Ok(format!("unknown-{:016x}", random::bits()?)),
    }
}

#[cfg(test)]
mod tests;
