//! `docs/reference/kernels.md` as text: what is known of every kernel, written, and read again by the next run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context as _, ensure};

use super::name::Name;

/// What is known of one kernel: its line of the first table, and its column of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: Name,
    pub(crate) release: String,
    pub(crate) passed: usize,
    pub(crate) failed: Vec<Cell>,
    pub(crate) skipped: Vec<Cell>,
    /// How many tests the run was not asked for.
    pub(crate) left_out: usize,
    pub(crate) readers: Cells,
    pub(crate) programs: Cells,
    /// Of programs too: what the verifier did.
    pub(crate) verifier: Cells,
}

/// By what stands at the left of a table.
pub(crate) type Cells = BTreeMap<String, Cell>;

/// A word, the reason behind it if it needs one, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cell {
    pub(crate) word: String,
    pub(crate) reason: Option<String>,
    pub(crate) rest: String,
}

impl Cell {
    pub(crate) fn new(word: &str, reason: Option<&str>) -> Self {
        Self {
            word: word.to_owned(),
            reason: reason.map(str::to_owned),
            rest: String::new(),
        }
    }
}

/// One of a kernel's columns of cells.
type Part = fn(&Column) -> &Cells;

const NONE: &str = "-";
const REASONS: &str = "\n## Reasons\n\n";

const INTRODUCTION: &str = "# Kernels

Written by `cargo xtask kernel-test --record` with `--vm KERNEL...` or `--matrix`: the kernel tests as root in guests that
run these kernels of Debian, with a virtio disk, null_blk, network namespaces with veth, cgroups of both versions, two
NUMA nodes, firmware that tells of memory (x86_64), and two processors emulated by one thread. Each kernel's results are of
the last run that was recorded of it; `left out` are tests that the run was not asked for. A name is a series; the cloud flavour
on x86_64 if it says nothing else. All of them run the same kernel objects.
Big-endian and 32-bit machines are out of scope.

";

const READERS: &str = "
## Readers

The status of each reader's first envelope, and what the kernel does not give.

";

const PROGRAMS: &str = "\n## Programs\n\n";

const VERIFIER: &str = "
## The verifier's work

For each program, over all branches: instructions that the verifier went through / states that it kept / the most of these at one
time. `-` is a program that is not loaded. The test `verifier::no_program_comes_near_the_verifiers_limits` states the bounds that
none may exceed.

";

/// The new columns instead of older ones of the same kernels, in the order of the kernels.
pub(crate) fn merge(earlier: Vec<Column>, new: Vec<Column>) -> Vec<Column> {
    let mut all = new;
    for column in earlier {
        if all.iter().all(|other| other.name != column.name) {
            all.push(column);
        }
    }
    all.sort_by_key(|Column { name, .. }| (name.architecture, name.flavour, name.series));
    all
}

/// The document of these kernels.
pub(crate) fn write(columns: &[Column]) -> String {
    let mut notes = Notes::default();
    let mut text = String::from(INTRODUCTION);
    text += &tests(columns, &mut notes);
    let mut add = |above: &str, what: &str, part: Part| {
        text += above;
        text += &table(what, columns, part, &mut notes);
    };
    add(READERS, "reader", |column| &column.readers);
    add(PROGRAMS, "reader and program", |column| &column.programs);
    add(VERIFIER, "reader and program", |column| &column.verifier);
    text += REASONS;
    for (number, note) in (1..).zip(&notes.0) {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{number}. {note}");
    }
    text
}

