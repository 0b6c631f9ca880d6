//! How fast each formatter writes what the default configuration's readers tell, beside what the standard tools would do.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use dataflux_probe::{
    config::{Config, Registries},
    formatters::{self, Formatter},
    model::{Numbered, Value},
};

use super::{
    delivery::{Section, envelopes, size},
    process::Row,
    statistics::Spread,
};
use crate::command::say;

/// What the envelope covers.
const WINDOW: Duration = Duration::from_secs(5);

/// Measures every formatter in its default form.
///
/// # Errors
/// One cannot be built, or refuses the envelope.
pub(super) fn measure(rounds: usize) -> anyhow::Result<Section> {
    say(format_args!("formatters: {rounds} rounds of each"));
    let envelope = Arc::new(envelopes::scaled(&envelopes::read(WINDOW)?));
    let record = size::numbered(&envelope, 1);
    let json = size::format(&*formatter("json")?, &record)?;
    let tree: serde_json::Value = serde_json::from_slice(&json)?;
    let mut subjects = vec![
        Subject::new("serde_json, a tree of the JSON document", |out| {
            Ok(serde_json::to_writer(out, &tree)?)
        }),
        Subject::new("write!, a line a series", |out| {
            out.extend_from_slice(plain(&record)?.as_bytes());
            Ok(())
        }),
    ];
    for plugin in formatters::REGISTRY {
        let formatter = formatter(plugin.name)?;
        let (record, stop) = (&record, envelope.window.stop);
        let format = move |out: &mut Vec<u8>| {
            let formatted = formatter.format(record, stop, out);
            formatted.with_context(|| format!("formatting as {}", plugin.name))
        };
        subjects.push(Subject::new(plugin.name, format));
    }
    // Each once a round, so that what disturbs one disturbs the others as well.
    for _ in 0..rounds {
        for subject in &mut subjects {
            subject.measure()?;
        }
    }
    let rows = subjects
        .into_iter()
        .map(Subject::row)
        .collect::<anyhow::Result<_>>()?;
    let series: usize = envelope
        .sources
        .iter()
        .map(|source| source.metrics.len())
        .sum();
    Ok(Section {
        title: format!("Formatters, an envelope of {series} series, beside plain tools"),
        rows,
    })
}

/// As the configuration makes it.
fn formatter(name: &str) -> anyhow::Result<Box<dyn Formatter>> {
    // What a template is to say has no default.
    let options = match name {
        "template" => "[output.bench.template]\nline = \"{metric} {value}\"\n",
        _ => "",
    };
    let text = format!(
        "[metrics.cpu]\n[output.bench]\nformatter = {name:?}\nlogger = \"stdout\"\n{options}"
    );
    let config = Config::parse(Path::new("bench"), text, Registries::BUILT_IN)?;
    let output = config.outputs.into_iter().next();
    Ok(output.context("one output was configured")?.formatter)
}

/// Name, labels and value of every series, as the standard library writes them.
fn plain(record: &Numbered) -> anyhow::Result<String> {
    let mut text = String::new();
    for metric in record
        .envelope
        .sources
        .iter()
        .flat_map(|source| &source.metrics)
    {
        write!(text, "{}", metric.def.name)?;
        for label in &*metric.labels {
            write!(text, ",{label}")?;
        }
        match &metric.value {
            Value::Counter { value, total } => writeln!(text, " {} {total}", value.unwrap_or(0))?,
            Value::Gauge { value, min, max } => writeln!(text, " {value} {min} {max}")?,
            Value::Histogram(buckets) => {
                write!(text, " {}", buckets.sum)?;
                for (index, count) in &buckets.counts {
                    write!(text, " {index}:{count}")?;
                }
                writeln!(text)?;
            }
        }
    }
    Ok(text)
}

type Write<'a> = Box<dyn FnMut(&mut Vec<u8>) -> anyhow::Result<()> + 'a>;

/// Something that writes the envelope.
struct Subject<'a> {
    what: &'static str,
    write: Write<'a>,
    buffer: Vec<u8>,
    rates: Vec<f64>,
}

impl<'a> Subject<'a> {
    fn new(what: &'static str, write: impl FnMut(&mut Vec<u8>) -> anyhow::Result<()> + 'a) -> Self {
        Self {
            what,
            write: Box::new(write),
            buffer: Vec::new(),
            rates: Vec::new(),
        }
    }

    fn measure(&mut self) -> anyhow::Result<()> {
        let rate = size::rate(&mut self.buffer, &mut self.write)?;
        self.rates.push(rate);
        Ok(())
    }

    fn row(self) -> anyhow::Result<Row> {
        let spread = Spread::of(self.rates).context("no round was measured")?;
        let what = format!(
            "{}: {:.1} KiB",
            self.what,
            self.buffer.len() as f64 / 1024.0
        );
        Ok(Row::of_rounds(what, "MB/s", spread, None))
    }
}
