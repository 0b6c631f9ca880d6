//! A Kafka for tests: `cargo xtask kafka up`, which ends with the test program.

use std::{
    env,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use dataflux_tests::{probe::until, workspace};
use serde_json::Value;

/// A running cluster. Taken down when dropped, or when the test program ends in whatever way.
pub(crate) struct Cluster {
    child: Child,
    description: Value,
}

impl Cluster {
    /// The one that all tests share which do it no harm.
    ///
    /// # Panics
    /// It does not start.
    pub(crate) fn shared(test: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        is_possible(test).then(|| SHARED.get_or_init(|| Self::start(1, &[])))
    }

    /// One for a test of its own, with broker settings `KEY=VALUE`.
    ///
    /// # Panics
    /// It does not start.
    pub(crate) fn own(test: &str, nodes: u32, properties: &[&str]) -> Option<Self> {
        is_possible(test).then(|| Self::start(nodes, properties))
    }

    fn start(nodes: u32, properties: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let mut command = Command::new(xtask());
        command
            .args(["kafka", "up", "--attached", "--folder"])
            // The command removes it.
            .arg(folder.keep())
            .args(["--nodes", &nodes.to_string()]);
        for property in properties {
            command.args(["--property", property]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A key press that ends the tests leaves it alive to clean up.
            .process_group(0)
            .spawn()
            .expect("xtask starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut file = String::new();
        BufReader::new(stdout)
            .read_line(&mut file)
            .expect("xtask prints text");
        let text = std::fs::read_to_string(file.trim()).expect("xtask says where the cluster is");
        Self {
            child,
            description: serde_json::from_str(&text).expect("xtask writes JSON"),
        }
    }

    /// Addresses of a listener, as clients want them.
    pub(crate) fn bootstrap(&self, listener: &str) -> &str {
        self.text(&["bootstrap", listener])
    }

    /// A text of `cluster.json`.
    pub(crate) fn text(&self, path: &[&str]) -> &str {
        let found = path
            .iter()
            .fold(&self.description, |value, key| &value[key]);
        found
            .as_str()
            .unwrap_or_else(|| panic!("no {path:?} in {}", self.description))
    }

    /// Where the first node's proxied listener listens, and where it tells clients that it does.
    pub(crate) fn proxied(&self) -> (&str, &str) {
        let proxied = &self.description["nodes"][0]["proxied"];
        let text = |name: &str| proxied[name].as_str().expect("an address");
        (text("listens"), text("advertises"))
    }

    /// `cargo xtask kafka node ID ACT`.
    ///
    /// # Panics
    /// It fails.
    pub(crate) fn act(&self, node: u32, act: &str) {
        let status = Command::new(xtask())
            .args(["kafka", "node", &node.to_string(), act, "--folder"])
            .arg(self.text(&["folder"]))
            .status()
            .expect("xtask starts");
        assert!(status.success(), "node {node} {act}: {status}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The end of its standard input is its signal.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// Whether a broker can run here. A test that cannot have one says so; it fails where one is required.
fn is_possible(test: &str) -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let possible = *POSSIBLE.get_or_init(|| {
        let answers = |program: &str, argument: &str| {
            let mut command = Command::new(program);
            let quiet = command.arg(argument).stdout(Stdio::null());
            let status = quiet.stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let broker = || answers("java", "-version") || answers("docker", "info");
        is_required() || answers("kcat", "-V") && broker()
    });
    if !possible {
        println!("skipped, needs kcat and Java or a container engine: {test}");
    }
    possible
}

/// Whether `cargo xtask test` has made sure that a broker and its clients are here.
pub(crate) fn is_required() -> bool {
    env::var_os("DATAFLUX_KAFKA_TESTS").is_some_and(|value| value == "required")
}

/// The program of the developer commands.
fn xtask() -> &'static PathBuf {
    static XTASK: OnceLock<PathBuf> = OnceLock::new();
    XTASK.get_or_init(|| workspace::build("xtask"))
}

/// Runs a client to its end and returns what it prints.
///
/// # Panics
/// It fails.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Waits until a topic has so many envelopes.
pub(crate) fn until_there_are(cluster: &Cluster, topic: &str, count: usize) -> Vec<Value> {
    until(&format!("{count} envelopes in {topic}"), || {
        let found = super::consume::envelopes(cluster, topic);
        (found.len() >= count).then_some(found)
    })
}
