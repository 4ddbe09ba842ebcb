//! Nobody signs as somebody else, whatever stands between the client and the provider: over a service's socket, with the pool's
//! record of whose access key is whose as judge.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::time::TimeSource;
use cognito_identity_pool::{CognitoCredentialsProvider, ErrorKind, Login, Session};

use crate::any_service::{AnyService, role_of};
use crate::stage::{Stage, ours};

const ROLE: &str = "arn:aws:iam::123456789012:role/reports";

struct Scene {
    stage: Stage,
    provider: CognitoCredentialsProvider,
    service: AnyService,
    base: SdkConfig,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::start().await;
        let provider = stage.provider();
        let service = AnyService::start(&stage.pool).await;
        let base = service.config(&stage.pool.client_config());
        Self {
            stage,
            provider,
            service,
            base,
        }
    }

    /// Signs in, and answers the user's identity id with the session.
    async fn sign_in(&self, user: &str) -> (Session, String) {
        sign_in(&self.stage, &self.provider, user).await
    }

    /// A client on the provider's configuration, with another credentials provider in the place of ours.
    fn with(&self, credentials: impl ProvideCredentials + 'static) -> aws_sdk_sts::Client {
        on(&self.provider.sdk_config(&self.base), credentials)
    }

    /// At the next request: a 503, and a switch to another user while it is on its way.
    fn switch_at_the_next_request(&self) {
        switch_at_the_next_request(&self.service, &self.stage, &self.provider);
    }

    /// The operation was signed by one, and failed rather than going on as another.
    fn assert_one_signer(&self, error: &cognito_identity_pool::Error, signer: &str) {
        assert_eq!(error.kind(), ErrorKind::SessionEnded);
        assert_eq!(self.service.calls(), [signer]);
    }
}

fn on(config: &SdkConfig, credentials: impl ProvideCredentials + 'static) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::config::Builder::from(config).credentials_provider(credentials);
    aws_sdk_sts::Client::from_conf(config.build())
}

async fn sign_in(stage: &Stage, provider: &CognitoCredentialsProvider, user: &str) -> (Session, String) {
    let session = provider.switch_to(Login::developer(stage.backend(user)).subject(user));
    let id = session.ready().await.unwrap().identity_id;
    (session, id.as_str().to_owned())
}

fn switch_at_the_next_request(service: &AnyService, stage: &Stage, provider: &CognitoCredentialsProvider) {
    let (provider, carol) = (provider.clone(), stage.backend("carol"));
    service.fail_once_and(move || drop(provider.switch_to(Login::developer(carol))));
}

async fn call(client: &aws_sdk_sts::Client) -> Result<(), cognito_identity_pool::Error> {
    let answer = client.get_caller_identity().send().await;
    answer.map(drop).map_err(|error| ours(&error))
}

/// A role that is assumed with the credentials of a configuration, by aws-config's own provider.
pub(crate) async fn assumed_on(config: &SdkConfig) -> AssumeRoleProvider {
    AssumeRoleProvider::builder(ROLE)
        .session_name("test")
        .configure(config)
        .build()
        .await
}

#[tokio::test]
async fn a_role_assumed_on_top_is_the_users_who_is_signed_in_and_ends_with_the_sign_out() {
    let scene = Scene::new().await;
    let config = scene.provider.sdk_config(&scene.base);
    let client = on(&config, assumed_on(&config).await);
    let (_, alice) = scene.sign_in("alice").await;
    for _ in 0..3 {
        call(&client).await.unwrap();
    }
    let (_, bob) = scene.sign_in("bob").await;
    for _ in 0..3 {
        call(&client).await.unwrap();
    }
    scene.provider.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SignedOut);
    let (of_alice, of_bob) = (role_of(&alice), role_of(&bob));
    let expected = [&of_alice, &of_alice, &of_alice, &of_bob, &of_bob, &of_bob];
    assert_eq!(scene.service.calls().iter().collect::<Vec<_>>(), expected);
    // Within a session it is assumed once.
    assert_eq!(scene.service.signers("AssumeRole"), [alice, bob]);
}

#[tokio::test]
async fn a_role_assumed_on_a_bound_session_ends_with_it() {
    let scene = Scene::new().await;
    let (session, alice) = scene.sign_in("alice").await;
    let config = session.sdk_config(&scene.base);
    let client = on(&config, assumed_on(&config).await);
    call(&client).await.unwrap();
    call(&client).await.unwrap();
    drop(scene.sign_in("bob").await);
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    scene.provider.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    assert_eq!(scene.service.calls(), [role_of(&alice), role_of(&alice)]);
    assert_eq!(scene.service.signers("AssumeRole"), [alice]);
}

