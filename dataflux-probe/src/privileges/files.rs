//! Files: which folders the running probe may write to and read from, by Landlock (Linux 5.13).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};

use super::Plan;
use crate::plugin::{Keep, Roots};

/// The files that a part of the probe opens after the start.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Files {
    /// Files that it reads, however often they are replaced.
    pub read: Vec<PathBuf>,
    /// Folders in which it makes, writes, renames and removes files. They need not be there yet.
    pub write: Vec<PathBuf>,
}

impl Files {
    /// Adds those of another part.
    pub(super) fn extend(&mut self, more: Self) {
        self.read.extend(more.read);
        self.write.extend(more.write);
    }
}

/// The newest set of rights that is asked for. What an older kernel does not know goes unrestricted.
const RIGHTS: ABI = ABI::V6;

/// `LANDLOCK_CREATE_RULESET_VERSION` (linux/landlock.h).
const ASKS_FOR_VERSION: u32 = 1;

/// What Landlock does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLock {
    /// The kernel's version of it.
    pub abi: i32,
    /// The root folder itself, and folders that do not exist and whose nearest parent it is: nothing may be written there.
    pub out_of_reach: Vec<PathBuf>,
    /// Folders and files that may be read, with all below them.
    read: Vec<PathBuf>,
    /// Folders that may be written to as well.
    write: Vec<PathBuf>,
}

impl FileLock {
    /// Those of these files and folders that are not within what may be read or written: they need another start.
    pub(crate) fn beyond(&self, files: &Files) -> Vec<PathBuf> {
        let within = |rules: &[PathBuf], path: &Path| {
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            rules.iter().any(|rule| {
                let rule = fs::canonicalize(rule);
                rule.is_ok_and(|rule| path.starts_with(rule))
            })
        };
        let writable = |folder: &&PathBuf| {
            let there = nearest(folder);
            there.is_some_and(|folder| within(&self.write, &folder))
        };
        let readable = |file: &&PathBuf| {
            let folders = folders_of(file);
            let may = |folder: &PathBuf| within(&self.read, folder) || within(&self.write, folder);
            !folders.is_empty() && folders.iter().all(may)
        };
        let write = files.write.iter().filter(|folder| !writable(folder));
        let read = files.read.iter().filter(|file| !readable(file));
        write.chain(read).cloned().collect()
    }

    /// What somebody has to do something about.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.out_of_reach.iter().map(|folder| {
            if folder == Path::new("/") {
                return "files directly in / are not made, replaced or rolled: name a folder for them".to_owned();
            }
            format!(
                "{} is not there, and nothing above it either: start the probe again once it is",
                folder.display()
            )
        })
    }
}

/// Which version of Landlock this kernel has.
///
/// # Errors
/// It has none, or it is not switched on.
pub(super) fn landlock() -> anyhow::Result<i32> {
    // SAFETY: without attributes this only asks for the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            ASKS_FOR_VERSION,
        )
    };
    if version > 0 {
        return i32::try_from(version).context("a version of Landlock");
    }
    match Errno::from_io_error(&io::Error::last_os_error()) {
        Some(Errno::OPNOTSUPP) => {
            bail!("Landlock is not switched on in this kernel (boot parameter lsm=landlock,...)")
        }
        Some(Errno::NOSYS) => {
            bail!("this kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK)")
        }
        error => bail!("asking for Landlock: {}", error.unwrap_or(Errno::INVAL)),
    }
}

