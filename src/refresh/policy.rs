//! When a value is refreshed, and how long to wait after a failure. Pure: no clock and no lock.

use std::ops::RangeInclusive;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const SHORT_LIFE: Duration = Duration::from_secs(20 * 60);
const LONG_LIFE: Duration = Duration::from_secs(90 * 60);
/// An error is remembered for this long, so that a caller in a loop does not hammer the source.
const REMEMBER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);
/// The longest that an error is remembered: "signed out", or one that came with a Retry-After.
const REMEMBER_AT_MOST: Duration = MINUTE;
/// The shortest back-off while the value still serves.
const BACKOFF_AT_LEAST: Duration = Duration::from_secs(1);
/// An invalidation cuts a running back-off to this.
const BACKOFF_WHEN_INVALIDATED: Duration = Duration::from_secs(5);
/// How much earlier than promised the advisory window opens at most, as a fraction of the window.
const JITTER: f64 = 0.2;
/// How long a caller waits for an attempt that follows a failed one, while there is a value to serve. Long enough for a
/// source that has recovered, short enough not to be noticed with one that hangs.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// The two clocks may differ by this much before the value is refreshed.
pub(super) const DRIFT: Duration = MINUTE;

/// When credentials are refreshed, how long a load may take, and what happens when one fails.
///
/// The default: a refresh starts in the background 5, 15 or 60 minutes before expiry (for lifetimes of at most 20 minutes,
/// less than 90 minutes, and more), or up to a fifth earlier so that the devices of a fleet spread, and nobody waits for it.
/// Within the last 60 seconds callers wait for the refresh. A failed refresh goes unnoticed while the credentials are good
/// and is tried again after 5 to 10 minutes, or after a quarter of what is left if that is sooner. The figures are those of
/// AWS's credential refresh design for its SDKs; unlike there, the windows shrink with short lifetimes, so that credentials
/// of two minutes are used for most of their life.
///
/// Credentials that a service has rejected are replaced at once. If that fails, they are tried again after 1 to 5 seconds,
/// then at twice the interval each time, up to the back-off of any other failure. A `Retry-After` of the backend or of
/// Cognito always counts, on a first load as well; there, and once the credentials have expired, for at most a minute.
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
    /// Windows and back-off shrink with short lives, and an invalidation cuts the back-off.
    adaptive: bool,
    /// As a fraction of the advisory window.
    jitter: f64,
    random: Random,
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
            adaptive: true,
            jitter: JITTER,
            random: Random::Drawn,
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
    /// Windows and back-off are not shortened for short lifetimes, and an invalidation does not cut a running back-off: an
    /// outage stays at one attempt in 5 to 10 minutes. Two things differ from AWS. The advisory refresh is detached, so that
    /// no caller waits for it; and after one attempt has failed, callers wait at most a second for each later one before
    /// they are served what there is.
    ///
    /// It can be adjusted:
    ///
    /// ```
    /// use std::time::Duration;
    /// use cognito_identity_pool::refresh::RefreshPolicy;
    ///
    /// let policy = RefreshPolicy::static_stability()
    ///     .to_builder()
    ///     .load_timeout(Duration::from_secs(5))
    ///     .background_refresh(true)
    ///     .build();
    /// # drop(policy);
    /// ```
    pub fn static_stability() -> Self {
        Self {
            serve_expired: true,
            adaptive: false,
            ..Self::default()
        }
    }

    /// A builder that starts from this policy.
    ///
    /// ```
    /// use cognito_identity_pool::refresh::RefreshPolicy;
    ///
    /// let policy = RefreshPolicy::static_stability().to_builder().jitter(0.0).build();
    /// # drop(policy);
    /// ```
    pub fn to_builder(&self) -> RefreshPolicyBuilder {
        RefreshPolicyBuilder { policy: self.clone() }
    }

    /// The same policy with every random choice fixed: 0.0 is the shortest of each range, 1.0 the longest.
    #[cfg(test)]
    pub(super) fn with_random(mut self, fixed: f64) -> Self {
        self.random = Random::Fixed(fixed.clamp(0.0, 1.0));
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
        if self.adaptive {
            let most = if life <= SHORT_LIFE { life / 4 } else { life / 4 * 3 };
            advisory = advisory.min(most);
            mandatory = mandatory.min(life / 8);
        }
        // Earlier only, so that what was promised holds for every device of a fleet that signed in together.
        advisory = advisory.mul_f64(1.0 + self.jitter * self.random.draw());
        Windows {
            advisory: advisory.max(mandatory),
            mandatory,
        }
    }

    /// How long to back off after a failed attempt while the value, with `remaining` left, still serves. Past its expiry
    /// there is nothing left to take a quarter of: the back-off holds in full.
    pub(super) fn backoff(&self, remaining: Duration, retry_after: Option<Duration>) -> Duration {
        let backoff = self.random.between(&self.backoff).max(retry_after.unwrap_or_default());
        if self.adaptive && !remaining.is_zero() {
            backoff.min((remaining / 4).max(BACKOFF_AT_LEAST))
        } else {
            backoff
        }
    }

    /// The same for a value that was rejected by whoever it was shown to, after `before` failed attempts to replace it. It
    /// is needed more urgently, but not so much that an outage turns into a storm.
    pub(super) fn backoff_rejected(&self, before: u32, remaining: Duration, retry_after: Option<Duration>) -> Duration {
        let backoff = self.backoff(remaining, retry_after);
        if self.adaptive {
            doubled(self.random.between(&REMEMBER), before)
                .max(retry_after.unwrap_or_default())
                .min(backoff)
        } else {
            backoff
        }
    }

    /// To how much an invalidation cuts a running back-off, if it does.
    pub(super) fn backoff_when_invalidated(&self) -> Option<Duration> {
        self.adaptive.then_some(BACKOFF_WHEN_INVALIDATED)
    }

    /// How long a first load that failed for a passing reason is not tried again, if the source asked for that.
    pub(super) fn first_retry(&self, retry_after: Duration) -> Duration {
        retry_after.min(REMEMBER_AT_MOST)
    }

    /// How long a failure that has to be raised is raised again without a new attempt: 1 to 5 seconds, doubled for each
    /// `again` up to a minute, and as long as the source asked for up to a minute.
    pub(super) fn remember(&self, again: u32, retry_after: Option<Duration>) -> Duration {
        doubled(self.random.between(&REMEMBER), again)
            .max(retry_after.unwrap_or_default())
            .min(REMEMBER_AT_MOST)
    }
}

