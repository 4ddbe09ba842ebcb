//! What is known about the value and about failed attempts, and what follows from it at a given moment. Pure.

use std::time::Duration;

use super::Failure;
use super::policy::{DRIFT, RefreshPolicy, Windows};
use crate::clock::{Expiry, Now};

/// How long a value counts as new.
const NEW: Duration = Duration::from_secs(60);

/// Why a load is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// There is no value yet.
    FirstUse,
    /// The value has expired or is about to.
    Expiring,
    /// The value was invalidated.
    Invalidated,
    /// The caller wants a new one.
    Forced,
}

/// What is to be done for a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict<E> {
    /// The value serves, and the question need not be asked again for this long.
    Serve(Duration),
    /// The value serves, for this long without asking again, and a refresh is due in the background.
    Advisory(Duration),
    /// The caller has to wait for a load.
    Mandatory(Reason),
    /// A load is due. The caller waits for it only briefly: the last one failed, and there is a value to serve.
    Retry(Reason),
    /// The last failure stands.
    Fail(E),
    /// The value is as good as the source gives them; it was this long when it came, which is too short for the caller.
    TooShort(Duration),
}

#[derive(Clone, Debug)]
pub(super) struct State<E> {
    value: Option<CachedValue>,
    /// No attempt is made before this ends, unless forced.
    backoff: Option<Box<Backoff<E>>>,
    /// Attempts that have failed since the last success.
    failures: u32,
    /// How many of the last failures in a row asked for a new sign-in.
    sign_ins: u32,
}

#[derive(Clone, Debug)]
struct CachedValue {
    life: Option<Life>,
    invalidated: bool,
    /// A terminal refusal came after it: it is not served again.
    withheld: bool,
    /// How many loads have failed that callers had to wait for: the value had been rejected, or was in its mandatory window.
    waited: u32,
}

/// How long it lives, and its windows in milliseconds (up to 49 days), a quarter of the size of durations: there may be very many
/// of these.
#[derive(Clone, Debug)]
struct Life {
    expiry: Expiry,
    advisory: u32,
    mandatory: u32,
}

impl Life {
    fn new(expiry: Expiry, windows: Windows) -> Self {
        let millis = |window: Duration| u32::try_from(window.as_millis()).unwrap_or(u32::MAX);
        Self {
            expiry,
            advisory: millis(windows.advisory),
            mandatory: millis(windows.mandatory),
        }
    }

    fn windows(&self) -> Windows {
        Windows {
            advisory: Duration::from_millis(self.advisory.into()),
            mandatory: Duration::from_millis(self.mandatory.into()),
        }
    }
}

/// What a failed attempt leaves behind.
#[derive(Clone, Debug)]
pub(super) struct Backoff<E> {
    until: Expiry,
    /// Whoever cannot be served with the value gets the error, for this long at least: 1 to 5 seconds, or as long as the
    /// source asked for. Not cut short by an invalidation.
    raised_until: Expiry,
    error: E,
    /// Callers get the value meanwhile, not the error.
    serves: bool,
}

impl<E> Default for State<E> {
    fn default() -> Self {
        Self {
            value: None,
            backoff: None,
            failures: 0,
            sign_ins: 0,
        }
    }
}

impl CachedValue {
    fn remaining(&self, now: Now) -> Duration {
        self.life
            .as_ref()
            .map_or(Duration::MAX, |life| life.expiry.remaining(now))
    }

    fn reason(&self) -> Reason {
        if self.invalidated {
            Reason::Invalidated
        } else {
            Reason::Expiring
        }
    }

    /// Callers are to wait for another.
    fn has_to_be_replaced(&self, now: Now) -> bool {
        let life = self.life.as_ref();
        self.invalidated || life.is_some_and(|life| life.expiry.remaining(now) <= life.windows().mandatory)
    }

    /// It may be handed out if nothing better can be had.
    fn serves(&self, policy: &RefreshPolicy, now: Now) -> bool {
        !self.withheld && (policy.serve_expired() || !self.remaining(now).is_zero())
    }
}

