//! One load that many wait for (a single flight). It outlives its callers, and is driven by a task of its own or, where there
//! is none, by those who wait.
//!
//! The load is kept in the flight, not in the task, so that a caller who finds the task's runtime gone or no longer driven can
//! end the load before it starts another. The list of wakers is our own, so that the model checker sees all of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;

use super::sync::{Mutex, lock};

pub(super) struct Flight<O> {
    state: Mutex<FlightState<O>>,
}

struct FlightState<O> {
    load: Load<O>,
    end: Option<End<O>>,
    driven_by: DrivenBy,
    waiters: BTreeMap<u64, Waker>,
    next_waiter: u64,
}

enum Load<O> {
    Idle(BoxFuture<'static, O>),
    /// Somebody is polling or dropping it, outside of the lock.
    Polling {
        /// It was woken meanwhile.
        woken: bool,
        /// It is to be dropped instead of put back.
        cancelled: bool,
    },
    Gone,
}

/// Who polls the load.
enum DrivenBy {
    /// Those who wait, and callers in passing.
    Callers,
    /// A [`Driver`]; its waker, once it has been polled.
    Task(Option<Waker>),
}

/// How a flight ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End<O> {
    Done(O),
    /// The load was dropped unfinished; whoever waited may start another.
    Cancelled,
}

impl<O: Clone + Send + 'static> Flight<O> {
    /// A flight whose load is polled by a [`Driver`], which the caller has to spawn, or else by its callers. Nothing runs
    /// before the first poll.
    pub(super) fn new(load: BoxFuture<'static, O>, has_driver: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(FlightState {
                load: Load::Idle(load),
                end: None,
                driven_by: if has_driver {
                    DrivenBy::Task(None)
                } else {
                    DrivenBy::Callers
                },
                waiters: BTreeMap::new(),
                next_waiter: 0,
            }),
        })
    }

    pub(super) fn is_over(&self) -> bool {
        lock(&self.state).end.is_some()
    }

    pub(super) fn is_driven_by_callers(&self) -> bool {
        matches!(lock(&self.state).driven_by, DrivenBy::Callers)
    }

    /// Waits for the end.
    ///
    /// # Cancel safety
    /// Dropping it leaves the flight to the others.
    pub(super) fn wait(self: &Arc<Self>) -> Wait<'_, O> {
        Wait {
            flight: self,
            key: None,
        }
    }

    /// Gives a load that its callers drive one poll, for the benefit of others.
    pub(super) fn poll_once(self: &Arc<Self>) {
        if self.is_driven_by_callers() {
            self.poll_load_for_waiters();
        }
    }

    /// Drops the load and tells all who wait. `false`: it is being polled at this moment (by a poll that blocks, most
    /// likely), and ends as soon as that returns.
    pub(super) fn cancel(&self) -> bool {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut state.load, Load::Gone) {
            Load::Gone => true,
            Load::Polling { woken, .. } => {
                state.load = Load::Polling { woken, cancelled: true };
                false
            }
            Load::Idle(load) => {
                state.load = Load::Polling {
                    woken: false,
                    cancelled: true,
                };
                drop(state);
                // First the end of this load, then the news: two are never alive at once.
                drop_quietly(load);
                self.finish(End::Cancelled);
                true
            }
        }
    }

    /// Ends the flight with an outcome of the caller's, at once, even if its load is being polled at this moment.
    pub(super) fn end_with(&self, outcome: O) {
        let mut outcome = Some(outcome);
        let mut state = lock(&self.state);
        if state.end.is_none() {
            state.end = outcome.take().map(End::Done);
        }
        let wakers = state.take_wakers();
        drop(state);
        wake_all(wakers);
        self.cancel();
    }

    fn finish(&self, end: End<O>) {
        let mut end = Some(end);
        let mut state = lock(&self.state);
        state.load = Load::Gone;
        if state.end.is_none() {
            state.end = end.take();
        }
        let wakers = state.take_wakers();
        drop(state);
        wake_all(wakers);
        drop_quietly(end);
    }

    fn poll_load_for_waiters(self: &Arc<Self>) {
        let waker = Waker::from(Arc::new(LoadWaker(Arc::downgrade(self))));
        self.poll_load(&mut Context::from_waker(&waker));
    }

    /// Polls the load once, unless somebody is at it.
    fn poll_load(&self, cx: &mut Context<'_>) {
        let mut state = lock(&self.state);
        let load = match std::mem::replace(
            &mut state.load,
            Load::Polling {
                woken: false,
                cancelled: false,
            },
        ) {
            Load::Idle(load) => load,
            other => {
                state.load = other;
                return;
            }
        };
        drop(state);
        let mut turn = PollGuard {
            flight: self,
            load: Some(load),
        };
        let Some(load) = &mut turn.load else { return };
        if let Poll::Ready(outcome) = load.as_mut().poll(cx) {
            drop_quietly(turn.load.take());
            self.finish(End::Done(outcome));
        }
    }

    /// Puts a load that is not done back into its place, or drops it if the flight was cancelled meanwhile.
    fn put_back(&self, load: BoxFuture<'static, O>) {
        let mut state = lock(&self.state);
        match state.load {
            Load::Polling { cancelled: true, .. } | Load::Gone => {
                drop(state);
                drop_quietly(load);
                self.finish(End::Cancelled);
            }
            Load::Polling { woken, .. } => {
                state.load = Load::Idle(load);
                // Those who were woken during the poll found nothing to poll; they have to look again.
                let wakers = if woken { state.take_wakers() } else { Vec::new() };
                drop(state);
                wake_all(wakers);
            }
            Load::Idle(_) => {}
        }
    }

    fn load_woken(&self) {
        let mut state = lock(&self.state);
        if let Load::Polling { woken, .. } = &mut state.load {
            *woken = true;
        }
        let wakers = state.take_wakers();
        drop(state);
        wake_all(wakers);
    }
}

