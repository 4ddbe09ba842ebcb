//! A fleet that shares an account, in virtual time: every instance has a limit of its own, and they know nothing of each other.
//!
//! The account is a token bucket, as AWS's: so many requests a second, a second's worth at once. Arrivals are random and seeded, so that
//! a run is the same each time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

const QUOTA: f64 = 50.0;
/// Somebody waits, and as much as the quota's half would do.
const INTERACTIVE: f64 = 0.5 * QUOTA;
/// Together three times the quota.
const BACKGROUND: f64 = 2.5 * QUOTA;

struct Account {
    tokens: f64,
    at: Instant,
    /// Each attempt: when, by which instance, and whether it was taken.
    attempts: Vec<(Instant, usize, bool)>,
    /// Each interactive request that was served: when it came, how long it waited for its turn, and how long it took in all.
    interactive: Vec<(Instant, Duration, Duration)>,
    /// Interactive requests that their own instance turned away.
    turned_away: Vec<Instant>,
}

impl Account {
    fn asked(&mut self, instance: usize) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * QUOTA).min(QUOTA);
        self.at = now;
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        self.attempts.push((now, instance, taken));
        taken
    }
}

/// The instances, and the load that a balancer deals them evenly.
struct Fleet {
    account: Arc<Mutex<Account>>,
    seed: u64,
    background: f64,
    /// What an instance is told of the number of instances.
    told: u32,
    running: BTreeMap<usize, RequestLimit>,
    started: usize,
}

impl Fleet {
    fn new(seed: u64, background: f64, told: u32) -> Self {
        Self {
            account: Arc::new(Mutex::new(Account {
                tokens: QUOTA,
                at: Instant::now(),
                attempts: Vec::new(),
                interactive: Vec::new(),
                turned_away: Vec::new(),
            })),
            seed,
            background,
            told,
            running: BTreeMap::new(),
            started: 0,
        }
    }

    fn join(&mut self, instances: usize) {
        for _ in 0..instances {
            let limit = RequestLimit::per_second(n(QUOTA as u32)).instances(n(self.told));
            self.running.insert(self.started, attached(limit));
            self.started += 1;
        }
    }

    /// The oldest go, as in a deployment. What they have begun they end.
    fn leave(&mut self, instances: usize) {
        for _ in 0..instances {
            self.running.pop_first();
        }
    }

    async fn run(&mut self, seconds: u64) {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut loads = JoinSet::new();
        let share = 1.0 / self.running.len() as f64;
        for (instance, limit) in &self.running {
            for (lane, rate) in [
                (Lane::Interactive, INTERACTIVE * share),
                (Lane::Background, self.background * share),
            ] {
                let client = Client {
                    account: Arc::clone(&self.account),
                    limit: limit.clone(),
                    instance: *instance,
                    lane,
                };
                self.seed = self.seed.wrapping_add(1);
                loads.spawn(client.come(rate, fastrand::Rng::with_seed(self.seed), end));
            }
        }
        loads.join_all().await;
    }
}

#[derive(Clone)]
struct Client {
    account: Arc<Mutex<Account>>,
    limit: RequestLimit,
    instance: usize,
    lane: Lane,
}

impl Client {
    /// Requests come, on an average `rate` a second, and do not wait for each other.
    async fn come(self, rate: f64, mut random: fastrand::Rng, end: Instant) {
        if rate == 0.0 {
            return;
        }
        loop {
            let pause = -(1.0 - random.f64()).ln() / rate;
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
            if Instant::now() >= end {
                return;
            }
            tokio::spawn(self.clone().request(random.fork()));
        }
    }

    /// As a vendor and the SDK below it: a turn, then at most three attempts, each after a longer pause.
    async fn request(self, mut random: fastrand::Rng) {
        let came = Instant::now();
        let patience = match self.lane {
            Lane::Interactive => Duration::from_secs(1),
            Lane::Background => Duration::from_secs(20),
        };
        match self.limit.turn(self.lane, patience).await {
            Ok(turn) => turn.used(),
            Err(_) => {
                if self.lane == Lane::Interactive {
                    self.account.lock().unwrap().turned_away.push(came);
                }
                return;
            }
        }
        let waited = came.elapsed();
        for attempt in 0..3 {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs_f64(random.f64() * f64::from(1 << (attempt - 1)))).await;
                self.limit.repeated();
            }
            tokio::time::sleep(Duration::from_millis(random.u64(15..40))).await;
            let taken = self.account.lock().unwrap().asked(self.instance);
            tokio::time::sleep(Duration::from_millis(random.u64(15..40))).await;
            if taken {
                if self.lane == Lane::Interactive {
                    self.account
                        .lock()
                        .unwrap()
                        .interactive
                        .push((came, waited, came.elapsed()));
                }
                return;
            }
            self.limit.throttled();
        }
    }
}

