//! [`Error`]: what went wrong, what it means and what may be done about it.

mod backend;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;

#[cfg(any(feature = "http-backend", feature = "refresh-token"))]
pub(crate) use backend::public_text;
pub use backend::{BackendError, BackendErrorKind};

/// Why an operation of this crate failed.
///
/// Cheap to clone: one failure reaches all who waited for it. It never holds a token, a secret key or a session token,
/// nor a response body, so it may be logged as it is.
///
/// An AWS SDK client wraps it ("dispatch failure"); [`Error::find`] digs it out again:
///
/// ```
/// # use cognito_identity_pool::Error;
/// # fn example(sdk_error: &(dyn std::error::Error + 'static)) {
/// match Error::find(sdk_error) {
///     Some(error) if error.needs_sign_in() => println!("please sign in again"),
///     Some(error) => println!("{error} ({})", error.hint().unwrap_or("no hint")),
///     None => println!("not about credentials"),
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    retryable: bool,
    needs_sign_in: bool,
    causes: Vec<Cause>,
    source: Option<Arc<Texts>>,
}

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is wrong or missing, here or on the identity pool. Trying again does not help.
    Configuration,
    /// Nobody is signed in, or the backend says that the user has to sign in again.
    SignedOut,
    /// The session that this handle or operation belongs to has ended: another login took its place.
    SessionEnded,
    /// An answer is for another identity than the session's. Nothing was signed with it.
    IdentityChanged,
    /// Cognito, STS or IAM refused the login, the identity or the role.
    NotAuthorized,
    /// The identity does not exist, or no longer exists.
    IdentityNotFound,
    /// The developer user is registered under another identity (`DeveloperUserAlreadyRegisteredException`).
    UserAlreadyRegistered,
    /// The login is linked to another identity, or the two do not belong together (`ResourceConflictException`).
    Conflict,
    /// The user is denied ([`TokenVendor::deny`](crate::TokenVendor::deny)), or being forgotten.
    Denied,
    /// A [`GuestClaim`](crate::server::GuestClaim) is forged, expired, used before, or for another guest or client.
    ClaimRefused,
    /// A bearer token does not verify: forged, expired, of another pool or provider ([`Error::causes`] says which).
    InvalidToken,
    /// A quota is exhausted: the account's request rate, or the local limit that keeps below it.
    Throttled,
    /// The service failed, or a service that it depends on.
    Service,
    /// No answer was received: connection, TLS, DNS, or a broken response.
    Transport,
    /// An answer took too long.
    Timeout,
    /// A success response that lacks something, is malformed, or has expired on arrival.
    InvalidResponse,
    /// The app's own backend, i.e. the [`DeveloperIdentityProvider`](crate::DeveloperIdentityProvider), failed.
    Backend,
    /// The identity store failed, or the store that the instances of a backend share.
    Store,
    /// The app's hook, or one of its closures, panicked.
    Panicked,
    /// A hook asked its own provider for credentials, which would wait for itself.
    Reentered,
    /// The async runtime that a load needs is missing or gone.
    Runtime,
}

impl ErrorKind {
    /// Whether a failure of this kind passes by itself, unless the error says otherwise.
    const fn passes(self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::Service
                | Self::Transport
                | Self::Timeout
                | Self::InvalidResponse
                | Self::Backend
                | Self::Store
                | Self::Panicked
                | Self::Runtime
        )
    }
}

/// One possible cause of a refusal, with the evidence for it: see [`Error::causes`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// Which of the known causes.
    pub kind: CauseKind,
    /// What was seen that points to it, and what to do. Holds no secret.
    pub evidence: String,
}

