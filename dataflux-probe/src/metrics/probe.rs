//! `probe`: what the probe itself costs, and whether its readers and outputs keep up.

mod accounting;
mod kafka;
mod outputs;

use std::{process, sync::Arc};

use serde::Deserialize;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::{AttachError, MetricReader};
use crate::{
    kernel::Kernel,
    model::{Born, Fall, Health, Kind, MetricDef, NO_LABELS, Snapshot, Status, Unit},
    pipeline::counters::{Counters, ReaderCounters},
    plugin::{Needs, Plugin},
};
use accounting::Accounting;

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "probe",
    summary: "the probe's own processor time and memory, its readers and its outputs",
    needs: Needs {
        kernel: "/proc of the probe's own process",
        ..Needs::NOTHING
    },
    example: "accounting = false  # how often and how long each kernel program ran; needs CAP_SYS_ADMIN at the start",
    metrics: &[
        &CPU_TIME,
        &RSS,
        &KERNEL_MAPS,
        &KERNEL_PROGRAMS,
        &KERNEL_MAPPED,
        &accounting::RUN_TIME,
        &accounting::RUNS,
        &MISSED_TICKS,
        &RELOADS,
        &READER_READS,
        &READER_FAILURES,
        &READER_LATE,
        &READER_READ_TIME,
        &READER_OTHER_ENTITIES,
        &outputs::ENVELOPES,
        &outputs::DELIVERED,
        &outputs::DELIVERED_BYTES,
        &outputs::RETRIES,
        &outputs::MERGED,
        &outputs::LOST,
        &outputs::QUEUE_BYTES,
        &outputs::QUEUE_ENVELOPES,
        &outputs::IN_FLIGHT,
        &outputs::LEFT_OUT,
        &kafka::ACKNOWLEDGE_TIME,
        &kafka::PRODUCERS,
        &kafka::MESSAGES,
        &kafka::MESSAGE_BYTES,
        &kafka::REQUESTS,
        &kafka::REQUEST_BYTES,
        &kafka::RETRIES,
        &kafka::ERRORS,
        &kafka::CONNECTS,
        &kafka::DISCONNECTS,
        &kafka::QUEUE_MESSAGES,
        &kafka::QUEUE_BYTES,
        &kafka::BROKER_UP,
        &kafka::BROKER_LATENCY,
        &kafka::BROKER_THROTTLE,
    ],
    build: |section, context| {
        let Config { accounting } = section.parse()?;
        Ok(Box::new(Probe {
            accounting: accounting.then(Accounting::default),
            ..Probe::new(Arc::clone(&context.counters))
        }))
    },
};

/// All of it began with the probe.
const COUNTER: Kind = Kind::Counter {
    born: Born::Zero,
    fall: Fall::Restart,
};

const NONE: &[&str] = &[];
const READER: &[&str] = &["reader"];
const OUTPUT: &[&str] = &["output"];

static CPU_TIME: MetricDef = def(
    "probe.cpu_time",
    COUNTER,
    Unit::Nanoseconds,
    "Processor time that the probe has used, in user and kernel mode; in whole ticks of the kernel.",
    NONE,
);
static RSS: MetricDef = def(
    "probe.rss",
    Kind::Gauge,
    Unit::Bytes,
    "Memory of the probe that is resident, mapped kernel maps included.",
    NONE,
);
static KERNEL_MAPS: MetricDef = def(
    "probe.kernel.map_memory",
    Kind::Gauge,
    Unit::Bytes,
    "Kernel memory of the probe's maps.",
    NONE,
);
static KERNEL_PROGRAMS: MetricDef = def(
    "probe.kernel.program_memory",
    Kind::Gauge,
    Unit::Bytes,
    "Kernel memory of the probe's programs.",
    NONE,
);
static KERNEL_MAPPED: MetricDef = def(
    "probe.kernel.mapped_memory",
    Kind::Gauge,
    Unit::Bytes,
    "Memory of maps that the probe has mapped: in the maps' bytes, and in the resident memory as well.",
    NONE,
);
static MISSED_TICKS: MetricDef = def(
    "probe.missed_ticks",
    COUNTER,
    Unit::Count,
    "Ticks that passed while the one before was still at work, or while the machine was suspended.",
    NONE,
);
static RELOADS: MetricDef = def(
    "probe.reloads",
    COUNTER,
    Unit::Count,
    "Reloads of the configuration: put in force, or refused as a whole.",
    &["outcome"],
);
static READER_READS: MetricDef = def(
    "probe.reader.reads",
    COUNTER,
    Unit::Count,
    "Reads that succeeded.",
    READER,
);
static READER_FAILURES: MetricDef = def(
    "probe.reader.failures",
    COUNTER,
    Unit::Count,
    "Reads that failed.",
    READER,
);
static READER_LATE: MetricDef = def(
    "probe.reader.late",
    COUNTER,
    Unit::Count,
    "Reads that were not done when their envelope had to leave.",
    READER,
);
static READER_READ_TIME: MetricDef = def(
    "probe.reader.read_time",
    COUNTER,
    Unit::Nanoseconds,
    "Time that reads took.",
    READER,
);

