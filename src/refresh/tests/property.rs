//! The refresh engine against random sequences of everything that can happen to it, with what must hold at every moment.
//!
//! `PROPTEST_CASES=10000 cargo test --all-features --lib refresh::tests::property -- --nocapture` tries more sequences than
//! the 1,000 of a plain `cargo test`, and prints how often each thing happened.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::kit::{Fault, Hand, Time, runtime, turn};
use crate::clock;
use crate::refresh::{Cached, Load, LoadRequest, Loaded, Reason, RefreshCache, RefreshPolicy, load_fn};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Unless `PROPTEST_CASES` says otherwise.
const SEQUENCES: u32 = 1_000;
const DAY: i64 = 24 * 3_600_000;

#[derive(Clone, Debug)]
enum Action {
    /// Time passes.
    Advance(u64),
    /// Time passes until so many thousandths of the mandatory window, or of a fifteen times longer one, are left.
    Approach {
        mandatory: bool,
        thousandths: u32,
    },
    /// The wall clock alone is set.
    SetWall(i64),
    /// A new caller.
    Ask,
    /// A new caller who forces a refresh.
    Force,
    /// Whoever was woken goes on.
    Poll,
    /// A caller who waits goes away.
    Abort(prop::sample::Index),
    /// The load in the air brings a value for so many seconds.
    Succeed(u64),
    Fail,
    FailTerminally,
    SignedOut,
    /// The load in the air is left to its timeout.
    Hang,
    /// The value at hand is rejected.
    Invalidate,
    /// A value long gone is rejected.
    InvalidateStale,
    /// The session ends and another begins.
    Switch,
    /// All handles go, without an end.
    Drop,
    /// The runtime that carries the loads goes, and another takes its place.
    KillRuntime,
}

fn action() -> impl Strategy<Value = Action> {
    let seconds = prop::sample::select(vec![1, 3, 10, 14, 30, 60, 240, 900, 3600]);
    let life = prop::sample::select(vec![0, 1, 20, 120, 900, 3600, 3600, 3600, 43_200]);
    prop_oneof![
        5 => seconds.prop_map(Action::Advance),
        3 => (any::<bool>(), 0..1100u32)
            .prop_map(|(mandatory, thousandths)| Action::Approach { mandatory, thousandths }),
        1 => prop::sample::select(vec![-30 * DAY, 30 * DAY, 120_000]).prop_map(Action::SetWall),
        8 => Just(Action::Ask),
        1 => Just(Action::Force),
        2 => Just(Action::Poll),
        2 => any::<prop::sample::Index>().prop_map(Action::Abort),
        10 => life.prop_map(Action::Succeed),
        3 => Just(Action::Fail),
        1 => Just(Action::FailTerminally),
        1 => Just(Action::SignedOut),
        1 => Just(Action::Hang),
        2 => Just(Action::Invalidate),
        1 => Just(Action::InvalidateStale),
        1 => Just(Action::Switch),
        1 => Just(Action::Drop),
        1 => Just(Action::KillRuntime),
    ]
}

/// A clock that was set back before a pause was cut, and forward after it, once looked like a load inside of the pause.
const SET_AROUND_A_CUT: [Action; 9] = [
    Action::Ask,
    Action::Succeed(3600),
    Action::Force,
    Action::Fail,
    Action::SetWall(-30 * DAY),
    Action::Invalidate,
    Action::SetWall(30 * DAY),
    Action::Ask,
    Action::Succeed(3600),
];

