//! A clock that is set by hand, a source that answers when told, and futures that are polled by hand: nothing here sleeps.
#![cfg_attr(
    not(feature = "rt-tokio"),
    allow(dead_code, reason = "a part of it needs tokio's runtime")
)]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::clock::{Clock, Expiry};
use crate::refresh::{Cached, Failure, Load, LoadRequest, Loaded, Reason, RefreshCache, RefreshPolicy, load_fn};

pub(crate) const START: i64 = 1_800_000_000_000;

/// Wall clock, monotonic clock and sleeps, all moved by the test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Time {
    wall: Arc<AtomicI64>,
    steady: Arc<AtomicI64>,
    sleepers: Arc<Mutex<Vec<(i64, Waker)>>>,
}

impl Time {
    pub(crate) fn new() -> Self {
        let time = Self::default();
        time.wall.store(START, Ordering::SeqCst);
        time
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::told(SharedTimeSource::new(self.clone()), Arc::clone(&self.steady))
    }

    /// The same without a monotonic clock.
    pub(crate) fn wall_clock(&self) -> Clock {
        Clock::new(SharedTimeSource::new(self.clone()))
    }

    /// Milliseconds on the wall clock.
    #[allow(dead_code, reason = "for the property test, which includes this file")]
    pub(crate) fn wall(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    /// Milliseconds on the monotonic clock.
    #[allow(dead_code, reason = "for the property test, which includes this file")]
    pub(crate) fn steady(&self) -> i64 {
        self.steady.load(Ordering::SeqCst)
    }

    pub(crate) fn sleep(&self) -> SharedAsyncSleep {
        SharedAsyncSleep::new(self.clone())
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.set_wall(by.as_millis() as i64);
        let now = self.steady.fetch_add(by.as_millis() as i64, Ordering::SeqCst) + by.as_millis() as i64;
        let mut sleepers = self.sleepers.lock().unwrap();
        let due: Vec<_> = sleepers.extract_if(.., |(at, _)| *at <= now).collect();
        drop(sleepers);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Sets the wall clock forward or back while everything else goes on.
    pub(crate) fn set_wall(&self, by_millis: i64) {
        self.wall.fetch_add(by_millis, Ordering::SeqCst);
    }
}

impl TimeSource for Time {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.wall.load(Ordering::SeqCst).max(0) as u64)
    }
}

impl AsyncSleep for Time {
    fn sleep(&self, duration: Duration) -> Sleep {
        let time = self.clone();
        let at = time
            .steady
            .load(Ordering::SeqCst)
            .saturating_add(duration.as_millis() as i64);
        Sleep::new(std::future::poll_fn(move |cx| {
            if time.steady.load(Ordering::SeqCst) >= at {
                return Poll::Ready(());
            }
            time.sleepers.lock().unwrap().push((at, cx.waker().clone()));
            Poll::Pending
        }))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Passing,
    /// Passing, with a delay that the source asks for.
    Busy(Duration),
    Terminal,
    SignedOut,
    Panicked(String),
    TimedOut(Duration),
    Reentered,
    Ended,
    ExpiredOnArrival,
    TooShort(Duration, Duration),
}

impl Failure for Fault {
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal)
    }

    fn needs_sign_in(&self) -> bool {
        matches!(self, Self::SignedOut)
    }

    fn retry_after(&self) -> Option<Duration> {
        if let Self::Busy(delay) = self {
            Some(*delay)
        } else {
            None
        }
    }

    fn panicked(message: String) -> Self {
        Self::Panicked(message)
    }

    fn timed_out(after: Duration) -> Self {
        Self::TimedOut(after)
    }

    fn reentered() -> Self {
        Self::Reentered
    }

    fn ended() -> Self {
        Self::Ended
    }

    fn expired_on_arrival() -> Self {
        Self::ExpiredOnArrival
    }

    fn too_short(wanted: Duration, given: Duration) -> Self {
        Self::TooShort(wanted, given)
    }
}

type Answer = Result<Loaded<u64>, Fault>;

/// A source whose loads wait until the test answers them.
#[derive(Clone, Default)]
pub(crate) struct Source {
    calls: Arc<Mutex<Vec<LoadRequest>>>,
    open: Arc<Mutex<Vec<oneshot::Sender<Answer>>>>,
    alive: Arc<AtomicUsize>,
    most_alive: Arc<AtomicUsize>,
}

