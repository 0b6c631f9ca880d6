//! What the kernel side cannot record counts as lost: exactly where it can be arranged, completely where it cannot.

use std::{
    collections::BTreeMap,
    fs, hint,
    net::{Ipv4Addr, UdpSocket},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{
    cpus::{last_cpu, stay_on},
    harness::{Attached, machine, skipped_without},
    hidden::{process_1_is_hidden, switches_of_process_1},
    tasks::{Sharing, Task},
};

/// Scenario: two tasks whose thread ids share a place, one of them the highest that a kernel can have, block and run in turns.
/// Guarantees: exactly the stamps that one overwrites of the other are lost; a task that runs has none to lose.
#[test]
fn only_live_stamps_of_tasks_that_share_a_place_are_lost() {
    const ROUNDS: u64 = 5;
    const ATTEMPTS: usize = 40;
    let Some(_machine) = machine() else { return };
    let Some(cpu) = last_cpu() else { return };
    let Some(sharing) = Sharing::new() else {
        return;
    };
    let low = Task::new(sharing.low, 0);
    let high = Task::new(sharing.high, cpu);
    let mut reader = Attached::new("scheduler", "");
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        // The stamp of when it left the CPU is the low one's.
        low.pass();
        let first = reader.read().lost();
        for _ in 0..ROUNDS {
            // Its wake-up overwrites that stamp.
            high.run();
            // Nobody's: the high one runs. Then its own stamp.
            low.pass();
            // Leaving the CPU overwrites that.
            high.rest();
            // The wake-up overwrites the high one's.
            low.pass();
        }
        let lost = reader.read().lost() - first;
        if lost == 3 * ROUNDS {
            return;
        }
        // Somebody else made the one that runs wait.
        assert!(lost >= 3 * ROUNDS, "{lost} lost, not {}", 3 * ROUNDS);
        seen.push(lost);
    }
    panic!("never exactly {} lost, but {seen:?}", 3 * ROUNDS);
}

/// Where packets on loopback are handed to other CPUs; as before when dropped.
struct Steering {
    file: PathBuf,
    before: String,
}

impl Steering {
    /// `None` where the kernel cannot, which it says.
    fn to(cpu: usize) -> Option<Self> {
        let file = PathBuf::from("/sys/class/net/lo/queues/rx-0/rps_cpus");
        let before = fs::read_to_string(&file);
        let steered = before.and_then(|before| {
            fs::write(&file, format!("{:x}", 1u64 << cpu))?;
            Ok(before)
        });
        match steered {
            Ok(before) => Some(Self { file, before }),
            Err(error) => {
                println!("skipped: no packet steering: {}: {error}", file.display());
                None
            }
        }
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        let restored = fs::write(&self.file, &self.before);
        assert!(restored.is_ok() || thread::panicking(), "{restored:?}");
    }
}

/// Scenario: on one CPU a task throws packets away while interrupts on the same CPU throw others away, so that programs meet
/// themselves at work.
/// Guarantees: every packet is counted or lost, and lost are exactly those that the kernel says it skipped a program for.
#[test]
fn drops_that_the_kernel_skips_are_lost() {
    const ATTEMPTS: usize = 10;
    const DATAGRAMS: u64 = 100_000;
    let Some(_machine) = machine() else { return };
    let Some(cpu) = last_cpu().filter(|cpu| *cpu < 64) else {
        return;
    };
    if skipped_without("network.drops") {
        return;
    }
    let mut reader = Attached::new("network", "");
    let Some(_steering) = Steering::to(cpu) else {
        return;
    };
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .expect("a free port");
    for attempt in 1..=ATTEMPTS {
        let hidden = switches_of_process_1();
        let (first, first_skipped) = (reader.read(), skipped());
        let ended = AtomicBool::new(false);
        let thrown = thread::scope(|scope| {
            let throw = scope.spawn(|| {
                stay_on(cpu);
                let mut thrown = 0;
                while !ended.load(Ordering::Relaxed) {
                    thrown += throw_away();
                }
                thrown
            });
            let send = scope.spawn(|| {
                stay_on(0);
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
                for _ in 0..DATAGRAMS {
                    let sent = socket.send_to(&[7; 8], closed);
                    sent.expect("sending to loopback");
                }
            });
            send.join().expect("a thread that sends");
            ended.store(true, Ordering::Relaxed);
            throw.join().expect("a thread that throws packets away")
        });
        thread::sleep(Duration::from_millis(200));
        let least = skipped();
        let last = reader.read();
        let most = skipped();
        let of = |metric| last.counter_or_histogram(metric) - first.counter_or_histogram(metric);
        let (counted, lost) = (of("network.drops"), last.lost() - first.lost());
        let all = DATAGRAMS + thrown;
        println!("attempt {attempt}: {all} packets, {counted} counted, {lost} lost");
        let forgiven = switches_of_process_1() > hidden && process_1_is_hidden();
        assert!(
            counted + lost >= all || forgiven,
            "{counted} and {lost} of {all}"
        );
        let bracket = least - first_skipped..=most - first_skipped;
        assert!(bracket.contains(&lost), "{lost} lost, skipped {bracket:?}");
        if lost > 0 {
            return;
        }
    }
    println!("skipped in part: no program met itself at work, or this kernel lets it run");
}

/// Events that the kernel skipped a program of this process for. A program may have several descriptors.
fn skipped() -> u64 {
    let folder = fs::read_dir("/proc/self/fdinfo").expect("/proc/self/fdinfo");
    let misses = |text: String| {
        let value = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse::<u64>().ok()
        };
        Some((value("prog_id:")?, value("recursion_misses:")?))
    };
    let programs: BTreeMap<_, _> = folder
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(misses)
        .collect();
    programs.values().sum()
}

/// Throws some packets away that were sent and never received. How many.
fn throw_away() -> u64 {
    let (here, there) = UnixDatagram::pair().expect("a pair of sockets");
    here.set_nonblocking(true)
        .expect("a socket that does not wait");
    let sent = (0..8).take_while(|_| here.send(&[7; 8]).is_ok()).count();
    drop(there);
    hint::black_box(here);
    sent as u64
}
