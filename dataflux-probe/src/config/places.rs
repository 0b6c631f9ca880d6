//! Whether a file or a folder that a configuration names could be there, as far as one can tell without making it.

use std::{
    fs::{self, FileType},
    io::{self, ErrorKind},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

use rustix::fs::{FsWord, statfs};

/// What keeps a path from being that of a file with records, and the way out. What is not there yet keeps nothing.
pub(crate) fn no_file(path: &Path) -> Option<String> {
    match fs::metadata(path).map(|there| there.file_type()) {
        Ok(there) if there.is_dir() => Some("is a folder; name a file in it".to_owned()),
        Ok(there) if !there.is_file() => {
            let (path, what) = (path.display(), name(there));
            Some(format!("{path} is {what}; name a file in a folder"))
        }
        Ok(_) => None,
        Err(error) => never(path, &error).or_else(|| no_folder(path.parent()?)),
    }
}

/// What keeps a path from being that of a folder, and the way out. What is not there yet keeps nothing.
pub(crate) fn no_folder(path: &Path) -> Option<String> {
    for path in path.ancestors() {
        let shown = path.display();
        match fs::metadata(path).map(|there| there.file_type()) {
            Ok(kind) if !kind.is_dir() => {
                let what = name(kind);
                return Some(format!(
                    "{shown} is {what}, no folder; name a folder, or one that can be made"
                ));
            }
            Ok(_) if statfs(path).is_ok_and(|it| OF_THE_KERNEL.contains(&it.f_type)) => {
                return Some(format!(
                    "{shown} is the kernel's, where no files can be made; name another folder"
                ));
            }
            Ok(_) => return None,
            Err(error) => {
                let never = never(path, &error);
                if never.is_some() {
                    return never;
                }
            }
        }
    }
    None
}

/// File systems that have only what the kernel tells (linux/magic.h): proc, sysfs, cgroup of v1 and v2, debugfs, tracefs.
const OF_THE_KERNEL: [FsWord; 6] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
];

/// What is wrong with a path that can never be one. Of one that may not be looked at nothing is known.
fn never(path: &Path, error: &io::Error) -> Option<String> {
    let later = [
        ErrorKind::NotFound,
        ErrorKind::NotADirectory,
        ErrorKind::PermissionDenied,
    ];
    (!later.contains(&error.kind())).then(|| format!("{path:?}: {error}"))
}

fn name(kind: FileType) -> &'static str {
    if kind.is_file() {
        "a file"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "").unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), pipe, mode, 0).unwrap();
        for free in ["file", "new", "new/folder/file", "new/{date}/{host}"] {
            assert_eq!(no_file(&path(free)), None, "{free}");
        }
        for free in ["", "new", "new/folder"] {
            assert_eq!(no_folder(&path(free)), None, "{free}");
        }
        let shown = |name: &str| path(name).display().to_string();
        for (wrong, obstacle) in [
            ("pipe", format!("{} is a pipe; ", shown("pipe"))),
            (
                "file/x",
                format!("{} is a file, no folder; ", shown("file")),
            ),
            (
                "file/x/{date}",
                format!("{} is a file, no folder; ", shown("file")),
            ),
            ("", "is a folder; ".to_owned()),
        ] {
            let told = no_file(&path(wrong)).unwrap();
            assert!(told.starts_with(&obstacle), "{wrong}: {told}");
        }
        std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
        for (wrong, obstacle) in [
            (path("loop"), "symbolic links"),
            (
                Path::new("/proc/dataflux/x").into(),
                "/proc is the kernel's",
            ),
            (Path::new("/sys/x").into(), "/sys is the kernel's"),
            ("/tmp/a\0b".into(), "NUL"),
            (path(&"x".repeat(300)), "too long"),
        ] {
            let told = no_file(&wrong).unwrap();
            assert!(told.contains(obstacle), "{told}");
        }
        let told = no_file(Path::new("/dev/full")).unwrap();
        assert!(told.starts_with("/dev/full is a device; "), "{told}");
        for wrong in ["file", "file/x"] {
            let told = no_folder(&path(wrong)).unwrap();
            assert!(told.contains("file is a file, no folder; "), "{told}");
        }
        assert_eq!(
            no_folder(Path::new("")),
            None,
            "relative to the current one"
        );
    }
}
