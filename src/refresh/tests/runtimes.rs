//! With tokio runtimes: detached loads, and what happens to them when their runtime goes away or stands still. The runtimes
//! are turned by hand, and time is virtual.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::kit::{Fault, Hand, Source, Stage, Time, runtime, turn, value};
use crate::refresh::{Load, Loaded, Reason, RefreshCache, RefreshPolicy, load_fn};

/// Polls once inside of the runtime, without letting its tasks run.
fn poll_in<F: Future>(runtime: &Runtime, hand: &mut Hand<F>) -> Option<F::Output> {
    let _guard = runtime.enter();
    hand.poll()
}

#[test]
fn the_load_outlives_the_caller_that_started_it() {
    let (stage, runtime) = (Stage::new(), runtime());
    for _ in 0..10 {
        // As an `operation_timeout` does that is shorter than the hook.
        let mut impatient = Hand::new(stage.cache.get());
        assert!(poll_in(&runtime, &mut impatient).is_none());
        turn(&runtime);
    }
    assert!(stage.source.answer(stage.good(7, 3600)));
    turn(&runtime);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.source.calls(), 1);
}

#[test]
fn an_aborted_task_leaves_its_load_to_the_others() {
    let (stage, runtime) = (Stage::new(), runtime());
    let cache = stage.cache.clone();
    let leader = runtime.spawn(async move { cache.get().await.map(|value| *value) });
    turn(&runtime);
    let mut follower = Hand::waiting(stage.cache.get());
    leader.abort();
    turn(&runtime);
    assert!(stage.source.answer(stage.good(7, 3600)));
    turn(&runtime);
    assert_eq!(follower.poll_if_woken().map(value), Some(Ok(7)));
    assert_eq!(stage.source.calls(), 1);
}

#[test]
fn an_advisory_refresh_runs_on_its_own_and_nobody_waits() {
    let (stage, runtime) = (Stage::new(), runtime());
    stage.fill(7, 3600);
    stage.advance(45 * 60);
    for _ in 0..50 {
        let mut caller = Hand::new(stage.cache.get());
        assert_eq!(poll_in(&runtime, &mut caller).map(value), Some(Ok(7)));
    }
    assert_eq!(
        stage.cache.peek(|value| *value),
        Some(7),
        "hits stay hits while the refresh is in the air"
    );
    turn(&runtime);
    assert!(stage.source.answer(stage.good(8, 3600)));
    turn(&runtime);
    assert_eq!(stage.cache.peek(|value| *value), Some(8));
    assert_eq!(stage.source.calls(), 2);
}

#[test]
fn a_terminal_failure_of_a_detached_refresh_is_raised_with_the_next_call() {
    let (stage, runtime) = (Stage::new(), runtime());
    stage.fill(7, 3600);
    stage.advance(45 * 60);
    let mut caller = Hand::new(stage.cache.get());
    assert_eq!(poll_in(&runtime, &mut caller).map(value), Some(Ok(7)));
    turn(&runtime);
    assert!(stage.source.answer(Err(Fault::Terminal)));
    turn(&runtime);
    assert_eq!(stage.cache.peek(|_| ()), None);
    assert_eq!(stage.ask(), Err(Fault::Terminal));
}

#[test]
fn callers_on_two_runtimes_share_a_load() {
    let (stage, one, two) = (Stage::new(), runtime(), runtime());
    let mut first = Hand::new(stage.cache.get());
    let mut second = Hand::new(stage.cache.get());
    assert!(poll_in(&one, &mut first).is_none());
    assert!(poll_in(&two, &mut second).is_none());
    turn(&two);
    assert_eq!(stage.source.calls(), 0, "the first runtime carries it");
    turn(&one);
    assert!(stage.source.answer(stage.good(7, 3600)));
    turn(&one);
    assert_eq!(poll_in(&two, &mut second).map(value), Some(Ok(7)));
    assert_eq!(poll_in(&one, &mut first).map(value), Some(Ok(7)));
    assert_eq!(stage.source.calls(), 1);
}

