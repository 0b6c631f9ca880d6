//! Look-ups in type information made for the purpose, in damaged bytes, and in that of the running kernel.
//!
//! `builder` writes type information.

mod builder;
mod damage;
mod enums;
mod lookups;
mod running_kernel;
