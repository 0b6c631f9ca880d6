//! The files of a cgroup of v2, and what each of them gives (cgroup-v2.rst).

use super::{
    definitions::{
        CPU_LIMIT, CPU_PERIODS, CPU_PRESSURE, CPU_THROTTLED, CPU_THROTTLED_PERIODS, CPU_TIME,
        CPU_USAGE, IO_OPERATIONS, IO_PRESSURE, IO_TRANSFERRED, MEMORY_BY_USE, MEMORY_EVENTS,
        MEMORY_LIMIT, MEMORY_PEAK, MEMORY_PRESSURE, MEMORY_USED, SWAP_USED, TASKS, TASKS_LIMIT,
        TASKS_REFUSED,
    },
    sources::{Out, Part, Source, setting, source, tasks, tasks_limit, tasks_refused},
    text,
};
use crate::model::MetricDef;

pub(super) static SOURCES: [Source; 17] = [
    source(
        "cpu.stat",
        Part::Cpu,
        &[&CPU_USAGE, &CPU_TIME],
        |file, out| {
            let [usage, user, system, periods, throttled, time] = text::values(
                file,
                [
                    "usage_usec",
                    "user_usec",
                    "system_usec",
                    "nr_periods",
                    "nr_throttled",
                    "throttled_usec",
                ],
            )?;
            out.one(&CPU_USAGE, microseconds(usage));
            out.each(
                &CPU_TIME,
                ["user", "system"],
                [user, system].map(microseconds),
            );
            out.one(&CPU_PERIODS, periods);
            out.one(&CPU_THROTTLED_PERIODS, throttled);
            out.one(&CPU_THROTTLED, microseconds(time));
            Ok(())
        },
    ),
    setting(
        "cpu.max",
        Part::Cpu,
        &[
            &CPU_LIMIT,
            &CPU_PERIODS,
            &CPU_THROTTLED_PERIODS,
            &CPU_THROTTLED,
        ],
        |file, out| {
            if let Some(processors) = text::cpu_max(file)? {
                out.gauge(&CPU_LIMIT, [], processors);
            }
            Ok(())
        },
    ),
    source(
        "memory.current",
        Part::Memory,
        &[&MEMORY_USED],
        |file, out| {
            out.gauge(&MEMORY_USED, [], text::number(file)? as f64);
            Ok(())
        },
    ),
    source("memory.peak", Part::Memory, &[&MEMORY_PEAK], |file, out| {
        out.gauge(&MEMORY_PEAK, [], text::number(file)? as f64);
        Ok(())
    }),
    source(
        "memory.stat",
        Part::Memory,
        &[&MEMORY_BY_USE],
        |file, out| {
            let uses = ["anon", "file", "kernel"];
            for (name, value) in uses.into_iter().zip(text::values(file, uses)?) {
                out.level(&MEMORY_BY_USE, name, value);
            }
            Ok(())
        },
    ),
    source(
        "memory.events",
        Part::Memory,
        &[&MEMORY_EVENTS],
        |file, out| {
            let events = ["low", "high", "max", "oom", "oom_kill"];
            out.each(&MEMORY_EVENTS, events, text::values(file, events)?);
            Ok(())
        },
    ),
    source(
        "memory.swap.current",
        Part::Memory,
        &[&SWAP_USED],
        |file, out| {
            out.gauge(&SWAP_USED, [], text::number(file)? as f64);
            Ok(())
        },
    ),
    setting("memory.max", Part::Memory, &[&MEMORY_LIMIT], |file, out| {
        out.level(&MEMORY_LIMIT, "max", text::limit(file)?);
        Ok(())
    }),
    setting(
        "memory.high",
        Part::Memory,
        &[&MEMORY_LIMIT],
        |file, out| {
            out.level(&MEMORY_LIMIT, "high", text::limit(file)?);
            Ok(())
        },
    ),
    setting(
        "memory.swap.max",
        Part::Memory,
        &[&MEMORY_LIMIT],
        |file, out| {
            out.level(&MEMORY_LIMIT, "swap", text::limit(file)?);
            Ok(())
        },
    ),
    source(
        "io.stat",
        Part::Io,
        &[&IO_TRANSFERRED, &IO_OPERATIONS],
        |file, out| {
            for (device, io) in text::io_stat(file)? {
                out.by_device(&IO_TRANSFERRED, device, io.bytes);
                out.by_device(&IO_OPERATIONS, device, io.operations);
            }
            Ok(())
        },
    ),
    source("pids.current", Part::Tasks, &[&TASKS], tasks),
    source("pids.events", Part::Tasks, &[&TASKS_REFUSED], tasks_refused),
    setting("pids.max", Part::Tasks, &[&TASKS_LIMIT], tasks_limit),
    source(
        "cpu.pressure",
        Part::Pressure,
        &[&CPU_PRESSURE],
        |file, out| pressure(&CPU_PRESSURE, file, out),
    ),
    source(
        "io.pressure",
        Part::Pressure,
        &[&IO_PRESSURE],
        |file, out| pressure(&IO_PRESSURE, file, out),
    ),
    source(
        "memory.pressure",
        Part::Pressure,
        &[&MEMORY_PRESSURE],
        |file, out| pressure(&MEMORY_PRESSURE, file, out),
    ),
];

fn pressure(def: &'static MetricDef, file: &[u8], out: &mut Out<'_>) -> anyhow::Result<()> {
    let totals = text::pressure(file)?.map(microseconds);
    out.each(def, ["some", "full"], totals);
    Ok(())
}

fn microseconds(value: Option<u64>) -> Option<u64> {
    value.map(|value| value.saturating_mul(1000))
}
