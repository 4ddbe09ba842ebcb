//! The app's code where it must not break ours: drops, wakers, closures, listeners. They run outside of every lock.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `app`, whose panic was reported when it was raised and must not take with it what comes after. `None` if it panicked.
pub(super) fn quietly<R>(app: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(app)) {
        Ok(result) => Some(result),
        Err(panic) => {
            // What was panicked with is the app's, too. A second panic in its destructor leaks it.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(again);
            }
            None
        }
    }
}

/// Drops what may hold a value of the app's.
pub(super) fn drop_quietly<T>(value: T) {
    quietly(|| drop(value));
}
