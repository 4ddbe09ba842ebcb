//! The logins map of the public providers, and who supplies it.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::error::{BackendError, Error, ErrorKind};
use crate::ids::{IdentityId, Partition, is_issuer_host};
use crate::token::{OpenIdToken, RefreshReason};

/// What the service takes at most (`LoginsMap` in the API reference).
const MAX_LOGINS: usize = 10;
/// `IdentityProviderName` in the API reference.
const MAX_PROVIDER_NAME: usize = 128;

/// The tokens of public providers that Cognito is shown as proof of who the user is: provider name -> token.
///
/// At most 10 entries. `Debug` shows the provider names only. A Cognito token cannot be put in: that one comes from a
/// [`DeveloperIdentityProvider`](crate::DeveloperIdentityProvider), and the crate files it under the right key itself.
///
/// ```
/// # use cognito_identity_pool::Logins;
/// # let (id_token, facebook_token) = ("eyJhbGciOiJub25lIn0.e30.c2ln", "EAAB");
/// let logins = Logins::new().google(id_token)?.facebook(facebook_token)?;
/// assert_eq!(logins.providers().collect::<Vec<_>>(), ["accounts.google.com", "graph.facebook.com"]);
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Logins {
    tokens: BTreeMap<String, OpenIdToken>,
}

impl Logins {
    /// Sign in with Apple.
    pub const APPLE: &'static str = "appleid.apple.com";
    /// Login with Amazon.
    pub const AMAZON: &'static str = "www.amazon.com";
    /// Facebook.
    pub const FACEBOOK: &'static str = "graph.facebook.com";
    /// Google Sign-In.
    pub const GOOGLE: &'static str = "accounts.google.com";

    /// A map without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the token of `provider`: the name under which the identity pool knows it (for an OpenID Connect provider its
    /// host and path without `https://`, for SAML its ARN). A second token of the same provider replaces the first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] for what the service would refuse: an empty token, more than 10 providers, a Cognito
    /// token, a provider name that no pool can have.
    pub fn with(mut self, provider: impl Into<String>, token: impl Into<String>) -> Result<Self, Error> {
        let provider = provider.into();
        let token = OpenIdToken::new(token).map_err(|error| {
            Error::new(ErrorKind::Configuration, format!("{provider}: {error}"))
                .with_hint(error.hint().unwrap_or_default())
        })?;
        check_provider(&provider, &token)?;
        self.tokens.insert(provider, token);
        if self.tokens.len() > MAX_LOGINS {
            return Err(refused(
                "more than 10 logins at once",
                "Cognito accepts at most 10 entries in a logins map",
            ));
        }
        Ok(self)
    }

    /// The identity token of Sign in with Apple.
    ///
    /// # Errors
    ///
    /// As [`Logins::with`].
    pub fn apple(self, identity_token: impl Into<String>) -> Result<Self, Error> {
        self.with(Self::APPLE, identity_token)
    }

    /// The access token of Login with Amazon.
    ///
    /// # Errors
    ///
    /// As [`Logins::with`].
    pub fn amazon(self, access_token: impl Into<String>) -> Result<Self, Error> {
        self.with(Self::AMAZON, access_token)
    }

    /// The access token of a Facebook login.
    ///
    /// # Errors
    ///
    /// As [`Logins::with`].
    pub fn facebook(self, access_token: impl Into<String>) -> Result<Self, Error> {
        self.with(Self::FACEBOOK, access_token)
    }

    /// The ID token of a Google login.
    ///
    /// # Errors
    ///
    /// As [`Logins::with`].
    pub fn google(self, id_token: impl Into<String>) -> Result<Self, Error> {
        self.with(Self::GOOGLE, id_token)
    }

