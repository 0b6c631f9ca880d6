//! The thread of a spooled output: takes in what the ticks left in memory, and has ready what is to leave.
//!
//! While the disk fails, records stay in memory and leave from there; the thread tries again every second.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    super::{
        inbox::{Inbox, Work},
        state::StateDir,
    },
    Loss, Next, Recovered, Settings, Spool, Ticket,
};
use crate::model::{Cause, Numbered, WallTime};

/// How long after a failure the disk is tried again, how often files are checked, and how much a power cut may take with
/// [`SpoolSync::Interval`].
const PACE: Duration = Duration::from_secs(1);

/// When what was written is made to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpoolSync {
    /// Never: a kill of the probe is survived, a power cut may take what the kernel has not written yet.
    None,
    /// Once a second.
    #[default]
    Interval,
    /// Before anything is handed over.
    Every,
}

/// What has become of a record that the delivery was given.
#[derive(Debug)]
pub(in crate::pipeline) enum Settled {
    Again(Ticket),
    Delivered(Ticket, WallTime),
    Lost {
        ticket: Ticket,
        stop_time: WallTime,
        cause: Cause,
        /// For people.
        reason: String,
    },
    /// It left from memory, and is delivered or lost.
    Passed {
        name: String,
        record: Numbered,
        lost: Option<Cause>,
    },
}

