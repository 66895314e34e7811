//! Users and what they may do.
//!
//! C header: [`include/linux/cred.h`](srctree/include/linux/cred.h)

use core::ptr::addr_of_mut;

use kernel::bindings;
use kernel::cred::Credential;
use kernel::fs::file::File;

/// A user in the kernel's own numbering.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uid(u32);

impl Uid {
    /// The superuser of the initial user namespace.
    pub(crate) const ROOT: Self = Self(0);

    /// As the current task's user namespace numbers it, or the overflow uid (65534).
    pub(crate) fn in_current_namespace(self) -> u32 {
        // SAFETY: The current task keeps its user namespace during the call.
        unsafe {
            bindings::from_kuid_munged(
                bindings::current_user_ns(),
                bindings::kuid_t { val: self.0 },
            )
        }
    }
}

/// Who opened a file, with the rights of that time.
pub(crate) struct User<'a>(&'a File);

impl<'a> User<'a> {
    pub(super) fn opener(file: &'a File) -> Self {
        Self(file)
    }

    /// The effective uid.
    pub(crate) fn uid(&self) -> Uid {
        let cred: &Credential = self.0.cred();
        Uid(cred.euid().into_raw().val)
    }

    /// Whether it has `CAP_SYS_ADMIN` in the initial user namespace.
    pub(crate) fn is_admin(&self) -> bool {
        // SAFETY: The file is valid, and the initial user namespace is there for ever.
        unsafe {
            bindings::file_ns_capable(
                self.0.as_ptr(),
                addr_of_mut!(bindings::init_user_ns),
                bindings::CAP_SYS_ADMIN as i32,
            )
        }
    }
}
