//! From a login to an identity id and credentials: what a session's three cells load, and what a refusal makes them do again.
//!
//! - *proof*: the logins to show. For a developer user the backend's token, kept as long as it serves; for external logins
//!   whatever their provider says, once per exchange.
//! - *identity*: the id from the guest slot, the store, or `GetId`. A developer's comes with the proof.
//! - *credentials*: the exchange of the two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::guest::{Offer, to_its_end};
use super::hook::Hook;
use super::login::{Login, Who};
use super::memory::Slot;
use super::session::{IdentityOutcome, Known, Settled, SignIn};
use super::{Core, IdentityPolicy, PROVIDER_NAME, sdk};
use crate::clock::Expiry;
use crate::developer::{DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest};
use crate::error::{BackendError, CauseKind, Error, ErrorKind};
use crate::ids::IdentityId;
use crate::logins::Logins;
use crate::refresh::{Failure, LoadRequest, Loaded, Reason, RefreshCache, RefreshPolicy};
use crate::service::refusal::{Refused, Remedy};
use crate::service::{Exchanged, Proof};
use crate::token::RefreshReason;

/// A token with less life left is not used again: Cognito would refuse it while it is on its way.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

/// What a session serves, as one value: who, and with what.
pub(super) struct Snapshot {
    pub(super) identity_id: IdentityId,
    pub(super) credentials: Credentials,
    /// The same, as an identity cache answers it: with the mark that pins an operation to the session.
    pub(super) identity: Identity,
}

/// The logins that were supplied last.
#[derive(Clone)]
struct Held {
    proof: Arc<Proof>,
    /// Whose the backend says it is.
    identity: Option<IdentityId>,
    /// `None`: the token does not say.
    expires: Option<Expiry>,
    /// Cognito has seen it.
    sent: Arc<AtomicBool>,
}

/// For which purpose the next proof is asked for.
#[derive(Clone, Copy)]
struct Ask {
    reason: RefreshReason,
    attempt: u32,
    /// The identity that is known is not to be mentioned: the service says that it is gone.
    forget: bool,
}

/// A session's cells.
pub(super) struct Cells {
    core: Arc<Core>,
    login: Login,
    epoch: u64,
    settled: Settled,
    /// Where the identity of a person with a name is remembered.
    remembered: Option<Arc<Slot>>,
    proof: RefreshCache<Held, Error>,
    identity: RefreshCache<IdentityId, Error>,
    ask: Mutex<Ask>,
}

impl Cells {
    /// `known` is what is known beforehand: of a session of the same login, or of the same person.
    pub(super) fn new(core: Arc<Core>, login: Login, epoch: u64, known: Known) -> Arc<Self> {
        let policy = RefreshPolicy::builder()
            .load_timeout(core.policy.load_timeout())
            .build();
        let remembered = login.subject.as_deref().and_then(|subject| core.remembered(subject));
        Arc::new_cyclic(|cells: &Weak<Self>| {
            let (proofs, identities) = (cells.clone(), cells.clone());
            let proof = core.cache(policy.clone(), move |_| {
                load(&proofs, |cells| cells.load_proof().boxed())
            });
            let identity = core.cache(policy, move |request| {
                let forced = request.reason == Reason::Forced;
                load(&identities, move |cells| cells.load_identity(forced).boxed())
            });
            let ask = Ask {
                reason: RefreshReason::FirstUse,
                attempt: 1,
                forget: false,
            };
            Self {
                core,
                login,
                epoch,
                settled: Settled::new(known),
                remembered,
                proof,
                identity,
                ask: Mutex::new(ask),
            }
        })
    }

    /// The cache that the session serves from.
    pub(super) fn credentials(self: &Arc<Self>) -> RefreshCache<Snapshot, Error> {
        // The cells do not own it, so it may own them.
        let cells = Arc::clone(self);
        let policy = cells.core.policy.clone();
        self.core.cache(policy, move |request| {
            let cells = Arc::clone(&cells);
            async move { cells.exchange(request).await }.boxed()
        })
    }

    pub(super) fn end(&self) {
        self.proof.end();
        self.identity.end();
    }

    pub(super) fn sign_in(&self) -> Option<SignIn> {
        let known = self.settled.known();
        Some(SignIn {
            identity_id: known.identity?,
            outcome: known.outcome?,
        })
    }

    pub(super) fn known(&self) -> Known {
        self.settled.known()
    }

