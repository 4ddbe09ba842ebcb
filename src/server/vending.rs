//! [`TokenVendor`]: tokens for users whom the app has authenticated.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_types::SdkConfig;
use futures_util::FutureExt;

use super::builder::TokenVendorBuilder;
use super::deny_list::DenyList;
use super::guest_link::{self, GuestClaim, GuestClaims, GuestTicket};
use super::policy::{self, Statement};
use super::rate_limit::TokenBucket;
use super::request::{VendRequest, VendedCredentials, VendedToken};
use super::setup::ServiceSetup;
use super::token_cache::{FlightId, Lookup, TokenCache, TokenOptions};
use super::{audit, doctor, user_ids};
use crate::clock::{Clock, Expiry, Now, Timer};
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperProviderName, DeveloperUserId, IdentityId, IdentityPoolId, IntoId};
use crate::logins::Logins;
use crate::service::refusal::{Refused, Remedy};
use crate::service::signed::{SignedService, TokenFor};
use crate::service::{Exchanged, IdentityService, Proof, ServiceSettings};
/// Vends users their Cognito token: the backend's half of developer authenticated identities. Cheap to clone.
///
/// The user id comes from the app's own authentication, never from the request: whoever may choose it can be any user of the
/// pool. For the same reason the role that the backend runs with, which IAM cannot restrict to some users, should be able to
/// do little else: [`required_iam_policy`](Self::required_iam_policy) prints what it needs.
///
/// ```
/// use cognito_identity_pool::{DeveloperUserId, TokenVendor};
/// # use axum::{Json, http::header::CACHE_CONTROL, response::IntoResponse};
/// # struct User { id: String }
///
/// # fn set_up(aws_config: &aws_config::SdkConfig) -> Result<(), cognito_identity_pool::Error> {
/// let vendor = TokenVendor::builder("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd", "login.mycompany.myapp")
///     .configure(aws_config)
///     .build()?;
/// # Ok(()) }
///
/// # async fn handler(vendor: TokenVendor, user: User) -> anyhow::Result<impl IntoResponse> {
/// // In the handler, after your own authentication:
/// let vended = vendor.vend(&DeveloperUserId::new(user.id)?).await?;
/// Ok(([(CACHE_CONTROL, "no-store")], Json(vended.expose())))
/// # }
/// ```
///
/// Tokens are kept and vended again while enough of their life is left, concurrent vends to one user share a request, and the
/// requests of this process stay under the account's quota. What an HTTP client may be told of a failure is an
/// [`HttpRefusal`](crate::server::HttpRefusal).
#[derive(Clone)]
pub struct TokenVendor {
    pub(super) inner: Arc<VendorInner>,
}

pub(super) struct VendorInner {
    pub(super) service: SignedService,
    pub(super) exchange: IdentityService,
    pub(super) defaults: TokenOptions,
    pub(super) cache: TokenCache<VendedToken>,
    pub(super) min_remaining: Duration,
    pub(super) bucket: Option<TokenBucket>,
    pub(super) max_wait: Duration,
    pub(super) personal_user_ids: bool,
    pub(super) guest_claims: Option<GuestClaims>,
    pub(super) denied: DenyList,
    pub(super) ready: Mutex<Option<Expiry>>,
    pub(super) account_id: Option<String>,
    pub(super) settings: ServiceSettings,
    pub(super) app: SdkConfig,
    pub(super) clock: Clock,
    pub(super) started: Now,
    pub(super) timer: Timer,
}

impl TokenVendor {
    /// A vendor for the identity pool `pool_id`, which knows this backend as `provider_name`.
    ///
    /// Takes typed ids, or text that [`build`](TokenVendorBuilder::build) checks.
    pub fn builder(
        pool_id: impl IntoId<IdentityPoolId>,
        provider_name: impl IntoId<DeveloperProviderName>,
    ) -> TokenVendorBuilder {
        TokenVendorBuilder::new(ServiceSetup::new(pool_id, provider_name))
    }

