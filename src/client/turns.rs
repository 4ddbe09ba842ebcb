//! [`Turns`]: one at a time, and for no longer than a deadline that those who wait enforce.
//!
//! A plain async mutex would be held for ever by a task whose runtime is gone or is not driven any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;

use super::app_code::quietly;
use crate::clock::{Clock, Expiry, Now, Timer};

/// How long others wait for work that may outlive its caller, and by which clock.
#[derive(Clone)]
pub(super) struct Patience {
    pub(super) clock: Clock,
    pub(super) timer: Timer,
    pub(super) limit: Duration,
}

/// Who has the turn, if anybody has.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    holder: Option<Holder>,
    issued: u64,
}

#[derive(Clone, Copy)]
struct Holder {
    ticket: u64,
    deadline: Expiry,
}

/// Keeps others waiting while it lives, up to the deadline.
pub(super) struct Turn {
    turns: Arc<Turns>,
    ticket: u64,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(self: &Arc<Self>, state: &mut State, now: Now, limit: Duration) -> Turn {
        state.issued += 1;
        state.holder = Some(Holder {
            ticket: state.issued,
            deadline: Expiry::after(now, limit),
        });
        Turn {
            turns: Arc::clone(self),
            ticket: state.issued,
        }
    }

    /// The turn, if nobody has it, or whoever has it is past the deadline.
    pub(super) fn try_take(self: &Arc<Self>, patience: &Patience) -> Option<Turn> {
        let now = patience.clock.now();
        let mut state = self.lock();
        let free = state.holder.is_none_or(|holder| holder.deadline.is_over(now));
        free.then(|| self.hand_out(&mut state, now, patience.limit))
    }

    /// Waits for the turn.
    pub(super) async fn take(self: &Arc<Self>, patience: &Patience) -> Turn {
        loop {
            self.until_free(patience).await;
            if let Some(turn) = self.try_take(patience) {
                return turn;
            }
        }
    }

    /// Waits until nobody has the turn, or whoever has it is past the deadline.
    pub(super) async fn until_free(&self, patience: &Patience) {
        loop {
            // Before the look: what changes after it is not missed.
            let changed = self.changed.notified();
            let now = patience.clock.now();
            let Some(holder) = self.lock().holder else { return };
            if holder.deadline.is_over(now) {
                return;
            }
            match patience.timer.after(holder.deadline.remaining(now)) {
                // Nothing can wake us but the holder; without a timer there is no task that could be left behind, either.
                None => changed.await,
                Some(sleep) => {
                    if let Either::Right(_) = select(std::pin::pin!(changed), sleep).await {
                        self.evict(holder.ticket);
                    }
                }
            }
        }
    }

    /// Takes the turn away from one who has had it for too long by our own waiting, whatever the clock says.
    fn evict(&self, ticket: u64) {
        let mut state = self.lock();
        state.holder = state.holder.filter(|holder| holder.ticket != ticket);
    }
}

impl Turn {
    /// Whether nobody has taken it over.
    pub(super) fn is_ours(&self) -> bool {
        self.turns
            .lock()
            .holder
            .is_some_and(|holder| holder.ticket == self.ticket)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.evict(self.ticket);
        // Wakers are anybody's code.
        quietly(|| self.turns.changed.notify_waiters());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
    use aws_smithy_async::test_util::ManualTimeSource;
    use aws_smithy_async::time::SharedTimeSource;

    /// With a clock that stands still.
    fn patience() -> Patience {
        let time = ManualTimeSource::new(std::time::UNIX_EPOCH);
        Patience {
            clock: Clock::new(SharedTimeSource::new(time)),
            timer: Timer::new(Some(SharedAsyncSleep::new(TokioSleep::new()))),
            limit: Duration::from_secs(15),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_never_given_back_is_taken_over_after_the_deadline() {
        let turns = Arc::new(Turns::default());
        let forgotten = turns.take(&patience()).await;
        assert!(turns.try_take(&patience()).is_none());
        let begun = tokio::time::Instant::now();
        let next = turns.take(&patience()).await;
        // By the waiter's own timer.
        assert_eq!(begun.elapsed().as_secs(), patience().limit.as_secs());
        assert!(next.is_ours() && !forgotten.is_ours());
        // Whoever was overtaken takes nothing from the next.
        drop(forgotten);
        assert!(next.is_ours());
        drop(next);
        turns.until_free(&patience()).await;
        assert!(turns.try_take(&patience()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_get_it_one_after_the_other() {
        let (turns, patience) = (Arc::new(Turns::default()), patience());
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let one = || async {
            let turn = turns.take(&patience).await;
            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            drop(turn);
        };
        futures_util::future::join_all((0..20).map(|_| one())).await;
        assert!(turns.try_take(&patience).is_some());
    }
}