/// What came of a stretch of time.
#[derive(Debug)]
struct Figures {
    /// The part of the quota that was used, and of the attempts the part that the account refused.
    used: f64,
    refused: f64,
    /// What the instance got that got least, in fair shares.
    least: f64,
    /// Of interactive requests: 99 of 100 waited no longer for their turn, and took no longer in all; and the part that was turned away.
    waited: Duration,
    took: Duration,
    turned_away: f64,
}

impl Fleet {
    fn figures(&self, from: Instant) -> Figures {
        let account = self.account.lock().unwrap();
        let until = Instant::now();
        let attempts: Vec<_> = account
            .attempts
            .iter()
            .filter(|(at, ..)| (from..until).contains(at))
            .collect();
        let quota = QUOTA * (until - from).as_secs_f64();
        let taken = attempts.iter().filter(|(.., taken)| *taken).count() as f64;
        let of = |instance: usize| {
            attempts
                .iter()
                .filter(|(_, of, taken)| *taken && *of == instance)
                .count() as f64
        };
        let fair = quota / self.running.len() as f64;
        let served: Vec<_> = account
            .interactive
            .iter()
            .filter(|(at, ..)| (from..until).contains(at))
            .collect();
        let turned_away = account
            .turned_away
            .iter()
            .filter(|at| (from..until).contains(at))
            .count() as f64;
        let p99 = |of: fn(&(Instant, Duration, Duration)) -> Duration| {
            let mut all: Vec<_> = served.iter().map(|served| of(served)).collect();
            all.sort();
            all[all.len() * 99 / 100]
        };
        Figures {
            used: taken / quota,
            refused: 1.0 - taken / attempts.len() as f64,
            least: self
                .running
                .keys()
                .map(|instance| of(*instance) / fair)
                .fold(f64::INFINITY, f64::min),
            waited: p99(|served| served.1),
            took: p99(|served| served.2),
            turned_away: turned_away / (served.len() as f64 + turned_away),
        }
    }
}

/// Twenty instances for five minutes; five leave, ten join, five leave; then four minutes in which nothing changes. The whole and the
/// end.
async fn a_day(seed: u64, background: f64) -> (Figures, Figures) {
    let mut fleet = Fleet::new(seed, background, 20);
    let began = Instant::now();
    fleet.join(20);
    fleet.run(300).await;
    fleet.leave(5);
    fleet.run(180).await;
    fleet.join(10);
    fleet.run(180).await;
    fleet.leave(5);
    fleet.run(120).await;
    let steady = Instant::now();
    fleet.run(240).await;
    (fleet.figures(began), fleet.figures(steady))
}

#[tokio::test(start_paused = true)]
async fn a_fleet_uses_the_quota_and_is_refused_little_and_every_instance_has_its_share() {
    for seed in [1, 1_000, 2_000] {
        let (whole, steady) = a_day(seed, BACKGROUND).await;
        println!("{seed}: {whole:?}, at the end {steady:?}");
        for figures in [&whole, &steady] {
            assert!(figures.used >= 0.9 && figures.refused <= 0.05, "{figures:?}");
        }
        assert!(steady.least >= 0.5, "{steady:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_because_of_background_work() {
    let (_, alone) = a_day(1, 0.0).await;
    let (_, beside) = a_day(1, BACKGROUND).await;
    println!("alone {alone:?}, beside background work {beside:?}");
    assert_eq!(alone.waited, Duration::ZERO);
    // The next turn of the quota, which background work may just have taken.
    assert!(beside.waited <= Duration::from_millis(50), "{beside:?}");
    assert!(beside.turned_away <= 0.01, "{beside:?}");
    // So few are refused by the account that the pause of the SDK before it asks again does not show.
    assert!(beside.took <= alone.took + alone.took / 10, "{alone:?} {beside:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_nobody_has_counted_finds_its_shares_too() {
    let mut fleet = Fleet::new(1, BACKGROUND, 1);
    fleet.join(20);
    fleet.run(120).await;
    let steady = Instant::now();
    fleet.run(240).await;
    let figures = fleet.figures(steady);
    println!("{figures:?}");
    assert!(
        figures.used >= 0.9 && figures.refused <= 0.1 && figures.least >= 0.5,
        "{figures:?}"
    );
}