impl<E: Failure> State<E> {
    /// The number of the next attempt, from 1.
    pub(super) fn next_attempt(&self) -> u32 {
        self.failures.saturating_add(1)
    }

    /// Takes the back-off out, so that its error, which is the owner's, need not be dropped under the lock.
    pub(super) fn take_backoff(&mut self) -> Option<Box<Backoff<E>>> {
        self.backoff.take()
    }

    fn backoff(&self, now: Now) -> Option<&Backoff<E>> {
        self.backoff.as_deref().filter(|backoff| !backoff.until.is_over(now))
    }

    pub(super) fn classify(&self, policy: &RefreshPolicy, now: Now) -> Verdict<E> {
        let backoff = self.backoff(now);
        if let Some(backoff) = backoff.filter(|backoff| !backoff.serves) {
            return Verdict::Fail(backoff.error.clone());
        }
        let Some(value) = &self.value else {
            return Verdict::Mandatory(Reason::FirstUse);
        };
        let reason = value.reason();
        if !value.serves(policy, now) {
            return Verdict::Mandatory(reason);
        }
        let remaining = value.remaining(now);
        if let Some(backoff) = backoff {
            let backoff = backoff.until.remaining(now);
            return Verdict::Serve(if remaining.is_zero() {
                backoff
            } else {
                backoff.min(remaining)
            });
        }
        if value.has_to_be_replaced(now) {
            return if value.waited > 0 {
                Verdict::Retry(reason)
            } else {
                Verdict::Mandatory(reason)
            };
        }
        let Some(life) = &value.life else {
            return Verdict::Serve(Duration::MAX);
        };
        let (expiry, windows) = (&life.expiry, life.windows());
        if remaining <= windows.advisory || expiry.drift(now) > DRIFT {
            Verdict::Advisory(remaining.saturating_sub(windows.mandatory))
        } else {
            Verdict::Serve(remaining - windows.advisory)
        }
    }

    /// The same for a caller who needs a value with at least `least` left.
    pub(super) fn classify_for(&self, least: Duration, policy: &RefreshPolicy, now: Now) -> Verdict<E> {
        let value = match &self.value {
            Some(value) if value.remaining(now) < least || value.invalidated => value,
            _ => return self.classify(policy, now),
        };
        if let Some(backoff) = &self.backoff
            && (!backoff.raised_until.is_over(now) || !backoff.serves && !backoff.until.is_over(now))
        {
            return Verdict::Fail(backoff.error.clone());
        }
        match value.life.as_ref().map(|life| life.expiry) {
            Some(expiry) if !value.invalidated && !value.withheld && expiry.life() <= least && is_new(expiry, now) => {
                Verdict::TooShort(expiry.life())
            }
            _ => Verdict::Mandatory(value.reason()),
        }
    }

    /// The value serves, and will for this much longer.
    pub(super) fn is_valid_for(&self, least: Duration, now: Now) -> bool {
        self.value
            .as_ref()
            .is_some_and(|value| !value.withheld && !value.invalidated && value.remaining(now) >= least)
    }

    /// What is left of the value's life. `None`: there is no value.
    pub(super) fn remaining(&self, now: Now) -> Option<Duration> {
        self.value.as_ref().map(|value| value.remaining(now))
    }

    /// The value may be handed out if nothing better can be had.
    pub(super) fn serves(&self, policy: &RefreshPolicy, now: Now) -> bool {
        self.value.as_ref().is_some_and(|value| value.serves(policy, now))
    }

    /// A load should be started even though nobody asks: the value needs one, and the source has not refused it for good.
    pub(super) fn is_due_unasked(&self, policy: &RefreshPolicy, now: Now) -> bool {
        self.value.as_ref().is_some_and(|value| !value.withheld)
            && matches!(
                self.classify(policy, now),
                Verdict::Advisory(_) | Verdict::Mandatory(_) | Verdict::Retry(_)
            )
    }

    /// A value that serves could be replaced ahead of time: there is no back-off.
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(super) fn may_be_refreshed(&self, now: Now) -> bool {
        self.backoff(now).is_none() && self.value.as_ref().is_some_and(|value| !value.withheld)
    }

