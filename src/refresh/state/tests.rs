use super::Verdict::{Advisory, Fail, Mandatory, Retry, Serve, TooShort};
use super::*;
use crate::refresh::tests::kit::{Fault, Time};

/// Minutes and seconds.
fn at(minutes: u64, seconds: u64) -> Duration {
    Duration::from_secs(minutes * 60 + seconds)
}

struct Case {
    time: Time,
    policy: RefreshPolicy,
    state: State<Fault>,
}

impl Case {
    /// Nothing loaded yet; jitter fixed to the shortest of each range.
    fn empty(policy: RefreshPolicy) -> Self {
        Self {
            time: Time::new(),
            policy: policy.with_random(0.0),
            state: State::default(),
        }
    }

    /// A value that lives for an hour: advisory 15 minutes before its end, mandatory one minute before.
    fn hour() -> Self {
        Self::with(RefreshPolicy::default(), at(60, 0))
    }

    fn with(policy: RefreshPolicy, life: Duration) -> Self {
        let mut case = Self::empty(policy);
        assert!(case.succeed(life));
        case
    }

    fn drawn(mut self, fixed: f64) -> Self {
        self.policy = self.policy.with_random(fixed);
        self
    }

    fn now(&self) -> Now {
        self.time.clock().now()
    }

    fn after(self, minutes: u64, seconds: u64) -> Self {
        self.time.advance(at(minutes, seconds));
        self
    }

    fn succeed(&mut self, life: Duration) -> bool {
        // A told clock starts anew with each `clock()`; its readings do not.
        let now = self.now();
        self.state.succeeded(Some(Expiry::after(now, life)), &self.policy, now)
    }

    fn failing(mut self, fault: &Fault) -> Self {
        let now = self.now();
        self.state.failed(fault, &self.policy, now);
        self
    }

    fn invalidated(mut self) -> Self {
        let now = self.now();
        assert!(self.state.invalidate(&self.policy, now));
        self
    }

    fn verdict(&self) -> Verdict<Fault> {
        self.state.classify(&self.policy, self.now())
    }

    fn due(&self) -> bool {
        self.state.is_due_unasked(&self.policy, self.now())
    }
}

#[test]
fn a_value_passes_from_fresh_through_advisory_and_mandatory_to_expired() {
    for (minutes, seconds, verdict) in [
        (0, 0, Serve(at(45, 0))),
        (44, 59, Serve(at(0, 1))),
        (45, 0, Advisory(at(14, 0))),
        (58, 59, Advisory(at(0, 1))),
        (59, 0, Mandatory(Reason::Expiring)),
        (60, 0, Mandatory(Reason::Expiring)),
        (100_000, 0, Mandatory(Reason::Expiring)),
    ] {
        let case = Case::hour().after(minutes, seconds);
        assert_eq!(case.verdict(), verdict, "after {minutes}:{seconds:02}");
        assert_eq!(case.due(), !matches!(verdict, Serve(_)));
    }
}

#[test]
fn a_short_life_is_used_for_most_of_it() {
    let case = || Case::with(RefreshPolicy::default(), at(2, 0));
    assert_eq!(case().verdict(), Serve(at(1, 30)));
    assert_eq!(case().after(1, 29).verdict(), Serve(at(0, 1)));
    assert_eq!(case().after(1, 30).verdict(), Advisory(at(0, 15)));
    assert_eq!(case().after(1, 45).verdict(), Mandatory(Reason::Expiring));
    let case = Case::with(RefreshPolicy::default(), at(0, 20)).after(0, 14);
    assert_eq!(case.verdict(), Serve(at(0, 1)));
}

#[test]
fn without_a_value_callers_wait_for_the_first_and_nothing_is_loaded_unasked() {
    let case = Case::empty(RefreshPolicy::default());
    assert_eq!(case.verdict(), Mandatory(Reason::FirstUse));
    assert!(!case.due());
}

#[test]
fn a_value_without_expiry_serves_until_it_is_invalidated() {
    let mut case = Case::empty(RefreshPolicy::default());
    let now = case.now();
    assert!(case.state.succeeded(None, &case.policy, now));
    let case = case.after(1_000_000, 0);
    assert_eq!(case.verdict(), Serve(Duration::MAX));
    assert_eq!(case.invalidated().verdict(), Mandatory(Reason::Invalidated));
}

