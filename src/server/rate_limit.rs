//! [`RequestLimit`]: keeps below the account's quota, which all pools, vendors and instances of a region share. [`UserLimit`]: what one
//! user can cause.
//!
//! Two token buckets with two queues before them: one for the quota, one for this instance's [`Share`] of it. In each queue the first
//! one waits for the time at which it may go, the others wait to be first; so whoever hangs up is simply not there any more.
//! Interactive requests go first, and may overdraw the share, which background requests then pay back; but these never get less than
//! [`FLOOR`] of the rate while they wait.

mod share;
mod user_limit;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;

use self::share::Share;
pub(super) use self::user_limit::UserLimit;
use crate::clock::{Clock, Now, Timer};
use crate::error::{Error, ErrorKind};
use crate::metrics;
use crate::service::attempts::AttemptWatch;

/// The part of the rate that background requests get however many interactive ones wait.
const FLOOR: f64 = 0.2;
/// By how much interactive requests may overdraw the share: so many seconds of it, or so many requests, whichever is more. More while
/// background requests wait, which pay it back.
const OVERDRAFT: f64 = 2.0;
const OVERDRAFT_PAID_BACK: f64 = 20.0;
/// So much faster grows a share that is overdrawn: people are waiting, elsewhere it may be background work alone.
const OVERDRAWN: f64 = 3.0;
/// After so long without a request the share is found anew.
const REST: Duration = Duration::from_secs(30);
/// A clock that jumps back by more than this was set.
const SET_BACK: Duration = Duration::from_secs(1);

/// How many requests per second are made of the account's quota for `GetOpenIdTokenForDeveloperIdentity`. A handle: clones share
/// the quota, so give the same one to every vendor of an account and region.
///
/// In no second are there more than `per_second` requests of this process, retries of the SDK included. Interactive requests (a vend
/// that somebody waits for) go before background ones ([`UserCredentials`](crate::UserCredentials), refreshing ahead of time), which
/// still get a fifth of the rate.
///
/// **Many instances** share the account's quota without a coordinator: each finds its part by what the account refuses. Say how many
/// there are with [`instances`](Self::instances), about: they start with their fair share then, and are refused least.
///
/// | what | how much |
/// |---|---|
/// | start | the quota by the number of instances |
/// | a refusal (`TooManyRequestsException` and the like) | 0.85 × the rate, at most once in 200 ms; never less than a thousandth of the quota, or 1 in 20 s |
/// | growth while somebody has to wait | after 150 s a fair share has grown back what a refusal took; it goes with the cube of the time, up to the whole quota. Three times as fast while the share is overdrawn |
/// | while the rate suffices | it stays as it is |
/// | after 30 s without a request | it starts again |
/// | interactive requests | may overdraw the share by 2 s of it, or 2 requests; by ten times that while background requests wait, which pay it back |
///
/// ```
/// # use cognito_identity_pool::server::RequestLimit;
/// # use cognito_identity_pool::TokenVendor;
/// # use std::num::NonZeroU32;
/// # const POOLS: [&str; 2] = ["us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd", "us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d"];
/// # fn example(config: &aws_config::SdkConfig, fifty: NonZeroU32, about_twenty: NonZeroU32) -> Result<(), cognito_identity_pool::Error> {
/// let limit = RequestLimit::per_second(fifty).instances(about_twenty);
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
    settings: Settings,
    burst: f64,
    /// The rate at which it is filled, whatever the share.
    full_rate: f64,
    time: OnceLock<LimitTime>,
    state: Mutex<LimitState>,
}

/// What a limit is made with.
#[derive(Debug, Clone, Copy)]
struct Settings {
    per_second: NonZeroU32,
    burst: NonZeroU32,
    instances: NonZeroU32,
}

#[derive(Debug)]
struct LimitTime {
    clock: Clock,
    started: Now,
    timer: Timer,
}

