//! Secrets: they stand in files or the environment, a configuration only says where. What looks like one all the same is
//! never shown.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf, absolute},
};

use anyhow::{Context as _, ensure};

use super::Section;

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "[secret]";

/// What the names of keys and variables end with that hold a secret themselves.
const NAMES: [&str; 8] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "credential",
    "credentials",
    "api_key",
    "access_key",
];

/// Whether what has this name is a secret: by the last of its words. Not that of a file, whose name ends with `_file`.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['.', '-'], "_");
    NAMES.iter().any(|word| {
        name.strip_suffix(word)
            .is_some_and(|before| before.is_empty() || before.ends_with('_'))
    }) || name.ends_with("_pass")
        || name.ends_with("_pwd")
        || name.ends_with("private_key")
}

/// What may be the users and passwords of addresses, as in `https://user:password@host/`, and the passwords by themselves. A
/// password may have any character in it, so each goes on to the last `@` before a space, or before the path if that is later.
pub(super) fn of_addresses(text: &str) -> impl Iterator<Item = &str> {
    let found = text.match_indices("://").flat_map(|(at, scheme)| {
        let rest = &text[at + scheme.len()..];
        let ends = [rest.find(char::is_whitespace), rest.find(['/', '?', '#'])];
        ends.map(|end| Some(rest[..end.unwrap_or(rest.len())].rsplit_once('@')?.0))
    });
    found.flatten().flat_map(|user| {
        let password = user.split_once(':').map_or("", |(_, password)| password);
        [user, password].into_iter().filter(|part| !part.is_empty())
    })
}

/// The text without users and passwords of addresses.
pub(super) fn without_users(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let all = of_addresses(&rest[before.len()..]);
        let longest = all
            .filter(|user| after.starts_with(user))
            .map(str::len)
            .max();
        shown.extend([before, "://"]);
        rest = after;
        if let Some(length) = longest {
            shown.push_str(MASK);
            rest = &after[length..];
        }
    }
    shown + rest
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

impl Secret {
    /// Keeps a text.
    #[cfg(test)]
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// For whoever has to give it to somebody.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The text without it.
    pub(crate) fn hide(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        text.replace(&self.0, MASK)
    }
}

/// Where a secret is. It is read whenever it is needed, so that one that was replaced is noticed.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
}

impl Place {
    /// Of the secret that a section gives by `KEY_file` or `KEY_env`, one of them at most. This is how every plugin is told of
    /// a secret, and none has a key that holds one itself.
    ///
    /// # Errors
    /// Both are there.
    pub(crate) fn new(
        section: &Section<'_>,
        key: &str,
        file: Option<PathBuf>,
        variable: Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        match (file, variable) {
            (Some(_), Some(_)) => {
                let message = format!("is given beside {key}_file");
                Err(section.error(Some(&format!("{key}_env")), message))
            }
            (Some(file), None) => {
                let file = absolute(file).context("finding the current folder")?;
                Ok(Some(Self::File(file)))
            }
            (None, Some(variable)) => Ok(Some(Self::Variable(variable))),
            (None, None) => Ok(None),
        }
    }

    /// Its file, if it is in one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Variable(_) => None,
        }
    }

    /// The text without the end of its line.
    ///
    /// # Errors
    /// It is not there, empty, or no text.
    pub(crate) fn read(&self) -> anyhow::Result<Secret> {
        let (text, origin) = match self {
            Self::File(path) => {
                let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                (String::from_utf8(text).ok(), path.display().to_string())
            }
            Self::Variable(name) => {
                let text =
                    env::var_os(name).with_context(|| format!("the variable {name} is not set"))?;
                (text.into_string().ok(), name.clone())
            }
        };
        let text = text.with_context(|| format!("{origin} is not UTF-8"))?;
        let text = text.trim_end_matches(['\n', '\r']);
        ensure!(!text.is_empty(), "{origin} is empty");
        ensure!(!text.contains('\0'), "{origin} has a zero byte");
        Ok(Secret(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "password",
            "key_password",
            "SASL_PASSWORD",
            "ssl.key.password",
            "GITHUB_TOKEN",
            "client-secret",
            "api_key",
            "DB_PASS",
            "ssh_private_key",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "password_file",
            "token_env",
            "key",
            "partition_key",
            "tokens",
            "compass",
            "bypass",
            "topic",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn users_and_passwords_of_addresses_are_found() {
        for (text, password, shown) in [
            ("https://u:p@h/", "p", "https://[secret]@h/"),
            ("http://u:hun/ter2@h", "hun/ter2", "http://[secret]@h"),
            (
                "x://u:a?b#c/d@e:f@h/g h@i",
                "a?b#c/d@e:f",
                "x://[secret]@h/g h@i",
            ),
            ("see a://u:1 2@h:9", "1 2", "see a://[secret]@h:9"),
            (
                "a://u:12@h, b://:xy@h.",
                "xy",
                "a://[secret]@h, b://[secret]@h.",
            ),
            ("x://u:a://b@h", "a://b", "x://[secret]@h"),
            ("https://token@h", "token", "https://[secret]@h"),
            ("x://:p@h", "p", "x://[secret]@h"),
            ("x://u:@h", "u:", "x://[secret]@h"),
        ] {
            let found: Vec<_> = of_addresses(text).collect();
            assert!(found.contains(&password), "{text}: {found:?}");
            assert_eq!(without_users(text), shown);
        }
        for text in ["", "https://h:9/a b@c", "u:p@h", "://", "x://@h", "://@"] {
            assert_eq!(of_addresses(text).next(), None, "{text}");
            assert_eq!(without_users(text), text);
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {secret:#?}"), "[secret] [secret]");
        assert_eq!(secret.hide("a hunter2"), "a [secret]");
        assert_eq!(Secret::new(String::new()).hide("a"), "a");
    }
}
