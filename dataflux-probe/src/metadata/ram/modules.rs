//! Modules of memory in the firmware's table: structures of type 17 (SMBIOS specification, "Memory Device").

use serde::Serialize;

/// A module that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Module {
    /// The label of its slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    locator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size_bytes: Option<u64>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// Megatransfers a second that it is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_mts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manufacturer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part_number: Option<String>,
}

/// "Memory Device" and "End-of-Table".
const MEMORY_DEVICE: u8 = 17;
const END: u8 = 127;

/// Modules at most; a table with more is none of a machine.
const MOST: usize = 1024;

/// The modules of a table, as far as it makes sense.
pub(super) fn parse(table: &[u8]) -> Vec<Module> {
    let mut modules = Vec::new();
    let mut rest = table;
    while let Some((structure, more)) = structure(rest) {
        match structure.fields[0] {
            END => break,
            MEMORY_DEVICE => modules.extend(structure.module()),
            _ => {}
        }
        if modules.len() >= MOST {
            break;
        }
        rest = more;
    }
    modules
}

/// One structure: type, length of its fields, two bytes of a handle, the rest of the fields; then its strings.
struct Structure<'a> {
    fields: &'a [u8],
    strings: &'a [u8],
}

/// The first structure of a table and what is behind it.
fn structure(table: &[u8]) -> Option<(Structure<'_>, &[u8])> {
    let length = usize::from(*table.get(1)?);
    if length < 4 {
        return None;
    }
    let (fields, rest) = table.split_at_checked(length)?;
    // Strings end with a zero each, and all of them with another one; without any there are two.
    let end = rest.windows(2).position(|pair| pair == [0, 0])? + 2;
    let (strings, more) = rest.split_at(end);
    Some((Structure { fields, strings }, more))
}

impl Structure<'_> {
    /// `None` for an empty slot.
    fn module(&self) -> Option<Module> {
        let size_bytes = match self.word(0x0c)? {
            0 => return None,
            0xffff => None,
            0x7fff => Some(u64::from(self.long(0x1c)? & 0x7fff_ffff) << 20),
            kib if kib & 0x8000 != 0 => Some(u64::from(kib & 0x7fff) << 10),
            mib => Some(u64::from(mib) << 20),
        };
        let speed = match self.word(0x15) {
            None | Some(0) => None,
            Some(0xffff) => self.long(0x54),
            Some(speed) => Some(u32::from(speed)),
        };
        Some(Module {
            locator: self.string(0x10),
            size_bytes,
            kind: self.fields.get(0x12).and_then(|&kind| name(kind)),
            speed_mts: speed,
            manufacturer: self.string(0x17),
            part_number: self.string(0x1a),
        })
    }

    fn word(&self, at: usize) -> Option<u16> {
        let bytes = self.fields.get(at..at + 2)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    }

    fn long(&self, at: usize) -> Option<u32> {
        let bytes = self.fields.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The string whose number stands at a place; 0 is none, and so is what firmware writes where it knows nothing.
    fn string(&self, at: usize) -> Option<String> {
        let number = usize::from(*self.fields.get(at)?);
        let bytes = self
            .strings
            .split(|&byte| byte == 0)
            .nth(number.checked_sub(1)?)?;
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim();
        let nothing = ["", "Unknown", "Not Specified", "None", "NO DIMM"];
        (!nothing.contains(&text)).then(|| text.to_owned())
    }
}

/// Types of memory that machines have had for the last twenty years.
fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x07 => "RAM",
        0x0f => "SDRAM",
        0x12 => "DDR",
        0x13 => "DDR2",
        0x18 => "DDR3",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod testing {
    /// A structure of type 17 with these values and strings.
    pub(crate) fn module(size: u16, extended: u32, speed: u16, strings: &[&str]) -> Vec<u8> {
        let mut fields = vec![0; 0x28];
        fields[0] = super::MEMORY_DEVICE;
        fields[1] = 0x28;
        fields[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
        fields[0x12] = 0x1a;
        fields[0x15..0x17].copy_from_slice(&speed.to_le_bytes());
        fields[0x1c..0x20].copy_from_slice(&extended.to_le_bytes());
        for (number, at) in (1..=strings.len()).zip([0x10, 0x17, 0x1a]) {
            fields[at] = u8::try_from(number).unwrap();
        }
        for string in strings {
            fields.extend(string.bytes());
            fields.push(0);
        }
        fields.extend(if strings.is_empty() {
            [0, 0].as_slice()
        } else {
            &[0]
        });
        fields
    }

    /// BIOS, a module of 16 GiB, an empty slot, one of 32 GiB, and the end.
    pub(crate) fn table() -> Vec<u8> {
        let bios = [0, 4, 0, 0, b'B', 0, 0].to_vec();
        let end = [super::END, 4, 0, 0, 0, 0].to_vec();
        let samsung = ["DIMM A1", "Samsung", "M393A2K43BB1-CTD "];
        [
            bios,
            module(16 << 10, 0, 2666, &samsung),
            module(0, 0, 0, &["DIMM A2", "NO DIMM"]),
            module(0x7fff, 32 << 10, 0, &[]),
            end,
            module(1024, 0, 1, &[]),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn modules_have_what_their_strings_and_fields_say_and_empty_slots_are_none() {
        let modules = parse(&testing::table());
        let first = Module {
            locator: Some("DIMM A1".into()),
            size_bytes: Some(16 << 30),
            kind: Some("DDR4"),
            speed_mts: Some(2666),
            manufacturer: Some("Samsung".into()),
            part_number: Some("M393A2K43BB1-CTD".into()),
        };
        let second = Module {
            locator: None,
            size_bytes: Some(32 << 30),
            kind: Some("DDR4"),
            speed_mts: None,
            manufacturer: None,
            part_number: None,
        };
        assert_eq!(modules, [first, second], "and nothing after the end");
    }

    #[test]
    fn small_modules_are_told_in_kib() {
        let modules = parse(&testing::module(0x8000 | 512, 0, 0, &[]));
        assert_eq!(modules[0].size_bytes, Some(512 << 10));
    }

    proptest! {
        #[test]
        fn any_table_comes_to_an_end(table in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(parse(&table).len() <= MOST);
        }

        #[test]
        fn a_damaged_table_comes_to_an_end(flips in prop::collection::vec((0usize..200, any::<u8>()), 0..8), cut in 0usize..200) {
            let mut table = testing::table();
            for (at, bits) in flips {
                let at = at % table.len();
                table[at] ^= bits;
            }
            table.truncate(table.len().saturating_sub(cut));
            prop_assert!(parse(&table).len() <= 5);
        }
    }
}