/// Reasons, each told once below the tables.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn write(&mut self, cell: &Cell) -> String {
        let Cell { word, reason, rest } = cell;
        let Some(reason) = reason else {
            return format!("{word}{rest}");
        };
        let known = self.0.iter().position(|note| note == reason);
        let number = known.unwrap_or_else(|| {
            self.0.push(reason.clone());
            self.0.len() - 1
        });
        format!("{word} ({}){rest}", number + 1)
    }

    fn list(&mut self, cells: &[Cell]) -> String {
        let cells: Vec<_> = cells.iter().map(|cell| self.write(cell)).collect();
        match cells.as_slice() {
            [] => NONE.to_owned(),
            cells => cells.join(", "),
        }
    }

    fn read(&self, text: &str) -> anyhow::Result<Cell> {
        let numbered = || {
            let (word, behind) = text.split_once(" (")?;
            let (number, rest) = behind.split_once(')')?;
            Some((word, number.parse::<usize>().ok()?, rest))
        };
        let Some((word, number, rest)) = numbered() else {
            return Ok(Cell::new(text, None));
        };
        let reason = number.checked_sub(1).and_then(|index| self.0.get(index));
        let reason = reason.with_context(|| format!("there is no reason {number}"))?;
        Ok(Cell {
            rest: rest.to_owned(),
            ..Cell::new(word, Some(reason))
        })
    }

    fn read_list(&self, text: &str) -> anyhow::Result<Vec<Cell>> {
        let cells = text.split(", ").filter(|text| *text != NONE);
        cells.map(|text| self.read(text)).collect()
    }
}

fn tests(columns: &[Column], notes: &mut Notes) -> String {
    let mut text = String::from(
        "| kernel | release | passed | failed | skipped | left out |\n|---|---|---|---|---|---|\n",
    );
    for column in columns {
        let (failed, skipped) = (notes.list(&column.failed), notes.list(&column.skipped));
        let Column {
            name,
            release,
            passed,
            left_out,
            ..
        } = column;
        let _infallible = writeln!(
            text,
            "| {name} | {release} | {passed} | {failed} | {skipped} | {left_out} |"
        );
    }
    text
}

fn table(what: &str, columns: &[Column], part: Part, notes: &mut Notes) -> String {
    let names: Vec<_> = columns
        .iter()
        .map(|column| column.name.to_string())
        .collect();
    let mut text = format!(
        "| {what} | {} |\n|{}\n",
        names.join(" | "),
        "---|".repeat(columns.len() + 1)
    );
    let rows: BTreeSet<_> = columns
        .iter()
        .flat_map(|column| part(column).keys())
        .collect();
    for row in rows {
        let mut cell = |column: &Column| {
            let cell = part(column).get(row);
            cell.map_or_else(|| NONE.to_owned(), |cell| notes.write(cell))
        };
        let cells: Vec<_> = columns.iter().map(&mut cell).collect();
        let _infallible = writeln!(text, "| {row} | {} |", cells.join(" | "));
    }
    text
}

/// The kernels of a document that [`write`] wrote.
pub(crate) fn read(text: &str) -> anyhow::Result<Vec<Column>> {
    let (tables, reasons) = text
        .split_once(REASONS)
        .context("it has no part with reasons")?;
    let reason = |line: &str| Some(line.split_once(". ")?.1.to_owned());
    let notes = Notes(reasons.lines().filter_map(reason).collect());
    let tables: Vec<_> = tables
        .split("\n\n")
        .map(str::trim)
        .filter(|text| text.starts_with('|'))
        .map(rows)
        .collect();
    let [tests, readers, programs, verifier] = tables.as_slice() else {
        anyhow::bail!("it has {} tables, not 4", tables.len());
    };
    let mut columns = tests
        .iter()
        .skip(1)
        .map(|row| kernel(row, &notes))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, column) in columns.iter_mut().enumerate() {
        for (table, cells) in [
            (readers, &mut column.readers),
            (programs, &mut column.programs),
            (verifier, &mut column.verifier),
        ] {
            *cells = of_kernel(table, index, &column.name, &notes)?;
        }
    }
    Ok(columns)
}

