//! Packages of Debian's releases by an apt of its own under `target/`: its signatures are checked, the machine's stays as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::name::Architecture;
use crate::{
    command::{self, say},
    setup,
};

/// What signs every release.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// One release for one architecture.
pub(crate) struct Apt {
    suite: &'static str,
    folder: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// Reads the release's lists; with `fresh` false, those of an earlier time will do.
    pub(crate) fn open(
        suite: &'static str,
        architecture: Architecture,
        fresh: bool,
    ) -> anyhow::Result<Self> {
        if !setup::has_apt() || !Path::new(KEYRING).exists() {
            bail!(
                "guests' kernels are packages of Debian, which need apt-get and {KEYRING}: run this on Debian"
            );
        }
        let packages = architecture.packages();
        let folder = super::folder().join(format!("apt/{suite}-{packages}"));
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        let at = |name: &str| folder.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            format!("APT::Architecture={packages}"),
            format!("APT::Architectures={packages}"),
            "APT::Sandbox::User=root".into(),
            // A list that cannot be fetched is an error, not a warning.
            "APT::Update::Error-Mode=any".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=2".into(),
            "Acquire::http::Timeout=20".into(),
        ];
        let options = options
            .into_iter()
            .flat_map(|option| ["-o".into(), option])
            .collect();
        let apt = Self {
            suite,
            folder,
            options,
        };
        apt.refresh(fresh)?;
        Ok(apt)
    }

    /// The names of packages that begin so.
    pub(crate) fn names(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let text = command::read(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Fetches these packages alone.
    pub(crate) fn download(&self, packages: &[String]) -> anyhow::Result<Vec<PathBuf>> {
        let folder = self.folder.join("downloads");
        fs::create_dir_all(&folder)?;
        say(format_args!(
            "fetching {} from {}",
            packages.join(" "),
            self.suite
        ));
        let mut download = self.command("apt-get");
        download.args(["download", "-q"]).args(packages);
        command::read(download.current_dir(&folder)).with_context(|| self.unreachable())?;
        packages
            .iter()
            .map(|package| newest_file(&folder, package))
            .collect()
    }

    /// Fetches packages with all that they depend on.
    pub(crate) fn download_with_dependencies(
        &self,
        packages: &[&str],
    ) -> anyhow::Result<Vec<PathBuf>> {
        say(format_args!(
            "fetching {} from {}",
            packages.join(" "),
            self.suite
        ));
        let mut install = self.command("apt-get");
        install.args([
            "install",
            "--yes",
            "--no-install-recommends",
            "--download-only",
            "-q",
        ]);
        command::read(install.args(packages)).with_context(|| self.unreachable())?;
        let archives = self.folder.join("cache/archives");
        let files = fs::read_dir(&archives).with_context(|| archives.display().to_string())?;
        let packages = files.flatten().map(|file| file.path());
        Ok(packages
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }

    fn refresh(&self, fresh: bool) -> anyhow::Result<()> {
        let done = self.folder.join("updated");
        if !fresh && done.exists() {
            return Ok(());
        }
        let Mirrors { archive, security } = mirrors()?;
        let line =
            |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n");
        let mut sources = line(&archive, self.suite);
        if !self.suite.ends_with("-backports") {
            sources += &line(&security, &format!("{}-security", self.suite));
        }
        fs::write(self.folder.join("sources.list"), sources)?;
        fs::write(self.folder.join("status"), "")?;
        command::read(self.command("apt-get").args(["update", "-q"]))
            .with_context(|| self.unreachable())?;
        fs::write(done, "")?;
        Ok(())
    }

    fn unreachable(&self) -> String {
        format!(
            "packages of Debian {} cannot be fetched from the mirrors in {}: is there a network, and do they have them? What was fetched before is in target/vm and needs neither",
            self.suite,
            self.folder.join("sources.list").display()
        )
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C");
        command
    }
}

/// Unpacks a package into a folder.
pub(crate) fn unpack(package: &Path, folder: &Path) -> anyhow::Result<()> {
    command::read(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([package, folder]),
    )
    .map(drop)
}

/// Where this machine has Debian's archive and its security updates from: the same places have the other releases.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    archive: String,
    security: String,
}

fn mirrors() -> anyhow::Result<Mirrors> {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)",
        "Created-By: Packages",
    ]);
    let targets = command::read(&mut targets).unwrap_or_default();
    mirrors_among(&targets).context(
        "apt's sources must name Debian's archive and its security updates: guests' kernels come from there",
    )
}

/// The origin is not known before the first `apt-get update`; others than Debian seldom have a component `main`.
fn mirrors_among(targets: &str) -> Option<Mirrors> {
    let find = |origin: &str, security: bool| {
        targets.lines().find_map(|line| {
            let [of, release, component, uri] = line.split('|').collect::<Vec<_>>()[..] else {
                return None;
            };
            let wanted =
                of == origin && component == "main" && release.ends_with("-security") == security;
            wanted.then(|| uri.trim_end_matches('/').to_owned())
        })
    };
    let known_or_not = |security| find("Debian", security).or_else(|| find("", security));
    Some(Mirrors {
        archive: known_or_not(false)?,
        security: known_or_not(true)?,
    })
}

/// The file of a package in a folder where older versions of it may lie.
fn newest_file(folder: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let prefix = format!("{package}_");
    fs::read_dir(folder)?
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with(&prefix))
        .max_by_key(|file| file.metadata().and_then(|about| about.modified()).ok())
        .map(|file| file.path())
        .with_context(|| format!("apt-get left no {package} in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_those_of_the_machines_own_sources() {
        let expected = Some(Mirrors {
            archive: "http://mirror.example/debian".into(),
            security: "http://mirror.example/security".into(),
        });
        let others = "Docker|bookworm|stable|http://docker.example/debian/\n";
        for origin in ["Debian", ""] {
            let own = format!(
                "{origin}|bookworm|main|http://mirror.example/debian/\n\
                 {origin}|bookworm-security|main|http://mirror.example/security/\n"
            );
            assert_eq!(mirrors_among(&(others.to_owned() + &own)), expected);
        }
        assert_eq!(mirrors_among(others), None);
    }
}
