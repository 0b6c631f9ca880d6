//! The probe's own messages: to standard error, as much as `RUST_LOG` asks for (default `info`).

use std::{
    env,
    fs::File,
    io::{self, IsTerminal as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

use tracing_subscriber::{
    EnvFilter, Layer as _, filter::LevelFilter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Sends `tracing` events, and the `log` records of aya-log, to standard error.
pub(crate) fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let format = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let layer = if goes_to_journal() {
        format.without_time().with_filter(filter).boxed()
    } else {
        format.with_filter(filter).boxed()
    };
    // Fails only where a subscriber is set already, and main is the only place that sets one.
    drop(tracing_subscriber::registry().with(layer).try_init());
}

/// Whether standard error is the journal's, which stamps every line by itself. A terminal may have inherited the variable
/// from a service, so the descriptor decides (systemd.exec(5)).
fn goes_to_journal() -> bool {
    let (Ok(stream), Ok(stderr)) = (
        env::var("JOURNAL_STREAM"),
        io::stderr().as_fd().try_clone_to_owned(),
    ) else {
        return false;
    };
    File::from(stderr)
        .metadata()
        .is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}
