//! What is refused and what goes on working, tried in threads that gave their privileges up by the very function of the start.

#![expect(clippy::print_stdout, reason = "the tests say what they skipped")]

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket},
    os::fd::{FromRawFd as _, OwnedFd},
    path::Path,
    process::Command,
    thread,
};

use super::{
    Files, Plan, Restricted, files, give_up, look_ups,
    system_calls::{self, testing},
};
use crate::plugin::{Capability, Keep, Roots};

fn plan(write: &[&Path], keep: &[Keep]) -> Plan {
    Plan {
        keep: keep.to_vec(),
        files: Files {
            read: Vec::new(),
            write: write.iter().map(|&folder| folder.to_owned()).collect(),
        },
        roots: Roots::default(),
    }
}

/// Gives privileges up in a thread of its own and does something there.
fn restricted<T: Send>(plan: &Plan, act: impl FnOnce(&Restricted) -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| act(&give_up(plan).unwrap()));
        thread.join().expect("the acts do not panic")
    })
}

/// Makes a system call; gives its error.
fn call(number: i64, arguments: [i64; 3]) -> Option<i32> {
    let [a, b, c] = arguments;
    // SAFETY: the callers pass no pointer that is valid, except to what outlives the call.
    let result = unsafe { libc::syscall(number, a, b, c, -1_i64, -1_i64, -1_i64) };
    (result < 0).then(|| {
        io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or_default()
    })
}

fn socket(family: i32, kind: i32) -> Result<OwnedFd, i32> {
    // SAFETY: takes no pointer.
    match unsafe { libc::socket(family, kind, 0) } {
        -1 => Err(io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or_default()),
        // SAFETY: the kernel has just opened it, and nobody else knows of it.
        socket => Ok(unsafe { OwnedFd::from_raw_fd(socket) }),
    }
}

/// Opens a file for reading, and empties it all the same.
fn empty_by_reading(path: &Path) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::TRUNC;
    Ok(open(path, flags, Mode::empty()).map(drop)?)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether Landlock is there; says so if not.
fn has_landlock() -> bool {
    let listed = fs::read_to_string("/sys/kernel/security/lsm");
    match files::landlock() {
        Ok(_) => true,
        Err(error) => {
            let listed = listed.is_ok_and(|modules| modules.contains("landlock"));
            assert!(!listed, "the kernel lists it: {error:#}");
            println!("skipped: {error:#}");
            false
        }
    }
}

#[test]
fn nothing_is_left_and_threads_that_begin_later_have_no_more() {
    let status = restricted(&plan(&[], &[]), |_| {
        let later = thread::spawn(|| fs::read_to_string("/proc/thread-self/status").unwrap());
        let own = fs::read_to_string("/proc/thread-self/status").unwrap();
        [own, later.join().unwrap()]
    });
    for status in status {
        let value = |name: &str| {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap().trim().to_owned()
        };
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(value(set), "0000000000000000", "{set}");
        }
        if is_root() {
            assert_eq!(value("CapBnd"), "0000000000000000");
        }
        assert_eq!(
            (value("NoNewPrivs"), value("Seccomp")),
            ("1".into(), "2".into())
        );
    }
}

#[test]
fn every_listed_call_is_refused_by_the_filter_alone() {
    let plan = plan(&[], &[]);
    let calls = testing::refused(&plan);
    assert!(calls.len() > 70, "{}", calls.len());
    thread::scope(|scope| {
        scope.spawn(|| {
            // With its capabilities, so that nothing else refuses.
            system_calls::refuse(&plan).unwrap();
            for number in calls {
                // Arguments that are wrong for all of them.
                let error = call(number, [-1, -1, -1]);
                assert_eq!(error, Some(libc::EPERM), "system call {number}");
            }
        });
    });
}

#[test]
fn calls_of_another_abi_and_clone3_are_missing() {
    restricted(&plan(&[], &[]), |_| {
        for number in [libc::SYS_clone3, 0x4000_0000 | libc::SYS_getpid] {
            assert_eq!(
                call(number, [-1, -1, -1]),
                Some(libc::ENOSYS),
                "{number:#x}"
            );
        }
    });
}

