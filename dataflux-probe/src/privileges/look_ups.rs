//! Whether this kernel asks for a capability to look up entries of maps: until 5.18 it does unless unprivileged bpf(2) is
//! switched on. Found out by trying.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Commands of bpf(2) (linux/bpf.h).
const MAP_CREATE: i32 = 0;
const MAP_LOOKUP_ELEM: i32 = 1;
/// The type of map that every kernel has.
const ARRAY: u32 = 2;

/// What `MAP_CREATE` takes; the kernel sees zeros behind it.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// What `MAP_LOOKUP_ELEM` takes.
#[repr(C)]
struct LookUp {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Tries it in a thread without capabilities; `None` if no map can be made to try it with.
pub(super) fn kernel_asks_for_capability() -> Option<bool> {
    let map = make_map()?;
    let tried = thread::Builder::new().spawn(move || {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        set_capabilities(None, sets).ok()?;
        Some(look_up(&map).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied))
    });
    tried.ok()?.join().ok()?
}

/// An array of one entry, with 4 bytes of key and 8 of value.
pub(super) fn make_map() -> Option<OwnedFd> {
    let create = Create {
        map_type: ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
    };
    let map = i32::try_from(bpf(MAP_CREATE, &create).ok()?).ok()?;
    // SAFETY: the kernel has just opened it, and nobody else knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(map) })
}

/// Reads the entry of a map that [`make_map`] made.
pub(super) fn look_up(map: &OwnedFd) -> io::Result<u64> {
    let (key, mut value) = (0_u32, 0_u64);
    let look_up = LookUp {
        map: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const key).expose_provenance() as u64,
        value: (&raw mut value).expose_provenance() as u64,
        flags: 0,
    };
    bpf(MAP_LOOKUP_ELEM, &look_up).map(|_| value)
}

fn bpf<T>(command: i32, attributes: &T) -> io::Result<libc::c_long> {
    let (pointer, size) = (&raw const *attributes, size_of::<T>());
    // SAFETY: the kernel reads so many bytes from there; what they point to lives until it returns.
    match unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
