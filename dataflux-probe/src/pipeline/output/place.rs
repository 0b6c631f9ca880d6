//! Where the logger of an output is: open, closed, or on the way.

use std::future::pending;

use tokio::task::{JoinError, JoinHandle};

use crate::{
    loggers::{Logger, SendError},
    pipeline::sweep::without_panic,
};

/// A logger that came back from being opened.
pub(in crate::pipeline) type Opened = (Box<dyn Logger>, Result<(), SendError>);

/// Where the logger is.
pub(in crate::pipeline) enum Place {
    Open(Box<dyn Logger>),
    Closed(Box<dyn Logger>),
    Opening(JoinHandle<Opened>),
    Gone,
}

impl Place {
    /// Lets the logger open its files anew, and says whether it is here.
    pub(in crate::pipeline) fn reopen(&mut self, output: &str) -> bool {
        let Self::Open(logger) = self else {
            return false;
        };
        let reopened = without_panic(|| {
            logger.reopen();
            Ok(())
        });
        if let Err(panic) = reopened {
            tracing::error!(output, "reopening its files: {panic:#}");
        }
        true
    }
}

/// Resolves when a logger that is being opened is back; never, if none is.
pub(in crate::pipeline) async fn opening(logger: &mut Place) -> Result<Opened, JoinError> {
    match logger {
        Place::Opening(task) => task.await,
        _ => pending().await,
    }
}
