//! Processes and threads that live and die to order.

#![expect(unsafe_code)]

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};

use super::stall::Stall;
use super::{Result, check, errno};

/// How a child is to be made.
#[derive(Default)]
struct Wish<'a> {
    /// Its number; 0 for any.
    tid: u32,
    /// It does not begin before this is released.
    stall: Option<&'a Stall>,
    /// `CLONE_…`.
    flags: libc::c_int,
}

impl Wish<'_> {
    /// Makes a copy of this process, which runs `child` and nothing else.
    ///
    /// # Safety
    ///
    /// `child` only makes system calls: this process may have threads, whose locks nobody opens in the
    /// copy. The flags share no memory.
    unsafe fn clone(self, child: impl FnOnce() -> libc::c_int) -> Result<Pid> {
        let tid = self.tid.cast_signed();
        // SAFETY: All zero asks for nothing.
        let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
        arguments.flags = self.flags as u64;
        if self.flags & libc::CLONE_PARENT == 0 {
            arguments.exit_signal = libc::SIGCHLD as u64;
        }
        if let Some(stall) = self.stall {
            // The kernel writes the child's number there, after the child was made.
            arguments.flags |= libc::CLONE_PARENT_SETTID as u64;
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
}

/// Makes a copy of this process.
///
/// # Safety
///
/// As for [`Wish::clone`].
unsafe fn clone(child: impl FnOnce() -> libc::c_int) -> Result<Pid> {
    // SAFETY: By this function's contract.
    unsafe { Wish::default().clone(child) }
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
        unsafe { clone(|| idle()) }.map(Self)
    }

    /// With this number, which no task has.
    pub fn at(pid: u32) -> Result<Self> {
        let wish = Wish {
            tid: pid,
            ..Wish::default()
        };
        // SAFETY: `idle` only makes system calls.
        unsafe { wish.clone(|| idle()) }.map(Self)
    }

    /// With this number; it is still being made until `stall` is released, and so is this call.
    pub fn stalled(pid: u32, stall: &Stall) -> Result<Self> {
        let wish = Wish {
            tid: pid,
            stall: Some(stall),
            ..Wish::default()
        };
        // SAFETY: `idle` only makes system calls.
        unsafe { wish.clone(|| idle()) }.map(Self)
    }

    /// A child of this process's parent, who is the one to reap it: see [`Idle::adopt`].
    pub fn sibling() -> Result<Self> {
        let wish = Wish {
            flags: libc::CLONE_PARENT,
            ..Wish::default()
        };
        // SAFETY: `idle` only makes system calls.
        unsafe { wish.clone(|| idle()) }.map(Self)
    }

    /// A child of this process that somebody else has made.
    pub fn adopt(pid: u32) -> Self {
        Self(Pid::from_raw(pid.cast_signed()).expect("not 0"))
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
    brief_child_with(0)
}

/// As [`brief_child`]; it ends with `code`.
pub fn brief_child_with(code: u8) -> Result<u32> {
    // SAFETY: It does nothing.
    reaped(unsafe { clone(|| code.into()) }?)
}

/// As [`brief_child_with`], in the way of vfork(2): this process lends it its memory, and sleeps meanwhile.
pub fn vfork_child(code: u8) -> Result<u32> {
    extern "C" fn end(code: *mut libc::c_void) -> libc::c_int {
        // SAFETY: Ends the child.
        unsafe { libc::_exit(code.addr() as libc::c_int) }
    }

    let mut stack = vec![0_u128; 4096];
    // SAFETY: The child has a stack of its own, which outlives it: CLONE_VFORK.
    let pid = check(unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let code = std::ptr::without_provenance_mut(code.into());
        libc::clone(end, stack.as_mut_ptr_range().end.cast(), flags, code).into()
    })?;
    reaped(Pid::from_raw(pid as i32).expect("not 0"))
}

/// Waits for a child's end; returns the number it had.
fn reaped(child: Pid) -> Result<u32> {
    rustix::process::waitpid(Some(child), WaitOptions::empty())?;
    Ok(child.as_raw_nonzero().get().unsigned_abs())
}

/// Runs the program in `file`, which need have no name, by execveat(2), without an environment; returns
/// only if that fails.
pub fn exec_file(file: BorrowedFd<'_>, arguments: &[&CStr]) -> Errno {
    let ended = |text: &[&CStr]| {
        let mut pointers: Vec<_> = text.iter().map(|text| text.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    // SAFETY: Both lists end with a null, and what they point to outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            ended(arguments).as_ptr(),
            ended(&[]).as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    errno(std::io::Error::last_os_error())
}

/// Makes a child that makes a child, and reaps both.
pub fn brief_family() -> Result<()> {
    // SAFETY: The child makes system calls only.
    let pid = unsafe { clone(|| i32::from(brief_child().is_err())) }?;
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
                clone(|| match bush(depth - 1) {
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

/// Children of this process will be in a new time namespace.
pub fn unshare_time() -> Result<()> {
    // SAFETY: Descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWTIME) }
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
