//! Control groups, as everything that deals with them sees them.

mod tree;

pub(crate) use tree::Tree;
