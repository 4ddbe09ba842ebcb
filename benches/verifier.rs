//! What verifying a token costs, against the JOSE library alone with its key parsed once, and while the key endpoint hangs.
//!
//! `cargo bench --bench verifier` prints the table, `cargo bench --bench verifier -- --test` runs everything once.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod harness;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_smithy_async::time::TimeSource;
use bytes::Bytes;
use cognito_identity_pool::token::TokenDuration;
use cognito_identity_pool::{DeveloperUserId, LocalIdentityPool, TokenVendor, TokenVerifier};
use harness::{Histogram, is_quick, middle, ratio, table};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PROVIDER: &str = "login.mycompany.myapp";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .start()
        .await
        .unwrap();
    let config = pool.backend_config();
    let vendor = TokenVendor::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&config)
        .token_duration(TokenDuration::MAX)
        .build()
        .unwrap();
    let vended = vendor.vend(&DeveloperUserId::new("user-42").unwrap()).await.unwrap();
    let token = vended.identity().token().expose_secret();

    let verifier = TokenVerifier::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&config)
        .jwks_uri(pool.jwks_uri())
        .build()
        .unwrap();
    verifier.verify(token).await.unwrap();

    let set: Value = reqwest::get(pool.jwks_uri()).await.unwrap().json().await.unwrap();
    let kid = decode_header(token).unwrap().kid.unwrap();
    let key = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] == *kid)
        .unwrap();
    let key = DecodingKey::from_rsa_components(key["n"].as_str().unwrap(), key["e"].as_str().unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::RS512);
    rules.set_audience(&[pool.identity_pool_id()]);
    rules.set_issuer(&[format!("https://{}", pool.issuer_host())]);
    decode::<Value>(token, &key, &rules).unwrap();

    let (rounds, times) = if is_quick() { (1, 10) } else { (31, 500) };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turn, so that what disturbs the machine disturbs both.
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..times {
            drop(black_box(verifier.verify(black_box(token)).await.unwrap()));
        }
        ours.push(start.elapsed() / times);
        let start = Instant::now();
        for _ in 0..times {
            drop(black_box(decode::<Value>(black_box(token), &key, &rules).unwrap()));
        }
        theirs.push(start.elapsed() / times);
    }
    let (ours, theirs) = (middle(ours), middle(theirs));
    table(
        "Verifying a token",
        &[
            row!["", "time", "x the library alone"],
            row!["jsonwebtoken alone", format!("{theirs:?}"), "1.00"],
            row!["TokenVerifier::verify", format!("{ours:?}"), ratio(ours, theirs)],
        ],
    );
    beside_a_dead_key_endpoint(&pool, token).await;
}

const MINUTE: Duration = Duration::from_secs(61);
const DAY: Duration = Duration::from_secs(25 * 3_600);

/// A clock that starts a day and more ago and is turned on by hand.
#[derive(Debug, Clone, Default)]
struct Turned(Arc<AtomicU64>);

impl Turned {
    fn turn(&self, on: Duration) {
        self.0.fetch_add(on.as_secs(), Ordering::Relaxed);
    }
}

impl TimeSource for Turned {
    fn now(&self) -> SystemTime {
        SystemTime::now() - DAY + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// Whoever publishes the keys does so once, and from then on accepts connections and says nothing, or refuses them.
async fn key_endpoint(keys: Bytes, hangs: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let _ = first.read(&mut [0; 4_096]).await.unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            keys.len()
        );
        first.write_all(head.as_bytes()).await.unwrap();
        first.write_all(&keys).await.unwrap();
        drop(first);
        if hangs {
            let mut open = Vec::new();
            loop {
                open.push(listener.accept().await.unwrap());
            }
        }
    });
    format!("http://{address}/")
}

/// Every call on its own, with keys that are a day old and asked for again each minute of the clock.
async fn beside_a_dead_key_endpoint(pool: &LocalIdentityPool, token: &str) {
    let keys = reqwest::get(pool.jwks_uri()).await.unwrap().bytes().await.unwrap();
    let uris = [
        ("that answers", pool.jwks_uri()),
        ("that hangs", key_endpoint(keys.clone(), true).await),
        ("that refuses connections", key_endpoint(keys, false).await),
    ];
    let mut all = Vec::new();
    for (name, uri) in uris {
        let clock = Turned::default();
        // The pool's own client knows the way to the pool alone.
        let config = pool.backend_config().into_builder().time_source(clock.clone());
        let config = config.http_client(aws_smithy_http_client::Builder::new().build_http());
        let verifier = TokenVerifier::builder(pool.identity_pool_id(), PROVIDER)
            .configure(&config.build())
            .jwks_uri(uri)
            .build()
            .unwrap();
        verifier.ready().await.unwrap();
        clock.turn(DAY);
        all.push((name, verifier, clock, Histogram::new()));
    }
    let (rounds, times) = if is_quick() { (1, 10) } else { (200, 500) };
    for _ in 0..rounds {
        for (_, verifier, clock, taken) in &mut all {
            clock.turn(MINUTE);
            for _ in 0..times {
                let start = Instant::now();
                drop(black_box(verifier.verify(black_box(token)).await.unwrap()));
                taken.record(start.elapsed());
                // For the fetch, which is a task.
                tokio::task::yield_now().await;
            }
        }
    }
    let healthy = all[0].3.quantile(0.99);
    let mut rows = vec![row!["a key endpoint", "p50", "p99", "p99, x the first (aim: 2)"]];
    for (name, _, _, taken) in &all {
        let p99 = taken.quantile(0.99);
        rows.push(row![
            name,
            format!("{:.1?}", taken.quantile(0.5)),
            format!("{p99:.1?}"),
            ratio(p99, healthy)
        ]);
    }
    table("Verifying a token with keys that are due", &rows);
}
