//! The endpoint, asked over real connections.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
};

use flate2::read::GzDecoder;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::{
    health::{Pulse, Stage},
    loggers::contract::payload,
};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// An endpoint at work on a thread of its own.
struct Bench {
    logger: Prometheus,
    address: SocketAddr,
    pulse: Pulse,
}

impl Bench {
    fn start() -> Self {
        let mut logger = Prometheus {
            address: "127.0.0.1:0".parse().unwrap(),
            listener: None,
            pages: Arc::default(),
        };
        logger.open().unwrap();
        let address = logger.listener.as_ref().unwrap().local_addr().unwrap();
        let pulse = Pulse::default();
        let beats = pulse.watch();
        let serving = logger.serve(beats).unwrap();
        // Ends with the test program.
        thread::spawn(|| runtime().block_on(serving));
        Self {
            logger,
            address,
            pulse,
        }
    }

    fn send(&mut self, content_type: &'static str, bytes: &str) {
        let mut payload = payload(bytes.to_owned());
        payload.content_type = content_type;
        runtime().block_on(self.logger.send(payload)).unwrap();
    }

    /// Sends these bytes and gives all that is answered.
    fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        // Who answers before it has read everything may be gone already.
        drop(stream.write_all(request));
        drop(stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        answer
    }

    /// Status, headers in lower case, body.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: probe\r\n{headers}\r\n");
        let answer = self.raw(request.as_bytes());
        let end = answer
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap()
            + 4;
        let head = String::from_utf8(answer[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end..].to_vec())
    }
}

#[test]
fn a_scraper_gets_the_format_that_it_asks_for() {
    let mut bench = Bench::start();
    assert_eq!(bench.ask("GET", "/metrics", "").0, 503);
    bench.send(TEXT, "text 1\n");
    bench.send(OPEN_METRICS, "open 1\n# EOF\n");
    let (status, head, body) = bench.ask("GET", "/metrics", "");
    assert_eq!((status, &*body), (200, &b"text 1\n"[..]));
    assert!(
        head.contains(&format!("content-type: {TEXT}\r\n")),
        "{head}"
    );
    assert!(head.contains("content-length: 7\r\n"), "{head}");
    assert!(head.contains("vary: accept, accept-encoding\r\n"), "{head}");
    let wish = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let (_, head, body) = bench.ask("GET", "/metrics", wish);
    assert_eq!(body, b"open 1\n# EOF\n");
    assert!(
        head.contains(&format!("content-type: {OPEN_METRICS}\r\n")),
        "{head}"
    );
    // The newest, and of each kind one.
    bench.send(TEXT, "text 2\n");
    assert_eq!(bench.ask("GET", "/metrics?a=b", "").2, b"text 2\n");
    assert_eq!(bench.logger.pages.lock().len(), 2);
}

#[test]
fn gzip_is_for_those_who_take_it() {
    let mut bench = Bench::start();
    let text = "dataflux_cpu_time_seconds_total{mode=\"user\"} 12\n".repeat(20_000);
    bench.send(TEXT, &text);
    for _ in 0..2 {
        let (_, head, body) = bench.ask("GET", "/metrics", "Accept-Encoding: br, gzip;q=0.3\r\n");
        assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
        assert!(body.len() < text.len() / 10);
        let mut plain = String::new();
        GzDecoder::new(&*body).read_to_string(&mut plain).unwrap();
        assert!(plain == text);
    }
    for unwanted in [
        "",
        "Accept-Encoding: gzip;q=0\r\n",
        "Accept-Encoding: identity\r\n",
    ] {
        let (_, head, body) = bench.ask("GET", "/metrics", unwanted);
        assert!(!head.contains("content-encoding"), "{head}");
        assert!(body == text.as_bytes());
    }
}

