//! The configuration file: what runs, and the values with units in it.

pub mod section;
pub mod values;

pub use section::Section;
