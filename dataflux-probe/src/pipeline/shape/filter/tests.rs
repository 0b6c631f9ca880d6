//! Filters as people write them, and as nobody would.

use proptest::prelude::*;

use super::{super::super::fakes::LEVEL, *};
use crate::model::{Born, Entity, EntityKey, Fall, Value};

static REQUESTS: MetricDef = MetricDef {
    name: "block_io.requests",
    kind: Kind::Counter {
        born: Born::Zero,
        fall: Fall::Restart,
    },
    unit: Unit::Count,
    help: "For tests.",
    labels: &["operation", "state"],
};

/// The reads of vda, 254:0.
fn reads() -> Metric {
    Metric {
        def: &REQUESTS,
        entity: Some(Entity {
            kind: EntityKind::Device,
            key: EntityKey::Id(254 << 20),
        }),
        entity_id: None,
        entity_name: Some("vda".into()),
        labels: ["read".into(), "".into()].into(),
        value: Value::Counter {
            value: Some(1),
            total: 1,
        },
    }
}

fn passes(text: &str) -> bool {
    let filter = Filter::parse(text).unwrap_or_else(|mistake| panic!("{text}: {mistake}"));
    filter.passes("block_io", &reads())
}

#[test]
fn a_series_passes_what_is_true_of_it() {
    for text in [
        "name = block_io.requests",
        "name != block_io.latency",
        "name : block_io.*",
        "name : *requests",
        "name : bloc?_io*",
        "name !: cpu.*",
        "name ~ 'io\\.req'",
        "name ~ ^block_io",
        "name !~ '^io'",
        "name in (block_io.latency, block_io.requests)",
        "name not in (block_io.latency,block_io.size)",
        "name NOT IN (x)",
        "reader = block_io",
        "kind = counter and unit = count",
        "device.name = vda",
        "device.id = 254:0",
        "device.id : 254:*",
        "device.name=vda and labels.operation=read",
        "labels.operation = write or labels.operation = \"read\"",
        "not labels.operation = write",
        "not (device.name = vda and labels.operation = write)",
        "labels.operation = write or device.name = vda and labels.operation = read",
        "(labels.operation = read or name = x) and device.name = vda",
        "device.name : 'v?a'",
        "name ~ \"^(block_io|disk)[.]\"",
    ] {
        assert!(passes(text), "{text}");
        assert!(!passes(&format!("not ({text})")), "not ({text})");
    }
}

#[test]
fn what_a_series_does_not_have_is_empty() {
    for text in [
        "interface.name = ''",
        "interface.id = ''",
        "labels.state = ''",
        "labels.mode = ''",
        "interface.name not in (lo)",
        "interface.name !: veth*",
        "labels.mode : *",
    ] {
        assert!(passes(text), "{text}");
    }
    for text in ["interface.name : ?*", "labels.mode ~ ."] {
        assert!(!passes(text), "{text}");
    }
}

#[test]
fn all_other_entities_together_have_neither_id_nor_name() {
    let mut other = reads();
    other.entity_name = None;
    other.entity = Some(Entity {
        kind: EntityKind::Device,
        key: EntityKey::Other,
    });
    let filter = Filter::parse("device.name = '' and device.id = ''").unwrap();
    assert!(filter.passes("block_io", &other));
}

