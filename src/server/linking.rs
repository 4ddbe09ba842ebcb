//! Linking: a guest, or the account of a public provider, becomes a user's. Fails closed; signing in does not depend on it.

use super::audit::Audit;
use super::claim_refusal::{ClaimRefusal, refused};
use super::deny_list::UserHold;
use super::guest_link::{GuestClaim, GuestClaims, GuestTicket};
use super::request::{VendRequest, VendedToken};
use super::token_cache::TokenOptions;
use super::vending::{Ask, TokenVendor, VendorInner};
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperUserId, IdentityId};
use crate::logins::Logins;

/// A guest that the backend has made: see [`TokenVendor::new_guest`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewGuest {
    /// The guest. Whoever has this id can be the guest: send it to the client that it was made for, and nowhere else.
    pub identity_id: IdentityId,
    /// The client's ticket for it.
    pub ticket: GuestTicket,
}

/// A token, and what became of the guest: see [`TokenVendor::vend_linking_guest`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinkedVend {
    /// The user's token.
    pub vended: VendedToken,
    /// Why the guest was not linked; `None` if it was.
    pub not_linked: Option<Error>,
}

impl TokenVendor {
    /// A ticket that lets `client` link the guest `guest` to a user later, by [`link_guest`](Self::link_guest).
    ///
    /// The guest belongs to the client that names it first: for any other this fails, for as long as the tickets of the first live.
    /// Ask for one as soon as the client has the guest, and again with each of its sessions. Send it over the same channel as the
    /// session, and not in a URL. [`GuestClaims`] says what to take for `client`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ClaimRefused`]: the guest belongs to another client, or to another region. [`ErrorKind::Store`]: the shared store
    /// failed; let the session begin without a ticket. [`ErrorKind::Configuration`] without
    /// [`guest_claims`](crate::server::TokenVendorBuilder::guest_claims), or for an empty `client`.
    ///
    /// # Cancel safety
    ///
    /// Safe: the guest may be bound to the client.
    pub async fn issue_guest_claim(&self, guest: &IdentityId, client: &str) -> Result<GuestTicket, Error> {
        let audit = Audit::of("issue_guest_claim").guest(guest).begin();
        let inner = &self.inner;
        let issue = async {
            let now = inner.clock.now().system_time();
            let claims = inner.guest_claims()?;
            claims
                .issue(inner.service.pool(), &inner.store, guest, client, now)
                .await
        };
        let issued = issue.await;
        audit.end(&issued);
        issued
    }

    /// A new ticket in place of one that the client still has. Unlike [`issue_guest_claim`](Self::issue_guest_claim) it needs no memory
    /// of who named the guest first: the ticket itself proves it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ClaimRefused`]: forged, expired, for another guest or client. Else as
    /// [`issue_guest_claim`](Self::issue_guest_claim).
    ///
    /// # Cancel safety
    ///
    /// Safe: both tickets serve.
    pub async fn renew_guest_claim(&self, claim: &GuestClaim) -> Result<GuestTicket, Error> {
        let audit = Audit::of("renew_guest_claim").guest(&claim.guest).begin();
        let inner = &self.inner;
        let renew = async {
            let now = inner.clock.now().system_time();
            let claims = inner.guest_claims()?;
            claims.renew(inner.service.pool(), &inner.store, claim, now).await
        };
        let renewed = renew.await;
        audit.end(&renewed);
        renewed
    }

    /// Makes a guest for `client`, so that no client ever has to name one: whoever has seen the id of such a guest can never be
    /// the first to name it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: the pool allows no guests, or as [`issue_guest_claim`](Self::issue_guest_claim). Also what
    /// passes: service, transport, timeout, throttling.
    ///
    /// # Cancel safety
    ///
    /// Safe: a guest may have been made that nobody knows of.
    pub async fn new_guest(&self, client: &str) -> Result<NewGuest, Error> {
        let begun = Audit::of("new_guest").begin();
        let inner = &self.inner;
        let make = async {
            let claims = inner.guest_claims()?;
            let guest = inner.exchange.get_id(None, None).await?;
            let now = inner.clock.now().system_time();
            let ticket = claims
                .issue(inner.service.pool(), &inner.store, &guest, client, now)
                .await?;
            Ok(NewGuest {
                identity_id: guest,
                ticket,
            })
        };
        let made = make.await;
        match &made {
            Ok(NewGuest { identity_id, .. }) => begun.guest(identity_id).ended("ok"),
            Err(error) => begun.failed(error),
        }
        made
    }

