//! What is known about the value and about failed attempts, and what follows from it at a given moment. Pure.

use std::time::Duration;

use super::Failure;
use super::policy::{DRIFT, PAUSE_WHEN_INVALIDATED, RefreshPolicy, Windows};
use crate::clock::{Expiry, Now};

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
    /// The last failure stands.
    Fail(E),
}

#[derive(Clone, Debug)]
pub(super) struct State<E> {
    value: Option<CachedValue>,
    /// Nothing is attempted before this, unless forced.
    pause: Option<Box<Pause<E>>>,
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

#[derive(Clone, Debug)]
struct Pause<E> {
    until: Expiry,
    /// `Some` if callers get this error meanwhile, `None` if they get the value.
    error: Option<E>,
}

impl<E> Default for State<E> {
    fn default() -> Self {
        Self {
            value: None,
            pause: None,
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

    pub(super) fn classify(&self, policy: &RefreshPolicy, now: Now) -> Verdict<E> {
        let pause = self.pause.as_ref().filter(|pause| !pause.until.is_over(now));
        if let Some(error) = pause.and_then(|pause| pause.error.as_ref()) {
            return Verdict::Fail(error.clone());
        }
        let Some(value) = &self.value else {
            return Verdict::Mandatory(Reason::FirstUse);
        };
        let reason = if value.invalidated {
            Reason::Invalidated
        } else {
            Reason::Expiring
        };
        if !value.serves(policy, now) {
            return Verdict::Mandatory(reason);
        }
        let remaining = value.remaining(now);
        if let Some(pause) = pause {
            let pause = pause.until.remaining(now);
            return Verdict::Serve(if remaining.is_zero() {
                pause
            } else {
                pause.min(remaining)
            });
        }
        if value.invalidated {
            return Verdict::Mandatory(reason);
        }
        let Some(life) = &value.life else {
            return Verdict::Serve(Duration::MAX);
        };
        let (expiry, windows) = (&life.expiry, life.windows());
        if remaining <= windows.mandatory {
            Verdict::Mandatory(reason)
        } else if remaining <= windows.advisory || expiry.drift(now) > DRIFT {
            Verdict::Advisory(remaining - windows.mandatory)
        } else {
            Verdict::Serve(remaining - windows.advisory)
        }
    }

    /// A load should be started even though nobody asks: the value needs one, and the source has not refused it for good.
    pub(super) fn is_due_unasked(&self, policy: &RefreshPolicy, now: Now) -> bool {
        self.value.as_ref().is_some_and(|value| !value.withheld)
            && matches!(self.classify(policy, now), Verdict::Advisory(_) | Verdict::Mandatory(_))
    }

    /// A value that serves could be replaced ahead of time: no failure is being paused for.
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(super) fn may_be_refreshed(&self, now: Now) -> bool {
        let pausing = self.pause.as_ref().is_some_and(|pause| !pause.until.is_over(now));
        !pausing && self.value.as_ref().is_some_and(|value| !value.withheld)
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
            self.pause_for(policy.remember(again, retry_after), Some(error), now);
            return false;
        }
        self.sign_ins = 0;
        let Some(value) = &self.value else {
            // A first load that fails for a passing reason is not remembered: whoever asks next may find it passed.
            self.pause = None;
            return false;
        };
        let (serves, remaining, invalidated) = (value.serves(policy, now), value.remaining(now), value.invalidated);
        if !serves {
            self.pause_for(policy.remember(0, retry_after), Some(error), now);
        } else if invalidated {
            self.pause_for(policy.remember(0, None).min(PAUSE_WHEN_INVALIDATED), None, now);
        } else {
            self.pause_for(policy.pause(remaining, retry_after), None, now);
        }
        serves
    }

    /// The value was rejected by whoever it was shown to: callers wait for a new one. It is kept, and serves if that cannot
    /// be had; a running pause is cut short. `false`: there is none, or it was invalidated before.
    pub(super) fn invalidate(&mut self, now: Now) -> bool {
        let Some(value) = self.value.as_mut().filter(|value| !value.invalidated) else {
            return false;
        };
        value.invalidated = true;
        if let Some(pause) = self
            .pause
            .as_mut()
            .filter(|pause| pause.until.remaining(now) > PAUSE_WHEN_INVALIDATED)
        {
            pause.until = Expiry::after(now, PAUSE_WHEN_INVALIDATED);
        }
        true
    }

    fn pause_for(&mut self, length: Duration, error: Option<&E>, now: Now) {
        self.pause = Some(Box::new(Pause {
            until: Expiry::after(now, length),
            error: error.cloned(),
        }));
    }
}

#[cfg(test)]
mod tests;
