//! The types themselves: the frame of the bytes, and every kind of type as the format lays it out.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Range,
};

use super::BtfError;

/// All types, and where to find them by number and by name.
pub(super) struct Types {
    bytes: Vec<u8>,
    /// Where the types lie in `bytes`.
    types: Range<usize>,
    /// Where the names lie in `bytes`.
    strings: Range<usize>,
    /// Where each type begins among the types; type 1 is the first, 0 stands for `void`.
    offsets: Vec<u32>,
    /// Hash of the name and number of every type that can be looked up by name, sorted.
    by_name: Vec<(u64, u32)>,
}

/// Kinds of types, by their number in the format.
pub(super) mod kind {
    pub(crate) const INT: u32 = 1;
    pub(crate) const PTR: u32 = 2;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const FWD: u32 = 7;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const RESTRICT: u32 = 11;
    pub(crate) const FUNC: u32 = 12;
    pub(crate) const FUNC_PROTO: u32 = 13;
    pub(crate) const VAR: u32 = 14;
    pub(crate) const DATASEC: u32 = 15;
    pub(crate) const FLOAT: u32 = 16;
    pub(crate) const DECL_TAG: u32 = 17;
    pub(crate) const TYPE_TAG: u32 = 18;
    pub(crate) const ENUM64: u32 = 19;
}

/// How long a chain of typedefs, arrays or pointers may be before the bytes count as damaged: a cycle would never end.
const DEPTH: u32 = 32;
const MAGIC: u16 = 0xeb9f;
/// Version 1 in the low byte, no flags in the high one; the kernel refuses all others too.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const PARAMETER_BYTES: usize = 8;
/// The probe runs on 64-bit machines only.
const POINTER_BYTES: u32 = 8;

/// The fixed part of a type.
#[derive(Clone, Copy)]
pub(super) struct Type {
    name: u32,
    pub(super) kind: u32,
    /// How many members, enumerators or parameters follow.
    pub(super) length: u32,
    /// Members carry bit-field sizes; enumerators are signed; a forward declaration is that of a union.
    flag: bool,
    /// Size in bytes, or the type that this one refers to.
    pub(super) size_or_type: u32,
    /// Where what follows the fixed part begins; no two types share it.
    pub(super) body: usize,
}

/// A member of a struct or union.
#[derive(Clone, Copy)]
pub(super) struct Member {
    /// Where its name lies; see [`Types::has_name`].
    pub(super) name: u32,
    /// The number of its type.
    pub(super) type_id: u32,
    /// Offset from the beginning of the outermost struct.
    pub(super) bits: u32,
    /// Whether its struct says that it is a bit-field.
    pub(super) bit_field: bool,
}

impl Type {
    /// Bytes of what follows the fixed part.
    fn body_bytes(&self) -> Result<usize, BtfError> {
        let length = self.length as usize;
        Ok(match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => MEMBER_BYTES * length,
            kind::ENUM | kind::FUNC_PROTO => PARAMETER_BYTES * length,
            kind::PTR | kind::FWD | kind::TYPEDEF | kind::FUNC | kind::FLOAT => 0,
            kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => 0,
            unknown => {
                return Err(BtfError::Unusable(format!(
                    "type information with types of kind {unknown}, which this probe does not know"
                )));
            }
        })
    }

    pub(super) fn has_members(&self) -> bool {
        matches!(self.kind, kind::STRUCT | kind::UNION)
    }

    fn is_enum(&self) -> bool {
        matches!(self.kind, kind::ENUM | kind::ENUM64)
    }

    /// Whether it adds a property, but no name, to another type.
    fn is_qualifier(&self) -> bool {
        matches!(
            self.kind,
            kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
        )
    }
}

