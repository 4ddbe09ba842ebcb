//! Keeps one value fresh: refreshed ahead of time, loaded once for many callers, served through outages.
//!
//! Knows nothing of AWS; `credentials` puts a session's credentials into it. `policy` and `state` decide, `flight` carries a
//! load; this file joins them to clock, lock and runtime.

mod carrier;
mod flight;
mod policy;
mod state;
mod sync;

use std::fmt;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, BoxFuture, Either, abortable, select};

use self::carrier::{Reentry, Spawner};
use self::flight::{Driver, End, Flight, drop_quietly};
pub use self::policy::{RefreshPolicy, RefreshPolicyBuilder};
pub(crate) use self::state::Reason;
use self::state::{State, Verdict};
use self::sync::{AtomicI64, Mutex, Ordering, lock};
use crate::clock::{Clock, Expiry, Now, Timer};

/// A hit is good for this long without looking at anything but the wall clock. It bounds how long a clock that was set back
/// goes unnoticed.
const LOOK_EVERY_MILLIS: i64 = 5_000;
/// The longest sleep of the background task, so that it notices a machine that was suspended, or a clock that was set.
const BACKGROUND_STEP: Duration = Duration::from_secs(30);

/// What the cache has to know of its source's errors, and those that it raises itself. A clone is handed to every caller.
pub(crate) trait Failure: Clone + Send + Sync + 'static {
    /// Trying again will not help; the value at hand is not to be served any longer.
    fn is_terminal(&self) -> bool;
    /// As terminal, until the user signs in again.
    fn needs_sign_in(&self) -> bool;
    /// The source asked not to be asked again before this.
    fn retry_after(&self) -> Option<Duration>;
    /// The load panicked.
    fn panicked(message: String) -> Self;
    /// The load took longer than the policy's timeout.
    fn timed_out(after: Duration) -> Self;
    /// The load asked the very cache that it was called for, and would have waited for itself.
    fn reentered() -> Self;
    /// [`RefreshCache::end`] was called.
    fn ended() -> Self;
    /// The value that was loaded had expired already.
    fn expired_on_arrival() -> Self;
}

/// What a load brings.
#[derive(Clone, Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) value: T,
    /// `None`: it never expires.
    pub(crate) expires: Option<Expiry>,
}

/// Why, and for which time, a load is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadRequest {
    pub(crate) reason: Reason,
    /// 1 for the first attempt after a success, and one more for each failure since.
    pub(crate) attempt: u32,
}

/// What can be kept.
pub(crate) trait Value: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> Value for T {}

/// The source of values. The call itself is made inside the load, so that it may panic like the rest of it.
pub(crate) type Load<T, E> = Arc<dyn Fn(LoadRequest) -> BoxFuture<'static, Result<Loaded<T>, E>> + Send + Sync>;

/// One value, kept fresh. Clones share it.
pub(crate) struct RefreshCache<T: Value, E: Failure> {
    inner: Arc<Inner<T, E>>,
}

/// A value that the cache has handed out. Clones share it.
pub(crate) struct Served<T>(Arc<Entry<T>>);

struct Entry<T> {
    value: T,
    /// Up to this moment of the wall clock, in milliseconds, a hit needs no other look; nor does it from `LOOK_EVERY_MILLIS`
    /// before. Written under the lock.
    fresh_until: AtomicI64,
}

/// What those who wait for a flight get: the value, or the error together with the value that may be served nevertheless.
type Outcome<T, E> = Result<Served<T>, (E, Option<Served<T>>)>;

struct Inner<T: Value, E: Failure> {
    policy: RefreshPolicy,
    clock: Clock,
    timer: Timer,
    load: Load<T, E>,
    /// What `Shared::entry` holds, for hits.
    entry: ArcSwapOption<Entry<T>>,
    shared: Mutex<Shared<T, E>>,
}

struct Shared<T: Value, E: Failure> {
    state: State<E>,
    entry: Option<Arc<Entry<T>>>,
    flight: Option<InFlight<T, E>>,
    background: Option<Background>,
    ended: bool,
}

struct InFlight<T: Value, E: Failure> {
    flight: Arc<Flight<Outcome<T, E>>>,
    started: Now,
    reason: Reason,
}

