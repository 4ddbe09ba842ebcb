//! What the owner's code may do without harm to others: wakers, destructors and time sources that call back or panic.
//!
//! Each runs in a thread of its own, with a deadline: a lock that is held while such code runs shows as a hang.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::kit::{Fault, Hand, Stage, Time, value};
use crate::clock::Clock;
use crate::refresh::flight::{Driver, End, Flight};
use crate::refresh::{Cached, Load, Loaded, RefreshCache, RefreshPolicy, load_fn};

fn within_a_minute(run: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        run();
        done.send(()).unwrap();
    });
    match is_done.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("in a waker");
    }
}

fn poll_with<F: Future + ?Sized>(future: &mut Pin<Box<F>>, waker: &Waker) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_from_being_woken() {
    type Ends = fn(&Stage);
    let ends: [(Ends, Result<u64, Fault>); 2] = [
        (|stage| stage.cache.end(), Err(Fault::Ended)),
        (|stage| assert!(stage.source.answer(stage.good(7, 3600))), Ok(7)),
    ];
    for (end, outcome) in ends {
        let stage = Stage::new();
        let mut panics = Box::pin(stage.cache.get());
        assert!(poll_with(&mut panics, &Waker::from(Arc::new(Panics))).is_pending());
        let mut callers: Vec<_> = (0..3).map(|_| Hand::waiting(stage.cache.get())).collect();
        end(&stage);
        for caller in &mut callers {
            assert_eq!(caller.poll_if_woken().map(value), Some(outcome.clone()));
        }
    }
}

/// An executor that polls its task inside of `wake`.
struct Inline<T> {
    task: Mutex<Option<BoxFuture<'static, T>>>,
    got: mpsc::Sender<T>,
}

impl<T: Send + 'static> Inline<T> {
    fn run(task: impl Future<Output = T> + Send + 'static, got: &mpsc::Sender<T>) {
        let task = Mutex::new(Some(task.boxed()));
        Waker::from(Arc::new(Self { task, got: got.clone() })).wake();
    }
}

impl<T: Send + 'static> Wake for Inline<T> {
    fn wake(self: Arc<Self>) {
        // Taken out meanwhile: a task that is woken while it is polled is not polled again inside of that.
        let Some(mut task) = self.task.lock().unwrap().take() else {
            return;
        };
        match poll_with(&mut task, &Waker::from(Arc::clone(&self))) {
            Poll::Ready(answer) => self.got.send(answer).unwrap(),
            Poll::Pending => *self.task.lock().unwrap() = Some(task),
        }
    }
}

#[test]
fn a_waker_may_run_its_task_at_once() {
    within_a_minute(|| {
        for ends in [true, false] {
            let stage = Stage::new();
            let (got, has_got) = mpsc::channel();
            for _ in 0..3 {
                let cache = stage.cache.clone();
                let task = async move {
                    let first = cache.get().await;
                    // And asks again, and has itself told of the next.
                    drop(cache.get().await);
                    first
                };
                Inline::run(task, &got);
            }
            if ends {
                stage.cache.end();
            } else {
                assert!(stage.source.answer(stage.good(7, 3600)));
            }
            let expected = if ends { Err(Fault::Ended) } else { Ok(7) };
            for _ in 0..3 {
                assert_eq!(
                    value(has_got.try_recv().expect("woken, and polled inside of it")),
                    expected
                );
            }
        }
    });
}

#[test]
fn a_waker_may_run_its_task_at_once_when_a_task_drives_the_load() {
    within_a_minute(|| {
        let (answer, load) = tokio::sync::oneshot::channel();
        let flight = Flight::new(load.map(|answer| answer.unwrap_or(0)).boxed(), true);
        let (got, has_got) = mpsc::channel();
        for _ in 0..3 {
            let flight = Arc::clone(&flight);
            Inline::run(async move { matches!(flight.wait().await, End::Done(7)) }, &got);
        }
        let mut driver = Hand::new(Driver::new(flight));
        assert!(driver.poll().is_none());
        answer.send(7).unwrap();
        assert!(driver.poll_if_woken().is_some());
        for _ in 0..3 {
            assert!(has_got.try_recv().expect("woken, and polled inside of it"));
        }
    });
}

