//! Errors of a section have their place, all at once.

use std::path::Path;

use super::*;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its errors matter")]
struct Example {
    #[serde(default)]
    size: u64,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    inner: Option<Inner>,
    must: bool,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its errors matter")]
struct Inner {
    #[serde(default)]
    a: u64,
}

fn parse(text: &str) -> anyhow::Result<Example> {
    let file = File::new(Path::new("p.toml"), text.to_owned());
    let mut root = file.parse()?;
    let mut part = root.take_section("part")?.expect("the test has a part");
    part.take::<bool>("enabled")?;
    part.parse::<Example>()
}

#[test]
fn errors_name_path_line_and_what_is_known() {
    for (text, expected) in [
        (
            "\n[part]\nmust = true\nsizze = 3\n",
            "p.toml:4: part.sizze: unknown key; known: enabled, size, names, inner, must",
        ),
        (
            "[part]\n\nsize = 'x'\nmust = true",
            "p.toml:3: part.size: invalid type: string \"x\", expected u64",
        ),
        (
            "[part]\nmust = true\nnames = ['a',\n  3]\n",
            "p.toml:4: part.names: invalid type: integer `3`, expected a string",
        ),
        (
            "[part]\nenabled = 1\n",
            "p.toml:2: part.enabled: invalid type: integer `1`, expected a boolean",
        ),
        ("\n\n[part]\n", "p.toml:3: part: missing field `must`"),
        ("part = 1\n", "p.toml:1: part: must be a section, [part]"),
        (
            "[part]\nmust = true\n[part.inner]\na = ''",
            "p.toml:4: part.inner.a: invalid type: string \"\", expected u64",
        ),
        (
            "[part]\nmust = true\ninner.b = 1",
            "p.toml:3: part.inner.b: unknown field `b`, expected `a`",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn all_errors_of_a_section_are_told() {
    assert_eq!(
        parse("[part]\nsizze = 3\nsize = 'x'\nmust = 3\nenable = true\n")
            .unwrap_err()
            .to_string(),
        "p.toml:2: part.sizze: unknown key; known: enabled, size, names, inner, must\n\
         p.toml:3: part.size: invalid type: string \"x\", expected u64\n\
         p.toml:4: part.must: invalid type: integer `3`, expected a boolean\n\
         p.toml:5: part.enable: unknown key; known: enabled, size, names, inner, must",
    );
    assert_eq!(
        parse("[part]\nsizze = 3\n").unwrap_err().to_string(),
        "p.toml:1: part: missing field `must`\n\
         p.toml:2: part.sizze: unknown key; known: enabled, size, names, inner, must",
    );
}

#[test]
fn every_line_that_is_not_toml_is_told_once() {
    let error = parse("[part]\nsize = \nmust = true\nnames = [\"a]\n").unwrap_err();
    let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines[0].starts_with("p.toml:2: not TOML: "), "{error}");
    assert!(lines[1].starts_with("p.toml:4: not TOML: "), "{error}");
}
