//! Starting a program as another user with a few capabilities, as a service manager does.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use rustix::{
    process::{Resource, Rlimit, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

/// A user that owns nothing, and its group.
pub const NOBODY: u32 = 65_534;

/// From now on the command starts as `NOBODY`, without other groups, with these capabilities and no others, and without a
/// limit of locked memory. Needs root.
pub fn start_as_nobody(command: &mut Command, capabilities: CapabilitySet) {
    // SAFETY: what runs between fork and exec makes system calls and nothing else.
    unsafe { command.pre_exec(move || become_nobody(capabilities)) };
}

fn become_nobody(capabilities: CapabilitySet) -> io::Result<()> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Only kernels before 5.11 charge maps to it; a root that may not raise it is no obstacle on others.
    setrlimit(Resource::Memlock, unlimited).ok();
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // Fails for numbers that this kernel does not know.
        if !capabilities.contains(one) && remove_capability_from_bounding_set(one).is_err() {
            break;
        }
    }
    let user = rustix::process::Uid::from_raw(NOBODY);
    let group = rustix::process::Gid::from_raw(NOBODY);
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    let sets = CapabilitySets {
        effective: capabilities,
        permitted: capabilities,
        inheritable: capabilities,
    };
    set_capabilities(None, sets)?;
    for capability in capabilities {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}
