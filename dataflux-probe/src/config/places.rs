//! Whether a file or a folder that a configuration names could be there, as far as one can tell without making it.

use std::{
    fs::{self, FileType},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

/// What keeps a path from being that of a file with records, and the way out. What is not there yet keeps nothing.
pub(crate) fn no_file(path: &Path) -> Option<String> {
    match fs::metadata(path).map(|there| there.file_type()) {
        Ok(there) if there.is_dir() => Some("is a folder; name a file in it".to_owned()),
        Ok(there) if !there.is_file() => {
            let (path, what) = (path.display(), name(there));
            Some(format!("{path} is {what}; name a file in a folder"))
        }
        Ok(_) => None,
        Err(_) => no_folder(path.parent()?),
    }
}

/// What keeps a path from being that of a folder, and the way out. What is not there yet keeps nothing.
pub(crate) fn no_folder(path: &Path) -> Option<String> {
    let mut above = path.ancestors();
    let (there, kind) =
        above.find_map(|path| Some((path, fs::metadata(path).ok()?.file_type())))?;
    (!kind.is_dir()).then(|| {
        let (there, what) = (there.display(), name(kind));
        format!("{there} is {what}, no folder; name a folder, or one that can be made")
    })
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
