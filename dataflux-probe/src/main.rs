//! `dataflux-probe`: reads kernel and host metrics and delivers them as envelopes.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use dataflux_probe::{commands, config::Invalid, diagnostics};

/// The exit code of a runtime failure.
const FAILED: u8 = 1;
/// The exit code of a wrong configuration, and clap's of a wrong command line.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments = commands::arguments();
    let voice = arguments.diagnostics;
    voice.start();
    let mut out = io::stdout().lock();
    let ended = commands::run(arguments, &mut out)
        .and_then(|code| out.flush().map(|()| code).map_err(Into::into));
    diagnostics::tell_repeats();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            voice.tell_failure(&error);
            ExitCode::from(if error.is::<Invalid>() { WRONG } else { FAILED })
        }
    }
}

/// Whoever read the output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