fn doubled(once: Duration, times: u32) -> Duration {
    once.saturating_mul(1 << times.min(20))
}

/// How much is left of a value's life when its refresh may start, and when callers have to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) advisory: Duration,
    pub(super) mandatory: Duration,
}

#[derive(Clone, Debug)]
enum Random {
    Drawn,
    #[cfg(test)]
    Fixed(f64),
}

impl Random {
    fn draw(&self) -> f64 {
        match self {
            Self::Drawn => fastrand::f64(),
            #[cfg(test)]
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
    /// [Jitter](Self::jitter) moves it earlier, never later. Whatever is set, the window is at most a quarter of a lifetime of
    /// 20 minutes or less, at most three quarters of a longer one, and never less than the mandatory window. Under
    /// [`RefreshPolicy::static_stability`] only the last of these limits holds.
    pub fn advisory_window(mut self, window: Duration) -> Self {
        self.policy.advisory = Some(window.min(FOREVER));
        self
    }

    /// How long before expiry callers wait for the refresh instead of being served; 60 seconds by default.
    ///
    /// Whatever is set, it is at most an eighth of the lifetime, except under [`RefreshPolicy::static_stability`].
    pub fn mandatory_window(mut self, window: Duration) -> Self {
        self.policy.mandatory = window.min(FOREVER);
        self
    }

    /// How long to wait after a failed attempt while there are credentials to serve: a random choice from this range, 5 to 10
    /// minutes by default.
    ///
    /// Whatever is set, it is at most a quarter of what is left of their life (at least a second), except past their expiry
    /// ([`serve_expired`](Self::serve_expired)) and under [`RefreshPolicy::static_stability`]. A `Retry-After` that is longer
    /// takes its place within the same limits. A range whose end comes first counts as its start alone.
    pub fn backoff(mut self, range: RangeInclusive<Duration>) -> Self {
        self.policy.backoff = (*range.start()).min(FOREVER)..=(*range.end()).min(FOREVER);
        self
    }

    /// How much earlier than it has to the refresh may start, so that devices that signed in together do not return together:
    /// a random part of this fraction of the advisory window. 0.2 by default; between 0, for none, and 1.
    ///
    /// With the default, an advisory window of 15 minutes opens between 18 and 15 minutes before expiry.
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.policy.jitter = if fraction.is_nan() {
            0.0
        } else {
            fraction.clamp(0.0, 1.0)
        };
        self
    }

    /// Whether expired credentials are served when the refresh fails for a passing reason. Off by default: the typed error
    /// says more than the rejection that follows.
    ///
    /// The next attempt follows after the [back-off](Self::backoff). Callers wait for the first attempt past the expiry, and
    /// for at most a second for each later one.
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
