//! What the AWS SDK is given: an identity cache that is told of every switch.
//!
//! The SDK's own cache keeps credentials until they expire and cannot be told that somebody else is signed in; and it resolves
//! the identity again for each attempt of an operation, so that a retry after a switch would be signed by the next user.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cognitoidentity::config::IdentityCache;
use aws_smithy_runtime_api::client::identity::{
    IdentityCachePartition, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_types::SdkConfig;

use super::context::PROVIDER_NAME;
use super::current_session::BoundProvider;
use super::pin::{HandedOut, Pin, hash, overheard, pinned};
use crate::error::Error;
use crate::refresh::Failure;

/// How many foreign resolvers are told apart before they are learnt anew.
const MAX_KNOWN_RESOLVERS: usize = 256;

/// Credentials tell their provider's name in their `Debug` form alone; a test holds on to that.
fn carries_our_name(credentials: &Credentials) -> bool {
    format!("{credentials:?}").contains(PROVIDER_NAME)
}

/// `base` with credentials and identity cache of `served`.
pub(super) fn config(base: &SdkConfig, served: BoundProvider) -> SdkConfig {
    let provider = SharedCredentialsProvider::new(served.clone());
    let partition = provider.cache_partition();
    let cache = OurIdentityCache::new(served, partition);
    base.to_builder()
        .credentials_provider(provider)
        .identity_cache(SharedIdentityCache::new(cache))
        .build()
}

/// The cache for a configuration that is built elsewhere, where our provider arrives in a wrapper that is not known here.
pub(super) fn identity_cache(served: BoundProvider) -> SharedIdentityCache {
    SharedIdentityCache::new(OurIdentityCache::new(served, None))
}

/// Answers for our own resolver from the session in force. What comes from another resolver but carries our mark (our provider in
/// another wrapper) is asked for each time; all else goes to the SDK's cache.
struct OurIdentityCache {
    served: BoundProvider,
    partition: Option<IdentityCachePartition>,
    others: SharedIdentityCache,
    /// The resolvers that have been seen to answer with somebody else's.
    foreign: Mutex<HashSet<IdentityCachePartition>>,
}

impl OurIdentityCache {
    fn new(served: BoundProvider, partition: Option<IdentityCachePartition>) -> Self {
        Self {
            served,
            partition,
            others: IdentityCache::lazy().build(),
            foreign: Mutex::default(),
        }
    }

    /// The session of this provider in which the operation was begun. `None` at the first attempt.
    fn pin(&self, config: &ConfigBag) -> Option<u64> {
        let pin = config.load::<Pin>()?;
        (pin.provider == self.served.current.context.id()).then_some(pin.epoch)
    }

    fn foreign(&self) -> MutexGuard<'_, HashSet<IdentityCachePartition>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn_foreign(&self, partition: IdentityCachePartition) {
        let mut foreign = self.foreign();
        if foreign.len() >= MAX_KNOWN_RESOLVERS {
            foreign.clear();
        }
        foreign.insert(partition);
    }
}

impl ResolveCachedIdentity for OurIdentityCache {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let partition = resolver.cache_partition();
        let pin = self.pin(config);
        let bound = pin.or(self.served.bound);
        if self.partition == Some(partition) {
            return self.served.current.hit(bound, |snapshot| match snapshot {
                Some(snapshot) => IdentityFuture::ready(Ok(snapshot.identity())),
                None => IdentityFuture::new(async move {
                    let (_, snapshot) = self.served.current.serve(bound).await?;
                    Ok(snapshot.identity())
                }),
            });
        }
        let can_be_cached = components.sleep_impl().is_some() && components.time_source().is_some();
        if can_be_cached && self.foreign().contains(&partition) {
            // The reference to the resolver has to outlive the call.
            return IdentityFuture::new(async move {
                self.others.resolve_cached_identity(resolver, components, config).await
            });
        }
        IdentityFuture::new(async move {
            let in_force = || self.served.current.in_force.load().epoch;
            if pin.is_some_and(|epoch| epoch != in_force()) {
                return Err(Error::ended().into());
            }
            let resolution = async { resolver.resolve_identity(components, config).await };
            let (identity, handed_out) = overheard(resolution).await;
            let identity = identity?;
            let Some(credentials) = identity.data::<Credentials>() else {
                return Ok(identity);
            };
            let Some(HandedOut { pin, .. }) = handed_out.filter(|ours| ours.key == hash(credentials)) else {
                // Ours all the same if somebody kept them in between, who is told of no switch.
                if !carries_our_name(credentials) {
                    self.learn_foreign(partition);
                }
                return Ok(identity);
            };
            if pin.provider != self.served.current.context.id() {
                // Another provider's, which has its own sessions.
                return Ok(identity);
            }
            if bound.is_some_and(|epoch| epoch != pin.epoch) || in_force() != pin.epoch {
                return Err(Error::ended().into());
            }
            Ok(self.served.current.hit(Some(pin.epoch), |snapshot| {
                match snapshot.filter(|snapshot| snapshot.has_key(credentials.access_key_id())) {
                    Some(snapshot) => snapshot.identity(),
                    None => pinned(credentials, pin),
                }
            }))
        })
    }
}

impl fmt::Debug for OurIdentityCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CognitoIdentityCache")
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}
