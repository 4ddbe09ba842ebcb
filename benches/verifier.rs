//! What verifying a token costs, against the JOSE library alone with its key parsed once.
//!
//! `cargo bench --bench verifier` prints the table, `cargo bench --bench verifier -- --test` runs everything once.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod harness;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cognito_identity_pool::{DeveloperUserId, LocalIdentityPool, TokenVendor, TokenVerifier};
use harness::{is_quick, ratio, table};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

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
    let (ours, theirs) = (median(ours), median(theirs));
    table(
        "Verifying a token",
        &[
            row!["", "time", "x the library alone"],
            row!["jsonwebtoken alone", format!("{theirs:?}"), "1.00"],
            row!["TokenVerifier::verify", format!("{ours:?}"), ratio(ours, theirs)],
        ],
    );
}

fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort();
    taken[taken.len() / 2]
}
