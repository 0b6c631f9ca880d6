//! Stands between cargo and the compiler of the kernel crate, so that the objects do not depend on the folder they are
//! built in.
//!
//! Two things would: paths in the debug information, and the names of functions. Cargo makes every crate's names
//! unique by a hash (`-C metadata`) of where the crate lies, and it takes `dataflux-common` by its absolute path
//! because that lies outside of the kernel crate's workspace. Here the package's own name stands in for that hash.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

/// Set for the compiler's calls: the folder of the workspace that is being built.
const ROOT: &str = "DATAFLUX_WRAPPED_ROOT";
/// Set for the compiler's calls: remapped paths, joined by `SEPARATOR`.
const PATH_NAMES: &str = "DATAFLUX_WRAPPED_PATHS";
/// Stands in no path: cargo, too, separates flags by it.
const SEPARATOR: &str = "\x1f";

/// Makes a cargo command call this program in front of every call of the compiler.
pub(crate) fn install(
    cargo: &mut Command,
    root: &Path,
    path_names: &[(PathBuf, &str)],
) -> anyhow::Result<()> {
    let mut flags = OsString::new();
    for (folder, name) in path_names {
        if !flags.is_empty() {
            flags.push(SEPARATOR);
        }
        flags.push("--remap-path-prefix=");
        flags.push(folder);
        flags.push("=");
        flags.push(name);
    }
    let this = env::current_exe().context("cannot find the path of this program")?;
    cargo
        .env("RUSTC_WRAPPER", this)
        .env(ROOT, root)
        .env(PATH_NAMES, flags);
    Ok(())
}

/// Whether cargo calls this program in place of the compiler.
pub(crate) fn is_called() -> bool {
    env::var_os(ROOT).is_some()
}

/// Becomes the compiler, which cargo names as the first argument. Returns only if it cannot.
pub(crate) fn become_rustc() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let rustc = arguments.next().context("cargo named no compiler")?;
    let mut command = Command::new(&rustc);
    match own_package() {
        Some(package) => {
            command.args(arguments.map(|argument| without_path_hash(argument, &package)))
        }
        None => command.args(arguments),
    };
    if let Ok(flags) = env::var(PATH_NAMES) {
        command.args(flags.split(SEPARATOR));
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", rustc.display()))
}

/// The package that is being compiled, if it is one of the workspace.
fn own_package() -> Option<String> {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let root = env::var_os(ROOT)?;
    folder
        .starts_with(root)
        .then(|| env::var("CARGO_PKG_NAME").ok())
        .flatten()
}

fn without_path_hash(argument: OsString, package: &str) -> OsString {
    if is_metadata(&argument) {
        OsString::from(format!("metadata={package}"))
    } else {
        argument
    }
}

fn is_metadata(argument: &OsStr) -> bool {
    argument
        .to_str()
        .is_some_and(|argument| argument.starts_with("metadata="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_metadata_of_a_crate_is_replaced() {
        let replaced = |argument: &str| without_path_hash(argument.into(), "dataflux-common");
        assert_eq!(
            replaced("metadata=97705ef076613a28"),
            "metadata=dataflux-common"
        );
        assert_eq!(
            replaced("extra-filename=-97705ef0"),
            "extra-filename=-97705ef0"
        );
        assert_eq!(replaced("--crate-name"), "--crate-name");
    }
}
