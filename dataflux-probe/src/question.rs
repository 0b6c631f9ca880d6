//! A question whose answer may never come: it is asked on a thread of its own.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Instant,
};

/// A thread that looks for an answer. If this is dropped, the thread ends by itself once it has one.
#[derive(Debug)]
pub(crate) struct Question<T>(Receiver<T>);

/// What has become of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// The answer.
    Here(T),
    /// Its thread is still looking.
    Open,
    /// Its thread ended without one.
    Never,
}

/// Enough for a few system calls and a short exchange by TCP.
const STACK: usize = 256 * 1024;

impl<T: Send + 'static> Question<T> {
    /// Begins to look for the answer.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn ask(find: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(1);
        thread::Builder::new()
            .name("question".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                // Nobody may want it any more.
                drop(sender.send(find()));
            })?;
        Ok(Self(receiver))
    }

    /// The answer, if it is there by `deadline`. It is given once.
    pub(crate) fn answer(&self, deadline: Instant) -> Answer<T> {
        let patience = deadline.saturating_duration_since(Instant::now());
        match self.0.recv_timeout(patience) {
            Ok(answer) => Answer::Here(answer),
            Err(RecvTimeoutError::Timeout) => Answer::Open,
            Err(RecvTimeoutError::Disconnected) => Answer::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Duration};

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn an_answer_is_given_once_and_one_that_does_not_come_holds_up_nobody() {
        let (release, hangs) = channel::<()>();
        let question = Question::ask(move || {
            hangs.recv().unwrap();
            7
        });
        let question = question.unwrap();
        assert_eq!(question.answer(Instant::now()), Answer::Open);
        release.send(()).unwrap();
        assert_eq!(question.answer(later()), Answer::Here(7));
        assert_eq!(question.answer(later()), Answer::Never);
    }
}
