//! Where a load runs: on the current tokio runtime, if there is one; and how a load that asks its own cache is recognised.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::sync::thread_local;

#[cfg(all(feature = "rt-tokio", not(all(test, cognito_loom))))]
#[derive(Clone)]
pub(super) struct Spawner(tokio::runtime::Handle);

#[cfg(all(feature = "rt-tokio", not(all(test, cognito_loom))))]
impl Spawner {
    /// `None`: there is none, and those who wait have to drive the load.
    pub(super) fn here() -> Option<Self> {
        tokio::runtime::Handle::try_current().ok().map(Self)
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(task));
    }
}

#[cfg(not(all(feature = "rt-tokio", not(all(test, cognito_loom)))))]
#[derive(Clone)]
#[allow(dead_code, reason = "never made: there is no runtime to spawn a load on")]
pub(super) struct Spawner(());

#[cfg(not(all(feature = "rt-tokio", not(all(test, cognito_loom)))))]
impl Spawner {
    pub(super) fn here() -> Option<Self> {
        None
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(task);
    }
}

thread_local! {
    /// The caches, and whoever else waits for himself, whose loads are being polled on this thread, innermost last.
    static POLLED: std::cell::RefCell<Vec<usize>> = std::cell::RefCell::default();
}

/// A load that can be recognised from inside: if it asked its own cache, it would wait for itself. The engine marks the loads of each
/// cache; what uses several caches marks its own by the address of what they have in common.
///
/// Recognised in whatever the load itself awaits, not in tasks that it spawns: those run into the load's timeout.
pub(crate) struct Reentry<F> {
    pub(crate) id: usize,
    pub(crate) load: F,
}

impl Reentry<()> {
    pub(crate) fn is_inside(id: usize) -> bool {
        POLLED.try_with(|polled| polled.borrow().contains(&id)).unwrap_or(false)
    }

    /// Runs code that is recognised like a load.
    pub(crate) fn marked<R>(id: usize, run: impl FnOnce() -> R) -> R {
        let _mark = Mark::set(id);
        run()
    }
}

impl<F: Future + Unpin> Future for Reentry<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _mark = Mark::set(self.id);
        Pin::new(&mut self.load).poll(cx)
    }
}

struct Mark;

impl Mark {
    fn set(id: usize) -> Self {
        let _ = POLLED.try_with(|polled| polled.borrow_mut().push(id));
        Self
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = POLLED.try_with(|polled| polled.borrow_mut().pop());
    }
}
