//! `package`: what the probe is installed from, and the proof that it can be: Debian package, container image, Kubernetes.

mod deb;
mod image;
mod kubernetes;
mod life;

use std::path::PathBuf;

use clap::Subcommand;

/// Build and test what people deploy: Debian package, container image, Kubernetes manifests
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Build the Debian package into target/debian
    Deb,
    /// Install, run, upgrade, remove and purge the package under a real systemd, in a folder of its own (root, some minutes)
    Life {
        /// A package that is there already, instead of building one
        #[arg(long)]
        deb: Option<PathBuf>,
    },
    /// Write deploy/kubernetes/dataflux-probe.yaml from the Helm chart, and validate it against the schemas of Kubernetes
    Kubernetes {
        /// Only compare and validate, and fail if it is out of date
        #[arg(long)]
        check: bool,
    },
    /// Lint the Dockerfile, and build the image where an engine runs
    Image,
    /// All tests of the above: life, kubernetes --check, image
    Test,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        What::Deb => deb::build().map(drop),
        What::Life { deb } => life::test(deb.as_deref()),
        What::Kubernetes { check } => kubernetes::main(*check),
        What::Image => image::main(),
        What::Test => {
            kubernetes::main(true)?;
            image::main()?;
            life::test(None)
        }
    }
}
