//! What is wrong with a configuration file: all of it, not only the first mistake.

use std::{collections::BTreeSet, error::Error, fmt};

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
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Keeps the error, if it is one, and gives the value otherwise.
    pub(crate) fn note<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Keeps a mistake.
    pub(crate) fn push(&mut self, error: anyhow::Error) {
        match error.downcast::<Invalid>() {
            Ok(invalid) => self.0.extend(invalid.problems),
            Err(error) => self.0.push(Problem {
                place: (0, 0),
                text: format!("{error:#}"),
            }),
        }
    }

    /// Keeps mistakes that have their places.
    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.0.extend(problems);
    }

    /// Whether there is none so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What was collected, in the order of the texts.
    pub(crate) fn finish(self) -> Result<(), Invalid> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(self.invalid())
    }

    /// As [`Problems::finish`], where there is one.
    pub(super) fn invalid(mut self) -> Invalid {
        let mut told = BTreeSet::new();
        self.0.retain(|problem| told.insert(problem.clone()));
        // Those of one line stay in the order in which they were found.
        self.0.sort_by_key(|problem| problem.place);
        Invalid::new(self.0)
    }
}
