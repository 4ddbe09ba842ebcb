//! The OpenID token: the secret that proves who a user is, its claims (unverified), and how long it lives.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
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
pub struct OpenIdToken(Arc<Token>);

struct Token {
    text: SecretString,
    /// Read once, by whoever asks first; all clones share it. `None`: it is not a JWT.
    claims: OnceLock<Option<TokenClaims>>,
}

impl OpenIdToken {
    /// Wraps a token: 1..=50000 characters, no white space. It need not be a JWT.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`], whose text never shows the token.
    pub fn new(token: impl Into<String>) -> Result<Self, Error> {
        let token = token.into();
        match check_token(&token) {
            Ok(()) => Ok(Self(Arc::new(Token {
                text: SecretString::from(token),
                claims: OnceLock::new(),
            }))),
            Err(error) => {
                drop(Zeroizing::new(token));
                Err(error)
            }
        }
    }

    /// The token as text, for the one place that sends it.
    pub fn expose_secret(&self) -> &str {
        self.0.text.expose_secret()
    }

    /// What the token says of itself, **not verified**: good for planning (when does it expire?), never for deciding who
    /// someone is. `None` if it is not a JWT. To trust a token, verify it with `TokenVerifier` (feature `verify`).
    ///
    /// Each claim is read by itself: one of an unexpected type is left out, and the others are kept.
    ///
    /// ```
    /// # use cognito_identity_pool::OpenIdToken;
    /// let token = OpenIdToken::new("e30.eyJpc3MiOiJodHRwczovL2FjY291bnRzLmdvb2dsZS5jb20ifQ.c2ln")?;
    /// assert_eq!(token.unverified_claims().and_then(|claims| claims.iss.as_deref()), Some("https://accounts.google.com"));
    /// # Ok::<(), cognito_identity_pool::Error>(())
    /// ```
    pub fn unverified_claims(&self) -> Option<&TokenClaims> {
        let claims = self.0.claims.get_or_init(|| TokenClaims::read(self.expose_secret()));
        claims.as_ref()
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
        "it contains white space"
    } else {
        return Ok(());
    };
    Err(
        Error::new(ErrorKind::Configuration, format!("not a valid login token: {problem}"))
            .with_hint("pass the token exactly as the sign-in returned it, without quotes, prefix or line break"),
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
/// In a Cognito token `sub` is the identity id and `aud` the identity pool id. A claim that is absent, or of a type that it
/// cannot be read from, is `None`, or left out of a list.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TokenClaims {
    /// Who the token is about. For a Cognito token the identity id. A number is read as its digits.
    pub sub: Option<String>,
    /// Whom the token is for; the first one if it is a list. For a Cognito token the identity pool id.
    pub aud: Option<String>,
    /// Who issued the token: a URL.
    pub iss: Option<String>,
    /// When it expires, in seconds since 1970-01-01 UTC. A number in a string is read as a number.
    pub exp: Option<i64>,
    /// When it was issued, in seconds since 1970-01-01 UTC. A number in a string is read as a number.
    pub iat: Option<i64>,
    /// How the user was authenticated. An entry that is an object counts by its `method`, as some issuers write it.
    pub amr: Vec<String>,
}

impl TokenClaims {
    /// The claims of `token`, if it is a JWT.
    pub(crate) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let payload = payload.trim_end_matches('=');
        let payload = Zeroizing::new(base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).ok()?);
        let mut json = serde_json::Deserializer::from_slice(&payload);
        let claims = json.deserialize_map(ClaimsVisitor).ok()?;
        json.end().ok().map(|()| claims)
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

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum ClaimName {
    Sub,
    Aud,
    Iss,
    Exp,
    Iat,
    Amr,
    #[serde(other)]
    Other,
}

/// Reads the claims one by one, so that what is left out costs nothing. Of a claim that occurs twice the last one counts.
struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = TokenClaims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims of a token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TokenClaims, A::Error> {
        let mut claims = TokenClaims::default();
        while let Some(name) = map.next_key()? {
            match name {
                ClaimName::Sub => claims.sub = text(map.next_value()?),
                ClaimName::Aud => claims.aud = list(map.next_value()?).into_iter().next(),
                ClaimName::Iss => claims.iss = text(map.next_value()?),
                ClaimName::Exp => claims.exp = seconds(&map.next_value()?),
                ClaimName::Iat => claims.iat = seconds(&map.next_value()?),
                ClaimName::Amr => claims.amr = list(map.next_value()?),
                ClaimName::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(claims)
    }
}

fn text(claim: Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The texts of a list, or the one text that stands in place of a list.
fn list(claim: Value) -> Vec<String> {
    let entry = |entry| match entry {
        Value::Object(mut members) => text(members.remove("method")?),
        entry => text(entry),
    };
    match claim {
        Value::Array(entries) => entries.into_iter().filter_map(entry).collect(),
        one => entry(one).into_iter().collect(),
    }
}

/// Some issuers write their times as floating-point numbers, some as strings.
fn seconds(claim: &Value) -> Option<i64> {
    let seconds = match claim {
        Value::Number(number) => number.as_f64()?,
        Value::String(digits) => digits.trim().parse().ok()?,
        _ => return None,
    };
    (seconds.is_finite() && seconds.abs() < 9e15).then_some(seconds as i64)
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
                format!("a token duration of {seconds} s: it must be 1 s to 86400 s (24 hours)"),
            )
            .with_hint("the default of 900 s is enough: the token only has to live until it is exchanged for credentials, and those live for an hour whatever its duration")),
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

    fn jwt(payload: impl AsRef<[u8]>) -> OpenIdToken {
        OpenIdToken::new(format!(
            "e30.{}.c2ln",
            base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload.as_ref())
        ))
        .unwrap()
    }

