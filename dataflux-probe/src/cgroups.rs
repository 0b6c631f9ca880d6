//! Control groups, as everything that deals with them sees them.

mod membership;
mod owner;
mod tree;

pub(crate) use membership::{OwnRoot, telling};
pub(crate) use owner::Owner;
pub(crate) use tree::{Cgroup, Folder, Tree};