#[test]
fn when_the_runtime_that_carries_the_load_is_shut_down_a_caller_on_another_takes_over_at_once() {
    let (stage, one, two) = (Stage::new(), runtime(), runtime());
    let mut first = Hand::new(stage.cache.get());
    assert!(poll_in(&one, &mut first).is_none());
    turn(&one);
    let mut second = Hand::new(stage.cache.get());
    assert!(poll_in(&two, &mut second).is_none());
    drop(first);
    drop(one);
    assert_eq!(stage.source.alive(), 0);
    assert!(
        second.poll_if_woken().is_none(),
        "woken, and outside of any runtime it drives the load itself"
    );
    assert!(stage.source.answer(stage.good(7, 3600)));
    assert_eq!(second.poll_if_woken().map(value), Some(Ok(7)));
    assert_eq!((stage.source.calls(), stage.source.most_alive()), (2, 1));
}

#[test]
fn a_runtime_that_is_shut_down_already_neither_hangs_nor_fails_a_caller() {
    let stage = Stage::new();
    let gone = runtime();
    let handle = gone.handle().clone();
    drop(gone);
    let _guard = handle.enter();
    let mut caller = Hand::waiting(stage.cache.get());
    assert!(stage.source.answer(stage.good(7, 3600)));
    assert_eq!(caller.poll_if_woken().map(value), Some(Ok(7)));
    assert_eq!((stage.source.calls(), stage.source.most_alive()), (1, 1));
}

#[test]
fn an_advisory_refresh_on_a_runtime_that_is_shut_down_serves_its_caller() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.advance(45 * 60);
    let gone = runtime();
    let handle = gone.handle().clone();
    drop(gone);
    let guard = handle.enter();
    assert_eq!(stage.ask(), Ok(7));
    drop(guard);
    stage.advance(1);
    assert_eq!(stage.ask(), Ok(7));
    assert!(
        stage.source.answer(stage.good(8, 3600)),
        "somebody who passes by has started it again"
    );
}

#[test]
fn from_a_runtime_that_is_no_longer_driven_a_caller_takes_over_after_its_own_deadline() {
    let (stage, still, live) = (Stage::new(), runtime(), runtime());
    let mut stuck = Hand::new(stage.cache.get());
    assert!(poll_in(&still, &mut stuck).is_none());
    turn(&still);
    assert_eq!(stage.source.alive(), 1);
    // From here on, nobody turns it.
    stage.advance(1);
    let mut caller = Hand::new(stage.cache.get());
    assert!(poll_in(&live, &mut caller).is_none());
    stage.advance(15);
    assert!(caller.poll_if_woken().is_none());
    assert_eq!(stage.source.calls(), 1);
    stage.advance(1);
    assert!(poll_in(&live, &mut caller).is_none());
    assert_eq!(stage.source.alive(), 0, "the old load is ended before another begins");
    turn(&live);
    assert_eq!((stage.source.calls(), stage.source.alive()), (2, 1));
    assert!(stage.source.answer(stage.good(7, 3600)));
    turn(&live);
    assert_eq!(poll_in(&live, &mut caller).map(value), Some(Ok(7)));
    // The old runtime comes back to life, and has nothing left to do.
    turn(&still);
    assert_eq!(poll_in(&still, &mut stuck).map(value), Some(Ok(7)));
    assert_eq!((stage.source.calls(), stage.source.most_alive()), (2, 1));
}

#[test]
fn a_load_that_never_began_because_its_runtime_was_never_driven_is_taken_over() {
    let (stage, still) = (Stage::new(), runtime());
    let mut first = Hand::new(stage.cache.get());
    assert!(poll_in(&still, &mut first).is_none());
    stage.advance(17);
    stage.fill(7, 3600);
    assert_eq!(stage.source.calls(), 1);
    assert_eq!(poll_in(&still, &mut first).map(value), Some(Ok(7)));
}