#[tokio::test]
async fn a_role_assumed_on_the_provider_is_not_the_next_users_for_a_bound_client() {
    let scene = Scene::new().await;
    let (session, alice) = scene.sign_in("alice").await;
    let assumed = assumed_on(&scene.provider.sdk_config(&scene.base)).await;
    let client = on(&session.sdk_config(&scene.base), assumed);
    call(&client).await.unwrap();
    drop(scene.sign_in("bob").await);
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    assert_eq!(scene.service.signers("AssumeRole"), [alice]);
}

#[tokio::test]
async fn a_role_assumed_on_top_keeps_the_signer_of_an_operation() {
    let scene = Scene::new().await;
    let config = scene.provider.sdk_config(&scene.base);
    let client = on(&config, assumed_on(&config).await);
    let (_, alice) = scene.sign_in("alice").await;
    scene.switch_at_the_next_request();
    let error = call(&client).await.unwrap_err();
    scene.assert_one_signer(&error, &role_of(&alice));
}

#[tokio::test]
async fn a_role_is_assumed_anew_when_the_credentials_are_cleared() {
    let scene = Scene::new().await;
    let config = scene.provider.sdk_config(&scene.base);
    let client = on(&config, assumed_on(&config).await);
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    call(&client).await.unwrap();
    scene.provider.clear_credentials();
    call(&client).await.unwrap();
    call(&client).await.unwrap();
    assert_eq!(scene.service.signers("AssumeRole"), [alice.clone(), alice]);
}

#[tokio::test]
async fn a_chain_is_the_users_who_is_signed_in_and_ends_with_the_sign_out() {
    let scene = Scene::new().await;
    let chain = CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("cognito", scene.provider.clone());
    let client = scene.with(chain);
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    let (_, bob) = scene.sign_in("bob").await;
    call(&client).await.unwrap();
    scene.switch_at_the_next_request();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    scene.provider.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SignedOut);
    assert_eq!(scene.service.calls(), [alice, bob.clone(), bob]);
}

/// What a wrapper of the app's answers, asked the n-th time.
type Answer = Box<dyn Fn(usize) -> future::ProvideCredentials<'static> + Send + Sync>;

/// A credentials provider of the app's own.
pub(crate) struct Wrapper {
    answer: Answer,
    asked: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wrapper")
    }
}

impl ProvideCredentials for Wrapper {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        (self.answer)(self.asked.fetch_add(1, Ordering::SeqCst))
    }
}

fn wrapper<F>(answer: impl Fn(usize) -> F + Send + Sync + 'static) -> Wrapper
where
    F: Future<Output = provider::Result> + Send + 'static,
{
    Wrapper {
        answer: Box::new(move |n| future::ProvideCredentials::new(answer(n))),
        asked: Arc::default(),
    }
}

fn machine() -> Credentials {
    Credentials::new("AKIAMACHINE", "secret", None, None, "machine")
}

#[tokio::test]
async fn a_wrapper_that_answered_somebody_elses_credentials_once_is_judged_anew() {
    let scene = Scene::new().await;
    let ours = scene.provider.clone();
    let client = scene.with(wrapper(move |n| {
        let ours = ours.clone();
        async move {
            if n == 0 {
                Ok(machine())
            } else {
                ours.provide_credentials().await
            }
        }
    }));
    call(&client).await.unwrap();
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    let (_, bob) = scene.sign_in("bob").await;
    call(&client).await.unwrap();
    scene.provider.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SignedOut);
    assert_eq!(scene.service.calls(), ["AKIAMACHINE", &alice, &bob]);
}

/// Waits after it has asked ours, as for a lock or a metric.
pub(crate) fn waits_afterwards(ours: &CognitoCredentialsProvider) -> Wrapper {
    let ours = ours.clone();
    wrapper(move |_| {
        let ours = ours.clone();
        async move {
            let credentials = ours.provide_credentials().await;
            tokio::task::yield_now().await;
            credentials
        }
    })
}

/// Asks ours in a task of its own, where nobody can listen.
pub(crate) fn in_a_task(ours: &CognitoCredentialsProvider) -> Wrapper {
    let ours = ours.clone();
    wrapper(move |_| {
        let ours = ours.clone();
        async move {
            tokio::spawn(async move { ours.provide_credentials().await })
                .await
                .unwrap()
        }
    })
}

#[tokio::test]
async fn a_wrapper_that_waits_after_it_has_asked_keeps_the_signer_of_an_operation() {
    let scene = Scene::new().await;
    let client = scene.with(waits_afterwards(&scene.provider));
    let (_, alice) = scene.sign_in("alice").await;
    scene.switch_at_the_next_request();
    let error = call(&client).await.unwrap_err();
    scene.assert_one_signer(&error, &alice);
}

