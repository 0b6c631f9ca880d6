//! What every source file has to look like.

use std::fs;

use dataflux_tests::workspace;

/// Scenario: every Rust file of the workspace, the kernel crate included.
/// Guarantees: it opens with what it is, fits a head, and is plain ASCII.
#[test]
fn every_file_is_introduced_short_and_plain() {
    let files = workspace::rust_files(workspace::root());
    assert!(files.len() > 20, "the workspace was not found: {files:?}");
    let mut untidy = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let name = path
            .strip_prefix(workspace::root())
            .unwrap_or(&path)
            .display();
        if !text.starts_with("//!") {
            untidy.push(format!("{name}: must open with `//!` and what it is"));
        }
        if text.lines().count() > 450 {
            untidy.push(format!(
                "{name}: has more than 450 lines: split it by concept"
            ));
        }
        if let Some(at) = text.lines().position(|line| !line.is_ascii()) {
            untidy.push(format!("{name}:{}: is not plain ASCII", at + 1));
        }
    }
    assert!(untidy.is_empty(), "\n{}", untidy.join("\n"));
}

/// Scenario: every file that decides what is measured and how.
/// Guarantees: none of them asks for the version of the kernel; distributions bring newer parts into older ones.
#[test]
fn nothing_is_decided_by_the_kernels_version() {
    let folders = [
        "dataflux-common/src",
        "dataflux-ebpf/src",
        "dataflux-probe/src/kernel",
        "dataflux-probe/src/metrics",
    ];
    for folder in folders {
        let files = workspace::rust_files(&workspace::root().join(folder));
        assert!(!files.is_empty(), "{folder} was not found");
        for path in files {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            for word in ["uname(", "osrelease", "KernelVersion", "/proc/version"] {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}
