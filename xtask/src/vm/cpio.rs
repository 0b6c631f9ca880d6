//! Archives that a kernel unpacks as its first file system ("newc": Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive in memory; folders must be added before what is in them.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const DEVICE: u32 = 0o020_600;

impl Archive {
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    /// A file that may be run.
    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) {
        self.entry(path, PROGRAM, (0, 0), bytes);
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK, (0, 0), target.as_bytes());
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, DEVICE, (major, minor), &[]);
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) {
        let name = path.trim_start_matches('/');
        self.files += 1;
        let length = u32::try_from(bytes.len()).expect("a file of a guest is smaller than 4 GiB");
        let name_length = name.len() as u32 + 1;
        // Inode, mode, owner, group, links, time, size, device of the archive, device, length of the name, checksum.
        let fields = [
            self.files,
            mode,
            0,
            0,
            1,
            0,
            length,
            0,
            0,
            device.0,
            device.1,
            name_length,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut archive = Archive::default();
        archive.folder("/a");
        archive.file("/a/b", b"12345");
        let bytes = archive.finish();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        // Header 110, name 2 bytes and none to pad; then the file's name of 4 bytes, padded to 116, and 5 bytes of content.
        assert_eq!(&text[110..112], "a\0");
        assert_eq!(&text[112..118], "070701");
        assert_eq!(&text[112 + 6 + 6 * 8..][..8], "00000005");
        assert_eq!(&text[112 + 110..][..4], "a/b\0");
        assert_eq!(&text[112 + 116..][..5], "12345");
        assert!(text.contains("TRAILER!!!\0"));
    }
}
