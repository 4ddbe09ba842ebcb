//! An allocator that counts while a [`Count`] lives: a bench says `#[global_allocator] static COUNTING: Counting = Counting;`.
//!
//! While it does not count it costs nothing that threads could contend for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// The system's allocator, counted.
pub(crate) struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

/// Counts for as long as it lives.
pub(crate) struct Count(());

impl Count {
    /// One at a time.
    pub(crate) fn start() -> Self {
        ALLOCATIONS.store(0, Ordering::Relaxed);
        BYTES.store(0, Ordering::Relaxed);
        ON.store(true, Ordering::Relaxed);
        Self(())
    }

    /// How many allocations there have been.
    pub(crate) fn allocations(&self) -> u64 {
        ALLOCATIONS.load(Ordering::Relaxed)
    }

    /// How many more bytes are allocated at this moment than at its start.
    pub(crate) fn bytes(&self) -> i64 {
        BYTES.load(Ordering::Relaxed)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        ON.store(false, Ordering::Relaxed);
    }
}

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ON.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        }
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if ON.load(Ordering::Relaxed) {
            BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        }
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}
