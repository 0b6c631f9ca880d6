//! What a service manager hears of a scripted pulse.

use std::{
    io::ErrorKind,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    sync::mpsc,
};

use tokio::time::sleep;

use super::{notify::Notify, *};

const SECOND: Duration = Duration::from_secs(1);

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// What has arrived since the last time, one line after the other.
    fn heard(&self) -> String {
        let mut all = String::new();
        let mut datagram = [0; 4096];
        loop {
            match self.0.recv(&mut datagram) {
                Ok(length) => all += std::str::from_utf8(&datagram[..length]).unwrap(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn heard_times(&self, line: &str) -> usize {
        self.heard().lines().filter(|&heard| heard == line).count()
    }
}

#[tokio::test(start_paused = true)]
async fn the_manager_hears_of_a_reload_and_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let notify = Notify::new(path.as_os_str(), None).unwrap();
    let pulse = Pulse::default();
    pulse.beat(Stage::Measuring, 3600 * SECOND);
    let telling = tokio::spawn(notify.run(pulse.watch()));
    sleep(SECOND).await;
    assert!(!manager.heard().contains("RELOADING"));
    pulse.reloading();
    sleep(SECOND).await;
    let heard = manager.heard();
    assert!(heard.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard}");
    assert!(!heard.contains("READY"), "{heard}");
    pulse.put_off(3600 * SECOND);
    pulse.reloaded(true);
    sleep(SECOND).await;
    let heard = manager.heard();
    assert!(
        heard.starts_with("READY=1\n") && heard.contains("was refused"),
        "{heard}"
    );

    // So quick that both are seen at once.
    pulse.reloading();
    pulse.reloaded(false);
    pulse.beat(Stage::Measuring, 3600 * SECOND);
    sleep(SECOND).await;
    let heard = manager.heard();
    let order = ["RELOADING=1", "READY=1"].map(|word| heard.find(word));
    assert!(order[0] == Some(0) && order[0] < order[1], "{heard}");
    assert!(heard.contains("measuring, 2 windows so far\n"), "{heard}");
    drop(pulse);
    telling.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_manager_hears_of_every_stage_and_of_a_stall() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let notify = Notify::new(path.as_os_str(), Some(20 * SECOND)).unwrap();
    let pulse = Pulse::default();
    pulse.beat(Stage::Starting, 3600 * SECOND);
    let telling = tokio::spawn(notify.run(pulse.watch()));
    sleep(SECOND).await;
    let heard = manager.heard();
    assert!(!heard.contains("READY"), "{heard}");
    assert!(heard.contains("STATUS=waiting for the first tick\n"));
    // An hour and the grace, less the second that passed or not.
    let line = heard
        .lines()
        .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    let extended = Duration::from_micros(line.unwrap().parse().unwrap());
    assert!(extended > 3600 * SECOND, "{extended:?}");

    pulse.beat(Stage::Baseline, 60 * SECOND);
    sleep(SECOND).await;
    assert_eq!(manager.heard_times("READY=1"), 1);
    sleep(59 * SECOND).await;
    // Every half of 20 s.
    let signs = manager.heard_times("WATCHDOG=1");
    assert!((5..=6).contains(&signs), "{signs}");

    // The next tick is due now, and late by more than the grace.
    sleep(30 * SECOND).await;
    manager.heard();
    sleep(60 * SECOND).await;
    let heard = manager.heard();
    assert!(!heard.contains("WATCHDOG"), "{heard}");
    assert!(
        heard.contains("STATUS=stalled: nothing moved for "),
        "{heard}"
    );

    pulse.beat(Stage::Measuring, SECOND);
    sleep(Duration::from_millis(1)).await;
    let heard = manager.heard();
    assert!(heard.contains("WATCHDOG=1\n"), "a sign at once: {heard}");
    assert!(
        heard.contains("STATUS=measuring, 1 windows so far\n"),
        "{heard}"
    );
    assert!(!heard.contains("READY"), "told once: {heard}");

    pulse.beat(Stage::Draining, 5 * SECOND);
    sleep(Duration::from_millis(1)).await;
    let heard = manager.heard();
    assert!(
        heard.contains("STOPPING=1\nEXTEND_TIMEOUT_USEC="),
        "{heard}"
    );
    drop(pulse);
    telling.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_told_every_half_of_the_watchdogs_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let notify = Notify::new(path.as_os_str(), Some(20 * SECOND)).unwrap();
    let pulse = Pulse::default();
    pulse.beat(Stage::Measuring, SECOND);
    let telling = tokio::spawn(notify.run(pulse.watch()));
    sleep(GRACE + 5 * SECOND).await;
    manager.heard();
    let mut told = 0;
    // A manager that takes every datagram at once.
    for _ in 0..600 {
        sleep(SECOND / 10).await;
        let heard = manager.heard();
        told += heard.matches("STATUS=stalled").count();
    }
    assert!((5..=7).contains(&told), "{told}");
    drop(pulse);
    telling.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_end_before_the_first_tick_is_no_readiness() {
    let name = format!("dataflux-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager(UnixDatagram::bind_addr(&address).unwrap());
    manager.0.set_nonblocking(true).unwrap();
    let notify = Notify::new(format!("@{name}").as_ref(), None).unwrap();
    let pulse = Pulse::default();
    let watched = pulse.watch();
    pulse.beat(Stage::Draining, SECOND);
    drop(pulse);
    notify.run(watched).await;
    let heard = manager.heard();
    assert!(heard.contains("STOPPING=1\n"), "{heard}");
    assert!(
        !heard.contains("READY") && !heard.contains("WATCHDOG"),
        "{heard}"
    );
}

#[test]
fn a_stuck_async_thread_gives_no_sign_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let watchdog = Duration::from_millis(40);
    let notify = Notify::new(path.as_os_str(), Some(watchdog)).unwrap();
    let (stuck, is_stuck) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let pulse = Pulse::default();
            pulse.beat(Stage::Measuring, 3600 * SECOND);
            let telling = tokio::spawn(notify.run(pulse.watch()));
            sleep(10 * watchdog).await;
            stuck.send(()).unwrap();
            // As a formatter would that never ends.
            held.recv().unwrap_err();
            drop(pulse);
            telling.await.unwrap();
        });
    });
    is_stuck.recv().unwrap();
    assert!(manager.heard_times("WATCHDOG=1") > 0);
    std::thread::sleep(10 * watchdog);
    assert_eq!(manager.heard(), "");
    drop(release);
    thread.join().unwrap();
}

#[test]
fn a_socket_that_cannot_be_one_is_an_error() {
    for name in ["", "run/notify", "vsock:2:1"] {
        assert!(Notify::new(name.as_ref(), None).is_err(), "{name}");
    }
}
