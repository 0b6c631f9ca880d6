//! What a cluster is: nodes, addresses, users and certificates, written to `cluster.json` for whoever uses it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::{
    certificates::{self, Certificates},
    engine::Engine,
    properties,
};

/// The user of every SASL listener. Throw-away, as everything here.
const USER: &str = "probe";
const PASSWORD: &str = "probe-secret";

/// Ports are chosen below those that Linux gives to outgoing connections, so that a stopped broker finds its own free again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A cluster in a folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cluster {
    /// Where it lives; absolute.
    pub(crate) folder: PathBuf,
    /// What runs it.
    pub(super) engine: Engine,
    /// Kafka's own name of it.
    pub(super) cluster_id: String,
    /// The brokers.
    pub(crate) nodes: Vec<Node>,
    /// Addresses of all nodes with commas between them, by listener.
    pub(crate) bootstrap: BTreeMap<String, String>,
    /// Of every SASL listener, for PLAIN and both SCRAM mechanisms.
    pub(super) user: String,
    pub(super) password: String,
    /// For OAUTHBEARER.
    pub(super) token: String,
    /// Files for TLS.
    pub(super) certificates: Certificates,
    /// Broker settings that were asked for beside the usual ones.
    pub(super) extra: BTreeMap<String, String>,
}

/// One broker, which is a controller too.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    /// From 1.
    pub(crate) id: u32,
    /// Addresses by the listener's name in lower case.
    pub(crate) listeners: BTreeMap<String, String>,
    /// A listener that names another address than its own to clients: for a proxy between them and the broker.
    pub(super) proxied: Proxied,
    /// Between controllers.
    pub(super) controller: String,
}

/// A plain listener behind an address where nothing listens until somebody puts a proxy there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Proxied {
    /// Where the broker listens.
    pub(super) listens: String,
    /// Where it tells clients to connect to.
    pub(super) advertises: String,
}

impl Cluster {
    /// Chooses names and ports of a new cluster.
    pub(super) fn plan(
        folder: &Path,
        engine: Engine,
        nodes: u32,
        extra: BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let mut ports = Ports::new()?;
        let nodes = (1..=nodes)
            .map(|id| Node::plan(id, &mut ports))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut bootstrap: BTreeMap<String, String> = BTreeMap::new();
        for node in &nodes {
            let proxied = ("proxied".to_owned(), node.proxied.advertises.clone());
            for (name, address) in node.listeners.clone().into_iter().chain([proxied]) {
                let known = bootstrap.entry(name).or_default();
                if !known.is_empty() {
                    known.push(',');
                }
                known.push_str(&address);
            }
        }
        Ok(Self {
            engine,
            cluster_id: base64url(&random::<16>()?),
            nodes,
            bootstrap,
            user: USER.to_owned(),
            password: PASSWORD.to_owned(),
            token: unsecured_token(USER),
            certificates: Certificates::in_folder(&folder.join("certificates")),
            folder: folder.to_owned(),
            extra,
        })
    }

    /// The cluster of a folder, if there is one.
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Option<Self>> {
        let file = Self::file(folder);
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        serde_json::from_str(&text)
            .with_context(|| file.display().to_string())
            .map(Some)
    }

    /// Where a cluster says what it is.
    pub(super) fn file(folder: &Path) -> PathBuf {
        folder.join("cluster.json")
    }

