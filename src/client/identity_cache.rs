//! What the AWS SDK is given: an identity cache that is told of every switch, and keeps an operation with the session in which it was
//! begun.
//!
//! The SDK's own cache keeps credentials until they expire and cannot be told that somebody else is signed in; and it resolves
//! the identity again for each attempt of an operation, so that a retry after a switch would be signed by the next user.
//!
//! Three kinds of resolvers ask:
//!
//! - our own, known by its partition: it is answered from the session in force;
//! - one that asks ours, in whatever way (a role assumed on top, a chain, a wrapper): what it answers is derived from the session,
//!   kept for that session and ends with it;
//! - one that does not (the machine's own credentials, a bearer token): it goes on working after a sign-out.
//!
//! Which of the last two a resolver is, is judged at each load.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::AsyncSleep;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::AuthSchemeId;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityCachePartition, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::{GetIdentityResolver, RuntimeComponents};
use aws_smithy_types::config_bag::ConfigBag;
use aws_types::SdkConfig;
use futures_util::future::{Either, select};

use super::current_session::BoundProvider;
use super::kept_identities::{Answer, access_key_id, load_timeout};
use super::pin::{OperationPin, PinsBeside, session_of};
use super::resolution::{self, Asked};
use super::session_state::SessionState;
use crate::error::{Error, ErrorKind};
use crate::refresh::Failure;

/// The scheme by which S3 signs operations on a directory bucket: with the credentials of a session of the bucket.
const S3_EXPRESS: AuthSchemeId = AuthSchemeId::new("sigv4-s3express");

/// `base` with credentials and identity cache of `served`.
pub(super) fn config(base: &SdkConfig, served: BoundProvider) -> SdkConfig {
    let provider = SharedCredentialsProvider::new(served.clone());
    let partition = provider.cache_partition();
    let cache = CognitoIdentityCache::new(served, partition);
    base.to_builder()
        .credentials_provider(provider)
        .identity_cache(SharedIdentityCache::new(cache))
        .build()
}

/// The cache for a configuration that is built elsewhere, where our provider arrives in a wrapper that is not known here.
pub(super) fn identity_cache(served: BoundProvider) -> SharedIdentityCache {
    SharedIdentityCache::new(CognitoIdentityCache::new(served, None))
}

struct CognitoIdentityCache {
    served: BoundProvider,
    /// Of our own resolver.
    partition: Option<IdentityCachePartition>,
    pins_beside: PinsBeside,
}

/// What an operation was begun with, if this is a later attempt.
type Begun<'a> = Option<&'a OperationPin>;

impl CognitoIdentityCache {
    fn new(served: BoundProvider, partition: Option<IdentityCachePartition>) -> Self {
        Self {
            served,
            partition,
            pins_beside: PinsBeside::default(),
        }
    }

