//! The sizes of kernel maps; every bound on kernel memory stands here.

/// Tasks whose stamps are kept at once, a power of two: a task's place is its thread id modulo this. Two live tasks that
/// share a place overwrite each other's stamps, which is counted as lost.
pub const TASKS: usize = 65_536;

/// Block devices reported by themselves, a power of two: a device's place is the id of its request queue. Queue ids are small
/// and reused, lowest free first. The last place is that of all `other` devices.
pub const DEVICES: usize = 64;
/// Place of the devices that have none of their own.
pub const OTHER_DEVICE: usize = DEVICES - 1;

/// Requests whose issue stamps are kept at once, a power of two.
pub const ISSUED_REQUESTS: usize = 8_192;

/// Interfaces reported by themselves, a power of two: an interface's place is its index modulo this. The last place is
/// that of all `other` interfaces.
pub const INTERFACES: usize = 64;
/// Place of the interfaces that have none of their own.
pub const OTHER_INTERFACE: usize = INTERFACES - 1;

/// Drop reasons counted by themselves; higher ones, those of subsystems, share the last place.
pub const DROP_REASONS: usize = 256;

/// Bytes of the ring buffer that carries one object's diagnostics.
pub const DIAGNOSTICS_BYTES: usize = 4_096;
