//! `cgroup` after work that is known: memory that is kept, blocks that are written, a kill, a fork that is refused, tasks that
//! wait for each other; and beside `systemd-cgtop`.

use std::{
    fs,
    os::unix::{fs::FileExt as _, process::ExitStatusExt as _},
    path::Path,
    time::Instant,
};

use dataflux_probe::model::{EntityKey, EntityKind};
use dataflux_tests::tools;
use rustix::process::{Signal, getpid};

use crate::{
    block_io::with_aligned,
    cpus::stay_on,
    group::{Group, section, until},
    harness::{Attached, Totals, machine},
    loop_device::LoopDevice,
};

const MIB: u64 = 1 << 20;

/// Scenario: a cgroup may have 24 MiB; a program in it wants 64 MiB.
/// Guarantees: the one kill is counted, as the kernel's files say, and the most memory that there was comes close to the limit.
#[test]
fn a_kill_for_want_of_memory_is_counted() {
    const LIMIT: u64 = 24 * MIB;
    let Some(_machine) = machine() else { return };
    let Some(mut group) = Group::new("kill") else {
        return;
    };
    if group.file("memory.max", "memory.limit_in_bytes").is_none() {
        return println!("skipped: no controller of memory here");
    }
    let limit = LIMIT.to_string();
    group.set("memory.max", "memory.limit_in_bytes", &limit);
    group.set("memory.swap.max", "memory.swappiness", "0");
    let mut reader = Attached::new("cgroup", &section(&group));
    let entity = group.entity();
    let events = |read: &Totals, event| {
        let event = [event];
        read.counter("cgroup.memory_events", Some(&entity), &event)
    };
    let first = reader.read_in_part();
    assert_eq!(events(&first, "oom_kill"), 0);
    // Alone, as the kernel may kill others as well before the first one has gone.
    group.run("exec dd if=/dev/zero of=/dev/null bs=67108864 count=1");
    let signal = group.ended().signal();
    assert_eq!(signal, Some(Signal::KILL.as_raw()), "it got all it wanted");
    group.stop();
    let last = reader.read_in_part();
    let own = |v2, v1| group.number(v2, v1).expect("the file is there");
    let kills = own(
        ("memory.events", "oom_kill "),
        ("memory.oom_control", "oom_kill "),
    );
    assert_eq!(events(&last, "oom_kill"), kills);
    assert_eq!(kills, 1, "one process wants too much");
    let reached = own(("memory.events", "max "), ("memory.failcnt", ""));
    assert_eq!(events(&last, "max"), reached);
    assert!(reached > 0);
    if group.is_v2 {
        let oom = own(("memory.events", "oom "), ("", ""));
        assert_eq!(events(&last, "oom"), oom);
        assert!(oom >= kills);
    }
    let peak = group.number(("memory.peak", ""), ("memory.max_usage_in_bytes", ""));
    let told = last.gauge("cgroup.memory_peak", Some(&entity), &[]);
    assert_eq!(told, peak.map(|peak| peak as f64));
    match peak {
        Some(peak) => assert!((LIMIT - 2 * MIB..=LIMIT).contains(&peak), "{peak}"),
        // Since Linux 5.19.
        None => assert!(last.unsupported().contains(&"cgroup.memory_peak")),
    }
    let limit = last.gauge("cgroup.memory_limit", Some(&entity), &["max"]);
    assert_eq!(limit, Some(LIMIT as f64));
}