    /// From the config bag, or beside it.
    fn begun<'a>(&self, config: &'a ConfigBag) -> Option<Cow<'a, OperationPin>> {
        match config.load::<OperationPin>() {
            Some(pin) => Some(Cow::Borrowed(pin)),
            None if self.pins_beside.in_use() => self.pins_beside.get(config).map(Cow::Owned),
            None => None,
        }
    }

    /// The session that the operation has to be signed in, if that is decided.
    #[inline]
    fn bound(&self, begun: Begun<'_>) -> Option<u64> {
        let pinned = begun.and_then(|pin| pin.epoch_of(self.served.current.provider));
        pinned.or(self.served.bound)
    }

    /// Our own resolver asks.
    async fn own(&self, config: &ConfigBag) -> Result<Identity, BoxError> {
        let begun = self.begun(config);
        let bound = self.bound(begun.as_deref());
        let snapshot = self.served.current.serve_heard(bound).await?.1;
        if begun.is_none()
            && self.pins_beside.in_use()
            && let Some(pin) = snapshot.pin()
        {
            self.pins_beside.put(config, pin);
        }
        Ok(snapshot.identity())
    }

    /// An answer of another resolver that serves without asking it.
    fn kept<'a>(
        &self,
        partition: IdentityCachePartition,
        begun: Begun<'_>,
        components: &RuntimeComponents,
    ) -> Option<IdentityFuture<'a>> {
        if self.pins_beside.in_use() || resolution::is_overheard() {
            return None;
        }
        let current = &self.served.current;
        let state = current.in_force.load();
        state.kept.read(partition, |answer| {
            let answer = answer.filter(|answer| {
                answer.is_pinned && answer.is_fresh(|| now(components)) && self.may_serve(answer, begun)
            })?;
            match answer.key_of_session() {
                None => Some(IdentityFuture::ready(Ok(answer.identity.clone()))),
                Some(key) => current.hit(Some(state.epoch), |snapshot| {
                    let snapshot = snapshot.filter(|snapshot| snapshot.has_key(key))?;
                    Some(IdentityFuture::ready(Ok(snapshot.identity())))
                }),
            }
        })
    }

    fn may_serve(&self, answer: &Answer, begun: Begun<'_>) -> bool {
        let provider = self.served.current.provider;
        let is_bound_elsewhere = || {
            let epoch = answer.pin.epoch_of(provider);
            epoch.is_some() && self.served.bound.is_some_and(|bound| epoch != Some(bound))
        };
        begun.is_none_or(|pin| pin.admits(&answer.pin)) && !is_bound_elsewhere()
    }

    /// Another resolver asks, and what is kept of it does not serve.
    async fn other(
        &self,
        resolver: &SharedIdentityResolver,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<Identity, BoxError> {
        let begun = self.begun(config);
        let begun = begun.as_deref();
        let current = &self.served.current;
        let state = current.in_force.load_full();
        let provider = current.provider;
        let pinned = begun.and_then(|pin| pin.epoch_of(provider));
        if pinned.is_some_and(|epoch| epoch != state.epoch) {
            return Err(Error::ended().into());
        }
        let partition = resolver.cache_partition();
        let answer = {
            let turn = state.kept.turn(partition);
            let _turn = turn.lock().await;
            // Whoever had the turn before may have loaded it.
            let kept = state.kept.get(partition).filter(|answer| {
                answer.is_fresh(|| now(components))
                    && answer.key_of_session().is_none_or(|key| {
                        current.hit(Some(state.epoch), |snapshot| {
                            snapshot.is_some_and(|snapshot| snapshot.has_key(key))
                        })
                    })
            });
            match kept {
                Some(answer) => answer,
                None => self.load(&state, begun, resolver, components, config).await?,
            }
        };
        answer.asked().iter().cloned().for_each(resolution::note);
        if answer.asked().iter().any(|asked| asked.mark.has_ended()) {
            return Err(Error::ended().into());
        }
        if !self.may_serve(&answer, begun) {
            return Err(other_signer().into());
        }
        if begun.is_none() && (self.pins_beside.in_use() || !answer.is_pinned) {
            self.pins_beside.put(config, &answer.pin);
        }
        let own = answer.key_of_session().and_then(|key| {
            current.hit(Some(state.epoch), |snapshot| {
                snapshot
                    .filter(|snapshot| snapshot.has_key(key))
                    .map(|snapshot| snapshot.identity())
            })
        });
        Ok(own.unwrap_or_else(|| answer.identity.clone()))
    }

    async fn load(
        &self,
        state: &SessionState,
        begun: Begun<'_>,
        resolver: &SharedIdentityResolver,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<Arc<Answer>, BoxError> {
        let mut expected = begun.map(|pin| pin.sessions().to_vec()).unwrap_or_default();
        expected.extend(self.served.session());
        let resolution = in_time(resolver.resolve_identity(components, config), components, config);
        let (resolved, mut asked) = resolution::overhear(expected, resolution).await;
        let identity = match resolved {
            Ok(identity) => identity,
            Err(error) => {
                asked.into_iter().for_each(resolution::note);
                return Err(error);
            }
        };
        // A session's own credentials are known however they came.
        let session = access_key_id(&identity).and_then(session_of);
        if let Some(session) = &session {
            add(&mut asked, session.asked());
        }
        let of_session = session.is_some_and(|session| Arc::ptr_eq(&session, &state.mark)) && is_bare(&identity);
        let pin = OperationPin::to_asked(&asked, &identity, state.mark.id);
        let now = now(components);
        let time = now.unwrap_or(SystemTime::UNIX_EPOCH);
        let answer = Arc::new(Answer::new(identity, asked, pin, of_session, time));
        if now.is_some() {
            state.kept.keep(resolver.cache_partition(), &answer);
        }
        Ok(answer)
    }
}

fn add(asked: &mut Vec<Asked>, another: Asked) {
    if !asked.iter().any(|asked| Arc::ptr_eq(&asked.mark, &another.mark)) {
        asked.push(another);
    }
}

/// Nothing was added to a session's own credentials on their way.
fn is_bare(identity: &Identity) -> bool {
    identity.data::<Credentials>().is_some_and(|credentials| {
        credentials.account_id().is_none() && credentials.get_property::<Vec<AwsCredentialFeature>>().is_none()
    })
}

/// By the clock of the client. Without one nothing is kept, as nothing would ever expire.
fn now(components: &RuntimeComponents) -> Option<SystemTime> {
    components.time_source().map(|time| time.now())
}

async fn in_time(
    resolution: IdentityFuture<'_>,
    components: &RuntimeComponents,
    config: &ConfigBag,
) -> Result<Identity, BoxError> {
    let Some(sleep) = components.sleep_impl() else {
        return resolution.await;
    };
    let limit = load_timeout(config);
    match select(resolution, sleep.sleep(limit)).await {
        Either::Left((identity, _)) => identity,
        Either::Right(_) => Err(Error::timed_out(limit).into()),
    }
}

fn other_signer() -> Error {
    Error::new(
        ErrorKind::SessionEnded,
        "the operation was begun with other credentials than there are now",
    )
    .with_hint("begin the operation anew")
}

impl ResolveCachedIdentity for CognitoIdentityCache {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let partition = resolver.cache_partition();
        // By reference: whatever could be moved into the future would be copied for each hit, which took a seventh of it.
        let begun = config.load::<OperationPin>();
        if self.partition != Some(partition) {
            return self.kept(partition, begun, components).unwrap_or_else(|| {
                IdentityFuture::new(async move { self.other(&resolver, components, config).await })
            });
        }
        if self.pins_beside.in_use() || resolution::is_overheard() {
            return IdentityFuture::new(self.own(config));
        }
        self.served.current.hit(self.bound(begun), |snapshot| match snapshot {
            Some(snapshot) => IdentityFuture::ready(Ok(snapshot.identity())),
            None => IdentityFuture::new(self.own(config)),
        })
    }

    /// Runs once for each operation, before its first attempt.
    fn validate_final_config(&self, components: &RuntimeComponents, _: &ConfigBag) -> Result<(), BoxError> {
        if !self.pins_beside.in_use() && components.identity_resolver(S3_EXPRESS).is_some() {
            self.pins_beside.begin();
        }
        Ok(())
    }
}

impl fmt::Debug for CognitoIdentityCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CognitoIdentityCache")
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}