#[test]
fn no_namespace_is_made_and_no_terminal_is_typed_into() {
    restricted(&plan(&[], &[]), |_| {
        let user = i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
        assert_eq!(call(libc::SYS_clone, [user, 0, 0]), Some(libc::EPERM));
        let push = i64::try_from(libc::TIOCSTI).unwrap();
        assert_eq!(call(libc::SYS_ioctl, [-1, push, 0]), Some(libc::EPERM));
        let size = i64::try_from(libc::FIONREAD).unwrap();
        assert_eq!(call(libc::SYS_ioctl, [-1, size, 0]), Some(libc::EBADF));
    });
}

#[test]
fn raw_and_packet_sockets_are_refused_and_others_are_not() {
    if is_root() {
        socket(libc::AF_INET, libc::SOCK_RAW).expect_err("it needs a protocol");
        socket(libc::AF_PACKET, libc::SOCK_RAW).expect("root may");
    }
    let more = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    restricted(&plan(&[], &[Keep::Capability(Capability::Bpf)]), |_| {
        for (family, kind) in [
            (libc::AF_PACKET, libc::SOCK_RAW),
            (libc::AF_PACKET, libc::SOCK_DGRAM),
            (libc::AF_INET, libc::SOCK_RAW),
            (libc::AF_INET, libc::SOCK_RAW | more),
            (libc::AF_INET6, libc::SOCK_RAW | more),
            (libc::AF_INET, 10),
            (libc::AF_VSOCK, libc::SOCK_STREAM),
            (libc::AF_ALG, libc::SOCK_SEQPACKET),
        ] {
            let result = socket(family, kind).map(drop);
            assert_eq!(result, Err(libc::EPERM), "family {family}, type {kind}");
        }
        for (family, kind) in [
            (libc::AF_INET, libc::SOCK_STREAM | more),
            (libc::AF_INET, libc::SOCK_DGRAM),
            (libc::AF_UNIX, libc::SOCK_DGRAM),
            (libc::AF_NETLINK, libc::SOCK_RAW | more),
        ] {
            socket(family, kind).expect("an ordinary socket");
        }
    });
}

