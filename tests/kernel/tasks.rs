//! Tasks with chosen thread ids that do as they are told.

use std::{
    fs,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use dataflux_common::limits;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::cpus::stay_on;

const LIMIT: &str = "/proc/sys/kernel/pid_max";
/// The highest limit that a kernel of 64 bits takes; the highest id is one less.
const HIGHEST_LIMIT: u32 = 4_194_304;
/// The inode of the machine's own namespace of process ids, `PROC_PID_INIT_INO` of include/linux/proc_ns.h.
const OWN_NAMESPACE: &str = "pid:[4026531836]";

/// Two free thread ids that share a place, under the highest limit; as before when dropped.
pub(crate) struct Sharing {
    before: String,
    pub(crate) low: u32,
    pub(crate) high: u32,
}

impl Sharing {
    /// `None` where the test cannot choose ids, which it says.
    pub(crate) fn new() -> Option<Self> {
        let namespace = fs::read_link("/proc/self/ns/pid").expect("the namespace of process ids");
        if namespace.as_os_str() != OWN_NAMESPACE {
            println!("skipped: a namespace of process ids has others than the kernel");
            return None;
        }
        let before = fs::read_to_string(LIMIT).expect("the limit of process ids");
        fs::write(LIMIT, HIGHEST_LIMIT.to_string()).expect("raising the limit of process ids");
        let high = HIGHEST_LIMIT - 1;
        Some(Self {
            before,
            low: high - limits::TASKS as u32,
            high,
        })
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        let restored = fs::write(LIMIT, self.before.trim());
        assert!(
            restored.is_ok() || thread::panicking(),
            "{LIMIT}: {restored:?}"
        );
    }
}

/// What a task is told; a word of shared memory.
mod told {
    /// To block until something else is told.
    pub(super) const REST: u32 = 0;
    /// To run until something else is told.
    pub(super) const RUN: u32 = 1;
    /// To run once and to rest again.
    pub(super) const PASS: u32 = 2;
    pub(super) const END: u32 = 3;
}

/// A process of one task, kept on one CPU, which no ordinary task takes from it. Ended when dropped.
pub(crate) struct Task {
    pid: u32,
    memory: NonNull<Shared>,
}

struct Shared {
    told: AtomicU32,
    /// The last thing that it did as told.
    done: AtomicU32,
}

impl Task {
    /// Starts one that rests.
    pub(crate) fn new(pid: u32, cpu: usize) -> Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at an address of the kernel's choice touches none of ours.
        let memory = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                size_of::<Shared>(),
                access,
                MapFlags::SHARED,
            )
        };
        let memory = NonNull::new(memory.expect("shared memory").cast::<Shared>());
        let task = Self {
            pid,
            memory: memory.expect("mapped at an address"),
        };
        // SAFETY: the child calls nothing but system calls, and never returns.
        unsafe {
            if fork_as(pid) == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // It consists of numbers; of which ones depends on the C library.
                let mut priority: libc::sched_param = std::mem::zeroed();
                priority.sched_priority = 1;
                let policy = libc::SCHED_FIFO;
                // Not by the C library: not every one has it.
                libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority);
                stay_on(cpu);
                obey(task.shared());
            }
        }
        task.rests();
        task
    }

    fn shared(&self) -> &Shared {
        // SAFETY: the memory is zeroed, aligned to a page, lives as long as `self`, and every access is atomic.
        unsafe { self.memory.as_ref() }
    }

    /// Wakes it; it runs when this returns.
    pub(crate) fn run(&self) {
        self.tell(told::RUN);
    }

    /// It blocks when this returns.
    pub(crate) fn rest(&self) {
        self.tell(told::REST);
        self.rests();
    }

    /// Wakes it; it has run and blocks again when this returns.
    pub(crate) fn pass(&self) {
        self.tell(told::PASS);
        self.rests();
    }

    fn tell(&self, what: u32) {
        let shared = self.shared();
        shared.done.store(u32::MAX, Ordering::SeqCst);
        shared.told.store(what, Ordering::SeqCst);
        wake(&shared.told);
        let begin = Instant::now();
        while shared.done.load(Ordering::SeqCst) != what {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "task {} hangs",
                self.pid
            );
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until the kernel says that it sleeps, and a moment longer: it says so just before the switch.
    fn rests(&self) {
        let path = format!("/proc/{}/stat", self.pid);
        let begin = Instant::now();
        loop {
            let stat = fs::read_to_string(&path).expect("the task lives");
            if stat
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('S'))
            {
                break;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "task {} runs",
                self.pid
            );
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.shared().told.store(told::END, Ordering::SeqCst);
        wake(&self.shared().told);
        let mut status = 0;
        // SAFETY: the pointer is to a local variable; the memory is unmapped once, and nothing refers to it any more.
        unsafe {
            libc::waitpid(self.pid as i32, &raw mut status, 0);
            munmap(self.memory.as_ptr().cast(), size_of::<Shared>()).expect("it was mapped");
        }
    }
}

/// What the task does all its life: whenever it is woken it looks what it is told.
fn obey(shared: &Shared) -> ! {
    loop {
        let told = shared.told.load(Ordering::SeqCst);
        shared.done.store(told, Ordering::SeqCst);
        match told {
            told::END => {
                // SAFETY: it ends the process at once.
                unsafe { libc::_exit(0) }
            }
            told::RUN => std::hint::spin_loop(),
            _ => wait(&shared.told, told),
        }
    }
}

/// Blocks while the word is this.
fn wait(word: &AtomicU32, is: u32) {
    // SAFETY: the word lives while the call does; there is no time limit.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            is,
            std::ptr::null::<libc::timespec>(),
        );
    }
}

fn wake(word: &AtomicU32) {
    // SAFETY: the word lives while the call does.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
    }
}

/// Forks a process with this id. 0 in the child.
///
/// # Safety
/// The child has a copy of one thread only: it may call nothing that other threads could have locked.
unsafe fn fork_as(pid: u32) -> i64 {
    let wanted = [pid as i32];
    // SAFETY: all zeros is a valid value of a struct of numbers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = wanted.as_ptr() as u64;
    arguments.set_tid_size = 1;
    // SAFETY: the arguments live while the call does, and the child gets a copy of everything.
    let made = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of_val(&arguments),
        )
    };
    assert!(
        made >= 0,
        "process {pid}: {}",
        std::io::Error::last_os_error()
    );
    made
}