#[derive(Debug)]
struct LimitState {
    /// What the quota allows at once, by the account's bucket as it would be with this instance alone.
    tokens: f64,
    /// What the share allows. Overdrawn by interactive requests.
    allowance: f64,
    share: Share,
    /// What background requests may take although interactive ones wait.
    background: f64,
    /// Somebody was turned away who would have had to wait: the share is short, although nobody is in a queue.
    turned_away: bool,
    /// When a request was made last.
    used: Duration,
    /// The time of the limit: that of the clock, never going back, and at least the end of each sleep.
    now: Duration,
    /// What is added to the clock to have it.
    ahead: Duration,
    clock: Duration,
    waiting: [VecDeque<Arc<Notify>>; 2],
    /// The rate that was told to the operator last.
    told: f64,
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Somebody waits for it.
    Interactive,
    /// Nobody does, or somebody who can.
    Background,
}

impl Lane {
    const fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Background => "background",
        }
    }
}

impl RequestLimit {
    /// At most `per_second` requests in every second, a twenty-fifth of them at once after a pause.
    pub fn per_second(per_second: NonZeroU32) -> Self {
        Self::new(Settings {
            per_second,
            burst: NonZeroU32::new(per_second.get() / 25).unwrap_or(NonZeroU32::MIN),
            instances: NonZeroU32::MIN,
        })
    }

    /// As many at once after a pause as `requests`, at most half a second's worth. What is let through at once has to be saved up: the
    /// more it is, the slower the requests that follow, so that there are never more than a second's worth in a second.
    pub fn burst(self, requests: NonZeroU32) -> Self {
        Self::new(Settings {
            burst: requests,
            ..self.bucket.settings
        })
    }

    /// How many instances share the quota, as far as that is known when they start: each begins with its part of `per_second`, and
    /// grows and shrinks from there. 1 unless it is said.
    ///
    /// It need not be exact, nor follow the number of instances: it is what a new instance tries first. Much too low, and a new
    /// instance disturbs the others for some seconds; much too high, and it takes some minutes to find its share.
    pub fn instances(self, instances: NonZeroU32) -> Self {
        Self::new(Settings {
            instances,
            ..self.bucket.settings
        })
    }