    /// A token for `user`, whom the app has authenticated. A user who is seen for the first time gets an identity.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: wrong settings, no AWS credentials, a user id that looks like personal data.
    /// [`ErrorKind::NotAuthorized`]: the backend's AWS credentials were refused, or may not vend.
    /// [`ErrorKind::Throttled`], with [`Error::retry_after`]: this process is at its limit, or the account is.
    /// [`ErrorKind::Denied`]: after [`deny`](Self::deny). Also what passes: service, transport, timeout.
    ///
    /// # Cancel safety
    ///
    /// Safe. A request that other callers wait for goes on; one that nobody waits for any more is dropped. The user may have
    /// got an identity by then, which the next vend finds.
    pub async fn vend(&self, user: &DeveloperUserId) -> Result<VendedToken, Error> {
        self.inner.vend("vend", user, &self.inner.defaults, false, None).await
    }

    /// As [`vend`](Self::vend), with token duration, principal tags, or an expected identity.
    ///
    /// # Errors
    ///
    /// As [`vend`](Self::vend).
    ///
    /// # Cancel safety
    ///
    /// As [`vend`](Self::vend).
    pub async fn vend_with(&self, request: VendRequest) -> Result<VendedToken, Error> {
        let VendRequest {
            user,
            duration,
            tags,
            expected,
            fresh,
        } = request;
        let options = TokenOptions {
            duration: duration.unwrap_or(self.inner.defaults.duration),
            tags,
        };
        self.inner.vend("vend", &user, &options, fresh, expected.as_ref()).await
    }

    /// AWS credentials for `user`, exchanged here, for backends that hand out credentials in place of tokens.
    ///
    /// A token lets the client fetch credentials itself, again and again while the token lives, and needs a way to Cognito.
    /// Credentials live one hour, need none, and cannot be renewed by the client. The token is cached, credentials are not.
    ///
    /// # Errors
    ///
    /// As [`vend`](Self::vend), and [`ErrorKind::Configuration`] if the pool's role cannot be assumed.
    ///
    /// # Cancel safety
    ///
    /// As [`vend`](Self::vend).
    pub async fn vend_credentials(&self, user: &DeveloperUserId) -> Result<VendedCredentials, Error> {
        const OPERATION: &str = "vend_credentials";
        let inner = &self.inner;
        let vended = inner.vend(OPERATION, user, &inner.defaults, false, None).await?;
        let mut exchanged = inner.exchange(user, &vended).await;
        // The token may have been kept from before the identity was merged or deleted.
        if exchanged.as_ref().is_err_and(|refused| refused.remedy != Remedy::None) {
            let vended = inner.vend(OPERATION, user, &inner.defaults, true, None).await?;
            exchanged = inner.exchange(user, &vended).await;
        }
        let exchanged = exchanged?;
        // Whoever was denied meanwhile gets nothing.
        inner.denied.check(user)?;
        let now = inner.clock.now();
        let expiry = Expiry::received(now, exchanged.expiration, exchanged.server_date).system_time();
        Ok(VendedCredentials {
            credentials: exchanged.credentials(expiry, "CognitoTokenVendor"),
            identity_id: exchanged.identity_id,
        })
    }

    /// A ticket that lets `client` link the guest `guest` to a user later, by [`link_guest`](Self::link_guest).
    ///
    /// `client` is what this backend knows the caller by, e.g. the id of its session, and `guest` the guest that this session
    /// has named when it began: keep the first and take no other. A ticket for whatever id a request names, at the moment of
    /// the sign-in, would prove nothing. Send it over the same channel as the session, and not in a URL.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] without [`guest_claims`](TokenVendorBuilder::guest_claims), or for an empty `client`;
    /// [`ErrorKind::ClaimRefused`] for an identity of another region.
    pub fn issue_guest_claim(&self, guest: &IdentityId, client: &str) -> Result<GuestTicket, Error> {
        let inner = &self.inner;
        inner
            .guest_claims()?
            .issue(inner.service.pool(), guest, client, inner.clock.now().system_time())
    }

