//! What a vendor is asked, and what it answers.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::{Serialize, Serializer};

use crate::developer::DeveloperIdentity;
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperUserId, IdentityId};
use crate::service::signed::DeveloperToken;
use crate::token::TokenDuration;

/// Session tags that travel in a token and become `aws:PrincipalTag/…` of the user's credentials, e.g. the tenant.
///
/// At most 50, keys of 1..=128 and values of 1..=256 characters (`PrincipalTags` in the API reference), of the characters that
/// STS allows in a session tag, keys distinct when case is ignored, none with the prefix `aws:`. STS packs them into the
/// session and refuses what is too large; above 460 bytes in sum the vendor logs a warning. The role's trust policy must
/// allow `sts:TagSession`.
///
/// Whoever chooses the tags chooses what the user may touch: take them from the server's own facts, never from a request.
///
/// ```
/// # use cognito_identity_pool::server::PrincipalTags;
/// let tags = PrincipalTags::new().with("tenant", "acme")?.with("plan", "basic")?;
/// assert_eq!(tags.iter().collect::<Vec<_>>(), [("plan", "basic"), ("tenant", "acme")]);
/// assert!(tags.with("Tenant", "other").is_err());
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct PrincipalTags {
    // Sorted by key, so that equal sets are equal keys of the cache.
    sorted: Arc<[(String, String)]>,
}

impl PrincipalTags {
    const MAX: usize = 50;
    /// What the developer guide names as the limit of all attributes together.
    const PACKED: usize = 460;

    /// No tags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tag.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] for what the service or STS would refuse, and for a key that is there already.
    pub fn with(self, key: impl Into<String>, value: impl Into<String>) -> Result<Self, Error> {
        let mut tags = self.sorted.to_vec();
        tags.push((key.into(), value.into()));
        Self::checked(tags)
    }

    /// All of `tags` at once.
    ///
    /// # Errors
    ///
    /// As [`PrincipalTags::with`].
    pub fn try_from_iter<K: Into<String>, V: Into<String>>(
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Error> {
        Self::checked(
            tags.into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }

    fn checked(mut tags: Vec<(String, String)>) -> Result<Self, Error> {
        let refused = |message: String| Err(Error::new(ErrorKind::Configuration, message));
        if tags.len() > Self::MAX {
            return refused(format!("{} principal tags: at most 50 are allowed", tags.len()));
        }
        let mut seen = HashSet::new();
        for (key, value) in &tags {
            for (what, text, longest) in [("key", key, 128), ("value", value, 256)] {
                // The service counts UTF-16 units.
                let length = text.encode_utf16().count();
                if !(1..=longest).contains(&length) {
                    return refused(format!(
                        "principal tag `{key}`: its {what} must have 1 to {longest} characters, it has {length}"
                    ));
                }
                if !text.chars().all(is_tag_char) {
                    return refused(format!(
                        "principal tag `{key}`: its {what} may contain only letters, digits, spaces and _ . : / = + - @"
                    ));
                }
            }
            let folded = key.to_lowercase();
            if folded.starts_with("aws:") {
                return refused(format!("principal tag `{key}`: the prefix `aws:` is reserved"));
            }
            if !seen.insert(folded) {
                return refused(format!(
                    "principal tag `{key}`: the key occurs twice (STS ignores case in tag keys)"
                ));
            }
        }
        let packed: usize = tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        if packed > Self::PACKED {
            tracing::warn!(
                bytes = packed,
                "the principal tags have more than 460 bytes together, STS may refuse them"
            );
        }
        tags.sort();
        Ok(Self { sorted: tags.into() })
    }

    /// The tags, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sorted.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.sorted
    }
}

/// The pattern of session tags in the STS reference: `[\p{L}\p{Z}\p{N}_.:/=+\-@]`.
fn is_tag_char(c: char) -> bool {
    c.is_alphabetic() || c.is_numeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

impl fmt::Debug for PrincipalTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What [`TokenVendor::vend_with`](crate::TokenVendor::vend_with) is asked.
///
/// ```
/// # use cognito_identity_pool::{server::{PrincipalTags, VendRequest}, token::TokenDuration, DeveloperUserId};
/// let request = VendRequest::new(DeveloperUserId::new("user-42")?)
///     .token_duration(TokenDuration::from_secs(300)?)
///     .principal_tags(PrincipalTags::new().with("tenant", "acme")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct VendRequest {
    pub(super) user: DeveloperUserId,
    pub(super) duration: Option<TokenDuration>,
    pub(super) tags: PrincipalTags,
    pub(super) expected: Option<IdentityId>,
    pub(super) fresh: bool,
}

impl VendRequest {
    /// A token for `user`, whom the app has authenticated.
    pub fn new(user: DeveloperUserId) -> Self {
        Self {
            user,
            duration: None,
            tags: PrincipalTags::new(),
            expected: None,
            fresh: false,
        }
    }