#[test]
fn a_mistake_has_its_place_and_what_is_expected() {
    let known = "known: name, reader, kind, unit, device.name, device.id, interface.name, interface.id, cgroup.name, cgroup.id, labels.NAME";
    for (text, expected) in [
        (
            "",
            "at character 1: expected a field, `not` or `(`, found the end",
        ),
        (
            "name",
            "at character 5: expected `=`, `!=`, `:`, `!:`, `~`, `!~`, `in` or `not in`, found the end",
        ),
        ("name =", "at character 7: expected a value, found the end"),
        ("name == x", "at character 7: expected a value, found `=`"),
        (
            "name ! x",
            "at character 8: expected `=`, `:` or `~`, found `x`",
        ),
        (
            "name = x y = z",
            "at character 10: expected `and`, `or` or the end, found `y`",
        ),
        (
            "name = x and",
            "at character 13: expected a field, `not` or `(`, found the end",
        ),
        ("(name = x", "at character 10: expected `)`, found the end"),
        (
            "name = x)",
            "at character 9: expected `and`, `or` or the end, found `)`",
        ),
        ("name in x", "at character 9: expected `(`, found `x`"),
        ("name in ()", "at character 10: expected a value, found `)`"),
        (
            "name in (x, )",
            "at character 13: expected a value, found `)`",
        ),
        ("name not = x", "at character 10: expected `in`, found `=`"),
        ("name = 'x", "at character 8: no ' ends this value"),
        (
            "name ~ '(x'",
            "at character 8: no regular expression: unclosed group",
        ),
        (
            "unit = count or name ~ '\\w{500}{500}'",
            "at character 24: no regular expression: Compiled regex exceeds size limit of 1048576 bytes.",
        ),
        (
            "\u{e4} = x",
            "at character 1: expected a field, `not` or `(`, found `\u{e4}`",
        ),
    ] {
        let mistake = Filter::parse(text).unwrap_err().to_string();
        assert_eq!(mistake, expected, "{text}");
    }
    for text in ["nam = x", "labels. = x", "device = x"] {
        let field = text.split(' ').next().unwrap();
        let mistake = Filter::parse(text).unwrap_err().to_string();
        assert_eq!(
            mistake,
            format!("at character 1: unknown field `{field}`; {known}")
        );
    }
}