    /// Makes a guest the user's identity, so that the guest's data become the user's, and vends a token for it.
    ///
    /// The claim is a ticket of [`issue_guest_claim`](Self::issue_guest_claim), which serves one user: if the answer is lost, the same
    /// call can be made again. The identity is checked to be a guest before it is linked.
    ///
    /// If the user has an identity already, the guest's data cannot become the user's by themselves: the answer is
    /// [`ErrorKind::UserAlreadyRegistered`], or a token for that other identity with [`VendedToken::replaces`] saying so.
    /// Nothing is merged here.
    ///
    /// # Errors
    ///
    /// None of them keeps the user from signing in: [`vend`](Self::vend) does that, and
    /// [`vend_linking_guest`](Self::vend_linking_guest) does both.
    ///
    /// | kind | status of [`HttpRefusal`](crate::server::HttpRefusal) | what | the way on |
    /// |---|---|---|---|
    /// | [`ClaimRefused`](ErrorKind::ClaimRefused) | 403 | forged, expired, used by another user, for another guest or client, named too late, or the identity is no guest any more | sign in without the guest |
    /// | [`UserAlreadyRegistered`](ErrorKind::UserAlreadyRegistered), [`Conflict`](ErrorKind::Conflict) | 409 | the user has an identity | sign in; move the guest's data, or leave them |
    /// | [`IdentityNotFound`](ErrorKind::IdentityNotFound) | 410 | the guest is gone | sign in; forget the guest |
    /// | [`NotAuthorized`](ErrorKind::NotAuthorized) | 403 | another user was linked to the guest at the same moment | sign in without the guest |
    /// | [`Store`](ErrorKind::Store) | 503 | the shared store failed | sign in; the guest can be linked later, if the user has no identity by then |
    ///
    /// Else as [`vend`](Self::vend).
    ///
    /// # Cancel safety
    ///
    /// The guest may have been linked: the same call again says.
    pub async fn link_guest(&self, user: &DeveloperUserId, claim: GuestClaim) -> Result<VendedToken, Error> {
        self.link_guest_with(VendRequest::new(user.clone()), claim).await
    }

    /// As [`link_guest`](Self::link_guest), with token duration and principal tags.
    ///
    /// # Errors
    ///
    /// As [`link_guest`](Self::link_guest).
    ///
    /// # Cancel safety
    ///
    /// As [`link_guest`](Self::link_guest).
    pub async fn link_guest_with(&self, request: VendRequest, claim: GuestClaim) -> Result<VendedToken, Error> {
        let options = self.inner.options(&request);
        let audit = Audit::of("link_guest").user(&request.user).options(&options);
        let audit = audit.guest(&claim.guest).begin();
        let result = self.inner.link_guest(&request.user, &options, &claim).await;
        audit.vended(super::audit::TokenSource::Asked, &result);
        result
    }

    /// Signs a user in, and links the guest if that can be: a link that is refused, or fails, keeps nobody out.
    ///
    /// ```
    /// # use cognito_identity_pool::{server::{GuestClaim, VendRequest}, Error, TokenVendor};
    /// # async fn handler(vendor: &TokenVendor, request: VendRequest, claim: GuestClaim) -> Result<(), Error> {
    /// let linked = vendor.vend_linking_guest(request, claim).await?;
    /// if let Some(error) = &linked.not_linked {
    ///     tracing::info!(?error, "the guest stays what it is");
    /// }
    /// # let _ = linked.vended;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`vend_with`](Self::vend_with).
    ///
    /// # Cancel safety
    ///
    /// As [`link_guest`](Self::link_guest).
    pub async fn vend_linking_guest(&self, request: VendRequest, claim: GuestClaim) -> Result<LinkedVend, Error> {
        match self.link_guest_with(request.clone(), claim).await {
            Ok(vended) => Ok(LinkedVend {
                vended,
                not_linked: None,
            }),
            Err(error) if error.kind() == ErrorKind::Denied => Err(error),
            Err(error) => Ok(LinkedVend {
                vended: self.vend_with(request).await?,
                not_linked: Some(error),
            }),
        }
    }

    /// Links the accounts of public providers to `user`, who can sign in with them from then on, and vends a token.
    ///
    /// **This is a way to take over an account.** Whoever gets a token of *his own* Facebook account into the request of
    /// *another* user, who is signed in here, can sign in as that user afterwards. So `logins` must come from a flow that this
    /// user has started and that cannot be forged: a `state` bound to the session, checked, and a CSRF token on the request.
    ///
    /// An account that is linked to another identity merges the two, or is refused, as the service decides: compare
    /// [`VendedToken::identity_id`] with the record of the user. At most 9 logins: the tenth is the user's own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAuthorized`]: a login was refused (403). [`ErrorKind::Conflict`]: the account is linked to another identity,
    /// or the identity has another account of that provider (409). [`ErrorKind::Configuration`]: no logins, more than 9, or one under
    /// the backend's own name. Else as [`vend`](Self::vend), which signs the user in without them.
    ///
    /// # Cancel safety
    ///
    /// The logins may have been linked; the same call again does no harm.
    pub async fn link_external(&self, user: &DeveloperUserId, logins: &Logins) -> Result<VendedToken, Error> {
        self.link_external_with(VendRequest::new(user.clone()), logins).await
    }