    /// What is left of the value's life, and how long that was. `None`: there is no value that serves, or it never expires.
    pub(super) fn life(&self, now: Now) -> Option<(Duration, Duration)> {
        let value = self.value.as_ref().filter(|value| !value.withheld)?;
        let expiry = value.life.as_ref()?.expiry;
        Some((expiry.remaining(now), expiry.life()))
    }

    /// A load has brought a value. `false`: it had expired on arrival, and nothing has changed.
    pub(super) fn succeeded(&mut self, expiry: Option<Expiry>, policy: &RefreshPolicy, now: Now) -> bool {
        if expiry.is_some_and(|expiry| expiry.is_over(now)) {
            return false;
        }
        let life = expiry.map(|expiry| Life::new(expiry, policy.windows(expiry.remaining(now))));
        *self = Self {
            value: Some(CachedValue {
                life,
                invalidated: false,
                withheld: false,
                waited: 0,
            }),
            ..Self::default()
        };
        true
    }

    /// A load has failed. `true`: the value serves nevertheless.
    pub(super) fn failed(&mut self, error: &E, policy: &RefreshPolicy, now: Now) -> bool {
        self.failures = self.failures.saturating_add(1);
        let retry_after = error.retry_after();
        if error.is_terminal() || error.needs_sign_in() {
            let again = if error.needs_sign_in() { self.sign_ins } else { 0 };
            self.sign_ins = if error.needs_sign_in() {
                self.sign_ins.saturating_add(1)
            } else {
                0
            };
            if let Some(value) = &mut self.value {
                value.withheld = true;
            }
            self.back_off(policy.remember(again, retry_after), policy, error, false, now);
            return false;
        }
        self.sign_ins = 0;
        let Some(value) = &mut self.value else {
            // A first load that fails for a passing reason is not remembered: whoever asks next may find it passed. Unless
            // the source says when: then nobody asks before.
            match retry_after.filter(|delay| !delay.is_zero()) {
                Some(delay) => self.back_off(policy.first_retry(delay), policy, error, false, now),
                None => self.backoff = None,
            }
            return false;
        };
        let (serves, remaining) = (value.serves(policy, now), value.remaining(now));
        let length = if !serves {
            policy.remember(0, retry_after)
        } else if value.invalidated {
            policy.backoff_rejected(value.waited, remaining, retry_after)
        } else {
            policy.backoff(remaining, retry_after)
        };
        if value.has_to_be_replaced(now) {
            value.waited = value.waited.saturating_add(1);
        }
        self.back_off(length, policy, error, serves, now);
        serves
    }

    /// The value was rejected by whoever it was shown to: callers wait for a new one. It is kept, and serves if that cannot
    /// be had; the policy may cut a running back-off. `false`: there is none, or it was invalidated before.
    pub(super) fn invalidate(&mut self, policy: &RefreshPolicy, now: Now) -> bool {
        let Some(value) = self.value.as_mut().filter(|value| !value.invalidated) else {
            return false;
        };
        value.invalidated = true;
        value.waited = 0;
        if let Some(cut) = policy.backoff_when_invalidated()
            && let Some(backoff) = &mut self.backoff
        {
            let cut = cut.max(backoff.raised_until.remaining(now));
            if backoff.until.remaining(now) > cut {
                backoff.until = Expiry::after(now, cut);
            }
        }
        true
    }

    fn back_off(&mut self, length: Duration, policy: &RefreshPolicy, error: &E, serves: bool, now: Now) {
        self.backoff = Some(Box::new(Backoff {
            until: Expiry::after(now, length),
            raised_until: Expiry::after(now, policy.remember(0, error.retry_after()).min(length)),
            error: error.clone(),
            serves,
        }));
    }
}

/// Whether the value came within the last minute: another would hardly be better.
fn is_new(expiry: Expiry, now: Now) -> bool {
    expiry.life().saturating_sub(expiry.remaining(now)) < NEW
}

#[cfg(test)]
mod tests;
