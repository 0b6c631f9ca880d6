//! `limits`: what the kernel allows the whole machine to have of things that run out, and how much of it is used.
//!
//! Only what the kernel keeps count of itself: how many inotify watches or how many files of one process there are would take a
//! look at every process.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::{MetricReader, load::LoadAverages};
use crate::{
    host_file::{HostFile, ValueFile},
    model::{MetricDef, NO_LABELS, Snapshot, Unit},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "limits",
    summary: "open files, threads, requests of aio, terminals and entropy: used and allowed",
    needs: Needs {
        kernel: "/proc/loadavg, /proc/sys/fs, /proc/sys/kernel",
        ..Needs::NOTHING
    },
    example: "\
interval = \"1m\"    # what runs out mostly takes its time; without this line: probe.interval
",
    metrics: &[&USED, &ALLOWED, &ALLOWED_PER_USER, &ENTROPY, &ENTROPY_POOL],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Limits::new(&context.roots.proc)))
    },
};

static USED: MetricDef = gauge(
    "limits.used",
    "How many there are: open files (one that several processes share counts once), threads, requests of aio set up for, \
     terminals.",
    &["resource"],
);
static ALLOWED: MetricDef = gauge(
    "limits.allowed",
    "How many there may be on the whole machine; thread_ids bounds threads as well, since Linux 6.14 for the pid namespace of the \
     probe.",
    &["resource"],
);
static ALLOWED_PER_USER: MetricDef = gauge(
    "limits.allowed_per_user",
    "How many each user may have; the kernel tells nowhere how many are used.",
    &["resource"],
);
static ENTROPY: MetricDef = gauge(
    "limits.entropy",
    "Bits of entropy that the kernel's random numbers are made from; since Linux 5.18 full once there was enough at all.",
    &[],
);
static ENTROPY_POOL: MetricDef = gauge(
    "limits.entropy_pool",
    "Bits of entropy that the kernel keeps at most.",
    &[],
);

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDef {
    MetricDef::gauge(name, Unit::Count, help, labels)
}

