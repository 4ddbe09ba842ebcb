//! What the AWS SDK is given: an identity cache that is told of every switch, and the mark that pins an operation to a session.
//!
//! The SDK's own cache keeps credentials until they expire and cannot be told that somebody else is signed in; and it resolves
//! the identity again for each attempt of an operation, so that a retry after a switch would be signed by the next user.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

use super::{PROVIDER_NAME, Served};
use crate::error::Error;
use crate::refresh::Failure;

/// How many foreign resolvers are told apart before they are learnt anew.
const MAX_KNOWN_RESOLVERS: usize = 256;

/// The session in which an operation was begun. It rides on the identity of the first attempt, and later attempts find it in their
/// config bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pinned {
    /// Of which provider the session is.
    pub(super) provider: usize,
    pub(super) epoch: u64,
}

impl Storable for Pinned {
    type Storer = StoreReplace<Self>;
}

thread_local! {
    /// The credentials that were handed out last on this thread.
    static HANDED_OUT: Cell<Option<HandedOut>> = const { Cell::new(None) };
    /// Which of the [`COPIES`] this thread is answered with.
    static COPY: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % COPIES
    };
}

/// Which credentials, and of which session.
#[derive(Debug, Clone, Copy)]
struct HandedOut {
    pin: Pinned,
    /// The hash of the access key id.
    key: u64,
}

/// Threads that clone the same identity contend for its reference counts, which costs more than all else about an answer.
const COPIES: usize = 4;

/// What is answered from a session that another may replace.
pub(super) struct PinnedForm {
    /// The credentials as an identity cache answers them: with the mark that pins an operation to the session.
    identities: [Identity; COPIES],
    handed_out: HandedOut,
}

impl PinnedForm {
    pub(super) fn new(credentials: &Credentials, pin: Pinned) -> Self {
        Self {
            identities: std::array::from_fn(|_| pinned(credentials, pin)),
            handed_out: HandedOut {
                pin,
                key: hash(credentials),
            },
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.handed_out.pin.epoch
    }

    /// Leaves word for an identity cache further up the stack: a mark on the credentials themselves would cost an allocation for
    /// each clone.
    #[inline]
    pub(super) fn announce(&self) {
        let announced = Some(self.handed_out);
        HANDED_OUT.try_with(|last| last.set(announced)).unwrap_or_default();
    }

    pub(super) fn identity(&self) -> Identity {
        self.identities[COPY.try_with(|copy| *copy).unwrap_or_default()].clone()
    }
}

fn hash(credentials: &Credentials) -> u64 {
    let mut hasher = DefaultHasher::new();
    credentials.access_key_id().hash(&mut hasher);
    hasher.finish()
}

/// Awaits `resolution`, and tells which credentials were handed out in the poll that ended it.
async fn overheard<T>(resolution: impl Future<Output = T>) -> (T, Option<HandedOut>) {
    let mut resolution = pin!(resolution);
    let take = || HANDED_OUT.try_with(Cell::take).ok().flatten();
    poll_fn(|cx| {
        take();
        resolution.as_mut().poll(cx).map(|output| (output, take()))
    })
    .await
}

/// Credentials tell their provider's name in their `Debug` form alone; a test holds on to that.
fn carries_our_name(credentials: &Credentials) -> bool {
    format!("{credentials:?}").contains(PROVIDER_NAME)
}

/// `credentials`, which are of `pin`'s session, as an identity that pins the operation that is signed with it.
fn pinned(credentials: &Credentials, pin: Pinned) -> Identity {
    let mut layer = Layer::new("CognitoIdentityPoolSession");
    layer.store_put(pin);
    let identity = Identity::builder().data(credentials.clone()).property(layer.freeze());
    let identity = match credentials.expiry() {
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

/// Answers for our own resolver from the session in force. What comes from another resolver but carries our mark (our provider in
/// another wrapper) is asked for each time; all else goes to the SDK's cache.
struct OurIdentityCache {
    served: Served,
    partition: Option<IdentityCachePartition>,
    others: SharedIdentityCache,
    /// The resolvers that have been seen to answer with somebody else's.
    foreign: Mutex<HashSet<IdentityCachePartition>>,
}

impl OurIdentityCache {
    fn new(served: Served, partition: Option<IdentityCachePartition>) -> Self {
        Self {
            served,
            partition,
            others: IdentityCache::lazy().build(),
            foreign: Mutex::default(),
        }
    }

    /// The session of this provider in which the operation was begun. `None` at the first attempt.
    fn pin(&self, config: &ConfigBag) -> Option<u64> {
        let pin = config.load::<Pinned>()?;
        (pin.provider == self.served.shared.core.id()).then_some(pin.epoch)
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
            return self.served.shared.hit(bound, |snapshot| match snapshot {
                Some(snapshot) => IdentityFuture::ready(Ok(snapshot.identity())),
                None => IdentityFuture::new(async move {
                    let (_, snapshot) = self.served.shared.serve(bound).await?;
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
            let in_force = || self.served.shared.current.load().epoch;
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
            if pin.provider != self.served.shared.core.id() {
                // Another provider's, which has its own sessions.
                return Ok(identity);
            }
            if bound.is_some_and(|epoch| epoch != pin.epoch) || in_force() != pin.epoch {
                return Err(Error::ended().into());
            }
            Ok(self.served.shared.hit(Some(pin.epoch), |snapshot| {
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
