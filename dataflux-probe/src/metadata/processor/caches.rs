//! The caches of the processors that are online, as sysfs has them for each CPU.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

use crate::host_file::first_line;

/// Caches of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Cache {
    level: u32,
    /// `data`, `instruction` or `unified`.
    #[serde(rename = "type")]
    kind: String,
    /// Of one.
    size_bytes: u64,
    /// How many there are.
    instances: usize,
}

/// By level and type. CPUs that share one name the same list of CPUs.
pub(super) fn of(cpus: &Path) -> Vec<Cache> {
    let mut found: BTreeMap<(u32, String), BTreeMap<String, u64>> = BTreeMap::new();
    let listed = fs::read_dir(cpus).into_iter().flatten().flatten();
    for cache in listed.flat_map(|cpu| {
        fs::read_dir(cpu.path().join("cache"))
            .into_iter()
            .flatten()
            .flatten()
    }) {
        let line = |name: &str| first_line(&cache.path().join(name));
        let level = line("level").and_then(|level| level.parse().ok());
        let size = line("size").and_then(|size| bytes(&size));
        if let (Some(level), Some(size), Some(kind), Some(shared)) =
            (level, size, line("type"), line("shared_cpu_list"))
        {
            let kind = kind.to_ascii_lowercase();
            found.entry((level, kind)).or_default().insert(shared, size);
        }
    }
    let cache = |((level, kind), sizes): (_, BTreeMap<String, u64>)| Cache {
        level,
        kind,
        size_bytes: sizes.values().copied().max().unwrap_or_default(),
        instances: sizes.len(),
    };
    found.into_iter().map(cache).collect()
}

/// `48K`.
fn bytes(size: &str) -> Option<u64> {
    size.strip_suffix('K')?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// How many numbers a list like `0-3,8` has.
pub(super) fn length(list: &str) -> Option<u64> {
    let mut length: u64 = 0;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        length = length.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn caches_that_are_shared_count_once() {
        let folder = tempfile::tempdir().unwrap();
        for (cpu, index, level, kind, size, shared) in [
            (0, 0, 1, "Data", "48K", "0"),
            (0, 1, 1, "Instruction", "32K", "0"),
            (0, 2, 2, "Unified", "2048K", "0-1"),
            (1, 0, 1, "Data", "48K", "1"),
            (1, 1, 1, "Instruction", "32K", "1"),
            (1, 2, 2, "Unified", "2048K", "0-1"),
            (1, 3, 3, "Unified", "", "0-1"),
        ] {
            let path = folder.path().join(format!("cpu{cpu}/cache/index{index}"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("level"), format!("{level}\n")).unwrap();
            fs::write(path.join("type"), format!("{kind}\n")).unwrap();
            fs::write(path.join("size"), format!("{size}\n")).unwrap();
            fs::write(path.join("shared_cpu_list"), format!("{shared}\n")).unwrap();
        }
        let cache = |level, kind: &str, kib: u64, instances| Cache {
            level,
            kind: kind.to_owned(),
            size_bytes: kib * 1024,
            instances,
        };
        let expected = [
            cache(1, "data", 48, 2),
            cache(1, "instruction", 32, 2),
            cache(2, "unified", 2048, 1),
        ];
        assert_eq!(of(folder.path()), expected);
    }

    #[test]
    fn lists_have_numbers_and_ranges() {
        assert_eq!(length("0"), Some(1));
        assert_eq!(length("0-3,8,10-11"), Some(7));
        for wrong in ["", "3-1", "a", "0-", "0-18446744073709551615"] {
            assert_eq!(length(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_a_length_or_none(list in "[0-9,-]{0,40}|\\PC{0,20}") {
            prop_assert!(length(&list) != Some(0));
            prop_assert!(bytes(&list).is_none_or(|bytes| bytes % 1024 == 0));
        }
    }
}