/// Counts the loads that exist.
struct Alive(Source);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Source {
    pub(crate) fn load(&self) -> Load<u64, Fault> {
        let source = self.clone();
        load_fn(move |request| {
            source.calls.lock().unwrap().push(request);
            let (sender, receiver) = oneshot::channel();
            source.open.lock().unwrap().push(sender);
            let now_alive = source.alive.fetch_add(1, Ordering::SeqCst) + 1;
            source.most_alive.fetch_max(now_alive, Ordering::SeqCst);
            let alive = Alive(source.clone());
            Box::pin(async move {
                let _alive = alive;
                receiver.await.unwrap_or(Err(Fault::Passing))
            })
        })
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub(crate) fn last_request(&self) -> LoadRequest {
        *self.calls.lock().unwrap().last().unwrap()
    }

    pub(crate) fn last_reason(&self) -> Reason {
        self.last_request().reason
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// The most loads that were alive at any one time.
    pub(crate) fn most_alive(&self) -> usize {
        self.most_alive.load(Ordering::SeqCst)
    }

    /// Answers the latest load. `false`: it is gone.
    pub(crate) fn answer(&self, answer: Answer) -> bool {
        let sender = self.open.lock().unwrap().pop();
        sender.is_some_and(|sender| sender.send(answer).is_ok())
    }
}

/// A future that is polled by hand.
pub(crate) struct Hand<F: Future> {
    future: Pin<Box<F>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<F: Future> Hand<F> {
    pub(crate) fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            woken: Arc::default(),
        }
    }

    /// A future that has been polled once and waits.
    pub(crate) fn waiting(future: F) -> Self {
        let mut hand = Self::new(future);
        assert!(hand.poll().is_none(), "it had nothing to wait for");
        hand
    }

    pub(crate) fn poll(&mut self) -> Option<F::Output> {
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// Polls as an executor would: only if it was woken.
    pub(crate) fn poll_if_woken(&mut self) -> Option<F::Output> {
        if self.woken.0.swap(0, Ordering::SeqCst) > 0 {
            self.poll()
        } else {
            None
        }
    }
}

/// A cache with everything around it under control. Its jitter is fixed to the shortest of each range.
pub(crate) struct Stage {
    pub(crate) time: Time,
    pub(crate) source: Source,
    pub(crate) cache: RefreshCache<u64, Fault>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(RefreshPolicy::default())
    }

    pub(crate) fn with(policy: RefreshPolicy) -> Self {
        let (time, source) = (Time::new(), Source::default());
        let cache = RefreshCache::new(policy.with_random(0.0), time.clock(), Some(time.sleep()), source.load());
        Self { time, source, cache }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.time.advance(Duration::from_secs(seconds));
    }

    /// What a source answers that has a `value` for the next `seconds`.
    pub(crate) fn good(&self, value: u64, seconds: u64) -> Answer {
        Ok(Loaded {
            value,
            expires: Some(Expiry::after(self.time.clock().now(), Duration::from_secs(seconds))),
        })
    }

    /// Asks, without a runtime, for a value that has to be there.
    pub(crate) fn ask(&self) -> Result<u64, Fault> {
        Hand::new(self.cache.get())
            .poll()
            .expect("a caller had to wait")
            .map(|served| *served)
    }

    /// Asks, waits, and is given `value` for `seconds`.
    pub(crate) fn fill(&self, value: u64, seconds: u64) {
        let answer = self.good(value, seconds);
        assert_eq!(self.ask_while(answer), Ok(value));
    }

    /// The load that is in the air brings `value`, whether callers have to wait for it or pass by.
    pub(crate) fn fill_or_pass(&self, value: u64, seconds: u64) {
        assert!(
            self.source.answer(self.good(value, seconds)),
            "nothing was being loaded"
        );
        assert!(Hand::new(self.cache.get()).poll().is_some());
        assert_eq!(self.ask(), Ok(value));
    }

    /// Asks, waits, and the source gives `answer`.
    pub(crate) fn ask_while(&self, answer: Answer) -> Result<u64, Fault> {
        let mut caller = Hand::waiting(self.cache.get());
        assert!(self.source.answer(answer), "nothing was being loaded");
        caller
            .poll_if_woken()
            .expect("the landing wakes the caller")
            .map(|served| *served)
    }
}

pub(crate) fn value(outcome: Result<Cached<u64>, Fault>) -> Result<u64, Fault> {
    outcome.map(|served| *served)
}

thread_local! {
    /// Who waits until the runtime on this thread has nothing to do, and whether it has nothing to do.
    static IDLE: (RefCell<Option<Waker>>, Cell<bool>) = const { (RefCell::new(None), Cell::new(false)) };
}

/// One thread, driven only while the test says so.
pub(crate) fn runtime() -> Runtime {
    let parks = || {
        IDLE.with(|(waiting, idle)| {
            idle.set(true);
            if let Some(waiting) = waiting.take() {
                waiting.wake();
            }
        });
    };
    tokio::runtime::Builder::new_current_thread()
        .on_thread_park(parks)
        .build()
        .unwrap()
}

/// Drives a [`runtime`] until none of its tasks can go on.
pub(crate) fn turn(runtime: &Runtime) {
    IDLE.with(|(_, idle)| idle.set(false));
    runtime.block_on(std::future::poll_fn(|cx| {
        IDLE.with(|(waiting, idle)| {
            if idle.get() {
                return Poll::Ready(());
            }
            waiting.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
    }));
}
