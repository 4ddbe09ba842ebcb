//! The one task that refreshes ahead of time, for all users that were in use lately, evenly spread.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
#[cfg(feature = "rt-tokio")]
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

#[cfg(feature = "rt-tokio")]
use aws_smithy_async::rt::sleep::AsyncSleep;

use super::{TARGET, UsersInner};
use crate::client::user_sessions::UserSessionCredentials;

/// How often it goes round.
const ROUND: Duration = Duration::from_secs(10);
/// At which part of their life credentials are refreshed: for each session another one, so that users who came together do
/// not come back together, and start at less than `PEAK` even then. Nearly three quarters in the mean.
const DUE: std::ops::Range<f64> = 0.56..0.9;
/// Refreshes are started at no more than this multiple of the rate that they come with in the long run.
const PEAK: f64 = 2.5;
/// What callers start by themselves: the refresher wants to have been there before. See [`super::builder::ADVISORY`].
const MARGIN: Duration = Duration::from_secs(330);
/// The part of the vendor's requests that refreshes may take, so that newcomers have theirs.
const SHARE: f64 = 0.8;

pub(super) struct Refresher {
    seed: RandomState,
    /// Dangling once the task is gone, with its runtime for instance.
    #[cfg(feature = "rt-tokio")]
    alive: Mutex<Weak<()>>,
}

/// What to do in one round: whom to refresh, one after the other, and the pause after each.
struct RefreshPlan {
    due: Vec<UserSessionCredentials>,
    pause: Duration,
}

impl Refresher {
    pub(super) fn new() -> Self {
        Self {
            seed: RandomState::new(),
            #[cfg(feature = "rt-tokio")]
            alive: Mutex::new(Weak::new()),
        }
    }

    /// Starts the task if there is a runtime and it is not running.
    #[cfg(feature = "rt-tokio")]
    pub(super) fn keep_going(&self, inner: &Arc<UsersInner>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if alive.strong_count() > 0 {
            return;
        }
        let mark = Arc::new(());
        *alive = Arc::downgrade(&mark);
        drop(alive);
        let (inner, sleep) = (Arc::downgrade(inner), inner.shared.sessions.sleep().clone());
        drop(runtime.spawn(async move {
            // If the runtime drops the task, this goes with it, and another one can be started.
            let _mark = mark;
            sleep.sleep(ROUND).await;
            while let Some(plan) = inner.upgrade().and_then(|inner| inner.plan()) {
                if plan.due.is_empty() {
                    sleep.sleep(ROUND).await;
                }
                // The pauses add up to a round.
                for credentials in plan.due {
                    credentials.refresh_ahead();
                    sleep.sleep(plan.pause).await;
                }
            }
        }));
    }

    /// Without a runtime there is no task: sessions are refreshed by those who use them.
    #[cfg(not(feature = "rt-tokio"))]
    pub(super) fn keep_going(&self, _: &Arc<UsersInner>) {}

    /// At which part of its life this value is due.
    fn due(&self, id: usize, life: (Duration, Duration), now: i64) -> bool {
        let (remaining, life) = life;
        let ends = now.saturating_add(i64::try_from(remaining.as_millis()).unwrap_or(i64::MAX));
        // The same for as long as the value is the same; remaining lives are counted in whole milliseconds.
        let drawn = self.seed.hash_one((id, ends / 60_000)) as f64 / u64::MAX as f64;
        let part = DUE.start + (DUE.end - DUE.start) * drawn;
        remaining <= life.mul_f64(1.0 - part)
    }
}

impl UsersInner {
    /// Drops who is idle, and decides whom to refresh in this round. `None` once everything is closed.
    fn plan(&self) -> Option<RefreshPlan> {
        if self.shared.closing.is_closed() {
            return None;
        }
        let now = self.shared.sessions.clock().wall_millis();
        let before = |duration: Duration| now.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
        let recent = before(self.recent_use);
        let (mut due, mut rate) = (Vec::new(), 0.0);
        self.table.walk(before(self.time_to_idle), |look| {
            let Some(life) = look.life.filter(|_| look.used >= recent) else {
                return;
            };
            rate += 1.0 / (life.1.as_secs_f64() * (DUE.start + DUE.end) / 2.0).max(1.0);
            if self.refresher.due(look.id, life, now) {
                due.push((life.0, look.credentials.clone()));
            }
        });
        tracing::debug!(target: TARGET, metrics = ?self.metrics(), due = due.len(), "users");
        due.sort_unstable_by_key(|(remaining, _)| *remaining);
        let most = self.shared.vendor.requests_per_second();
        let count = in_a_round(rate, most, due.iter().map(|(remaining, _)| *remaining));
        due.truncate(count);
        Some(RefreshPlan {
            pause: ROUND / u32::try_from(due.len().max(1)).unwrap_or(u32::MAX),
            due: due.into_iter().map(|(_, credentials)| credentials).collect(),
        })
    }
}

/// How many to start in a round: enough for the rate in the long run, and for each to be in time, but no more than its share of
/// the vendor's requests.
fn in_a_round(rate: f64, most: Option<f64>, remaining: impl Iterator<Item = Duration>) -> usize {
    let round = ROUND.as_secs_f64();
    let in_time = remaining
        .zip(1_u32..)
        .map(|(remaining, n)| f64::from(n) / remaining.saturating_sub(MARGIN).as_secs_f64().max(round))
        .fold(0.0, f64::max);
    let wanted = (rate * PEAK).max(in_time);
    let rate = most.map_or(wanted, |most| wanted.min(most * SHARE));
    (rate * round).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    #[test]
    fn a_herd_is_spread_over_the_time_that_there_is() {
        // A thousand who came together, with 20 minutes left, are not started at once.
        let herd = vec![minutes(20); 1_000];
        let count = in_a_round(0.1, Some(50.0), herd.iter().copied());
        assert!((11..=13).contains(&count), "{count}");
        // In the long run the mean rate decides.
        assert_eq!(in_a_round(0.37, Some(50.0), [minutes(20)].into_iter()), 10);
        assert_eq!(in_a_round(0.0, Some(50.0), std::iter::empty()), 0);
    }

    #[test]
    fn newcomers_keep_a_fifth_of_the_requests() {
        let late = vec![Duration::ZERO; 100_000];
        assert_eq!(in_a_round(100.0, Some(50.0), late.iter().copied()), 400);
    }

    #[test]
    fn every_session_is_due_at_a_moment_of_its_own_and_stays_so() {
        let refresher = Refresher::new();
        let due_at = |id: usize| {
            (0..=60).find(|age| {
                refresher.due(
                    id,
                    (minutes(60 - age), minutes(60)),
                    i64::try_from(*age).unwrap() * 60_000,
                )
            })
        };
        let ages: Vec<_> = (0..1_000).map(|id| due_at(id).unwrap()).collect();
        assert!(ages.iter().all(|age| (33..=54).contains(age)));
        let at = |age: u64| ages.iter().filter(|due| **due == age).count();
        assert!((33..=54).all(|age| at(age) < 120), "{ages:?}");
        assert_eq!(due_at(7), due_at(7));
    }
}