/// Scenario: a program in a cgroup writes a file of 16 MiB; then the file is removed.
/// Guarantees: the cgroup's page cache is that much larger, and then no more.
#[test]
fn the_page_cache_of_a_cgroup_is_what_it_wrote() {
    const WRITTEN: u64 = 16 * MIB;
    let Some(_machine) = machine() else { return };
    let Some(mut group) = Group::new("cache") else {
        return;
    };
    if group.file("memory.stat", "memory.stat").is_none() {
        return println!("skipped: no controller of memory here");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (file, ended) = (folder.path().join("file"), folder.path().join("ended"));
    let mut reader = Attached::new("cgroup", &section(&group));
    let entity = group.entity();
    let cache = |reader: &mut Attached| {
        let read = reader.read_in_part();
        let cache = read.gauge("cgroup.memory_by_use", Some(&entity), &["file"]);
        cache.expect("it is told") as u64
    };
    let before = cache(&mut reader);
    group.run(&format!(
        "dd if=/dev/zero of={} bs=1048576 count=16 2>/dev/null; echo $? >{}; exec sleep 600",
        file.display(),
        ended.display()
    ));
    until(|| ended.exists());
    // The kernel adds up what processors counted on their own every two seconds.
    let near = |value: u64, wanted: u64| value.abs_diff(wanted) < 2 * MIB;
    until(|| near(cache(&mut reader) - before, WRITTEN));
    fs::remove_file(&file).expect("it is there");
    until(|| near(cache(&mut reader), before));
}

/// Scenario: a thread in a cgroup writes 37 blocks of 64 KiB to a disk, past the page cache, and reads 11 of them.
/// Guarantees: exactly these bytes and requests are the cgroup's.
#[test]
fn the_blocks_that_a_cgroup_moves_are_its_own() {
    const BLOCK: u64 = 64 << 10;
    const WRITTEN: u64 = 37;
    const READ: u64 = 11;
    let Some(_machine) = machine() else { return };
    let Some(group) = Group::new("io") else {
        return;
    };
    let file = group.file("io.stat", "blkio.throttle.io_service_bytes_recursive");
    let Some(file) = file else {
        return println!("skipped: no controller of I/O here");
    };
    let disk = LoopDevice::new(4 * MIB);
    let EntityKey::Id(number) = disk.entity().key else {
        panic!("a device has a number");
    };
    let name = EntityKind::Device.format_id(number);
    // Newer kernels count for v1 only where they throttle.
    let no_limit = format!("{name} 1099511627776");
    if !group.is_v2 {
        group.set("", "blkio.throttle.write_bps_device", &no_limit);
    }
    let mut reader = Attached::new("cgroup", &section(&group));
    reader.read_in_part();
    let member = Member::of(file.parent().expect("a folder"));
    with_aligned(BLOCK as usize, |buffer| {
        for block in 0..WRITTEN {
            disk.file
                .write_all_at(buffer, block * BLOCK)
                .expect("a write");
        }
        for block in 0..READ {
            disk.file
                .read_exact_at(buffer, block * BLOCK)
                .expect("a read");
        }
    });
    drop(member);
    let read = reader.read_in_part();
    let text = fs::read_to_string(&file).expect("the cgroup is there");
    if !group.is_v2 && !text.contains(&name) {
        return println!("skipped: v1 counts I/O of throttled disks alone on this kernel");
    }
    let count = |metric, operation| {
        let labels = [name.as_str(), operation];
        read.counter(metric, Some(&group.entity()), &labels)
    };
    for (operation, blocks) in [("write", WRITTEN), ("read", READ)] {
        let transferred = count("cgroup.io_transferred", operation);
        assert_eq!(transferred, blocks * BLOCK, "{operation}: {text}");
        assert_eq!(count("cgroup.io_operations", operation), blocks, "{text}");
    }
}

/// This process in a cgroup; where it was when dropped.
struct Member(std::path::PathBuf);

impl Member {
    fn of(folder: &Path) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").expect("the own cgroups");
        // Of the hierarchy that the folder is in: below /sys/fs/cgroup, or that of one controller below it.
        let mount = folder.parent().expect("it is below the root");
        let controller = mount.file_name().unwrap_or_default().to_string_lossy();
        let is_v2 = mount == Path::new("/sys/fs/cgroup");
        let path = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let same = controllers.split(',').any(|name| name == controller);
            (if is_v2 { controllers.is_empty() } else { same }).then_some(path)
        });
        let path = path.unwrap_or("/").trim_start_matches('/');
        enter(folder);
        Self(mount.join(path))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        enter(&self.0);
    }
}

fn enter(folder: &Path) {
    let pid = getpid().as_raw_nonzero().to_string();
    fs::write(folder.join("cgroup.procs"), pid).expect("a process may move");
}

/// Scenario: a shell in a cgroup of four tasks at most starts more than that.
/// Guarantees: what was refused is counted as the kernel's file says, and the tasks are those that are there.
#[test]
fn forks_that_are_refused_are_counted() {
    let Some(_machine) = machine() else { return };
    let Some(mut group) = Group::new("forks") else {
        return;
    };
    if group.file("pids.max", "pids.max").is_none() {
        return println!("skipped: no controller of tasks here");
    }
    group.set("pids.max", "pids.max", "4");
    let mut reader = Attached::new("cgroup", &section(&group));
    let entity = group.entity();
    let refused = |read: &Totals| read.counter("cgroup.tasks_refused", Some(&entity), &[]);
    assert_eq!(refused(&reader.read_in_part()), 0);
    let many = "sleep 600 & ".repeat(7);
    group.run(&format!("exec 2>/dev/null; {many} wait"));
    let own = || group.number(("pids.events", "max "), ("pids.events", "max "));
    until(|| own().expect("the file is there") > 0);
    group.stop();
    let last = reader.read_in_part();
    assert_eq!(Some(refused(&last)), own());
    let tasks = group.processes().len();
    assert!((3..=4).contains(&tasks), "{tasks}: some shells end then");
    let gauge = |metric| last.gauge(metric, Some(&entity), &[]);
    // A shell that ended is counted until it is waited for.
    let counted = gauge("cgroup.tasks").expect("tasks are counted") as usize;
    assert!((tasks..=4).contains(&counted), "{counted} {tasks}");
    assert_eq!(gauge("cgroup.tasks_limit"), Some(4.0));
}

