//! The target `config`: a configuration that is anything.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use dataflux_probe::config::{Config, Registries};

/// The folder of this target's corpus.
pub(super) const NAME: &str = "config";

/// Parses it as `check` does: a mistake that is told is as good as none.
pub(super) fn run(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input).into_owned();
    let mut hasher = DefaultHasher::new();
    match Config::parse(Path::new("fuzz.toml"), text, Registries::BUILT_IN) {
        Ok(config) => (
            config.readers.len(),
            config.metadata.len(),
            config.outputs.len(),
        )
            .hash(&mut hasher),
        Err(error) => {
            let told = error.to_string();
            // What is quoted of the input makes no difference.
            let words = told
                .lines()
                .next()
                .unwrap_or_default()
                .split('`')
                .step_by(2);
            let same = words.flat_map(str::chars).filter(char::is_ascii_alphabetic);
            same.for_each(|c| c.hash(&mut hasher));
        }
    }
    hasher.finish()
}