#[test]
fn a_first_load_that_fails_for_a_passing_reason_is_not_remembered() {
    for fault in [
        Fault::Passing,
        Fault::panicked(String::new()),
        Fault::timed_out(at(0, 15)),
        Fault::Busy(Duration::ZERO),
    ] {
        let case = Case::empty(RefreshPolicy::default()).failing(&fault);
        assert_eq!(case.verdict(), Mandatory(Reason::FirstUse), "{fault:?}");
        assert_eq!(case.state.next_attempt(), 2);
    }
}

#[test]
fn a_first_load_that_fails_with_a_retry_after_is_not_tried_again_before() {
    for (asked, remembered) in [(1, 1), (20, 20), (3600, 60)] {
        // Not a moment longer than asked for, whatever is drawn.
        let case = || {
            Case::empty(RefreshPolicy::default())
                .drawn(1.0)
                .failing(&Fault::Busy(at(0, asked)))
        };
        assert_eq!(case().verdict(), Fail(Fault::Busy(at(0, asked))));
        assert!(matches!(case().after(0, remembered - 1).verdict(), Fail(_)));
        assert_eq!(case().after(0, remembered).verdict(), Mandatory(Reason::FirstUse));
    }
}

#[test]
fn a_failure_in_the_advisory_window_is_passed_over_for_a_quarter_of_what_is_left() {
    let case = || Case::hour().after(45, 0).failing(&Fault::Passing);
    assert_eq!(case().verdict(), Serve(at(3, 45)));
    assert_eq!(case().after(3, 44).verdict(), Serve(at(0, 1)));
    assert_eq!(case().after(3, 45).verdict(), Advisory(at(10, 15)));
}

#[test]
fn a_failure_in_the_mandatory_window_lets_the_value_serve_for_the_pause() {
    let case = || Case::hour().after(59, 20).failing(&Fault::Passing);
    assert_eq!(case().verdict(), Serve(at(0, 10)));
    let later = case().after(0, 10);
    assert_eq!(
        later.verdict(),
        Retry(Reason::Expiring),
        "nobody waits long for another failure"
    );
}

#[test]
fn once_expired_the_error_is_raised_and_tried_again_after_a_second() {
    let case = || Case::hour().after(60, 0).failing(&Fault::Passing);
    assert_eq!(case().verdict(), Fail(Fault::Passing));
    assert!(!case().due());
    assert_eq!(case().after(0, 1).verdict(), Mandatory(Reason::Expiring));
    assert!(case().after(0, 1).due());
}

#[test]
fn a_pause_does_not_outlive_the_value() {
    let policy = RefreshPolicy::builder().backoff(at(30, 0)..=at(30, 0)).build();
    let case = Case::with(policy, at(60, 0)).after(50, 0).failing(&Fault::Passing);
    assert_eq!(case.verdict(), Serve(at(2, 30)));
    // The wall clock is set forward: the pause has not passed on every clock, the value has on one.
    case.time.set_wall(2 * 3_600_000);
    assert_eq!(case.verdict(), Mandatory(Reason::Expiring));
}

#[test]
fn what_the_source_asks_for_lengthens_a_pause_within_its_clamp() {
    let case = Case::hour().after(1, 0).failing(&Fault::Busy(at(12, 0)));
    assert_eq!(case.verdict(), Serve(at(12, 0)));
}

#[test]
fn a_terminal_refusal_is_raised_at_once_and_withholds_the_value_until_a_load_succeeds() {
    for fault in [Fault::Terminal, Fault::SignedOut] {
        let case = || Case::hour().after(46, 0).failing(&fault);
        assert_eq!(case().verdict(), Fail(fault.clone()));
        assert_eq!(
            case().after(0, 1).verdict(),
            Mandatory(Reason::Expiring),
            "remembered for a second"
        );
        assert!(
            !case().after(0, 1).due(),
            "nobody is asked behind the user's back after {fault:?}"
        );
        let again = case().after(0, 1).failing(&Fault::Passing);
        assert_eq!(again.verdict(), Fail(Fault::Passing), "the value stays withheld");
        let mut again = again.after(0, 1);
        assert!(again.succeed(at(60, 0)));
        assert_eq!(again.verdict(), Serve(at(45, 0)));
    }
    let first = Case::empty(RefreshPolicy::default()).failing(&Fault::Terminal);
    assert_eq!(first.verdict(), Fail(Fault::Terminal));
    assert_eq!(first.after(0, 1).verdict(), Mandatory(Reason::FirstUse));
}

