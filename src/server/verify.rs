//! [`TokenVerifier`]: for services that accept a Cognito token as a bearer.

mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_types::SdkConfig;
use serde::Deserialize;
use zeroize::Zeroizing;

use self::keys::KeySet;
use super::audit;
use crate::clock::Clock;
use crate::error::{Cause, CauseKind, Error, ErrorKind};
use crate::ids::{DeveloperProviderName, DeveloperUserId, IdentityId, IdentityPoolId, IntoId};
use crate::metrics;
use crate::service::http::{Fetch, has_user, is_private};
use crate::service::settings::{service_endpoint, time_source};
use crate::token::check_token;

/// Verifies the OpenID tokens of an identity pool's developer users, for services that accept them as bearers.
///
/// Cognito signs the tokens of *all customers'* pools with the same keys: a signature alone proves nothing. What is checked:
///
/// - the signature, by the keys that Cognito publishes, with RS512 and nothing else;
/// - `iss` is Cognito, and `aud` is this pool;
/// - `exp`, by the local clock, with a [leeway](TokenVerifierBuilder::leeway);
/// - `amr` has `authenticated` and the developer provider: no guest, and no user of another provider;
/// - `sub` is an identity of the pool's region.
///
/// The keys are fetched when first needed and kept; a key id that is not among them fetches them anew, at most once a minute.
///
/// ```no_run
/// # use cognito_identity_pool::TokenVerifier;
/// # async fn example(aws_config: &aws_config::SdkConfig, bearer: &str) -> Result<(), cognito_identity_pool::Error> {
/// let verifier = TokenVerifier::builder("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd", "login.mycompany.myapp")
///     .configure(aws_config)
///     .build()?;
/// // In the handler, with what follows `Authorization: Bearer `:
/// let verified = verifier.verify(bearer).await?;
/// println!("{} is {}", verified.user_id().as_str(), verified.identity_id());
/// # Ok(()) }
/// ```
///
/// A token is good until it expires, whatever becomes of the user: for what must end at once, ask a record of your own.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    inner: Arc<VerifierInner>,
}

#[derive(Debug)]
struct VerifierInner {
    pool: IdentityPoolId,
    provider: DeveloperProviderName,
    issuer: String,
    leeway: Duration,
    keys: KeySet,
    clock: Clock,
}

/// Builds a [`TokenVerifier`]: see [`TokenVerifier::builder`].
#[derive(Debug)]
#[must_use]
pub struct TokenVerifierBuilder {
    pool: Result<IdentityPoolId, Error>,
    provider: Result<DeveloperProviderName, Error>,
    app: Option<SdkConfig>,
    issuer_host: Option<String>,
    jwks_uri: Option<String>,
    leeway: Duration,
}

impl TokenVerifierBuilder {
    /// Takes HTTP client, sleep and time source from the app's config. No credentials are needed.
    pub fn configure(mut self, config: &SdkConfig) -> Self {
        self.app = Some(config.clone());
        self
    }

    /// The host that issues the tokens. By default [`IdentityPoolId::issuer_host`]; a region that has to be opted into has one
    /// of its own, `cognito-identity.<region>.amazonaws.com`.
    pub fn issuer_host(mut self, host: impl Into<String>) -> Self {
        self.issuer_host = Some(host.into());
        self
    }

    /// Where the keys are published: by default `https://<issuer host>/.well-known/jwks_uri`, or those of the local pool that
    /// `AWS_ENDPOINT_URL_COGNITO_IDENTITY` points to, if the config was loaded by aws-config. Must be `https`, except on loopback.
    ///
    /// Whoever can answer there can be any user.
    pub fn jwks_uri(mut self, uri: impl Into<String>) -> Self {
        self.jwks_uri = Some(uri.into());
        self
    }

    /// How long after its end a token is still accepted, because the local clock may be ahead: by default 60 s, at most 5
    /// minutes.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(Duration::from_secs(300));
        self
    }

    /// Makes the verifier. Nothing is fetched.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: a pool id or provider name that cannot be one, a key URL that is not `https` or has a user name in
    /// it, no HTTP client, or no sleep implementation.
    pub fn build(self) -> Result<TokenVerifier, Error> {
        let (pool, provider) = (self.pool?, self.provider?);
        let host = self.issuer_host.unwrap_or_else(|| pool.issuer_host());
        let app = self.app.as_ref();
        let uri = self
            .jwks_uri
            .or_else(|| local_endpoint(app?))
            .unwrap_or_else(|| format!("https://{host}/.well-known/jwks_uri"));
        check_uri(&uri)?;
        let clock = Clock::new(time_source(app));
        metrics::describe();
        Ok(TokenVerifier {
            inner: Arc::new(VerifierInner {
                pool,
                provider,
                issuer: format!("https://{host}"),
                leeway: self.leeway,
                keys: KeySet::new(Fetch::new(uri, app)?, clock.clone()),
                clock,
            }),
        })
    }
}

