//! Wrong configurations: what is said, and that nothing is started.

use std::{fs, path::Path};

use dataflux_tests::probe;

/// What is wrong, in which of its lines, and what is said about it.
const MISTAKES: &[(&str, usize, &str)] = &[
    (
        "[metrics.shceduler]",
        1,
        "metrics.shceduler: unknown plugin; known: ",
    ),
    (
        "[metadata.hots]",
        1,
        "metadata.hots: unknown plugin; known: ",
    ),
    ("[metrics]\ncpu = true", 2, "metrics.cpu: must be a section"),
    (
        "[metric.cpu]",
        1,
        "metric: unknown section; known: probe, health, metadata, metrics, output",
    ),
    (
        "[metrics.cpu]\nintervall = '1s'",
        2,
        "metrics.cpu.intervall: unknown key; known: enabled, interval",
    ),
    (
        "[metrics.cpu]\ninterval = '1 sec ond'",
        2,
        "metrics.cpu.interval: `1 sec ond` is not a time like \"10s\" or \"100ms\": ",
    ),
    (
        "[metrics.cpu]\ninterval = '10ms'",
        2,
        "metrics.cpu.interval: 10ms is not between 100ms and 1day",
    ),
    (
        "[metrics.cpu]\ninterval = '2s'\n[metrics.memory]\ninterval = '3s'",
        4,
        "metrics.memory.interval: 3s is not a multiple of 2s, the interval of metrics.cpu, which is the shortest in use",
    ),
    (
        "[metrics.cpu]\nenabled = 'yes'",
        2,
        "metrics.cpu.enabled: invalid type: string \"yes\", expected a boolean",
    ),
    (
        "[probe]\nstatedir = '/x'",
        2,
        "probe.statedir: unknown key; known: interval, state_dir, drain, proc, sys, root",
    ),
    (
        "[health]\nport = 1",
        2,
        "health.port: unknown key; known: enabled, listen, file",
    ),
    (
        "[health]",
        1,
        "health: names no one to tell: set listen = \"127.0.0.1:8081\", a file, or both",
    ),
    (
        "[health]\nlisten = 'localhost:8081'",
        2,
        "health.listen: `localhost:8081` is not an address with a port, like \"127.0.0.1:8081\" or \"[::1]:8081\"",
    ),
    (
        "[health]\nlisten = '127.0.0.1:0'",
        2,
        "health.listen: `127.0.0.1:0` has no port that one could ask on",
    ),
    (
        "[health]\nfile = 'health'",
        2,
        "health.file: is not the absolute path of a file",
    ),
    (
        "[health]\nfile = '/tmp/health/'",
        2,
        "health.file: is a folder; name a file in it",
    ),
    (
        "[health]\nfile = '/tmp'",
        2,
        "health.file: is a folder; name a file in it",
    ),
    (
        "[health]\nfile = '/tmp/both'\n[output.b]\nformatter = 'json'\nlogger = 'file'\nfile = { path = '/tmp/both' }",
        3,
        "output.b: /tmp/both belongs to health already",
    ),
    (
        "[output.b]\nformatter = 'jsn'\nlogger = 'stdout'",
        2,
        "output.b.formatter: unknown plugin `jsn`; known: ",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'sdtout'",
        3,
        "output.b.logger: unknown plugin `sdtout`; known: file, kafka, prometheus, stdout",
    ),
    (
        "[output.b]\nlogger = 'stdout'",
        1,
        "output.b: missing field `formatter`",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'stdout'\nwhen_full = 'wait'",
        4,
        "output.b.when_full: unknown variant `wait`, expected one of `coalesce`, `drop_oldest`, `drop_newest`",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'stdout'\nqueue_bytes = '16 furlongs'",
        4,
        "output.b.queue_bytes: not a size like \"16MiB\": ",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'stdout'\n[output.b.kafka]",
        4,
        "output.b.kafka: unknown section; known: json, stdout",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'stdout'\n[output.b.stdout]\npath = '/x'",
        5,
        "output.b.stdout.path: unknown key; ",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'file'",
        1,
        "output.b.file: missing field `path`",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/envelopes'",
        1,
        "output.b: DIR/envelopes belongs to output.a already",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'kafka'\nkafka.brokers = ['b:1']\nkafka.topic = 'a.{reader}'",
        5,
        "output.b.kafka.topic: {reader} needs envelope = \"per_reader\": otherwise an envelope holds all readers",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'kafka'\nkafka.brokers = ['b:1']\nkafka.topic = 'a'\n\
         [output.b.kafka.properties]\n'socket.time.ms' = 1",
        7,
        "output.b.kafka.properties.socket.time.ms: librdkafka refuses socket.time.ms: ",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'file'\nfile.path = '/dev/full'",
        4,
        "output.b.file.path: /dev/full is a device; name a file in a folder",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'file'\nfile.path = '/etc/passwd/x.json'",
        4,
        "output.b.file.path: /etc/passwd is a file, no folder; name a folder, or one that can be made",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/probe.toml/{host}/{date}.json'",
        4,
        "output.b.file.path: DIR/probe.toml is a file, no folder; ",
    ),
    (
        "[probe]\nstate_dir = 'DIR/probe.toml'",
        2,
        "probe.state_dir: DIR/probe.toml is a file, no folder; name a folder, or one that can be made",
    ),
    (
        "[probe]\nstate_dir = 'DIR/probe.toml/state'",
        2,
        "probe.state_dir: DIR/probe.toml is a file, no folder; ",
    ),
    (
        "[output.b]\nformatter = 'json'\nlogger = 'stdout'\nqueue_bytes = '1B'",
        4,
        "output.b.queue_bytes: leaves no room for an envelope: at least 4KiB; the default is 16MiB",
    ),
    ("[metrics.cpu\n", 1, "not TOML: "),
    ("interval = ", 1, "not TOML: "),
];

