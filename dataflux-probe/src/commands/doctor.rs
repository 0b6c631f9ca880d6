//! `doctor`: what works on this machine, and the way out where it does not.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use super::start;
use crate::{
    kernel::{ProgramOutcome, cost, objects, possible_cpus},
    model::{Health, Status},
    pipeline::Reader,
    plugin::{Capability, Context},
};

/// Bits of CapEff in `/proc/self/status` (linux/capability.h).
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

pub(super) fn run(out: &mut impl Write) -> anyhow::Result<()> {
    let config = start::everything("json")?;
    let roots = &config.context.roots;
    writeln!(out, "kernel      {}", kernel())?;
    writeln!(out, "privileges  {}", privileges())?;
    writeln!(out, "types       {}", types(&roots.sys))?;
    if let Some(lockdown) = lockdown(&roots.sys) {
        writeln!(out, "lockdown    {lockdown}")?;
    }
    writeln!(out, "objects     {}", embedded())?;
    let mut readers = config.readers;
    let programs = start::attach_all(&mut readers, &config.context);
    writeln!(out, "memory      {}", memory(&config.context))?;
    for reader in &readers {
        writeln!(out)?;
        let own = programs
            .iter()
            .filter(|program| program.reader == reader.name);
        print_reader(out, reader, own)?;
    }
    Ok(())
}

/// The reader and its programs; a reason that they share is printed once.
fn print_reader<'a>(
    out: &mut impl Write,
    reader: &Reader,
    programs: impl Iterator<Item = &'a ProgramOutcome>,
) -> io::Result<()> {
    line(out, reader.name, &reader.attached)?;
    for program in programs {
        let name = format!("  {}", program.program);
        let health = program.outcome.health();
        if health == reader.attached {
            line(out, &name, &Health::new(health.status, ""))?;
        } else {
            line(out, &name, &health)?;
        }
    }
    Ok(())
}

/// One line, and a second one with the way out if there is a reason to want one.
fn line(out: &mut impl Write, name: &str, health: &Health) -> io::Result<()> {
    writeln!(out, "  {name:<22}{health}")?;
    match way_out(health.status) {
        Some(way) if !health.reason.is_empty() => writeln!(out, "  {:<22}-> {way}", ""),
        _ => Ok(()),
    }
}

fn way_out(status: Status) -> Option<&'static str> {
    match status {
        Status::Denied => Some(
            "run as root, or with CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8); before Linux 5.11 also with CAP_SYS_RESOURCE or without a limit of locked memory",
        ),
        // The reason names the command that builds them.
        Status::Unsupported if objects::OBJECTS.is_empty() => None,
        Status::Unsupported => Some("a kernel that has it; all else works without"),
        Status::Failed => Some("a defect of the probe: please report it with this text"),
        Status::Ok | Status::Degraded | Status::Suspect => None,
    }
}

/// What the kernel holds for the probe.
fn memory(context: &Context) -> String {
    let size = |bytes: u64| bytesize::ByteSize(bytes).display().iec();
    let counters = &context.counters;
    let used = format!(
        "maps {}, programs {}",
        size(counters.kernel_map_bytes.get()),
        size(counters.kernel_program_bytes.get())
    );
    match possible_cpus(&context.roots.sys) {
        Ok(cpus) => {
            let most = cost::budget(cpus as usize) as u64;
            format!(
                "{used}; at most {} for maps, with {cpus} possible CPUs",
                size(most)
            )
        }
        Err(error) => format!("{used}; {error:#}"),
    }
}

fn kernel() -> String {
    let name = rustix::system::uname();
    [name.sysname(), name.release(), name.machine()]
        .map(|part| part.to_string_lossy().into_owned())
        .join(" ")
}

fn privileges() -> String {
    let effective = procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map_or(0, |status| status.capeff);
    let has = |bit: u64| effective & (bit | CAP_SYS_ADMIN) != 0;
    let missing: Vec<_> = [
        (Capability::Bpf, CAP_BPF),
        (Capability::Perfmon, CAP_PERFMON),
    ]
    .into_iter()
    .filter(|&(_, bit)| !has(bit))
    .map(|(capability, _)| capability.name())
    .collect();
    let user = rustix::process::geteuid().as_raw();
    match missing.as_slice() {
        [] => format!("user {user}, may load and attach kernel programs"),
        missing => format!(
            "user {user}, without {}: no kernel programs",
            missing.join(" and ")
        ),
    }
}

fn types(sys: &Path) -> String {
    let path = sys.join("kernel/btf/vmlinux");
    match fs::metadata(&path) {
        Ok(file) => format!(
            "{}, {}",
            path.display(),
            bytesize::ByteSize(file.len()).display().iec()
        ),
        Err(error) => format!(
            "{}: {error}: no kernel programs; needs a kernel with CONFIG_DEBUG_INFO_BTF",
            path.display()
        ),
    }
}

/// In confidentiality mode programs may not read kernel memory. `None` where the kernel has no such thing.
fn lockdown(sys: &Path) -> Option<String> {
    let modes = fs::read_to_string(sys.join("kernel/security/lockdown")).ok()?;
    let mode = modes.split(['[', ']']).nth(1)?;
    Some(match mode {
        "confidentiality" => "confidentiality: no kernel programs".to_owned(),
        mode => format!("{mode}: does not matter"),
    })
}

fn embedded() -> String {
    let names: Vec<_> = objects::OBJECTS.iter().map(|&(name, _)| name).collect();
    match names.as_slice() {
        [] => "none: `cargo xtask build-ebpf`, then build the probe again".to_owned(),
        names => names.join(", "),
    }
}
