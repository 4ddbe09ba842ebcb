//! Logins that renew themselves: [`RefreshTokenLogins`] trades a refresh token for ID tokens, at an OAuth 2.0 token endpoint or at
//! a Cognito user pool.
//!
//! - `grant.rs`: the requests and answers of the two, pure.
//! - `builder.rs`: what has to be known of an endpoint.
//! - `token_store.rs`: the refresh token, and where the app keeps it.
//! - here: one renewal at a time, the app's store, and what becomes of a token that was rotated.

mod builder;
mod grant;
mod token_store;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::FutureExt;
use secrecy::ExposeSecret;

pub use self::builder::RefreshTokenLoginsBuilder;
use self::grant::{Endpoint, Granted, Refusal};
pub use self::token_store::{RefreshToken, RefreshTokenStore};
use crate::clock::{Clock, Expiry};
use crate::error::{BackendError, Error, ErrorKind, public_text};
use crate::logins::{Logins, LoginsProvider};
use crate::refresh::{LoadRequest, Loaded, RefreshCache, RefreshPolicy, load_fn};
use crate::service::http::{Cut, Http, Unanswered, body};
use crate::token::{OpenIdToken, RefreshReason, TokenClaims};

/// An answer of a token endpoint is no longer than this.
const LONGEST: usize = 256 * 1024;
/// An ID token that does not say when it expires is used for so long.
const UNKNOWN_LIFE: Duration = Duration::from_secs(300);

/// Logins of a user who is signed in at an OAuth 2.0 server or at a Cognito user pool, renewed with the user's refresh token: a
/// ready-made [`LoginsProvider`] for [`Login::external`](crate::Login::external).
///
/// ```
/// # use cognito_identity_pool::{refresh_token::{RefreshTokenLogins, RefreshTokenStore}, Login};
/// # fn example(base: aws_config::SdkConfig, keychain: impl RefreshTokenStore + 'static) -> Result<(), cognito_identity_pool::Error> {
/// let logins = RefreshTokenLogins::user_pool("us-east-1_AbCdEfGhI", "the-app-client-id")
///     .configure(&base)
///     .store(keychain) // where the app keeps the refresh token
///     .build()?;
/// let login = Login::external(logins).subject("user-42");
/// # Ok(()) }
/// ```
///
/// # What it does
///
/// - The ID token is kept while it is good, and renewed ahead of its expiry when it is asked for. However many ask, one renewal is
///   under way at a time, and it goes on to its end when those who asked have given up, so that a token that the server rotates is
///   never lost on the way.
/// - A new refresh token is handed to the [`RefreshTokenStore`] before the logins are given out. If the store fails, the new token is
///   kept in memory and handed over again at the next renewal.
/// - A refresh token that the server refuses is looked up in the store once more: another process may have rotated it. If it is the
///   same, the user is signed out ([`ErrorKind::SignedOut`]).
///
/// | the token endpoint says | outcome |
/// |---|---|
/// | `invalid_grant`, `login_required`, `interaction_required`, `consent_required`; `NotAuthorizedException`, `RefreshTokenReuseException`, a user who is gone or has to do something | signed out |
/// | 408, 429, 5xx, no answer, HTML | transient, with `Retry-After`; the logins of before stay in use while they are good |
/// | another client, scope or grant type than the server allows; an answer without an ID token | [`ErrorKind::Configuration`] |
#[derive(Clone)]
pub struct RefreshTokenLogins {
    cache: RefreshCache<Logins, Error>,
}

/// A token that the server has rotated and the store has not taken yet.
struct Unsaved {
    used: RefreshToken,
    new: RefreshToken,
}

struct Renewal {
    endpoint: Endpoint,
    store: Box<dyn RefreshTokenStore>,
    unsaved: Mutex<Option<Unsaved>>,
    http: Http,
    timeout: Duration,
    clock: Clock,
}

impl RefreshTokenLogins {
    /// Of a user pool, by its id and the id of the app client: `GetTokensFromRefreshToken`.
    pub fn user_pool(user_pool_id: impl Into<String>, client_id: impl Into<String>) -> RefreshTokenLoginsBuilder {
        RefreshTokenLoginsBuilder::user_pool(user_pool_id.into(), client_id.into())
    }

    /// Of an OAuth 2.0 server that issues ID tokens (OpenID Connect), by the URL of its token endpoint: the refresh token grant of
    /// RFC 6749.
    pub fn oauth2(token_endpoint: impl Into<String>, client_id: impl Into<String>) -> RefreshTokenLoginsBuilder {
        RefreshTokenLoginsBuilder::oauth2(token_endpoint.into(), client_id.into())
    }

    fn new(renewal: Renewal, sleep: aws_smithy_async::rt::sleep::SharedAsyncSleep) -> Self {
        // Two requests at most, and the store beside them.
        let policy = RefreshPolicy::builder().load_timeout(renewal.timeout * 3).build();
        let clock = renewal.clock.clone();
        let renewal = Arc::new(renewal);
        let load = load_fn(move |_: LoadRequest| Arc::clone(&renewal).renew().boxed());
        Self {
            cache: RefreshCache::new(policy, clock, Some(sleep), load),
        }
    }
}

#[async_trait]
impl LoginsProvider for RefreshTokenLogins {
    async fn logins(&self, reason: RefreshReason) -> Result<Logins, BackendError> {
        let logins = match reason {
            RefreshReason::TokenRejected | RefreshReason::Forced => self.cache.refresh_now().await,
            _ => self.cache.get().await,
        };
        logins.map(|logins| Logins::clone(&logins)).map_err(BackendError::own)
    }
}

