//! A thread of its own for the blocking calls of one logger, so that a stalled pipe or disk stalls nothing else.

use std::{
    future::ready,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
};

use anyhow::{Context as _, anyhow};
use tokio::sync::oneshot;

use super::{Acknowledgement, SendError};

/// How many jobs may wait for the one at work.
const WAITING: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs one after the other on a thread that begins with the first job, so that it has no privilege that was given
/// up before, and ends when the worker is dropped and its last job is done. Nobody ever waits for it: a job that hangs
/// cannot hold up the end of the process.
pub(super) struct Worker {
    name: &'static str,
    jobs: Option<SyncSender<Job>>,
}

impl Worker {
    /// `name` is the thread's.
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, jobs: None }
    }

    /// Runs a job after those before it; the future resolves to its result. Only a few may wait, and there are more than
    /// one only if nobody waits for their results any more: `Retry` beyond that.
    pub(super) fn run(
        &mut self,
        job: impl FnOnce() -> Result<(), SendError> + Send + 'static,
    ) -> Acknowledgement {
        let (done, result) = oneshot::channel();
        // Nobody has to wait for the result.
        let job = Box::new(move || drop(done.send(job())));
        match self.submit(job) {
            Ok(()) => Box::pin(async {
                result
                    .await
                    .unwrap_or_else(|_| Err(SendError::Retry(anyhow!("the writing thread died"))))
            }),
            Err(error) => Box::pin(ready(Err(SendError::Retry(error)))),
        }
    }

    fn submit(&mut self, job: Job) -> anyhow::Result<()> {
        let job = match &self.jobs {
            None => job,
            Some(jobs) => match jobs.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => {
                    return Err(anyhow!("the writes before this one have not returned yet"));
                }
                Err(TrySendError::Disconnected(job)) => job,
            },
        };
        let (sender, jobs) = sync_channel::<Job>(WAITING);
        thread::Builder::new()
            .name(self.name.to_owned())
            .spawn(move || jobs.into_iter().for_each(|job| job()))
            .context("starting the writing thread")?;
        sender
            .try_send(job)
            .map_err(|_| anyhow!("the writing thread died"))?;
        self.jobs = Some(sender);
        Ok(())
    }
}
