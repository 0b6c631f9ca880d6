//! Kills at any point and a full disk, with this test program as the one that writes.

use std::{
    env,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
    thread,
};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::*;

/// Set where this test program runs as the child that is to be killed or to fill its disk: the file to write to.
const CHILD: &str = "DATAFLUX_TEST_CHILD";

/// This test program again, with one test only, which finds the path in its environment.
fn child(test: &str, path: &Path) -> Command {
    // A file beyond the limit is an error then, and no signal.
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"trap '' XFSZ; exec "$@""#, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("loggers::file::tests::kills::{test}")])
        .env(CHILD, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

#[test]
fn a_full_disk_leaves_whole_records_only_and_heals() {
    let Some(path) = env::var_os(CHILD).map(PathBuf::from) else {
        let (_folder, path) = folder();
        let output = child("a_full_disk_leaves_whole_records_only_and_heals", &path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(text(&path).lines().count(), 5, "the child ran");
        return;
    };
    let limit = getrlimit(Resource::Fsize);
    let full = rustix::process::Rlimit {
        current: Some(1_000),
        ..limit
    };
    setrlimit(Resource::Fsize, full).unwrap();
    let mut appender = appender(&path, "");
    let record = "x".repeat(299) + "\n";
    for _ in 0..3 {
        append(&mut appender, START, "", &record).unwrap();
    }
    for _ in 0..3 {
        let error = format!(
            "{:#}",
            append(&mut appender, START, "", &record).unwrap_err()
        );
        assert!(error.contains("only 100 of 300 bytes fitted"), "{error}");
        assert_eq!(text(&path), record.repeat(3));
    }
    setrlimit(Resource::Fsize, limit).unwrap();
    for _ in 0..2 {
        append(&mut appender, START, "", &record).unwrap();
    }
    assert_eq!(text(&path), record.repeat(5));
}

/// A long record of several lines that says what it is at both ends.
fn numbered(number: u64) -> String {
    format!("{number}\n{}\n{number} end\n", "z".repeat(300_000))
}

/// Options under which everything happens all the time.
const BUSY: &str = "roll_bytes = '4MiB'\nkeep = 100\ncompress = 'zstd'";

#[test]
fn kills_leave_whole_records_only() {
    if let Some(path) = env::var_os(CHILD).map(PathBuf::from) {
        let mut files = Files::new(Arc::into_inner(settings(&path, BUSY)).unwrap());
        for number in 0.. {
            files.append(&payload(numbered(number)), now()).unwrap();
        }
    }
    let (folder, path) = folder();
    for round in 0..12 {
        let mut child = child("kills_leave_whole_records_only", &path)
            .spawn()
            .unwrap();
        wait_for_more(&path, &mut child);
        // Not always at the same place of a record.
        thread::sleep(Duration::from_micros(37 * round));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
    append(&mut appender(&path, BUSY), now(), "", "end\n").unwrap();
    let settings = settings(&path, BUSY);
    keeper::Pass {
        now: now(),
        host: "unknown".to_owned(),
        is_text: true,
        is_first: true,
    }
    .run(&settings, &AtomicBool::new(false))
    .unwrap();
    let mut records = 0;
    for name in listed(folder.path()) {
        assert!(!name.ends_with(".part"), "{name}");
        let file = folder.path().join(&name);
        let text = match name.strip_suffix(".zst") {
            Some(_) => String::from_utf8(zstd::decode_all(fs::File::open(&file).unwrap()).unwrap())
                .unwrap(),
            None if name.starts_with('.') => continue,
            None => text(&file),
        };
        let mut rest = text
            .strip_suffix("end\n")
            .filter(|_| name == "log")
            .unwrap_or(&text);
        while let Some((number, _)) = rest.split_once('\n') {
            let whole = numbered(number.parse().unwrap());
            rest = rest
                .strip_prefix(&*whole)
                .unwrap_or_else(|| panic!("torn in {name}"));
            records += 1;
        }
        assert!(rest.is_empty(), "torn in {name}");
    }
    assert!(records >= 12 * 3, "{records} records");
}

/// Until a megabyte more was written to the open file; a new one may begin meanwhile.
fn wait_for_more(path: &Path, child: &mut std::process::Child) {
    let length = || fs::metadata(path).map_or(0, |file| file.len());
    let (mut before, mut grown) = (length(), 0);
    while grown < 1_000_000 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child writes until it is killed"
        );
        thread::sleep(Duration::from_millis(1));
        let now = length();
        grown += now.saturating_sub(before);
        before = now;
    }
}
