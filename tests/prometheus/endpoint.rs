//! What a scraper sees of a probe with troubles of its own.

use std::{fs, process::Command};

use dataflux_tests::probe::{Probe, until};

use super::http::{free_port, get};

/// The value of a series without labels, or with these.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

/// Scenario: a reader that hangs for ever.
/// Guarantees: scrapes are answered at once with all the others' series; the source says how it is; nothing is made up.
#[test]
fn a_scrape_never_waits_for_a_reader() {
    let port = free_port();
    let mut probe = Probe::prepare(&format!(
        "[probe]\ninterval = '200ms'\nproc = 'DIR/proc'\n[metrics.cpu]\n[metrics.memory]\n\
         [output.a]\nformatter = 'prometheus'\nlogger = 'prometheus'\nprometheus = {{ listen = '127.0.0.1:{port}' }}\n"
    ));
    fs::create_dir(probe.path("proc")).expect("the folder is writable");
    for name in ["meminfo", "vmstat"] {
        let path = probe.path(&format!("proc/{name}"));
        fs::copy(format!("/proc/{name}"), path).expect("the folder is writable");
    }
    // Opening it waits for somebody who writes, and nobody will.
    let pipe = Command::new("mkfifo").arg(probe.path("proc/stat")).status();
    assert!(pipe.is_ok_and(|status| status.success()));
    probe.restart();
    let text = until("metrics", || {
        get(port, "/metrics", "").filter(|(status, _)| *status == 200)
    });
    let text = text.1;
    assert_eq!(
        value(&text, "dataflux_source_status{reader=\"memory\"}"),
        Some(0.0),
        "{text}"
    );
    assert_eq!(
        value(&text, "dataflux_source_status{reader=\"cpu\"}"),
        Some(1.0),
        "{text}"
    );
    assert!(
        value(&text, "dataflux_memory_free_bytes").is_some(),
        "{text}"
    );
    assert!(!text.contains("dataflux_cpu_time"), "{text}");
    assert_eq!(
        get(port, "/health", "").map(|(status, _)| status),
        Some(200)
    );
    assert_eq!(get(port, "/ready", "").map(|(status, _)| status), Some(200));
    probe.stop();
    assert!(get(port, "/health", "").is_none(), "it goes with the probe");
}

/// Scenario: hundreds of scrapes between ticks, plain and compressed, and a file that makes no sense for a while.
/// Guarantees: scraping changes no value and keeps no memory; a reader that fails says so and loses its series until it is
/// read again.
#[test]
fn scrapes_change_nothing_and_a_failed_reader_shows() {
    let port = free_port();
    let mut probe = Probe::prepare(&format!(
        "[probe]\ninterval = '200ms'\nproc = 'DIR/proc'\n[metrics.memory]\n[metrics.probe]\n\
         [output.a]\nformatter = 'prometheus'\nlogger = 'prometheus'\nprometheus = {{ listen = '127.0.0.1:{port}' }}\n"
    ));
    fs::create_dir(probe.path("proc")).expect("the folder is writable");
    let put = |name: &str| {
        let path = probe.path(&format!("proc/{name}"));
        fs::copy(format!("/proc/{name}"), path).expect("the folder is writable");
    };
    put("meminfo");
    put("vmstat");
    let file = probe.path("proc/meminfo");
    let meminfo = fs::read(&file).expect("it was written");
    probe.restart();
    let metrics =
        |headers: &str| get(port, "/metrics", headers).filter(|(status, _)| *status == 200);
    let (_, first) = until("metrics", || metrics(""));
    let free = value(&first, "dataflux_memory_free_bytes");
    let rss = |text: &str| value(text, "dataflux_probe_rss_bytes").expect("the probe says");
    assert!(free.is_some(), "{first}");
    for round in 0..400 {
        let headers = ["", "Accept-Encoding: gzip\r\n"][round % 2];
        let (_, text) = metrics(headers).expect("it answers");
        assert!(round % 2 == 1 || value(&text, "dataflux_memory_free_bytes") == free);
    }
    let (_, later) = metrics("").expect("it answers");
    assert!(
        rss(&later) < rss(&first) + f64::from(16 << 20),
        "{first}\n{later}"
    );

    fs::write(&file, "nothing of it\n").expect("the folder is writable");
    until("the failure", || {
        let (_, text) = metrics("")?;
        let failed = value(&text, "dataflux_source_status{reader=\"memory\"}")? == 5.0;
        assert!(
            !failed || value(&text, "dataflux_memory_free_bytes").is_none(),
            "{text}"
        );
        failed.then_some(())
    });
    fs::write(&file, &meminfo).expect("the folder is writable");
    until("the file again", || {
        let (_, text) = metrics("")?;
        (value(&text, "dataflux_memory_free_bytes") == free).then_some(())
    });
    probe.stop();
}
