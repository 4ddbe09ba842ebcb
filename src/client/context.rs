//! [`Context`]: what all sessions of a provider have in common.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use futures_util::future::{Either, select};

use super::events::EventSource;
use super::flow::Exchange;
use super::guest::{GuestSlot, IdentityPolicy};
use super::remembered_ids::RememberedId;
use super::store_queue::StoreQueue;
use super::turns::Patience;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
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
    /// How long to wait for work that may outlive its caller.
    pub(super) patience: Patience,
    pub(super) policy: RefreshPolicy,
    pub(super) identity_policy: IdentityPolicy,
    /// How far ahead the expiry is at most that plain `ProvideCredentials` says.
    pub(super) lease: Option<Duration>,
    pub(super) issuer_host: Option<String>,
    pub(super) namespace: String,
    pub(super) queue: Arc<StoreQueue>,
    pub(super) guest: Arc<GuestSlot>,
    pub(super) events: EventSource,
    /// The identities of users with a subject that were in use last.
    pub(super) named: Mutex<Named>,
}

/// How many users' identities are kept in memory when they are in use no more; beyond it the store is asked again.
const MAX_NAMED: usize = 256;

#[derive(Default)]
pub(super) struct Named {
    slots: HashMap<StoreKey, (u64, Arc<RememberedId>)>,
    uses: u64,
}

impl Named {
    fn slot(&mut self, key: StoreKey, queue: &Arc<StoreQueue>) -> Arc<RememberedId> {
        self.uses += 1;
        let used = self.uses;
        if self.slots.len() >= MAX_NAMED && !self.slots.contains_key(&key) {
            self.shrink();
        }
        let new = || RememberedId::new(key.clone(), Arc::clone(queue));
        let entry = self.slots.entry(key.clone()).or_insert_with(|| (used, new()));
        entry.0 = used;
        Arc::clone(&entry.1)
    }

    /// Lets go of the older half of what nobody uses: no session, and no write that is still to come.
    fn shrink(&mut self) {
        let free = |slot: &Arc<RememberedId>| Arc::strong_count(slot) == 1;
        let mut unused: Vec<u64> = self
            .slots
            .values()
            .filter(|(_, slot)| free(slot))
            .map(|(used, _)| *used)
            .collect();
        unused.sort_unstable();
        let Some(newest) = unused.get(unused.len() / 2).copied() else {
            return;
        };
        self.slots.retain(|_, (used, slot)| *used > newest || !free(slot));
    }
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
        Some(named.slot(key, &self.queue))
    }

    /// Forgets every identity of the namespace, in memory and in the store. What sessions of before still do writes nothing.
    pub(super) async fn forget_everything(&self) -> Result<(), Error> {
        // Whoever has a guest made, or linked, does that first.
        let turn = self.guest.turn().await;
        for slot in self.guest.slots() {
            // So that a store that cannot list what it holds is emptied of it all the same.
            if let Ok(Some(id)) = slot.get().await {
                drop(slot.swap(Some(&id), None));
            }
            slot.forget(false);
        }
        let named = std::mem::take(&mut *self.named.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, slot) in named.slots.values() {
            if let Some(id) = slot.in_memory() {
                drop(slot.swap(Some(&id), None));
            }
            slot.forget(true);
        }
        let removed = self
            .queue
            .remove_all(self.pool.clone(), self.namespace.clone())
            .wait()
            .await;
        drop(turn);
        removed.map(drop)
    }

    /// An error where nothing could be waited for: tokio's timer without a tokio runtime that drives one.
    pub(super) fn check_runtime(&self) -> Result<(), Error> {
        match self.patience.timer.after(Duration::ZERO) {
            Some(_) => Ok(()),
            None => Err(Error::new(
                ErrorKind::Runtime,
                "credentials were asked for outside of a tokio runtime, or inside of one without a timer",
            )
            .with_hint("call it within a runtime that is built with `enable_all`, or set a sleep_impl of another runtime in the SdkConfig")),
        }
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
        let (limit, timer, task) = (self.policy.load_timeout(), self.patience.timer.clone(), Box::pin(task));
        async move {
            let Some(sleep) = timer.after(limit) else {
                return task.await;
            };
            match select(task, sleep).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Error::timed_out(limit)),
            }
        }
    }
}