    fn new(settings: Settings) -> Self {
        let quota = f64::from(settings.per_second.get());
        let burst = f64::from(settings.burst.get()).min((quota / 2.0).ceil());
        // The first of a burst stands for one that would have come then anyway.
        let full_rate = quota - burst + 1.0;
        Self {
            bucket: Arc::new(Bucket {
                settings,
                burst,
                full_rate,
                time: OnceLock::new(),
                state: Mutex::new(LimitState {
                    tokens: burst,
                    allowance: burst,
                    share: Share::new(full_rate, f64::from(settings.instances.get())),
                    background: 0.0,
                    turned_away: false,
                    used: Duration::ZERO,
                    now: Duration::ZERO,
                    ahead: Duration::ZERO,
                    clock: Duration::ZERO,
                    waiting: [VecDeque::new(), VecDeque::new()],
                    told: 0.0,
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

    /// This instance's share of the quota at the moment, in requests per second.
    pub(super) fn rate(&self) -> f64 {
        self.bucket.advance(None).share.rate()
    }

    /// Waits for a turn, at most as long as `patience`.
    pub(super) async fn turn(&self, lane: Lane, patience: Duration) -> Result<Turn, Error> {
        if !metrics::ENABLED {
            return self.wait_for_turn(lane, patience).await;
        }
        let came = self.bucket.advance(None).now;
        let turn = self.wait_for_turn(lane, patience).await;
        let (now, change) = self.bucket.lock().told();
        metrics::rate_limit(change);
        match &turn {
            Ok(_) => metrics::turn(lane.name(), now.saturating_sub(came)),
            Err(_) => metrics::turn_refused(lane.name()),
        }
        turn
    }

    async fn wait_for_turn(&self, lane: Lane, patience: Duration) -> Result<Turn, Error> {
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
                state.turned_away = true;
                return Err(at_its_limit(wait));
            }
            let notify = Arc::new(Notify::new());
            state.waiting[queue].push_back(Arc::clone(&notify));
            Place { bucket, lane, notify }
        };
        let _waiting = metrics::WaitingTurn::new(lane.name());
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
        let mut state = self.bucket.advance(None);
        state.tokens -= 1.0;
        state.allowance -= 1.0;
    }

    fn throttled(&self) {
        let mut state = self.bucket.advance(None);
        let now = state.now;
        if state.share.refused(now) {
            // What nobody pays back is not overdrawn at an account that says no.
            let left = if state.is_paid_back() { 0.0 } else { -state.overdraft() };
            state.allowance = state.allowance.min(left);
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
        state.pass(passed, self.burst, self.full_rate);
        state
    }

    /// How long the first one of a lane has to wait; `None` if it may go.
    fn wait(&self, state: &LimitState, lane: Lane) -> Option<Duration> {
        const ENOUGH: f64 = 1.0 - 1e-9;
        let waits = |lane: Lane| !state.waiting[lane as usize].is_empty();
        let rate = state.share.rate();
        let until = |have: f64, needed: f64, rate: f64| (needed - have) / rate;
        let quota = until(state.tokens, ENOUGH, self.full_rate);
        let overdrawn = until(state.allowance, ENOUGH - state.overdraft(), rate);
        let wait = match lane {
            Lane::Interactive => {
                // The background's part is due, and it is about to take what there is: what comes next is ours.
                let contended = state.tokens < 1.0 + ENOUGH || state.allowance < 1.0 + ENOUGH - state.overdraft();
                if waits(Lane::Background) && state.background >= ENOUGH && contended {
                    quota.max(overdrawn).max(1.0 / rate)
                } else {
                    quota.max(overdrawn)
                }
            }
            Lane::Background => {
                let left_over = until(state.allowance, ENOUGH, rate);
                let due = until(state.background, ENOUGH, rate * FLOOR).max(overdrawn);
                let behind = if waits(Lane::Interactive) {
                    due
                } else {
                    left_over.min(due)
                };
                quota.max(behind)
            }
        };
        (wait > 0.0).then(|| Duration::from_secs_f64(wait.min(86_400.0)))
    }

    /// How long somebody waits who comes to a lane with `before` others in it.
    fn estimate(&self, state: &LimitState, lane: Lane, before: usize) -> Duration {
        let (others, overdraft) = match lane {
            Lane::Interactive => (Lane::Background, state.overdraft()),
            Lane::Background => (Lane::Interactive, 0.0),
        };
        let part = match lane {
            _ if state.waiting[others as usize].is_empty() => 1.0,
            Lane::Interactive => 1.0 - FLOOR,
            Lane::Background => FLOOR,
        };
        let wanted = before as f64 + 1.0;
        let quota = (wanted - state.tokens) / (self.full_rate * part);
        let share = (wanted - overdraft - state.allowance) / (state.share.rate() * part);
        Duration::from_secs_f64(quota.max(share).clamp(0.0, 86_400.0))
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        metrics::rate_limit(-state.told);
    }
}

impl LimitState {
    /// Time passes, in seconds.
    fn pass(&mut self, passed: f64, burst: f64, full_rate: f64) {
        if self.turned_away || self.waiting.iter().any(|lane| !lane.is_empty()) {
            let haste = if self.allowance <= -1.0 { OVERDRAWN } else { 1.0 };
            self.share.was_short(passed * haste);
        } else if self.now.saturating_sub(self.used) >= REST {
            self.share.forget();
        }
        let rate = self.share.rate();
        self.tokens = (self.tokens + passed * full_rate).min(burst);
        self.allowance = (self.allowance + passed * rate).min(burst);
        self.background = (self.background + passed * rate * FLOOR).min(2.0);
        if self.allowance >= 1.0 {
            self.turned_away = false;
        }
    }

    /// What is told to the operator: the time, and by how much the rate has changed since it was told last. Small changes are left
    /// for later.
    fn told(&mut self) -> (Duration, f64) {
        let change = self.share.rate() - self.told;
        let change = if change.abs() > self.told / 100.0 { change } else { 0.0 };
        self.told += change;
        (self.now, change)
    }

    /// Background requests wait, which leave to interactive ones what those take in advance.
    fn is_paid_back(&self) -> bool {
        !self.waiting[Lane::Background as usize].is_empty()
    }

    fn overdraft(&self) -> f64 {
        let overdraft = if self.is_paid_back() {
            OVERDRAFT_PAID_BACK
        } else {
            OVERDRAFT
        };
        (overdraft * self.share.rate()).max(overdraft)
    }

    fn take(&mut self, lane: Lane) {
        self.used = self.now;
        self.tokens -= 1.0;
        self.allowance -= 1.0;
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
                state.allowance = (state.allowance + 1.0).min(bucket.burst);
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

#[cfg(test)]
mod tests;
