//! Processes and threads that live and die to order.

#![expect(unsafe_code)]

use std::mem;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::process::{Pid, Signal, WaitOptions};

use super::stall::Stall;
use super::{Result, check};

/// Makes a copy of this process with `tid` as its number (0 for any), which runs `child` and
/// nothing else.
///
/// # Safety
///
/// `child` only makes system calls: this process may have threads, whose locks nobody opens in the
/// copy.
unsafe fn clone(tid: u32, child: impl FnOnce() -> libc::c_int) -> Result<Pid> {
    // SAFETY: By this function's contract.
    unsafe { clone_beyond(None, tid, child) }
}

/// As [`clone`]; with a stall, the child does not begin before that is released.
///
/// # Safety
///
/// As for [`clone`].
unsafe fn clone_beyond(
    stall: Option<&Stall>,
    tid: u32,
    child: impl FnOnce() -> libc::c_int,
) -> Result<Pid> {
    let tid = tid.cast_signed();
    // SAFETY: All zero asks for nothing.
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(stall) = stall {
        // The kernel writes the child's number there, after the child was made.
        arguments.flags = libc::CLONE_PARENT_SETTID as u64;
        arguments.parent_tid = stall.address();
    }
    if tid != 0 {
        arguments.set_tid = &raw const tid as u64;
        arguments.set_tid_size = 1;
    }
    // SAFETY: Without CLONE_VM the child has a stack of its own, a copy of this one.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of_val(&arguments),
        )
    })?;
    if pid == 0 {
        let code = child();
        // SAFETY: Ends the copy before it could return into the tests.
        unsafe { libc::_exit(code) };
    }
    Ok(Pid::from_raw(pid as i32).expect("not 0"))
}

/// Keeps nothing open, and sleeps until it is killed.
fn idle() -> ! {
    // SAFETY: This process is a copy that uses no descriptor.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    loop {
        // SAFETY: Sleeps.
        unsafe { libc::pause() };
    }
}

/// A process that does nothing; killed and reaped in the end. Made in a fraction of the time that a
/// program takes to start.
#[derive(Debug)]
pub struct Idle(Pid);

impl Idle {
    pub fn new() -> Result<Self> {
        // SAFETY: `idle` only makes system calls.
        unsafe { clone(0, || idle()) }.map(Self)
    }

    /// With this number, which no task has.
    pub fn at(pid: u32) -> Result<Self> {
        // SAFETY: `idle` only makes system calls.
        unsafe { clone(pid, || idle()) }.map(Self)
    }

    /// With this number; it is still being made until `stall` is released, and so is this call.
    pub fn stalled(pid: u32, stall: &Stall) -> Result<Self> {
        // SAFETY: `idle` only makes system calls.
        unsafe { clone_beyond(Some(stall), pid, || idle()) }.map(Self)
    }

    /// So many of them.
    pub fn several(count: usize) -> Result<Vec<Self>> {
        (0..count).map(|_| Self::new()).collect()
    }

    pub fn pid(&self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills it; it is a zombie until it is dropped.
    pub fn kill(&self) -> Result<()> {
        rustix::process::kill_process(self.0, Signal::KILL)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = rustix::process::waitpid(Some(self.0), WaitOptions::empty());
    }
}

/// A thread of this process that the kernel makes for io_uring; it ends when this is dropped.
pub struct Poller(#[expect(dead_code, reason = "open, that is all")] OwnedFd);

impl Poller {
    /// # Errors
    ///
    /// `ENOSYS` if the kernel knows no such thing.
    pub fn new() -> Result<Self> {
        // `struct io_uring_params`, with `IORING_SETUP_SQPOLL` in its flags.
        let mut params = [0_u32; 30];
        params[2] = 1 << 1;
        // SAFETY: The kernel reads and writes such a struct.
        let fd = check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) })?;
        // SAFETY: The kernel has just made it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }
}

/// Makes a child that ends at once, reaps it, and returns the number it had.
pub fn brief_child() -> Result<u32> {
    // SAFETY: It does nothing.
    let pid = unsafe { clone(0, || 0) }?;
    rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
    Ok(pid.as_raw_nonzero().get().unsigned_abs())
}

/// Makes a child that makes a child, and reaps both.
pub fn brief_family() -> Result<()> {
    // SAFETY: The child makes system calls only.
    let pid = unsafe { clone(0, || i32::from(brief_child().is_err())) }?;
    let status = rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
    match status {
        Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
        _ => Err(rustix::io::Errno::CHILD),
    }
}

/// Makes `depth` generations, two children each, that stay; beside them it makes others that end at
/// once. They are of this process's group.
pub fn bush(depth: u32) -> Result<()> {
    for _ in 0..2 {
        if depth > 0 {
            // SAFETY: The child makes system calls only.
            unsafe {
                clone(0, || match bush(depth - 1) {
                    Ok(()) => idle(),
                    Err(_) => 1,
                })
            }?;
            brief_child()?;
        }
    }
    Ok(())
}

/// Ends the calling thread, also the first one, while others go on.
pub fn exit_thread() -> ! {
    // SAFETY: The thread's stack stays as it is for good, so nothing that others borrow goes away.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("the thread has ended")
}

/// Children of this thread will be in a new pid namespace.
pub fn unshare_pids() -> Result<()> {
    // SAFETY: Descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID) }
}

/// This process, of a single thread, gets a user namespace in which it may do everything.
pub fn unshare_users() -> Result<()> {
    // SAFETY: Descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }
}

/// Lets `SIGUSR1` interrupt what a thread waits for, and do nothing else.
pub fn let_signals_interrupt() -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}

    // SAFETY: All zero is no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: The handler does nothing, so it may run anywhere.
    let done = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    check(done.into()).map(drop)
}

/// Sends `SIGUSR1` to a thread of this process.
pub fn interrupt(thread: Pid) -> Result<()> {
    let process = rustix::process::getpid();
    // SAFETY: A signal with a handler, by `let_signals_interrupt`; a thread that is gone is ESRCH.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            process.as_raw_nonzero().get(),
            thread.as_raw_nonzero().get(),
            libc::SIGUSR1,
        )
    };
    check(sent).map(drop)
}
