//! `build-ebpf`: compiles every kernel object into `target/bpf`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    command::{self, say},
    debug_info, object_check, rustc_wrapper,
    setup::{self, KernelTools},
    toolchain::TARGET,
    workspace,
};

/// Build every kernel object into target/bpf
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build them again from a copy of the sources in another folder and compare, byte for byte
    #[arg(long)]
    verify_reproducible: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let tools = setup::find_kernel_tools()?;
    build(&tools)?;
    if args.verify_reproducible {
        verify_reproducible(&tools)?;
    }
    Ok(())
}

/// Builds the objects and puts those that changed into `target/bpf`; removes objects that no source stands for.
pub(crate) fn build(tools: &KernelTools) -> anyhow::Result<()> {
    say(format_args!(
        "kernel objects by {}",
        tools.route.description()
    ));
    let built = compile(tools, workspace::root())?;
    let folder = workspace::objects();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for object in &built {
        let changed = replace_if_changed(object, &folder.join(object.file_name()))?;
        say(format_args!(
            "target/bpf/{}: {} KiB, {}",
            object.file_name(),
            object.bytes.len() / 1024,
            if changed { "new" } else { "unchanged" }
        ));
    }
    remove_strangers(&folder, &built)
}

/// Builds the objects from a copy of the workspace and compares them with those of the workspace itself.
pub(crate) fn verify_reproducible(tools: &KernelTools) -> anyhow::Result<()> {
    let here = compile(tools, workspace::root())?;
    let copy = tempfile::Builder::new()
        .prefix("reproducible-")
        .tempdir_in(workspace::root().join("target"))
        .context("cannot create a folder for the copy")?;
    copy_sources(workspace::root(), copy.path())?;
    let there = compile(tools, copy.path())?;
    let names = |objects: &[Object]| {
        objects
            .iter()
            .map(|object| object.name.clone())
            .collect::<Vec<_>>()
    };
    if names(&here) != names(&there) {
        bail!(
            "the copy built other objects: {:?} and {:?}",
            names(&here),
            names(&there)
        );
    }
    for (here, there) in here.iter().zip(&there) {
        if let Some(at) = first_difference(&here.bytes, &there.bytes) {
            bail!(
                "{} depends on the folder it is built in: it differs from the copy's at byte {at}",
                here.file_name()
            );
        }
    }
    say(format_args!(
        "reproducible: {} objects, built in two folders, are the same byte for byte",
        here.len()
    ));
    Ok(())
}

/// A compiled object.
struct Object {
    /// The reader's name.
    name: String,
    bytes: Vec<u8>,
}

impl Object {
    fn file_name(&self) -> String {
        format!("{}.o", self.name)
    }
}

/// Compiles the kernel crate of the workspace at `root`: one object for each file of its `src/bin`, by name.
fn compile(tools: &KernelTools, root: &Path) -> anyhow::Result<Vec<Object>> {
    let mut cargo = tools.route.cargo(root, "build", &tools.linker)?;
    rustc_wrapper::install(&mut cargo, root, &tools.route.path_names(root))?;
    command::run(cargo.args(["--bins", "--quiet"]))?;
    let folder = workspace::kernel_target(root).join(TARGET).join("release");
    programs(root)?
        .into_iter()
        .map(|name| {
            let path = folder.join(&name);
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let bytes = debug_info::strip(&bytes).with_context(|| path.display().to_string())?;
            object_check::check(&bytes).with_context(|| path.display().to_string())?;
            Ok(Object { name, bytes })
        })
        .collect()
}

/// The readers with a kernel side, by name.
fn programs(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = workspace::kernel_crate(root).join("src/bin");
    let mut names = Vec::new();
    for path in files(&folder)? {
        if let (Some(name), Some("rs")) = (
            path.file_stem().and_then(|name| name.to_str()),
            path.extension().and_then(|extension| extension.to_str()),
        ) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Writes an object in one step, and only if that changes the file: the probe is rebuilt for every file that is newer.
fn replace_if_changed(object: &Object, path: &Path) -> anyhow::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == object.bytes) {
        return Ok(false);
    }
    // Beside cargo's own output, so that the folder of the objects changes once, by the rename.
    let new = workspace::kernel_target(workspace::root()).join(object.file_name());
    fs::write(&new, &object.bytes)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Removes what no source stands for any more, so that a removed reader leaves the probe.
fn remove_strangers(folder: &Path, built: &[Object]) -> anyhow::Result<()> {
    for path in files(folder)? {
        if !built
            .iter()
            .any(|object| path.ends_with(object.file_name()))
        {
            say(format_args!(
                "removing {}: no source builds it",
                path.display()
            ));
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        })
        .with_context(|| format!("cannot list {}", folder.display()))
}

/// Copies a folder without build outputs and history; links stay links, as some go round in circles.
fn copy_sources(from: &Path, to: &Path) -> anyhow::Result<()> {
    for path in files(from)? {
        let name = path.file_name().context("a listed file has a name")?;
        if name == "target" || name == ".git" {
            continue;
        }
        let copy = to.join(name);
        if let Ok(target) = fs::read_link(&path) {
            symlink(target, &copy).with_context(|| format!("cannot link {}", copy.display()))?;
        } else if path.is_dir() {
            fs::create_dir(&copy).with_context(|| format!("cannot create {}", copy.display()))?;
            copy_sources(&path, &copy)?;
        } else {
            fs::copy(&path, &copy).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    (a.len() != b.len() || common != a.len()).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"abd"), Some(2));
        assert_eq!(first_difference(b"abc", b"ab"), Some(2));
        assert_eq!(first_difference(b"", b"x"), Some(0));
    }
}
