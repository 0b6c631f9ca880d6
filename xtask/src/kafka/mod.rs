//! `kafka`: a real Apache Kafka on loopback, for tests and for a first look: `cargo xtask kafka up`.

mod artefacts;
mod certificates;
mod clients;
mod cluster;
mod engine;
mod node;
mod properties;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

pub(crate) use self::clients::{provide, test_consumer};
pub(crate) use self::cluster::Cluster;
use self::engine::Choice;
use crate::{command::say, workspace};

/// Tells the Kafka tests that a broker and its clients are here, so that one that cannot run is a failure.
pub(crate) const REQUIRED: (&str, &str) = ("DATAFLUX_KAFKA_TESTS", "required");

/// A real Apache Kafka on loopback with throw-away certificates: up, down, logs, node
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Start a cluster and wait until it serves; one that runs already is left as it is
    Up(Up),
    /// End the cluster and remove its data; what was downloaded stays
    Down(Folder),
    /// Print what the brokers say
    Logs {
        #[command(flatten)]
        folder: Folder,
        /// Only this node
        #[arg(long)]
        node: Option<u32>,
    },
    /// Do something to one node
    Node {
        #[command(flatten)]
        folder: Folder,
        /// Its number, from 1
        id: u32,
        /// What to do to it
        #[arg(value_enum)]
        act: node::Act,
    },
}

/// Where a cluster lives.
#[derive(clap::Args)]
struct Folder {
    /// Folder of the cluster [default: target/kafka]
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct Up {
    #[command(flatten)]
    folder: Folder,
    /// How many nodes: 1, or 3 for leaders that move
    #[arg(long, default_value_t = 1)]
    nodes: u32,
    /// What runs the brokers
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    engine: Choice,
    /// A broker setting more, KEY=VALUE; may be given again
    #[arg(long = "property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
    /// Stay until standard input ends, then take the cluster down
    #[arg(long)]
    attached: bool,
}

impl Folder {
    /// The absolute path, made if it is not there.
    fn make(&self) -> anyhow::Result<PathBuf> {
        let folder = self.path();
        fs::create_dir_all(&folder)
            .and_then(|()| folder.canonicalize())
            .with_context(|| folder.display().to_string())
    }

    fn path(&self) -> PathBuf {
        self.folder
            .clone()
            .unwrap_or_else(|| workspace::root().join("target/kafka"))
    }

    /// The cluster that is there.
    fn cluster(&self) -> anyhow::Result<Cluster> {
        let folder = self.path();
        Cluster::load(&folder)?.with_context(|| {
            format!(
                "no cluster in {}: `cargo xtask kafka up` makes one",
                folder.display()
            )
        })
    }
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::Up(options) if options.attached => attached(options),
        Action::Up(options) => {
            let cluster = up(options)?;
            say(cluster.usage());
            Ok(())
        }
        Action::Down(folder) => down(&folder.path()),
        Action::Logs { folder, node } => logs(&folder.cluster()?, *node),
        Action::Node { folder, id, act } => folder.cluster()?.act(*id, *act),
    }
}

/// A cluster that serves: the one that is there, or a new one.
pub(crate) fn up(options: &Up) -> anyhow::Result<Cluster> {
    if !matches!(options.nodes, 1 | 3) {
        bail!("--nodes is 1 or 3");
    }
    let extra = properties::parse(&options.properties)?;
    let folder = options.folder.make()?;
    let _lock = cluster::lock(&folder)?;
    let cluster = match Cluster::load(&folder)? {
        Some(cluster) if cluster.nodes.len() == options.nodes as usize => cluster,
        Some(cluster) => bail!(
            "{} has a cluster with nodes: {}; `cargo xtask kafka down` ends it",
            folder.display(),
            cluster.nodes.len()
        ),
        None => {
            let engine = engine::Engine::find(options.engine)?;
            let cluster = Cluster::plan(&folder, engine, options.nodes, extra)?;
            cluster.prepare()?;
            cluster
        }
    };
    cluster.start_all()?;
    Ok(cluster)
}

/// Holds a cluster for as long as whoever started this keeps its end of standard input open, even if it is killed.
fn attached(options: &Up) -> anyhow::Result<()> {
    let folder = options.folder.make()?;
    let outcome = up(options).and_then(|_| {
        // The one line on standard output says that the cluster serves.
        writeln!(io::stdout(), "{}", Cluster::file(&folder).display())
            .context("cannot say that the cluster serves")?;
        io::stdin()
            .read_to_end(&mut Vec::new())
            .context("cannot wait for the end of standard input")
    });
    down(&folder)?;
    outcome.map(drop)
}

/// Ends what runs in a folder, and removes what `up` made there, but for what was downloaded.
pub(crate) fn down(folder: &Path) -> anyhow::Result<()> {
    let Some(cluster) = Cluster::load(folder)? else {
        say(format_args!("no cluster in {}", folder.display()));
        return Ok(());
    };
    let lock = cluster::lock(folder)?;
    cluster.end()?;
    drop(lock);
    // Only an empty one: a folder that a person named may hold other things.
    drop(fs::remove_dir(folder));
    say(format_args!(
        "the cluster in {} is gone, its data with it",
        folder.display()
    ));
    Ok(())
}

fn logs(cluster: &Cluster, node: Option<u32>) -> anyhow::Result<()> {
    let mut terminal = io::stdout().lock();
    for found in &cluster.nodes {
        if node.is_some_and(|node| node != found.id) {
            continue;
        }
        let path = cluster.log(found.id);
        let mut file = fs::File::open(&path).with_context(|| path.display().to_string())?;
        io::copy(&mut file, &mut terminal).context("cannot print the log")?;
    }
    Ok(())
}
