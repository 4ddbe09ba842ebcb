//! The OpenID token: the secret that stands for a user, an unverified look into it, and how long it lives.

use std::fmt;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::ids::is_issuer_host;

/// The longest token that the service accepts (`IdentityProviderToken` in the API reference).
const MAX_TOKEN_LENGTH: usize = 50_000;

/// An OpenID token of a user: whoever holds it is that user, until it expires.
///
/// `Debug` does not show it, it has no `Display` and no `Serialize`, and its memory is wiped when it is dropped.
///
/// ```
/// # use cognito_identity_pool::OpenIdToken;
/// let token = OpenIdToken::new("eyJraWQiOiJ1cy1lYXN0LTExIn0.eyJzdWIiOiJ4In0.c2ln")?;
/// assert!(!format!("{token:?}").contains("eyJ"));
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Clone)]
pub struct OpenIdToken(SecretString);

impl OpenIdToken {
    /// Wraps a token: 1..=50000 characters, no white space. It need not be a JWT.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`], whose text never shows the token.
    pub fn new(token: impl Into<String>) -> Result<Self, Error> {
        let token = token.into();
        match check_token(&token) {
            Ok(()) => Ok(Self(SecretString::from(token))),
            Err(error) => {
                drop(Zeroizing::new(token));
                Err(error)
            }
        }
    }

    /// The token as text, for the one place that sends it.
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the token says of itself, **not verified**: good for planning (when does it expire?), never for deciding who
    /// someone is. `None` if it is no JWT. To trust a token, verify it with `TokenVerifier` (feature `verify`).
    ///
    /// ```
    /// # use cognito_identity_pool::OpenIdToken;
    /// let token = OpenIdToken::new("e30.eyJpc3MiOiJodHRwczovL2FjY291bnRzLmdvb2dsZS5jb20ifQ.c2ln")?;
    /// assert_eq!(token.unverified_claims().and_then(|claims| claims.iss), Some("https://accounts.google.com".into()));
    /// # Ok::<(), cognito_identity_pool::Error>(())
    /// ```
    pub fn unverified_claims(&self) -> Option<TokenClaims> {
        TokenClaims::peek(self.expose_secret())
    }
}

/// Whether it is of visible ASCII characters alone. It does not stop at the first that is not, so that the compiler can look at many
/// bytes at once: tokens are long, and hardly any is wrong.
fn is_graphic(token: &str) -> bool {
    token
        .bytes()
        .fold(true, |so_far, byte| so_far & byte.is_ascii_graphic())
}

/// What every token that is shown to Cognito has to satisfy.
pub(crate) fn check_token(token: &str) -> Result<(), Error> {
    let problem = if token.is_empty() {
        "it is empty"
    } else if token.len() > MAX_TOKEN_LENGTH {
        "it is longer than 50000 characters"
    } else if !is_graphic(token) && token.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "there is white space in it"
    } else {
        return Ok(());
    };
    Err(
        Error::new(ErrorKind::Configuration, format!("not a login token: {problem}"))
            .with_hint("pass the token itself, as the sign-in gave it, without quotes, prefix or line break"),
    )
}

impl fmt::Debug for OpenIdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenIdToken(<redacted>)")
    }
}

impl<'de> Deserialize<'de> for OpenIdToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = String::deserialize(deserializer)?;
        Self::new(token).map_err(de::Error::custom)
    }
}

/// The claims of a token as they were read, **unverified**: see [`OpenIdToken::unverified_claims`].
///
/// What a Cognito token holds: `sub` is the identity id, `aud` the identity pool id.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct TokenClaims {
    /// Who the token is about. For a Cognito token the identity id.
    pub sub: Option<String>,
    /// Whom the token is for; the first one if it is a list. For a Cognito token the identity pool id.
    #[serde(default, deserialize_with = "one_or_first")]
    pub aud: Option<String>,
    /// Who issued the token: a URL.
    pub iss: Option<String>,
    /// When it expires, in seconds since 1970-01-01 UTC.
    #[serde(default, deserialize_with = "whole_seconds")]
    pub exp: Option<i64>,
    /// When it was issued, in seconds since 1970-01-01 UTC.
    #[serde(default, deserialize_with = "whole_seconds")]
    pub iat: Option<i64>,
    /// How the user was authenticated.
    #[serde(default)]
    pub amr: Vec<String>,
}

impl TokenClaims {
    pub(crate) fn peek(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let payload = Zeroizing::new(base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).ok()?);
        serde_json::from_slice(&payload).ok()
    }

    /// When the token expires, if it says so.
    pub fn expires_at(&self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.exp?).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    /// The host of `iss` if it has the form of a Cognito token issuer.
    pub(crate) fn cognito_issuer_host(&self) -> Option<&str> {
        let host = self.iss.as_deref()?.strip_prefix("https://")?;
        is_issuer_host(host).then_some(host)
    }
}

fn one_or_first<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => Some(one),
        OneOrMany::Many(many) => many.into_iter().next(),
    })
}

/// Some issuers write their times as floating-point numbers.
fn whole_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Ok((seconds.is_finite() && seconds.abs() < 9e15).then_some(seconds as i64))
}

