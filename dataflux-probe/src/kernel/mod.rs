//! The kernel side as userspace sees it: loading objects, resolving kernel facts, draining maps.

pub mod objects;

/// What loading and attaching needs of this machine.
#[derive(Debug)]
pub struct Kernel {}
