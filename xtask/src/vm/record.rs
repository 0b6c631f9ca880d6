//! `docs/reference/kernels.md`: what works on which kernel, from a run of guests.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use super::guest::{Outcome, Report};

/// What stands at the beginning of a line in which a test tells how a program fared.
const PROGRAM: &str = "program: ";

/// A table with a column for each kernel.
type Table = BTreeMap<String, BTreeMap<usize, String>>;

/// Reasons, each told once below the tables.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn cell(&mut self, word: &str, reason: &str) -> String {
        let known = self.0.iter().position(|note| note == reason);
        let number = known.unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        });
        format!("{word} ({})", number + 1)
    }
}

/// The document. `runs` are the kernels' names and what their guests said.
pub(crate) fn document(runs: &[(String, &Report)]) -> String {
    let mut notes = Notes::default();
    let mut readers = Table::new();
    let mut programs = Table::new();
    let mut instructions = Table::new();
    for (column, (_, report)) in runs.iter().enumerate() {
        for (reader, cell) in sources(report, &mut notes) {
            readers.entry(reader).or_default().insert(column, cell);
        }
        for told in told(report) {
            let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
            let row = format!("`{}` `{}`", text("reader"), text("program"));
            let outcome = text("outcome");
            let cell = match outcome.strip_prefix("unsupported (") {
                Some(reason) => notes.cell("unsupported", reason.trim_end_matches(')')),
                None => outcome,
            };
            programs
                .entry(row.clone())
                .or_default()
                .insert(column, cell);
            let number = told["instructions"].as_u64();
            let number = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            instructions.entry(row).or_default().insert(column, number);
        }
    }
    let mut text = String::from(INTRODUCTION);
    text += &tests(runs, &mut notes);
    let names: Vec<_> = runs.iter().map(|(name, _)| name.as_str()).collect();
    text += "\n## Readers\n\nThe status of each reader's first envelope, and what the kernel does not give.\n\n";
    text += &table("reader", &names, &readers);
    text += "\n## Programs\n\n";
    text += &table("reader and program", &names, &programs);
    text += VERIFIER;
    text += &table("reader and program", &names, &instructions);
    text += "\n## Reasons\n\n";
    for (number, note) in (1..).zip(&notes.0) {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{number}. {note}");
    }
    text
}

const INTRODUCTION: &str = "# Kernels

Written by `cargo xtask kernel-test --record` with `--vm KERNEL...` or `--matrix`: every kernel test as root in guests that
run these kernels of Debian, with a virtio disk, null_blk, network namespaces with veth, cgroups of both versions, and two
processors emulated by one thread. A name is a series; the cloud flavour on x86_64 if it says nothing else. All of them run the
same kernel objects.
Big-endian and 32-bit machines are out of scope.
";

const VERIFIER: &str = "
## The verifier's work

Instructions that the verifier went through for a program, over all branches. Kernels tell since Linux 5.16; `-` is one that does
not, or a program that is not loaded. The test `verifier::no_program_comes_near_the_verifiers_limits` states the bound that none
may exceed.

";

fn tests(runs: &[(String, &Report)], notes: &mut Notes) -> String {
    let mut text =
        String::from("\n| kernel | release | passed | failed | skipped |\n|---|---|---|---|---|\n");
    for (name, report) in runs {
        let count = |wanted: &Outcome| {
            report
                .tests
                .iter()
                .filter(|test| test.outcome == *wanted)
                .count()
        };
        let skipped: Vec<_> = report
            .tests
            .iter()
            .filter_map(|test| match &test.outcome {
                Outcome::Skipped(why) => Some(notes.cell(&format!("`{}`", test.name), why)),
                Outcome::Ok | Outcome::Failed => None,
            })
            .collect();
        let _infallible = writeln!(
            text,
            "| {name} | {} | {} | {} | {} |",
            report.release,
            count(&Outcome::Ok),
            count(&Outcome::Failed),
            skipped.join(", ")
        );
    }
    text
}

/// Each reader of the envelope that the guest printed.
fn sources(report: &Report, notes: &mut Notes) -> Vec<(String, String)> {
    let printed = report
        .commands
        .iter()
        .find(|ran| ran.line.contains(" once "));
    let envelope: Value = printed
        .and_then(|ran| serde_json::from_str(ran.stdout.lines().next()?).ok())
        .unwrap_or_default();
    let cell = |source: &Value| {
        let text = |name: &str| source[name].as_str().unwrap_or_default();
        let lacking: Vec<_> = source["unsupported"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let status = match (text("status"), text("reason")) {
            (status, "") => status.to_owned(),
            (status, reason) => notes.cell(status, reason),
        };
        let cell = match lacking.as_slice() {
            [] => status,
            lacking => format!("{status}, without `{}`", lacking.join("`, `")),
        };
        (format!("`{}`", text("reader")), cell)
    };
    envelope["sources"]
        .as_array()
        .into_iter()
        .flatten()
        .map(cell)
        .collect()
}

/// What the tests of a guest told of programs.
fn told(report: &Report) -> impl Iterator<Item = Value> {
    let lines = report.tests.iter().flat_map(|test| test.output.lines());
    lines.filter_map(|line| {
        let (_, told) = line.split_once(PROGRAM)?;
        serde_json::from_str(told).ok()
    })
}

fn table(what: &str, columns: &[&str], rows: &Table) -> String {
    let mut text = format!(
        "| {what} | {} |\n|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len() + 1)
    );
    for (row, cells) in rows {
        let cell = |column| cells.get(&column).map_or("-", String::as_str);
        let cells: Vec<_> = (0..columns.len()).map(cell).collect();
        let _infallible = writeln!(text, "| {row} | {} |", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::guest::Test;

    #[test]
    fn programs_are_rows_and_reasons_are_told_once() {
        let line = |program: &str, outcome: &str, instructions: Value| {
            let told = serde_json::json!({"reader": "network", "program": program, "outcome": outcome, "instructions": instructions});
            format!("test verifier ... program: {told}\n")
        };
        let lacking = "unsupported (this kernel has no reasons)";
        let test = |output: String| Test {
            name: "verifier::a".into(),
            outcome: Outcome::Ok,
            seconds: 0.0,
            output,
        };
        let report = |output: String| Report {
            release: "6.1.0".into(),
            tests: vec![test(output)],
            ..Report::default()
        };
        let old =
            report(line("xmit", "ok", Value::Null) + &line("kfree_skb", lacking, Value::Null));
        let new = report(line("xmit", "ok", 321.into()));
        let text = document(&[("5.10".into(), &old), ("6.1".into(), &new)]);
        assert!(
            text.contains("| `network` `kfree_skb` | unsupported (1) | - |"),
            "{text}"
        );
        assert!(text.contains("| `network` `xmit` | ok | ok |"), "{text}");
        assert!(text.contains("| `network` `xmit` | - | 321 |"), "{text}");
        assert!(text.contains("1. this kernel has no reasons\n"), "{text}");
        assert!(text.contains("| 6.1 | 6.1.0 | 1 | 0 |  |"), "{text}");
    }
}