struct Background {
    task: AbortHandle,
    /// Dangling once the task is gone, with its runtime for instance.
    alive: Weak<()>,
}

/// What a caller has to do.
enum Step<T: Value, E: Failure> {
    Done(Result<Served<T>, E>),
    Wait(Ticket<T, E>),
    /// Nobody has driven the flight for longer than a load may take: end it, then look again.
    Overdue(Carried<T, E>),
}

type Carried<T, E> = Arc<Flight<Outcome<T, E>>>;

struct Ticket<T: Value, E: Failure> {
    flight: Carried<T, E>,
    /// How long to wait before the flight counts as abandoned.
    patience: Duration,
    /// It answers what the caller has asked for.
    ours: bool,
    /// The caller has started it.
    launched: bool,
}

/// What is left to be done for a flight once the lock is released.
enum Errand<T: Value, E: Failure> {
    Spawn(Carried<T, E>, Spawner),
    /// There is no runtime to carry it; each caller that is served gives it a poll.
    PassBy(Carried<T, E>),
    Cancel(Carried<T, E>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Fresh,
    Forced,
}

impl<T: Value, E: Failure> RefreshCache<T, E> {
    pub(crate) fn new(policy: RefreshPolicy, clock: Clock, sleep: Option<SharedAsyncSleep>, load: Load<T, E>) -> Self {
        let shared = Shared {
            state: State::default(),
            entry: None,
            flight: None,
            background: None,
            ended: false,
        };
        let (timer, entry, shared) = (Timer::new(sleep), ArcSwapOption::empty(), Mutex::new(shared));
        Self {
            inner: Arc::new(Inner {
                policy,
                clock,
                timer,
                load,
                entry,
                shared,
            }),
        }
    }

    /// Reads the value if it may be served with no further look: one pointer and the wall clock, no lock, no allocation.
    /// `None` says no more than that [`get`](Self::get) has to be asked.
    pub(crate) fn peek<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        let entry = self.inner.entry.load();
        let entry = entry.as_ref()?;
        entry
            .is_fresh(self.inner.clock.wall_millis())
            .then(|| read(&entry.value))
    }

    /// The value: at once if it may be served, else after the load that is in the air or is started now.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the load to the others, and to whoever asks next.
    pub(crate) async fn get(&self) -> Result<Served<T>, E> {
        if let Some(entry) = self.inner.entry.load_full()
            && entry.is_fresh(self.inner.clock.wall_millis())
        {
            return Ok(Served(entry));
        }
        self.inner.obtain(Demand::Fresh).await
    }

    /// A value from a load that was forced, by this call or by one that is still waiting, whatever the one at hand is worth
    /// and whatever failed before.
    ///
    /// # Cancel safety
    /// As for [`get`](Self::get).
    pub(crate) async fn refresh_now(&self) -> Result<Served<T>, E> {
        self.inner.obtain(Demand::Forced).await
    }

    /// If `is_current` recognises the value at hand, the next caller waits for a new one. The old one is kept and serves
    /// if the load fails. `false`: it is another, or was invalidated before.
    pub(crate) fn invalidate(&self, is_current: impl FnOnce(&T) -> bool) -> bool {
        let Some(judged) = self.inner.entry.load_full() else {
            return false;
        };
        // Outside of the lock: it is the caller's code.
        if !is_current(&judged.value) {
            return false;
        }
        let mut shared = lock(&self.inner.shared);
        let now = self.inner.clock.now();
        if !shared.entry.as_ref().is_some_and(|entry| Arc::ptr_eq(entry, &judged)) || !shared.state.invalidate(now) {
            return false;
        }
        judged.close();
        true
    }

    /// Drops the value and the load that is in the air, and answers everybody, those who wait included, with
    /// [`Failure::ended`] from now on.
    pub(crate) fn end(&self) {
        self.inner.end();
    }

    /// The last value, however old. `None` once ended.
    pub(crate) fn current(&self) -> Option<Served<T>> {
        self.inner.entry.load_full().map(Served)
    }
}

