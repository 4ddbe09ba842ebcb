//! Joins the pure parts to clock, lock and runtime.
//!
//! The lock guards [`Locked`] alone. No code of the owner's runs under it, and no flight is spawned, cancelled or polled.

use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};

use super::background::Background;
use super::flight::{Driver, End, Flight, drop_quietly, quietly};
use super::policy::{GRACE, RefreshPolicy};
use super::spawn::{Reentry, Spawner};
use super::state::{Reason, State, Verdict};
use super::sync::{AtomicI64, Mutex, Slot, lock};
use super::{CacheStatus, Cached, Entry, Failure, Load, LoadRequest, Loaded, Value};
use crate::clock::{Clock, Now, Timer};

/// What those who wait for a flight get: the value, or the error and, with it, the old value if that may still be served.
pub(super) type Outcome<T, E> = Result<Cached<T>, (E, Option<Cached<T>>)>;

/// What several caches can share.
pub(crate) struct Setup {
    pub(super) policy: RefreshPolicy,
    pub(super) clock: Clock,
    pub(super) timer: Timer,
}

pub(super) struct Engine<T: Value, E: Failure> {
    setup: Arc<Setup>,
    load: Load<T, E>,
    /// Replaced under the lock, read without.
    pub(super) entry: Slot<Entry<T>>,
    pub(super) shared: Mutex<Locked<T, E>>,
}

pub(super) struct Locked<T: Value, E: Failure> {
    pub(super) state: State<E>,
    // Boxed, because most caches have neither most of the time, and a process may keep one for each of 100,000 users.
    flight: Option<Box<InFlight<T, E>>>,
    pub(super) background: Option<Box<Background>>,
    /// When a caller asked last, by the wall clock in milliseconds. Hits are not recorded; one lasts a second at most.
    asked: i64,
    pub(super) ended: bool,
}

struct InFlight<T: Value, E: Failure> {
    flight: Arc<Flight<Outcome<T, E>>>,
    started: Now,
    reason: Reason,
}

/// What a caller has to do.
pub(super) enum Step<T: Value, E: Failure> {
    Done(Result<Cached<T>, E>),
    Wait(Waiting<T, E>),
    /// Nobody has driven the flight for longer than a load may take: end it, then look again.
    Overdue(SharedFlight<T, E>),
}

pub(super) type SharedFlight<T, E> = Arc<Flight<Outcome<T, E>>>;

pub(super) struct Waiting<T: Value, E: Failure> {
    flight: SharedFlight<T, E>,
    /// How long to wait before the flight counts as abandoned.
    limit: Duration,
    /// How long to wait before the old value is served instead, if it is to be.
    grace: Option<Duration>,
    /// Its outcome is what the caller asked for.
    answers: bool,
    /// This caller started it.
    started_here: bool,
}

/// How a wait came to its end.
enum Waited<T: Value, E: Failure> {
    Ended(End<Outcome<T, E>>),
    /// There is an old value to serve, and the caller has waited long enough for a new one.
    Grace,
    /// Nobody drives the flight.
    Overdue,
}

/// What to do with a flight once the lock is released.
enum FollowUp<T: Value, E: Failure> {
    Spawn(SharedFlight<T, E>, Spawner),
    /// There is no runtime to spawn it on: each caller polls it once in passing.
    PollOnce(SharedFlight<T, E>),
    Cancel(SharedFlight<T, E>),
}

/// What a caller asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// A value that may be served, wherever it comes from.
    Fresh,
    /// A value that is valid for this much longer.
    ValidFor(Duration),
    /// A value from a load that was forced.
    Forced,
}

impl<T: Value, E: Failure> Engine<T, E> {
    pub(super) fn new(setup: Arc<Setup>, load: Load<T, E>) -> Self {
        let shared = Locked {
            state: State::default(),
            flight: None,
            background: None,
            asked: i64::MIN,
            ended: false,
        };
        Self {
            setup,
            load,
            entry: Slot::empty(),
            shared: Mutex::new(shared),
        }
    }

