//! Every rule that the pool keeps, how well it is known, and the refusal that keeps it. A refusal can be made in no
//! other way, so the fidelity table that is generated from this list cannot drift from the code.

use std::fmt::{self, Display, Write as _};

/// How a rule of [`LocalIdentityPool`](super::LocalIdentityPool) is known to hold for the real service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fidelity {
    /// AWS's documentation or API model says so; no capture of the real service was found.
    Documented,
    /// Seen in a published capture, log or report of the real service.
    Observed,
    /// No source was found; this is the pool's own decision. Never assert on such a text, only on the type.
    Assumed,
}

impl Display for Fidelity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Documented => "documented",
            Self::Observed => "observed",
            Self::Assumed => "assumed",
        })
    }
}

macro_rules! rules {
    (
        refusals { $( $id:ident: $error:literal, $fidelity:ident, $message:literal, $about:literal; )* }
        behaviours { $( $behaviour:ident: $known:ident, $how:literal; )* }
    ) => {
        /// The rules that refuse something.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Rule { $($id),* }

        const ALL: &[Rule] = &[$(Rule::$id),*];

        /// Every refusal, in the order of [`Rule`].
        static REFUSALS: &[FidelityRule] = &[$(FidelityRule {
            id: stringify!($id),
            error: $error,
            message: $message,
            fidelity: Fidelity::$fidelity,
            about: $about,
        }),*];

        /// Rules that refuse nothing: how the pool answers.
        static BEHAVIOURS: &[FidelityRule] = &[$(FidelityRule {
            id: stringify!($behaviour),
            error: "",
            message: "",
            fidelity: Fidelity::$known,
            about: $how,
        }),*];

        /// One row of the fidelity table: a rule that the local pool keeps.
        ///
        /// The table is generated from the list that the pool itself works by.
        ///
        /// # What is refused
        ///
        /// | rule | error | message | known | when |
        /// |---|---|---|---|---|
        $(#[doc = concat!(
            "| ", stringify!($id), " | ", $error, " | <code>", $message, "</code> | ", stringify!($fidelity), " | ", $about, " |"
        )])*
        ///
        /// # How it answers
        ///
        /// | rule | known | what |
        /// |---|---|---|
        $(#[doc = concat!("| ", stringify!($behaviour), " | ", stringify!($known), " | ", $how, " |")])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct FidelityRule {
            /// A short, stable name, also found in [`LocalRequest::rule`](super::LocalRequest::rule).
            pub id: &'static str,
            /// The error type that a caller sees, empty for a rule that refuses nothing.
            pub error: &'static str,
            /// The message, with `{}` where a value stands.
            pub message: &'static str,
            /// How well the rule is known.
            pub fidelity: Fidelity,
            /// When it applies, and what it stands on.
            pub about: &'static str,
        }
    };
}