#[test]
fn a_load_whose_poll_blocks_its_thread_is_a_timeout_for_others_and_no_second_load_starts() {
    let (time, source) = (Time::new(), Source::default());
    let (entered, has_entered) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let blocks = std::sync::Mutex::new(Some((entered, released)));
    let inner = source.load();
    let load: Load<u64, Fault> = load_fn(move |request| {
        if let Some((entered, released)) = blocks.lock().unwrap().take() {
            entered.send(()).unwrap();
            released.recv().unwrap();
        }
        inner.load(request)
    });
    let policy = RefreshPolicy::default();
    let cache = RefreshCache::new(policy, time.clock(), Some(time.sleep()), load);
    let stage = Stage { time, source, cache };
    let cache = stage.cache.clone();
    let blocked = std::thread::spawn(move || Hand::new(cache.get()).poll().map(value));
    has_entered.recv().unwrap();
    let mut caller = Hand::waiting(stage.cache.get());
    stage.advance(17);
    assert!(caller.poll_if_woken().is_none(), "it gives the load a moment to return");
    stage.advance(2);
    assert_eq!(
        caller.poll_if_woken().map(value),
        Some(Err(Fault::TimedOut(Duration::from_secs(15))))
    );
    assert_eq!(stage.source.calls(), 0);
    release.send(()).unwrap();
    assert_eq!(
        blocked.join().unwrap(),
        Some(Err(Fault::TimedOut(Duration::from_secs(15))))
    );
    assert_eq!(stage.source.most_alive(), 1);
    stage.fill(7, 3600);
}

#[test]
fn tokios_own_sleep_outside_of_a_runtime_means_no_timeout_rather_than_a_panic() {
    let (time, source) = (Time::new(), Source::default());
    let sleep = aws_smithy_async::rt::sleep::default_async_sleep();
    let cache = RefreshCache::new(RefreshPolicy::default(), time.clock(), sleep, source.load());
    Stage { time, source, cache }.fill(7, 3600);
}

#[test]
fn a_refresh_that_is_due_again_as_soon_as_a_passer_by_has_landed_the_last_is_not_left_without_a_driver() {
    let (stage, runtime) = (Stage::with(RefreshPolicy::static_stability()), runtime());
    // Two minutes, unclamped: in its advisory window from the beginning.
    stage.fill(7, 120);
    assert_eq!(stage.ask(), Ok(7));
    assert!(stage.source.answer(stage.good(8, 120)));
    let mut caller = Hand::new(stage.cache.get());
    assert_eq!(poll_in(&runtime, &mut caller).map(value), Some(Ok(8)));
    turn(&runtime);
    assert_eq!(stage.ask(), Ok(8));
    assert_eq!(stage.source.alive(), 1);
}

fn warm() -> RefreshPolicy {
    RefreshPolicy::builder().background_refresh(true).build()
}

/// Lets virtual time pass in steps, with the runtime running.
fn pass(stage: &Stage, runtime: &Runtime, seconds: u64) {
    for _ in 0..seconds {
        stage.advance(1);
        turn(runtime);
    }
}

/// A cache with a value and its background task running.
fn warm_stage(runtime: &Runtime) -> Stage {
    let stage = Stage::with(warm());
    let mut caller = Hand::new(stage.cache.get());
    assert!(poll_in(runtime, &mut caller).is_none());
    turn(runtime);
    assert!(stage.source.answer(stage.good(7, 3600)));
    turn(runtime);
    drop(caller);
    stage
}

#[test]
fn an_idle_cache_is_kept_warm_through_failures() {
    let runtime = runtime();
    let stage = warm_stage(&runtime);
    pass(&stage, &runtime, 44 * 60);
    assert_eq!(stage.source.calls(), 1);
    pass(&stage, &runtime, 65);
    assert_eq!(
        (stage.source.calls(), stage.source.last_reason()),
        (2, Reason::Expiring)
    );
    assert!(stage.source.answer(Err(Fault::Passing)));
    pass(&stage, &runtime, 3 * 60 + 50);
    assert_eq!(stage.source.calls(), 3, "tried again after a quarter of what was left");
    assert!(stage.source.answer(stage.good(8, 3600)));
    pass(&stage, &runtime, 20 * 60);
    assert_eq!(stage.cache.current().map(|value| *value), Some(8));
    assert_eq!(stage.ask(), Ok(8));
}

