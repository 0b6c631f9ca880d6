//! A TCP proxy between the probe and a broker, which a test can make mute or deaf.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// What the proxy does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Hands everything on.
    Open,
    /// Answers take a while.
    Slow,
    /// Nothing gets through, and nobody is told: a network that drops packets.
    Silent,
    /// Requests get through, answers do not.
    Mute,
    /// Closes what is open, and what comes in.
    Reset,
}

/// How long answers take.
const SLOW: Duration = Duration::from_millis(300);

/// It lives as long as the test program.
pub(crate) struct Proxy {
    mode: Arc<AtomicU8>,
    connections: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens at one address and hands on to another.
    ///
    /// # Panics
    /// The address is taken.
    pub(crate) fn start(from: &str, to: &str) -> Self {
        let listener = TcpListener::bind(from).expect("the address was kept for this");
        let mode = Arc::new(AtomicU8::new(Mode::Open as u8));
        let connections = Arc::new(AtomicU64::new(0));
        let to = to.to_owned();
        let (shared, count) = (Arc::clone(&mode), Arc::clone(&connections));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                if let Ok(server) = TcpStream::connect(&to) {
                    pump(&client, &server, &shared, false);
                    pump(&server, &client, &shared, true);
                }
            }
        });
        Self { mode, connections }
    }

    /// Changes what it does, at once.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// How many connections came in.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Hands on one direction in a thread of its own.
fn pump(from: &TcpStream, to: &TcpStream, mode: &Arc<AtomicU8>, answers: bool) {
    let mut from = from.try_clone().expect("a socket can be shared");
    let mut to = to.try_clone().expect("a socket can be shared");
    let mode = Arc::clone(mode);
    from.set_read_timeout(Some(Duration::from_millis(20)))
        .expect("a timeout that is not zero");
    thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let now = mode.load(Ordering::Relaxed);
            if now == Mode::Reset as u8 {
                break;
            }
            if now == Mode::Silent as u8 || now == Mode::Mute as u8 && answers {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => {
                    if now == Mode::Slow as u8 && answers {
                        thread::sleep(SLOW);
                    }
                    if to.write_all(&bytes[..read]).is_err() {
                        break;
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => break,
            }
        }
        // Gone already, perhaps.
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    });
}
