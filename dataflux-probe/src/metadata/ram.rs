//! `ram`: how much memory the machine has, and in which modules where the firmware's tables may be read.

mod modules;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use super::MetadataReader;
use crate::{
    host_file::text,
    model::Metadata,
    plugin::{Needs, Plugin},
};
use modules::Module;

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "ram",
    summary: "how much memory the kernel has, and its modules where the firmware tells them and the probe may read it",
    needs: Needs {
        kernel: "/proc/meminfo, /sys/firmware/dmi/tables/DMI, which only user 0 may read",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Ram {
            meminfo: context.roots.proc.join("meminfo"),
            table: context.roots.sys.join("firmware/dmi/tables/DMI"),
            modules: None,
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Ram {
    meminfo: PathBuf,
    table: PathBuf,
    /// The firmware's table does not change while the kernel runs.
    modules: Option<Vec<Module>>,
}

impl MetadataReader for Ram {
    /// Keys: `total_bytes`, what the kernel manages; `modules`, one for each that is plugged in, and `installed_bytes`, their
    /// sum, where the table can be read.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let total = text(&self.meminfo).and_then(|text| total(&text));
        let total = total.with_context(|| format!("no MemTotal in {}", self.meminfo.display()))?;
        if self.modules.is_none() {
            let table = fs::read(&self.table).ok();
            self.modules = table.map(|table| modules::parse(&table));
        }
        let modules = self.modules.as_ref().filter(|modules| !modules.is_empty());
        let sizes = modules.map(|modules| modules.iter().filter_map(|module| module.size_bytes));
        let section = super::section([
            ("total_bytes", Some(Value::from(total))),
            (
                "installed_bytes",
                sizes.map(|sizes| sizes.sum::<u64>().into()),
            ),
            ("modules", modules.map(serde_json::to_value).transpose()?),
        ]);
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let number: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metadata::testing::read,
        plugin::testing::{context, fixtures},
    };

    #[test]
    fn without_the_table_there_is_the_total_alone() {
        let section = read(&PLUGIN, "", &context(fixtures())).unwrap();
        let expected = serde_json::json!({"total_bytes": 24_684_092_u64 * 1024});
        assert_eq!(Value::from(section), expected);
    }

    #[test]
    fn a_table_adds_what_is_plugged_in() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path());
        fs::create_dir_all(&context.roots.proc).unwrap();
        fs::write(context.roots.proc.join("meminfo"), "MemTotal:  16 kB\n").unwrap();
        let tables = context.roots.sys.join("firmware/dmi/tables");
        fs::create_dir_all(&tables).unwrap();
        fs::write(tables.join("DMI"), modules::testing::table()).unwrap();
        let section = read(&PLUGIN, "", &context).unwrap();
        assert_eq!(section["total_bytes"], 16_384);
        assert_eq!(section["installed_bytes"], 48_u64 << 30);
        assert_eq!(section["modules"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn no_total_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        read(&PLUGIN, "", &context(folder.path())).unwrap_err();
    }
}
