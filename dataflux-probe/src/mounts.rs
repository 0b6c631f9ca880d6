//! The mounts of a mount namespace, from `/proc/<pid>/mountinfo`.

use std::{
    borrow::Cow,
    collections::HashMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::raw_name::shown;

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its number; that of a mount that is gone may be given again.
    pub(crate) id: u64,
    /// The number of the mount that it is mounted on.
    pub(crate) parent: u64,
    /// The device number of its file system, which no other file system has: major << 20 | minor. Major 0 is no device.
    pub(crate) device: u64,
    /// Whether it shows all of its file system, and not one folder or file of it.
    pub(crate) whole: bool,
    /// Where it is mounted, as the processes of that namespace name it.
    pub(crate) point: PathBuf,
    /// Whether nobody can write through it: by its own options, or because its file system is read-only.
    pub(crate) read_only: bool,
    /// The type of its file system.
    pub(crate) kind: String,
    /// What is mounted, as whoever mounted it said; a path for file systems on devices.
    pub(crate) source: PathBuf,
}

impl Mount {
    /// Where it is mounted, as text.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        shown(self.point.as_os_str().as_bytes())
    }

    /// The number of its device, as the envelope has it, if its file system is on one.
    pub(crate) fn block_device(&self) -> Option<u64> {
        (self.device >> 20 != 0).then_some(self.device)
    }

    /// As [`Mount::block_device`], and of file systems on several devices that of the one that was mounted, by its file below
    /// the host's `/`.
    pub(crate) fn device_below(&self, root: &Path) -> Option<u64> {
        let named = || {
            if !self.source.starts_with("/dev") {
                return None;
            }
            let file = fs::metadata(below(root, &self.source)).ok()?;
            let [major, minor] = [
                rustix::fs::major(file.rdev()),
                rustix::fs::minor(file.rdev()),
            ];
            let is_device = file.file_type().is_block_device();
            is_device.then(|| u64::from(major) << 20 | u64::from(minor))
        };
        self.block_device().or_else(named)
    }
}

/// A path of the host's, as the probe reaches it.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A device number as the kernel writes it: `8:1`.
pub(crate) fn device_number(text: &str) -> Option<u64> {
    device(text.as_bytes())
}

/// All lines of mountinfo, in its order.
///
/// # Errors
/// A line is not one of mountinfo.
pub(crate) fn parse(mountinfo: &[u8]) -> anyhow::Result<Vec<Mount>> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let complaint = || format!("`{}` is no mount", shown(line));
            mount(line).with_context(complaint)
        })
        .collect()
}