#[test]
fn signed_out_is_remembered_longer_each_time_up_to_a_minute() {
    let mut case = Case::hour();
    for remembered in [1, 2, 4, 8, 16, 32, 60, 60] {
        case = case.failing(&Fault::SignedOut).after(0, remembered - 1);
        assert_eq!(case.verdict(), Fail(Fault::SignedOut), "for {remembered} s");
        case = case.after(0, 1);
        assert_eq!(
            case.verdict(),
            Mandatory(Reason::Expiring),
            "not longer than {remembered} s"
        );
    }
    // Another kind of failure starts the count anew.
    let case = case
        .failing(&Fault::Terminal)
        .after(0, 1)
        .failing(&Fault::SignedOut)
        .after(0, 1);
    assert_eq!(case.verdict(), Mandatory(Reason::Expiring));
}

#[test]
fn an_answer_that_has_expired_already_changes_nothing() {
    let mut case = Case::hour().after(45, 0);
    assert!(!case.succeed(Duration::ZERO));
    assert_eq!(case.verdict(), Advisory(at(14, 0)));
}

#[test]
fn an_invalidated_value_makes_callers_wait_and_serves_if_nothing_better_can_be_had() {
    let case = || Case::hour().after(10, 0).invalidated();
    assert_eq!(case().verdict(), Mandatory(Reason::Invalidated));
    assert!(case().due());
    let failed = || case().failing(&Fault::Passing);
    assert_eq!(failed().verdict(), Serve(at(0, 1)));
    assert_eq!(
        failed().after(0, 1).verdict(),
        Retry(Reason::Invalidated),
        "asked again soon, and nobody waits long for it"
    );
    assert_eq!(case().failing(&Fault::Terminal).verdict(), Fail(Fault::Terminal));
    let mut twice = case();
    let now = twice.now();
    assert!(
        !twice.state.invalidate(&twice.policy, now),
        "the second invalidation of a value says nothing new"
    );
    let policy = RefreshPolicy::default();
    assert!(!Case::empty(policy.clone()).state.invalidate(&policy, now));
}

#[test]
fn an_outage_after_an_invalidation_is_tried_at_twice_the_interval_each_time() {
    let mut case = Case::hour().after(10, 0).invalidated();
    for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        case = case.failing(&Fault::Passing);
        assert_eq!(case.verdict(), Serve(at(0, seconds)));
        case = case.after(0, seconds);
        assert_eq!(case.verdict(), Retry(Reason::Invalidated));
    }
    let asked = Case::hour().after(10, 0).invalidated().failing(&Fault::Busy(at(2, 0)));
    assert_eq!(asked.verdict(), Serve(at(2, 0)), "what the source asks for counts");
}

#[test]
fn an_invalidation_does_not_cut_what_the_source_has_asked_for_to_less_than_a_minute_of_it() {
    for (asked, left) in [(8, 8), (600, 60)] {
        let case = Case::with(RefreshPolicy::builder().backoff(at(1, 0)..=at(1, 0)).build(), at(60, 0));
        let case = case.after(10, 0).failing(&Fault::Busy(at(0, asked))).invalidated();
        assert_eq!(case.verdict(), Serve(at(0, left)));
    }
}

#[test]
fn past_its_expiry_a_value_that_serves_backs_off_in_full() {
    let policy = RefreshPolicy::builder()
        .serve_expired(true)
        .backoff(at(2, 0)..=at(2, 0))
        .build();
    let case = Case::with(policy, at(60, 0)).after(60, 0);
    assert_eq!(
        case.verdict(),
        Mandatory(Reason::Expiring),
        "callers wait for the first attempt"
    );
    let case = case.failing(&Fault::Passing);
    assert_eq!(case.verdict(), Serve(at(2, 0)));
    assert_eq!(case.after(2, 0).verdict(), Retry(Reason::Expiring));
}

#[test]
fn an_invalidation_cuts_a_running_pause_to_five_seconds() {
    let case = || Case::hour().after(10, 0).failing(&Fault::Passing).invalidated();
    assert_eq!(case().verdict(), Serve(at(0, 5)));
    assert_eq!(case().after(0, 5).verdict(), Mandatory(Reason::Invalidated));
    let short = Case::hour().after(59, 48).failing(&Fault::Passing).invalidated();
    assert_eq!(short.verdict(), Serve(at(0, 3)), "a shorter one is left alone");
}

