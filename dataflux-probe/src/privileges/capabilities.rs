//! Capabilities: the sets of this thread, and what is left of them.

use std::fmt;

use anyhow::Context as _;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::{Plan, look_ups};
use crate::plugin::{Capability, Keep};

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(CapabilitySet);

impl Capabilities {
    /// Those in effect for this thread.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn effective() -> anyhow::Result<Self> {
        let sets = capabilities(None).context("reading the capabilities")?;
        Ok(Self(sets.effective))
    }

    /// These and no others.
    #[cfg(test)]
    pub(crate) fn of(capabilities: &[Capability]) -> Self {
        Self(capabilities.iter().map(|&one| bit(one)).collect())
    }

    /// Whether this one is there, or the one that stands for all that have to do with tracing.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        let own = bit(capability);
        let all = match capability {
            Capability::Bpf | Capability::Perfmon => own | CapabilitySet::SYS_ADMIN,
            Capability::SysResource => own,
        };
        self.0.intersects(all)
    }
}

/// `no capability`, or the names of those there are.
impl fmt::Display for Capabilities {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("no capability");
        }
        let known: Vec<_> = Capability::ALL
            .into_iter()
            .filter(|&capability| self.0.contains(bit(capability)))
            .collect();
        let all = known
            .iter()
            .fold(CapabilitySet::empty(), |all, &one| all | bit(one));
        let names: Vec<_> = known.iter().map(|capability| capability.name()).collect();
        out.write_str(&names.join(", "))?;
        match (self.0 - all).bits().count_ones() {
            0 => Ok(()),
            others if names.is_empty() => write!(out, "{others} capabilities"),
            others => write!(out, " and {others} others"),
        }
    }
}

const fn bit(capability: Capability) -> CapabilitySet {
    match capability {
        Capability::Bpf => CapabilitySet::BPF,
        Capability::Perfmon => CapabilitySet::PERFMON,
        Capability::SysResource => CapabilitySet::SYS_RESOURCE,
    }
}

/// Reduces all five sets to what the plan keeps, as far as it is there, and rules out new ones.
pub(super) fn give_up(plan: &Plan) -> anyhow::Result<Capabilities> {
    let mut wanted = CapabilitySet::empty();
    for keep in &plan.keep {
        match keep {
            Keep::Capability(capability) => wanted |= bit(*capability),
            Keep::MapCalls if look_ups::kernel_asks_for_capability() == Some(true) => {
                wanted |= CapabilitySet::BPF;
            }
            Keep::MapCalls | Keep::Execution => {}
        }
    }
    let now = capabilities(None).context("reading the capabilities")?;
    // Only who has this one may reduce the bounding set; without it that set means nothing either once there are no new
    // privileges.
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // Fails for numbers that this kernel does not know.
            if !wanted.contains(one) && remove_capability_from_bounding_set(one).is_err() {
                break;
            }
        }
    }
    clear_ambient_capability_set().context("clearing the ambient capabilities")?;
    set_no_new_privs(true).context("ruling out new privileges")?;
    let left = now.permitted & wanted;
    let sets = CapabilitySets {
        effective: left,
        permitted: left,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).context("giving capabilities up")?;
    Ok(Capabilities(left))
}
