//! Throw-away certificates: an authority, the brokers' and a client's, by openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{command, setup};

/// Of the client's encrypted key.
const KEY_PASSWORD: &str = "key-secret";

/// Files in PEM.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Certificates {
    /// Whom both sides trust.
    pub(super) ca: PathBuf,
    /// The brokers' key and certificate in one file, for `localhost` and 127.0.0.1.
    pub(super) server: PathBuf,
    /// A client's certificate.
    pub(super) client: PathBuf,
    /// Its key.
    pub(super) client_key: PathBuf,
    /// The same key behind a password.
    pub(super) client_key_encrypted: PathBuf,
    /// That password.
    pub(super) client_key_password: String,
}

impl Certificates {
    /// Where they are in a folder of their own.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            server: folder.join("server.pem"),
            client: folder.join("client.pem"),
            client_key: folder.join("client.key"),
            client_key_encrypted: folder.join("client.encrypted.key"),
            client_key_password: KEY_PASSWORD.to_owned(),
        }
    }
}

/// Makes them all anew.
pub(super) fn make(certificates: &Certificates) -> anyhow::Result<()> {
    if command::find("openssl").is_none() && setup::has_apt() {
        setup::install_packages("certificates", &["openssl"])?;
    }
    let folder = certificates
        .ca
        .parent()
        .context("certificates have a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let ca_key = folder.join("ca.key");
    let server_key = folder.join("server.key");
    let server = folder.join("server.certificate.pem");

    key(&ca_key)?;
    openssl(|openssl| {
        openssl
            .args([
                "req",
                "-new",
                "-x509",
                "-days",
                "3650",
                "-subj",
                "/CN=throw-away authority",
            ])
            .arg("-key")
            .arg(&ca_key)
            .arg("-out")
            .arg(&certificates.ca)
    })?;
    let signed = |key_file: &Path, file: &Path, name: &str, extensions: &str| {
        key(key_file)?;
        signed(&certificates.ca, &ca_key, key_file, file, name, extensions)
    };
    signed(
        &server_key,
        &server,
        "localhost",
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )?;
    signed(
        &certificates.client_key,
        &certificates.client,
        "probe",
        "extendedKeyUsage=clientAuth\n",
    )?;
    openssl(|openssl| {
        openssl
            .args(["pkcs8", "-topk8", "-v2", "aes-256-cbc"])
            .args(["-passout", &format!("pass:{KEY_PASSWORD}")])
            .arg("-in")
            .arg(&certificates.client_key)
            .arg("-out")
            .arg(&certificates.client_key_encrypted)
    })?;
    let mut both = fs::read(&server_key).context("server.key")?;
    both.extend(fs::read(&server).context("server certificate")?);
    fs::write(&certificates.server, both).context("server.pem")
}

/// A new key, in the form that Kafka reads (PKCS #8).
fn key(file: &Path) -> anyhow::Result<()> {
    openssl(|openssl| {
        openssl
            .args([
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-out",
            ])
            .arg(file)
    })
}

/// A certificate for a key, by the authority.
fn signed(
    ca: &Path,
    ca_key: &Path,
    key: &Path,
    file: &Path,
    name: &str,
    extensions: &str,
) -> anyhow::Result<()> {
    let request = file.with_extension("request");
    let wanted = file.with_extension("extensions");
    fs::write(&wanted, extensions).context("certificate extensions")?;
    openssl(|openssl| {
        openssl
            .args(["req", "-new", "-subj", &format!("/CN={name}"), "-key"])
            .arg(key)
            .arg("-out")
            .arg(&request)
    })?;
    openssl(|openssl| {
        openssl
            .args(["x509", "-req", "-days", "3650", "-CAcreateserial", "-CA"])
            .arg(ca)
            .arg("-CAkey")
            .arg(ca_key)
            .arg("-in")
            .arg(&request)
            .arg("-extfile")
            .arg(&wanted)
            .arg("-out")
            .arg(file)
    })
}

fn openssl(arguments: impl FnOnce(&mut Command) -> &mut Command) -> anyhow::Result<()> {
    command::read(arguments(&mut Command::new("openssl"))).map(drop)
}