#[tokio::test]
async fn a_wrapper_with_a_task_of_its_own_follows_and_keeps_the_signer_of_an_operation() {
    let scene = Scene::new().await;
    let client = scene.with(in_a_task(&scene.provider));
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    scene.switch_at_the_next_request();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    let (_, bob) = scene.sign_in("bob").await;
    call(&client).await.unwrap();
    scene.provider.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SignedOut);
    assert_eq!(scene.service.calls(), [alice.clone(), alice, bob]);
}

#[tokio::test]
async fn a_role_assumed_in_a_task_is_assumed_anew_after_a_switch() {
    let scene = Scene::new().await;
    let assumed = Arc::new(assumed_on(&scene.provider.sdk_config(&scene.base)).await);
    let client = scene.with(wrapper(move |_| {
        let assumed = Arc::clone(&assumed);
        async move {
            tokio::spawn(async move { assumed.provide_credentials().await })
                .await
                .unwrap()
        }
    }));
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    call(&client).await.unwrap();
    scene.switch_at_the_next_request();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    let (_, bob) = scene.sign_in("bob").await;
    call(&client).await.unwrap();
    scene.provider.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SignedOut);
    let (of_alice, of_bob) = (role_of(&alice), role_of(&bob));
    assert_eq!(scene.service.calls(), [&of_alice[..], &of_alice, &of_alice, &of_bob]);
}

#[tokio::test]
async fn a_wrapper_that_keeps_a_users_credentials_fails_after_the_switch() {
    let scene = Scene::new().await;
    let (ours, kept) = (scene.provider.clone(), Arc::new(Mutex::new(None)));
    let client = scene.with(wrapper(move |_| {
        let (ours, kept) = (ours.clone(), Arc::clone(&kept));
        async move {
            if let Some(kept) = kept.lock().unwrap().clone() {
                return Ok(kept);
            }
            let credentials: Credentials = ours.provide_credentials().await?;
            *kept.lock().unwrap() = Some(credentials.clone());
            Ok(credentials)
        }
    }));
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    drop(scene.sign_in("bob").await);
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    assert_eq!(scene.service.calls(), [alice]);
}

#[tokio::test]
async fn a_wrapper_that_falls_back_on_the_machines_own_credentials_follows_the_sign_in() {
    let scene = Scene::new().await;
    let ours = scene.provider.clone();
    let client = scene.with(wrapper(move |_| {
        let ours = ours.clone();
        async move { ours.provide_credentials().await.or_else(|_| Ok(machine())) }
    }));
    call(&client).await.unwrap();
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    scene.provider.sign_out();
    call(&client).await.unwrap();
    assert_eq!(scene.service.calls(), ["AKIAMACHINE", &alice, "AKIAMACHINE"]);
}

#[tokio::test]
async fn one_providers_configuration_with_anothers_credentials_keeps_the_signer_of_an_operation() {
    let scene = Scene::new().await;
    let second = scene.stage.provider();
    drop(scene.sign_in("alice").await);
    let client = scene.with(second.clone());
    let (_, bob) = sign_in(&scene.stage, &second, "bob").await;
    switch_at_the_next_request(&scene.service, &scene.stage, &second);
    let error = call(&client).await.unwrap_err();
    scene.assert_one_signer(&error, &bob);
    // And follows the other's switch and sign-out.
    let (_, dave) = sign_in(&scene.stage, &second, "dave").await;
    call(&client).await.unwrap();
    second.sign_out();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SignedOut);
    assert_eq!(scene.service.calls(), [bob, dave]);
}

#[tokio::test]
async fn a_role_is_not_assumed_by_two_users_when_its_own_request_is_tried_again() {
    // A role whose `AssumeRole` is asked of a client with the provider's configuration, as many write it.
    let scene = Scene::new().await;
    let sts = aws_sdk_sts::Client::new(&scene.provider.sdk_config(&scene.base));
    let client = scene.with(wrapper(move |_| {
        let sts = sts.clone();
        async move {
            let role = sts.assume_role().role_arn(ROLE).role_session_name("test").send().await;
            let role = role.map_err(provider::error::CredentialsError::provider_error)?;
            let credentials = role.credentials.unwrap();
            Ok(Credentials::new(
                credentials.access_key_id,
                credentials.secret_access_key,
                Some(credentials.session_token),
                Some(std::time::SystemTime::try_from(credentials.expiration).unwrap()),
                "by hand",
            ))
        }
    }));
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    let (_, bob) = scene.sign_in("bob").await;
    call(&client).await.unwrap();
    scene.switch_at_the_next_request();
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    let (of_alice, of_bob) = (role_of(&alice), role_of(&bob));
    assert_eq!(scene.service.calls(), [&of_alice[..], &of_bob, &of_bob]);
    assert_eq!(scene.service.signers("AssumeRole"), [alice, bob]);
}

