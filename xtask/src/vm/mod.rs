//! Guests: real kernels of a distribution, booted by qemu with the probe and its kernel tests inside.

pub(crate) mod apt;
pub(crate) mod cpio;
pub(crate) mod document;
pub(crate) mod guest;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod modules;
pub(crate) mod name;
pub(crate) mod programs;
pub(crate) mod qemu;
pub(crate) mod record;
pub(crate) mod userland;

use std::path::PathBuf;

use crate::workspace;

/// Everything that is fetched or made for guests; what is in it can be made again.
pub(crate) fn folder() -> PathBuf {
    workspace::root().join("target/vm")
}
