//! What a cached call costs: our provider and our identity cache against the floor (the least possible `ProvideCredentials`), a
//! provider written by hand over `tokio::RwLock`, and the SDK's own identity cache.
//!
//! `cargo bench --bench cached` prints the tables, `cargo bench --bench cached -- --test` runs everything once.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod harness;

use std::future::Future;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::config::{BehaviorVersion, ConfigBag, IdentityCache, RuntimeComponents};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_runtime_api::client::identity::{ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use cognito_identity_pool::{CognitoCredentialsProvider, LocalIdentityPool, Login};
use harness::counting::{Count, Counting};
use harness::{is_quick, middle, ratio, table};

#[global_allocator]
static COUNTING: Counting = Counting;

/// The floor: time source, one pointer, `Credentials::clone`, `ready`.
#[derive(Debug)]
struct Floor {
    time: SharedTimeSource,
    entry: ArcSwap<(Credentials, SystemTime)>,
}

impl ProvideCredentials for Floor {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let entry = self.entry.load();
        if self.time.now() < entry.1 {
            return future::ProvideCredentials::ready(Ok(entry.0.clone()));
        }
        unreachable!("the bench is over before the credentials are")
    }
}

/// What applications write themselves.
#[derive(Debug)]
struct ByHand {
    time: SharedTimeSource,
    entry: tokio::sync::RwLock<(Credentials, SystemTime)>,
}

impl ProvideCredentials for ByHand {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let entry = self.entry.read().await;
            if self.time.now() < entry.1 {
                return Ok(entry.0.clone());
            }
            unreachable!("the bench is over before the credentials are")
        })
    }
}

/// A role that is assumed with our credentials, without STS: asks ours, and answers its own.
#[derive(Debug)]
struct OnTop(CognitoCredentialsProvider);

impl ProvideCredentials for OnTop {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            self.0.provide_credentials().await?;
            let end = SystemTime::now() + Duration::from_secs(3_600);
            Ok(Credentials::new(
                "ASIAROLE",
                "secret",
                Some("token".to_owned()),
                Some(end),
                "role",
            ))
        })
    }
}

/// Polls a future that is ready at once, but for one thing: once a second, threads that use one identity cache may wait for the one
/// among them that asks the provider again.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}

/// As the SDK calls it: it knows no more than the trait.
fn call(provider: &dyn ProvideCredentials) {
    drop(std::hint::black_box(now(
        std::hint::black_box(provider).provide_credentials()
    )));
}

