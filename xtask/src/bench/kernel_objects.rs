//! The kernel programs that a process has attached, by the kernel's own account of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::{
    maps::MapInfo,
    programs::{ProgramInfo, links::LinkType, loaded_links, loaded_programs},
};

/// A program on its hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The tracepoint.
    pub(super) hook: String,
    /// The kernel's number of the program.
    pub(super) program: u32,
}

/// What a process has attached, in the order of attaching. `process` is its folder in `/proc`.
///
/// # Errors
/// The process has ended, or belongs to somebody else.
pub(super) fn links(process: &Path) -> anyhow::Result<Vec<Link>> {
    let mut found = Vec::new();
    for descriptor in link_descriptors(process)? {
        let path = process.join("fdinfo").join(&descriptor);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Closed since the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if let (Some(hook), Some(program)) = (field(&text, "tp_name"), field(&text, "prog_id")) {
            found.push(Link {
                hook: hook.to_owned(),
                program: program
                    .parse()
                    .with_context(|| path.display().to_string())?,
            });
        }
    }
    Ok(found)
}

/// How many programs a process has attached; cheap enough to be asked a thousand times a second.
pub(super) fn count_links(process: &Path) -> anyhow::Result<usize> {
    Ok(link_descriptors(process)?.len())
}

/// The descriptors of a process that are links of programs, by number.
fn link_descriptors(process: &Path) -> anyhow::Result<Vec<String>> {
    let folder = process.join("fd");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if fs::read_link(entry.path())
            .is_ok_and(|target| target == Path::new("anon_inode:bpf_link"))
            && let Some(number) = entry.file_name().to_str()
        {
            found.push(number.to_owned());
        }
    }
    found.sort_by_key(|number| number.parse::<u32>().unwrap_or(u32::MAX));
    Ok(found)
}

/// The value of a line `name:<tab>value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// How often a program ran, and for how long, while the kernel kept statistics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) ns: u64,
}

/// What the kernel says of some programs, by their number.
///
/// # Errors
/// One of them is not there.
pub(super) fn programs(numbers: &BTreeSet<u32>) -> anyhow::Result<BTreeMap<u32, ProgramInfo>> {
    let found: BTreeMap<_, _> = loaded_programs()
        // A program of somebody else may go between the list and the question.
        .filter_map(Result::ok)
        .filter(|program| numbers.contains(&program.id()))
        .map(|program| (program.id(), program))
        .collect();
    match numbers.iter().find(|number| !found.contains_key(number)) {
        Some(number) => anyhow::bail!("the kernel does not tell of program {number}"),
        None => Ok(found),
    }
}

/// How many programs are on tracepoints and functions of this kernel, whoever attached them: each makes its hook slower.
pub(super) fn count_attached() -> usize {
    loaded_links()
        .filter_map(|link| link.ok()?.link_type().ok())
        .filter(|kind| matches!(kind, LinkType::RawTracePoint | LinkType::Tracing))
        .count()
}

/// The runs of one program so far.
pub(super) fn runs(program: &ProgramInfo) -> anyhow::Result<Runs> {
    Ok(Runs {
        count: program.run_count(),
        ns: u64::try_from(program.run_time().as_nanos()).context("run time")?,
    })
}

/// Kernel memory of attached programs and of every map they use, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) programs: u64,
    pub(super) maps: u64,
}

/// The kernel's own account of the memory behind some links.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn memory(links: &[Link]) -> anyhow::Result<Memory> {
    let numbers = links.iter().map(|link| link.program).collect();
    let mut memory = Memory::default();
    let mut maps = BTreeSet::new();
    for program in programs(&numbers)?.values() {
        memory.programs += u64::from(program.memory_locked()?);
        maps.extend(program.map_ids()?.unwrap_or_default());
    }
    for map in maps {
        let map = MapInfo::from_id(map)?.fd()?;
        let path = PathBuf::from(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd()));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let bytes = field(&text, "memlock").context("a map without memlock")?;
        memory.maps += bytes.parse::<u64>().context("memlock")?;
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart_by_their_whole_name() {
        let text = "link_type:\traw_tracepoint\nprog_id:\t369\ntp_name:\tsched_switch\n";
        assert_eq!(field(text, "tp_name"), Some("sched_switch"));
        assert_eq!(field(text, "prog"), None);
    }

    #[test]
    fn a_process_without_links_has_none() {
        assert_eq!(links(Path::new("/proc/self")).expect("own process"), []);
    }
}
