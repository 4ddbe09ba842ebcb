//! A token bucket under the account's quota, which all pools of the region share.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lets `per_second` requests through in every second, as many at once after a pause.
///
/// Kept as the one moment at which the bucket will be full again (GCRA), so that there is nothing to refill.
#[derive(Debug)]
pub(super) struct TokenBucket {
    interval: u64,
    depth: u64,
    state: Mutex<State>,
}

/// A clock that jumps back by more than this was set.
const SET_BACK: u64 = 1_000_000_000;

/// In nanoseconds since a fixed moment.
#[derive(Debug, Default)]
struct State {
    full_at: u64,
    /// When something was taken last, to notice a clock that was set back.
    last: u64,
}

impl TokenBucket {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let interval = 1_000_000_000 / u64::from(per_second.get());
        Self {
            interval,
            depth: interval.saturating_mul(u64::from(per_second.get())),
            state: Mutex::default(),
        }
    }

    pub(super) fn per_second(&self) -> NonZeroU32 {
        let rate = self
            .depth
            .checked_div(self.interval)
            .and_then(|rate| u32::try_from(rate).ok());
        rate.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }

    /// Takes one at `now` (time since any fixed moment): how long to wait for it, or, if that is longer than `patience`,
    /// nothing is taken and the error says when to come again.
    pub(super) fn take(&self, now: Duration, patience: Duration) -> Result<Duration, Duration> {
        let now = nanos(now);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Callers may arrive in another order than they read the clock. More than that, and it was set back: what was taken
        // stays taken, and nothing more.
        let back = state.last.saturating_sub(now);
        let now = if back > SET_BACK {
            state.full_at = state.full_at.saturating_sub(back);
            now
        } else {
            now.max(state.last)
        };
        state.last = now;
        let from = state.full_at.max(now);
        let next = from.saturating_add(self.interval);
        let wait = Duration::from_nanos(next.saturating_sub(now).saturating_sub(self.depth));
        if wait > patience {
            return Err(wait);
        }
        state.full_at = next;
        Ok(wait)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(per_second: u32) -> TokenBucket {
        TokenBucket::new(NonZeroU32::new(per_second).unwrap())
    }

    const NOW: Duration = Duration::from_secs(1_000_000);

    #[test]
    fn a_seconds_worth_at_once_and_not_one_more() {
        let bucket = bucket(50);
        for n in 0..50 {
            assert_eq!(bucket.take(NOW, Duration::ZERO), Ok(Duration::ZERO), "{n}");
        }
        assert_eq!(bucket.take(NOW, Duration::ZERO), Err(Duration::from_millis(20)));
        assert_eq!(
            bucket.take(NOW + Duration::from_millis(20), Duration::ZERO),
            Ok(Duration::ZERO)
        );
        assert!(bucket.take(NOW + Duration::from_millis(20), Duration::ZERO).is_err());
    }

    #[test]
    fn the_patient_wait_their_turn_and_no_longer_than_they_said() {
        let bucket = bucket(10);
        for _ in 0..10 {
            bucket.take(NOW, Duration::ZERO).unwrap();
        }
        let patience = Duration::from_millis(250);
        assert_eq!(bucket.take(NOW, patience), Ok(Duration::from_millis(100)));
        assert_eq!(bucket.take(NOW, patience), Ok(Duration::from_millis(200)));
        assert_eq!(bucket.take(NOW, patience), Err(Duration::from_millis(300)));
        // A refusal takes nothing.
        assert_eq!(bucket.take(NOW, patience), Err(Duration::from_millis(300)));
    }

    #[test]
    fn over_a_minute_no_more_than_the_rate() {
        let bucket = bucket(7);
        let through = (0..6_000)
            .filter(|n| bucket.take(NOW + Duration::from_millis(n * 10), Duration::ZERO).is_ok())
            .count();
        assert!((7 * 60..=7 * 61).contains(&through), "{through}");
    }

    #[test]
    fn the_impatient_are_not_let_through_because_others_wait() {
        let bucket = bucket(10);
        for _ in 0..10 {
            bucket.take(NOW, Duration::ZERO).unwrap();
        }
        for _ in 0..100 {
            bucket.take(NOW, Duration::from_secs(60)).unwrap();
        }
        assert_eq!(bucket.take(NOW, Duration::ZERO), Err(Duration::from_millis(10_100)));
    }

    #[test]
    fn callers_out_of_order_take_no_more_than_the_rate() {
        let bucket = bucket(10);
        let through = (0..10_000u64).filter(|n| {
            // Each pair comes in the wrong order, a millisecond apart.
            bucket.take(NOW + Duration::from_millis(n ^ 1), Duration::ZERO).is_ok()
        });
        assert_eq!(through.count(), 10 + 10 * 10 - 1);
    }

    #[test]
    fn a_clock_set_back_neither_closes_nor_refills_the_bucket() {
        let bucket = bucket(1);
        bucket.take(NOW, Duration::ZERO).unwrap();
        assert_eq!(bucket.take(Duration::ZERO, Duration::ZERO), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(Duration::from_secs(1), Duration::ZERO), Ok(Duration::ZERO));
        assert!(bucket.take(Duration::MAX, Duration::ZERO).is_ok());
    }
}
