//! The running kernel's type information (BTF): where its structs keep what programs read.
//!
//! Format: Documentation/bpf/btf.rst of the kernel. Only what the lookups need is decoded; damaged bytes are an error.

use std::{ops::Range, path::Path};

use dataflux_common::kernel_fields::{KernelField, Lookup};

/// Why a fact could not be found out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// The bytes do not follow the format.
    #[error("damaged type information: {0}")]
    Damaged(String),
    /// The kernel has something of this name, but not as programs need it.
    #[error("{0}")]
    Unusable(String),
}

/// The kernel's types.
pub struct Btf {
    bytes: Vec<u8>,
    /// Where the types lie in `bytes`.
    types: Range<usize>,
    /// Where the names lie in `bytes`.
    strings: Range<usize>,
    /// Where each type begins among the types; type 1 is the first.
    offsets: Vec<u32>,
}

/// Kinds of types, by their number in the format.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// How deep types may nest before the bytes count as damaged: a cycle would never end.
const DEPTH: u32 = 32;
const MAGIC: u32 = 0xeb9f;
const TYPE_BYTES: usize = 12;
const POINTER_BYTES: u32 = 8;

/// The fixed part of a type.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// How many members, enumerators or parameters follow.
    length: u32,
    /// Members carry bit-field sizes.
    flag: bool,
    /// Size in bytes, or the type that this one refers to.
    size_or_type: u32,
    /// Where what follows the fixed part begins.
    body: usize,
}

impl Type {
    /// Bytes of what follows the fixed part.
    fn body_bytes(&self) -> Result<usize, BtfError> {
        let length = self.length as usize;
        Ok(match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * length,
            kind::ENUM | kind::FUNC_PROTO => 8 * length,
            kind::PTR..=kind::TYPE_TAG => 0,
            unknown => return Err(BtfError::Damaged(format!("unknown kind of type {unknown}"))),
        })
    }
}

impl Btf {
    /// Reads the running kernel's own.
    ///
    /// # Errors
    /// The file cannot be read (a kernel built without it has none), or is damaged.
    pub fn read(sys: &Path) -> anyhow::Result<Self> {
        let path = sys.join("kernel/btf/vmlinux");
        let bytes =
            std::fs::read(&path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        Self::parse(bytes).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }

    /// Checks the frame of the bytes and finds where each type begins.
    ///
    /// # Errors
    /// The bytes do not follow the format.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let header = |at: usize| word(&bytes, at);
        if header(0)? & 0xffff != MAGIC {
            return Err(BtfError::Damaged(
                "wrong magic number (or another byte order)".into(),
            ));
        }
        let start = header(4)? as usize;
        let part = |offset: u32, length: u32| {
            let from = start.checked_add(offset as usize)?;
            let range = from..from.checked_add(length as usize)?;
            bytes.get(range.clone()).map(|_| range)
        };
        let types = part(header(8)?, header(12)?);
        let strings = part(header(16)?, header(20)?);
        let (Some(types), Some(strings)) = (types, strings) else {
            return Err(BtfError::Damaged(format!(
                "its parts lie outside of its {} bytes",
                bytes.len()
            )));
        };
        let mut btf = Self {
            bytes,
            types,
            strings,
            offsets: vec![0],
        };
        let mut at = 0;
        while at < btf.types().len() {
            let offset = u32::try_from(at)
                .map_err(|_| BtfError::Damaged("more than 4 GiB of types".into()))?;
            btf.offsets.push(offset);
            let found = btf.type_at(at)?;
            at = found.body + found.body_bytes()?;
        }
        if at != btf.types().len() {
            return Err(BtfError::Damaged("the last type is cut off".into()));
        }
        Ok(btf)
    }