/// Number, parent, device, folder, mount point, options, any number of tags, `-`, type, source, options of the file system; a
/// source may be empty.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let device = device(words.next()?)?;
    let whole = words.next()? == b"/";
    let point = decoded(words.next()?);
    let options = words.next()?;
    words.find(|&word| word == b"-")?;
    let kind = shown(&decoded(words.next()?)).into_owned();
    let source = decoded(words.next()?);
    let read_only = is_read_only(options) || is_read_only(words.next()?);
    let path = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_owned();
    Some(Mount {
        id,
        parent,
        device,
        whole,
        point: path(&point),
        read_only,
        kind,
        source: path(&source),
    })
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn device(word: &[u8]) -> Option<u64> {
    let colon = word.iter().position(|&byte| byte == b':')?;
    let (major, minor): (u64, u64) = (number(&word[..colon])?, number(&word[colon + 1..])?);
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

fn is_read_only(options: &[u8]) -> bool {
    options
        .split(|&byte| byte == b',')
        .any(|option| option == b"ro")
}

/// Blanks, backslashes and number signs stand as a backslash and three octal digits; any other backslash is itself.
fn decoded(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, more)) = rest.split_first() {
        let escaped = match (first, more) {
            (b'\\', &[a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &more[3..] } else { more };
    }
    plain
}

/// The numbers of the mounts that others hide: no path leads to them.
pub(crate) fn covered(mounts: &[Mount]) -> Vec<bool> {
    let mut on_parent: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, mount) in mounts.iter().enumerate() {
        on_parent.entry(mount.parent).or_default().push(at);
    }
    let beside = |at: usize| on_parent.get(&mounts[at].parent).into_iter().flatten();
    let on_top = |at: usize| on_parent.get(&mounts[at].id).into_iter().flatten();
    // Another one on its own point, or between that and the mount that both are on.
    let hidden = |at: usize| {
        let point = &mounts[at].point;
        on_top(at).any(|&other| other != at && mounts[other].point == *point)
            || beside(at).any(|&other| {
                mounts[other].point != *point && point.starts_with(&mounts[other].point)
            })
    };
    let mut covered: Vec<bool> = (0..mounts.len()).map(hidden).collect();
    // What is on a covered mount is covered, too, unless it is the one that covers it.
    let mut open: Vec<usize> = (0..mounts.len()).filter(|&at| covered[at]).collect();
    while let Some(at) = open.pop() {
        for &other in on_top(at) {
            if !covered[other] && mounts[other].point != mounts[at].point {
                covered[other] = true;
                open.push(other);
            }
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(mounts: &[Mount], covered: &[bool]) -> Vec<u64> {
        let ids = mounts.iter().zip(covered).filter(|&(_, &covered)| covered);
        ids.map(|(mount, _)| mount.id).collect()
    }

    #[test]
    fn every_field_is_the_one_that_proc_5_says() {
        let line =
            b"36 35 8:1 /mnt1 /a\\040b\\134c rw,noatime master:1 propagate_from:2 - fuse.sshfs host:/x ro,errors=continue\n";
        let expected = Mount {
            id: 36,
            parent: 35,
            device: 8 << 20 | 1,
            whole: false,
            point: "/a b\\c".into(),
            read_only: true,
            kind: "fuse.sshfs".into(),
            source: "host:/x".into(),
        };
        assert_eq!(parse(line).unwrap(), [expected]);
    }

    #[test]
    fn an_empty_source_and_no_tags_are_fine_and_read_only_is_a_whole_word() {
        let mounts = parse(
            b"1 0 0:5 / / rw,norootcheck - tmpfs  rw,size=4k\n2 1 0:6 / /x ro - tmpfs none rw\n",
        );
        let mounts = mounts.unwrap();
        assert_eq!(mounts[0].source, Path::new(""));
        assert!(mounts[0].whole && !mounts[0].read_only && mounts[1].read_only);
        assert_eq!(mounts[0].block_device(), None);
    }

    #[test]
    fn what_is_no_mount_is_an_error_that_shows_the_line() {
        for line in [
            "1 0 0:5 / / rw - tmpfs tmpfs",
            "1 0 0:5 / / rw tmpfs none rw",
            "1 0 4096:0 / / rw - tmpfs none rw",
            "x 0 0:5 / / rw - tmpfs none rw",
        ] {
            let error = parse(format!("{line}\n").as_bytes())
                .unwrap_err()
                .to_string();
            assert_eq!(error, format!("`{line}` is no mount"));
        }
    }

    #[test]
    fn a_mount_is_covered_by_one_on_its_point_or_before_it_on_the_way() {
        let mounts = parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw
2 1 0:2 / /dev/shm rw - tmpfs a rw
3 2 0:3 / /dev/shm rw - tmpfs b rw
4 1 0:4 / /mnt/a/b rw - xfs c rw
5 1 0:5 / /mnt/a rw - xfs d rw
6 4 0:6 / /mnt/a/b/c rw - xfs e rw
7 5 0:7 / /mnt/a/b rw - xfs f rw
8 1 0:8 / /mnt/ab rw - xfs g rw
",
        )
        .unwrap();
        assert_eq!(points(&mounts, &covered(&mounts)), [2, 4, 6]);
    }

    #[test]
    fn a_mount_on_itself_ends() {
        let mounts = parse(b"1 1 8:1 / / rw - ext4 /dev/a rw\n").unwrap();
        assert_eq!(covered(&mounts), [false]);
    }

    #[test]
    fn every_mount_of_this_machine_is_understood() {
        let text = fs::read("/proc/self/mountinfo").unwrap();
        let mounts = parse(&text).unwrap();
        assert_eq!(mounts.len(), text.iter().filter(|&&it| it == b'\n').count());
        let root = mounts.iter().find(|mount| mount.point == Path::new("/"));
        assert!(root.is_some(), "{mounts:?}");
    }

    proptest! {
        #[test]
        fn any_path_survives_the_kernel_s_escapes(name in prop::collection::vec(1u8.., 1..40)) {
            let mut escaped = Vec::new();
            for &byte in &name {
                if b" \t\n\\#".contains(&byte) {
                    escaped.extend(format!("\\{byte:03o}").bytes());
                } else {
                    escaped.push(byte);
                }
            }
            let line = [b"1 0 0:1 / /".as_slice(), &escaped, b" rw - tmpfs x rw\n"].concat();
            let mounts = parse(&line).unwrap();
            prop_assert_eq!(mounts[0].point.as_os_str().as_bytes(), [b"/", name.as_slice()].concat());
        }

        #[test]
        fn anything_else_is_an_error_and_no_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(mounts) = parse(&text) {
                covered(&mounts);
            }
        }

        #[test]
        fn a_damaged_line_is_an_error_or_a_mount(cut in 0usize..80, flip in 0usize..80, bits: u8) {
            let mut line = b"36 35 8:1 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue\n".to_vec();
            line[flip] ^= bits;
            line.truncate(line.len() - cut);
            if let Ok(mounts) = parse(&line) {
                covered(&mounts);
            }
        }
    }
}
