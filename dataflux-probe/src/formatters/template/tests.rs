//! What templates give, and where they are wrong.

use std::path::Path;

use super::PLUGIN;
use crate::{
    formatters::golden,
    model::Numbered,
    plugin::{Context, testing},
};

fn context() -> Context {
    testing::context(Path::new("/nowhere"))
}

/// The lines of the golden case with every kind of value; those that begin with this.
fn lines(line: &str, begin: &str) -> Vec<String> {
    lines_of(
        &golden::first(),
        &format!("line = {line:?}\nmissing = '-'"),
        begin,
    )
}

fn lines_of(numbered: &Numbered, config: &str, begin: &str) -> Vec<String> {
    let formatter = PLUGIN.build_from(config, &context()).unwrap();
    let mut out = Vec::new();
    formatter
        .format(numbered, 1_500_000_000_999, &mut out)
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(begin));
    lines.map(str::to_owned).collect()
}

fn mistake(config: &str) -> String {
    let built = PLUGIN.build_from(config, &context());
    built.err().expect("a mistake").to_string()
}

#[test]
fn placeholders_give_what_they_say() {
    for (line, expected) in [
        ("{metric} {value}", "block_io.requests 1203"),
        ("{metric} {total}", "block_io.requests 18446744073709551615"),
        (
            "{metric} {name} {reader} {kind} {unit}",
            "block_io.requests requests block_io counter count",
        ),
        (
            "{metric} {entity} {entity.kind} {entity.id} {entity.name}",
            "block_io.requests vda device 254:0 vda",
        ),
        (
            "{metric} {labels.operation} {labels}",
            "block_io.requests read operation=read,rack=7",
        ),
        (
            "{metric} {header.labels.rack} {os.cores} {host.nothing}",
            "block_io.requests 7 2 -",
        ),
        (
            "{metric} {min} {p99} {labels.mode}",
            "block_io.requests - - -",
        ),
        (
            "{metric} {stream} {first} {last} {part} {parts}",
            "block_io.requests main-22 1 1 1 1",
        ),
        (
            "{metric} {status} {reason} {lost}",
            "block_io.requests ok  3",
        ),
        ("{metric} {{{value}}}", "block_io.requests {1203}"),
        ("{metric} { value | round:2 }", "block_io.requests 1203.00"),
        (
            "{metric} {trans_time|unix} {trans_time|unix_ms}",
            "block_io.requests 1500 1500000",
        ),
        (
            "{metric} {trans_time|unix_us} {trans_time|unix_ns}",
            "block_io.requests 1500000000 1500000000999",
        ),
        (
            "{metric} {covered} {covered|seconds}",
            "block_io.requests 1000002879 1.000002879",
        ),
        (
            "{metric} {covered|milliseconds|round:1}",
            "block_io.requests 1000.0",
        ),
        (
            "{metric} {covered|microseconds} {covered|base|round}",
            "block_io.requests 1000002.879 1",
        ),
        (
            "{metric} {value|seconds} {value|human}",
            "block_io.requests - 1203",
        ),
    ] {
        assert_eq!(lines(line, "block_io.requests ")[0], expected, "{line}");
    }
}

#[test]
fn every_kind_of_value_has_its_placeholders() {
    let latency = "block_io.latency";
    let written = lines(
        "{metric} {value} {count} {sum} {p50} {p99.9} {p100} {mean|seconds|round:6}",
        latency,
    );
    assert_eq!(
        written,
        [
            "block_io.latency - 106240 48211000123 20479 3670015 3670015 0.000454",
            "block_io.latency - 0 0 - - - -",
        ]
    );
    let size = lines("{metric} {p50} {sum} {sum|gib} {p0.001}", "block_io.size");
    assert_eq!(
        size,
        ["block_io.size 18446744073709551615 18446744073709551615 17179869184.0 0"]
    );
    let gauges = lines("{metric} {value} {min} {max} {value|round}", "statsd.gauge");
    assert_eq!(gauges[0], "statsd.gauge -18.25 -18.25 -18.25 -18");
    assert_eq!(
        gauges[2..],
        [
            "statsd.gauge NaN NaN NaN NaN",
            "statsd.gauge inf inf inf inf"
        ]
    );
    let entities = lines("{metric} {entity} {entity.id} {entity.name}", "interface.");
    assert_eq!(
        entities,
        [
            "interface.received 2 2 -",
            "interface.received wg0 - wg0",
            "interface.received other - -",
        ]
    );
}

