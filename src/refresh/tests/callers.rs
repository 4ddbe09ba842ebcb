//! Without a runtime: the callers drive each load, and every poll is made by hand.

use std::sync::OnceLock;
use std::time::Duration;

use super::kit::{Fault, Hand, Source, Stage, Time, value};
use crate::refresh::{HotValue, LoadRequest, Loaded, Reason, RefreshCache, RefreshPolicy, load_fn};

#[test]
fn a_value_is_loaded_once_and_then_served() {
    let stage = Stage::new();
    assert!(stage.cache.peek(|_| ()).is_none());
    stage.fill(7, 3600);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.cache.peek(|value| *value), Some(7));
    assert_eq!(stage.cache.current().map(|value| *value), Some(7));
    assert_eq!(stage.source.calls(), 1);
    assert_eq!(
        stage.source.last_request(),
        LoadRequest {
            reason: Reason::FirstUse,
            attempt: 1
        }
    );
}

#[test]
fn callers_join_the_load_that_is_in_the_air() {
    let stage = Stage::new();
    let mut callers: Vec<_> = (0..20).map(|_| Hand::waiting(stage.cache.get())).collect();
    assert!(stage.source.answer(stage.good(7, 3600)));
    // Whoever is woken first brings it home for all.
    for caller in callers.iter_mut().rev() {
        assert_eq!(caller.poll_if_woken().map(value), Some(Ok(7)));
    }
    assert_eq!(stage.source.calls(), 1);
}

#[test]
fn one_failure_reaches_all_who_wait_and_the_next_call_tries_again() {
    let stage = Stage::new();
    let mut callers: Vec<_> = (0..20).map(|_| Hand::waiting(stage.cache.get())).collect();
    assert!(stage.source.answer(Err(Fault::Passing)));
    for caller in &mut callers {
        assert_eq!(caller.poll_if_woken().map(value), Some(Err(Fault::Passing)));
    }
    assert_eq!(stage.source.calls(), 1);
    stage.fill(7, 3600);
    assert_eq!(
        stage.source.last_request(),
        LoadRequest {
            reason: Reason::FirstUse,
            attempt: 2
        }
    );
}

#[test]
fn a_dropped_leader_leaves_its_load_to_the_others() {
    let stage = Stage::new();
    let leader = Hand::waiting(stage.cache.get());
    let mut follower = Hand::waiting(stage.cache.get());
    drop(leader);
    assert!(stage.source.answer(stage.good(7, 3600)));
    assert_eq!(follower.poll_if_woken().map(value), Some(Ok(7)));
    assert_eq!(stage.source.calls(), 1);
}

#[test]
fn a_caller_dropped_with_the_loads_wake_up_in_hand_passes_it_on() {
    let stage = Stage::new();
    let mut follower = Hand::waiting(stage.cache.get());
    let leader = Hand::waiting(stage.cache.get());
    assert!(stage.source.answer(stage.good(7, 3600)));
    // Both are woken by now; neither has polled.
    drop(leader);
    assert_eq!(follower.poll_if_woken().map(value), Some(Ok(7)));
}

#[test]
fn a_load_that_all_callers_have_left_is_resumed_by_the_next() {
    let stage = Stage::new();
    drop(Hand::waiting(stage.cache.get()));
    assert_eq!(stage.source.alive(), 1);
    stage.advance(10);
    stage.fill(7, 3600);
    assert_eq!(stage.source.calls(), 1);
}

#[test]
fn a_load_that_has_been_left_for_longer_than_its_timeout_is_replaced() {
    let stage = Stage::new();
    drop(Hand::waiting(stage.cache.get()));
    stage.advance(17);
    stage.fill(7, 3600);
    assert_eq!((stage.source.calls(), stage.source.most_alive()), (2, 1));
}

#[test]
fn a_load_that_takes_too_long_is_a_typed_error_for_all_and_is_dropped() {
    let stage = Stage::new();
    let mut callers: Vec<_> = (0..3).map(|_| Hand::waiting(stage.cache.get())).collect();
    stage.advance(14);
    assert!(callers[0].poll_if_woken().is_none());
    stage.advance(1);
    for caller in &mut callers {
        assert_eq!(
            caller.poll_if_woken().map(value),
            Some(Err(Fault::TimedOut(Duration::from_secs(15))))
        );
    }
    assert_eq!(stage.source.alive(), 0);
    stage.fill(7, 3600);
}

