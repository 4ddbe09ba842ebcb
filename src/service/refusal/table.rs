//! What each refusal means. Rows are tried from the top; messages are compared by how they begin, as far as they are known to be
//! the service's, and another wording falls back on the type.

use Remedy::{NewIdentity, NewIdentityIfStored, NewToken};

use super::{ASSUME_ROLE, Remedy};
use crate::error::{CauseKind, ErrorKind};

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    by: By,
    codes: &'static [&'static str],
    says: Says,
    pub(super) kind: ErrorKind,
    pub(super) remedy: Remedy,
    /// Whether the same request may succeed later.
    pub(super) passes: bool,
    pub(super) meaning: &'static str,
    pub(super) hint: &'static str,
    /// The causes that the refusal points to, the most likely first, each with what there is to say without further evidence.
    pub(super) causes: &'static [(CauseKind, &'static str)],
    /// Whether the message leaves no doubt about the first of the causes.
    pub(super) certain: bool,
}

/// What refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    AnyOperation,
    Only(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy)]
enum Says {
    Anything,
    Starts(&'static str),
    Contains(&'static str),
}

impl Says {
    fn matches(self, message: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Starts(how) => message.starts_with(how),
            Self::Contains(what) => message.contains(what),
        }
    }
}

impl Row {
    const fn new(codes: &'static [&'static str], says: Says, kind: ErrorKind, meaning: &'static str) -> Self {
        Self {
            by: By::AnyOperation,
            codes,
            says,
            kind,
            remedy: Remedy::None,
            passes: matches!(kind, ErrorKind::Throttled | ErrorKind::Service),
            meaning,
            hint: "",
            causes: &[],
            certain: false,
        }
    }

    /// A row for whatever the message is.
    const fn any(codes: &'static [&'static str], kind: ErrorKind, meaning: &'static str) -> Self {
        Self::new(codes, Says::Anything, kind, meaning)
    }

    const fn starts(
        codes: &'static [&'static str],
        message: &'static str,
        kind: ErrorKind,
        meaning: &'static str,
    ) -> Self {
        Self::new(codes, Says::Starts(message), kind, meaning)
    }

    const fn contains(
        codes: &'static [&'static str],
        message: &'static str,
        kind: ErrorKind,
        meaning: &'static str,
    ) -> Self {
        Self::new(codes, Says::Contains(message), kind, meaning)
    }

    const fn of(mut self, operations: &'static [&'static str]) -> Self {
        self.by = By::Only(operations);
        self
    }

    const fn sts(self) -> Self {
        self.of(&[ASSUME_ROLE])
    }

    const fn remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = remedy;
        self
    }

    const fn passes(mut self) -> Self {
        self.passes = true;
        self
    }

    const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }

    /// It is this, and perhaps because of what follows.
    const fn is(mut self, causes: &'static [(CauseKind, &'static str)]) -> Self {
        self.causes = causes;
        self.certain = true;
        self
    }

    /// It may be one of these: local evidence decides which comes first.
    const fn may_be(mut self, causes: &'static [(CauseKind, &'static str)]) -> Self {
        self.causes = causes;
        self
    }
}

/// The row for a refusal.
pub(super) fn lookup(operation: &str, code: Option<&str>, message: &str, status: u16) -> Row {
    let code = code.unwrap_or_default();
    let fits = |row: &&Row| {
        (row.codes.is_empty() || row.codes.contains(&code))
            && match row.by {
                By::AnyOperation => true,
                By::Only(operations) => operations.contains(&operation),
            }
            && row.says.matches(message)
    };
    if let Some(row) = TABLE.iter().find(fits) {
        return *row;
    }
    match status {
        429 => TOO_MANY,
        500.. => FAILED,
        404 if code.is_empty() => Row::any(
            &[],
            ErrorKind::Configuration,
            "the endpoint does not serve identity pools",
        )
        .hint("check the endpoint URL and the region"),
        _ => Row::any(&[], ErrorKind::NotAuthorized, "the request was refused"),
    }
}

const REFUSED: &[&str] = &["NotAuthorizedException"];
const PARAMETER: &[&str] = &["InvalidParameterException"];
const NOT_FOUND: &[&str] = &["ResourceNotFoundException"];
const TOKEN: &[&str] = &["InvalidIdentityToken", "InvalidIdentityTokenException"];

