//! Starts, stops and mistreats the brokers of a cluster.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    cluster::{Cluster, Node},
    engine::Engine,
};
use crate::command;

/// How long a broker may take to serve, or to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a broker may take to hand over what it has before it is killed.
const GRACE: Duration = Duration::from_secs(30);

/// What may be done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Act {
    /// Start it and wait until it serves
    Start,
    /// SIGTERM, and wait until it is gone
    Stop,
    /// SIGKILL
    Kill,
    /// SIGSTOP: it hangs with its connections open
    Pause,
    /// SIGCONT
    Resume,
    /// Remove its data and make an empty store; it must not run
    Empty,
}

impl Cluster {
    /// Does something to one node.
    pub(super) fn act(&self, id: u32, act: Act) -> anyhow::Result<()> {
        let node = self
            .nodes
            .iter()
            .find(|node| node.id == id)
            .with_context(|| format!("there is no node {id}"))?;
        match act {
            Act::Start => self.start(&[node]),
            Act::Stop => self.stop(node, Signal::TERM),
            Act::Kill => self.stop(node, Signal::KILL),
            Act::Pause => self.signal(node, Signal::STOP),
            Act::Resume => self.signal(node, Signal::CONT),
            Act::Empty => {
                if self.process(node).is_some() {
                    bail!("node {id} runs");
                }
                let data = self.node_folder(id).join("data");
                fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
                self.format(&[node])
            }
        }
    }

    /// Starts every node that does not run.
    pub(super) fn start_all(&self) -> anyhow::Result<()> {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| self.process(node).is_none())
            .collect();
        self.start(&nodes)
    }

    /// Makes an empty store for every node.
    pub(super) fn format_all(&self) -> anyhow::Result<()> {
        self.format(&self.nodes.iter().collect::<Vec<_>>())
    }

    /// Ends every node at once: its data goes with it.
    pub(super) fn kill_all(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            if self.process(node).is_some() {
                self.stop(node, Signal::KILL)?;
            }
        }
        Ok(())
    }

    /// Starts nodes together, since they wait for each other, and waits until they serve.
    fn start(&self, nodes: &[&Node]) -> anyhow::Result<()> {
        let mut begun = Vec::new();
        for node in nodes {
            if let Some(pid) = self.process(node) {
                bail!("node {} runs already, process {pid:?}", node.id);
            }
            let log = File::options()
                .create(true)
                .append(true)
                .open(self.log(node.id))
                .context("cannot open the node's log")?;
            let from = log.metadata().context("cannot size the node's log")?.len();
            let errors = log.try_clone().context("cannot open the node's log")?;
            let child = self
                .java(node, "kafka.Kafka")
                .arg(self.properties(node.id))
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors)
                .process_group(0)
                .spawn()
                .context("cannot start a broker")?;
            fs::write(self.pid_file(node), child.id().to_string()).context("cannot note a pid")?;
            begun.push((node, child, from));
        }
        for (node, mut child, from) in begun {
            let log = self.log(node.id);
            wait(&format!("node {} serves", node.id), PATIENCE, || {
                if read_from(&log, from)?.contains("Kafka Server started") {
                    return Ok(Some(()));
                }
                match child.try_wait().context("cannot watch a broker")? {
                    None => Ok(None),
                    Some(status) => bail!(
                        "node {} ended ({status}):\n{}",
                        node.id,
                        last_lines(&read_from(&log, from)?)
                    ),
                }
            })?;
        }
        Ok(())
    }

    /// Ends a node. One that does not go by itself is killed.
    fn stop(&self, node: &Node, signal: Signal) -> anyhow::Result<()> {
        self.signal(node, signal)?;
        let gone = || Ok(self.process(node).is_none().then_some(()));
        let what = format!("node {} stops", node.id);
        if signal == Signal::KILL || wait(&what, GRACE, gone).is_err() {
            // It may have gone in between.
            drop(self.signal(node, Signal::KILL));
            wait(&what, PATIENCE, gone)?;
        }
        Ok(())
    }

    fn signal(&self, node: &Node, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = self.process(node) else {
            bail!("node {} does not run", node.id);
        };
        match self.engine {
            Engine::Java => kill_process(pid, signal).context("cannot signal a broker"),
            Engine::Docker => command::read(
                Command::new("docker")
                    .arg("kill")
                    .args(["--signal", &signal.as_raw().to_string()])
                    .arg(self.container(node)),
            )
            .map(drop),
        }
    }

    /// The process of a node, if it is still the one that was started.
    fn process(&self, node: &Node) -> Option<Pid> {
        let number = fs::read_to_string(self.pid_file(node)).ok()?;
        let status = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        // The state follows the name, which is in parentheses. One that nobody waited for is gone.
        let (_, state) = status.rsplit_once(") ")?;
        if state.starts_with('Z') {
            return None;
        }
        let line = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let ours = self.properties(node.id);
        line.split(|&byte| byte == 0)
            .any(|word| word == ours.as_os_str().as_encoded_bytes())
            .then(|| Pid::from_raw(number.parse().ok()?))?
    }

    fn pid_file(&self, node: &Node) -> std::path::PathBuf {
        self.node_folder(node.id).join("pid")
    }

    fn format(&self, nodes: &[&Node]) -> anyhow::Result<()> {
        let mut running = Vec::new();
        for node in nodes {
            let mut format = self.java(node, "kafka.tools.StorageTool");
            format
                .args(["format", "--ignore-formatted"])
                // One word: the id may begin with a dash.
                .arg(format!("--cluster-id={}", self.cluster_id))
                .arg("--config")
                .arg(self.properties(node.id));
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                format.arg("--add-scram").arg(format!(
                    "{mechanism}=[name={},password={}]",
                    self.user, self.password
                ));
            }
            running.push(
                format
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .context("cannot format a broker's store")?,
            );
        }
        for child in running {
            let output = child
                .wait_with_output()
                .context("cannot format a broker's store")?;
            if !output.status.success() {
                bail!(
                    "cannot format a broker's store: {}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
        Ok(())
    }

    /// A command that runs one of Kafka's classes for a node.
    fn java(&self, node: &Node, class: &str) -> Command {
        let mut command = self.engine.java(&self.folder, &self.container(node));
        let logging = self.node_folder(node.id).join("log4j2.xml");
        command
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg(class);
        command
    }

    /// The name of a node's container: the cluster's own name makes it unlike others.
    fn container(&self, node: &Node) -> String {
        let letters: String = self
            .cluster_id
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        format!("dataflux-kafka-{letters}-{}", node.id)
    }
}

/// Asks until there is an answer.
fn wait(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<()>>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    while ask()?.is_none() {
        if begin.elapsed() > patience {
            bail!("waited {} s in vain: {what}", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn read_from(path: &Path, offset: u64) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    file.seek(SeekFrom::Start(offset))
        .context("cannot read a node's log")?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .context("cannot read a node's log")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