impl<O> FlightState<O> {
    fn take_wakers(&mut self) -> Vec<Waker> {
        let driver = match &mut self.driven_by {
            DrivenBy::Task(waker) => waker.take(),
            DrivenBy::Callers => None,
        };
        driver
            .into_iter()
            .chain(std::mem::take(&mut self.waiters).into_values())
            .collect()
    }
}

/// One poll of the load. Should the poll itself panic (the load catches those of its source), the flight is cancelled.
struct PollGuard<'a, O: Clone + Send + 'static> {
    flight: &'a Flight<O>,
    load: Option<BoxFuture<'static, O>>,
}

impl<O: Clone + Send + 'static> Drop for PollGuard<'_, O> {
    fn drop(&mut self) {
        let Some(load) = self.load.take() else { return };
        if std::thread::panicking() {
            drop_quietly(load);
            self.flight.finish(End::Cancelled);
        } else {
            self.flight.put_back(load);
        }
    }
}

/// Wakes those who wait for a flight that its callers drive. Weak: the load holds it in turn.
struct LoadWaker<O>(Weak<Flight<O>>);

impl<O: Clone + Send + 'static> Wake for LoadWaker<O> {
    fn wake(self: Arc<Self>) {
        if let Some(flight) = self.0.upgrade() {
            flight.load_woken();
        }
    }
}

/// A caller's wait for the end of a flight.
pub(super) struct Wait<'a, O: Clone + Send + 'static> {
    flight: &'a Arc<Flight<O>>,
    key: Option<u64>,
}

impl<O: Clone + Send + 'static> Future for Wait<'_, O> {
    type Output = End<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End<O>> {
        // A waker's clone is its owner's code.
        let waker = cx.waker().clone();
        let mut state = lock(&self.flight.state);
        if let Some(end) = &state.end {
            return Poll::Ready(end.clone());
        }
        let key = self.key.unwrap_or(state.next_waiter);
        if self.key.is_none() {
            state.next_waiter = key.wrapping_add(1);
            self.key = Some(key);
        }
        let before = state.waiters.insert(key, waker);
        let has_driver = matches!(state.driven_by, DrivenBy::Task(_));
        drop(state);
        drop(before);
        if has_driver {
            return Poll::Pending;
        }
        self.flight.poll_load_for_waiters();
        lock(&self.flight.state).end.clone().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<O: Clone + Send + 'static> Drop for Wait<'_, O> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        // A wake-up of the load that was meant for this caller has reached all the others, too. The waker may be the last
        // that keeps a task: it is dropped after the lock.
        let waker = lock(&self.flight.state).waiters.remove(&key);
        drop_quietly(waker);
    }
}

/// Carries a flight as a task. If its runtime drops it unfinished, the flight is cancelled: what the load was waiting for
/// belonged to that runtime.
pub(super) struct Driver<O: Clone + Send + 'static>(Arc<Flight<O>>);

impl<O: Clone + Send + 'static> Driver<O> {
    pub(super) fn new(flight: Arc<Flight<O>>) -> Self {
        Self(flight)
    }
}

impl<O: Clone + Send + 'static> Future for Driver<O> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = lock(&self.0.state);
        if state.end.is_some() {
            return Poll::Ready(());
        }
        // Kept so that a flight that is ended by others does not leave this task behind for good.
        let before = std::mem::replace(&mut state.driven_by, DrivenBy::Task(Some(waker)));
        drop(state);
        drop(before);
        self.0.poll_load(cx);
        if self.0.is_over() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<O: Clone + Send + 'static> Drop for Driver<O> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Wakes each of them, whatever the others do: a waker is its owner's code, and may panic.
fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        quietly(|| waker.wake());
    }
}

/// Drops what may hold a value of the owner's, whose destructor may panic.
pub(super) fn drop_quietly<T>(value: T) {
    quietly(|| drop(value));
}

/// Runs code of the owner's that must not take with it what comes after it.
pub(super) fn quietly(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        // What was panicked with is the owner's, too. One whose destructor panics again is leaked.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
    }
}
