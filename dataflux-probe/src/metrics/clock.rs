//! `clock`: whether the kernel's clock is synchronised, and how it is steered, from adjtimex(2) and sysfs.

use std::{io, path::Path};

use anyhow::Context as _;
use libc::timex;
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::ValueFile,
    model::{Health, LabelValue, MetricDef, NO_LABELS, Snapshot, Status, Unit},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "clock",
    summary: "whether the clock is synchronised, its offset, rate and errors, and its source",
    needs: Needs {
        kernel: "adjtimex(2), /sys/devices/system/clocksource",
        ..Needs::NOTHING
    },
    example: "\
interval = \"1m\"    # clocks drift slowly; without this line: probe.interval
",
    metrics: &[
        &SYNCHRONISED,
        &STATE,
        &OFFSET,
        &CORRECTION,
        &ERROR_ESTIMATED,
        &ERROR_MAXIMUM,
        &SOURCE,
    ],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Clock::new(&context.roots.sys)))
    },
};

static SYNCHRONISED: MetricDef = MetricDef::gauge(
    "clock.synchronised",
    Unit::Count,
    "Whether the clock is synchronised (1) or not (0), as whoever steers it told the kernel; chrony tells only with rtcsync.",
    &[],
);
static STATE: MetricDef = MetricDef::gauge(
    "clock.state",
    Unit::Count,
    "The state of the clock: 0 normal, 1 or 2 a leap second will be inserted or deleted at the end of the day, 3 one is in \
     progress, 4 one has been, 5 not synchronised.",
    &[],
);
static OFFSET: MetricDef = MetricDef::gauge(
    "clock.offset",
    Unit::Nanoseconds,
    "What the kernel has yet to add to the clock (above 0) or to take off it, of what it was asked to by ntpd or systemd-timesyncd; \
     chrony steers by the rate.",
    &[],
);
static CORRECTION: MetricDef = MetricDef::gauge(
    "clock.correction",
    Unit::Ratio,
    "By how much the clock is made to run faster (above 0) or slower than by itself: 0.000001 is a microsecond each second.",
    &[],
);
static ERROR_ESTIMATED: MetricDef = MetricDef::gauge(
    "clock.error_estimated",
    Unit::Nanoseconds,
    "The clock's error as whoever steers it estimated it last.",
    &[],
);
static ERROR_MAXIMUM: MetricDef = MetricDef::gauge(
    "clock.error_maximum",
    Unit::Nanoseconds,
    "The clock's error at most, which the kernel lets grow until it is told better; at 16 s the clock is not synchronised any \
     more.",
    &[],
);
static SOURCE: MetricDef = MetricDef::gauge(
    "clock.source",
    Unit::Count,
    "The counter that the kernel tells time by: always 1.",
    &["source"],
);

/// What adjtimex tells.
const STEERING: [&MetricDef; 6] = [
    &SYNCHRONISED,
    &STATE,
    &OFFSET,
    &CORRECTION,
    &ERROR_ESTIMATED,
    &ERROR_MAXIMUM,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Clock {
    source: ValueFile,
}

impl Clock {
    fn new(sys: &Path) -> Self {
        let file = "devices/system/clocksource/clocksource0/current_clocksource";
        Self {
            source: ValueFile::new(sys.join(file)),
        }
    }
}

impl MetricReader for Clock {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        push(look(), out)?;
        let name = self.source.read(|text| {
            let name = text.trim();
            (!name.is_empty()).then(|| name.to_owned())
        });
        match self.source.optional(name)? {
            Some(name) => out.gauge(&SOURCE, None, [LabelValue::from(name)], 1.0),
            None => out.unsupported.push(&SOURCE),
        }
        Ok(())
    }
}