    /// The value of a kernel fact: that of its first alternative that this kernel has; `None` if it has none.
    ///
    /// # Errors
    /// The kernel has it in a form that programs cannot use, or the bytes are damaged.
    pub fn resolve(&self, field: &KernelField) -> Result<Option<u32>, BtfError> {
        for lookup in field.alternatives {
            let found = match *lookup {
                Lookup::Member { of, path, size } => self.member(of, path, size)?,
                Lookup::Argument { of, is } => self.argument(of, is)?,
                Lookup::Enumerator { of, named } => self.enumerator(of, named)?,
                Lookup::Otherwise(value) => Some(value),
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
    /// The bytes are damaged.
    pub fn has_tracepoint(&self, name: &str) -> Result<bool, BtfError> {
        Ok(self.prototype(name)?.is_some())
    }

    /// The enumerators of an enum, if there is one of this name.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn enumerators(&self, name: &str) -> Result<Option<Vec<(&str, u32)>>, BtfError> {
        for found in self.named(name, &[kind::ENUM]) {
            let found = found?;
            if found.length == 0 {
                continue; // a declaration without a definition
            }
            let at = |index: u32| found.body + 8 * index as usize;
            return (0..found.length)
                .map(|index| {
                    Ok((
                        self.text(word(self.types(), at(index))?)?,
                        word(self.types(), at(index) + 4)?,
                    ))
                })
                .collect::<Result<_, _>>()
                .map(Some);
        }
        Ok(None)
    }

    fn enumerator(&self, of: &str, named: &str) -> Result<Option<u32>, BtfError> {
        let all = self.enumerators(of)?.unwrap_or_default();
        Ok(all
            .into_iter()
            .find_map(|(name, value)| (name == named).then_some(value)))
    }

    /// Position of the first argument of a tracepoint with this type; the tracepoint's own data pointer does not count.
    fn argument(&self, of: &str, is: &str) -> Result<Option<u32>, BtfError> {
        let Some(prototype) = self.prototype(of)? else {
            return Ok(None);
        };
        for position in 1..prototype.length {
            let parameter = word(self.types(), prototype.body + 8 * position as usize + 4)?;
            if self.spelling(parameter, 0)? == is {
                return Ok(Some(position - 1));
            }
        }
        Ok(None)
    }

    /// The prototype that the kernel declares for programs on a tracepoint: `typedef void (*btf_trace_NAME)(void *, ...)`.
    fn prototype(&self, tracepoint: &str) -> Result<Option<Type>, BtfError> {
        let name = format!("btf_trace_{tracepoint}");
        let Some(typedef) = self.named(&name, &[kind::TYPEDEF]).next().transpose()? else {
            return Ok(None);
        };
        let pointer = self.get(typedef.size_or_type)?;
        let prototype = self.get(pointer.size_or_type)?;
        if pointer.kind != kind::PTR || prototype.kind != kind::FUNC_PROTO {
            return Err(BtfError::Unusable(format!(
                "{name} is not a pointer to a function"
            )));
        }
        Ok(Some(prototype))
    }

    /// Offset of a member. Structs of the same name must agree on it.
    fn member(&self, of: &str, path: &[&str], size: u32) -> Result<Option<u32>, BtfError> {
        let describe = || format!("{of}.{}", path.join("."));
        let mut agreed = None;
        for found in self.named(of, &[kind::STRUCT, kind::UNION]) {
            let Some((bits, id)) = self.walk(found?, path, &describe)? else {
                continue;
            };
            let actual = self.size(id, 0)?;
            if actual != size {
                return Err(BtfError::Unusable(format!(
                    "{} has {actual} bytes, not {size}",
                    describe()
                )));
            }
            if bits % 8 != 0 {
                return Err(BtfError::Unusable(format!(
                    "{} does not begin at a byte",
                    describe()
                )));
            }
            if agreed.is_some_and(|other| other != bits / 8) {
                return Err(BtfError::Unusable(format!(
                    "{} has several offsets",
                    describe()
                )));
            }
            agreed = Some(bits / 8);
        }
        Ok(agreed)
    }

    /// Offset in bits and type of the last member of a path.
    fn walk(
        &self,
        from: Type,
        path: &[&str],
        describe: &dyn Fn() -> String,
    ) -> Result<Option<(u32, u32)>, BtfError> {
        let mut at = 0u32;
        let mut outer = from;
        let mut last = None;
        for name in path {
            if let Some((_, id)) = last {
                outer = self.get(self.strip(id, 0)?)?;
            }
            let Some((offset, id, bit_field)) = self.find_member(outer, name, 0)? else {
                return Ok(None);
            };
            if bit_field {
                return Err(BtfError::Unusable(format!("{} is a bit-field", describe())));
            }
            at = at
                .checked_add(offset)
                .ok_or_else(|| BtfError::Damaged(format!("the offset of {}", describe())))?;
            last = Some((at, id));
        }
        Ok(last)
    }

    /// Offset in bits, type, and whether it is a bit-field; looks into anonymous structs and unions.
    fn find_member(
        &self,
        of: Type,
        name: &str,
        depth: u32,
    ) -> Result<Option<(u32, u32, bool)>, BtfError> {
        if depth > DEPTH {
            return Err(BtfError::Damaged(
                "anonymous members nest without end".into(),
            ));
        }
        if of.kind != kind::STRUCT && of.kind != kind::UNION {
            return Ok(None);
        }
        for index in 0..of.length as usize {
            let at = of.body + 12 * index;
            let (member, id, bits) = (
                word(self.types(), at)?,
                word(self.types(), at + 4)?,
                word(self.types(), at + 8)?,
            );
            let (offset, bit_field) = if of.flag {
                (bits & 0xff_ffff, bits >> 24 != 0)
            } else {
                (bits, false)
            };
            if self.text(member)? == name {
                return Ok(Some((offset, id, bit_field)));
            }
            if member == 0
                && let Some((inner, id, bit_field)) =
                    self.find_member(self.get(self.strip(id, 0)?)?, name, depth + 1)?
            {
                let offset = offset
                    .checked_add(inner)
                    .ok_or_else(|| BtfError::Damaged(format!("the offset of {name}")))?;
                return Ok(Some((offset, id, bit_field)));
            }
        }
        Ok(None)
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, id: u32, depth: u32) -> Result<u32, BtfError> {
        if depth > DEPTH {
            return Err(BtfError::Damaged("typedefs nest without end".into()));
        }
        let found = self.get(id)?;
        match found.kind {
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                self.strip(found.size_or_type, depth + 1)
            }
            _ => Ok(id),
        }
    }

    /// Size of a type in bytes.
    fn size(&self, id: u32, depth: u32) -> Result<u32, BtfError> {
        if depth > DEPTH {
            return Err(BtfError::Damaged("arrays nest without end".into()));
        }
        let found = self.get(self.strip(id, 0)?)?;
        match found.kind {
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                Ok(found.size_or_type)
            }
            kind::PTR => Ok(POINTER_BYTES),
            kind::ARRAY => {
                let (element, length) = (
                    word(self.types(), found.body)?,
                    word(self.types(), found.body + 8)?,
                );
                let size = self.size(element, depth + 1)?.checked_mul(length);
                size.ok_or_else(|| BtfError::Damaged("an array of more than 4 GiB".into()))
            }
            other => Err(BtfError::Damaged(format!("a member of kind {other}"))),
        }
    }