/// A configuration that would write a file.
const GOOD: &str = "\
[output.a]
formatter = 'json'
logger = 'file'
[output.a.file]
path = 'DIR/envelopes'
";

/// What a command says that finds the configuration wrong.
fn wrong(command: &str, file: &Path) -> String {
    let output = probe::run(&[command, &file.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{command}: {said}");
    assert!(output.stdout.is_empty(), "{command} printed something");
    said
}

/// Scenario: one mistake beside an output that would write a file, for `check` and for running.
/// Guarantees: one line with file, line, path and what is known; exit code 2; nothing started, no file made.
#[test]
fn every_mistake_is_told_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let file = folder.path().join("probe.toml");
    for (mistake, line, expected) in MISTAKES {
        let text = format!("{GOOD}{mistake}\n").replace("DIR", &path);
        fs::write(&file, &text).unwrap();
        let line = line + GOOD.lines().count();
        let expected = expected.replace("DIR", &path);
        let expected = format!("dataflux-probe: {}:{line}: {expected}", file.display());
        for command in ["check", "--config"] {
            let said = wrong(command, &file);
            assert!(
                said.starts_with(&expected),
                "{text}\nsays {said}\nnot  {expected}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        let made: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(made.len(), 1, "only the configuration is there: {made:?}");
    }
}

/// Scenario: mistakes all over one file.
/// Guarantees: each is told in a line of its own, in the order of the file.
#[test]
fn all_mistakes_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.toml");
    let text = "[probe]\ninterval = '1ms'\n[metrics.cpu]\na = 1\nb = 2\n[metrics.cpo]\n[output.a]\nzeros = 'no'\n\
                logger = 'sdtout'\nformatter = 'json'\n[outputs]\n";
    fs::write(&file, text).unwrap();
    let said = wrong("check", &file);
    let told = paths(&said, &file);
    let expected = [
        "probe.interval",
        "metrics.cpu.a",
        "metrics.cpu.b",
        "metrics.cpo",
        "output.a.zeros",
        "output.a.logger",
        "outputs",
    ];
    assert_eq!(told, expected, "{said}");
}

/// What of the configuration each line of what is said is about.
fn paths<'a>(said: &'a str, file: &Path) -> Vec<&'a str> {
    let name = file.display().to_string();
    let lines = said.lines();
    let told = lines.filter_map(|line| line.split_once(&name)?.1.split(": ").nth(1));
    told.collect()
}