#[test]
fn a_panic_in_the_source_is_a_typed_error_for_all_and_the_next_call_tries_again() {
    for in_the_call in [true, false] {
        let time = Time::new();
        let load: crate::refresh::Load<u64, Fault> = load_fn(move |request| {
            if request.attempt > 1 {
                return Box::pin(async {
                    Ok(Loaded {
                        value: 7,
                        expires: None,
                    })
                });
            }
            assert!(!in_the_call, "the call breaks");
            Box::pin(async { panic!("the {} breaks", "poll") })
        });
        let cache = RefreshCache::new(RefreshPolicy::default(), time.clock(), Some(time.sleep()), load);
        let message = if in_the_call {
            "the call breaks"
        } else {
            "the poll breaks"
        };
        let first = Hand::new(cache.get()).poll().map(value);
        assert_eq!(first, Some(Err(Fault::Panicked(message.to_owned()))));
        assert_eq!(Hand::new(cache.get()).poll().map(value), Some(Ok(7)));
    }
}

#[test]
fn a_source_that_asks_its_own_cache_gets_a_typed_error_instead_of_waiting_for_itself() {
    let time = Time::new();
    let own: std::sync::Arc<OnceLock<RefreshCache<u64, Fault>>> = std::sync::Arc::default();
    let inner = std::sync::Arc::clone(&own);
    let load: crate::refresh::Load<u64, Fault> = load_fn(move |_| {
        let inner = std::sync::Arc::clone(&inner);
        Box::pin(async move {
            let cache = inner.get().unwrap();
            assert_eq!(cache.refresh_now().await.map(|_| ()), Err(Fault::Reentered));
            let value = *cache.get().await?;
            Ok(Loaded { value, expires: None })
        })
    });
    let cache = RefreshCache::new(RefreshPolicy::default(), time.clock(), Some(time.sleep()), load);
    assert!(own.set(cache.clone()).is_ok());
    assert_eq!(Hand::new(cache.get()).poll().map(value), Some(Err(Fault::Reentered)));
}

#[test]
fn a_source_that_asks_another_cache_is_served() {
    let (stage, time) = (Stage::new(), Time::new());
    stage.fill(7, 3600);
    let other = stage.cache.clone();
    let load: crate::refresh::Load<u64, Fault> = load_fn(move |_| {
        let other = other.clone();
        Box::pin(async move {
            Ok(Loaded {
                value: *other.refresh_now().await? + 1,
                expires: None,
            })
        })
    });
    let cache = RefreshCache::new(RefreshPolicy::default(), time.clock(), Some(time.sleep()), load);
    let mut caller = Hand::waiting(cache.get());
    assert!(stage.source.answer(stage.good(8, 3600)));
    assert_eq!(caller.poll_if_woken().map(value), Some(Ok(9)));
}

#[test]
fn the_end_wakes_those_who_wait_drops_the_load_and_serves_nothing_more() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    let mut forced = Hand::waiting(stage.cache.refresh_now());
    stage.cache.end();
    assert_eq!(stage.source.alive(), 0);
    assert_eq!(forced.poll_if_woken().map(value), Some(Err(Fault::Ended)));
    assert_eq!(stage.ask(), Err(Fault::Ended));
    assert_eq!(
        Hand::new(stage.cache.refresh_now()).poll().map(value),
        Some(Err(Fault::Ended))
    );
    assert_eq!(stage.cache.peek(|value| *value), None);
    assert!(stage.cache.current().is_none());
    assert!(!stage.cache.invalidate(|_| true));
    assert_eq!(stage.source.calls(), 2);
}

#[test]
fn whoever_is_told_of_a_landing_after_the_end_is_not_served() {
    let stage = Stage::new();
    let mut first = Hand::waiting(stage.cache.get());
    let mut second = Hand::waiting(stage.cache.get());
    assert!(stage.source.answer(stage.good(7, 3600)));
    assert_eq!(first.poll_if_woken().map(value), Some(Ok(7)));
    stage.cache.end();
    assert_eq!(second.poll_if_woken().map(value), Some(Err(Fault::Ended)));
}

#[test]
fn the_last_handle_takes_the_load_with_it() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.advance(46 * 60);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.source.alive(), 1, "an advisory refresh is in the air");
    let Stage { source, cache, .. } = stage;
    drop(cache);
    assert_eq!(source.alive(), 0);
}

