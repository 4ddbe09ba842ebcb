//! External identity providers, simulated: they issue the tokens with which social logins run offline.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use base64_simd::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::clock::seconds;
use super::error::LocalPoolError;
use super::pools::{bare_issuer, same_provider};
use super::tokens::{Algorithm, Jwt, KeyRing, PublishedKeys};

/// The prefix of a simulated access token, which real ones have as opaquely.
const OPAQUE: &str = "EAALOCAL";

/// How long a simulated token lives unless told otherwise.
const LIFETIME: Duration = Duration::from_secs(3600);

/// An identity provider that the local pool trusts; see
/// [`LocalIdentityPool::oidc_issuer`](super::LocalIdentityPool::oidc_issuer).
///
/// Clones are the same issuer. Its tokens are signed with the key that is published with this crate.
#[derive(Clone)]
pub struct LocalIssuer {
    provider: Arc<Provider>,
}

struct Provider {
    name: String,
    audience: String,
    amr: AmrForm,
    opaque: bool,
    keys: IssuerKeys,
    time: SharedTimeSource,
    unavailable: AtomicBool,
}

/// Whose keys sign a provider's tokens.
enum IssuerKeys {
    /// The pool issues the tokens itself.
    Simulated(KeyRing),
    /// A provider of the developer's own does; nothing until its keys are known.
    Published(RwLock<Option<PublishedKeys>>),
}

/// How a login of this provider is spelled in a Cognito token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AmrForm {
    /// `graph.facebook.com:<sub>`
    Social,
    /// `arn:aws:iam::<account>:oidc-provider/<host>:OIDC:<sub>`
    Oidc { arn: String },
    /// `cognito-idp.<region>.amazonaws.com/<pool>:CognitoSignIn:<sub>`
    UserPool,
}

impl fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIssuer")
            .field("provider", &self.provider.name)
            .finish_non_exhaustive()
    }
}

/// Why a token of a simulated provider is not good.
pub(super) enum Flaw {
    Unavailable,
    /// No JWT, from a provider of JWTs.
    NotAJwt,
    /// Nothing that a provider of opaque tokens issued.
    NotIssued,
    Issuer,
    MissingAudience,
    Audience,
    Signature,
    Expired {
        exp: i64,
    },
    OpaqueExpired,
}

impl LocalIssuer {
    pub(super) fn new(
        provider: String,
        audience: String,
        amr: AmrForm,
        opaque: bool,
        time: SharedTimeSource,
    ) -> Option<Self> {
        let keys = IssuerKeys::Simulated(KeyRing::new(&provider, false)?);
        let unavailable = AtomicBool::new(false);
        Some(Self {
            provider: Arc::new(Provider {
                name: provider,
                audience,
                amr,
                opaque,
                keys,
                time,
                unavailable,
            }),
        })
    }

    /// A provider that the pool does not simulate: its tokens are good once its keys are known.
    pub(super) fn published(provider: String, audience: String, amr: AmrForm, time: SharedTimeSource) -> Self {
        Self {
            provider: Arc::new(Provider {
                name: provider,
                audience,
                amr,
                opaque: false,
                keys: IssuerKeys::Published(RwLock::default()),
                time,
                unavailable: AtomicBool::new(false),
            }),
        }
    }

    /// The key of the logins map under which its tokens are passed.
    pub fn provider_name(&self) -> &str {
        &self.provider.name
    }

    /// A token for the subject `sub`, good for an hour.
    pub fn token(&self, sub: &str) -> String {
        self.token_for(sub).issue()
    }

    /// A token with claims, lifetime or flaws of one's own.
    pub fn token_for(&self, sub: &str) -> LocalToken {
        LocalToken {
            issuer: self.clone(),
            sub: sub.to_owned(),
            aud: Some(self.provider.audience.clone()),
            iss: format!("https://{}", self.provider.name),
            lifetime: LIFETIME,
            claims: Map::new(),
            forged: false,
        }
    }

