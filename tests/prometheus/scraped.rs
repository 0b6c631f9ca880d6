//! A real Prometheus scrapes the probe, and its query API gives what the envelopes of the same run say.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence,
};
use serde_json::Value;

use super::{
    expected::{self, Series},
    http::{encoded, free_port, get},
    unpacked,
};

/// A running server. Killed when dropped.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Prometheus {
    /// Scrapes this port every fifth of a second, with its files in the probe's folder.
    fn start(program: &std::path::Path, probe: &Probe, target: u16) -> Self {
        let config = probe.path("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\nscrape_configs:\n  - job_name: probe\n    \
             honor_labels: true\n    static_configs:\n      - targets: ['127.0.0.1:{target}']\n"
        );
        fs::write(&config, text).expect("the folder is writable");
        let port = free_port();
        let said = fs::File::create(probe.path("prometheus.log")).expect("the folder is writable");
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                probe.path("tsdb").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("Prometheus starts");
        Self { child, port }
    }

    /// What a query gives; nothing while it does not answer.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        let (status, body) = get(self.port, &path, "")?;
        let answer: Value = (status == 200).then(|| serde_json::from_str(&body).ok())??;
        answer["data"]["result"].as_array().cloned()
    }

    /// All samples of all series that a selector matches.
    fn samples(&self, selector: &str) -> Vec<(Series, Vec<f64>)> {
        let found = self.query(&format!("{selector}[1h]")).expect("it answers");
        let series = found.iter().map(|found| {
            let labels = found["metric"].as_object().expect("labels");
            let mut labels: BTreeMap<_, _> = labels
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()))
                .collect();
            let name = labels.remove("__name__").expect("a name");
            labels.remove("job");
            labels.remove("instance");
            if let Some(bound) = labels.get_mut("le") {
                let number: f64 = bound.replace("+Inf", "inf").parse().expect("a bound");
                *bound = number.to_string();
            }
            let number = |sample: &Value| {
                let text = sample[1].as_str().expect("a value");
                text.replace("Inf", "inf").parse().expect("a number")
            };
            let samples = found["values"].as_array().expect("samples");
            ((name, labels), samples.iter().map(number).collect())
        });
        series.collect()
    }
}

/// Scenario: a probe with every reader that this machine and this user allow, one output scraped by Prometheus for some
/// seconds, one with every window as JSON.
/// Guarantees: every scrape succeeds; every sample of every counter, gauge and histogram is exactly what the totals of some
/// window are, in their order; who the host is comes along.
#[test]
fn a_real_prometheus_has_the_totals_of_the_envelopes() {
    let Some(program) = unpacked("usr/bin/prometheus") else {
        return;
    };
    let port = free_port();
    let mut probe = Probe::start(&format!(
        "[probe]\ninterval = '200ms'\n[metadata.host]\n[metrics.block_io]\n[metrics.cpu]\n[metrics.disk]\n[metrics.interface]\n\
         [metrics.memory]\n[metrics.network]\n[metrics.probe]\n[metrics.scheduler]\n\
         [output.scraped]\nformatter = 'prometheus'\nlogger = 'prometheus'\nprometheus = {{ listen = '127.0.0.1:{port}' }}\n\
         [output.windows]\nformatter = 'json'\nlogger = 'file'\nzeros = 'keep'\n\
         file = {{ path = 'DIR/windows', roll_bytes = 0 }}\n"
    ));
    let prometheus = Prometheus::start(&program, &probe, port);
    until("ten scrapes with something in them", || {
        let count =
            prometheus.query("count_over_time(dataflux_source_status{reader=\"memory\"}[1h])")?;
        let count: f64 = count.first()?["value"][1].as_str()?.parse().ok()?;
        (count >= 10.0).then_some(())
    });
    // What was scraped before the first window is no success.
    let since_the_first = "min(up and on(instance) dataflux_source_status{reader=\"memory\"})";
    let up = prometheus.query(since_the_first).expect("it answers");
    assert_eq!(up[0]["value"][1], "1", "{up:?}");
    let target = prometheus.query("target_info").expect("it answers");
    let samples =
        prometheus.samples("{__name__=~\"dataflux_.+\",__name__!~\"dataflux_source_.+\"}");
    drop(prometheus);
    probe.stop();
    let envelopes = sequence::envelopes(&probe.path("windows"));
    let name = &envelopes[0]["header"]["host"]["name"];
    assert_eq!(&target[0]["metric"]["host_name"], name);

    let expected = expected::values(&envelopes);
    let (mut compared, mut kinds) = (0, BTreeMap::<&str, usize>::new());
    for (series, samples) in &samples {
        let Some(values) = expected.get(series) else {
            panic!("no envelope has {series:?}");
        };
        let mut values = &values[..];
        for sample in samples {
            let same = |value: &f64| value == sample || value.is_nan() && sample.is_nan();
            let Some(place) = values.iter().position(same) else {
                panic!("{series:?}: {sample} is not among {values:?}");
            };
            // One window may be scraped more than once: go on from the same place.
            values = &values[place..];
            compared += 1;
        }
        let kind = series.0.rsplit('_').next().unwrap_or_default();
        *kinds.entry(kind).or_default() += 1;
    }
    assert!(samples.len() > 50 && compared > 500, "{kinds:?}");
    assert!(kinds["total"] > 20, "{kinds:?}");
    let histograms = envelopes.iter().any(|envelope| {
        let text = envelope.to_string();
        text.contains("\"kind\":\"histogram\"")
    });
    assert_eq!(histograms, kinds.contains_key("bucket"), "{kinds:?}");
    let log = fs::read_to_string(probe.path("prometheus.log")).expect("it is there");
    let complaints: Vec<_> = log
        .lines()
        .filter(|line| line.contains("level=warn") || line.contains("level=error"))
        .filter(|line| line.contains("scrape") || line.contains("sample"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
