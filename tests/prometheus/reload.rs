//! What a scraper sees of reloads.

use std::{collections::BTreeMap, net::TcpListener};

use dataflux_tests::probe::{Probe, until};

use super::http::{free_port, get};

/// With one output, at this port.
fn config(port: u16, more: &str) -> String {
    format!(
        "[probe]\ninterval = '200ms'\n[metrics.cpu]\n[output.a]\nformatter = 'prometheus'\nlogger = 'prometheus'\n\
         prometheus.listen = '127.0.0.1:{port}'\n{more}"
    )
}

/// The series of `cpu`, each with its total.
fn times(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines();
    let totals = lines.filter(|line| line.starts_with("dataflux_cpu_time_seconds_total{"));
    let totals = totals.filter_map(|line| line.rsplit_once(' '));
    let number = |text: &str| text.parse().expect("a number");
    totals
        .map(|(series, total)| (series.to_owned(), number(total)))
        .collect()
}

/// The totals of a scrape that works.
fn scrape(port: u16) -> Option<BTreeMap<String, f64>> {
    let (_, text) = get(port, "/metrics", "").filter(|(status, _)| *status == 200)?;
    Some(times(&text)).filter(|times| !times.is_empty())
}

fn sum(times: &BTreeMap<String, f64>) -> f64 {
    times.values().sum()
}

/// All series are there, and none has fallen.
fn check(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) {
    for (series, total) in before {
        assert!(
            now.get(series) >= Some(total),
            "{series} was {total}: {now:?}"
        );
    }
}

/// Scenario: reloads that add and take away another reader, and one with a mistake, under constant scraping.
/// Guarantees: every scrape is answered with all series of the reader that stays, and none falls.
#[test]
fn totals_go_on_over_a_reload_that_is_about_others() {
    let port = free_port();
    let mut probe = Probe::start(&config(port, ""));
    let first = until("metrics", || scrape(port));
    let mut last = first.clone();
    for (more, expected) in [
        ("[metrics.load]\n", "new metrics.load"),
        ("[metrics.laod]\n", "not reloaded"),
        ("", "gone metrics.load"),
    ] {
        let told = probe.reload(&config(port, more));
        assert!(told.contains(expected), "{told}");
        let begin = sum(&last);
        until("newer totals", || {
            let now = scrape(port).expect("it is answered at any time");
            check(&last, &now);
            last = now;
            (sum(&last) > begin).then_some(())
        });
    }
    check(&first, &last);
    probe.stop();
}

/// Scenario: the output itself changes: with its port kept, with another port, with one that somebody else has, until that
/// goes away.
/// Guarantees: the port that is in the file answers, and no other; one that is taken is told with the reason and tried again;
/// counters have fallen at no time.
#[test]
fn an_output_that_is_changed_goes_on_at_its_port() {
    let [port, other] = [free_port(), free_port()];
    let mut probe = Probe::start(&config(port, ""));
    let mut last = until("metrics", || scrape(port));
    let change = |port: u16, more: &str| {
        let told = probe.reload(&config(port, more));
        assert!(told.ends_with("changed output.a"), "{told}");
    };
    let goes_on = |port: u16, last: &mut BTreeMap<String, f64>| {
        let now = until("the port", || scrape(port));
        check(last, &now);
        *last = now;
    };
    change(port, "queue_bytes = '8MiB'\n");
    goes_on(port, &mut last);

    change(other, "");
    goes_on(other, &mut last);
    assert!(get(port, "/health", "").is_none(), "the old port is closed");

    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let third = taken.local_addr().expect("it is bound").port();
    change(third, "");
    let reason = format!("listening on 127.0.0.1:{third}: Address already in use");
    until("the reason", || {
        let told = probe.diagnostics();
        told.lines()
            .any(|line| line.contains("cannot deliver") && line.contains(&reason))
            .then_some(())
    });
    assert!(
        get(other, "/health", "").is_none(),
        "the old port is closed"
    );
    drop(taken);
    goes_on(third, &mut last);
    until("the word that it works", || {
        probe.diagnostics().contains("delivers again").then_some(())
    });
    probe.stop();
}
