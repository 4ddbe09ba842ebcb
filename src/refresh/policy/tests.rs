use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn exact(policy: RefreshPolicy) -> RefreshPolicy {
    policy.with_random(0.0)
}

#[test]
fn windows_by_lifetime() {
    // (life, advisory, mandatory) in seconds; clamped below 20 minutes and 8 minutes.
    for (life, advisory, mandatory) in [
        (12 * 3600, 3600.0, 60.0),
        (90 * 60, 3600.0, 60.0),
        (90 * 60 - 1, 900.0, 60.0),
        (3600, 900.0, 60.0),
        (20 * 60 + 1, 900.0, 60.0),
        (20 * 60, 300.0, 60.0),
        (15 * 60, 225.0, 60.0),
        (8 * 60, 120.0, 60.0),
        (2 * 60, 30.0, 15.0),
        (20, 5.0, 2.5),
        (1, 0.25, 0.125),
        (0, 0.0, 0.0),
    ] {
        let windows = exact(RefreshPolicy::default()).windows(Duration::from_secs(life));
        let expected = Windows {
            advisory: Duration::from_secs_f64(advisory),
            mandatory: Duration::from_secs_f64(mandatory),
        };
        assert_eq!(windows, expected, "a life of {life} s");
    }
}

#[test]
fn static_stability_does_not_shorten_windows_or_back_off() {
    let policy = exact(RefreshPolicy::static_stability());
    assert!(policy.serve_expired());
    assert_eq!(
        policy.windows(2 * MINUTE),
        Windows {
            advisory: 5 * MINUTE,
            mandatory: MINUTE
        }
    );
    assert_eq!(policy.backoff(SECOND, None), 5 * MINUTE);
    assert_eq!(policy.with_random(1.0).backoff(SECOND, None), 10 * MINUTE);
}

#[test]
fn windows_of_the_users_own_leave_most_of_every_life() {
    let policy = exact(
        RefreshPolicy::builder()
            .advisory_window(Duration::from_secs(3600))
            .mandatory_window(10 * MINUTE)
            .build(),
    );
    for (life, advisory, mandatory) in [
        (Duration::from_secs(3600), 45 * MINUTE, 450 * SECOND),
        (20 * MINUTE, 5 * MINUTE, 150 * SECOND),
    ] {
        assert_eq!(policy.windows(life), Windows { advisory, mandatory });
    }
    let swapped = exact(RefreshPolicy::builder().advisory_window(SECOND).build()).windows(60 * MINUTE);
    assert_eq!(
        swapped.advisory, swapped.mandatory,
        "the advisory window is never the smaller one"
    );
}

#[test]
fn jitter_moves_the_advisory_point_earlier_by_at_most_a_fifth_and_never_later() {
    let life = Duration::from_secs(3600);
    assert_eq!(
        RefreshPolicy::default().with_random(1.0).windows(life).advisory,
        18 * MINUTE
    );
    let drawn: Vec<_> = (0..200)
        .map(|_| RefreshPolicy::default().windows(life).advisory)
        .collect();
    assert!(drawn.iter().all(|window| (15 * MINUTE..=18 * MINUTE).contains(window)));
    for (fraction, most) in [
        (0.0, 15 * MINUTE),
        (1.0, 30 * MINUTE),
        (7.0, 30 * MINUTE),
        (f64::NAN, 15 * MINUTE),
    ] {
        let policy = RefreshPolicy::builder().jitter(fraction).build().with_random(1.0);
        assert_eq!(policy.windows(life).advisory, most, "a jitter of {fraction}");
    }
    let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
    assert!(*most - *least > MINUTE, "a fleet has to spread: {least:?} to {most:?}");
}

#[test]
fn the_back_off_is_five_to_ten_minutes_and_at_most_a_quarter_of_what_is_left() {
    for (random, remaining, retry_after, backoff) in [
        (0.0, 15 * 60, None, 225),
        (0.0, 60 * 60, None, 300),
        (1.0, 60 * 60, None, 600),
        (0.5, 60 * 60, None, 450),
        (1.0, 40, None, 10),
        (1.0, 2, None, 1),
        (0.0, 60 * 60, Some(400), 400),
        (0.0, 60 * 60, Some(100), 300),
        (0.0, 60 * 60, Some(100_000), 900),
    ] {
        let policy = RefreshPolicy::default().with_random(random);
        let actual = policy.backoff(Duration::from_secs(remaining), retry_after.map(Duration::from_secs));
        assert_eq!(
            actual,
            Duration::from_secs(backoff),
            "random {random}, {remaining} s left, {retry_after:?}"
        );
    }
}

#[test]
fn an_error_is_remembered_for_one_to_five_seconds_and_doubled_up_to_a_minute() {
    for (random, again, retry_after, length) in [
        (0.0, 0, None, 1),
        (1.0, 0, None, 5),
        (0.0, 1, None, 2),
        (1.0, 2, None, 20),
        (1.0, 4, None, 60),
        (0.0, 6, None, 60),
        (0.0, u32::MAX, None, 60),
        (0.0, 0, Some(30), 30),
        (0.0, 0, Some(3600), 60),
    ] {
        let policy = RefreshPolicy::default().with_random(random);
        let actual = policy.remember(again, retry_after.map(Duration::from_secs));
        assert_eq!(
            actual,
            Duration::from_secs(length),
            "random {random}, again {again}, {retry_after:?}"
        );
    }
}

#[test]
fn no_setting_is_large_enough_to_panic() {
    let policy = RefreshPolicy::builder()
        .advisory_window(Duration::MAX)
        .mandatory_window(Duration::MAX)
        .backoff(Duration::MAX..=Duration::ZERO)
        .load_timeout(Duration::ZERO)
        .serve_expired(true)
        .background_refresh(true)
        .build();
    assert_eq!(policy.load_timeout(), Duration::from_millis(1));
    for life in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let windows = policy.windows(life);
        assert!(windows.advisory <= life);
        let _ = (
            policy.backoff(life, Some(Duration::MAX)),
            policy.remember(u32::MAX, Some(Duration::MAX)),
        );
    }
    let unclamped = RefreshPolicy {
        adaptive: false,
        ..policy
    };
    let _ = (
        unclamped.windows(Duration::MAX),
        unclamped.backoff(Duration::MAX, Some(Duration::MAX)),
    );
}

#[test]
fn a_policy_can_be_adjusted_and_keeps_what_is_not_set() {
    let policy = RefreshPolicy::static_stability()
        .to_builder()
        .advisory_window(30 * MINUTE)
        .backoff(MINUTE..=MINUTE)
        .load_timeout(3 * SECOND)
        .background_refresh(true)
        .jitter(0.0)
        .build();
    assert!(policy.serve_expired() && policy.background());
    assert_eq!(policy.load_timeout(), 3 * SECOND);
    assert_eq!(policy.windows(20 * MINUTE).advisory, 30 * MINUTE, "still not shortened");
    assert_eq!(policy.backoff(SECOND, None), MINUTE);
    assert_eq!(policy.backoff_when_invalidated(), None);
}
