//! What kernel programs and maps cost: memory, and how often programs ran, as the kernel accounts for them.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use aya::{Ebpf, maps::MapData};
use dataflux_common::{block_io, limits, network, scheduler};

use super::load::{Outcome, Program};
use crate::pipeline::counters::{Counters, RunningProgram};

/// What the kernel says of one program, in `/proc/self/fdinfo` (kernel/bpf/syscall.c, `bpf_prog_show_fdinfo`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgramStatistics {
    /// Bytes of memory.
    pub memlock: u64,
    /// Time in the program while statistics were on, ns.
    pub run_time_ns: u64,
    /// Runs while statistics were on.
    pub run_cnt: u64,
    /// Events skipped because the program was already running on that CPU (since 5.12).
    pub recursion_misses: u64,
}

impl ProgramStatistics {
    /// Reads them; what the kernel does not tell is 0.
    #[must_use]
    pub fn read(program: BorrowedFd<'_>) -> Self {
        let text = fdinfo(program);
        let value = |name: &str| field(&text, name).unwrap_or(0);
        Self {
            memlock: value("memlock"),
            run_time_ns: value("run_time_ns"),
            run_cnt: value("run_cnt"),
            recursion_misses: value("recursion_misses"),
        }
    }
}

/// Adds an object's memory to the counters that the `probe` reader reports.
pub(super) fn publish(ebpf: &Ebpf, counters: &Counters) {
    let maps = ebpf.maps().filter_map(|(_, map)| descriptor(map));
    counters.kernel_map_bytes.add(
        maps.map(|map| field(&fdinfo(map), "memlock").unwrap_or(0))
            .sum(),
    );
    let programs = ebpf.programs().filter_map(|(_, program)| program.fd().ok());
    counters.kernel_program_bytes.add(
        programs
            .map(|program| ProgramStatistics::read(program.as_fd()).memlock)
            .sum(),
    );
}

/// The programs that run, by descriptors of our own. They are known to those who account for them as long as these are kept.
pub(super) fn register(
    ebpf: &Ebpf,
    reader: &'static str,
    programs: &[(&'static Program, Outcome)],
    counters: &Counters,
) -> Vec<Arc<OwnedFd>> {
    let running = programs
        .iter()
        .filter(|(_, outcome)| *outcome == Outcome::Ok);
    let register = |(program, _): &(&'static Program, Outcome)| {
        let of_aya = ebpf.program(program.name)?.fd().ok()?;
        let descriptor = of_aya.as_fd().try_clone_to_owned().inspect_err(|error| {
            let name = program.name;
            tracing::warn!("{reader}: what the kernel says of {name} is not counted: {error}");
        });
        let descriptor = Arc::new(descriptor.ok()?);
        counters.add_program(RunningProgram {
            reader,
            name: program.name,
            descriptor: Arc::downgrade(&descriptor),
        });
        Some(descriptor)
    };
    running.filter_map(register).collect()
}

fn descriptor(map: &aya::maps::Map) -> Option<BorrowedFd<'_>> {
    use aya::maps::Map;
    let data: &MapData = match map {
        Map::Array(data) | Map::RingBuf(data) | Map::HashMap(data) | Map::PerCpuArray(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd())
}

fn fdinfo(descriptor: BorrowedFd<'_>) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()))
        .unwrap_or_default()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(':')?
            .trim()
            .parse()
            .ok()
    })
}

/// Bytes of kernel memory that the maps of all readers take on a machine with so many possible CPUs, whatever its limit of
/// thread ids.
#[must_use]
pub const fn budget(possible_cpus: usize) -> usize {
    const PAGE: usize = 4096;
    const fn pages(bytes: usize) -> usize {
        bytes.next_multiple_of(PAGE)
    }
    let per_cpu = pages(possible_cpus * size_of::<scheduler::Cpu>())
        + pages(possible_cpus * size_of::<network::Cpu>());
    let tasks = limits::TASKS * size_of::<scheduler::Task>();
    let block = pages(block_io::DEVICES_BYTES)
        + pages(size_of::<block_io::Totals>())
        + limits::ISSUED_REQUESTS * size_of::<block_io::Issued>();
    // A ring buffer has a page of its own for each side beside its data.
    let diagnostics = 3 * (limits::DIAGNOSTICS_BYTES + 3 * PAGE);
    per_cpu + tasks + block + diagnostics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_memory_stays_within_its_bounds() {
        for (cpus, mebibytes) in [(2, 12), (64, 24), (256, 64)] {
            assert!(
                budget(cpus) <= mebibytes << 20,
                "{cpus} CPUs: {} bytes",
                budget(cpus)
            );
        }
    }

    #[test]
    fn fdinfo_fields_are_told_apart() {
        let text = "prog_id:\t7\nrun_time_ns:\t12\nrun_cnt:\t3\n";
        assert_eq!(
            (
                field(text, "run_cnt"),
                field(text, "run_time"),
                field(text, "memlock")
            ),
            (Some(3), None, None)
        );
    }
}
