//! What plain `ProvideCredentials` says of the end of the credentials.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::identity::{ResolveCachedIdentity, SharedIdentityResolver};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_types::config_bag::ConfigBag;
use cognito_identity_pool::client::CognitoCredentialsProviderBuilder;
use cognito_identity_pool::users::UserCredentialsBuilder;
use cognito_identity_pool::{CognitoCredentialsProvider, ErrorKind, Login, Session, UserCredentials};

use crate::stage::{Stage, user};

const LEASE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

async fn signed_in(
    stage: &Stage,
    configure: impl FnOnce(CognitoCredentialsProviderBuilder) -> CognitoCredentialsProviderBuilder,
) -> (CognitoCredentialsProvider, Session) {
    let provider = configure(stage.builder()).build().unwrap();
    let session = provider.switch_to(Login::guest());
    session.ready().await.unwrap();
    (provider, session)
}

async fn end(credentials: &impl ProvideCredentials) -> SystemTime {
    credentials.provide_credentials().await.unwrap().expiry().unwrap()
}

#[tokio::test]
async fn credentials_say_that_they_end_within_a_minute_and_not_sooner_than_half_of_it() {
    let stage = Stage::start().await;
    let (provider, session) = signed_in(&stage, |builder| builder).await;
    for _ in 0..1_200 {
        let now = stage.clock.now();
        for left in [end(&provider).await, end(&session).await].map(|end| end.duration_since(now).unwrap()) {
            assert!((LEASE / 2..=LEASE).contains(&left), "{left:?}");
        }
        stage.clock.advance(Duration::from_secs(7));
    }
    // More than two hours have passed, and Cognito was asked no more often for that.
    assert!((3..=4).contains(&stage.cognito_calls().1));
}

#[tokio::test]
async fn there_is_one_copy_for_half_a_lease() {
    let stage = Stage::start().await;
    let (provider, session) = signed_in(&stage, |builder| builder).await;
    let first = end(&provider).await;
    stage.clock.advance(LEASE / 2 - Duration::from_secs(1));
    assert_eq!([end(&provider).await, end(&session).await], [first; 2]);
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!([end(&provider).await, end(&session).await], [first + LEASE / 2; 2]);
}

#[tokio::test]
async fn it_never_says_more_than_is_left() {
    let stage = Stage::start().await;
    let (provider, _) = signed_in(&stage, |builder| builder.lease(2 * HOUR)).await;
    assert_eq!(end(&provider).await, stage.clock.now() + HOUR);
}

#[tokio::test]
async fn without_a_lease_it_says_when_they_really_end() {
    let stage = Stage::start().await;
    let (provider, session) = signed_in(&stage, |builder| builder.lease(None)).await;
    let really = stage.clock.now() + HOUR;
    stage.clock.advance(Duration::from_secs(100));
    assert_eq!([end(&provider).await, end(&session).await], [really; 2]);
}

#[tokio::test]
async fn a_lease_of_no_length_is_refused() {
    let stage = Stage::start().await;
    let error = stage.builder().lease(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn our_own_identity_cache_does_not_see_it() {
    let stage = Stage::start().await;
    let (provider, session) = signed_in(&stage, |builder| builder).await;
    let base = stage.pool.client_config();
    let components = RuntimeComponentsBuilder::for_tests().with_time_source(base.time_source());
    let components = components.with_sleep_impl(base.sleep_impl()).build().unwrap();
    let really = stage.clock.now() + HOUR;
    for config in [provider.sdk_config(&base), session.sdk_config(&base)] {
        let resolver = SharedIdentityResolver::new(config.credentials_provider().unwrap());
        let cache = config.identity_cache().unwrap();
        let bag = ConfigBag::base();
        let identity = cache
            .resolve_cached_identity(resolver, &components, &bag)
            .await
            .unwrap();
        assert_eq!(identity.expiration(), Some(really));
        assert_eq!(identity.data::<Credentials>().unwrap().expiry(), Some(really));
    }
}

#[tokio::test]
async fn a_backends_sessions_have_a_lease_too() {
    let stage = Stage::start().await;
    let left = async |users: UserCredentialsBuilder| {
        let users = users.build().unwrap();
        let end = end(&users.for_user(&user("alice"))).await;
        end.duration_since(stage.clock.now()).unwrap()
    };
    let builder = || UserCredentials::builder(stage.vendor());
    assert_eq!(left(builder()).await, LEASE);
    assert_eq!(left(builder().lease(LEASE / 4)).await, LEASE / 4);
    assert_eq!(left(builder().lease(None)).await, HOUR);
    let error = builder().lease(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}
