//! `load`: the load averages, from `/proc/loadavg`.

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::HostFile,
    model::{Kind, MetricDef, Snapshot, Unit},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "load",
    summary: "load averages over 1, 5 and 15 minutes",
    needs: Needs {
        kernel: "/proc/loadavg",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[&AVERAGE],
    build: |section, context| {
        let Config {} = section.parse()?;
        let loadavg = HostFile::new(context.roots.proc.join("loadavg"));
        Ok(Box::new(Load { loadavg }))
    },
};

static AVERAGE: MetricDef = MetricDef {
    name: "load.average",
    kind: Kind::Gauge,
    unit: Unit::Ratio,
    help: "Tasks that run, are ready to run or sleep without being interruptible, averaged by the kernel every 5 s with a weight \
           that fades over this time; two decimals.",
    labels: &["over"],
};

const OVER: [&str; 3] = ["1m", "5m", "15m"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Load {
    loadavg: HostFile,
}

impl MetricReader for Load {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let LoadAverages { averages, .. } = self.loadavg.read(LoadAverages::parse)?;
        for (over, average) in OVER.into_iter().zip(averages) {
            out.gauge(&AVERAGE, None, [over], average);
        }
        Ok(())
    }
}

/// `/proc/loadavg`, whose fifth column, the last process id, is of no use.
#[derive(Debug, PartialEq)]
pub(super) struct LoadAverages {
    /// In the order of [`OVER`].
    averages: [f64; 3],
    /// Tasks that exist, on the whole machine: threads, each process with at least one.
    pub(super) threads: u64,
}

impl LoadAverages {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut averages = [0.0; 3];
        for average in &mut averages {
            let word = words
                .next()
                .context("there are fewer than three averages")?;
            // A float may also be written as `nan` or `1e9`.
            ensure!(
                word.bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.'),
                "`{word}` is no average"
            );
            *average = word
                .parse()
                .with_context(|| format!("`{word}` is no average"))?;
        }
        let tasks = words.next().and_then(|word| word.split_once('/'));
        let (_, threads) = tasks.context("the fourth column is not `RUNNING/ALL`")?;
        Ok(Self {
            averages,
            threads: threads.parse().context("tasks")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        host_file::testing::{survives_damage, total},
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn read(proc: &str) -> Snapshot {
        let mut context = context(fixtures());
        if !proc.is_empty() {
            context.roots.proc = proc.into();
        }
        let mut snapshot = Snapshot::default();
        PLUGIN
            .build_from("", &context)
            .unwrap()
            .read(&mut snapshot)
            .unwrap();
        snapshot
    }

    #[test]
    fn each_average_has_its_time() {
        let snapshot = read("");
        for (over, value) in [("1m", 30.09), ("5m", 14.46), ("15m", 7.28)] {
            let average = total(&snapshot, "load.average", &[over]);
            assert_eq!(average, Some(Total::Gauge(value)), "{over}");
        }
        assert_eq!(snapshot.series.len(), 3);
    }

    #[test]
    fn this_machine_agrees_with_sysinfo() {
        // It changes every 5 s: one of a few looks has the same before and after.
        let look = || {
            let text = fs::read_to_string("/proc/loadavg").unwrap();
            text.split(' ')
                .take(3)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for _ in 0..20 {
            let (before, snapshot, info) = (look(), read("/proc"), rustix::system::sysinfo());
            if before != look() {
                continue;
            }
            for (at, over) in OVER.into_iter().enumerate() {
                let Some(Total::Gauge(value)) = total(&snapshot, "load.average", &[over]) else {
                    panic!("{over}")
                };
                // The call gives the same with 16 binary digits, without the file's rounding.
                let exact = info.loads[at] as f64 / 65_536.0;
                assert!((value - exact).abs() < 0.011, "{over}: {value} {exact}");
            }
            return;
        }
        panic!("the averages changed at every look");
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        survives_damage(&PLUGIN, &["loadavg"]);
    }

    proptest! {
        #[test]
        fn any_text_is_averages_or_an_error(text in "[0-9./ a-z\\n-]{0,60}") {
            if let Ok(load) = LoadAverages::parse(&text) {
                prop_assert!(load.averages.iter().all(|average| *average >= 0.0));
            }
        }

        #[test]
        fn what_the_kernel_writes_is_understood(whole in 0u32..100_000, cents in 0u32..100, running: u32, threads: u64) {
            let text = format!("{whole}.{cents:02} 0.00 0.01 {running}/{threads} 77\n");
            let load = LoadAverages::parse(&text).unwrap();
            prop_assert!((load.averages[0] - (f64::from(whole) + f64::from(cents) / 100.0)).abs() < 1e-6);
            prop_assert_eq!(load.threads, threads);
        }
    }
}
