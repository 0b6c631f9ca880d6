//! Closed files: compressed, mended, removed when they are too many, and nothing else is touched.

use std::io::Read;

use super::super::{
    closed::{Closed, surplus},
    names::Values,
};
use super::*;

/// What a file held before it was compressed.
fn unpacked(path: &Path) -> String {
    let file = fs::File::open(path).unwrap();
    let mut text = String::new();
    if path.extension().unwrap() == "gz" {
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
    } else {
        let mut decoder = zstd::stream::read::Decoder::new(file).unwrap();
        decoder.read_to_string(&mut text).unwrap();
    }
    text
}

/// Three closed files and an open one.
fn rolled(path: &Path, options: &str) -> Arc<Settings> {
    let options = format!("roll_bytes = 10\n{options}");
    let settings = settings(path, &options);
    let mut appender = appender(path, &options);
    for number in 0..4 {
        let record = format!("record {number}\n");
        append(&mut appender, START + number * HOUR, "", &record).unwrap();
    }
    settings
}

#[test]
fn closed_files_are_compressed_and_the_open_one_is_not() {
    for (compress, suffix) in [("gzip", "gz"), ("zstd", "zst")] {
        let (folder, _) = folder();
        let path = folder.path().join("log.jsonl");
        let settings = rolled(&path, &format!("compress = '{compress}'"));
        pass(&settings, START);
        let names = listed(folder.path());
        let expected = [
            format!("log-20261121T220000.000Z.jsonl.{suffix}"),
            format!("log-20261121T230000.000Z.jsonl.{suffix}"),
            format!("log-20261122T000000.000Z.jsonl.{suffix}"),
            "log.jsonl".to_owned(),
        ];
        assert_eq!(names, expected);
        for (number, name) in names[..3].iter().enumerate() {
            let path = folder.path().join(name);
            assert_eq!(unpacked(&path), format!("record {number}\n"));
        }
        assert_eq!(text(&path), "record 3\n");
    }
}

/// A kill after each step of a compression.
#[test]
fn an_interrupted_compression_is_finished() {
    for step in 0..3 {
        let (folder, path) = folder();
        let settings = rolled(&path, "compress = 'zstd'\nkeep = 3");
        let closed = folder.path().join("log-20261121T220000.000Z");
        let packed = names::packed(&closed, ".zst");
        match step {
            // Within writing.
            0 => fs::write(names::part(&packed), "half").unwrap(),
            // Before the file was removed; its packed one counts as the same.
            1 => {
                let copy = folder.path().join("copy");
                fs::copy(&closed, &copy).unwrap();
                let modified = fs::metadata(&closed).unwrap().modified().unwrap();
                let never = AtomicBool::new(false);
                let replaced = settings.compress.replace(&closed, settings.modes, &never);
                assert!(replaced.unwrap());
                fs::rename(&copy, &closed).unwrap();
                let file = fs::File::options().append(true).open(&closed).unwrap();
                file.set_modified(modified).unwrap();
            }
            // The file is gone, and its part is of no use.
            _ => {
                fs::remove_file(&closed).unwrap();
                fs::write(names::part(&packed), "half").unwrap();
            }
        }
        pass(&settings, START);
        let names = listed(folder.path());
        assert!(
            names
                .iter()
                .all(|name| name == "log" || name.ends_with(".zst")),
            "{names:?}"
        );
        assert_eq!(names.len(), if step == 2 { 3 } else { 4 }, "{names:?}");
        if step < 2 {
            assert_eq!(unpacked(&packed), "record 0\n");
        }
    }
}

/// A graceful stop while a large file is compressed.
#[tokio::test]
async fn a_stop_leaves_a_compression_to_the_next_start() {
    let (folder, path) = folder();
    let closed = folder.path().join("log-20261121T220000.000Z");
    let large = 8 << 30;
    fs::File::create(&closed).unwrap().set_len(large).unwrap();
    let part = names::part(&names::packed(&closed, ".gz"));
    let mut logger = build(&format!("path = {path:?}\ncompress = 'gzip'")).unwrap();
    logger.open().unwrap();
    logger.send(payload("one\n")).await.unwrap();
    while !part.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    logger.close().await.unwrap();
    assert_eq!(listed(folder.path()), ["log", "log-20261121T220000.000Z"]);
    assert_eq!(fs::metadata(&closed).unwrap().len(), large);
    // The rest of it need not take long.
    fs::File::create(&closed).unwrap();
    let settings = settings(&path, "compress = 'gzip'");
    pass(&settings, START);
    assert_eq!(
        listed(folder.path()),
        ["log", "log-20261121T220000.000Z.gz"]
    );
}

#[test]
fn files_beyond_the_limits_are_removed_and_foreign_ones_are_not() {
    let foreign = [
        "log.1",
        "log-20261121.gz",
        "log-20261121T220000.000Z.old",
        "other-20261121T220000.000Z",
        ".log.tail",
    ];
    for (options, left) in [
        ("keep = 2", 2),
        ("keep = 100", 3),
        ("keep_age = '90m'", 1),
        ("keep_bytes = 20", 2),
        ("keep_bytes = 0", 0),
        ("keep = 2\nkeep_age = '90m'", 1),
    ] {
        let (folder, path) = folder();
        let settings = rolled(&path, options);
        for name in foreign {
            fs::write(folder.path().join(name), "not ours").unwrap();
        }
        pass(&settings, START + 3 * HOUR);
        let mut names = listed(folder.path());
        names.retain(|name| !foreign.contains(&&**name));
        let newest: Vec<_> = [
            "20261121T220000.000Z",
            "20261121T230000.000Z",
            "20261122T000000.000Z",
        ]
        .iter()
        .skip(3 - left)
        .map(|time| format!("log-{time}"))
        .collect();
        assert_eq!(names[0], "log");
        assert_eq!(names[1..], newest, "{options}");
        for name in foreign {
            assert_eq!(text(&folder.path().join(name)), "not ours");
        }
    }
}

