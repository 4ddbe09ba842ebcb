//! Sources that fail, hang or ask to be left alone, in virtual time; and static stability against AWS's situations.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::kit::{Fault, Hand, Stage, Time, value};
use crate::clock::Expiry;
use crate::refresh::{Load, Loaded, RefreshCache, RefreshPolicy, load_fn};

const SECOND: Duration = Duration::from_secs(1);

/// How old the value is at the beginning: it lives for an hour, its advisory window is 15 minutes, the mandatory one a minute.
#[derive(Clone, Copy)]
enum Given {
    Nothing,
    Fresh,
    Advisory,
    Mandatory,
    Expired,
}

/// What the source answers, should it be asked.
#[derive(Clone, Copy)]
enum Answer {
    /// A new value for so many seconds.
    New(u64),
    ExpiredAlready,
    Passing,
    Terminal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// The value that the source was asked for just now.
    New,
    /// The value from before.
    Old,
    Error,
}

#[derive(Clone, Copy)]
enum Step {
    /// A caller asks: what the source has ready, what the caller gets, and whether the source was asked.
    Ask(Option<Answer>, Gets),
    Pass(u64),
    /// The current value is rejected, or one from before.
    RejectCurrent,
    RejectOther,
    /// The advisory window of the current value is this long.
    Window(u64),
}

use Answer::{ExpiredAlready, New, Passing, Terminal};
use Given::{Advisory, Expired, Fresh, Mandatory, Nothing};
use Step::{Ask, Pass, RejectCurrent, RejectOther, Window};

const HOUR: Answer = New(3600);
const NEW: Step = Ask(Some(HOUR), Gets::New);
const KEPT: Step = Ask(None, Gets::Old);
const FAILS: Step = Ask(Some(Passing), Gets::Old);
const REFUSED: Step = Ask(Some(Terminal), Gets::Error);

/// The situations of the suite that the AWS SDKs share for their credential refresh
/// (`aws-runtime/test-data/credential-refresh-tests.json`, smithy-rs pull request 4774), in our words.
const SITUATIONS: [(&str, Given, &[Step]); 22] = [
    ("a fresh value is served", Fresh, &[KEPT]),
    ("advisory, refreshed", Advisory, &[NEW]),
    ("advisory, fails: backs off", Advisory, &[FAILS, KEPT]),
    ("mandatory, refreshed", Mandatory, &[NEW]),
    ("mandatory, fails: backs off", Mandatory, &[FAILS, KEPT]),
    ("expired, refreshed", Expired, &[NEW]),
    ("expired, fails: served, backs off", Expired, &[FAILS, KEPT]),
    (
        "a first load fails and is tried again",
        Nothing,
        &[Ask(Some(Passing), Gets::Error), NEW],
    ),
    (
        "advisory, brings what has expired",
        Advisory,
        &[Ask(Some(ExpiredAlready), Gets::Old), KEPT],
    ),
    (
        "mandatory, brings what has expired",
        Mandatory,
        &[Ask(Some(ExpiredAlready), Gets::Old), KEPT],
    ),
    (
        "ten minutes: a window of five",
        Nothing,
        &[Ask(Some(New(600)), Gets::New), Window(300)],
    ),
    (
        "twenty and a half: of fifteen",
        Nothing,
        &[Ask(Some(New(1230)), Gets::New), Window(900)],
    ),
    (
        "six hours: of sixty",
        Nothing,
        &[Ask(Some(New(21_600)), Gets::New), Window(3600)],
    ),
    (
        "the window is chosen anew for each value",
        Nothing,
        &[
            Ask(Some(New(21_600)), Gets::New),
            Pass(18_060),
            Ask(Some(New(600)), Gets::New),
            Window(300),
        ],
    ),
    (
        "advisory, refused: raised for 5 s at most",
        Advisory,
        &[REFUSED, Pass(6), NEW],
    ),
    (
        "mandatory, refused: raised for 5 s at most",
        Mandatory,
        &[REFUSED, Pass(6), NEW],
    ),
    (
        "a refusal is raised again without asking",
        Advisory,
        &[REFUSED, Ask(None, Gets::Error)],
    ),
    (
        "a first load refused: raised for 5 s at most",
        Nothing,
        &[REFUSED, Pass(6), NEW],
    ),
    ("rejected, replaced", Fresh, &[RejectCurrent, NEW]),
    ("rejected, fails: served", Fresh, &[RejectCurrent, FAILS, KEPT]),
    ("another was rejected", Fresh, &[RejectOther, KEPT]),
    (
        "a failure is followed by a back-off",
        Expired,
        &[FAILS, Pass(299), KEPT, Pass(1), NEW],
    ),
];

