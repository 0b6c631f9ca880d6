//! The bytes of a segment's header and of a record's head: little-endian, checked by CRC32C.

use std::{io, sync::Arc};

use super::{Head, Kind};
use crate::pipeline::spool::codec::{self, Body};

/// What a segment begins with. Its first 64 bytes are laid out the same in every version.
const HEADER_MAGIC: [u8; 8] = *b"DFPSPOOL";
pub(super) const VERSION: u32 = 1;
/// The header without the output's name.
pub(super) const HEADER: usize = 64;
/// Where the header's checksum stands.
const HEADER_CRC: usize = 60;
pub(super) const LONGEST_OUTPUT: usize = 255;

/// What a record begins with: not text, so that it is rare in bodies.
pub(in crate::pipeline::spool) const MAGIC: [u8; 4] = [0xdf, b'P', b'R', 0x9e];
/// The head up to the stream's id.
const FIXED: usize = 35;
/// What follows the id: checksums of the head and of the body.
const CHECKSUMS: usize = 8;
/// The id of a stream is made of the names of an output and a reader and a random number.
pub(super) const LONGEST_STREAM: usize = 1_024;
const COMPRESSED: u8 = 1;

pub(super) fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Envelopes => 1,
        Kind::DeadLetters => 2,
    }
}

/// A header as it stands in a file whose checksum fits.
pub(super) struct Header<'a> {
    pub(super) version: u32,
    pub(super) kind: u8,
    pub(super) output: &'a str,
    /// With the name.
    pub(super) length: usize,
}

pub(super) enum HeaderError {
    /// What is there could be the beginning of one.
    Cut,
    Wrong,
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

pub(super) fn header(kind: Kind, output: &str) -> io::Result<Vec<u8>> {
    if output.len() > LONGEST_OUTPUT {
        return Err(invalid("the name of the output is too long"));
    }
    let mut bytes = vec![0; HEADER];
    bytes[..8].copy_from_slice(&HEADER_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12] = kind_code(kind);
    bytes[13] = u8::try_from(output.len()).expect("at most 255");
    bytes.extend_from_slice(output.as_bytes());
    seal_header(&mut bytes);
    Ok(bytes)
}

/// `bytes` are the first ones of a file, at least [`HEADER`] + [`LONGEST_OUTPUT`] if it has as many.
pub(super) fn parse_header(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    let magic = HEADER_MAGIC.len().min(bytes.len());
    if bytes[..magic] != HEADER_MAGIC[..magic] {
        return Err(HeaderError::Wrong);
    }
    let Some((fixed, rest)) = bytes.split_at_checked(HEADER) else {
        return Err(HeaderError::Cut);
    };
    let Some(name) = rest.get(..usize::from(fixed[13])) else {
        return Err(HeaderError::Cut);
    };
    let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed[..HEADER_CRC]), name);
    if crc.to_le_bytes() != fixed[HEADER_CRC..] {
        return Err(HeaderError::Wrong);
    }
    Ok(Header {
        version: u32_at(fixed, 8),
        kind: fixed[12],
        output: str::from_utf8(name).map_err(|_| HeaderError::Wrong)?,
        length: HEADER + name.len(),
    })
}

/// Appends a record.
pub(super) fn record(head: &Head, body: Body<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let stream = head.stream.as_bytes();
    if stream.len() > LONGEST_STREAM {
        return Err(invalid("the id of the stream is too long"));
    }
    if body.bytes.len() > codec::LARGEST {
        return Err(invalid("the envelope is too large"));
    }
    let start = out.len();
    out.reserve(FIXED + stream.len() + CHECKSUMS + body.bytes.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(
        &u32::try_from(body.bytes.len())
            .expect("at most 64 MiB")
            .to_le_bytes(),
    );
    out.extend_from_slice(&head.range.start().to_le_bytes());
    out.extend_from_slice(&head.range.end().to_le_bytes());
    out.extend_from_slice(&head.time.to_le_bytes());
    out.push(if body.compressed { COMPRESSED } else { 0 });
    out.extend_from_slice(
        &u16::try_from(stream.len())
            .expect("at most 1024")
            .to_le_bytes(),
    );
    out.extend_from_slice(stream);
    out.extend_from_slice(&[0; CHECKSUMS]);
    out.extend_from_slice(body.bytes);
    seal_record(&mut out[start..]);
    Ok(())
}

/// What bytes are that may be those of a record.
pub(super) enum Parsed<'a> {
    /// A head whose checksum fits.
    Head(RawHead<'a>),
    /// The beginning of one: it takes this many bytes to tell.
    Cut(usize),
    /// Something else.
    Other,
}

/// A head whose checksum fits.
pub(super) struct RawHead<'a> {
    pub(super) body_length: u32,
    first: u64,
    last: u64,
    time: i64,
    pub(super) compressed: bool,
    stream: &'a str,
    body_crc: u32,
    /// Its own length.
    pub(super) length: usize,
}

