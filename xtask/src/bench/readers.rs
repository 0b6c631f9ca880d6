//! What readers of `/proc` and `/sys` take on a busy machine, each by itself and all together in the probe.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::Context as _;
use dataflux_probe::{
    metadata::MetadataReader,
    metrics::{self, MetricReader},
    model::{Metadata, Snapshot},
};
use rustix::time::{ClockId, clock_gettime};

use super::{
    configuration,
    crowd::{CGROUPS, Crowd, PROCESSES},
    delivery::Section,
    process::{self, MIB, Resident, Row},
    running_probe::Installation,
    statistics::{Bar, Spread},
};
use crate::command::say;

/// Between two reads, so that caches are as cold as between ticks of a machine that does something.
const PAUSE: Duration = Duration::from_millis(20);
/// Reads of each reader for each round of other comparisons.
const READS: usize = 3;
/// How long the probe runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// Of one CPU, at an interval of 1 s.
const CPU_BAR: f64 = 1.0;
const RSS_BAR: f64 = 24.0;

/// Measures readers that attach nothing, with processes and cgroups around that are made for it.
///
/// # Errors
/// A reader cannot be built or read at all, or there can be no cgroups.
pub(super) fn measure(rounds: usize, program: &Path, folder: &Path) -> anyhow::Result<Section> {
    say(format_args!(
        "readers: {PROCESSES} processes, {CGROUPS} cgroups, {} reads of each reader",
        rounds * READS
    ));
    let folder = folder.join("readers");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let crowd = Crowd::gather()?;
    let mut rows = Vec::new();
    let (mut sum, mut floors) = (0.0, 0.0);
    for plugin in metrics::REGISTRY
        .iter()
        .filter(|plugin| plugin.needs.attach.is_empty())
    {
        let (mut reader, kernel) =
            configuration::build(plugin.name, "", &folder, Path::new("/proc"))?;
        if let Err(error) = reader.attach(&kernel) {
            say(format_args!("{}: {error}", plugin.name));
            continue;
        }
        let before = open_files()?;
        let row = metric_reader(plugin.name, &mut *reader, rounds)?;
        sum += row.value;
        rows.push(row);
        let kept: Vec<_> = open_files()?.difference(&before).cloned().collect();
        if !kept.is_empty() {
            let row = floor(&kept, rounds)?;
            floors += row.value;
            rows.push(row);
        }
    }
    let share = |what: &str, time: f64| {
        let bar = Some(Bar::AtMost(CPU_BAR));
        Row::new(what, "% of one CPU", time / 1e6 * 100.0, bar)
    };
    rows.push(share("all of these, once a second", sum));
    rows.push(share(
        "what they take beyond the plain loops, once a second",
        sum - floors,
    ));
    for plugin in configuration::local_metadata() {
        let reader = configuration::build_metadata(plugin.name, &folder)?;
        rows.push(metadata_reader(plugin.name, reader, rounds)?);
    }
    rows.extend(together(program, &folder)?);
    Ok(Section {
        title: format!(
            "Readers of /proc and /sys with {PROCESSES} processes and {CGROUPS} cgroups in {} hierarchies: CPU time of a read",
            crowd.hierarchies()
        ),
        rows,
    })
}

fn metric_reader(name: &str, reader: &mut dyn MetricReader, rounds: usize) -> anyhow::Result<Row> {
    let mut series = 0;
    let times = times(rounds, || {
        let mut snapshot = Snapshot::default();
        let read = reader.read(&mut snapshot);
        series = snapshot.series.len();
        read
    })
    .with_context(|| format!("reading {name}"))?;
    Ok(Row::of_rounds(
        format!("metrics.{name}: {series} series"),
        "us",
        times,
        None,
    ))
}

/// Those of `/proc` and `/sys` that this process has open.
fn open_files() -> anyhow::Result<BTreeSet<PathBuf>> {
    let own = Path::new("/proc/self/fd");
    let listed = fs::read_dir(own).context("/proc/self/fd")?;
    let links = listed
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let is_read = |path: &PathBuf| path.starts_with("/proc") || path.starts_with("/sys");
    Ok(links
        .filter(|path| is_read(path) && path.is_file())
        .collect())
}

/// What the kernel takes for the files that a reader keeps open: each is read once, and nothing done with it.
fn floor(paths: &[PathBuf], rounds: usize) -> anyhow::Result<Row> {
    // Processes may have ended.
    let files: Vec<_> = paths
        .iter()
        .filter_map(|path| File::open(path).ok())
        .collect();
    let mut buffer = vec![0; 16 * 1024];
    let times = times(rounds, || {
        for file in &files {
            // Also those of processes that end in the meantime.
            _ = file.read_at(&mut buffer, 0);
        }
        Ok(())
    })?;
    let what = format!("  a plain loop over its {} open files", files.len());
    Ok(Row::of_rounds(what, "us", times, None))
}

fn metadata_reader(
    name: &str,
    mut reader: Box<dyn MetadataReader>,
    rounds: usize,
) -> anyhow::Result<Row> {
    let read = times(rounds, || reader.read(&mut Metadata::default()));
    match read {
        Ok(times) => Ok(Row::of_rounds(
            format!("metadata.{name}"),
            "us",
            times,
            None,
        )),
        // Not every machine has what it reads.
        Err(error) => Ok(Row::new(
            format!("metadata.{name}: {error:#}"),
            "us",
            f64::NAN,
            None,
        )),
    }
}

/// CPU time of this thread in a read, us.
fn times(rounds: usize, mut read: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Spread> {
    // The first one opens files.
    read()?;
    let mut times = Vec::new();
    for _ in 0..rounds * READS {
        sleep(PAUSE);
        let before = cpu_time();
        read()?;
        times.push((cpu_time() - before).as_secs_f64() * 1e6);
    }
    Spread::of(times).context("nothing was read")
}

/// CPU time of this thread since it began.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The probe with all of them once a second.
fn together(program: &Path, folder: &Path) -> anyhow::Result<[Row; 2]> {
    let text = configuration::without_kernel(folder);
    let probe = Installation::with_configuration(program.to_owned(), folder, &text)?;
    let running = probe.start()?;
    running.wait_for_threads()?;
    sleep(WARM_UP);
    let cpu = process::cpu(&running, Bar::AtMost(CPU_BAR))?;
    let own = Resident::of(&running.folder)?.own;
    running.stop()?;
    let what = |row: &str| format!("{row}, these readers at 1 s into a file");
    Ok([
        Row {
            what: what(&cpu.what),
            ..cpu
        },
        Row::new(
            what("RSS of the probe"),
            "MiB",
            own as f64 / MIB,
            Some(Bar::AtMost(RSS_BAR)),
        ),
    ])
}