/// Two more, with what the user has set.
const BACKING_OFF_FOR_420_SECONDS: [(&str, Given, &[Step]); 2] = [
    (
        "a rejection during a back-off does not shorten it",
        Expired,
        &[FAILS, Pass(60), RejectCurrent, KEPT, Pass(425), NEW],
    ),
    (
        "nobody asks before the back-off is over",
        Expired,
        &[FAILS, Pass(300), KEPT, Pass(425), NEW],
    ),
];
const WINDOW_OF_30_MINUTES: (&str, Given, &[Step]) = (
    "a window that is set takes the place of the table's",
    Nothing,
    &[Ask(Some(New(21_600)), Gets::New), Window(1800)],
);

/// A source that answers at once with what is in the queue, and counts.
#[derive(Clone, Default)]
struct Ready {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<u64>>,
}

impl Ready {
    fn load(&self, time: &Time) -> Load<u64, Fault> {
        let (source, clock) = (self.clone(), time.clock());
        load_fn(move |_| {
            let mut calls = source.calls.lock().unwrap();
            *calls += 1;
            let good = |seconds| {
                Ok(Loaded {
                    value: *calls,
                    expires: Some(Expiry::after(clock.now(), Duration::from_secs(seconds))),
                })
            };
            let answer = match source.answers.lock().unwrap().pop_front() {
                Some(New(seconds)) => good(seconds),
                Some(ExpiredAlready) => good(0),
                Some(Terminal) => Err(Fault::Terminal),
                Some(Passing) | None => Err(Fault::Passing),
            };
            Box::pin(std::future::ready(answer))
        })
    }

    fn calls(&self) -> u64 {
        *self.calls.lock().unwrap()
    }
}

fn run((what, given, steps): (&str, Given, &[Step]), policy: &RefreshPolicy) {
    let (time, source) = (Time::new(), Ready::default());
    let policy = policy.clone().with_random(0.0);
    let cache = RefreshCache::new(policy, time.clock(), Some(time.sleep()), source.load(&time));
    let ask = |ready: Option<Answer>| {
        source.answers.lock().unwrap().extend(ready);
        let got = Hand::new(cache.get()).poll().expect("the source answers at once");
        source.answers.lock().unwrap().clear();
        value(got)
    };
    let mut current = 0;
    let age = match given {
        Nothing => None,
        Fresh => Some(1000),
        Advisory => Some(3000),
        Mandatory => Some(3550),
        Expired => Some(3700),
    };
    if let Some(age) = age {
        current = ask(Some(HOUR)).unwrap();
        time.advance(SECOND * age);
    }
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Ask(ready, gets) => {
                let before = source.calls();
                let got = ask(ready);
                let asked = source.calls() - before;
                assert_eq!(asked, u64::from(ready.is_some()), "{what}, step {number}: loads");
                match gets {
                    Gets::New => {
                        assert_eq!(got, Ok(before + 1), "{what}, step {number}");
                        current = before + 1;
                    }
                    Gets::Old => assert_eq!(got, Ok(current), "{what}, step {number}"),
                    Gets::Error => assert!(got.is_err(), "{what}, step {number}: {got:?}"),
                }
            }
            Pass(seconds) => time.advance(Duration::from_secs(seconds)),
            RejectCurrent => assert!(cache.invalidate(|value| *value == current)),
            RejectOther => assert!(!cache.invalidate(|value| *value == current + 1000)),
            Window(seconds) => {
                let (left, _) = cache.status().life.unwrap();
                time.advance(left - Duration::from_secs(seconds) - SECOND);
                let before = source.calls();
                assert_eq!(ask(None), Ok(current), "{what}");
                assert_eq!(source.calls(), before, "{what}: a second before its window");
                time.advance(SECOND);
                assert!(ask(Some(HOUR)).is_ok());
                assert_eq!(source.calls(), before + 1, "{what}: with its window");
            }
        }
    }
}

#[test]
fn static_stability_has_the_outcomes_of_awss_situations() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let policy = RefreshPolicy::static_stability();
    SITUATIONS.into_iter().for_each(|situation| run(situation, &policy));
    let longer = policy.to_builder().backoff(minutes(7)..=minutes(7)).build();
    BACKING_OFF_FOR_420_SECONDS
        .into_iter()
        .for_each(|situation| run(situation, &longer));
    run(
        WINDOW_OF_30_MINUTES,
        &policy.to_builder().advisory_window(minutes(30)).build(),
    );
}

/// A caller a second, for so long, while the source fails; how often it is asked.
fn asked_in_an_outage(cache: &RefreshCache<u64, Fault>, source: &Ready, time: &Time, seconds: u64) -> u64 {
    let before = source.calls();
    for _ in 0..seconds {
        let got = Hand::new(cache.get()).poll().expect("the source answers at once");
        assert_eq!(value(got), Ok(1), "the old value serves");
        time.advance(SECOND);
    }
    source.calls() - before
}

