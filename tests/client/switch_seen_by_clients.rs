//! Who signs what an AWS SDK client sends, across switches: with our identity cache, and, pinned here so that a change of the SDK
//! is noticed, without it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::stage::{Stage, ours, until};
use aws_config::SdkConfig;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_sts::config::IdentityCache;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;
use cognito_identity_pool::{CognitoCredentialsProvider, ErrorKind, Login, Session};

/// Any AWS service: remembers by whom each request was signed, and answers what it is told to.
#[derive(Clone, Default)]
struct Service {
    signers: Arc<Mutex<Vec<String>>>,
    /// What to do when the n-th request arrives; its answer is a 503 then.
    on_request: Arc<Mutex<Option<Action>>>,
}

type Action = Box<dyn FnOnce() + Send>;

impl Service {
    fn config(&self, stage: &Stage) -> SdkConfig {
        let this = self.clone();
        let client = infallible_client_fn(move |request: http::Request<SdkBody>| {
            let header = request
                .headers()
                .get("authorization")
                .map_or("", |header| header.to_str().unwrap());
            let signer = header
                .split_once("Credential=")
                .map_or("nobody", |(_, rest)| rest.split('/').next().unwrap());
            this.signers.lock().unwrap().push(signer.to_owned());
            let action = this.on_request.lock().unwrap().take();
            let status = if action.is_some() { 503 } else { 200 };
            if let Some(action) = action {
                action();
            }
            let body = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn>\
                        <UserId>u</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
            http::Response::builder()
                .status(status)
                .body(SdkBody::from(body))
                .unwrap()
        });
        stage.pool.client_config().into_builder().http_client(client).build()
    }

    fn fail_once_and(&self, action: impl FnOnce() + Send + 'static) {
        *self.on_request.lock().unwrap() = Some(Box::new(action));
    }

    fn signers(&self) -> Vec<String> {
        self.signers.lock().unwrap().clone()
    }
}

struct Scene {
    stage: Stage,
    provider: CognitoCredentialsProvider,
    service: Service,
    base: SdkConfig,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::start().await;
        let (provider, service) = (stage.provider(), Service::default());
        let base = service.config(&stage);
        Self {
            stage,
            provider,
            service,
            base,
        }
    }

    fn sign_in(&self, user: &str) -> Session {
        self.provider
            .switch_to(Login::developer(self.stage.backend(user)).subject(user))
    }

    /// The identity ids by which the requests were signed, in order.
    fn signed_by(&self) -> Vec<String> {
        self.service
            .signers()
            .iter()
            .map(|key| self.stage.pool.identity_of(key).unwrap_or(key.clone()))
            .collect()
    }
}

async fn call(client: &aws_sdk_sts::Client) -> Result<(), cognito_identity_pool::Error> {
    client
        .get_caller_identity()
        .send()
        .await
        .map(drop)
        .map_err(|error| ours(&error))
}

#[tokio::test]
async fn an_operation_started_after_the_switch_is_the_second_users() {
    let scene = Scene::new().await;
    let client = crate::stage::sts(&scene.provider.sdk_config(&scene.base));
    let alice = scene.sign_in("alice").identity_id().await.unwrap();
    call(&client).await.unwrap();
    let bob = scene.sign_in("bob").identity_id().await.unwrap();
    call(&client).await.unwrap();
    assert_eq!(scene.signed_by(), [alice.as_str(), bob.as_str()]);
}

#[tokio::test]
async fn it_is_so_through_the_loaders_form_too() {
    let scene = Scene::new().await;
    let config = scene
        .base
        .to_builder()
        // As aws-config's loader does: wrapped anew, so that our cache cannot know the partition.
        .credentials_provider(SharedCredentialsProvider::new(scene.provider.clone()))
        .identity_cache(scene.provider.identity_cache())
        .build();
    let client = crate::stage::sts(&config);
    let alice = scene.sign_in("alice").identity_id().await.unwrap();
    call(&client).await.unwrap();
    call(&client).await.unwrap();
    let bob = scene.sign_in("bob").identity_id().await.unwrap();
    call(&client).await.unwrap();
    assert_eq!(scene.signed_by(), [alice.as_str(), alice.as_str(), bob.as_str()]);
    // And pinned.
    let provider = scene.provider.clone();
    scene.service.fail_once_and(move || provider.sign_out());
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
}