/// What a load told when it began and when it was gone.
#[derive(Clone, Copy, Debug)]
enum Event {
    Began(LoadRequest),
    /// With the value it brought, if any, or with a failure of which kind.
    Gone(Option<Answered>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Value { life: Duration, wall: i64, steady: i64 },
    Passing,
    Terminal,
}

type Answer = Result<Loaded<u64>, Fault>;

#[derive(Default)]
struct Air {
    events: Vec<Event>,
    sender: Option<oneshot::Sender<Answer>>,
    answered: Option<Answered>,
    /// The answer, once the load has had it: one that is dropped before tells the engine nothing.
    told: Option<Answered>,
    alive: usize,
}

struct Alive(Arc<Mutex<Air>>);

impl Drop for Alive {
    fn drop(&mut self) {
        let mut air = self.0.lock().unwrap();
        air.alive -= 1;
        air.sender = None;
        air.answered = None;
        let told = air.told.take();
        air.events.push(Event::Gone(told));
    }
}

fn source(air: &Arc<Mutex<Air>>) -> Load<u64, Fault> {
    let air = Arc::clone(air);
    load_fn(move |request| {
        let (sender, receiver) = oneshot::channel();
        {
            let mut air = air.lock().unwrap();
            air.alive += 1;
            assert_eq!(air.alive, 1, "two loads of one session are alive at once");
            air.events.push(Event::Began(request));
            air.sender = Some(sender);
        }
        let alive = Alive(Arc::clone(&air));
        Box::pin(async move {
            let answer = receiver.await.unwrap_or(Err(Fault::Passing));
            {
                let mut air = alive.0.lock().unwrap();
                air.told = air.answered;
            }
            answer
        })
    })
}

/// What the test itself knows of the value at hand.
#[derive(Clone, Copy, Debug)]
struct Known {
    life: Duration,
    /// Both clocks when it was answered.
    wall: i64,
    steady: i64,
    /// The mandatory window, as the documentation has it.
    mandatory: Duration,
    invalidated: bool,
    withheld: bool,
}

/// A failure that the engine has been told of, and until when, at least, it must not try again.
#[derive(Clone, Copy, Debug)]
struct Pause {
    wall: i64,
    steady: i64,
    length: Duration,
    /// The value serves meanwhile; the pause does not outlive it.
    serves: bool,
}

type Caller = Hand<std::pin::Pin<Box<dyn Future<Output = Result<Cached<u64>, Fault>>>>>;

struct World<'a> {
    time: Time,
    runtime: Option<Runtime>,
    session: u64,
    loads: u64,
    cache: RefreshCache<u64, Fault>,
    air: Arc<Mutex<Air>>,
    callers: Vec<(bool, Caller)>,
    known: Option<Known>,
    pause: Option<Pause>,
    /// Something has ended since the value came: an attempt, perhaps unsuccessful.
    attempted_at: Option<i64>,
    counts: &'a Mutex<BTreeMap<String, u64>>,
}

impl<'a> World<'a> {
    fn new(detached: bool, counts: &'a Mutex<BTreeMap<String, u64>>) -> Self {
        let (time, air) = (Time::new(), Arc::default());
        let cache = new_cache(&time, &air);
        let runtime = detached.then(runtime);
        Self {
            time,
            runtime,
            session: 1,
            loads: 0,
            cache,
            air,
            callers: Vec::new(),
            known: None,
            pause: None,
            attempted_at: None,
            counts,
        }
    }

