use std::time::UNIX_EPOCH;

use aws_smithy_async::test_util::ManualTimeSource;
use aws_smithy_async::time::SharedTimeSource;

use super::*;
use crate::clock::Clock;
use crate::error::ErrorKind;

fn user(n: usize) -> DeveloperUserId {
    DeveloperUserId::new(format!("user-{n}")).unwrap()
}

fn options(seconds: u64) -> TokenOptions {
    TokenOptions {
        duration: TokenDuration::from_secs(seconds).unwrap(),
        tags: PrincipalTags::new(),
    }
}

fn at(seconds: u64) -> Now {
    Clock::new(SharedTimeSource::new(ManualTimeSource::new(
        UNIX_EPOCH + Duration::from_secs(seconds),
    )))
    .now()
}

fn until(now: u64, until: u64) -> Expiry {
    Expiry::after(at(now), Duration::from_secs(until - now))
}

/// Fills a slot as a vendor does; the value serves from `now` to `until`.
fn fill(cache: &TokenCache<u32>, user: &DeveloperUserId, value: u32, now: u64, end: u64) {
    let mut got = None;
    let Lookup::Started(flight) = cache.join(user, &options(900), true, at(now), |id| {
        got = Some(id);
        async move { Ok(value) }.boxed()
    }) else {
        panic!("a fresh join starts a flight");
    };
    assert_eq!(flight.now_or_never().unwrap().unwrap(), value);
    cache.land(user, &options(900), got.unwrap(), Some((value, kept(now, end))));
}

/// Served to its end, and neither ahead of time nor after it.
fn kept(now: u64, end: u64) -> KeptFor {
    KeptFor {
        ahead: until(now, end),
        serves: until(now, end),
        usable: until(now, end),
    }
}

fn get(cache: &TokenCache<u32>, user: &DeveloperUserId, options: &TokenOptions, now: Now) -> Option<u32> {
    cache.get(user, options, now).map(|(value, _)| value)
}

#[test]
fn a_value_serves_up_to_its_end_and_not_at_it() {
    let cache = TokenCache::new(8);
    fill(&cache, &user(1), 7, 100, 200);
    assert_eq!(get(&cache, &user(1), &options(900), at(199)), Some(7));
    assert_eq!(get(&cache, &user(1), &options(900), at(200)), None);
}

#[test]
fn users_and_variants_do_not_share() {
    let cache = TokenCache::new(8);
    fill(&cache, &user(1), 7, 0, 200);
    assert_eq!(get(&cache, &user(2), &options(900), at(1)), None);
    assert_eq!(get(&cache, &user(1), &options(901), at(1)), None);
    let tagged = TokenOptions {
        tags: PrincipalTags::new().with("tenant", "a").unwrap(),
        duration: TokenDuration::DEFAULT,
    };
    assert_eq!(get(&cache, &user(1), &tagged, at(1)), None);
}

#[test]
fn callers_join_the_flight_that_is_out_and_drive_it_on_when_the_first_has_gone() {
    let cache: TokenCache<u32> = TokenCache::new(8);
    let (tell, told) = tokio::sync::oneshot::channel();
    let Lookup::Started(first) = cache.join(&user(1), &options(900), false, at(0), |_| {
        async move { told.await.map_err(|_| Error::new(ErrorKind::Transport, "gone")) }.boxed()
    }) else {
        panic!("nothing is cached");
    };
    assert!(first.clone().now_or_never().is_none());
    let Lookup::Joined(second) = cache.join(&user(1), &options(900), false, at(0), |_| panic!("one flight is out"))
    else {
        panic!("nothing is cached");
    };
    drop(first);
    tell.send(3).unwrap();
    assert_eq!(second.now_or_never().unwrap().unwrap(), 3);
}

#[test]
fn a_flight_that_all_callers_left_is_started_anew() {
    let cache: TokenCache<u32> = TokenCache::new(8);
    drop(cache.join(&user(1), &options(900), false, at(0), |_| {
        std::future::pending().boxed()
    }));
    let Lookup::Started(flight) = cache.join(&user(1), &options(900), false, at(0), |_| async { Ok(1) }.boxed()) else {
        panic!("nothing is cached");
    };
    assert_eq!(flight.now_or_never().unwrap().unwrap(), 1);
}

#[test]
fn what_lands_after_an_eviction_is_not_kept() {
    let cache: TokenCache<u32> = TokenCache::new(8);
    let mut got = None;
    let found = cache.join(&user(1), &options(900), false, at(0), |id| {
        got = Some(id);
        async { Ok(1) }.boxed()
    });
    cache.evict(&user(1));
    cache.land(&user(1), &options(900), got.unwrap(), Some((1, kept(0, 100))));
    assert_eq!(get(&cache, &user(1), &options(900), at(1)), None);
    drop(found);
    // Nor into the slot that took its place.
    fill(&cache, &user(1), 2, 0, 100);
    cache.land(&user(1), &options(900), got.unwrap(), Some((1, kept(0, 100))));
    assert_eq!(get(&cache, &user(1), &options(900), at(1)), Some(2));
}

