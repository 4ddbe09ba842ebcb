//! What callers see of refreshes, herds and failing sources: the engine against the SDK's own cache and a provider written
//! by hand over `tokio::RwLock`.
//!
//! `cargo bench --bench refresh` prints the tables and draws `docs/refreshes.svg`, `cargo bench --bench refresh -- --test` runs
//! everything once and draws nothing.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    clippy::print_stdout,
    clippy::expect_used
)]

#[path = "../src"]
mod engine {
    pub(crate) mod clock;
    pub(crate) mod refresh;
}
mod harness;
#[path = "harness/plot.rs"]
mod plot;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future};
use aws_sdk_sts::config::{ConfigBag, IdentityCache, RuntimeComponents};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::identity::{ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use engine::{clock, refresh};
use harness::{Histogram, is_quick, median, ratio, table};
use refresh::{Failure, Loaded, RefreshCache, RefreshPolicy, load_fn};
use tokio::runtime::Runtime;

const LOAD: Duration = Duration::from_millis(200);

/// Time that runs faster than the clock on the wall, so that hours of credentials fit into a bench.
#[derive(Clone, Debug)]
struct Fast {
    start: Instant,
    epoch: SystemTime,
    times: u32,
}

impl Fast {
    fn new(times: u32) -> Self {
        Self {
            start: Instant::now(),
            epoch: SystemTime::now(),
            times,
        }
    }

    fn shared(&self) -> SharedTimeSource {
        SharedTimeSource::new(self.clone())
    }
}

impl TimeSource for Fast {
    fn now(&self) -> SystemTime {
        self.epoch + self.start.elapsed() * self.times
    }
}

/// Takes 200 ms for credentials that live for `life`, or to fail.
#[derive(Clone, Debug)]
struct Source {
    time: SharedTimeSource,
    life: Duration,
    fails: bool,
    loads: Arc<AtomicUsize>,
}

impl Source {
    fn new(time: SharedTimeSource, life: Duration) -> Self {
        Self {
            time,
            life,
            fails: false,
            loads: Arc::default(),
        }
    }

    fn failing() -> Self {
        Self {
            fails: true,
            ..Self::new(SharedTimeSource::default(), Duration::from_secs(3600))
        }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    async fn load(&self) -> Result<Credentials, Failed> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(LOAD).await;
        if self.fails {
            return Err(Failed);
        }
        let expiry = self.time.now() + self.life;
        Ok(Credentials::new(
            "AKIDEXAMPLE",
            "secret",
            Some("session token".into()),
            Some(expiry),
            "bench",
        ))
    }
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.load().await.map_err(CredentialsError::provider_error) })
    }
}

#[derive(Clone, Debug)]
struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

impl Failure for Failed {
    fn is_terminal(&self) -> bool {
        false
    }

    fn needs_sign_in(&self) -> bool {
        false
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }

    fn panicked(_: String) -> Self {
        Self
    }

    fn timed_out(_: Duration) -> Self {
        Self
    }

    fn reentered() -> Self {
        Self
    }

    fn ended() -> Self {
        Self
    }

    fn expired_on_arrival() -> Self {
        Self
    }

    fn too_short(_: Duration, _: Duration) -> Self {
        Self
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// One way to keep credentials.
trait Keep: Send + Sync {
    /// Credentials for one request. `false`: there were none.
    fn ask(&self) -> Answer<'_>;
}

/// Ours: the engine.
struct Ours(RefreshCache<Credentials, Failed>);

impl Ours {
    fn new(source: &Source) -> Self {
        // Loads take 200 ms of real time, which is many minutes of fast time.
        let policy = RefreshPolicy::builder()
            .advisory_window(Duration::from_secs(45 * 60))
            .load_timeout(Duration::from_secs(3600))
            .build();
        let clock = clock::Clock::new(source.time.clone());
        let source = source.clone();
        let load: refresh::Load<Credentials, Failed> = {
            let clock = clock.clone();
            load_fn(move |_| {
                let (source, clock) = (source.clone(), clock.clone());
                Box::pin(async move {
                    let value = source.load().await?;
                    let expires = value.expiry().map(|at| clock::Expiry::received(clock.now(), at, None));
                    Ok(Loaded { value, expires })
                })
            })
        };
        Self(RefreshCache::new(
            policy,
            clock,
            Some(SharedAsyncSleep::new(TokioSleep::new())),
            load,
        ))
    }
}

impl Keep for Ours {
    fn ask(&self) -> Answer<'_> {
        Box::pin(async {
            if self
                .0
                .peek(|credentials| std::hint::black_box(credentials.clone()))
                .is_some()
            {
                return true;
            }
            self.0.get().await.is_ok_and(|credentials| {
                std::hint::black_box((*credentials).clone());
                true
            })
        })
    }
}

/// The SDK's: `IdentityCache::lazy()`, asked as its orchestrator does.
struct Lazy {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    bag: ConfigBag,
}

impl Lazy {
    fn new(source: &Source) -> Self {
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(source.time.clone()))
            .with_sleep_impl(Some(SharedAsyncSleep::new(TokioSleep::new())))
            .build()
            .expect("components for tests are complete");
        Self {
            cache: IdentityCache::lazy().build(),
            resolver: SharedIdentityResolver::new(SharedCredentialsProvider::new(source.clone())),
            components,
            bag: ConfigBag::base(),
        }
    }
}