    pub(super) fn known_identity(&self) -> Option<IdentityId> {
        self.settled.known().identity
    }

    /// The identity id without an exchange, where it can be had so. `None`: the exchange decides it.
    pub(super) async fn identity_id(&self) -> Result<Option<IdentityId>, Error> {
        if let Some(known) = self.known_identity() {
            return Ok(Some(known));
        }
        match &self.login.who {
            Who::Developer { backend, .. } => {
                let request = self.request(
                    Ask {
                        reason: RefreshReason::FirstUse,
                        attempt: 1,
                        forget: false,
                    },
                    None,
                    Logins::new(),
                );
                let cheap = self
                    .hook(async { backend.get_identity_id(&request).await }.boxed())
                    .await?;
                match cheap {
                    Some(id) => Ok(Some(id)),
                    None => Ok(self.proof.get().await?.identity.clone()),
                }
            }
            Who::Guest => self.identity.get().await.map(|id| Some(IdentityId::clone(&id))),
            // A guest who may be linked decides who the user is, and only the exchange tells.
            Who::External(_) if self.core.guest.peek().await?.is_some() && self.stored().await?.is_none() => Ok(None),
            Who::External(_) => self.identity.get().await.map(|id| Some(IdentityId::clone(&id))),
            Who::SignedOut | Who::Decided(_) => Ok(None),
        }
    }

    /// What is remembered of a person with a name.
    async fn stored(&self) -> Result<Option<IdentityId>, Error> {
        match &self.remembered {
            Some(slot) => slot.get().await,
            None => Ok(None),
        }
    }

    /// Calls the app's code, marked so that it is recognised if it comes back.
    async fn hook<T>(&self, call: BoxFuture<'_, Result<T, BackendError>>) -> Result<T, Error> {
        Ok(Hook {
            provider: self.core.id(),
            call,
        }
        .await?)
    }

    fn request(&self, ask: Ask, guest: Option<&Offer>, external_logins: Logins) -> RefreshRequest {
        RefreshRequest {
            reason: ask.reason,
            attempt: ask.attempt,
            identity_id: self.known_identity().filter(|_| !ask.forget),
            guest_to_link: guest.map(|offer| offer.id().clone()),
            external_logins,
        }
    }

    // ---- proof ----

    async fn proof(&self, ask: Ask) -> Result<Held, Error> {
        if let Who::Guest = self.login.who {
            let sent = Arc::default();
            return Ok(Held {
                proof: Arc::new(Proof::Guest),
                identity: None,
                expires: None,
                sent,
            });
        }
        let held = self.proof.current().map(|held| Held::clone(&held));
        let demanded = matches!(ask.reason, RefreshReason::TokenRejected | RefreshReason::Forced);
        if let Some(held) = held.as_ref().filter(|held| !demanded && held.serves(&self.core)) {
            return Ok(held.clone());
        }
        *self.ask.lock().unwrap_or_else(PoisonError::into_inner) = ask;
        let fresh = if held.is_some() || demanded {
            self.proof.refresh_now().await
        } else {
            self.proof.get().await
        };
        fresh.map(|held| Held::clone(&held))
    }

    async fn load_proof(self: Arc<Self>) -> Result<Loaded<Held>, Error> {
        let ask = *self.ask.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match &self.login.who {
            Who::Developer { backend, external } => {
                let logins = match external {
                    Some(external) => self.hook(async { external.logins(ask.reason).await }.boxed()).await?,
                    None => Logins::new(),
                };
                self.developer(Arc::clone(backend), ask, logins).await?
            }
            Who::External(provider) => {
                let logins = self.hook(async { provider.logins(ask.reason).await }.boxed()).await?;
                if logins.is_empty() {
                    return Err(Error::new(ErrorKind::SignedOut, "the logins provider has no logins")
                        .with_hint("an empty logins map would make a guest of the user; switch_to(Login::guest()) does that on purpose"));
                }
                Held::new(&self.core, Proof::External(logins), None)
            }
            Who::Guest | Who::SignedOut | Who::Decided(_) => return Err(Error::ended()),
        };
        // By the engine's clock it never expires: that it is worth one more exchange is decided when one is due.
        Ok(Loaded {
            value: held,
            expires: None,
        })
    }

