//! Whole configurations with plugins of the test's own.

mod in_force;
mod texts;

use super::*;
use crate::{
    formatters::Formatter,
    loggers::{Acknowledgement, Logger, Payload},
    metadata::MetadataReader,
    metrics::MetricReader,
    model::{Metadata, Numbered, Snapshot},
    pipeline::{WhenFull, shape::Shape},
    plugin::Needs,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Path {
    path: Option<String>,
}

struct Nothing;
struct Into(Option<String>);

impl MetadataReader for Nothing {
    fn read(&mut self, _: &mut Metadata) -> anyhow::Result<()> {
        Ok(())
    }
}

impl MetricReader for Nothing {
    fn read(&mut self, _: &mut Snapshot) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Formatter for Nothing {
    fn content_type(&self) -> &'static str {
        "text/plain"
    }

    fn format(&self, _: &Numbered, _: WallTime, _: &mut Vec<u8>) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Logger for Into {
    fn send(&mut self, _: Payload) -> Acknowledgement {
        Box::pin(async { Ok(()) })
    }

    fn claims(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

macro_rules! plugin {
    ($plugin:ident, $trait:ty, $name:literal, $build:expr) => {
        static $plugin: Plugin<$trait> = Plugin {
            name: $name,
            summary: "",
            needs: Needs::NOTHING,
            example: "",
            metrics: &[],
            build: $build,
        };
    };
}

plugin!(HOST, dyn MetadataReader, "host", |section, _| {
    section.parse::<Empty>().map(|_| Box::new(Nothing) as _)
});
plugin!(CPU, dyn MetricReader, "cpu", |section, _| {
    section.parse::<Empty>().map(|_| Box::new(Nothing) as _)
});
plugin!(DISK, dyn MetricReader, "disk", |section, _| {
    let path = section.parse::<Path>()?.path;
    anyhow::ensure!(path.as_deref() != Some("bad"), "there is no such disk");
    Ok(Box::new(Nothing))
});
plugin!(JSON, dyn Formatter, "json", |section, context| {
    section.parse::<Empty>()?;
    assert!(!context.output.is_empty(), "an output has a name");
    Ok(Box::new(Nothing))
});
plugin!(FILE, dyn Logger, "file", |section, _| {
    let path = section.parse::<Path>()?.path;
    Ok(Box::new(Into(path)))
});

const PLUGINS: Registries = Registries {
    metadata: &[&HOST],
    metrics: &[&CPU, &DISK],
    formatters: &[&JSON],
    loggers: &[&FILE],
};

const READER: &str = "\n[metrics.cpu]\n";
const OUTPUT: &str = "\n[output.a]\nformatter = 'json'\nlogger = 'file'\n";

/// With a reader at the end if the text has none.
fn parse(text: &str) -> Result<Config, Invalid> {
    let reader = if text.contains("metrics") { "" } else { READER };
    Config::parse("p.toml".as_ref(), format!("{text}{reader}"), PLUGINS)
}

fn error(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("nothing is wrong with {text}"),
        Err(invalid) => invalid.to_string(),
    }
}

#[test]
fn every_mistake_has_its_place_and_what_is_known() {
    for (text, expected) in [
        (
            "[metrics.cpo]",
            "p.toml:1: metrics.cpo: unknown plugin; known: cpu, disk",
        ),
        (
            "[metrics.cpu]\nintervall = '1s'",
            "p.toml:2: metrics.cpu.intervall: unknown key; known: enabled, interval",
        ),
        (
            "[metrics.cpu]\ninterval = '1 parsec'",
            "p.toml:2: metrics.cpu.interval: `1 parsec` is not a time like \"10s\" or \"100ms\"",
        ),
        (
            "[metrics.cpu]\ninterval = 10",
            "p.toml:2: metrics.cpu.interval: not a time like \"10s\" or \"100ms\": invalid type: integer `10`, expected a string",
        ),
        (
            "[metrics.cpu]\ninterval = '99ms'",
            "p.toml:2: metrics.cpu.interval: 99ms is not between 100ms and 1day",
        ),
        (
            "[probe]\ninterval = '0s'",
            "p.toml:2: probe.interval: 0s is not between 100ms and 1day",
        ),
        (
            "[metrics.cpu]\ninterval = '0s'\n[metrics.disk]\ninterval = '3s'",
            "p.toml:2: metrics.cpu.interval: 0s is not between 100ms and 1day",
        ),
        (
            "[probe]\ninterval = '0s'\n[metrics.cpu]",
            "p.toml:2: probe.interval: 0s is not between 100ms and 1day",
        ),
        (
            "[metrics.disk]\ninterval = '3s'\n[metrics.cpu]\ninterval = '2s'",
            "p.toml:2: metrics.disk.interval: 3s is not a multiple of 2s, the interval of metrics.cpu, which is the \
             shortest in use",
        ),
        (
            "[metrics.disk]\npath = 'bad'",
            "p.toml:1: metrics.disk: there is no such disk",
        ),
        (
            "[metrics.disk]\nenabled = false\npath = 3",
            "p.toml:3: metrics.disk.path: invalid type: integer `3`, expected a string",
        ),
        (
            "[metrics]\ncpu = true",
            "p.toml:2: metrics.cpu: must be a section",
        ),
        (
            "metrics = 1",
            "p.toml:1: metrics: must be a section, [metrics]",
        ),
        (
            "[metadata.hots]",
            "p.toml:1: metadata.hots: unknown plugin; known: host",
        ),
        (
            "[metric.cpu]",
            "p.toml:1: metric: unknown section; known: probe, health, metadata, metrics, output",
        ),
        (
            "[probe]\nroots = '/'",
            "p.toml:2: probe.roots: unknown key; known: interval, state_dir, drain, proc, sys, root",
        ),
        (
            "[output.b]\nformatter = 'jsn'\nlogger = 'file'",
            "p.toml:2: output.b.formatter: unknown plugin `jsn`; known: json",
        ),
        (
            "[output.b]\nformatter = 'json'",
            "p.toml:1: output.b: missing field `logger`",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nwhen_full = 'panic'",
            "p.toml:4: output.b.when_full: unknown variant `panic`, expected one of `coalesce`, `drop_oldest`, \
             `drop_newest`",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nqueue_bytes = '3 apples'",
            "p.toml:4: output.b.queue_bytes: not a size like \"16MiB\"",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nqueue_bytes = -1",
            "p.toml:4: output.b.queue_bytes: not a size like \"16MiB\": -1",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nspread = 1",
            "p.toml:4: output.b.spread: not a time like \"10s\" or \"100ms\": invalid type: integer `1`",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nzeros = true",
            "p.toml:4: output.b.zeros: must be a text in quotes",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nspool_bytes = '8MiB'",
            "p.toml:4: output.b.spool_bytes: needs a folder to be in: set state_dir in [probe]",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nspool_sync = 'every'",
            "p.toml:4: output.b.spool_sync: needs a spool: set spool_bytes in this output",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nenvelope = 'each'",
            "p.toml:4: output.b.envelope: unknown variant `each`, expected `combined` or `per_reader`",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\n[output.b.kafka]",
            "p.toml:4: output.b.kafka: unknown section; known: json, file",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\n[output.b.file]\npaht = ''",
            "p.toml:5: output.b.file.paht: unknown key; known: path",
        ),
        (
            "[output.'b/c']\nformatter = 'json'\nlogger = 'file'",
            "p.toml:1: output.b/c: a name has ASCII letters, digits, `_` and `-` only",
        ),
        (
            "[output.b]\nformatter = 'json'\nlogger = 'file'\nqueue_bytes = 0",
            "p.toml:4: output.b.queue_bytes: leaves no room for an envelope: at least 4KiB",
        ),
        (
            "[probe]\ndrain = '300y'",
            "p.toml:2: probe.drain: 300years is longer than 1h",
        ),
        ("[output]\nb = 1", "p.toml:2: output.b: must be a section"),
        ("[metrics.cpu", "p.toml:1: not TOML: "),
        (
            "[metrics.cpu]\n[metrics.cpu]",
            "p.toml:2: not TOML: duplicate key",
        ),
    ] {
        let found = error(&format!("{text}{OUTPUT}"));
        assert!(
            found.starts_with(expected) && found.lines().count() == 1,
            "{text}\n gives {found}\n and not {expected}"
        );
    }
}

#[test]
fn a_place_for_two_outputs_is_refused() {
    let output = |name| {
        format!(
            "[output.{name}]\nformatter='json'\nlogger='file'\n[output.{name}.file]\npath='/x'\n"
        )
    };
    let two = output("a") + &output("b");
    assert_eq!(
        error(&two),
        "p.toml:6: output.b: /x belongs to output.a already"
    );
    assert!(
        parse(&two.replace(
            "logger='file'\n[output.b.file]",
            "logger='file'\nenabled=false\n[output.b.file]"
        ))
        .is_ok()
    );
}

#[test]
fn without_an_output_nothing_runs() {
    let expected = "output: nothing is switched on; add a section like [output.main] with a formatter and a logger";
    assert_eq!(error("[metrics.cpu]"), format!("p.toml:1: {expected}"));
    let off = format!("{OUTPUT}enabled = false");
    assert_eq!(error(&off), format!("p.toml:2: {expected}"));
}

#[test]
fn without_a_reader_nothing_runs() {
    assert_eq!(
        error(&format!("[metrics.cpu]\nenabled = false\n{OUTPUT}")),
        "p.toml:1: metrics: nothing is switched on; add a section like [metrics.cpu]"
    );
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_file() {
    let text = format!(
        "[metrics.cpo]\n[metrics.cpu]\nx = 1\ny = 2\n{OUTPUT}zeros = 'none'\n[metadata.x]\n[other]\n"
    );
    let found = error(&text);
    let lines: Vec<_> = found
        .lines()
        .map(|line| line.split(": ").nth(1).expect("a path"))
        .collect();
    assert_eq!(
        lines,
        [
            "metrics.cpo",
            "metrics.cpu.x",
            "metrics.cpu.y",
            "output.a.zeros",
            "metadata.x",
            "other"
        ]
    );
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = parse(OUTPUT).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.interval, Duration::from_secs(10));
    assert_eq!(config.drain, Duration::from_secs(5));
    assert_eq!(config.state_dir, None);
    assert_eq!(config.context.roots, Roots::default());
    assert!(config.metadata.is_empty());
    let output = &config.outputs[0];
    assert_eq!((&*output.name, output.queue_bytes), ("a", 16 << 20));
    assert_eq!(output.when_full, WhenFull::Coalesce);
    assert!(*output.shape == Shape::default() && !output.opened);
}

#[test]
fn what_is_written_holds() {
    let text = "[probe]\ninterval='4s'\nstate_dir='/s'\ndrain='1s'\nproc='/p'\nsys='/y'\nroot='/r'\n\
                [metadata.host]\n[metrics.cpu]\ninterval='2s'\n[metrics.disk]\n\
                [output.a]\nformatter='json'\nlogger='file'\nenvelope='per_reader'\nzeros='keep'\nqueue_bytes='1MiB'\n\
                when_full='drop_oldest'\n";
    let config = parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.interval, Duration::from_secs(2));
    assert_eq!(config.drain, Duration::from_secs(1));
    assert_eq!(config.state_dir, Some("/s".into()));
    let roots = config.context.roots;
    assert_eq!(
        (roots.proc, roots.sys, roots.root),
        ("/p".into(), "/y".into(), "/r".into())
    );
    let readers: Vec<_> = config
        .readers
        .iter()
        .map(|reader| (reader.name, reader.interval.as_secs()))
        .collect();
    assert_eq!(readers, [("cpu", 2), ("disk", 4)]);
    assert_eq!(config.metadata[0].interval, Duration::from_mins(1));
    let output = &config.outputs[0];
    assert!(output.shape.per_reader && output.shape.keep_zeros);
    assert_eq!(output.queue_bytes, 1 << 20);
    assert_eq!(output.when_full, WhenFull::DropOldest);
}

#[test]
fn a_reader_that_is_switched_off_does_not_count() {
    let text = format!(
        "[metrics.cpu]\nenabled = false\ninterval = '2s'\n[metrics.disk]\ninterval = '3s'\n{OUTPUT}"
    );
    let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.readers.len(), 1);
    assert_eq!(config.interval, Duration::from_secs(3));
}

#[test]
fn the_hash_is_that_of_the_text() {
    assert_eq!(&*hash(""), "cbf29ce484222325");
    assert_eq!(&*hash("foobar"), "85944171f73967e8", "FNV-1a test vector");
}
