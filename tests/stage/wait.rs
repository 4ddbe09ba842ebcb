//! Waiting for what can be observed, never for a number of turns or for a while.

use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};

/// How long a test waits for what must come. Nothing is measured by it: it ends a test that would hang, and is long enough
/// for a machine that has much else to do.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// Waits until `condition` holds; `what` is said if it does not within [`DEADLINE`].
///
/// Meanwhile the other tasks of the runtime run. Tokio's virtual time, where it is paused, stands still.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::task::yield_now().await;
        // Other threads may have to bring it about, on the same core.
        std::thread::yield_now();
    }
}

/// Waits until no task of this runtime can go on unless time passes. Virtual time alone can tell: it goes on, here by a
/// millisecond, when nothing is left to run. Hence for tests with `start_paused = true`, on one thread.
pub async fn idle() {
    // Panics where time is not paused.
    tokio::time::advance(Duration::ZERO).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The future's output; `what` is said if it does not come within [`DEADLINE`] of real time. Virtual time stands still meanwhile.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let end = Instant::now() + DEADLINE;
    // Polls the future when it is woken, and only then: a lost wake-up is not made good here.
    let mut woken: FuturesUnordered<F> = std::iter::once(future).collect();
    loop {
        tokio::select! {
            biased;
            Some(output) = woken.next() => return output,
            () = tokio::task::yield_now() => assert!(Instant::now() < end, "{what} did not come"),
        }
        std::thread::yield_now();
    }
}