/// Scenario: two loops in a cgroup share one processor.
/// Guarantees: the time that one of them waits is what the kernel's file says, and no more than has passed.
#[test]
fn tasks_that_wait_for_a_processor_are_pressure() {
    const WAITED: u64 = 2_000_000_000;
    let Some(_machine) = machine() else { return };
    let Some(mut group) = Group::new("pressure") else {
        return;
    };
    let Some(entity) = group.entity_of("cpu.pressure") else {
        return println!("skipped: this kernel does not account the pressure of cgroups");
    };
    let mut reader = Attached::new("cgroup", &section(&group));
    reader.read_in_part();
    let own = || group.pressure("cpu.pressure").expect("it was there");
    assert_eq!(own(), 0);
    // Children stay where their parent is, but for a controller that has an opinion.
    stay_on(0);
    if group.is_v2 {
        group.set("cpuset.cpus", "", "0");
    }
    let begun = Instant::now();
    group.run("while :; do :; done & while :; do :; done");
    until(|| {
        group
            .pressure("cpu.pressure")
            .is_some_and(|waited| waited > WAITED)
    });
    let own = |file: &str| group.pressure(file).expect("it was there");
    let files = ["cpu", "io", "memory"].map(|it| (it, format!("{it}.pressure")));
    for (resource, file) in files {
        let metric = format!("cgroup.{resource}_pressure");
        let before = own(&file);
        let read = reader.read_in_part();
        let after = own(&file);
        let told = read.counter(&metric, Some(&entity), &["some"]);
        assert!((before..=after).contains(&told), "{before} {told} {after}");
    }
    let most = begun.elapsed().as_nanos() + 100_000_000;
    assert!(u128::from(own("cpu.pressure")) <= most, "{most}");
}

/// Scenario: a cgroup whose programs keep 32 MiB, have used a processor and stand still; `systemd-cgtop` looks at it.
/// Guarantees: processor time, memory and tasks are the same.
#[test]
fn a_cgroup_is_that_of_systemd_cgtop() {
    let Some(_machine) = machine() else { return };
    let Some(mut group) = Group::new("cgtop") else {
        return;
    };
    group.run("(head -c 33554432 /dev/zero; exec sleep 600) | tail -c 33554432");
    let used = || group.number(("memory.current", ""), ("memory.usage_in_bytes", ""));
    until(|| used().is_none_or(|used| used > 32 * MIB));
    group.stop();
    let mut reader = Attached::new("cgroup", &section(&group));
    let entity = group.entity();
    let look = || {
        let options = [
            "--batch",
            "--raw",
            "--iterations=1",
            "--cpu=time",
            &group.path[1..],
        ];
        let text = tools::printed("systemd-cgtop", &options)?;
        let row = text.lines().find(|line| line.starts_with(&group.path));
        let row = row.unwrap_or_else(|| panic!("{} is not in {text}", group.path));
        let words: Vec<_> = row.split_ascii_whitespace().collect();
        // It writes a hyphen for what it does not know.
        let known = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some([known(1), known(2), known(3)])
    };
    for _ in 0..15 {
        let Some(before) = look() else { return };
        let read = reader.read_in_part();
        // The kernel may reclaim something at any time.
        if look() != Some(before) {
            continue;
        }
        println!(
            "systemd-cgtop: tasks, us and bytes of {}: {before:?}",
            group.path
        );
        let [tasks, time, memory] = before;
        let gauge = |metric| read.gauge(metric, Some(&entity), &[]).map(|it| it as u64);
        if tasks.is_some() {
            assert_eq!(gauge("cgroup.tasks"), tasks);
        }
        // Of v1 it knows no hierarchy but one of cpu and cpuacct together, and writes 0.
        if let Some(time) = time.filter(|&time| time > 0) {
            let own = read.counter("cgroup.cpu_usage", Some(&entity), &[]);
            assert_eq!(own / 1000, time);
        }
        assert!(memory.is_some() || used().is_none(), "memory is accounted");
        if memory.is_some() {
            assert_eq!(gauge("cgroup.memory_used"), memory);
        }
        return;
    }
    panic!("what is in it does not stand still");
}
