//! What is written, judged by promtool and by Python's client library.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use dataflux_probe::{
    config::{Config, Registries},
    model::{
        Buckets, Envelope, Health, Kind, Metadata, Metric, Numbered, Part, Source, Stream, Value,
        Window,
    },
};
use dataflux_tests::probe::{Probe, until};

use super::{
    http::{free_port, get},
    unpacked,
};

const OPEN_METRICS: &str = "Accept: application/openmetrics-text;version=1.0.0\r\n";

/// Prints how many families and samples it finds, in either format.
const COUNT: &str = "
import sys
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
read = openmetrics if sys.argv[1] == 'openmetrics' else parser
families = list(read.text_string_to_metric_families(sys.stdin.read()))
print(len(families), sum(len(family.samples) for family in families))
";

/// Its exit code and all that it says.
fn run(command: &mut Command, input: &str) -> (Option<i32>, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may end before it has read everything.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), said)
}

/// Numbers of families and samples by a parser that is not ours.
fn count(format: &str, text: &str) -> Option<(usize, usize)> {
    let packages = unpacked("usr/lib/python3/dist-packages")?;
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", packages)
        .args(["-B", "-c", COUNT, format]);
    let (code, said) = run(&mut python, text);
    assert_eq!(code, Some(0), "{format}: {said}");
    let (families, samples) = said.trim().split_once(' ').expect("two numbers");
    let number = |text: &str| text.parse().expect("a number");
    Some((number(families), number(samples)))
}

/// promtool has nothing to say of it, its style included.
fn judge(text: &str) {
    if let Some(promtool) = unpacked("usr/bin/promtool") {
        let said = run(Command::new(promtool).args(["check", "metrics"]), text);
        assert_eq!(said, (Some(0), String::new()));
    }
}

/// Neither a comment nor empty.
fn samples(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// Scenario: a probe with every reader that is built in, asked in both formats.
/// Guarantees: promtool finds nothing wrong with the text, and another parser reads as many samples in either as there are.
#[test]
fn what_the_real_program_writes_is_good_for_others() {
    let port = free_port();
    let readers: String = Registries::BUILT_IN
        .metrics
        .iter()
        .map(|plugin| format!("[metrics.{}]\n", plugin.name))
        .collect();
    let mut probe = Probe::start(&format!(
        "[probe]\ninterval = '200ms'\n[metadata.host]\n[metadata.os]\n{readers}\n\
         [output.scraped]\nformatter = 'prometheus'\nlogger = 'prometheus'\nprometheus = {{ listen = '127.0.0.1:{port}' }}\n"
    ));
    let metrics = |headers: &str| {
        until("metrics", || {
            get(port, "/metrics", headers).filter(|(status, _)| *status == 200)
        })
    };
    let (_, text) = metrics("");
    judge(&text);
    let (_, open) = metrics(OPEN_METRICS);
    assert!(open.ends_with("\n# EOF\n"), "{open}");
    for (format, text) in [("text", &text), ("openmetrics", &open)] {
        if let Some((families, read)) = count(format, text) {
            assert!(families > 20, "{families}");
            assert_eq!(read, samples(text), "{format}");
        }
    }
    probe.stop();
}

/// Scenario: a series of every metric that is defined, whatever this machine has.
/// Guarantees: as before.
#[test]
fn every_metric_that_there_is_has_a_good_name_and_a_good_form() {
    let metric = |def: &'static dataflux_probe::model::MetricDef| Metric {
        def,
        entity: None,
        entity_id: None,
        entity_name: None,
        labels: def.labels.iter().map(|_| "value \"\\\n".into()).collect(),
        value: match def.kind {
            Kind::Counter { .. } => Value::Counter {
                value: Some(1),
                total: u64::MAX,
            },
            Kind::Gauge => Value::Gauge {
                value: -1.5,
                min: -1.5,
                max: -1.5,
            },
            Kind::Histogram => Value::Histogram(Buckets {
                sum: u64::MAX,
                counts: vec![(0, 1), (200, 5), (495, 2)],
            }),
        },
    };
    let plugins = Registries::BUILT_IN.metrics.iter();
    let sources = plugins.map(|plugin| Source {
        reader: plugin.name,
        labels: Arc::new([("team".to_owned(), "storage".to_owned())].into()),
        health: Health::default(),
        window: Window::default(),
        covered: Duration::from_secs(1),
        lost: 3,
        unsupported: plugin.metrics.to_vec(),
        metrics: plugin.metrics.iter().map(|def| metric(def)).collect(),
    });
    let host = [("name".to_owned(), "b\u{fc}ro \"1\"".into())];
    let record = Numbered {
        stream: Arc::new(Stream {
            id: "a-1".into(),
            previous: None,
        }),
        range: 1..=1,
        part: Part::WHOLE,
        gaps: Vec::new(),
        envelope: Arc::new(Envelope {
            window: Window::default(),
            metadata: Arc::new(Metadata {
                sections: [("host", host.into_iter().collect())].into(),
            }),
            sources: sources.collect(),
        }),
    };
    for format in ["text", "openmetrics"] {
        let config = format!(
            "[metrics.cpu]\n[output.a]\nformatter = 'prometheus'\nlogger = 'stdout'\nprometheus = {{ syntax = '{format}' }}\n"
        );
        let config = Config::parse(Path::new("test"), config, Registries::BUILT_IN);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let mut bytes = Vec::new();
        let formatter = &config.outputs[0].formatter;
        formatter
            .format(&record, 0, &mut bytes)
            .expect("it is whole");
        let text = String::from_utf8(bytes).expect("text");
        if format == "text" {
            judge(&text);
        }
        if let Some((_, read)) = count(format, &text) {
            assert_eq!(read, samples(&text), "{format}");
        }
    }
}