    /// How long the token lives; the vendor's setting otherwise.
    pub fn token_duration(mut self, duration: TokenDuration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// The session tags of the user's credentials.
    pub fn principal_tags(mut self, tags: PrincipalTags) -> Self {
        self.tags = tags;
        self
    }

    /// The identity that the app has on record for this user. It is not sent; if another comes back,
    /// [`VendedToken::replaces`] says so and a warning is logged.
    pub fn expect_identity(mut self, identity_id: IdentityId) -> Self {
        self.expected = Some(identity_id);
        self
    }

    /// Whether a token from the cache will not do, because Cognito has refused the last one.
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }
}

/// A token that was vended to a user: the identity id, the OpenID token, and when it expires. Cheap to clone.
///
/// `Debug` does not show the token; [`expose`](Self::expose) is the one way to make it text.
#[derive(Debug, Clone)]
pub struct VendedToken {
    inner: Arc<VendedInner>,
    replaces: Option<IdentityId>,
}

#[derive(Debug)]
struct VendedInner {
    identity: DeveloperIdentity,
    expires_at: SystemTime,
    life: Duration,
    request_id: Option<String>,
}

impl VendedToken {
    /// `now` is when the answer came, by the local clock.
    pub(super) fn new(answer: DeveloperToken, asked_for: TokenDuration, now: SystemTime) -> Self {
        // By the server's own clock, which issued it just now.
        let claims = answer.token.unverified_claims();
        let life = claims.and_then(|claims| u64::try_from(claims.exp?.checked_sub(claims.iat?)?).ok());
        let life = Duration::from_secs(
            life.unwrap_or_else(|| asked_for.as_secs())
                .min(TokenDuration::MAX.as_secs()),
        );
        let expires_at = claims
            .and_then(|claims| claims.expires_at())
            .or_else(|| now.checked_add(life));
        Self {
            inner: Arc::new(VendedInner {
                identity: DeveloperIdentity::new(answer.identity_id, answer.token),
                expires_at: expires_at.unwrap_or(now),
                life,
                request_id: answer.request_id,
            }),
            replaces: None,
        }
    }

    /// Notes the identity that was expected, if it is another one.
    pub(super) fn expected(mut self, expected: Option<&IdentityId>) -> Self {
        self.replaces = expected.filter(|id| *id != self.identity_id()).cloned();
        self
    }

    pub(super) fn life(&self) -> Duration {
        self.inner.life
    }

    /// Who the user is to Cognito.
    pub fn identity_id(&self) -> &IdentityId {
        self.inner.identity.identity_id()
    }

    /// Identity id and token, e.g. for a [`DeveloperIdentityProvider`](crate::DeveloperIdentityProvider) in the same process.
    pub fn identity(&self) -> &DeveloperIdentity {
        &self.inner.identity
    }

    /// When the token expires, by Cognito's clock.
    pub fn expires_at(&self) -> SystemTime {
        self.inner.expires_at
    }

    /// The identity that was expected ([`VendRequest::expect_identity`], or the guest that was to be linked), if another one
    /// came back: the old one was merged or deleted, and what the user has stored under it has to be moved.
    pub fn replaces(&self) -> Option<&IdentityId> {
        self.replaces.as_ref()
    }