    pub(super) async fn obtain(self: &Arc<Self>, demand: Demand) -> Result<Cached<T>, E> {
        let mut may_spawn = true;
        loop {
            let spawner = if may_spawn { Spawner::here() } else { None };
            let wait = match self.look(demand, spawner.as_ref()) {
                Step::Done(result) => return result,
                Step::Wait(wait) => wait,
                Step::Overdue(flight) if self.end_overdue(&flight).await => continue,
                Step::Overdue(_) => return self.overdue(demand),
            };
            match self.wait(&wait).await {
                Waited::Ended(End::Done(outcome)) => {
                    if let Some(result) = self.judge(demand, wait.answers, outcome) {
                        return result;
                    }
                }
                // Its runtime has dropped it. If that is the runtime of this caller, drive the next one without it.
                Waited::Ended(End::Cancelled) => may_spawn &= !wait.started_here,
                Waited::Grace => {
                    if let Some(value) = self.old_value(demand) {
                        return Ok(value);
                    }
                }
                // Take over from another caller, whose runtime may be gone. A flight of our own has had its time; to start
                // over would loop for ever where sleeps take no time.
                Waited::Overdue if self.end_overdue(&wait.flight).await && !wait.started_here => {}
                Waited::Overdue => return self.overdue(demand),
            }
        }
    }

    /// What the outcome of a load means to a caller. `None`: it has to look again.
    fn judge(&self, demand: Demand, answers: bool, outcome: Outcome<T, E>) -> Option<Result<Cached<T>, E>> {
        let now = self.clock.now();
        let shared = lock(&self.shared);
        // Whoever waited while the end came must not be served.
        if shared.ended {
            return Some(Err(E::ended()));
        }
        match (demand, outcome) {
            (Demand::ValidFor(least), Ok(value)) => Some(if shared.state.is_valid_for(least, now) {
                Ok(value)
            } else {
                Err(E::too_short(least, shared.state.remaining(now).unwrap_or_default()))
            }),
            (Demand::ValidFor(least), Err((error, value))) => Some(match value {
                Some(value) if shared.state.is_valid_for(least, now) => Ok(value),
                _ => Err(error),
            }),
            (_, Ok(value)) if answers => Some(Ok(value)),
            (Demand::Fresh, Err((_, Some(value)))) => Some(Ok(value)),
            (_, Err((error, _))) if answers => Some(Err(error)),
            // It was not forced, and this caller wants one that is.
            _ => None,
        }
    }

    /// The value that a caller gets who does not wait any longer for a better one, if it may be served.
    fn old_value(&self, demand: Demand) -> Option<Cached<T>> {
        let now = self.clock.now();
        let shared = lock(&self.shared);
        let serves = demand == Demand::Fresh && !shared.ended && shared.state.serves(&self.policy, now);
        serves.then(|| self.entry.load()).flatten().map(Cached)
    }

    fn overdue(&self, demand: Demand) -> Result<Cached<T>, E> {
        self.old_value(demand)
            .ok_or_else(|| E::timed_out(self.policy.load_timeout()))
    }

    async fn wait(&self, wait: &Waiting<T, E>) -> Waited<T, E> {
        let (limit, otherwise) = match wait.grace {
            Some(grace) if grace < wait.limit => (grace, Waited::Grace),
            _ => (wait.limit, Waited::Overdue),
        };
        let ended = wait.flight.wait();
        match self.timer.after(limit) {
            Some(sleep) => match select(ended, sleep).await {
                Either::Left((end, _)) => Waited::Ended(end),
                Either::Right(_) => otherwise,
            },
            // Nothing can end the wait: one poll for a source that answers at once.
            None if wait.grace.is_some() => ended.now_or_never().map_or(Waited::Grace, Waited::Ended),
            None => Waited::Ended(ended.await),
        }
    }

    /// Ends a flight that nobody drives. `false`: a poll of its load blocks its thread; nothing can end that, and a second
    /// load must not start beside it.
    async fn end_overdue(&self, flight: &SharedFlight<T, E>) -> bool {
        if flight.cancel() {
            return true;
        }
        match self.timer.after(self.policy.load_timeout() / 10) {
            Some(sleep) => matches!(select(flight.wait(), sleep).await, Either::Left(_)),
            None => flight.is_over(),
        }
    }

