//! What stands above the sources: when, who, which numbers, and what is out of the ordinary.

use std::io::{self, Write as _};

use super::scale::time;
use crate::{
    formatters::{Fields, naming::visible, rfc3339::Rfc3339},
    model::{Gap, Numbered, WallTime, Window},
};

/// Steps of the wall clock below this, in ns, are the inexactness of reading two clocks.
const WORTH_TELLING: u64 = 1_000_000;

/// Writes one line that every envelope has, and a line for each thing that few have.
pub(super) fn write(numbered: &Numbered, fields: &Fields, out: &mut Vec<u8>) -> io::Result<()> {
    let Window {
        start,
        stop,
        duration,
        suspended,
        clock_step,
    } = numbered.envelope.window;
    let (date, start) = date_and_time(start);
    let (stop_date, stop) = date_and_time(stop);
    let stop = if stop_date == date {
        stop
    } else {
        format!("{stop_date} {stop}")
    };
    write!(out, "{date} {start} .. {stop} UTC  {}", time(duration))?;
    for (section, key) in [("host", "name"), ("os", "kernel")] {
        let fact = fields.fact(&numbered.envelope.metadata, section, key);
        if let Some(fact) = fact.and_then(|fact| fact.as_str()) {
            write!(out, "  {}", visible(fact))?;
        }
    }
    let (first, last) = (*numbered.range.start(), *numbered.range.end());
    let id = visible(&numbered.stream.id);
    writeln!(out, "  {id} {}", numbers(first, last))?;

    if first < last {
        let windows = u128::from(last) - u128::from(first) + 1;
        writeln!(out, "  merged: {windows} windows in one")?;
    }
    if numbered.part.parts > 1 {
        writeln!(
            out,
            "  part {} of {}",
            numbered.part.part, numbered.part.parts
        )?;
    }
    if !suspended.is_zero() {
        writeln!(out, "  suspended: {} more than that", time(suspended))?;
    }
    if clock_step.unsigned_abs() >= WORTH_TELLING {
        let sign = if clock_step < 0 { '-' } else { '+' };
        let step = std::time::Duration::from_nanos(clock_step.unsigned_abs());
        writeln!(out, "  wall clock stepped: {sign}{}", time(step))?;
    }
    if !numbered.gaps.is_empty() {
        writeln!(out, "  lost: {}", gaps(&numbered.gaps))?;
    }
    let mut earlier = numbered.stream.previous.as_ref();
    while let Some(previous) = earlier {
        let (date, stop) = date_and_time(previous.stop_time);
        let id = visible(&previous.id);
        write!(
            out,
            "  before: {id} up to #{}, {date} {stop} UTC",
            previous.last
        )?;
        if !previous.gaps.is_empty() {
            write!(out, ", lost: {}", gaps(&previous.gaps))?;
        }
        writeln!(out)?;
        earlier = previous.previous.as_deref();
    }
    Ok(())
}

/// To the millisecond.
fn date_and_time(time: WallTime) -> (String, String) {
    let text = Rfc3339(time).to_string();
    (text[..10].to_owned(), text[11..23].to_owned())
}

fn gaps(gaps: &[Gap]) -> String {
    let gaps: Vec<_> = gaps
        .iter()
        .map(|gap| format!("{} ({})", numbers(gap.first, gap.last), gap.cause.name()))
        .collect();
    gaps.join(", ")
}

fn numbers(first: u64, last: u64) -> String {
    if first == last {
        format!("#{first}")
    } else {
        format!("#{first}..{last}")
    }
}
