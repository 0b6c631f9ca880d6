//! Writes type information, one type after the other.

use crate::kernel::btf::types::kind;

pub(super) const HEADER_BYTES: usize = 24;
/// A struct or union in which offsets carry the sizes of bit-fields; a signed enum; the declaration of a union.
pub(super) const FLAG: u32 = 1 << 31;

/// Types and names so far. Every method that adds a type gives its number.
pub(super) struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    last: u32,
}

/// Name, type and offset in bits.
pub(super) type Member<'a> = (&'a str, u32, u32);

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            last: 0,
        }
    }

    /// The place of a name, a new one each time.
    pub(super) fn string(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let place = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        place
    }

    /// Adds any type: `kind` with [`FLAG`] or without, and what follows the fixed part.
    pub(super) fn add(
        &mut self,
        name: &str,
        kind: u32,
        length: usize,
        size_or_type: u32,
        body: &[u32],
    ) -> u32 {
        let name = self.string(name);
        let info = (kind & FLAG) | (kind & !FLAG) << 24 | length as u32;
        self.types.extend_from_slice(&[name, info, size_or_type]);
        self.types.extend_from_slice(body);
        self.last += 1;
        self.last
    }

    /// The number of the next type, for types that refer to later ones.
    pub(super) fn next(&self) -> u32 {
        self.last + 1
    }

    pub(super) fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, kind::INT, 0, bytes, &[8 * bytes])
    }

    /// An integer that uses some of its bits.
    pub(super) fn int_of_bits(&mut self, bytes: u32, first_bit: u32, bits: u32) -> u32 {
        self.add("", kind::INT, 0, bytes, &[first_bit << 16 | bits])
    }

    /// Any kind that only refers to another type.
    pub(super) fn refer(&mut self, name: &str, kind: u32, to: u32) -> u32 {
        self.add(name, kind, 0, to, &[])
    }

    pub(super) fn pointer(&mut self, to: u32) -> u32 {
        self.refer("", kind::PTR, to)
    }

    pub(super) fn typedef(&mut self, name: &str, to: u32) -> u32 {
        self.refer(name, kind::TYPEDEF, to)
    }

    pub(super) fn array(&mut self, of: u32, length: u32) -> u32 {
        self.add("", kind::ARRAY, 0, 0, &[of, of, length])
    }

    /// A struct or union, by `kind`, with [`FLAG`] or without.
    pub(super) fn members(&mut self, kind: u32, name: &str, bytes: u32, members: &[Member]) -> u32 {
        let mut body = Vec::new();
        for (name, id, offset) in members {
            body.extend_from_slice(&[self.string(name), *id, *offset]);
        }
        self.add(name, kind, members.len(), bytes, &body)
    }

    pub(super) fn structure(&mut self, name: &str, bytes: u32, members: &[Member]) -> u32 {
        self.members(kind::STRUCT, name, bytes, members)
    }

    pub(super) fn union(&mut self, name: &str, bytes: u32, members: &[Member]) -> u32 {
        self.members(kind::UNION, name, bytes, members)
    }

    /// An enum of 32-bit values, by `kind`, with [`FLAG`] or without.
    pub(super) fn enumeration(&mut self, kind: u32, name: &str, all: &[(&str, i32)]) -> u32 {
        let mut body = Vec::new();
        for (name, value) in all {
            body.extend_from_slice(&[self.string(name), value.cast_unsigned()]);
        }
        self.add(name, kind, all.len(), 4, &body)
    }

    pub(super) fn enumeration64(&mut self, name: &str, all: &[(&str, u64)]) -> u32 {
        let mut body = Vec::new();
        for (name, value) in all {
            body.extend_from_slice(&[self.string(name), *value as u32, (*value >> 32) as u32]);
        }
        self.add(name, kind::ENUM64, all.len(), 8, &body)
    }

    /// What the kernel declares for a tracepoint with these arguments.
    pub(super) fn tracepoint(&mut self, name: &str, arguments: &[u32]) -> u32 {
        let data = self.pointer(0);
        let mut body = vec![0, data];
        for argument in arguments {
            body.extend_from_slice(&[0, *argument]);
        }
        let prototype = self.add("", kind::FUNC_PROTO, arguments.len() + 1, 0, &body);
        let pointer = self.pointer(prototype);
        self.typedef(&format!("btf_trace_{name}"), pointer)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes_behind(HEADER_BYTES as u32)
    }

    /// With a header of another length.
    pub(super) fn bytes_behind(&self, header_bytes: u32) -> Vec<u8> {
        let types = self.types.len() as u32 * 4;
        let strings = self.strings.len() as u32;
        let header = [0x1_eb9f, header_bytes, 0, types, types, strings];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(header_bytes as usize, 0xee);
        bytes.extend(self.types.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}