    pub(super) fn look(self: &Arc<Self>, demand: Demand, spawner: Option<&Spawner>) -> Step<T, E> {
        if let Some(spawner) = spawner {
            self.start_background(spawner);
        }
        let (step, follow_up) = self.decide(demand, spawner);
        // Outside of the lock: a runtime that is shut down drops the task, and with it the load, inside of `spawn`.
        match follow_up {
            Some(FollowUp::Spawn(flight, spawner)) => spawner.spawn(Driver::new(flight)),
            Some(FollowUp::PollOnce(flight)) => {
                flight.poll_once();
                if flight.is_over() && matches!(step, Step::Done(_)) {
                    // Its result is for this caller, too. If another flight is due by now, the next caller polls it.
                    return self.decide(demand, None).0;
                }
            }
            Some(FollowUp::Cancel(flight)) => drop(flight.cancel()),
            None => {}
        }
        step
    }

    fn decide(self: &Arc<Self>, demand: Demand, spawner: Option<&Spawner>) -> (Step<T, E>, Option<FollowUp<T, E>>) {
        let inside = Reentry::is_inside(self.id());
        let now = self.clock.now();
        // Declared before the guard, and so dropped after it: it may hold the last reference to a value.
        let _retired;
        let mut shared = lock(&self.shared);
        shared.asked = now.wall_millis();
        _retired = shared.take_ended_flight();
        shared.decide(self, demand, now, inside, spawner)
    }

    /// Starts a refresh that no caller has asked for, unless one is under way, the cache backs off after a failure, or there is
    /// no value or no runtime.
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(super) fn refresh_ahead(self: &Arc<Self>) -> bool {
        let Some(spawner) = Spawner::here() else { return false };
        let now = self.clock.now();
        let mut shared = lock(&self.shared);
        let may = !shared.ended && shared.flight.is_none() && shared.state.may_be_refreshed(now);
        let follow_up = may.then(|| shared.start(self, Reason::Expiring, now, Some(&spawner)).1);
        drop(shared);
        // Outside of the lock, as for those who look.
        if let Some(Some(FollowUp::Spawn(flight, spawner))) = follow_up {
            spawner.spawn(Driver::new(flight));
        }
        may
    }

    pub(super) fn status(&self) -> CacheStatus {
        let now = self.clock.now();
        let shared = lock(&self.shared);
        CacheStatus {
            asked: shared.asked,
            life: shared.state.life(now),
        }
    }

    /// A load that has not begun: from the call of the source to the stored result.
    fn flight(self: &Arc<Self>, request: LoadRequest, has_driver: bool) -> SharedFlight<T, E> {
        let (engine, id, timer, timeout) = (
            Arc::downgrade(self),
            self.id(),
            self.timer.clone(),
            self.policy.load_timeout(),
        );
        let load = Arc::clone(&self.load);
        Flight::new(
            Box::pin(async move {
                let call = Box::pin(AssertUnwindSafe(async move { load.load(request).await }).catch_unwind());
                let mut call = Reentry { id, load: call };
                let result = match timer.after(timeout) {
                    None => Some((&mut call).await),
                    Some(sleep) => match select(&mut call, sleep).await {
                        Either::Left((result, _)) => Some(result),
                        Either::Right(_) => None,
                    },
                };
                // Before the result is stored: the next load may start at that moment.
                drop_quietly(call);
                let result = match result {
                    Some(Ok(result)) => result,
                    Some(Err(panic)) => Err(E::panicked(panic_message(panic))),
                    None => Err(E::timed_out(timeout)),
                };
                match engine.upgrade() {
                    Some(engine) => engine.finish(result),
                    None => Err((E::ended(), None)),
                }
            }),
            has_driver,
        )
    }

