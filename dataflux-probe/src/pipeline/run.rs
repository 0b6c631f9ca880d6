//! Runs the pipeline: ticks, reads, envelopes, outputs, shutdown.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{sync::mpsc, time::sleep};

use super::{
    Change, Order, Output, Pipeline,
    clock::{self, Clock, Moment},
    counters::Counters,
    envelope::Assembler,
    outputs::Outputs,
    random,
    readers::Readers,
    schedule::Schedule,
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
pub(super) const LAST_WRITE: Duration = Duration::from_secs(2);

impl Pipeline {
    /// Reads and delivers until `stop` resolves, and does what it is asked for between two ticks; then reads once more,
    /// drains the outputs within the drain limit and closes them. Needs a tokio runtime with time enabled. A reader that hangs keeps a blocking thread of the runtime: end the
    /// runtime with `shutdown_background`.
    ///
    /// # Errors
    /// The kernel gives no random numbers for the streams' ids.
    pub async fn run(
        self,
        orders: mpsc::Receiver<Order>,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        self.run_by(clock::system(), orders, stop).await
    }

    async fn run_by(
        mut self,
        clock: Clock,
        orders: mpsc::Receiver<Order>,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        spread(&mut self.outputs, self.place);
        let keep_zeros = keep_zeros(&self.outputs);
        let outputs = Outputs::start(
            self.outputs,
            self.state_dir,
            &self.counters,
            &clock,
            self.pulse.watch(),
        )?;
        let readers = Readers::new(self.readers, self.metadata, &self.counters, keep_zeros);
        let ticker = Ticker {
            schedule: Schedule::new(readers.intervals(), clock()),
            sweeper: Sweeper::new(Arc::clone(&clock)),
            clock,
            readers,
            assembler: Assembler::new(self.names),
            begun: false,
            counters: self.counters,
            outputs,
            place: self.place,
            drain_limit: self.drain_limit,
        };
        let (outputs, drain_limit) = ticker.run(orders, &self.pulse, stop).await;
        self.pulse
            .beat(Stage::Draining, drain_limit + 2 * LAST_WRITE);
        outputs.stop(drain_limit).await;
        Ok(())
    }

    /// One envelope of one window, read on the calling thread: everything is read, after `window` it is read again. It is cut
    /// as the first output would get it, which gets nothing; without outputs, series without change are left out.
    ///
    /// # Errors
    /// The kernel gives no random numbers for the stream's id, or the output wants none of the readers.
    pub fn once(self, window: Duration) -> anyhow::Result<Numbered> {
        let clock = clock::system();
        let shape = self.outputs.first().map(|output| Arc::clone(&output.shape));
        let shape = shape.unwrap_or_default();
        let mut readers = Readers::new(
            self.readers,
            self.metadata,
            &self.counters,
            shape.keep_zeros,
        );
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
        let shaped = tick.shape(&shape).first();
        let shaped = shaped.context("the output wants none of the readers")?;
        Ok(Numbered {
            stream: Arc::new(Stream {
                id: format!("once-{:016x}", random::bits()?).into(),
                previous: None,
            }),
            range: 1..=1,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::clone(&shaped.envelope),
        })
    }
}

/// Sends begin within this time of a tick; when exactly depends on the host's place among all hosts.
fn spread(outputs: &mut [Output], place: u32) {
    for output in outputs {
        output.spread = output.spread.mul_f64(f64::from(place) / 2_f64.powi(32));
    }
}

fn keep_zeros(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| output.shape.keep_zeros)
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
    outputs: Outputs,
    /// The host's, as in [`Pipeline`].
    place: u32,
    drain_limit: Duration,
}

impl Ticker {
    /// Gives what is left to be done: the outputs, and how long they may take for it.
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        pulse: &Pulse,
        stop: impl Future<Output = ()>,
    ) -> (Outputs, Duration) {
        let mut stop = pin!(stop);
        let now = (self.clock)();
        pulse.beat(Stage::Starting, self.until_next());
        self.sweeper.start(self.readers.metadata_jobs(now));
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(order) = orders.recv() => match order {
                    Order::Reopen => self.outputs.reopen(),
                    Order::Change(change) => {
                        self.change(change).await;
                        pulse.put_off(self.until_next());
                    }
                },
                () = self.next_tick() => {
                    let now = (self.clock)();
                    let due = self.schedule.fire(now);
                    self.counters.missed_ticks.add(due.missed);
                    let stage = if self.begun { Stage::Measuring } else { Stage::Baseline };
                    self.tick(now, &due.readers).await;
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
            self.tick((self.clock)(), &all).await;
        }
        (self.outputs, self.drain_limit)
    }

    /// Goes on with another configuration. What ends is read once more, so that its last window is whole; what begins has its
    /// baseline at once.
    async fn change(&mut self, change: Change) {
        let now = (self.clock)();
        let ending = self.readers.without(&change.same.readers);
        if self.begun && !ending.is_empty() {
            let places: Vec<_> = ending.iter().map(|(place, _)| *place).collect();
            self.tick(now, &places).await;
        }
        let Change {
            readers,
            metadata,
            mut outputs,
            drain_limit,
            same,
            done,
        } = change;
        self.drain_limit = drain_limit;
        spread(&mut outputs, self.place);
        let keep_zeros = keep_zeros(&outputs);
        let now = (self.clock)();
        let places =
            self.readers
                .change_metrics(readers, &same.readers, &self.counters, keep_zeros, now);
        self.readers.change_metadata(metadata, &same.metadata);
        let changed =
            self.outputs
                .change(outputs, &same.outputs, drain_limit, &self.counters, done);
        if let Err(error) = changed {
            tracing::error!("outputs go on as they are: {error:#}");
        }
        for (_, gone) in ending {
            if !self.readers.names().any(|name| name == gone) {
                self.outputs
                    .inboxes()
                    .for_each(|inbox| inbox.flush_of(gone));
            }
        }
        if !self.begun {
            self.schedule = Schedule::new(self.readers.intervals(), now);
            self.sweeper.start(self.readers.metadata_jobs(now));
            return;
        }
        let intervals: Vec<_> = self.readers.intervals().collect();
        let timers = places.iter().copied().zip(intervals);
        self.schedule.change(timers, now);
        self.begin(&places, now).await;
    }

    /// Takes the baseline of the readers that had no place before, and reads the metadata that is due.
    async fn begin(&mut self, places: &[Option<usize>], now: Moment) {
        let is_new = |(place, before): (usize, &Option<usize>)| before.is_none().then_some(place);
        let new: Vec<_> = places.iter().enumerate().filter_map(is_new).collect();
        for (place, name) in self.readers.names().enumerate() {
            if new.contains(&place) {
                self.assembler.start_of(name, now);
            }
        }
        let mut jobs = self.readers.metric_jobs(&new);
        jobs.extend(self.readers.metadata_jobs(now));
        self.sweeper.start(jobs);
        self.sweeper.settled(PATIENCE, LONGEST_WAIT).await;
        self.collect();
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
    async fn tick(&mut self, now: Moment, due: &[usize]) {
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
        self.outputs.accept(&mut tick);
    }

    /// Takes what has been read since the last time.
    fn collect(&mut self) {
        for done in self.sweeper.take() {
            self.readers.accept(done);
        }
    }
}

#[cfg(test)]
mod tests;