/// One spool and where it gets its work from.
pub(in crate::pipeline) struct Worker {
    settings: Settings,
    sync: SpoolSync,
    state_dir: Arc<StateDir>,
    inbox: Arc<Inbox>,
    spool: Option<Spool>,
    /// After a failure.
    retry_at: Option<Instant>,
    /// When files were last synced and checked.
    checked: Instant,
    failing: bool,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(in crate::pipeline) fn start(
        settings: Settings,
        sync: SpoolSync,
        state_dir: Arc<StateDir>,
        inbox: Arc<Inbox>,
    ) -> anyhow::Result<thread::JoinHandle<()>> {
        let worker = Self {
            settings,
            sync,
            state_dir,
            inbox,
            spool: None,
            retry_at: None,
            checked: Instant::now(),
            failing: false,
        };
        thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || worker.run())
            .context("starting the spool's thread")
    }

    fn run(mut self) {
        // What an earlier start left is opened at once.
        let mut patience = Duration::ZERO;
        loop {
            let work = self.inbox.work(std::mem::replace(&mut patience, PACE));
            let finish = work.finish;
            self.cycle(work);
            self.inbox
                .publish_disk(self.spool.as_ref().map(|spool| (spool.len(), spool.live())));
            if finish {
                break;
            }
        }
        if let Some(mut spool) = self.spool.take()
            && let Err(error) = spool.close()
        {
            tracing::warn!(output = self.settings.output, "closing the spool: {error}");
        }
        self.inbox.reject_no_more();
        self.inbox.filled.notify_one();
    }

    fn cycle(&mut self, work: Work) {
        if self.retry_at.is_some_and(|at| Instant::now() < at) && !work.finish {
            return self.inbox.give_back(work.incoming, work.settled, false);
        }
        if self.spool.is_none() {
            match self.open() {
                Ok((spool, recovered)) => {
                    for note in &recovered.notes {
                        tracing::warn!(output = self.settings.output, "spool: {note}");
                    }
                    self.inbox.recovered(recovered);
                    self.spool = Some(spool);
                }
                Err(error) => {
                    self.inbox.give_back(work.incoming, work.settled, false);
                    return self.fail(&error);
                }
            }
        }
        let Some(mut spool) = self.spool.take() else {
            return;
        };
        let result = self.serve(&mut spool, work);
        self.spool = Some(spool);
        match result {
            Ok(()) => self.heal(),
            Err(error) => self.fail(&error),
        }
    }

    fn open(&self) -> std::io::Result<(Spool, Recovered)> {
        let past = self.state_dir.past();
        let past = past.map_err(|error| std::io::Error::other(format!("{error:#}")))?;
        Spool::open(self.settings.clone(), past)
    }

    fn serve(&mut self, spool: &mut Spool, work: Work) -> std::io::Result<()> {
        let Work {
            incoming,
            merging,
            settled,
            wanted,
            finish,
        } = work;
        for one in settled {
            self.keep_rejected(spool, &one);
            spool.settle(one);
        }
        let due = self.checked.elapsed() >= PACE;
        // What has failed may need to be mended before anything else works.
        if due || self.failing {
            self.checked = Instant::now();
            let mut losses = Vec::new();
            let checked = spool.check(&mut losses);
            self.lose(&losses);
            if let Err(error) = checked {
                self.inbox.give_back(incoming, Vec::new(), false);
                return Err(error);
            }
        }
        let before = spool.merged();
        let taken = self.take_in(spool, incoming);
        self.inbox.counters.merged.add(spool.merged() - before);
        let all_taken = taken?;
        spool.note()?;
        if self.sync == SpoolSync::Every {
            spool.sync()?;
        }
        // Where that takes a sync, no more often than there is one anyway.
        if due || finish || self.sync != SpoolSync::Interval {
            spool.trim()?;
        }
        self.make_ready(spool, wanted)?;
        if finish {
            for (name, record) in self.inbox.take_handed() {
                spool.append_handed(&name, &record)?;
            }
        }
        if due && self.sync == SpoolSync::Interval {
            spool.sync()?;
        }
        if let Some(merging) = merging.filter(|_| all_taken) {
            spool.keep_merging(&merging)?;
            if self.sync == SpoolSync::Every {
                spool.sync()?;
            }
        }
        Ok(())
    }

    /// Keeps a record that is lost for people to look at, where that is wanted. Only the spool still has its envelope.
    fn keep_rejected(&self, spool: &mut Spool, settled: &Settled) {
        let Settled::Lost {
            ticket,
            cause,
            reason,
            ..
        } = settled
        else {
            return;
        };
        if !self.inbox.keeps_rejected() {
            return;
        }
        match spool.handed(*ticket) {
            Some(Ok(record)) => self.inbox.keep_rejected(record, *cause, reason.clone()),
            Some(Err(error)) => {
                let output = &self.settings.output;
                tracing::warn!(output, "a rejected envelope is not kept: {error}");
            }
            None => {}
        }
    }

    /// Appends what came in; what the disk does not take goes back to memory. Says whether it took everything.
    fn take_in(
        &self,
        spool: &mut Spool,
        incoming: Vec<(String, Numbered)>,
    ) -> std::io::Result<bool> {
        let mut incoming = incoming.into_iter();
        while let Some((name, record)) = incoming.next() {
            match spool.append(&name, &record) {
                Ok(losses) => self.lose(&losses),
                Err(error) => {
                    // Not the disk's fault: what is in memory merges until something was delivered. A file system's own
                    // quota is the disk's fault.
                    let full = error.kind() == std::io::ErrorKind::QuotaExceeded
                        && error.raw_os_error().is_none();
                    let mut rest = vec![(name, record)];
                    rest.extend(incoming);
                    self.inbox.give_back(rest, Vec::new(), full);
                    return if full { Ok(false) } else { Err(error) };
                }
            }
            let mut losses = Vec::new();
            let made = spool.make_room(&mut losses);
            self.lose(&losses);
            if let Err(error) = made {
                self.inbox.give_back(incoming.collect(), Vec::new(), false);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Gets records from the spool for the delivery. They count as handed over before the delivery can have them.
    fn make_ready(&self, spool: &mut Spool, wanted: usize) -> std::io::Result<()> {
        let mut ready: Vec<(Ticket, Numbered)> = Vec::new();
        while ready.len() < wanted {
            match spool.next(|record| self.inbox.announce(record)) {
                Next::Record(ticket, record) => ready.push((ticket, record)),
                Next::Lost(loss) => self.lose(&[loss]),
                Next::Nothing => break,
            }
        }
        if let Err(error) = spool.note() {
            for (ticket, _) in ready {
                spool.again(ticket);
            }
            return Err(error);
        }
        self.inbox.ready(ready);
        Ok(())
    }

    fn lose(&self, losses: &[Loss]) {
        for loss in losses {
            self.inbox.lost_on_disk(loss);
        }
    }

    fn fail(&mut self, error: &std::io::Error) {
        self.retry_at = Some(Instant::now() + PACE);
        self.inbox.set_broken(true);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                output = self.settings.output,
                "the spool in {} fails, going on in memory: {error}",
                self.settings.folder.display()
            );
        }
    }

    fn heal(&mut self) {
        self.retry_at = None;
        self.inbox.set_broken(false);
        if std::mem::take(&mut self.failing) {
            tracing::info!(output = self.settings.output, "the spool works again");
        }
    }
}