    /// Stores what a load has brought. Only values are exchanged under the lock: whatever they replace is dropped after it.
    fn finish(&self, result: Result<Loaded<T>, E>) -> Outcome<T, E> {
        let now = self.clock.now();
        let mut shared = lock(&self.shared);
        if shared.ended {
            drop(shared);
            drop_quietly(result);
            return Err((E::ended(), None));
        }
        let retired = (shared.flight.take(), shared.state.take_backoff());
        let (error, rejected) = match result {
            Err(error) => (error, None),
            Ok(loaded) if shared.state.succeeded(loaded.expires, &self.policy, now) => {
                let entry = Arc::new(Entry {
                    value: loaded.value,
                    fresh_until: AtomicI64::new(i64::MIN),
                });
                if let Verdict::Serve(length) = shared.state.classify(&self.policy, now) {
                    entry.serve_hits_for(now, length);
                }
                let old = self.entry.swap(Some(Arc::clone(&entry)));
                if let Some(old) = &old {
                    old.stop_hits();
                }
                drop(shared);
                drop_quietly((retired, old));
                return Ok(Cached(entry));
            }
            Ok(loaded) => (E::expired_on_arrival(), Some(loaded)),
        };
        let serves = shared.state.failed(&error, &self.policy, now);
        let entry = self.entry.load();
        if let Some(entry) = entry.as_ref().filter(|_| !serves) {
            entry.stop_hits();
        }
        drop(shared);
        drop_quietly((retired, rejected));
        // The source's own code, outside of what the load's panics are caught by.
        quietly(|| self.load.failed(&error));
        Err((error, entry.filter(|_| serves).map(Cached)))
    }

    /// `judged` was rejected by whoever it was shown to. `false`: it is no longer current, or was invalidated before.
    pub(super) fn invalidate(&self, judged: &Arc<Entry<T>>) -> bool {
        let now = self.clock.now();
        let mut shared = lock(&self.shared);
        let is_current = self.entry.holds(judged);
        let invalidated = is_current && shared.state.invalidate(&self.policy, now);
        if invalidated {
            judged.stop_hits();
        }
        invalidated
    }

    /// The value, which hits may read for `length` without a full check. Under the lock.
    fn serve(&self, now: Now, length: Duration) -> Option<Step<T, E>> {
        let entry = self.entry.load()?;
        entry.serve_hits_for(now, length);
        Some(Step::Done(Ok(Cached(entry))))
    }

    /// In this order: nothing is served any longer, those who wait are told, and what is left is dropped.
    pub(super) fn end(&self) {
        let mut shared = lock(&self.shared);
        shared.ended = true;
        let state = std::mem::take(&mut shared.state);
        let (flight, background) = (shared.flight.take(), shared.background.take());
        let entry = self.entry.swap(None);
        if let Some(entry) = &entry {
            entry.stop_hits();
        }
        drop(shared);
        if let Some(current) = &flight {
            current.flight.end_with(Err((E::ended(), None)));
        }
        if let Some(background) = background {
            quietly(|| background.abort());
            drop_quietly(background);
        }
        drop_quietly(flight);
        drop_quietly(state);
        drop_quietly(entry);
    }

    /// Tells this cache from others on the same thread, as long as it lives.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T: Value, E: Failure> Deref for Engine<T, E> {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.setup
    }
}

