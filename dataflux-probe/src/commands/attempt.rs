//! Work that may hang: it is waited for only so long, and nothing is begun while it hangs.

use std::{future::pending, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

/// One piece of such work after the other, each on a thread, of which one at most hangs.
#[derive(Debug)]
pub(super) struct Attempt<T> {
    limit: Duration,
    /// What was given up, and goes on.
    hanging: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Attempt<T> {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            hanging: None,
        }
    }

    /// Does the work.
    ///
    /// # Errors
    /// It takes longer than the limit, and is given up; or what was given up before has not ended, and nothing is begun.
    pub(super) async fn of(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        if self
            .hanging
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            bail!("the one before still hangs");
        }
        self.hanging = None;
        let mut task = spawn_blocking(work);
        if let Ok(done) = timeout(self.limit, &mut task).await {
            return done.context("it panicked");
        }
        self.hanging = Some(task);
        bail!("given up after {}", humantime::format_duration(self.limit))
    }

    /// Waits until what was given up ends, for ever if nothing was. What it gives is dropped.
    pub(super) async fn late(&mut self) {
        match &mut self.hanging {
            Some(task) => drop(task.await),
            None => pending().await,
        }
        self.hanging = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn what_hangs_is_given_up_and_the_next_begins_once_it_has_ended() {
        let mut attempt = Attempt::new(SHORT);
        let (end, ended) = mpsc::channel::<()>();
        let told = attempt.of(move || ended.recv().is_ok()).await.unwrap_err();
        assert_eq!(told.to_string(), "given up after 20ms");
        let told = attempt.of(|| unreachable!("one hangs")).await.unwrap_err();
        assert_eq!(told.to_string(), "the one before still hangs");
        timeout(SHORT, attempt.late()).await.unwrap_err();
        drop(end);
        attempt.late().await;
        attempt.limit = Duration::from_secs(60);
        attempt.of(|| true).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_has_to_ask_whether_it_has_ended() {
        let mut attempt = Attempt::new(SHORT);
        let (end, ended) = mpsc::channel::<()>();
        attempt.of(move || ended.recv().is_ok()).await.unwrap_err();
        drop(end);
        while attempt
            .hanging
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        attempt.limit = Duration::from_secs(60);
        attempt.of(|| true).await.unwrap();
        timeout(SHORT, attempt.late()).await.unwrap_err();
    }
}
