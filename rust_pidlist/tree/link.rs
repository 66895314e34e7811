//! Chunk memory: who owns it, and the links between chunks.
//!
//! The only `unsafe` of the tree. It rests on one rule: a chunk that has been in a tree keeps its
//! type and its address until the tree is dropped. Emptied chunks go to the tree's [`Stack`] and
//! come back from there, never to the allocator, so a reader with an old link still reads a chunk.

#![expect(unsafe_code)]

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use super::sync::{AtomicPtr, Ordering};

/// A kind of chunk.
pub trait Chunk: Sized + 'static {
    /// An empty chunk, in no tree.
    ///
    /// All bytes of it are zero (except under loom): an allocator may hand out zeroed memory.
    fn new() -> Self;

    /// The link that strings free chunks together; no reader follows it.
    #[doc(hidden)]
    fn next_free(&self) -> &Link<Self>;
}

/// Where the memory of chunks comes from, and goes when the tree is dropped.
///
/// # Safety
///
/// `alloc` returns a pointer to an initialized chunk, as of [`Chunk::new`], that nobody else uses and
/// that stays valid, at this address, until it is passed to `free`.
pub unsafe trait Supply: 'static {
    /// What an allocation needs to know; in the kernel, the GFP flags.
    type Mode: Copy;

    /// A new chunk, or `None` where there is no memory. Never called with a lock held.
    fn alloc<T: Chunk>(mode: Self::Mode) -> Option<NonNull<T>>;

    /// Gives a chunk's memory back.
    ///
    /// # Safety
    ///
    /// `chunk` came from `alloc` of this supply, and nobody uses it any more.
    unsafe fn free<T: Chunk>(chunk: NonNull<T>);
}

/// A link to a chunk of the same tree, or to none.
///
/// # Invariants
///
/// The pointer is null or points to a chunk that lives as long as the tree (or [`Stack`]) that this
/// link is part of.
#[doc(hidden)]
pub struct Link<T>(AtomicPtr<T>);

impl<T> Link<T> {
    pub(super) fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The chunk, with all that was written to it before it was linked.
    pub(super) fn get(&self) -> Option<&T> {
        // SAFETY: By the type invariant the chunk outlives the tree, and so this borrow of a part of it.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Cuts the link.
    pub(super) fn cut(&self) {
        self.0.store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Links `chunk`, which the caller got from this very tree, where no reader looks.
    fn set(&self, chunk: Option<&T>) {
        let chunk = chunk.map_or(ptr::null_mut(), |c| ptr::from_ref(c).cast_mut());
        // INVARIANT: The chunk belongs to this tree.
        self.0.store(chunk, Ordering::Relaxed);
    }

    /// Publishes `chunk` and gives it to the tree.
    pub(super) fn put<S: Supply>(&self, chunk: Owned<T, S>) -> &T
    where
        T: Chunk,
    {
        let chunk = ManuallyDrop::new(chunk).0.as_ptr();
        // INVARIANT: A chunk that is put into a tree stays as long as the tree.
        self.0.store(chunk, Ordering::Release);
        // SAFETY: As for `get`.
        unsafe { &*chunk }
    }
}

/// A chunk that no tree links to; dropping it frees it.
pub(super) struct Owned<T: Chunk, S: Supply>(NonNull<T>, PhantomData<S>);

// SAFETY: It owns the chunk, which is made of atomics.
unsafe impl<T: Chunk + Send, S: Supply> Send for Owned<T, S> {}
// SAFETY: A shared one gives a shared chunk.
unsafe impl<T: Chunk + Sync, S: Supply> Sync for Owned<T, S> {}

impl<T: Chunk, S: Supply> Owned<T, S> {
    pub(super) fn alloc(mode: S::Mode) -> Option<Self> {
        Some(Self(S::alloc(mode)?, PhantomData))
    }
}

impl<T: Chunk, S: Supply> core::ops::Deref for Owned<T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The chunk is valid until it is freed in `drop`.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Chunk, S: Supply> Drop for Owned<T, S> {
    fn drop(&mut self) {
        // SAFETY: The chunk came from `S::alloc`, and we are its only owner.
        unsafe { S::free(self.0) }
    }
}

/// Free chunks, the last one in first out.
pub(super) struct Stack<T: Chunk, S: Supply> {
    head: Link<T>,
    len: usize,
    supply: PhantomData<S>,
}

impl<T: Chunk, S: Supply> Stack<T, S> {
    pub(super) fn new() -> Self {
        Self {
            head: Link::none(),
            len: 0,
            supply: PhantomData,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes back a chunk that the tree does not link to any more, though readers may still look
    /// at it.
    pub(super) fn push(&mut self, chunk: &T) {
        chunk.next_free().set(self.head.get());
        self.head.set(Some(chunk));
        self.len += 1;
    }

    pub(super) fn push_owned(&mut self, chunk: Owned<T, S>) {
        let chunk = ManuallyDrop::new(chunk);
        self.push(&chunk);
    }

    /// A chunk for the tree. Readers may still look at it: it is to be put into the tree or pushed
    /// back, not dropped.
    pub(super) fn pop(&mut self) -> Option<Owned<T, S>> {
        let chunk = self.head.get()?;
        let owned = Owned(NonNull::from(chunk), PhantomData);
        self.head.set(chunk.next_free().get());
        self.len -= 1;
        Some(owned)
    }
}

impl<T: Chunk, S: Supply> Drop for Stack<T, S> {
    fn drop(&mut self) {
        while let Some(chunk) = self.pop() {
            drop(chunk);
        }
    }
}
