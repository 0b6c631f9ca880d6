//! The machine around the kernel: file systems, modules, loopback, and the way out.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, finit_module, reboot},
};

/// Source, place, type and options, in this order.
const MOUNTS: [(&str, &str, &str, &str); 12] = [
    ("dev", "/dev", "devtmpfs", ""),
    ("proc", "/proc", "proc", ""),
    ("sys", "/sys", "sysfs", ""),
    ("tmp", "/tmp", "tmpfs", ""),
    ("run", "/run", "tmpfs", ""),
    ("pts", "/dev/pts", "devpts", ""),
    ("shm", "/dev/shm", "tmpfs", ""),
    ("bpf", "/sys/fs/bpf", "bpf", ""),
    ("trace", "/sys/kernel/tracing", "tracefs", ""),
    ("debug", "/sys/kernel/debug", "debugfs", ""),
    // The second version has the controllers, as on machines of today; of the first one there is a hierarchy with a name.
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", ""),
    ("cgroup", "/run/cgroup1", "cgroup", "none,name=guest"),
];

/// Prepares what it can, and says what it could not.
pub(crate) fn prepare() -> Vec<String> {
    let mut troubles = Vec::new();
    for (source, place, kind, options) in MOUNTS {
        if let Err(error) = put(source, place, kind, options) {
            troubles.push(format!("mounting {kind} on {place}: {error}"));
        }
    }
    for (target, link) in [("/proc/self/fd", "/dev/fd"), ("/proc/mounts", "/etc/mtab")] {
        if let Err(error) = symlink(target, link) {
            troubles.push(format!("{link}: {error}"));
        }
    }
    troubles.extend(load_modules());
    let up = Command::new("/bin/ip")
        .args(["link", "set", "lo", "up"])
        .status();
    if !up.as_ref().is_ok_and(std::process::ExitStatus::success) {
        troubles.push(format!("loopback: {up:?}"));
    }
    troubles
}

fn put(source: &str, place: &str, kind: &str, options: &str) -> anyhow::Result<()> {
    fs::create_dir_all(place)?;
    let options = std::ffi::CString::new(options)?;
    mount(source, place, kind, MountFlags::empty(), options.as_c_str())?;
    Ok(())
}

/// Loads the modules that the host chose, in its order: a line is a file's name and the module's parameters.
fn load_modules() -> Vec<String> {
    let order = fs::read_to_string("/modules/order").unwrap_or_default();
    let load = |line: &str| -> anyhow::Result<()> {
        let (file, parameters) = line.split_once(' ').unwrap_or((line, ""));
        let file = File::open(Path::new("/modules").join(file))?;
        let parameters = std::ffi::CString::new(parameters)?;
        finit_module(&file, &parameters, 0)?;
        Ok(())
    };
    let trouble = |line: &str| Some(format!("module {line}: {:#}", load(line).err()?));
    order.lines().filter_map(trouble).collect()
}

/// The device of the virtio port with this name; its driver may take a moment.
pub(crate) fn port(name: &str) -> anyhow::Result<PathBuf> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let begin = Instant::now();
    loop {
        let ports = fs::read_dir("/sys/class/virtio-ports")
            .into_iter()
            .flatten();
        for port in ports.flatten() {
            let called = fs::read_to_string(port.path().join("name")).unwrap_or_default();
            let device = Path::new("/dev").join(port.file_name());
            if called.trim() == name && device.exists() {
                return Ok(device);
            }
        }
        if begin.elapsed() > PATIENCE {
            bail!("no virtio port is called {name}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Version of the running kernel.
pub(crate) fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Says something where only the host's log shows it.
pub(crate) fn console(text: &str) {
    let said = File::options()
        .write(true)
        .open("/dev/console")
        .context("no console")
        .and_then(|mut console| Ok(writeln!(console, "{text}")?));
    // There is nobody left to tell.
    drop(said);
}

/// Ends the guest.
pub(crate) fn switch_off() -> ! {
    // What is left of the reports leaves the kernel's buffer of the port.
    rustix::fs::sync();
    thread::sleep(Duration::from_millis(100));
    let refused = reboot(RebootCommand::PowerOff);
    console(&format!("guest: cannot switch off: {refused:?}"));
    // The first process must not end: the kernel would panic. The host ends the guest when its time is over.
    loop {
        thread::park();
    }
}
