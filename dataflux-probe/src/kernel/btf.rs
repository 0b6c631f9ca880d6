//! The running kernel's type information (BTF): where its structs keep what programs read.
//!
//! Format: Documentation/bpf/btf.rst of the kernel. Only what the lookups need is decoded; damaged bytes are an error.

use std::collections::BTreeSet;

use dataflux_common::kernel_fields::{ABSENT, KernelField, Lookup};

mod types;
#[cfg(test)]
mod tests;

use types::{Member, Type, Types, damaged, kind};

/// Why a fact could not be found out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// The bytes do not follow the format.
    #[error("damaged type information: {0}")]
    Damaged(String),
    /// It is there, but not as the probe or its programs can use it.
    #[error("{0}")]
    Unusable(String),
}

/// The kernel's types.
pub struct Btf {
    types: Types,
}

impl Btf {
    /// Checks the frame of the bytes and finds where each type begins.
    ///
    /// # Errors
    /// The bytes do not follow the format, or follow one that this probe does not know.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        Ok(Self {
            types: Types::parse(bytes)?,
        })
    }

    /// The value of a kernel fact: that of its first alternative that this kernel has; `None` if it has none. Never
    /// [`ABSENT`].
    ///
    /// # Errors
    /// The kernel has it in a form that programs cannot use, or the bytes are damaged.
    pub fn resolve(&self, field: &KernelField) -> Result<Option<u32>, BtfError> {
        let mut described = false;
        for lookup in field.alternatives {
            let found = match *lookup {
                Lookup::Member { of, path, size } => self.member(of, path, size)?,
                Lookup::Argument { of, is, at } => self.argument(of, is, at)?,
                Lookup::Enumerator { of, named } => {
                    described |= self.enums(of).next().is_some();
                    self.enumerator(of, named)?
                }
                Lookup::Otherwise(value) => (!described).then_some(value),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Whether programs can attach to this tracepoint.
    ///
    /// # Errors
    /// The kernel has something else of its name, or the bytes are damaged.
    pub fn has_tracepoint(&self, name: &str) -> Result<bool, BtfError> {
        Ok(self.prototype(name)?.is_some())
    }

    /// The enumerators of an enum, if there is one of this name.
    ///
    /// # Errors
    /// There are several that differ, a value is not an unsigned number of 32 bits, or the bytes are damaged.
    pub fn enumerators(&self, name: &str) -> Result<Option<Vec<(&str, u32)>>, BtfError> {
        let mut agreed = None;
        for found in self.enums(name) {
            let all = self.types.enumerators(found?);
            let all = all
                .map(|enumerator| {
                    let (enumerator, value) = enumerator?;
                    Ok((enumerator, usable(value, name, enumerator)?))
                })
                .collect::<Result<Vec<_>, BtfError>>()?;
            agree(&mut agreed, all, || format!("enum {name}"))?;
        }
        Ok(agreed)
    }

    fn enumerator(&self, of: &str, named: &str) -> Result<Option<u32>, BtfError> {
        let mut agreed = None;
        for found in self.enums(of) {
            for enumerator in self.types.enumerators(found?) {
                let (name, value) = enumerator?;
                if name == named {
                    let value = usable(value, of, name)?;
                    agree(&mut agreed, value, || format!("{name} in enum {of}"))?;
                }
            }
        }
        Ok(agreed)
    }

    /// The definitions of an enum. Declarations have no enumerators.
    fn enums<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Result<Type, BtfError>> + 'a {
        let is_definition =
            |found: &Type| matches!(found.kind, kind::ENUM | kind::ENUM64) && found.length > 0;
        self.types
            .named(name)
            .filter(move |found| found.as_ref().map_or(true, is_definition))
    }

    /// Which of these positions among a tracepoint's arguments has this type; the tracepoint's own data pointer does not
    /// count.
    fn argument(&self, of: &str, is: &str, at: &[u32]) -> Result<Option<u32>, BtfError> {
        let Some(prototype) = self.prototype(of)? else {
            return Ok(None);
        };
        let mut elsewhere = None;
        for (position, parameter) in (0..).zip(self.types.parameters(prototype).skip(1)) {
            if self.types.spelling(parameter?)? == is {
                if at.contains(&position) {
                    return Ok(Some(position));
                }
                elsewhere = Some(position);
            }
        }
        let moved = |position| {
            BtfError::Unusable(format!(
                "`{is}` is argument {position} of {of}, where no program expects it"
            ))
        };
        elsewhere.map_or(Ok(None), |position| Err(moved(position)))
    }

    /// The prototype that the kernel declares for programs on a tracepoint: `typedef void (*btf_trace_NAME)(void *, ...)`.
    fn prototype(&self, tracepoint: &str) -> Result<Option<Type>, BtfError> {
        let name = format!("btf_trace_{tracepoint}");
        for typedef in self.types.named(&name) {
            let typedef = typedef?;
            if typedef.kind != kind::TYPEDEF {
                continue;
            }
            let pointer = self.types.get(typedef.size_or_type)?;
            if pointer.kind == kind::PTR && pointer.size_or_type != 0 {
                let prototype = self.types.get(pointer.size_or_type)?;
                if prototype.kind == kind::FUNC_PROTO {
                    return Ok(Some(prototype));
                }
            }
            let what = format!("{name} is not a pointer to a function");
            return Err(BtfError::Unusable(what));
        }
        Ok(None)
    }

    /// Offset of a member. Structs of the same name must agree on it.
    fn member(&self, of: &str, path: &[&str], size: u32) -> Result<Option<u32>, BtfError> {
        let describe = || format!("{of}.{}", path.join("."));
        let unusable = |why: &str| Err(BtfError::Unusable(format!("{} {why}", describe())));
        let mut agreed = None;
        for outer in self.types.named(of) {
            let outer = outer?;
            let Some(found) = self.walk(outer, path)? else {
                continue;
            };
            if found.bit_field || self.types.is_part_of_bytes(found.type_id)? {
                return unusable("is a bit-field");
            }
            let actual = self.types.size(found.type_id)?;
            if actual != size {
                return unusable(&format!("has {actual} bytes, not {size}"));
            }
            if found.bits % 8 != 0 {
                return unusable("does not begin at a byte");
            }
            let offset = found.bits / 8;
            if offset
                .checked_add(size)
                .is_none_or(|end| end > outer.size_or_type)
            {
                return Err(damaged(&format!(
                    "{} lies outside of its struct",
                    describe()
                )));
            }
            agree(&mut agreed, offset, describe)?;
        }
        Ok(agreed)
    }

    /// The last member of a path.
    fn walk(&self, from: Type, path: &[&str]) -> Result<Option<Member>, BtfError> {
        let mut found: Option<Member> = None;
        for name in path {
            let (outer, bits) = match found {
                None => (from, 0),
                Some(member) if member.bit_field => return Ok(None),
                Some(member) => (self.types.strip(member.type_id)?, member.bits),
            };
            found = self.find_member(outer, bits, name)?;
            if found.is_none() {
                return Ok(None);
            }
        }
        Ok(found)
    }

    /// The member of this name of a struct that begins at `bits`; looks into anonymous structs and unions.
    fn find_member(&self, of: Type, bits: u32, name: &str) -> Result<Option<Member>, BtfError> {
        let mut pending = vec![(of, bits)];
        // No type is looked into twice: in damaged bytes they may contain each other.
        let mut seen = BTreeSet::from([of.body]);
        while let Some((outer, base)) = pending.pop() {
            for member in self.types.members(outer) {
                let member = member?;
                let bits = base.checked_add(member.bits);
                let bits = bits.ok_or_else(|| damaged(&format!("the offset of {name}")))?;
                if self.types.has_name(member.name, name)? {
                    return Ok(Some(Member { bits, ..member }));
                }
                if self.types.has_name(member.name, "")? {
                    let inner = self.types.strip(member.type_id)?;
                    if seen.insert(inner.body) {
                        pending.push((inner, bits));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Takes a further definition of the same thing, which must say the same.
fn agree<T: PartialEq>(
    agreed: &mut Option<T>,
    found: T,
    describe: impl FnOnce() -> String,
) -> Result<(), BtfError> {
    if agreed.as_ref().is_some_and(|other| *other != found) {
        let what = format!("{} is defined in several ways", describe());
        return Err(BtfError::Unusable(what));
    }
    *agreed = Some(found);
    Ok(())
}

/// The value of an enumerator that programs or tables can hold.
fn usable(value: Option<u32>, of: &str, name: &str) -> Result<u32, BtfError> {
    value.filter(|value| *value != ABSENT).ok_or_else(|| {
        let what = format!(
            "{name} in enum {of} is not a number from 0 to {}",
            ABSENT - 1
        );
        BtfError::Unusable(what)
    })
}
