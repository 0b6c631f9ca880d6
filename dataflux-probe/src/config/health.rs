//! `[health]`: how a service manager learns whether the probe works.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::{Section, known};
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
    let health: Health = section.parse()?;
    let listen = health.listen.map(|text| address(section, &text));
    let settings = Settings {
        listen: listen.transpose()?,
        file: health.file,
    };
    if let Some(file) = &settings.file
        && !(file.is_absolute() && file.file_name().is_some())
    {
        return Err(section.error(Some("file"), "is not the absolute path of a file"));
    }
    if let Some(file) = &settings.file
        && (file.as_os_str().as_encoded_bytes().ends_with(b"/") || file.is_dir())
    {
        return Err(section.error(Some("file"), "is a folder; name a file in it"));
    }
    if settings == Settings::default() {
        let message = "names no one to tell: set listen = \"127.0.0.1:8081\", a file, or both";
        return Err(section.error(None, message));
    }
    Ok(if health.enabled {
        settings
    } else {
        Settings::default()
    })
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