impl Cause {
    pub(crate) fn new(kind: CauseKind, evidence: impl Into<String>) -> Self {
        Self {
            kind,
            evidence: evidence.into(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.evidence)
    }
}

/// The causes that [`Error::causes`] and [`explain`](crate::explain) know. Each has an entry in
/// the [troubleshooting guide](https://docs.rs/cognito-identity-pool/latest/cognito_identity_pool/guide/troubleshooting/).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CauseKind {
    /// The token has expired.
    TokenExpired,
    /// The token's `aud` is another identity pool.
    WrongPool,
    /// The token's `sub` is another identity.
    WrongIdentity,
    /// Identity, pool and client are not all of the same region.
    WrongRegion,
    /// The key in the logins map does not match the token.
    WrongLoginsKey,
    /// The provider is not configured on the pool.
    ProviderNotConfigured,
    /// The pool does not allow guests, or a login is missing.
    GuestsNotAllowed,
    /// The identity has logins and none of them was sent, or it was merged into another one.
    IdentityForbidden,
    /// The identity was deleted.
    IdentityDeleted,
    /// The pool does not exist in this region.
    PoolNotFound,
    /// The pool has no role, or the role's trust policy does not match.
    RoleNotAssumable,
    /// IAM, or a resource control policy, denies the call.
    AccessDenied,
    /// The pool does not allow the classic flow.
    ClassicFlowDisabled,
    /// The local clock is wrong.
    ClockSkew,
    /// The token's signature could not be verified.
    SignatureNotVerified,
    /// The kind of token is wrong, e.g. an access token in place of an ID token.
    WrongTokenKind,
    /// Too many requests.
    Throttled,
    /// No connection to the app's backend was made, or it broke off.
    BackendUnreachable,
    /// The app's backend answered with an HTTP status that means no.
    BackendStatus,
    /// The app's backend answered with something that is not an identity and a token.
    BackendAnswer,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                message: message.into(),
                hint: None,
                code: None,
                request_id: None,
                retry_after: None,
                retryable: kind.passes(),
                needs_sign_in: matches!(kind, ErrorKind::SignedOut),
                causes: Vec::new(),
                source: None,
            }),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        self.with(|inner| inner.hint = Some(hint.into()))
    }

    pub(crate) fn with_code(self, code: impl Into<String>) -> Self {
        self.with(|inner| inner.code = Some(code.into()))
    }

    pub(crate) fn with_request_id(self, request_id: Option<&str>) -> Self {
        self.with(|inner| inner.request_id = request_id.map(str::to_owned))
    }

    pub(crate) fn with_retry_after(self, after: Option<Duration>) -> Self {
        self.with(|inner| inner.retry_after = after)
    }

    pub(crate) fn with_causes(self, causes: Vec<Cause>) -> Self {
        self.with(|inner| inner.causes = causes)
    }

    pub(crate) fn retryable(self, retryable: bool) -> Self {
        self.with(|inner| inner.retryable = retryable)
    }

    pub(crate) fn sign_in_again(self) -> Self {
        self.with(|inner| inner.needs_sign_in = true)
    }

    /// Keeps the texts of `source` and of what stands behind it. The caller vouches that none of them is secret.
    pub(crate) fn caused_by(self, source: &(dyn std::error::Error + 'static)) -> Self {
        self.with(|inner| inner.source = Some(Arc::new(Texts::of(source))))
    }

    pub(crate) fn with_texts(self, source: Option<Arc<Texts>>) -> Self {
        self.with(|inner| inner.source = source)
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// Whether the user has to sign in (again) before anything can succeed.
    pub fn needs_sign_in(&self) -> bool {
        self.inner.needs_sign_in
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The service's error code, e.g. `NotAuthorizedException`, if a service answered.
    pub fn code(&self) -> Option<&str> {
        self.inner.code.as_deref()
    }

    /// The id of the request that was refused, to be told to AWS Support.
    pub fn request_id(&self) -> Option<&str> {
        self.inner.request_id.as_deref()
    }

    /// How long to wait before the next try, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// The possible causes of a refusal, the most likely first, each with its evidence.
    pub fn causes(&self) -> &[Cause] {
        &self.inner.causes
    }

    /// The first error of this crate in `error` and its sources.
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        let mut debug = f.debug_struct("Error");
        debug
            .field("kind", &inner.kind)
            .field("message", &inner.message)
            .field("retryable", &inner.retryable);
        let mut optional = |name, value: Option<&dyn fmt::Debug>| {
            if let Some(value) = value {
                debug.field(name, value);
            }
        };
        optional("hint", inner.hint.as_ref().map(|v| v as _));
        optional("code", inner.code.as_ref().map(|v| v as _));
        optional("request_id", inner.request_id.as_ref().map(|v| v as _));
        optional("retry_after", inner.retry_after.as_ref().map(|v| v as _));
        optional(
            "causes",
            Some(&inner.causes).filter(|causes| !causes.is_empty()).map(|v| v as _),
        );
        optional("source", inner.source.as_ref().map(|v| v as _));
        debug.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_deref().map(|texts| texts as _)
    }
}

/// How the AWS SDK is told. Never `not_loaded`: a chain of providers would go on to the machine's own role, and sign the
/// request of a user who has signed out with it.
impl From<Error> for CredentialsError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Configuration => Self::invalid_configuration(error),
            ErrorKind::InvalidResponse | ErrorKind::Panicked | ErrorKind::Reentered => Self::unhandled(error),
            // `provider_timed_out` could not carry the error, and `Error::find` would find nothing.
            _ => Self::provider_error(error),
        }
    }
}

/// The texts of an error and its sources, without the errors: those may hold a response body.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    text: String,
    source: Option<Box<Self>>,
}

impl Texts {
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            text: error.to_string(),
            source: error.source().map(|source| Box::new(Self::of(source))),
        }
    }
}

impl fmt::Display for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Texts {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|texts| texts as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_digs_through_what_the_sdk_wraps_around() {
        let error = Error::new(ErrorKind::SignedOut, "nobody is signed in");
        let wrapped = CredentialsError::from(error);
        assert_eq!(Error::find(&wrapped).unwrap().kind(), ErrorKind::SignedOut);
        assert!(Error::find(&std::io::Error::other("x")).is_none());
    }

    #[test]
    fn no_kind_of_error_lets_a_provider_chain_fall_through() {
        for kind in [
            ErrorKind::SignedOut,
            ErrorKind::SessionEnded,
            ErrorKind::IdentityChanged,
            ErrorKind::Backend,
        ] {
            let error = CredentialsError::from(Error::new(kind, "x"));
            assert!(matches!(error, CredentialsError::ProviderError(_)), "{kind:?}");
        }
        let error = CredentialsError::from(Error::new(ErrorKind::Configuration, "x"));
        assert!(matches!(error, CredentialsError::InvalidConfiguration(_)));
    }

    #[test]
    fn the_source_chain_keeps_the_texts() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error = Error::new(ErrorKind::Backend, "x").caused_by(&Outer(std::io::Error::other("inner")));
        let outer = std::error::Error::source(&error).unwrap();
        assert_eq!(
            (outer.to_string(), outer.source().unwrap().to_string()),
            ("outer".into(), "inner".into())
        );
    }
}