    /// The id of the request that brought the token, for AWS Support.
    pub fn request_id(&self) -> Option<&str> {
        self.inner.request_id.as_deref()
    }

    /// The JSON form, with the token in clear: for the response to the user whose token it is, and nowhere else. Send it with
    /// `Cache-Control: no-store`.
    ///
    /// ```json
    /// { "identityId": "us-east-1:0b1c2d3e-…", "token": "eyJraWQi…", "expiresAt": 1790000000 }
    /// ```
    ///
    /// `expiresAt` is in seconds since 1970-01-01 UTC. [`DeveloperIdentity`] reads it.
    pub fn expose(&self) -> impl Serialize + use<> {
        struct Exposed(Arc<VendedInner>);

        impl Serialize for Exposed {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                #[derive(Serialize)]
                #[serde(rename_all = "camelCase")]
                struct Wire<'a> {
                    identity_id: &'a IdentityId,
                    token: &'a str,
                    expires_at: u64,
                }
                let VendedInner {
                    identity, expires_at, ..
                } = &*self.0;
                let wire = Wire {
                    identity_id: identity.identity_id(),
                    token: identity.token().expose_secret(),
                    expires_at: expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                };
                wire.serialize(serializer)
            }
        }

        Exposed(Arc::clone(&self.inner))
    }
}

/// AWS credentials that were vended to a user: see [`TokenVendor::vend_credentials`](crate::TokenVendor::vend_credentials).
///
/// `Debug` shows neither secret key nor session token; [`expose`](Self::expose) is the one way to make them text.
#[derive(Debug, Clone)]
pub struct VendedCredentials {
    pub(super) identity_id: IdentityId,
    pub(super) credentials: Credentials,
}

impl VendedCredentials {
    /// Who the user is to Cognito.
    pub fn identity_id(&self) -> &IdentityId {
        &self.identity_id
    }

