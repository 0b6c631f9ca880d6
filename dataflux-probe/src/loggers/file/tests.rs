//! What is in the files after rolling, kills, full disks, and what other programs do to them.

mod appending;
mod closing;
mod kills;
mod model;

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    super::contract::{check, payload},
    *,
};
use crate::{config::section, plugin::testing};

/// 2026-11-21T22:00:00Z, in ns.
const START: WallTime = 1_795_298_400 * 1_000_000_000;
const MINUTE: WallTime = 60 * 1_000_000_000;
const HOUR: WallTime = 60 * MINUTE;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    (folder, path)
}

/// Of a logger with this path, which is in envelopes of one reader each.
fn settings(path: &Path, options: &str) -> Arc<Settings> {
    let text = format!("path = {path:?}\n{options}");
    let file = section::File::new(Path::new("test.toml"), text);
    let context = Context {
        per_reader: true,
        ..testing::context(Path::new("/nowhere"))
    };
    Arc::new(Settings::new(&file.parse().unwrap(), &context).unwrap())
}

fn appender(path: &Path, options: &str) -> Appender {
    Appender::new(settings(path, options), "web".to_owned(), "cpu".to_owned())
}

/// Appends a record of lines.
fn append(
    appender: &mut Appender,
    now: WallTime,
    header: &str,
    bytes: &str,
) -> anyhow::Result<bool> {
    let record = Record {
        header: header.as_bytes(),
        bytes: bytes.as_bytes(),
        is_text: true,
    };
    appender.append(now, record)
}

fn pass(settings: &Settings, now: WallTime) {
    let pass = keeper::Pass {
        now,
        host: "web".to_owned(),
        is_text: true,
        is_first: true,
    };
    pass.run(settings, &AtomicBool::new(false)).unwrap();
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Files of the folder, in the order of their names.
fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
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
    fs::remove_dir_all(&path).unwrap();
    let result = logger.send(payload("lost?\n")).await;
    assert!(matches!(result, Err(SendError::Retry(_))), "{result:?}");
    fs::create_dir(&path).unwrap();
    logger.send(payload("found\n")).await.unwrap();
    assert_eq!(text(&inside), "found\n");
}

#[tokio::test]
async fn each_reader_has_its_file_and_a_moved_one_is_left_at_once() {
    let (folder, _) = folder();
    let context = Context {
        per_reader: true,
        ..testing::context(folder.path())
    };
    let path = folder.path().join("{host}/{reader}.jsonl");
    let mut logger = PLUGIN
        .build_from(&format!("path = {path:?}"), &context)
        .unwrap();
    logger.open().unwrap();
    let of = |reader, text| Payload {
        readers: vec![reader],
        ..payload(text)
    };
    for (reader, text) in [("cpu", "1\n"), ("memory", "2\n"), ("cpu", "3\n")] {
        logger.send(of(reader, text)).await.unwrap();
    }
    let host = folder.path().join("unknown");
    assert_eq!(listed(&host), ["cpu.jsonl", "memory.jsonl"]);
    assert_eq!(text(&host.join("cpu.jsonl")), "1\n3\n");

    fs::rename(host.join("cpu.jsonl"), host.join("moved")).unwrap();
    let moved = fs::File::open(host.join("moved")).unwrap();
    assert!(moved.try_lock().is_err(), "the logger has it");
    logger.reopen();
    logger.send(of("memory", "4\n")).await.unwrap();
    moved.try_lock().expect("the logger has left it");
    logger.send(of("cpu", "5\n")).await.unwrap();
    assert_eq!(text(&host.join("moved")), "1\n3\n");
    assert_eq!(text(&host.join("cpu.jsonl")), "5\n");
}

#[test]
fn configuration_errors_are_told() {
    for (config, error) in [
        ("", "missing field `path`"),
        ("path = '/'", "is not the path of a file"),
        ("path = '/x/..'", "is not the path of a file"),
        ("path = '/proc'", "is a folder; name a file in it"),
        ("path = '/x/y/'", "is a folder; name a file in it"),
        ("path = '/x/{date}/../y'", "has `..` after a placeholder"),
        (
            "path = '/x/{day}'",
            "{day} is not {host}, {date} or {reader}",
        ),
        ("path = '/x/{date'", "has a `{` without a `}`"),
        (
            "path = '/x/{reader}'",
            "{reader} needs envelope = \"per_reader\"",
        ),
        (
            &format!("path = '/x/{}'", "y".repeat(230)),
            "leaves no room",
        ),
        ("path = '/x'\nsync = 'never'", "unknown variant `never`"),
        ("path = '/x'\nkept = 3", "kept: unknown key"),
        ("path = '/x'\nroll_every = '10ms'", "must be at least 1s"),
        ("path = '/x'\ncompress = 'xz'", "unknown variant `xz`"),
        ("path = '/x'\nfile_mode = 'rw'", "is not a mode like"),
        ("path = '/x'\nfile_mode = '01777'", "is not a mode like"),
        ("path = '/x'\nfile_mode = '0044'", "the owner needs 0600"),
        ("path = '/x'\nfolder_mode = '0640'", "the owner needs 0700"),
    ] {
        let told = format!("{:#}", build(config).err().unwrap());
        assert!(told.contains(error), "{config}: {told}");
    }
}

#[test]
fn claims_cover_closed_files_and_whatever_placeholders_become() {
    let claims = |path: &str| settings(Path::new(path), "").template.claims();
    assert_eq!(
        claims("/var//log/./x/../y.jsonl"),
        ["/var/log/y.jsonl", "/var/log/y-{time}.jsonl"]
    );
    assert_eq!(claims("/x/{host}/{date}")[0], "/x/{host}/{date}");
    let readers = claims("/x/{reader}.csv");
    assert!(readers.contains(&"/x/cpu.csv".to_owned()), "{readers:?}");
    assert!(
        readers.contains(&"/x/memory-{time}.csv".to_owned()),
        "{readers:?}"
    );
    let relative = build("path = 'x'").unwrap().claims();
    let current = std::env::current_dir().unwrap();
    assert_eq!(relative[0], current.join("x").display().to_string());
}

#[test]
fn without_other_limits_a_few_closed_files_stay() {
    let keep = |options| settings(Path::new("/x"), options).limits.keep;
    assert_eq!(keep(""), Some(KEEP));
    assert_eq!(keep("keep = 7\nkeep_age = '1d'"), Some(7));
    assert_eq!(keep("keep_age = '1d'"), None);
    assert_eq!(keep("keep_bytes = '1MiB'"), None);
}

#[test]
fn modes_are_exact_where_they_are_written() {
    let (folder, _) = folder();
    let path = folder.path().join("{date}").join("log");
    let mut appender = appender(&path, "file_mode = '0666'\nfolder_mode = '0777'");
    append(&mut appender, START, "", "one\ntwo\n").unwrap();
    let day = folder.path().join("2026-11-21");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&day), 0o777);
    for name in ["log", ".log.end"] {
        assert_eq!(mode(&day.join(name)), 0o666, "{name}");
    }
}

#[test]
fn what_stands_in_names_cannot_lead_out_of_the_folder() {
    for (value, expected) in [
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("..", "_."),
        ("", "unknown"),
        (".hidden", "_hidden"),
        ("a b\n\0c", "a_b__c"),
        ("\u{e4}", "_"),
    ] {
        let plain = names::plain(value);
        assert_eq!(plain, expected, "{value:?}");
        assert!(!plain.contains('/'));
    }
    assert_eq!(names::plain(&"x".repeat(300)).len(), 64);
}
