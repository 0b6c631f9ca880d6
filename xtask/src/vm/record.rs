//! What a run of a guest adds to the record: its tests, and what they and the probe tell of readers and programs.

use serde_json::Value;

use super::{
    document::{Cell, Cells, Column},
    guest::{Outcome, Report},
    name::Name,
};

/// What stands at the beginning of a line in which a test tells how a program fared.
const PROGRAM: &str = "program: ";

/// A kernel's column; `None` if its guest did not come to its end, so that nobody knows what is missing.
pub(crate) fn column(name: &Name, report: &Report) -> Option<Column> {
    if !report.complete {
        return None;
    }
    let mut column = Column {
        name: name.clone(),
        release: report.release.clone(),
        passed: 0,
        failed: Vec::new(),
        skipped: Vec::new(),
        left_out: report.left_out,
        readers: readers(report),
        programs: Cells::new(),
        verifier: Cells::new(),
    };
    for test in &report.tests {
        let name = format!("`{}`", test.name);
        match &test.outcome {
            Outcome::Ok => column.passed += 1,
            Outcome::Failed => column.failed.push(Cell::new(&name, None)),
            Outcome::Skipped(why) => column.skipped.push(Cell::new(&name, Some(why))),
        }
    }
    for told in told(report) {
        let text = |name: &str| told[name].as_str().unwrap_or_default();
        let row = format!("`{}` `{}`", text("reader"), text("program"));
        let outcome = text("outcome");
        let reason = outcome
            .strip_prefix("unsupported (")
            .and_then(|reason| reason.strip_suffix(')'));
        let cell = match reason {
            Some(reason) => Cell::new("unsupported", Some(reason)),
            None => Cell::new(outcome, None),
        };
        column.programs.insert(row.clone(), cell);
        let numbers = ["instructions", "states", "peak_states"].map(|name| told[name].as_u64());
        if let [Some(instructions), Some(states), Some(peak)] = numbers {
            let cell = Cell::new(&format!("{instructions} / {states} / {peak}"), None);
            column.verifier.insert(row, cell);
        }
    }
    Some(column)
}

/// Each reader of the envelope that the guest printed.
fn readers(report: &Report) -> Cells {
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
        let reason = Some(text("reason")).filter(|reason| !reason.is_empty());
        let mut cell = Cell::new(text("status"), reason);
        if !lacking.is_empty() {
            cell.rest = format!(", without `{}`", lacking.join("`, `"));
        }
        (format!("`{}`", text("reader")), cell)
    };
    let sources = envelope["sources"].as_array().into_iter().flatten();
    sources.map(cell).collect()
}

/// What the tests of a guest told of programs.
fn told(report: &Report) -> impl Iterator<Item = Value> {
    let lines = report.tests.iter().flat_map(|test| test.output.lines());
    lines.filter_map(|line| {
        let (_, told) = line.split_once(PROGRAM)?;
        serde_json::from_str(told).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::guest::{Ran, Test};

    fn report(outcomes: &[Outcome], output: &str) -> Report {
        let test = |(index, outcome): (usize, &Outcome)| Test {
            name: format!("a::{index}"),
            outcome: outcome.clone(),
            seconds: 0.0,
            output: output.to_owned(),
        };
        Report {
            release: "6.1.0".into(),
            tests: outcomes.iter().enumerate().map(test).collect(),
            complete: true,
            ..Report::default()
        }
    }

    fn column_of(report: &Report) -> Column {
        column(&"6.1".parse().unwrap(), report).unwrap()
    }

    #[test]
    fn tests_are_counted_and_named() {
        let why = Outcome::Skipped("too old".into());
        let column = column_of(&report(
            &[Outcome::Ok, Outcome::Failed, why, Outcome::Ok],
            "",
        ));
        assert_eq!(column.passed, 2);
        assert_eq!(column.failed, [Cell::new("`a::1`", None)]);
        assert_eq!(column.skipped, [Cell::new("`a::2`", Some("too old"))]);
    }

    #[test]
    fn programs_and_readers_are_those_that_the_guest_told_of() {
        let line = |program: &str, outcome: &str, number: Value| {
            let told = serde_json::json!({"reader": "network", "program": program, "outcome": outcome,
                "instructions": number, "states": number, "peak_states": number});
            format!("test verifier ... program: {told}\n")
        };
        let lacking = "unsupported (this kernel has no (good) reasons)";
        let output = line("xmit", "ok", 321.into()) + &line("kfree_skb", lacking, Value::Null);
        let mut report = report(&[Outcome::Ok], &output);
        let envelope = serde_json::json!({"sources": [
            {"reader": "network", "status": "ok", "unsupported": ["network.drops"]},
        ]});
        report.commands.push(Ran {
            line: "/bin/dataflux-probe once --window 2s".into(),
            success: true,
            status: String::new(),
            stdout: format!("{envelope}\n"),
            stderr: String::new(),
        });
        let column = column_of(&report);
        let xmit = &column.verifier["`network` `xmit`"];
        assert_eq!(*xmit, Cell::new("321 / 321 / 321", None));
        assert!(!column.verifier.contains_key("`network` `kfree_skb`"));
        let reason = Some("this kernel has no (good) reasons");
        let kfree_skb = &column.programs["`network` `kfree_skb`"];
        assert_eq!(*kfree_skb, Cell::new("unsupported", reason));
        let network = &column.readers["`network`"];
        assert_eq!(network.rest, ", without `network.drops`");
    }

    #[test]
    fn a_guest_that_ended_early_is_not_recorded() {
        let mut early = report(&[Outcome::Ok], "");
        early.complete = false;
        assert_eq!(column(&"6.1".parse().unwrap(), &early), None);
    }
}