    /// Makes a guest the user's identity, so that the guest's data become the user's, and vends a token for it.
    ///
    /// The claim is a ticket of [`issue_guest_claim`](Self::issue_guest_claim). It is used up by this call, unless that fails
    /// for a passing reason. The identity is checked to be a guest before it is linked. The same user may link the same guest
    /// again with another ticket.
    ///
    /// If the user has an identity already, the guest's data cannot become the user's by themselves: the answer is
    /// [`ErrorKind::UserAlreadyRegistered`], or a token for that other identity with [`VendedToken::replaces`] saying so.
    /// Nothing is merged here; [`vend`](Self::vend) gives the token for the identity that the user has.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ClaimRefused`]: forged, expired, used, for another guest or client, or the identity is no guest.
    /// [`ErrorKind::UserAlreadyRegistered`], [`ErrorKind::Conflict`]: see above. [`ErrorKind::IdentityNotFound`]: the guest is
    /// gone. [`ErrorKind::NotAuthorized`]: another user was linked to the guest at the same moment. Else as
    /// [`vend`](Self::vend).
    ///
    /// # Cancel safety
    ///
    /// Not safe: the claim is used up, and the guest may have been linked.
    pub async fn link_guest(&self, user: &DeveloperUserId, claim: GuestClaim) -> Result<VendedToken, Error> {
        let result = self.inner.link_guest(user, &claim).await;
        audit::vend("link_guest", user, &self.inner.defaults, false, &result);
        result
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
    /// [`ErrorKind::NotAuthorized`]: a login was refused. [`ErrorKind::Conflict`]: the account is linked to another identity,
    /// or the identity has another account of that provider. [`ErrorKind::Configuration`]: no logins, more than 9, or one under
    /// the backend's own name. Else as [`vend`](Self::vend).
    ///
    /// # Cancel safety
    ///
    /// Not safe: the logins may have been linked.
    pub async fn link_external(&self, user: &DeveloperUserId, logins: &Logins) -> Result<VendedToken, Error> {
        let result = self.inner.link_external(user, logins).await;
        audit::vend("link_external", user, &self.inner.defaults, false, &result);
        result
    }

    /// Forgets the tokens that are kept for `user`, e.g. because the user's rights have changed. What was vended is not
    /// revoked: no API does that.
    pub fn evict(&self, user: &DeveloperUserId) {
        self.inner.cache.evict(user);
    }

    /// Refuses `user` from now on, in this process, with [`ErrorKind::Denied`], and forgets the tokens that are kept; a vend
    /// on its way is refused, too.
    ///
    /// What was vended before stays good: a token until it expires, its credentials up to an hour longer. The one way to end
    /// those is a policy on the role that denies by `aws:TokenIssueTime`.
    pub fn deny(&self, user: &DeveloperUserId) {
        self.inner.denied.deny(user);
        self.inner.cache.evict(user);
    }

    /// Takes [`deny`](Self::deny) back.
    pub fn allow(&self, user: &DeveloperUserId) {
        self.inner.denied.allow(user);
    }

    /// Whether vending can work: the pool can be reached with the backend's credentials, and knows this backend by its name.
    /// For a load balancer's probe: a success is remembered for a minute, a failure is not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: there is no such pool, or it has another developer provider. Else as
    /// [`vend`](Self::vend).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn ready(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let ready = || inner.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready().is_some_and(|until| !until.is_over(inner.clock.now())) {
            return Ok(());
        }
        let pool = inner.service.describe_pool().await?;
        doctor::provider_matches(&pool, inner.service.provider())
            .map_err(|message| Error::new(ErrorKind::Configuration, message))?;
        *ready() = Some(Expiry::after(inner.clock.now(), Duration::from_secs(60)));
        Ok(())
    }

    /// The least that the backend's role has to be allowed, as a JSON policy document: vending, [`ready`](Self::ready), and
    /// what [`link_guest`](Self::link_guest) needs if [`guest_claims`](TokenVendorBuilder::guest_claims) are set.
    ///
    /// IAM cannot restrict *which* users a role may vend for: keep it to the one service that does.
    pub fn required_iam_policy(&self) -> String {
        let mut statements = vec![
            Statement {
                sid: "VendTokens",
                actions: &["GetOpenIdTokenForDeveloperIdentity"],
                on_pool: true,
            },
            Statement {
                sid: "Ready",
                actions: &["DescribeIdentityPool"],
                on_pool: true,
            },
        ];
        if self.inner.guest_claims.is_some() {
            statements.push(Statement {
                sid: "LinkGuests",
                actions: &["DescribeIdentity"],
                on_pool: false,
            });
        }
        policy::document(self.identity_pool_id(), self.inner.account_id.as_deref(), &statements)
    }

    /// The identity pool.
    pub fn identity_pool_id(&self) -> &IdentityPoolId {
        self.inner.service.pool()
    }

    /// The name under which the pool knows this backend.
    pub fn provider_name(&self) -> &DeveloperProviderName {
        self.inner.service.provider()
    }
}

