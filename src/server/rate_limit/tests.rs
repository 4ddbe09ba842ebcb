mod simulation;

use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};

use super::*;

/// tokio's paused clock.
#[derive(Debug)]
struct TokioTime(tokio::time::Instant);

impl TimeSource for TokioTime {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000) + self.0.elapsed()
    }
}

fn n(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn attached(limit: RequestLimit) -> RequestLimit {
    let clock = Clock::new(SharedTimeSource::new(TokioTime(tokio::time::Instant::now())));
    limit.attach(&clock, &Timer::new(Some(SharedAsyncSleep::new(TokioSleep::new()))));
    limit
}

const LONG: Duration = Duration::from_secs(600);

async fn take(limit: &RequestLimit, lane: Lane, patience: Duration) -> Result<(), Error> {
    limit.turn(lane, patience).await.map(Turn::used)
}

/// The moments at which turns are had by many who come at once, in seconds.
async fn moments(limit: &RequestLimit, lane: Lane, count: usize) -> Vec<f64> {
    let began = tokio::time::Instant::now();
    let turns = (0..count).map(|_| async {
        take(limit, lane, LONG).await.unwrap();
        began.elapsed().as_secs_f64()
    });
    let mut moments = futures_util::future::join_all(turns).await;
    moments.sort_by(f64::total_cmp);
    moments
}

/// The most within any one second.
fn peak(moments: &[f64]) -> usize {
    let within = |start: f64| {
        moments
            .iter()
            .filter(|at| **at >= start && **at < start + 0.999_9)
            .count()
    };
    moments.iter().map(|start| within(*start)).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn in_no_second_more_than_the_quota() {
    for (quota, burst) in [(50, 5), (50, 50), (50, 1), (7, 3), (1, 1)] {
        let limit = attached(RequestLimit::per_second(n(quota)).burst(n(burst)));
        let moments = moments(&limit, Lane::Interactive, 3 * quota as usize).await;
        assert!(peak(&moments) <= quota as usize, "{quota} {burst}: {}", peak(&moments));
        let rate = (moments.len() - 1) as f64 / moments.last().unwrap();
        assert!(rate >= f64::from(quota) / 2.0, "{quota} {burst}: {rate}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_limit_is_what_it_says() {
    let limit = attached(RequestLimit::per_second(NonZeroU32::MAX));
    for _ in 0..10_000 {
        take(&limit, Lane::Interactive, Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_impatient_are_refused_with_the_time_that_it_would_have_taken() {
    let limit = attached(RequestLimit::per_second(n(10)).burst(n(1)));
    take(&limit, Lane::Interactive, Duration::ZERO).await.unwrap();
    let error = take(&limit, Lane::Interactive, Duration::ZERO).await.unwrap_err();
    let wait = error.retry_after().unwrap();
    assert!((0.10..0.12).contains(&wait.as_secs_f64()), "{wait:?}");
    take(&limit, Lane::Interactive, wait).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_hangs_up_leaves_no_gap() {
    let limit = attached(RequestLimit::per_second(n(10)).burst(n(1)));
    take(&limit, Lane::Interactive, LONG).await.unwrap();
    let mut others: Vec<_> = (0..200)
        .map(|_| Box::pin(take(&limit, Lane::Interactive, LONG)))
        .collect();
    for other in &mut others {
        assert!(futures_util::poll!(other.as_mut()).is_pending());
    }
    let began = tokio::time::Instant::now();
    drop(others);
    take(&limit, Lane::Interactive, LONG).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_used_is_given_back() {
    let limit = attached(RequestLimit::per_second(n(10)).burst(n(1)));
    for _ in 0..100 {
        drop(limit.turn(Lane::Interactive, Duration::ZERO).await.unwrap());
    }
    take(&limit, Lane::Interactive, Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn background_users_do_not_shut_interactive_sign_ins_out() {
    let limit = attached(RequestLimit::per_second(n(50)));
    let background = {
        let limit = limit.clone();
        tokio::spawn(async move { moments(&limit, Lane::Background, 1_500).await })
    };
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    for _ in 0..100 {
        let asked = tokio::time::Instant::now();
        take(&limit, Lane::Interactive, Duration::from_secs(1)).await.unwrap();
        assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    background.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_interactive_requests_leaves_the_background_its_floor() {
    let limit = attached(RequestLimit::per_second(n(50)));
    let flood = {
        let limit = limit.clone();
        tokio::spawn(async move { moments(&limit, Lane::Interactive, 2_000).await })
    };
    tokio::task::yield_now().await;
    let background = moments(&limit, Lane::Background, 90).await;
    let rate = 90.0 / background.last().unwrap();
    assert!((8.0..12.0).contains(&rate), "a fifth of 49 a second, not {rate}");
    assert!(peak(&flood.await.unwrap()) <= 50);
}

#[tokio::test(start_paused = true)]
async fn a_throttling_account_slows_it_down_and_the_rate_is_found_again() {
    let limit = attached(RequestLimit::per_second(n(50)));
    for _ in 0..10 {
        limit.throttled();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let slow = moments(&limit, Lane::Interactive, 50).await;
    assert!(*slow.last().unwrap() > 3.0, "{slow:?}");
    tokio::time::advance(Duration::from_secs(31)).await;
    let found = moments(&limit, Lane::Interactive, 50).await;
    assert!(*found.last().unwrap() < 1.1, "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_sdk_repeats_counts() {
    let limit = attached(RequestLimit::per_second(n(10)).burst(n(1)));
    for _ in 0..20 {
        limit.repeated();
    }
    let began = tokio::time::Instant::now();
    take(&limit, Lane::Interactive, LONG).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1_990));
}

#[tokio::test]
async fn a_clock_that_stands_still_or_is_set_back_closes_nothing() {
    use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
    #[derive(Debug)]
    struct AtOnce;
    impl AsyncSleep for AtOnce {
        fn sleep(&self, _: Duration) -> Sleep {
            Sleep::new(async {})
        }
    }
    let time = aws_smithy_async::test_util::ManualTimeSource::new(UNIX_EPOCH + Duration::from_secs(1_790_000_000));
    let limit = RequestLimit::per_second(n(10)).burst(n(1));
    limit.attach(
        &Clock::new(SharedTimeSource::new(time.clone())),
        &Timer::new(Some(SharedAsyncSleep::new(AtOnce))),
    );
    for _ in 0..50 {
        take(&limit, Lane::Interactive, LONG).await.unwrap();
    }
    assert!(take(&limit, Lane::Interactive, Duration::ZERO).await.is_err());
    time.advance(Duration::from_secs(10));
    take(&limit, Lane::Interactive, Duration::ZERO).await.unwrap();
}
