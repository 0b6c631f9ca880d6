//! The endpoint of the real program, scraped by a real Prometheus, judged by promtool and read by a parser that is not ours.
#![expect(clippy::print_stdout, reason = "the tests say what they skipped")]

mod endpoint;
mod expected;
mod formats;
mod http;
mod reload;
mod scraped;

use std::{env, path::PathBuf};

use dataflux_tests::workspace;

/// Where `cargo xtask test` has unpacked Prometheus and its Python client.
///
/// # Panics
/// They are required and not there.
fn unpacked(path: &str) -> Option<PathBuf> {
    let path = workspace::root().join("target/prometheus").join(path);
    if path.exists() {
        return Some(path);
    }
    let required = env::var_os("DATAFLUX_PROMETHEUS_TESTS").is_some();
    assert!(!required, "no {}", path.display());
    println!(
        "skipped, needs {}: `cargo xtask test` brings it",
        path.display()
    );
    None
}
