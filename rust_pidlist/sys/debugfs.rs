//! Text files in debugfs that hold the module while they are open.
//!
//! The files of the kernel crate do not: their operations have no owner, in 7.2 as in 7.3.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)

use kernel::bindings;
use kernel::ffi::{c_char, c_void};
use kernel::fmt;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::str::CStr;
use kernel::sync::Arc;

#[expect(improper_ctypes, reason = "the pointers only pass through")]
extern "C" {
    fn pidlist_debugfs_dir(name: *const c_char) -> *mut bindings::dentry;
    fn pidlist_debugfs_file(name: *const c_char, dir: *mut bindings::dentry, report: *mut c_void);
    fn pidlist_debugfs_remove(dir: *mut bindings::dentry);
}

/// Writes a text. May sleep.
pub(crate) type Write<T> = fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result;

/// A directory of texts about a `T`; it vanishes with it.
pub(crate) struct Directory<T: Send + Sync + 'static> {
    name: &'static CStr,
    /// Null before [`Self::appear`].
    dir: *mut bindings::dentry,
    // Used by the files. Dropped after `drop` has removed them.
    texts: KVec<KBox<Text<T>>>,
}

// SAFETY: A directory may be removed by any thread.
unsafe impl<T: Send + Sync> Send for Directory<T> {}
// SAFETY: A shared directory offers nothing.
unsafe impl<T: Send + Sync> Sync for Directory<T> {}

#[repr(C)]
struct Text<T> {
    /// First, as the shim demands.
    show: unsafe extern "C" fn(*mut bindings::seq_file, *const c_void),
    name: &'static CStr,
    about: Arc<T>,
    write: Write<T>,
}

impl<T: Send + Sync + 'static> Directory<T> {
    /// All that [`Self::appear`] needs. May sleep.
    pub(crate) fn new(
        name: &'static CStr,
        about: &Arc<T>,
        files: &[(&'static CStr, Write<T>)],
    ) -> Result<Self> {
        let mut texts = KVec::with_capacity(files.len(), GFP_KERNEL)?;
        for &(name, write) in files {
            let text = Text { show: show::<T>, name, about: about.clone(), write };
            texts.push(KBox::new(text, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Self { name, dir: core::ptr::null_mut(), texts })
    }

    /// Makes the directory and its files. May sleep. A kernel without debugfs has none of them.
    pub(crate) fn appear(&mut self) {
        // SAFETY: The name is a static string.
        self.dir = unsafe { pidlist_debugfs_dir(self.name.as_char_ptr()) };
        for text in &self.texts {
            let report = core::ptr::from_ref::<Text<T>>(text).cast_mut().cast();
            // SAFETY: `dir` is what the kernel has just returned, perhaps an error, which it takes. The
            // text stays where it is until the directory was removed.
            unsafe { pidlist_debugfs_file(text.name.as_char_ptr(), self.dir, report) };
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Directory<T> {
    // May sleep: waits for who reads.
    fn drop(&mut self) {
        // SAFETY: It came from `pidlist_debugfs_dir`; the kernel takes an error and null, too.
        unsafe { pidlist_debugfs_remove(self.dir) };
    }
}

/// # Safety
///
/// Only the shim calls it, with a `Text<T>` whose file is being read.
unsafe extern "C" fn show<T>(file: *mut bindings::seq_file, text: *const c_void) {
    struct Shown<'a, T>(&'a Text<T>);

    impl<T> fmt::Display for Shown<'_, T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            (self.0.write)(&self.0.about, f)
        }
    }

    // SAFETY: By the function's contract.
    let (file, text) = unsafe { (SeqFile::from_raw(file), &*text.cast::<Text<T>>()) };
    file.call_printf(kernel::prelude::fmt!("{}", Shown(text)));
}
