//! Memory whose bounds are known, and calls that are given any address in or near it.

#![expect(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use pidlist_abi::pidset as abi;

use super::{Result, check};

/// Bytes that can be used; as many before and behind them are not mapped.
pub const ROOM: usize = 256 << 10;

/// An address that the kernel may be given: a write to it hits nothing but a [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(usize);

impl Address {
    pub const NULL: Self = Self(0);
    /// The kernel's own.
    pub const KERNEL: Self = Self(0xffff_ffff_8000_0000);
    /// Neither the kernel's nor a program's.
    pub const NOWHERE: Self = Self(0x8000_0000_0000_0000);
    /// The very last one.
    pub const LAST: Self = Self(usize::MAX);

    /// As it stands in an argument.
    pub fn number(self) -> u64 {
        self.0 as u64
    }
}

/// Room for arguments and what they lead to, between two guards that are not mapped.
///
/// Nothing refers to its bytes but calls of this type, one at a time.
pub struct Memory {
    base: ptr::NonNull<u8>,
}

// SAFETY: The mapping is this value's own, and belongs to no thread.
unsafe impl Send for Memory {}

impl Memory {
    pub fn new() -> Result<Self> {
        // SAFETY: A new mapping, where the kernel likes: it replaces none.
        let whole = unsafe {
            libc::mmap(
                ptr::null_mut(),
                3 * ROOM,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        check(whole as libc::c_long)?;
        let base = whole.cast::<u8>().wrapping_add(ROOM);
        // SAFETY: The middle third of what was mapped above.
        let opened =
            unsafe { libc::mprotect(base.cast(), ROOM, libc::PROT_READ | libc::PROT_WRITE) };
        check(opened.into())?;
        let base = ptr::NonNull::new(base).expect("the kernel maps nothing at 0");
        Ok(Self { base })
    }

    /// The byte at `offset`.
    pub fn at(&self, offset: usize) -> Address {
        assert!(offset <= ROOM);
        Address(self.base.as_ptr() as usize + offset)
    }

    /// The last `len` bytes: behind them nothing is mapped.
    pub fn tail(&self, len: usize) -> Address {
        self.at(ROOM - len)
    }

    /// A place that is not mapped, nor is what follows it.
    pub fn unmapped(&self) -> Address {
        self.at(ROOM)
    }

    fn offset(&self, address: Address, len: usize) -> usize {
        let offset = address.0.wrapping_sub(self.base.as_ptr() as usize);
        assert!(offset <= ROOM && len <= ROOM - offset, "not in the memory");
        offset
    }

    /// Puts `bytes` to `address`, which is in this memory.
    pub fn put(&mut self, address: Address, bytes: &[u8]) {
        let offset = self.offset(address, bytes.len());
        let to = self.base.as_ptr().wrapping_add(offset);
        // SAFETY: `offset` says that they fit; the memory is borrowed mutably, and nobody else's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// The `len` bytes at `address`, which is in this memory.
    pub fn get(&self, address: Address, len: usize) -> Vec<u8> {
        let offset = self.offset(address, len);
        let mut bytes = vec![0; len];
        let from = self.base.as_ptr().wrapping_add(offset);
        // SAFETY: As above; mapped memory is initialized.
        unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Any ioctl that is the module's own, or nobody's, with any argument.
    pub fn ioctl(&mut self, fd: impl AsFd, opcode: u32, argument: Address) -> Result<usize> {
        self.check_destination(opcode, argument);
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: The kernel writes to nothing but where an `Address` leads, which is this memory or
        // fails: an opcode's argument is at most 16 KiB, less than a guard, and the one argument
        // that holds an address to write to was looked at above.
        check(unsafe { libc::syscall(libc::SYS_ioctl, fd, opcode, argument.0) })
    }

    /// As [`Memory::ioctl`], for those that return a descriptor.
    pub fn descriptor(&mut self, fd: impl AsFd, opcode: u32, argument: Address) -> Result<OwnedFd> {
        assert!(opcode == abi::OPEN || opcode == abi::EVENTS);
        let fd = self.ioctl(fd, opcode, argument)?;
        // SAFETY: The module has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// The module writes to where a [`abi::Span`] says: that must be an [`Address`], too.
    fn check_destination(&self, opcode: u32, argument: Address) {
        let start = argument.0.wrapping_sub(self.base.as_ptr() as usize);
        let whole = start <= ROOM - size_of::<abi::Span>();
        if opcode == abi::SPAN && whole {
            let to = self.get(argument, size_of::<u64>());
            let to = u64::from_ne_bytes(to.try_into().expect("8 bytes")) as usize;
            let near = to.wrapping_sub(self.base.as_ptr() as usize) <= ROOM;
            let harmless = [
                Address::NULL,
                Address::KERNEL,
                Address::NOWHERE,
                Address::LAST,
            ];
            assert!(near || harmless.contains(&Address(to)), "{to:#x}");
        }
    }

    /// `read(fd, address, len)`; `len` is at most [`ROOM`].
    pub fn read(&mut self, fd: BorrowedFd<'_>, address: Address, len: usize) -> Result<usize> {
        assert!(len <= ROOM);
        // SAFETY: As for `ioctl`: it writes to this memory or its guard, or fails.
        check(unsafe { libc::syscall(libc::SYS_read, fd.as_raw_fd(), address.0, len) })
    }

    /// `write(fd, address, len)`.
    pub fn write(&mut self, fd: BorrowedFd<'_>, address: Address, len: usize) -> Result<usize> {
        // SAFETY: The kernel reads there, or fails.
        check(unsafe { libc::syscall(libc::SYS_write, fd.as_raw_fd(), address.0, len) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: Mapped in `new`, all of it ours.
        unsafe { libc::munmap(self.base.as_ptr().wrapping_sub(ROOM).cast(), 3 * ROOM) };
    }
}

/// An argument's bytes, for [`Memory::put`].
pub trait Bytes {
    fn bytes(&self) -> Vec<u8>;
}

impl Bytes for abi::Pids {
    fn bytes(&self) -> Vec<u8> {
        [
            &self.addr.to_ne_bytes()[..],
            &self.len.to_ne_bytes(),
            &self.flags.to_ne_bytes(),
        ]
        .concat()
    }
}

impl Bytes for abi::Span {
    fn bytes(&self) -> Vec<u8> {
        [
            &self.addr.to_ne_bytes()[..],
            &self.len.to_ne_bytes(),
            &self.flags.to_ne_bytes(),
            &self.cursor.to_ne_bytes(),
        ]
        .concat()
    }
}

impl Bytes for abi::Open {
    fn bytes(&self) -> Vec<u8> {
        [
            &self.name[..],
            &self.flags.to_ne_bytes(),
            &self.rules.to_ne_bytes(),
            &self.bytes_max.to_ne_bytes(),
        ]
        .concat()
    }
}

impl Bytes for abi::Rules {
    fn bytes(&self) -> Vec<u8> {
        [
            &self.flags.to_ne_bytes()[..],
            &self.reserved.to_ne_bytes(),
            &self.bytes_max.to_ne_bytes(),
        ]
        .concat()
    }
}

impl Bytes for abi::Events {
    fn bytes(&self) -> Vec<u8> {
        [self.from.to_ne_bytes(), self.flags.to_ne_bytes()].concat()
    }
}