    /// The credentials, to sign with in this process. They expire by the local clock.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The JSON form, with everything in clear: for the response to the user whose credentials they are, and nowhere else.
    /// Send it with `Cache-Control: no-store`.
    ///
    /// ```json
    /// { "identityId": "us-east-1:0b1c2d3e-…", "accessKeyId": "ASIA…", "secretAccessKey": "…", "sessionToken": "…",
    ///   "expiration": "2026-11-21T01:00:00Z" }
    /// ```
    pub fn expose(&self) -> impl Serialize + use<> {
        struct Exposed(VendedCredentials);

        impl Serialize for Exposed {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                #[derive(Serialize)]
                #[serde(rename_all = "camelCase")]
                struct Wire<'a> {
                    identity_id: &'a IdentityId,
                    access_key_id: &'a str,
                    secret_access_key: &'a str,
                    session_token: Option<&'a str>,
                    expiration: Option<String>,
                }
                let credentials = &self.0.credentials;
                let expiration = credentials.expiry().and_then(|expiry| {
                    let seconds = expiry.duration_since(UNIX_EPOCH).ok()?.as_secs();
                    DateTime::from_secs(i64::try_from(seconds).ok()?)
                        .fmt(Format::DateTime)
                        .ok()
                });
                let wire = Wire {
                    identity_id: &self.0.identity_id,
                    access_key_id: credentials.access_key_id(),
                    secret_access_key: credentials.secret_access_key(),
                    session_token: credentials.session_token(),
                    expiration,
                };
                wire.serialize(serializer)
            }
        }

        Exposed(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::OpenIdToken;

    const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";

    fn vended(token: &str) -> VendedToken {
        let token = OpenIdToken::new(token).unwrap();
        let answer = DeveloperToken {
            identity_id: IdentityId::new(ID).unwrap(),
            token,
            request_id: None,
        };
        VendedToken::new(answer, TokenDuration::DEFAULT, UNIX_EPOCH + Duration::from_secs(5_000))
    }

    #[test]
    fn fifty_tags_and_not_one_more() {
        let tags = |n: usize| PrincipalTags::try_from_iter((0..n).map(|i| (format!("k{i}"), "v")));
        assert!(tags(50).is_ok());
        assert!(tags(51).unwrap_err().to_string().contains("50"));
        assert!(tags(50).unwrap().with("one", "more").is_err());
    }

    #[test]
    fn tag_keys_and_values_have_the_services_lengths_in_utf16_units() {
        let with = |key: usize, value: usize| PrincipalTags::new().with("k".repeat(key), "v".repeat(value));
        assert!(with(128, 256).is_ok());
        for (key, value) in [(0, 1), (129, 1), (1, 0), (1, 257)] {
            assert_eq!(
                with(key, value).unwrap_err().kind(),
                ErrorKind::Configuration,
                "{key} {value}"
            );
        }
        // One character, two units.
        assert!(PrincipalTags::new().with("\u{10400}".repeat(64), "v").is_ok());
        assert!(PrincipalTags::new().with("\u{10400}".repeat(65), "v").is_err());
    }

    #[test]
    fn tags_that_sts_would_refuse_are_refused() {
        for (key, value) in [
            ("a*b", "v"),
            ("a", "v\n"),
            ("a", "{}"),
            ("aws:x", "v"),
            ("AWS:x", "v"),
            ("a", "a,b"),
        ] {
            assert!(PrincipalTags::new().with(key, value).is_err(), "{key}={value}");
        }
        assert!(PrincipalTags::new().with("a/b:c", "Zoë Müller-1 @ x.y=z+1").is_ok());
        assert!(
            PrincipalTags::new()
                .with("tenant", "a")
                .unwrap()
                .with("TENANT", "b")
                .is_err()
        );
    }

    #[test]
    fn tags_in_another_order_are_the_same_tags() {
        let ab = PrincipalTags::try_from_iter([("a", "1"), ("b", "2")]).unwrap();
        let ba = PrincipalTags::try_from_iter([("b", "2"), ("a", "1")]).unwrap();
        assert_eq!(ab, ba);
    }

    #[test]
    fn what_is_exposed_is_read_by_a_developer_identity() {
        let json = serde_json::to_string(&vended("t.t.t").expose()).unwrap();
        assert_eq!(
            json,
            format!(r#"{{"identityId":"{ID}","token":"t.t.t","expiresAt":5900}}"#)
        );
        let read: DeveloperIdentity = serde_json::from_str(&json).unwrap();
        assert_eq!(read.identity_id().as_str(), ID);
    }

    #[test]
    fn what_is_exposed_outlives_the_vended_token() {
        fn handler() -> impl Serialize {
            vended("t.t.t").expose()
        }
        assert!(serde_json::to_string(&handler()).unwrap().contains("t.t.t"));
    }

    #[test]
    fn a_tokens_own_life_comes_before_what_was_asked_for() {
        let payload = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"iat":7000,"exp":7060}"#);
        let vended = vended(&format!("e30.{payload}.c2ln"));
        assert_eq!(vended.life(), Duration::from_secs(60));
        assert_eq!(vended.expires_at(), UNIX_EPOCH + Duration::from_secs(7_060));
        // Nonsense does not become a long life.
        let payload = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"iat":0,"exp":9000000000}"#);
        assert_eq!(
            self::vended(&format!("e30.{payload}.c2ln")).life(),
            Duration::from_secs(86_400)
        );
    }

    #[test]
    fn neither_debug_form_shows_a_secret() {
        assert!(!format!("{:?}", vended("canary.t.t")).contains("canary"));
        let credentials = Credentials::new("ASIA", "canary-key", Some("canary-token".into()), None, "test");
        let vended = VendedCredentials {
            identity_id: IdentityId::new(ID).unwrap(),
            credentials,
        };
        assert!(!format!("{vended:?}").contains("canary"));
        let json = serde_json::to_string(&vended.expose()).unwrap();
        assert!(json.contains(r#""secretAccessKey":"canary-key","sessionToken":"canary-token","expiration":null"#));
    }
}
