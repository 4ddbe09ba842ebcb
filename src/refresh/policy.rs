//! When a value is refreshed, and how long to wait after a failure. Pure: no clock and no lock.

use std::ops::RangeInclusive;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const SHORT_LIFE: Duration = Duration::from_secs(20 * 60);
const LONG_LIFE: Duration = Duration::from_secs(90 * 60);
/// An error is remembered for this long, so that a caller in a loop does not hammer the source.
const REMEMBER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);
/// The longest that a "signed out" is remembered.
const REMEMBER_AT_MOST: Duration = MINUTE;
/// The shortest pause between two attempts while the value still serves.
const PAUSE_AT_LEAST: Duration = Duration::from_secs(1);
/// A running pause is cut to this by an invalidation.
pub(super) const PAUSE_WHEN_INVALIDATED: Duration = Duration::from_secs(5);
/// The two clocks may differ by this much before the value is refreshed.
pub(super) const DRIFT: Duration = MINUTE;

/// When credentials are refreshed, how long a load may take, and what happens when one fails.
///
/// The default: a refresh starts in the background 5, 15 or 60 minutes before expiry (for lifetimes of at most 20 minutes,
/// less than 90 minutes, and more), and nobody waits for it; within the last 60 seconds callers wait for the refresh. A
/// failed refresh goes unnoticed while the credentials are good and is tried again after 5 to 10 minutes, or after a
/// quarter of what is left if that is sooner. The figures are those of AWS's credential refresh design for its SDKs;
/// unlike there, the windows shrink with short lifetimes, so that credentials of two minutes are used for most of their
/// life.
///
/// ```
/// use std::time::Duration;
/// use cognito_identity_pool::refresh::RefreshPolicy;
///
/// let policy = RefreshPolicy::builder()
///     .advisory_window(Duration::from_secs(10 * 60))
///     .load_timeout(Duration::from_secs(5))
///     .background_refresh(true)
///     .build();
/// # drop(policy);
/// ```
#[derive(Clone, Debug)]
pub struct RefreshPolicy {
    advisory: Option<Duration>,
    mandatory: Duration,
    backoff: RangeInclusive<Duration>,
    load_timeout: Duration,
    serve_expired: bool,
    background: bool,
    clamped: bool,
    jitter: Jitter,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            advisory: None,
            mandatory: MINUTE,
            backoff: 5 * MINUTE..=10 * MINUTE,
            load_timeout: Duration::from_secs(15),
            serve_expired: false,
            background: false,
            clamped: true,
            jitter: Jitter::Random,
        }
    }
}

impl RefreshPolicy {
    /// Starts from the default policy.
    ///
    /// ```
    /// let policy = cognito_identity_pool::refresh::RefreshPolicy::builder().background_refresh(true).build();
    /// # drop(policy);
    /// ```
    pub fn builder() -> RefreshPolicyBuilder {
        RefreshPolicyBuilder {
            policy: Self::default(),
        }
    }

    /// The outcomes of AWS's "static stability": when refreshing fails for a passing reason, the credentials that are there
    /// are served even past their expiry, and the next attempt follows 5 to 10 minutes later.
    ///
    /// Windows and pauses are not shortened for short lifetimes. What differs from AWS is that the advisory refresh is
    /// detached here, too: no caller waits for it.
    ///
    /// ```
    /// let policy = cognito_identity_pool::refresh::RefreshPolicy::static_stability();
    /// # drop(policy);
    /// ```
    pub fn static_stability() -> Self {
        Self {
            serve_expired: true,
            clamped: false,
            ..Self::default()
        }
    }

    /// The same policy with the advisory point and all pauses fixed: 0.0 is the shortest of each range, 1.0 the longest.
    #[allow(dead_code, reason = "for tests alone")]
    pub(crate) fn with_jitter(mut self, fixed: f64) -> Self {
        self.jitter = Jitter::Fixed(fixed.clamp(0.0, 1.0));
        self
    }

    pub(crate) fn load_timeout(&self) -> Duration {
        self.load_timeout
    }

    pub(super) fn serve_expired(&self) -> bool {
        self.serve_expired
    }

    pub(super) fn background(&self) -> bool {
        self.background
    }

    /// The windows for a value that lives for `life`.
    pub(super) fn windows(&self, life: Duration) -> Windows {
        let mut advisory = self.advisory.unwrap_or(if life <= SHORT_LIFE {
            5 * MINUTE
        } else if life < LONG_LIFE {
            15 * MINUTE
        } else {
            60 * MINUTE
        });
        let mut mandatory = self.mandatory;
        if self.clamped {
            let most = if life <= SHORT_LIFE { life / 4 } else { life / 4 * 3 };
            advisory = advisory.min(most);
            mandatory = mandatory.min(life / 8);
        }
        // Up to a fifth later, so that the devices of a fleet that signed in together do not return together.
        advisory = advisory.mul_f64(1.0 - 0.2 * self.jitter.draw());
        Windows {
            advisory: advisory.max(mandatory),
            mandatory,
        }
    }