/// The cells of each line of a table, without the line below its head.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let cells = |line: &str| line.len() > 4 && !line.starts_with("|---");
    table
        .lines()
        .filter(|line| cells(line))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn kernel(row: &[&str], notes: &Notes) -> anyhow::Result<Column> {
    let &[name, release, passed, failed, skipped, left_out] = row else {
        anyhow::bail!("a kernel has {} cells, not 6: {row:?}", row.len());
    };
    let number = |text: &str| {
        text.parse()
            .with_context(|| format!("`{text}` is no number"))
    };
    Ok(Column {
        name: name.parse()?,
        release: release.to_owned(),
        passed: number(passed)?,
        failed: notes.read_list(failed)?,
        skipped: notes.read_list(skipped)?,
        left_out: number(left_out)?,
        readers: Cells::new(),
        programs: Cells::new(),
        verifier: Cells::new(),
    })
}

fn of_kernel(
    table: &[Vec<&str>],
    index: usize,
    name: &Name,
    notes: &Notes,
) -> anyhow::Result<Cells> {
    let (head, rows) = table.split_first().context("a table is empty")?;
    ensure!(
        head.get(index + 1) == Some(&name.to_string().as_str()),
        "column {index} is not of {name}: {head:?}"
    );
    let mut cells = Cells::new();
    for row in rows {
        let text = row.get(index + 1).context("a row is too short")?;
        if *text != NONE {
            cells.insert(row[0].to_owned(), notes.read(text)?);
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, verifier: &[(&str, &str)]) -> Column {
        let cells = |list: &[(&str, &str)]| {
            let cell = |(row, word): &(&str, &str)| ((*row).to_owned(), Cell::new(word, None));
            list.iter().map(cell).collect()
        };
        Column {
            name: name.parse().unwrap(),
            release: format!("{name}.0"),
            passed: 30,
            failed: Vec::new(),
            skipped: Vec::new(),
            left_out: 0,
            readers: cells(&[("`network`", "ok")]),
            programs: cells(&[("`network` `xmit`", "ok")]),
            verifier: cells(verifier),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let reason = Some("this kernel (or another) has no reasons");
        let mut old = column("5.10", &[]);
        old.skipped = vec![Cell::new("`a::b`", reason), Cell::new("`a::c`", reason)];
        old.failed = vec![Cell::new("`d::e`", None)];
        old.left_out = 3;
        let unsupported = Cell {
            rest: ", without `network.drops`".into(),
            ..Cell::new("degraded", reason)
        };
        old.readers.insert("`network`".into(), unsupported);
        let columns = [
            old,
            column(
                "newest-generic-arm64",
                &[("`network` `xmit`", "321 / 20 / 9")],
            ),
        ];
        let text = write(&columns);
        assert_eq!(read(&text).unwrap(), columns, "{text}");
        assert!(
            text.contains("| 30 | `d::e` | `a::b` (1), `a::c` (1) | 3 |"),
            "{text}"
        );
        assert!(
            text.contains("| `network` `xmit` | - | 321 / 20 / 9 |"),
            "{text}"
        );
    }

    #[test]
    fn a_kernel_that_ran_again_is_replaced_and_the_others_stay() {
        let earlier = ["newest", "6.1", "6.1-arm64"].map(|name| column(name, &[]));
        let new = ["5.10", "6.1", "6.1-generic"].map(|name| column(name, &[("a", "1")]));
        let all = merge(earlier.to_vec(), new.to_vec());
        let names: Vec<_> = all.iter().map(|column| column.name.to_string()).collect();
        assert_eq!(names, ["5.10", "6.1", "newest", "6.1-generic", "6.1-arm64"]);
        let ran_again: Vec<_> = all
            .iter()
            .map(|column| !column.verifier.is_empty())
            .collect();
        assert_eq!(ran_again, [true, true, false, true, false]);
    }

    #[test]
    fn what_is_no_such_document_is_said() {
        let text = write(&[column("5.10", &[])]);
        for (wrong, word) in [
            ("# Kernels".to_owned(), "reasons"),
            (text.replace("| 30 |", "| many |"), "`many`"),
            (
                text.replace("| reader | 5.10 |", "| reader | 6.1 |"),
                "5.10",
            ),
            (
                text.replace("| `network` | ok |", "| `network` | ok (4) |"),
                "reason 4",
            ),
        ] {
            let error = format!("{:#}", read(&wrong).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
