//! The spool beside the disk that it is on, and how soon a start with a large one delivers.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dataflux_probe::pipeline::benching::pass;

use super::{
    super::{
        process::Row,
        statistics::{Bar, Spread},
    },
    Section,
    backlog::{self, Backlog},
    empty, envelopes, size,
};
use crate::command::say;

/// Envelopes that pass through the spool in each round.
const COUNT: u64 = 16_384;
/// Different ones among them.
const VARIANTS: usize = 64;
/// Envelopes that are appended before one is read: more than the spool keeps in memory.
const SOON: u64 = 256;
/// How much the large spool holds.
const LARGE: u64 = 1 << 30;
const MB: f64 = 1e6;

pub(super) fn measure(rounds: usize, probe: &Path, folder: &Path) -> anyhow::Result<Section> {
    let like = envelopes::read(Duration::from_secs(2))?;
    let envelopes = envelopes::varied(&like, VARIANTS);
    let json = size::formatter()?;
    let mut payload = Vec::new();
    for envelope in &envelopes {
        payload.extend(size::format(&*json, &size::numbered(envelope, 1))?);
    }
    let text_bytes = payload.len() as u64 * COUNT / VARIANTS as u64;
    say(format_args!(
        "spool: {rounds} rounds of {COUNT} envelopes, {:.0} MB as JSON",
        text_bytes as f64 / MB
    ));
    let place = folder.join("pass");
    let mut rows = Vec::new();
    for (what, lag) in [("soon", SOON), ("late", COUNT)] {
        let mut measured: [Vec<f64>; 5] = Default::default();
        for _ in 0..rounds {
            empty(&place)?;
            let passed = pass(&place, &envelopes, COUNT, lag)?;
            let took = passed.took.as_secs_f64();
            empty(&place)?;
            let disk = write(&place.join("file"), &payload, passed.bytes)?;
            let spool = passed.bytes as f64 / took;
            for (list, value) in measured.iter_mut().zip([
                COUNT as f64 / took,
                spool / MB,
                disk / MB,
                spool / disk,
                text_bytes as f64 / took / disk,
            ]) {
                list.push(value);
            }
        }
        let [rate, bytes, disk, ratio, content] =
            measured.map(|values| Spread::of(values).context("no round was measured"));
        rows.extend([
            Row::of_rounds(format!("append, read {what}, trim"), "1/s", rate?, None),
            Row::of_rounds("bytes of its records", "MB/s", bytes?, None),
            Row::of_rounds("disk, as many bytes in one file", "MB/s", disk?, None),
            Row::of_rounds(
                format!("bytes of records read {what}, of the disk"),
                "",
                ratio?,
                (lag == SOON).then_some(Bar::AtLeast(0.5)),
            ),
            Row::of_rounds(
                format!("bytes of the same envelopes as JSON, read {what}, of the disk"),
                "",
                content?,
                None,
            ),
        ]);
    }
    empty(&place)?;
    rows.extend(first_out(rounds, probe, folder)?);
    Ok(Section {
        title: "The spool beside its disk, sync = interval".to_owned(),
        rows,
    })
}

/// Writes these bytes, again and again, to a new file, synced once a second and at the end: bytes per second.
fn write(path: &Path, bytes: &[u8], count: u64) -> anyhow::Result<f64> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let begin = Instant::now();
    let (mut left, mut synced) = (count, begin);
    while left > 0 {
        let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        file.write_all(&bytes[..length])?;
        left -= length as u64;
        if synced.elapsed() >= Duration::from_secs(1) {
            synced = Instant::now();
            file.sync_data()?;
        }
    }
    file.sync_data()?;
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}

/// From the start of the process to the broker's acknowledgement of the first envelope, with 1 GiB in the spool.
fn first_out(rounds: usize, probe: &Path, folder: &Path) -> anyhow::Result<Vec<Row>> {
    say("spool: filling 1 GiB");
    let backlog = Backlog::fill(folder, |feed, _| feed.left_bytes() >= LARGE)?;
    let files = segments(&backlog.state)?;
    let bytes: u64 = files
        .iter()
        .map(|path| Ok(fs::metadata(path)?.len()))
        .sum::<io::Result<u64>>()?;
    anyhow::ensure!(bytes >= LARGE, "the spool has {bytes} bytes only");
    let broker = super::broker::Broker::start(folder)?;
    let (mut warm, mut cold, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds.min(5) {
        let first = |what| {
            let topic = format!("first-{what}-{round}");
            backlog::first_arrival(probe, &backlog, &broker, &topic)
        };
        evict(&files)?;
        cold.push(first("cold")?);
        evict(&files)?;
        let begin = Instant::now();
        read(&files)?;
        disk.push(begin.elapsed().as_secs_f64());
        warm.push(first("warm")?);
    }
    let spread = |values| Spread::of(values).context("no round was measured");
    let envelopes = backlog.count;
    Ok(vec![
        Row::of_rounds(
            format!("first of {envelopes} envelopes out of 1 GiB, from the start"),
            "s",
            spread(warm)?,
            Some(Bar::AtMost(1.0)),
        ),
        Row::of_rounds(
            "the same with none of its files in the page cache",
            "s",
            spread(cold)?,
            Some(Bar::AtMost(1.0)),
        ),
        Row::of_rounds("disk, reading these files once", "s", spread(disk)?, None),
    ])
}

fn segments(state: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(state.join("spool/main"))? {
        files.push(entry?.path());
    }
    Ok(files)
}

/// Reads them to their ends.
fn read(files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        // One that was trimmed meanwhile needs no reading.
        let Ok(mut file) = File::open(path) else {
            continue;
        };
        io::copy(&mut file, &mut io::sink())?;
    }
    Ok(())
}

/// Has the kernel forget what it has of these files, as after a boot.
fn evict(files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        // One that was trimmed meanwhile needs no forgetting.
        let Ok(file) = File::open(path) else { continue };
        file.sync_all()?;
        rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}
