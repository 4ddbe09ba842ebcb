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

use super::events::EventKind;
use super::guest::{Offer, to_its_end};
use super::hook::Hook;
use super::login::{Login, Who};
use super::memory::Slot;
use super::person::Person;
use super::session::{Expected, Settled, SignIn};
use super::{Core, IdentityPolicy, PROVIDER_NAME, sdk};
use crate::clock::Expiry;
use crate::developer::{DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest};
use crate::error::{BackendError, Cause, CauseKind, Error, ErrorKind};
use crate::ids::IdentityId;
use crate::logins::Logins;
use crate::refresh::{Failure, LoadRequest, Loaded, Reason, RefreshCache, RefreshPolicy};
use crate::service::refusal::{Refused, Remedy};
use crate::service::{Exchanged, Proof};
use crate::token::RefreshReason;

/// A token with less life left is not used again: Cognito would refuse it while it is on its way.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

/// A refresh that fails is news when the credentials at hand have less life left.
const FAILING: Duration = Duration::from_secs(5 * 60);
/// The epoch of cells whose session is never replaced by another, so that nothing has to be pinned to it.
pub(super) const UNPINNED: u64 = 0;

/// What a session serves, as one value: who, and with what.
pub(super) struct Snapshot {
    pub(super) identity_id: IdentityId,
    pub(super) credentials: Credentials,
    /// `None` for sessions that are never replaced by another, of which there may be very many.
    pinned: Option<Box<PinnedForm>>,
}

/// What is answered from a session that another may replace.
struct PinnedForm {
    /// The credentials as an identity cache answers them: with the mark that pins an operation to the session.
    identity: Identity,
    handed_out: sdk::HandedOut,
}

impl Snapshot {
    fn new(identity_id: IdentityId, credentials: Credentials, pin: Option<sdk::Pinned>) -> Self {
        let pinned = pin.map(|pin| {
            Box::new(PinnedForm {
                identity: sdk::pinned(credentials.clone(), pin),
                handed_out: sdk::HandedOut::new(&credentials, pin),
            })
        });
        Self {
            identity_id,
            credentials,
            pinned,
        }
    }

    /// The credentials, as a credentials provider answers them.
    pub(super) fn hand_out(&self) -> Credentials {
        if let Some(pinned) = &self.pinned {
            pinned.handed_out.announce();
        }
        self.credentials.clone()
    }

    /// The credentials, as an identity cache answers them.
    pub(super) fn identity(&self) -> Identity {
        match &self.pinned {
            Some(pinned) => pinned.identity.clone(),
            None => Identity::from(self.credentials.clone()),
        }
    }
}

/// The logins that were supplied last.
#[derive(Clone)]
struct Held {
    proof: Arc<Proof>,
    /// Whose the backend says it is.
    identity: Option<IdentityId>,
    /// `None`: the token does not say.
    expires: Option<Expiry>,
    /// Whom the tokens are about, as far as they can be read.
    person: Person,
    /// It was asked for because another one was rejected.
    renewed: bool,
    used: Arc<Used>,
}

/// What has become of a proof.
#[derive(Default)]
struct Used {
    /// Cognito has seen it.
    sent: AtomicBool,
    /// It was refused, or is somebody else's: it is not shown again.
    rejected: AtomicBool,
}

/// For which purpose the next proof is asked for.
#[derive(Clone, Copy)]
struct Ask {
    reason: RefreshReason,
    attempt: u32,
    /// The identity that is known is not to be mentioned: the service says that it is gone.
    forget: bool,
}

impl Ask {
    const FIRST: Self = Self {
        reason: RefreshReason::FirstUse,
        attempt: 1,
        forget: false,
    };
}

/// A session's cells.
pub(super) struct Cells {
    core: Arc<Core>,
    login: Login,
    epoch: u64,
    settled: Arc<Settled>,
    /// Where the identity of a person with a name is remembered.
    remembered: Option<Arc<Slot>>,
    proof: RefreshCache<Held, Error>,
    identity: RefreshCache<IdentityId, Error>,
    ask: Mutex<Ask>,
}

