//! What this file does when a test starts it as a process to be watched.
#![expect(unsafe_code, reason = "one thread is to exit, not the process")]

use std::{
    env,
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

/// Three threads of 100 ms CPU time each; two have left when the process exits.
fn burn_in_threads() -> ExitCode {
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
    }
}
