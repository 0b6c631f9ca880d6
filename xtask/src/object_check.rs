//! What no kernel object may contain, because the oldest kernel (5.10) or one architecture of the newer ones refuses it.

use anyhow::{Context as _, bail};
use object::{
    build::elf::{Builder, Section, SectionData},
    elf::{SHF_EXECINSTR, SHN_UNDEF},
};

/// The highest number of a helper that 5.10 has, `bpf_redirect_peer` (include/uapi/linux/bpf.h).
const LAST_HELPER: i32 = 155;
/// The highest number of a map type that 5.10 has, `BPF_MAP_TYPE_INODE_STORAGE`.
const LAST_MAP_TYPE: u32 = 28;
/// All flags of maps that 5.10 has, up to `BPF_F_INNER_MAP`.
const MAP_FLAGS: u32 = 0x1fff;
/// The largest value of an array, and of an array per CPU: what 5.10 allocates in one piece.
const ARRAY_VALUE_BYTES: u32 = 4 << 20;
const PER_CPU_VALUE_BYTES: u32 = 32 << 10;

/// Refuses an object that not every supported kernel takes.
///
/// # Errors
/// Names everything that it found.
pub(crate) fn check(object: &[u8]) -> anyhow::Result<()> {
    let object = Builder::read(object).context("not an ELF object")?;
    let mut found = Vec::new();
    for section in &object.sections {
        let name = section.name.to_string();
        let mut refuse = |what: String| found.push(format!("{name}: {what}"));
        match &section.data {
            SectionData::Data(data) if section.sh_flags & u64::from(SHF_EXECINSTR) != 0 => {
                if !data.is_empty() && !is_program_section(&name) {
                    refuse("not a BTF tracepoint; not every supported kernel has other kinds (arm64 had no fentry for long)".into());
                }
                instructions(data, &mut refuse);
            }
            SectionData::Data(data) if name == "maps" => maps(&object, section, data, &mut refuse)?,
            SectionData::Data(data) if name == ".BTF.ext" && relocations_of_fields(data) => {
                refuse("CO-RE relocations: offsets come from `FIELDS`".into());
            }
            SectionData::Data(data) if name == ".maps" && !data.is_empty() => {
                refuse(
                    "maps that only type information describes, which this check cannot read"
                        .into(),
                );
            }
            SectionData::Relocation(all) => {
                for relocation in all {
                    let symbol = relocation.symbol.map(|id| object.symbols.get(id));
                    if let Some(symbol) = symbol
                        && symbol.section.is_none()
                        && symbol.st_shndx == SHN_UNDEF
                    {
                        refuse(format!(
                            "{} is not in the object: a kernel function or variable",
                            symbol.name
                        ));
                    }
                }
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!("not for every supported kernel: {}", found.join("; "));
}

/// The section of programs on BTF tracepoints, or of functions that they call.
fn is_program_section(name: &str) -> bool {
    name == ".text" || name == "tp_btf" || name.starts_with("tp_btf/")
}

/// Parts of an instruction's first byte (Documentation/bpf/standardization/instruction-set.rst).
mod code {
    pub(super) const CLASS: u8 = 0x07;
    pub(super) const OPERATION: u8 = 0xf0;
    pub(super) const MODE: u8 = 0xe0;
    pub(super) const SOURCE_IS_REGISTER: u8 = 0x08;
    /// Loads a constant of 64 bits; takes two places.
    pub(super) const WIDE_CONSTANT: u8 = 0x18;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const LOAD: u8 = 1;
    pub(super) const STORE: u8 = 3;
    pub(super) const ARITHMETIC: u8 = 4;
    pub(super) const JUMP_32: u8 = 6;
    pub(super) const ARITHMETIC_64: u8 = 7;
    pub(super) const MODE_SIGNED: u8 = 0x80;
    pub(super) const MODE_ATOMIC: u8 = 0xc0;
    pub(super) const DIVIDE: u8 = 0x30;
    pub(super) const REMAINDER: u8 = 0x90;
    pub(super) const MOVE: u8 = 0xb0;
    pub(super) const SWAP: u8 = 0xd0;
    pub(super) const JUMP: u8 = 0x00;
    /// Where a call leads, in place of its source: to a helper, or to a function of the object.
    pub(super) const TO_HELPER: u8 = 0;
    pub(super) const TO_FUNCTION: u8 = 1;
}

fn instructions(bytes: &[u8], refuse: &mut impl FnMut(String)) {
    let (all, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        refuse("half an instruction".into());
    }
    let mut all = all.iter().enumerate();
    while let Some((at, instruction)) = all.next() {
        if let Some(what) = unfit(instruction) {
            refuse(format!("instruction {at}: {what}"));
        }
        if instruction[0] == code::WIDE_CONSTANT {
            all.next();
        }
    }
}

/// What 5.10 does not know of an instruction.
fn unfit(&[opcode, registers, offset @ .., a, b, c, d]: &[u8; 8]) -> Option<String> {
    let constant = i32::from_le_bytes([a, b, c, d]);
    let has_offset = offset != [0, 0];
    let source = registers >> 4;
    let operation = opcode & code::OPERATION;
    let newer = |what: &str| Some(format!("{what}, which came with 6.6"));
    match opcode & code::CLASS {
        code::STORE if opcode & code::MODE == code::MODE_ATOMIC && constant != 0 => Some(format!(
            "an atomic operation ({constant:#x}) other than adding without the old value, which came with 5.12"
        )),
        code::LOAD if opcode & code::MODE == code::MODE_SIGNED => {
            newer("a load that extends the sign")
        }
        code::ARITHMETIC | code::ARITHMETIC_64 if operation == code::MOVE && has_offset => {
            newer("a move that extends the sign")
        }
        code::ARITHMETIC | code::ARITHMETIC_64
            if matches!(operation, code::DIVIDE | code::REMAINDER) && has_offset =>
        {
            newer("a signed division")
        }
        code::ARITHMETIC_64 if operation == code::SWAP => newer("a swap of bytes"),
        code::JUMP_32 if operation == code::JUMP && opcode & code::SOURCE_IS_REGISTER == 0 => {
            newer("a long jump")
        }
        _ if opcode != code::CALL => None,
        _ => match source {
            code::TO_FUNCTION => None,
            code::TO_HELPER if (1..=LAST_HELPER).contains(&constant) => None,
            code::TO_HELPER => Some(format!(
                "helper {constant}; 5.10 has those up to {LAST_HELPER}"
            )),
            _ => Some("a call of a kernel function, which came with 5.13".into()),
        },
    }
}

/// The maps, by their symbols: each is a `struct bpf_map_def` of type, sizes of key and value, entries and flags.
fn maps(
    object: &Builder<'_>,
    section: &Section<'_>,
    data: &[u8],
    refuse: &mut impl FnMut(String),
) -> anyhow::Result<()> {
    const ARRAY: u32 = 2;
    const PER_CPU_ARRAY: u32 = 6;
    let of_section = object.symbols.iter();
    for symbol in
        of_section.filter(|symbol| symbol.section == Some(section.id()) && symbol.st_size > 0)
    {
        let name = &symbol.name;
        let definition = data
            .get(usize::try_from(symbol.st_value)?..)
            .unwrap_or_default();
        let (words, _) = definition.as_chunks::<4>();
        let words = words
            .first_chunk()
            .with_context(|| format!("map {name} is cut off"))?;
        let [kind, _key, value, _entries, flags] = words.map(u32::from_le_bytes);
        if kind > LAST_MAP_TYPE {
            refuse(format!(
                "{name} is a map of type {kind}; 5.10 has those up to {LAST_MAP_TYPE}"
            ));
        }
        if flags & !MAP_FLAGS != 0 {
            refuse(format!(
                "{name} has flags {flags:#x}; 5.10 has {MAP_FLAGS:#x}"
            ));
        }
        let largest = match kind {
            ARRAY => ARRAY_VALUE_BYTES,
            PER_CPU_ARRAY => PER_CPU_VALUE_BYTES,
            _ => u32::MAX,
        };
        if value > largest {
            refuse(format!(
                "{name} has values of {value} bytes; 5.10 has {largest} at most"
            ));
        }
    }
    Ok(())
}

/// Whether the extended type information asks a loader to find offsets of fields (`struct btf_ext_header`).
fn relocations_of_fields(data: &[u8]) -> bool {
    const HEADER_BYTES: usize = 4;
    const HEADER_WITH_RELOCATIONS: u32 = 32;
    const RELOCATION_BYTES: usize = 7;
    let (words, _) = data.as_chunks::<4>();
    let word = |at: usize| words.get(at).copied().map_or(0, u32::from_le_bytes);
    word(HEADER_BYTES / 4) >= HEADER_WITH_RELOCATIONS && word(RELOCATION_BYTES) != 0
}

#[cfg(test)]
mod tests {
    use object::{
        Endianness,
        build::elf::Relocation,
        elf::{
            EM_BPF, ET_REL, R_BPF_64_32, SHF_ALLOC, SHT_PROGBITS, SHT_REL, SHT_STRTAB, SHT_SYMTAB,
        },
    };

    use super::*;

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    /// An object with these sections, and with one symbol for each that is named `maps`.
    fn object(sections: &[(&'static str, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Endianness::Little, true);
        builder.header.e_type = ET_REL;
        builder.header.e_machine = EM_BPF;
        for (name, bytes) in sections {
            let section = builder.sections.add();
            section.name = name.as_bytes().into();
            section.sh_type = SHT_PROGBITS;
            section.sh_flags = SHF_ALLOC.into();
            if !matches!(*name, "maps" | ".maps" | ".BTF.ext") {
                section.sh_flags |= u64::from(SHF_EXECINSTR);
            }
            section.sh_addralign = 8;
            section.data = SectionData::Data(bytes.to_vec().into());
            let id = section.id();
            if *name == "maps" {
                let symbol = builder.symbols.add();
                symbol.name = b"MAP"[..].into();
                symbol.section = Some(id);
                symbol.st_size = bytes.len() as u64;
            }
        }
        for (name, kind, data) in [
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
        let mut bytes = Vec::new();
        builder.write(&mut bytes).expect("an object");
        bytes
    }

    fn verdict(sections: &[(&'static str, &[u8])]) -> String {
        match check(&object(sections)) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    fn with(instruction: [u8; 8]) -> String {
        verdict(&[("tp_btf/wakeup", &[instruction, EXIT].concat())])
    }

    fn map(kind: u32, value: u32, flags: u32) -> String {
        let words = [kind, 4, value, 1, flags, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        verdict(&[("maps", &bytes)])
    }

    #[test]
    fn what_every_kernel_takes_passes() {
        let add = [0xdb, 0x10, 0, 0, 0, 0, 0, 0];
        let clock = [0x85, 0, 0, 0, 5, 0, 0, 0];
        let last_helper = [0x85, 0, 0, 0, 155, 0, 0, 0];
        let function = [0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff];
        // Its second place looks like an atomic operation with the old value.
        let constant = [0x18, 1, 0, 0, 7, 0, 0, 0, 0xdb, 0x10, 0, 0, 1, 0, 0, 0];
        let program = [&add[..], &clock, &last_helper, &function, &constant, &EXIT].concat();
        let all: [(&str, &[u8]); 2] = [("tp_btf/wakeup", &program), (".text", &EXIT)];
        assert_eq!(verdict(&all), "");
        assert_eq!(map(2, 4 << 20, 1 << 10), "");
        assert_eq!(map(6, 32 << 10, 0), "");
        assert_eq!(map(27, 0, 0), "", "a ring buffer");
    }

    #[test]
    fn other_kinds_of_programs_are_refused() {
        for section in [
            "fentry/vfs_read",
            "fexit/vfs_read",
            "kprobe/vfs_read",
            "iter/task",
        ] {
            assert!(verdict(&[(section, &EXIT)]).contains(section), "{section}");
        }
    }

    #[test]
    fn instructions_that_came_later_are_refused() {
        for (instruction, what) in [
            ([0xdb, 0x10, 0, 0, 1, 0, 0, 0], "an atomic operation (0x1)"),
            ([0xc3, 0x10, 0, 0, 1, 0, 0, 0], "an atomic operation (0x1)"),
            (
                [0xdb, 0x10, 0, 0, 0xe1, 0, 0, 0],
                "an atomic operation (0xe1)",
            ),
            (
                [0xdb, 0x10, 0, 0, 0x40, 0, 0, 0],
                "an atomic operation (0x40)",
            ),
            (
                [0x81, 0x10, 0, 0, 0, 0, 0, 0],
                "a load that extends the sign",
            ),
            (
                [0xbf, 0x10, 8, 0, 0, 0, 0, 0],
                "a move that extends the sign",
            ),
            ([0x3f, 0x10, 1, 0, 0, 0, 0, 0], "a signed division"),
            ([0xd7, 0x00, 0, 0, 16, 0, 0, 0], "a swap of bytes"),
            ([0x06, 0x00, 0, 0, 9, 0, 0, 0], "a long jump"),
            ([0x85, 0x00, 0, 0, 156, 0, 0, 0], "helper 156"),
            (
                [0x85, 0x20, 0, 0, 9, 0, 0, 0],
                "a call of a kernel function",
            ),
        ] {
            let verdict = with(instruction);
            assert!(verdict.contains(what), "{what}: {verdict:?}");
            assert!(
                verdict.contains("tp_btf/wakeup: instruction 0:"),
                "{verdict}"
            );
        }
    }

    #[test]
    fn maps_that_came_later_or_are_too_large_are_refused() {
        assert!(
            map(29, 8, 0).contains("MAP is a map of type 29"),
            "task storage"
        );
        assert!(map(33, 8, 0).contains("type 33"), "an arena");
        assert!(map(2, 8, 1 << 13).contains("flags 0x2000"));
        assert!(map(2, (4 << 20) + 1, 0).contains("4194305 bytes"));
        assert!(map(6, (32 << 10) + 8, 0).contains("32776 bytes"));
        assert!(verdict(&[(".maps", &[0; 8])]).contains(".maps: "));
    }

    #[test]
    fn relocations_of_fields_are_refused() {
        let header = |length: u32, relocations: u32| {
            let words = [0x1_eb9f, length, 0, 0, 0, 0, 0, relocations];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            verdict(&[(".BTF.ext", &bytes)])
        };
        assert!(header(32, 16).contains("CO-RE"));
        assert_eq!(header(32, 0), "");
        // Behind a shorter header stand other things.
        assert_eq!(header(24, 16), "");
    }

    #[test]
    fn calls_of_what_is_not_in_the_object_are_refused() {
        let bytes = object(&[("tp_btf/wakeup", &EXIT)]);
        let mut builder = Builder::read(&*bytes).expect("an object");
        let symbol = builder.symbols.add();
        symbol.name = b"bpf_task_acquire"[..].into();
        let symbol = symbol.id();
        let table = builder
            .sections
            .iter()
            .find(|section| section.name == b".symtab"[..].into());
        let table = table.map(Section::id);
        let program = builder.sections.iter().next().map(Section::id);
        let section = builder.sections.add();
        section.name = b".reltp_btf/wakeup"[..].into();
        section.sh_type = SHT_REL;
        section.sh_link_section = table;
        section.sh_info_section = program;
        section.sh_addralign = 8;
        section.sh_entsize = 16;
        section.data = SectionData::Relocation(vec![Relocation {
            r_offset: 0,
            symbol: Some(symbol),
            r_type: R_BPF_64_32,
            r_addend: 0,
        }]);
        let mut bytes = Vec::new();
        builder.write(&mut bytes).expect("an object");
        let verdict = check(&bytes).expect_err("a kernel function").to_string();
        assert!(
            verdict.contains("bpf_task_acquire is not in the object"),
            "{verdict}"
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(check(b"ELF").is_err());
        assert!(with([0; 8]).is_empty());
        assert!(verdict(&[("tp_btf/wakeup", &EXIT[..4])]).contains("half an instruction"));
    }
}
