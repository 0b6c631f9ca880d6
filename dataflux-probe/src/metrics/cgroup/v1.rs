//! The files of a cgroup of v1, by controller, and what each of them gives (Documentation/admin-guide/cgroup-v1/).

use super::{
    definitions::{
        CPU_LIMIT, CPU_PERIODS, CPU_THROTTLED, CPU_THROTTLED_PERIODS, CPU_TIME, CPU_USAGE,
        IO_OPERATIONS, IO_TRANSFERRED, MEMORY_BY_USE, MEMORY_EVENTS, MEMORY_LIMIT, MEMORY_PEAK,
        MEMORY_USED, SWAP_USED, TASKS, TASKS_LIMIT, TASKS_REFUSED,
    },
    sources::{Part, Source, setting, source, tasks, tasks_limit, tasks_refused},
    text,
};

/// A controller of v1 with a hierarchy of its own, or one that it shares with others.
pub(super) struct Controller {
    pub(super) name: &'static str,
    pub(super) part: Part,
    /// What the root of its hierarchy has.
    pub(super) sign: &'static str,
    pub(super) sources: &'static [Source],
}

pub(super) static CONTROLLERS: [Controller; 5] = [
    Controller {
        name: "cpuacct",
        part: Part::Cpu,
        sign: "cpuacct.usage",
        sources: &[
            source("cpuacct.usage", Part::Cpu, &[&CPU_USAGE], |file, out| {
                out.one(&CPU_USAGE, Some(text::number(file)?));
                Ok(())
            }),
            source("cpuacct.stat", Part::Cpu, &[&CPU_TIME], |file, out| {
                let modes = ["user", "system"];
                let ticks = text::values(file, modes)?;
                let nanosecond = 1_000_000_000 / procfs::ticks_per_second();
                let times = ticks.map(|ticks| Some(ticks?.saturating_mul(nanosecond)));
                out.each(&CPU_TIME, modes, times);
                Ok(())
            }),
        ],
    },
    Controller {
        name: "cpu",
        part: Part::Cpu,
        sign: "cpu.shares",
        sources: &[
            source(
                "cpu.stat",
                Part::Cpu,
                &[&CPU_PERIODS, &CPU_THROTTLED_PERIODS, &CPU_THROTTLED],
                |file, out| {
                    let [periods, throttled, time] =
                        text::values(file, ["nr_periods", "nr_throttled", "throttled_time"])?;
                    out.one(&CPU_PERIODS, periods);
                    out.one(&CPU_THROTTLED_PERIODS, throttled);
                    out.one(&CPU_THROTTLED, time);
                    Ok(())
                },
            ),
            setting(
                "cpu.cfs_period_us",
                Part::Cpu,
                &[&CPU_LIMIT],
                |file, out| {
                    out.period = Some(text::number(file)?).filter(|&period| period > 0);
                    Ok(())
                },
            ),
            setting("cpu.cfs_quota_us", Part::Cpu, &[&CPU_LIMIT], |file, out| {
                if file != b"-1\n"
                    && let Some(period) = out.period
                {
                    let quota = text::number(file)?;
                    out.gauge(&CPU_LIMIT, [], quota as f64 / period as f64);
                }
                Ok(())
            }),
        ],
    },
    Controller {
        name: "memory",
        part: Part::Memory,
        sign: "memory.usage_in_bytes",
        sources: &[
            source(
                "memory.usage_in_bytes",
                Part::Memory,
                &[&MEMORY_USED],
                |file, out| {
                    out.gauge(&MEMORY_USED, [], text::number(file)? as f64);
                    Ok(())
                },
            ),
            source(
                "memory.max_usage_in_bytes",
                Part::Memory,
                &[&MEMORY_PEAK],
                |file, out| {
                    out.gauge(&MEMORY_PEAK, [], text::number(file)? as f64);
                    Ok(())
                },
            ),
            source(
                "memory.stat",
                Part::Memory,
                &[&MEMORY_BY_USE, &SWAP_USED],
                |file, out| {
                    let [anon, page_cache, swap] =
                        text::values(file, ["total_rss", "total_cache", "total_swap"])?;
                    out.level(&MEMORY_BY_USE, "anon", anon);
                    out.level(&MEMORY_BY_USE, "file", page_cache);
                    if let Some(swap) = swap {
                        out.gauge(&SWAP_USED, [], swap as f64);
                    }
                    Ok(())
                },
            ),
            source(
                "memory.kmem.usage_in_bytes",
                Part::Memory,
                &[&MEMORY_BY_USE],
                |file, out| {
                    out.level(&MEMORY_BY_USE, "kernel", Some(text::number(file)?));
                    Ok(())
                },
            ),
            source(
                "memory.failcnt",
                Part::Memory,
                &[&MEMORY_EVENTS],
                |file, out| {
                    out.each(&MEMORY_EVENTS, ["max"], [Some(text::number(file)?)]);
                    Ok(())
                },
            ),
            source(
                "memory.oom_control",
                Part::Memory,
                &[&MEMORY_EVENTS],
                |file, out| {
                    let events = ["oom_kill"];
                    out.each(&MEMORY_EVENTS, events, text::values(file, events)?);
                    Ok(())
                },
            ),
            setting(
                "memory.limit_in_bytes",
                Part::Memory,
                &[&MEMORY_LIMIT],
                |file, out| {
                    let limit = Some(text::number(file)?).filter(|&limit| limit < UNLIMITED);
                    out.level(&MEMORY_LIMIT, "max", limit);
                    Ok(())
                },
            ),
        ],
    },
    Controller {
        name: "blkio",
        part: Part::Io,
        sign: "blkio.throttle.io_serviced_recursive",
        sources: &[
            source(
                "blkio.throttle.io_service_bytes_recursive",
                Part::Io,
                &[&IO_TRANSFERRED],
                |file, out| {
                    for (device, values) in text::blkio(file)? {
                        out.by_device(&IO_TRANSFERRED, device, values);
                    }
                    Ok(())
                },
            ),
            source(
                "blkio.throttle.io_serviced_recursive",
                Part::Io,
                &[&IO_OPERATIONS],
                |file, out| {
                    for (device, values) in text::blkio(file)? {
                        out.by_device(&IO_OPERATIONS, device, values);
                    }
                    Ok(())
                },
            ),
        ],
    },
    Controller {
        name: "pids",
        part: Part::Tasks,
        sign: "cgroup.procs",
        sources: &[
            source("pids.current", Part::Tasks, &[&TASKS], tasks),
            source("pids.events", Part::Tasks, &[&TASKS_REFUSED], tasks_refused),
            setting("pids.max", Part::Tasks, &[&TASKS_LIMIT], tasks_limit),
        ],
    },
];

/// v1 writes the largest number of whole pages for no limit; nobody sets one like it.
const UNLIMITED: u64 = 1 << 62;