#[test]
fn without_a_runtime_an_advisory_refresh_is_driven_by_those_who_pass_by() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.advance(45 * 60);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.source.last_reason(), Reason::Expiring);
    assert_eq!(stage.ask(), Ok(7));
    assert!(stage.source.answer(stage.good(8, 3600)));
    assert_eq!(stage.ask(), Ok(8), "whoever brings it home has it");
    assert_eq!(stage.source.calls(), 2);
}

#[test]
fn an_advisory_refresh_that_nobody_passes_by_in_time_is_started_anew() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.advance(45 * 60);
    assert_eq!(stage.ask(), Ok(7));
    stage.advance(17);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!((stage.source.calls(), stage.source.most_alive()), (3, 1));
}

#[test]
fn within_the_mandatory_window_callers_wait_and_are_served_the_old_value_if_the_refresh_fails() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.advance(59 * 60);
    assert_eq!(stage.cache.peek(|_| ()), None);
    assert_eq!(stage.ask_while(Err(Fault::Passing)), Ok(7));
    assert_eq!(stage.ask(), Ok(7), "the pause has begun");
    assert_eq!(stage.source.calls(), 2);
    stage.advance(60);
    assert_eq!(stage.ask_while(Err(Fault::Passing)), Err(Fault::Passing));
    assert_eq!(stage.ask(), Err(Fault::Passing));
    stage.advance(1);
    stage.fill(8, 3600);
    assert_eq!(
        stage.source.last_request(),
        LoadRequest {
            reason: Reason::Expiring,
            attempt: 3
        }
    );
}

#[test]
fn a_terminal_failure_in_the_advisory_window_withholds_the_value_at_once() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.advance(46 * 60);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.cache.current().map(|value| *value), Some(7));
    assert!(stage.source.answer(Err(Fault::Terminal)));
    assert_eq!(
        stage.ask(),
        Err(Fault::Terminal),
        "whoever brings the refusal home gets it"
    );
    assert_eq!(stage.cache.peek(|_| ()), None);
    assert_eq!(stage.ask(), Err(Fault::Terminal));
    stage.advance(1);
    stage.fill(8, 3600);
    assert_eq!(stage.ask(), Ok(8));
}

#[test]
fn a_hit_is_withdrawn_by_a_terminal_failure_of_a_forced_refresh() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    let mut forced = Hand::waiting(stage.cache.refresh_now());
    assert_eq!(
        stage.cache.peek(|value| *value),
        Some(7),
        "a forced refresh keeps nobody else waiting"
    );
    assert!(stage.source.answer(Err(Fault::SignedOut)));
    assert_eq!(forced.poll_if_woken().map(value), Some(Err(Fault::SignedOut)));
    assert_eq!(stage.cache.peek(|_| ()), None);
    assert_eq!(stage.ask(), Err(Fault::SignedOut));
}

#[test]
fn a_value_at_hand_is_read_no_longer_than_its_cache_would_serve_it() {
    type End = fn(&Stage);
    let ends: [(&str, End); 5] = [
        ("replaced", |stage| {
            let mut forced = Hand::waiting(stage.cache.refresh_now());
            assert!(stage.source.answer(stage.good(8, 3600)));
            assert_eq!(forced.poll_if_woken().map(value), Some(Ok(8)));
        }),
        ("refused", |stage| {
            let mut forced = Hand::waiting(stage.cache.refresh_now());
            assert!(stage.source.answer(Err(Fault::SignedOut)));
            assert_eq!(forced.poll_if_woken().map(value), Some(Err(Fault::SignedOut)));
        }),
        ("invalidated", |stage| assert!(stage.cache.invalidate(|_| true))),
        ("ended", |stage| stage.cache.end()),
        ("grown old", |stage| stage.advance(46 * 60)),
    ];
    for (what, end) in ends {
        let stage = Stage::new();
        stage.fill(7, 3600);
        let hot = HotValue::of(&stage.cache);
        let read = || hot.read(&stage.cache.engine.clock, |value| value.copied());
        assert_eq!(read(), Some(7));
        end(&stage);
        assert_eq!(read(), None, "{what}");
    }
}

#[test]
fn a_value_that_has_expired_on_arrival_is_a_failure() {
    let stage = Stage::new();
    assert_eq!(stage.ask_while(stage.good(7, 0)), Err(Fault::ExpiredOnArrival));
    stage.fill(8, 3600);
    stage.advance(59 * 60);
    assert_eq!(stage.ask_while(stage.good(9, 0)), Ok(8));
}

