//! The proof: the logins that are shown to Cognito, from a developer's backend or from who supplies external ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;

use super::{SessionCaches, changed};
use crate::client::context::Context;
use crate::client::detached::to_its_end;
use crate::client::identity_state::Expected;
use crate::client::login::Who;
use crate::client::login_subjects::LoginSubjects;
use crate::client::turns::Turns;
use crate::clock::Expiry;
use crate::developer::{DeveloperIdentity, DeveloperIdentityProvider};
use crate::error::{Error, ErrorKind};
use crate::ids::IdentityId;
use crate::logins::Logins;
use crate::refresh::Failure;
use crate::service::Proof;
use crate::token::{OpenIdToken, RefreshReason, TokenClaims};

/// A token with less life left is not used again: Cognito would refuse it while it is on its way.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

/// The logins that were supplied last.
#[derive(Clone)]
pub(super) struct LoginProof {
    pub(super) proof: Arc<Proof>,
    /// Whose the backend says it is.
    pub(super) identity: Option<IdentityId>,
    /// `None`: the token does not say.
    pub(super) expires: Option<Expiry>,
    /// Whom the tokens are about, as far as they can be read.
    pub(super) person: LoginSubjects,
    /// It was asked for because another one was rejected.
    pub(super) renewed: bool,
    pub(super) used: Arc<Used>,
}

/// What has become of a proof.
#[derive(Default)]
pub(super) struct Used {
    /// Cognito has seen it.
    pub(super) sent: AtomicBool,
    /// It was refused, or is somebody else's: it is not shown again.
    pub(super) rejected: AtomicBool,
}

/// For which purpose the next proof is asked for.
#[derive(Clone, Copy)]
pub(super) struct ProofRequest {
    pub(super) reason: RefreshReason,
    pub(super) attempt: u32,
    /// The identity that is known is not to be mentioned: the service says that it is gone.
    pub(super) forget: bool,
}

impl ProofRequest {
    pub(super) const FIRST: Self = Self {
        reason: RefreshReason::FirstUse,
        attempt: 1,
        forget: false,
    };
}

/// The proof that was supplied last, and the next one being asked for. Not a refresh cache: that a proof is worth one more
/// exchange is decided when one is due, and why it is asked for is the exchange's business.
#[derive(Default)]
pub(super) struct Proofs {
    last: Mutex<Last>,
    /// An identity id and an exchange may both need one.
    turn: Arc<Turns>,
}

#[derive(Default)]
enum Last {
    #[default]
    None,
    Some(LoginProof),
    /// The session is over.
    Ended,
}

impl Proofs {
    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last(&self) -> Option<LoginProof> {
        match &*self.lock() {
            Last::Some(proof) => Some(proof.clone()),
            Last::None | Last::Ended => None,
        }
    }

    fn keep(&self, proof: &LoginProof) -> Result<(), Error> {
        let mut last = self.lock();
        if let Last::Ended = *last {
            return Err(Error::ended());
        }
        *last = Last::Some(proof.clone());
        Ok(())
    }

    /// Lets go of the tokens.
    pub(super) fn end(&self) {
        *self.lock() = Last::Ended;
    }
}

