//! Any order of records, restarts, kills and passes against a model: what is kept is the newest part of what was written, whole
//! and in order.

use proptest::prelude::*;

use super::*;

const ROLL_BYTES: usize = 40;
const KEEP_BYTES: u64 = 90;

#[derive(Debug, Clone)]
enum Step {
    /// A record of so many lines, so much later or earlier.
    Append {
        lines: usize,
        after: WallTime,
    },
    /// The file ends so many bytes into the last record.
    Kill {
        written: usize,
    },
    Restart,
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![
        4 => 0..2 * MINUTE,
        2 => 0..2 * HOUR,
        1 => -HOUR..0,
    ];
    prop_oneof![
        8 => (1_usize..4, after).prop_map(|(lines, after)| Step::Append { lines, after }),
        1 => (0_usize..30).prop_map(|written| Step::Kill { written }),
        1 => Just(Step::Restart),
        2 => Just(Step::Pass),
    ]
}

/// The closed files and the open one, in the order of their names.
fn files(folder: &Path) -> Vec<String> {
    let mut names = listed(folder);
    names.retain(|name| !name.starts_with('.'));
    names
}

/// What closed files keep: as many and as many bytes as they may, of those that were there at passes.
fn check(
    folder: &Path,
    written: &[String],
    keep: usize,
    has_passed: bool,
) -> Result<(), TestCaseError> {
    let names = files(folder);
    let mut found = String::new();
    for name in &names {
        let text = text(&folder.join(name));
        let records = text
            .strip_prefix("head\n")
            .unwrap_or_else(|| panic!("{name}: {text:?}"));
        let is_single = written.iter().any(|record| record == records);
        prop_assert!(
            text.len() <= ROLL_BYTES || is_single || records.is_empty(),
            "{}",
            text
        );
        found += records;
    }
    let all = written.concat();
    prop_assert!(
        all.ends_with(&found),
        "{all:?} does not end with {found:?} in {names:?}"
    );
    if has_passed {
        let closed = names.iter().filter(|name| name.starts_with("log-"));
        let bytes: u64 = closed
            .clone()
            .map(|name| fs::metadata(folder.join(name)).unwrap().len())
            .sum();
        prop_assert!(closed.count() <= keep && bytes <= KEEP_BYTES);
    } else if !written.is_empty() {
        prop_assert!(found.ends_with(&written[written.len() - 1]));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_the_newest_of_what_was_written(
        steps in prop::collection::vec(step(), 1..40),
        keep in 0_usize..4,
        every in prop_oneof![Just(""), Just("roll_every = '1h'")],
    ) {
        let folder = tempfile::tempdir().unwrap();
        // Sorts behind the closed ones.
        let path = folder.path().join("log.csv");
        let options = format!("roll_bytes = {ROLL_BYTES}\nkeep = {keep}\nkeep_bytes = {KEEP_BYTES}\n{every}");
        let settings = settings(&path, &options);
        let mut appender = appender(&path, &options);
        let (mut now, mut written) = (START, Vec::<String>::new());
        for (number, step) in steps.into_iter().enumerate() {
            let mut has_passed = false;
            match step {
                Step::Append { lines, after } => {
                    now += after;
                    let record = format!("{number} record\n").repeat(lines);
                    append(&mut appender, now, "head\n", &record).unwrap();
                    written.push(record);
                }
                Step::Kill { written: bytes } => {
                    // A file that holds the last record only may be closed already.
                    if let Some(last) = written.pop() {
                        let length = fs::metadata(&path).unwrap().len() - last.len() as u64;
                        let begin = if length == "head\n".len() as u64 { 0 } else { length };
                        let kept = (begin + bytes as u64).min(length + last.len() as u64);
                        fs::File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();
                        if kept == length + last.len() as u64 {
                            written.push(last);
                        }
                    }
                    appender = Appender::new(Arc::clone(&settings), "web".into(), "cpu".into());
                    // It is mended by the next record.
                    let record = format!("{number} after\nthe kill\n");
                    append(&mut appender, now, "head\n", &record).unwrap();
                    written.push(record);
                }
                Step::Restart => {
                    drop(appender);
                    appender = Appender::new(Arc::clone(&settings), "web".into(), "cpu".into());
                }
                Step::Pass => {
                    pass(&settings, now);
                    has_passed = true;
                }
            }
            check(folder.path(), &written, keep, has_passed)?;
        }
    }
}
