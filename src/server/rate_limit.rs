//! [`RequestLimit`]: keeps below the account's quota, which all pools and vendors of a region share. [`UserLimit`]: what one user can
//! cause.
//!
//! A token bucket with two queues before it. In each queue the first one waits for the time at which it may go, the others wait to be
//! first; so whoever hangs up is simply not there any more. Interactive requests go first, but background requests never get less than
//! [`FLOOR`] of the rate while they wait.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;

use crate::clock::{Clock, Now, Timer};
use crate::error::{Error, ErrorKind};
use crate::ids::DeveloperUserId;
use crate::service::signed::AttemptWatch;

/// The part of the rate that background requests get however many interactive ones wait.
const FLOOR: f64 = 0.2;
/// To which part the rate falls when the account throttles, at most once a second.
const CUT: f64 = 0.7;
/// How long it takes to find back from nothing to the full rate.
const RECOVERY: f64 = 30.0;
/// A clock that jumps back by more than this was set.
const SET_BACK: Duration = Duration::from_secs(1);

/// How many requests per second are made of the account's quota for `GetOpenIdTokenForDeveloperIdentity`. A handle: clones share
/// the quota, so give the same one to every vendor of an account and region.
///
/// In no second are there more than `per_second` requests, retries of the SDK included. Interactive requests (a vend that somebody
/// waits for) go before background ones ([`UserCredentials`](crate::UserCredentials), refreshing ahead of time), which still get a
/// fifth of the rate. When the account throttles, the rate falls, and grows back within half a minute.
///
/// ```
/// # use cognito_identity_pool::server::RequestLimit;
/// # use cognito_identity_pool::TokenVendor;
/// # use std::num::NonZeroU32;
/// # const POOLS: [&str; 2] = ["us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd", "us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d"];
/// # fn example(config: &aws_config::SdkConfig, fifty: NonZeroU32) -> Result<(), cognito_identity_pool::Error> {
/// let limit = RequestLimit::per_second(fifty);
/// for pool in POOLS {
///     let vendor = TokenVendor::builder(pool, "login.mycompany.myapp")
///         .configure(config)
///         .request_limit(limit.clone())
///         .build()?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct RequestLimit {
    bucket: Arc<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    per_second: NonZeroU32,
    burst: f64,
    /// The rate at which it is filled when the account does not throttle.
    full_rate: f64,
    time: OnceLock<LimitTime>,
    state: Mutex<LimitState>,
}

#[derive(Debug)]
struct LimitTime {
    clock: Clock,
    started: Now,
    timer: Timer,
}

#[derive(Debug)]
struct LimitState {
    tokens: f64,
    rate: f64,
    /// What background requests may take although interactive ones wait.
    background: f64,
    /// The time of the limit: that of the clock, never going back, and at least the end of each sleep.
    now: Duration,
    /// What is added to the clock to have it.
    ahead: Duration,
    clock: Duration,
    cut: Option<Duration>,
    waiting: [VecDeque<Arc<Notify>>; 2],
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Somebody waits for it.
    Interactive,
    /// Nobody does, or somebody who can.
    Background,
}

impl RequestLimit {
    /// At most `per_second` requests in every second, a twenty-fifth of them at once after a pause.
    pub fn per_second(per_second: NonZeroU32) -> Self {
        let burst = NonZeroU32::new(per_second.get() / 25).unwrap_or(NonZeroU32::MIN);
        Self::new(per_second, burst)
    }

    /// As many at once after a pause as `requests`, at most half a second's worth. What is let through at once has to be saved up: the
    /// more it is, the slower the requests that follow, so that there are never more than a second's worth in a second.
    pub fn burst(self, requests: NonZeroU32) -> Self {
        Self::new(self.bucket.per_second, requests)
    }

    fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = f64::from(per_second.get());
        let burst = f64::from(burst.get()).min((quota / 2.0).ceil());
        // The first of a burst stands for one that would have come then anyway.
        let full_rate = quota - burst + 1.0;
        Self {
            bucket: Arc::new(Bucket {
                per_second,
                burst,
                full_rate,
                time: OnceLock::new(),
                state: Mutex::new(LimitState {
                    tokens: burst,
                    rate: full_rate,
                    background: 0.0,
                    now: Duration::ZERO,
                    ahead: Duration::ZERO,
                    clock: Duration::ZERO,
                    cut: None,
                    waiting: [VecDeque::new(), VecDeque::new()],
                }),
            }),
        }
    }

    /// The first vendor that takes the limit gives it a clock.
    pub(super) fn attach(&self, clock: &Clock, timer: &Timer) {
        self.bucket.time.get_or_init(|| LimitTime {
            clock: clock.clone(),
            started: clock.now(),
            timer: timer.clone(),
        });
    }

    /// What it was made with.
    pub(super) fn quota(&self) -> NonZeroU32 {
        self.bucket.per_second
    }

    /// Waits for a turn, at most as long as `patience`.
    pub(super) async fn turn(&self, lane: Lane, patience: Duration) -> Result<Turn, Error> {
        let bucket = &self.bucket;
        let place = {
            let mut state = bucket.advance(None);
            let queue = lane as usize;
            if state.waiting[queue].is_empty() && bucket.wait(&state, lane).is_none() {
                state.take(lane);
                return Ok(Turn::new(bucket));
            }
            let wait = bucket.estimate(&state, lane, state.waiting[queue].len());
            if wait > patience {
                return Err(at_its_limit(wait));
            }
            let notify = Arc::new(Notify::new());
            state.waiting[queue].push_back(Arc::clone(&notify));
            Place { bucket, lane, notify }
        };
        let deadline = bucket.lock().now.saturating_add(patience);
        let mut reached = None;
        loop {
            let notified = place.notify.notified();
            let mut notified = pin!(notified);
            notified.as_mut().enable();
            let (until, sleep) = {
                let mut state = bucket.advance(reached.take());
                let first = state.waiting[lane as usize]
                    .front()
                    .is_some_and(|first| Arc::ptr_eq(first, &place.notify));
                let wait = if first {
                    match bucket.wait(&state, lane) {
                        None => {
                            state.take(lane);
                            drop(state);
                            return Ok(Turn::new(bucket));
                        }
                        wait => wait,
                    }
                } else {
                    None
                };
                let left = deadline.saturating_sub(state.now);
                // A moment more than it said: who was promised a turn at the deadline gets it.
                if left.is_zero() && !first || state.now > deadline.saturating_add(Duration::from_millis(100)) {
                    return Err(at_its_limit(bucket.estimate(
                        &state,
                        lane,
                        state.waiting[lane as usize].len(),
                    )));
                }
                let wait = wait.unwrap_or(left).max(Duration::from_millis(1));
                (state.now.saturating_add(wait), bucket.sleep(wait))
            };
            let Some(sleep) = sleep else {
                return Err(at_its_limit(until.saturating_sub(bucket.lock().now)));
            };
            if let Either::Left(_) = select(pin!(sleep), notified).await {
                reached = Some(until);
            }
        }
    }
}

/// What the SDK repeats asks for no turn, and counts all the same; when the account throttles, the rate falls.
impl AttemptWatch for RequestLimit {
    fn repeated(&self) {
        self.bucket.advance(None).tokens -= 1.0;
    }

    fn throttled(&self) {
        let mut state = self.bucket.advance(None);
        let recently = state
            .cut
            .is_some_and(|cut| state.now.saturating_sub(cut) < Duration::from_secs(1));
        if !recently {
            state.cut = Some(state.now);
            state.rate = (state.rate * CUT).max(self.bucket.full_rate / 50.0);
            state.tokens = state.tokens.min(0.0);
        }
    }
}

impl Bucket {
    fn lock(&self) -> MutexGuard<'_, LimitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self, wait: Duration) -> Option<aws_smithy_async::rt::sleep::Sleep> {
        self.time.get()?.timer.after(wait)
    }

    /// Brings the state up to now, which is at least `reached`.
    fn advance(&self, reached: Option<Duration>) -> MutexGuard<'_, LimitState> {
        let clock = self.time.get().map(|time| time.clock.now().since(time.started));
        let mut state = self.lock();
        let clock = clock.unwrap_or(state.clock);
        // Callers may arrive in another order than they read the clock. More than that, and it was set back.
        let back = state.clock.saturating_sub(clock);
        if back > SET_BACK {
            state.ahead = state.ahead.saturating_add(back);
            state.clock = clock;
        }
        state.clock = state.clock.max(clock);
        let mut now = state.clock.saturating_add(state.ahead);
        if let Some(reached) = reached.filter(|reached| *reached > now) {
            // A clock that stands still while time is slept away.
            state.ahead = state.ahead.saturating_add(reached.saturating_sub(now));
            now = reached;
        }
        let passed = now.saturating_sub(state.now).as_secs_f64();
        state.now = state.now.max(now);
        if state.rate < self.full_rate {
            state.rate = (state.rate + passed * self.full_rate / RECOVERY).min(self.full_rate);
        }
        state.tokens = (state.tokens + passed * state.rate).min(self.burst);
        state.background = (state.background + passed * state.rate * FLOOR).min(2.0);
        state
    }

    /// How long the first one of a lane has to wait; `None` if it may go.
    fn wait(&self, state: &LimitState, lane: Lane) -> Option<Duration> {
        const ENOUGH: f64 = 1.0 - 1e-9;
        let waits = |lane: Lane| !state.waiting[lane as usize].is_empty();
        let for_tokens = (ENOUGH - state.tokens) / state.rate;
        let for_lane = match lane {
            // The background's share is due, and it is about to take it: what comes next is ours.
            Lane::Interactive if waits(Lane::Background) && state.background >= ENOUGH => 1.0 / state.rate,
            Lane::Background if waits(Lane::Interactive) => (ENOUGH - state.background) / (state.rate * FLOOR),
            _ => 0.0,
        };
        let wait = for_tokens.max(for_lane);
        (wait > 0.0).then(|| Duration::from_secs_f64(wait.min(86_400.0)))
    }

    /// How long somebody waits who comes to a lane with `before` others in it.
    fn estimate(&self, state: &LimitState, lane: Lane, before: usize) -> Duration {
        let others = match lane {
            Lane::Interactive => Lane::Background,
            Lane::Background => Lane::Interactive,
        };
        let share = match lane {
            _ if state.waiting[others as usize].is_empty() => 1.0,
            Lane::Interactive => 1.0 - FLOOR,
            Lane::Background => FLOOR,
        };
        let wanted = (before as f64 + 1.0 - state.tokens).max(0.0);
        Duration::from_secs_f64((wanted / (state.rate * share)).min(86_400.0))
    }
}

