//! A complete backend, and an app that uses it: a guest becomes a user, keeps what it had, and is signed out.
//!
//! ```text
//! cargo run --example axum_backend
//! ```
//!
//! It needs no AWS account and no network: the identity pool runs in this process. `backend.rs` beside this file is what a real
//! backend takes over, `prometheus.rs` serves what an operator looks at, and README.md has the queries for it.
#![allow(clippy::print_stdout, reason = "an example tells a story")]

mod backend;
mod prometheus;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use axum::http::HeaderValue;
use backend::{Backend, User};
use cognito_identity_pool::{
    CognitoCredentialsProvider, Error, HttpBackend, LocalIdentityPool, Login, TokenVendor, TokenVerifier,
    local::LocalClock, server::GuestClaims,
};
use serde_json::{Value, json};

const PROVIDER: &str = "login.mycompany.myapp";

async fn serve(pool: &LocalIdentityPool) -> anyhow::Result<String> {
    // The key comes from the backend's secret store.
    let claims = GuestClaims::hmac_sha256("0123456789abcdef0123456789abcdef")?;
    let vendor = TokenVendor::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&pool.backend_config())
        .guest_claims(claims)
        .build()?;
    let verifier = TokenVerifier::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&pool.backend_config())
        .jwks_uri(pool.jwks_uri())
        .build()?;
    let users = [(
        "alice@example.com",
        User {
            password: "wonderland",
            id: "user-7f3a",
        },
    )];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let routes = Backend::new(vendor, verifier, HeaderValue::from_str(&url)?, users.into()).routes();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(url)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    audit_to_stderr();
    let numbers = serve_metrics().await?;
    let clock = LocalClock::at_present();
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .allow_guests(true)
        .time_source(clock.clone())
        .start()
        .await?;
    let url = serve(&pool).await?;
    println!("1 backend  {url}");

    // The app. It knows two addresses, and holds no credentials.
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(pool.region().to_owned()))
        .endpoint_url(pool.endpoint_url())
        .time_source(clock.clone())
        .no_credentials()
        .load()
        .await;
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&base)
        .endpoint_url(pool.endpoint_url())
        .build()?;
    let sts = aws_sdk_sts::Client::new(&provider.sdk_config(&base));

    let guest = provider.switch_to(Login::guest()).ready().await?.identity_id;
    println!("2 app      is a guest: …{}", tail(guest.as_str()));

    let http = reqwest::Client::new();
    let post = async |path: &str, bearer: Option<&str>, body: Value| -> anyhow::Result<Value> {
        let request = http.post(format!("{url}{path}")).json(&body);
        let request = bearer.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let response = request.send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null))
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();

    let begun = post("/session", None, json!({ "guest": guest.as_str() })).await?;
    let form = json!({ "email": "alice@example.com", "password": "wonderland" });
    let signed_in = post("/sign-in", Some(&text(&begun["session"])), form).await?;
    let session = text(&signed_in["session"]);
    println!("3 alice    signs in with her password, on the device that was the guest");

    let backend = HttpBackend::builder(format!("{url}/aws/identity"))
        .configure(&base)
        .bearer(session.clone())
        .guest_claim(text(&begun["guestClaim"]))
        .build()?;
    let alice = provider.switch_to(Login::developer(backend).subject("alice@example.com"));
    let signed_in = alice.ready().await?;
    println!(
        "4 alice    is …{} to AWS, what became of the guest: {:?}",
        tail(signed_in.identity_id.as_str()),
        signed_in.outcome
    );
    sts.get_caller_identity().send().await?;
    println!("5 alice    calls AWS");

    let token = post("/aws/identity", Some(&session), json!({ "reason": "forced" })).await?;
    let profile = http
        .get(format!("{url}/profile"))
        .bearer_auth(text(&token["token"]))
        .send()
        .await?;
    println!(
        "6 alice    shows her token to a service, which verifies it: {}",
        profile.text().await?
    );

    post("/sign-out", Some(&session), json!({})).await?;
    clock.advance(Duration::from_secs(3_600));
    let refused = sts.get_caller_identity().send().await.err();
    let refusal = refused.as_ref().and_then(|error| Error::find(error));
    println!(
        "7 alice    has signed out at the backend; an hour later: {:?}",
        refusal.map(Error::kind)
    );

    let scraped = http.get(numbers).send().await?.text().await?;
    println!("8 operator sees what was vended:");
    let vends = scraped
        .lines()
        .filter(|line| line.starts_with("cognito_identity_pool_vends_total"));
    vends.for_each(|line| println!("           {line}"));
    Ok(())
}

/// On a port of its own, for the scraper alone; before anything is built that counts.
async fn serve_metrics() -> anyhow::Result<String> {
    let recorder = prometheus::recorder()?;
    let routes = prometheus::routes(recorder.handle());
    metrics::set_global_recorder(recorder)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/metrics", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(url)
}

fn tail(id: &str) -> &str {
    id.get(id.len().saturating_sub(6)..).unwrap_or(id)
}

/// The audit trail as JSON lines, one object an event. Stderr here; in production whatever ships your logs, with an access of its own.
fn audit_to_stderr() {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    let audit = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_filter(Targets::new().with_target(cognito_identity_pool::server::AUDIT_TARGET, LevelFilter::INFO));
    tracing_subscriber::registry().with(audit).init();
}