    async fn developer(
        self: &Arc<Self>,
        backend: Arc<dyn DeveloperIdentityProvider>,
        ask: Ask,
        logins: Logins,
    ) -> Result<Held, Error> {
        let first = self.settled.known().outcome.is_none();
        // The backend says who it is; that the store cannot be read is no reason to keep the user out.
        if let Some(stored) = self.stored().await.ok().flatten().filter(|_| first) {
            self.settled.change(|known| _ = known.expected.get_or_insert(stored));
        }
        let offer = if first { self.core.guest.offer().await? } else { None };
        let request = self.request(ask, offer.as_ref(), logins);
        let answer = match offer {
            None => self.hook(async { backend.refresh(&request).await }.boxed()).await?,
            Some(offer) => {
                let cells = Arc::clone(self);
                to_its_end(self.core.with_deadline(async move {
                    let answer = cells.hook(async { backend.refresh(&request).await }.boxed()).await?;
                    let guest = offer.id().clone();
                    if *answer.identity_id() == guest {
                        offer.linked().await;
                    } else {
                        offer.untouched();
                    }
                    cells.settled.change(|known| _ = known.expected.get_or_insert(guest));
                    Ok(answer)
                }))
                .await?
            }
        };
        self.check(&answer)?;
        let (identity_id, token) = answer.into_parts();
        let issuer_host = self.core.issuer_host_of(&token);
        Ok(Held::new(
            &self.core,
            Proof::Developer { issuer_host, token },
            Some(identity_id),
        ))
    }