    #[test]
    fn claims_are_read_from_any_jwt_and_from_nothing_else() {
        let token = jwt(
            r#"{"sub":"us-east-1:a","aud":["p","q"],"iss":"https://cognito-identity.amazonaws.com","exp":1569527701.0,"iat":1}"#,
        );
        let claims = token.unverified_claims().unwrap();
        assert_eq!(claims.aud.as_deref(), Some("p"));
        assert_eq!(claims.exp, Some(1_569_527_701));
        assert_eq!(claims.cognito_issuer_host(), Some("cognito-identity.amazonaws.com"));
        assert_eq!(
            claims.expires_at().unwrap(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_569_527_701)
        );
        for opaque in [
            "opaque",
            "a.b",
            "a.b.c.d",
            "e30.!!!.c",
            "e30.e30",
            "e30.W10.c",
            "e30.bm8.c",
        ] {
            assert!(
                OpenIdToken::new(opaque).unwrap().unverified_claims().is_none(),
                "{opaque}"
            );
        }
    }

    #[test]
    fn one_claim_of_another_type_leaves_the_others_as_they_are() {
        const GOOD: &str = r#""iss":"https://issuer.example","aud":"app","exp":1684409511"#;
        for (odd, amr) in [
            (r#""amr":"simulator""#, vec!["simulator"]),
            (
                r#""amr":[{"method":"password","timestamp":1},"mfa",7,null]"#,
                vec!["password", "mfa", "7"],
            ),
            (r#""amr":{"method":"otp"}"#, vec!["otp"]),
            (r#""amr":null"#, vec![]),
            (r#""amr":{}"#, vec![]),
            (r#""iat":{"seconds":1}"#, vec![]),
            (r#""sub":["x"]"#, vec![]),
            (r#""sub":"twice","iat":7,"sub":["x"],"iat":null"#, vec![]),
            (r#""nbf":"soon","azp":[[]]"#, vec![]),
        ] {
            let token = jwt(format!("{{{GOOD},{odd}}}"));
            let claims = token.unverified_claims().expect("it is a JWT");
            assert_eq!(claims.amr, amr, "{odd}");
            assert_eq!(
                (claims.iss.as_deref(), claims.aud.as_deref(), claims.exp),
                (Some("https://issuer.example"), Some("app"), Some(1_684_409_511)),
                "{odd}"
            );
            assert_eq!((claims.sub.as_deref(), claims.iat), (None, None), "{odd}");
        }
    }

    #[test]
    fn a_claim_that_nobody_reads_need_not_even_be_text() {
        let token = jwt(b"{\"name\":\"\xff\",\"sub\":\"a\"}");
        let claims = token.unverified_claims().expect("it is a JWT");
        assert_eq!(claims.sub.as_deref(), Some("a"));
    }

    #[test]
    fn numbers_in_strings_are_numbers_and_a_numeric_subject_is_its_digits() {
        let token = jwt(r#"{"sub":9007199254740993,"exp":"1684409511","iat":" 1684405911.5 ","aud":[1,"b"]}"#);
        let claims = token.unverified_claims().unwrap();
        assert_eq!(claims.sub.as_deref(), Some("9007199254740993"));
        assert_eq!((claims.exp, claims.iat), (Some(1_684_409_511), Some(1_684_405_911)));
        assert_eq!(claims.aud.as_deref(), Some("1"));
        for odd in ["true", "\"tomorrow\"", "\"\"", "[1684409511]", "\"NaN\"", "\"1e999\""] {
            let token = jwt(format!(r#"{{"exp":{odd},"sub":"a"}}"#));
            let claims = token.unverified_claims().unwrap();
            assert_eq!((claims.exp, claims.sub.as_deref()), (None, Some("a")), "{odd}");
        }
    }

    #[test]
    fn the_claims_are_read_once_for_all_clones() {
        let token = jwt(r#"{"sub":"a"}"#);
        let clone = token.clone();
        let read = token.unverified_claims().unwrap();
        assert!(std::ptr::eq(read, clone.unverified_claims().unwrap()));
    }

    #[test]
    fn a_token_that_never_expires_or_expired_before_1970_does_not_panic() {
        for exp in ["-1", "1e300", "9223372036854775807", "0"] {
            let token = jwt(format!(r#"{{"exp":{exp}}}"#));
            let claims = token.unverified_claims().unwrap();
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
            let token = jwt(format!(r#"{{"iss":"{iss}"}}"#));
            let claims = token.unverified_claims().unwrap();
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
