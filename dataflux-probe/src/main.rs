//! `dataflux-probe`: reads kernel and host metrics and delivers them as envelopes.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use dataflux_probe::{
    commands::{self, Arguments},
    config::Invalid,
    diagnostics,
};

/// The exit code of a runtime failure.
const FAILED: u8 = 1;
/// The exit code of a wrong configuration, and clap's of a wrong command line.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let (voice, ended) = match commands::arguments() {
        Ok(Some(arguments)) => (arguments.diagnostics, run(arguments)),
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => (diagnostics::Arguments::default(), Err(error.into())),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            voice.tell_failure(&error);
            ExitCode::from(if error.is::<Invalid>() { WRONG } else { FAILED })
        }
    }
}

/// Gives the exit code. What is printed has arrived if this does not fail.
fn run(arguments: Arguments) -> anyhow::Result<u8> {
    arguments.diagnostics.start();
    let mut out = Out(io::stdout().lock());
    let ended = commands::run(arguments, &mut out);
    diagnostics::tell_repeats();
    let code = ended?;
    out.flush()?;
    Ok(code)
}

/// Standard output, whose errors say that it is that.
struct Out(io::StdoutLock<'static>);

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(commands::not_printed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(commands::not_printed)
    }
}

/// Whoever read the output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
