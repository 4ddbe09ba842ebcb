use std::sync::atomic::{AtomicI64, Ordering};

use aws_smithy_async::time::{StaticTimeSource, TimeSource};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, Default)]
struct Wall(Arc<AtomicI64>);

impl TimeSource for Wall {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst).max(0) as u64)
    }
}

/// A clock with both hands in reach: wall, steady, clock.
fn told(at: Duration) -> (Wall, Arc<AtomicI64>, Clock) {
    let (wall, steady) = (Wall::default(), Arc::new(AtomicI64::new(0)));
    wall.0.store(millis(at), Ordering::SeqCst);
    (
        wall.clone(),
        Arc::clone(&steady),
        Clock::told(SharedTimeSource::new(wall), steady),
    )
}

#[test]
fn the_systems_time_source_is_recognised_and_a_users_own_is_believed() {
    assert_ne!(
        Clock::new(SharedTimeSource::default()).now().steady,
        SteadyMillis::ABSENT
    );
    assert_ne!(
        Clock::new(SharedTimeSource::default()).now().steady,
        SteadyMillis::ABSENT
    );
    let own = Clock::new(SharedTimeSource::new(StaticTimeSource::from_secs(5)));
    assert_eq!(
        own.now(),
        Now {
            wall: 5_000,
            steady: SteadyMillis::ABSENT
        }
    );
}

#[test]
fn tokios_sleep_is_recognised_and_not_called_outside_of_a_runtime() {
    let sleep = SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new());
    let timer = Timer::new(Some(sleep));
    assert!(timer.tokio);
    assert!(timer.after(HOUR).is_none());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    assert!(runtime.block_on(async { timer.after(HOUR).is_some() }));
    assert!(Timer::new(None).after(HOUR).is_none());
}

#[test]
fn a_runtime_without_a_timer_counts_as_no_timer() {
    let timer = Timer::new(Some(SharedAsyncSleep::new(
        aws_smithy_async::rt::sleep::TokioSleep::new(),
    )));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(async { timer.after(HOUR).is_none() }));
}

#[test]
fn what_is_left_ends_with_whichever_clock_ends_first() {
    // (wall moves by, steady moves by, left of an hour, drift), in minutes.
    for (wall_by, steady_by, left, drift) in [
        (10, 10, 50, 0),
        (70, 10, 0, 60),       // set forward
        (-1440, 10, 50, 1450), // set back by a day
        (-1440, 61, 0, 1501),
        (40, 1, 20, 39), // the machine slept
        (0, 0, 60, 0),
    ] {
        let (wall, steady, clock) = told(2 * DAY);
        let expiry = Expiry::after(clock.now(), HOUR);
        wall.0.fetch_add(wall_by * 60_000, Ordering::SeqCst);
        steady.fetch_add(steady_by * 60_000, Ordering::SeqCst);
        let now = clock.now();
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        assert_eq!(
            expiry.remaining(now),
            minutes(left),
            "wall {wall_by}, steady {steady_by}"
        );
        assert_eq!(expiry.drift(now), minutes(drift), "wall {wall_by}, steady {steady_by}");
        assert_eq!(expiry.is_over(now), left == 0);
    }
}

#[test]
fn a_single_clock_that_goes_back_neither_lengthens_a_life_nor_goes_unnoticed() {
    let wall = Wall::default();
    wall.0.store(millis(2 * DAY), Ordering::SeqCst);
    let clock = Clock::new(SharedTimeSource::new(wall.clone()));
    let expiry = Expiry::after(clock.now(), HOUR);
    wall.0.fetch_sub(millis(DAY), Ordering::SeqCst);
    assert_eq!(expiry.remaining(clock.now()), HOUR);
    assert_eq!(expiry.drift(clock.now()), DAY);
    wall.0.fetch_add(millis(DAY + HOUR / 2), Ordering::SeqCst);
    assert_eq!(expiry.remaining(clock.now()), HOUR / 2);
    assert_eq!(expiry.drift(clock.now()), Duration::ZERO);
}

#[test]
fn the_servers_date_corrects_a_wrong_clock() {
    let server = UNIX_EPOCH + 20_000 * DAY;
    for offset in [-1_i64, 0, 1] {
        let local = Duration::from_millis(millis(20_000 * DAY).saturating_add_signed_day(offset));
        let (_, _, clock) = told(local);
        let expiry = Expiry::received(clock.now(), server + HOUR, Some(server));
        assert_eq!(expiry.life(), HOUR, "local clock wrong by {offset} days");
        assert_eq!(expiry.system_time(), UNIX_EPOCH + local + HOUR, "in local time");
    }
    let (_, _, clock) = told(20_000 * DAY);
    assert_eq!(
        Expiry::received(clock.now(), server + HOUR, None).life(),
        HOUR,
        "no Date: the local clock has to do"
    );
    assert!(Expiry::received(clock.now(), server - HOUR, Some(server)).is_over(clock.now()));
}

trait AddDay {
    fn saturating_add_signed_day(self, days: i64) -> u64;
}

impl AddDay for i64 {
    fn saturating_add_signed_day(self, days: i64) -> u64 {
        self.saturating_add(days * millis(DAY)).try_into().unwrap_or(0)
    }
}

#[test]
fn no_clock_is_wrong_enough_to_panic() {
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64 / 2);
    let ancient = UNIX_EPOCH - Duration::from_secs(i64::MAX as u64 / 2);
    let readings = [
        i64::MIN,
        i64::MIN + 1,
        -1,
        0,
        1,
        LATEST,
        LATEST + 1,
        i64::MAX - 1,
        i64::MAX,
    ];
    let nows: Vec<Now> = readings
        .iter()
        .flat_map(|&wall| {
            readings
                .iter()
                .map(|&steady| SteadyMillis(steady))
                .chain([SteadyMillis::ABSENT])
                .map(move |steady| Now { wall, steady })
        })
        .collect();
    for &from in &nows {
        for expiry in [
            Expiry::after(from, Duration::MAX),
            Expiry::after(from, Duration::ZERO),
            Expiry::received(from, far, Some(ancient)),
            Expiry::received(from, ancient, Some(far)),
            Expiry::received(from, far, None),
            Expiry::received(from, UNIX_EPOCH, None),
        ] {
            let local = expiry.system_time();
            assert!(
                (UNIX_EPOCH..=system_time(LATEST)).contains(&local),
                "a date that the SDK can write"
            );
            for &now in &nows {
                assert!(expiry.remaining(now) <= expiry.life());
                let _ = (expiry.drift(now), now.since(from), now.system_time());
            }
        }
    }
}
