//! Runs readers off the async threads: one thread takes all that are due, one after the other, and another joins it while one
//! of them keeps the rest waiting.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::clock::{Clock, Moment};
use crate::{
    metadata::MetadataReader,
    metrics::MetricReader,
    model::{Metadata, Snapshot},
};

/// A reader to be read. It comes back with what it read, so that it can never run beside itself.
pub(super) enum Job {
    /// A metric reader and its id.
    Metric(usize, Box<dyn MetricReader>),
    /// A metadata reader and its id.
    Metadata(usize, Box<dyn MetadataReader>),
}

/// A job done.
pub(super) struct Done {
    /// Right before the read.
    pub(super) at: Moment,
    /// How long it took.
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
}

/// The reader of a [`Job`] and what it read.
pub(super) enum Outcome {
    Metric(usize, Box<dyn MetricReader>, anyhow::Result<Snapshot>),
    Metadata(usize, Box<dyn MetadataReader>, anyhow::Result<Metadata>),
}

impl Job {
    /// Reads on the calling thread. A panic is an error.
    pub(super) fn run(self, clock: &Clock) -> Done {
        let at = clock();
        let outcome = match self {
            Self::Metric(id, mut reader) => {
                let mut snapshot = Snapshot::default();
                let read = without_panic(|| reader.read(&mut snapshot));
                Outcome::Metric(id, reader, read.map(|()| snapshot))
            }
            Self::Metadata(id, mut reader) => {
                let mut metadata = Metadata::default();
                let read = without_panic(|| reader.read(&mut metadata));
                Outcome::Metadata(id, reader, read.map(|()| metadata))
            }
        };
        let took = clock().monotonic.saturating_sub(at.monotonic);
        Done { at, took, outcome }
    }
}

/// Calls a plugin; its panic is an error like any other, since one broken plugin never stops the rest.
pub(super) fn without_panic<T>(call: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Err(anyhow!("panicked: {text}"))
    })
}

/// Hands jobs to threads and takes them back.
pub(super) struct Sweeper {
    board: Arc<Board>,
}

struct Board {
    clock: Clock,
    state: Mutex<State>,
    /// The metric readers of the last [`Sweeper::start`] are done.
    settled: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, Job)>,
    done: Vec<Done>,
    /// Number of the last start.
    round: u64,
    /// Metric readers of that round which are not done.
    open: usize,
}

impl Sweeper {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            board: Arc::new(Board {
                clock,
                state: Mutex::default(),
                settled: Notify::new(),
            }),
        }
    }

    /// Starts a round of jobs, in this order.
    pub(super) fn start(&self, jobs: Vec<Job>) {
        let mut state = self.board.lock();
        state.round += 1;
        let round = state.round;
        state.open = jobs
            .iter()
            .filter(|job| matches!(job, Job::Metric(..)))
            .count();
        state
            .waiting
            .extend(jobs.into_iter().map(|job| (round, job)));
        let idle = state.waiting.is_empty();
        drop(state);
        if !idle {
            self.sweep();
        }
    }

    /// Waits until all metric readers of the last round are done, at most for `limit`. While some have to wait for longer than
    /// `patience`, more threads are used.
    pub(super) async fn settled(&self, patience: Duration, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.board.lock().open > 0 {
            let crowded = !self.board.lock().waiting.is_empty();
            let until = if crowded {
                deadline.min(Instant::now() + patience)
            } else {
                deadline
            };
            if timeout_at(until, self.board.settled.notified())
                .await
                .is_ok()
            {
                continue;
            }
            if Instant::now() >= deadline {
                break;
            }
            if !self.board.lock().waiting.is_empty() {
                self.sweep();
            }
        }
    }

    /// The jobs done since the last call, in the order of their ends.
    pub(super) fn take(&self) -> Vec<Done> {
        std::mem::take(&mut self.board.lock().done)
    }

    fn sweep(&self) {
        let board = Arc::clone(&self.board);
        tokio::task::spawn_blocking(move || {
            while let Some((round, job)) = board.next() {
                let counts = matches!(job, Job::Metric(..));
                let done = job.run(&board.clock);
                board.finish(round, counts, done);
            }
        });
    }
}