#[test]
fn text_from_outside_breaks_no_line() {
    let gauges = |line: &str| lines(line, "statsd.gauge ").swap_remove(1);
    for (line, expected) in [
        (
            "{metric} {labels}",
            r#"statsd.gauge place=quote " slash \ escape \u{1b}[31m\n,rack=7"#,
        ),
        (
            "{metric} {labels|json}",
            r#"statsd.gauge "place=quote \" slash \\ escape \u001b[31m\n,rack=7""#,
        ),
        (
            "{metric} {labels|csv}",
            r#"statsd.gauge "place=quote "" slash \ escape \u{1b}[31m\n,rack=7""#,
        ),
        (
            "{metric} {labels|word|upper}",
            "statsd.gauge PLACE_QUOTE___SLASH___ESCAPE___31M__RACK_7",
        ),
    ] {
        assert_eq!(gauges(line), expected);
    }
}

#[test]
fn mistakes_are_found_with_their_place() {
    for (line, expected) in [
        (
            "{metrik}",
            "at character 2: unknown placeholder `metrik`; known: metric, name, ",
        ),
        (
            "\u{e4}{metric} { hots.name}",
            "at character 13: unknown placeholder `hots.name`; known: ",
        ),
        (
            "{labels.operatin}",
            "at character 2: no metric has the label `operatin`; known: ",
        ),
        (
            "{value|secs}",
            "at character 8: unknown conversion `secs`; known: seconds, ",
        ),
        (
            "{value|unix}",
            "at character 8: `unix` is for times; this is a number",
        ),
        (
            "{metric|round:2}",
            "at character 9: `round:2` is for numbers; this is text",
        ),
        (
            "{value|round:99}",
            "at character 8: `99` is no number of places, 0 to 15",
        ),
        (
            "{value|seconds:1}",
            "at character 8: `seconds` takes no number",
        ),
        (
            "{value|human|round}",
            "at character 14: `round` is for numbers; this is text",
        ),
        (
            "a {metric",
            "at character 3: `{` has no end; `{{` stands for one",
        ),
        (
            "a {me{tric}",
            "at character 3: `{` has no end; `{{` stands for one",
        ),
        (
            "{metric} }",
            "at character 10: `}` ends nothing; `}}` stands for one",
        ),
        ("{}", "at character 2: unknown placeholder ``; known: "),
        (
            "{p0} {p101}",
            "at character 2: unknown placeholder `p0`; known: ",
        ),
        (
            "{p99.9999}",
            "at character 2: unknown placeholder `p99.9999`; known: ",
        ),
        (
            "{{metric}}",
            "at character 1: without a placeholder every line would be the same",
        ),
        (
            "{metric}\n{value}",
            r"at character 9: a line cannot have `\n` in it",
        ),
    ] {
        let said = mistake(&format!("line = {line:?}"));
        assert!(
            said.contains(&format!("line: {expected}")),
            "{line}: {said}"
        );
    }
    assert!(mistake("").contains("missing field `line`"));
    let said = mistake("line = '{metric}'\nheader = \"a\\nb\"");
    assert!(
        said.contains(r"header: at character 2: a line cannot have `\n` in it"),
        "{said}"
    );
}

#[test]
fn a_new_file_begins_with_the_header() {
    let header = |config: &str| {
        let config = format!("line = '{{metric}}'\n{config}");
        let formatter = PLUGIN.build_from(&config, &context()).unwrap();
        String::from_utf8(formatter.file_header().to_vec()).unwrap()
    };
    assert_eq!(header(""), "");
    assert_eq!(header("header = 'a b'"), "a b\n");
}
