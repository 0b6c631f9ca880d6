//! The names of users, from the host's `/etc/passwd`.

use std::{
    collections::HashMap,
    fs::{self, Metadata},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::raw_name::shown;

/// A larger file is not read.
const LARGEST: u64 = 4 << 20;

/// Users by their numbers, as the file has them. Users whom only a directory service knows have no name.
#[derive(Debug)]
pub(super) struct Users {
    passwd: PathBuf,
    /// What tells one version of the file from another.
    version: Option<(u64, i64, i64, u64)>,
    names: HashMap<u32, Arc<str>>,
}

impl Users {
    /// Reads nothing yet. `root` is the host's `/`.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            passwd: root.join("etc/passwd"),
            version: None,
            names: HashMap::new(),
        }
    }

    /// Reads the file again if it is another one than at the last time.
    pub(super) fn refresh(&mut self) {
        let Ok(file) = fs::metadata(&self.passwd) else {
            (self.version, self.names) = (None, HashMap::new());
            return;
        };
        let version = version(&file);
        if self.version != Some(version) {
            self.version = Some(version);
            self.names = names(&read(&self.passwd).unwrap_or_default());
        }
    }

    /// The name of a user, or its number.
    pub(super) fn name(&self, user: u32) -> Arc<str> {
        let name = self.names.get(&user).cloned();
        name.unwrap_or_else(|| user.to_string().into())
    }
}

fn version(file: &Metadata) -> (u64, i64, i64, u64) {
    (file.ino(), file.mtime(), file.mtime_nsec(), file.size())
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= LARGEST).then(|| shown(&bytes).into_owned())
}

/// Of `name:password:uid:...`. The first of several names of one user counts, as for everyone else.
fn names(passwd: &str) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (name, user) = (fields.next(), fields.nth(1));
        if let (Some(name), Some(Ok(user))) = (name, user.map(str::parse))
            && !name.is_empty()
        {
            names.entry(user).or_insert_with(|| name.into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_the_first_with_this_number() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            fs::create_dir_all(folder.path().join("etc")).unwrap();
            fs::write(folder.path().join("etc/new"), text).unwrap();
            fs::rename(
                folder.path().join("etc/new"),
                folder.path().join("etc/passwd"),
            )
            .unwrap();
        };
        let mut users = Users::new(folder.path());
        users.refresh();
        assert_eq!(&*users.name(0), "0", "there is no file");
        write(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# no user\n+::::::\n:x:7::\nbad:x:-1::\n",
        );
        users.refresh();
        assert_eq!(&*users.name(0), "root");
        assert_eq!(&*users.name(7), "7");
        write("daemon:x:7:7::/:\n");
        users.refresh();
        assert_eq!((&*users.name(0), &*users.name(7)), ("0", "daemon"));
        fs::remove_dir_all(folder.path().join("etc")).unwrap();
        users.refresh();
        assert_eq!(&*users.name(7), "7");
    }

    proptest! {
        #[test]
        fn any_text_has_names_or_none(text: String, lines in "([a-z]{0,2}:x?:[0-9]{0,11}:?\n){0,9}") {
            let all = names(&text).len() + names(&lines).len();
            prop_assert!(all <= text.lines().count() + lines.lines().count());
        }
    }
}