impl Keep for Lazy {
    fn ask(&self) -> Answer<'_> {
        Box::pin(async {
            let identity = self
                .cache
                .resolve_cached_identity(self.resolver.clone(), &self.components, &self.bag)
                .await;
            identity.is_ok_and(|identity| std::hint::black_box(identity.data::<Credentials>().cloned()).is_some())
        })
    }
}

/// What one writes by hand: read, else write and load under the lock.
struct ByHand {
    kept: tokio::sync::RwLock<Option<Credentials>>,
    source: Source,
}

impl ByHand {
    fn new(source: &Source) -> Self {
        Self {
            kept: tokio::sync::RwLock::new(None),
            source: source.clone(),
        }
    }

    fn fresh(&self, kept: &Option<Credentials>) -> Option<Credentials> {
        let margin = Duration::from_secs(10);
        kept.as_ref()
            .filter(|kept| kept.expiry().is_some_and(|at| self.source.time.now() + margin < at))
            .cloned()
    }
}

impl Keep for ByHand {
    fn ask(&self) -> Answer<'_> {
        Box::pin(async {
            if let Some(credentials) = self.fresh(&*self.kept.read().await) {
                std::hint::black_box(credentials);
                return true;
            }
            let mut kept = self.kept.write().await;
            if self.fresh(&kept).is_none() {
                match self.source.load().await {
                    Ok(credentials) => *kept = Some(credentials),
                    Err(Failed) => return false,
                }
            }
            true
        })
    }
}

type New = fn(&Source) -> Arc<dyn Keep>;

fn contenders() -> [(&'static str, New); 3] {
    [
        ("this crate", |source| Arc::new(Ours::new(source))),
        ("IdentityCache::lazy()", |source| Arc::new(Lazy::new(source))),
        ("tokio::RwLock by hand", |source| Arc::new(ByHand::new(source))),
    ]
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// What 8 tasks see that ask all the time, until the source has been loaded so often (or so much time has passed): all calls that
/// began after the first load, after the second one began, and so on.
fn under_load(
    runtime: &Runtime,
    keep: &Arc<dyn Keep>,
    source: &Source,
    loads: usize,
    at_most: Duration,
) -> Vec<Histogram> {
    runtime.block_on(async {
        assert!(keep.ask().await);
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (keep, stop, source) = (Arc::clone(keep), Arc::clone(&stop), source.clone());
                tokio::spawn(async move {
                    let mut seen: Vec<Histogram> = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        for _ in 0..32 {
                            let start = Instant::now();
                            assert!(keep.ask().await);
                            let taken = start.elapsed();
                            // After the call: one that waits for a load, or begins it, belongs to that load.
                            let cycle = source.loads().saturating_sub(1);
                            if seen.len() <= cycle {
                                seen.resize_with(cycle + 1, Histogram::new);
                            }
                            seen[cycle].record(taken);
                        }
                        tokio::task::yield_now().await;
                    }
                    seen
                })
            })
            .collect();
        let start = Instant::now();
        while source.loads() <= loads && start.elapsed() < at_most {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.store(true, Ordering::Relaxed);
        let mut all: Vec<Histogram> = Vec::new();
        for task in tasks {
            let seen = task.await.expect("a caller panicked");
            all.resize_with(all.len().max(seen.len()), Histogram::new);
            all.iter_mut().zip(&seen).for_each(|(all, seen)| all.merge(seen));
        }
        all
    })
}

fn together(cycles: &[Histogram]) -> Histogram {
    let mut all = Histogram::new();
    cycles.iter().for_each(|cycle| all.merge(cycle));
    all
}