impl<T: Value, E: Failure> Inner<T, E> {
    async fn obtain(self: &Arc<Self>, demand: Demand) -> Result<Served<T>, E> {
        let mut may_spawn = true;
        loop {
            let spawner = if may_spawn { Spawner::here() } else { None };
            let ticket = match self.look(demand, spawner.as_ref()) {
                Step::Done(result) => return result,
                Step::Wait(ticket) => ticket,
                Step::Overdue(flight) if flight.cancel() => continue,
                // A poll of the load blocks its thread. Nothing can end it, and a second load must not start.
                Step::Overdue(_) => return Err(E::timed_out(self.policy.load_timeout())),
            };
            match self.wait(&ticket).await {
                Some(End::Landed(outcome)) => {
                    // Whoever waited while the end came must not be served.
                    if lock(&self.shared).ended {
                        return Err(E::ended());
                    }
                    match outcome {
                        Ok(value) if ticket.ours => return Ok(value),
                        Err((_, Some(value))) if demand == Demand::Fresh => return Ok(value),
                        Err((error, _)) if ticket.ours => return Err(error),
                        // It was not forced, and we are to force one.
                        _ => {}
                    }
                }
                // The runtime that was to carry it has dropped it. If that is the one we are on, we do without.
                Some(End::Cancelled) => may_spawn &= !ticket.launched,
                None if ticket.flight.cancel() => {}
                None => return Err(E::timed_out(self.policy.load_timeout())),
            }
        }
    }

    /// `None`: the patience is at its end.
    async fn wait(&self, ticket: &Ticket<T, E>) -> Option<End<Outcome<T, E>>> {
        let wait = ticket.flight.wait();
        let Some(sleep) = self.timer.after(ticket.patience) else {
            return Some(wait.await);
        };
        match select(wait, sleep).await {
            Either::Left((end, _)) => Some(end),
            Either::Right(_) => None,
        }
    }

    fn look(self: &Arc<Self>, demand: Demand, spawner: Option<&Spawner>) -> Step<T, E> {
        if let Some(spawner) = spawner {
            self.keep_warm(spawner);
        }
        let inside = Reentry::is_inside(self.id());
        let now = self.clock.now();
        let mut shared = lock(&self.shared);
        let (step, errand) = shared.decide(self, demand, now, inside, spawner);
        drop(shared);
        // A runtime that is shut down drops the task inside of `spawn`, and with it whatever takes the lock.
        match errand {
            Some(Errand::Spawn(flight, spawner)) => spawner.spawn(Driver::new(flight)),
            Some(Errand::PassBy(flight)) => flight.pass_by(),
            Some(Errand::Cancel(flight)) => drop(flight.cancel()),
            None => {}
        }
        step
    }

    /// The load, from the call of the source to the landing; boxed, and not begun.
    fn flight(self: &Arc<Self>, request: LoadRequest, has_driver: bool) -> Carried<T, E> {
        let (inner, id, timer, timeout) = (
            Arc::downgrade(self),
            self.id(),
            self.timer.clone(),
            self.policy.load_timeout(),
        );
        let load = Arc::clone(&self.load);
        Flight::new(
            Box::pin(async move {
                let call = Box::pin(AssertUnwindSafe(async move { load(request).await }).catch_unwind());
                let mut call = Reentry { id, load: call };
                let result = match timer.after(timeout) {
                    None => Some((&mut call).await),
                    Some(sleep) => match select(&mut call, sleep).await {
                        Either::Left((result, _)) => Some(result),
                        Either::Right(_) => None,
                    },
                };
                // Before the landing: the next load may start with it.
                drop_quietly(call);
                let result = match result {
                    Some(Ok(result)) => result,
                    Some(Err(panic)) => Err(E::panicked(panic_message(panic))),
                    None => Err(E::timed_out(timeout)),
                };
                match inner.upgrade() {
                    Some(inner) => inner.land(result),
                    None => Err((E::ended(), None)),
                }
            }),
            has_driver,
        )
    }

    fn land(&self, result: Result<Loaded<T>, E>) -> Outcome<T, E> {
        let now = self.clock.now();
        let mut shared = lock(&self.shared);
        if shared.ended {
            return Err((E::ended(), None));
        }
        shared.flight = None;
        let error = match result {
            Err(error) => error,
            Ok(loaded) if shared.state.succeeded(loaded.expires, &self.policy, now) => {
                let entry = Arc::new(Entry {
                    value: loaded.value,
                    fresh_until: AtomicI64::new(i64::MIN),
                });
                if let Verdict::Serve(length) = shared.state.classify(&self.policy, now) {
                    entry.open(now, length);
                }
                let old = shared.entry.replace(Arc::clone(&entry));
                self.entry.store(Some(Arc::clone(&entry)));
                drop(shared);
                drop(old);
                return Ok(Served(entry));
            }
            Ok(_) => E::expired_on_arrival(),
        };
        let serves = shared.state.failed(&error, &self.policy, now);
        if let Some(entry) = shared.entry.as_ref().filter(|_| !serves) {
            entry.close();
        }
        let fallback = shared.entry.clone().filter(|_| serves).map(Served);
        Err((error, fallback))
    }

