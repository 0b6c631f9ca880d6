//! The health file: says until when the probe is live, for probes that run a program, and how it is judged.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch::Receiver, task::spawn_blocking, time::Instant, time::sleep};

use super::{Beat, Stage};

/// It is written with every tick, but not more often.
const PAUSE: Duration = Duration::from_secs(1);

/// What the file holds, as one JSON object.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    stage: String,
    windows: u64,
    /// On CLOCK_MONOTONIC, which nobody sets; a file that outlives a reboot is mostly of the future.
    written_ns: u64,
    /// On the same clock.
    live_until_ns: u64,
}

/// The file, and whether it could be written the last time.
#[derive(Debug)]
pub(super) struct HealthFile {
    path: PathBuf,
    failed: bool,
}

impl HealthFile {
    /// Writes it for the first time, so that a start that hangs is noticed as well.
    pub(super) fn open(path: PathBuf, beat: &Beat) -> Self {
        let mut file = Self {
            path,
            failed: false,
        };
        let written = write(&file.path, &content(beat));
        file.note(written);
        file
    }

    /// Renews it until the pipeline is gone, then removes it. Off the async thread: its disk may hang.
    pub(super) async fn run(mut self, mut beats: Receiver<Beat>) {
        while beats.changed().await.is_ok() {
            let beat = *beats.borrow_and_update();
            let (path, content) = (self.path.clone(), content(&beat));
            let written = spawn_blocking(move || write(&path, &content)).await;
            self.note(written.map_err(anyhow::Error::from).flatten());
            let stage = beat.stage;
            tokio::select! {
                () = sleep(PAUSE) => {}
                // The end is waited for above, where it is told.
                changed = beats.wait_for(|beat| beat.stage != stage) => drop(changed),
            }
        }
        // One that was never written cannot be removed.
        drop(fs::remove_file(&self.path));
    }

    /// Says once that it cannot be written, and once that it can again.
    fn note(&mut self, written: anyhow::Result<()>) {
        match &written {
            Err(error) if !self.failed => tracing::warn!("health file: {error:#}; trying again"),
            Ok(()) if self.failed => tracing::info!("health file: can be written again"),
            _ => {}
        }
        self.failed = written.is_err();
    }
}

fn content(beat: &Beat) -> Content {
    let (now, left) = (
        monotonic(),
        beat.until.saturating_duration_since(Instant::now()),
    );
    Content {
        stage: beat.stage.word().to_owned(),
        windows: beat.windows,
        written_ns: nanoseconds(now),
        live_until_ns: nanoseconds(now + left),
    }
}

/// Who reads it sees the old or the new one whole.
fn write(path: &Path, content: &Content) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut text = serde_json::to_string(content)?;
    text.push('\n');
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What a health file means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Why the probe is not live, if it is not.
    pub not_live: Option<String>,
    /// Why it is not ready, if it is not.
    pub not_ready: Option<String>,
}

/// Judges a health file. One that is missing or damaged is of a probe that is not live.
#[must_use]
pub fn judge(path: &Path) -> Judgement {
    let not_live = |reason: String| Judgement {
        not_ready: Some(reason.clone()),
        not_live: Some(reason),
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return not_live(format!("{}: no probe writes it", path.display()));
        }
        Err(error) => return not_live(format!("{}: {error}", path.display())),
    };
    match serde_json::from_str::<Content>(&text) {
        Ok(content) => judge_content(&content, nanoseconds(monotonic())),
        Err(error) => not_live(format!("{}: not a health file: {error}", path.display())),
    }
}

fn judge_content(content: &Content, now: u64) -> Judgement {
    let not_live = if now < content.written_ns {
        Some("from before the machine was started".to_owned())
    } else if now > content.live_until_ns {
        let since = Duration::from_nanos(now - content.live_until_ns).as_secs();
        Some(format!("stalled: overdue for {since} s"))
    } else {
        None
    };
    let measuring = content.stage == Stage::Measuring.word();
    let not_ready = (!measuring).then(|| format!("not measuring: {}", content.stage));
    Judgement {
        not_ready: not_live.clone().or(not_ready),
        not_live,
    }
}

fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(stage: Stage) -> Content {
        Content {
            stage: stage.word().to_owned(),
            windows: 3,
            written_ns: 2_000_000_000,
            live_until_ns: 5_000_000_000,
        }
    }

    fn judged(stage: Stage, seconds: u64) -> (Option<String>, Option<String>) {
        let judgement = judge_content(&content(stage), seconds * 1_000_000_000);
        (judgement.not_live, judgement.not_ready)
    }

    #[test]
    fn it_is_worth_something_until_its_time_and_its_boot_are_over() {
        assert_eq!(judged(Stage::Measuring, 5), (None, None));
        let starting = judged(Stage::Starting, 5);
        assert_eq!(starting, (None, Some("not measuring: starting".into())));
        let stalled = Some("stalled: overdue for 3 s".to_owned());
        assert_eq!(judged(Stage::Measuring, 8), (stalled.clone(), stalled));
        let (not_live, _) = judged(Stage::Measuring, 1);
        assert!(not_live.is_some());
    }

    #[test]
    fn a_missing_and_a_damaged_file_are_of_no_live_probe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health");
        assert!(
            judge(&path)
                .not_live
                .unwrap()
                .ends_with("no probe writes it")
        );
        fs::write(&path, "{\"stage\":").unwrap();
        assert!(judge(&path).not_live.unwrap().contains("not a health file"));
        let future = Content {
            written_ns: u64::MAX,
            ..content(Stage::Measuring)
        };
        write(&path, &future).unwrap();
        assert_eq!(
            judge(&path).not_live.unwrap(),
            "from before the machine was started"
        );
    }
}
