//! Kafka as it is published for Java: fetched once by Maven, kept under `target/kafka/lib`.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::engine::VERSION;
use crate::{
    command::{self, say},
    setup, workspace,
};

/// What Kafka's brokers need at least.
const JAVA: u32 = 17;

/// What writes the brokers' log lines. Kafka's own artefacts do not ask for it.
const LOG_BINDING: &str = "2.24.3";

/// Debian's packages of Java and Maven.
const PACKAGES: [&str; 2] = ["default-jre-headless", "maven"];

/// The jars of this version.
pub(super) fn folder() -> PathBuf {
    workspace::root().join("target/kafka/lib").join(VERSION)
}

/// The Java to run them with.
pub(super) fn java() -> PathBuf {
    let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    home.filter(|java| java.is_file())
        .or_else(|| command::find("java"))
        .unwrap_or_else(|| PathBuf::from("java"))
}

/// Makes sure that there is a Java, and the jars.
pub(super) fn provide() -> anyhow::Result<()> {
    let new_enough = || java_version().is_some_and(|version| version >= JAVA);
    let fetched = folder().is_dir();
    if !new_enough() || !fetched && command::find("mvn").is_none() {
        if !setup::has_apt() {
            bail!(
                "a container engine, or Java {JAVA} or newer and Maven (`mvn`) are needed for a Kafka"
            );
        }
        let needed = if fetched { &PACKAGES[..1] } else { &PACKAGES };
        setup::install_packages("a Kafka", needed)?;
    }
    if !new_enough() {
        bail!(
            "{} is older than Java {JAVA}, which Kafka {VERSION} needs; JAVA_HOME chooses another",
            java().display()
        );
    }
    if fetched { Ok(()) } else { fetch() }
}

/// The main version of the Java that is here.
fn java_version() -> Option<u32> {
    let output = Command::new(java())
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    // It speaks on standard error: openjdk version "17.0.15" 2025-04-15
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, version) = text.split_once("version \"")?;
    version.split(['.', '"', '-', '+']).next()?.parse().ok()
}

/// Downloads the jars. They appear all at once, so that an interrupted download is not taken for a whole one.
fn fetch() -> anyhow::Result<()> {
    let lib = folder();
    let parent = lib.parent().context("the jars have a folder")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let work = tempfile::tempdir_in(parent).context("cannot make a folder for the download")?;
    let pom = work.path().join("pom.xml");
    fs::write(&pom, project()).context("pom.xml")?;
    let jars = work.path().join("lib");
    say(format_args!(
        "downloading Kafka {VERSION} (some 55 MB) into {}",
        lib.display()
    ));
    maven(
        Command::new("mvn")
            .args([
                "--batch-mode",
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
            ])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .arg("--file")
            .arg(&pom),
    )?;
    match fs::rename(&jars, &lib) {
        // Another command was quicker.
        Err(_) if lib.is_dir() => Ok(()),
        moved => moved.with_context(|| lib.display().to_string()),
    }
}

/// Runs Maven, shows how far it is, and what it says if it fails.
fn maven(command: &mut Command) -> anyhow::Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run mvn")?;
    let output = child
        .stdout
        .take()
        .context("a piped program has an output")?;
    let mut said = Vec::new();
    let mut files = 0;
    for line in BufReader::new(output).split(b'\n') {
        let line =
            String::from_utf8_lossy(&line.context("cannot read what mvn says")?).into_owned();
        if line.contains("Downloaded from") {
            files += 1;
            if files % 50 == 0 {
                say(format_args!("    {files} files"));
            }
        } else if line.contains("ERROR") {
            said.push(line);
        }
    }
    if !child.wait().context("cannot wait for mvn")?.success() {
        bail!("mvn failed:\n{}", said.join("\n"));
    }
    Ok(())
}

fn project() -> String {
    let dependencies: String = [
        ("org.apache.kafka", "kafka_2.13", VERSION),
        ("org.apache.kafka", "kafka-tools", VERSION),
        ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG_BINDING),
    ]
    .iter()
    .map(|(group, artefact, version)| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artefact}</artifactId><version>{version}</version></dependency>\n"
        )
    })
    .collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
         <groupId>dataflux</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{dependencies}</dependencies></project>\n"
    )
}
