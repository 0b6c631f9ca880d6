//! `schema`: the JSON Schema of what formatter `json` writes.

use std::io::{self, Write};

use crate::formatters::json::{Shape, schema};

pub(super) const EXAMPLES: &str = "\
Examples:
  dataflux-probe schema > envelope.schema.json      of envelopes, which may get more fields
  dataflux-probe schema --shape rows --strict       of rows, exactly as this version writes them

Exit codes: 0 done.";

/// The arguments of `schema`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shape that the output asks of its formatter.
    #[arg(long, value_enum, default_value_t = Shape::Envelope)]
    shape: Shape,
    /// Refuse fields that this version does not write.
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let schema = schema::of(arguments.shape, arguments.strict);
    serde_json::to_writer_pretty(&mut *out, &schema).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}
