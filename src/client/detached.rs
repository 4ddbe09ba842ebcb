//! Work that must reach its end although its caller has gone.

use std::future::Future;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind};

/// Runs `task` to its end even if the caller goes: what becomes of a guest must be known although the session has ended.
///
/// It has no deadline of its own: whoever may be kept waiting by it has one (see [`Turns`](super::turns::Turns)).
pub(super) async fn to_its_end<T: Send + 'static>(
    task: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    let task = async move { sender.send(task.await).map(drop).unwrap_or_default() };
    if let Some(inline) = detach(task) {
        inline.await;
    }
    receiver.await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Runtime,
            "the task that was to finish the sign-in was dropped by its async runtime",
        )
        .with_hint(
            "the runtime was shut down, or something that the task called panicked; sign in again on a running one",
        ))
    })
}

/// Hands `task` to the tokio runtime, or back to the caller where there is none.
#[cfg(feature = "rt-tokio")]
pub(super) fn detach<F: Future<Output = ()> + Send + 'static>(task: F) -> Option<F> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            drop(runtime.spawn(task));
            None
        }
        Err(_) => Some(task),
    }
}

/// Hands `task` back to the caller: there is no runtime to carry it.
#[cfg(not(feature = "rt-tokio"))]
pub(super) fn detach<F: Future<Output = ()> + Send + 'static>(task: F) -> Option<F> {
    Some(task)
}