rules! {
    refusals {
        // Who may ask at all.
        UnknownOperation: "UnknownOperationException", Assumed, "",
            "The X-Amz-Target names no operation of AWSCognitoIdentityService.";
        NotFound: "UnknownError", Observed, "Not Found",
            "A path or method that the service does not have; plain text with status 404.";
        BodyTooLarge: "RequestEntityTooLargeException", Assumed, "Request body is larger than {} bytes",
            "A body above 1 MiB; status 413, and the connection is closed.";
        NotJson: "SerializationException", Assumed, "",
            "The body is not a JSON object.";
        WrongType: "SerializationException", Observed, "Start of {} found where not expected",
            "A list or an object stands where the model has something else.";
        WrongScalar: "SerializationException", Assumed, "{} can not be converted to {}",
            "A string, number or boolean stands where the model has another type.";
        MissingAuthentication: "MissingAuthenticationTokenException", Assumed, "Missing Authentication Token",
            "A signed operation without an Authorization header.";
        IncompleteSignature: "IncompleteSignatureException", Assumed, "Authorization header is malformed: {}",
            "An Authorization header that is no complete AWS4-HMAC-SHA256 header.";
        UnknownAccessKey: "UnrecognizedClientException", Assumed, "The security token included in the request is invalid.",
            "A signed operation, signed with an access key or session token that nobody was given.";
        InvalidSignature: "InvalidSignatureException", Assumed,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
            "The signature is over another request, another scope, or made with another secret key.";
        SignatureTime: "InvalidSignatureException", Assumed, "Signature {}",
            "The signing time is more than five minutes away from the service's clock.";
        SignerExpired: "ExpiredTokenException", Assumed, "The security token included in the request is expired",
            "A signed operation, signed with vended credentials whose hour is over.";
        AccessDenied: "AccessDeniedException", Observed, "User: {} is not authorized to perform: cognito-identity:{} on resource: {}",
            "The signer's policy lacks the operation: vended credentials never have it, developer credentials unless denied by the builder. Class observed, exact text assumed.";
        DeniedByResourcePolicy: "AccessDeniedException", Observed,
            "User: anonymous is not authorized to perform: cognito-identity:{} on resource: * with an explicit deny in a resource control policy",
            "An unsigned operation that the builder's resource control policy denies; the member is spelled `Message`.";
        Constraint: "ValidationException", Observed, "{} validation error{} detected: {}",
            "A member breaks the model's length, pattern or range, or is missing. The message repeats the value, tokens too.";
        Throttled: "TooManyRequestsException", Observed, "Rate exceeded",
            "More requests than the documented quota, if throttling is switched on, or by a fault.";
        Internal: "InternalErrorException", Documented, "{}",
            "A fault of the service (status 500), injected only.";

        // Pools and identities.
        PoolNotFound: "ResourceNotFoundException", Observed, "IdentityPool '{}' not found.",
            "The pool was deleted, never existed, or belongs to another region.";
        IdentityNotFound: "ResourceNotFoundException", Observed, "Identity '{}' not found.",
            "The identity was deleted, never existed, or belongs to another region.";
        DeveloperUserNotFound: "ResourceNotFoundException", Assumed, "Developer user identifier not found.",
            "LookupDeveloperIdentity and MergeDeveloperIdentities for a user that was never seen. H.4 (f).";
        ArnNotFound: "ResourceNotFoundException", Assumed, "Resource '{}' not found.",
            "TagResource, UntagResource or ListTagsForResource for an ARN that is no pool's.";
        PoolLimit: "LimitExceededException", Documented, "Identity pool limit exceeded. Maximum: {}",
            "More than 1000 identity pools in the account. Text assumed.";
        TagLimit: "InvalidParameterException", Assumed, "An identity pool can have at most 50 tags",
            "TagResource above the quota of 50 tags a pool.";
        ConcurrentModification: "ConcurrentModificationException", Documented, "The identity pool is being modified by another request.",
            "Two changes of a pool at the same time; the local pool changes one at a time, so it is injected only. Text assumed.";
        DeveloperProviderFixed: "InvalidParameterException", Assumed, "DeveloperProviderName cannot be changed once set",
            "UpdateIdentityPool with another developer provider name. That it cannot change is documented; the type is assumed.";
        RoleMappingProvider: "InvalidParameterException", Observed,
            "{} is not a valid RoleMapping ProviderName or is not a configured provider.",
            "SetIdentityPoolRoles with a mapping for a provider that the pool does not have.";
        RoleMappingIncomplete: "InvalidParameterException", Assumed, "{}",
            "A role mapping of type Rules without rules, or without AmbiguousRoleResolution; both are documented as required.";
        RoleForbidden: "NotAuthorizedException", Observed, "Access to Role '{}' is forbidden.",
            "SetIdentityPoolRoles with something that is no role ARN of the pool's account.";

        // Logins.
        GuestsNotAllowed: "NotAuthorizedException", Observed, "Unauthenticated access is not supported for this identity pool.",
            "No logins, and the pool does not allow guests.";
        IdentityForbidden: "NotAuthorizedException", Observed, "Access to Identity '{}' is forbidden.",
            "An authenticated identity without logins, or one that was merged away or lost its last login.";
        LoginsDontMatch: "NotAuthorizedException", Observed,
            "Logins don't match. Please include at least one valid login for this identity or identity pool.",
            "The logins belong to another identity or pool. For a Cognito token whose sub is not the identity the text is assumed.";
        PublicProviderOnly: "InvalidParameterException", Observed, "Please provide a valid public provider",
            "A key of the logins map that is no public provider, the developer provider's name among them.";
        UnsupportedProvider: "NotAuthorizedException", Observed, "Token is not from a supported provider of this identity pool.",
            "A token of a public provider that the pool is not configured for, or of another app id (assumed for the app id).";
        CognitoTokenPassed: "NotAuthorizedException", Observed, "Invalid login token. Can't pass in a Cognito token.",
            "A Cognito token in GetId or GetOpenIdToken, or under any key but the issuer's host.";
        NotACognitoToken: "NotAuthorizedException", Observed, "Invalid login token. Not a Cognito token.",
            "Under the Cognito issuer's host stands a token that Cognito did not issue.";
        BadTokenSignature: "NotAuthorizedException", Observed, "Invalid login token. Couldn't verify signed token.",
            "The signature does not hold, or the key is not published.";
        TokenExpired: "NotAuthorizedException", Observed, "Invalid login token. Token expired: {} >= {}",
            "A JWT is past its exp; first the service's time, then the exp. For Cognito's own tokens the text is assumed, H.4 (a).";
        OpaqueTokenExpired: "NotAuthorizedException", Observed, "Invalid login token. Token is expired.",
            "An opaque token (Facebook, Amazon, Twitter) has expired.";
        IssuerMismatch: "NotAuthorizedException", Observed, "Invalid login token. Issuer doesn't match providerName",
            "The key of the logins map is not the token's issuer.";
        MissingClaim: "NotAuthorizedException", Observed, "Invalid login token. Missing a required claim: {}",
            "A token without aud, such as an access token instead of an id token.";
        InvalidToken: "NotAuthorizedException", Assumed, "Invalid login token.",
            "Something that is no token of this provider at all.";
        ExternalService: "ExternalServiceException", Documented, "{} is not responding",
            "A provider that does not answer; injected by LocalIssuer::set_unavailable. Text assumed.";

        // Developer identities.
        UnsupportedDeveloperProvider: "NotAuthorizedException", Observed,
            "This identity pool does not support the specified developer provider",
            "The developer provider's name is not the pool's. Text observed, type assumed: H.4 (c), an option.";
        UnsupportedDeveloperProviderParameter: "InvalidParameterException", Observed,
            "This identity pool does not support the specified developer provider",
            "The same, with the other type of the option H.4 (c).";
        MissingDeveloperProvider: "InvalidParameterException", Assumed, "Please provide a developer provider login",
            "GetOpenIdTokenForDeveloperIdentity with public logins only. H.4 (f).";
        DeveloperUserRegistered: "DeveloperUserAlreadyRegisteredException", Assumed,
            "The provided developer user identifier is already registered with Cognito under a different identity ID.",
            "The user id is linked to another identity than the one asked for. Documented; text assumed, H.4 (b).";
        LookupNeedsOne: "InvalidParameterException", Assumed, "Either IdentityId or DeveloperUserIdentifier must be provided",
            "LookupDeveloperIdentity with neither.";
        InvalidNextToken: "InvalidParameterException", Assumed, "Invalid pagination token",
            "A NextToken that this operation did not hand out.";
        LookupMismatch: "ResourceConflictException", Documented, "The developer user identifier is not linked to this identity.",
            "LookupDeveloperIdentity with a pair that is not linked. Text assumed.";
        NotLinked: "ResourceConflictException", Assumed, "The login is not linked to this identity.",
            "UnlinkDeveloperIdentity or UnlinkIdentity for a login that the identity does not have.";
        LoginConflict: "ResourceConflictException", Documented, "Login is already linked to another identity.",
            "An identity would get a second login of one public provider. Text assumed, H.4 (e).";
        TooManyLogins: "InvalidParameterException", Assumed, "An identity can have at most 20 linked logins",
            "A merge or link above the documented limit of 20. The type is assumed, H.4 (d).";

        // Flows and roles.
        ClassicFlowOff: "InvalidParameterException", Observed, "Basic (classic) flow is not enabled, please use enhanced flow.",
            "GetOpenIdToken with AllowClassicFlow=false.";
        ClassicFlowWithMappings: "InvalidParameterException", Observed,
            "Basic (classic) flow is not supported with RoleMappings, please use enhanced flow.",
            "GetOpenIdToken for a pool with role mappings.";
        PoolConfiguration: "InvalidIdentityPoolConfigurationException", Observed,
            "Invalid identity pool configuration. Check assigned IAM roles for this pool.",
            "The pool has no role, or the role's trust policy refuses the token (aud, amr, principal, sts:TagSession), or its tags are too large.";
        AmbiguousRole: "NotAuthorizedException", Observed, "The ambiguous role mapping rules for: {} denied this request.",
            "No role mapping applies and AmbiguousRoleResolution is Deny.";
        CustomRoleDenied: "NotAuthorizedException", Assumed, "Access to Role '{}' is forbidden.",
            "A CustomRoleArn that the mapping does not allow, or, with a developer token or without a mapping, one that is not the authenticated role: H.4 (g), an option.";

        // STS.
        StsUnknownAction: "InvalidAction", Assumed, "Could not find operation {} for version {}",
            "An Action that this STS does not have.";
        StsConstraint: "ValidationError", Assumed, "{} validation error{} detected: {}",
            "A parameter breaks the model's length, pattern or range.";
        StsMissingAuthentication: "MissingAuthenticationToken", Assumed, "Request is missing Authentication Token",
            "GetCallerIdentity without an Authorization header.";
        StsIncompleteSignature: "IncompleteSignature", Assumed, "Authorization header is malformed: {}",
            "An Authorization header that is no complete AWS4-HMAC-SHA256 header.";
        StsUnknownAccessKey: "InvalidClientTokenId", Assumed, "The security token included in the request is invalid.",
            "An access key or session token that nobody was given.";
        StsInvalidSignature: "SignatureDoesNotMatch", Assumed,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
            "The signature is over another request, another scope, or made with another secret key.";
        StsSignatureTime: "SignatureDoesNotMatch", Assumed, "Signature {}",
            "The signing time is more than five minutes away from the service's clock.";
        StsSignerExpired: "ExpiredToken", Assumed, "The security token included in the request is expired",
            "Vended credentials whose time is over.";
        StsNoJwt: "InvalidIdentityToken", Observed,
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
            "AssumeRoleWithWebIdentity with something that is no JWT.";
        StsNoKey: "InvalidIdentityToken", Observed,
            "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements",
            "A Cognito token whose signature no published key made.";
        StsNoProvider: "InvalidIdentityToken", Observed, "No OpenIDConnect provider found in your account for {}",
            "A token of another issuer than Cognito.";
        StsTokenExpired: "ExpiredTokenException", Observed,
            "Token expired: current date/time {} must be before the expiration date/time{}",
            "The web identity token has expired; there is no space before the second number in the captures.";
        StsAccessDenied: "AccessDenied", Observed, "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            "The role's trust policy refuses the token, or the role belongs to another account; status 403.";
        StsDuration: "ValidationError", Observed, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            "DurationSeconds above the role's maximum.";
        StsPacked: "PackedPolicyTooLarge", Observed, "Packed size of session tags consumes {}% of allotted space.",
            "The session tags are larger than 460 bytes together.";
        StsPolicy: "MalformedPolicyDocument", Documented, "The policy is not in the valid JSON format.",
            "A session policy that is no JSON object. Text assumed.";

        // Faults of the service, injected only.
        ServiceUnavailable: "ServiceUnavailable", Assumed, "Service is unavailable", "Injected only; status 503.";
        IdpRejectedClaim: "IDPRejectedClaim", Documented, "The identity provider rejected the claim",
            "Injected only; status 403. Text assumed.";
        IdpCommunication: "IDPCommunicationError", Documented, "The identity provider did not answer",
            "Injected only. Text assumed.";
        RegionDisabled: "RegionDisabledException", Documented, "STS is not activated in this region",
            "Injected only; status 403. Text assumed.";
    }
    behaviours {
        StickyDeveloperIdentity: Observed,
            "One developer user id always gets the same identity, until it is unlinked or the identity is deleted.";
        FreshGuest: Observed,
            "Every GetId without logins creates a new guest.";
        TokenClaims: Observed,
            "sub, aud, amr, tags, iss, identity-pool-arn, exp, iat, in this order; RS512; kid is the region and a digit.";
        TokenLife: Documented,
            "A developer token lives 900 s unless TokenDuration says otherwise; a token of GetOpenIdToken 600 s (observed).";
        CredentialsHour: Observed,
            "Credentials of the enhanced flow live one hour.";
        SessionName: Observed,
            "The session of the enhanced flow is named CognitoIdentityCredentials, for every user.";
        UnsignedIgnoresAuthorization: Assumed,
            "GetId, GetCredentialsForIdentity, GetOpenIdToken and UnlinkIdentity ignore an Authorization header; the record keeps that one came.";
        CheckOrder: Assumed,
            "Target, JSON, authentication, constraints, throttling, pool or identity, meaning.";
        ErrorForm: Observed,
            "Status 400 for every fault of the caller, 500 for the service's; __type and message in the body, x-amzn-ErrorType and x-amzn-ErrorMessage in the head.";
        ClassicFlowOmitted: Observed,
            "AllowClassicFlow left out is kept as left out, and allows the classic flow.";
        GuestLinked: Observed,
            "A guest that is linked to a login nobody has becomes that user and keeps its id.";
        GuestMerged: Observed,
            "A guest shown with a login of another identity is merged into it: the answer has the owner's id, the guest's is disabled.";
        ImplicitMerge: Assumed,
            "GetOpenIdTokenForDeveloperIdentity for a guest and a user that has another identity is refused (option: merge). H.4 (b).";
        LastLoginRemoved: Documented,
            "An identity whose last login is removed is inaccessible for good, no guest again.";
        DeletedUnknown: Assumed,
            "DeleteIdentities of an unknown id is silently fine; a deleted user gets a new identity the next time.";
        DeveloperRole: Documented,
            "Developer identities get the default authenticated role; role mappings do not apply.";
        UnregisteredRole: Assumed,
            "A role that is not registered with the pool trusts it, with a maximum session of 12 hours. Real roles never trust by default.";
        TokensAfterUnlink: Documented,
            "Credentials stay valid until they expire, whatever becomes of their identity.";
        ClassicExchangeOfDeveloperTokens: Assumed,
            "STS exchanges a developer token even if AllowClassicFlow is false (option: refuse). H.4 (i).";
        ClockGrace: Assumed,
            "No grace after a token's exp, for Cognito's tokens and external ones (option). H.4 (j).";
        IssuerHost: Assumed,
            "iss is cognito-identity.amazonaws.com, in China (observed) and GovCloud (assumed) the regional host (option). H.4 (h).";
        Throttling: Documented,
            "Requests a second over all pools: GetId 25, GetOpenIdToken and GetCredentialsForIdentity 200, GetOpenIdTokenForDeveloperIdentity 50, DeleteIdentities 10, ListIdentities 5, tags 5, 5 and 10; others (assumed) 5. Off unless switched on.";
        Cors: Observed,
            "Any origin may call; x-amzn-RequestId, x-amzn-ErrorType, x-amzn-ErrorMessage and Date are exposed.";
        NotSimulated: Assumed,
            "SAML logins (refused as an unsupported provider), ServerSideTokenCheck, the client ids of IAM OIDC providers, session policies (checked to be JSON, not evaluated), the enhanced flow's scope-down policy for guests, and IAM policies beyond the operations that the builder denies.";
        ListOrder: Assumed,
            "Lists are in the order of creation; LookupDeveloperIdentity answers up to 60 a page.";
    }
}

