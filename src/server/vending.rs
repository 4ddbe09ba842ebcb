//! [`TokenVendor`]: tokens for users whom the app has authenticated.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_types::SdkConfig;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::audit::{Audit, TokenSource};
use super::builder::TokenVendorBuilder;
use super::deny_list::{Admission, DenyList};
use super::dependents::Dependents;
use super::guest_link::GuestClaims;
use super::policy::{self, Statement};
use super::rate_limit::{Lane, RequestLimit, Turn, UserLimit};
use super::request::{VendRequest, VendedCredentials, VendedToken};
use super::setup::ServiceSetup;
use super::shared_store::SharedState;
use super::token_cache::{FlightId, KeptFor, Lookup, TokenCache, TokenOptions};
use super::{doctor, user_ids};
use crate::clock::{Clock, Expiry, Now, Timer};
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperProviderName, DeveloperUserId, IdentityId, IdentityPoolId, IntoId};
use crate::logins::Logins;
use crate::metrics::{self, By, Since};
use crate::service::refusal::{Refused, Remedy};
use crate::service::settings::ServiceSettings;
use crate::service::signed::{SignedService, TokenFor};
use crate::service::{Exchanged, IdentityService, Proof};

/// What has to be left of a token's life for it to be vended while AWS says no.
const LEAST_STALE: Duration = Duration::from_secs(60);

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
/// Tokens are kept and vended again while enough of their life is left, and asked for anew in the background from the half of it on;
/// concurrent vends to one user share a request. The requests of this process stay under the account's quota, and no user can cause
/// more than a few of them. While AWS says no, a kept token that has a minute left is vended. What an HTTP client may be told of a failure is an
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
    pub(super) hits: metrics::Hits,
    pub(super) min_remaining: Duration,
    pub(super) limit: Option<RequestLimit>,
    pub(super) user_limit: Option<UserLimit>,
    pub(super) max_wait: Duration,
    pub(super) personal_user_ids: bool,
    pub(super) guest_claims: Option<GuestClaims>,
    pub(super) store: SharedState,
    pub(super) deny_list: Arc<DenyList>,
    pub(super) dependents: Dependents,
    pub(super) ready: AtomicBool,
    pub(super) health: Mutex<VendorHealth>,
    pub(super) account_id: Option<String>,
    pub(super) settings: ServiceSettings,
    pub(super) app: SdkConfig,
    pub(super) clock: Clock,
    pub(super) started: Now,
    pub(super) timer: Timer,
}

/// How vending has gone lately: see [`TokenVendor::health`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VendorHealth {
    /// When AWS vended a token last, by the local clock.
    pub last_success: Option<SystemTime>,
    /// What kept AWS from vending one last, and when: not what was wrong with a user's own logins.
    pub last_failure: Option<(SystemTime, Error)>,
}

impl VendorHealth {
    /// Whether the last request succeeded, or none was made yet.
    pub fn is_healthy(&self) -> bool {
        match (&self.last_failure, self.last_success) {
            (None, _) => true,
            (Some((failed, _)), Some(succeeded)) => succeeded > *failed,
            (Some(_), None) => false,
        }
    }
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
    /// [`ErrorKind::Denied`]: after [`deny`](Self::deny). [`ErrorKind::Store`]: the deny list of the
    /// [shared](TokenVendorBuilder::shared) store could not be read for too long. Also what passes: service, transport, timeout.
    ///
    /// # Cancel safety
    ///
    /// Safe. A request that other callers wait for goes on; one that nobody waits for any more is dropped. The user may have
    /// got an identity by then, which the next vend finds.
    pub async fn vend(&self, user: &DeveloperUserId) -> Result<VendedToken, Error> {
        self.inner.vend(Vend::of("vend", user, &self.inner.defaults)).await
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
        let options = self.inner.options(&request);
        let vend = Vend {
            fresh: request.fresh,
            expected: request.expected.as_ref(),
            ..Vend::of("vend", &request.user, &options)
        };
        self.inner.vend(vend).await
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
        let began = inner.clock.now();
        inner.hear(user, false).await;
        let admission = inner.deny_list.admit(user, began)?;
        let ask = Vend::of(OPERATION, user, &inner.defaults);
        let vended = inner.vend(ask).await?;
        let mut exchanged = inner.exchange(user, &vended).await;
        // The token may have been kept from before the identity was merged or deleted.
        if exchanged.as_ref().is_err_and(|refused| refused.remedy != Remedy::None) {
            let vended = inner.vend(Vend { fresh: true, ..ask }).await?;
            exchanged = inner.exchange(user, &vended).await;
        }
        let exchanged = exchanged?;
        // Whoever was denied or forgotten meanwhile gets nothing.
        admission.check()?;
        let now = inner.clock.now();
        let expiry = Expiry::received(now, exchanged.expiration, exchanged.server_date).system_time();
        Ok(VendedCredentials {
            credentials: exchanged.credentials(expiry, "CognitoTokenVendor"),
            identity_id: exchanged.identity_id,
        })
    }

