//! What service managers hear of a running probe: systemd's socket, HTTP, the health file.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    process::Command,
    time::{Duration, Instant},
};

use dataflux_tests::probe::{self, PATIENCE, Probe, until};

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    heard: String,
}

impl Manager {
    /// The probe starts with this manager's environment.
    fn of(probe: &mut Probe, watchdog: Duration) -> Self {
        let path = probe.path("notify");
        let socket = UnixDatagram::bind(&path).expect("the folder is writable");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket can wait");
        probe.start_under(&[
            "env",
            &format!("NOTIFY_SOCKET={}", path.display()),
            &format!("WATCHDOG_USEC={}", watchdog.as_micros()),
        ]);
        Self {
            socket,
            heard: String::new(),
        }
    }

    /// Listens until a line was heard once more, and gives everything up to it.
    fn hear(&mut self, line: &str) -> String {
        let begin = Instant::now();
        loop {
            let lines: Vec<_> = self.heard.split_inclusive('\n').collect();
            if let Some(at) = lines.iter().position(|heard| heard.starts_with(line)) {
                let so_far = lines[..=at].concat();
                self.heard.drain(..so_far.len());
                return so_far;
            }
            assert!(begin.elapsed() < PATIENCE, "no {line} in {}", self.heard);
            let mut datagram = [0; 4096];
            let length = self.socket.recv(&mut datagram).expect("the probe talks");
            self.heard += std::str::from_utf8(&datagram[..length]).expect("ASCII");
        }
    }
}

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Status code and body.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: probe\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.rsplit("\r\n").next()?.trim().to_owned()))
}

/// Exit code and what was said.
fn health(probe: &Probe, more: &[&str]) -> (Option<i32>, String) {
    let file = probe.path("health").display().to_string();
    let output = probe::run(&[&["health", "--file", &file], more].concat());
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.code(), said)
}

/// Scenario: a probe with a reader that hangs for ever and a Kafka that is not there, under a service manager with a watchdog.
/// Guarantees: READY comes after the first tick, signs of life go on, STOPPING comes with SIGTERM; HTTP and file agree.
#[test]
fn a_hanging_reader_and_an_absent_kafka_do_not_end_the_signs_of_life() {
    let (port, nobody) = (free_port(), free_port());
    let mut probe = Probe::prepare(&format!(
        "[probe]\ninterval = '200ms'\nproc = 'DIR/proc'\ndrain = '100ms'\n\
         [health]\nlisten = '127.0.0.1:{port}'\nfile = 'DIR/health'\n\
         [metrics.cpu]\n[metrics.memory]\n[output.a]\nformatter = 'json'\nlogger = 'kafka'\n\
         kafka = {{ brokers = ['127.0.0.1:{nobody}'], topic = 'none' }}\n"
    ));
    fs::create_dir(probe.path("proc")).expect("the folder is writable");
    for name in ["meminfo", "vmstat"] {
        let path = probe.path(&format!("proc/{name}"));
        fs::copy(format!("/proc/{name}"), path).expect("the folder is writable");
    }
    // Opening it waits for somebody who writes, and nobody will.
    let pipe = Command::new("mkfifo").arg(probe.path("proc/stat")).status();
    assert!(pipe.is_ok_and(|status| status.success()));
    assert_eq!(health(&probe, &[]).0, Some(1), "no probe, no life");

    let mut manager = Manager::of(&mut probe, Duration::from_millis(500));
    probe.restart();
    let before = manager.hear("READY=1");
    assert!(
        before.contains("STATUS=waiting for the first tick\n"),
        "{before}"
    );
    let ready = || get(port, "/ready").filter(|(status, _)| *status == 200);
    let (_, said) = until("the first window", ready);
    assert!(said.starts_with("measuring, "), "{said}");
    for _ in 0..20 {
        manager.hear("WATCHDOG=1");
    }
    assert_eq!(get(port, "/live").map(|(status, _)| status), Some(200));
    assert_eq!(get(port, "/").map(|(status, _)| status), Some(404));
    until("the file", || {
        (health(&probe, &["--ready"]) == (Some(0), "ready".into())).then_some(())
    });
    assert_eq!(health(&probe, &[]), (Some(0), "live".to_owned()));

    probe.stop();
    manager.hear("STOPPING=1");
    assert!(
        !probe.path("health").exists(),
        "the file goes with the probe"
    );
}

/// Scenario: more clients than are answered at once, and none of them sends a whole request.
/// Guarantees: they are cut off, and who asks properly is answered.
#[test]
fn slow_clients_are_cut_off() {
    let port = free_port();
    let mut probe = Probe::start(&format!(
        "[probe]\ninterval = '100ms'\n[health]\nlisten = '127.0.0.1:{port}'\n\
         [metrics.memory]\n[output.a]\nformatter = 'json'\nlogger = 'stdout'\n"
    ));
    until("an answer", || get(port, "/live"));
    let mut slow: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            stream.write_all(b"GET /live HT").expect("it is connected");
            stream
        })
        .collect();
    let answer = until("an answer", || get(port, "/live"));
    assert_eq!(answer.0, 200);
    for stream in &mut slow {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket can wait");
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
    probe.stop();
}

/// Scenario: the port of `[health]` is taken, and its file is in no folder.
/// Guarantees: both are told, and the probe measures all the same.
#[test]
fn a_taken_port_and_a_missing_folder_do_not_stop_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it is bound");
    let mut probe = Probe::start(&format!(
        "[probe]\ninterval = '100ms'\n[health]\nlisten = '{address}'\nfile = 'DIR/none/health'\n\
         [metrics.memory]\n[output.a]\nformatter = 'json'\nlogger = 'file'\nfile = {{ path = 'DIR/out' }}\n"
    ));
    until("envelopes", || {
        fs::read_to_string(probe.path("out"))
            .is_ok_and(|text| text.lines().count() > 3)
            .then_some(())
    });
    let said = probe.stop().diagnostics;
    assert!(
        said.contains(&format!("health: cannot listen on {address}: ")),
        "{said}"
    );
    assert_eq!(
        said.matches("health file: cannot write ").count(),
        1,
        "{said}"
    );
}