    /// Finds a mix-up before it is sent: as far as the token can be read, it has to be this pool's and the identity's.
    fn check(&self, answer: &DeveloperIdentity) -> Result<(), Error> {
        let pool = &self.core.pool;
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidResponse, message));
        if answer.identity_id().region() != pool.region() {
            return wrong(format!(
                "the backend's identity is of region {}, the pool of {}",
                answer.identity_id().region(),
                pool.region()
            ));
        }
        let Some(claims) = answer.token().unverified_claims() else {
            return Ok(());
        };
        match (claims.aud.as_deref(), claims.sub.as_deref()) {
            (Some(aud), _) if aud != pool.as_str() => {
                wrong(format!("the backend's token is for another pool: {aud}, not {pool}"))
            }
            (_, Some(sub)) if sub != answer.identity_id().as_str() => {
                wrong("the backend's token is for another identity than the one it names".to_owned())
            }
            _ => Ok(()),
        }
    }

    // ---- identity ----

    /// For guests and external logins. `forced`: the one that is remembered is lost.
    async fn load_identity(self: Arc<Self>, forced: bool) -> Result<Loaded<IdentityId>, Error> {
        let account_id = self.login.account_id.as_deref();
        let value = match &self.login.who {
            Who::Guest => {
                let taken = self.core.guest.take().await?;
                if let Some(id) = &taken.id {
                    self.settled
                        .change(|known| _ = known.expected.get_or_insert_with(|| id.clone()));
                }
                match taken.id {
                    Some(id) if !forced => id,
                    lost => {
                        let new = self.core.service.get_id(None, account_id).await?;
                        self.core.guest.minted(lost.as_ref(), new).await?
                    }
                }
            }
            Who::External(_) => {
                let known = if forced {
                    None
                } else {
                    self.known_identity().or(self.stored().await?)
                };
                match known {
                    Some(id) => id,
                    None => {
                        let held = self
                            .proof(Ask {
                                reason: RefreshReason::FirstUse,
                                attempt: 1,
                                forget: false,
                            })
                            .await?;
                        let Proof::External(logins) = &*held.proof else {
                            return Err(Error::ended());
                        };
                        self.core.service.get_id(Some(logins), account_id).await?
                    }
                }
            }
            Who::Developer { .. } | Who::SignedOut | Who::Decided(_) => return Err(Error::ended()),
        };
        Ok(Loaded { value, expires: None })
    }

    // ---- credentials ----

    async fn exchange(self: Arc<Self>, request: LoadRequest) -> Result<Loaded<Snapshot>, Error> {
        let mut ask = Ask {
            reason: why(request.reason),
            attempt: 1,
            forget: false,
        };
        let mut held = self.proof(ask).await?;
        // At most one new token and one reset of the identity in an exchange.
        let (mut new_token, mut reset) = (true, true);
        loop {
            let refused = match self.attempt(&held, ask.forget).await {
                Ok(loaded) => return Ok(loaded),
                Err(refused) => refused,
            };
            let developer = matches!(self.login.who, Who::Developer { .. });
            ask.attempt += 1;
            match refused.remedy {
                Remedy::NewToken if new_token && !self.login.is_guest() => {
                    new_token = false;
                    ask.reason = RefreshReason::TokenRejected;
                    held = self.proof(ask).await?;
                }
                Remedy::NewIdentity | Remedy::NewIdentityIfStored if reset && self.may_reset(&refused).await => {
                    reset = false;
                    ask.forget = true;
                    if developer {
                        new_token = false;
                        ask.reason = RefreshReason::TokenRejected;
                        held = self.proof(ask).await?;
                    } else {
                        self.identity.refresh_now().await?;
                    }
                }
                _ => return Err(self.explained(refused.error)),
            }
        }
    }

    /// Whether the refusal is one that another identity mends, and the app's policy lets us look for it.
    async fn may_reset(&self, refused: &Refused) -> bool {
        let stored =
            refused.remedy != Remedy::NewIdentityIfStored || self.remembered.is_some() || self.login.is_guest();
        if !self.login.is_guest() {
            return stored;
        }
        let gone = refused.error.kind() == ErrorKind::IdentityNotFound
            || refused
                .error
                .causes()
                .iter()
                .any(|cause| matches!(cause.kind, CauseKind::IdentityForbidden | CauseKind::IdentityDeleted));
        let in_doubt = self.core.guest.take().await.is_ok_and(|taken| taken.in_doubt);
        gone && (in_doubt || self.core.identity_policy == IdentityPolicy::Recreate)
    }

    /// An external login whose token is refused for good has to be made anew.
    fn explained(&self, error: Error) -> Error {
        let expired = error
            .causes()
            .first()
            .is_some_and(|cause| cause.kind == CauseKind::TokenExpired);
        if expired && matches!(self.login.who, Who::External(_)) {
            error.sign_in_again()
        } else {
            error
        }
    }

    async fn attempt(self: &Arc<Self>, held: &Held, recovering: bool) -> Result<Loaded<Snapshot>, Refused> {
        let known = self.settled.known();
        let settled = known.outcome.is_some();
        let shown = match (&held.identity, &self.login.who) {
            (Some(id), _) => {
                if settled && !recovering && known.identity.as_ref() != Some(id) {
                    return Err(changed("the backend").into());
                }
                id.clone()
            }
            (None, Who::External(_)) if !settled && !recovering => match known.identity.or(self.stored().await?) {
                Some(id) => {
                    self.settled
                        .change(|known| _ = known.expected.get_or_insert(id.clone()));
                    id
                }
                None => match self.core.guest.offer().await? {
                    Some(offer) => return self.linking(held, offer).await,
                    None => IdentityId::clone(&*self.identity.get().await?),
                },
            },
            (None, _) if settled && !recovering => match known.identity {
                Some(id) => id,
                None => return Err(Error::ended().into()),
            },
            (None, _) => IdentityId::clone(&*self.identity.get().await?),
        };
        held.sent.store(true, Ordering::Relaxed);
        let exchanged = self.core.trade(&shown, &held.proof, &self.login).await?;
        Ok(self.adopt(exchanged, &shown, recovering).await?)
    }

    /// Shows a guest's id together with external logins: Cognito makes the guest the user, or merges it into who the user is.
    async fn linking(self: &Arc<Self>, held: &Held, offer: Offer) -> Result<Loaded<Snapshot>, Refused> {
        let (cells, proof, guest) = (Arc::clone(self), Arc::clone(&held.proof), offer.id().clone());
        held.sent.store(true, Ordering::Relaxed);
        let exchanged = to_its_end(self.core.with_deadline(async move {
            match cells.core.trade(offer.id(), &proof, &cells.login).await {
                Ok(exchanged) => {
                    offer.linked().await;
                    Ok(Ok(exchanged))
                }
                Err(refused) => {
                    let dead = refused.error.kind() == ErrorKind::IdentityNotFound
                        || refused
                            .error
                            .causes()
                            .iter()
                            .any(|cause| cause.kind == CauseKind::IdentityForbidden);
                    let final_word = refused.error.code().is_some() && !refused.error.is_retryable();
                    match (dead, final_word && cells.core.flow.is_one_call()) {
                        (true, _) => offer.linked().await,
                        (false, true) => offer.untouched(),
                        // No answer, or none that says what was done.
                        (false, false) => drop(offer),
                    }
                    Ok(Err(refused))
                }
            }
        }))
        .await??;
        self.settled
            .change(|known| _ = known.expected.get_or_insert(guest.clone()));
        Ok(self.adopt(exchanged, &guest, true).await?)
    }

    /// Takes what the service answered as the session's, or refuses it as somebody else's.
    async fn adopt(
        &self,
        exchanged: Exchanged,
        shown: &IdentityId,
        recovering: bool,
    ) -> Result<Loaded<Snapshot>, Error> {
        let known = self.settled.known();
        let id = exchanged.identity_id.clone();
        if known.outcome.is_some() && !recovering && known.identity.as_ref() != Some(&id) {
            return Err(changed("Cognito"));
        }
        if self.login.is_guest() && id != *shown {
            self.core.guest.minted(Some(shown), id.clone()).await?;
        }
        self.remember(&id).await;
        self.settled.change(|known| {
            let outcome = match known.expected.take().or_else(|| known.identity.clone()) {
                None => IdentityOutcome::Created,
                Some(expected) if expected == id => IdentityOutcome::Kept,
                Some(from) => IdentityOutcome::Replaced { from },
            };
            if known.outcome.is_none() || known.identity.as_ref() != Some(&id) {
                known.outcome = Some(outcome);
            }
            known.identity = Some(id.clone());
        });
        let now = self.core.clock.now();
        let expires = Expiry::received(now, exchanged.expiration, exchanged.server_date);
        let credentials = exchanged.credentials(expires.system_time(), PROVIDER_NAME);
        let identity = sdk::pinned(credentials.clone(), self.epoch);
        tracing::debug!(identity_id = ?id, lifetime = ?expires.life(), epoch = self.epoch, "credentials received");
        Ok(Loaded {
            value: Snapshot {
                identity_id: id,
                credentials,
                identity,
            },
            expires: Some(expires),
        })
    }

    /// Remembers a named person's identity. A store that fails is reported, and does not keep anybody from signing in.
    async fn remember(&self, id: &IdentityId) {
        let Some(slot) = &self.remembered else { return };
        let Ok(before) = slot.get().await else { return };
        if before.as_ref() != Some(id)
            && let Some(stored) = slot.swap(before.as_ref(), Some(id))
        {
            stored.await.map(drop).unwrap_or_default();
        }
    }
}

