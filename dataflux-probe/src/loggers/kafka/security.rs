//! Encryption and authentication: protocols, mechanisms, and secrets that stand in files or the environment.

mod token;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf, absolute},
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::config::{
    Problems, Section,
    secrets::{Place, Secret},
};
pub(super) use token::Token;

/// What the connections to the brokers are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    #[default]
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    const fn encrypts(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    const fn authenticates(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    key_password_file: Option<PathBuf>,
    key_password_env: Option<String>,
    verify_host: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sasl {
    mechanism: Mechanism,
    username: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl Mechanism {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// How the brokers are talked to. Holds no secret, only where they are.
#[derive(Debug, Default)]
pub(super) struct Security {
    properties: Vec<(&'static str, String)>,
    key_password: Option<Place>,
    password: Option<Place>,
    token: Option<Place>,
    /// Every file that a producer reads or is given a secret from.
    files: Vec<PathBuf>,
}

/// Secrets as they were read.
#[derive(Debug, Default, Clone)]
pub(super) struct Secrets {
    key_password: Option<Secret>,
    password: Option<Secret>,
}

/// What a file was like, to see that it is another one now; `None` when it was not there.
type Look = Option<(u64, u64, u64, i64, i64)>;

impl Security {
    pub(super) fn new(
        section: &Section<'_>,
        protocol: Protocol,
        tls: Option<Section<'_>>,
        sasl: Option<Section<'_>>,
    ) -> anyhow::Result<Self> {
        let mut security = Self {
            properties: vec![("security.protocol", protocol.name().to_owned())],
            ..Self::default()
        };
        let mut problems = Problems::default();
        problems.note(match (tls, protocol.encrypts()) {
            (Some(tls), true) => security.tls(&tls),
            (Some(tls), false) => Err(tls.error(None, "needs security = \"ssl\" or \"sasl_ssl\"")),
            (None, true) => security.authorities(None),
            (None, false) => Ok(()),
        });
        problems.note(match (sasl, protocol.authenticates()) {
            (Some(sasl), true) => security.sasl(&sasl),
            (Some(sasl), false) => {
                let message = "needs security = \"sasl_ssl\" or \"sasl_plaintext\"";
                Err(sasl.error(None, message))
            }
            (None, true) => {
                let message = "needs sasl.mechanism, and what that needs";
                Err(section.error(Some("security"), message))
            }
            (None, false) => Ok(()),
        });
        problems.finish()?;
        Ok(security)
    }

    fn tls(&mut self, section: &Section<'_>) -> anyhow::Result<()> {
        let tls: Tls = section.parse()?;
        self.authorities(tls.ca_file)?;
        if tls.certificate_file.is_some() != tls.key_file.is_some() {
            let message = "certificate_file and key_file belong together";
            return Err(section.error(None, message));
        }
        let password = Place::new(
            section,
            "key_password",
            tls.key_password_file,
            tls.key_password_env,
        )?;
        if password.is_some() && tls.key_file.is_none() {
            return Err(section.error(None, "a key_password without a key_file"));
        }
        for (name, file) in [
            ("ssl.certificate.location", tls.certificate_file),
            ("ssl.key.location", tls.key_file),
        ] {
            if let Some(file) = file {
                self.file(name, &file)?;
            }
        }
        if tls.verify_host == Some(false) {
            let name = "ssl.endpoint.identification.algorithm";
            self.properties.push((name, "none".to_owned()));
        }
        self.watch(password.as_ref());
        self.key_password = password;
        Ok(())
    }

    /// The system's authorities are looked for where distributions keep them.
    fn authorities(&mut self, file: Option<PathBuf>) -> anyhow::Result<()> {
        match file {
            Some(file) => self.file("ssl.ca.location", &file),
            None => {
                self.properties
                    .push(("ssl.ca.location", "probe".to_owned()));
                Ok(())
            }
        }
    }

    fn sasl(&mut self, section: &Section<'_>) -> anyhow::Result<()> {
        let sasl: Sasl = section.parse()?;
        let password = Place::new(section, "password", sasl.password_file, sasl.password_env)?;
        let token = Place::new(section, "token", sasl.token_file, sasl.token_env)?;
        let by_token = sasl.mechanism == Mechanism::OauthBearer;
        let name = sasl.mechanism.name();
        let wrong = |message: &str| section.error(Some("mechanism"), format!("{name} {message}"));
        if by_token {
            if token.is_none() || password.is_some() || sasl.username.is_some() {
                return Err(wrong("needs token_file or token_env, and nothing else"));
            }
        } else if sasl.username.is_none() || password.is_none() || token.is_some() {
            return Err(wrong(
                "needs username, and password_file or password_env, and no token",
            ));
        }
        self.properties.push(("sasl.mechanism", name.to_owned()));
        if let Some(username) = sasl.username {
            self.properties.push(("sasl.username", username));
        }
        self.watch(password.as_ref());
        self.watch(token.as_ref());
        self.password = password;
        self.token = token;
        Ok(())
    }

    fn file(&mut self, property: &'static str, path: &Path) -> anyhow::Result<()> {
        let path = absolute(path).context("finding the current folder")?;
        self.properties.push((property, path.display().to_string()));
        self.files.push(path);
        Ok(())
    }

    fn watch(&mut self, place: Option<&Place>) {
        let file = place.and_then(Place::file);
        self.files.extend(file.map(Path::to_owned));
    }

    /// Every file that a producer reads or is given a secret from.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What a producer is made of, without secrets.
    pub(super) fn properties(&self) -> impl Iterator<Item = (String, String)> {
        let properties = self.properties.iter();
        properties.map(|(name, value)| ((*name).to_owned(), value.clone()))
    }

    /// Reads every secret but the token.
    ///
    /// # Errors
    /// One cannot be read, or cannot be a secret.
    pub(super) fn read(&self) -> anyhow::Result<Secrets> {
        let read = |place: &Option<Place>| place.as_ref().map(Place::read).transpose();
        if let Some(token) = &self.token {
            token.read()?;
        }
        // Librdkafka does not say which file it is.
        for path in &self.files {
            fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
        }
        Ok(Secrets {
            key_password: read(&self.key_password)?,
            password: read(&self.password)?,
        })
    }

    /// Reads the token.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(super) fn token(&self) -> anyhow::Result<Token> {
        let place = self.token.as_ref().context("no token is configured")?;
        Ok(Token::new(place.read()?))
    }

    /// What the files are like now.
    pub(super) fn look(&self) -> Vec<Look> {
        let look = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            Some((
                file.dev(),
                file.ino(),
                file.len(),
                file.mtime(),
                file.mtime_nsec(),
            ))
        };
        self.files.iter().map(look).collect()
    }
}

impl Secrets {
    /// As librdkafka's properties.
    pub(super) fn properties(&self) -> impl Iterator<Item = (String, String)> {
        let secrets = [
            ("ssl.key.password", &self.key_password),
            ("sasl.password", &self.password),
        ];
        secrets.into_iter().filter_map(|(name, secret)| {
            Some((name.to_owned(), secret.as_ref()?.expose().to_owned()))
        })
    }

    /// The text without any secret.
    pub(super) fn hide(&self, text: &str) -> String {
        let secrets = [&self.key_password, &self.password];
        secrets
            .into_iter()
            .flatten()
            .fold(text.to_owned(), |text, secret| secret.hide(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let secret = |text: &str| Some(Secret::new(text.to_owned()));
        let secrets = Secrets {
            key_password: secret("first-hidden"),
            password: secret("second-hidden"),
        };
        let token = Token::new(Secret::new("third-hidden".to_owned()));
        let shown = format!("{secrets:?} {secrets:#?} {token:?} {token:#?}");
        assert!(!shown.contains("hidden"), "{shown}");
        let told =
            token.hide(&secrets.hide("a first-hidden second-hiddensecond-hidden third-hidden"));
        assert_eq!(told, "a [secret] [secret][secret] [secret]");
    }
}
