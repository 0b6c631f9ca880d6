//! Which modules a guest loads, in an order in which each finds what it depends on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::image;

/// A module that the guest loads, with its parameters.
struct Wanted {
    name: &'static str,
    parameters: &'static str,
    /// Most kernels have it built in or not at all, and all else works without.
    optional: bool,
}

const fn wanted(name: &'static str) -> Wanted {
    Wanted {
        name,
        parameters: "",
        optional: false,
    }
}

const fn optional(name: &'static str) -> Wanted {
    Wanted {
        optional: true,
        ..wanted(name)
    }
}

/// The guest's own devices, and what tests make devices of. No program of a guest could load a module on demand.
const WANTED: [Wanted; 11] = [
    wanted("virtio_pci"),
    wanted("virtio_console"),
    wanted("virtio_blk"),
    wanted("loop"),
    wanted("veth"),
    wanted("sch_netem"),
    wanted("ext4"),
    // Checksums of ext4.
    optional("crc32c_generic"),
    optional("af_packet"),
    optional("dummy"),
    // One disk that answers after 2 ms, by a timer.
    Wanted {
        name: "null_blk",
        parameters: "nr_devices=1 gb=1 bs=4096 queue_mode=2 irqmode=2 completion_nsec=2000000",
        optional: false,
    },
];

/// One module as the guest gets it.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its file's name and its parameters.
    pub(crate) line: String,
    /// Its file's name.
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
}

/// The modules in the order of loading, and the names of those that this kernel has neither as modules nor built in.
pub(crate) fn choose(folder: &Path) -> anyhow::Result<(Vec<Module>, Vec<&'static str>)> {
    let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    let mut chooser = Chooser {
        files: files(folder)?,
        seen: BTreeSet::new(),
        chosen: Vec::new(),
    };
    let mut missing = Vec::new();
    for module in &WANTED {
        let there = chooser.add(module.name, module.parameters)?;
        let is_builtin = builtin.lines().any(|path| module_name(path) == module.name);
        if !there && !is_builtin && !module.optional {
            missing.push(module.name);
        }
    }
    Ok((chooser.chosen, missing))
}

struct Chooser {
    files: BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    chosen: Vec<Module>,
}

impl Chooser {
    /// Adds a module after those it depends on; `false` if it has no file.
    fn add(&mut self, name: &str, parameters: &str) -> anyhow::Result<bool> {
        let Some(path) = self.files.get(name).cloned() else {
            return Ok(false);
        };
        if !self.seen.insert(name.to_owned()) {
            return Ok(true);
        }
        let bytes = read(&path).with_context(|| path.display().to_string())?;
        for dependency in dependencies(&bytes) {
            self.add(&dependency, "")?;
        }
        let file = format!("{name}.ko");
        self.chosen.push(Module {
            line: format!("{file} {parameters}").trim().to_owned(),
            file,
            bytes,
        });
        Ok(true)
    }
}

/// Every module's file by the module's name.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.join("kernel")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(module_name(&path.display().to_string()), path);
            }
        }
    }
    Ok(found)
}

/// `kernel/drivers/block/null_blk/null-blk.ko.xz` is `null_blk`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split(".ko")
        .next()
        .unwrap_or_default()
        .replace('-', "_")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => image::filter("xz", &["-dc"], &bytes),
        Some("zst") => Ok(zstd::decode_all(&bytes[..])?),
        Some("gz") => image::filter("gzip", &["-dc"], &bytes),
        _ => Ok(bytes),
    }
}

/// What a module says it depends on: `depends=a,b` among the strings of its `.modinfo`.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let list = module[at + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_and_names_are_the_kernels() {
        let module = b"\x7fELF\0license=GPL\0depends=virtio,virtio-ring\0intree=Y\0";
        assert_eq!(dependencies(module), ["virtio", "virtio_ring"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert_eq!(
            module_name("kernel/drivers/block/null_blk/null-blk.ko.xz"),
            "null_blk"
        );
    }

    #[test]
    fn each_module_comes_after_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join("kernel");
        fs::create_dir(&kernel).unwrap();
        fs::write(kernel.join("virtio_pci.ko"), b"\0depends=virtio-ring\0").unwrap();
        fs::write(kernel.join("virtio_ring.ko"), b"\0depends=\0").unwrap();
        let text = "kernel/drivers/char/virtio_console.ko\nkernel/fs/ext4/ext4.ko\n";
        fs::write(folder.path().join("modules.builtin"), text).unwrap();
        let (modules, missing) = choose(folder.path()).unwrap();
        let files: Vec<_> = modules.iter().map(|module| module.file.as_str()).collect();
        assert_eq!(files, ["virtio_ring.ko", "virtio_pci.ko"]);
        assert_eq!(
            missing,
            ["virtio_blk", "loop", "veth", "sch_netem", "null_blk"]
        );
    }
}