impl Held {
    fn new(core: &Core, proof: Proof, identity: Option<IdentityId>) -> Self {
        let expires_at = match &proof {
            Proof::Guest => None,
            Proof::Developer { token, .. } => token.unverified_claims().and_then(|claims| claims.expires_at()),
            Proof::External(logins) => logins.expires_at(),
        };
        let expires = expires_at.map(|at| Expiry::received(core.clock.now(), at, None));
        Self {
            proof: Arc::new(proof),
            identity,
            expires,
            sent: Arc::default(),
        }
    }

    /// Whether it is worth an exchange. One that was just received always is, whatever the local clock says; an external
    /// login is asked for afresh each time.
    fn serves(&self, core: &Core) -> bool {
        let unsent = !self.sent.load(Ordering::Relaxed);
        let kept = matches!(*self.proof, Proof::Developer { .. });
        unsent
            || (kept
                && self
                    .expires
                    .is_some_and(|expiry| expiry.remaining(core.clock.now()) > TOKEN_MARGIN.min(expiry.life() / 4)))
    }
}

fn why(reason: Reason) -> RefreshReason {
    match reason {
        Reason::FirstUse => RefreshReason::FirstUse,
        Reason::Expiring => RefreshReason::Expiring,
        Reason::Invalidated => RefreshReason::Invalidated,
        Reason::Forced => RefreshReason::Forced,
    }
}

fn changed(who: &str) -> Error {
    Error::new(ErrorKind::IdentityChanged, format!("{who} answered with another identity than the session's"))
        .with_hint("is somebody else signed in at the backend by now (a cookie jar that changed hands)? call switch_to for the new user")
}

/// Runs a cell's load, unless the session is gone.
fn load<T: Send + 'static>(
    cells: &Weak<Cells>,
    load: impl FnOnce(Arc<Cells>) -> BoxFuture<'static, Result<Loaded<T>, Error>>,
) -> BoxFuture<'static, Result<Loaded<T>, Error>> {
    match cells.upgrade() {
        Some(cells) => load(cells),
        None => futures_util::future::ready(Err(Error::ended())).boxed(),
    }
}