impl Types {
    /// Checks the frame of the bytes and finds where each type begins.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let (types, strings) = frame(&bytes)?;
        let mut all = Self {
            bytes,
            types,
            strings,
            offsets: vec![0],
            by_name: Vec::new(),
        };
        all.index()?;
        Ok(all)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let found = self.type_at(at)?;
            let searched = found.has_members() || found.is_enum() || found.kind == kind::TYPEDEF;
            if searched && !self.has_name(found.name, "")? {
                let number = self.offsets.len() as u32; // a type has 12 bytes of at most 4 GiB
                self.by_name.push((hash(self.text(found.name)?), number));
            }
            self.offsets.push(at as u32); // as above
            at = found.body + found.body_bytes()?;
        }
        if at != self.types.len() {
            return Err(damaged("the last type is cut off"));
        }
        self.by_name.sort_unstable();
        Ok(())
    }

    /// All structs, unions, enums and typedefs of this name, in the order of their numbers.
    pub(super) fn named<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = Result<Type, BtfError>> + 'a {
        let hash = hash(name);
        let first = self.by_name.partition_point(|(other, _)| *other < hash);
        let same = self.by_name[first..]
            .iter()
            .take_while(move |(other, _)| *other == hash);
        same.filter_map(move |(_, id)| {
            let found = self.get(*id);
            let matches = found.and_then(|found| Ok((self.has_name(found.name, name)?, found)));
            matches
                .map(|(same, found)| same.then_some(found))
                .transpose()
        })
    }

    /// The type of this number.
    pub(super) fn get(&self, id: u32) -> Result<Type, BtfError> {
        let offset = self.offsets.get(id as usize).filter(|_| id > 0);
        let missing = || damaged(&format!("there is no type {id}"));
        self.type_at(*offset.ok_or_else(missing)? as usize)
    }

    /// The type behind typedefs and qualifiers.
    pub(super) fn strip(&self, mut id: u32) -> Result<Type, BtfError> {
        for _ in 0..DEPTH {
            let found = self.get(id)?;
            if found.kind != kind::TYPEDEF && !found.is_qualifier() {
                return Ok(found);
            }
            id = found.size_or_type;
        }
        Err(damaged("typedefs nest without end"))
    }

    /// Size of a type in bytes.
    pub(super) fn size(&self, mut id: u32) -> Result<u32, BtfError> {
        let mut count = 1u32;
        let huge = || damaged("an array of more than 4 GiB");
        for _ in 0..DEPTH {
            let found = self.strip(id)?;
            let size = match found.kind {
                kind::ARRAY => {
                    let [element, _index, length] = self.words(found.body)?;
                    count = count.checked_mul(length).ok_or_else(huge)?;
                    id = element;
                    continue;
                }
                kind::PTR => POINTER_BYTES,
                kind::INT | kind::FLOAT => found.size_or_type,
                _ if found.has_members() || found.is_enum() => found.size_or_type,
                other => return Err(damaged(&format!("a member of kind {other}"))),
            };
            return size.checked_mul(count).ok_or_else(huge);
        }
        Err(damaged("arrays nest without end"))
    }

    /// A type as C writes it, without qualifiers.
    pub(super) fn spelling(&self, mut id: u32) -> Result<String, BtfError> {
        let mut stars = String::new();
        for _ in 0..DEPTH {
            let found = if id == 0 { None } else { Some(self.get(id)?) };
            let (keyword, name) = match found {
                None => ("", "void"),
                Some(found) if found.is_qualifier() || found.kind == kind::PTR => {
                    if found.kind == kind::PTR {
                        stars.push('*');
                    }
                    id = found.size_or_type;
                    continue;
                }
                Some(found) => (keyword(&found), self.text(found.name)?),
            };
            let space = if stars.is_empty() { "" } else { " " };
            return Ok([keyword, name, space, &stars].concat());
        }
        Err(damaged("pointers nest without end"))
    }

    /// Whether a type is an integer of fewer bits than its bytes have: in structs that do not say what is a bit-field, the
    /// types of the members do.
    pub(super) fn is_part_of_bytes(&self, id: u32) -> Result<bool, BtfError> {
        let found = self.strip(id)?;
        if found.kind != kind::INT {
            return Ok(false);
        }
        let [int] = self.words(found.body)?;
        let (first_bit, bits) = (int >> 16 & 0xff, int & 0xff);
        Ok(first_bit != 0 || Some(bits) != found.size_or_type.checked_mul(8))
    }

    /// The members of a struct or union; of other types none.
    pub(super) fn members(&self, of: Type) -> impl Iterator<Item = Result<Member, BtfError>> + '_ {
        let length = if of.has_members() { of.length } else { 0 };
        (0..length as usize).map(move |index| {
            let [name, type_id, offset] = self.words(of.body + MEMBER_BYTES * index)?;
            let (bits, bit_field) = if of.flag {
                (offset & 0xff_ffff, offset >> 24 != 0)
            } else {
                (offset, false)
            };
            Ok(Member {
                name,
                type_id,
                bits,
                bit_field,
            })
        })
    }

    /// The types of the parameters of a function; of other types none.
    pub(super) fn parameters(&self, of: Type) -> impl Iterator<Item = Result<u32, BtfError>> + '_ {
        let is_function = of.kind == kind::FUNC_PROTO;
        let length = if is_function { of.length } else { 0 };
        (0..length as usize).map(move |index| {
            let [_name, type_id] = self.words(of.body + PARAMETER_BYTES * index)?;
            Ok(type_id)
        })
    }

    /// The enumerators of an enum, with their values where these are unsigned numbers of 32 bits; of other types none.
    pub(super) fn enumerators(
        &self,
        of: Type,
    ) -> impl Iterator<Item = Result<(&str, Option<u32>), BtfError>> + '_ {
        let length = if of.is_enum() { of.length } else { 0 };
        (0..length as usize).map(move |index| {
            let (name, value) = if of.kind == kind::ENUM64 {
                let [name, low, high] = self.words(of.body + MEMBER_BYTES * index)?;
                (name, (high == 0).then_some(low))
            } else {
                let [name, value] = self.words(of.body + PARAMETER_BYTES * index)?;
                let negative = of.flag && value.cast_signed() < 0;
                (name, (!negative).then_some(value))
            };
            Ok((self.text(name)?, value))
        })
    }

    /// Whether this is the name at this place; `""` is that of what has none.
    pub(super) fn has_name(&self, offset: u32, name: &str) -> Result<bool, BtfError> {
        let rest = self.strings_from(offset)?;
        Ok(rest.get(name.len()) == Some(&0) && rest.starts_with(name.as_bytes()))
    }

    fn text(&self, offset: u32) -> Result<&str, BtfError> {
        let rest = self.strings_from(offset)?;
        let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        str::from_utf8(name).map_err(|_| damaged(&format!("the name at {offset}")))
    }

    fn strings_from(&self, offset: u32) -> Result<&[u8], BtfError> {
        let strings = &self.bytes[self.strings.clone()];
        let missing = || damaged(&format!("there is no name at {offset}"));
        strings.get(offset as usize..).ok_or_else(missing)
    }

    fn type_at(&self, at: usize) -> Result<Type, BtfError> {
        let [name, info, size_or_type] = self.words(at)?;
        Ok(Type {
            name,
            // The counts of 24 bits and kinds of 7 are those of Linux 7.2; older kernels have zeros there.
            kind: info >> 24 & 0x7f,
            length: info & 0xff_ffff,
            flag: info >> 31 != 0,
            size_or_type,
            body: at + TYPE_BYTES,
        })
    }

    fn words<const N: usize>(&self, at: usize) -> Result<[u32; N], BtfError> {
        words(&self.bytes[self.types.clone()], at)
    }
}