fn outage(policy: RefreshPolicy) -> (RefreshCache<u64, Fault>, Ready, Time) {
    let (time, source) = (Time::new(), Ready::default());
    source.answers.lock().unwrap().push_back(HOUR);
    let policy = policy.with_random(0.0);
    let cache = RefreshCache::new(policy, time.clock(), Some(time.sleep()), source.load(&time));
    assert_eq!(Hand::new(cache.get()).poll().map(value), Some(Ok(1)));
    (cache, source, time)
}

#[test]
fn an_invalidation_during_an_outage_is_no_storm() {
    for (policy, calls) in [(RefreshPolicy::static_stability(), 2), (RefreshPolicy::default(), 9)] {
        let (cache, source, time) = outage(policy);
        time.advance(SECOND * 600);
        assert!(cache.invalidate(|_| true));
        assert_eq!(asked_in_an_outage(&cache, &source, &time, 420), calls);
    }
}

#[test]
fn an_invalidation_does_not_cut_the_pause_of_static_stability() {
    for (policy, is_cut) in [
        (RefreshPolicy::static_stability(), false),
        (RefreshPolicy::default(), true),
    ] {
        let (cache, source, time) = outage(policy);
        // In the advisory window: the attempt fails, and a pause of five minutes begins.
        time.advance(SECOND * 3000);
        assert_eq!(asked_in_an_outage(&cache, &source, &time, 1), 1);
        assert!(cache.invalidate(|_| true));
        assert_eq!(asked_in_an_outage(&cache, &source, &time, 10) > 0, is_cut);
    }
}

#[test]
fn whoever_serves_expired_values_backs_off_past_the_expiry() {
    let policy = RefreshPolicy::builder()
        .serve_expired(true)
        .backoff(SECOND * 120..=SECOND * 120)
        .build();
    let (cache, source, time) = outage(policy);
    time.advance(SECOND * 3600);
    assert_eq!(asked_in_an_outage(&cache, &source, &time, 600), 5);
}

/// How long callers wait, one after the other, while the source hangs.
fn waits(stage: &Stage, callers: usize) -> Vec<u64> {
    (0..callers)
        .map(|_| {
            let mut caller = Hand::new(stage.cache.get());
            let mut waited = 0;
            let mut got = caller.poll();
            while got.is_none() {
                stage.advance(1);
                waited += 1;
                assert!(waited < 60, "a caller hangs");
                got = caller.poll_if_woken();
            }
            assert_eq!(got.map(value), Some(Ok(7)), "the old value serves");
            stage.advance(1);
            waited
        })
        .collect()
}

#[test]
fn a_source_that_hangs_is_waited_for_once_and_then_for_a_second_at_most() {
    let expired = RefreshPolicy::builder()
        .serve_expired(true)
        .backoff(SECOND * 10..=SECOND * 10)
        .build();
    type Begin = fn(&Stage);
    let cases: [(&str, RefreshPolicy, Begin); 3] = [
        ("expired", expired, |stage| stage.advance(3600)),
        ("static stability", RefreshPolicy::static_stability(), |stage| {
            stage.advance(3600)
        }),
        ("invalidated", RefreshPolicy::default(), |stage| {
            assert!(stage.cache.invalidate(|_| true))
        }),
    ];
    for (what, policy, begin) in cases {
        let stage = Stage::with(policy);
        stage.fill(7, 3600);
        begin(&stage);
        let waits = waits(&stage, 400);
        assert_eq!(waits[0], 15, "{what}: the first waits for the load's timeout");
        assert!(waits[1..].iter().all(|wait| *wait <= 1), "{what}: {waits:?}");
        assert!(stage.source.calls() > 2, "{what}: it is tried again");
    }
}

#[test]
fn without_any_sleep_a_source_that_hangs_after_a_failure_keeps_nobody_waiting() {
    let (time, source) = (Time::new(), super::kit::Source::default());
    let policy = RefreshPolicy::static_stability().with_random(0.0);
    let cache = RefreshCache::new(policy, time.clock(), None, source.load());
    let stage = Stage { time, source, cache };
    stage.fill(7, 3600);
    stage.advance(3600);
    assert_eq!(stage.ask_while(Err(Fault::Passing)), Ok(7));
    stage.advance(300);
    assert_eq!(stage.ask(), Ok(7), "it hangs from here on");
    assert_eq!((stage.source.calls(), stage.source.alive()), (3, 1));
}

#[test]
fn a_retry_after_at_a_first_load_counts_for_all_callers() {
    let stage = Stage::new();
    let busy = Fault::Busy(SECOND * 30);
    let mut together: Vec<_> = (0..25).map(|_| Hand::waiting(stage.cache.get())).collect();
    assert!(stage.source.answer(Err(busy.clone())));
    for caller in &mut together {
        assert_eq!(caller.poll_if_woken().map(value), Some(Err(busy.clone())));
    }
    for _ in 0..25 {
        assert_eq!(stage.ask(), Err(busy.clone()));
        stage.advance(1);
    }
    assert_eq!(stage.source.calls(), 1, "50 callers ask once");
    stage.advance(5);
    stage.fill(7, 3600);
}
