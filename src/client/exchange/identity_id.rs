//! The identity id of guests and of external logins: from the guest slot, the store, or `GetId`. A developer's comes with the proof.

use std::sync::Arc;

use futures_util::FutureExt;

use super::SessionCaches;
use super::login_proof::ProofRequest;
use crate::client::detached::to_its_end;
use crate::client::identity_state::Expected;
use crate::client::login::Who;
use crate::error::Error;
use crate::ids::IdentityId;
use crate::logins::Logins;
use crate::refresh::{Failure, Loaded};
use crate::service::Proof;
use crate::service::refusal::Remedy;

impl SessionCaches {
    /// `forced`: the one that is known is lost.
    pub(super) async fn load_identity(self: Arc<Self>, forced: bool) -> Result<Loaded<IdentityId>, Error> {
        if let Some(fixed) = self.login.fixed_identity() {
            return Ok(Loaded {
                value: fixed.clone(),
                expires: None,
            });
        }
        let value = match &self.login.who {
            Who::Guest => self.guest_identity(forced).await?,
            Who::External(_) => match self.known_identity() {
                Some(known) if !forced => known,
                _ => match self.stored().await? {
                    Some(stored) if !forced => stored,
                    _ => self.external_identity().await?,
                },
            },
            Who::Developer { .. } => {
                let login = self.newest_login();
                let Who::Developer { backend, .. } = &login.who else {
                    return Err(Error::ended());
                };
                let request = self.request(ProofRequest::FIRST, None, Logins::new());
                let cheap = self.hook(async { backend.get_identity_id(&request).await }.boxed());
                match cheap.await? {
                    Some(id) => id,
                    None => self
                        .proof(ProofRequest::FIRST)
                        .await?
                        .identity
                        .ok_or_else(Error::ended)?,
                }
            }
            Who::SignedOut | Who::Decided(_) => return Err(Error::ended()),
        };
        Ok(Loaded { value, expires: None })
    }

    pub(super) async fn guest_identity(self: &Arc<Self>, forced: bool) -> Result<IdentityId, Error> {
        let remembered = self.context.guest.known().await?.id;
        self.set_expected(remembered.clone(), Expected::Remembered);
        let refused = forced.then(|| {
            self.known_identity()
                .or_else(|| self.identity.current().map(|id| (*id).clone()))
        });
        let refused = refused.flatten();
        if let Some(id) = remembered.filter(|id| Some(id) != refused.as_ref()) {
            return Ok(id);
        }
        let caches = Arc::clone(self);
        // A guest that Cognito has made for us is not lost because somebody signs in meanwhile.
        to_its_end(self.context.with_deadline(async move {
            let (context, account_id) = (&caches.context, caches.login.account_id.as_deref());
            let turn = context.guest.turn().await;
            let id = match context.guest.peek().await? {
                Some(another) if Some(&another) != refused.as_ref() => another,
                lost => {
                    let new = context.service.get_id(None, account_id).await?;
                    let (id, stored) = context.guest.made(lost.as_ref(), new).await?;
                    caches.note_stored(stored);
                    id
                }
            };
            drop(turn);
            Ok(id)
        }))
        .await
    }

    /// Who the external logins are, from Cognito.
    pub(super) async fn external_identity(self: &Arc<Self>) -> Result<IdentityId, Error> {
        // In an exchange it is the map that was just supplied, which is not asked for again.
        let supplied = self.proofs.last();
        let supplied = supplied.filter(|proof| !proof.is_rejected() && !proof.is_over(&self.context));
        let mut held = match supplied {
            Some(proof) => proof,
            None => self.proof(ProofRequest::FIRST).await?,
        };
        loop {
            let Proof::External(logins) = &*held.proof else {
                return Err(Error::ended());
            };
            let refused = match self
                .context
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
                .proof(ProofRequest {
                    attempt: 2,
                    ..ProofRequest::FIRST
                })
                .await?;
        }
    }
}