static READER_OTHER_ENTITIES: MetricDef = def(
    "probe.reader.other_entities",
    Kind::Gauge,
    Unit::Count,
    "Entities beyond the reader's max_entities, which are reported together as other; absent while there never was one.",
    READER,
);

const fn def(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDef {
    MetricDef {
        name,
        kind,
        unit,
        help,
        labels,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    accounting: bool,
}

struct Probe {
    counters: Arc<Counters>,
    accounting: Option<Accounting>,
    system: System,
}

impl Probe {
    fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            accounting: None,
            system: System::new(),
        }
    }

    /// The kernel's figures for this process. Threads have none of their own to read: the process's hold theirs.
    fn process(&mut self, out: &mut Snapshot) {
        let pid = Pid::from_u32(process::id());
        let wanted = ProcessRefreshKind::nothing()
            .without_tasks()
            .with_cpu()
            .with_memory();
        let refreshed =
            self.system
                .refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
        match self.system.process(pid) {
            Some(own) if refreshed == 1 => {
                let cpu_time = own.accumulated_cpu_time().saturating_mul(1_000_000);
                out.counter(&CPU_TIME, None, NO_LABELS, cpu_time);
                out.gauge(&RSS, None, NO_LABELS, own.memory() as f64);
            }
            _ => {
                let reason = format!("cannot read /proc/{pid}, the probe's own process");
                out.health = Health::new(Status::Degraded, reason);
            }
        }
    }
}

impl MetricReader for Probe {
    fn attach(&mut self, _kernel: &Kernel) -> Result<(), AttachError> {
        self.accounting.iter_mut().for_each(Accounting::switch_on);
        Ok(())
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        self.process(out);
        let counters = &self.counters;
        if let Some(accounting) = &self.accounting {
            accounting.push(out, &counters.programs());
        }
        for (def, level) in [
            (&KERNEL_MAPS, &counters.kernel_map_bytes),
            (&KERNEL_PROGRAMS, &counters.kernel_program_bytes),
            (&KERNEL_MAPPED, &counters.mapped_bytes),
        ] {
            out.gauge(def, None, NO_LABELS, level.get() as f64);
        }
        out.counter(&MISSED_TICKS, None, NO_LABELS, counters.missed_ticks.get());
        out.counter(&RELOADS, None, ["in_force"], counters.reloads.get());
        out.counter(&RELOADS, None, ["refused"], counters.reloads_refused.get());
        for (name, reader) in counters.readers() {
            push_reader(out, name, &reader);
        }
        for (name, output) in counters.outputs() {
            outputs::push(out, &name, &output);
        }
        for (name, kafka) in counters.kafkas() {
            kafka::push(out, &name, &kafka);
        }
        Ok(())
    }
}

