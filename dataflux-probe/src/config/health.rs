//! `[health]`: how a service manager learns whether the probe works.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Section, known, places};
use crate::health::Settings;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Health {
    #[serde(default = "enabled")]
    enabled: bool,
    listen: Option<String>,
    file: Option<PathBuf>,
}

fn enabled() -> bool {
    true
}

/// Those that it knows.
pub(super) fn keys() -> Option<&'static [&'static str]> {
    known::keys::<Health>()
}

/// Checks a section that is there.
pub(super) fn settings(section: &Section<'_>) -> anyhow::Result<Settings> {
    section.build(|health: Health, problems| {
        let listen = health.listen.map(|text| address(section, &text));
        let settings = Settings {
            listen: problems.note(listen.transpose()).flatten(),
            file: health.file,
        };
        if let Some(wrong) = settings.file.as_deref().and_then(wrong_file) {
            problems.push(section.error(Some("file"), wrong));
        }
        if problems.is_empty() && settings == Settings::default() {
            let message = "names no one to tell: set listen = \"127.0.0.1:8081\", a file, or both";
            return Err(section.error(None, message));
        }
        Ok(if health.enabled {
            settings
        } else {
            Settings::default()
        })
    })
}

fn wrong_file(file: &Path) -> Option<String> {
    if !file.is_absolute() || file.file_name().is_none() {
        return Some("is not the absolute path of a file".to_owned());
    }
    if file.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Some("is a folder; name a file in it".to_owned());
    }
    places::no_file(file)
}

fn address(section: &Section<'_>, text: &str) -> anyhow::Result<SocketAddr> {
    let wrong = |message: &str| section.error(Some("listen"), format!("`{text}` {message}"));
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(wrong("has no port that one could ask on")),
        Ok(address) => Ok(address),
        Err(_) => Err(wrong(
            "is not an address with a port, like \"127.0.0.1:8081\" or \"[::1]:8081\"",
        )),
    }
}
