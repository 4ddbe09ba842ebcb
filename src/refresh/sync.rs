//! What the model checker has to see through: the locks, the atomics, the thread-locals and the shared pointer of this room.

use std::sync::Arc;

#[cfg(all(test, cognito_loom))]
pub(super) use loom::{
    sync::{Mutex, MutexGuard, atomic::AtomicI64, atomic::Ordering},
    thread_local,
};
#[cfg(not(all(test, cognito_loom)))]
pub(super) use std::{
    sync::{Mutex, MutexGuard, atomic::AtomicI64, atomic::Ordering},
    thread_local,
};

/// Locks, and takes a poisoned lock as it is: nothing that can panic runs under the locks of this room.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A pointer that is read far more often than it is replaced.
pub(super) struct Slot<T> {
    #[cfg(not(all(test, cognito_loom)))]
    pointer: arc_swap::ArcSwapOption<T>,
    /// arc-swap's memory orderings are its own business; the model takes them to be as good as a lock's.
    #[cfg(all(test, cognito_loom))]
    pointer: Mutex<Option<Arc<T>>>,
}

#[cfg(not(all(test, cognito_loom)))]
impl<T> Slot<T> {
    pub(super) fn new(value: Option<Arc<T>>) -> Self {
        Self {
            pointer: arc_swap::ArcSwapOption::new(value),
        }
    }

    /// Reads without counting a reference. What `read` makes is not moved: a hit is little else than moving its answer.
    #[inline]
    pub(super) fn read<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        read(self.pointer.load().as_deref())
    }

    pub(super) fn load(&self) -> Option<Arc<T>> {
        self.pointer.load_full()
    }

    pub(super) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        self.pointer.swap(value)
    }
}

#[cfg(all(test, cognito_loom))]
impl<T> Slot<T> {
    pub(super) fn new(value: Option<Arc<T>>) -> Self {
        Self {
            pointer: Mutex::new(value),
        }
    }

    pub(super) fn read<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        read(self.load().as_deref())
    }

    pub(super) fn load(&self) -> Option<Arc<T>> {
        lock(&self.pointer).clone()
    }

    pub(super) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut *lock(&self.pointer), value)
    }
}

impl<T> Slot<T> {
    pub(super) fn empty() -> Self {
        Self::new(None)
    }

    /// Whether it points to this very value.
    pub(super) fn holds(&self, value: &Arc<T>) -> bool {
        self.read(|held| held.is_some_and(|held| std::ptr::eq(held, &**value)))
    }
}
