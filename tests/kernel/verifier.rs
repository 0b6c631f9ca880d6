//! What the running kernel's verifier had to do for every program, against bounds of its own.

use std::{collections::BTreeMap, fs};

use dataflux_probe::{kernel::load::Outcome, metrics::REGISTRY, plugin::Roots};

use crate::{
    harness::{Attached, machine},
    verifier_log::{self, Statistics},
};

/// The most that the verifier may do for one program, over all branches; about twice what the largest one needs on any kernel of
/// the matrix. The oldest kernels refuse what needs a million instructions.
const MOST: Statistics = Statistics {
    instructions: 13_000,
    states: 700,
    peak_states: 500,
};

/// Length of a program's name in the kernel, without the zero at its end.
const NAME_LENGTH: usize = 15;

/// With every program there is.
const SECTIONS: [(&str, &str); 3] = [
    ("block_io", "issue_stamps = \"always\""),
    ("network", ""),
    ("scheduler", ""),
];

/// Scenario: every reader loads all of its programs.
/// Guarantees: none asks more of the verifier than the bounds. The test prints how each program fared as lines of JSON, from
/// which `docs/reference/kernels.md` is made.
#[test]
fn no_program_comes_near_the_verifiers_limits() {
    let Some(_machine) = machine() else { return };
    let all = REGISTRY
        .iter()
        .filter(|plugin| !plugin.needs.attach.is_empty());
    let names: Vec<_> = all.map(|plugin| plugin.name).collect();
    assert_eq!(
        names,
        SECTIONS.map(|(reader, _)| reader),
        "readers with programs"
    );
    let statistics = statistics();
    for (reader, section) in SECTIONS {
        let (_attached, outcomes) = match Attached::on(Roots::default(), reader, section) {
            Ok((attached, outcomes)) => (Some(attached), outcomes),
            Err((_, outcomes)) => (None, outcomes),
        };
        assert!(!outcomes.is_empty(), "{reader} has no program");
        for program in outcomes {
            let name = &program.program[..program.program.len().min(NAME_LENGTH)];
            let told = statistics.get(name).copied();
            let line = serde_json::json!({
                "reader": program.reader, "program": program.program,
                "outcome": program.outcome.health().to_string(),
                "instructions": told.map(|told| told.instructions),
                "states": told.map(|told| told.states),
                "peak_states": told.map(|told| told.peak_states),
            });
            println!("program: {line}");
            assert!(
                !matches!(program.outcome, Outcome::Failed(_) | Outcome::Denied(_)),
                "{line}"
            );
            assert_eq!(told.is_some(), program.outcome == Outcome::Ok, "{line}");
            let within = told.is_none_or(|told| {
                told.instructions <= MOST.instructions
                    && told.states <= MOST.states
                    && told.peak_states <= MOST.peak_states
            });
            assert!(within, "{line}: more than {MOST:?}");
        }
    }
}

fn statistics() -> BTreeMap<String, Statistics> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("probe.toml");
    let readers = SECTIONS.map(|(reader, section)| format!("[metrics.{reader}]\n{section}\n"));
    let output = "[output.main]\nformatter = \"json\"\nlogger = \"stdout\"\n";
    fs::write(&path, readers.concat() + output).expect("a configuration");
    verifier_log::of_programs(&path)
}
