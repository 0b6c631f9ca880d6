//! The probe's own messages: to standard error, as text or JSON, as much as is asked for, and none of them over and over.

mod repeats;
#[cfg(test)]
mod tests;

use std::{
    env,
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    time::SystemTime,
};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt as _, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use repeats::{Limited, REPEATS};
pub use repeats::{PERIOD, tell_repeats};

/// How the probe speaks of itself; the same for every command.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// How much the probe says of itself on standard error.
    #[arg(long, global = true, value_enum, default_value_t = Level::Info, value_name = "LEVEL")]
    log_level: Level,
    /// How it says it.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    log_format: Format,
}

/// Everything from this severity on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What a message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// As without any argument.
impl Default for Arguments {
    fn default() -> Self {
        Self {
            log_level: Level::Info,
            log_format: Format::Text,
        }
    }
}

impl Arguments {
    /// Sends `tracing` events, and the `log` records of libraries, to standard error. `RUST_LOG` goes before the level.
    pub fn start(self) {
        let filter = EnvFilter::builder()
            .with_default_directive(LevelFilter::from(self.log_level).into())
            .from_env_lossy();
        let format = self.log_format;
        let layer = Limited {
            layer: format.layer(io::stderr, wants_colour(), goes_to_journal()),
            repeats: &REPEATS,
        };
        // Fails only where a subscriber is set already, and main is the only place that sets one.
        drop(
            tracing_subscriber::registry()
                .with(layer.with_filter(filter))
                .try_init(),
        );
    }

    /// The last word of a program that failed. Not a diagnostic, so that no filter hides it.
    pub fn tell_failure(self, error: &anyhow::Error) {
        let text = match self.log_format {
            Format::Text => format!("dataflux-probe: {error:#}"),
            Format::Json => serde_json::json!({
                "timestamp": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
                "level": "ERROR",
                "message": format!("{error:#}"),
            })
            .to_string(),
        };
        // If standard error is closed, the exit code has to do.
        drop(writeln!(io::stderr(), "{text}"));
    }
}

impl Format {
    /// Writes events to `out`. `stamped` says that whoever reads it notes the time by itself.
    fn layer<S, W>(self, out: W, colour: bool, stamped: bool) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(out)
            .with_target(false);
        match self {
            Self::Json => layer
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .boxed(),
            Self::Text if stamped => layer.with_ansi(colour).without_time().boxed(),
            Self::Text => layer.with_ansi(colour).boxed(),
        }
    }
}

/// On a terminal that has colours, unless the user does not want them (no-color.org).
fn wants_colour() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|name| name == "dumb");
    io::stderr().is_terminal() && !unwanted && !dumb
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