/// Keeps this thread, and those that it begins, to the plan's files.
pub(super) fn lock(plan: &Plan) -> anyhow::Result<FileLock> {
    let abi = landlock()?;
    let mut lock = FileLock {
        abi,
        out_of_reach: Vec::new(),
        read: Vec::new(),
        write: Vec::new(),
    };
    let mut write = Vec::new();
    for folder in &plan.files.write {
        match reach(folder) {
            found if found.is_empty() => lock.out_of_reach.push(folder.clone()),
            found => write.extend(found),
        }
    }
    let mut read = readable(&plan.roots);
    read.extend(plan.files.read.iter().flat_map(|file| folders_of(file)));
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(&read, reading()))?
        .add_rules(path_beneath_rules(&write, writing()))?;
    (lock.read, lock.write) = (read, write);
    if plan.keeps(Keep::Execution) {
        let all = reading() | AccessFs::Execute;
        rules = rules.add_rules(path_beneath_rules(["/"], all))?;
    }
    match rules.restrict_self().context("Landlock")?.ruleset {
        RulesetStatus::NotEnforced => bail!("Landlock refuses the rules"),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(lock),
    }
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn writing() -> BitFlags<AccessFs> {
    reading()
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Where readers look, and libraries: for shared objects and time zones, the resolver's configuration and what it is linked
/// to, name services, certificate authorities.
fn readable(roots: &Roots) -> Vec<PathBuf> {
    let mut all = vec![
        roots.proc.clone(),
        roots.sys.clone(),
        roots.root.join("etc"),
        roots.root.join("usr/lib"),
    ];
    let fixed = [
        "/proc",
        "/sys",
        "/etc",
        "/usr",
        "/lib",
        "/lib64",
        "/nix/store",
        "/gnu/store",
        "/var/lib/ca-certificates",
        "/var/lib/sss",
        "/run/systemd/resolve",
        "/run/nscd",
        // Of the `container` reader.
        "/run/.containerenv",
        "/run/systemd/container",
        "/dev/null",
        "/dev/zero",
        "/dev/random",
        "/dev/urandom",
    ];
    all.extend(fixed.map(PathBuf::from));
    // Who writes it replaces it, so that the folder counts.
    all.extend(folders_of(Path::new("/etc/resolv.conf")));
    let authorities = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
    all.extend(
        authorities
            .into_iter()
            .filter_map(std::env::var_os)
            .map(PathBuf::from),
    );
    all
}

/// The folder that a file is in, and the one it is linked to, if that is another. A folder that comes later, as many below
/// `/run` do, counts by the nearest one above it that is there, unless that is the root folder.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let Ok(named) = std::path::absolute(file) else {
        return Vec::new();
    };
    let linked = fs::canonicalize(&named).unwrap_or_else(|_| followed(&named));
    let folder = |file: &Path| {
        let folder = file.parent()?;
        let there = folder.ancestors().find(|path| path.exists())?;
        let everything = there != folder && fs::canonicalize(there).ok()? == Path::new("/");
        (!everything).then(|| there.to_owned())
    };
    [named, linked]
        .iter()
        .filter_map(|file| folder(file))
        .collect()
}

