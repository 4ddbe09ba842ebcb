//! What a service's refusal means and what may be done about it. A table, pure: from the error's type, then its message, then
//! what can be seen locally.

use std::time::SystemTime;

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason,
};
use aws_smithy_types::retry::ErrorKind as RetryKind;

use crate::error::{Error, ErrorKind};
use crate::ids::{IdentityId, IdentityPoolId};
use crate::service::code_of;

/// A refusal, and what may mend it within the same exchange.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) remedy: Remedy,
}

/// What may be tried, once, before a refusal is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing: it is final, or passes by itself.
    None,
    /// A new token for the same identity.
    NewToken,
    /// The identity is gone, merged or somebody else's: ask anew who the user is.
    NewIdentity,
    /// As `NewIdentity`, but only if the identity id came from a store, which may be corrupt.
    NewIdentityIfStored,
}

impl Refused {
    pub(crate) fn map_error(self, change: impl FnOnce(Error) -> Error) -> Self {
        Self {
            error: change(self.error),
            remedy: self.remedy,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            error,
            remedy: Remedy::None,
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// What is known locally about a request that was refused.
pub(crate) struct Facts<'a> {
    pub(crate) logins: Vec<(String, Option<crate::token::TokenClaims>)>,
    pub(crate) identity_id: Option<&'a IdentityId>,
    pub(crate) now: SystemTime,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(logins: Vec<(&str, &str)>, identity_id: Option<&'a IdentityId>, now: SystemTime) -> Self {
        let peek = |(provider, token): (&str, &str)| (provider.to_owned(), crate::token::TokenClaims::peek(token));
        Self {
            logins: logins.into_iter().map(peek).collect(),
            identity_id,
            now,
        }
    }

    pub(crate) fn none(now: SystemTime) -> Self {
        Self {
            logins: Vec::new(),
            identity_id: None,
            now,
        }
    }
}

/// Decides what an error response means. `message` is the service's own; it can echo a token and goes no further.
pub(crate) fn classify(
    operation: &'static str,
    pool: &IdentityPoolId,
    code: Option<&str>,
    message: &str,
    status: u16,
    facts: Facts<'_>,
) -> Refused {
    drop((pool, facts));
    let row = lookup(code, message, status);
    let shown = code.unwrap_or("an error without a type");
    let error = Error::new(row.kind, format!("{operation}: {} ({shown})", row.meaning)).retryable(row.passes);
    let error = if row.hint.is_empty() {
        error
    } else {
        error.with_hint(row.hint)
    };
    let error = if let Some(code) = code {
        error.with_code(code)
    } else {
        error
    };
    Refused {
        error,
        remedy: row.remedy,
    }
}

struct Row {
    kind: ErrorKind,
    remedy: Remedy,
    passes: bool,
    meaning: &'static str,
    hint: &'static str,
}

const fn row(kind: ErrorKind, remedy: Remedy, meaning: &'static str, hint: &'static str) -> Row {
    let passes = matches!(kind, ErrorKind::Throttled | ErrorKind::Service);
    Row {
        kind,
        remedy,
        passes,
        meaning,
        hint,
    }
}

/// The table. Messages are compared by how they begin, as far as they are known to be the service's; another wording falls
/// back on the type.
fn lookup(code: Option<&str>, message: &str, status: u16) -> Row {
    use ErrorKind as K;
    use Remedy as R;
    let starts = |prefix: &str| message.starts_with(prefix);
    match code.unwrap_or_default() {
        "NotAuthorizedException" => {
            if starts("Invalid login token. Token expired") || starts("Invalid login token. Token is expired") {
                row(K::NotAuthorized, R::NewToken, "the login token has expired", "")
            } else if starts("Invalid login token. Couldn't verify signed token") {
                row(
                    K::NotAuthorized,
                    R::NewToken,
                    "the login token's signature could not be verified",
                    "",
                )
            } else if starts("Invalid login token. Not a Cognito token") {
                row(
                    K::NotAuthorized,
                    R::NewToken,
                    "the token is not one that Cognito issued",
                    "a developer login needs the token of GetOpenIdTokenForDeveloperIdentity; the ID token of a user pool belongs into Login::external",
                )
            } else if starts("Invalid login token. Can't pass in a Cognito token") {
                row(
                    K::Configuration,
                    R::None,
                    "a Cognito token was shown where a provider's own is expected",
                    "the token that your backend vends belongs into Login::developer",
                )
            } else if starts("Invalid login token. Issuer doesn't match providerName")
                || starts("Invalid login token. Missing a required claim")
                || starts("Token is not from a supported provider")
            {
                row(
                    K::Configuration,
                    R::None,
                    "the token does not fit the provider that it was shown for",
                    "compare the token's `iss` with the provider name, and the pool's list of providers with both; send the ID token, not the access token",
                )
            } else if starts("Logins don't match") {
                row(
                    K::NotAuthorized,
                    R::NewIdentity,
                    "the login does not belong to this identity",
                    "the identity may be another user's, or the token for another pool",
                )
            } else if starts("Access to Identity") {
                row(
                    K::NotAuthorized,
                    R::NewIdentity,
                    "access to the identity is forbidden",
                    "the identity has logins and none was shown, or it was merged into another identity",
                )
            } else if starts("Unauthenticated access is not supported") {
                row(
                    K::Configuration,
                    R::None,
                    "the pool does not allow guests",
                    "sign in first, or allow guests (AllowUnauthenticatedIdentities) on the pool",
                )
            } else if starts("The ambiguous role mapping rules") {
                row(
                    K::NotAuthorized,
                    R::None,
                    "the pool's role mapping denies the login",
                    "",
                )
            } else if starts("This identity pool does not support the specified developer provider") {
                row(
                    K::Configuration,
                    R::None,
                    "the pool has another developer provider name, or none",
                    "compare it with DeveloperProviderName of the pool",
                )
            } else {
                row(K::NotAuthorized, R::NewIdentity, "the login was refused", "")
            }
        }
        "ResourceNotFoundException" if starts("Identity '") => row(
            K::IdentityNotFound,
            R::NewIdentity,
            "the identity does not exist (any more)",
            "",
        ),
        "ResourceNotFoundException" => row(
            K::Configuration,
            R::None,
            "the identity pool does not exist",
            "check the pool id, and that the region is the pool's",
        ),
        "InvalidParameterException" if starts("Please provide a valid public provider") => row(
            K::Configuration,
            R::None,
            "the name in the logins map is no public provider",
            "the developer provider name is not a key of GetCredentialsForIdentity: use Login::developer",
        ),
        "InvalidParameterException" if starts("Basic (classic) flow is not") => row(
            K::Configuration,
            R::None,
            "the pool does not allow the classic flow",
            "use the enhanced flow, or set AllowClassicFlow on a pool without role mappings",
        ),
        "InvalidParameterException" | "ValidationException" => {
            row(K::Configuration, R::NewIdentityIfStored, "a parameter was refused", "")
        }
        "InvalidIdentityPoolConfigurationException" => row(
            K::Configuration,
            R::None,
            "the pool's role cannot be assumed",
            "check that roles are set on the pool, that their trust policy fits in `aud` and `amr`, and allows sts:TagSession if there are tags; a new role takes a few seconds to be seen",
        ),
        "ResourceConflictException" => row(K::Conflict, R::None, "the login is linked to another identity", ""),
        "DeveloperUserAlreadyRegisteredException" => row(
            K::UserAlreadyRegistered,
            R::None,
            "the user is registered under another identity",
            "",
        ),
        "TooManyRequestsException" | "ThrottlingException" | "Throttling" | "RequestLimitExceeded" => row(
            K::Throttled,
            R::None,
            "too many requests",
            "the quota is the account's, over all pools of the region",
        ),
        "LimitExceededException" => row(
            K::Configuration,
            R::None,
            "a limit of the account is reached",
            "raise the quota, or delete what is no longer needed",
        ),
        "ExternalServiceException" => row(K::Service, R::None, "the login provider did not answer Cognito", ""),
        "ConcurrentModificationException" => row(K::Service, R::None, "the pool is being changed", ""),
        "AccessDeniedException" | "AccessDenied" => row(
            K::NotAuthorized,
            R::None,
            "IAM or a resource control policy denies the call",
            "",
        ),
        "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException" => row(
            K::NotAuthorized,
            R::None,
            "the AWS credentials of the caller were refused",
            "check the credentials that the backend runs with, and its clock",
        ),
        "InternalErrorException" | "InternalFailure" | "ServiceUnavailable" | "ServiceUnavailableException" => {
            row(K::Service, R::None, "the service failed", "")
        }
        _ if status >= 500 => row(K::Service, R::None, "the service failed", ""),
        _ => row(K::NotAuthorized, R::None, "the request was refused", ""),
    }
}

/// Tells the SDK which refusals of this service pass: `ExternalServiceException` and `ConcurrentModificationException`, which it
/// does not retry by itself, and not `LimitExceededException`, which it takes for throttling.
#[derive(Debug)]
pub(crate) struct WhatPasses;

impl ClassifyRetry for WhatPasses {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = context.output_or_error() else {
            return RetryAction::NoActionIndicated;
        };
        match code_of(error) {
            Some("ExternalServiceException" | "ConcurrentModificationException") => {
                RetryAction::RetryIndicated(RetryReason::RetryableError {
                    kind: RetryKind::ServerError,
                    retry_after: None,
                })
            }
            Some("LimitExceededException") => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "Cognito identity refusals"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}
