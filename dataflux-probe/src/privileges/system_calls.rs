//! System calls: a seccomp filter that refuses what the running probe never does and an intruder would.
//!
//! It is a list of what is refused, with EPERM, and not of what is allowed: librdkafka, OpenSSL and the C library of whatever
//! distribution may use new calls any day, and at the worst moment, while what is dangerous is known.

use anyhow::Context as _;
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use super::Plan;
use crate::plugin::Keep;

/// Refused whatever the arguments.
const REFUSED: &[c_long] = &[
    // Kernel programs and counters; bpf(2) has rules of its own.
    libc::SYS_perf_event_open,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Mounts, roots and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_personality,
    // Keys of the kernel.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Large surfaces without use here.
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Owners, modes and attributes of files, which Landlock leaves alone, and what older versions of it do not know.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
    libc::SYS_truncate,
    // Its flags are out of a filter's sight.
    libc::SYS_openat2,
];

/// What only this architecture has.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

// Not in every libc that the probe is built with (include/uapi/asm-generic/unistd.h).
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;
const FILE_SETATTR: c_long = 469;
#[cfg(target_arch = "x86_64")]
const KEXEC_FILE_LOAD: c_long = 320;
#[cfg(not(target_arch = "x86_64"))]
const KEXEC_FILE_LOAD: c_long = 294;

/// Commands of bpf(2) on entries of maps that are open: look up, update, delete, next key, look up and delete, and the
/// batches of these (linux/bpf.h). No other is ever let through.
const MAP_COMMANDS: [u64; 9] = [1, 2, 3, 4, 21, 24, 25, 26, 27];

/// Families of sockets that the probe and its libraries open; the resolver asks netlink for interfaces.
const FAMILIES: [i32; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// The bits of a socket's type that are no flags (`SOCK_TYPE_MASK` in linux/net.h).
const TYPE: u64 = 0xf;
/// A packet socket by its oldest name.
const SOCK_PACKET: u64 = 10;

/// Namespaces that clone(2) may make.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// `TIOCSTI` and `TIOCLINUX` (asm-generic/ioctls.h): what is put into the input of a terminal is run by the shell behind it.
const TYPES_INTO_TERMINAL: [u64; 2] = [0x5412, 0x541c];

/// Calls of another ABI of x86_64 have this bit (`__X32_SYSCALL_BIT`), and would slip through a list of numbers.
const OTHER_ABI: u32 = 0x4000_0000;

/// One system call, and when it is refused: if any rule holds, or always if there is none.
type Rules = (c_long, Vec<SeccompRule>);

/// Refuses them to this thread, and to those that it begins. Gives how many.
pub(super) fn refuse(plan: &Plan) -> anyhow::Result<usize> {
    let rules = rules(plan)?;
    let count = rules.len();
    apply_filter(&program(rules)?).context("seccomp")?;
    Ok(count)
}

fn rules(plan: &Plan) -> anyhow::Result<Vec<Rules>> {
    let always = REFUSED.iter().chain(OLD);
    let mut rules: Vec<Rules> = always.map(|&call| (call, Vec::new())).collect();
    if !plan.keeps(Keep::Execution) {
        rules.extend([libc::SYS_execve, libc::SYS_execveat].map(|call| (call, Vec::new())));
    }
    let other_commands = if plan.keeps(Keep::MapCalls) {
        vec![all(MAP_COMMANDS.map(|command| is_not(0, command)))?]
    } else {
        Vec::new()
    };
    rules.push((libc::SYS_bpf, other_commands));
    let mut sockets = vec![all(FAMILIES.map(|family| is_not(0, word(family))))?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [word(libc::SOCK_RAW), SOCK_PACKET] {
            sockets.push(all([is(0, word(family)), has(1, TYPE, kind)])?);
        }
    }
    rules.push((libc::SYS_socket, sockets));
    let namespaces = NAMESPACES.map(|flag| all([has(0, word(flag), word(flag))]));
    rules.push((
        libc::SYS_clone,
        namespaces.into_iter().collect::<Result<_, _>>()?,
    ));
    let terminal = TYPES_INTO_TERMINAL.map(|request| all([is(1, request)]));
    rules.push((
        libc::SYS_ioctl,
        terminal.into_iter().collect::<Result<_, _>>()?,
    ));
    // Emptying a file by opening it for reading is not writing for Landlock before its version 3.
    let empties = word(libc::O_ACCMODE | libc::O_TRUNC);
    let open = |flags| all([has(flags, empties, word(libc::O_TRUNC))]);
    rules.push((libc::SYS_openat, vec![open(2)?]));
    #[cfg(target_arch = "x86_64")]
    rules.push((libc::SYS_open, vec![open(1)?]));
    Ok(rules)
}

fn program(rules: Vec<Rules>) -> anyhow::Result<BpfProgram> {
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    let mut program = prologue().to_vec();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// What is as good as missing: calls of another ABI, and clone3(2), whose flags a filter cannot see; the C library then takes
/// clone(2).
fn prologue() -> [seccompiler::sock_filter; 4] {
    let instruction = |code: u32, jt, jf, k| seccompiler::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    [
        // The number of the call is the first word of what a filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            0,
            libc::SYS_clone3 as u32,
        ),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, OTHER_ABI),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, missing),
    ]
}

fn all<const N: usize>(
    conditions: [Result<SeccompCondition, seccompiler::BackendError>; N],
) -> anyhow::Result<SeccompRule> {
    let conditions = conditions.into_iter().collect::<Result<_, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

type Condition = Result<SeccompCondition, seccompiler::BackendError>;

fn is(argument: u8, value: u64) -> Condition {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u64) -> Condition {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Ne, value)
}

/// Whether the bits of the mask are these.
fn has(argument: u8, mask: u64, bits: u64) -> Condition {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::MaskedEq(mask), bits)
}

/// As the kernel sees it in the lower half of an argument.
fn word(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// The calls that are refused whatever their arguments, without the one that would really hang a terminal up.
    pub(crate) fn refused(plan: &Plan) -> Vec<c_long> {
        let rules = rules(plan).unwrap().into_iter();
        let always = rules.filter(|(call, rules)| rules.is_empty() && *call != libc::SYS_vhangup);
        always.map(|(call, _)| call).collect()
    }
}