impl LimitState {
    fn take(&mut self, lane: Lane) {
        self.tokens -= 1.0;
        if lane == Lane::Background {
            self.background = (self.background - 1.0).max(0.0);
        }
    }
}

/// A place in a queue. Whoever hangs up leaves it, and nobody waits for him.
struct Place<'a> {
    bucket: &'a Bucket,
    lane: Lane,
    notify: Arc<Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let heads = {
            let mut state = self.bucket.lock();
            state.waiting[self.lane as usize].retain(|other| !Arc::ptr_eq(other, &self.notify));
            [state.waiting[0].front().cloned(), state.waiting[1].front().cloned()]
        };
        heads.iter().flatten().for_each(|head| head.notify_one());
    }
}

/// The right to make one request; given back if it is not used.
#[derive(Debug)]
#[must_use]
pub(super) struct Turn {
    bucket: Option<Arc<Bucket>>,
}

impl Turn {
    fn new(bucket: &Arc<Bucket>) -> Self {
        Self {
            bucket: Some(Arc::clone(bucket)),
        }
    }

    /// There is no limit.
    pub(super) fn unlimited() -> Self {
        Self { bucket: None }
    }

    pub(super) fn used(mut self) {
        self.bucket = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(bucket) = self.bucket.take() {
            let heads = {
                let mut state = bucket.lock();
                state.tokens = (state.tokens + 1.0).min(bucket.burst);
                [state.waiting[0].front().cloned(), state.waiting[1].front().cloned()]
            };
            heads.iter().flatten().for_each(|head| head.notify_one());
        }
    }
}

fn at_its_limit(retry_after: Duration) -> Error {
    Error::new(
        ErrorKind::Throttled,
        "this process is at its limit of requests per second",
    )
    .with_retry_after(Some(retry_after))
    .with_hint("raise `requests_per_second` if the account's quota for GetOpenIdTokenForDeveloperIdentity allows it")
}

/// How many requests one user can cause: `burst` at once, then one every `interval`.
#[derive(Debug)]
pub(super) struct UserLimit {
    interval: u64,
    depth: u64,
    /// When a user's allowance will be full again, in nanoseconds since a fixed moment.
    full_at: Mutex<HashMap<DeveloperUserId, u64>>,
}

impl UserLimit {
    pub(super) fn new(burst: NonZeroU32, interval: Duration) -> Self {
        let interval = nanos(interval);
        Self {
            interval,
            depth: interval.saturating_mul(u64::from(burst.get())),
            full_at: Mutex::default(),
        }
    }

    /// Takes one at `now`, the time since any fixed moment.
    pub(super) fn take(&self, user: &DeveloperUserId, now: Duration) -> Result<(), Error> {
        let now = nanos(now);
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|_, full_at| *full_at > now);
        }
        let full_at = all.get(user).copied().unwrap_or(0).max(now);
        let next = full_at.saturating_add(self.interval);
        let wait = next.saturating_sub(now).saturating_sub(self.depth);
        if wait > 0 {
            return Err(Error::new(
                ErrorKind::Throttled,
                "the user has caused too many requests in a short time",
            )
            .with_retry_after(Some(Duration::from_nanos(wait)))
            .with_hint("`user_limit` on the vendor's builder sets how many a user may cause"));
        }
        all.insert(user.clone(), next);
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
