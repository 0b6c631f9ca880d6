//! The programs that kernel tests make devices with, taken from packages with their libraries: nothing of this machine's.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::{
    apt::{self, Apt},
    cpio::Archive,
    name::Architecture,
};
use crate::command;

/// The release that they come from.
const SUITE: &str = "bookworm";
const PACKAGES: [&str; 5] = [
    "busybox-static",
    "e2fsprogs",
    "iproute2",
    "mount",
    "util-linux",
];
/// Programs of the packages.
const PROGRAMS: [&str; 12] = [
    "busybox",
    "chattr",
    "fsfreeze",
    "ip",
    "losetup",
    "mkfs.ext4",
    "mount",
    "nsenter",
    "tc",
    "umount",
    "unshare",
    "lsattr",
];
/// What busybox is called for besides.
const APPLETS: [&str; 8] = ["cat", "dd", "ls", "ps", "sh", "sleep", "sync", "true"];

/// Adds programs under `/bin` and their libraries to a guest's first file system.
pub(crate) fn add(archive: &mut Archive, architecture: Architecture) -> anyhow::Result<()> {
    let root = provide(architecture)?;
    let mut libraries = BTreeSet::new();
    let mut loaders = BTreeSet::new();
    for program in PROGRAMS {
        let path = find(&root, program, &["bin", "sbin", "usr/bin", "usr/sbin"])?;
        archive.file(&format!("/bin/{program}"), &fs::read(&path)?);
        loaders.extend(loader(&path)?);
        collect(&root, &path, architecture, &mut libraries)?;
    }
    for applet in APPLETS {
        archive.link(&format!("/bin/{applet}"), "busybox");
    }
    for library in &libraries {
        let path = find_library(&root, library, architecture)?;
        archive.file(&format!("/lib/{library}"), &fs::read(path)?);
    }
    for loader in loaders {
        let name = loader.rsplit('/').next().unwrap_or_default();
        // Where a library has put it already it is the same file.
        if !(loader == format!("/lib/{name}") && libraries.contains(name)) {
            archive.file(
                &loader,
                &fs::read(find_library(&root, name, architecture)?)?,
            );
        }
    }
    Ok(())
}

/// The unpacked packages. Not to be asked for twice at once while they are not there: apt and the folder are for one alone.
pub(crate) fn provide(architecture: Architecture) -> anyhow::Result<PathBuf> {
    let folder = super::folder()
        .join("userland")
        .join(architecture.packages());
    if folder.is_dir() {
        return Ok(folder);
    }
    let unfinished = folder.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    let apt = Apt::open(SUITE, architecture, false)?;
    for package in apt.download_with_dependencies(&PACKAGES)? {
        apt::unpack(&package, &unfinished)?;
    }
    fs::rename(&unfinished, &folder)?;
    Ok(folder)
}

fn find(root: &Path, name: &str, folders: &[&str]) -> anyhow::Result<PathBuf> {
    let mut places = folders.iter().map(|folder| root.join(folder).join(name));
    places
        .find(|path| path.exists())
        .with_context(|| format!("{} has no {name}", root.display()))
}

fn find_library(root: &Path, name: &str, architecture: Architecture) -> anyhow::Result<PathBuf> {
    let triplet = format!("{}-linux-gnu", architecture.compilers());
    let folders = [
        format!("lib/{triplet}"),
        format!("usr/lib/{triplet}"),
        "lib".into(),
        "usr/lib".into(),
    ];
    find(root, name, &folders.each_ref().map(String::as_str))
}

/// Adds the libraries that a file needs, and those that they need.
fn collect(
    root: &Path,
    file: &Path,
    architecture: Architecture,
    libraries: &mut BTreeSet<String>,
) -> anyhow::Result<()> {
    for name in bracketed(&readelf("--dynamic", file)?, "(NEEDED)") {
        if libraries.insert(name.clone()) {
            collect(
                root,
                &find_library(root, &name, architecture)?,
                architecture,
                libraries,
            )?;
        }
    }
    Ok(())
}

/// The path of the dynamic loader that a program asks for.
fn loader(program: &Path) -> anyhow::Result<Option<String>> {
    let text = readelf("--program-headers", program)?;
    let path = text
        .split_once("program interpreter: ")
        .and_then(|(_, rest)| rest.split_once(']'));
    Ok(path.map(|(path, _)| path.to_owned()))
}

fn readelf(what: &str, file: &Path) -> anyhow::Result<String> {
    if command::find("readelf").is_none() {
        bail!("readelf of binutils is missing, which says what libraries a program needs");
    }
    command::read(
        Command::new("readelf")
            .env("LC_ALL", "C")
            .args(["--wide", what])
            .arg(file),
    )
}

/// What stands in brackets on the lines with a word.
fn bracketed(text: &str, word: &str) -> Vec<String> {
    let inside = |line: &str| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned());
    text.lines()
        .filter(|line| line.contains(word))
        .filter_map(inside)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_libraries_are_read() {
        let text = " 0x1 (NEEDED)             Shared library: [libc.so.6]\n 0xe (SONAME)             Library soname: [libx.so.1]\n";
        assert_eq!(bracketed(text, "(NEEDED)"), ["libc.so.6"]);
    }
}
