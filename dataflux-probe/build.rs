//! Embeds the kernel objects that `cargo xtask build-ebpf` has built. Compiles nothing; without objects the list is empty.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

/// The folder with the objects, if it is not `target/bpf` of the workspace.
const FOLDER: &str = "DATAFLUX_BPF_DIR";

/// Objects of developer commands, which no reader loads.
const NOT_READERS: &[&str] = &["bench"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={FOLDER}");
    let folder = match env::var_os(FOLDER) {
        Some(folder) => fs::canonicalize(&folder).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{FOLDER}={}: {error}", folder.display()),
            )
        })?,
        None => default_folder(),
    };
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut code = String::from("&[\n");
    for (name, path) in objects(&folder)? {
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(
            code,
            "    ({name:?}, aya::include_bytes_aligned!({:?})),",
            path.display().to_string()
        )
        .map_err(io::Error::other)?;
    }
    code.push_str("]\n");
    fs::write(path_variable("OUT_DIR").join("objects.rs"), code)
}

/// `target/bpf` of the workspace. It is created when it is missing: cargo would run this script at every build for the
/// sake of a path that does not exist, and looks into one that does. Where it cannot be created, that is the price.
fn default_folder() -> PathBuf {
    let folder = path_variable("CARGO_MANIFEST_DIR").join("../target/bpf");
    match fs::create_dir_all(&folder).and_then(|()| fs::canonicalize(&folder)) {
        Ok(folder) => folder,
        Err(_) => folder,
    }
}

/// The name of each object and where it is, by name.
fn objects(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "o")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            && !NOT_READERS.contains(&name)
        {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

fn path_variable(name: &str) -> PathBuf {
    PathBuf::from(env::var_os(name).expect("cargo sets it for build scripts"))
}
