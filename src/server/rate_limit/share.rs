//! [`Share`]: the part of the account's quota that this process takes. It is found without a coordinator, by additive increase and
//! multiplicative decrease.
//!
//! All that an instance hears of the others is that the account refuses a request. Refusals meet whoever asks most: so an instance
//! that takes more than the others is cut more often, while all grow by the same step, and their shares become equal. The increase is
//! cubic in time, as CUBIC's (RFC 9438) and that of the AWS SDK's adaptive retries: flat while refusals come as often as they do among
//! equals, steep when they stay away, because instances have left.

use std::time::Duration;

/// To which part the rate falls at a refusal. CUBIC's factor is 0.7; here a refusal meets many instances at once, each of which is cut.
const CUT: f64 = 0.85;
/// How long a fair share takes to grow back after a refusal, in seconds: so long that the account refuses less than one request in a
/// hundred, and that the slowest hundredth of those that somebody waits for need not pause for the SDK's repetition.
const REGAIN: f64 = 150.0;
/// No refusal within this time after one that counted counts: it was most likely under way by then.
const SETTLE: Duration = Duration::from_millis(200);
/// However often the account refuses, this part of the quota is tried, and at least [`LEAST`].
const FLOOR: f64 = 0.001;
/// One request every 20 s.
const LEAST: f64 = 0.05;

#[derive(Debug)]
pub(super) struct Share {
    /// The whole quota, in requests per second: never more.
    full: f64,
    /// One instance's part of it: the start, and the step of the increase.
    fair: f64,
    rate: f64,
    /// The rate after the last refusal that counted, when that was, and for how long the rate has not sufficed since, in seconds.
    cut_to: f64,
    cut_at: Option<Duration>,
    short_for: f64,
}

impl Share {
    pub(super) fn new(full: f64, instances: f64) -> Self {
        let fair = full / instances;
        Self {
            full,
            fair,
            rate: fair,
            cut_to: fair,
            cut_at: None,
            short_for: 0.0,
        }
    }

    /// Requests per second.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// For `seconds` somebody had to wait, and the account refused nothing. A rate that suffices is left alone: nothing would show
    /// that it had become too high before it was needed.
    pub(super) fn was_short(&mut self, seconds: f64) {
        if self.rate < self.full {
            self.short_for += seconds;
            let grown = self.fair * (1.0 - CUT) * (self.short_for / REGAIN).powi(3);
            self.rate = (self.cut_to + grown).min(self.full);
        }
    }

    /// The account has refused a request. Whether that counts.
    pub(super) fn refused(&mut self, now: Duration) -> bool {
        if self.cut_at.is_some_and(|cut| now.saturating_sub(cut) < SETTLE) {
            return false;
        }
        let least = (self.full * FLOOR).max(LEAST).min(self.fair);
        self.rate = (self.rate * CUT).max(least);
        (self.cut_to, self.cut_at, self.short_for) = (self.rate, Some(now), 0.0);
        true
    }

    /// Nothing was asked for a while: what was found out does not hold any more.
    pub(super) fn forget(&mut self) {
        (self.rate, self.cut_to, self.short_for) = (self.fair, self.fair, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_that_came_apart_become_equal() {
        let mut shares = [Share::new(10.0, 2.0), Share::new(10.0, 2.0)];
        let mut now = Duration::from_secs(1);
        // One of them was cut six times while the other asked for little.
        for _ in 0..6 {
            shares[0].refused(now);
            now += SETTLE;
        }
        assert!(shares[1].rate() > 2.5 * shares[0].rate());
        // Both are short all the time, and the account refuses both whenever they ask for more than it gives.
        for _ in 0..3_600 {
            now += Duration::from_secs(1);
            shares.iter_mut().for_each(|share| share.was_short(1.0));
            if shares.iter().map(Share::rate).sum::<f64>() > 10.0 {
                shares.iter_mut().for_each(|share| assert!(share.refused(now)));
            }
        }
        assert!(shares[1].rate() < 1.05 * shares[0].rate(), "{shares:?}");
    }
}
