//! Backend and pool are down for ten minutes: over sockets, nobody notices while credentials are good, and recovery is immediate.

use std::time::Duration;

use crate::stage::{Backend, Order, PROVIDER, Stage, ours, until};
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_sts::error::DisplayErrorContext;
use aws_smithy_types::retry::RetryConfig;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, ErrorKind, Login, TokenVendor, local::LocalFault,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Over a socket, and without the SDK's own retries: those wait in real time.
fn provider(stage: &Stage) -> CognitoCredentialsProvider {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = stage.pool.client_config().into_builder().http_client(http).build();
    CognitoCredentialsProvider::builder(stage.pool.identity_pool_id())
        .configure(&config)
        .endpoint_url(stage.pool.endpoint_url())
        .retry_config(RetryConfig::disabled())
        .build()
        .unwrap()
}

fn backend_down(backend: &Backend) {
    for _ in 0..1_000 {
        backend.order(Order::Fail(BackendError::transient("connection refused")));
    }
}

/// 100 callers at once: how many of them failed.
async fn failed_of_100(provider: &CognitoCredentialsProvider) -> usize {
    let callers = (0..100).map(|_| provider.provide_credentials());
    futures_util::future::join_all(callers)
        .await
        .iter()
        .filter(|result| result.is_err())
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_minutes_without_backend_and_pool_and_fifteen_left_fail_no_call() {
    let stage = Stage::start().await;
    let (provider, backend) = (provider(&stage), stage.backend("alice"));
    provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    stage.clock.advance(45 * MINUTE);
    backend_down(&backend);
    stage
        .pool
        .faults()
        .next_n_of("GetCredentialsForIdentity", 1_000, LocalFault::ConnectionReset);
    for minute in 1..=10 {
        stage.clock.advance(MINUTE);
        assert_eq!(failed_of_100(&provider).await, 0, "minute {minute}");
        if minute == 4 {
            // Fifteen minutes before the end, jittered to no later than twelve, a refresh begins, as a task of its own.
            until("the refresh has noticed the outage", || backend.calls() > 1).await;
        }
    }
    assert!(
        backend.calls() < 20,
        "and did not make it ask for ever: {}",
        backend.calls()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_expiry_the_error_is_typed_and_the_first_call_after_recovery_succeeds_within_5_s() {
    let stage = Stage::start().await;
    let (provider, backend) = (provider(&stage), stage.backend("alice"));
    provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    backend_down(&backend);
    stage.clock.advance(61 * MINUTE);
    assert_eq!(failed_of_100(&provider).await, 100);
    let error = ours(&provider.provide_credentials().await.unwrap_err());
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, true));
    // The backend is back, the pool is not.
    backend.orders.lock().unwrap().clear();
    stage
        .pool
        .faults()
        .next_of("GetCredentialsForIdentity", LocalFault::HalfResponse);
    stage.clock.advance(Duration::from_secs(5));
    let error = ours(&provider.provide_credentials().await.unwrap_err());
    assert!(
        matches!(error.kind(), ErrorKind::Transport | ErrorKind::InvalidResponse),
        "{error:?}"
    );
    // Both are back.
    let calls = backend.calls();
    stage.clock.advance(Duration::from_secs(5));
    assert_eq!(failed_of_100(&provider).await, 0);
    assert_eq!(
        backend.calls() - calls,
        0,
        "the token that was received is good for the next exchange"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_sign_in_during_the_outage_succeeds_as_soon_as_it_is_over() {
    let stage = Stage::start().await;
    let (provider, backend) = (provider(&stage), stage.backend("alice"));
    backend.order(Order::Fail(BackendError::transient("connection refused")));
    let alice = provider.switch_to(Login::developer(backend.clone()));
    assert_eq!(alice.ready().await.unwrap_err().kind(), ErrorKind::Backend);
    alice.ready().await.unwrap();
}

#[tokio::test]
async fn who_could_not_be_reached_is_named_by_host_and_port_and_by_nothing_else_of_the_url() {
    const NOWHERE: &str = "http://canary-name:canary-password@127.0.0.1:1/canary-path";
    let stage = Stage::start().await;
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = |base: SdkConfig| base.into_builder().http_client(http.clone()).build();
    let provider = CognitoCredentialsProvider::builder(stage.pool.identity_pool_id())
        .configure(&config(stage.pool.client_config()))
        .endpoint_url(NOWHERE)
        .retry_config(RetryConfig::disabled())
        .login(Login::guest())
        .build()
        .unwrap();
    let vendor = TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&config(stage.pool.backend_config()))
        .endpoint_url(NOWHERE)
        .retry_config(RetryConfig::disabled())
        .build()
        .unwrap();
    let user = "alice".parse().unwrap();
    for (operation, error) in [
        ("GetId", ours(&provider.provide_credentials().await.unwrap_err())),
        (
            "GetOpenIdTokenForDeveloperIdentity",
            vendor.vend(&user).await.unwrap_err(),
        ),
    ] {
        assert_eq!(error.kind(), ErrorKind::Transport);
        assert_eq!(
            error.to_string(),
            format!("{operation} could not be sent to 127.0.0.1:1"),
            "{error:?}"
        );
        let shown = format!("{error:?} {}", DisplayErrorContext(&error));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
