//! Whether the probe works, as service managers ask: the pipeline's pulse, and who tells it to whom.
//!
//! The pipeline beats after every tick and says when it will do so again. It is live until that time and [`GRACE`] have
//! passed. Readers that hang and receivers that are away are handled by the pipeline, which goes on beating meanwhile; what
//! ends the pulse is a tick that never comes, or an async thread that is stuck. Everything that tells runs on that thread, so
//! that a stuck one tells nothing.

mod file;
mod http;
mod monitor;
mod notify;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{sync::watch, time::Instant};

pub use file::{Judgement, judge};
pub use monitor::Monitor;

/// How late a tick may be before the pipeline counts as stalled. A tick waits up to 2 s for its readers, and a machine that
/// was frozen or is overloaded needs a moment.
pub const GRACE: Duration = Duration::from_secs(10);

/// As far ahead as anything is ever due; an [`Instant`] cannot hold much more.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// `[health]`: who may ask, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where `/live` and `/ready` are answered over HTTP.
    pub listen: Option<SocketAddr>,
    /// The file that says the same, renewed with the ticks.
    pub file: Option<PathBuf>,
}

/// How far the pipeline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Everything is attached and opened; the first aligned tick has not come.
    Starting,
    /// The first tick has taken the baseline.
    Baseline,
    /// The outputs have accepted a window.
    Measuring,
    /// The last window is read, and outputs deliver what they have.
    Draining,
}

impl Stage {
    /// One word for files and answers.
    const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Baseline => "baseline",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
        }
    }
}

/// What the pipeline last said of itself.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    stage: Stage,
    /// Windows that the outputs have accepted.
    windows: u64,
    /// When it was said.
    at: Instant,
    /// The pipeline is live until then.
    until: Instant,
    reload: Reload,
}

/// What has become of the configuration since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reload {
    /// How often it was read again.
    times: u64,
    /// It is being read and put in force.
    lasts: bool,
    /// The last one was refused.
    refused: bool,
}

impl Beat {
    fn new(stage: Stage, windows: u64, next: Duration) -> Self {
        let at = Instant::now();
        Self {
            stage,
            windows,
            at,
            until: at + next.min(FOREVER) + GRACE,
            reload: Reload::default(),
        }
    }

    /// Why the pipeline is not live, if it is not.
    pub(crate) fn stalled(&self) -> Option<String> {
        let now = Instant::now();
        (now > self.until).then(|| {
            let since = (now - self.at).as_secs();
            format!("stalled: nothing moved for {since} s")
        })
    }

    /// Why the pipeline is not ready, if it is not.
    pub(crate) fn not_ready(&self) -> Option<String> {
        self.stalled().or_else(|| match self.stage {
            Stage::Measuring => None,
            _ => Some(self.status()),
        })
    }

    /// One line for people.
    pub(crate) fn status(&self) -> String {
        let refused = if self.reload.refused {
            "; the changed configuration was refused, that before is in force"
        } else {
            ""
        };
        self.progress() + refused
    }

    fn progress(&self) -> String {
        if let Some(stalled) = self.stalled() {
            return stalled;
        }
        match self.stage {
            Stage::Starting => "waiting for the first tick".to_owned(),
            Stage::Baseline => "baseline taken, the first window is being measured".to_owned(),
            Stage::Measuring => format!("measuring, {} windows so far", self.windows),
            Stage::Draining => "delivering what is left".to_owned(),
        }
    }
}

/// The end of the pulse that the pipeline holds. Who tells ends when all clones of it are gone.
#[derive(Debug, Clone)]
pub struct Pulse(watch::Sender<Beat>);

impl Default for Pulse {
    fn default() -> Self {
        let begin = Beat::new(Stage::Starting, 0, Duration::ZERO);
        Self(watch::Sender::new(begin))
    }
}

impl Pulse {
    /// The end for who tells; it learns of the pipeline's end, too.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Beat> {
        self.0.subscribe()
    }

    /// Says how far the pipeline is, and within what time it will say so again.
    pub(crate) fn beat(&self, stage: Stage, next: Duration) {
        self.0.send_modify(|beat| {
            let windows = beat.windows + u64::from(stage == Stage::Measuring);
            *beat = Beat {
                reload: beat.reload,
                ..Beat::new(stage, windows, next)
            };
        });
    }

    /// Says that nothing new is due before this time.
    pub(crate) fn put_off(&self, next: Duration) {
        self.0.send_modify(|beat| {
            *beat = Beat {
                reload: beat.reload,
                ..Beat::new(beat.stage, beat.windows, next)
            };
        });
    }

    /// Says that a reload begins.
    pub(crate) fn reloading(&self) {
        self.0.send_modify(|beat| {
            beat.reload.times += 1;
            beat.reload.lasts = true;
        });
    }

    /// Says how the reload ended.
    pub(crate) fn reloaded(&self, refused: bool) {
        self.0.send_modify(|beat| {
            beat.reload.lasts = false;
            beat.reload.refused = refused;
        });
    }
}

#[cfg(test)]
mod tests;