#[test]
fn an_invalidation_counts_for_the_current_value_alone() {
    let stage = Stage::new();
    assert!(!stage.cache.invalidate(|_| true), "there is none yet");
    stage.fill(7, 3600);
    assert!(!stage.cache.invalidate(|value| *value == 6));
    assert_eq!(stage.cache.peek(|value| *value), Some(7));
    assert!(stage.cache.invalidate(|value| *value == 7));
    assert!(!stage.cache.invalidate(|value| *value == 7));
    assert_eq!(stage.cache.peek(|_| ()), None);
    stage.fill(8, 3600);
    assert_eq!(stage.source.last_reason(), Reason::Invalidated);
    assert_eq!(stage.ask(), Ok(8), "the new value is not the one that was rejected");
}

#[test]
fn a_rejected_value_serves_while_a_replacement_cannot_be_had() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    assert!(stage.cache.invalidate(|_| true));
    assert_eq!(stage.ask_while(Err(Fault::Passing)), Ok(7));
    assert_eq!(stage.ask(), Ok(7));
    stage.advance(1);
    stage.fill(8, 3600);
}

#[test]
fn a_forced_refresh_ignores_pauses_and_reports_its_own_failure() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    for answer in [Err(Fault::Passing), Err(Fault::Passing)] {
        let mut forced = Hand::waiting(stage.cache.refresh_now());
        assert_eq!(stage.source.last_reason(), Reason::Forced);
        assert!(stage.source.answer(answer));
        assert_eq!(forced.poll_if_woken().map(value), Some(Err(Fault::Passing)));
        assert_eq!(stage.ask(), Ok(7));
    }
    let mut both = [
        Hand::waiting(stage.cache.refresh_now()),
        Hand::waiting(stage.cache.refresh_now()),
    ];
    assert!(stage.source.answer(stage.good(8, 3600)));
    for forced in &mut both {
        assert_eq!(forced.poll_if_woken().map(value), Some(Ok(8)));
    }
    assert_eq!(stage.source.calls(), 4, "two who force at once share a load");
}

#[test]
fn a_forced_refresh_waits_for_a_load_that_was_not_forced_and_then_starts_its_own() {
    let stage = Stage::new();
    let mut first = Hand::waiting(stage.cache.get());
    let mut forced = Hand::waiting(stage.cache.refresh_now());
    assert!(stage.source.answer(stage.good(7, 3600)));
    assert_eq!(first.poll_if_woken().map(value), Some(Ok(7)));
    assert!(forced.poll_if_woken().is_none());
    assert_eq!(
        (stage.source.last_reason(), stage.source.most_alive()),
        (Reason::Forced, 1)
    );
    assert!(stage.source.answer(stage.good(8, 3600)));
    assert_eq!(forced.poll_if_woken().map(value), Some(Ok(8)));
}

#[test]
fn a_clock_that_is_set_forward_or_back_is_noticed_within_a_second_and_refreshed_once() {
    // (seconds, the old value serves meanwhile): an hour forward and the value may be dead.
    for (by, serves) in [
        (-24 * 3600, true),
        (-3600, true),
        (120, true),
        (3600, false),
        (24 * 3600, false),
    ] {
        let stage = Stage::new();
        stage.fill(7, 3600);
        stage.advance(60);
        assert_eq!(stage.ask(), Ok(7));
        stage.time.set_wall(by * 1000);
        assert_eq!(
            stage.cache.peek(|_| ()),
            None,
            "set by {by} s: the next hit looks again"
        );
        if serves {
            assert_eq!(stage.ask(), Ok(7));
        } else {
            assert!(
                Hand::new(stage.cache.get()).poll().is_none(),
                "set by {by} s: callers wait"
            );
        }
        assert_eq!(stage.source.alive(), 1);
        stage.fill_or_pass(8, 3600);
        for _ in 0..10 {
            stage.advance(60);
            assert_eq!(stage.ask(), Ok(8));
        }
        assert_eq!(stage.source.calls(), 2, "set by {by} s: refreshed once");
    }
}

#[test]
fn a_value_that_is_dead_by_the_monotonic_clock_is_not_served_although_the_wall_clock_stands_still() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    for _ in 0..61 {
        stage.advance(60);
        stage.time.set_wall(-60_000);
    }
    // A hit does not look at the monotonic clock for as long as the wall clock claims that no time has passed.
    stage.time.set_wall(1_000);
    assert_eq!(stage.cache.peek(|_| ()), None);
    assert!(Hand::new(stage.cache.get()).poll().is_none());
}