/// The keys of a local pool that the app's environment points to by `AWS_ENDPOINT_URL_COGNITO_IDENTITY`. Only on loopback: an endpoint
/// elsewhere is a proxy or a VPC's, and the keys are Cognito's all the same.
fn local_endpoint(app: &SdkConfig) -> Option<String> {
    let endpoint = service_endpoint(app, "Cognito Identity")?;
    let host = endpoint.parse::<http::Uri>().ok()?.host()?.to_owned();
    let is_loopback = matches!(&*host, "localhost" | "127.0.0.1" | "[::1]");
    is_loopback.then(|| format!("{}/.well-known/jwks_uri", endpoint.trim_end_matches('/')))
}

/// The URL is not repeated in an error before it is known to hold no password.
fn check_uri(uri: &str) -> Result<(), Error> {
    let refused = |message: &str| Err(Error::new(ErrorKind::Configuration, message));
    let Ok(parsed) = uri.parse::<http::Uri>() else {
        return refused("the URL of the keys is not a valid URL");
    };
    if has_user(&parsed) {
        return refused("the URL of the keys contains a user name or a password");
    }
    if is_private(&parsed) {
        Ok(())
    } else {
        refused(&format!(
            "`{uri}`: keys must come from an https URL, or from this machine"
        ))
    }
}

/// What a verified token says. Made by [`TokenVerifier::verify`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    identity_id: IdentityId,
    user_id: DeveloperUserId,
    tags: BTreeMap<String, String>,
    issued_at: SystemTime,
    expires_at: SystemTime,
}

impl VerifiedToken {
    /// Who the user is to Cognito.
    pub fn identity_id(&self) -> &IdentityId {
        &self.identity_id
    }

    /// Who the user is to the backend that vended the token.
    pub fn user_id(&self) -> &DeveloperUserId {
        &self.user_id
    }

    /// The principal tags that the backend gave the token.
    pub fn principal_tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    /// When the token was issued, by Cognito's clock.
    pub fn issued_at(&self) -> SystemTime {
        self.issued_at
    }

    /// When the token expires, by Cognito's clock.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    kid: std::borrow::Cow<'a, str>,
    /// Extensions that a reader must understand; this one understands none.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    amr: Vec<String>,
    exp: f64,
    iat: f64,
    #[serde(rename = "https://aws.amazon.com/tags", default)]
    tags: Tags,
}

#[derive(Deserialize, Default)]
struct Tags {
    #[serde(default)]
    principal_tags: BTreeMap<String, Vec<String>>,
}

impl TokenVerifier {
    /// A verifier for tokens of the identity pool `pool_id` that the backend known as `provider_name` has vended.
    ///
    /// Takes typed ids, or text that [`build`](TokenVerifierBuilder::build) checks.
    pub fn builder(
        pool_id: impl IntoId<IdentityPoolId>,
        provider_name: impl IntoId<DeveloperProviderName>,
    ) -> TokenVerifierBuilder {
        TokenVerifierBuilder {
            pool: pool_id.into_id().map_err(Error::from),
            provider: provider_name.into_id().map_err(Error::from),
            app: None,
            issuer_host: None,
            jwks_uri: None,
            leeway: Duration::from_secs(60),
        }
    }

    /// Fetches the keys, unless they are there: for the start of a process, so that the first verification need not wait. They are
    /// fetched anew by themselves.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Transport`], [`ErrorKind::Timeout`], [`ErrorKind::Service`] or [`ErrorKind::InvalidResponse`].
    ///
    /// # Cancel safety
    ///
    /// Safe. Keys that other callers wait for are fetched on.
    pub async fn ready(&self) -> Result<(), Error> {
        self.inner.keys.ready().await
    }

    /// Verifies a token and tells whose it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidToken`], whose [`causes`](Error::causes) say why (HTTP status 401). If the keys cannot be fetched, or the
    /// token's key is not among those that were fetched a moment ago: [`ErrorKind::Transport`], [`ErrorKind::Timeout`],
    /// [`ErrorKind::Service`] or [`ErrorKind::InvalidResponse`] (503). No error shows the token.
    ///
    /// # Cancel safety
    ///
    /// Safe. Keys that other callers wait for are fetched on.
    pub async fn verify(&self, token: &str) -> Result<VerifiedToken, Error> {
        let verified = self.check(token).await;
        if let Err(error) = &verified {
            audit::refused_token(error);
        }
        metrics::verification(&verified);
        verified
    }