const TOO_MANY: Row = Row::any(
    &[
        "TooManyRequestsException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "SlowDown",
    ],
    ErrorKind::Throttled,
    "too many requests",
)
.hint("the quota is per account and region, shared by all pools")
.is(&[(
    CauseKind::Throttled,
    "the account's quota of requests per second is exhausted; all apps of the account share it",
)]);

const FAILED: Row = Row::any(
    &[
        "InternalErrorException",
        "InternalFailure",
        "InternalServerError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    ],
    ErrorKind::Service,
    "the service failed",
);

const EXCHANGE: &[&str] = &["GetCredentialsForIdentity"];

const CLASSIC_FLOW: &[(CauseKind, &str)] = &[(
    CauseKind::ClassicFlowDisabled,
    "the pool does not allow the classic flow (GetOpenIdToken)",
)];

const CALLER: &str = "check the backend's AWS credentials, and its clock";

#[rustfmt::skip]
static TABLE: &[Row] = {
    use CauseKind as C;
    use ErrorKind as K;
    &[
    TOO_MANY,
    Row::starts(&[], "Rate exceeded", K::Throttled, "too many requests").hint(TOO_MANY.hint).is(TOO_MANY.causes),

    // ---- STS: the classic flow. Its ExpiredTokenException is about the login token; Cognito's is about the caller's credentials ----
    Row::starts(&["ExpiredTokenException", "ExpiredToken"], "Token too old", K::NotAuthorized, "the login token was issued too long ago")
        .sts().remedy(NewToken)
        .is(&[(C::TokenExpired, "the token was issued too long ago, whatever its `exp` says")]),
    Row::any(&["ExpiredTokenException", "ExpiredToken"], K::NotAuthorized, "the login token has expired")
        .sts().remedy(NewToken)
        .is(&[(C::TokenExpired, "STS says that the token has expired")]),
    Row::starts(TOKEN, "Couldn't retrieve verification key", K::Service, "STS could not fetch the key that verifies the token")
        .is(&[(C::SignatureNotVerified, "STS could not fetch the issuer's key; this usually passes")]),
    Row::starts(TOKEN, "Incorrect token audience", K::NotAuthorized, "the token is for another audience")
        .remedy(NewToken)
        .hint("the token's `aud` must be the identity pool")
        .may_be(&[(C::WrongPool, "STS says that the token is for another audience")]),
    Row::starts(TOKEN, "No OpenIDConnect provider found", K::Configuration, "the account does not know the token's issuer")
        .hint("exchange the token that GetOpenIdToken returned, not the provider's own")
        .is(&[(C::ProviderNotConfigured, "IAM has no OpenID Connect provider for the token's issuer")]),
    Row::any(TOKEN, K::NotAuthorized, "STS does not accept the token as an ID token")
        .remedy(NewToken)
        .hint("send the ID token, not the access token")
        .may_be(&[(C::WrongTokenKind, "STS says that it is not a valid JWT; an access token or a text such as `undefined` causes this")]),
    Row::any(&["IDPRejectedClaim", "IDPRejectedClaimException"], K::NotAuthorized, "the identity provider rejected the token")
        .remedy(NewToken)
        .hint("the token may have been revoked"),
    Row::any(&["IDPCommunicationError", "IDPCommunicationErrorException"], K::Service, "the identity provider did not answer STS"),
    Row::any(&["PackedPolicyTooLarge", "PackedPolicyTooLargeException"], K::Configuration, "session policy and tags are too large")
        .hint("shorten the session policy, or send fewer or shorter principal tags"),
    Row::any(&["MalformedPolicyDocument", "MalformedPolicyDocumentException"], K::Configuration, "the session policy is malformed"),
    Row::any(&["RegionDisabledException", "RegionDisabled"], K::Configuration, "STS is not activated in this region")
        .hint("activate STS for the region in the account settings of IAM, or use another region"),
    Row::starts(&["ValidationError"], "The requested DurationSeconds exceeds", K::Configuration, "the duration exceeds the role's maximum")
        .sts().hint("ask for a shorter duration, or raise MaxSessionDuration of the role"),
    Row::any(&["ValidationError"], K::Configuration, "a parameter was refused").sts(),
    Row::any(&["AccessDenied", "AccessDeniedException"], K::NotAuthorized, "the role cannot be assumed with this token")
        .sts()
        .hint("check the role's trust policy: the principal is cognito-identity.amazonaws.com (other partitions have their own), `aud` is the identity pool, `amr` is authenticated or unauthenticated as the login is, and sts:TagSession is allowed if there are tags")
        .is(&[(C::RoleNotAssumable, "the role's trust policy does not match the token, or the role does not exist")]),

    // ---- NotAuthorizedException: the message tells them apart ----
    Row::starts(REFUSED, "Invalid login token. Token expired", K::NotAuthorized, "the login token has expired")
        .remedy(NewToken)
        .is(&[(C::TokenExpired, "Cognito says that the token has expired")]),
    Row::starts(REFUSED, "Invalid login token. Token is expired", K::NotAuthorized, "the login token has expired")
        .remedy(NewToken)
        .is(&[(C::TokenExpired, "Cognito says that the token has expired")]),
    Row::starts(REFUSED, "Invalid login token. Couldn't verify signed token", K::NotAuthorized, "the login token's signature could not be verified")
        .remedy(NewToken)
        .hint("if this does not pass, the token was altered on its way, or issued by another environment")
        .is(&[(C::SignatureNotVerified, "the signature is wrong, or Cognito could not fetch the issuer's keys for the moment")]),
    Row::starts(REFUSED, "Invalid login token. Not a Cognito token", K::NotAuthorized, "Cognito did not issue the token")
        .remedy(NewToken)
        .hint("a developer login needs the token that GetOpenIdTokenForDeveloperIdentity returned; the ID token of a user pool belongs in Login::external")
        .may_be(&[
            (C::WrongTokenKind, "Cognito did not issue the token for an identity pool"),
            (C::TokenExpired, "Cognito has been seen to refuse expired developer tokens in these words"),
        ]),
    Row::starts(REFUSED, "Invalid login token. Can't pass in a Cognito token", K::Configuration, "a Cognito token was sent where a provider's own token is expected")
        .hint("the token that your backend vends belongs in Login::developer")
        .is(&[(C::WrongLoginsKey, "a token that Cognito issued has its issuer's host as key, and is never sent to GetId or GetOpenIdToken")]),
    Row::starts(REFUSED, "Invalid login token. Issuer doesn't match providerName", K::Configuration, "the token does not belong to the provider that is its key")
        .hint("compare the token's `iss` with the provider name")
        .is(&[(C::WrongLoginsKey, "the token's issuer differs from its key in the logins map")]),
    Row::starts(REFUSED, "Invalid login token. Missing a required claim", K::Configuration, "the token lacks a claim")
        .hint("send the ID token, not the access token")
        .is(&[(C::WrongTokenKind, "an ID token has all required claims, an access token does not")]),
    Row::starts(REFUSED, "Invalid login token", K::NotAuthorized, "the login token was refused").remedy(NewToken),
    Row::starts(REFUSED, "Token is not from a supported provider", K::Configuration, "the pool does not know the token's provider")
        .hint("compare the pool's list of providers with the token's `iss` and `aud`")
        .is(&[
            (C::ProviderNotConfigured, "the pool does not list the token's provider, or its app client"),
            (C::WrongPool, "another pool may be the one that lists it"),
        ]),
    Row::starts(&["NotAuthorizedException", "InvalidParameterException"], "This identity pool does not support the specified developer provider", K::Configuration, "the pool has another developer provider name, or does not have one")
        .hint("compare the name with DeveloperProviderName of the pool")
        .is(&[
            (C::ProviderNotConfigured, "the developer provider name is not the pool's"),
            (C::WrongPool, "it may be the name of another pool"),
        ]),
    Row::starts(REFUSED, "Logins don't match", K::NotAuthorized, "the login does not belong to this identity")
        .remedy(NewIdentity)
        .hint("the identity may belong to another user, or the token to another pool; to link another login, send a valid login of the identity along with it")
        .may_be(&[
            (C::WrongIdentity, "the login belongs to another identity, or is not linked to this one"),
            (C::WrongPool, "the login may belong to another pool"),
        ]),
    Row::starts(REFUSED, "Access to Identity", K::NotAuthorized, "access to the identity is forbidden")
        .remedy(NewIdentity)
        .hint("the identity has logins and none was sent, or it was merged into another identity")
        .is(&[(C::IdentityForbidden, "the identity has logins and none was sent, or it was merged into another one and is disabled")]),
    Row::starts(REFUSED, "Access to Role", K::NotAuthorized, "the login may not have the requested role")
        .of(EXCHANGE)
        .hint("custom_role_arn must be a role that the pool's role mapping allows for this login, and whose trust policy matches; without it the pool chooses the role")
        .is(&[(C::AccessDenied, "the login's role mapping does not allow the requested role (CustomRoleArn)")]),
    Row::starts(REFUSED, "Access to Role", K::NotAuthorized, "the role cannot be passed to the pool")
        .hint("the caller needs iam:PassRole for the role; a new role takes a few seconds to become visible")
        .is(&[(C::AccessDenied, "the caller may not pass the role, or the role does not exist yet")]),
    Row::starts(REFUSED, "Unauthenticated access is not supported", K::Configuration, "the pool does not allow guests")
        .hint("sign in first, or allow guests (AllowUnauthenticatedIdentities) on the pool")
        .is(&[(C::GuestsNotAllowed, "no login was sent, and the pool does not allow guests")]),
    Row::starts(REFUSED, "The ambiguous role mapping rules", K::NotAuthorized, "the pool's role mapping denies the login")
        .hint("the pool's AmbiguousRoleResolution is Deny, and no rule matches the login's claims")
        .is(&[(C::RoleNotAssumable, "no rule of the pool's role mapping matches, and AmbiguousRoleResolution is Deny")]),
    Row::any(REFUSED, K::NotAuthorized, "the login was refused").remedy(NewIdentity),

    // ---- what is missing ----
    Row::starts(NOT_FOUND, "Identity '", K::IdentityNotFound, "the identity does not exist, or no longer exists")
        .remedy(NewIdentity)
        .is(&[(C::IdentityDeleted, "the identity was deleted, or never existed in this region")]),
    Row::starts(NOT_FOUND, "IdentityPool '", K::Configuration, "the identity pool does not exist")
        .hint("check the pool id, and that the region is that of the pool")
        .is(&[(C::PoolNotFound, "there is no such pool in the region that was called")]),

    // ---- parameters ----
    Row::starts(PARAMETER, "Please provide a valid public provider", K::Configuration, "a login to link is not of a public provider")
        .of(&["GetOpenIdTokenForDeveloperIdentity", "UnlinkIdentity"])
        .hint("link logins of providers that the pool lists, under the pool's names for them, e.g. Logins::GOOGLE")
        .is(&[(C::WrongLoginsKey, "besides the developer provider only public providers can be keys, e.g. accounts.google.com")]),
    Row::starts(PARAMETER, "Please provide a valid public provider", K::Configuration, "a setting of the pool names a provider that is not public")
        .of(&["CreateIdentityPool", "UpdateIdentityPool"])
        .hint("SupportedLoginProviders takes the names of public providers, e.g. accounts.google.com")
        .is(&[(C::ProviderNotConfigured, "the name is not that of a public provider")]),
    Row::starts(PARAMETER, "Please provide a valid public provider", K::Configuration, "the name in the logins map is no public provider")
        .hint("the developer provider name is not a key of GetCredentialsForIdentity: use Login::developer")
        .is(&[(C::WrongLoginsKey, "a developer provider name is no key of GetId or GetCredentialsForIdentity; the key of a developer's token is its issuer's host")]),
    Row::starts(PARAMETER, "Basic (classic) flow is not enabled", K::Configuration, "the pool does not allow the classic flow")
        .hint("use the enhanced flow, or set AllowClassicFlow on the pool")
        .is(CLASSIC_FLOW),
    Row::starts(PARAMETER, "Basic (classic) flow is not supported with RoleMappings", K::Configuration, "a pool with role mappings does not allow the classic flow")
        .hint("use the enhanced flow, or remove the role mappings")
        .is(CLASSIC_FLOW),
    Row::contains(PARAMETER, "is not a valid RoleMapping ProviderName", K::Configuration, "a role mapping is for a provider that the pool does not have")
        .hint("the key for a user pool is cognito-idp.<region>.amazonaws.com/<user pool id>:<client id>")
        .is(&[(C::ProviderNotConfigured, "the key of the role mapping is not a provider of the pool")]),
    Row::any(PARAMETER, K::Configuration, "a parameter was refused").remedy(NewIdentityIfStored),
    Row::any(&["ValidationException"], K::Configuration, "a parameter was refused").remedy(NewIdentityIfStored),
    Row::any(&["SerializationException"], K::Configuration, "the request could not be read")
        .hint("a value has the wrong type; the values of principal tags must be strings"),
    Row::any(&["UnknownOperationException", "UnknownOperation"], K::Configuration, "the endpoint does not know the operation")
        .hint("an emulator may have answered instead of Cognito"),

    // ---- configuration and quotas ----
    Row::any(&["InvalidIdentityPoolConfigurationException"], K::Configuration, "the pool's role cannot be assumed")
        .hint("check that the pool has roles, that their trust policy matches in `aud` and `amr`, and that it allows sts:TagSession if there are tags; a new role takes a few seconds to become visible")
        .is(&[(C::RoleNotAssumable, "the pool has no role for this login, its trust policy does not match (principal, `aud`, `amr`, sts:TagSession), or the principal tags are too large")]),
    Row::any(&["LimitExceededException"], K::Configuration, "a limit of the account is reached")
        .hint("raise the quota, or delete what is no longer needed"),
    Row::any(&["ResourceConflictException"], K::Conflict, "the login is linked to another identity")
        .hint("let the backend decide whether to merge the two identities"),
    Row::any(&["DeveloperUserAlreadyRegisteredException"], K::UserAlreadyRegistered, "the user is registered under another identity")
        .hint("ask again without an identity id to learn which one; never merge because a client says so"),
    Row::any(&["ConcurrentModificationException"], K::Service, "the pool is being changed"),
    Row::any(&["ExternalServiceException"], K::Service, "the login provider did not answer Cognito"),
    FAILED,

    // ---- IAM, and the credentials that a backend signs with ----
    Row::contains(&["AccessDeniedException", "AccessDenied"], "resource control policy", K::NotAuthorized, "a resource control policy denies the call")
        .hint("the organization's resource control policies apply to unsigned calls, too: their principal is `anonymous`")
        .is(&[(C::AccessDenied, "a resource control policy of the organization denies it")]),
    Row::any(&["AccessDeniedException", "AccessDenied"], K::NotAuthorized, "IAM denies the call")
        .hint("allow the backend's role to perform the action on the ARN of the identity pool")
        .is(&[(C::AccessDenied, "the caller's policy does not allow the action on this identity pool")]),
    Row::starts(&["InvalidSignatureException", "SignatureDoesNotMatch"], "Signature expired", K::NotAuthorized, "the caller's clock is wrong")
        .hint(CALLER)
        .is(&[(C::ClockSkew, "the request was signed with a time in the past of the service's clock")]),
    Row::starts(&["InvalidSignatureException", "SignatureDoesNotMatch"], "Signature not yet current", K::NotAuthorized, "the caller's clock is wrong")
        .hint(CALLER)
        .is(&[(C::ClockSkew, "the request was signed with a time in the future of the service's clock")]),
    // Fresh credentials are fetched by themselves.
    Row::any(&["ExpiredTokenException", "ExpiredToken", "RequestExpired"], K::NotAuthorized, "the AWS credentials of the caller have expired")
        .passes().hint(CALLER)
        .is(&[(C::AccessDenied, "the credentials that signed the request have expired")]),
    Row::any(&["UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignatureException", "IncompleteSignature", "MissingAuthenticationTokenException", "MissingAuthenticationToken"], K::NotAuthorized, "the AWS credentials of the caller were refused")
        .hint(CALLER)
        .is(&[(C::AccessDenied, "the credentials that signed the request were refused")]),
    ]
};

#[cfg(test)]
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter()
}

#[cfg(test)]
impl Row {
    /// An operation, a type and a message that are meant for this row.
    pub(super) fn example(&self) -> (&'static str, Option<&'static str>, String) {
        let operation = match self.by {
            By::Only([operation, ..]) => *operation,
            By::Only([]) | By::AnyOperation => "DescribeIdentityPool",
        };
        let message = match self.says {
            Says::Anything => String::new(),
            Says::Starts(how) => format!("{how} and so on"),
            Says::Contains(what) => format!("it {what} and so on"),
        };
        (operation, self.codes.last().copied(), message)
    }

    /// What tells rows apart.
    pub(super) fn place(&self) -> (&'static [&'static str], &'static [&'static str], &'static str) {
        let says = match self.says {
            Says::Anything => "",
            Says::Starts(says) | Says::Contains(says) => says,
        };
        let by: &[&str] = match self.by {
            By::Only(operations) => operations,
            By::AnyOperation => &[],
        };
        (by, self.codes, says)
    }
}