    fn count(&self, what: &str) {
        *self.counts.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    fn remaining(&self, known: &Known) -> Duration {
        known.life.saturating_sub(self.passed(known.wall, known.steady))
    }

    /// How long ago that was, by the clock that says longest.
    fn passed(&self, wall: i64, steady: i64) -> Duration {
        Duration::from_millis((self.time.wall() - wall).max(self.time.steady() - steady).max(0) as u64)
    }

    fn pause(&self, length: Duration, serves: bool) -> Pause {
        Pause {
            wall: self.time.wall(),
            steady: self.time.steady(),
            length,
            serves,
        }
    }

    fn perform(&mut self, action: &Action) {
        let name = format!("{action:?}");
        self.count(&format!("action {}", name.split(['(', ' ']).next().unwrap_or_default()));
        match action {
            Action::Advance(seconds) => self.advance(Duration::from_secs(*seconds)),
            Action::Approach { mandatory, thousandths } => {
                if let Some(known) = &self.known {
                    let window = if *mandatory {
                        known.mandatory
                    } else {
                        known.mandatory * 15
                    };
                    let left = window / 1000 * *thousandths;
                    self.advance(self.remaining(known).saturating_sub(left));
                }
            }
            Action::SetWall(by) => self.time.set_wall(*by),
            Action::Ask => self.ask(false),
            Action::Force => self.ask(true),
            Action::Poll => {}
            Action::Abort(which) => {
                if !self.callers.is_empty() {
                    let index = which.index(self.callers.len());
                    self.enter(|world| drop(world.callers.swap_remove(index)));
                }
            }
            Action::Succeed(life) => {
                self.loads += 1;
                let value = self.session * 1_000_000 + self.loads;
                let life = Duration::from_secs(*life);
                let expires = clock::Expiry::after(self.time.clock().now(), life);
                let loaded = Loaded {
                    value,
                    expires: Some(expires),
                };
                let (wall, steady) = (self.time.wall(), self.time.steady());
                self.answer(Answered::Value { life, wall, steady }, Ok(loaded));
            }
            Action::Fail => self.answer(Answered::Passing, Err(Fault::Passing)),
            Action::FailTerminally => self.answer(Answered::Terminal, Err(Fault::Terminal)),
            Action::SignedOut => self.answer(Answered::Terminal, Err(Fault::SignedOut)),
            Action::Hang => {
                self.advance(Duration::from_secs(15));
                self.settle();
                self.advance(Duration::from_secs(2));
            }
            Action::Invalidate => {
                if self.cache.invalidate(|_| true) {
                    // A pause that is cut begins anew, on both clocks: the wall clock may have been set since it began.
                    let cut = Duration::from_secs(5);
                    self.pause = self.pause.map(|pause| {
                        let left = pause.length.saturating_sub(self.passed(pause.wall, pause.steady));
                        if left > cut {
                            self.pause(cut, pause.serves)
                        } else {
                            pause
                        }
                    });
                    let known = self.known.as_mut().expect("only a value can be invalidated");
                    assert!(!known.invalidated, "invalidated twice");
                    known.invalidated = true;
                    self.count("the value at hand was invalidated");
                }
            }
            Action::InvalidateStale => assert!(!self.cache.invalidate(|value| *value == 0)),
            Action::Switch => {
                self.cache.end();
                self.settle();
                assert!(self.callers.is_empty(), "the end wakes whoever waits");
                assert_eq!(self.air.lock().unwrap().alive, 0, "the load goes with the session");
                assert_eq!(self.cache.peek(|value| *value), None);
                self.renew();
            }
            Action::Drop => {
                self.callers.clear();
                self.renew();
            }
            Action::KillRuntime => {
                if self.runtime.is_some() {
                    self.runtime = Some(runtime());
                }
            }
        }
        self.settle();
    }

    fn renew(&mut self) {
        self.session += 1;
        let air = Arc::default();
        self.cache = new_cache(&self.time, &air);
        self.air = air;
        (self.known, self.pause, self.attempted_at) = (None, None, None);
    }

    fn advance(&mut self, by: Duration) {
        self.enter(|world| world.time.advance(by));
    }

    fn answer(&mut self, answered: Answered, answer: Answer) {
        let mut air = self.air.lock().unwrap();
        let Some(sender) = air.sender.take() else { return };
        air.answered = Some(answered);
        drop(air);
        assert!(sender.send(answer).is_ok());
    }

    fn ask(&mut self, forced: bool) {
        let cache = self.cache.clone();
        let mut caller: Caller = Hand::new(Box::pin(async move {
            if forced {
                cache.refresh_now().await
            } else {
                cache.get().await
            }
        }));
        let asked = self.enter(|_| caller.poll());
        self.learn();
        match asked {
            Some(outcome) => self.judge(forced, outcome),
            None => {
                if !forced {
                    self.may_wait();
                }
                self.callers.push((forced, caller));
            }
        }
    }

    /// No call waits outside the mandatory window while a usable value exists.
    fn may_wait(&self) {
        let Some(known) = &self.known else {
            return self.count("waited for a first value");
        };
        let remaining = self.remaining(known);
        let must = known.withheld || known.invalidated || remaining <= known.mandatory;
        assert!(must, "a caller waits although the value is good for {remaining:?}");
        self.count(match (known.withheld, known.invalidated, remaining.is_zero()) {
            (true, ..) => "waited after a refusal",
            (_, true, _) => "waited after an invalidation",
            (.., true) => "waited after expiry",
            _ => "waited in the mandatory window",
        });
    }

    fn judge(&self, forced: bool, outcome: Result<Cached<u64>, Fault>) {
        let Ok(value) = outcome else {
            return self.count(if forced { "forced: error" } else { "error" });
        };
        assert_eq!(
            *value / 1_000_000,
            self.session,
            "a value of another session was served"
        );
        let known = self.known.as_ref().expect("a value that was served has been loaded");
        assert!(!known.withheld, "a value was served after a refusal");
        let remaining = self.remaining(known);
        assert!(!remaining.is_zero(), "an expired value was served");
        if known.invalidated || remaining <= known.mandatory {
            assert!(
                self.attempted_at.is_some(),
                "served inside the mandatory window without an attempt"
            );
            self.count("served inside the mandatory window after an attempt");
        } else {
            self.count("served");
        }
    }

    /// Lets everybody who was woken go on, until nothing moves.
    fn settle(&mut self) {
        for _ in 0..4 {
            if let Some(runtime) = &self.runtime {
                turn(runtime);
            }
            self.learn();
            let mut waiting = std::mem::take(&mut self.callers);
            for (forced, mut caller) in waiting.drain(..) {
                let polled = self.enter(|_| caller.poll_if_woken());
                self.learn();
                match polled {
                    Some(outcome) => {
                        self.count(if forced {
                            "answered after a wait: forced"
                        } else {
                            "answered after a wait"
                        });
                        if !matches!(outcome, Err(Fault::Ended)) {
                            self.judge(forced, outcome);
                        }
                    }
                    None => self.callers.push((forced, caller)),
                }
            }
        }
        self.learn();
    }

    fn enter<R>(&mut self, run: impl FnOnce(&mut Self) -> R) -> R {
        let handle = self.runtime.as_ref().map(|runtime| runtime.handle().clone());
        let _guard = handle.as_ref().map(tokio::runtime::Handle::enter);
        run(self)
    }

    /// Takes in what the loads have told.
    fn learn(&mut self) {
        let events = std::mem::take(&mut self.air.lock().unwrap().events);
        for event in events {
            match event {
                Event::Began(request) => self.began(request),
                Event::Gone(answered) => self.gone(answered),
            }
        }
    }

    fn began(&self, request: LoadRequest) {
        self.count(&format!("load {:?}", request.reason));
        let Some(pause) = self.pause.filter(|_| request.reason != Reason::Forced) else {
            return;
        };
        let passed = self.passed(pause.wall, pause.steady);
        let outlived = pause.serves && self.known.is_some_and(|known| self.remaining(&known).is_zero());
        assert!(
            passed >= pause.length || outlived,
            "{request:?} began {passed:?} into a pause of {:?}",
            pause.length
        );
    }

    fn gone(&mut self, answered: Option<Answered>) {
        let now = self.time.steady();
        let value = match answered {
            Some(Answered::Value { life, wall, steady }) => {
                let known = Known {
                    life,
                    wall,
                    steady,
                    mandatory: Duration::ZERO,
                    invalidated: false,
                    withheld: false,
                };
                let remaining = self.remaining(&known);
                let mandatory = Duration::from_secs(60).min(remaining / 8);
                Some(Known { mandatory, ..known }).filter(|_| !remaining.is_zero())
            }
            _ => None,
        };
        if let Some(value) = value {
            self.count("landed: value");
            (self.known, self.pause, self.attempted_at) = (Some(value), None, None);
            return;
        }
        self.attempted_at = Some(now);
        match answered {
            Some(Answered::Terminal) => {
                self.count("landed: refusal");
                if let Some(known) = &mut self.known {
                    known.withheld = true;
                }
                self.pause = Some(self.pause(Duration::from_secs(1), false));
            }
            Some(_) => {
                self.count("landed: passing failure");
                self.pause = self.known.map(|known| {
                    let remaining = self.remaining(&known);
                    let serves = !known.withheld && !remaining.is_zero();
                    let least = Duration::from_secs(1);
                    if serves && !known.invalidated {
                        self.pause(Duration::from_secs(300).min(remaining / 4).max(least), true)
                    } else {
                        self.pause(least, serves)
                    }
                });
            }
            None => self.count("gone: timed out, left or ended"),
        }
    }

    /// Whatever has happened: with a source that works again, callers are served within a minute and some.
    fn recovers(&mut self) {
        for _ in 0..100 {
            self.perform(&Action::Ask);
            self.perform(&Action::Succeed(3600));
            if self.callers.is_empty() && self.cache.peek(|value| *value).is_some() {
                return self.count("recovered");
            }
            self.perform(&Action::Advance(1));
        }
        panic!("the engine is stuck: {:?}, {} callers", self.known, self.callers.len());
    }
}

fn new_cache(time: &Time, air: &Arc<Mutex<Air>>) -> RefreshCache<u64, Fault> {
    RefreshCache::new(
        RefreshPolicy::default().with_random(0.0),
        time.clock(),
        Some(time.sleep()),
        source(air),
    )
}

#[test]
fn whatever_happens_the_promises_hold() {
    let counts = Mutex::new(BTreeMap::new());
    let actions = AtomicU64::new(0);
    let default = Config::default();
    let cases = match std::env::var("PROPTEST_CASES") {
        Ok(_) => default.cases,
        Err(_) => SEQUENCES,
    };
    let config = Config {
        cases,
        failure_persistence: None,
        ..default
    };
    for detached in [false, true] {
        let mut world = World::new(detached, &counts);
        SET_AROUND_A_CUT.iter().for_each(|action| world.perform(action));
        world.recovers();
    }
    let sequences = (any::<bool>(), prop::collection::vec(action(), 20..60));
    let outcome = TestRunner::new(config).run(&sequences, |(detached, sequence)| {
        let mut world = World::new(detached, &counts);
        for action in &sequence {
            world.perform(action);
        }
        world.recovers();
        actions.fetch_add(sequence.len() as u64, Ordering::Relaxed);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let counts = counts.into_inner().unwrap();
    println!("{cases} sequences, {} actions", actions.into_inner());
    for (what, count) in &counts {
        println!("{count:>9}  {what}");
    }
    for what in [
        "load FirstUse",
        "load Expiring",
        "load Invalidated",
        "load Forced",
        "landed: refusal",
        "landed: passing failure",
        "gone: timed out, left or ended",
        "served inside the mandatory window after an attempt",
        "waited in the mandatory window",
        "waited after expiry",
        "waited after a refusal",
        "waited after an invalidation",
    ] {
        assert!(
            counts.get(what).is_some_and(|count| *count > u64::from(cases / 100)),
            "hardly ever happened: {what}"
        );
    }
}