#[test]
fn static_stability_serves_past_expiry_and_pauses_between_attempts() {
    let case = || Case::with(RefreshPolicy::static_stability(), at(60, 0)).after(60, 0);
    assert_eq!(case().verdict(), Mandatory(Reason::Expiring), "an attempt comes first");
    let failed = || case().failing(&Fault::Passing);
    assert_eq!(failed().verdict(), Serve(at(5, 0)));
    assert_eq!(failed().after(5, 0).verdict(), Retry(Reason::Expiring));
    let rejected = Case::with(RefreshPolicy::static_stability(), at(60, 0))
        .after(10, 0)
        .invalidated()
        .failing(&Fault::Passing);
    assert_eq!(
        rejected.verdict(),
        Serve(at(5, 0)),
        "an invalidation is no reason to hurry"
    );
    let running = failed().after(1, 0).invalidated();
    assert_eq!(running.verdict(), Serve(at(4, 0)), "nor does it cut what is running");
    assert_eq!(
        failed().failing(&Fault::Terminal).verdict(),
        Fail(Fault::Terminal),
        "a refusal is raised"
    );
}

#[test]
fn clocks_that_come_apart_by_more_than_a_minute_force_a_refresh_that_nobody_waits_for() {
    for (by, verdict) in [
        (-60_000, Serve(at(35, 0))),
        (-60_001, Advisory(at(49, 0))),
        (-86_400_000, Advisory(at(49, 0))),
        (60_001, Advisory(at(50, 0) - Duration::from_millis(60_001) - at(1, 0))),
        (3_600_000, Mandatory(Reason::Expiring)),
    ] {
        let case = Case::hour().after(10, 0);
        case.time.set_wall(by);
        assert_eq!(case.verdict(), verdict, "set by {by} ms");
        // It is forced once, not for ever: the new value is taken by the new clock.
        let mut case = case;
        assert!(case.succeed(at(60, 0)));
        assert_eq!(case.verdict(), Serve(at(45, 0)), "set by {by} ms");
    }
}

#[test]
fn a_pause_ends_with_whichever_clock_ends_it_first() {
    let case = Case::hour().after(45, 0).failing(&Fault::Passing);
    case.time.set_wall(-86_400_000);
    assert_eq!(case.verdict(), Serve(at(3, 45)));
    let case = case.after(3, 45);
    assert!(
        matches!(case.verdict(), Advisory(_)),
        "a clock set back does not lengthen it"
    );
}

#[test]
fn attempts_are_counted_from_the_last_success() {
    let mut case = Case::hour().after(46, 0);
    assert_eq!(case.state.next_attempt(), 1);
    case = case.failing(&Fault::Passing).failing(&Fault::Terminal);
    assert_eq!(case.state.next_attempt(), 3);
    assert!(case.succeed(at(60, 0)));
    assert_eq!(case.state.next_attempt(), 1);
}

#[test]
fn a_value_with_too_little_left_is_replaced_for_whoever_needs_more() {
    let least = |case: &Case, minutes| case.state.classify_for(at(minutes, 0), &case.policy, case.now());
    assert_eq!(
        least(&Case::empty(RefreshPolicy::default()), 1),
        Mandatory(Reason::FirstUse)
    );
    let case = Case::hour().after(20, 0);
    assert_eq!(least(&case, 40), Serve(at(25, 0)));
    assert_eq!(least(&case, 41), Mandatory(Reason::Expiring));
    let failed = case.failing(&Fault::Passing);
    assert_eq!(least(&failed, 40), Serve(at(5, 0)));
    assert_eq!(least(&failed, 41), Fail(Fault::Passing), "no hammering");
    assert_eq!(
        least(&failed.after(0, 1), 41),
        Mandatory(Reason::Expiring),
        "and no waiting for the back-off"
    );
    let refused = Case::hour().after(20, 0).failing(&Fault::Terminal);
    assert_eq!(least(&refused, 41), Fail(Fault::Terminal));
    let rejected = Case::hour().after(20, 0).invalidated();
    assert_eq!(least(&rejected, 1), Mandatory(Reason::Invalidated));
}

#[test]
fn a_source_that_never_gives_enough_is_asked_once_a_minute() {
    let case = Case::hour();
    let least = |case: &Case| case.state.classify_for(at(90, 0), &case.policy, case.now());
    assert_eq!(least(&case), TooShort(at(60, 0)));
    assert_eq!(least(&case.after(1, 0)), Mandatory(Reason::Expiring));
}