#[test]
fn where_the_probe_closes_nothing_it_removes_nothing() {
    let (folder, path) = folder();
    let settings = settings(&path, "roll_bytes = 0\nkeep = 0");
    fs::write(folder.path().join("log-20261121T220000.000Z"), "left").unwrap();
    let mut keeper = Keeper::new(settings);
    keeper.tend(START, "web", true, true);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(listed(folder.path()).len(), 1);
}

#[test]
fn days_of_each_reader_are_kept_and_what_a_kill_tore_in_them_is_mended() {
    let (folder, _) = folder();
    let path = folder.path().join("{host}/{date}/{reader}.csv");
    let options = "keep = 2\ncompress = 'gzip'";
    let settings = settings(&path, options);
    for reader in ["cpu", "memory"] {
        let mut appender = Appender::new(Arc::clone(&settings), "web".into(), reader.into());
        for day in 0..4 {
            append(&mut appender, START + day * 24 * HOUR, "", "one\ntwo\n").unwrap();
        }
    }
    // Another probe's, in the same place.
    fs::create_dir_all(folder.path().join("db/2026-11-21")).unwrap();
    fs::write(folder.path().join("db/2026-11-21/cpu.csv"), "whole\ntorn").unwrap();
    // Torn, and only by what was announced one can see it.
    let host = folder.path().join("web");
    let torn = host.join("2026-11-24/cpu.csv");
    fs::File::options()
        .write(true)
        .open(&torn)
        .unwrap()
        .set_len(4)
        .unwrap();

    pass(&settings, START + 4 * 24 * HOUR);
    assert_eq!(listed(&host), ["2026-11-23", "2026-11-24"]);
    for day in ["2026-11-23", "2026-11-24"] {
        assert_eq!(listed(&host.join(day)), ["cpu.csv.gz", "memory.csv.gz"]);
    }
    assert_eq!(unpacked(&host.join("2026-11-24/cpu.csv.gz")), "");
    assert_eq!(unpacked(&host.join("2026-11-23/cpu.csv.gz")), "one\ntwo\n");
    let foreign = folder.path().join("db/2026-11-21/cpu.csv");
    assert_eq!(text(&foreign), "whole\ntorn");
}

#[test]
fn a_day_that_comes_again_is_compressed_beside_itself() {
    let (folder, _) = folder();
    let path = folder.path().join("{date}.csv");
    let settings = settings(&path, "compress = 'gzip'");
    let mut appender = Appender::new(Arc::clone(&settings), "web".into(), String::new());
    let mut known = Vec::new();
    for round in 0..2 {
        append(&mut appender, START, "", &format!("{round}\n")).unwrap();
        append(&mut appender, START + 2 * HOUR, "", "next day\n").unwrap();
        pass(&settings, START + 2 * HOUR);
        let packed = listed(folder.path())
            .into_iter()
            .filter(|name| name.ends_with(".gz"));
        known = packed
            .map(|name| unpacked(&folder.path().join(name)))
            .collect();
        known.sort();
    }
    assert_eq!(known, ["0\n", "1\n"]);
}

#[test]
fn a_closed_file_that_somebody_holds_waits() {
    let (folder, path) = folder();
    let settings = rolled(&path, "compress = 'gzip'");
    let closed = folder.path().join("log-20261121T220000.000Z");
    let held = fs::File::open(&closed).unwrap();
    held.lock().unwrap();
    pass(&settings, START);
    assert!(closed.exists());
    held.unlock().unwrap();
    pass(&settings, START);
    assert!(!closed.exists());
}

#[tokio::test]
async fn a_logger_looks_after_its_closed_files() {
    let (folder, path) = folder();
    let config = format!("path = {path:?}\nroll_bytes = 10\nkeep = 2\ncompress = 'zstd'");
    let mut logger = build(&config).unwrap();
    for number in 0..6 {
        logger
            .send(payload(format!("record {number}\n")))
            .await
            .unwrap();
    }
    let begin = std::time::Instant::now();
    loop {
        let names = listed(folder.path());
        let packed = names.iter().filter(|name| name.ends_with("Z.zst")).count();
        if packed == 2 && names.len() == 3 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{names:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn surplus_counts_for_each_reader_and_bytes_for_all() {
    let file = |number: u32, reader: &str, bytes| Closed {
        path: format!("{number}").into(),
        time: names::stamp(START + WallTime::from(number) * HOUR),
        values: Values {
            host: "web".into(),
            date: String::new(),
            reader: reader.into(),
        },
        bytes,
        packed: false,
        is_named: true,
        modified: START,
    };
    let files = [
        file(0, "a", 1),
        file(1, "b", 2),
        file(2, "a", 4),
        file(3, "a", 8),
    ];
    let removed = |keep, age: Option<WallTime>, bytes| -> Vec<String> {
        let limits = Limits { keep, age, bytes };
        let surplus = surplus(&files, limits, START + 3 * HOUR);
        surplus
            .iter()
            .map(|file| file.path.display().to_string())
            .collect()
    };
    assert_eq!(removed(None, None, None), [""; 0]);
    assert_eq!(removed(Some(1), None, None), ["0", "2"]);
    assert_eq!(removed(None, Some(2 * HOUR), None), ["0"]);
    assert_eq!(removed(None, Some(WallTime::MAX), None), [""; 0]);
    assert_eq!(removed(None, None, Some(12)), ["0", "1"]);
    // What the other limits take away is not counted.
    assert_eq!(removed(Some(2), None, Some(14)), ["0"]);
}