    fn end(&self) {
        let mut shared = lock(&self.shared);
        shared.ended = true;
        shared.state = State::default();
        let (entry, flight, background) = (shared.entry.take(), shared.flight.take(), shared.background.take());
        if let Some(entry) = &entry {
            entry.close();
        }
        self.entry.store(None);
        drop(shared);
        if let Some(background) = background {
            background.task.abort();
        }
        if let Some(InFlight { flight, .. }) = flight {
            flight.end_with(Err((E::ended(), None)));
        }
    }

    /// Starts the background task if the policy has one and it is not running.
    fn keep_warm(self: &Arc<Self>, spawner: &Spawner) {
        if !self.policy.background() {
            return;
        }
        let mut shared = lock(&self.shared);
        if shared.ended
            || shared
                .background
                .as_ref()
                .is_some_and(|task| task.alive.strong_count() > 0)
        {
            return;
        }
        let alive = Arc::new(());
        let inner = Arc::downgrade(self);
        let (mark, timer) = (Arc::downgrade(&alive), self.timer.clone());
        let (task, handle) = abortable(async move {
            // A load that is dropped with its runtime takes this along, and another task can be started.
            let _alive = alive;
            while let Some(step) = inner.upgrade().and_then(|inner| inner.tend()) {
                let Some(sleep) = timer.after(step) else { return };
                sleep.await;
            }
        });
        shared.background = Some(Background {
            task: handle,
            alive: mark,
        });
        drop(shared);
        spawner.spawn(task.map(drop));
    }

    /// Starts the refresh that is due, if any, and says when to look again. `None`: never.
    fn tend(self: &Arc<Self>) -> Option<Duration> {
        let now = self.clock.now();
        let shared = lock(&self.shared);
        if shared.ended {
            return None;
        }
        let (due, verdict) = (
            shared.state.is_due_unasked(&self.policy, now),
            shared.state.classify(&self.policy, now),
        );
        drop(shared);
        if due && let Step::Overdue(flight) = self.look(Demand::Fresh, Spawner::here().as_ref()) {
            flight.cancel();
        }
        Some(match verdict {
            Verdict::Serve(length) if !length.is_zero() => length.min(BACKGROUND_STEP),
            _ => BACKGROUND_STEP,
        })
    }

    /// Tells this cache from others on the same thread, as long as it lives.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T: Value, E: Failure> Drop for Inner<T, E> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T: Value, E: Failure> Shared<T, E> {
    fn decide(
        &mut self,
        inner: &Arc<Inner<T, E>>,
        demand: Demand,
        now: Now,
        inside: bool,
        spawner: Option<&Spawner>,
    ) -> (Step<T, E>, Option<Errand<T, E>>) {
        if self.ended {
            return (Step::Done(Err(E::ended())), None);
        }
        if self.flight.as_ref().is_some_and(|current| current.flight.is_over()) {
            self.flight = None;
        }
        let reason = match (demand, self.state.classify(&inner.policy, now)) {
            (Demand::Forced, _) => Reason::Forced,
            (Demand::Fresh, Verdict::Fail(error)) => return (Step::Done(Err(error)), None),
            (Demand::Fresh, Verdict::Mandatory(reason)) => reason,
            (Demand::Fresh, Verdict::Serve(length)) => match self.serve(now, length) {
                Some(step) => return (step, None),
                None => Reason::FirstUse,
            },
            (Demand::Fresh, Verdict::Advisory(length)) => {
                let errand = self.advisory(inner, now, spawner);
                // A flight that callers drive has to be passed by each of them.
                let length = if matches!(errand, Some(Errand::PassBy(_))) {
                    Duration::ZERO
                } else {
                    length
                };
                match self.serve(now, length) {
                    Some(step) => return (step, errand),
                    None => Reason::FirstUse,
                }
            }
        };
        if inside {
            return (Step::Done(Err(E::reentered())), None);
        }
        match &self.flight {
            Some(current) if current.is_overdue(&inner.policy, now) => {
                (Step::Overdue(Arc::clone(&current.flight)), None)
            }
            Some(current) => (Step::Wait(current.ticket(&inner.policy, demand, now, false)), None),
            None => {
                let (current, errand) = self.start(inner, reason, now, spawner);
                (Step::Wait(current.ticket(&inner.policy, demand, now, true)), errand)
            }
        }
    }

