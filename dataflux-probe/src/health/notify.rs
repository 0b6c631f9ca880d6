//! The service manager's socket (sd_notify(3)): READY, RELOADING, STATUS, WATCHDOG and STOPPING as datagrams.

use std::{
    env,
    ffi::OsStr,
    io::ErrorKind,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep, timeout},
};

use super::{Beat, Reload, Stage};

/// How often the status is renewed where no watchdog sets the pace.
const WITHOUT_WATCHDOG: Duration = Duration::from_secs(30);

/// A manager that is behind with its datagrams is asked again after this, so many times.
const AGAIN: (Duration, u32) = (Duration::from_millis(100), 50);

/// A service manager that wants to know.
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How long it waits for a sign of life before it ends the probe.
    watchdog: Option<Duration>,
}

impl Notify {
    /// `None` if no service manager has started the probe.
    ///
    /// # Errors
    /// The environment names a socket that cannot be one.
    pub(super) fn from_environment() -> anyhow::Result<Option<Self>> {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let mine = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&time| mine && time > 0);
        let notify = Self::new(&path, watchdog.map(Duration::from_micros));
        notify
            .map(Some)
            .with_context(|| format!("NOTIFY_SOCKET={}", path.display()))
    }

    /// A path, or the name of an abstract socket behind an `@`.
    pub(super) fn new(path: &OsStr, watchdog: Option<Duration>) -> anyhow::Result<Self> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(path),
            _ => anyhow::bail!("neither an absolute path nor an abstract name"),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            address: address?,
            watchdog,
        })
    }

    /// Tells what the pipeline says until it is gone.
    pub(super) async fn run(self, mut beats: Receiver<Beat>) {
        let period = self.watchdog.map_or(WITHOUT_WATCHDOG, |time| time / 2);
        let (mut told, mut reload) = (Stage::Starting, Reload::default());
        let first = *beats.borrow();
        self.send(&(extend(&first) + &status(&first))).await;
        loop {
            let beat = *beats.borrow_and_update();
            let live = beat.stalled().is_none();
            // In a datagram of its own: it would be over with what else the message says.
            if beat.reload.times > reload.times {
                self.send(&reloading()).await;
            }
            let mut message = change(told, &beat);
            if reload.lasts != beat.reload.lasts || reload.times != beat.reload.times {
                message += if beat.reload.lasts { "" } else { "READY=1\n" };
            }
            (told, reload) = (beat.stage, beat.reload);
            if live && self.watchdog.is_some() {
                message += "WATCHDOG=1\n";
            }
            message += &status(&beat);
            self.send(&message).await;
            // The first tick after a stall is told at once. What a condition finds true already it does not wait for.
            let changed = async {
                if live {
                    let news = |beat: &Beat| beat.stage != told || beat.reload != reload;
                    let other = beats.wait_for(news).await;
                    other.map(drop)
                } else {
                    beats.changed().await
                }
            };
            if let Ok(Err(_gone)) = timeout(period, changed).await {
                return;
            }
        }
    }

    /// Failures are not told: there is nobody else to tell, and the manager acts on what is missing.
    async fn send(&self, message: &str) {
        let (pause, times) = AGAIN;
        for _ in 0..times {
            match self.socket.send_to_addr(message.as_bytes(), &self.address) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(pause).await,
                Err(error) => {
                    tracing::debug!("cannot tell the service manager: {error}");
                    return;
                }
                Ok(_) => return,
            }
        }
    }
}

/// With when it began, as the manager wants it (CLOCK_MONOTONIC, in us).
fn reloading() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    format!("RELOADING=1\nMONOTONIC_USEC={now}\n")
}

fn status(beat: &Beat) -> String {
    format!("STATUS={}\n", beat.status())
}

/// What a change of stage means to the manager. The baseline is enough to be ready: from there on nothing is lost.
fn change(told: Stage, beat: &Beat) -> String {
    match (told, beat.stage) {
        (Stage::Starting, Stage::Baseline | Stage::Measuring) => "READY=1\n".to_owned(),
        (Stage::Draining, _) => String::new(),
        (_, Stage::Draining) => "STOPPING=1\n".to_owned() + &extend(beat),
        _ => String::new(),
    }
}

/// Asks for as much time as a first tick that is far away, or a long drain, may need.
fn extend(beat: &Beat) -> String {
    let time = beat.until.saturating_duration_since(Instant::now());
    format!("EXTEND_TIMEOUT_USEC={}\n", time.as_micros())
}
