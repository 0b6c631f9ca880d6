//! What is in the files after rolling, kills, full disks, and what other programs do to them.

use std::{
    env, fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use super::{
    super::contract::{check, payload},
    appender::{Appender, rolled},
    *,
};
use crate::plugin::testing;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    (folder, path)
}

fn appender(path: &Path) -> Appender {
    Appender::new(path.to_owned(), 0, 0, false)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn build(config: &str) -> anyhow::Result<Box<dyn Logger>> {
    PLUGIN.build_from(config, &testing::context(Path::new("/nowhere")))
}

#[tokio::test]
async fn the_file_keeps_the_contract() {
    let (_folder, path) = folder();
    let mut logger = build(&format!("path = {path:?}\nsync = 'every'")).unwrap();
    logger.open().unwrap();
    let mut file = fs::File::open(&path).unwrap();
    let receive = |count| {
        let mut bytes = vec![0; count];
        file.read_exact(&mut bytes).unwrap();
        bytes
    };
    check(&mut *logger, receive).await;
}

#[tokio::test]
async fn what_hinders_is_retried_and_goes_away() {
    let (_folder, path) = folder();
    let inside = path.join("not").join("there");
    let mut logger = build(&format!("path = {inside:?}")).unwrap();
    let error = logger.open().unwrap_err().to_string();
    assert!(error.contains("making the folder"), "{error}");
    let result = logger.send(payload("early\n")).await;
    assert!(matches!(result, Err(SendError::Retry(_))), "{result:?}");
    fs::create_dir(&path).unwrap();
    logger.send(payload("late\n")).await.unwrap();
    assert_eq!(text(&inside), "late\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inside) & !0o640, 0, "nobody else may read it");
    assert_eq!(
        mode(inside.parent().unwrap()) & !0o750,
        0,
        "nobody else may look into it"
    );
}

#[test]
fn configuration_errors_are_told_and_claims_cover_the_rolled_files() {
    for (config, error) in [
        ("", "missing field `path`"),
        ("path = '/'", "is not the path of a file"),
        ("path = '/x/..'", "is not the path of a file"),
        ("path = '/proc'", "is a folder; name a file in it"),
        ("path = '/x/y/'", "is a folder; name a file in it"),
        ("path = '/x'\nsync = 'never'", "unknown variant `never`"),
        ("path = '/x'\nkept = 3", "kept: unknown key"),
    ] {
        let told = format!("{:#}", build(config).err().unwrap());
        assert!(told.contains(error), "{config}: {told}");
    }
    let logger = build("path = '/var//log/./x'\nkeep = 2").unwrap();
    assert_eq!(
        logger.claims(),
        ["/var/log/x", "/var/log/x.1", "/var/log/x.2"]
    );
    let relative = build("path = 'x'\nkeep = 0").unwrap().claims();
    assert_eq!(
        relative,
        [env::current_dir().unwrap().join("x").display().to_string()]
    );
}

#[test]
fn a_file_is_rolled_before_the_record_that_would_exceed() {
    let (_folder, path) = folder();
    let mut appender = Appender::new(path.clone(), 20, 2, false);
    for number in 0..10 {
        appender
            .append(b"head\n", format!("record {number}\n").as_bytes())
            .unwrap();
    }
    // 5 bytes of header and 9 of a record leave no room for a second record of 9.
    assert_eq!(text(&path), "head\nrecord 9\n");
    assert_eq!(text(&rolled(&path, 1)), "head\nrecord 8\n");
    assert_eq!(text(&rolled(&path, 2)), "head\nrecord 7\n");
    assert!(!rolled(&path, 3).exists());

    let large = "x".repeat(100) + "\n";
    appender.append(b"", large.as_bytes()).unwrap();
    assert_eq!(
        text(&path),
        large,
        "a record larger than a file has one for itself"
    );
    assert_eq!(text(&rolled(&path, 1)), "head\nrecord 9\n");
}

#[test]
fn a_hole_among_the_rolled_files_is_filled_and_keep_0_keeps_none() {
    let (_folder, path) = folder();
    let mut appender = Appender::new(path.clone(), 5, 4, false);
    for number in 0..4 {
        appender
            .append(b"", format!("{number:04}\n").as_bytes())
            .unwrap();
    }
    fs::remove_file(rolled(&path, 2)).unwrap();
    appender.append(b"", b"0004\n").unwrap();
    let rolled_files = [1, 2, 3].map(|number| text(&rolled(&path, number)));
    assert_eq!(rolled_files, ["0003\n", "0002\n", "0000\n"]);
    assert!(!rolled(&path, 4).exists());

    let mut appender = Appender::new(path.clone(), 5, 0, false);
    drop(fs::remove_file(&path));
    appender.append(b"", b"0005\n").unwrap();
    appender.append(b"", b"0006\n").unwrap();
    assert_eq!(text(&path), "0006\n");
    assert_eq!(text(&rolled(&path, 1)), "0003\n", "not touched");
}

#[test]
fn a_torn_tail_is_cut_off_and_whole_records_stay() {
    let (_folder, path) = folder();
    let long = "y".repeat(200_000);
    for (left, kept) in [
        ("", ""),
        ("torn", ""),
        ("whole\n", "whole\n"),
        ("whole\n\n", "whole\n\n"),
        ("whole\ntorn", "whole\n"),
        (&*format!("whole\n{long}"), "whole\n"),
        (&*long, ""),
        (&*format!("{long}\ntorn"), &*format!("{long}\n")),
    ] {
        fs::write(&path, left).unwrap();
        appender(&path).append(b"head\n", b"next\n").unwrap();
        let head = if kept.is_empty() { "head\n" } else { "" };
        assert!(
            text(&path) == format!("{kept}{head}next\n"),
            "{} bytes",
            left.len()
        );
    }
}

#[test]
fn what_is_no_file_of_lines_is_left_alone() {
    let (folder, path) = folder();
    let error = |path: &Path| format!("{:#}", appender(path).open().unwrap_err());
    let foreign = fs::File::create(&path).unwrap();
    foreign.set_len(80 << 20).unwrap();
    assert!(
        error(&path).contains("is this the right file?"),
        "{}",
        error(&path)
    );
    assert_eq!(foreign.metadata().unwrap().len(), 80 << 20);
    assert!(
        error(folder.path()).contains("Is a directory"),
        "{}",
        error(folder.path())
    );
    assert!(error(Path::new("/dev/null")).contains("not a regular file"));
}

#[test]
fn a_file_has_one_writer() {
    let (_folder, path) = folder();
    let mut first = appender(&path);
    first.append(b"", b"first\n").unwrap();
    let mut second = appender(&path);
    let error = format!("{:#}", second.append(b"", b"second\n").unwrap_err());
    assert!(error.contains("has locked it"), "{error}");
    drop(first);
    second.append(b"", b"second\n").unwrap();
    assert_eq!(text(&path), "first\nsecond\n");
}

#[test]
fn a_file_that_was_moved_deleted_or_emptied_is_noticed() {
    let (_folder, path) = folder();
    let mut appender = Appender::new(path.clone(), 15, 3, false);
    appender.append(b"head\n", b"one\n").unwrap();
    let moved = path.with_extension("moved");
    fs::rename(&path, &moved).unwrap();
    appender.append(b"head\n", b"two\n").unwrap();
    assert_eq!(
        (text(&moved), text(&path)),
        ("head\none\n".into(), "head\ntwo\n".into())
    );

    fs::remove_file(&path).unwrap();
    appender.append(b"head\n", b"three\n").unwrap();
    assert_eq!(text(&path), "head\nthree\n");

    fs::rename(&moved, &path).unwrap();
    appender.append(b"head\n", b"four\n").unwrap();
    assert_eq!(
        text(&path),
        "head\none\nfour\n",
        "another file was put in its place"
    );

    fs::write(&path, "").unwrap();
    appender.append(b"head\n", b"five\n").unwrap();
    assert_eq!(text(&path), "head\nfive\n");
    assert!(
        !rolled(&path, 1).exists(),
        "each was below the size to roll at"
    );
}

#[test]
fn nothing_is_lost_over_many_openings() {
    let (_folder, path) = folder();
    let mut expected = String::new();
    for number in 0..300 {
        let record = format!("{number}\n");
        Appender::new(path.clone(), 100, 50, number % 7 == 0)
            .append(b"", record.as_bytes())
            .unwrap();
        expected += &record;
    }
    let mut found = text(&path);
    let rolled_files = (1..).map(|number| rolled(&path, number));
    for file in rolled_files.take_while(|file| file.exists()) {
        assert!(fs::metadata(&file).unwrap().len() <= 100);
        found.insert_str(0, &text(&file));
    }
    assert_eq!(found, expected);
}

/// Set where this test program runs as the child that is to be killed or to fill its disk: the file to write to.
const CHILD: &str = "DATAFLUX_TEST_CHILD";

/// This test program again, with one test only, which finds the path in its environment.
fn child(test: &str, path: &Path) -> Command {
    // A file beyond the limit is an error then, and no signal.
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"trap '' XFSZ; exec "$@""#, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("loggers::file::tests::{test}")])
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
    let mut appender = appender(&path);
    let record = "x".repeat(299) + "\n";
    for _ in 0..3 {
        appender.append(b"", record.as_bytes()).unwrap();
    }
    for _ in 0..3 {
        let error = format!("{:#}", appender.append(b"", record.as_bytes()).unwrap_err());
        assert!(error.contains("only 100 of 300 bytes fitted"), "{error}");
        assert_eq!(text(&path), record.repeat(3));
    }
    setrlimit(Resource::Fsize, limit).unwrap();
    for _ in 0..2 {
        appender.append(b"", record.as_bytes()).unwrap();
    }
    assert_eq!(text(&path), record.repeat(5));
}

/// A long record that says what it is at both ends.
fn numbered(number: u64) -> String {
    format!("{number} {} {number}\n", "z".repeat(300_000))
}

#[test]
fn kills_leave_no_torn_line_between_whole_ones() {
    if let Some(path) = env::var_os(CHILD).map(PathBuf::from) {
        let mut appender = Appender::new(path, 4 << 20, 100, false);
        for number in 0.. {
            appender.append(b"", numbered(number).as_bytes()).unwrap();
        }
    }
    let (_folder, path) = folder();
    for round in 0..12 {
        let mut child = child("kills_leave_no_torn_line_between_whole_ones", &path)
            .spawn()
            .unwrap();
        // The folder may hold more files for each round: wait until this one has written.
        let before = bytes(&path);
        while bytes(&path) < before + 1_000_000 {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the child writes until it is killed"
            );
            thread::sleep(Duration::from_millis(1));
        }
        // Not always at the same place of a record.
        thread::sleep(Duration::from_micros(37 * round));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
    appender(&path).append(b"", b"end\n").unwrap();
    let mut lines = 0;
    for file in files(&path) {
        for line in text(&file)
            .split_inclusive('\n')
            .filter(|&line| line != "end\n")
        {
            let (number, _) = line.split_once(' ').unwrap();
            assert!(
                line == numbered(number.parse().unwrap()),
                "torn in {}",
                file.display()
            );
            lines += 1;
        }
    }
    assert!(lines >= 12 * 3, "{lines} lines");
}

fn files(path: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(path.parent().unwrap()).unwrap();
    folder.map(|entry| entry.unwrap().path()).collect()
}

/// Bytes of all files; those that are renamed meanwhile do not matter.
fn bytes(path: &Path) -> u64 {
    files(path)
        .iter()
        .filter_map(|file| Some(fs::metadata(file).ok()?.len()))
        .sum()
}