#[test]
fn a_failure_is_not_kept_and_leaves_no_slot() {
    let cache: TokenCache<u32> = TokenCache::new(8);
    for n in 0..100 {
        let mut got = None;
        drop(cache.join(&user(n), &options(900), false, at(0), |id| {
            got = Some(id);
            async { Err(Error::new(ErrorKind::Service, "x")) }.boxed()
        }));
        cache.land(&user(n), &options(900), got.unwrap(), None);
    }
    let state = cache.lock();
    assert_eq!((state.slots, state.users.len()), (0, 0));
}

#[test]
fn a_failed_renewal_leaves_what_still_serves() {
    let cache = TokenCache::new(8);
    fill(&cache, &user(1), 7, 0, 100);
    let mut got = None;
    drop(cache.join(&user(1), &options(900), true, at(1), |id| {
        got = Some(id);
        async { Err(Error::new(ErrorKind::Service, "x")) }.boxed()
    }));
    cache.land(&user(1), &options(900), got.unwrap(), None);
    assert_eq!(get(&cache, &user(1), &options(900), at(2)), Some(7));
}

#[test]
fn it_never_holds_more_than_its_capacity_and_drops_the_least_recently_used() {
    for capacity in [1, 2, 8, 64] {
        let cache = TokenCache::new(capacity);
        for n in 0..200 {
            fill(&cache, &user(n), 1, 0, 1_000);
            assert!(cache.lock().slots <= capacity, "{capacity}");
            if capacity >= 8 {
                assert_eq!(
                    get(&cache, &user(0), &options(900), at(1)),
                    Some(1),
                    "used all the time: {capacity}, {n}"
                );
            }
        }
        let counted: usize = cache.lock().users.values().map(Slots::len).sum();
        assert_eq!(cache.lock().slots, counted);
    }
}

#[test]
fn what_has_expired_goes_before_what_serves() {
    let cache = TokenCache::new(8);
    for n in 0..4 {
        fill(&cache, &user(n), 1, 0, 1_000);
    }
    for n in 4..8 {
        fill(&cache, &user(n), 1, 0, 10);
    }
    fill(&cache, &user(8), 1, 20, 1_000);
    for n in [0, 1, 2, 3, 8] {
        assert_eq!(get(&cache, &user(n), &options(900), at(30)), Some(1), "{n}");
    }
}

#[test]
fn a_failure_is_bridged_by_what_is_still_good() {
    let cache = TokenCache::new(8);
    fill(&cache, &user(1), 7, 0, 1_000);
    cache.land(&user(1), &options(900), FlightId(0), None);
    let slot = KeptFor {
        ahead: until(0, 450),
        serves: until(0, 600),
        usable: until(0, 840),
    };
    let id = cache
        .lock()
        .users
        .get_mut(&user(1))
        .unwrap()
        .find_mut(&options(900))
        .unwrap()
        .id;
    cache.land(&user(1), &options(900), id, Some((8, slot)));
    assert_eq!(cache.get(&user(1), &options(900), at(449)), Some((8, false)));
    assert_eq!(cache.get(&user(1), &options(900), at(450)), Some((8, true)));
    assert_eq!(get(&cache, &user(1), &options(900), at(600)), None);
    assert_eq!(cache.stale(&user(1), &options(900), at(839)), Some(8));
    assert_eq!(cache.stale(&user(1), &options(900), at(840)), None);
    // Ahead of time one asks, and none for a while if it comes to nothing.
    let ahead = |now| cache.begin_ahead(&user(1), &options(900), at(now), |_| async { Ok(9) }.boxed());
    assert!(ahead(449).is_none());
    let flight = ahead(450).unwrap();
    assert!(ahead(500).is_none(), "one is out");
    drop(flight);
    assert!(ahead(479).is_none());
    assert!(ahead(480).is_some());
}

#[test]
fn many_variants_of_one_user_are_found_kept_and_evicted() {
    let cache: TokenCache<u32> = TokenCache::new(10_000);
    for n in 1..=5_000 {
        let mut got = None;
        drop(cache.join(&user(1), &options(n), false, at(0), |id| {
            got = Some(id);
            async { Ok(1) }.boxed()
        }));
        cache.land(
            &user(1),
            &options(n),
            got.unwrap(),
            Some((u32::try_from(n).unwrap(), kept(0, 100))),
        );
    }
    assert_eq!(get(&cache, &user(1), &options(4_321), at(1)), Some(4_321));
    assert_eq!(cache.lock().slots, 5_000);
    cache.evict(&user(1));
    let state = cache.lock();
    assert_eq!((state.slots, state.users.len()), (0, 0));
}