/// All rules, refusals first.
pub(super) fn all() -> impl Iterator<Item = &'static FidelityRule> {
    REFUSALS.iter().chain(BEHAVIOURS)
}

impl Rule {
    /// The first rule that has this error type.
    pub(super) fn of_error(error: &str) -> Option<Self> {
        ALL.iter().copied().find(|rule| rule.row().error == error)
    }

    fn row(self) -> &'static FidelityRule {
        &REFUSALS[self as usize]
    }

    /// The refusal that keeps this rule, its `{}` filled in order.
    pub(super) fn refuse(self, values: &[&dyn Display]) -> Refusal {
        let mut message = String::new();
        let mut values = values.iter();
        for (index, part) in self.row().message.split("{}").enumerate() {
            if index > 0
                && let Some(value) = values.next()
            {
                // Writing to a String cannot fail.
                let _ = write!(message, "{value}");
            }
            message.push_str(part);
        }
        Refusal {
            rule: self,
            message,
            why: None,
        }
    }
}

/// An answer other than success. It repeats what was sent (so does the service), tokens too, and is therefore never
/// logged.
#[derive(Clone)]
pub(super) struct Refusal {
    pub(super) rule: Rule,
    pub(super) message: String,
    /// What the service does not say: which statement, condition or setting decided. It holds no token.
    pub(super) why: Option<String>,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}

impl From<Rule> for Refusal {
    fn from(rule: Rule) -> Self {
        rule.refuse(&[])
    }
}

impl Refusal {
    /// The same refusal, with its reason in the pool's own words. Never put a token there: it is shown and logged.
    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(super) fn error(&self) -> &'static str {
        self.rule.row().error
    }

    pub(super) fn id(&self) -> &'static str {
        self.rule.row().id
    }

    /// The status of the AWS JSON protocol, where every fault of the caller is 400, and of the query protocol.
    pub(super) fn status(&self) -> u16 {
        match self.rule {
            Rule::NotFound => 404,
            Rule::BodyTooLarge => 413,
            Rule::Internal => 500,
            Rule::ServiceUnavailable => 503,
            Rule::IdpRejectedClaim
            | Rule::RegionDisabled
            | Rule::StsAccessDenied
            | Rule::StsMissingAuthentication
            | Rule::StsUnknownAccessKey
            | Rule::StsInvalidSignature
            | Rule::StsSignatureTime
            | Rule::StsSignerExpired => 403,
            _ => 400,
        }
    }
}
