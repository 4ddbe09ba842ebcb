//! The one place where time is read: the wall clock beside a monotonic one, and what a server's `Date` corrects.
//!
//! Everything is kept in whole milliseconds since the epoch with saturating arithmetic, so that no clock, however wrong,
//! can make anything here panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use aws_smithy_async::time::SharedTimeSource;

/// The last moment of year 9999: the latest that the SDK's date formats can write.
const LATEST: i64 = 253_402_300_799_000;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    wall: i64,
    /// Absent under a time source of the user's own: virtual time must not be contradicted by the machine's.
    steady: SteadyMillis,
}

/// A reading of the monotonic clock, if there is one: half the size of an `Option`, and there may be very many of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SteadyMillis(i64);

impl SteadyMillis {
    const ABSENT: Self = Self(i64::MIN);

    /// The time from `earlier` to this reading; `None` without a monotonic clock.
    fn since(self, earlier: Self) -> Option<i64> {
        (self != Self::ABSENT && earlier != Self::ABSENT).then(|| self.0.saturating_sub(earlier.0))
    }
}

impl Now {
    /// The wall clock, in milliseconds since the epoch.
    pub(crate) fn wall_millis(self) -> i64 {
        self.wall
    }

    /// The wall clock.
    pub(crate) fn system_time(self) -> SystemTime {
        system_time(self.wall)
    }

    /// How long ago `earlier` was: by the monotonic clock where there is one. Zero if the wall clock went back.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let steady = self.steady.since(earlier.steady);
        duration(steady.unwrap_or_else(|| self.wall.saturating_sub(earlier.wall)))
    }
}

/// A moment that is reached when either clock says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    from: Now,
    life: i64,
}

impl Expiry {
    /// The moment `life` after `now`.
    pub(crate) fn after(now: Now, life: Duration) -> Self {
        Self {
            from: now,
            life: millis(life),
        }
    }

    /// What the server calls `expiration`, received `now` in an answer that carried the `Date` `server`. Without a `Date`
    /// the local clock has to do. What has expired on arrival has a life of zero.
    pub(crate) fn received(now: Now, expiration: SystemTime, server: Option<SystemTime>) -> Self {
        let reference = server.map_or(now.wall, wall_millis);
        Self {
            from: now,
            life: wall_millis(expiration).saturating_sub(reference).max(0),
        }
    }

    /// How long it was when it was taken.
    pub(crate) fn life(&self) -> Duration {
        duration(self.life)
    }

    /// What is left, by the clock that ends first; never more than [`life`](Self::life).
    pub(crate) fn remaining(&self, now: Now) -> Duration {
        let wall = now.wall.saturating_sub(self.from.wall);
        let steady = now.steady.since(self.from.steady).unwrap_or(wall);
        duration(self.life.saturating_sub(wall.max(steady).max(0)))
    }

    /// True once either clock has reached it.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        self.remaining(now).is_zero()
    }

    /// By how much the two clocks have come apart since it was taken: the wall clock was set, or the machine slept.
    /// With one clock only, how far that one now lies before the moment it was taken.
    pub(crate) fn drift(&self, now: Now) -> Duration {
        let wall = now.wall.saturating_sub(self.from.wall);
        let steady = now.steady.since(self.from.steady).unwrap_or(wall.max(0));
        duration(wall.saturating_sub(steady).saturating_abs())
    }

    /// The moment on the local wall clock, within the years that the SDK can write (1970 to 9999).
    pub(crate) fn system_time(&self) -> SystemTime {
        system_time(self.from.wall.saturating_add(self.life))
    }
}

/// Where time comes from.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    wall: SharedTimeSource,
    steady: Steady,
}

#[derive(Clone, Debug)]
enum Steady {
    Absent,
    Since(Instant),
    /// For tests: a monotonic clock that is told the time.
    #[allow(dead_code, reason = "told by tests alone")]
    Told(Arc<std::sync::atomic::AtomicI64>),
}

impl Clock {
    /// `source`, with the machine's monotonic clock beside it if `source` is the system's own.
    ///
    /// A `TimeSource` cannot be asked what it is, and every `SdkConfig` of aws-config carries one, so the system's is
    /// known by its `Debug` form; a test holds on to that. What is not recognised is taken as virtual time and believed.
    #[allow(
        clippy::disallowed_methods,
        reason = "the monotonic clock is read here and nowhere else"
    )]
    pub(crate) fn new(source: SharedTimeSource) -> Self {
        let steady = if format!("{source:?}").contains("SystemTimeSource") {
            Steady::Since(Instant::now())
        } else {
            Steady::Absent
        };
        Self { wall: source, steady }
    }

    /// Two clocks that a test sets independently; `steady` is in milliseconds.
    #[allow(dead_code, reason = "for tests alone")]
    pub(crate) fn told(wall: SharedTimeSource, steady: Arc<std::sync::atomic::AtomicI64>) -> Self {
        Self {
            wall,
            steady: Steady::Told(steady),
        }
    }

    /// Reads both clocks.
    #[allow(
        clippy::disallowed_methods,
        reason = "the monotonic clock is read here and nowhere else"
    )]
    pub(crate) fn now(&self) -> Now {
        let steady = match &self.steady {
            Steady::Absent => SteadyMillis::ABSENT,
            Steady::Since(start) => SteadyMillis(millis(start.elapsed())),
            Steady::Told(at) => SteadyMillis(at.load(std::sync::atomic::Ordering::SeqCst)),
        };
        Now {
            wall: self.wall_millis(),
            steady,
        }
    }

    /// Reads the wall clock alone, in milliseconds since the epoch: half the cost of [`now`](Self::now).
    pub(crate) fn wall_millis(&self) -> i64 {
        wall_millis(self.wall.now())
    }
}

/// Makes sleeps, where sleeping is possible.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    sleep: Option<SharedAsyncSleep>,
    /// tokio's sleep panics at the call when there is no runtime; it is known by its `Debug` form.
    tokio: bool,
}

impl Timer {
    pub(crate) fn new(sleep: Option<SharedAsyncSleep>) -> Self {
        let tokio = sleep
            .as_ref()
            .is_some_and(|sleep| format!("{sleep:?}").contains("TokioSleep"));
        Self { sleep, tokio }
    }

    /// A sleep of `duration`; `None` where nothing can wake it: no sleep is configured, or tokio's is and no tokio runtime
    /// with a timer is running here.
    pub(crate) fn after(&self, duration: Duration) -> Option<Sleep> {
        let sleep = self.sleep.as_ref()?;
        if self.tokio && !in_tokio() {
            return None;
        }
        // A runtime without its timer enabled lets tokio's sleep panic, too, and cannot be asked beforehand.
        catch_unwind(AssertUnwindSafe(|| sleep.sleep(duration))).ok()
    }
}

#[cfg(feature = "rt-tokio")]
fn in_tokio() -> bool {
    tokio::runtime::Handle::try_current().is_ok()
}

#[cfg(not(feature = "rt-tokio"))]
fn in_tokio() -> bool {
    // Whoever configured tokio's sleep without our feature is believed to call from a runtime; `Timer::after` catches.
    true
}

fn millis(duration: Duration) -> i64 {
    // Not `as_millis`: its 128 bits are a tenth of what a hit costs.
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    seconds
        .saturating_mul(1000)
        .saturating_add(i64::from(duration.subsec_millis()))
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn wall_millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => millis(before.duration()).saturating_neg(),
    }
}

fn system_time(wall: i64) -> SystemTime {
    UNIX_EPOCH + duration(wall.clamp(0, LATEST))
}

#[cfg(test)]
mod tests;
