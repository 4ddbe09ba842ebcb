//! The handshake of state and flight under a model checker: every interleaving within the bound is tried, and a wake-up
//! that gets lost is a deadlock that loom reports.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::future::block_on;
use loom::sync::Mutex;
use loom::thread;

use super::kit::{Fault, Time, value};
use crate::clock::Clock;
use crate::refresh::flight::{Driver, End, Flight};
use crate::refresh::sync::Slot;
use crate::refresh::{HotValue, Load, Loaded, RefreshCache, RefreshPolicy, load_fn};

/// Explores every interleaving with up to three preemptions (or as many as `LOOM_PREEMPTIONS` says), and says how many there were.
fn explore(name: &str, scenario: impl Fn() + Sync + Send + 'static) {
    let explored = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&explored);
    let mut builder = loom::model::Builder::new();
    let given = std::env::var("LOOM_PREEMPTIONS")
        .ok()
        .and_then(|text| text.parse().ok());
    builder.preemption_bound = Some(given.unwrap_or(3));
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    let explored = explored.load(Ordering::Relaxed);
    println!("{name}: {explored} interleavings");
    assert!(explored > 10, "there was nothing to explore");
}

/// Something that a load waits for and another thread brings about.
#[derive(Clone)]
struct Gate(Arc<Mutex<(bool, Option<Waker>)>>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((false, None))))
    }

    fn open(&self) {
        let waker = {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            gate.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn passed(self) {
        poll_fn(|cx| {
            let mut gate = self.0.lock().unwrap();
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A cache whose loads bring their own number, each once the gate is open; and how many there were, and the most at once.
struct Scene {
    gate: Gate,
    cache: RefreshCache<u64, Fault>,
    calls: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

impl Scene {
    fn new() -> Self {
        Self::counting_from(1)
    }

    fn counting_from(first: u64) -> Self {
        let (gate, time) = (Gate::new(), Time::new());
        let (calls, alive) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (opened, called, living) = (gate.clone(), Arc::clone(&calls), Arc::clone(&alive));
        let load: Load<u64, Fault> = load_fn(move |_| {
            let number = called.fetch_add(1, Ordering::SeqCst) as u64 + first;
            assert_eq!(living.fetch_add(1, Ordering::SeqCst), 0, "two loads are alive at once");
            let (gate, mark) = (opened.clone(), Living(Arc::clone(&living)));
            Box::pin(async move {
                let _mark = mark;
                gate.passed().await;
                Ok(Loaded {
                    value: number,
                    expires: None,
                })
            })
        });
        let cache = RefreshCache::new(RefreshPolicy::default(), time.clock(), None, load);
        Self {
            gate,
            cache,
            calls,
            alive,
        }
    }

    fn caller(&self) -> thread::JoinHandle<Result<u64, Fault>> {
        let cache = self.cache.clone();
        thread::spawn(move || block_on(cache.get()).map(|value| *value))
    }
}

struct Living(Arc<AtomicUsize>);

impl Drop for Living {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Polls once and goes away, as an aborted caller does.
fn abandon<F: Future>(future: F) {
    let mut future = Box::pin(future);
    let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

#[test]
fn two_callers_share_a_load_and_both_return() {
    explore("two callers", || {
        let scene = Scene::new();
        let (one, two) = (scene.caller(), scene.caller());
        scene.gate.open();
        assert_eq!((one.join().unwrap(), two.join().unwrap()), (Ok(1), Ok(1)));
        assert_eq!(scene.calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_caller_that_goes_away_does_not_take_the_wake_up_with_it() {
    explore("an aborted caller", || {
        let scene = Scene::new();
        let stays = scene.caller();
        let cache = scene.cache.clone();
        let leaves = thread::spawn(move || abandon(cache.get()));
        scene.gate.open();
        assert_eq!(stays.join().unwrap(), Ok(1));
        leaves.join().unwrap();
        assert_eq!(scene.calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn the_end_reaches_whoever_waits_and_nothing_is_served_after_it() {
    explore("two callers and the end", || {
        let scene = Scene::new();
        let callers = [scene.caller(), scene.caller()];
        let gate = scene.gate.clone();
        let opens = thread::spawn(move || gate.open());
        scene.cache.end();
        assert_eq!(block_on(scene.cache.get()).map(|value| *value), Err(Fault::Ended));
        assert_eq!(scene.cache.peek(|value| *value), None);
        for caller in callers {
            assert!(matches!(caller.join().unwrap(), Ok(1) | Err(Fault::Ended)));
        }
        opens.join().unwrap();
        assert_eq!(scene.alive.load(Ordering::SeqCst), 0, "the load went with the end");
    });
}

#[test]
fn the_end_wakes_callers_whose_load_never_returns() {
    explore("the end of a load that hangs", || {
        let scene = Scene::new();
        let callers = [scene.caller(), scene.caller()];
        scene.cache.end();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), Err(Fault::Ended));
        }
        assert_eq!(scene.alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_forced_refresh_beside_a_caller_never_makes_two_loads_at_once() {
    explore("a caller and a forced refresh", || {
        let scene = Scene::new();
        scene.gate.open();
        let caller = scene.caller();
        let forced = value(block_on(scene.cache.refresh_now())).unwrap();
        let served = caller.join().unwrap().unwrap();
        assert!(served <= forced, "what was forced is the newest");
    });
}

#[test]
fn an_invalidation_is_seen_by_whoever_asks_after_it() {
    explore("an invalidation", || {
        let scene = Scene::new();
        scene.gate.open();
        assert_eq!(value(block_on(scene.cache.get())), Ok(1));
        let caller = scene.caller();
        assert!(scene.cache.invalidate(|_| true));
        assert_eq!(value(block_on(scene.cache.get())), Ok(2));
        assert!(matches!(caller.join().unwrap(), Ok(1 | 2)));
        assert_eq!(scene.calls.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_caller_who_needs_more_life_shares_the_load_of_one_who_does_not() {
    explore("a caller and one who needs more life", || {
        let scene = Scene::new();
        let caller = scene.caller();
        let cache = scene.cache.clone();
        let needs_more =
            thread::spawn(move || block_on(cache.get_valid_for(Duration::from_secs(86_400))).map(|value| *value));
        scene.gate.open();
        assert_eq!((caller.join().unwrap(), needs_more.join().unwrap()), (Ok(1), Ok(1)));
        assert_eq!(scene.calls.load(Ordering::SeqCst), 1);
    });
}

/// The switch as `client::current_session` does it, step for step, with the parts of this room: the pointer and the hot value change
/// under one lock, the old cache is ended after it.
struct Switching {
    in_force: Slot<Scene>,
    hot: HotValue<u64>,
    lock: Mutex<()>,
    clock: Clock,
}

impl Switching {
    fn new(scene: &Arc<Scene>) -> Arc<Self> {
        Arc::new(Self {
            in_force: Slot::new(Some(Arc::clone(scene))),
            hot: HotValue::empty(),
            lock: Mutex::new(()),
            clock: Time::new().clock(),
        })
    }

    fn serve(&self) -> Result<u64, Fault> {
        let scene = self.in_force.load().unwrap();
        let served = block_on(scene.cache.get());
        if !self.in_force.holds(&scene) {
            return Err(Fault::Ended);
        }
        let served = served?;
        let lock = self.lock.lock().unwrap();
        if self.in_force.holds(&scene) {
            self.hot.put(&served);
        }
        drop(lock);
        Ok(*served)
    }

    fn switch_to(&self, scene: &Arc<Scene>) {
        let lock = self.lock.lock().unwrap();
        let old = self.in_force.swap(Some(Arc::clone(scene)));
        self.hot.clear();
        drop(lock);
        old.unwrap().cache.end();
    }

    fn hit(&self) -> Option<u64> {
        self.hot.read(&self.clock, |value| value.copied())
    }
}

fn scenes() -> [Arc<Scene>; 2] {
    [1, 2].map(|first| Arc::new(Scene::counting_from(first * 100)))
}

#[test]
fn no_hit_after_a_switch_is_of_the_session_before() {
    explore("a switch beside a caller", || {
        let [alice, bob] = scenes();
        alice.gate.open();
        bob.gate.open();
        let switching = Switching::new(&alice);
        let caller = Arc::clone(&switching);
        let caller = thread::spawn(move || caller.serve());
        switching.switch_to(&bob);
        assert_ne!(switching.hit(), Some(100));
        assert!(matches!(caller.join().unwrap(), Ok(100 | 200) | Err(Fault::Ended)));
        assert_ne!(switching.hit(), Some(100));
    });
}

#[test]
fn a_switch_wakes_whoever_waits_for_the_session_before() {
    explore("a switch beside a caller who waits", || {
        let [alice, bob] = scenes();
        bob.gate.open();
        let switching = Switching::new(&alice);
        let caller = Arc::clone(&switching);
        let caller = thread::spawn(move || caller.serve());
        switching.switch_to(&bob);
        // The one who came before has to ask again; one who came after is Bob.
        assert!(matches!(caller.join().unwrap(), Ok(200) | Err(Fault::Ended)));
        assert_eq!(switching.serve(), Ok(200));
        assert_eq!(alice.alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn of_two_switches_one_is_the_last_for_all() {
    explore("two switches beside a caller", || {
        let [alice, bob] = scenes();
        let carol = Arc::new(Scene::counting_from(300));
        bob.gate.open();
        carol.gate.open();
        let switching = Switching::new(&alice);
        let (other, to_bob) = (Arc::clone(&switching), Arc::clone(&bob));
        let other = thread::spawn(move || other.switch_to(&to_bob));
        let caller = Arc::clone(&switching);
        let caller = thread::spawn(move || caller.serve());
        switching.switch_to(&carol);
        other.join().unwrap();
        assert!(matches!(caller.join().unwrap(), Ok(200 | 300) | Err(Fault::Ended)));
        let served = switching.serve().unwrap();
        let last = if switching.in_force.holds(&bob) { 200 } else { 300 };
        assert_eq!((served, switching.hit()), (last, Some(last)));
    });
}

fn gated(gate: &Gate, has_driver: bool) -> Arc<Flight<u32>> {
    let gate = gate.clone();
    Flight::new(
        Box::pin(async move {
            gate.passed().await;
            7
        }),
        has_driver,
    )
}

#[test]
fn a_driven_flight_reaches_those_who_wait() {
    explore("a driver and two who wait", || {
        let gate = Gate::new();
        let flight = gated(&gate, true);
        let driver = Driver::new(Arc::clone(&flight));
        let drives = thread::spawn(move || block_on(driver));
        let waiting = Arc::clone(&flight);
        let waits = thread::spawn(move || block_on(waiting.wait()));
        gate.open();
        assert_eq!(block_on(flight.wait()), End::Done(7));
        assert_eq!(waits.join().unwrap(), End::Done(7));
        drives.join().unwrap();
    });
}

#[test]
fn a_takeover_ends_the_flight_for_all_and_leaves_no_driver_behind() {
    explore("a takeover", || {
        let gate = Gate::new();
        let flight = gated(&gate, true);
        let driver = Driver::new(Arc::clone(&flight));
        let drives = thread::spawn(move || block_on(driver));
        let taking = Arc::clone(&flight);
        let takes = thread::spawn(move || taking.cancel());
        let ended = block_on(flight.wait());
        assert_eq!(ended, End::Cancelled);
        takes.join().unwrap();
        drives.join().unwrap();
        assert!(flight.is_over());
    });
}

#[test]
fn a_driver_that_is_dropped_with_its_runtime_lets_those_who_wait_go_on() {
    explore("a dead runtime", || {
        let gate = Gate::new();
        let flight = gated(&gate, true);
        let mut driver = Box::pin(Driver::new(Arc::clone(&flight)));
        let dies = thread::spawn(move || {
            let _ = driver.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        });
        let waiting = Arc::clone(&flight);
        let waits = thread::spawn(move || block_on(waiting.wait()));
        gate.open();
        let ended = waits.join().unwrap();
        assert!(matches!(ended, End::Done(7) | End::Cancelled));
        dies.join().unwrap();
    });
}
