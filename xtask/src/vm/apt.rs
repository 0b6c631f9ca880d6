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
/// Where releases are where the machine does not say.
const ARCHIVE: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";

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
        let (archive, security) = mirrors();
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
            "packages of Debian {} cannot be fetched from {}: is there a network, and does the mirror have them? What was fetched before is in target/vm and needs neither",
            self.suite,
            mirrors().0
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

/// The mirrors that this machine uses for Debian's archive and its security updates.
fn mirrors() -> (String, String) {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(LABEL) $(REPO_URI)",
        "Created-By: Packages",
    ]);
    let targets = command::read(&mut targets).unwrap_or_default();
    let of = |label: &str| {
        let uri = |line: &str| {
            line.strip_prefix(label)
                .map(|uri| uri.trim().trim_end_matches('/').to_owned())
        };
        targets.lines().find_map(uri)
    };
    (
        of("Debian Debian ").unwrap_or_else(|| ARCHIVE.into()),
        of("Debian Debian-Security ").unwrap_or_else(|| SECURITY.into()),
    )
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
