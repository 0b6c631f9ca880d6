//! Files of other formats than JSON after kills of the real program, read by parsers that are not ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use dataflux_tests::probe::{Probe, until};

/// How often the program is started.
const ROUNDS: u64 = 6;
/// After which kill the end of the file is cut off, as a full disk or a power cut would do it.
const CUT: u64 = 3;

fn config(format: &str) -> String {
    format!(
        "[probe]\ninterval = '100ms'\n[metrics.memory]\n[output.main]\nformatter = '{format}'\nlogger = 'file'\n\
         zeros = 'keep'\nfile.path = 'DIR/records'\nfile.roll_bytes = 0\n"
    )
}

/// Starts it and kills it, again and again, anywhere within a tick; stops it in the end.
fn kill_and_mend(format: &str) -> Probe {
    let mut probe = Probe::prepare(&config(format));
    let path = probe.path("records");
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    for round in 0..ROUNDS {
        let before = length(&path);
        probe.restart();
        let mut changes = BTreeSet::new();
        until("records", || {
            let now = length(&path);
            if now > before {
                changes.insert(now);
            }
            (changes.len() > 2).then_some(())
        });
        thread::sleep(Duration::from_millis(17 * round));
        if round + 1 == ROUNDS {
            probe.stop();
        } else {
            probe.kill();
        }
        if round == CUT {
            let file = File::options().write(true).open(&path);
            file.and_then(|file| file.set_len(length(&path) - 7))
                .expect("it is longer than that");
        }
    }
    probe
}

/// Each number of every stream is there once, from the first one on; only in one stream the last may be cut off, of which
/// nobody can tell.
fn check(records: &[(String, u64)]) {
    let mut streams: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (stream, number) in records {
        streams.entry(stream).or_default().push(*number);
    }
    assert_eq!(streams.len() as u64, ROUNDS, "{streams:?}");
    for (stream, numbers) in streams {
        let expected: Vec<_> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "{stream}");
    }
}

/// Scenario: a CSV file; SIGKILL after more and more of each start, and once the end of the file is cut off.
/// Guarantees: one header; every row has all columns; every envelope has all its rows, and every number of every start is there.
#[test]
fn a_csv_file_is_whole_after_kills() {
    let probe = kill_and_mend("csv");
    let path = probe.path("records");
    let mut reader = csv::ReaderBuilder::new()
        .flexible(false)
        .from_path(&path)
        .expect("it is there");
    let header = reader.headers().expect("a header").clone();
    let column = |name: &str| {
        header
            .iter()
            .position(|known| known == name)
            .expect("a column")
    };
    let (stream, first) = (column("stream"), column("first"));
    let mut rows: Vec<((String, u64), u32)> = Vec::new();
    let mut all = 0;
    for row in reader.records() {
        let row = row.expect("a whole row");
        let number = row[first].parse().expect("a number");
        let record = (row[stream].to_owned(), number);
        all += 1;
        match rows.last_mut() {
            Some((known, count)) if *known == record => *count += 1,
            _ => rows.push((record, 1)),
        }
    }
    let counts: BTreeSet<_> = rows.iter().map(|(_, count)| count).collect();
    assert_eq!(counts.len(), 1, "an envelope lacks rows: {rows:?}");
    let records: Vec<_> = rows.into_iter().map(|(record, _)| record).collect();
    check(&records);

    let script = "import csv, sys; rows = list(csv.reader(open(sys.argv[1], newline=''), strict=True)); \
                  print(len(rows), len({len(row) for row in rows}))";
    let mut python = Command::new("python3");
    if let Ok(output) = python.args(["-c", script]).arg(&path).output() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.trim(), format!("{} 1", all + 1), "rows and widths");
    }
}

/// Scenario: a MessagePack file; as above.
/// Guarantees: from its beginning to its end it is one whole document after the other; every number of every start is there.
#[test]
fn a_msgpack_file_is_whole_after_kills() {
    let probe = kill_and_mend("msgpack");
    let bytes = fs::read(probe.path("records")).expect("it is there");
    let mut rest = &*bytes;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let document = rmpv::decode::read_value(&mut rest);
        let document = document.unwrap_or_else(|error| panic!("at {at}: {error}"));
        let stream = &document["stream"];
        let id = stream["id"].as_str().expect("an id").to_owned();
        records.push((id, stream["first"].as_u64().expect("a number")));
        assert!(document["sources"][0]["metrics"].is_array(), "at {at}");
    }
    check(&records);
}
