//! `network_stack`: what IP, ICMP, TCP and UDP of the host did and lost, its sockets, and the connections that its firewall
//! tracks, from `/proc/1/net`.
//!
//! The counters are those of process 1's network namespace. IPv6 that is switched off has no files, and so no series.

mod definitions;
mod fields;
mod parse;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::{HostFile, first_line},
    model::{Kind, NO_LABELS, Snapshot},
    plugin::{Needs, Plugin},
};
use definitions::{CONNTRACK_ENTRIES, CONNTRACK_EVENTS, CONNTRACK_LIMIT, METRICS};
use fields::FIELDS;

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "network_stack",
    summary: "packets, errors and drops of IP, ICMP, TCP and UDP, sockets in use, tracked connections",
    needs: Needs {
        kernel: "/proc/1/net: snmp, netstat, sockstat, with IPv6 snmp6 and sockstat6, with a firewall stat/nf_conntrack",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &METRICS,
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(NetworkStack::new(&context.roots.proc)))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct NetworkStack {
    files: [Source; 5],
    conntrack: PathBuf,
    conntrack_stat: HostFile,
    /// Where the limit of connections may stand.
    conntrack_limit: [PathBuf; 2],
    /// By field, what this read found.
    values: Vec<Option<u64>>,
    page: u64,
}

/// A file of fields.
struct Source {
    path: PathBuf,
    file: HostFile,
    format: Format,
    /// Whether it is there on every kernel.
    always: bool,
    places: Places,
}

#[derive(Clone, Copy)]
enum Format {
    Columns,
    Lines,
    Pairs,
}

/// Which field stands at which place of a file, as it was at the last read: the kernel does not change its order.
#[derive(Default)]
struct Places(Vec<(String, String, Option<usize>)>);

/// Files of the kernel have a few hundred fields; those beyond are looked for anew.
const MOST_PLACES: usize = 4096;

impl Places {
    /// The index of the field, if it is one of [`FIELDS`].
    fn find(&mut self, place: usize, group: &str, name: &str) -> Option<usize> {
        if let Some((known_group, known_name, field)) = self.0.get(place)
            && known_group == group
            && known_name == name
        {
            return *field;
        }
        let field = FIELDS
            .iter()
            .position(|field| field.group == group && field.name == name);
        if place < MOST_PLACES {
            self.0.truncate(place);
            // Fields come in order, so that this is the next one.
            self.0.push((group.to_owned(), name.to_owned(), field));
        }
        field
    }
}

impl NetworkStack {
    fn new(proc: &Path) -> Self {
        let net = proc.join("1/net");
        let files = [
            ("snmp", Format::Columns, true),
            ("netstat", Format::Columns, true),
            ("sockstat", Format::Pairs, true),
            ("snmp6", Format::Lines, false),
            ("sockstat6", Format::Pairs, false),
        ];
        let source = |(name, format, always)| Source {
            path: net.join(name),
            file: HostFile::new(net.join(name)),
            format,
            always,
            places: Places::default(),
        };
        let conntrack = net.join("stat/nf_conntrack");
        Self {
            files: files.map(source),
            conntrack_stat: HostFile::new(conntrack.clone()),
            conntrack,
            conntrack_limit: ["netfilter/nf_conntrack_max", "nf_conntrack_max"]
                .map(|name| proc.join("sys/net").join(name)),
            values: vec![None; FIELDS.len()],
            page: rustix::param::page_size() as u64,
        }
    }

    /// The limit is one for all namespaces.
    fn conntrack(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        if !self.conntrack.exists() {
            out.unsupported
                .extend([&CONNTRACK_ENTRIES, &CONNTRACK_LIMIT, &CONNTRACK_EVENTS]);
            return Ok(());
        }
        let found = self.conntrack_stat.read(parse::conntrack)?;
        out.gauge(&CONNTRACK_ENTRIES, None, NO_LABELS, found.entries as f64);
        let mut limits = self.conntrack_limit.iter();
        match limits.find_map(|path| first_line(path)?.parse::<u64>().ok()) {
            Some(limit) => out.gauge(&CONNTRACK_LIMIT, None, NO_LABELS, limit as f64),
            None => out.unsupported.push(&CONNTRACK_LIMIT),
        }
        for (event, count) in parse::EVENTS.into_iter().zip(found.events) {
            out.counter(&CONNTRACK_EVENTS, None, [event], count);
        }
        Ok(())
    }
}

impl MetricReader for NetworkStack {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        self.values.fill(None);
        let values = &mut self.values;
        for Source {
            path,
            file,
            format,
            always,
            places,
        } in &mut self.files
        {
            if !*always && !path.exists() {
                continue;
            }
            file.read(|text| {
                let visit = |place, group: &str, name: &str, value: &str| {
                    if let Some(field) = places.find(place, group, name) {
                        let number = number(value)
                            .with_context(|| format!("`{value}` of {group}{name} is no number"));
                        values[field] = Some(number?);
                    }
                    Ok(())
                };
                match format {
                    Format::Columns => parse::columns(text, visit),
                    Format::Lines => parse::lines(text, visit),
                    Format::Pairs => parse::pairs(text, visit),
                }
            })?;
        }
        let mut values = self.values.iter();
        for fields in FIELDS.chunk_by(|one, next| std::ptr::eq(one.def, next.def)) {
            let known = out.series.len();
            for (field, value) in fields.iter().zip(&mut values) {
                if let Some(value) = value {
                    push(out, field, *value, self.page);
                }
            }
            if out.series.len() == known {
                out.unsupported.push(fields[0].def);
            }
        }
        self.conntrack(out)
    }
}

/// Levels can be below 0 for a moment, as the kernel adds up what its CPUs count one after the other.
fn number(value: &str) -> Option<u64> {
    match value.parse::<u64>() {
        Ok(number) => Some(number),
        Err(_) => value.parse::<i64>().ok().map(|_| 0),
    }
}

fn push(out: &mut Snapshot, field: &fields::Field, value: u64, page: u64) {
    let labels = field.labels.iter().copied();
    if field.def.kind != Kind::Gauge {
        out.counter(field.def, None, labels, value);
        return;
    }
    // A level below 0 as an unsigned number.
    let level = if i64::try_from(value).is_err() {
        0
    } else {
        value
    };
    let scale = if field.pages { page } else { 1 };
    out.gauge(field.def, None, labels, level.saturating_mul(scale) as f64);
}

#[cfg(test)]
mod tests;
