//! The mark by which a hook of the app that asks its own provider is recognised.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

thread_local! {
    /// The providers whose hooks are being polled on this thread.
    static POLLED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A hook's future, marked with the provider that it serves while it is polled.
///
/// The refresh engine has such a mark for each of its caches; this one covers a hook that is called for one of a session's
/// caches and asks another. A task that the hook spawns and waits for is not recognised, and runs into the load's timeout.
pub(super) struct Hook<'a, T> {
    pub(super) provider: usize,
    pub(super) call: BoxFuture<'a, T>,
}

/// Whether the caller is a hook of this provider.
pub(super) fn is_inside(provider: usize) -> bool {
    POLLED
        .try_with(|polled| polled.borrow().contains(&provider))
        .unwrap_or(false)
}

impl<T> Future for Hook<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        struct Unmark;
        impl Drop for Unmark {
            fn drop(&mut self) {
                POLLED
                    .try_with(|polled| _ = polled.borrow_mut().pop())
                    .unwrap_or_default();
            }
        }
        POLLED
            .try_with(|polled| polled.borrow_mut().push(self.provider))
            .unwrap_or_default();
        let _unmark = Unmark;
        self.call.as_mut().poll(cx)
    }
}
