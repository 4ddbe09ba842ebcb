//! Time: a clock that tests turn by hand, and seconds since the epoch.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::{SharedTimeSource, TimeSource};

/// A time source that stands still until it is told, so that an hour can pass in a test.
///
/// Clones share the same clock. Give one to
/// [`LocalIdentityPoolBuilder::time_source`](super::LocalIdentityPoolBuilder::time_source); the pool's configs carry it
/// on to every client made from them.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use aws_smithy_async::time::TimeSource;
/// use cognito_identity_pool::local::LocalClock;
///
/// let clock = LocalClock::at(SystemTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug)]
pub struct LocalClock(Arc<Mutex<SystemTime>>);

impl LocalClock {
    /// A clock that stands at `time`.
    pub fn at(time: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(time)))
    }

    /// A clock that stands at the present of the machine's clock.
    pub fn at_present() -> Self {
        Self::at(SharedTimeSource::default().now())
    }

    /// Moves the clock forward. At the end of what [`SystemTime`] can tell it stays where it is.
    pub fn advance(&self, by: Duration) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(later) = time.checked_add(by) {
            *time = later;
        }
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, time: SystemTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }
}

impl TimeSource for LocalClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since the epoch, with their fraction.
pub(super) fn epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Whole seconds since the epoch.
pub(super) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// By how much a signer's clock may be wrong, in seconds.
const SKEW: i64 = 300;

/// The pool's time: a source, and how far it was moved ahead of it.
#[derive(Clone, Debug)]
pub(super) struct PoolClock {
    source: SharedTimeSource,
    /// Seconds.
    ahead: Arc<AtomicI64>,
    /// The most that `ahead` ever was.
    farthest: Arc<AtomicI64>,
}

impl PoolClock {
    pub(super) fn new(source: SharedTimeSource) -> Self {
        Self {
            source,
            ahead: Arc::default(),
            farthest: Arc::default(),
        }
    }

    /// Moves the pool's time ahead of its source, further with each call.
    pub(super) fn advance(&self, seconds: i64) {
        // A century is as good as any end.
        const FARTHEST: i64 = 100 * 366 * 86_400;
        let moved = self.ahead().saturating_add(seconds).clamp(0, FARTHEST);
        self.farthest.fetch_max(moved, Ordering::Relaxed);
        self.ahead.store(moved, Ordering::Relaxed);
    }

    /// How far the pool is ahead of its source, in seconds.
    pub(super) fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Whether a client may take this second for the present: it keeps its own clock, or has set it by an answer of the
    /// pool's, wherever that was then.
    pub(super) fn is_somebodys_present(&self, second: i64) -> bool {
        let (source, farthest) = (seconds(self.source.now()), self.farthest.load(Ordering::Relaxed));
        farthest > 0
            && (source.saturating_sub(SKEW)..=source.saturating_add(farthest).saturating_add(SKEW)).contains(&second)
    }

    /// Takes the pool back to its source's time.
    pub(super) fn reset(&self) {
        self.ahead.store(0, Ordering::Relaxed);
    }
}

impl TimeSource for PoolClock {
    fn now(&self) -> SystemTime {
        let now = self.source.now();
        now.checked_add(Duration::from_secs(self.ahead().unsigned_abs()))
            .unwrap_or(now)
    }
}