    /// Makes certificates and configurations, formats the storage, and notes the cluster.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        certificates::make(&self.certificates)?;
        for node in &self.nodes {
            let folder = self.node_folder(node.id);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let properties = properties::server(self, node);
            fs::write(self.properties(node.id), properties).context("server.properties")?;
            fs::write(folder.join("log4j2.xml"), properties::LOG4J).context("log4j2.xml")?;
        }
        self.format_all()?;
        let text = serde_json::to_string_pretty(self).context("cluster.json")?;
        fs::write(Self::file(&self.folder), text).context("cluster.json")
    }

    /// Ends the nodes and removes what this made.
    pub(super) fn end(&self) -> anyhow::Result<()> {
        self.kill_all()?;
        for node in &self.nodes {
            remove(&self.node_folder(node.id), |path| fs::remove_dir_all(path))?;
        }
        remove(&self.folder.join("certificates"), |path| {
            fs::remove_dir_all(path)
        })?;
        remove(&Self::file(&self.folder), |path| fs::remove_file(path))?;
        remove(&lock_file(&self.folder), |path| fs::remove_file(path))
    }

    /// The folder of a node.
    pub(super) fn node_folder(&self, id: u32) -> PathBuf {
        self.folder.join(format!("node-{id}"))
    }

    /// What a node is started with.
    pub(super) fn properties(&self, id: u32) -> PathBuf {
        self.node_folder(id).join("server.properties")
    }

    /// What a node says.
    pub(super) fn log(&self, id: u32) -> PathBuf {
        self.node_folder(id).join("log")
    }

    /// How a person uses it.
    pub(super) fn usage(&self) -> String {
        let Self {
            folder,
            bootstrap,
            user,
            password,
            ..
        } = self;
        let file = Self::file(folder);
        let mut lines = vec![format!("Kafka serves, by {}:", self.engine)];
        lines.extend(
            bootstrap
                .iter()
                .filter(|(name, _)| *name != "proxied")
                .map(|(name, addresses)| format!("    {name:<15} {addresses}")),
        );
        lines.push(format!(
            "SASL user {user}, password {password} (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512), or the token of OAUTHBEARER in\n\
             {}, certificates in {}",
            file.display(),
            folder.join("certificates").display(),
        ));
        let plaintext = &bootstrap["plaintext"];
        lines.push(format!(
            "In a configuration of the probe:\n    logger = \"kafka\"\n    kafka = {{ brokers = [\"{}\"], topic = \"dataflux\" }}",
            plaintext.replace(',', "\", \"")
        ));
        lines.push(format!(
            "To look at what arrives:\n    kcat -b {plaintext} -t dataflux -C"
        ));
        lines.join("\n")
    }
}

impl Node {
    fn plan(id: u32, ports: &mut Ports) -> anyhow::Result<Self> {
        let listeners = properties::LISTENERS
            .iter()
            .map(|name| Ok((name.to_ascii_lowercase(), ports.next()?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            id,
            listeners,
            proxied: Proxied {
                listens: ports.next()?,
                advertises: ports.next()?,
            },
            controller: ports.next()?,
        })
    }
}

/// Free ports of loopback, held until all are chosen so that no two are one.
struct Ports {
    next: u16,
    held: Vec<TcpListener>,
}

impl Ports {
    /// Begins anywhere: two commands at once are not to choose the same.
    fn new() -> anyhow::Result<Self> {
        let span = PORTS.end - PORTS.start;
        Ok(Self {
            next: PORTS.start + u16::from_le_bytes(random()?) % span,
            held: Vec::new(),
        })
    }

    fn next(&mut self) -> anyhow::Result<String> {
        for _ in PORTS {
            let address = format!("127.0.0.1:{}", self.next);
            self.next += 1;
            if self.next == PORTS.end {
                self.next = PORTS.start;
            }
            if let Ok(listener) = TcpListener::bind(&address) {
                self.held.push(listener);
                return Ok(address);
            }
        }
        bail!("no port of loopback is free between {PORTS:?}");
    }
}

/// Keeps two commands from one folder.
pub(super) fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = lock_file(folder);
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    file.lock().with_context(|| path.display().to_string())?;
    Ok(file)
}

fn lock_file(folder: &Path) -> PathBuf {
    folder.join("lock")
}

fn remove(path: &Path, by: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    match by(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty()).context("getrandom")?;
    anyhow::ensure!(filled == N, "getrandom gave {filled} bytes of {N}");
    Ok(bytes)
}

/// A token that nobody signed, for a broker that was told to take such.
fn unsecured_token(subject: &str) -> String {
    // Valid for the whole of 32-bit time.
    let claims = format!(r#"{{"sub":"{subject}","iat":1,"exp":4102444800}}"#);
    format!(
        "{}.{}.",
        base64url(br#"{"alg":"none"}"#),
        base64url(claims.as_bytes())
    )
}

/// Base64 for URLs, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for position in 0..=chunk.len() {
            let sextet = group >> (18 - 6 * position) & 63;
            text.push(char::from(ALPHABET[sextet as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_for_urls_has_no_padding() {
        assert_eq!(base64url(b""), "");
        assert_eq!(base64url(b"f"), "Zg");
        assert_eq!(base64url(b"fo"), "Zm8");
        assert_eq!(base64url(b"foo"), "Zm9v");
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn no_two_ports_are_one() {
        let mut ports = Ports::new().unwrap();
        let addresses: Vec<_> = (0..40).map(|_| ports.next().unwrap()).collect();
        let different: std::collections::BTreeSet<_> = addresses.iter().collect();
        assert_eq!(different.len(), addresses.len());
    }
}
