//! `stdout`: records to standard output.

use std::{
    fs::File,
    io::{self, ErrorKind, Write as _},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, anyhow};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Deserialize;

use super::{Acknowledgement, Logger, Payload, SendError, worker::Worker};
use crate::plugin::{Needs, Plugin};

pub(super) static PLUGIN: Plugin<dyn Logger> = Plugin {
    name: "stdout",
    summary: "records to standard output",
    needs: Needs::NOTHING,
    example: "# No options.",
    metrics: &[],
    build: |section, _context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Stdout::new()))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Stdout {
    stream: Arc<Mutex<Stream>>,
    worker: Worker,
}

impl Stdout {
    fn new() -> Self {
        Self {
            stream: Arc::default(),
            worker: Worker::new("stdout"),
        }
    }
}

impl Logger for Stdout {
    fn open(&mut self) -> Result<(), SendError> {
        let output = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .context("opening standard output")
            .map_err(SendError::Reject)?;
        self.stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open(File::from(output));
        Ok(())
    }

    fn send(&mut self, payload: Payload) -> Acknowledgement {
        let stream = Arc::clone(&self.stream);
        self.worker.run(move || {
            stream
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(&payload)
        })
    }

    fn claims(&self) -> Vec<String> {
        vec!["standard output".to_owned()]
    }
}

/// An open descriptor and what was written to it.
#[derive(Default)]
struct Stream {
    output: Option<File>,
    /// Whether the stream has had its header.
    begun: bool,
    /// Whether it ends within a record.
    torn: bool,
}

impl Stream {
    fn open(&mut self, output: File) {
        *self = Self {
            output: Some(output),
            begun: false,
            torn: false,
        };
    }

    fn write(&mut self, payload: &Payload) -> Result<(), SendError> {
        let Some(output) = &self.output else {
            return Err(SendError::Retry(anyhow!("standard output is not open")));
        };
        let mut bytes = Vec::new();
        if self.torn {
            bytes.push(b'\n');
        }
        if !self.begun {
            bytes.extend_from_slice(&payload.file_header);
        }
        bytes.extend_from_slice(&payload.bytes);
        let (written, result) = write_all(output, &bytes);
        if let Some(last) = bytes[..written].last() {
            self.begun = true;
            self.torn = *last != b'\n';
        }
        result.map_err(classify)
    }
}

/// Writes everything, or says how much was written before the error. Waits when the descriptor does not block, which
/// whoever shares it may have asked for.
fn write_all(mut output: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        let step = match output.write(&bytes[written..]) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                written += count;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(&output, PollFlags::OUT)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error),
        };
        if step.is_err() {
            return (written, step);
        }
    }
    (written, Ok(()))
}

/// A reader of standard output that went away never comes back; a full disk behind it may heal.
fn classify(error: io::Error) -> SendError {
    let gone = error.kind() == ErrorKind::BrokenPipe
        || [rustix::io::Errno::IO, rustix::io::Errno::BADF]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    let error = anyhow::Error::new(error).context("writing to standard output");
    if gone {
        SendError::Reject(error)
    } else {
        SendError::Retry(error)
    }
}
