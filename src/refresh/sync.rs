//! What the model checker has to see through: the locks, the atomics and the thread-locals of this room.

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