#[tokio::test]
async fn a_retry_across_a_switch_is_never_signed_by_the_second_user() {
    let scene = Scene::new().await;
    let client = crate::stage::sts(&scene.provider.sdk_config(&scene.base));
    let alice = scene.sign_in("alice").identity_id().await.unwrap();
    let (provider, bob) = (scene.provider.clone(), scene.stage.backend("bob"));
    scene
        .service
        .fail_once_and(move || drop(provider.switch_to(Login::developer(bob))));
    let error = call(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    assert_eq!(scene.signed_by(), [alice.as_str()]);
}

#[tokio::test]
async fn a_retry_within_the_session_goes_on_with_refreshed_credentials() {
    let scene = Scene::new().await;
    let client = crate::stage::sts(&scene.provider.sdk_config(&scene.base));
    let alice = scene.sign_in("alice").identity_id().await.unwrap();
    let provider = scene.provider.clone();
    scene.service.fail_once_and(move || provider.clear_credentials());
    call(&client).await.unwrap();
    assert_eq!(scene.signed_by(), [alice.as_str(), alice.as_str()]);
    let signers = scene.service.signers();
    assert_ne!(signers[0], signers[1]);
}

#[tokio::test]
async fn whoever_waits_for_the_first_users_credentials_at_the_switch_is_told_at_once() {
    let scene = Scene::new().await;
    let backend = scene.stage.backend("alice");
    let _never = backend.hold();
    let alice = scene.provider.switch_to(Login::developer(backend.clone()));
    let (bound, unbound) = (alice.clone(), scene.provider.clone());
    let waiters = tokio::spawn(async move { tokio::join!(bound.provide_credentials(), unbound.provide_credentials()) });
    // Both wait for one flight; the user changes under it.
    until("the flight has begun", || backend.calls() == 1).await;
    drop(scene.sign_in("bob"));
    let (bound, unbound) = waiters.await.unwrap();
    assert_eq!(ours(&bound.unwrap_err()).kind(), ErrorKind::SessionEnded);
    assert_eq!(ours(&unbound.unwrap_err()).kind(), ErrorKind::SessionEnded);
}

#[tokio::test]
async fn a_bound_client_never_signs_as_anyone_else() {
    let scene = Scene::new().await;
    let alice = scene.sign_in("alice");
    let client = crate::stage::sts(&alice.sdk_config(&scene.base));
    let id = alice.identity_id().await.unwrap();
    call(&client).await.unwrap();
    let bob = scene.sign_in("bob");
    bob.ready().await.unwrap();
    for _ in 0..3 {
        assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    }
    // Nor does signing in again bring the old handle back.
    drop(scene.sign_in("alice"));
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    assert_eq!(scene.signed_by(), [id.as_str()]);
}

#[tokio::test]
async fn a_bound_client_goes_on_after_clear_credentials_and_ends_with_sign_out() {
    let scene = Scene::new().await;
    let alice = scene.sign_in("alice");
    let client = crate::stage::sts(&alice.sdk_config(&scene.base));
    call(&client).await.unwrap();
    scene.provider.clear_credentials();
    call(&client).await.unwrap();
    scene.provider.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
}

#[tokio::test]
async fn a_paginator_on_a_bound_client_stops() {
    let scene = Scene::new().await;
    let alice = scene.sign_in("alice");
    let pages = Arc::new(AtomicUsize::new(0));
    let (count, provider) = (Arc::clone(&pages), scene.provider.clone());
    let client = infallible_client_fn(move |_: http::Request<SdkBody>| {
        let page = count.fetch_add(1, Ordering::SeqCst);
        if page == 1 {
            provider.sign_out();
        }
        let body = format!(r#"{{"IdentityPools":[],"NextToken":"page {page}"}}"#);
        http::Response::builder().status(200).body(SdkBody::from(body)).unwrap()
    });
    let config = alice.sdk_config(
        &scene
            .stage
            .pool
            .client_config()
            .into_builder()
            .http_client(client)
            .build(),
    );
    let client = aws_sdk_cognitoidentity::Client::new(&config);
    let mut paginator = client.list_identity_pools().max_results(1).into_paginator().send();
    let mut seen = 0;
    let error = loop {
        match paginator.next().await.unwrap() {
            Ok(_) => seen += 1,
            Err(error) => break ours(&error),
        }
    };
    assert_eq!((seen, error.kind()), (2, ErrorKind::SessionEnded));
    assert_eq!(pages.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn signed_out_inside_a_provider_chain_does_not_fall_through() {
    let scene = Scene::new().await;
    let machine = Credentials::new("AKIAMACHINE", "secret", None, None, "machine");
    let chain = CredentialsProviderChain::first_try("user", scene.provider.clone()).or_else("machine", machine);
    assert_eq!(
        ours(&chain.provide_credentials().await.unwrap_err()).kind(),
        ErrorKind::SignedOut
    );
    let ended = scene.sign_in("alice");
    scene.provider.sign_out();
    let machine = Credentials::new("AKIAMACHINE", "secret", None, None, "machine");
    let chain = CredentialsProviderChain::first_try("user", ended).or_else("machine", machine);
    assert_eq!(
        ours(&chain.provide_credentials().await.unwrap_err()).kind(),
        ErrorKind::SessionEnded
    );
}

#[tokio::test]
async fn signed_out_is_found_in_the_sdks_error() {
    let scene = Scene::new().await;
    let client = crate::stage::sts(&scene.provider.sdk_config(&scene.base));
    let error = call(&client).await.unwrap_err();
    assert!(error.needs_sign_in() && !error.is_retryable());
    assert!(scene.service.signers().is_empty());
}

/// Counts how often it is asked.
#[derive(Debug, Default)]
struct Counted {
    key: &'static str,
    asked: AtomicUsize,
}

impl ProvideCredentials for Counted {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.asked.fetch_add(1, Ordering::SeqCst);
        aws_credential_types::provider::future::ProvideCredentials::ready(Ok(Credentials::new(
            self.key, "secret", None, None, "other",
        )))
    }
}

#[derive(Debug, Clone)]
struct Handle(Arc<Counted>);

impl ProvideCredentials for Handle {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.provide_credentials()
    }
}

#[tokio::test]
async fn another_resolver_on_our_configuration_signs_as_itself_and_stays_cached() {
    let scene = Scene::new().await;
    drop(scene.sign_in("alice"));
    let other = Handle(Arc::new(Counted {
        key: "AKIAOTHER",
        asked: AtomicUsize::new(0),
    }));
    let config = aws_sdk_sts::config::Builder::from(&scene.provider.sdk_config(&scene.base))
        .credentials_provider(other.clone())
        .build();
    let client = aws_sdk_sts::Client::from_conf(config);
    for _ in 0..5 {
        call(&client).await.unwrap();
    }
    assert_eq!(scene.service.signers(), ["AKIAOTHER"; 5]);
    assert_eq!(other.0.asked.load(Ordering::SeqCst), 1);
}

/// A role that is assumed with our credentials, in short: asks ours, and answers its own.
#[derive(Debug, Clone)]
struct OnTop {
    ours: CognitoCredentialsProvider,
    asked: Arc<AtomicUsize>,
}

impl ProvideCredentials for OnTop {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        aws_credential_types::provider::future::ProvideCredentials::new(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            drop(self.ours.provide_credentials().await?);
            Ok(Credentials::new("ASIAROLE", "secret", None, None, "AssumeRole"))
        })
    }
}