    /// The ID token (not the access token) of a user in a Cognito user pool, e.g. `us-east-1_AbCdEfGhI`.
    ///
    /// # Errors
    ///
    /// As [`Logins::with`], and for what is not the id of a user pool.
    pub fn user_pool(self, user_pool_id: &str, id_token: impl Into<String>) -> Result<Self, Error> {
        let Some((region, _)) = user_pool_id
            .split_once('_')
            .filter(|(region, rest)| !region.is_empty() && !rest.is_empty())
        else {
            return Err(refused(
                format!("`{user_pool_id}` is not the id of a user pool"),
                "it looks like us-east-1_AbCdEfGhI",
            ));
        };
        let suffix = Partition::of(region).dns_suffix;
        self.with(format!("cognito-idp.{region}.{suffix}/{user_pool_id}"), id_token)
    }

    /// The ID token of an OpenID Connect provider that the pool has, by its issuer URL (with or without `https://`).
    ///
    /// # Errors
    ///
    /// As [`Logins::with`].
    pub fn open_id_connect(self, issuer: &str, id_token: impl Into<String>) -> Result<Self, Error> {
        self.with(
            issuer.strip_prefix("https://").unwrap_or(issuer).trim_end_matches('/'),
            id_token,
        )
    }

    /// The assertion of a SAML provider, by the provider's ARN in IAM.
    ///
    /// # Errors
    ///
    /// As [`Logins::with`], and for what is not an ARN.
    pub fn saml(self, provider_arn: &str, assertion: impl Into<String>) -> Result<Self, Error> {
        if !provider_arn.starts_with("arn:") {
            return Err(refused(
                format!("`{provider_arn}` is not the ARN of a SAML provider"),
                "it looks like arn:aws:iam::123456789012:saml-provider/name",
            ));
        }
        self.with(provider_arn, assertion)
    }

    /// The names of the providers, in alphabetical order.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }

    /// The token of `provider`, in clear.
    pub fn expose_secret(&self, provider: &str) -> Option<&str> {
        self.token(provider).map(OpenIdToken::expose_secret)
    }

    /// The token of `provider`.
    pub fn token(&self, provider: &str) -> Option<&OpenIdToken> {
        self.tokens.get(provider)
    }

    /// Whether it holds the same tokens.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let same = |((provider, token), (theirs, other)): ((&String, &OpenIdToken), (&String, &OpenIdToken))| {
            provider == theirs && token.expose_secret() == other.expose_secret()
        };
        self.tokens.len() == other.tokens.len() && self.tokens.iter().zip(&other.tokens).all(same)
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// When the first of the tokens expires, as far as they say so themselves. Not verified.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.tokens
            .values()
            .filter_map(|token| token.unverified_claims()?.expires_at())
            .min()
    }

    /// The entries, in the alphabetical order of their providers.
    ///
    /// ```
    /// # use cognito_identity_pool::Logins;
    /// let logins = Logins::new().facebook("EAAB")?.google("eyJh.e30.c2ln")?;
    /// for (provider, token) in &logins {
    ///     println!("{provider}: expires {:?}", token.unverified_claims().and_then(|claims| claims.expires_at()));
    /// }
    /// # assert_eq!(logins.iter().len(), 2);
    /// # Ok::<(), cognito_identity_pool::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.tokens.iter())
    }
}