    /// Forgets what is kept of `user`, tokens here and credentials of [`UserCredentials`](crate::UserCredentials) on this vendor, e.g.
    /// because the user's rights have changed. What was vended is not revoked: no API does that.
    pub fn evict(&self, user: &DeveloperUserId) {
        self.inner.cache.evict(user);
        self.inner.dependents.evict(user);
        Audit::of("evict").user(user).ended("ok");
    }

    /// Whether the settings are right: the pool exists, the backend's credentials reach it, and it knows this backend by its name.
    /// Once that was seen it stays so, and no further request is made. For the start of a process; whether AWS answers at this moment
    /// is [`health`](Self::health).
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
        if inner.ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        let pool = inner.service.describe_pool().await?;
        doctor::provider_matches(&pool, inner.service.provider())
            .map_err(|message| Error::new(ErrorKind::Configuration, message))?;
        inner.ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// How vending has gone lately, by the requests that were made anyway: none is made for this. An instance whose requests fail
    /// still vends what it has kept, and where AWS is down for one it is down for all: alert on it rather than taking instances out.
    pub fn health(&self) -> VendorHealth {
        self.inner.health().clone()
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
            statements.push(Statement {
                sid: "LinkGuestsAgain",
                actions: &["LookupDeveloperIdentity"],
                on_pool: true,
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

/// What a vend is asked.
#[derive(Clone, Copy)]
pub(super) struct Vend<'a> {
    operation: &'static str,
    user: &'a DeveloperUserId,
    options: &'a TokenOptions,
    /// A kept token will not do.
    fresh: bool,
    expected: Option<&'a IdentityId>,
}

impl<'a> Vend<'a> {
    pub(super) fn of(operation: &'static str, user: &'a DeveloperUserId, options: &'a TokenOptions) -> Self {
        Self {
            operation,
            user,
            options,
            fresh: false,
            expected: None,
        }
    }
}

/// What the service is asked.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) user: &'a DeveloperUserId,
    pub(super) options: &'a TokenOptions,
    pub(super) identity_id: Option<&'a IdentityId>,
    pub(super) external: Option<&'a Logins>,
    pub(super) lane: Lane,
    pub(super) patience: Duration,
}

impl VendorInner {
    async fn vend(self: &Arc<Self>, vend: Vend<'_>) -> Result<VendedToken, Error> {
        let Vend { user, options, .. } = vend;
        let audit = Audit::of(vend.operation).user(user).options(options);
        // A hit reads the clock once.
        let began = self.clock.now();
        let mut now = began;
        if let Some(shared) = self.deny_list.shared()
            && shared.is_due(user, now)
        {
            shared.update(user, false).await;
            now = self.clock.now();
        }
        let kept = match self.check(user, now) {
            Ok(()) if vend.fresh || self.cache.is_off() => None,
            Ok(()) => self.cache.get(user, options, now),
            Err(error) => {
                audit.failed(&error);
                return Err(error);
            }
        };
        if let Some((vended, is_due)) = kept {
            if is_due {
                self.refresh_ahead(user, options);
            }
            let result = Ok(vended.expected(vend.expected));
            audit.vended(TokenSource::Cached, &result);
            self.hits.add(vend.operation);
            return result;
        }
        let audit = audit.begin();
        let since = Since::now(&self.clock);
        let (source, result) = self.vend_anew(vend, began).await;
        let result = result.map(|vended| vended.expected(vend.expected));
        audit.vended(source, &result);
        match source {
            TokenSource::Cached => self.hits.add(vend.operation),
            _ => metrics::vend_took(source.name(), since, &self.clock),
        }
        result
    }

    async fn vend_anew(self: &Arc<Self>, vend: Vend<'_>, began: Now) -> (TokenSource, Result<VendedToken, Error>) {
        let Vend { user, options, .. } = vend;
        self.hear(user, true).await;
        let admission = match self.deny_list.admit(user, began) {
            Ok(admission) => admission,
            Err(error) => return (TokenSource::Asked, Err(error)),
        };
        let (source, vended) = if self.cache.is_off() {
            let asked = match self.check_user_limit(user, self.clock.now()) {
                Ok(()) => self.ask(&admission, self.interactive(user, options)).await,
                Err(error) => Err(error),
            };
            (TokenSource::Asked, asked)
        } else {
            let start = |flight| self.flight(user, options, flight, Lane::Interactive);
            match self.cache.join(user, options, vend.fresh, self.clock.now(), start) {
                Lookup::Value(vended) => (TokenSource::Cached, Ok(vended)),
                Lookup::Joined(flight) => (TokenSource::Joined, flight.await),
                Lookup::Started(flight) => (TokenSource::Asked, flight.await),
            }
        };
        let (source, vended) = match vended {
            // What is still good serves while AWS, or our own limit, says no.
            Err(error) if !vend.fresh && error.is_retryable() => {
                match self.cache.stale(user, options, self.clock.now()) {
                    Some(vended) => (TokenSource::Stale, Ok(vended)),
                    None => (source, Err(error)),
                }
            }
            vended => (source, vended),
        };
        // Whoever was denied or forgotten meanwhile gets nothing.
        (source, admission.check().and(vended))
    }

    /// Asks for a token that will soon be needed, with nobody waiting for it: if there is a runtime to do it on.
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(unused_variables, reason = "without tokio there is no runtime to do it on")
    )]
    fn refresh_ahead(self: &Arc<Self>, user: &DeveloperUserId, options: &TokenOptions) {
        #[cfg(feature = "rt-tokio")]
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let start = |flight| self.flight(user, options, flight, Lane::Background);
            if let Some(flight) = self.cache.begin_ahead(user, options, self.clock.now(), start) {
                let (user, options) = (user.clone(), options.clone());
                drop(runtime.spawn(async move {
                    let audit = Audit::of("refresh_ahead").user(&user).options(&options).begin();
                    audit.vended(TokenSource::Asked, &flight.await);
                }));
            }
        }
    }

    fn flight(
        self: &Arc<Self>,
        user: &DeveloperUserId,
        options: &TokenOptions,
        flight: FlightId,
        lane: Lane,
    ) -> BoxFuture<'static, Result<VendedToken, Error>> {
        let (inner, user, options) = (Arc::clone(self), user.clone(), options.clone());
        async move { inner.fly(user, options, flight, lane).await }.boxed()
    }

    async fn fly(
        self: Arc<Self>,
        user: DeveloperUserId,
        options: TokenOptions,
        flight: FlightId,
        lane: Lane,
    ) -> Result<VendedToken, Error> {
        let ask = async {
            let now = self.clock.now();
            let admission = self.deny_list.admit(&user, now)?;
            if lane == Lane::Interactive {
                self.check_user_limit(&user, now)?;
            }
            let ask = Ask {
                lane,
                ..self.interactive(&user, &options)
            };
            self.ask(&admission, ask).await
        };
        let asked = AssertUnwindSafe(ask).catch_unwind().await;
        let result = asked.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Panicked,
                "the backend's credentials provider or HTTP client panicked",
            ))
        });
        let kept = result.as_ref().ok().map(|vended| {
            let life = vended.life();
            let after = |life| Expiry::after(self.clock.now(), life);
            let serves = life.saturating_sub(self.min_remaining.min(life / 2));
            let kept = KeptFor {
                ahead: after((life / 2).min(serves)),
                serves: after(serves),
                usable: after(life.saturating_sub(LEAST_STALE)),
            };
            (vended.clone(), kept)
        });
        self.cache.land(&user, &options, flight, kept);
        result
    }

    /// What is asked by somebody who waits for it.
    pub(super) fn interactive<'a>(&self, user: &'a DeveloperUserId, options: &'a TokenOptions) -> Ask<'a> {
        Ask {
            user,
            options,
            identity_id: None,
            external: None,
            lane: Lane::Interactive,
            patience: self.max_wait,
        }
    }

    /// `GetOpenIdTokenForDeveloperIdentity`, when it is this request's turn and if the user may still be served then.
    pub(super) async fn ask(&self, admission: &Admission, ask: Ask<'_>) -> Result<VendedToken, Error> {
        let turn = self.turn(ask.lane, ask.patience).await?;
        self.ask_in_turn(admission, turn, ask).await
    }

    pub(super) async fn turn(&self, lane: Lane, patience: Duration) -> Result<Turn, Error> {
        match &self.limit {
            Some(limit) => limit.turn(lane, patience).await,
            None => Ok(Turn::unlimited()),
        }
    }

    pub(super) async fn ask_in_turn(
        &self,
        admission: &Admission,
        turn: Turn,
        ask: Ask<'_>,
    ) -> Result<VendedToken, Error> {
        admission.send()?;
        turn.used();
        let request = TokenFor {
            user: ask.user,
            identity_id: ask.identity_id,
            external: ask.external,
            tags: ask.options.tags.pairs(),
            duration: ask.options.duration,
        };
        let answer = self.service.developer_token(request).await;
        let now = self.clock.now();
        let landed = match &answer {
            // It may have arrived all the same, or may still.
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Transport) => admission.lost(now),
            _ => admission.answered(now),
        };
        self.note(&answer, now.system_time());
        landed?;
        let answer = answer.map_err(|error| match error.kind() {
            // The service does not say when.
            ErrorKind::Throttled if error.retry_after().is_none() => {
                error.with_retry_after(Some(Duration::from_secs(1)))
            }
            _ => error,
        })?;
        Ok(VendedToken::new(answer, ask.options.duration, now.system_time()))
    }

    fn note<T>(&self, answer: &Result<T, Error>, now: SystemTime) {
        match answer {
            Ok(_) => self.health().last_success = Some(now),
            Err(error) => {
                let users_own = match error.kind() {
                    ErrorKind::NotAuthorized => error.code() == Some("NotAuthorizedException"),
                    ErrorKind::UserAlreadyRegistered | ErrorKind::Conflict | ErrorKind::IdentityNotFound => true,
                    ErrorKind::Configuration => error.code().is_some(),
                    _ => false,
                };
                if !users_own {
                    self.health().last_failure = Some((now, error.clone()));
                }
            }
        }
    }

    fn health(&self) -> MutexGuard<'_, VendorHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check_user_limit(&self, user: &DeveloperUserId, now: Now) -> Result<(), Error> {
        let limit = self.user_limit.as_ref();
        limit.map_or(Ok(()), |limit| limit.take(user, now.since(self.started)))
    }

    async fn exchange(&self, user: &DeveloperUserId, vended: &VendedToken) -> Result<Exchanged, Refused> {
        let audit = Audit::of("exchange").user(user).identity(vended.identity_id());
        let token = vended.identity().token().clone();
        let own_host = token
            .unverified_claims()
            .and_then(|claims| claims.cognito_issuer_host().map(str::to_owned));
        let issuer_host = own_host.unwrap_or_else(|| self.service.pool().issuer_host());
        let proof = Proof::Developer { issuer_host, token };
        let since = Since::now(&self.clock);
        let exchanged = self.exchange.get_credentials(vended.identity_id(), &proof, None).await;
        let outcome = exchanged.as_ref().map(drop).map_err(|refused| refused.error.clone());
        audit.end(&outcome);
        metrics::exchange(By::Vendor, true, metrics::outcome(&outcome));
        metrics::exchange_took(By::Vendor, since, &self.clock);
        exchanged
    }

    pub(super) fn options(&self, request: &VendRequest) -> TokenOptions {
        TokenOptions {
            duration: request.duration.unwrap_or(self.defaults.duration),
            tags: request.tags.clone(),
        }
    }

    /// Begins something for a user that the cache does not answer, by what the instances agree on at this moment.
    pub(super) async fn begin(&self, user: &DeveloperUserId) -> Result<Admission, Error> {
        let began = self.clock.now();
        self.hear(user, true).await;
        let admission = self.deny_list.admit(user, began)?;
        self.check_id(user)?;
        Ok(admission)
    }

    /// Whether the user may be served from the cache.
    fn check(&self, user: &DeveloperUserId, now: Now) -> Result<(), Error> {
        self.deny_list.check(user, now)?;
        self.check_id(user)
    }

    fn check_id(&self, user: &DeveloperUserId) -> Result<(), Error> {
        if self.personal_user_ids {
            Ok(())
        } else {
            user_ids::refuse_personal(user)
        }
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