    /// Whether the provider answers; while it does not, Cognito says ExternalServiceException.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.provider.unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// The third element of `amr` for a login of this provider, after the provider's own name.
    pub(super) fn amr(&self, sub: &str) -> String {
        match &self.provider.amr {
            AmrForm::Social => format!("{}:{sub}", self.provider.name),
            AmrForm::Oidc { arn } => format!("{arn}:OIDC:{sub}"),
            AmrForm::UserPool => format!("{}:CognitoSignIn:{sub}", self.provider.name),
        }
    }

    /// The key set that the pool publishes for it: none for a provider that publishes its own.
    pub(super) fn jwks(&self) -> Option<Value> {
        match &self.provider.keys {
            IssuerKeys::Simulated(keys) => Some(keys.jwks(Algorithm::Rs256)),
            IssuerKeys::Published(_) => None,
        }
    }

    /// Whether the pool issues its tokens.
    pub(super) fn is_simulated(&self) -> bool {
        matches!(self.provider.keys, IssuerKeys::Simulated(_))
    }

    /// Whether a token of this issuer is one of the provider's. Real ones name themselves with and without scheme and
    /// trailing slash, on a developer's machine also over plain HTTP.
    fn is_named(&self, issuer: &str) -> bool {
        let issuer = match issuer.strip_prefix("http://") {
            Some(plain) if !self.is_simulated() => plain,
            _ => issuer,
        };
        same_provider(issuer, &self.provider.name)
    }

    /// Audience, form, and whether its tokens are opaque, as they are exported with the pool's state.
    pub(super) fn describe(&self) -> (&str, &AmrForm, bool) {
        (&self.provider.audience, &self.provider.amr, self.provider.opaque)
    }

    fn has_signed(&self, jwt: &Jwt<'_>) -> Result<bool, Flaw> {
        match &self.provider.keys {
            IssuerKeys::Simulated(keys) => Ok(keys.verify(jwt, Algorithm::Rs256)),
            IssuerKeys::Published(keys) => match &*keys.read().unwrap_or_else(PoisonError::into_inner) {
                Some(keys) => Ok(keys.verify(jwt)),
                None => Err(Flaw::Unavailable),
            },
        }
    }

    /// The claims of `token`, if it is good now; one of OpenID Connect `grace` seconds after its end still.
    pub(super) fn verify(
        &self,
        token: &str,
        audiences: &[&str],
        now: i64,
        grace: i64,
    ) -> Result<Map<String, Value>, Flaw> {
        if self.provider.unavailable.load(Ordering::Relaxed) {
            return Err(Flaw::Unavailable);
        }
        // An access token of Facebook and others says nothing to its bearer; here a signed JWT is wrapped in one.
        let unwrapped = token
            .strip_prefix(OPAQUE)
            .and_then(|rest| URL_SAFE_NO_PAD.decode_to_vec(rest).ok());
        let unwrapped = unwrapped.and_then(|bytes| String::from_utf8(bytes).ok());
        let token = if self.provider.opaque {
            unwrapped.as_deref().ok_or(Flaw::NotIssued)?
        } else {
            token
        };
        let jwt = Jwt::parse(token).ok_or(if self.provider.opaque {
            Flaw::NotIssued
        } else {
            Flaw::NotAJwt
        })?;
        if !self.is_named(jwt.text("iss")) {
            return Err(Flaw::Issuer);
        }
        if !jwt.claims.contains_key("aud") {
            return Err(Flaw::MissingAudience);
        }
        if !self.has_signed(&jwt)? {
            return Err(Flaw::Signature);
        }
        let shown = jwt.audiences();
        if !audiences.is_empty() && !shown.iter().any(|shown| audiences.contains(shown)) {
            return Err(Flaw::Audience);
        }
        let own = &self.provider.audience;
        if !self.is_simulated() && !own.is_empty() && !shown.contains(&own.as_str()) {
            return Err(Flaw::Audience);
        }
        // The grace is documented for OpenID Connect tokens alone.
        let grace = if self.provider.opaque { 0 } else { grace };
        if now >= jwt.exp().saturating_add(grace) {
            return Err(if self.provider.opaque {
                Flaw::OpaqueExpired
            } else {
                Flaw::Expired { exp: jwt.exp() }
            });
        }
        Ok(jwt.claims)
    }
}