impl fmt::Debug for RefreshTokenLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokenLogins").finish_non_exhaustive()
    }
}

impl Renewal {
    async fn renew(self: Arc<Self>) -> Result<Loaded<Logins>, Error> {
        let Some(mut token) = self.current().await? else {
            return Err(Error::new(
                ErrorKind::SignedOut,
                "there is no refresh token: nobody is signed in",
            ));
        };
        let refused = match self.ask(&token).await {
            Ok(granted) => return self.take(token, granted).await,
            Err(refused) => refused,
        };
        if !matches!(refused, Refusal::Token(_)) {
            return Err(refused.into());
        }
        // Another process of the app may have used and replaced it.
        match self.store.load().await? {
            Some(another) if another != token => token = another,
            _ => return Err(refused.into()),
        }
        self.forget_unsaved();
        let granted = self.ask(&token).await?;
        self.take(token, granted).await
    }

    /// The refresh token to use. What the store did not take before is offered to it again.
    async fn current(&self) -> Result<Option<RefreshToken>, Error> {
        let unsaved = self.unsaved().take();
        match unsaved {
            Some(Unsaved { used, new }) => {
                self.save(used, new.clone()).await;
                Ok(Some(new))
            }
            None => Ok(self.store.load().await?),
        }
    }

    fn unsaved(&self) -> std::sync::MutexGuard<'_, Option<Unsaved>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_unsaved(&self) {
        let forgotten = self.unsaved().take();
        drop(forgotten);
    }

    /// The new token is noted before the store is asked, so that it is not lost if the store panics or never answers.
    async fn save(&self, used: RefreshToken, new: RefreshToken) {
        let before = self.unsaved().take();
        // What the store has is what was used before it failed.
        let used = match before {
            Some(before) if before.new == used => before.used,
            _ => used,
        };
        let noted = Unsaved {
            used: used.clone(),
            new: new.clone(),
        };
        *self.unsaved() = Some(noted);
        match self.store.replace(&used, new).await {
            Ok(()) => self.forget_unsaved(),
            Err(error) => {
                tracing::warn!(%error, "the new refresh token is not stored; it is kept in memory and offered again");
            }
        }
    }

    async fn take(&self, used: RefreshToken, granted: Granted) -> Result<Loaded<Logins>, Error> {
        if let Some(new) = granted.refresh_token.filter(|new| *new != used) {
            self.save(used, new).await;
        }
        let token = OpenIdToken::new(granted.id_token.expose_secret())?;
        let claims = token.unverified_claims();
        let provider = match &self.endpoint.provider {
            Some(provider) => provider.clone(),
            None => provider_of(claims)?,
        };
        let expires = self.expiry(claims, granted.server_date);
        Ok(Loaded {
            value: Logins::new().with(provider, token.expose_secret())?,
            expires: Some(expires),
        })
    }

    /// How long the ID token is used. One that was just received is good, whatever the clocks say: by a wrong clock it counts with
    /// the whole of its life.
    fn expiry(&self, claims: Option<&TokenClaims>, server_date: Option<SystemTime>) -> Expiry {
        let now = self.clock.now();
        let expiry = claims.and_then(TokenClaims::expires_at);
        let by_clock = expiry.map(|expiry| Expiry::received(now, expiry, server_date));
        if let Some(expiry) = by_clock.filter(|expiry| !expiry.life().is_zero()) {
            return expiry;
        }
        let life = claims.and_then(|claims| u64::try_from(claims.exp?.checked_sub(claims.iat?)?).ok());
        Expiry::after(
            now,
            life.filter(|life| *life > 0).map_or(UNKNOWN_LIFE, Duration::from_secs),
        )
    }

    async fn ask(&self, token: &RefreshToken) -> Result<Granted, Refusal> {
        let host = self.endpoint.host().to_owned();
        let request = self.endpoint.request(token)?;
        let exchange = async {
            let response = self.http.send(request).await.map_err(|error| {
                let message = format!(
                    "the token endpoint at {host} could not be reached: {}",
                    public_text(&error)
                );
                Refusal::Other(Error::new(ErrorKind::Transport, message))
            })?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = body(response, LONGEST).await.map_err(|cut| {
                let what = match cut {
                    Cut::BrokenOff { after } => format!("broke off after {after} bytes"),
                    Cut::TooLong => "is larger than 256 KiB".to_owned(),
                };
                let message = format!("the answer of the token endpoint at {host} {what}");
                Refusal::Other(Error::new(ErrorKind::Transport, message))
            })?;
            self.endpoint
                .read(status, &headers, &body, self.clock.now().system_time())
        };
        match self.http.within(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(Unanswered::Late) => Err(Refusal::Other(Error::new(
                ErrorKind::Timeout,
                format!("the token endpoint at {host} did not answer within {:?}", self.timeout),
            ))),
            Err(Unanswered::NoRuntime) => Err(Refusal::Other(Error::new(
                ErrorKind::Runtime,
                "there is no async runtime to wait with",
            ))),
        }
    }
}

/// The provider's name in a logins map: its issuer without the scheme.
fn provider_of(claims: Option<&TokenClaims>) -> Result<String, Error> {
    let issuer = claims.and_then(|claims| claims.iss.as_deref());
    let issuer = issuer.map(|issuer| issuer.strip_prefix("https://").unwrap_or(issuer).trim_end_matches('/'));
    issuer.map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Configuration, "the ID token does not name its issuer")
            .with_hint("set RefreshTokenLoginsBuilder::provider")
    })
}
