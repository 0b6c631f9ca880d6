//! Which lines of `/proc/meminfo` are which metric.

use crate::model::{MetricDef, Unit};

/// A metric and its line.
pub(super) struct Level {
    pub(super) def: MetricDef,
    pub(super) line: &'static str,
}

const fn bytes(name: &'static str, line: &'static str, help: &'static str) -> Level {
    Level {
        def: MetricDef::gauge(name, Unit::Bytes, help, &[]),
        line,
    }
}

const fn pages(name: &'static str, line: &'static str, help: &'static str) -> Level {
    Level {
        def: MetricDef::gauge(name, Unit::Count, help, &[]),
        line,
    }
}

pub(super) static LEVELS: [Level; 26] = [
    bytes(
        "memory.total",
        "MemTotal",
        "Memory that the kernel can use.",
    ),
    bytes("memory.free", "MemFree", "Memory that nothing uses."),
    bytes(
        "memory.available",
        "MemAvailable",
        "Memory that could be had without swapping, by the kernel's estimate.",
    ),
    bytes(
        "memory.buffers",
        "Buffers",
        "Page cache of block devices themselves.",
    ),
    bytes(
        "memory.cached",
        "Cached",
        "Page cache of files, shared memory included, swap cache not.",
    ),
    bytes("memory.swap_total", "SwapTotal", "Swap space."),
    bytes(
        "memory.swap_free",
        "SwapFree",
        "Swap space that nothing uses.",
    ),
    bytes(
        "memory.swap_cached",
        "SwapCached",
        "Memory that is in the swap space as well.",
    ),
    bytes(
        "memory.dirty",
        "Dirty",
        "Memory that waits to be written to its file.",
    ),
    bytes(
        "memory.writeback",
        "Writeback",
        "Memory that is being written to its file.",
    ),
    bytes(
        "memory.anonymous",
        "AnonPages",
        "Memory without a file that processes have mapped.",
    ),
    bytes(
        "memory.mapped",
        "Mapped",
        "Page cache that processes have mapped.",
    ),
    bytes("memory.shared", "Shmem", "Shared memory and tmpfs."),
    bytes(
        "memory.slab_reclaimable",
        "SReclaimable",
        "Kernel objects that can be given up under pressure.",
    ),
    bytes(
        "memory.slab_unreclaimable",
        "SUnreclaim",
        "Kernel objects that cannot be given up.",
    ),
    bytes(
        "memory.kernel_stack",
        "KernelStack",
        "Kernel stacks of all tasks.",
    ),
    bytes(
        "memory.page_tables",
        "PageTables",
        "Page tables of processes.",
    ),
    bytes(
        "memory.per_cpu",
        "Percpu",
        "Memory that the kernel keeps for each CPU, without its bookkeeping.",
    ),
    bytes(
        "memory.committed",
        "Committed_AS",
        "Memory that processes were promised, used or not.",
    ),
    bytes(
        "memory.commit_limit",
        "CommitLimit",
        "What may be promised at most while vm.overcommit_memory is 2.",
    ),
    bytes(
        "memory.transparent_huge_pages",
        "AnonHugePages",
        "Memory without a file that is in transparent huge pages.",
    ),
    bytes(
        "memory.huge_tlb",
        "Hugetlb",
        "Memory set aside for huge pages of all sizes, used or not.",
    ),
    pages(
        "memory.huge_pages",
        "HugePages_Total",
        "Huge pages of the default size in the pool.",
    ),
    pages(
        "memory.huge_pages_free",
        "HugePages_Free",
        "Huge pages of the default size in the pool that nothing has allocated.",
    ),
    pages(
        "memory.huge_pages_reserved",
        "HugePages_Rsvd",
        "Huge pages of the default size that are promised and not allocated yet.",
    ),
    pages(
        "memory.huge_pages_surplus",
        "HugePages_Surp",
        "Huge pages of the default size in the pool above its set size.",
    ),
];

/// The rest of the file, where it is asked for.
pub(super) static DETAILS: [Level; 22] = [
    bytes(
        "memory.active_anonymous",
        "Active(anon)",
        "Memory without a file, and shared memory, that was used lately.",
    ),
    bytes(
        "memory.inactive_anonymous",
        "Inactive(anon)",
        "Memory without a file, and shared memory, that was not used lately: swapped out first.",
    ),
    bytes(
        "memory.active_file",
        "Active(file)",
        "Page cache that was used lately.",
    ),
    bytes(
        "memory.inactive_file",
        "Inactive(file)",
        "Page cache that was not used lately: reclaimed first.",
    ),
    bytes(
        "memory.unevictable",
        "Unevictable",
        "Memory that cannot be reclaimed, locked memory included.",
    ),
    bytes("memory.locked", "Mlocked", "Memory locked by mlock."),
    bytes(
        "memory.zswap",
        "Zswap",
        "Memory that zswap keeps compressed pages in.",
    ),
    bytes(
        "memory.zswapped",
        "Zswapped",
        "What the pages in zswap would take uncompressed.",
    ),
    bytes(
        "memory.kernel_reclaimable",
        "KReclaimable",
        "Memory of the kernel that can be given up under pressure, memory.slab_reclaimable included.",
    ),
    bytes(
        "memory.page_tables_secondary",
        "SecPageTables",
        "Page tables of virtual machines and I/O memory management units.",
    ),
    bytes(
        "memory.virtual_used",
        "VmallocUsed",
        "Memory that the kernel has mapped page by page (vmalloc).",
    ),
    bytes(
        "memory.virtual_total",
        "VmallocTotal",
        "Address space for memory.virtual_used.",
    ),
    bytes(
        "memory.shared_huge_pages",
        "ShmemHugePages",
        "Shared memory and tmpfs in transparent huge pages.",
    ),
    bytes(
        "memory.shared_huge_pages_mapped",
        "ShmemPmdMapped",
        "Shared memory and tmpfs mapped as whole huge pages.",
    ),
    bytes(
        "memory.file_huge_pages",
        "FileHugePages",
        "Page cache in transparent huge pages.",
    ),
    bytes(
        "memory.file_huge_pages_mapped",
        "FilePmdMapped",
        "Page cache mapped as whole huge pages.",
    ),
    bytes(
        "memory.huge_page_size",
        "Hugepagesize",
        "The default size of a huge page.",
    ),
    bytes(
        "memory.contiguous_total",
        "CmaTotal",
        "Memory set aside for devices that need it contiguous (CMA), which movable pages use meanwhile.",
    ),
    bytes(
        "memory.contiguous_free",
        "CmaFree",
        "What of memory.contiguous_total nothing uses.",
    ),
    bytes(
        "memory.corrupted",
        "HardwareCorrupted",
        "Memory that is not used any more because the hardware found it faulty.",
    ),
    bytes(
        "memory.balloon",
        "Balloon",
        "Memory that drivers gave back to the hypervisor.",
    ),
    bytes(
        "memory.unaccepted",
        "Unaccepted",
        "Memory that a confidential machine has not accepted from its host yet.",
    ),
];
