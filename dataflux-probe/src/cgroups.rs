//! Control groups, as everything that deals with them sees them.

mod membership;
mod tree;

pub(crate) use membership::{OwnRoot, telling};
pub(crate) use tree::{Cgroup, Tree};
