//! The kernel inside a compressed image: under emulation a kernel that unpacks itself loses seconds.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, bail};

use super::name::Architecture;

/// Writes what qemu enters directly: on x86_64 the ELF file in a bzImage, on aarch64 the image as it is.
pub(crate) fn unpack(packed: &Path, to: &Path, architecture: Architecture) -> anyhow::Result<()> {
    let bytes = fs::read(packed)?;
    let kernel = match architecture {
        Architecture::X86_64 => decompress(payload(&bytes)?)?,
        Architecture::Aarch64 => bytes,
    };
    if architecture == Architecture::X86_64 && !kernel.starts_with(b"\x7fELF") {
        bail!("what is packed in it is no ELF file");
    }
    fs::write(to, kernel).with_context(|| to.display().to_string())
}

/// The compressed kernel in a bzImage (Documentation/arch/x86/boot.rst).
fn payload(image: &[u8]) -> anyhow::Result<&[u8]> {
    const SETUP_SECTORS: usize = 0x1f1;
    const MAGIC: usize = 0x202;
    const PAYLOAD: usize = 0x248;
    const LENGTH: usize = 0x24c;
    let number = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        bail!("it is no bzImage");
    }
    let sectors = match image[SETUP_SECTORS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let found = || {
        let start = (sectors + 1) * 512 + number(PAYLOAD)?;
        image.get(start..start.checked_add(number(LENGTH)?)?)
    };
    found().context("its payload lies outside of it")
}

/// Four bytes with the length follow what the compressor wrote, which some decompressors refuse.
fn decompress(payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let body = &payload[..payload.len().saturating_sub(4)];
    match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => filter("zstd", &["-dc"], body),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => filter("xz", &["-dc", "--single-stream"], body),
        [0x02, 0x21, 0x4c, 0x18, ..] => filter("lz4", &["-dc"], body),
        [0x1f, 0x8b, ..] => filter("gzip", &["-dc"], payload),
        [0x7f, b'E', b'L', b'F', ..] => Ok(payload.to_owned()),
        _ => bail!("it is compressed in a way that is not known here"),
    }
}

/// What a program makes of bytes.
pub(crate) fn filter(program: &str, arguments: &[&str], input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut stdin = child.stdin.take().context("a piped program has an input")?;
    let output = thread::scope(|scope| {
        // What it did not read shows in its status.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output()
    })?;
    // The end of the payload is padding to some of them, so that only what came out counts.
    if output.stdout.is_empty() {
        bail!("{program} made nothing of it: {}", output.status);
    }
    Ok(output.stdout)
}