fn push_reader(out: &mut Snapshot, name: &'static str, reader: &ReaderCounters) {
    for (def, counter) in [
        (&READER_READS, &reader.reads),
        (&READER_FAILURES, &reader.failures),
        (&READER_LATE, &reader.late),
        (&READER_READ_TIME, &reader.read_ns),
    ] {
        out.counter(def, None, [name], counter.get());
    }
    if reader.is_bounded.get() > 0 {
        let count = reader.other_entities.get() as f64;
        out.gauge(&READER_OTHER_ENTITIES, None, [name], count);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{host_file::testing::total, model::Total, pipeline::counters::OutputCounters};

    fn read(probe: &mut Probe) -> Snapshot {
        let mut snapshot = Snapshot::default();
        probe.read(&mut snapshot).unwrap();
        assert_eq!(snapshot.health, Health::default());
        snapshot
    }

    #[test]
    fn every_counter_of_the_pipeline_is_told() {
        let counters = Arc::new(Counters::default());
        counters.missed_ticks.add(1);
        counters.reloads.add(21);
        counters.reloads_refused.add(22);
        counters.kernel_map_bytes.set(2);
        counters.kernel_program_bytes.set(3);
        counters.mapped_bytes.set(4);
        let reader = counters.reader("cpu");
        let output = counters.output("main");
        for (value, counter) in (5..).zip([
            &reader.reads,
            &reader.failures,
            &reader.late,
            &reader.read_ns,
        ]) {
            counter.add(value);
        }
        let OutputCounters {
            envelopes,
            delivered,
            delivered_bytes,
            retries,
            merged,
            lost_queue_full,
            lost_rejected,
            lost_unformattable,
            lost_damaged,
            queue_bytes,
            queue_envelopes,
            in_flight,
            left_out,
        } = &*output;
        for (value, counter) in (9..).zip([
            envelopes,
            delivered,
            delivered_bytes,
            retries,
            merged,
            lost_queue_full,
            lost_rejected,
            lost_unformattable,
            lost_damaged,
            queue_bytes,
            queue_envelopes,
            in_flight,
            left_out,
        ]) {
            counter.add(value);
        }
        let unbounded = read(&mut Probe::new(Arc::clone(&counters)));
        let other = |snapshot| total(snapshot, "probe.reader.other_entities", &["cpu"]);
        assert_eq!(other(&unbounded), None);
        reader.is_bounded.set(1);
        reader.other_entities.set(21);
        let bounded = read(&mut Probe::new(Arc::clone(&counters)));
        assert_eq!(other(&bounded), Some(Total::Gauge(21.0)));
        reader.is_bounded.set(0);
        let snapshot = read(&mut Probe::new(counters));
        let told: Vec<u64> = snapshot.series[2..]
            .iter()
            .map(|series| match series.value {
                Total::Counter(value) => value,
                Total::Gauge(value) => value as u64,
                Total::Histogram(_) => panic!("{} is no histogram", series.def.name),
            })
            .collect();
        assert_eq!(
            told,
            [2, 3, 4, 1, 21, 22]
                .into_iter()
                .chain(5..22)
                .collect::<Vec<u64>>()
        );
        let lost = total(&snapshot, "probe.output.lost", &["main", "rejected"]);
        assert_eq!(lost, Some(Total::Counter(15)));
        let late = total(&snapshot, "probe.reader.late", &["cpu"]);
        assert_eq!(late, Some(Total::Counter(7)));
    }

    #[test]
    fn its_own_cpu_time_and_memory_grow_with_work() {
        let mut probe = Probe::new(Arc::default());
        let both = |probe: &mut Probe| {
            let snapshot = read(probe);
            match [
                total(&snapshot, "probe.cpu_time", &[]),
                total(&snapshot, "probe.rss", &[]),
            ] {
                [Some(Total::Counter(time)), Some(Total::Gauge(rss))] => (time, rss as u64),
                other => panic!("{other:?}"),
            }
        };
        let (time, rss) = both(&mut probe);
        let start = Instant::now();
        let ballast = vec![1u8; 64 << 20];
        let mut later = (0, 0);
        while later.0 < time + 50_000_000 && start.elapsed() < Duration::from_secs(60) {
            std::hint::black_box(&ballast).iter().for_each(|byte| {
                std::hint::black_box(byte);
            });
            later = both(&mut probe);
        }
        assert!(later.0 >= time + 50_000_000, "{time} {later:?}");
        assert!(later.1 >= rss + (48 << 20), "{rss} {later:?}");
    }
}
