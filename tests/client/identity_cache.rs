//! The identity cache itself, asked as a client asks it: for identities that are no credentials, and for those on which the pin of an
//! operation cannot ride.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_credential_types::{Credentials, Token};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::AuthSchemeId;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;
use cognito_identity_pool::{CognitoCredentialsProvider, Error, ErrorKind, Login};

use crate::stage::Stage;

struct Scene {
    stage: Stage,
    provider: CognitoCredentialsProvider,
    cache: SharedIdentityCache,
    own: SharedIdentityResolver,
    components: RuntimeComponentsBuilder,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::start().await;
        let provider = stage.provider();
        let config = provider.sdk_config(&stage.pool.client_config());
        let cache = config.identity_cache().unwrap();
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(config.time_source())
            .with_sleep_impl(config.sleep_impl())
            .with_identity_cache(Some(cache.clone()));
        let scene = Self {
            own: SharedIdentityResolver::new(config.credentials_provider().unwrap()),
            stage,
            provider,
            cache,
            components,
        };
        scene.sign_in("alice");
        scene
    }

    fn sign_in(&self, user: &str) {
        drop(self.provider.switch_to(Login::developer(self.stage.backend(user))));
    }

    async fn resolve(&self, resolver: &SharedIdentityResolver, bag: &ConfigBag) -> Result<Identity, BoxError> {
        let components = self.components.clone().build().unwrap();
        // As a client does before the first attempt of each operation.
        components.validate_final_config(bag)?;
        self.cache
            .resolve_cached_identity(resolver.clone(), &components, bag)
            .await
    }
}

fn at_attempt(bag: &mut ConfigBag, attempt: u32) {
    bag.interceptor_state().store_put(RequestAttempts::new(attempt));
}

fn kind(result: Result<Identity, BoxError>) -> ErrorKind {
    let error = result.unwrap_err();
    let error: &(dyn std::error::Error + 'static) = &*error;
    Error::find(error).unwrap().kind()
}

/// Answers an identity of whatever kind, after asking the provider if it has one.
struct Resolver {
    identity: fn() -> Identity,
    asks: Option<CognitoCredentialsProvider>,
    asked: Arc<AtomicUsize>,
}

impl Resolver {
    fn new(identity: fn() -> Identity) -> Self {
        Self {
            identity,
            asks: None,
            asked: Arc::default(),
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolveIdentity for Resolver {
    fn resolve_identity<'a>(&'a self, _: &'a RuntimeComponents, _: &'a ConfigBag) -> IdentityFuture<'a> {
        IdentityFuture::new(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if let Some(provider) = &self.asks {
                drop(provider.provide_credentials().await?);
            }
            Ok((self.identity)())
        })
    }
}

fn bearer() -> Identity {
    Identity::new(Token::new("bearer", None), None)
}

fn certificate() -> Identity {
    Identity::new("a certificate", None)
}

#[tokio::test]
async fn bearer_tokens_and_other_identities_are_loaded_once_and_again_after_a_switch() {
    let scene = Scene::new().await;
    for identity in [bearer as fn() -> Identity, certificate] {
        let resolver = Resolver::new(identity);
        let asked = Arc::clone(&resolver.asked);
        let resolver = SharedIdentityResolver::new(resolver);
        for loads in [1, 2] {
            for _ in 0..5 {
                let mut bag = ConfigBag::base();
                at_attempt(&mut bag, 1);
                scene.resolve(&resolver, &bag).await.unwrap();
            }
            assert_eq!(asked.load(Ordering::SeqCst), loads);
            scene.provider.sign_out();
        }
        scene.sign_in("alice");
    }
}

#[tokio::test]
async fn an_identity_of_any_kind_that_is_derived_keeps_an_operation_with_its_session() {
    for identity in [bearer as fn() -> Identity, certificate] {
        let scene = Scene::new().await;
        let resolver = SharedIdentityResolver::new(Resolver {
            asks: Some(scene.provider.clone()),
            ..Resolver::new(identity)
        });
        let mut bag = ConfigBag::base();
        at_attempt(&mut bag, 1);
        let first = scene.resolve(&resolver, &bag).await.unwrap();
        pin(&mut bag, &first);
        at_attempt(&mut bag, 2);
        scene.resolve(&resolver, &bag).await.unwrap();
        scene.sign_in("bob");
        at_attempt(&mut bag, 3);
        assert_eq!(kind(scene.resolve(&resolver, &bag).await), ErrorKind::SessionEnded);
        // The next operation is the next user's.
        let mut bag = ConfigBag::base();
        at_attempt(&mut bag, 1);
        scene.resolve(&resolver, &bag).await.unwrap();
    }
}

/// As the orchestrator does with what an identity brings along.
fn pin(bag: &mut ConfigBag, identity: &Identity) {
    if let Some(layer) = identity.property::<aws_smithy_types::config_bag::FrozenLayer>() {
        bag.push_shared_layer(layer.clone());
    }
}

#[tokio::test]
async fn an_operation_that_s3_signs_with_a_session_of_the_bucket_keeps_to_the_users_session() {
    // S3 asks for the user's identity, and brings none of its properties along to the next attempt.
    let mut scene = Scene::new().await;
    let express = SharedIdentityResolver::new(Resolver::new(certificate));
    scene
        .components
        .set_identity_resolver(AuthSchemeId::new("sigv4-s3express"), express);
    let wrapped = SharedIdentityResolver::new(SharedCredentialsProvider::new(scene.provider.clone()));
    for resolver in [scene.own.clone(), wrapped] {
        let mut bag = ConfigBag::base();
        at_attempt(&mut bag, 1);
        let first = scene.resolve(&resolver, &bag).await.unwrap();
        at_attempt(&mut bag, 2);
        let second = scene.resolve(&resolver, &bag).await.unwrap();
        let key = |identity: &Identity| identity.data::<Credentials>().unwrap().access_key_id().to_owned();
        assert_eq!(key(&first), key(&second));
        scene.sign_in("bob");
        at_attempt(&mut bag, 3);
        assert_eq!(kind(scene.resolve(&resolver, &bag).await), ErrorKind::SessionEnded);
        // In the same place in memory, another operation begins.
        at_attempt(&mut bag, 1);
        assert_ne!(key(&scene.resolve(&resolver, &bag).await.unwrap()), key(&first));
    }
}
