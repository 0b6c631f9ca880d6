//! The folders of a hierarchy of cgroups, and which of them are new, without listing what did not change.
//!
//! A folder holds some ninety files beside its few folders, so that listing all of them costs milliseconds. The kernel's file
//! systems of cgroups keep the number of folders in a folder as its links. A folder with as many as before, all of which are
//! still the same, has no other.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, stat, statat};

use crate::raw_name::shown;

/// Far above what machines have. The rest of a larger hierarchy is not seen.
const MOST: usize = 16_384;

/// Deeper ones are not seen. The kernel allows as many as a path can have.
const DEEPEST: usize = 64;

/// The cgroups of one hierarchy, as they were at the last [`Tree::refresh`].
#[derive(Debug)]
pub(crate) struct Tree {
    /// The first of them that is the root of a hierarchy of this sort is the one.
    roots: Vec<PathBuf>,
    /// What the root of such a hierarchy has.
    sign: &'static str,
    top: Option<(PathBuf, Cgroup)>,
    complete: bool,
}

/// One cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// Inode number of its folder: the kernel's own id of it in v2. On 64-bit machines never given twice.
    id: u64,
    name: OsString,
    path: Arc<str>,
    /// How many folders up the root is.
    depth: usize,
    children: Vec<Cgroup>,
}

impl Tree {
    /// The hierarchy of v2 below `sys`, the host's `/sys`: all of it, or the one beside those of v1. Reads nothing yet.
    pub(crate) fn unified(sys: &Path) -> Self {
        let roots = ["fs/cgroup", "fs/cgroup/unified"].map(|root| sys.join(root));
        Self::new(roots.into(), "cgroup.controllers")
    }

    /// The hierarchy of a controller of v1, whose root has the file `sign`. Reads nothing yet.
    pub(crate) fn of_controller(sys: &Path, controller: &str, sign: &'static str) -> Self {
        // Hierarchies with several controllers mostly have a link for each of them, but not everywhere.
        let names = [controller, "cpu,cpuacct", "cpuacct,cpu"];
        let roots = names.map(|name| sys.join("fs/cgroup").join(name));
        Self::new(roots.into(), sign)
    }

    fn new(roots: Vec<PathBuf>, sign: &'static str) -> Self {
        Self {
            roots,
            sign,
            top: None,
            complete: true,
        }
    }

    /// Looks what has changed.
    ///
    /// # Errors
    /// There is no such hierarchy, or its root cannot be read: then it has no cgroups.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        let before = self.top.take();
        let Some(root) = self.roots.iter().find(|root| root.join(self.sign).exists()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let now = stat(root)?;
        let mut top = match before {
            Some((folder, top)) if folder == *root && top.id == now.st_ino => top,
            _ => Cgroup::new(now.st_ino, OsString::new(), "/".into(), 0),
        };
        let mut walk = Walk {
            seen: 1,
            complete: true,
        };
        top.follow(CWD, root.as_os_str(), links(&now), &mut walk);
        self.complete = walk.complete;
        self.top = Some((root.clone(), top));
        Ok(())
    }

    /// Whether there is nothing beyond what it has.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether there was such a hierarchy at the last refresh, and it is all there is: without those of v1.
    pub(crate) fn is_alone(&self) -> bool {
        let top = self.top.as_ref();
        top.is_some_and(|(folder, _)| self.roots.first() == Some(folder))
    }

    /// Calls with every cgroup and its folder, each before those in it, the root first.
    pub(crate) fn each(&self, call: &mut dyn FnMut(&Cgroup, &Folder<'_>)) {
        if let Some((root, top)) = &self.top {
            let folder = Folder {
                above: None,
                name: root.as_os_str(),
            };
            top.each(&folder, call);
        }
    }
}

/// Where a cgroup's files are. Its path is made only for who asks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folder<'a> {
    above: Option<&'a Self>,
    name: &'a OsStr,
}

impl Folder<'_> {
    pub(crate) fn path(&self) -> PathBuf {
        let above = self.above.map(Self::path).unwrap_or_default();
        above.join(self.name)
    }
}

/// What a refresh has seen so far.
struct Walk {
    seen: usize,
    complete: bool,
}

