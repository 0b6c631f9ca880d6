//! The pools of huge pages, of each size that the machine has, from `/sys/kernel/mm/hugepages`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    host_file::ValueFile,
    metrics::hwmon::entries,
    model::{LabelValue, MetricDef, Snapshot, Unit},
};

pub(super) static POOL: MetricDef = MetricDef::gauge(
    "memory.huge_page_pool",
    Unit::Count,
    "Huge pages of a size: in the pool (total), not allocated (free), promised and not allocated yet (reserved), above the set \
     size (surplus).",
    &["size", "state"],
);

const STATES: [(&str, &str); 4] = [
    ("total", "nr_hugepages"),
    ("free", "free_hugepages"),
    ("reserved", "resv_hugepages"),
    ("surplus", "surplus_hugepages"),
];

pub(super) struct HugePages {
    folder: PathBuf,
    /// Sizes as the kernel writes them, with a file for each of [`STATES`]. They are known since the machine was started.
    pools: Option<Vec<(String, [ValueFile; STATES.len()])>>,
}

impl HugePages {
    pub(super) fn new(sys: &Path) -> Self {
        Self {
            folder: sys.join("kernel/mm/hugepages"),
            pools: None,
        }
    }

    pub(super) fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let folder = &self.folder;
        let pools = self.pools.get_or_insert_with(|| {
            let pool = |name: &String| {
                let size = name.strip_prefix("hugepages-")?;
                let file = |(_, file)| ValueFile::new(folder.join(name).join(file));
                Some((size.to_owned(), STATES.map(file)))
            };
            entries(folder).iter().filter_map(pool).collect()
        });
        for (size, files) in pools.iter_mut() {
            for ((state, _), file) in STATES.into_iter().zip(files) {
                let [pages] = file
                    .numbers()
                    .with_context(|| format!("cannot read {}", file.path().display()))?;
                let labels = [LabelValue::from(size.clone()), state.into()];
                out.gauge(&POOL, None, labels, pages as f64);
            }
        }
        if pools.is_empty() {
            out.unsupported.push(&POOL);
        }
        Ok(())
    }
}