impl Cells {
    /// `settled` is what is known beforehand: of the same session, before its credentials were cleared, or of the same person.
    pub(super) fn new(core: Arc<Core>, login: Login, epoch: u64, settled: Arc<Settled>) -> Arc<Self> {
        let policy = RefreshPolicy::builder()
            .load_timeout(core.policy.load_timeout())
            .build();
        let remembered = login.subject.as_deref().and_then(|subject| core.remembered(subject));
        Arc::new_cyclic(|cells: &Weak<Self>| {
            let (proofs, identities) = (Weak::clone(cells), Weak::clone(cells));
            let proof = core.cache(policy.clone(), move |_| {
                load(&proofs, |cells| cells.load_proof().boxed())
            });
            let identity = core.cache(policy, move |request| {
                let forced = request.reason == Reason::Forced;
                load(&identities, move |cells| cells.load_identity(forced).boxed())
            });
            Self {
                core,
                login,
                epoch,
                settled,
                remembered,
                proof,
                identity,
                ask: Mutex::new(Ask::FIRST),
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
            async move {
                let result = Arc::clone(&cells).exchange(request).await;
                if let Err(error) = &result {
                    cells.tell_of_failure(error);
                }
                result
            }
            .boxed()
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

    /// Where the identity of a person with a name is remembered.
    pub(super) fn remembered(&self) -> Option<Arc<Slot>> {
        self.remembered.clone()
    }

    pub(super) fn settled(&self) -> Arc<Settled> {
        Arc::clone(&self.settled)
    }

    pub(super) fn known_identity(&self) -> Option<IdentityId> {
        self.settled.known().identity
    }

    /// The identity id without an exchange, where it can be had so. `None`: the exchange decides it.
    pub(super) async fn identity_id(&self) -> Result<Option<IdentityId>, Error> {
        if let Some(known) = self.known_identity() {
            return Ok(Some(known));
        }
        if let Who::External(_) = self.login.who
            && self.core.guest.peek().await?.is_some()
        {
            // A guest who may be linked decides who the user is, and only the exchange tells.
            return Ok(None);
        }
        self.identity.get().await.map(|id| Some(IdentityId::clone(&id)))
    }

    /// What is remembered of a person with a name.
    async fn stored(&self) -> Result<Option<IdentityId>, Error> {
        match &self.remembered {
            Some(slot) => slot.get().await,
            None => Ok(None),
        }
    }

    /// Sets what the outcome is measured by, unless it is set.
    fn expect(&self, id: Option<IdentityId>, as_whose: Expected) {
        if let Some(id) = id {
            self.settled
                .change(|known| _ = known.expected.get_or_insert((id, as_whose)));
        }
    }

    fn tell(&self, what: EventKind) {
        self.core.events.publish(self.epoch, what);
    }

    fn tell_of_failure(&self, error: &Error) {
        let (mut expires, mut news) = (None, false);
        self.settled.change(|known| {
            expires = known.expires;
            news = !std::mem::replace(&mut known.needs_sign_in, error.needs_sign_in());
        });
        let error = error.clone();
        if error.needs_sign_in() {
            if news {
                self.tell(EventKind::NeedsSignIn { error });
            }
        } else if expires.is_some_and(|expiry| expiry.remaining(self.core.clock.now()) < FAILING) {
            self.tell(EventKind::RefreshFailing { error });
        }
    }

    /// Calls the app's code: one call at a time in a session, marked so that it is recognised if it comes back.
    async fn hook<T>(&self, call: BoxFuture<'_, Result<T, BackendError>>) -> Result<T, Error> {
        let _turn = self.settled.turn().await;
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

    async fn proof(&self, mut ask: Ask) -> Result<Held, Error> {
        if let Who::Guest = self.login.who {
            return Ok(Held::new(&self.core, Proof::Guest, None, ask));
        }
        let held = self.proof.current();
        let demanded = matches!(ask.reason, RefreshReason::TokenRejected | RefreshReason::Forced);
        if let Some(held) = held.as_ref().filter(|held| !demanded && held.serves(&self.core)) {
            return Ok(Held::clone(held));
        }
        if held.as_ref().is_some_and(|held| held.is_rejected()) {
            ask.reason = RefreshReason::TokenRejected;
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
                Held::new(&self.core, Proof::External(logins), None, ask)
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
        if first {
            match self.stored().await {
                Ok(stored) => self.expect(stored, Expected::Remembered),
                // The backend says who it is; that the store cannot be read is no reason to keep the user out.
                Err(error) => tracing::warn!(%error, "what is remembered of the user cannot be read"),
            }
        }
        let offer = if first { self.core.guest.offer().await? } else { None };
        let request = self.request(ask, offer.as_ref(), logins);
        let answer = match offer {
            None => {
                let answer = self.hook(async { backend.refresh(&request).await }.boxed()).await?;
                self.check(&answer)?;
                answer
            }
            Some(offer) => {
                let cells = Arc::clone(self);
                to_its_end(self.core.with_deadline(async move {
                    let answer = cells.hook(async { backend.refresh(&request).await }.boxed()).await?;
                    // An answer that is not to be believed says nothing of the guest either.
                    cells.check(&answer)?;
                    cells.expect(Some(offer.id().clone()), Expected::Before);
                    if answer.identity_id() == offer.id() {
                        offer.linked().await;
                    } else {
                        offer.untouched();
                    }
                    Ok(answer)
                }))
                .await?
            }
        };
        let (identity_id, token) = answer.into_parts();
        let issuer_host = self.core.issuer_host_of(&token);
        let proof = Proof::Developer { issuer_host, token };
        Ok(Held::new(&self.core, proof, Some(identity_id), ask))
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

    /// `forced`: the one that is known is lost.
    async fn load_identity(self: Arc<Self>, forced: bool) -> Result<Loaded<IdentityId>, Error> {
        let value = match &self.login.who {
            Who::Guest => self.guest_identity(forced).await?,
            Who::External(_) => match self.known_identity() {
                Some(known) if !forced => known,
                _ => match self.stored().await? {
                    Some(stored) if !forced => stored,
                    _ => self.external_identity().await?,
                },
            },
            Who::Developer { backend, .. } => {
                let request = self.request(Ask::FIRST, None, Logins::new());
                let cheap = self.hook(async { backend.get_identity_id(&request).await }.boxed());
                match cheap.await? {
                    Some(id) => id,
                    None => self.proof(Ask::FIRST).await?.identity.ok_or_else(Error::ended)?,
                }
            }
            Who::SignedOut | Who::Decided(_) => return Err(Error::ended()),
        };
        Ok(Loaded { value, expires: None })
    }

    async fn guest_identity(self: &Arc<Self>, forced: bool) -> Result<IdentityId, Error> {
        let remembered = self.core.guest.take().await?.id;
        self.expect(remembered.clone(), Expected::Remembered);
        let refused = forced.then(|| {
            self.known_identity()
                .or_else(|| self.identity.current().map(|id| (*id).clone()))
        });
        let refused = refused.flatten();
        if let Some(id) = remembered.filter(|id| Some(id) != refused.as_ref()) {
            return Ok(id);
        }
        let cells = Arc::clone(self);
        // A guest that Cognito has made for us is not lost because somebody signs in meanwhile.
        to_its_end(self.core.with_deadline(async move {
            let (core, account_id) = (&cells.core, cells.login.account_id.as_deref());
            let _turn = core.guest.turn().await;
            match core.guest.peek().await? {
                Some(another) if Some(&another) != refused.as_ref() => Ok(another),
                lost => {
                    let new = core.service.get_id(None, account_id).await?;
                    core.guest.minted(lost.as_ref(), new, &core.sleep).await
                }
            }
        }))
        .await
    }

    /// Who the external logins are, from Cognito.
    async fn external_identity(&self) -> Result<IdentityId, Error> {
        // In an exchange it is the map at hand, which is not asked for again.
        let at_hand = self
            .proof
            .current()
            .filter(|held| !held.is_rejected() && !held.is_over(&self.core));
        let mut held = match at_hand {
            Some(held) => Held::clone(&held),
            None => self.proof(Ask::FIRST).await?,
        };
        loop {
            let Proof::External(logins) = &*held.proof else {
                return Err(Error::ended());
            };
            let refused = match self
                .core
                .service
                .get_id(Some(logins), self.login.account_id.as_deref())
                .await
            {
                Ok(id) => return Ok(id),
                Err(refused) => refused,
            };
            if refused.remedy == Remedy::NewToken {
                held.reject();
            }
            if refused.remedy != Remedy::NewToken || held.renewed {
                return Err(self.explained(refused.error));
            }
            held = self
                .proof(Ask {
                    attempt: 2,
                    ..Ask::FIRST
                })
                .await?;
        }
    }

    // ---- credentials ----

    pub(super) async fn exchange(self: Arc<Self>, request: LoadRequest) -> Result<Loaded<Snapshot>, Error> {
        let mut ask = Ask {
            reason: why(request.reason),
            forget: self.settled.known().lost,
            ..Ask::FIRST
        };
        let mut held = self.proof(ask).await?;
        // At most one new token and one reset of the identity in an exchange.
        let (mut new_token, mut reset) = (true, true);
        loop {
            let refused = match self.attempt(&mut held, ask.forget).await {
                Ok(loaded) => return Ok(loaded),
                Err(refused) => refused,
            };
            let external = matches!(self.login.who, Who::External(_));
            ask.attempt += 1;
            self.tell_if_lost(&refused.error, &held).await;
            match refused.remedy {
                Remedy::NewToken if !self.login.is_guest() => {
                    held.reject();
                    if !new_token || (external && held.renewed) {
                        return Err(self.explained(refused.error));
                    }
                    new_token = false;
                    held = self.proof(ask).await?;
                }
                Remedy::NewIdentity | Remedy::NewIdentityIfStored if reset && self.may_reset(&refused, &held).await => {
                    reset = false;
                    ask.forget = true;
                    if let Who::Developer { .. } = self.login.who {
                        // An outage in the middle of the recovery must not end it: the next exchange goes on with it.
                        self.settled.change(|known| known.lost = true);
                        new_token = false;
                        held.reject();
                        held = self.proof(ask).await?;
                    } else {
                        self.identity.refresh_now().await?;
                    }
                }
                _ => return Err(self.explained(refused.error)),
            }
        }
    }

    async fn tell_if_lost(&self, error: &Error, held: &Held) {
        let shown = held.identity.clone().or_else(|| self.known_identity());
        let shown = shown.or_else(|| self.identity.current().map(|id| IdentityId::clone(&id)));
        let (Some(gone), Some(identity_id)) = (Gone::of(error), shown) else {
            return;
        };
        // A guest that was linked is not lost.
        let linked = self.login.is_guest()
            && matches!(gone, Gone::Forbidden)
            && self.core.guest.take().await.is_ok_and(|taken| taken.in_doubt);
        if !linked {
            self.tell(EventKind::IdentityLost { identity_id });
        }
    }

    /// Whether the refusal is one that another identity mends, and the app's policy lets us look for it.
    async fn may_reset(&self, refused: &Refused, held: &Held) -> bool {
        let known = self.settled.known();
        let settled = known.outcome.is_some();
        match &self.login.who {
            Who::Guest => {
                let recreates = self.core.identity_policy == IdentityPolicy::Recreate;
                match Gone::of(&refused.error) {
                    Some(Gone::NotFound) => recreates,
                    // It was shown to somebody who may have linked it: then this is nobody's guest any more.
                    Some(Gone::Forbidden) => {
                        recreates || self.core.guest.take().await.is_ok_and(|taken| taken.in_doubt)
                    }
                    None => false,
                }
            }
            Who::External(_) if refused.remedy == Remedy::NewIdentityIfStored => {
                !settled && self.stored().await.is_ok_and(|stored| stored.is_some())
            }
            // The login may be somebody else's by now, who would take over the session.
            Who::External(_) if settled && Gone::of(&refused.error).is_none() => held.person.is_surely(&known.person),
            Who::External(_) => true,
            Who::Developer { .. } => refused.remedy == Remedy::NewIdentity,
            Who::SignedOut | Who::Decided(_) => false,
        }
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

    async fn attempt(self: &Arc<Self>, held: &mut Held, recovering: bool) -> Result<Loaded<Snapshot>, Refused> {
        let known = self.settled.known();
        let settled = known.outcome.is_some();
        let foreign = held.identity.is_some() && held.identity != known.identity;
        if settled && ((foreign && !recovering) || held.person.differs_from(&known.person)) {
            held.reject();
            return Err(changed(self.supplier()).into());
        }
        let shown = match (&held.identity, known.identity) {
            (Some(id), _) => id.clone(),
            (None, Some(known)) if !recovering => known,
            (None, known) => {
                if matches!(self.login.who, Who::External(_)) && known.is_none() && !recovering {
                    self.expect(self.stored().await?, Expected::Remembered);
                    if let Some(offer) = self.core.guest.offer().await? {
                        return self.linking(held, offer).await;
                    }
                }
                let id = IdentityId::clone(&*self.identity.get().await?);
                if let (Who::External(_), Some(newest)) = (&self.login.who, self.proof.current()) {
                    *held = Held::clone(&newest);
                }
                id
            }
        };
        held.used.sent.store(true, Ordering::Relaxed);
        let exchanged = self.core.trade(&shown, &held.proof, &self.login).await?;
        Ok(self.adopt(exchanged, &shown, held, recovering).await?)
    }

    /// Who supplies what Cognito is shown.
    fn supplier(&self) -> &'static str {
        match self.login.who {
            Who::External(_) => "the logins provider",
            _ => "the backend",
        }
    }

    /// Shows a guest's id together with external logins: Cognito makes the guest the user, or merges it into who the user is.
    async fn linking(self: &Arc<Self>, held: &Held, offer: Offer) -> Result<Loaded<Snapshot>, Refused> {
        let (cells, proof, guest) = (Arc::clone(self), Arc::clone(&held.proof), offer.id().clone());
        held.used.sent.store(true, Ordering::Relaxed);
        let exchanged = to_its_end(self.core.with_deadline(async move {
            let refused = match cells.core.trade(offer.id(), &proof, &cells.login).await {
                Ok(exchanged) => {
                    offer.linked().await;
                    return Ok(Ok(exchanged));
                }
                Err(refused) => refused,
            };
            let recreates = cells.core.identity_policy == IdentityPolicy::Recreate;
            let said_why = refused.error.code().is_some() && !refused.error.is_retryable();
            match Gone::of(&refused.error) {
                Some(_) if recreates => offer.linked().await,
                Some(Gone::NotFound) => offer.untouched(),
                // It is about the login, not about the guest.
                None if said_why && refused.remedy != Remedy::NewIdentity && cells.core.flow.is_one_call() => {
                    offer.untouched();
                }
                // There is no answer, or none that says what was done.
                _ => drop(offer),
            }
            Ok(Err(refused))
        }))
        .await??;
        self.expect(Some(guest.clone()), Expected::Before);
        Ok(self.adopt(exchanged, &guest, held, true).await?)
    }

    /// Takes what the service answered as the session's, or refuses it as somebody else's.
    async fn adopt(
        &self,
        exchanged: Exchanged,
        shown: &IdentityId,
        held: &Held,
        recovering: bool,
    ) -> Result<Loaded<Snapshot>, Error> {
        let now = self.core.clock.now();
        let known = self.settled.known();
        let id = exchanged.identity_id.clone();
        let differs = known.outcome.is_some() && !recovering && known.identity.as_ref() != Some(&id);
        // A developer's token is one identity's, from the first exchange on.
        if differs || held.identity.as_ref().is_some_and(|own| *own != id) {
            return Err(changed("Cognito"));
        }
        if self.login.is_guest() && id != *shown {
            drop(
                self.core
                    .guest
                    .minted(Some(shown), id.clone(), &self.core.sleep)
                    .await?,
            );
        }
        self.remember(&id).await;
        let expires = Expiry::received(now, exchanged.expiration, exchanged.server_date);
        let mut news = Vec::new();
        self.settled
            .change(|known| news = known.adopt(&id, held.person.clone(), expires));
        news.into_iter().for_each(|what| self.tell(what));
        let pin = (self.epoch != UNPINNED).then(|| sdk::Pinned {
            provider: self.core.id(),
            epoch: self.epoch,
        });
        let credentials = exchanged.credentials(expires.system_time(), PROVIDER_NAME);
        tracing::debug!(identity_id = ?id, lifetime = ?expires.life(), epoch = self.epoch, "credentials received");
        Ok(Loaded {
            value: Snapshot::new(id, credentials, pin),
            expires: Some(expires),
        })
    }

    /// Remembers a named person's identity. A store that fails is reported, and does not keep anybody from signing in.
    async fn remember(&self, id: &IdentityId) {
        let Some(slot) = &self.remembered else { return };
        match slot.get().await {
            Ok(before) if before.as_ref() != Some(id) => slot.put(before.as_ref(), Some(id)).await,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the user's identity is not remembered"),
        }
    }
}

/// How an identity is gone, by the service's own words.
enum Gone {
    NotFound,
    /// It has logins of which none was shown, or was merged into another one.
    Forbidden,
}

impl Gone {
    fn of(error: &Error) -> Option<Self> {
        let forbidden = |cause: &Cause| cause.kind == CauseKind::IdentityForbidden;
        match error.kind() {
            ErrorKind::IdentityNotFound => Some(Self::NotFound),
            _ => error
                .causes()
                .first()
                .filter(|cause| forbidden(cause))
                .map(|_| Self::Forbidden),
        }
    }
}

impl Held {
    fn new(core: &Core, proof: Proof, identity: Option<IdentityId>, ask: Ask) -> Self {
        let expires_at = match &proof {
            Proof::Guest => None,
            Proof::Developer { token, .. } => token.unverified_claims().and_then(|claims| claims.expires_at()),
            Proof::External(logins) => logins.expires_at(),
        };
        let expires = expires_at.map(|at| Expiry::received(core.clock.now(), at, None));
        Self {
            person: Person::of(&proof, &core.pool),
            proof: Arc::new(proof),
            identity,
            expires,
            renewed: ask.reason == RefreshReason::TokenRejected,
            used: Arc::default(),
        }
    }

    /// Whether it is worth an exchange. One that was just received always is, whatever the local clock says; an external
    /// login is asked for afresh each time.
    fn serves(&self, core: &Core) -> bool {
        let (sent, over) = (self.used.sent.load(Ordering::Relaxed), self.is_over(core));
        let worth = if sent {
            matches!(*self.proof, Proof::Developer { .. }) && self.expires.is_some() && !over
        } else {
            // It was over on arrival: by a clock that is wrong, most likely.
            !over || self.expires.is_some_and(|expiry| expiry.life().is_zero())
        };
        worth && !self.is_rejected()
    }

    fn is_over(&self, core: &Core) -> bool {
        self.expires
            .is_some_and(|expiry| expiry.remaining(core.clock.now()) <= TOKEN_MARGIN.min(expiry.life() / 4))
    }

    fn reject(&self) {
        self.used.rejected.store(true, Ordering::Relaxed);
    }

    fn is_rejected(&self) -> bool {
        self.used.rejected.load(Ordering::Relaxed)
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