#[test]
fn no_program_is_run_unless_a_plugin_runs_programs() {
    let run = || Command::new("/bin/sh").args(["-c", "exit 7"]).status();
    let error = restricted(&plan(&[], &[]), |_| run()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let status = restricted(&plan(&[], &[Keep::Execution]), |_| run()).unwrap();
    assert_eq!(status.code(), Some(7));
}

#[test]
fn kernel_programs_are_neither_loaded_nor_attached() {
    // BPF_PROG_LOAD, BPF_RAW_TRACEPOINT_OPEN, BPF_MAP_CREATE, BPF_LINK_CREATE, BPF_OBJ_GET, BPF_MAP_GET_FD_BY_ID
    for keep in [
        &[][..],
        &[Keep::MapCalls, Keep::Capability(Capability::Bpf)],
    ] {
        restricted(&plan(&[], keep), |_| {
            for command in [5, 17, 0, 28, 7, 14] {
                let error = call(libc::SYS_bpf, [command, -1, 8]);
                assert_eq!(error, Some(libc::EPERM), "command {command}");
            }
        });
    }
}

#[test]
fn maps_are_looked_up_where_a_plugin_does_that() {
    if !is_root() {
        println!("skipped: needs root to make a map");
        return;
    }
    let map = look_ups::make_map().expect("root may");
    let look_up = |plan: &Plan| {
        restricted(plan, |restricted| {
            let result = look_ups::look_up(&map);
            (
                result.map_err(|error| error.kind()),
                restricted.capabilities,
            )
        })
    };
    let (refused, none) = look_up(&plan(&[], &[]));
    assert_eq!(refused, Err(ErrorKind::PermissionDenied));
    let (found, kept) = look_up(&plan(&[], &[Keep::MapCalls]));
    assert_eq!(found, Ok(0));
    let asks = look_ups::kernel_asks_for_capability().expect("root may try");
    assert_eq!(
        (none.to_string(), kept == none),
        ("no capability".into(), !asks)
    );
}

#[test]
fn what_the_probe_does_all_day_goes_on_working() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    restricted(&plan(&[&state], &[]), |_| {
        for path in [
            "/proc/stat",
            "/proc/1/net/dev",
            "/sys/class/net/lo/mtu",
            "/etc/hosts",
        ] {
            fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        let addresses: Vec<_> = ("localhost", 9).to_socket_addrs().unwrap().collect();
        assert!(!addresses.is_empty());
        TcpStream::connect(address).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap();
        File::open("/dev/urandom")
            .unwrap()
            .read_exact(&mut [0; 8])
            .unwrap();
        thread::spawn(move || {
            let (new, named) = (state.join("new"), state.join("named"));
            let mut file = File::create(&new).unwrap();
            file.write_all(b"all of it").unwrap();
            file.sync_all().unwrap();
            file.set_len(3).unwrap();
            file.try_lock().unwrap();
            fs::rename(&new, &named).unwrap();
            File::open(&state).unwrap().sync_all().unwrap();
            fs::create_dir_all(state.join("spool/main")).unwrap();
            assert_eq!(fs::read(&named).unwrap(), b"all");
            fs::remove_dir_all(&state).unwrap();
            // Somebody removed the whole folder, and the probe makes it again.
            fs::create_dir_all(state.join("spool")).unwrap();
            fs::write(state.join("spool/again"), "").unwrap();
        })
        .join()
        .unwrap();
    });
}

#[test]
fn nothing_is_written_or_read_outside() {
    if !has_landlock() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [own, other] = ["own/state", "other/state"].map(|name| folder.path().join(name));
    for folder in [&own, &other] {
        fs::create_dir_all(folder).unwrap();
    }
    let secret = other.join("secret");
    fs::write(&secret, "kept").unwrap();
    restricted(&plan(&[&own], &[]), |restricted| {
        assert!(restricted.files.is_ok());
        fs::write(own.join("file"), "written").unwrap();
        let outside = [
            fs::write(other.join("new"), ""),
            fs::create_dir(other.join("folder")),
            File::options().append(true).open(&secret).map(drop),
            File::options()
                .write(true)
                .truncate(true)
                .open(&secret)
                .map(drop),
            empty_by_reading(&secret),
            fs::remove_file(&secret),
            fs::read(&secret).map(drop),
            fs::read_dir(&other).map(drop),
            std::os::unix::fs::symlink("/", own.join("link")),
            fs::write("/proc/self/comm", "other"),
            fs::write("/etc/dataflux-probe-was-here", ""),
        ];
        for (number, result) in outside.into_iter().enumerate() {
            let kind = result.map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::PermissionDenied), "number {number}");
        }
    });
    assert_eq!(fs::read(&secret).unwrap(), b"kept");
}

#[test]
fn files_that_are_replaced_and_linked_to_go_on_being_read() {
    if !has_landlock() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [secrets, elsewhere] = ["secrets", "elsewhere"].map(|name| folder.path().join(name));
    for folder in [&secrets, &elsewhere] {
        fs::create_dir(folder).unwrap();
    }
    let (linked, file) = (elsewhere.join("ca"), secrets.join("password"));
    fs::write(&linked, "authority").unwrap();
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&linked, secrets.join("ca")).unwrap();
    let mut plan = plan(&[], &[]);
    plan.files.read = vec![file.clone(), secrets.join("ca")];
    let go_on = std::sync::Barrier::new(2);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let restricted = give_up(&plan).unwrap();
            assert!(restricted.files.is_ok());
            let before = fs::read(&file).unwrap();
            go_on.wait();
            go_on.wait();
            (
                before,
                fs::read(&file).unwrap(),
                fs::read(secrets.join("ca")).unwrap(),
            )
        });
        go_on.wait();
        fs::write(secrets.join("new"), "new").unwrap();
        fs::rename(secrets.join("new"), &file).unwrap();
        go_on.wait();
        let expected = (b"old".to_vec(), b"new".to_vec(), b"authority".to_vec());
        assert_eq!(reader.join().unwrap(), expected);
    });
}
