//! Takes the compiler's debug information out of kernel objects.
//!
//! The linker makes the kernel's type information (BTF) from it; nothing reads it afterwards, and it is seven eighths
//! of an object that the probe carries and parses at every start.

use anyhow::Context as _;
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// The same object without debug information. BTF stays.
pub(crate) fn strip(object: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("not an ELF object")?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections and symbols in one table, the writer in two.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("cannot write the object without debug information")?;
    Ok(stripped)
}