/// A provider of the developer's own whose tokens the local pool accepts; see
/// [`LocalIdentityPool::trust_issuer`](super::LocalIdentityPool::trust_issuer).
#[derive(Clone, Debug)]
pub struct TrustedIssuer(pub(super) LocalIssuer);

impl TrustedIssuer {
    /// The key of the logins map under which its tokens are passed.
    pub fn provider_name(&self) -> &str {
        self.0.provider_name()
    }

    /// Gives the pool the provider's keys, a JWKS document with RSA keys; again when they were rotated. Until then, the
    /// pool says that the provider does not respond.
    ///
    /// # Errors
    ///
    /// [`LocalPoolError::Setting`] if the text has no RSA key; the keys stay as they were.
    pub fn set_keys(&self, jwks: &str) -> Result<(), LocalPoolError> {
        let keys = PublishedKeys::parse(jwks)
            .ok_or_else(|| LocalPoolError::Setting("this is no JWKS document with an RSA key".to_owned()))?;
        if let IssuerKeys::Published(published) = &self.0.provider.keys {
            *published.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        }
        Ok(())
    }
}

/// A token of a simulated provider in the making; see [`LocalIssuer::token_for`].
#[must_use]
pub struct LocalToken {
    issuer: LocalIssuer,
    sub: String,
    aud: Option<String>,
    iss: String,
    lifetime: Duration,
    claims: Map<String, Value>,
    forged: bool,
}

impl fmt::Debug for LocalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalToken")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl LocalToken {
    /// A claim, such as `cognito:roles` or `email`.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// How long it is good.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// A token for another app.
    pub fn audience(mut self, audience: &str) -> Self {
        self.aud = Some(audience.to_owned());
        self
    }

    /// A token without `aud`: an access token in place of an id token.
    pub fn without_audience(mut self) -> Self {
        self.aud = None;
        self
    }

    /// A token that names another issuer, such as `https://accounts.example.org`.
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.iss = issuer.to_owned();
        self
    }

    /// A token whose signature does not hold.
    pub fn forged(mut self) -> Self {
        self.forged = true;
        self
    }

    /// The token. Empty if the key cannot sign, which no published key is.
    pub fn issue(self) -> String {
        let Provider { keys, time, opaque, .. } = &*self.issuer.provider;
        let IssuerKeys::Simulated(keys) = keys else {
            return String::new();
        };
        let now = seconds(time.now());
        let mut claims = self.claims;
        let lifetime = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        claims.insert("sub".to_owned(), json!(self.sub));
        claims.insert("iss".to_owned(), json!(self.iss));
        claims.insert("iat".to_owned(), json!(now));
        claims.insert("exp".to_owned(), json!(now.saturating_add(lifetime)));
        if let Some(aud) = self.aud {
            claims.insert("aud".to_owned(), json!(aud));
        }
        let mut token = keys.sign(Algorithm::Rs256, &claims).unwrap_or_default();
        if self.forged {
            // The signature of another content.
            claims.insert("sub".to_owned(), json!(""));
            let other = keys.sign(Algorithm::Rs256, &claims).unwrap_or_default();
            if let (Some((signed, _)), Some((_, signature))) = (token.rsplit_once('.'), other.rsplit_once('.')) {
                token = format!("{signed}.{signature}");
            }
        }
        if *opaque {
            format!("{OPAQUE}{}", URL_SAFE_NO_PAD.encode_to_string(token))
        } else {
            token
        }
    }
}

/// The issuers that the pool knows, by the key of the logins map.
#[derive(Default)]
pub(super) struct Issuers(RwLock<HashMap<String, LocalIssuer>>);

impl Issuers {
    pub(super) fn get(&self, provider: &str) -> Option<LocalIssuer> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(bare_issuer(provider))
            .cloned()
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<LocalIssuer> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = issuers.values().cloned().collect();
        all.sort_by(|one, other| one.provider_name().cmp(other.provider_name()));
        all
    }

    pub(super) fn add(&self, issuer: LocalIssuer) {
        let mut issuers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        issuers.insert(bare_issuer(issuer.provider_name()).to_owned(), issuer);
    }
}