#[tokio::test]
async fn a_role_assumed_on_top_of_ours_signs_as_the_role_and_stays_cached() {
    let scene = Scene::new().await;
    drop(scene.sign_in("alice"));
    let role = OnTop {
        ours: scene.provider.clone(),
        asked: Arc::default(),
    };
    let config = aws_sdk_sts::config::Builder::from(&scene.provider.sdk_config(&scene.base))
        .credentials_provider(role.clone())
        .build();
    let client = aws_sdk_sts::Client::from_conf(config);
    for _ in 0..5 {
        call(&client).await.unwrap();
    }
    assert_eq!(scene.service.signers(), ["ASIAROLE"; 5]);
    assert_eq!(role.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_operation_with_credentials_of_its_own_is_left_alone() {
    let scene = Scene::new().await;
    let alice = scene.sign_in("alice").identity_id().await.unwrap();
    let client = crate::stage::sts(&scene.provider.sdk_config(&scene.base));
    let own = Credentials::new("AKIAOWN", "secret", None, None, "own");
    let over = aws_sdk_sts::config::Config::builder().credentials_provider(own);
    client
        .get_caller_identity()
        .customize()
        .config_override(over)
        .send()
        .await
        .unwrap();
    call(&client).await.unwrap();
    assert_eq!(scene.signed_by(), ["AKIAOWN", alice.as_str()]);
}

#[tokio::test]
async fn a_second_provider_on_the_first_ones_configuration_signs_as_its_own_user() {
    let scene = Scene::new().await;
    drop(scene.sign_in("alice"));
    let second = scene.stage.provider();
    let bob = second
        .switch_to(Login::developer(scene.stage.backend("bob")))
        .identity_id()
        .await
        .unwrap();
    let config = aws_sdk_sts::config::Builder::from(&scene.provider.sdk_config(&scene.base))
        .credentials_provider(second.clone())
        .build();
    let client = aws_sdk_sts::Client::from_conf(config);
    call(&client).await.unwrap();
    let carol = second
        .switch_to(Login::developer(scene.stage.backend("carol")))
        .identity_id()
        .await
        .unwrap();
    call(&client).await.unwrap();
    assert_eq!(scene.signed_by(), [bob.as_str(), carol.as_str()]);
}

#[tokio::test]
async fn the_sdks_default_cache_would_still_sign_as_the_first_user() {
    let scene = Scene::new().await;
    let alice = scene.sign_in("alice").identity_id().await.unwrap();
    let config = scene
        .base
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(scene.provider.clone()))
        .build();
    let client = crate::stage::sts(&config);
    call(&client).await.unwrap();
    drop(scene.sign_in("bob"));
    call(&client).await.unwrap();
    assert_eq!(scene.signed_by(), [alice.as_str(), alice.as_str()]);
}

#[tokio::test]
async fn the_sdks_default_cache_would_not_ask_a_sessions_handle_after_the_end() {
    let scene = Scene::new().await;
    let session = scene.sign_in("alice");
    let alice = session.identity_id().await.unwrap();
    let config = scene
        .base
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(session))
        .build();
    let client = crate::stage::sts(&config);
    call(&client).await.unwrap();
    scene.provider.sign_out();
    call(&client).await.unwrap();
    assert_eq!(scene.signed_by(), [alice.as_str(), alice.as_str()]);
}

#[tokio::test]
async fn no_cache_at_all_fails_closed_as_well() {
    let scene = Scene::new().await;
    let session = scene.sign_in("alice");
    let config = scene
        .base
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(session))
        .identity_cache(IdentityCache::no_cache())
        .build();
    let client = crate::stage::sts(&config);
    call(&client).await.unwrap();
    scene.provider.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
}
