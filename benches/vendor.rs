//! What a vend costs, on canned responses: from the cache, and against the raw operation of the SDK.
//!
//! `cargo bench --bench vendor` prints the tables, `cargo bench --bench vendor -- --test` runs everything once. The
//! last table has what a hit costs while Prometheus counts and there is a shared store.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod harness;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cognitoidentity::Client;
use aws_sdk_cognitoidentity::config::BehaviorVersion;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;
use aws_types::region::Region;
use cognito_identity_pool::{
    DeveloperUserId, TokenVendor,
    server::{PrincipalTags, VendRequest},
};
use harness::counting::{Count, Counting};
use harness::{is_quick, table};

const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";
const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
const PROVIDER: &str = "login.mycompany.myapp";

#[global_allocator]
static COUNTING: Counting = Counting;

fn config() -> SdkConfig {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let payload = format!(
        r#"{{"sub":"{ID}","aud":"{POOL}","amr":["authenticated","{PROVIDER}","{PROVIDER}:{POOL}:user-42"],"iss":"https://cognito-identity.amazonaws.com","exp":{},"iat":{now}}}"#,
        now + 900
    );
    let payload = base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload);
    let header = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"kid":"us-east-11","typ":"JWS","alg":"RS512"}"#);
    let signature = base64_simd::URL_SAFE_NO_PAD.encode_to_string([7; 256]);
    let answer = format!(r#"{{"IdentityId":"{ID}","Token":"{header}.{payload}.{signature}"}}"#);
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "AKIA", "secret", None, None, "bench",
        )))
        .time_source(SystemTimeSource::new())
        .sleep_impl(TokioSleep::new())
        .http_client(infallible_client_fn(move |_: http::Request<SdkBody>| {
            http::Response::builder()
                .status(200)
                .body(SdkBody::from(answer.clone()))
                .unwrap()
        }))
        .build()
}

/// One round of `work`, `times` over: nanoseconds of one.
async fn round<T>(times: u32, mut work: impl AsyncFnMut() -> T) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        black_box(work().await);
    }
    start.elapsed().as_nanos() as f64 / f64::from(times)
}

/// The allocations of one `work`.
async fn allocations<T>(times: u32, work: impl AsyncFnMut() -> T) -> f64 {
    let count = Count::start();
    round(times, work).await;
    count.allocations() as f64 / f64::from(times)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Measured {
    name: &'static str,
    nanos: f64,
    allocations: f64,
}

impl Measured {
    fn row(&self, base: &Self) -> Vec<String> {
        row![
            self.name,
            format!("{:.0}", self.nanos),
            format!("{:.1}", self.allocations),
            format!("{:.2}", self.nanos / base.nanos)
        ]
    }
}

/// Measures several works in turn, round after round, so that what disturbs the machine disturbs them all.
macro_rules! measure {
    ($rounds:expr, $times:expr, $($name:literal => $work:expr),+ $(,)?) => {{
        // The first round of each is warm-up.
        let mut all = vec![$(($name, Vec::new(), allocations($times, $work).await)),+];
        for _ in 0..$rounds {
            let nanos = [$(round($times, $work).await),+];
            all.iter_mut().zip(nanos).for_each(|((_, rounds, _), nanos)| rounds.push(nanos));
        }
        all.into_iter()
            .map(|(name, nanos, allocations)| Measured { name, nanos: median(nanos), allocations })
            .collect::<Vec<_>>()
    }};
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (rounds, hits, requests) = if is_quick() { (3, 200, 20) } else { (31, 20_000, 500) };
    let config = config();
    let user = DeveloperUserId::new("user-42").unwrap();
    let tags = PrincipalTags::new().with("tenant", "acme").unwrap();

    let cached = TokenVendor::builder(POOL, PROVIDER).configure(&config).build().unwrap();
    let uncached = TokenVendor::builder(POOL, PROVIDER)
        .configure(&config)
        .cache_capacity(0)
        .requests_per_second(None)
        .user_limit(NonZeroU32::MAX, Duration::from_nanos(1))
        .build()
        .unwrap();
    let flights = TokenVendor::builder(POOL, PROVIDER)
        .configure(&config)
        .requests_per_second(None)
        .user_limit(NonZeroU32::MAX, Duration::from_nanos(1))
        .build()
        .unwrap();
    let raw = Client::new(&config);
    // A vendor takes its counter at its first hit: what has hit before there is a recorder does not count.
    #[cfg(feature = "metrics")]
    cached.vend(&user).await.unwrap();
    #[cfg(feature = "metrics")]
    cached.vend(&user).await.unwrap();

    let hit = measure!(
        rounds, hits,
        "cached vend" => async || cached.vend(&user).await.unwrap(),
        "cached vend with tags" =>
            async || cached.vend_with(VendRequest::new(user.clone()).principal_tags(tags.clone())).await.unwrap(),
    );
    let miss = measure!(
        rounds, requests,
        "raw operation of the SDK" => async || {
            let request = raw.get_open_id_token_for_developer_identity().identity_pool_id(POOL);
            request.logins(PROVIDER, user.as_str()).token_duration(900).send().await.unwrap()
        },
        "uncached vend" => async || uncached.vend(&user).await.unwrap(),
        "vend past the cache" =>
            async || flights.vend_with(VendRequest::new(user.clone()).fresh(true)).await.unwrap(),
    );

    let mut rows = vec![row!["", "ns", "allocations", "x the first"]];
    rows.extend(hit.iter().map(|measured| measured.row(&hit[0])));
    table("Vends from the cache", &rows);
    rows.truncate(1);
    rows.extend(miss.iter().map(|measured| measured.row(&miss[0])));
    table("Vends by request, on canned responses", &rows);
    #[cfg(feature = "metrics")]
    {
        metrics::set_global_recorder(metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder()).unwrap();
        let shared = TokenVendor::builder(POOL, PROVIDER)
            .configure(&config)
            .shared(cognito_identity_pool::server::MemorySharedStore::default())
            .build()
            .unwrap();
        let hit = measure!(
            rounds, hits,
            "cached vend" => async || cached.vend(&user).await.unwrap(),
            "with `shared`, counted by Prometheus" => async || shared.vend(&user).await.unwrap(),
        );
        rows.truncate(1);
        rows.extend(hit.iter().map(|measured| measured.row(&hit[0])));
        table("Vends from the cache, with metrics", &rows);
    }
}