impl VendorInner {
    async fn vend(
        self: &Arc<Self>,
        operation: &'static str,
        user: &DeveloperUserId,
        options: &TokenOptions,
        fresh: bool,
        expected: Option<&IdentityId>,
    ) -> Result<VendedToken, Error> {
        let kept = match self.admit(user) {
            Ok(()) if fresh || self.cache.is_off() => Ok(None),
            Ok(()) => Ok(self.cache.get(user, options, self.clock.now())),
            Err(error) => Err(error),
        };
        let (cached, result) = match kept {
            Ok(Some(vended)) => (true, Ok(vended)),
            Ok(None) => (false, self.vend_anew(user, options, fresh).await),
            Err(error) => (false, Err(error)),
        };
        let result = result.map(|vended| vended.expected(expected));
        audit::vend(operation, user, options, cached, &result);
        result
    }

    async fn vend_anew(
        self: &Arc<Self>,
        user: &DeveloperUserId,
        options: &TokenOptions,
        fresh: bool,
    ) -> Result<VendedToken, Error> {
        let vended = if self.cache.is_off() {
            self.ask(user, options, None, None).await
        } else {
            let start = |flight| {
                let (inner, user, options) = (Arc::clone(self), user.clone(), options.clone());
                async move { inner.fly(user, options, flight).await }.boxed()
            };
            match self.cache.join(user, options, fresh, self.clock.now(), start) {
                Lookup::Value(vended) => Ok(vended),
                Lookup::Flight(flight) => flight.await,
            }
        };
        // Whoever was denied meanwhile gets nothing.
        self.denied.check(user)?;
        vended
    }

