//! Boots a kernel under qemu, watches it, and ends it in time.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::name::Architecture;
use crate::setup;

/// What a machine is made of.
pub(crate) struct Machine<'a> {
    pub(crate) architecture: Architecture,
    pub(crate) accelerator: Accelerator,
    pub(crate) processors: u8,
    pub(crate) image: &'a Path,
    /// The first file system.
    pub(crate) initramfs: &'a Path,
    /// Where its files are; one machine at a time.
    pub(crate) folder: &'a Path,
    /// When it is ended.
    pub(crate) limit: Duration,
    /// How long it may take until it reports anything.
    pub(crate) silence: Duration,
}

/// Who runs a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The processor.
    Kvm,
    /// qemu, on one thread for all processors of the guest: kernels patch their own code, and with one thread each qemu 7.2
    /// runs half-patched instructions.
    Tcg,
}

/// How a machine ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if it had to be ended.
    pub(crate) status: Option<ExitStatus>,
    /// What the kernel said.
    pub(crate) console: String,
    /// What qemu said.
    pub(crate) errors: String,
}

const DISK_BYTES: u64 = 64 << 20;
/// All of it, in two nodes of the same size.
const MEMORY_MIB: u64 = 1024;
/// What firmware says of the one module that it is in. Guests of Arm have no firmware.
const MODULE: &str = "type=17,loc_pfx=SLOT,manufacturer=Example,part=GUEST-1,speed=3200";

/// Installs or names what runs guests of an architecture.
pub(crate) fn provide(architecture: Architecture) -> anyhow::Result<()> {
    let package = match architecture {
        Architecture::X86_64 => "qemu-system-x86",
        Architecture::Aarch64 => "qemu-system-arm",
    };
    setup::install_packages("guests", &[package, "binutils", "xz-utils", "zstd", "lz4"])
}

impl Machine<'_> {
    /// Runs it to its end; `hear` gets what it reports, line by line, as it comes.
    pub(crate) fn run(&self, mut hear: impl FnMut(&str)) -> anyhow::Result<Ended> {
        let at = |name: &str| self.folder.join(name);
        for name in ["console", "results", "disk"] {
            File::create(at(name)).with_context(|| at(name).display().to_string())?;
        }
        File::options()
            .write(true)
            .open(at("disk"))?
            .set_len(DISK_BYTES)?;
        let errors = File::create(at("errors"))?;
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program()))?;
        let watched = self.watch(&mut child, &at("results"), &mut hear);
        if !matches!(watched, Ok(Some(_))) {
            child.kill()?;
            child.wait()?;
        }
        let text = |name: &str| {
            String::from_utf8_lossy(&fs::read(at(name)).unwrap_or_default()).replace('\r', "")
        };
        Ok(Ended {
            status: watched?,
            console: text("console"),
            errors: text("errors"),
        })
    }

    /// Its status, or `None` when its time is over.
    fn watch(
        &self,
        child: &mut Child,
        results: &Path,
        hear: &mut impl FnMut(&str),
    ) -> anyhow::Result<Option<ExitStatus>> {
        let begin = Instant::now();
        let mut lines = Lines::open(results)?;
        let mut silent = true;
        loop {
            let status = child.try_wait()?;
            lines.read(&mut |line| {
                silent = false;
                hear(line);
            })?;
            if status.is_some() {
                return Ok(status);
            }
            let limit = if silent { self.silence } else { self.limit };
            if begin.elapsed() > limit {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn program(&self) -> String {
        format!("qemu-system-{}", self.architecture.compilers())
    }

    fn command(&self) -> Command {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let (machine, console) = match self.architecture {
            Architecture::X86_64 => ("pc", "console=ttyS0 no_timer_check"),
            Architecture::Aarch64 => ("virt", "console=ttyAMA0"),
        };
        let cpu = match (self.accelerator, self.architecture) {
            (Accelerator::Kvm, _) => "host",
            (Accelerator::Tcg, Architecture::X86_64) => "max",
            // The largest one spends its time on emulated pointer authentication.
            (Accelerator::Tcg, Architecture::Aarch64) => "cortex-a57",
        };
        let accelerator = match self.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg,thread=single",
        };
        let append = format!(
            "{console} panic=-1 loglevel=4 cryptomgr.notests mitigations=off random.trust_cpu=1 psi=1"
        );
        let mut qemu = Command::new(self.program());
        qemu.args(["-machine", machine, "-accel", accelerator, "-cpu", cpu])
            .args(["-smp", &self.processors.to_string()])
            .args(["-m", &MEMORY_MIB.to_string()])
            .args(nodes(self.processors))
            .args(["-smbios", MODULE])
            .args(["-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", &append])
            .args(["-serial", &format!("file:{}", file("console"))])
            .args(["-device", "virtio-serial-pci"])
            .args([
                "-chardev",
                &format!("file,id=results,path={}", file("results")),
            ])
            .args(["-device", "virtserialport,chardev=results,name=results"])
            .args([
                "-blockdev",
                &format!(
                    "driver=file,node-name=disk,filename={},cache.no-flush=on",
                    file("disk")
                ),
            ])
            .args(["-device", "virtio-blk-pci,drive=disk,serial=data"]);
        qemu
    }
}

/// Two nodes with half of the memory each, and half of the processors: the second one has none where there is one only.
fn nodes(processors: u8) -> Vec<String> {
    let half = MEMORY_MIB / 2;
    let first = processors.div_ceil(2);
    let mut arguments = Vec::new();
    for (node, processors) in [(0, 0..first), (1, first..processors)] {
        let processors: String = processors.map(|it| format!(",cpus={it}")).collect();
        arguments.extend([
            "-object".to_owned(),
            format!("memory-backend-ram,id=node{node},size={half}M"),
            "-numa".to_owned(),
            format!("node,nodeid={node},memdev=node{node}{processors}"),
        ]);
    }
    arguments
}

/// The complete lines of a file that grows.
struct Lines {
    file: File,
    pending: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            pending: Vec::new(),
        })
    }

    fn read(&mut self, hear: &mut impl FnMut(&str)) -> anyhow::Result<()> {
        self.file.read_to_end(&mut self.pending)?;
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            hear(String::from_utf8_lossy(&line).trim());
        }
        Ok(())
    }
}

