//! Sets the read-only globals of an object before it is loaded, so that one loader serves all objects.

use anyhow::{Context as _, ensure};
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, read::elf::ElfFile64,
};

/// A copy of an object in which these globals have these values.
///
/// # Errors
/// It is no object, or has no global of this name and size.
pub(super) fn set(object: &[u8], globals: &[(&str, &[u32])]) -> anyhow::Result<Vec<u8>> {
    let file = ElfFile64::<LittleEndian>::parse(object)?;
    let mut copy = object.to_vec();
    for (name, values) in globals {
        let place = || {
            let symbol = file.symbol_by_name(name)?;
            let section = file.section_by_index(symbol.section_index()?).ok()?;
            let start = section.file_range()?.0.checked_add(symbol.address())?;
            let (start, bytes) = (start.try_into().ok()?, symbol.size().try_into().ok()?);
            Some(start..usize::checked_add(start, bytes)?)
        };
        let place = place().with_context(|| format!("the object has no global {name}"))?;
        let value: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        ensure!(
            place.len() == value.len(),
            "the object's {name} has {} bytes, not {}",
            place.len(),
            value.len()
        );
        copy.get_mut(place)
            .with_context(|| format!("{name} lies outside of the object"))?
            .copy_from_slice(&value);
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use object::{
        Endianness,
        build::elf::{Builder, SectionData},
        elf::{EM_BPF, ET_REL, SHT_PROGBITS, SHT_STRTAB, SHT_SYMTAB},
    };

    use super::*;

    /// An object with `FIRST`, 4 bytes, and `SECOND`, 8 bytes, one behind the other after 4 bytes that belong to neither.
    fn object() -> Vec<u8> {
        let mut builder = Builder::new(Endianness::Little, true);
        builder.header.e_type = ET_REL;
        builder.header.e_machine = EM_BPF;
        for (name, kind, data) in [
            (
                ".rodata",
                SHT_PROGBITS,
                SectionData::Data(vec![0xee; 20].into()),
            ),
            (".symtab", SHT_SYMTAB, SectionData::Symbol),
            (".strtab", SHT_STRTAB, SectionData::String),
            (".shstrtab", SHT_STRTAB, SectionData::SectionString),
        ] {
            let section = builder.sections.add();
            section.name = name.as_bytes().into();
            section.sh_type = kind;
            section.sh_addralign = 8;
            section.data = data;
        }
        let rodata = builder
            .sections
            .iter()
            .next()
            .map(|section| section.id())
            .unwrap();
        for (name, at, bytes) in [("FIRST", 4, 4), ("SECOND", 8, 8)] {
            let symbol = builder.symbols.add();
            symbol.name = name.as_bytes().into();
            symbol.section = Some(rodata);
            symbol.st_value = at;
            symbol.st_size = bytes;
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn each_global_gets_its_value_and_nothing_else_changes() {
        let before = object();
        let after = set(&before, &[("SECOND", &[2, 3]), ("FIRST", &[1])]).unwrap();
        let rodata = before.windows(20).position(|part| part == [0xee; 20]);
        let mut expected = before.clone();
        let words = [1u32, 2, 3].iter().flat_map(|word| word.to_le_bytes());
        expected.splice(rodata.unwrap() + 4..rodata.unwrap() + 16, words);
        assert_eq!(after, expected);
    }

    #[test]
    fn a_global_that_is_not_there_or_has_another_size_is_an_error() {
        let said = |globals: &[(&str, &[u32])]| set(&object(), globals).unwrap_err().to_string();
        assert_eq!(said(&[("THIRD", &[1])]), "the object has no global THIRD");
        assert_eq!(
            said(&[("SECOND", &[1])]),
            "the object's SECOND has 8 bytes, not 4"
        );
        assert!(set(b"no object", &[]).is_err());
    }
}