#[tokio::test]
async fn the_machines_own_credentials_go_on_working_after_the_sign_out_and_across_a_retry() {
    let scene = Scene::new().await;
    let (session, _) = scene.sign_in("alice").await;
    let clients = [scene.with(machine()), on(&session.sdk_config(&scene.base), machine())];
    for client in &clients {
        call(client).await.unwrap();
        scene.switch_at_the_next_request();
        call(client).await.unwrap();
        scene.provider.sign_out();
        call(client).await.unwrap();
    }
    assert_eq!(scene.service.calls(), ["AKIAMACHINE"; 8]);
}

#[tokio::test]
async fn fifty_cold_operations_load_another_resolver_once() {
    let scene = Scene::new().await;
    drop(scene.sign_in("alice").await);
    let (release, held) = tokio::sync::watch::channel(false);
    let other = wrapper(move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|released| *released).await.unwrap();
            Ok(machine())
        }
    });
    let asked = Arc::clone(&other.asked);
    let client = scene.with(other);
    let calls = (0..50).map(|_| call(&client));
    let calls = futures_util::future::join_all(calls);
    let release = async {
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        release.send(true).unwrap();
    };
    let (results, ()) = futures_util::future::join(calls, release).await;
    results.into_iter().for_each(Result::unwrap);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_error_of_another_resolver_is_not_kept() {
    let scene = Scene::new().await;
    drop(scene.sign_in("alice").await);
    let client = scene.with(wrapper(|n| async move {
        if n == 0 {
            Err(provider::error::CredentialsError::provider_error("down"))
        } else {
            Ok(machine())
        }
    }));
    client.get_caller_identity().send().await.unwrap_err();
    call(&client).await.unwrap();
}

#[tokio::test]
async fn another_resolver_is_asked_again_ahead_of_the_expiry() {
    let scene = Scene::new().await;
    drop(scene.sign_in("alice").await);
    let clock = scene.stage.clock.clone();
    let other = wrapper(move |n| {
        let end = clock.now() + Duration::from_secs(100);
        async move {
            Ok(Credentials::new(
                format!("AKIAOTHER{n}"),
                "secret",
                None,
                Some(end),
                "other",
            ))
        }
    });
    let client = scene.with(other);
    call(&client).await.unwrap();
    scene.stage.clock.advance(Duration::from_secs(89));
    call(&client).await.unwrap();
    scene.stage.clock.advance(Duration::from_secs(7));
    call(&client).await.unwrap();
    assert_eq!(scene.service.calls(), ["AKIAOTHER0", "AKIAOTHER0", "AKIAOTHER1"]);
}

#[tokio::test]
async fn without_our_cache_a_client_follows_within_the_lease() {
    let scene = Scene::new().await;
    let config = scene
        .base
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(scene.provider.clone()))
        .build();
    let client = aws_sdk_sts::Client::new(&config);
    let (_, alice) = scene.sign_in("alice").await;
    call(&client).await.unwrap();
    let (_, bob) = scene.sign_in("bob").await;
    // Documented: until the lease ends.
    call(&client).await.unwrap();
    scene.stage.clock.advance(Duration::from_secs(60));
    call(&client).await.unwrap();
    scene.provider.sign_out();
    scene.stage.clock.advance(Duration::from_secs(60));
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SignedOut);
    assert_eq!(scene.service.calls(), [alice.clone(), alice, bob]);
    // Asking again costs Cognito nothing.
    assert_eq!(scene.stage.cognito_calls().1, 2);
}

#[tokio::test]
async fn without_our_cache_the_interceptor_keeps_the_signer_of_an_operation() {
    // A lease so short that the SDK's cache asks at each attempt.
    let stage = Stage::start().await;
    let provider = stage.builder().lease(Duration::from_secs(1)).build().unwrap();
    let service = AnyService::start(&stage.pool).await;
    let config = service.config(&stage.pool.client_config());
    let config = aws_sdk_sts::config::Builder::from(&config)
        .credentials_provider(provider.clone())
        .interceptor(provider.rejection_interceptor())
        .build();
    let client = aws_sdk_sts::Client::from_conf(config);
    let (_, alice) = sign_in(&stage, &provider, "alice").await;
    switch_at_the_next_request(&service, &stage, &provider);
    assert_eq!(call(&client).await.unwrap_err().kind(), ErrorKind::SessionEnded);
    let (_, bob) = sign_in(&stage, &provider, "bob").await;
    // Within the session it goes on, with other credentials.
    let clears = provider.clone();
    service.fail_once_and(move || clears.clear_credentials());
    call(&client).await.unwrap();
    assert_eq!(service.calls(), [alice, bob.clone(), bob]);
}

