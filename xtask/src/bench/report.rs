//! The bench's results as a table for people and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    delivery, process, programs, slowdown,
    statistics::{Bar, Spread, Verdict},
};

/// Everything that one run of the bench measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// Rounds of each comparison of programs.
    pub(super) rounds: usize,
    /// How long the whole run took, s.
    pub(super) seconds: f64,
    pub(super) programs: Vec<programs::Row>,
    pub(super) slowdown: Vec<slowdown::Row>,
    pub(super) process: Vec<process::Row>,
    pub(super) delivery: Vec<delivery::Section>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) cpus: usize,
    /// Of the minute before the run: what else was running.
    pub(super) load_average: f64,
    /// Programs that somebody else had attached to tracepoints or functions.
    pub(super) other_programs: usize,
}

impl Machine {
    /// What makes the figures worse than they are.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.load_average > 0.5 {
            warnings.push(format!(
                "the load average before the run was {}: something else runs here, and the figures scatter",
                self.load_average
            ));
        }
        if self.other_programs > 0 {
            warnings.push(format!(
                "somebody else had {} programs on tracepoints or functions: another probe makes hooks slower",
                self.other_programs
            ));
        }
        warnings
    }
}

impl Report {
    /// Every bar that was missed, in words.
    pub(super) fn missed(&self) -> Vec<String> {
        let programs = self.programs.iter().map(|row| {
            let what = format!("{} under {}", row.hook, row.load.name());
            (what, row.verdict)
        });
        let slowdown = self
            .slowdown
            .iter()
            .map(|row| (format!("slowdown of {}", row.load.name()), row.verdict));
        let delivery = self.delivery.iter().flat_map(|section| &section.rows);
        let process = self
            .process
            .iter()
            .chain(delivery)
            .map(|row| (row.what.clone(), row.verdict));
        programs
            .chain(slowdown)
            .chain(process)
            .filter_map(|(what, verdict)| {
                let verdict = verdict.filter(|verdict| *verdict != Verdict::Met)?;
                Some(format!("{what}: {}", verdict.words()))
            })
            .collect()
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{}, {} CPUs, Linux {}; {} rounds, {:.0} s\n",
            self.machine.processor,
            self.machine.cpus,
            self.machine.kernel,
            self.rounds,
            self.seconds
        );
        for warning in self.machine.warnings() {
            push(&mut text, format_args!("note: {warning}\n"));
        }
        if !self.programs.is_empty() {
            section(
                &mut text,
                "Programs, ns per run: median of the rounds (quartiles)",
                &[
                    "load",
                    "program",
                    "runs",
                    "empty",
                    "clock read",
                    "program",
                    "above clock read",
                    "above empty",
                    "bar",
                    "",
                ],
                self.programs.iter().map(program_cells).collect(),
            );
        }
        if !self.slowdown.is_empty() {
            section(
                &mut text,
                "Slowdown: median of the pairs (quartiles)",
                &[
                    "load",
                    "per second without",
                    "ratio of",
                    "with the probe",
                    "without again",
                    "bar",
                    "",
                ],
                self.slowdown.iter().map(slowdown_cells).collect(),
            );
        }
        if !self.process.is_empty() {
            section(
                &mut text,
                "The probe's process, every reader at 1 s",
                &["what", "", "unit", "bar", ""],
                self.process.iter().map(process_cells).collect(),
            );
        }
        for delivery in &self.delivery {
            section(
                &mut text,
                &delivery.title,
                &["what", "", "unit", "bar", ""],
                delivery.rows.iter().map(process_cells).collect(),
            );
        }
        let missed = self.missed();
        if missed.is_empty() {
            text.push_str("\nevery bar met\n");
        } else {
            push(
                &mut text,
                format_args!(
                    "\n{} bars missed:\n  {}\n",
                    missed.len(),
                    missed.join("\n  ")
                ),
            );
        }
        text
    }
}

fn program_cells(row: &programs::Row) -> Vec<String> {
    vec![
        row.load.name().to_owned(),
        // The kernel cuts names of programs after 15 bytes.
        if row.hook.starts_with(&row.program) {
            row.hook.clone()
        } else {
            format!("{} ({})", row.program, row.hook)
        },
        row.runs.to_string(),
        spread(row.empty_ns, 0),
        spread(row.clock_read_ns, 0),
        spread(row.program_ns, 0),
        spread(row.above_clock_read_ns, 0),
        spread(row.above_empty_ns, 0),
        row.bar_ns
            .map_or_else(String::new, |bar| format!("{bar:.0}")),
        words(row.verdict),
    ]
}

fn slowdown_cells(row: &slowdown::Row) -> Vec<String> {
    let measure = match row.measure {
        slowdown::Measure::Time => "time",
        slowdown::Measure::Operations => "operations",
    };
    vec![
        row.load.name().to_owned(),
        spread(row.rate, 0),
        measure.to_owned(),
        spread(row.probed, 3),
        spread(row.unprobed, 3),
        bar(row.bar, 2),
        words(row.verdict),
    ]
}

fn process_cells(row: &process::Row) -> Vec<String> {
    let digits = if row.value < 1.0 { 3 } else { 1 };
    let value = match row.spread {
        Some(spread) => format!(
            "{:.digits$} ({:.digits$}..{:.digits$})",
            row.value, spread.lower_quartile, spread.upper_quartile
        ),
        None => format!("{:.digits$}", row.value),
    };
    vec![
        row.what.clone(),
        value,
        row.unit.to_owned(),
        bar(
            row.bar,
            if row.bar.is_some_and(|bar| bar.value() < 0.1) {
                2
            } else {
                digits.min(1)
            },
        ),
        words(row.verdict),
    ]
}

fn spread(figures: Spread, digits: usize) -> String {
    format!(
        "{:.digits$} ({:.digits$}..{:.digits$})",
        figures.median, figures.lower_quartile, figures.upper_quartile
    )
}

fn bar(bar: Option<Bar>, digits: usize) -> String {
    bar.map_or_else(String::new, |bar| format!("{:.digits$}", bar.value()))
}

fn words(verdict: Option<Verdict>) -> String {
    verdict.map_or_else(String::new, |verdict| verdict.words().to_owned())
}

/// A title, column heads, and rows; the first column to the left, the others as their heads.
fn section(text: &mut String, title: &str, heads: &[&str], rows: Vec<Vec<String>>) {
    push(text, format_args!("\n{title}\n"));
    let heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        push(text, format_args!("  {}\n", cells.join("  ").trim_end()));
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes any text");
}