    /// The pause after a failed attempt while the value, with `remaining` left, still serves.
    pub(super) fn pause(&self, remaining: Duration, retry_after: Option<Duration>) -> Duration {
        let pause = self.jitter.between(&self.backoff).max(retry_after.unwrap_or_default());
        if self.clamped {
            pause.min(remaining / 4).max(PAUSE_AT_LEAST)
        } else {
            pause
        }
    }

    /// How long a failure that has to be raised is raised again without a new attempt: 1 to 5 seconds, doubled for each
    /// `again` up to a minute, and as long as the source asked for up to a minute.
    pub(super) fn remember(&self, again: u32, retry_after: Option<Duration>) -> Duration {
        let once = self.jitter.between(&REMEMBER);
        once.saturating_mul(1 << again.min(6))
            .max(retry_after.unwrap_or_default())
            .min(REMEMBER_AT_MOST)
    }
}

/// How much is left of a value's life when its refresh may start, and when callers have to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) advisory: Duration,
    pub(super) mandatory: Duration,
}

#[derive(Clone, Debug)]
enum Jitter {
    Random,
    Fixed(f64),
}

impl Jitter {
    fn draw(&self) -> f64 {
        match self {
            Self::Random => fastrand::f64(),
            Self::Fixed(value) => *value,
        }
    }

    fn between(&self, range: &RangeInclusive<Duration>) -> Duration {
        let (start, end) = (*range.start(), *range.end());
        start.saturating_add(end.saturating_sub(start).mul_f64(self.draw()))
    }
}

/// Builds a [`RefreshPolicy`]. What is not set stays as the default policy has it.
///
/// ```
/// use std::time::Duration;
/// use cognito_identity_pool::refresh::RefreshPolicy;
///
/// let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
/// let policy = RefreshPolicy::builder()
///     .advisory_window(minutes(20))
///     .mandatory_window(minutes(2))
///     .backoff(minutes(1)..=minutes(3))
///     .load_timeout(Duration::from_secs(30))
///     .serve_expired(true)
///     .background_refresh(true)
///     .build();
/// # drop(policy);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RefreshPolicyBuilder {
    policy: RefreshPolicy,
}

impl RefreshPolicyBuilder {
    /// How long before expiry the refresh starts in the background, instead of 5, 15 or 60 minutes by lifetime.
    ///
    /// It is moved later by up to a fifth at random. It is at most a quarter of a lifetime of 20 minutes or less, at most
    /// three quarters of a longer one, and never less than the mandatory window.
    pub fn advisory_window(mut self, window: Duration) -> Self {
        self.policy.advisory = Some(window.min(FOREVER));
        self
    }

    /// How long before expiry callers wait for the refresh instead of being served; 60 seconds by default, and at most an
    /// eighth of the lifetime.
    pub fn mandatory_window(mut self, window: Duration) -> Self {
        self.policy.mandatory = window.min(FOREVER);
        self
    }

    /// How long to wait between two attempts while the credentials are good: a random choice from this range, 5 to 10
    /// minutes by default, but at most a quarter of what is left of their life. A range whose end comes first counts as its
    /// start alone.
    pub fn backoff(mut self, range: RangeInclusive<Duration>) -> Self {
        self.policy.backoff = (*range.start()).min(FOREVER)..=(*range.end()).min(FOREVER);
        self
    }

    /// Whether expired credentials are served when the refresh fails for a passing reason. Off by default: the typed error
    /// says more than the rejection that follows.
    pub fn serve_expired(mut self, serve: bool) -> Self {
        self.policy.serve_expired = serve;
        self
    }

    /// How long one load may take, hook and service together; 15 seconds by default, at least a millisecond.
    ///
    /// It is measured on the load, not on its callers: a caller that gives up earlier does not stop it.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.policy.load_timeout = timeout.clamp(Duration::from_millis(1), FOREVER);
        self
    }

    /// Whether a task of the tokio runtime refreshes on time even if nobody asks, so that an idle app stays warm. Off by
    /// default: the refresh then starts with the first use inside the window.
    ///
    /// The task starts with the first load, and ends with the last handle. Without the feature `rt-tokio`, or outside of a
    /// runtime, there is none.
    pub fn background_refresh(mut self, on: bool) -> Self {
        self.policy.background = on;
        self
    }

    /// Builds the policy. Every combination is valid.
    pub fn build(self) -> RefreshPolicy {
        self.policy
    }
}

/// A hundred years; more would overflow in floating-point arithmetic somewhere, and means the same.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
