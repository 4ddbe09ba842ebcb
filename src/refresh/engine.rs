//! Joins the pure parts to clock, lock and runtime.
//!
//! There is one lock, for `Shared`; nothing of the user's runs under it, and no flight is spawned, cancelled or polled.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};

use super::background::Background;
use super::carrier::{Reentry, Spawner};
use super::flight::{Driver, End, Flight, drop_quietly};
use super::policy::RefreshPolicy;
use super::state::{Reason, State, Verdict};
use super::sync::{AtomicI64, Mutex, Slot, lock};
use super::{Entry, Failure, Load, LoadRequest, Loaded, Outlook, Served, Value};
use crate::clock::{Clock, Now, Timer};

/// What those who wait for a flight get: the value, or the error together with the value that may be served nevertheless.
pub(super) type Outcome<T, E> = Result<Served<T>, (E, Option<Served<T>>)>;

/// What caches can have in common.
pub(crate) struct Setup {
    pub(super) policy: RefreshPolicy,
    pub(super) clock: Clock,
    pub(super) timer: Timer,
}

pub(super) struct Inner<T: Value, E: Failure> {
    setup: Arc<Setup>,
    load: Load<T, E>,
    /// Replaced under the lock, read without.
    pub(super) entry: Slot<Entry<T>>,
    pub(super) shared: Mutex<Shared<T, E>>,
}

pub(super) struct Shared<T: Value, E: Failure> {
    pub(super) state: State<E>,
    // What most caches do not have at most times is boxed: a process may keep a cache for each of 100,000 users.
    flight: Option<Box<InFlight<T, E>>>,
    pub(super) background: Option<Box<Background>>,
    /// When a caller asked last, by the wall clock in milliseconds. Hits are not seen, but each is good for a few seconds only.
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
    Done(Result<Served<T>, E>),
    Wait(Ticket<T, E>),
    /// Nobody has driven the flight for longer than a load may take: end it, then look again.
    Overdue(Carried<T, E>),
}

pub(super) type Carried<T, E> = Arc<Flight<Outcome<T, E>>>;

pub(super) struct Ticket<T: Value, E: Failure> {
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

/// What a caller asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// A value that may be served, wherever it comes from.
    Fresh,
    /// A value from a load that was forced.
    Forced,
}