/// Where types and names lie.
fn frame(bytes: &[u8]) -> Result<(Range<usize>, Range<usize>), BtfError> {
    let [start, header_bytes, rest @ ..]: [u32; 6] = words(bytes, 0)?;
    let magic = start as u16; // the low half
    if magic == MAGIC.swap_bytes() {
        let what = "type information of a machine with the other byte order";
        return Err(BtfError::Unusable(what.into()));
    }
    if magic != MAGIC {
        return Err(damaged(&format!(
            "it begins with {magic:#x}, not {MAGIC:#x}"
        )));
    }
    if start >> 16 != VERSION {
        return Err(BtfError::Unusable(format!(
            "type information of version {} with flags {:#x}; this probe knows version 1 without any",
            start >> 16 & 0xff,
            start >> 24,
        )));
    }
    let header_bytes = header_bytes as usize;
    if header_bytes < HEADER_BYTES {
        return Err(damaged(&format!("a header of {header_bytes} bytes")));
    }
    let part = |offset: u32, length: u32| {
        let from = header_bytes.checked_add(offset as usize)?;
        let range = from..from.checked_add(length as usize)?;
        bytes.get(range.clone()).map(|_| range)
    };
    let [types_at, types_bytes, strings_at, strings_bytes] = rest;
    let (Some(types), Some(strings)) =
        (part(types_at, types_bytes), part(strings_at, strings_bytes))
    else {
        let length = bytes.len();
        return Err(damaged(&format!(
            "its parts lie outside of its {length} bytes"
        )));
    };
    let names = &bytes[strings.clone()];
    if names.first() != Some(&0) || names.last() != Some(&0) {
        return Err(damaged("its names do not begin and end with a zero"));
    }
    Ok((types, strings))
}

/// The word before the name of a type in C.
fn keyword(of: &Type) -> &'static str {
    match of.kind {
        kind::FWD if of.flag => "union ",
        kind::STRUCT | kind::FWD => "struct ",
        kind::UNION => "union ",
        _ if of.is_enum() => "enum ",
        _ => "",
    }
}

fn words<const N: usize>(bytes: &[u8], at: usize) -> Result<[u32; N], BtfError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(found) = rest.get(..4 * N) else {
        let length = bytes.len();
        return Err(damaged(&format!(
            "it ends after {length} bytes within a type"
        )));
    };
    let (fours, _) = found.as_chunks();
    Ok(std::array::from_fn(|index| {
        u32::from_le_bytes(fours[index])
    }))
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn damaged(what: &str) -> BtfError {
    BtfError::Damaged(what.to_owned())
}
