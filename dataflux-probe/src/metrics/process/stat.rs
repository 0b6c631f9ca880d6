//! A process' line of `/proc/PID/stat` (proc_pid_stat(5)), taken apart as bytes.

use anyhow::{Context as _, ensure};

/// `PF_WQ_WORKER` of the kernel's sched.h.
const WORKER: u64 = 0x20;
/// `PF_KTHREAD`.
const KERNEL_THREAD: u64 = 0x20_0000;

/// What is wanted of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// The program's name, cut by the kernel after 15 bytes, or what a kernel thread calls itself.
    pub(super) command: &'a [u8],
    pub(super) state: State,
    pub(super) is_kernel_thread: bool,
    pub(super) major_faults: u64,
    /// In ticks, of all threads, those that ended included.
    pub(super) user: u64,
    /// In ticks.
    pub(super) system: u64,
    pub(super) threads: u64,
    /// In ticks since boot: with the pid, what makes a process the same.
    pub(super) started: u64,
    /// In pages.
    pub(super) resident: u64,
}

/// What a process' first thread is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Sleeping,
    Uninterruptible,
    Idle,
    Stopped,
    Traced,
    Zombie,
    /// Parked, dying, or what later kernels may have.
    Other,
}

impl State {
    /// In the order of the variants.
    pub(super) const NAMES: [&'static str; 8] = [
        "running",
        "sleeping",
        "uninterruptible",
        "idle",
        "stopped",
        "traced",
        "zombie",
        "other",
    ];

    const fn of(letter: u8) -> Self {
        match letter {
            b'R' => Self::Running,
            b'S' => Self::Sleeping,
            b'D' => Self::Uninterruptible,
            b'I' => Self::Idle,
            b'T' => Self::Stopped,
            b't' => Self::Traced,
            b'Z' => Self::Zombie,
            _ => Self::Other,
        }
    }
}

impl<'a> Stat<'a> {
    /// # Errors
    /// It is no such line.
    pub(super) fn parse(line: &'a [u8]) -> anyhow::Result<Self> {
        // A command may hold anything, parentheses and line breaks included.
        let open = line.iter().position(|&byte| byte == b'(');
        let close = line.iter().rposition(|&byte| byte == b')');
        let (open, close) = open.zip(close).context("no command")?;
        ensure!(open < close, "no command");
        let mut fields = Fields {
            rest: &line[close + 1..],
            number: 2,
        };
        let &[letter] = fields.skip_to(3)? else {
            anyhow::bail!("the state is no letter");
        };
        let flags = fields.number(9)?;
        let major_faults = fields.number(12)?;
        let (user, system) = (fields.number(14)?, fields.number(15)?);
        let (threads, started) = (fields.number(20)?, fields.number(22)?);
        // In a line that was cut off, the last field may be a part of it.
        let resident = fields.number(24)?;
        fields.skip_to(25)?;
        Ok(Self {
            command: stable(&line[open + 1..close], flags & WORKER != 0),
            state: State::of(letter),
            is_kernel_thread: flags & KERNEL_THREAD != 0,
            major_faults,
            user,
            system,
            threads,
            started,
            resident,
        })
    }
}

/// Without what a worker of the kernel does at the moment: `kworker/0:1` of `kworker/0:1-events` and `kworker/0:1+events`.
fn stable(command: &[u8], is_worker: bool) -> &[u8] {
    let end = command.iter().position(|byte| matches!(byte, b'-' | b'+'));
    match end {
        Some(end) if is_worker && command.starts_with(b"kworker/") => &command[..end],
        _ => command,
    }
}

/// The fields after the command, which have a space before each.
struct Fields<'a> {
    rest: &'a [u8],
    /// Of the field before the rest, as the manual counts.
    number: u32,
}

impl<'a> Fields<'a> {
    fn skip_to(&mut self, wanted: u32) -> anyhow::Result<&'a [u8]> {
        loop {
            let Some((b' ', after)) = self.rest.split_first() else {
                anyhow::bail!("field {} is missing", self.number + 1);
            };
            let end = after.iter().position(|byte| matches!(byte, b' ' | b'\n'));
            let (field, rest) = after.split_at(end.unwrap_or(after.len()));
            self.rest = rest;
            self.number += 1;
            if self.number == wanted {
                return Ok(field);
            }
        }
    }

    fn number(&mut self, wanted: u32) -> anyhow::Result<u64> {
        let field = self.skip_to(wanted)?;
        decimal(field).with_context(|| format!("field {wanted} is no number"))
    }
}

/// A number of digits alone; `None` if it is something else or does not fit.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use procfs::process::Process;
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "4711 (a) S (b) R 1 4711 4711 34816 4711 4194560 1200 90 7 2 11 13 5 6 20 0 3 0 123456 \
        18000000 2500 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 1 1 1 1 1 1 1 0\n";

    #[test]
    fn fields_are_those_of_the_manual() {
        let expected = Stat {
            command: b"a) S (b",
            state: State::Running,
            is_kernel_thread: false,
            major_faults: 7,
            user: 11,
            system: 13,
            threads: 3,
            started: 123_456,
            resident: 2500,
        };
        assert_eq!(Stat::parse(LINE.as_bytes()).unwrap(), expected);
        for length in 0..LINE.find("2500").unwrap() + 5 {
            Stat::parse(&LINE.as_bytes()[..length]).unwrap_err();
        }
    }

    #[test]
    fn a_worker_s_name_does_not_change_with_its_work() {
        let command = |name: &str, flags: u64| {
            let line = LINE
                .replace("a) S (b", name)
                .replace("4194560", &flags.to_string());
            String::from_utf8_lossy(Stat::parse(line.as_bytes()).unwrap().command).into_owned()
        };
        assert_eq!(command("kworker/0:1-events", 0x0420_8060), "kworker/0:1");
        assert_eq!(command("kworker/u8:2+flush-254:0", 0x20), "kworker/u8:2");
        assert_eq!(command("kworker/0:0H", 0x20), "kworker/0:0H");
        assert_eq!(command("kworker/not-one", 0), "kworker/not-one");
    }

    #[test]
    fn every_process_here_is_what_the_procfs_crate_says() {
        let mut compared = 0;
        for process in procfs::process::all_processes().unwrap().flatten() {
            let path = format!("/proc/{}/stat", process.pid());
            let Ok(line) = fs::read(path) else { continue };
            let (Ok(ours), Ok(theirs)) = (Stat::parse(&line), Process::stat(&process)) else {
                continue;
            };
            assert_eq!(ours.started, theirs.starttime);
            assert_eq!(ours.is_kernel_thread, theirs.flags & 0x20_0000 != 0);
            assert!(ours.user <= theirs.utime && ours.system <= theirs.stime);
            assert!(theirs.comm.as_bytes().starts_with(ours.command));
            compared += 1;
        }
        assert!(compared > 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_process_or_an_error(bytes: Vec<u8>, at: prop::sample::Index, flip: u8) {
            drop(Stat::parse(&bytes));
            let mut line = LINE.as_bytes().to_vec();
            line[at.index(LINE.len())] ^= flip;
            drop(Stat::parse(&line));
        }

        #[test]
        fn a_number_is_what_the_standard_library_reads(value: u64, text in "[0-9 +-]{0,22}") {
            prop_assert_eq!(decimal(value.to_string().as_bytes()), Some(value));
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert_eq!(decimal(text.as_bytes()), text.parse().ok().filter(|_| plain));
        }
    }
}
