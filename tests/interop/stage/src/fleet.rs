//! `interop_stage backend JSON`: an instance of the example axum backend, on a store that it shares with others. What an operator does
//! comes over HTTP, too: `POST /operator/deny|allow|forget/USER`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use cognito_identity_pool::server::{DenyListUpdates, DynamoDbStore, GuestClaims, HttpRefusal, SharedStore};
use cognito_identity_pool::{DeveloperUserId, Error, IdentityAdmin, TokenVendor, TokenVerifier};
use serde::Deserialize;
use serde_json::json;

#[path = "../../../../examples/axum_backend/backend.rs"]
mod backend;
#[allow(dead_code)]
#[path = "../../../../examples/valkey_store.rs"]
mod valkey_store;

#[derive(Deserialize)]
struct Setup {
    port: u16,
    pool_id: String,
    provider: String,
    cognito: String,
    key: String,
    secret: String,
    /// `http://…` is a DynamoDB, `redis://…` a Redis.
    store: String,
    /// Seconds that the last deny list serves.
    max_stale: u64,
    /// How many users there are: `user-N`, who signs in as `N@example.com`.
    users: usize,
}

#[derive(Clone)]
struct Operator {
    vendor: TokenVendor,
    admin: IdentityAdmin,
}

pub(crate) async fn run(setup: &str) -> anyhow::Result<()> {
    let setup: Setup = serde_json::from_str(setup).context("no setup")?;
    if setup.store.starts_with("redis") {
        // It connects when it is first used, as the instance starts although its store is cut off.
        let settings = redis::aio::ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(1)))
            .set_number_of_retries(1);
        let client = redis::Client::open(setup.store.as_str())?;
        let manager = redis::aio::ConnectionManager::new_lazy_with_config(client, settings)?;
        return serve(&setup, valkey_store::ValkeyStore(manager)).await;
    }
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(Duration::from_secs(2))
        .build();
    let config = config(&setup, "test", "test");
    let config = config
        .to_builder()
        .endpoint_url(&setup.store)
        .timeout_config(timeouts)
        .build();
    serve(&setup, DynamoDbStore::new(&config, "shared-state")).await
}

fn config(setup: &Setup, key: &str, secret: &str) -> SdkConfig {
    let region = setup.pool_id.split(':').next().unwrap_or_default();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
            Credentials::new(key, secret, None, None, "interop"),
        ))
        .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
        .time_source(aws_smithy_async::time::SystemTimeSource::new())
        .retry_config(RetryConfig::standard())
        .build()
}

async fn serve(setup: &Setup, store: impl SharedStore + 'static) -> anyhow::Result<()> {
    let store = Arc::new(store);
    let config = config(setup, &setup.key, &setup.secret);
    let (pool, provider) = (setup.pool_id.as_str(), setup.provider.as_str());
    let max_stale = Duration::from_secs(setup.max_stale);
    let vendor = TokenVendor::builder(pool, provider)
        .configure(&config)
        .endpoint_url(&setup.cognito)
        .guest_claims(GuestClaims::hmac_sha256("0123456789abcdef0123456789abcdef")?)
        .shared(Arc::clone(&store))
        .deny_list(DenyListUpdates::polled_every(Duration::from_secs(1)).max_stale(max_stale))
        .build()?;
    let admin = IdentityAdmin::builder(pool, provider)
        .configure(&config)
        .endpoint_url(&setup.cognito)
        .shared(store)
        .max_stale(max_stale)
        .build()?;
    let verifier = TokenVerifier::builder(pool, provider)
        .configure(&config)
        .jwks_uri(&setup.cognito)
        .build()?;
    let users: HashMap<&'static str, backend::User> = (0..setup.users)
        .map(|number| {
            let user = backend::User {
                password: "wonderland",
                id: format!("user-{number}").leak(),
            };
            (&*format!("{number}@example.com").leak(), user)
        })
        .collect();
    let url = format!("http://127.0.0.1:{}", setup.port);
    let app = backend::Backend::new(vendor.clone(), verifier, HeaderValue::from_str(&url)?, users).routes();
    let operator = Router::new()
        .route("/operator/{what}/{user}", post(operate))
        .with_state(Operator { vendor, admin });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", setup.port)).await?;
    axum::serve(listener, app.merge(operator)).await?;
    Ok(())
}

async fn operate(State(operator): State<Operator>, Path((what, user)): Path<(String, String)>) -> Response {
    match done(&operator, &what, &user).await {
        Ok(complete) => Json(json!({ "complete": complete })).into_response(),
        Err(error) => {
            eprintln!("{what} {user}: {error:?}");
            HttpRefusal::from(&error).into()
        }
    }
}

async fn done(operator: &Operator, what: &str, user: &str) -> Result<bool, Error> {
    let user = DeveloperUserId::new(user).map_err(Error::from)?;
    match what {
        "deny" => operator.vendor.deny(&user).await.map(|()| true),
        "allow" => operator.vendor.allow(&user).await.map(|()| true),
        _ => {
            let report = operator.admin.forget_user(&user, &[&operator.vendor]).await?;
            Ok(report.is_complete())
        }
    }
}