    /// A type as C writes it, without qualifiers.
    fn spelling(&self, id: u32, depth: u32) -> Result<String, BtfError> {
        if id == 0 {
            return Ok("void".into());
        }
        if depth > DEPTH {
            return Err(BtfError::Damaged("types nest without end".into()));
        }
        let found = self.get(id)?;
        let name = self.text(found.name)?;
        Ok(match found.kind {
            kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                self.spelling(found.size_or_type, depth + 1)?
            }
            kind::PTR => {
                let to = self.spelling(found.size_or_type, depth + 1)?;
                let space = if to.ends_with('*') { "" } else { " " };
                format!("{to}{space}*")
            }
            kind::STRUCT => format!("struct {name}"),
            kind::UNION => format!("union {name}"),
            kind::ENUM | kind::ENUM64 => format!("enum {name}"),
            _ => name.to_owned(),
        })
    }

    /// All types of a name and of one of these kinds.
    fn named<'a>(
        &'a self,
        name: &'a str,
        kinds: &'a [u32],
    ) -> impl Iterator<Item = Result<Type, BtfError>> + 'a {
        self.offsets.iter().skip(1).filter_map(move |&offset| {
            let found = match self.type_at(offset as usize) {
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            };
            (kinds.contains(&found.kind) && self.has_name(found.name, name)).then_some(Ok(found))
        })
    }

    fn types(&self) -> &[u8] {
        &self.bytes[self.types.clone()]
    }

    fn strings(&self) -> &[u8] {
        &self.bytes[self.strings.clone()]
    }

    fn get(&self, id: u32) -> Result<Type, BtfError> {
        let offset = self.offsets.get(id as usize).filter(|_| id > 0);
        self.type_at(
            *offset.ok_or_else(|| BtfError::Damaged(format!("there is no type {id}")))? as usize,
        )
    }

    fn type_at(&self, at: usize) -> Result<Type, BtfError> {
        let info = word(self.types(), at + 4)?;
        Ok(Type {
            name: word(self.types(), at)?,
            kind: info >> 24 & 0x1f,
            length: info & 0xffff,
            flag: info >> 31 != 0,
            size_or_type: word(self.types(), at + 8)?,
            body: at + TYPE_BYTES,
        })
    }

    fn text(&self, offset: u32) -> Result<&str, BtfError> {
        let damaged = || BtfError::Damaged(format!("the name at {offset}"));
        let rest = self.strings().get(offset as usize..).ok_or_else(damaged)?;
        let end = rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(damaged)?;
        std::str::from_utf8(&rest[..end]).map_err(|_| damaged())
    }

    /// Compares without measuring the name first: this runs for every type.
    fn has_name(&self, offset: u32, name: &str) -> bool {
        let rest = self.strings().get(offset as usize..).unwrap_or_default();
        rest.get(name.len()) == Some(&0) && rest.starts_with(name.as_bytes())
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let four = at.checked_add(4).and_then(|end| bytes.get(at..end));
    let four = four
        .ok_or_else(|| BtfError::Damaged(format!("it ends at {} within a number", bytes.len())))?;
    Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}