    async fn fly(
        self: Arc<Self>,
        user: DeveloperUserId,
        options: TokenOptions,
        flight: FlightId,
    ) -> Result<VendedToken, Error> {
        let asked = AssertUnwindSafe(self.ask(&user, &options, None, None))
            .catch_unwind()
            .await;
        let result = asked.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Panicked,
                "the backend's credentials provider or HTTP client panicked",
            ))
        });
        let kept = result.as_ref().ok().map(|vended| {
            let life = vended.life();
            let serves = life.saturating_sub(self.min_remaining.min(life / 2));
            (vended.clone(), Expiry::after(self.clock.now(), serves))
        });
        self.cache.land(&user, flight, kept);
        result
    }

    /// `GetOpenIdTokenForDeveloperIdentity`, when it is this request's turn.
    async fn ask(
        &self,
        user: &DeveloperUserId,
        options: &TokenOptions,
        identity_id: Option<&IdentityId>,
        external: Option<&Logins>,
    ) -> Result<VendedToken, Error> {
        self.wait_for_turn(self.max_wait).await?;
        self.ask_now(user, options, identity_id, external).await
    }

    pub(super) async fn ask_now(
        &self,
        user: &DeveloperUserId,
        options: &TokenOptions,
        identity_id: Option<&IdentityId>,
        external: Option<&Logins>,
    ) -> Result<VendedToken, Error> {
        let ask = TokenFor {
            user,
            identity_id,
            external,
            tags: options.tags.pairs(),
            duration: options.duration,
        };
        let answer = self
            .service
            .developer_token(ask)
            .await
            .map_err(|error| match error.kind() {
                // The service does not say when.
                ErrorKind::Throttled if error.retry_after().is_none() => {
                    error.with_retry_after(Some(Duration::from_secs(1)))
                }
                _ => error,
            })?;
        Ok(VendedToken::new(
            answer,
            options.duration,
            self.clock.now().system_time(),
        ))
    }

    pub(super) async fn wait_for_turn(&self, patience: Duration) -> Result<(), Error> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let retry_after = match bucket.take(self.clock.now().since(self.started), patience) {
            Ok(Duration::ZERO) => return Ok(()),
            Ok(wait) => match self.timer.after(wait) {
                Some(sleep) => {
                    sleep.await;
                    return Ok(());
                }
                None => wait,
            },
            Err(retry_after) => retry_after,
        };
        Err(Error::new(
            ErrorKind::Throttled,
            "this process is at its limit of requests per second",
        )
        .with_retry_after(Some(retry_after))
        .with_hint(
            "raise `requests_per_second` if the account's quota for GetOpenIdTokenForDeveloperIdentity allows it",
        ))
    }

    async fn link_guest(&self, user: &DeveloperUserId, claim: &GuestClaim) -> Result<VendedToken, Error> {
        self.admit(user)?;
        let claims = self.guest_claims()?;
        let redeemed = claims
            .redeem(self.service.pool(), claim, self.clock.now().system_time())
            .await?;
        let linked = self.link_redeemed(user, &claim.guest).await;
        if linked.as_ref().is_err_and(Error::is_retryable) {
            claims.release(redeemed).await;
        }
        self.cache.evict(user);
        self.denied.check(user)?;
        linked.map(|vended| vended.expected(Some(&claim.guest)))
    }

    async fn link_redeemed(&self, user: &DeveloperUserId, guest: &IdentityId) -> Result<VendedToken, Error> {
        let logins = self.service.describe(guest).await?.logins;
        if logins.is_empty() {
            return self.ask(user, &self.defaults, Some(guest), None).await;
        }
        // No guest any more: unless it is this very user's, from an attempt whose answer was lost, it stays what it is.
        if logins.iter().any(|login| login == self.service.provider().as_str()) {
            let vended = self.ask(user, &self.defaults, None, None).await?;
            if vended.identity_id() == guest {
                return Ok(vended);
            }
        }
        Err(guest_link::refused("is for an identity that is no guest"))
    }

    async fn link_external(&self, user: &DeveloperUserId, logins: &Logins) -> Result<VendedToken, Error> {
        self.admit(user)?;
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
        let linked = self.ask(user, &self.defaults, None, Some(logins)).await;
        self.cache.evict(user);
        self.denied.check(user)?;
        linked
    }

    async fn exchange(&self, user: &DeveloperUserId, vended: &VendedToken) -> Result<Exchanged, Refused> {
        let token = vended.identity().token().clone();
        let own_host = token
            .unverified_claims()
            .and_then(|claims| claims.cognito_issuer_host().map(str::to_owned));
        let issuer_host = own_host.unwrap_or_else(|| self.service.pool().issuer_host());
        let proof = Proof::Developer { issuer_host, token };
        let exchanged = self.exchange.get_credentials(vended.identity_id(), &proof, None).await;
        let outcome = exchanged.as_ref().map(drop).map_err(|refused| refused.error.clone());
        audit::change("exchange", Some(user), Some(vended.identity_id()), &outcome);
        exchanged
    }

    pub(super) fn admit(&self, user: &DeveloperUserId) -> Result<(), Error> {
        self.denied.check(user)?;
        if self.personal_user_ids {
            Ok(())
        } else {
            user_ids::refuse_personal(user)
        }
    }

    fn guest_claims(&self) -> Result<&GuestClaims, Error> {
        self.guest_claims.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "linking guests is not enabled on this vendor")
                .with_hint("call `.guest_claims(GuestClaims::hmac_sha256(key)?)` on its builder")
        })
    }
}

impl fmt::Debug for TokenVendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVendor")
            .field("identity_pool_id", self.identity_pool_id())
            .field("provider_name", self.provider_name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests;
