//! The identity of an installation: a random number that is made once and kept in the state folder, so that machines that were
//! made from one image, with one machine id, are told apart.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::host_file::first_line;

/// Its file in the state folder.
const FILE: &str = "installation_id";

/// 128 bits in hexadecimal digits.
const LENGTH: usize = 32;

/// The identity that the folder has, made now if it has none.
///
/// # Errors
/// The folder is not there or cannot be written to, or its file holds something else.
pub(super) fn id(state_dir: &Path) -> anyhow::Result<String> {
    let path = state_dir.join(FILE);
    if !path.exists() {
        // Whoever is quicker gives the name; a file that is there is never replaced.
        match make(state_dir, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
        }
    }
    match first_line(&path) {
        Some(id) if id.len() == LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(id),
        _ => bail!(
            "{} does not hold {LENGTH} hexadecimal digits",
            path.display()
        ),
    }
}

/// So that nobody ever sees half of it, it is written under another name.
fn make(state_dir: &Path, path: &Path) -> io::Result<()> {
    let mut bits = [0; LENGTH / 2];
    getrandom(&mut bits, GetRandomFlags::empty())?;
    let digits: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    let new = state_dir.join(format!("{FILE}.{}", std::process::id()));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(format!("{digits}\n").as_bytes())?;
        file.sync_data()?;
        fs::hard_link(&new, path)
    });
    fs::remove_file(&new)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_differs_between_folders() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let first = id(one.path()).unwrap();
        assert_eq!(id(one.path()).unwrap(), first);
        assert_ne!(id(other.path()).unwrap(), first);
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = folder.path().join("state");
        let error = format!("{:#}", id(&state_dir).unwrap_err());
        assert!(error.contains("state/installation_id"), "{error}");
        assert!(!state_dir.exists());
    }

    #[test]
    fn a_file_that_holds_something_else_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "\n", "0123\n", "g123456789abcdef0123456789abcdef\n"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            id(folder.path()).unwrap_err();
            assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap(), text);
        }
    }

    #[test]
    fn several_that_begin_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<String> = std::thread::scope(|scope| {
            let begun: Vec<_> = (0..2).map(|_| scope.spawn(|| id(folder.path()))).collect();
            let ended = begun.into_iter().map(|one| one.join().unwrap());
            ended.filter_map(Result::ok).collect()
        });
        let kept = id(folder.path()).unwrap();
        assert!(ids.iter().all(|id| *id == kept), "{ids:?} {kept}");
    }
}
