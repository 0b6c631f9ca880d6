//! The keys that shape what an output gets.

use std::{path::Path, time::Duration};

use crate::{
    config::{Config, Registries},
    pipeline::shape::Entities,
};

/// A configuration with two readers and an output that has these keys.
fn parse(keys: &str) -> Result<Config, String> {
    let text = format!(
        "[probe]\ninterval = '10s'\n[metrics.cpu]\n[metrics.disk]\ninterval = '40s'\n[metrics.memory]\nenabled = false\n\
         [output.a]\nformatter = 'json'\nlogger = 'stdout'\n{keys}\n"
    );
    Config::parse(Path::new("p.toml"), text, Registries::BUILT_IN)
        .map_err(|error| error.to_string())
}

#[test]
fn what_shapes_an_output_is_read() {
    let config = parse(
        "sources = ['cpu', 'disk']\nfilters = ['name : disk.* or name : cpu.*', 'device.name != loop0']\n\
         entities = 'names'\nresolution = '1m'\nfields = ['host.name']\nempty_labels = 'drop'",
    );
    let output = &config.unwrap().outputs[0];
    let sources: Vec<_> = output.shape.sources.iter().flatten().copied().collect();
    assert_eq!(sources, ["cpu", "disk"]);
    assert_eq!(output.shape.filters.len(), 2);
    assert_eq!(output.entities, Entities::Names);
    assert_eq!(output.resolution, Some(Duration::from_mins(1)));
}

#[test]
fn what_could_not_be_meant_is_refused() {
    for (keys, expected) in [
        (
            "sources = ['cpu',\n'dsk']",
            "p.toml:12: output.a.sources: unknown reader `dsk`; known: block_io, ",
        ),
        (
            "sources = ['memory']",
            "p.toml:11: output.a.sources: none of these readers is switched on",
        ),
        (
            "filters = ['name = cpu.time',\n\n'name =']",
            "p.toml:13: output.a.filters: at character 7: expected a value, found the end",
        ),
        (
            "filters = [\n'labels.mode = user and name : cpo.*',\n]",
            "p.toml:12: output.a.filters: at character 24: `cpo.*` is like no metric; ",
        ),
        (
            "filters = 'name = cpu.time'",
            "p.toml:11: output.a.filters: invalid type: string",
        ),
        (
            "fields = ['hots']",
            "p.toml:11: output.a.fields: unknown field `hots`; known: total, min, max, the sections addresses, ",
        ),
        (
            "fields = ['host.a.b']",
            "p.toml:11: output.a.fields: unknown field `host.a.b`; ",
        ),
        (
            "entities = 'all'",
            "p.toml:11: output.a.entities: unknown variant `all`, expected one of `names`, `ids`, `both`",
        ),
        (
            "resolution = '0s'",
            "p.toml:11: output.a.resolution: 0s is not between the interval and 1day",
        ),
        (
            "resolution = '2days'",
            "p.toml:11: output.a.resolution: 2days is not between the interval and 1day",
        ),
        (
            "resolution = '25s'",
            "p.toml:11: output.a.resolution: 25s is not a multiple of 10s, how often this output's envelopes are made",
        ),
        (
            "sources = ['disk']\nresolution = '1m'",
            "p.toml:12: output.a.resolution: 1m is not a multiple of 40s, how often this output's envelopes are made",
        ),
        (
            "envelope = 'per_reader'\nresolution = '1m'",
            "p.toml:12: output.a.resolution: 1m is not a multiple of 40s, the interval of metrics.disk",
        ),
    ] {
        let found = parse(keys)
            .err()
            .unwrap_or_else(|| panic!("nothing is wrong with {keys}"));
        assert!(
            found.starts_with(expected) && found.lines().count() == 1,
            "{keys}\n gives {found}\n and not {expected}"
        );
    }
    // Slower readers of an output with an envelope per reader are not merged.
    assert!(parse("envelope = 'per_reader'\nresolution = '20s'").is_ok());
}

