//! Waiting for what can be observed.

use std::future::Future;
use std::time::Duration;

/// How long a test waits for what must come. Nothing is measured by it: it ends a test that would hang, and is long enough
/// for a machine on which ten others compile.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds; `what` is said if it does not within [`DEADLINE`].
///
/// Meanwhile the other tasks of the runtime run. Tokio's virtual time, where it is paused, stands still.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(std::time::Instant::now() < end, "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}

/// The future's output; `what` is said if it does not come within [`DEADLINE`] of real time.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        tokio::select! {
            biased;
            output = &mut future => return output,
            () = tokio::task::yield_now() => assert!(std::time::Instant::now() < end, "{what} did not come"),
        }
    }
}
