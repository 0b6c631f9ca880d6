//! Spools on a disk that hangs, refuses writes, fills up or is emptied, while the output gets through and while it does not.

use std::{
    fs,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{Stream, envelopes, one_stream},
    sums::sums,
};

const CONFIG: &str = "
[probe]
interval = '100ms'
state_dir = 'DIR/disk/state'
[metrics.cpu]
[metrics.disk]
[metrics.memory]
[output.spooled]
formatter = 'json'
logger = 'file'
spool_bytes = '4MiB'
file.path = 'DIR/missing/folder/spooled'
[output.control]
formatter = 'json'
logger = 'file'
file.path = 'DIR/control'
";

/// A probe with its state on a file system of its own, which only its mount namespace has: it goes with the probe.
struct OnDisk {
    probe: Probe,
}

impl OnDisk {
    fn start() -> Self {
        let mut probe = Probe::prepare(CONFIG);
        let image = probe.path("image");
        let file = fs::File::create(&image).expect("a file");
        file.set_len(32 << 20).expect("a file with nothing in it");
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let disk = probe.path("disk");
        fs::create_dir(&disk).expect("the folder is writable");
        let mount = format!(
            "mount -o loop {} {} && exec \"$@\"",
            image.display(),
            disk.display()
        );
        probe.start_under(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
        probe.restart();
        let on_disk = Self { probe };
        until("the spool", || {
            on_disk.inside("state/spool").exists().then_some(())
        });
        on_disk
    }

    /// A path on its disk, as seen from here.
    fn inside(&self, name: &str) -> PathBuf {
        let disk = self.probe.path("disk");
        format!("/proc/{}/root{}/{name}", self.probe.pid(), disk.display()).into()
    }

    /// Runs a command in its mount namespace, with the mount point as the last argument.
    fn within(&self, command: &[&str]) {
        let target = self.probe.pid().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--mount", "--target", &target]).args(command);
        run(nsenter.arg(self.probe.path("disk")));
    }

    /// Does something to the disk, and undoes it after a while; also if the test fails meanwhile, or nothing could end a
    /// probe that waits for a frozen file system.
    fn fault(&self, fault: &str) {
        let _undo = Undo { of: self, fault };
        match fault {
            "hangs" => self.within(&["fsfreeze", "--freeze"]),
            "refuses writes" => self.within(&["chattr", "-R", "+i"]),
            // The probe may write a file anew into a folder that is about to be removed.
            "is emptied" => until("an empty disk", || {
                match fs::remove_dir_all(self.inside("state")) {
                    Ok(()) => Some(()),
                    Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => None,
                    Err(error) => panic!("it is there and writable: {error}"),
                }
            }),
            // It writes as much as there is room for.
            _ => drop(fs::write(self.inside("filler"), vec![1; 64 << 20])),
        }
        // Longer than a disk may take before it counts as broken.
        thread::sleep(Duration::from_secs(3));
    }
}

/// How much longer than asked for the machine takes, at worst, for a pause and some reading such as a tick of the probe does.
struct Pace {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Pace {
    fn start() -> Self {
        const PAUSE: Duration = Duration::from_millis(100);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                thread::sleep(PAUSE);
                for file in [
                    "/proc/stat",
                    "/proc/meminfo",
                    "/proc/vmstat",
                    "/proc/diskstats",
                ] {
                    drop(fs::read_to_string(file));
                }
                worst = worst.max(begin.elapsed().saturating_sub(PAUSE));
            }
            worst
        });
        Self { stop, thread }
    }

    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only reads files")
    }
}

struct Undo<'a> {
    of: &'a OnDisk,
    fault: &'a str,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        match self.fault {
            "hangs" => self.of.within(&["fsfreeze", "--unfreeze"]),
            "refuses writes" => self.of.within(&["chattr", "-R", "-i"]),
            "is emptied" => {}
            _ => drop(fs::remove_file(self.of.inside("filler"))),
        }
    }
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "{command:?}: {status:?}"
    );
}

/// Scenario: the disk below `state_dir` hangs, makes every file immutable, fills up and loses all its files, each for three seconds, at
/// first while the output's folder is missing, then while it is there.
/// Guarantees: no number is lost or merged, every count arrives, the probe tells of the disk and that it works again, and
/// nobody waits for it: the windows of both outputs stay as short as ever.
#[test]
fn a_disk_that_fails_loses_and_delays_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, needs root to mount: a_disk_that_fails_loses_and_delays_nothing");
        return;
    }
    let on_disk = OnDisk::start();
    let pace = Pace::start();
    let probe = &on_disk.probe;
    let (spooled, control) = (probe.path("missing/folder/spooled"), probe.path("control"));
    for there in [false, true] {
        if there {
            fs::create_dir(probe.path("missing")).expect("the folder is writable");
        }
        for fault in ["hangs", "refuses writes", "is full", "is emptied"] {
            on_disk.fault(fault);
            // The disk is tried again every second.
            thread::sleep(Duration::from_secs(2));
            until("the files of the spool", || {
                let journal = on_disk.inside("state/spool/spooled/journal-0");
                (journal.exists() && on_disk.inside("state/streams.json").exists()).then_some(())
            });
        }
    }
    let mut on_disk = on_disk;
    until("everything that waited", || {
        (newest(&spooled)? + 5 > newest(&control)?).then_some(())
    });
    let ended = on_disk.probe.stop();
    let slowest = pace.stop();
    println!("{}", ended.diagnostics);

    let (spooled, control) = (envelopes(&spooled), envelopes(&control));
    let (of_spooled, of_control) = (one_stream(&spooled), one_stream(&control));
    for (name, stream) in [("spooled", &of_spooled), ("control", &of_control)] {
        assert_eq!((stream.lost.len(), stream.merged()), (0, 0), "{name}");
    }
    assert_eq!(of_spooled.last(), of_control.last());
    let last = Stream::last(&of_control);
    assert_eq!(sums(&spooled, last), sums(&control, last));
    let longest = control.iter().map(|one| one["duration_ns"].as_u64()).max();
    // A tick that waited for the disk would have made one of three seconds; on top of what any tick takes on this machine.
    let most = (Duration::from_secs(2) + slowest).as_nanos() as u64;
    assert!(
        longest < Some(Some(most)),
        "{longest:?} ns, not less than {most}"
    );
    for word in [
        "going on in memory",
        "the spool works again",
        "deleted files",
    ] {
        assert!(
            ended.diagnostics.contains(word),
            "{word}: {}",
            ended.diagnostics
        );
    }
}

/// The highest number in the last whole line of a file of envelopes. Reading more, again and again, would take the processor
/// from the probe that the test waits for.
fn newest(path: &Path) -> Option<u64> {
    const ENOUGH: u64 = 256 << 10;
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH)))
        .ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let whole = tail.rsplit(|byte| *byte == b'\n').nth(1)?;
    let envelope: serde_json::Value = serde_json::from_slice(whole).ok()?;
    envelope["stream"]["last"].as_u64()
}
