//! The first process of a guest: prepares a machine around the kernel under test, runs what the job asks for, reports, and
//! switches the machine off. `cargo xtask kernel-test --vm` boots it.
//!
//! Reports are lines of JSON on the virtio port called `results`; a guest that cannot report says why on its console.

mod job;
mod machine;
mod run;

use std::{fs::File, io::Write as _};

use serde_json::{Value, json};

use job::Job;

fn main() {
    let troubles = machine::prepare();
    match reports() {
        Ok(mut reports) => {
            reports
                .send(&json!({"kind": "up", "release": machine::release(), "troubles": troubles}));
            match Job::read() {
                Ok(job) => run::everything(&job, &mut reports),
                Err(error) => {
                    reports.send(&json!({"kind": "trouble", "text": format!("{error:#}")}))
                }
            }
            reports.send(&json!({"kind": "end"}));
        }
        Err(error) => machine::console(&format!("guest: {error:#}; {}", troubles.join("; "))),
    }
    machine::switch_off();
}

/// Where reports go.
struct Reports(File);

impl Reports {
    /// One line. A port that refuses it is the end of the job: the host sees that the report is not complete.
    fn send(&mut self, report: &Value) {
        if let Err(error) = writeln!(self.0, "{report}") {
            machine::console(&format!("guest: cannot report: {error}"));
            machine::switch_off();
        }
    }
}

fn reports() -> anyhow::Result<Reports> {
    let path = machine::port("results")?;
    let file = File::options().write(true).open(&path)?;
    Ok(Reports(file))
}
