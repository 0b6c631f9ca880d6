//! What the running kernel's verifier had to do for every program, against a bound of its own.

use dataflux_probe::{kernel::load::Outcome, metrics::REGISTRY, plugin::Roots};

use crate::harness::{Attached, machine};

/// The most instructions that the verifier may go through for one program, over all branches; about twice what the largest
/// one needs on any kernel of the matrix. The oldest kernels refuse what needs a million.
const MOST_INSTRUCTIONS: u32 = 13_000;

/// Length of a program's name in the kernel, without the zero at its end.
const NAME_LENGTH: usize = 15;

/// Scenario: every reader loads all of its programs.
/// Guarantees: none asks more of the verifier than the bound, which kernels tell since Linux 5.16. The test prints how each
/// program fared as lines of JSON, from which `docs/reference/kernels.md` is made.
#[test]
fn no_program_comes_near_the_verifiers_limits() {
    let Some(_machine) = machine() else { return };
    let mut told = 0;
    for plugin in REGISTRY {
        let sections: &[&str] = match plugin.name {
            "block_io" => &["issue_stamps = \"always\""],
            _ => &[""],
        };
        for section in sections {
            let attached = Attached::on(Roots::default(), plugin.name, section);
            let (_attached, outcomes) = match attached {
                Ok((attached, outcomes)) => (Some(attached), outcomes),
                Err((_, outcomes)) => (None, outcomes),
            };
            for program in outcomes {
                let instructions = (program.outcome == Outcome::Ok)
                    .then(|| instructions(program.program))
                    .flatten();
                let line = serde_json::json!({
                    "reader": program.reader, "program": program.program,
                    "outcome": program.outcome.health().to_string(), "instructions": instructions,
                });
                println!("program: {line}");
                assert!(
                    !matches!(program.outcome, Outcome::Failed(_) | Outcome::Denied(_)),
                    "{line}"
                );
                assert!(
                    instructions.is_none_or(|number| number <= MOST_INSTRUCTIONS),
                    "{line}: more than {MOST_INSTRUCTIONS}"
                );
                told += 1;
            }
        }
    }
    assert!(told > 0, "no reader has a program");
}

/// Instructions that the verifier went through for the youngest program of this name, if this kernel tells.
fn instructions(name: &str) -> Option<u32> {
    let name = &name[..name.len().min(NAME_LENGTH)];
    aya::programs::loaded_programs()
        .flatten()
        .filter(|program| program.name_as_str() == Some(name))
        .max_by_key(aya::programs::ProgramInfo::id)
        .and_then(|program| program.verified_instruction_count())
}