impl<T: Value, E: Failure> Drop for Engine<T, E> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T: Value, E: Failure> Locked<T, E> {
    fn decide(
        &mut self,
        engine: &Arc<Engine<T, E>>,
        demand: Demand,
        now: Now,
        inside: bool,
        spawner: Option<&Spawner>,
    ) -> (Step<T, E>, Option<FollowUp<T, E>>) {
        if self.ended {
            return (Step::Done(Err(E::ended())), None);
        }
        let verdict = match demand {
            Demand::Fresh => self.state.classify(&engine.policy, now),
            Demand::ValidFor(least) => self.state.classify_for(least, &engine.policy, now),
            Demand::Forced => Verdict::Mandatory(Reason::Forced),
        };
        let (mut follow_up, mut grace) = (None, false);
        let reason = match verdict {
            Verdict::Fail(error) => return (Step::Done(Err(error)), None),
            Verdict::TooShort(life) => {
                let error = match demand {
                    Demand::ValidFor(least) => E::too_short(least, life),
                    Demand::Fresh | Demand::Forced => E::expired_on_arrival(),
                };
                return (Step::Done(Err(error)), None);
            }
            Verdict::Serve(length) => match engine.serve(now, length) {
                Some(step) => return (step, None),
                None => Reason::FirstUse,
            },
            Verdict::Advisory(length) => {
                follow_up = self.advisory(engine, now, spawner);
                let length = match follow_up {
                    None | Some(FollowUp::Spawn(..)) => length,
                    // A flight that callers drive needs a poll from each of them.
                    Some(FollowUp::PollOnce(_) | FollowUp::Cancel(_)) => Duration::ZERO,
                };
                match engine.serve(now, length) {
                    Some(step) => return (step, follow_up),
                    None => Reason::FirstUse,
                }
            }
            Verdict::Mandatory(reason) => reason,
            Verdict::Retry(reason) => {
                grace = true;
                reason
            }
        };
        if inside {
            return (Step::Done(Err(E::reentered())), None);
        }
        match &self.flight {
            Some(current) if current.is_overdue(&engine.policy, now) => {
                (Step::Overdue(Arc::clone(&current.flight)), None)
            }
            Some(current) => {
                let wait = current.waiting(&engine.policy, demand, now, grace, false);
                (Step::Wait(wait), follow_up)
            }
            None => {
                let (current, follow_up) = self.start(engine, reason, now, spawner);
                let wait = current.waiting(&engine.policy, demand, now, grace, true);
                (Step::Wait(wait), follow_up)
            }
        }
    }

    /// A flight that has ended without a result: cancelled, by its runtime or a caller.
    fn take_ended_flight(&mut self) -> Option<Box<InFlight<T, E>>> {
        self.flight.take_if(|current| current.flight.is_over())
    }

    /// Makes sure that a refresh is under way.
    fn advisory(&mut self, engine: &Arc<Engine<T, E>>, now: Now, spawner: Option<&Spawner>) -> Option<FollowUp<T, E>> {
        match &self.flight {
            None => self.start(engine, Reason::Expiring, now, spawner).1,
            Some(current) if current.is_overdue(&engine.policy, now) => {
                Some(FollowUp::Cancel(Arc::clone(&current.flight)))
            }
            Some(current) if current.flight.is_driven_by_callers() => {
                Some(FollowUp::PollOnce(Arc::clone(&current.flight)))
            }
            Some(_) => None,
        }
    }

    /// Reserves a flight; the follow-up sets it going.
    fn start(
        &mut self,
        engine: &Arc<Engine<T, E>>,
        reason: Reason,
        now: Now,
        spawner: Option<&Spawner>,
    ) -> (&InFlight<T, E>, Option<FollowUp<T, E>>) {
        let request = LoadRequest {
            reason,
            attempt: self.state.next_attempt(),
        };
        let flight = engine.flight(request, spawner.is_some());
        let follow_up = match spawner {
            Some(spawner) => FollowUp::Spawn(Arc::clone(&flight), spawner.clone()),
            None => FollowUp::PollOnce(Arc::clone(&flight)),
        };
        (
            self.flight.insert(Box::new(InFlight {
                flight,
                started: now,
                reason,
            })),
            Some(follow_up),
        )
    }
}

impl<T: Value, E: Failure> InFlight<T, E> {
    /// A driven load ends within its own timeout; this one has had a tenth more.
    fn is_overdue(&self, policy: &RefreshPolicy, now: Now) -> bool {
        self.limit(policy, now).is_zero()
    }

    fn limit(&self, policy: &RefreshPolicy, now: Now) -> Duration {
        let timeout = policy.load_timeout();
        timeout
            .saturating_add(timeout / 10)
            .saturating_sub(now.since(self.started))
    }

    fn waiting(
        &self,
        policy: &RefreshPolicy,
        demand: Demand,
        now: Now,
        grace: bool,
        started_here: bool,
    ) -> Waiting<T, E> {
        Waiting {
            flight: Arc::clone(&self.flight),
            limit: self.limit(policy, now),
            grace: grace.then(|| GRACE.saturating_sub(now.since(self.started))),
            answers: demand != Demand::Forced || self.reason == Reason::Forced,
            started_here,
        }
    }
}

fn panic_message(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or_else(|| "no message".to_owned(), |text| (*text).to_owned()),
    }
}