/// The processor where it really boots this guest: a device that opens is no proof. Asked once per boot of this machine.
pub(crate) fn accelerator(architecture: Architecture, image: &Path) -> anyhow::Result<Accelerator> {
    const PATIENCE: Duration = Duration::from_secs(8);
    if Architecture::of_this_machine() != Some(architecture)
        || File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
    {
        return Ok(Accelerator::Tcg);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known = super::folder().join("kvm");
    let yes = format!("{} boots\n", boot.trim());
    let no = format!("{} does not boot\n", boot.trim());
    let verdict = match fs::read_to_string(&known).unwrap_or_default() {
        text if text == yes => true,
        text if text == no => false,
        _ => {
            let folder = tempfile::tempdir_in(super::folder()).context("no room for a guest")?;
            let initramfs: PathBuf = folder.path().join("initramfs");
            fs::write(&initramfs, super::cpio::Archive::default().finish())?;
            let machine = Machine {
                architecture,
                accelerator: Accelerator::Kvm,
                processors: 2,
                image,
                initramfs: &initramfs,
                folder: folder.path(),
                limit: PATIENCE,
                silence: PATIENCE,
            };
            // Without a first process a kernel that came so far panics, and the machine ends.
            let boots = machine.run(|_| {})?.console.contains("Kernel panic");
            fs::write(&known, if boots { &yes } else { &no })?;
            boots
        }
    };
    Ok(if verdict {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    })
}

/// What a kernel's console says that no test may hide.
pub(crate) fn complaint(console: &str) -> Option<String> {
    const WORDS: [&str; 7] = [
        "Kernel panic",
        "Oops",
        "BUG: ",
        "general protection fault",
        "detected stall",
        "WARNING: ",
        "Unable to handle kernel",
    ];
    let lines: Vec<_> = console.lines().collect();
    let at = lines
        .iter()
        .position(|line| WORDS.iter().any(|word| line.contains(word)))?;
    Some(lines[at..lines.len().min(at + 12)].join("\n"))
}

/// What a machine said last, for people.
pub(crate) fn last_words(ended: &Ended) -> String {
    let lines: Vec<_> = ended.console.lines().collect();
    let tail = &lines[lines.len().saturating_sub(15)..];
    format!("{}\n{}", ended.errors.trim(), tail.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_is_on_one_of_two_nodes() {
        let of_three = nodes(3).join(" ");
        assert!(
            of_three.contains("memdev=node0,cpus=0,cpus=1 "),
            "{of_three}"
        );
        assert!(of_three.ends_with("memdev=node1,cpus=2"), "{of_three}");
        assert!(nodes(1).join(" ").ends_with("memdev=node1"));
    }

    #[test]
    fn a_kernels_complaint_is_found_with_what_follows() {
        let console = "booting\n[ 1.0] Kernel panic - not syncing: no init\n[ 1.0] Call Trace:\n";
        assert!(
            complaint(console)
                .unwrap()
                .starts_with("[ 1.0] Kernel panic")
        );
        assert!(complaint(console).unwrap().contains("Call Trace"));
        assert_eq!(complaint("all is well\n"), None);
    }
}