#[test]
fn without_a_monotonic_clock_virtual_time_is_believed() {
    let (time, source) = (Time::new(), Source::default());
    let cache = RefreshCache::new(
        RefreshPolicy::default().with_random(0.0),
        time.wall_clock(),
        Some(time.sleep()),
        source.load(),
    );
    let stage = Stage { time, source, cache };
    stage.fill(7, 3600);
    stage.advance(44 * 60);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.source.calls(), 1, "a jump of virtual time is no disagreement");
}

#[test]
fn hits_look_at_the_wall_clock_alone_and_look_again_every_second() {
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.time.advance(Duration::from_millis(999));
    assert_eq!(stage.cache.peek(|value| *value), Some(7));
    stage.time.advance(Duration::from_millis(1));
    assert_eq!(stage.cache.peek(|value| *value), None);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.cache.peek(|value| *value), Some(7));
}

#[test]
fn without_any_sleep_there_is_no_timeout_but_the_next_caller_replaces_what_hangs() {
    let (time, source) = (Time::new(), Source::default());
    let cache = RefreshCache::new(RefreshPolicy::default(), time.clock(), None, source.load());
    let stage = Stage { time, source, cache };
    let mut first = Hand::waiting(stage.cache.get());
    stage.advance(60);
    let mut second = Hand::waiting(stage.cache.get());
    assert_eq!((stage.source.calls(), stage.source.most_alive()), (2, 1));
    assert!(stage.source.answer(stage.good(7, 3600)));
    assert_eq!(second.poll_if_woken().map(value), Some(Ok(7)));
    assert_eq!(first.poll_if_woken().map(value), Some(Ok(7)));
}

#[test]
fn whoever_needs_more_life_than_is_left_shares_one_refresh() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.advance(20 * 60);
    let enough = Hand::new(stage.cache.get_valid_for(minutes(40))).poll();
    assert_eq!(enough.map(value), Some(Ok(7)));
    let mut callers: Vec<_> = (0..20)
        .map(|_| Hand::waiting(stage.cache.get_valid_for(minutes(41))))
        .collect();
    assert_eq!(stage.source.last_reason(), Reason::Expiring);
    assert_eq!(stage.ask(), Ok(7), "nobody else waits");
    assert!(stage.source.answer(stage.good(8, 3600)));
    for caller in &mut callers {
        assert_eq!(caller.poll_if_woken().map(value), Some(Ok(8)));
    }
    assert_eq!(stage.source.calls(), 2);
}

#[test]
fn whoever_needs_more_life_and_cannot_have_it_gets_the_failure_and_not_what_is_left() {
    let half = Duration::from_secs(1800);
    let stage = Stage::new();
    stage.fill(7, 3600);
    stage.advance(40 * 60);
    let mut caller = Hand::waiting(stage.cache.get_valid_for(half));
    assert!(stage.source.answer(Err(Fault::Passing)));
    assert_eq!(caller.poll_if_woken().map(value), Some(Err(Fault::Passing)));
    let again = Hand::new(stage.cache.get_valid_for(half)).poll();
    assert_eq!(again.map(value), Some(Err(Fault::Passing)), "not asked again at once");
    assert_eq!((stage.ask(), stage.source.calls()), (Ok(7), 2));
    stage.advance(1);
    let mut caller = Hand::waiting(stage.cache.get_valid_for(half));
    assert!(stage.source.answer(stage.good(8, 3600)));
    assert_eq!(caller.poll_if_woken().map(value), Some(Ok(8)));
}

#[test]
fn a_source_that_does_not_give_enough_life_is_a_typed_error_and_is_not_asked_again_at_once() {
    let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3600));
    let stage = Stage::new();
    let mut caller = Hand::waiting(stage.cache.get_valid_for(day));
    assert!(stage.source.answer(stage.good(7, 3600)));
    let too_short = Err(Fault::TooShort(day, hour));
    assert_eq!(caller.poll_if_woken().map(value), Some(too_short.clone()));
    for _ in 0..59 {
        let again = Hand::new(stage.cache.get_valid_for(day)).poll();
        assert_eq!(again.map(value), Some(too_short.clone()));
        stage.advance(1);
    }
    assert_eq!(stage.source.calls(), 1);
    assert_eq!(stage.ask(), Ok(7), "it serves whoever needs less");
    stage.advance(1);
    let mut caller = Hand::waiting(stage.cache.get_valid_for(day));
    assert!(stage.source.answer(stage.good(8, 90_000)));
    assert_eq!(caller.poll_if_woken().map(value), Some(Ok(8)), "the source has learned");
}
