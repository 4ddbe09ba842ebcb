//! What the AWS SDK is given: an identity cache that is told of every switch, and the mark that pins an operation to a session.
//!
//! The SDK's own cache keeps credentials until they expire and cannot be told that somebody else is signed in; and it resolves
//! the identity again for each attempt of an operation, so that a retry after a switch would be signed by the next user.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cognitoidentity::config::IdentityCache;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityCachePartition, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Layer, Storable, StoreReplace};
use aws_types::SdkConfig;

use super::session::identity_of;
use super::{PROVIDER_NAME, Served};
use crate::error::Error;
use crate::refresh::Failure;

/// How many foreign resolvers are told apart before they are learnt anew.
const MAX_KNOWN_RESOLVERS: usize = 256;

/// The session in which an operation was begun. It rides on the identity of the first attempt, and later attempts find it in
/// their config bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pinned {
    epoch: u64,
}

impl Storable for Pinned {
    type Storer = StoreReplace<Self>;
}

/// `credentials` as an identity that pins the operation that is signed with it to the session `epoch`.
pub(super) fn pinned(credentials: Credentials, epoch: u64) -> Identity {
    let mut layer = Layer::new("CognitoIdentityPoolSession");
    layer.store_put(Pinned { epoch });
    let expiry = credentials.expiry();
    let identity = Identity::builder().data(credentials).property(layer.freeze());
    let identity = match expiry {
        Some(expiry) => identity.expiration(expiry),
        None => identity,
    };
    // The builder fails only without data.
    identity.build().unwrap_or_else(|_| Identity::new((), None))
}

/// `base` with credentials and identity cache of `served`.
pub(super) fn config(base: &SdkConfig, served: Served) -> SdkConfig {
    let provider = SharedCredentialsProvider::new(served.clone());
    let partition = provider.cache_partition();
    let cache = OurIdentityCache::new(served, partition);
    base.to_builder()
        .credentials_provider(provider)
        .identity_cache(SharedIdentityCache::new(cache))
        .build()
}

/// The cache for a configuration that is built elsewhere, where our provider arrives in a wrapper that is not known here.
pub(super) fn identity_cache(served: Served) -> SharedIdentityCache {
    SharedIdentityCache::new(OurIdentityCache::new(served, None))
}

/// Answers for our own resolver from the session in force. What comes from another resolver but carries our name (our provider in
/// another wrapper) is asked for each time; all else goes to the SDK's cache.
struct OurIdentityCache {
    served: Served,
    partition: Option<IdentityCachePartition>,
    others: SharedIdentityCache,
    known: Mutex<HashMap<IdentityCachePartition, Whose>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Foreign,
}

impl OurIdentityCache {
    fn new(served: Served, partition: Option<IdentityCachePartition>) -> Self {
        Self {
            served,
            partition,
            others: IdentityCache::lazy().build(),
            known: Mutex::default(),
        }
    }

    /// Fails an attempt of an operation that was begun in another session.
    fn check_pin(&self, config: &ConfigBag) -> Result<(), Error> {
        match config.load::<Pinned>() {
            Some(pinned) if pinned.epoch != self.served.shared.current.load().epoch => Err(Error::ended()),
            _ => Ok(()),
        }
    }

    fn whose(&self, partition: IdentityCachePartition) -> Option<Whose> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&partition)
            .copied()
    }

    fn learn(&self, partition: IdentityCachePartition, whose: Whose) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN_RESOLVERS {
            known.clear();
        }
        known.insert(partition, whose);
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
        if self.partition == Some(partition) {
            if let Err(ended) = self.check_pin(config) {
                return IdentityFuture::ready(Err(ended.into()));
            }
            return match self.served.shared.hit(self.served.bound, identity_of) {
                Some(identity) => IdentityFuture::ready(Ok(identity)),
                None => IdentityFuture::new(async move {
                    let (_, snapshot) = self.served.shared.serve(self.served.bound).await?;
                    Ok(snapshot.identity.clone())
                }),
            };
        }
        let whose = self.whose(partition);
        let can_be_cached = components.sleep_impl().is_some() && components.time_source().is_some();
        if whose == Some(Whose::Foreign) && can_be_cached {
            // The reference to the resolver has to outlive the call.
            return IdentityFuture::new(async move {
                self.others.resolve_cached_identity(resolver, components, config).await
            });
        }
        IdentityFuture::new(async move {
            if whose == Some(Whose::Ours) {
                self.check_pin(config)?;
            }
            let identity = resolver.resolve_identity(components, config).await?;
            let credentials = identity.data::<Credentials>();
            // Once it is known that a resolver brings ours, its credentials need not be looked at again.
            let ours = credentials.filter(|credentials| whose == Some(Whose::Ours) || carries_our_name(credentials));
            let Some(ours) = ours else {
                self.learn(partition, Whose::Foreign);
                return Ok(identity);
            };
            if whose.is_none() {
                self.learn(partition, Whose::Ours);
            }
            // A first attempt learns here that it is ours, and a later one has passed the check above.
            match self.served.shared.epoch_of(ours.access_key_id()) {
                Some(epoch) => Ok(pinned(ours.clone(), epoch)),
                None => Ok(identity),
            }
        })
    }
}

/// Credentials tell their provider's name in their `Debug` form alone; a test holds on to that.
fn carries_our_name(credentials: &Credentials) -> bool {
    format!("{credentials:?}").contains(PROVIDER_NAME)
}

impl fmt::Debug for OurIdentityCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CognitoIdentityCache")
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}