    /// The value, good for `length` without another look.
    fn serve(&self, now: Now, length: Duration) -> Option<Step<T, E>> {
        let entry = self.entry.as_ref()?;
        entry.open(now, length);
        Some(Step::Done(Ok(Served(Arc::clone(entry)))))
    }

    /// Sees to it that a refresh is under way.
    fn advisory(&mut self, inner: &Arc<Inner<T, E>>, now: Now, spawner: Option<&Spawner>) -> Option<Errand<T, E>> {
        match &self.flight {
            None => self.start(inner, Reason::Expiring, now, spawner).1,
            Some(current) if current.is_overdue(&inner.policy, now) => {
                Some(Errand::Cancel(Arc::clone(&current.flight)))
            }
            Some(current) if current.flight.is_driven_by_callers() => Some(Errand::PassBy(Arc::clone(&current.flight))),
            Some(_) => None,
        }
    }

    /// Reserves a flight. It is set going by the errand.
    fn start(
        &mut self,
        inner: &Arc<Inner<T, E>>,
        reason: Reason,
        now: Now,
        spawner: Option<&Spawner>,
    ) -> (&InFlight<T, E>, Option<Errand<T, E>>) {
        let request = LoadRequest {
            reason,
            attempt: self.state.next_attempt(),
        };
        let flight = inner.flight(request, spawner.is_some());
        let errand = match spawner {
            Some(spawner) => Errand::Spawn(Arc::clone(&flight), spawner.clone()),
            None => Errand::PassBy(Arc::clone(&flight)),
        };
        (
            self.flight.insert(InFlight {
                flight,
                started: now,
                reason,
            }),
            Some(errand),
        )
    }
}

impl<T: Value, E: Failure> InFlight<T, E> {
    /// A driven load ends within its own timeout; this one has had a tenth more.
    fn is_overdue(&self, policy: &RefreshPolicy, now: Now) -> bool {
        self.patience(policy, now).is_zero()
    }

    fn patience(&self, policy: &RefreshPolicy, now: Now) -> Duration {
        let timeout = policy.load_timeout();
        timeout
            .saturating_add(timeout / 10)
            .saturating_sub(now.since(self.started))
    }

    fn ticket(&self, policy: &RefreshPolicy, demand: Demand, now: Now, launched: bool) -> Ticket<T, E> {
        Ticket {
            flight: Arc::clone(&self.flight),
            patience: self.patience(policy, now),
            ours: demand == Demand::Fresh || self.reason == Reason::Forced,
            launched,
        }
    }
}

impl<T> Entry<T> {
    fn is_fresh(&self, wall: i64) -> bool {
        let until = self.fresh_until.load(Ordering::Acquire);
        wall < until && until.saturating_sub(LOOK_EVERY_MILLIS) <= wall
    }

    fn open(&self, now: Now, length: Duration) {
        let length = i64::try_from(length.as_millis())
            .unwrap_or(i64::MAX)
            .min(LOOK_EVERY_MILLIS);
        self.fresh_until
            .store(now.wall_millis().saturating_add(length), Ordering::Release);
    }

    fn close(&self) {
        self.fresh_until.store(i64::MIN, Ordering::Release);
    }
}

impl<T: Value, E: Failure> Clone for RefreshCache<T, E> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T: Value, E: Failure> fmt::Debug for RefreshCache<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshCache")
            .field("policy", &self.inner.policy)
            .finish_non_exhaustive()
    }
}

impl<T> Clone for Served<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Served<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

/// The value is most likely a secret.
impl<T> fmt::Debug for Served<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
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

#[cfg(test)]
mod tests;