impl SessionCaches {
    pub(super) async fn proof(self: &Arc<Self>, mut ask: ProofRequest) -> Result<LoginProof, Error> {
        if let Who::Guest = self.login.who {
            return Ok(LoginProof::new(&self.context, Proof::Guest, None, ask));
        }
        let seen = self.proofs.last();
        let demanded = matches!(ask.reason, RefreshReason::TokenRejected | RefreshReason::Forced);
        let worth = |proof: &LoginProof| proof.serves(&self.context);
        if let Some(proof) = seen.clone().filter(|proof| !demanded && worth(proof)) {
            return Ok(proof);
        }
        let turn = self.proofs.turn.take(&self.context.patience).await;
        // Another one may have come while this one waited.
        let newer = |proof: &LoginProof| seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(&seen.used, &proof.used));
        if let Some(proof) = self.proofs.last().filter(|proof| newer(proof) && worth(proof)) {
            return Ok(proof);
        }
        if seen.as_ref().is_some_and(LoginProof::is_rejected) {
            ask.reason = RefreshReason::TokenRejected;
        }
        let proof = self.ask_for_proof(ask).await?;
        self.proofs.keep(&proof)?;
        drop(turn);
        Ok(proof)
    }

    /// The token that Cognito has issued for the user, with at least a minute left: a developer's own, or else a new one for
    /// `identity`, which the session has.
    pub(in crate::client) async fn open_id_token(
        self: &Arc<Self>,
        identity: &IdentityId,
    ) -> Result<OpenIdToken, Error> {
        let known = self.identity_state.known();
        if let Who::Developer { .. } = self.login.who {
            let proof = self.long_lived_proof().await?;
            if proof.identity.as_ref() != Some(identity) || proof.person.differs_from(&known.person) {
                proof.reject();
                return Err(changed("the backend"));
            }
            let Proof::Developer { token, .. } = &*proof.proof else {
                return Err(Error::ended());
            };
            return Ok(token.clone());
        }
        let proof = self.proof(ProofRequest::FIRST).await?;
        if proof.person.differs_from(&known.person) {
            proof.reject();
            return Err(changed("the logins provider"));
        }
        proof.mark_sent();
        let (id, token) = self.context.service.open_id_token(identity, &proof.proof).await?;
        if id != *identity {
            return Err(changed("Cognito"));
        }
        Ok(token)
    }

    /// A developer's proof with at least a minute left.
    async fn long_lived_proof(self: &Arc<Self>) -> Result<LoginProof, Error> {
        let lasts = |proof: &LoginProof| {
            let left = proof.expires.map(|expiry| expiry.remaining(self.context.clock.now()));
            !proof.is_rejected() && left.is_none_or(|left| left >= TOKEN_MARGIN)
        };
        if let Some(proof) = self.proofs.last().filter(lasts) {
            return Ok(proof);
        }
        let turn = self.proofs.turn.take(&self.context.patience).await;
        // Another one may have come while this one waited.
        if let Some(proof) = self.proofs.last().filter(lasts) {
            return Ok(proof);
        }
        let ask = ProofRequest {
            reason: RefreshReason::Expiring,
            ..ProofRequest::FIRST
        };
        let proof = self.ask_for_proof(ask).await?;
        self.proofs.keep(&proof)?;
        drop(turn);
        Ok(proof)
    }

    async fn ask_for_proof(self: &Arc<Self>, ask: ProofRequest) -> Result<LoginProof, Error> {
        let login = self.newest_login();
        match &login.who {
            Who::Developer { backend, external } => {
                let logins = match external {
                    Some(external) => self.hook(async { external.logins(ask.reason).await }.boxed()).await?,
                    None => Logins::new(),
                };
                self.developer(Arc::clone(backend), ask, logins).await
            }
            Who::External(provider) => {
                let logins = self.hook(async { provider.logins(ask.reason).await }.boxed()).await?;
                if logins.is_empty() {
                    return Err(Error::new(ErrorKind::SignedOut, "the logins provider has no logins")
                        .with_hint("an empty logins map would make a guest of the user; switch_to(Login::guest()) does that on purpose"));
                }
                Ok(LoginProof::new(&self.context, Proof::External(logins), None, ask))
            }
            Who::Guest | Who::SignedOut | Who::Decided(_) => Err(Error::ended()),
        }
    }

    async fn developer(
        self: &Arc<Self>,
        backend: Arc<dyn DeveloperIdentityProvider>,
        ask: ProofRequest,
        logins: Logins,
    ) -> Result<LoginProof, Error> {
        let first = self.identity_state.known().outcome.is_none();
        if first {
            match self.stored().await {
                Ok(stored) => self.set_expected(stored, Expected::Remembered),
                // The backend says who it is; that the store cannot be read is no reason to keep the user out.
                Err(error) => tracing::warn!(%error, "what is remembered of the user cannot be read"),
            }
        }
        let (reservation, marked) = if first {
            self.context.guest.reserve().await?
        } else {
            (None, Ok(()))
        };
        self.note_stored(marked);
        let request = self.request(ask, reservation.as_ref(), logins);
        let answer = match reservation {
            None => {
                let answer = self.hook(async { backend.refresh(&request).await }.boxed()).await?;
                self.check(&answer)?;
                answer
            }
            Some(reservation) => {
                let caches = Arc::clone(self);
                to_its_end(self.context.with_deadline(async move {
                    let answer = caches.hook(async { backend.refresh(&request).await }.boxed()).await?;
                    // An answer that is not to be believed says nothing of the guest either.
                    caches.check(&answer)?;
                    caches.set_expected(Some(reservation.id().clone()), Expected::Before);
                    if answer.identity_id() == reservation.id() {
                        caches.note_stored(reservation.linked().await);
                    } else {
                        reservation.untouched().await;
                    }
                    Ok(answer)
                }))
                .await?
            }
        };
        let (identity_id, token) = answer.into_parts();
        let issuer_host = self.context.issuer_host_of(&token);
        let proof = Proof::Developer { issuer_host, token };
        Ok(LoginProof::new(&self.context, proof, Some(identity_id), ask))
    }

    /// Finds a mix-up before it is sent: as far as the token can be read, it has to be this pool's and the identity's.
    fn check(&self, answer: &DeveloperIdentity) -> Result<(), Error> {
        let pool = &self.context.pool;
        let wrong = |message: String| Error::new(ErrorKind::InvalidResponse, message);
        let other_pool = |message: String| {
            wrong(message).with_hint("give the backend's TokenVendor and this provider the same pool id")
        };
        if answer.identity_id().region() != pool.region() {
            return Err(other_pool(format!(
                "the backend's identity is of region {}, the pool of {}",
                answer.identity_id().region(),
                pool.region()
            )));
        }
        let Some(claims) = answer.token().unverified_claims() else {
            return Ok(());
        };
        match (claims.aud.as_deref(), claims.sub.as_deref()) {
            (Some(aud), _) if aud != pool.as_str() => Err(other_pool(format!(
                "the backend's token is for another pool: {aud}, not {pool}"
            ))),
            (_, Some(sub)) if sub != answer.identity_id().as_str() => Err(wrong(
                "the backend's token is for another identity than the one it names".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

impl LoginProof {
    pub(super) fn new(context: &Context, proof: Proof, identity: Option<IdentityId>, ask: ProofRequest) -> Self {
        let expires_at = match &proof {
            Proof::Guest => None,
            Proof::Developer { token, .. } => token.unverified_claims().and_then(TokenClaims::expires_at),
            Proof::External(logins) => logins.expires_at(),
        };
        let expires = expires_at.map(|at| Expiry::received(context.clock.now(), at, None));
        Self {
            person: LoginSubjects::of(&proof, &context.pool),
            proof: Arc::new(proof),
            identity,
            expires,
            renewed: ask.reason == RefreshReason::TokenRejected,
            used: Arc::default(),
        }
    }

    /// Whether it is worth an exchange. One that was just received always is, whatever the local clock says; an external
    /// login is asked for afresh each time.
    pub(super) fn serves(&self, context: &Context) -> bool {
        let (sent, over) = (self.used.sent.load(Ordering::Relaxed), self.is_over(context));
        let worth = if sent {
            matches!(*self.proof, Proof::Developer { .. }) && self.expires.is_some() && !over
        } else {
            // It was over on arrival: by a clock that is wrong, most likely.
            !over || self.expires.is_some_and(|expiry| expiry.life().is_zero())
        };
        worth && !self.is_rejected()
    }

    pub(super) fn is_over(&self, context: &Context) -> bool {
        self.expires
            .is_some_and(|expiry| expiry.remaining(context.clock.now()) <= TOKEN_MARGIN.min(expiry.life() / 4))
    }

    /// Cognito is about to see it.
    pub(super) fn mark_sent(&self) {
        self.used.sent.store(true, Ordering::Relaxed);
    }

    pub(super) fn reject(&self) {
        self.used.rejected.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_rejected(&self) -> bool {
        self.used.rejected.load(Ordering::Relaxed)
    }
}