fn with_interceptor(scene: &Scene, config: &SdkConfig) -> aws_sdk_sts::config::Builder {
    aws_sdk_sts::config::Builder::from(config).interceptor(scene.provider.rejection_interceptor())
}

#[tokio::test]
async fn a_late_refusal_of_old_credentials_leaves_the_new_ones_alone() {
    let scene = Scene::new().await;
    drop(scene.sign_in("alice").await);
    let config = with_interceptor(&scene, &scene.provider.sdk_config(&scene.base));
    let client = aws_sdk_sts::Client::from_conf(config.build());
    let refreshes = scene.provider.clone();
    let refreshed = async move { refreshes.refresh_now().await.unwrap() };
    scene.service.refuse_once_after("ExpiredToken", refreshed);
    client.get_caller_identity().send().await.unwrap_err();
    call(&client).await.unwrap();
    // The first exchange, and the one that was forced: the refusal was about credentials that were gone.
    assert_eq!(scene.stage.cognito_calls().1, 2);
}

#[tokio::test]
async fn a_refusal_of_current_credentials_makes_the_next_caller_wait_for_new_ones() {
    let scene = Scene::new().await;
    drop(scene.sign_in("alice").await);
    let config = with_interceptor(&scene, &scene.provider.sdk_config(&scene.base));
    let client = aws_sdk_sts::Client::from_conf(config.build());
    scene.service.refuse_once_after("ExpiredToken", std::future::ready(()));
    client.get_caller_identity().send().await.unwrap_err();
    call(&client).await.unwrap();
    assert_eq!(scene.stage.cognito_calls().1, 2);
}

#[tokio::test]
async fn a_refused_role_is_assumed_anew_and_the_operation_goes_on() {
    let scene = Scene::new().await;
    let (_, alice) = scene.sign_in("alice").await;
    let config = scene.provider.sdk_config(&scene.base);
    let on_role = with_interceptor(&scene, &config)
        .retry_classifier(scene.provider.rejection_retry())
        .credentials_provider(assumed_on(&config).await);
    let client = aws_sdk_sts::Client::from_conf(on_role.build());
    scene.service.refuse_once_after("ExpiredToken", std::future::ready(()));
    call(&client).await.unwrap();
    assert_eq!(scene.service.signers("AssumeRole"), [alice.clone(), alice]);
    // The user's own credentials were not refused.
    assert_eq!(scene.stage.cognito_calls().1, 1);
}

#[tokio::test]
async fn a_role_is_assumed_anew_when_the_users_credentials_are_refused() {
    let scene = Scene::new().await;
    let (_, alice) = scene.sign_in("alice").await;
    let config = scene.provider.sdk_config(&scene.base);
    let client = on(&config, assumed_on(&config).await);
    call(&client).await.unwrap();
    assert!(
        scene
            .provider
            .invalidate(&scene.provider.provide_credentials().await.unwrap())
    );
    call(&client).await.unwrap();
    assert_eq!(scene.service.signers("AssumeRole"), [alice.clone(), alice]);
    assert_eq!(scene.stage.cognito_calls().1, 2);
}

#[tokio::test]
async fn a_login_that_the_app_decides_for_another_user_is_that_users_through_a_wrapper() {
    let scene = Scene::new().await;
    let user = Arc::new(Mutex::new("alice"));
    let (backends, decides) = (
        ["alice", "bob"].map(|user| scene.stage.backend(user)),
        Arc::clone(&user),
    );
    scene.provider.switch_to(Login::decided_by(move || {
        let user = *decides.lock().unwrap();
        let backend = backends.iter().find(|backend| backend.user == user).unwrap();
        Login::developer(Arc::clone(backend)).subject(user)
    }));
    let client = scene.with(waits_afterwards(&scene.provider));
    call(&client).await.unwrap();
    let alice = scene.provider.identity_id().await.unwrap();
    *user.lock().unwrap() = "bob";
    scene.provider.clear_credentials();
    call(&client).await.unwrap();
    let bob = scene.provider.identity_id().await.unwrap();
    assert_ne!(alice, bob);
    assert_eq!(scene.service.calls(), [alice.as_str(), bob.as_str()]);
}