fn refresh_cycles(runtime: &Runtime) {
    let cycles = if is_quick() { 1 } else { 100 };
    let forever = Duration::from_secs(3600);
    let mut rows = vec![row![
        "",
        "cycles",
        "calls",
        "p50",
        "p99",
        "p99.99",
        "longest",
        "calls >= 100 ms"
    ]];
    let mut quiet_tail = None;
    let mut lines = Vec::new();
    for (name, new) in contenders() {
        // The same load while nothing is refreshed, for as long as the cycles of the first will take.
        let idle = Source::new(SharedTimeSource::default(), Duration::from_secs(365 * 24 * 3600));
        let quiet_for = Duration::from_millis(if is_quick() { 300 } else { 15_000 });
        let quiet = together(&under_load(runtime, &new(&idle), &idle, usize::MAX - 1, quiet_for));
        // 15 minutes of fast time, 0.45 s, from one refresh to the next: ours starts 45 minutes before the end of an hour,
        // the others load at the end of a life of 15 minutes.
        let life = Duration::from_secs(60 * if name == "this crate" { 60 } else { 15 });
        let source = Source::new(Fast::new(2000).shared(), life);
        let by_cycle = under_load(runtime, &new(&source), &source, cycles, forever);
        let busy = together(&by_cycle);
        // Without the first load, for which everybody waits, and the last one, which was not seen to its end.
        let whole = by_cycle.get(1..=cycles.min(by_cycle.len() - 1)).unwrap_or_default();
        if name != "tokio::RwLock by hand" {
            lines.push(plot::Line::of(name, whole));
        }
        for (when, seen, cycles) in [("no refresh", &quiet, 0), ("refreshing", &busy, cycles)] {
            rows.push(row![
                format!("{name}, {when}"),
                cycles,
                seen.calls(),
                format!("{:?}", seen.quantile(0.5)),
                format!("{:?}", seen.quantile(0.99)),
                format!("{:?}", seen.quantile(0.9999)),
                format!("{:?}", seen.most()),
                seen.at_least(Duration::from_millis(100)),
            ]);
        }
        quiet_tail.get_or_insert([0.5, 0.99, 0.9999].map(|q| ratio(busy.quantile(q), quiet.quantile(q))));
    }
    table("Refresh cycles, 200 ms source, 8 tasks that ask all the time", &rows);
    if let Some([p50, p99, p9999]) = quiet_tail {
        println!("\nthis crate, refreshing / no refresh: p50 {p50}, p99 {p99}, p99.99 {p9999}");
    }
    if !is_quick() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/refreshes.svg");
        std::fs::write(file, plot::svg(&lines)).expect("docs/ is written to");
        println!("\n{file}");
    }
}

/// How long it takes until so many callers, all at once, have their answers.
fn herd(runtime: &Runtime, keep: &Arc<dyn Keep>, callers: usize) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let keep = Arc::clone(keep);
                tokio::spawn(async move { keep.ask().await })
            })
            .collect();
        for task in tasks {
            let _answered: bool = task.await.expect("a caller panicked");
        }
        start.elapsed()
    })
}

fn cold_herd(runtime: &Runtime) {
    let mut rows = vec![row!["", "one caller", "10,000 callers", "ratio", "loads"]];
    for (name, new) in contenders() {
        let mut loads = 0;
        let mut run = |callers| {
            median(|| {
                let source = Source::new(SharedTimeSource::default(), Duration::from_secs(3600));
                let taken = herd(runtime, &new(&source), callers);
                loads = source.loads();
                taken
            })
        };
        let (one, all) = (run(1), run(10_000));
        rows.push(row![
            name,
            format!("{one:.1?}"),
            format!("{all:.1?}"),
            ratio(all, one),
            loads
        ]);
    }
    table("Cold herd, 200 ms source", &rows);
}

fn failing_source(runtime: &Runtime) {
    let mut rows = vec![row!["", "callers", "one failure", "all answered", "ratio", "loads"]];
    for (name, new) in contenders() {
        // One after the other, a thousand would take the others more than three minutes.
        let callers = if name == "this crate" { 1_000 } else { 20 };
        let mut loads = 0;
        let mut run = |callers| {
            median(|| {
                let source = Source::failing();
                let taken = herd(runtime, &new(&source), callers);
                loads = source.loads();
                taken
            })
        };
        let (one, all) = (run(1), run(callers));
        rows.push(row![
            name,
            callers,
            format!("{one:.1?}"),
            format!("{all:.1?}"),
            ratio(all, one),
            loads
        ]);
    }
    table("Failing 200 ms source, callers that wait together", &rows);
}

/// What a hit costs on one thread, beside the least that any cache has to do: read the time, follow one pointer, clone.
fn hit(runtime: &Runtime) {
    let source = Source::new(SharedTimeSource::default(), Duration::from_secs(3600));
    let ours = Ours::new(&source);
    assert!(runtime.block_on(ours.ask()));
    let least = arc_swap::ArcSwap::from_pointee(runtime.block_on(source.load()).expect("it does not fail"));
    let time = SharedTimeSource::default();
    let floor = median(|| {
        harness::per_call(|| {
            std::hint::black_box(time.now());
            std::hint::black_box(Credentials::clone(&least.load()));
        })
    });
    let hit = median(|| harness::per_call(|| drop(std::hint::black_box(ours.0.peek(Credentials::clone)))));
    let rows = vec![
        row!["", "per call", "ratio"],
        row!["floor", format!("{floor:?}"), "1.00"],
        row!["hit", format!("{hit:?}"), ratio(hit, floor)],
    ];
    table("A hit, one thread", &rows);
}

fn main() {
    let runtime = runtime();
    hit(&runtime);
    cold_herd(&runtime);
    failing_source(&runtime);
    refresh_cycles(&runtime);
}