/// The clock's state, and how it is steered. Changes nothing.
fn look() -> io::Result<(i64, timex)> {
    // SAFETY: all zeros are a value of this struct of integers.
    let mut steering: timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to that struct only, and with `modes` 0 it only tells. By its number, because the C libraries use
    // one of two calls, and what filters system calls for the probe has to know which.
    let state = unsafe { libc::syscall(libc::SYS_adjtimex, &raw mut steering) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((state, steering))
}

fn push(looked: io::Result<(i64, timex)>, out: &mut Snapshot) -> anyhow::Result<()> {
    let (state, steering) = match looked {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            out.unsupported.extend(STEERING);
            out.health = Health::new(
                Status::Degraded,
                "adjtimex is refused: whatever started the probe filters system calls (ProtectClock= of systemd)",
            );
            return Ok(());
        }
        looked => looked.context("adjtimex")?,
    };
    let synchronised = steering.status & libc::STA_UNSYNC == 0;
    let offset = if steering.status & libc::STA_NANO == 0 {
        1000 * steering.offset
    } else {
        steering.offset
    };
    let values = [
        f64::from(u8::from(synchronised)),
        state as f64,
        offset as f64,
        correction(&steering),
        (1000 * steering.esterror) as f64,
        (1000 * steering.maxerror) as f64,
    ];
    for (def, value) in STEERING.into_iter().zip(values) {
        out.gauge(def, None, NO_LABELS, value);
    }
    Ok(())
}

/// How many ticks the kernel reckons with in a second here (`USER_HZ`): nominally, one lasts 10,000 us.
const TICKS: f64 = 100.0;

/// `freq` is in millionths with 16 binary digits; what is beyond its range is in the length of a tick.
fn correction(steering: &timex) -> f64 {
    let tick = (steering.tick - 10_000) as f64 * TICKS / 1e6;
    let frequency = steering.freq as f64 / 65_536.0 / 1e6;
    tick + frequency
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host_file::testing::total,
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn steering(change: impl FnOnce(&mut timex)) -> timex {
        // SAFETY: as in `look`.
        let mut steering: timex = unsafe { std::mem::zeroed() };
        steering.tick = 10_000;
        change(&mut steering);
        steering
    }

    fn values(looked: io::Result<(i64, timex)>) -> Vec<f64> {
        let mut snapshot = Snapshot::default();
        push(looked, &mut snapshot).unwrap();
        let defs = snapshot.series.iter().map(|series| series.def);
        assert!(defs.eq(STEERING));
        let value = |total: &Total| match total {
            Total::Gauge(value) => *value,
            other => panic!("{other:?}"),
        };
        snapshot.series.iter().map(|it| value(&it.value)).collect()
    }

    #[test]
    fn microseconds_become_nanoseconds_and_parts_of_a_million_a_ratio() {
        let steered = steering(|it| {
            it.status = libc::STA_NANO;
            it.offset = -1234;
            it.freq = -3 << 16;
            it.esterror = 5;
            it.maxerror = 16_000_000;
        });
        let expected = [1.0, 0.0, -1234.0, -3e-6, 5000.0, 16e9];
        assert_eq!(values(Ok((0, steered))), expected);
        let free = steering(|it| {
            it.status = libc::STA_UNSYNC;
            it.offset = 7;
            it.tick = 10_001;
            it.freq = 1 << 15;
        });
        let expected = [0.0, 5.0, 7000.0, 1e-4 + 0.5e-6, 0.0, 0.0];
        assert_eq!(values(Ok((5, free))), expected);
    }

    #[test]
    fn a_call_that_is_refused_is_told_and_no_other_value_suffers() {
        let mut snapshot = Snapshot::default();
        push(
            Err(io::Error::from_raw_os_error(libc::EPERM)),
            &mut snapshot,
        )
        .unwrap();
        assert_eq!(snapshot.unsupported, STEERING);
        assert_eq!(snapshot.health.status, Status::Degraded);
        assert!(
            push(
                Err(io::Error::from_raw_os_error(libc::EFAULT)),
                &mut snapshot
            )
            .is_err()
        );
    }

    #[test]
    fn this_machine_has_a_clock_and_its_source() {
        let mut context = context(fixtures());
        let mut snapshot = Snapshot::default();
        let mut reader = PLUGIN.build_from("", &context).unwrap();
        reader.read(&mut snapshot).unwrap();
        let source = total(&snapshot, "clock.source", &["tsc"]);
        assert_eq!(source, Some(Total::Gauge(1.0)));
        assert_eq!(snapshot.series.len(), PLUGIN.metrics.len());
        context.roots.sys = "/nowhere".into();
        let mut snapshot = Snapshot::default();
        let mut reader = PLUGIN.build_from("", &context).unwrap();
        reader.read(&mut snapshot).unwrap();
        assert_eq!(snapshot.unsupported, [&SOURCE]);
    }
}