impl RawHead<'_> {
    /// Of head and body.
    pub(super) fn record_length(&self) -> u32 {
        // Both are bounded by `parse`.
        self.body_length + u32::try_from(self.length).unwrap_or(0)
    }

    /// Whether these bytes are its body.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        crc32c::crc32c(body) == self.body_crc
    }

    /// With the id of `like`, the head before it, if that is the same.
    pub(super) fn to_head(&self, like: Option<&Arc<str>>) -> Head {
        let like = like.filter(|like| &***like == self.stream);
        Head {
            stream: like.map_or_else(|| self.stream.into(), Arc::clone),
            range: self.first..=self.last,
            time: self.time,
        }
    }
}

/// The head at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let magic = MAGIC.len().min(bytes.len());
    if bytes[..magic] != MAGIC[..magic] {
        return Parsed::Other;
    }
    if bytes.len() < FIXED {
        return Parsed::Cut(FIXED);
    }
    let flags = bytes[32];
    let stream_length = usize::from(u16::from_le_bytes([bytes[33], bytes[34]]));
    let body_length = u32_at(bytes, 4);
    if flags & !COMPRESSED != 0
        || stream_length > LONGEST_STREAM
        || body_length as usize > codec::LARGEST
    {
        return Parsed::Other;
    }
    let length = FIXED + stream_length + CHECKSUMS;
    let Some(head) = bytes.get(..length) else {
        return Parsed::Cut(length);
    };
    let checked = length - CHECKSUMS;
    let (first, last) = (u64_at(head, 8), u64_at(head, 16));
    let stream = str::from_utf8(&head[FIXED..checked]);
    match stream {
        Ok(stream)
            if u32_at(head, checked) == crc32c::crc32c(&head[..checked]) && first <= last =>
        {
            Parsed::Head(RawHead {
                body_length,
                first,
                last,
                time: u64_at(head, 24).cast_signed(),
                compressed: flags & COMPRESSED != 0,
                stream,
                body_crc: u32_at(head, checked + 4),
                length,
            })
        }
        _ => Parsed::Other,
    }
}

/// Makes the checksum of what stands in the place of a header fit.
pub(in crate::pipeline::spool) fn seal_header(bytes: &mut [u8]) {
    let Some((fixed, rest)) = bytes.split_at_mut_checked(HEADER) else {
        return;
    };
    if let Some(name) = rest.get(..usize::from(fixed[13])) {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed[..HEADER_CRC]), name);
        fixed[HEADER_CRC..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Makes the checksums of what stands in the place of a record fit.
pub(in crate::pipeline::spool) fn seal_record(bytes: &mut [u8]) {
    if bytes.len() < FIXED {
        return;
    }
    let checked = FIXED + usize::from(u16::from_le_bytes([bytes[33], bytes[34]]));
    let length = checked + CHECKSUMS;
    let body_length = u32_at(bytes, 4) as usize;
    if bytes.len() < length {
        return;
    }
    let crc = crc32c::crc32c(&bytes[..checked]);
    bytes[checked..checked + 4].copy_from_slice(&crc.to_le_bytes());
    let end = bytes.len().min(length + body_length);
    let crc = crc32c::crc32c(&bytes[length..end]);
    bytes[checked + 4..length].copy_from_slice(&crc.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
