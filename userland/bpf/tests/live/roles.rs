//! What this file does when a test starts it as a process to be watched.
#![expect(unsafe_code, reason = "system calls that only odd programs make")]

use std::{
    env,
    ffi::CStr,
    fs::File,
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

const VARIABLE: &str = "PIDLIST_TEST_ROLE";

/// A command that runs this file in a role.
pub fn command(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("/proc is mounted"));
    command.env(VARIABLE, role);
    command
}

/// Plays the role that the environment names, if any.
pub fn play() -> Option<ExitCode> {
    let role = env::var(VARIABLE).ok()?;
    Some(match role.as_str() {
        "exec-in-thread" => exec_in_thread(),
        "leader-exits-first" => leader_exits_first(),
        "burn-in-threads" => burn_in_threads(),
        "execveat" => execveat(c"/bin/true", c"", libc::AT_EMPTY_PATH),
        "execveat-name" => execveat(c"/bin", c"true", 0),
        "nested" => nested(2),
        "sibling" => sibling(),
        "drop-chown" => drop_chown(),
        _ => ExitCode::from(2),
    })
}

/// A thread that is not the leader becomes `/bin/true`.
fn exec_in_thread() -> ExitCode {
    let thread = thread::spawn(|| Command::new("/bin/true").env_remove(VARIABLE).exec());
    // Ends here only if the exec failed.
    drop(thread.join());
    ExitCode::FAILURE
}

/// The leader leaves at once, the other thread after a while, with 7.
fn leader_exits_first() -> ExitCode {
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(400));
        std::process::exit(7);
    });
    // SAFETY: the thread holds nothing that another one waits for.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    ExitCode::FAILURE
}

/// Becomes a program that it names by descriptor.
fn execveat(open: &CStr, name: &CStr, flags: i32) -> ExitCode {
    // SAFETY: both are strings.
    let fd = unsafe { libc::open(open.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    let argv = [c"true".as_ptr(), c"".as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null::<libc::c_char>()];
    // SAFETY: the strings end with a NUL, the arrays with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd,
            name.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            flags,
        )
    };
    ExitCode::FAILURE
}

/// `/bin/true`, as the first process of a pid namespace that many levels below.
fn nested(levels: u32) -> ExitCode {
    if levels == 0 {
        let error = Command::new("/bin/true").env_remove(VARIABLE).exec();
        eprintln!("/bin/true: {error}");
        return ExitCode::FAILURE;
    }
    // SAFETY: no other thread is affected.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        eprintln!("unshare: {}", std::io::Error::last_os_error());
        return ExitCode::FAILURE;
    }
    // SAFETY: there is no other thread, so that the child may do as it likes.
    match unsafe { libc::fork() } {
        0 => nested(levels - 1),
        child => match wait(child as u32).status {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        },
    }
}

/// Makes a child of its parent's, which exits with 3.
fn sibling() -> ExitCode {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: like fork: the child has a copy of everything.
    if unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } == 0 {
        // SAFETY: it ends the process and nothing else.
        unsafe { libc::_exit(3) };
    }
    ExitCode::SUCCESS
}

/// `/bin/true`, without the right to change owners.
fn drop_chown() -> ExitCode {
    const CAP_CHOWN: i32 = 0;
    // SAFETY: only this process gives up a right.
    if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_CHOWN) } == 0 {
        let error = Command::new("/bin/true").env_remove(VARIABLE).exec();
        eprintln!("/bin/true: {error}");
    }
    ExitCode::FAILURE
}

/// Three threads of 100 ms CPU time each; two have left when the process exits. It writes a file to
/// where temporary files are, and waits for the storage.
fn burn_in_threads() -> ExitCode {
    let path = env::temp_dir().join(format!("pidlist-live-{}", std::process::id()));
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[1; 64 * 1024])?;
        file.sync_all()
    });
    drop(std::fs::remove_file(&path));
    if let Err(error) = written {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let burn = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
    };
    let threads = [thread::spawn(burn), thread::spawn(burn)];
    burn();
    for thread in threads {
        drop(thread.join());
    }
    ExitCode::SUCCESS
}

/// CPU time and peak memory of a child, as the kernel tells its parent.
pub struct Usage {
    pub status: i32,
    pub cpu: Duration,
    pub maxrss_kib: u64,
    /// Context switches, voluntary and not.
    pub switches: [u64; 2],
    /// Blocks of 512 bytes, read and written.
    pub blocks: [u64; 2],
}

/// Waits for a child with wait4(2).
pub fn wait(pid: u32) -> Usage {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid; the pid is a child that nobody else waits for.
    let waited = unsafe { libc::wait4(pid as i32, &raw mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(waited, pid as i32, "wait4");
    // SAFETY: all zeros are a value, and wait4 has written another.
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Usage {
        status,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        maxrss_kib: usage.ru_maxrss as u64,
        switches: [usage.ru_nvcsw, usage.ru_nivcsw].map(|count| count as u64),
        blocks: [usage.ru_inblock, usage.ru_oublock].map(|count| count as u64),
    }
}
