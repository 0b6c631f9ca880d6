//! What the tests of the whole probe share.

pub mod probe;
pub mod sequence;
pub mod sums;
pub mod tools;
pub mod user;
pub mod workspace;