/// The time of one call, on `threads` threads at once.
fn measure(threads: usize, call: &(dyn Fn() + Sync)) -> Duration {
    let calls = if is_quick() { 100 } else { 100_000 };
    let barrier = Barrier::new(threads);
    let each = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|_| {
                let runtime = tokio::runtime::Handle::current();
                let barrier = &barrier;
                scope.spawn(move || {
                    // The SDK's cache makes a sleep on each call, and tokio's sleep wants a runtime.
                    let _entered = runtime.enter();
                    barrier.wait();
                    let start = Instant::now();
                    for _ in 0..calls {
                        call();
                    }
                    start.elapsed() / calls
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    each.iter().sum::<Duration>() / threads as u32
}

/// The times of the calls, as [`measure`] has them: in turn, round after round, so that what disturbs the machine disturbs them all.
fn in_turn(threads: usize, calls: &[Named<'_>]) -> Vec<Duration> {
    let mut times = vec![Vec::new(); calls.len()];
    for _ in 0..if is_quick() { 1 } else { ROUNDS } {
        for (times, (_, call)) in times.iter_mut().zip(calls) {
            times.push(measure(threads, call));
        }
    }
    times.into_iter().map(middle).collect()
}

fn allocations(call: &dyn Fn()) -> u64 {
    call();
    let count = Count::start();
    (0..1_000).for_each(|_| call());
    count.allocations() / 1_000
}

const THREADS: [usize; 3] = [1, 2, 4];
const ROUNDS: usize = 27;

type Named<'a> = (&'a str, &'a (dyn Fn() + Sync));

fn rows(title: &str, base: &str, calls: &[Named<'_>]) {
    let mut rows = vec![row![
        "",
        "1 thread",
        "2 threads",
        "4 threads",
        &format!("1 / {base}"),
        "2",
        "4",
        "allocations"
    ]];
    let times = THREADS.map(|threads| in_turn(threads, calls));
    for (number, (name, call)) in calls.iter().enumerate() {
        let mut row = row![name];
        row.extend(times.iter().map(|times| format!("{} ns", times[number].as_nanos())));
        row.extend(times.iter().map(|times| ratio(times[number], times[0])));
        row.push(allocations(call).to_string());
        rows.push(row);
    }
    table(&format!("{title} (medians of {ROUNDS}, in turn)"), &rows);
}

struct Resolution {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    bag: ConfigBag,
}

impl Resolution {
    fn new(config: &SdkConfig, cache: SharedIdentityCache) -> Self {
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(config.time_source())
            .with_sleep_impl(config.sleep_impl())
            .build()
            .unwrap();
        let resolver = SharedIdentityResolver::new(config.credentials_provider().unwrap());
        Self {
            cache,
            resolver,
            components,
            bag: ConfigBag::base(),
        }
    }

    fn resolve(&self) {
        let identity = self
            .cache
            .resolve_cached_identity(self.resolver.clone(), &self.components, &self.bag);
        std::hint::black_box(now(identity).unwrap());
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (pool, provider) = runtime.block_on(async {
        let pool = LocalIdentityPool::builder().allow_guests(true).start().await.unwrap();
        // All that is measured reads the same clock, the system's, not the pool's, which can be turned.
        let config = pool
            .client_config()
            .into_builder()
            .time_source(SystemTimeSource::new())
            .build();
        let builder = CognitoCredentialsProvider::builder(pool.identity_pool_id()).configure(&config);
        let provider = builder.build().unwrap();
        provider.switch_to(Login::guest()).ready().await.unwrap();
        (pool, provider)
    });
    let credentials = runtime.block_on(provider.provide_credentials()).unwrap();
    let _entered = runtime.enter();
    // Not what the credentials say of themselves: that is a lease of a minute, and the bench takes longer.
    let (time, expiry) = (
        SharedTimeSource::default(),
        SystemTime::now() + Duration::from_secs(3_600),
    );
    let floor = Floor {
        time: time.clone(),
        entry: ArcSwap::from_pointee((credentials.clone(), expiry)),
    };
    let by_hand = ByHand {
        time: time.clone(),
        entry: tokio::sync::RwLock::new((credentials.clone(), expiry)),
    };
    let session = provider.session();

    rows(
        "A hit: provide_credentials",
        "floor",
        &[
            ("floor: clock, one pointer, clone, ready", &|| call(&floor)),
            ("this crate: provider", &|| call(&provider)),
            ("this crate: session", &|| call(&session)),
            ("by hand: tokio::RwLock", &|| call(&by_hand)),
        ],
    );

    let base = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .time_source(time)
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .build();
    let ours = provider.sdk_config(&base);
    let ours = Resolution::new(&ours, ours.identity_cache().unwrap());
    let loaders = base
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(provider.clone()))
        .build();
    let through_loader = Resolution::new(&loaders, provider.identity_cache());
    let with_role = base
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(OnTop(provider.clone())))
        .build();
    let role = Resolution::new(&with_role, provider.sdk_config(&base).identity_cache().unwrap());
    let lazy_role = Resolution::new(&with_role, IdentityCache::lazy().build());
    let no_cache = Resolution::new(&loaders, IdentityCache::no_cache());
    let lazy = Resolution::new(&loaders, IdentityCache::lazy().build());
    // The first calls fill the caches.
    tokio::runtime::Handle::current().block_on(async {
        for resolution in [&ours, &through_loader, &no_cache, &lazy, &role, &lazy_role] {
            let resolver = resolution.resolver.clone();
            resolution
                .cache
                .resolve_cached_identity(resolver, &resolution.components, &resolution.bag)
                .await
                .unwrap();
        }
    });
    rows(
        "A client's identity resolution",
        "lazy",
        &[
            ("the SDK's cache: IdentityCache::lazy()", &|| lazy.resolve()),
            ("this crate: sdk_config, operation pin included", &|| ours.resolve()),
            ("this crate: identity_cache() through the loader", &|| {
                through_loader.resolve()
            }),
            ("IdentityCache::no_cache()", &|| no_cache.resolve()),
        ],
    );
    rows(
        "With a role assumed on top, warm",
        "lazy",
        &[
            ("the SDK's cache: IdentityCache::lazy()", &|| lazy_role.resolve()),
            ("this crate: sdk_config", &|| role.resolve()),
        ],
    );
    drop(pool);
}