impl Cgroup {
    fn new(id: u64, name: OsString, path: Arc<str>, depth: usize) -> Self {
        Self {
            id,
            name,
            path,
            depth,
            children: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Below the root: `/` for the root, `/system.slice/cron.service`. Bytes that are not UTF-8 are escaped, see
    /// [`shown`], as in the text of `/proc/PID/cgroup`.
    pub(crate) fn path(&self) -> &Arc<str> {
        &self.path
    }

    fn each(&self, folder: &Folder<'_>, call: &mut dyn FnMut(&Self, &Folder<'_>)) {
        call(self, folder);
        for child in &self.children {
            let below = Folder {
                above: Some(folder),
                name: &child.name,
            };
            child.each(&below, call);
        }
    }

    /// Brings what is in it up to date, knowing how many links its folder has, which is the one with this name in `above`.
    fn follow(&mut self, above: BorrowedFd<'_>, name: &OsStr, links: u64, walk: &mut Walk) {
        if links == 2 {
            // Most have none.
            self.children.clear();
            return;
        }
        let Ok(folder) = openat(above, name, FOLDER, Mode::empty()) else {
            self.children.clear();
            return;
        };
        let as_many = links == self.children.len() as u64 + 2;
        let mut now = self.links_of_children(&folder);
        if !as_many || now.iter().any(Option::is_none) {
            self.list(&folder, walk);
            now = self.links_of_children(&folder);
        }
        let mut now = now.into_iter();
        // What ended just now is left out.
        self.children.retain_mut(|child| {
            let Some(links) = now.next().flatten() else {
                return false;
            };
            walk.seen += 1;
            let name = std::mem::take(&mut child.name);
            child.follow(folder.as_fd(), &name, links, walk);
            child.name = name;
            true
        });
    }

    /// Of each child; `None` if it is gone, or another one has its name.
    fn links_of_children(&self, folder: &OwnedFd) -> Vec<Option<u64>> {
        let links = self.children.iter().map(|child| {
            let now = statat(folder, &*child.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            (now.st_ino == child.id).then(|| links(&now))
        });
        links.collect()
    }

    /// Finds out anew which children there are.
    fn list(&mut self, folder: &OwnedFd, walk: &mut Walk) {
        let mut before = std::mem::take(&mut self.children);
        // A descriptor that only stands for a place cannot be listed.
        let listed = openat(folder, ".", LISTED, Mode::empty()).and_then(Dir::new);
        let entries = listed.into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type() == FileType::Directory) {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if self.depth == DEEPEST || walk.seen + self.children.len() >= MOST {
                walk.complete = false;
                return;
            }
            let known = before
                .iter()
                .position(|child| child.id == entry.ino() && child.name == name);
            let child = known.map_or_else(
                || {
                    let above = self.path.strip_suffix('/').unwrap_or(&self.path);
                    let path = format!("{above}/{}", shown(name.as_bytes())).into();
                    Self::new(entry.ino(), name.to_owned(), path, self.depth + 1)
                },
                |place| before.swap_remove(place),
            );
            self.children.push(child);
        }
    }
}

/// Folders are opened to look at what is in them alone.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Or to list them.
const LISTED: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

fn links(folder: &Stat) -> u64 {
    #[expect(
        clippy::useless_conversion,
        reason = "how wide the field is depends on the architecture"
    )]
    folder.st_nlink.into()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _};

    use super::*;

    fn paths(tree: &Tree) -> BTreeMap<String, u64> {
        let mut paths = BTreeMap::new();
        tree.each(&mut |cgroup, folder| {
            assert_eq!(fs::metadata(folder.path()).unwrap().ino(), cgroup.id);
            assert_eq!(
                cgroup.depth,
                cgroup.path.matches('/').count() - usize::from(&*cgroup.path == "/")
            );
            let before = paths.insert(cgroup.path.to_string(), cgroup.id);
            assert_eq!(before, None, "once");
        });
        paths
    }

    /// What is there by another way: listing everything.
    fn listed(root: &Path) -> BTreeMap<String, u64> {
        fn list(folder: &Path, path: &str, all: &mut BTreeMap<String, u64>) {
            let shown = if path.is_empty() { "/" } else { path };
            all.insert(shown.to_owned(), fs::metadata(folder).unwrap().ino());
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
                    list(&entry.path(), &path, all);
                }
            }
        }
        let mut all = BTreeMap::new();
        list(root, "", &mut all);
        all
    }

    #[test]
    fn whatever_changes_is_found() {
        let sys = tempfile::tempdir().unwrap();
        let root = sys.path().join("fs/cgroup");
        let mut tree = Tree::unified(sys.path());
        assert!(tree.refresh().is_err(), "there is no hierarchy");
        fs::create_dir_all(root.join("unified/a/b")).unwrap();
        fs::write(root.join("unified/cgroup.controllers"), "").unwrap();
        tree.refresh().unwrap();
        assert_eq!(paths(&tree), listed(&root.join("unified")));
        fs::write(root.join("cgroup.controllers"), "").unwrap();
        let mut expect = |path: &str| {
            tree.refresh().unwrap();
            let (found, there) = (paths(&tree), listed(&root));
            assert_eq!(found, there);
            assert!(there.contains_key(path) && tree.is_complete());
        };
        expect("/unified/a/b");
        fs::create_dir_all(root.join("system.slice/cron.service")).unwrap();
        expect("/system.slice/cron.service");
        // As many as before, one of which is another.
        fs::rename(root.join("system.slice"), root.join("user.slice")).unwrap();
        expect("/user.slice/cron.service");
        fs::rename(root.join("unified/a"), sys.path().join("away")).unwrap();
        fs::create_dir_all(root.join("unified/a/c")).unwrap();
        expect("/unified/a/c");
        fs::remove_dir_all(root.join("user.slice")).unwrap();
        expect("/unified");
    }

    #[test]
    fn names_that_differ_in_bytes_that_are_no_text_stay_two_as_processes_tell_them() {
        let sys = tempfile::tempdir().unwrap();
        let root = sys.path().join("fs/cgroup");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("cgroup.controllers"), "").unwrap();
        for name in [b"a\xff", b"a\xfe"] {
            fs::create_dir(root.join(OsStr::from_bytes(name))).unwrap();
        }
        let mut tree = Tree::unified(sys.path());
        tree.refresh().unwrap();
        let found: Vec<_> = paths(&tree).into_keys().collect();
        assert_eq!(found, ["/", r"/a\xfe", r"/a\xff"]);
        let told = sys.path().join("cgroup");
        fs::write(&told, b"0::/a\xff\n").unwrap();
        let told = crate::host_file::text(&told).unwrap();
        assert_eq!(super::super::telling(&told), Some(&*found[2]));
    }

    #[test]
    fn what_is_too_deep_is_told() {
        let sys = tempfile::tempdir().unwrap();
        let mut path = sys.path().join("fs/cgroup");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.controllers"), "").unwrap();
        for _ in 0..=DEEPEST {
            path.push("x");
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut tree = Tree::unified(sys.path());
        tree.refresh().unwrap();
        assert!(tree.is_complete());
        fs::create_dir(path).unwrap();
        tree.refresh().unwrap();
        assert!(!tree.is_complete());
        assert_eq!(paths(&tree).len(), DEEPEST + 1);
    }
}