    async fn check(&self, token: &str) -> Result<VerifiedToken, Error> {
        let inner = &*self.inner;
        if check_token(token).is_err() {
            return Err(refused(CauseKind::WrongTokenKind, "it is not a token"));
        }
        let Some((message, signature)) = token.rsplit_once('.') else {
            return Err(refused(CauseKind::WrongTokenKind, "it is not a JWT"));
        };
        let Some((header, payload)) = message.split_once('.') else {
            return Err(refused(CauseKind::WrongTokenKind, "it is not a JWT"));
        };
        let header = decode(header)?;
        let header: Header<'_> = serde_json::from_slice(&header)
            .map_err(|_| refused(CauseKind::WrongTokenKind, "its header names no algorithm and key"))?;
        if header.alg != "RS512" || header.crit.is_some() {
            return Err(refused(
                CauseKind::WrongTokenKind,
                "it is not signed with RS512, as Cognito signs",
            ));
        }
        let key = inner.keys.get(&header.kid).await?.ok_or_else(|| {
            refused(
                CauseKind::SignatureNotVerified,
                "it is signed with a key that Cognito does not publish",
            )
        })?;
        let signature = decode(signature)?;
        key.verify_sig(message.as_bytes(), &signature)
            .map_err(|_| refused(CauseKind::SignatureNotVerified, "its signature is wrong"))?;
        let payload = decode(payload)?;
        let claims: Claims = serde_json::from_slice(&payload)
            .map_err(|_| refused(CauseKind::WrongTokenKind, "it lacks claims that Cognito's tokens have"))?;
        inner.check(claims)
    }
}

impl VerifierInner {
    /// What a token with a good signature has to be beyond that.
    fn check(&self, claims: Claims) -> Result<VerifiedToken, Error> {
        if claims.iss != self.issuer {
            return Err(refused(CauseKind::WrongTokenKind, "it has another issuer"));
        }
        if claims.aud != self.pool.as_str() {
            return Err(refused(CauseKind::WrongPool, "it is for another identity pool"));
        }
        let (Some(expires_at), Some(issued_at)) = (moment(claims.exp), moment(claims.iat)) else {
            return Err(refused(CauseKind::WrongTokenKind, "its `iat` or `exp` is not a time"));
        };
        let now = self.clock.now().system_time();
        if expires_at.checked_add(self.leeway).is_none_or(|end| end <= now) {
            return Err(refused(CauseKind::TokenExpired, "it has expired"));
        }
        let has = |what: &str| claims.amr.iter().any(|amr| amr == what);
        if !has("authenticated") || !has(self.provider.as_str()) {
            return Err(refused(
                CauseKind::WrongTokenKind,
                "its user did not sign in with the developer provider",
            ));
        }
        // The user id stands last and may itself have colons in it.
        let mut users = claims.amr.iter().filter_map(|amr| {
            let rest = amr.strip_prefix(self.provider.as_str())?.strip_prefix(':')?;
            rest.strip_prefix(self.pool.as_str())?.strip_prefix(':')
        });
        let (user, another) = (users.next(), users.next());
        if another.is_some() {
            // After a merge one identity is two users: whom the token was vended to cannot be told.
            return Err(refused(
                CauseKind::WrongTokenKind,
                "it names more than one user of the developer provider",
            ));
        }
        let user_id = user
            .and_then(|user| DeveloperUserId::new(user).ok())
            .ok_or_else(|| refused(CauseKind::WrongTokenKind, "it names no user of the developer provider"))?;
        let identity_id = IdentityId::new(claims.sub)
            .ok()
            .filter(|id| id.region() == self.pool.region())
            .ok_or_else(|| {
                refused(
                    CauseKind::WrongIdentity,
                    "its subject is not an identity of the pool's region",
                )
            })?;
        let tags = claims.tags.principal_tags.into_iter();
        Ok(VerifiedToken {
            identity_id,
            user_id,
            tags: tags
                .filter_map(|(key, values)| Some((key, values.into_iter().next()?)))
                .collect(),
            issued_at,
            expires_at,
        })
    }
}

fn moment(seconds: f64) -> Option<SystemTime> {
    // Up to the year 9999. Not a number is outside, too.
    (0.0..253_402_300_800.0)
        .contains(&seconds)
        .then(|| UNIX_EPOCH.checked_add(Duration::from_secs_f64(seconds)))?
}

fn decode(part: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(part)
        .map(Zeroizing::new)
        .map_err(|_| refused(CauseKind::WrongTokenKind, "it is not a JWT"))
}

fn refused(cause: CauseKind, why: &str) -> Error {
    Error::new(ErrorKind::InvalidToken, format!("the token is refused: {why}"))
        .with_causes(vec![Cause::new(cause, why)])
}