impl<'a> IntoIterator for &'a Logins {
    type Item = (&'a str, &'a OpenIdToken);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The entries of a [`Logins`] map: see [`Logins::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a>(btree_map::Iter<'a, String, OpenIdToken>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a OpenIdToken);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(provider, token)| (provider.as_str(), token))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

fn refused(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message).with_hint(hint)
}

fn check_provider(provider: &str, token: &OpenIdToken) -> Result<(), Error> {
    if provider.is_empty() || provider.len() > MAX_PROVIDER_NAME || provider.contains(char::is_whitespace) {
        return Err(refused(
            "not a valid provider name: it must have 1 to 128 characters and no white space",
            "pass the provider's name as the identity pool has it, e.g. Logins::GOOGLE",
        ));
    }
    if let Some(host) = provider.strip_prefix("https://") {
        return Err(refused(
            format!("`{provider}` is a URL"),
            format!("the name of the provider is `{host}`"),
        ));
    }
    if is_issuer_host(provider)
        || token
            .unverified_claims()
            .is_some_and(|claims| claims.cognito_issuer_host().is_some())
    {
        return Err(refused(
            format!("{provider}: a Cognito token cannot be an external login"),
            "the token that your backend vends is for Login::developer",
        ));
    }
    Ok(())
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.tokens.keys()).finish()
    }
}

/// Supplies the logins map of a user who is signed in with public providers, afresh whenever it is needed.
///
/// It is asked for the whole map, once per attempt, never under a lock, and may be asked from a background task. Closures
/// are providers through [`logins_fn`]; a [`Logins`] value is one that always answers itself.
///
/// ```
/// # use cognito_identity_pool::{logins::LoginsProvider, token::RefreshReason, BackendError, Logins, async_trait};
/// # #[derive(Clone)] struct GoogleSession;
/// # impl GoogleSession { async fn id_token(&self, force: bool) -> std::io::Result<String> { Ok("token".into()) } }
/// struct Google(GoogleSession);
///
/// #[async_trait]
/// impl LoginsProvider for Google {
///     async fn logins(&self, reason: RefreshReason) -> Result<Logins, BackendError> {
///         let id_token = self.0.id_token(reason == RefreshReason::TokenRejected).await?;
///         Ok(Logins::new().google(id_token)?)
///     }
/// }
/// ```
#[async_trait]
pub trait LoginsProvider: Send + Sync {
    /// The tokens of all providers that the user is signed in with.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: transient, terminal, or signed out. An empty map counts as signed out: a user never becomes a
    /// guest by accident.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the session ends.
    async fn logins(&self, reason: RefreshReason) -> Result<Logins, BackendError>;

    /// Of no use outside of the crate.
    #[doc(hidden)]
    fn key(&self) -> ProviderKey {
        ProviderKey::default()
    }
}

#[async_trait]
impl LoginsProvider for Logins {
    async fn logins(&self, _: RefreshReason) -> Result<Self, BackendError> {
        Ok(self.clone())
    }

    fn key(&self) -> ProviderKey {
        ProviderKey(Key::Logins(self.clone()))
    }
}

#[async_trait]
impl<T: LoginsProvider + ?Sized> LoginsProvider for Arc<T> {
    async fn logins(&self, reason: RefreshReason) -> Result<Logins, BackendError> {
        (**self).logins(reason).await
    }

    fn key(&self) -> ProviderKey {
        (**self).key().or_pointer(self)
    }
}

#[async_trait]
impl<T: LoginsProvider + ?Sized> LoginsProvider for Box<T> {
    async fn logins(&self, reason: RefreshReason) -> Result<Logins, BackendError> {
        (**self).logins(reason).await
    }

    fn key(&self) -> ProviderKey {
        (**self).key()
    }
}

/// By what two providers are known to be about the same person, see [`Login::decided_by`](crate::Login::decided_by).
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
pub struct ProviderKey(pub(crate) Key);

#[derive(Debug, Clone, Default)]
pub(crate) enum Key {
    /// It cannot be told.
    #[default]
    None,
    /// Behind an `Arc`: the same one is about the same person.
    Pointer {
        address: usize,
        /// The app keeps it, so that another answer may be this one again.
        kept: bool,
    },
    /// Tokens that do not change.
    Logins(Logins),
    /// An identity and its token that do not change.
    Identity(IdentityId, OpenIdToken),
}

impl ProviderKey {
    pub(crate) fn or_pointer<T: ?Sized>(self, pointer: &Arc<T>) -> Self {
        match self.0 {
            Key::None => Self(Key::Pointer {
                address: Arc::as_ptr(pointer).cast::<()>().addr(),
                kept: Arc::strong_count(pointer) > 1,
            }),
            _ => self,
        }
    }
}

/// A [`LoginsProvider`] from an async closure.
///
/// ```
/// # use cognito_identity_pool::{logins::logins_fn, Login, Logins};
/// # async fn google_id_token() -> std::io::Result<String> { Ok("token".into()) }
/// let login = Login::external(logins_fn(async |_reason| Ok(Logins::new().google(google_id_token().await?)?)));
/// ```
pub fn logins_fn<F, Fut>(ask: F) -> impl LoginsProvider
where
    F: Fn(RefreshReason) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Logins, BackendError>> + Send,
{
    struct FromFn<F>(F);

    #[async_trait]
    impl<F, Fut> LoginsProvider for FromFn<F>
    where
        F: Fn(RefreshReason) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Logins, BackendError>> + Send,
    {
        async fn logins(&self, reason: RefreshReason) -> Result<Logins, BackendError> {
            (self.0)(reason).await
        }
    }

    FromFn(ask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cognito_token_is_no_external_login_under_any_name() {
        let payload =
            base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"iss":"https://cognito-identity.amazonaws.com"}"#);
        let token = format!("e30.{payload}.c2ln");
        for provider in ["accounts.google.com", "login.mycompany.myapp"] {
            let error = Logins::new().with(provider, &*token).unwrap_err();
            assert!(error.hint().unwrap().contains("Login::developer"));
        }
        assert!(Logins::new().with("cognito-identity.amazonaws.com", "opaque").is_err());
    }

    #[test]
    fn what_the_service_would_refuse_is_refused_here() {
        let full = (0..10)
            .try_fold(Logins::new(), |logins, n| logins.with(format!("idp{n}.example"), "t"))
            .unwrap();
        assert_eq!(full.len(), 10);
        assert!(full.clone().with("idp0.example", "again").is_ok());
        assert!(
            full.with("one.more.example", "t")
                .unwrap_err()
                .to_string()
                .contains("10")
        );
        for provider in ["", "with space", "https://accounts.google.com", &"x".repeat(129)] {
            assert!(Logins::new().with(provider, "t").is_err(), "{provider}");
        }
        for token in ["", "  ", "a b", "a\n"] {
            assert!(
                Logins::new()
                    .google(token)
                    .unwrap_err()
                    .to_string()
                    .contains("accounts.google.com")
            );
        }
    }

    #[test]
    fn providers_go_by_the_names_that_pools_know() {
        let logins = Logins::new()
            .user_pool("us-east-1_AbCdEfGhI", "t")
            .and_then(|l| l.user_pool("cn-north-1_AbCdEfGhI", "t"))
            .and_then(|l| l.user_pool("eusc-de-east-1_AbCdEfGhI", "t"))
            .and_then(|l| l.open_id_connect("https://login.example.com/", "t"))
            .and_then(|l| l.saml("arn:aws:iam::123456789012:saml-provider/x", "t"))
            .unwrap();
        assert_eq!(
            logins.providers().collect::<Vec<_>>(),
            [
                "arn:aws:iam::123456789012:saml-provider/x",
                "cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_AbCdEfGhI",
                "cognito-idp.eusc-de-east-1.amazonaws.eu/eusc-de-east-1_AbCdEfGhI",
                "cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI",
                "login.example.com",
            ]
        );
        assert!(Logins::new().user_pool("my-pool", "t").is_err());
        assert!(Logins::new().saml("my-provider", "t").is_err());
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", Logins::new().google("canary-token").unwrap()).contains("canary"));
    }

    #[test]
    fn the_map_expires_with_its_first_token() {
        let jwt = |exp: u64| {
            format!(
                "e30.{}.c2ln",
                base64_simd::URL_SAFE_NO_PAD.encode_to_string(format!(r#"{{"exp":{exp}}}"#))
            )
        };
        let logins = Logins::new()
            .google(jwt(200))
            .unwrap()
            .apple(jwt(100))
            .unwrap()
            .facebook("opaque")
            .unwrap();
        assert_eq!(
            logins.expires_at(),
            SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(100))
        );
    }
}
