//! [`Context`]: what all sessions of a provider have in common.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use futures_util::future::{Either, select};

use super::events::EventSource;
use super::flow::Exchange;
use super::guest::{GuestSlot, IdentityPolicy};
use super::remembered_ids::{RememberedId, StoreQueue};
use crate::clock::Clock;
use crate::error::Error;
use crate::ids::IdentityPoolId;
use crate::refresh::{self, Failure, Load, RefreshCache, RefreshPolicy};
use crate::service::IdentityService;
use crate::store::StoreKey;
use crate::token::OpenIdToken;

/// The name that our credentials carry.
pub(super) const PROVIDER_NAME: &str = "CognitoIdentityPool";

/// What all sessions have in common.
pub(super) struct Context {
    pub(super) pool: IdentityPoolId,
    pub(super) service: IdentityService,
    pub(super) flow: Exchange,
    pub(super) clock: Clock,
    pub(super) sleep: SharedAsyncSleep,
    pub(super) policy: RefreshPolicy,
    pub(super) identity_policy: IdentityPolicy,
    /// How far ahead the expiry is at most that plain `ProvideCredentials` says.
    pub(super) lease: Option<Duration>,
    pub(super) issuer_host: Option<String>,
    pub(super) namespace: String,
    pub(super) writes: Arc<StoreQueue>,
    pub(super) guest: Arc<GuestSlot>,
    pub(super) events: EventSource,
    /// The memory of persons with a name.
    pub(super) named: Mutex<HashMap<StoreKey, Arc<RememberedId>>>,
}

impl Context {
    /// Tells this provider from others, as long as it lives.
    pub(super) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(super) fn cache<T: refresh::Value>(
        &self,
        policy: RefreshPolicy,
        load: Load<T, Error>,
    ) -> RefreshCache<T, Error> {
        RefreshCache::new(policy, self.clock.clone(), Some(self.sleep.clone()), load)
    }

    /// Where the identity of the person `subject` is remembered. `None` for a subject that tells nobody apart.
    pub(super) fn remembered(&self, subject: &str) -> Option<Arc<RememberedId>> {
        let key = StoreKey::subject(&self.pool, &self.namespace, subject).ok()?;
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = named
            .entry(key.clone())
            .or_insert_with(|| Arc::new(RememberedId::new(key, Arc::clone(&self.writes))));
        Some(Arc::clone(slot))
    }

    /// The logins key of a developer's token: its issuer, if that is Cognito's; never an arbitrary host.
    pub(super) fn issuer_host_of(&self, token: &OpenIdToken) -> String {
        let own = || {
            token
                .unverified_claims()
                .and_then(|claims| claims.cognito_issuer_host().map(str::to_owned))
        };
        self.issuer_host
            .clone()
            .or_else(own)
            .unwrap_or_else(|| self.pool.issuer_host())
    }

    /// `task`, or a timeout after as long as a load may take.
    pub(super) fn with_deadline<T>(
        &self,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let (limit, sleep, task) = (self.policy.load_timeout(), self.sleep.clone(), Box::pin(task));
        async move {
            match select(task, sleep.sleep(limit)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Error::timed_out(limit)),
            }
        }
    }
}