#[test]
fn a_filter_is_neither_too_long_nor_too_deep() {
    let nested = |depth| format!("{}name = x{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&nested(60)).is_ok());
    let mistake = Filter::parse(&nested(8_000)).unwrap_err();
    assert_eq!(mistake.message, "nested deeper than 64");
    let mistake = Filter::parse(&"not ".repeat(9_000)).unwrap_err();
    assert_eq!(mistake.message, "longer than 16384 bytes");
    // One after the other is not one in the other.
    assert!(Filter::parse(&format!("{}name = x", "(name = x) or ".repeat(500))).is_ok());
}

#[test]
fn what_cannot_be_is_told() {
    let known = Known {
        readers: &["block_io", "cpu"],
        metrics: &[&REQUESTS, &LEVEL],
    };
    for (text, expected) in [
        (
            "reader = cpo",
            "at character 1: no reader is called `cpo`; known: block_io, cpu",
        ),
        (
            "name : block_io.* and not reader in (cpu, disk)",
            "at character 27: no reader is called `disk`; known: block_io, cpu",
        ),
        (
            "name = block_io.latency",
            "at character 1: no metric is called `block_io.latency`; `dataflux-probe metrics` lists them",
        ),
        (
            "name : blk.*",
            "at character 1: `blk.*` is like no metric; `dataflux-probe metrics` lists them",
        ),
        (
            "name ~ ^requests",
            "at character 1: `^requests` is like no metric; `dataflux-probe metrics` lists them",
        ),
        (
            "kind = count",
            "at character 1: no kind is called `count`; known: counter, gauge, histogram",
        ),
        (
            "unit = s",
            "at character 1: no unit is called `s`; known: ns, bytes, count, celsius, ratio, watts, uJ",
        ),
        (
            "labels.op = read",
            "at character 1: no metric has the label `op`; known: label, operation, state",
        ),
    ] {
        let mistake = Filter::parse(text).unwrap().check(known).unwrap_err();
        assert_eq!(mistake.to_string(), expected, "{text}");
    }
    for text in [
        "name : block_io.*",
        "name ~ 'requests$'",
        "labels.operation = anything",
        "device.name = vda",
        "kind != gauge",
    ] {
        assert_eq!(Filter::parse(text).unwrap().check(known), Ok(()), "{text}");
    }
}

fn value() -> impl Strategy<Value = String> {
    "[a-z0-9:*?/. ()\"=,-]{0,6}"
}

fn test() -> impl Strategy<Value = Condition> {
    let field = prop_oneof![
        Just(Field::Name),
        Just(Field::Reader),
        Just(Field::Kind),
        Just(Field::Unit),
        "[a-z_]{1,5}".prop_map(Field::Label),
        Just(Field::Id(EntityKind::Device)),
        Just(Field::EntityName(EntityKind::Interface)),
    ];
    let pattern = prop_oneof![
        prop::collection::vec(value(), 1..4).prop_map(Pattern::In),
        value().prop_map(Pattern::Wildcard),
        "[a-z.]{0,5}[+*]?"
            .prop_filter_map("a regular expression", |text| Regex::new(&text).ok())
            .prop_map(Pattern::Regex),
    ];
    (field, any::<bool>(), pattern).prop_map(|(field, negated, pattern)| {
        Condition::Test(Test {
            at: 0,
            field,
            negated,
            pattern,
        })
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    test().prop_recursive(4, 24, 3, |inner| {
        let several = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several.clone().prop_map(Condition::All),
            several.prop_map(Condition::Any),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

/// A condition as somebody could have written it.
fn write(condition: &Condition) -> String {
    let join = |several: &[Condition], word: &str| {
        let several: Vec<_> = several
            .iter()
            .map(|one| format!("({})", write(one)))
            .collect();
        several.join(word)
    };
    match condition {
        Condition::All(several) => join(several, " and "),
        Condition::Any(several) => join(several, "or"),
        Condition::Not(inner) => format!("not ({})", write(inner)),
        Condition::Test(test) => {
            let field = match &test.field {
                Field::Reader => "reader".to_owned(),
                Field::Name => "name".to_owned(),
                Field::Kind => "kind".to_owned(),
                Field::Unit => "unit".to_owned(),
                Field::Label(label) => format!("labels.{label}"),
                Field::Id(kind) => format!("{}.id", kind.name()),
                Field::EntityName(kind) => format!("{}.name", kind.name()),
            };
            let sign = if test.negated { "!" } else { "" };
            let not = if test.negated { "not " } else { "" };
            match &test.pattern {
                Pattern::In(values) => {
                    let values: Vec<_> = values.iter().map(|value| format!("'{value}'")).collect();
                    format!("{field} {not}in ({})", values.join(" ,"))
                }
                Pattern::Wildcard(text) => format!("{field}{sign}:'{text}'"),
                Pattern::Regex(regex) => format!("{field} {sign}~ '{regex}'"),
            }
        }
    }
}

/// Without the places of its tests.
fn placeless(condition: Condition) -> Condition {
    match condition {
        Condition::All(several) => Condition::All(several.into_iter().map(placeless).collect()),
        Condition::Any(several) => Condition::Any(several.into_iter().map(placeless).collect()),
        Condition::Not(inner) => Condition::Not(Box::new(placeless(*inner))),
        Condition::Test(test) => Condition::Test(Test { at: 0, ..test }),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(condition in condition()) {
        let text = write(&condition);
        let read = Filter::parse(&text).map_err(|mistake| TestCaseError::fail(format!("{text}: {mistake}")))?;
        prop_assert_eq!(placeless(read.condition), condition);
    }

    #[test]
    fn any_text_is_a_filter_or_a_mistake_in_it(text in "\\PC{0,40}") {
        if let Err(mistake) = Filter::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&mistake.at), "{}", mistake);
        }
    }

    #[test]
    fn nearly_a_filter_is_one_or_a_mistake_in_it(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "name", "labels.a", "not", "in", "and", "or", "(", ")", ",", "=", "!", ":", "~", "'", "\"", "x", " ", "\u{e4}",
            ]),
            0..14,
        ),
    ) {
        let text = words.concat();
        match Filter::parse(&text) {
            Ok(filter) => { filter.passes("block_io", &reads()); }
            Err(mistake) => prop_assert!((1..=text.chars().count() + 1).contains(&mistake.at), "{}", mistake),
        }
    }
}
