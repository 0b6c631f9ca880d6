//! What a guest is asked to do: `/job.json`.

use std::{fs, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

/// Commands first, then tests.
#[derive(Debug)]
pub(crate) struct Job {
    /// Commands with their arguments, run to their end.
    pub(crate) commands: Vec<Vec<String>>,
    /// Words that a test's name must contain one of; none for all tests.
    pub(crate) filters: Vec<String>,
    /// How long one command or test may take.
    pub(crate) limit: Duration,
}

impl Job {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/job.json").context("/job.json")?;
        let job: Value = serde_json::from_str(&text).context("/job.json")?;
        let limit = job["limit_seconds"].as_u64();
        Ok(Self {
            commands: list(&job["commands"], words)?,
            filters: words(&job["filters"])?,
            limit: Duration::from_secs(limit.context("/job.json has no limit_seconds")?),
        })
    }
}

fn words(value: &Value) -> anyhow::Result<Vec<String>> {
    let word = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .context("not a word in /job.json")
    };
    list(value, word)
}

fn list<T>(value: &Value, each: impl Fn(&Value) -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
    let values = value.as_array().context("a list is missing in /job.json")?;
    values.iter().map(each).collect()
}
