//! Where things are in this workspace.

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// The kernel crate of a workspace.
pub(crate) fn kernel_crate(root: &Path) -> PathBuf {
    root.join("dataflux-ebpf")
}

/// Where cargo builds the kernel crate of a workspace.
pub(crate) fn kernel_target(root: &Path) -> PathBuf {
    root.join("target/ebpf")
}

/// The finished kernel objects, which the probe's build script embeds.
pub(crate) fn objects() -> PathBuf {
    root().join("target/bpf")
}

/// Tools that were installed for this workspace alone; `bin` holds the programs.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}
