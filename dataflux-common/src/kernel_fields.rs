//! Kernel facts that programs need and userspace looks up in the running kernel's type information (BTF) at load.
//!
//! Each reader declares its list once with [`kernel_fields!`](crate::kernel_fields!). The list yields a constant per entry,
//! the index into the reader's `FIELDS` global, and the table that userspace resolves. A fact that this kernel lacks has the
//! value [`ABSENT`]: a program guards its use by a branch, which the verifier removes because the global is frozen.

use core::fmt;

/// The value of a fact that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// One fact about the running kernel.
#[derive(Debug, Clone, Copy)]
pub struct KernelField {
    /// The name of its constant, for messages.
    pub name: &'static str,
    /// Where to look, first match wins: older and newer kernels call the same thing differently.
    pub alternatives: &'static [Lookup],
}

/// How a fact is found.
#[derive(Debug, Clone, Copy)]
pub enum Lookup {
    /// Byte offset of a member, which may lie in anonymous structs or unions, and must have this size in bytes. A path
    /// goes through named members that are structs themselves, as `["ns", "inum"]` in `net`.
    Member {
        /// The struct's name.
        of: &'static str,
        /// Member names, outermost first.
        path: &'static [&'static str],
        /// Size of the last member in bytes.
        size: u32,
    },
    /// Position among a tracepoint's arguments (the first is 0) of one with this type, written as in C without `const`:
    /// `struct request *`, `blk_status_t`, `enum skb_drop_reason`, `unsigned int`. Where the type is only elsewhere, the
    /// signature is one that programs do not know, and the fact cannot be used.
    Argument {
        /// The tracepoint's name.
        of: &'static str,
        /// The argument's type.
        is: &'static str,
        /// The positions that programs can take it from.
        at: &'static [u32],
    },
    /// The value of an enumerator, an unsigned number of 32 bits.
    Enumerator {
        /// The enum's name.
        of: &'static str,
        /// The enumerator's name.
        named: &'static str,
    },
    /// A value for kernels that do not describe it in BTF; the entry's comment gives the kernel source. Does not count where
    /// the enum of an [`Enumerator`](Self::Enumerator) before it exists: that kernel describes it, and has it no more.
    Otherwise(u32),
}

/// Declares a reader's kernel facts: one constant each, and the table `KERNEL_FIELDS`.
#[macro_export]
macro_rules! kernel_fields {
    ($($(#[$meta:meta])* $name:ident = $first:expr $(, or $next:expr)*;)+) => {
        /// What userspace looks up before it loads this reader's programs, in the order of the constants.
        pub static KERNEL_FIELDS: [$crate::kernel_fields::KernelField; FIELDS] = [$(
            $crate::kernel_fields::KernelField { name: stringify!($name), alternatives: &[$first $(, $next)*] },
        )+];
        $crate::kernel_fields!(@index (0) $($(#[$meta])* $name)+);
    };
    (@index ($index:expr) $(#[$meta:meta])* $name:ident $($rest:tt)*) => {
        $(#[$meta])*
        pub const $name: usize = $index;
        $crate::kernel_fields!(@index ($index + 1) $($rest)*);
    };
    (@index ($index:expr)) => {
        /// How many facts there are.
        pub const FIELDS: usize = $index;
    };
}

/// Shorthand for [`Lookup::Member`].
#[must_use]
pub const fn member(of: &'static str, path: &'static [&'static str], size: u32) -> Lookup {
    Lookup::Member { of, path, size }
}

/// Shorthand for [`Lookup::Argument`].
#[must_use]
pub const fn argument(of: &'static str, is: &'static str, at: &'static [u32]) -> Lookup {
    Lookup::Argument { of, is, at }
}

impl fmt::Display for KernelField {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, alternative) in self.alternatives.iter().enumerate() {
            if index > 0 {
                out.write_str(" or ")?;
            }
            match alternative {
                Lookup::Member { of, path, .. } => {
                    write!(out, "{of}")?;
                    path.iter().try_for_each(|name| write!(out, ".{name}"))?;
                }
                Lookup::Argument { of, is, .. } => write!(out, "`{is}` argument of {of}")?,
                Lookup::Enumerator { of, named } => write!(out, "{named} in enum {of}")?,
                Lookup::Otherwise(value) => write!(out, "{value}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro declares for other crates")]
mod tests {
    extern crate std;

    use std::string::ToString as _;

    use super::*;

    kernel_fields! {
        STATE = member("task", &["__state"], 4), or member("task", &["state"], 8);
        INODE = member("net", &["ns", "inum"], 4);
        REASON = argument("kfree_skb", "enum skb_drop_reason", &[2]);
        FLUSH = Lookup::Enumerator { of: "flags", named: "FLUSH" }, or Lookup::Otherwise(4);
    }

    #[test]
    fn constants_are_the_places_of_their_facts() {
        assert_eq!([STATE, INODE, REASON, FLUSH, FIELDS], [0, 1, 2, 3, 4]);
        let names = KERNEL_FIELDS.map(|field| field.name);
        assert_eq!(names, ["STATE", "INODE", "REASON", "FLUSH"]);
    }

    #[test]
    fn facts_are_named_as_people_look_for_them() {
        let told = |place: usize| KERNEL_FIELDS[place].to_string();
        assert_eq!(told(STATE), "task.__state or task.state");
        assert_eq!(told(INODE), "net.ns.inum");
        assert_eq!(told(REASON), "`enum skb_drop_reason` argument of kfree_skb");
        assert_eq!(told(FLUSH), "FLUSH in enum flags or 4");
    }
}
