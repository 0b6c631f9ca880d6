//! The kernel objects that were there when the probe was built.

/// Name and ELF file of each object, by name. Empty if `cargo xtask build-ebpf` had not run before the build.
pub static OBJECTS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/objects.rs"));
