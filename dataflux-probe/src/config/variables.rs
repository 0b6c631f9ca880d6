//! `${NAME}` in the texts of a configuration: what the environment says, as text and nothing else.
//!
//! It is put in after TOML has been read, into one text value at a time. So whatever a variable holds, quotes, brackets or the
//! ends of lines, stays within its value.

use std::{env, ffi::OsString};

/// What a variable is, as the process got it.
pub type Environment = fn(&str) -> Option<OsString>;

/// The environment of this process.
#[must_use]
pub fn process(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// A text with everything put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Substituted {
    pub(super) text: String,
    /// Whether it is one variable and nothing else, so that it may stand for a number or a flag as well.
    pub(super) is_whole: bool,
    /// The variables that it has, with what they stood for.
    pub(super) used: Vec<(String, String)>,
}

/// Puts variables in: `${NAME}`, `${NAME:-default}` if it is not set or empty; `$$` is a `$`, and any other `$` itself. `None`
/// if the text stays as it is.
///
/// # Errors
/// A variable is not set, or there is none where one begins.
pub(super) fn substitute(
    text: &str,
    environment: Environment,
) -> Result<Option<Substituted>, String> {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    let mut used = Vec::new();
    let mut is_whole = false;
    let mut changed = false;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            (rest, changed) = (after, true);
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after
                .split_once('}')
                .ok_or("`${` without `}`; a `$` that is meant as such is `$$`")?;
            let (name, value) = look_up(inside, environment)?;
            is_whole = out.is_empty() && after.is_empty() && !changed;
            out.push_str(&value);
            used.push((name.to_owned(), value));
            (rest, changed) = (after, true);
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(changed.then_some(Substituted {
        text: out,
        is_whole,
        used,
    }))
}

/// The name of a variable, and what it stands for.
fn look_up(inside: &str, environment: Environment) -> Result<(&str, String), String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) || name.as_bytes()[0].is_ascii_digit() {
        return Err(format!(
            "`${{{name}}}` names no variable: letters, digits and _, and no digit first; a `$` that is meant as such is `$$`"
        ));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!(
            "the default of {name} must not have a variable in it"
        ));
    }
    let value = match environment(name).map(OsString::into_string) {
        Some(Ok(value)) => Some(value),
        Some(Err(_)) => return Err(format!("the variable {name} is not UTF-8")),
        None => None,
    };
    let value = match (value, default) {
        (Some(value), None) => value,
        (Some(value), Some(_)) if !value.is_empty() => value,
        (_, Some(default)) => default.to_owned(),
        (None, None) => {
            return Err(format!(
                "the variable {name} is not set; ${{{name}:-...}} has a default"
            ));
        }
    };
    Ok((name, value))
}

/// The text that [`substitute`] makes this one of.
pub(super) fn escape(text: &str) -> String {
    // A `$` alone is itself; those before `$` or `{` are not.
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        out.push(character);
        if character == '$' && matches!(rest.peek(), Some('$' | '{')) {
            out.push('$');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    fn environment(name: &str) -> Option<OsString> {
        match name {
            "HOST" => Some("vm".into()),
            "EMPTY" => Some(OsString::new()),
            "EVIL" => Some("\"]\n[metrics.cpu]\nx = ${HOST}$$".into()),
            "BYTES" => Some(OsString::from_vec(vec![0xff])),
            "N_1" => Some("5".into()),
            _ => None,
        }
    }

    fn text(text: &str) -> Result<String, String> {
        let done = substitute(text, environment)?;
        Ok(done.map_or_else(|| text.to_owned(), |done| done.text))
    }

    #[test]
    fn variables_are_put_in() {
        for (given, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("a ${HOST} b${HOST}", "a vm bvm"),
            ("${N_1}s", "5s"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b $ c}", "a:-b $ c"),
            ("${HOST:-x}", "vm"),
            // Nothing of what is put in is looked at again.
            ("${EVIL}", "\"]\n[metrics.cpu]\nx = ${HOST}$$"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$vm"),
            ("^a$", "^a$"),
            ("$HOST $1 $", "$HOST $1 $"),
        ] {
            assert_eq!(text(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_variable_is_told() {
        for (given, expected) in [
            (
                "${NONE}",
                "the variable NONE is not set; ${NONE:-...} has a default",
            ),
            ("${BYTES}", "the variable BYTES is not UTF-8"),
            ("${HOST", "`${` without `}`"),
            ("${}", "`${}` names no variable"),
            ("${1A}", "`${1A}` names no variable"),
            ("${a b}", "`${a b}` names no variable"),
            (
                "${NONE:-${HOST}}",
                "the default of NONE must not have a variable in it",
            ),
        ] {
            let told = text(given).unwrap_err();
            assert!(told.starts_with(expected), "{given}: {told}");
        }
    }

    #[test]
    fn what_is_one_variable_is_known() {
        let whole = |text: &str| {
            substitute(text, environment)
                .unwrap()
                .is_some_and(|done| done.is_whole)
        };
        assert!(whole("${HOST}") && whole("${NONE:-true}"));
        for text in [
            "a",
            "$$",
            "$${A}",
            "${HOST}${HOST}",
            "${HOST} ",
            " ${HOST}",
            "$${HOST}${HOST}",
        ] {
            assert!(!whole(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_escaped(given in "[a${}A:\\-]{0,12}") {
            prop_assert_eq!(text(&escape(&given)), Ok(given));
        }

        #[test]
        fn no_text_is_too_strange(given: String) {
            drop(substitute(&given, environment));
        }
    }
}