/// Where a link leads that leads nowhere yet.
fn followed(link: &Path) -> PathBuf {
    let mut path = link.to_owned();
    for _ in 0..LINKS {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    path
}

/// As many as the kernel follows (`MAXSYMLINKS`).
const LINKS: usize = 40;

/// Folders that belong to nobody in particular.
const SHARED: [&str; 20] = [
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/spool",
    "/var/tmp",
];

/// Where the probe must be free to write so that it can use this folder, also when that is missing, comes later, or is taken
/// away and made again. Empty if that would be everywhere.
///
/// Landlock knows folders, not names: a folder that is made again is another one. So where the probe itself could make the
/// folder again, the parent counts, unless many share it.
fn reach(folder: &Path) -> Vec<PathBuf> {
    let Ok(folder) = std::path::absolute(folder) else {
        return Vec::new();
    };
    let Some(there) = nearest(&folder).filter(|there| there != Path::new("/")) else {
        return Vec::new();
    };
    let parent = there.parent().unwrap_or(Path::new("/"));
    let shared = SHARED.iter().any(|shared| parent == Path::new(shared));
    let root = parent == Path::new("/");
    // What is mounted over an empty folder hides it from Landlock, too.
    let awaits_mount = !folder.exists() && is_empty(&there);
    let could_make = accessat(CWD, parent, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    if !root && (awaits_mount || !shared && could_make) {
        vec![parent.to_owned()]
    } else {
        vec![there]
    }
}

/// The folder itself, or the nearest one above it that is there.
fn nearest(folder: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(folder).ok()?;
    folder
        .ancestors()
        .find_map(|path| fs::canonicalize(path).ok())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_may_be_made_again_where_the_probe_can_do_that() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let state = root.join("var/state");
        fs::create_dir_all(&state).unwrap();
        assert_eq!(reach(&state), [root.join("var")]);
        // Not below /tmp itself, which belongs to all.
        assert_eq!(reach(&root), [&*root]);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_counts_by_what_is() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        fs::create_dir_all(root.join("mnt/disk")).unwrap();
        fs::write(root.join("mnt/file"), "").unwrap();
        assert_eq!(
            reach(&root.join("mnt/disk/probe/state")),
            [root.join("mnt")]
        );
        assert_eq!(reach(&root.join("mnt/missing/state")), [&*root]);
    }

    #[test]
    fn what_is_beyond_the_rules_is_found() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        for folder in ["logs/app", "etc", "other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let lock = FileLock {
            abi: 1,
            out_of_reach: Vec::new(),
            read: vec![root.join("etc")],
            write: vec![root.join("logs")],
        };
        let beyond = |read: &[&str], write: &[&str]| {
            let all = |names: &[&str]| names.iter().map(|name| root.join(name)).collect();
            lock.beyond(&Files {
                read: all(read),
                write: all(write),
            })
        };
        let within = ["logs", "logs/app", "logs/app/new/folder"];
        assert_eq!(
            beyond(&["etc/secret", "etc/new", "logs/x"], &within),
            Vec::<PathBuf>::new()
        );
        assert_eq!(
            beyond(&["other/secret"], &["etc", "other", "logs/../other"]),
            ["etc", "other", "logs/../other", "other/secret"].map(|name| root.join(name))
        );
    }

    #[test]
    fn a_file_that_comes_later_counts_by_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        for folder in ["etc", "run"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        let link = root.join("etc/resolv.conf");
        std::os::unix::fs::symlink("../run/manager/resolv.conf", &link).unwrap();
        let folders = |file: &Path| -> Vec<_> {
            let folders = folders_of(file).into_iter();
            folders
                .map(|folder| fs::canonicalize(folder).unwrap())
                .collect()
        };
        assert_eq!(folders(&link), [root.join("etc"), root.join("run")]);
        let secret = root.join("run/secrets/kafka/password");
        assert_eq!(folders(&secret), [root.join("run"), root.join("run")]);
        assert!(folders(Path::new("/no-such-folder/password")).is_empty());
        let itself = root.join("etc/itself");
        std::os::unix::fs::symlink("itself", &itself).unwrap();
        assert_eq!(folders(&itself), [root.join("etc"), root.join("etc")]);
    }

    #[test]
    fn never_everything() {
        assert!(reach(Path::new("/no-such-folder/state")).is_empty());
        assert!(reach(Path::new("/")).is_empty());
        let lock = FileLock {
            abi: 1,
            out_of_reach: vec!["/".into(), "/no-such-folder".into()],
            read: Vec::new(),
            write: Vec::new(),
        };
        let told: Vec<_> = lock.problems().collect();
        assert!(told[0].starts_with("files directly in / "), "{told:?}");
        assert!(
            told[1].starts_with("/no-such-folder is not there"),
            "{told:?}"
        );
        assert_eq!(reach(Path::new("/var/lib")), [PathBuf::from("/var/lib")]);
        assert_eq!(
            reach(Path::new("/proc/no/such/folder")),
            [PathBuf::from("/proc")]
        );
    }

    #[test]
    fn a_link_counts_by_what_it_leads_to() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        fs::create_dir_all(root.join("private/state")).unwrap();
        std::os::unix::fs::symlink("private/state", root.join("state")).unwrap();
        assert_eq!(reach(&root.join("state")), [root.join("private")]);
    }
}
