//! What `cargo xtask fuzz` throws bytes at besides files of the host: paths of cgroups, tables of mounts, answers by HTTP.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::cloud;
use crate::{
    cgroups::{self, Owner},
    mounts,
    pipeline::spool::fuzzing::Target,
    raw_name::shown,
};

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "cgroup_path",
        run: cgroup_path,
    },
    Target {
        name: "http_answer",
        run: http_answer,
    },
    Target {
        name: "mountinfo",
        run: mountinfo,
    },
];

/// More of anything are all the same.
const MANY: usize = 8;

fn outcome(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Text like `/proc/PID/cgroup`, each line of which is taken for a path, too.
fn cgroup_path(data: &[u8]) -> u64 {
    let text = shown(data);
    let telling = cgroups::telling(&text);
    assert!(telling.is_none_or(|path| path.starts_with('/') && text.contains(path)));
    let owner = |path: &str| {
        let Owner {
            unit,
            container,
            pod,
            is_itself,
        } = Owner::of(path);
        assert!(unit.as_ref().is_none_or(|unit| path.contains(unit)));
        assert!(container.as_ref().is_none_or(|it| path.contains(&it.id)));
        assert!(!is_itself || container.is_some() || pod.is_some());
        let runtime = container.map(|container| container.runtime);
        (unit.is_some(), runtime, pod.is_some(), is_itself)
    };
    let owners: Vec<_> = text.lines().chain(telling).take(MANY).map(owner).collect();
    outcome((telling.is_some(), owners))
}

/// What a metadata service may send.
fn http_answer(data: &[u8]) -> u64 {
    let (body, whole) = cloud::answer(data);
    if let Ok(body) = &body {
        assert!(body.len() <= data.len());
    }
    let told = body.map_err(|error| format!("{error:#}"));
    let told = told.map(|body| body.len().min(MANY));
    outcome((told, whole))
}

/// A file like `/proc/PID/mountinfo`.
fn mountinfo(data: &[u8]) -> u64 {
    let Ok(mounts) = mounts::parse(data) else {
        return 0;
    };
    let covered = mounts::covered(&mounts);
    assert_eq!(covered.len(), mounts.len());
    let lines = data.split(|&byte| byte == b'\n');
    assert_eq!(mounts.len(), lines.filter(|line| !line.is_empty()).count());
    let hidden = covered.iter().filter(|&&it| it).count();
    let facts = |mount: &mounts::Mount| (mount.whole, mount.read_only, mount.kind.len().min(MANY));
    let facts: Vec<_> = mounts.iter().take(MANY).map(facts).collect();
    outcome((mounts.len().min(MANY), hidden.min(MANY), facts))
}