#[test]
fn a_name_that_no_folder_can_have_is_refused() {
    for (length, good) in [(255, true), (256, false)] {
        let name = "n".repeat(length);
        let text =
            format!("[metrics.cpu]\n[output.{name}]\nformatter = 'json'\nlogger = 'stdout'\n");
        let config = Config::parse(Path::new("p.toml"), text, Registries::BUILT_IN);
        assert_eq!(config.is_ok(), good);
        if let Err(error) = config {
            let error = error.to_string();
            assert!(
                error.ends_with(": a name has at most 255 characters"),
                "{error}"
            );
        }
    }
}

#[test]
fn an_output_of_totals_refuses_what_is_about_single_windows() {
    let of = |keys: &str| {
        let text = format!(
            "[probe]\nstate_dir = '/s'\n[metrics.cpu]\n[output.a]\nformatter = 'prometheus'\nlogger = 'prometheus'\n{keys}\n"
        );
        Config::parse(Path::new("p.toml"), text, Registries::BUILT_IN)
            .map_err(|error| error.to_string())
    };
    let config = of("entities = 'names'\nsources = ['cpu']\nfields = ['host']")
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(config.outputs[0].totals);
    assert!(
        config.outputs[0].shape.keep_zeros,
        "what is missing has ended"
    );
    for key in [
        "envelope = 'per_reader'",
        "resolution = '1m'",
        "when_full = 'drop_oldest'",
        "spread = '1s'",
        "spool_bytes = '1MiB'",
        "dead_letter_bytes = '1MiB'",
    ] {
        let error = of(key).err().unwrap();
        let name = key.split(' ').next().unwrap();
        let expected = format!("output.a.{name}: has no use here");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_formatter_and_a_logger_of_one_name_share_a_section() {
    let of = |keys: &str, logger: &str| {
        let text = format!(
            "[metrics.cpu]\n[output.a]\nformatter = 'prometheus'\nlogger = '{logger}'\n[output.a.prometheus]\n{keys}\n"
        );
        let parsed = Config::parse(Path::new("p.toml"), text, Registries::BUILT_IN);
        parsed.err().map(|error| error.to_string())
    };
    let all = "listen = '[::1]:1'\nbuckets = 8\nsyntax = 'openmetrics'";
    assert_eq!(of(all, "prometheus"), None);
    let unknown = of("bucket = 1", "prometheus").unwrap();
    let expected =
        "p.toml:6: output.a.prometheus.bucket: unknown key; known: listen, syntax, buckets";
    assert_eq!(unknown, expected);
    let wrong = of("buckets = 3", "prometheus").unwrap();
    assert!(wrong.contains("must be 1, 2, 4 or 8"), "{wrong}");
    let wrong = of("listen = 'nowhere'", "prometheus").unwrap();
    assert!(wrong.contains("is not an address with a port"), "{wrong}");
    let alone = of("listen = '[::1]:1'", "stdout").unwrap();
    assert!(
        alone.contains("unknown key; known: syntax, buckets"),
        "{alone}"
    );
}

#[test]
fn two_users_of_a_port_are_a_mistake() {
    let of = |head: &str, other: &str| {
        let text = format!(
            "{head}[metrics.cpu]\n[output.a]\nformatter = 'prometheus'\nlogger = 'prometheus'\n\
             [output.b]\nformatter = 'prometheus'\nlogger = 'prometheus'\nprometheus = {{ listen = '{other}' }}\n"
        );
        let parsed = Config::parse(Path::new("p.toml"), text, Registries::BUILT_IN);
        parsed.err().map(|error| error.to_string())
    };
    assert_eq!(of("", "127.0.0.1:19101"), None);
    let taken = of("", "[::1]:19100").unwrap();
    let expected = "TCP port 19100 belongs to output.a already";
    assert!(taken.contains(expected), "{taken}");
    let health = "[health]\nlisten = '127.0.0.1:19100'\n";
    let taken = of(health, "127.0.0.1:19101").unwrap();
    let expected = "TCP port 19100 belongs to health already";
    assert!(taken.contains(expected), "{taken}");
}
