//! The commands of `dataflux-probe`, one file each.