impl<T: Value, E: Failure> Inner<T, E> {
    pub(super) fn new(setup: Arc<Setup>, load: Load<T, E>) -> Self {
        let shared = Shared {
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

    pub(super) async fn obtain(self: &Arc<Self>, demand: Demand) -> Result<Served<T>, E> {
        let mut may_spawn = true;
        loop {
            let spawner = if may_spawn { Spawner::here() } else { None };
            let ticket = match self.look(demand, spawner.as_ref()) {
                Step::Done(result) => return result,
                Step::Wait(ticket) => ticket,
                Step::Overdue(flight) if self.give_up(&flight).await => continue,
                Step::Overdue(_) => return Err(E::timed_out(self.policy.load_timeout())),
            };
            match self.wait(&ticket.flight, ticket.patience).await {
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
                // A takeover is for a flight of somebody else's, whose runtime may be gone. Ours has had its time; starting
                // over would never end where sleeps take no time.
                None if self.give_up(&ticket.flight).await && !ticket.launched => {}
                None => return Err(E::timed_out(self.policy.load_timeout())),
            }
        }
    }

    /// `None`: the patience is at its end.
    async fn wait(&self, flight: &Carried<T, E>, patience: Duration) -> Option<End<Outcome<T, E>>> {
        let wait = flight.wait();
        let Some(sleep) = self.timer.after(patience) else {
            return Some(wait.await);
        };
        match select(wait, sleep).await {
            Either::Left((end, _)) => Some(end),
            Either::Right(_) => None,
        }
    }

    /// Ends a flight that nobody drives. `false`: a poll of its load blocks its thread; nothing can end that, and a second
    /// load must not start beside it.
    async fn give_up(&self, flight: &Carried<T, E>) -> bool {
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
            self.keep_warm(spawner);
        }
        let (step, errand) = self.decide(demand, spawner);
        // Outside of the lock: a runtime that is shut down drops the task, and with it the load, inside of `spawn`.
        match errand {
            Some(Errand::Spawn(flight, spawner)) => spawner.spawn(Driver::new(flight)),
            Some(Errand::PassBy(flight)) => {
                flight.pass_by();
                if flight.is_over() && matches!(step, Step::Done(_)) {
                    // What it brought home is for this caller, too. Another flight that is due is driven by the next.
                    return self.decide(demand, None).0;
                }
            }
            Some(Errand::Cancel(flight)) => drop(flight.cancel()),
            None => {}
        }
        step
    }

    fn decide(self: &Arc<Self>, demand: Demand, spawner: Option<&Spawner>) -> (Step<T, E>, Option<Errand<T, E>>) {
        let inside = Reentry::is_inside(self.id());
        let now = self.clock.now();
        let mut shared = lock(&self.shared);
        shared.asked = now.wall_millis();
        shared.decide(self, demand, now, inside, spawner)
    }

    /// Starts a refresh that no caller has asked for, unless one is in the air, a failed one is being paused for, or there is no
    /// value or no runtime.
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(super) fn refresh_ahead(self: &Arc<Self>) -> bool {
        let Some(spawner) = Spawner::here() else { return false };
        let now = self.clock.now();
        let mut shared = lock(&self.shared);
        let may = !shared.ended && shared.flight.is_none() && shared.state.may_be_refreshed(now);
        let errand = may.then(|| shared.start(self, Reason::Expiring, now, Some(&spawner)).1);
        drop(shared);
        // Outside of the lock, as for those who look.
        if let Some(Some(Errand::Spawn(flight, spawner))) = errand {
            spawner.spawn(Driver::new(flight));
        }
        may
    }

    pub(super) fn outlook(&self) -> Outlook {
        let now = self.clock.now();
        let shared = lock(&self.shared);
        Outlook {
            asked: shared.asked,
            life: shared.state.life(now),
        }
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
                let call = Box::pin(AssertUnwindSafe(async move { load.load(request).await }).catch_unwind());
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
                let old = self.entry.swap(Some(Arc::clone(&entry)));
                if let Some(old) = &old {
                    old.close();
                }
                drop(shared);
                drop(old);
                return Ok(Served(entry));
            }
            Ok(_) => E::expired_on_arrival(),
        };
        let serves = shared.state.failed(&error, &self.policy, now);
        let entry = self.entry.load();
        if let Some(entry) = entry.as_ref().filter(|_| !serves) {
            entry.close();
        }
        drop(shared);
        // It runs outside of what is caught of the load.
        drop(catch_unwind(AssertUnwindSafe(|| self.load.failed(&error))));
        Err((error, entry.filter(|_| serves).map(Served)))
    }

    /// `judged` was found wanting. `false`: it is not the value at hand, or was invalidated before.
    pub(super) fn invalidate(&self, judged: &Arc<Entry<T>>) -> bool {
        let mut shared = lock(&self.shared);
        let is_current = self.entry.holds(judged);
        let invalidated = is_current && shared.state.invalidate(self.clock.now());
        if invalidated {
            judged.close();
        }
        invalidated
    }

    /// The value, good for `length` without another look. Under the lock.
    fn serve(&self, now: Now, length: Duration) -> Option<Step<T, E>> {
        let entry = self.entry.load()?;
        entry.open(now, length);
        Some(Step::Done(Ok(Served(entry))))
    }

    pub(super) fn end(&self) {
        let mut shared = lock(&self.shared);
        shared.ended = true;
        shared.state = State::default();
        let (flight, background) = (shared.flight.take(), shared.background.take());
        let entry = self.entry.swap(None);
        if let Some(entry) = &entry {
            entry.close();
        }
        drop(shared);
        drop(entry);
        if let Some(background) = background {
            background.abort();
        }
        if let Some(current) = flight {
            current.flight.end_with(Err((E::ended(), None)));
        }
    }

    /// Tells this cache from others on the same thread, as long as it lives.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T: Value, E: Failure> Deref for Inner<T, E> {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.setup
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
            (Demand::Fresh, Verdict::Serve(length)) => match inner.serve(now, length) {
                Some(step) => return (step, None),
                None => Reason::FirstUse,
            },
            (Demand::Fresh, Verdict::Advisory(length)) => {
                let errand = self.advisory(inner, now, spawner);
                let length = match errand {
                    None | Some(Errand::Spawn(..)) => length,
                    // A flight that callers drive has to be passed by each of them.
                    Some(Errand::PassBy(_) | Errand::Cancel(_)) => Duration::ZERO,
                };
                match inner.serve(now, length) {
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
            self.flight.insert(Box::new(InFlight {
                flight,
                started: now,
                reason,
            })),
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

fn panic_message(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or_else(|| "no message".to_owned(), |text| (*text).to_owned()),
    }
}