    /// As [`link_external`](Self::link_external), with token duration and principal tags.
    ///
    /// # Errors
    ///
    /// As [`link_external`](Self::link_external).
    ///
    /// # Cancel safety
    ///
    /// As [`link_external`](Self::link_external).
    pub async fn link_external_with(&self, request: VendRequest, logins: &Logins) -> Result<VendedToken, Error> {
        let options = self.inner.options(&request);
        let audit = Audit::of("link_external").user(&request.user).options(&options);
        let audit = audit.providers(logins.providers()).begin();
        let result = self.inner.link_external(&request.user, &options, logins).await;
        audit.vended(super::audit::TokenSource::Asked, &result);
        result
    }

    /// Keeps everything that stands on this vendor from serving a user until the hold is dropped, and drops what is kept.
    pub(super) fn hold(&self, user: &DeveloperUserId) -> VendorHold {
        let hold = self.inner.deny_list.hold(user);
        self.inner.cache.evict(user);
        self.inner.dependents.end(user, &super::deny_entry::held());
        VendorHold {
            vendor: self.clone(),
            user: user.clone(),
            hold,
        }
    }
}

/// A hold on a user at one vendor.
pub(super) struct VendorHold {
    vendor: TokenVendor,
    user: DeveloperUserId,
    hold: UserHold,
}

impl VendorHold {
    /// Waits until nothing can reach AWS any more that was sent for the user before the hold.
    pub(super) async fn drained(&self) {
        self.hold.drained(&self.vendor.inner.timer).await;
    }
}

impl Drop for VendorHold {
    fn drop(&mut self) {
        // What landed in spite of the hold is of the identity that is gone.
        self.vendor.inner.cache.evict(&self.user);
    }
}

impl VendorInner {
    async fn link_guest(
        &self,
        user: &DeveloperUserId,
        options: &TokenOptions,
        claim: &GuestClaim,
    ) -> Result<VendedToken, Error> {
        let admission = self.begin(user).await?;
        let claims = self.guest_claims()?;
        let now = self.clock.now();
        let checked = claims.check(self.service.pool(), claim, now.system_time())?;
        self.check_user_limit(user, now)?;
        checked.redeem(&self.store, claim, user).await?;
        let guest = &claim.guest;
        let identity = self.service.describe(guest).await?;
        let identity_id = if identity.logins.is_empty() {
            claims.check_age(&checked, identity.created)?;
            Some(guest)
        } else {
            // No guest any more: unless it is this very user's, from an attempt whose answer was lost, it stays what it is, and
            // nothing is made for whoever tried.
            let ours = identity
                .logins
                .iter()
                .any(|login| login == self.service.provider().as_str());
            if !ours || !self.service.is_linked(user, guest).await? {
                return Err(refused(ClaimRefusal::NoGuest));
            }
            None
        };
        let ask = Ask {
            identity_id,
            ..self.interactive(user, options)
        };
        let linked = self.ask(&admission, ask).await;
        self.cache.evict(user);
        linked.map(|vended| vended.expected(Some(guest)))
    }

    async fn link_external(
        &self,
        user: &DeveloperUserId,
        options: &TokenOptions,
        logins: &Logins,
    ) -> Result<VendedToken, Error> {
        let admission = self.begin(user).await?;
        let refused = |message: &str| Err(Error::new(ErrorKind::Configuration, message));
        if logins.is_empty() {
            return refused("no login to link");
        }
        if logins.len() > 9 {
            return refused(
                "more than 9 logins to link: an identity has at most 10, and the user's own is one of them",
            );
        }
        if logins.providers().any(|name| name == self.service.provider().as_str()) {
            return refused("an external login cannot have the name of the developer provider");
        }
        self.check_user_limit(user, self.clock.now())?;
        let ask = Ask {
            external: Some(logins),
            ..self.interactive(user, options)
        };
        let linked = self.ask(&admission, ask).await;
        self.cache.evict(user);
        linked
    }

    pub(super) fn guest_claims(&self) -> Result<&GuestClaims, Error> {
        self.guest_claims.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "linking guests is not enabled on this vendor")
                .with_hint("call `.guest_claims(GuestClaims::hmac_sha256(key)?)` on its builder")
        })
    }
}
