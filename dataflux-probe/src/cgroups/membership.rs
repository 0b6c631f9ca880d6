//! Which cgroup a process is in, from `/proc/PID/cgroup` (cgroups(7)).

use std::{
    borrow::Cow,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Tree;

/// Controllers of v1 in whose hierarchies processes are sorted most often, best first.
const TELLING: [&str; 5] = ["name=systemd", "memory", "pids", "cpu", "cpuacct"];

/// The path that says most about a process: that of v2, or where it is v2's root, of the first hierarchy of v1 in which it is
/// not the root. `None` if the text has no path at all.
pub(crate) fn telling(text: &str) -> Option<&str> {
    let lines = || text.lines().filter_map(Line::parse);
    let of_v2 = lines().find(|line| line.controllers.is_empty());
    let below_root = |line: &Line<'_>| line.path != "/";
    let found = of_v2.filter(below_root).or_else(|| {
        TELLING.into_iter().find_map(|wanted| {
            lines()
                .filter(below_root)
                .find(|line| line.controllers.split(',').any(|name| name == wanted))
        })
    });
    found.or_else(|| lines().next()).map(|line| line.path)
}

/// The kernel's own cgroup namespace (PROC_CGROUP_INIT_INO), which has this number everywhere.
const FIRST_NAMESPACE: &str = "cgroup:[4026531835]";

/// Where the probe's own cgroup namespace begins: from there the kernel tells all paths to it.
#[derive(Debug)]
pub(crate) struct OwnRoot {
    /// The hierarchy as the host sees it.
    tree: Tree,
    /// The root of the hierarchy as the probe sees it.
    seen: PathBuf,
    namespace: PathBuf,
    /// What was found: the path on the host, if it can be told.
    found: Option<Option<Arc<str>>>,
}

impl OwnRoot {
    /// Looks at nothing yet. `sys` is the host's `/sys`.
    pub(crate) fn new(sys: &Path) -> Self {
        Self {
            tree: Tree::unified(sys),
            seen: "/sys/fs/cgroup".into(),
            namespace: "/proc/self/ns/cgroup".into(),
            found: None,
        }
    }

    /// A path that the kernel told as it is on the host; as the kernel told it where that is not known.
    pub(crate) fn absolute(&mut self, path: &str) -> Arc<str> {
        if self.found.is_none() {
            self.found = Some(self.find());
        }
        match self.found.as_ref().and_then(Option::as_ref) {
            Some(root) => absolute(path, root).into(),
            None => path.into(),
        }
    }

    /// A cgroup's id is the same in every namespace.
    fn find(&mut self) -> Option<Arc<str>> {
        let namespace = fs::read_link(&self.namespace);
        if namespace.is_ok_and(|own| own == Path::new(FIRST_NAMESPACE)) {
            return None;
        }
        let id = fs::metadata(&self.seen).ok()?.ino();
        self.tree.refresh().ok()?;
        let mut found = None;
        self.tree.each(&mut |cgroup, _| {
            if cgroup.id() == id && cgroup.depth() > 0 {
                found = Some(Arc::clone(cgroup.path()));
            }
        });
        found
    }
}

/// A path as it is below the host's root, where a cgroup namespace begins at `root`: `/../other` is beside it.
fn absolute<'a>(path: &'a str, root: &str) -> Cow<'a, str> {
    let (mut above, mut rest) = (root, path);
    while let Some(after) = rest.strip_prefix("/..")
        && (after.is_empty() || after.starts_with('/'))
    {
        above = above.rsplit_once('/').map_or("", |(above, _)| above);
        rest = after;
    }
    match (above, rest) {
        ("" | "/", "") => "/".into(),
        ("" | "/", rest) => rest.into(),
        (above, "" | "/") => above.to_owned().into(),
        (above, rest) => format!("{above}{rest}").into(),
    }
}

struct Line<'a> {
    /// Separated by commas; empty for v2.
    controllers: &'a str,
    path: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        // What a process that ended, or a folder that was removed around it, leaves behind.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        path.starts_with('/').then_some(Self { controllers, path })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hierarchy_that_tells_most_is_taken() {
        let v2 = "0::/system.slice/cron.service\n";
        assert_eq!(telling(v2), Some("/system.slice/cron.service"));
        assert_eq!(telling("0::/a:b (deleted)\n"), Some("/a:b"));
        let hybrid = "5:cpu,cpuacct:/jobs/7\n4:memory:/\n3:name=systemd:/user.slice\n0::/\n";
        assert_eq!(telling(hybrid), Some("/user.slice"));
        assert_eq!(telling("2:cpuacct:/x\n1:devices:/y\n0::/\n"), Some("/x"));
        assert_eq!(telling("2:memory:/\n0::/\n"), Some("/"));
        assert_eq!(telling(""), None);
        assert_eq!(telling("no cgroup\n1:2:3\n"), None);
    }

    #[test]
    fn a_path_beside_the_own_namespace_is_found_on_the_host() {
        let own = "/kubepods/pod1/probe";
        assert_eq!(absolute("/", own), own);
        assert_eq!(absolute("/below", own), "/kubepods/pod1/probe/below");
        assert_eq!(absolute("/../other", own), "/kubepods/pod1/other");
        assert_eq!(absolute("/../../..", own), "/");
        assert_eq!(absolute("/../../../system.slice", own), "/system.slice");
        assert_eq!(absolute("/..more", "/"), "/..more");
        assert_eq!(absolute("/../../x", "/"), "/x");
    }

    #[test]
    fn the_own_namespace_is_found_on_the_host_by_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sys/fs/cgroup");
        fs::create_dir_all(root.join("kubepods/probe")).unwrap();
        fs::write(root.join("cgroup.controllers"), "").unwrap();
        let own = |seen: &Path, namespace: &str| {
            let link = folder.path().join("namespace");
            drop(fs::remove_file(&link));
            std::os::unix::fs::symlink(namespace, &link).unwrap();
            OwnRoot {
                seen: seen.to_owned(),
                namespace: link,
                ..OwnRoot::new(&folder.path().join("sys"))
            }
        };
        let inside = root.join("kubepods/probe");
        let mut contained = own(&inside, "cgroup:[4026532999]");
        assert_eq!(&*contained.absolute("/../../init.scope"), "/init.scope");
        assert_eq!(&*contained.absolute("/"), "/kubepods/probe");
        // The host's own, or one of which only the inside is seen.
        assert_eq!(&*own(&inside, FIRST_NAMESPACE).absolute("/a"), "/a");
        let blind = &*own(&root, "cgroup:[4026532999]").absolute("/../a");
        assert_eq!(blind, "/../a");
    }

    proptest! {
        #[test]
        fn any_text_has_a_path_or_none(text: String, root in "(/[a-z.]{0,3}){0,4}") {
            let path = telling(&text);
            prop_assert!(path.is_none_or(|path| path.starts_with('/')));
            prop_assert!(absolute(path.unwrap_or("/"), &root).starts_with('/') || root.is_empty());
        }
    }
}