impl Board {
    fn next(&self) -> Option<(u64, Job)> {
        self.lock().waiting.pop_front()
    }

    fn finish(&self, round: u64, counts: bool, done: Done) {
        let mut state = self.lock();
        state.done.push(done);
        if counts && round == state.round {
            state.open -= 1;
            if state.open == 0 {
                self.settled.notify_one();
            }
        }
    }

    /// No plugin runs while the lock is held, so the state is whole even after a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{
        super::{clock, fakes::FakeReader},
        *,
    };

    const SOON: Duration = Duration::from_millis(5);
    const LATE: Duration = Duration::from_secs(60);

    fn job(
        place: usize,
        read: impl FnMut(&mut Snapshot) -> anyhow::Result<()> + Send + 'static,
    ) -> Job {
        Job::Metric(place, Box::new(FakeReader(read)))
    }

    fn places(done: &[Done]) -> Vec<usize> {
        let place = |done: &Done| match done.outcome {
            Outcome::Metric(place, ..) | Outcome::Metadata(place, ..) => place,
        };
        done.iter().map(place).collect()
    }

    #[tokio::test]
    async fn quick_readers_share_a_thread_and_keep_their_order() {
        let sweeper = Sweeper::new(clock::system());
        let (sender, threads) = mpsc::channel();
        let jobs = (0..10).map(|place| {
            let sender = sender.clone();
            job(
                place,
                move |_| Ok(sender.send(std::thread::current().id())?),
            )
        });
        sweeper.start(jobs.collect());
        sweeper.settled(LATE, LATE).await;
        assert_eq!(places(&sweeper.take()), (0..10).collect::<Vec<_>>());
        let used: std::collections::HashSet<_> = threads.try_iter().collect();
        assert_eq!(used.len(), 1);
    }

    #[tokio::test]
    async fn stuck_readers_keep_nobody_waiting() {
        let sweeper = Sweeper::new(clock::system());
        let mut holds = Vec::new();
        let mut jobs = Vec::new();
        for place in 0..6 {
            let (hold, held) = mpsc::channel::<()>();
            holds.push(hold);
            jobs.push(job(place, move |_| {
                if place % 2 == 0 {
                    // Ends with an error, when the test drops the other end.
                    held.recv()?;
                }
                Ok(())
            }));
        }
        sweeper.start(jobs);
        sweeper.settled(SOON, Duration::from_millis(500)).await;
        assert_eq!(places(&sweeper.take()), [1, 3, 5]);
        // The next round does not wait for those of the last one.
        sweeper.start(vec![job(6, |_| Ok(()))]);
        sweeper.settled(SOON, LATE).await;
        assert_eq!(places(&sweeper.take()), [6]);
        drop(holds);
        let mut rest = Vec::new();
        while rest.len() < 3 {
            tokio::time::sleep(SOON).await;
            rest.extend(places(&sweeper.take()));
        }
        rest.sort_unstable();
        assert_eq!(rest, [0, 2, 4]);
    }

    #[tokio::test]
    async fn a_late_end_is_not_taken_for_one_of_the_next_round() {
        let sweeper = Sweeper::new(clock::system());
        let held = |place| {
            let (hold, held) = mpsc::channel::<()>();
            let job = job(place, move |_| Ok(held.recv()?));
            (hold, job)
        };
        let (late, job) = held(0);
        sweeper.start(vec![job]);
        sweeper.settled(SOON, SOON).await;
        let (hold, job) = held(1);
        sweeper.start(vec![job]);
        drop(late);
        while sweeper.board.lock().done.is_empty() {
            tokio::time::sleep(SOON).await;
        }
        assert_eq!(sweeper.board.lock().open, 1);
        drop(hold);
        sweeper.settled(SOON, LATE).await;
        assert_eq!(places(&sweeper.take()), [0, 1]);
    }

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let error = |call: fn()| {
            let result = without_panic(|| {
                call();
                Ok(())
            });
            result.unwrap_err().to_string()
        };
        assert_eq!(error(|| panic!("plain")), "panicked: plain");
        assert_eq!(error(|| panic!("number {}", 7)), "panicked: number 7");
        assert_eq!(error(|| std::panic::panic_any(7)), "panicked: no message");
    }
}