type Own = Arc<OnceLock<RefreshCache<Clingy, Fault>>>;

/// A value that uses its cache when it is dropped, and panics.
struct Clingy {
    number: u64,
    own: Own,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Clingy {
    fn drop(&mut self) {
        if let Some(cache) = self.own.get() {
            let _ = cache.status();
            let _ = cache.peek(|value| value.number);
            let _ = cache.invalidate(|value| value.number == 0);
            drop(Hand::new(cache.get()).poll());
        }
        self.dropped.fetch_add(1, Ordering::SeqCst);
        panic!("in a destructor");
    }
}

#[test]
fn a_value_may_use_its_cache_when_it_is_dropped() {
    within_a_minute(|| {
        let (time, own, dropped) = (Time::new(), Own::default(), Arc::<AtomicUsize>::default());
        let calls = Arc::new(AtomicUsize::new(0));
        let load: Load<Clingy, Fault> = {
            let (own, dropped, calls) = (Arc::clone(&own), Arc::clone(&dropped), Arc::clone(&calls));
            load_fn(move |_| {
                let value = Clingy {
                    number: calls.fetch_add(1, Ordering::SeqCst) as u64 + 1,
                    own: Arc::clone(&own),
                    dropped: Arc::clone(&dropped),
                };
                Box::pin(std::future::ready(Ok(Loaded { value, expires: None })))
            })
        };
        let cache = RefreshCache::new(RefreshPolicy::default(), time.clock(), Some(time.sleep()), load);
        assert!(own.set(cache.clone()).is_ok());
        let number = |answer: Option<Result<Cached<Clingy>, Fault>>| answer.unwrap().map(|value| value.number);
        // What is returned is not kept: the cache has the last reference to the old one.
        assert_eq!(number(Hand::new(cache.get()).poll()), Ok(1));
        assert_eq!(number(Hand::new(cache.refresh_now()).poll()), Ok(2));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert_eq!(cache.peek(|value| value.number), Some(2), "the new one is served");
        cache.end();
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
        assert_eq!(number(Hand::new(cache.get()).poll()), Err(Fault::Ended));
    });
}

/// A time source that asks the cache that it is for.
#[derive(Clone)]
struct Nosy {
    time: Time,
    own: Arc<OnceLock<RefreshCache<u64, Fault>>>,
    asking: Arc<AtomicBool>,
}

impl std::fmt::Debug for Nosy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nosy")
    }
}

impl TimeSource for Nosy {
    fn now(&self) -> SystemTime {
        if let Some(cache) = self.own.get()
            && !self.asking.swap(true, Ordering::SeqCst)
        {
            let _ = cache.status();
            drop(Hand::new(cache.get()).poll());
            self.asking.store(false, Ordering::SeqCst);
        }
        self.time.now()
    }
}

#[test]
fn a_time_source_may_use_the_cache() {
    within_a_minute(|| {
        let stage = Stage::new();
        let nosy = Nosy {
            time: stage.time.clone(),
            own: Arc::default(),
            asking: Arc::default(),
        };
        let clock = Clock::new(SharedTimeSource::new(nosy.clone()));
        let cache = RefreshCache::new(
            RefreshPolicy::default(),
            clock,
            Some(stage.time.sleep()),
            stage.source.load(),
        );
        assert!(nosy.own.set(cache.clone()).is_ok());
        let mut caller = Hand::waiting(cache.get());
        assert!(stage.source.answer(stage.good(7, 3600)));
        assert_eq!(caller.poll_if_woken().map(value), Some(Ok(7)));
        assert!(cache.invalidate(|_| true));
        let mut caller = Hand::waiting(cache.get());
        assert!(stage.source.answer(Err(Fault::Passing)));
        assert_eq!(caller.poll_if_woken().map(value), Some(Ok(7)));
        let _ = cache.refresh_ahead();
        cache.end();
    });
}
