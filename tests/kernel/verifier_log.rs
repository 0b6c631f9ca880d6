//! What the verifier says of each program that the real probe loads: the probe's own calls are made to ask for it.
//!
//! Kernels tell the statistics of a program in the log of the call that loads it (since Linux 5.2), and the loader asks for a
//! log only of what was refused. So the probe runs as a traced process whose calls get a buffer for the log.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    fs::{self, File},
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

use dataflux_tests::probe;

/// What the verifier did for a program, over all branches (kernel/bpf/verifier.c, `print_verification_stats`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Instructions that it went through.
    pub(crate) instructions: u32,
    /// States that it kept.
    pub(crate) states: u32,
    /// The most of these at one time.
    pub(crate) peak_states: u32,
}

impl Statistics {
    /// Of the last line of a log that tells them.
    fn parse(log: &str) -> Option<Self> {
        let line = log.lines().rfind(|line| line.starts_with("processed "))?;
        let behind = |word: &str| {
            let mut words = line.split(' ').skip_while(|other| *other != word);
            words.nth(1)?.parse().ok()
        };
        Some(Self {
            instructions: behind("processed")?,
            states: behind("total_states")?,
            peak_states: behind("peak_states")?,
        })
    }
}

/// `BPF_LOG_STATS` of kernel/bpf/verifier.c: nothing but the statistics.
const LOG_STATISTICS: u32 = 4;
/// `BPF_PROG_LOAD` of linux/bpf.h.
const PROGRAM_LOAD: u64 = 5;
/// Where that command's attributes have the log's level, size and buffer, and the program's name.
const LOG_LEVEL: u64 = 24;
const PROGRAM_NAME: u64 = 48;
const NAME_SIZE: usize = 16;

/// The variable of the traced process whose text is the buffer.
const BUFFER: &str = "VERIFIER_LOG";
const BUFFER_SIZE: usize = 8192;

/// By the names that the kernel has of them, the statistics of every program that `doctor` loads of a configuration.
pub(crate) fn of_programs(config: &Path) -> BTreeMap<String, Statistics> {
    let mut command = Command::new(probe::binary());
    command
        .args([Path::new("doctor"), Path::new("--config"), config])
        .env(BUFFER, "-".repeat(BUFFER_SIZE))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: the call is safe between fork and exec, and touches no memory.
    unsafe {
        command.pre_exec(|| check(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0)).map(drop));
    }
    let mut child = command.spawn().expect("the probe starts");
    let found = Tracee::new(child.id()).run();
    // It was waited for already; this only clears the handle.
    drop(child.try_wait());
    found
}

/// `struct ptrace_syscall_info` of linux/ptrace.h, as far as it is the same for an entry and an exit.
#[repr(C)]
#[derive(Default)]
struct SystemCall {
    operation: u8,
    padding: [u8; 3],
    architecture: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    /// Entry: number and arguments. Exit: the value it gives comes first.
    values: [u64; 8],
}

const ENTRY: u8 = 1;
const EXIT: u8 = 2;

struct Tracee {
    process: libc::pid_t,
    memory: Option<File>,
    /// Of the call that was changed: its program's name.
    loading: Option<String>,
    found: BTreeMap<String, Statistics>,
}

impl Tracee {
    fn new(process: u32) -> Self {
        Self {
            process: libc::pid_t::try_from(process).expect("a process id"),
            memory: None,
            loading: None,
            found: BTreeMap::new(),
        }
    }

    /// From the stop at its first instruction to its end.
    fn run(mut self) -> BTreeMap<String, Statistics> {
        let status = self.wait();
        assert!(libc::WIFSTOPPED(status), "it ended before it began");
        let path = format!("/proc/{}/mem", self.process);
        let memory = File::options().read(true).write(true).open(path);
        self.memory = Some(memory.expect("the memory of our own child"));
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        // SAFETY: this request reads no memory of this process.
        check(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, self.process, 0, options) })
            .expect("options");
        let mut signal = 0;
        loop {
            // SAFETY: this request reads no memory of this process.
            check(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, self.process, 0, signal) })
                .expect("letting it go on");
            let status = self.wait();
            if !libc::WIFSTOPPED(status) {
                return self.found;
            }
            signal = libc::WSTOPSIG(status);
            if signal == libc::SIGTRAP | 0x80 {
                signal = 0;
                self.at_system_call();
            }
        }
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` lives until the call returns.
        let waited = unsafe { libc::waitpid(self.process, &raw mut status, 0) };
        assert_eq!(waited, self.process, "waiting for the traced process");
        status
    }

    fn at_system_call(&mut self) {
        let mut call = SystemCall::default();
        // SAFETY: the kernel writes at most the given size into `call`, which has no invalid values.
        check(unsafe {
            libc::ptrace(
                // `PTRACE_GET_SYSCALL_INFO` of linux/ptrace.h (since Linux 5.3), which not every C library names.
                0x420e,
                self.process,
                size_of::<SystemCall>(),
                (&raw mut call).cast::<c_void>(),
            )
        })
        .expect("what the system call is");
        match (call.operation, call.values) {
            (ENTRY, [number, PROGRAM_LOAD, attributes, ..])
                if number == libc::SYS_bpf.cast_unsigned() =>
            {
                self.loading = self.ask_for_log(attributes);
            }
            (EXIT, [result, ..]) => {
                if let (Some(name), 0..) = (self.loading.take(), result.cast_signed()) {
                    let log = self.read::<BUFFER_SIZE>(self.buffer());
                    let log = String::from_utf8_lossy(until_zero(&log));
                    let statistics = Statistics::parse(&log);
                    let statistics = statistics.unwrap_or_else(|| panic!("{name}: {log}"));
                    self.found.insert(name, statistics);
                }
            }
            _ => {}
        }
    }

    /// Gives a call that loads a program a buffer for its log, unless it has one; gives the program's name.
    fn ask_for_log(&self, attributes: u64) -> Option<String> {
        if self.read::<4>(attributes + LOG_LEVEL) != [0; 4] {
            return None;
        }
        let size = u32::try_from(BUFFER_SIZE).expect("it is small");
        let asked = [LOG_STATISTICS.to_ne_bytes(), size.to_ne_bytes()].concat();
        let asked = [asked, self.buffer().to_ne_bytes().to_vec()].concat();
        let memory = self.memory.as_ref().expect("it was opened");
        memory
            .write_all_at(&asked, attributes + LOG_LEVEL)
            .expect("writing to the memory of our own child");
        let name = self.read::<NAME_SIZE>(attributes + PROGRAM_NAME);
        Some(String::from_utf8_lossy(until_zero(&name)).into_owned())
    }

    /// Where the text of the variable begins.
    fn buffer(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process)).expect("it lives");
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        // `env_start` is field 50 of proc_pid_stat(5), the one behind the name is the third.
        let begin: u64 = fields
            .split(' ')
            .nth(47)
            .and_then(|field| field.parse().ok())
            .expect("where the environment begins");
        let environment =
            fs::read(format!("/proc/{}/environ", self.process)).expect("its environment");
        let sought = format!("{BUFFER}=");
        let place = environment
            .windows(sought.len())
            .position(|window| window == sought.as_bytes())
            .expect("the variable was given");
        begin + (place + sought.len()) as u64
    }

    fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let memory = self.memory.as_ref().expect("it was opened");
        memory
            .read_exact_at(&mut bytes, address)
            .expect("the memory of our own child");
        bytes
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn check(result: libc::c_long) -> std::io::Result<libc::c_long> {
    match result {
        -1 => Err(std::io::Error::last_os_error()),
        result => Ok(result),
    }
}