#[test]
fn the_background_task_brings_an_expired_value_back_when_its_source_recovers() {
    let runtime = runtime();
    let stage = warm_stage(&runtime);
    for _ in 0..90 * 60 {
        pass(&stage, &runtime, 1);
        stage.source.answer(Err(Fault::Passing));
    }
    turn(&runtime);
    let calls = stage.source.calls();
    let idle = (0..60)
        .take_while(|_| stage.source.alive() == 0)
        .map(|_| pass(&stage, &runtime, 1));
    assert!(idle.count() < 60, "the next attempt follows within a minute");
    assert!(stage.source.answer(stage.good(8, 3600)));
    turn(&runtime);
    assert_eq!(stage.ask(), Ok(8));
    assert!(
        calls < 100,
        "half an hour past expiry is no reason to hammer: {calls} calls"
    );
}

#[test]
fn the_background_task_does_not_ask_again_after_a_terminal_refusal() {
    let runtime = runtime();
    let stage = warm_stage(&runtime);
    pass(&stage, &runtime, 45 * 60 + 5);
    assert!(stage.source.answer(Err(Fault::SignedOut)));
    pass(&stage, &runtime, 3600);
    assert_eq!(stage.source.calls(), 2);
}

#[test]
fn the_background_task_notices_that_the_machine_was_asleep() {
    let runtime = runtime();
    let stage = warm_stage(&runtime);
    pass(&stage, &runtime, 60);
    // The wall clock has gone on, the monotonic one has not.
    stage.time.set_wall(40 * 60_000);
    pass(&stage, &runtime, 31);
    assert_eq!((stage.source.calls(), stage.source.alive()), (2, 1));
}

#[test]
fn the_background_task_ends_with_the_last_handle_and_starts_again_on_another_runtime() {
    let one = runtime();
    let stage = warm_stage(&one);
    assert_eq!(one.metrics().num_alive_tasks(), 1);
    drop(one);
    let two = runtime();
    stage.advance(2);
    let mut caller = Hand::new(stage.cache.get());
    assert_eq!(poll_in(&two, &mut caller).map(value), Some(Ok(7)));
    drop(caller);
    turn(&two);
    assert_eq!(two.metrics().num_alive_tasks(), 1);
    drop(stage.cache);
    turn(&two);
    assert_eq!(two.metrics().num_alive_tasks(), 0);
}

#[test]
fn the_end_leaves_no_task_behind() {
    let runtime = runtime();
    let stage = warm_stage(&runtime);
    let mut forced = Hand::new(stage.cache.refresh_now());
    assert!(poll_in(&runtime, &mut forced).is_none());
    turn(&runtime);
    assert_eq!(runtime.metrics().num_alive_tasks(), 2);
    stage.cache.end();
    turn(&runtime);
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    assert_eq!(forced.poll_if_woken().map(value), Some(Err(Fault::Ended)));
}

#[test]
fn a_destructor_that_panics_takes_nothing_with_it() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let time = Time::new();
    let load: Load<u64, Fault> = load_fn(|request| {
        let bomb = (request.attempt == 1).then(|| Bomb);
        Box::pin(async move {
            if bomb.is_some() {
                std::future::poll_fn(|_| Poll::<()>::Pending).await;
            }
            Ok(Loaded {
                value: 7,
                expires: None,
            })
        })
    });
    let cache = RefreshCache::new(RefreshPolicy::default(), time.clock(), Some(time.sleep()), load);
    let mut caller = Hand::waiting(cache.get());
    time.advance(Duration::from_secs(15));
    assert!(matches!(caller.poll_if_woken(), Some(Err(Fault::TimedOut(_)))));
    assert_eq!(Hand::new(cache.get()).poll().map(value), Some(Ok(7)));
}