#[test]
fn every_path_and_method_has_its_answer() {
    let mut bench = Bench::start();
    assert_eq!(bench.ask("GET", "/health", "").0, 200);
    assert_eq!(bench.ask("GET", "/ready", "").0, 503);
    bench.pulse.beat(Stage::Measuring, Duration::from_secs(1));
    assert_eq!(bench.ask("GET", "/ready", "").0, 503, "no totals yet");
    bench.send(TEXT, "text 1\n");
    assert_eq!(bench.ask("GET", "/ready", "").0, 200);
    let (status, head, body) = bench.ask("HEAD", "/metrics", "");
    assert_eq!((status, body.len()), (200, 0));
    assert!(head.contains("content-length: 7\r\n"), "{head}");
    for path in ["/", "/metric", "/metrics/", "//metrics", "/live"] {
        assert_eq!(bench.ask("GET", path, "").0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let (status, head, _) = bench.ask(method, "/metrics", "Content-Length: 0\r\n");
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: get, head\r\n"), "{head}");
    }
}

#[test]
fn garbage_is_refused_and_harms_nobody() {
    let mut bench = Bench::start();
    bench.send(TEXT, "text 1\n");
    let mut requests: Vec<Vec<u8>> = [
        &b"\r\n\r\n\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nAccept: \xff\xfe\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET http://[::1/metrics HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ]
    .map(<[u8]>::to_vec)
    .into();
    let long = "a".repeat(1 << 20);
    requests.push(format!("GET /{long} HTTP/1.1\r\n\r\n").into_bytes());
    requests.push(format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n").into_bytes());
    requests.push(
        b"GET / HTTP/1.1\r\n"
            .iter()
            .copied()
            .chain(b"a: b\r\n".repeat(100_000))
            .collect(),
    );
    for request in requests {
        let answer = bench.raw(&request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let good = answer.starts_with(b"HTTP/1.1 200");
        assert!(!good || shown.contains("Accept"), "{shown}");
        assert_eq!(bench.ask("GET", "/metrics", "").0, 200, "after {shown}");
    }
}

#[test]
fn many_scrape_at_once_and_slow_ones_hold_up_nobody_for_long() {
    let mut bench = Bench::start();
    let text = "x 1\n".repeat(1 << 20);
    bench.send(TEXT, &text);
    // More than are answered at once: half of them never ask, half never read.
    let slow: Vec<_> = (0..LIMITS.connections + 4)
        .map(|place| {
            let mut stream = TcpStream::connect(bench.address).unwrap();
            if place % 2 == 0 {
                stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
            } else {
                stream.write_all(b"GET /metr").unwrap();
            }
            stream
        })
        .collect();
    thread::scope(|scope| {
        let scrapers: Vec<_> = (0..24)
            .map(|_| scope.spawn(|| bench.ask("GET", "/metrics", "").2.len()))
            .collect();
        for scraper in scrapers {
            assert_eq!(scraper.join().unwrap(), text.len());
        }
    });
    for mut stream in slow.into_iter().skip(1).step_by(2) {
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        let mut answer = Vec::new();
        // The end, or a reset by who has cut it off; never an answer.
        drop(stream.read_to_end(&mut answer));
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn a_taken_port_is_no_end_and_both_claims_are_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut logger = Prometheus {
        address,
        listener: None,
        pages: Arc::default(),
    };
    assert!(matches!(logger.open(), Err(SendError::Retry(_))));
    drop(taken);
    logger.open().unwrap();
    assert_eq!(logger.claims(), [format!("TCP port {}", address.port())]);
}

fn choose(accept: &str) -> &'static str {
    let types = [TEXT, OPEN_METRICS];
    types[negotiation::choose([accept].into_iter(), types.into_iter()).unwrap()]
}

#[test]
fn the_best_format_by_the_rules_of_http() {
    for (accept, expected) in [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/*;q=0.1, application/*", OPEN_METRICS),
        ("text/html, image/png", TEXT),
        ("application/openmetrics-text", OPEN_METRICS),
        (
            "APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"; q=0.2, text/plain;q=0.1",
            OPEN_METRICS,
        ),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.6",
            TEXT,
        ),
        ("application/openmetrics-text;q=0,*/*;q=0.1", TEXT),
        ("text/plain;q=0, */*;q=0.1", OPEN_METRICS),
        (
            "text/plain;version=0.0.4;q=0.3,text/plain;q=1,application/openmetrics-text;q=0.5",
            OPEN_METRICS,
        ),
        // Prometheus 2.42 and 3.5.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OPEN_METRICS,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPEN_METRICS,
        ),
    ] {
        assert_eq!(choose(accept), expected, "{accept}");
    }
}

proptest! {
    #[test]
    fn any_header_is_borne(accept in ".*", others in "[a-z/*;,=q.0-9 \"]{0,80}") {
        for accept in [&accept, &others] {
            let types = [TEXT, OPEN_METRICS];
            prop_assert!(negotiation::choose([&**accept].into_iter(), types.into_iter()).is_some());
            negotiation::takes_gzip([&**accept].into_iter());
        }
    }
}
