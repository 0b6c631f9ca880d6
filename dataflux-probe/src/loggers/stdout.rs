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
            self.torn = written < bytes.len() && *last != b'\n';
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

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeReader, PipeWriter, Read as _, pipe},
        os::fd::OwnedFd,
        sync::mpsc,
        task::{Context, Poll, Waker},
        thread,
    };

    use rustix::fs::{OFlags, fcntl_setfl};

    use super::{
        super::contract::{check, payload},
        *,
    };

    /// A logger with this in the place of standard output.
    fn onto(output: impl Into<OwnedFd>) -> Stdout {
        let stdout = Stdout::new();
        stdout.stream.lock().unwrap().open(output.into().into());
        stdout
    }

    /// Reads on a thread of its own; gives so many bytes of it.
    fn drain(mut reader: PipeReader) -> impl FnMut(usize) -> Vec<u8> {
        let (sender, received) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                sender.send(buffer[..count].to_vec()).unwrap();
            }
        });
        let mut so_far = Vec::new();
        move |count| {
            while so_far.len() < count {
                so_far.extend(received.recv().unwrap());
            }
            so_far.drain(..count).collect()
        }
    }

    /// Fills a pipe up; gives how much went into it.
    fn fill(mut writer: &PipeWriter) -> usize {
        fcntl_setfl(writer, OFlags::NONBLOCK).unwrap();
        let mut written = 0;
        loop {
            match writer.write(&[b'-'; 4096]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[tokio::test]
    async fn standard_output_keeps_the_contract() {
        let (reader, writer) = pipe().unwrap();
        check(&mut onto(writer), drain(reader)).await;
    }

    #[tokio::test]
    async fn a_stalled_pipe_holds_up_nobody_and_goes_on_when_it_is_read() {
        let (reader, writer) = pipe().unwrap();
        // A descriptor that does not block comes from whoever shares it; writing waits all the same.
        let filled = fill(&writer);
        let mut stdout = onto(writer);
        let mut accepted = Vec::new();
        let refused = loop {
            let mut sent = stdout.send(payload("one\n"));
            match sent.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending if accepted.len() < 10 => accepted.push(sent),
                answer => break answer,
            }
        };
        let is_retry = matches!(refused, Poll::Ready(Err(SendError::Retry(_))));
        assert!(is_retry, "what waits is bounded: {refused:?}");
        let mut receive = drain(reader);
        receive(filled);
        for accepted in accepted {
            accepted.await.unwrap();
            assert_eq!(receive(4), b"one\n");
        }
    }

    #[tokio::test]
    async fn a_closed_pipe_will_never_take_anything() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut stdout = onto(writer);
        for _ in 0..2 {
            let result = stdout.send(payload("lost\n")).await;
            assert!(matches!(result, Err(SendError::Reject(_))), "{result:?}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_behind_standard_output_may_heal() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let result = onto(full).send(payload("later\n")).await;
        assert!(matches!(result, Err(SendError::Retry(_))), "{result:?}");
    }

    #[test]
    fn a_record_after_a_torn_one_begins_a_line() {
        let (mut reader, writer) = pipe().unwrap();
        let mut stream = Stream::default();
        stream.open(File::from(OwnedFd::from(writer)));
        // More than a pipe holds, so that a part is written when its reader goes.
        let long = "x".repeat(1 << 20);
        let read_some = thread::spawn(move || reader.read_exact(&mut [0; 8]).unwrap());
        assert!(stream.write(&payload(long)).is_err());
        read_some.join().unwrap();
        assert!(stream.torn);

        let (mut reader, writer) = pipe().unwrap();
        stream.output = Some(File::from(OwnedFd::from(writer)));
        stream.write(&payload("whole")).unwrap();
        stream.write(&payload("next\n")).unwrap();
        drop(stream);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "\nwholenext\n", "a record may be without a line's end");
    }
}