/// Scenario: sections of readers, of outputs, of formatters and of loggers, in each of which a key is unknown, one has the wrong
/// type, others are out of their range, and texts with placeholders have more than one wrong.
/// Guarantees: each is told, in the order of the file, and nothing that only follows from another one.
#[test]
fn all_mistakes_of_one_section_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.toml");
    let text = "\
[health]
listen = 'here'
fill = 1
file = 'there'
[metadata.labels]
'a b' = ''
'c d' = ''
[metadata.cloud]
endpoint = 'x'
timeout = '1h'
provide = 1
[metrics.disk]
remote_timeout = '1h'
partition = 1
partitions = 'x'
[metrics.cgroup]
max_depth = 0
max_devices = 0
part = 1
[metrics.process]
top_cpu = 100000
top_memory = 'x'
commands = ['']
[output.a]
formatter = 'template'
logger = 'kafka'
queue_bytes = 1
envelope = 'each'
spool_bytes = 'x'
spool_sync = 'every'
unknown = 1
[output.a.template]
line = 'a {b} c {d} } {value|e}'
missing = \"\\n\"
liine = ''
[output.a.kafka]
brokers = []
topic = '{reader}{a}.b c.{d}'
key = 'x'
acks = 'none'
batch_bytes = 1
message_bytes = '1TiB'
linger = '1h'
flush_timeout = 1
security = 'none'
kye = 1
tls.x = 1
[output.a.kafka.properties]
a = 1
b = 2
[output.b]
formatter = 'json'
logger = 'file'
[output.b.file]
path = '/tmp/{a}/{b}{host}'
roll_every = '1ms'
file_mode = 'x'
folder_mode = '0'
kepp = 1
keep = 'x'
";
    fs::write(&file, text).unwrap();
    let said = wrong("check", &file);
    let expected = "\
health.listen health.fill health.file metadata.labels.a b metadata.labels.c d
metadata.cloud.endpoint metadata.cloud.timeout metadata.cloud.provide
metrics.disk.remote_timeout metrics.disk.partition metrics.disk.partitions
metrics.cgroup.max_depth metrics.cgroup.max_devices metrics.cgroup.part
metrics.process.top_cpu metrics.process.top_memory metrics.process.commands
output.a.queue_bytes output.a.envelope output.a.spool_bytes output.a.unknown
output.a.template.line output.a.template.line output.a.template.line output.a.template.line
output.a.template.missing output.a.template.liine
output.a.kafka.brokers output.a.kafka.topic output.a.kafka.topic output.a.kafka.topic output.a.kafka.key
output.a.kafka.acks output.a.kafka.batch_bytes output.a.kafka.message_bytes output.a.kafka.linger
output.a.kafka.flush_timeout output.a.kafka.security output.a.kafka.kye
output.a.kafka.properties.a output.a.kafka.properties.b
output.b.file.path output.b.file.path output.b.file.roll_every output.b.file.file_mode output.b.file.folder_mode
output.b.file.kepp output.b.file.keep";
    let told = paths(&said, &file).join(" ");
    assert_eq!(told, expected.replace('\n', " "), "{said}");
}

/// Scenario: no file, an empty file, a file that switches its only output off.
/// Guarantees: exit code 2 and what is missing.
#[test]
fn a_configuration_without_an_output_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.toml");
    assert!(wrong("check", &file).contains("No such file"));
    let off = "[output.a]\nformatter = 'json'\nlogger = 'stdout'\nenabled = false\n";
    for text in ["", "[metrics.cpu]\n", off] {
        fs::write(&file, text).unwrap();
        let said = wrong("--config", &file);
        assert!(
            said.contains("output: nothing is switched on; add a section like [output.main]"),
            "{text}: {said}"
        );
    }
}
