//! The well-known walk-through, in process and over a real socket, with the real SDK clients.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cognitoidentity::Client;
use aws_sdk_cognitoidentity::error::ProvideErrorMetadata;
use aws_types::SdkConfig;
use cognito_identity_pool::{LocalClock, LocalIdentityPool};

const PROVIDER: &str = "login.mycompany.myapp";
const ISSUER: &str = "cognito-identity.amazonaws.com";

async fn pool() -> (LocalIdentityPool, LocalClock) {
    let clock = LocalClock::at_present();
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .time_source(clock.clone())
        .start()
        .await;
    (pool.unwrap(), clock)
}

/// The same config, over a socket and with the SDK's own HTTP client.
fn over_socket(config: SdkConfig, pool: &LocalIdentityPool) -> SdkConfig {
    let mut builder = config.into_builder().endpoint_url(pool.endpoint_url());
    builder.set_http_client(None);
    builder.build()
}

async fn vend(backend: &SdkConfig, pool: &LocalIdentityPool, user: &str) -> (String, String) {
    let vended = Client::new(backend)
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(pool.identity_pool_id())
        .logins(PROVIDER, user)
        .send()
        .await
        .unwrap();
    (vended.identity_id.unwrap(), vended.token.unwrap())
}

async fn exchange(client: &SdkConfig, id: &str, token: &str) -> Credentials {
    let credentials = Client::new(client)
        .get_credentials_for_identity()
        .identity_id(id)
        .logins(ISSUER, token)
        .send()
        .await
        .unwrap()
        .credentials
        .unwrap();
    Credentials::new(
        credentials.access_key_id.unwrap(),
        credentials.secret_key.unwrap(),
        credentials.session_token,
        None,
        "test",
    )
}

fn signed_by(config: &SdkConfig, credentials: &Credentials) -> SdkConfig {
    let provider = SharedCredentialsProvider::new(credentials.clone());
    config.clone().into_builder().credentials_provider(provider).build()
}

async fn walk(pool: &LocalIdentityPool, clock: &LocalClock, backend: SdkConfig, client: SdkConfig) {
    let (id, token) = vend(&backend, pool, "user-42").await;
    let (again, _) = vend(&backend, pool, "user-42").await;
    assert_eq!(id, again, "the same user always gets the same identity");
    assert_ne!(vend(&backend, pool, "user-43").await.0, id);

    let credentials = exchange(&client, &id, &token).await;
    let user = signed_by(&client, &credentials);
    let caller = aws_sdk_sts::Client::new(&user)
        .get_caller_identity()
        .send()
        .await
        .unwrap();
    assert_eq!(
        caller.arn(),
        Some("arn:aws:sts::123456789012:assumed-role/local-authenticated/CognitoIdentityCredentials")
    );
    assert_eq!(
        pool.identity_of(credentials.access_key_id()).as_deref(),
        Some(id.as_str())
    );
    let seen = pool.requests_of("GetCallerIdentity").pop().unwrap();
    assert_eq!(seen.identity_id.as_deref(), Some(id.as_str()));
    assert_eq!(seen.access_key_id.as_deref(), Some(credentials.access_key_id()));

    clock.advance(Duration::from_secs(3600));
    let error = aws_sdk_sts::Client::new(&user)
        .get_caller_identity()
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(error.code(), Some("ExpiredToken"));
    let error = Client::new(&client)
        .get_credentials_for_identity()
        .identity_id(&id)
        .logins(ISSUER, token)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(
        error
            .message()
            .unwrap()
            .starts_with("Invalid login token. Token expired: "),
        "{error:?}"
    );

    for request in pool.requests_of("GetCredentialsForIdentity") {
        assert!(
            !request.authorization,
            "the unsigned operations carry no Authorization header"
        );
    }
}

#[tokio::test]
async fn the_walk_through_runs_in_process() {
    let (pool, clock) = pool().await;
    walk(&pool, &clock, pool.backend_config(), pool.client_config()).await;
}

#[tokio::test]
async fn the_walk_through_runs_over_a_socket() {
    let (pool, clock) = pool().await;
    let backend = over_socket(pool.backend_config(), &pool);
    let client = over_socket(pool.client_config(), &pool);
    walk(&pool, &clock, backend, client).await;
}

#[tokio::test]
async fn tokens_verify_with_the_published_key_set() {
    let (pool, _) = pool().await;
    let (id, token) = vend(&pool.backend_config(), &pool, "user-42").await;
    let keys: jsonwebtoken::jwk::JwkSet = reqwest::get(pool.jwks_uri()).await.unwrap().json().await.unwrap();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.alg, jsonwebtoken::Algorithm::RS512);
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS512);
    validation.set_audience(&[pool.identity_pool_id()]);
    validation.set_issuer(&["https://cognito-identity.amazonaws.com"]);
    let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation)
        .unwrap()
        .claims;
    assert_eq!(claims["sub"], id.as_str());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    let user = format!("{PROVIDER}:{}:user-42", pool.identity_pool_id());
    assert_eq!(claims["amr"], serde_json::json!(["authenticated", PROVIDER, user]));
}

#[tokio::test]
async fn the_server_stops_with_the_last_handle() {
    let (pool, _) = pool().await;
    let uri = pool.jwks_uri();
    let clone = pool.clone();
    drop(pool);
    assert!(reqwest::get(&uri).await.is_ok());
    drop(clone);
    // The thread of the server ends on its own time; each try is a connection that it may still accept.
    for _ in 0..10_000 {
        if reqwest::get(&uri).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the server still answers");
}