/// Why a token is asked for: a hint for the app's hook, e.g. to bypass a cache of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefreshReason {
    /// The session has had no token so far.
    FirstUse,
    /// Credentials are to be renewed and the last token is no longer good enough for that.
    Expiring,
    /// Cognito refused the last token. An answer from a cache would be refused again.
    TokenRejected,
    /// A service refused the credentials that were made with the last token.
    Invalidated,
    /// The app asked for it (`refresh_now`).
    Forced,
}

/// How long a vended token lives (`TokenDuration` in the API reference): 1 s..=24 h, by default 15 minutes.
///
/// It bounds how long a leaked token can be exchanged; it does not change how long credentials live, which is one hour from
/// the exchange in the enhanced flow.
///
/// ```
/// # use {cognito_identity_pool::token::TokenDuration, std::time::Duration};
/// assert_eq!(TokenDuration::default().as_secs(), 900);
/// assert!(TokenDuration::from_secs(0).is_err());
/// assert!(TokenDuration::from_secs(86_401).is_err());
/// assert_eq!(TokenDuration::try_from(Duration::from_secs(300))?.as_secs(), 300);
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenDuration(u32);

impl TokenDuration {
    /// The service's default, 15 minutes.
    pub const DEFAULT: Self = Self(900);
    /// The service's maximum, 24 hours.
    pub const MAX: Self = Self(86_400);

    /// A duration of `seconds`, 1..=86400.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] outside of that range.
    pub fn from_secs(seconds: u64) -> Result<Self, Error> {
        match u32::try_from(seconds) {
            Ok(valid @ 1..=86_400) => Ok(Self(valid)),
            _ => Err(Error::new(
                ErrorKind::Configuration,
                format!("a token duration of {seconds} s: must be 1 s to 86400 s (24 hours)"),
            )
            .with_hint("the default of 900 s is enough: the token only has to live until it is exchanged for credentials, which live one hour by themselves")),
        }
    }

    /// The duration in seconds.
    pub const fn as_secs(self) -> u64 {
        self.0 as u64
    }
}

impl Default for TokenDuration {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<Duration> for TokenDuration {
    type Error = Error;
    fn try_from(duration: Duration) -> Result<Self, Error> {
        Self::from_secs(duration.as_secs())
    }
}

impl From<TokenDuration> for Duration {
    fn from(duration: TokenDuration) -> Self {
        Self::from_secs(duration.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> OpenIdToken {
        OpenIdToken::new(format!(
            "e30.{}.c2ln",
            base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload)
        ))
        .unwrap()
    }

    #[test]
    fn claims_are_read_from_any_jwt_and_from_nothing_else() {
        let claims = jwt(r#"{"sub":"us-east-1:a","aud":["p","q"],"iss":"https://cognito-identity.amazonaws.com","exp":1569527701.0,"iat":1}"#)
            .unverified_claims()
            .unwrap();
        assert_eq!(claims.aud.as_deref(), Some("p"));
        assert_eq!(claims.exp, Some(1_569_527_701));
        assert_eq!(claims.cognito_issuer_host(), Some("cognito-identity.amazonaws.com"));
        assert_eq!(
            claims.expires_at().unwrap(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_569_527_701)
        );
        for opaque in ["opaque", "a.b", "a.b.c.d", "e30.!!!.c", "e30.e30"] {
            assert!(
                OpenIdToken::new(opaque).unwrap().unverified_claims().is_none(),
                "{opaque}"
            );
        }
    }

    #[test]
    fn a_token_that_never_expires_or_expired_before_1970_does_not_panic() {
        for exp in ["-1", "1e300", "9223372036854775807", "0"] {
            let claims = jwt(&format!(r#"{{"exp":{exp}}}"#)).unverified_claims().unwrap();
            assert!(
                claims.expires_at().is_none_or(|at| at >= SystemTime::UNIX_EPOCH),
                "{exp}"
            );
        }
    }

    #[test]
    fn only_a_cognito_issuer_gives_a_key_for_a_cognito_token() {
        for iss in [
            "https://evil.example",
            "http://cognito-identity.amazonaws.com",
            "https://cognito-identity.amazonaws.com/x",
        ] {
            let claims = jwt(&format!(r#"{{"iss":"{iss}"}}"#)).unverified_claims().unwrap();
            assert_eq!(claims.cognito_issuer_host(), None, "{iss}");
        }
    }

    #[test]
    fn tokens_that_cannot_be_tokens_are_refused_without_being_shown() {
        for bad in ["", " ", "secret token", "secret\n", &"s".repeat(50_001)] {
            let error = OpenIdToken::new(bad).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        assert!(OpenIdToken::new("s".repeat(50_000)).is_ok());
    }

    #[test]
    fn a_token_duration_has_the_services_bounds() {
        for good in [1, 900, 86_400] {
            assert_eq!(TokenDuration::from_secs(good).unwrap().as_secs(), good);
        }
        for bad in [0, 86_401, u64::MAX] {
            assert!(TokenDuration::from_secs(bad).unwrap_err().to_string().contains("86400"));
        }
    }
}