/// Files of `/proc/sys` with one number: what it means, and of which resource.
const FILES: [(&MetricDef, &str, &str); 11] = [
    (&ALLOWED, "threads", "kernel/threads-max"),
    (&ALLOWED, "thread_ids", "kernel/pid_max"),
    (&USED, "aio_requests", "fs/aio-nr"),
    (&ALLOWED, "aio_requests", "fs/aio-max-nr"),
    (&USED, "terminals", "kernel/pty/nr"),
    (&ALLOWED, "terminals", "kernel/pty/max"),
    (
        &ALLOWED_PER_USER,
        "inotify_instances",
        "fs/inotify/max_user_instances",
    ),
    (
        &ALLOWED_PER_USER,
        "inotify_watches",
        "fs/inotify/max_user_watches",
    ),
    (
        &ALLOWED_PER_USER,
        "epoll_watches",
        "fs/epoll/max_user_watches",
    ),
    (&ENTROPY, "", "kernel/random/entropy_avail"),
    (&ENTROPY_POOL, "", "kernel/random/poolsize"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Limits {
    loadavg: HostFile,
    /// How many files are open, a 0, and how many may be.
    open_files: ValueFile,
    /// In the order of [`FILES`].
    files: [ValueFile; FILES.len()],
}

impl Limits {
    fn new(proc: &Path) -> Self {
        let file = |path: &str| ValueFile::new(proc.join("sys").join(path));
        Self {
            loadavg: HostFile::new(proc.join("loadavg")),
            open_files: file("fs/file-nr"),
            files: FILES.map(|(_, _, path)| file(path)),
        }
    }
}

impl MetricReader for Limits {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let files = &mut self.open_files;
        let [used, _, allowed] = files
            .numbers()
            .with_context(|| format!("cannot read {}", files.path().display()))?;
        out.gauge(&USED, None, ["files"], used as f64);
        out.gauge(&ALLOWED, None, ["files"], allowed as f64);
        let LoadAverages { threads, .. } = self.loadavg.read(LoadAverages::parse)?;
        out.gauge(&USED, None, ["threads"], threads as f64);
        for ((def, resource, _), file) in FILES.into_iter().zip(&mut self.files) {
            let number = file.numbers();
            // A kernel may be built without aio, inotify, or terminals of this kind.
            match file.optional(number)? {
                Some([number]) if resource.is_empty() => {
                    out.gauge(def, None, NO_LABELS, number as f64);
                }
                Some([number]) => out.gauge(def, None, [resource], number as f64),
                None if resource.is_empty() => out.unsupported.push(def),
                None => {}
            }
        }
        if !out
            .series
            .iter()
            .any(|series| series.def == &ALLOWED_PER_USER)
        {
            out.unsupported.push(&ALLOWED_PER_USER);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{host_file::testing::total, model::Total, plugin::testing::fixtures};

    fn read(proc: &Path) -> anyhow::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        Limits::new(proc).read(&mut snapshot).map(|()| snapshot)
    }

    fn gauge(snapshot: &Snapshot, name: &str, labels: &[&str]) -> Option<f64> {
        total(snapshot, name, labels).map(|total| match total {
            Total::Gauge(value) => value,
            other => panic!("{name}: {other:?}"),
        })
    }

    #[test]
    fn each_file_is_what_it_says() {
        let snapshot = read(&fixtures().join("proc")).unwrap();
        let gauge = |name, labels: &[&str]| gauge(&snapshot, name, labels);
        assert_eq!(gauge("limits.used", &["files"]), Some(769.0));
        assert_eq!(gauge("limits.allowed", &["files"]), Some(2_466_177.0));
        assert_eq!(gauge("limits.used", &["threads"]), Some(187.0));
        assert_eq!(gauge("limits.allowed", &["threads"]), Some(192_730.0));
        assert_eq!(gauge("limits.allowed", &["thread_ids"]), Some(32_768.0));
        let watches = gauge("limits.allowed_per_user", &["inotify_watches"]);
        assert_eq!(watches, Some(192_536.0));
        assert_eq!(gauge("limits.entropy", &[]), Some(256.0));
        assert_eq!(gauge("limits.allowed", &["terminals"]), None);
        assert!(snapshot.unsupported.is_empty());
    }

    #[test]
    fn what_the_kernel_was_built_without_is_left_out_or_unsupported() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        fs::create_dir_all(proc.join("sys/fs")).unwrap();
        fs::copy(fixtures().join("proc/loadavg"), proc.join("loadavg")).unwrap();
        fs::write(proc.join("sys/fs/file-nr"), "1\t0\t9223372036854775807\n").unwrap();
        let snapshot = read(proc).unwrap();
        assert_eq!(snapshot.series.len(), 3);
        let unsupported: Vec<_> = snapshot.unsupported.iter().map(|def| def.name).collect();
        let expected = [
            "limits.entropy",
            "limits.entropy_pool",
            "limits.allowed_per_user",
        ];
        assert_eq!(unsupported, expected);
    }

    #[test]
    fn this_machine_allows_what_its_files_say() {
        let snapshot = read(Path::new("/proc")).unwrap();
        let text = fs::read_to_string("/proc/sys/kernel/threads-max").unwrap();
        let threads = gauge(&snapshot, "limits.allowed", &["threads"]).unwrap();
        assert_eq!(threads, text.trim().parse::<f64>().unwrap());
        let own = fs::read_dir("/proc/self/task").unwrap().count();
        assert!(gauge(&snapshot, "limits.used", &["threads"]).unwrap() >= own as f64);
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        fs::create_dir_all(proc.join("sys/fs")).unwrap();
        let good = ["1.00 2.00 3.00 1/2 3\n", "1 0 2\n", "0\n"];
        let files = ["loadavg", "sys/fs/file-nr", "sys/fs/aio-nr"];
        let write = |file: &str, text: &[u8]| fs::write(proc.join(file), text).unwrap();
        for (file, text) in files.into_iter().zip(good) {
            write(file, text.as_bytes());
        }
        assert!(read(proc).is_ok());
        let long = [b'1'; 5000];
        for (file, text) in files.into_iter().zip(good) {
            for bad in [
                b"".as_slice(),
                b"\n",
                b"x\n",
                b"\xff\xff\n",
                b"1e3 2 3 4\n",
                &long,
            ] {
                write(file, bad);
                let error = format!("{:#}", read(proc).unwrap_err());
                assert!(error.contains(file), "{error}");
            }
            write(file, text.as_bytes());
        }
    }
}
