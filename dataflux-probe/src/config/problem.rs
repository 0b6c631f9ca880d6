//! What is wrong with a configuration file: all of it, not only the first mistake.

use std::{error::Error, fmt};

/// Everything that is wrong with a configuration. Nothing of it was started.
#[derive(Debug)]
pub struct Invalid {
    problems: Vec<Problem>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    /// Which text it is in, and its line there, from 1; 0 when it is in no line.
    pub(super) place: (usize, usize),
    /// File, line, path and what is known instead, in one line.
    pub(super) text: String,
}

impl Invalid {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// A mistake that has no line, such as a file that is not there.
    pub(super) fn without_line(text: String) -> Self {
        Self::new(vec![Problem {
            place: (0, 0),
            text,
        }])
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            out.write_str(&problem.text)?;
        }
        Ok(())
    }
}

impl Error for Invalid {}

/// Collects mistakes, so that one run of `check` finds them all.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Keeps the error, if it is one, and gives the value otherwise.
    pub(super) fn note<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Keeps a mistake.
    pub(super) fn push(&mut self, error: anyhow::Error) {
        match error.downcast::<Invalid>() {
            Ok(invalid) => self.0.extend(invalid.problems),
            Err(error) => self.0.push(Problem {
                place: (0, 0),
                text: format!("{error:#}"),
            }),
        }
    }

    /// How many there are so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What was collected, in the order of the texts.
    pub(super) fn finish(mut self) -> Result<(), Invalid> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort();
        self.0.dedup();
        Err(Invalid::new(self.0))
    }
}
