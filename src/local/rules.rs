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
    /// The pool is known to differ from the service here, on purpose.
    Deviation,
}

impl Display for Fidelity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Documented => "documented",
            Self::Observed => "observed",
            Self::Assumed => "assumed",
            Self::Deviation => "deviation",
        })
    }
}

macro_rules! rules {
    (
        refusals { $( $id:ident: $error:literal, $fidelity:ident, $message:literal, $about:literal, $source:literal; )* }
        behaviours { $( $behaviour:ident: $known:ident, $how:literal, $stands_on:literal; )* }
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
            source: $source,
        }),*];

        /// Rules that refuse nothing: how the pool answers.
        static BEHAVIOURS: &[FidelityRule] = &[$(FidelityRule {
            id: stringify!($behaviour),
            error: "",
            message: "",
            fidelity: Fidelity::$known,
            about: $how,
            source: $stands_on,
        }),*];

        /// One row of the fidelity table: a rule that the local pool keeps.
        ///
        /// The table is generated from the list that the pool itself works by.
        ///
        /// In a source, `owner/repository#number` is an issue or a pull request on GitHub; the API references and guides
        /// are those on docs.aws.amazon.com.
        ///
        /// # What is refused
        ///
        /// | rule | error | message | known | when | source |
        /// |---|---|---|---|---|---|
        $(#[doc = concat!(
            "| ", stringify!($id), " | ", $error, " | <code>", $message, "</code> | ", stringify!($fidelity), " | ", $about, " | ", $source, " |"
        )])*
        ///
        /// # How it answers
        ///
        /// | rule | known | what | source |
        /// |---|---|---|---|
        $(#[doc = concat!("| ", stringify!($behaviour), " | ", stringify!($known), " | ", $how, " | ", $stands_on, " |")])*
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
            /// When it applies, and how much of it is known.
            pub about: &'static str,
            /// Where it is known from, in public; empty for what is assumed.
            pub source: &'static str,
        }
    };
}

rules! {
    refusals {
        // Who may ask at all.
        UnknownOperation: "UnknownOperationException", Assumed, "",
            "The X-Amz-Target names no operation of AWSCognitoIdentityService. By analogy with another service of the same protocol.",
            "";
        NotFound: "UnknownError", Observed, "Not Found",
            "A path or method that the service does not have; plain text with status 404.",
            "aws/aws-sdk-js#1718";
        BodyTooLarge: "RequestEntityTooLargeException", Assumed, "Request body is larger than {} bytes",
            "A body above 1 MiB; status 413, and the connection is closed.",
            "";
        NotJson: "SerializationException", Assumed, "",
            "The body is empty or not JSON. By analogy with another service of the same protocol.",
            "";
        WrongType: "SerializationException", Observed, "Start of {} found where not expected{}",
            "A list or an object stands where the model has something else; for an object the text ends with a period (by analogy with another service of the same protocol).",
            "aws/aws-sdk-js-v3#2831";
        ExpectedOther: "SerializationException", Assumed, "Expected {}",
            "A string, number or Boolean stands where the model has a list, a map or a structure. By analogy with another service of the same protocol.",
            "";
        WrongScalar: "SerializationException", Assumed, "{} can not be converted to {}",
            "A string, number or Boolean stands where the model has another scalar. By analogy with another service of the same protocol.",
            "";
        MissingAuthentication: "MissingAuthenticationTokenException", Assumed, "Missing Authentication Token",
            "A signed operation without an Authorization header.",
            "";
        IncompleteSignature: "IncompleteSignatureException", Assumed, "Authorization header is malformed: {}",
            "An Authorization header that is not a complete AWS4-HMAC-SHA256 header.",
            "";
        UnknownAccessKey: "UnrecognizedClientException", Observed, "The security token included in the request is invalid.",
            "A signed operation, signed with an access key or session token that nobody was given. The text is known from sibling services.",
            "olegabu/cognito-helper#2";
        InvalidSignature: "InvalidSignatureException", Observed,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
            "The signature is over another request, another scope, or made with another secret key. The text is known from sibling services.",
            "aws/aws-sdk-js-v3#845";
        SignatureTime: "InvalidSignatureException", Assumed, "Signature {}",
            "The signing time is more than five minutes away from the service's clock.",
            "";
        SignerExpired: "ExpiredTokenException", Assumed, "The security token included in the request is expired",
            "A signed operation, signed with vended credentials that have expired.",
            "";
        AccessDenied: "AccessDeniedException", Assumed, "User: {} is not authorized to perform: cognito-identity:{} on resource: {}",
            "The signer's policy lacks the operation: vended credentials never have it, developer credentials unless denied by the builder. The error is observed, this text of it is not.",
            "";
        DeniedByResourcePolicy: "AccessDeniedException", Observed,
            "User: anonymous is not authorized to perform: cognito-identity:{} on resource: * with an explicit deny in a resource control policy",
            "An unsigned operation that the builder's resource control policy denies; the member is spelled `Message`.",
            "aws-samples/resource-control-policy-examples#18";
        Constraint: "ValidationException", Observed, "{} validation error{} detected: {}",
            "A member breaks the model's length, pattern or range, or is missing. The message repeats the value, tokens too.",
            "aws/amazon-freertos#1829; aws-amplify/amplify-js#7845; aws/aws-sdk-cpp#1085; aws/aws-cdk#31795";
        Throttled: "TooManyRequestsException", Observed, "Rate exceeded",
            "More requests than the documented quota, if throttling is switched on, or by a fault.",
            "aws-amplify/amplify-js#13608; aws-amplify/amplify-android#3001";
        Internal: "InternalErrorException", Documented, "{}",
            "A fault of the service (status 500), injected only.",
            "API reference, common to all operations";

        // Pools and identities.
        PoolNotFound: "ResourceNotFoundException", Observed, "IdentityPool '{}' not found.",
            "The pool was deleted, never existed, or belongs to another region.",
            "awslabs/aws-sdk-android-samples#163; aws-amplify/amplify-js#14117";
        IdentityNotFound: "ResourceNotFoundException", Observed, "Identity '{}' not found.",
            "The identity was deleted, never existed, or belongs to another region.",
            "aws-amplify/amplify-js#2301";
        DeveloperUserNotFound: "ResourceNotFoundException", Assumed, "Developer user identifier not found.",
            "LookupDeveloperIdentity and MergeDeveloperIdentities for a user that was never seen.",
            "";
        ArnNotFound: "ResourceNotFoundException", Assumed, "Resource '{}' not found.",
            "TagResource, UntagResource or ListTagsForResource for an ARN that is not a pool's.",
            "";
        PrincipalTagsNotFound: "ResourceNotFoundException", Observed, "No Principal Tags configured for Provider {}",
            "GetPrincipalTagAttributeMap for a provider whose map was never set. Second hand: a comment that says it was verified in ap-southeast-2.",
            "ministackorg/ministack#1607";
        PoolLimit: "LimitExceededException", Documented, "Identity pool limit exceeded. Maximum: {}",
            "More than 1000 identity pools in the account. Text assumed.",
            "Developer Guide, quotas";
        IdentityLimit: "LimitExceededException", Deviation, "The local identity pool holds {} identities at most",
            "More than a million identities: AWS has no such limit, this machine's memory has.",
            "Developer Guide, quotas: identities per pool are unlimited";
        TagLimit: "InvalidParameterException", Assumed, "An identity pool can have at most 50 tags",
            "TagResource above the quota of 50 tags a pool.",
            "";
        ConcurrentModification: "ConcurrentModificationException", Documented, "The identity pool is being modified by another request.",
            "Two changes of a pool at the same time; the local pool changes one at a time, so it is injected only. Text assumed.",
            "API reference, UpdateIdentityPool";
        DeveloperProviderFixed: "InvalidParameterException", Assumed, "DeveloperProviderName cannot be changed once set",
            "UpdateIdentityPool with another developer provider name. That it cannot change is documented; the type is assumed.",
            "API reference, CreateIdentityPool";
        InvalidUserPool: "InvalidParameterException", Observed, "Invalid Cognito Identity Provider",
            "CreateIdentityPool or UpdateIdentityPool with a ProviderName that cannot be a user pool's, or without name or client id.",
            "aws/aws-cdk#11054; aws-samples/amazon-quicksight-embedding-sample#1";
        InvalidLoginProvider: "InvalidParameterException", Documented, "Invalid login provider: {}",
            "A key of SupportedLoginProviders that is not among the documented ones. Text assumed.",
            "API reference, CreateIdentityPool";
        InvalidProviderArn: "InvalidParameterException", Documented, "Invalid provider ARN: {}",
            "OpenIdConnectProviderARNs or SamlProviderARNs with something that is not the ARN of such a provider. Text assumed.",
            "API reference, CreateIdentityPool; IAM User Guide, reference_identifiers";
        RoleMappingProvider: "InvalidParameterException", Observed,
            "{} is not a valid RoleMapping ProviderName or is not a configured provider.",
            "SetIdentityPoolRoles with a mapping for a provider that the pool does not have.",
            "aws/aws-cdk#22951";
        RoleMappingIncomplete: "InvalidParameterException", Documented, "{}",
            "A role mapping of type Rules without rules, or without AmbiguousRoleResolution. Text assumed.",
            "API reference, RoleMapping";
        RoleMappingRules: "InvalidParameterException", Documented, "A role mapping can have at most {} rules",
            "More than 25 rules for one provider; the API model itself has 400. Text assumed.",
            "API reference, SetIdentityPoolRoles; Developer Guide, role-based-access-control";
        TagMapProvider: "InvalidParameterException", Assumed, "{} is not a configured provider.",
            "SetPrincipalTagAttributeMap for a provider that the pool does not have.",
            "";
        RoleForbidden: "NotAuthorizedException", Observed, "Access to Role '{}' is forbidden.",
            "SetIdentityPoolRoles with something that is not the ARN of a role of the pool's account.",
            "boto/boto3#73; danilop/LambdAuth#40";

        // Logins.
        GuestsNotAllowed: "NotAuthorizedException", Observed, "Unauthenticated access is not supported for this identity pool.",
            "No logins, and the pool does not allow guests.",
            "aws-amplify/aws-sdk-ios#4394";
        IdentityForbidden: "NotAuthorizedException", Observed, "Access to Identity '{}' is forbidden.",
            "An authenticated identity without logins, or one that was merged away or lost its last login.",
            "aws-amplify/aws-sdk-android#175; aws-amplify/aws-sdk-ios#3781; aws-amplify/amplify-js#6616";
        LoginsDontMatch: "NotAuthorizedException", Observed,
            "Logins don't match. Please include at least one valid login for this identity or identity pool.",
            "The logins belong to another identity or pool. For a Cognito token whose sub is not the identity the text is assumed.",
            "aws-amplify/amplify-js#2443; aws/aws-sdk-js#2327";
        PublicProviderOnly: "InvalidParameterException", Observed, "Please provide a valid public provider",
            "A key of the logins map that is not a public provider, such as the developer provider's name.",
            "aws-amplify/aws-sdk-ios#218";
        UnsupportedProvider: "NotAuthorizedException", Observed, "Token is not from a supported provider of this identity pool.",
            "A token of a public provider that the pool is not configured for, or of another app id (assumed for the app id).",
            "amazon-archives/amazon-cognito-identity-js#7";
        CognitoTokenPassed: "NotAuthorizedException", Observed, "Invalid login token. Can't pass in a Cognito token.",
            "A Cognito token in GetId or GetOpenIdToken, or under any key but the issuer's host.",
            "aws-amplify/amplify-swift#2842; aws-amplify/amplify-js#388; soto-project/soto#452";
        NotACognitoToken: "NotAuthorizedException", Observed, "Invalid login token. Not a Cognito token.",
            "Under the Cognito issuer's host stands a token that Cognito did not issue.",
            "aws-amplify/aws-sdk-android#1431";
        BadTokenSignature: "NotAuthorizedException", Observed, "Invalid login token. Couldn't verify signed token.",
            "The signature does not hold, or the key is not published.",
            "amazon-archives/amazon-cognito-identity-js#91; aws/aws-sdk-js#3408";
        TokenExpired: "NotAuthorizedException", Observed, "Invalid login token. Token expired: {} >= {}",
            "A JWT is past its exp; first the service's time, then the exp. For Cognito's own tokens the text is assumed: one report has \"Not a Cognito token.\" (aws-amplify/aws-sdk-ios#357).",
            "aws-amplify/aws-sdk-ios#2570; aws-amplify/amplify-js#3675; aws-amplify/amplify-js#14348";
        OpaqueTokenExpired: "NotAuthorizedException", Observed, "Invalid login token. Token is expired.",
            "An opaque token (Facebook, Amazon, Twitter) has expired.",
            "aws-amplify/amplify-js#180";
        IssuerMismatch: "NotAuthorizedException", Observed, "Invalid login token. Issuer doesn't match providerName",
            "The key of the logins map is not the token's issuer. Scheme and a trailing slash make no difference.",
            "amazon-archives/amazon-cognito-identity-js#40; aws-amplify/aws-sdk-ios#447; aws/aws-sdk-net#1251";
        MissingClaim: "NotAuthorizedException", Observed, "Invalid login token. Missing a required claim: {}",
            "A token without aud, such as an access token instead of an id token.",
            "amazon-archives/amazon-cognito-identity-js#7";
        NotAnIdToken: "NotAuthorizedException", Observed, "Invalid login token. Not a valid OpenId Connect identity token.",
            "For a provider of JWTs, something that is not a JWT.",
            "boto3's output in a published API description (ap-south-1)";
        InvalidToken: "NotAuthorizedException", Assumed, "Invalid login token.",
            "For a provider of opaque tokens, something that it did not issue.",
            "";
        ExternalService: "ExternalServiceException", Documented, "{} is not responding",
            "A provider that does not answer; injected by LocalIssuer::set_unavailable. Text assumed.",
            "API reference, GetId";

        // Developer identities.
        UnsupportedDeveloperProvider: "NotAuthorizedException", Assumed,
            "This identity pool does not support the specified developer provider",
            "The developer provider's name is not the pool's. The text is observed (danilop/LambdAuth#32), the type is not: an option.",
            "";
        UnsupportedDeveloperProviderParameter: "InvalidParameterException", Assumed,
            "This identity pool does not support the specified developer provider",
            "The same, with the other type of that option.",
            "";
        MissingDeveloperProvider: "InvalidParameterException", Assumed, "Please provide a developer provider login",
            "GetOpenIdTokenForDeveloperIdentity with public logins only.",
            "";
        DeveloperUserRegistered: "DeveloperUserAlreadyRegisteredException", Documented,
            "The provided developer user identifier is already registered with Cognito under a different identity ID.",
            "The user id is linked to another identity than the one asked for. Text assumed.",
            "API reference, GetOpenIdTokenForDeveloperIdentity";
        LookupNeedsOne: "InvalidParameterException", Assumed, "Either IdentityId or DeveloperUserIdentifier must be provided",
            "LookupDeveloperIdentity with neither.",
            "";
        InvalidNextToken: "InvalidParameterException", Assumed, "Invalid pagination token",
            "A NextToken that this operation did not hand out.",
            "";
        LookupMismatch: "ResourceConflictException", Documented, "The developer user identifier is not linked to this identity.",
            "LookupDeveloperIdentity with a pair that is not linked. Text assumed.",
            "API reference, LookupDeveloperIdentity";
        NotLinked: "ResourceConflictException", Assumed, "The login is not linked to this identity.",
            "UnlinkDeveloperIdentity or UnlinkIdentity for a login that the identity does not have.",
            "";
        LoginConflict: "ResourceConflictException", Documented, "Login is already linked to another identity.",
            "An identity would get a second login of one public provider. Text assumed.",
            "API reference, GetOpenIdTokenForDeveloperIdentity; MergeDeveloperIdentities";
        TooManyLogins: "InvalidParameterException", Assumed, "An identity can have at most 20 linked logins",
            "A merge or link above the documented limit of 20. The type is assumed.",
            "API reference, MergeDeveloperIdentities";

        // Flows and roles.
        ClassicFlowOff: "InvalidParameterException", Observed, "Basic (classic) flow is not enabled, please use enhanced flow.",
            "GetOpenIdToken with AllowClassicFlow=false.",
            "aws/aws-cli#7652; aws-amplify/amplify-js#9704";
        ClassicFlowWithMappings: "InvalidParameterException", Observed,
            "Basic (classic) flow is not supported with RoleMappings, please use enhanced flow.",
            "GetOpenIdToken for a pool with role mappings.",
            "Developer Guide, authentication-flow; aws-observability/aws-rum-web#172";
        PoolConfiguration: "InvalidIdentityPoolConfigurationException", Observed,
            "Invalid identity pool configuration. Check assigned IAM roles for this pool.",
            "The pool has no role, the role's trust policy refuses the token (aud, amr, principal, sts:TagSession), or STS refuses its tags.",
            "stackoverflow.com/questions/30425942; amazon-archives/amazon-cognito-auth-js#167; aws/aws-sdk-js#4112; adrianhall/restaurant-reviews#3";
        AmbiguousRole: "NotAuthorizedException", Observed, "The ambiguous role mapping rules for: {} denied this request.",
            "No role mapping applies and AmbiguousRoleResolution is Deny.",
            "aws-amplify/amplify-js#8644";
        CustomRoleDenied: "NotAuthorizedException", Assumed, "Access to Role '{}' is forbidden.",
            "A CustomRoleArn that the mapping does not allow, or, with a developer token or without a mapping, one that is not the authenticated role: an option.",
            "";

        // STS.
        StsUnknownAction: "InvalidAction", Assumed, "Could not find operation {} for version {}",
            "An Action that this STS does not have.",
            "";
        StsConstraint: "ValidationError", Assumed, "{} validation error{} detected: {}",
            "A parameter breaks the model's length, pattern or range.",
            "";
        StsMissingAuthentication: "MissingAuthenticationToken", Assumed, "Request is missing Authentication Token",
            "GetCallerIdentity without a signature.",
            "";
        StsIncompleteSignature: "IncompleteSignature", Assumed, "Authorization header is malformed: {}",
            "A signature, in the Authorization header or presigned in the query, that is not complete.",
            "";
        StsUnknownAccessKey: "InvalidClientTokenId", Assumed, "The security token included in the request is invalid.",
            "An access key or session token that nobody was given.",
            "";
        StsInvalidSignature: "SignatureDoesNotMatch", Assumed,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
            "The signature is over another request, another scope, or made with another secret key.",
            "";
        StsSignatureTime: "SignatureDoesNotMatch", Assumed, "Signature {}",
            "The signing time is more than five minutes away from the service's clock, or a presigned URL has expired.",
            "";
        StsSignerExpired: "ExpiredToken", Assumed, "The security token included in the request is expired",
            "Vended credentials that have expired.",
            "";
        StsNoJwt: "InvalidIdentityToken", Observed,
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
            "AssumeRoleWithWebIdentity with something that is not a JWT.",
            "aws-amplify/amplify-js#9704";
        StsNoKey: "InvalidIdentityToken", Assumed,
            "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements",
            "A Cognito token whose signature no published key made. The text is observed (aws/aws-cli#7194) where a provider's keys could not be fetched, not for this case.",
            "";
        StsNoProvider: "InvalidIdentityToken", Observed, "No OpenIDConnect provider found in your account for {}",
            "A token of another issuer than Cognito. Observed for issuers that IAM does not know.",
            "aws-actions/configure-aws-credentials#280; treeverse/dvc.org#5273";
        StsTokenExpired: "ExpiredTokenException", Observed,
            "Token expired: current date/time {} must be before the expiration date/time{}",
            "The web identity token has expired; there is no space before the second number in the captures.",
            "awslabs/aws-orbit-workbench#707; awslabs/aws-orbit-workbench#771";
        StsAccessDenied: "AccessDenied", Observed, "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            "The role's trust policy refuses the token, the ARN is not a role's, or a role of another account has no condition on both aud and amr (Developer Guide, identity-pools-security-best-practices); status 403.",
            "aws-amplify/aws-sdk-ios#119; aws-amplify/aws-sdk-android#9";
        StsDuration: "ValidationError", Observed, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            "DurationSeconds above the role's maximum.",
            "kreuzwerker/awsu#27";
        StsPacked: "PackedPolicyTooLarge", Observed, "Packed size of session tags consumes {}% of allotted space.",
            "The session tags are larger than 460 bytes together. AWS packs them in a form that is not public; the size here is that of keys and values.",
            "aws-actions/configure-aws-credentials#1803";
        StsTagConstraint: "ValidationError", Observed,
            "1 validation error detected: Value '{}' at '{}' failed to satisfy constraint: {}",
            "A session tag whose key or value has the wrong length or characters, or too many tags. Observed for tags that a caller passes; assumed for those in a token.",
            "aws-actions/configure-aws-credentials#18; aws/rolesanywhere-credential-helper#188";
        StsReservedTag: "ValidationError", Documented, "Tag keys must not begin with aws:",
            "A session tag whose key begins with `aws:`. Type and text assumed.",
            "IAM User Guide, id_session-tags";
        StsDuplicateTag: "ValidationError", Documented, "Tag keys must differ in more than upper and lower case",
            "Two session tags whose keys differ in case only. Type and text assumed.",
            "IAM User Guide, id_session-tags";
        StsPolicy: "MalformedPolicyDocument", Documented, "{}",
            "A session policy that IAM's grammar does not have. Texts as reported where they are, else assumed.",
            "STS API reference, AssumeRoleWithWebIdentity; IAM User Guide, reference_policies_grammar";
        TrustPolicyMalformed: "MalformedPolicyDocument", Documented, "{}",
            "Registering a role whose trust policy IAM would not save: an unknown element, operator, version or effect, no principal or action, actions of another service, a Sid twice, a bare `*` as principal, no condition where Cognito is trusted. Texts as reported where they are, else assumed.",
            "IAM User Guide, reference_policies_grammar; ministryofjustice/modernisation-platform-environments#8893; aws/aws-cdk#5732; aws/aws-sdk-net-extensions-cognito#141";
        TrustPolicyNotJudged: "NotJudged", Deviation, "{}",
            "Registering a role whose trust policy asks for what this pool does not know: aws:PrincipalType, aws:ResourceOrgID, aws:ResourceOrgPaths, aws:ResourceTag and iam:ResourceTag, sts:RoleAuthorizedByIdp, or a value that is not of its operator's kind. AWS takes such a policy.",
            "IAM User Guide, reference_policies_condition-keys";

        // Faults of the service, injected only.
        ServiceUnavailable: "ServiceUnavailable", Assumed, "Service is unavailable", "Injected only; status 503.",
            "";
        IdpRejectedClaim: "IDPRejectedClaim", Documented, "The identity provider rejected the claim",
            "Injected only; status 403. Text assumed.",
            "STS API reference, AssumeRoleWithWebIdentity";
        IdpCommunication: "IDPCommunicationError", Documented, "The identity provider did not answer",
            "Injected only. Text assumed.",
            "STS API reference, AssumeRoleWithWebIdentity";
        RegionDisabled: "RegionDisabledException", Documented, "STS is not activated in this region",
            "Injected only; status 403. Text assumed.",
            "STS API reference, AssumeRoleWithWebIdentity";
    }
    behaviours {
        StickyDeveloperIdentity: Observed,
            "One developer user id always gets the same identity, until it is unlinked or the identity is deleted.",
            "Developer Guide, developer-authenticated-identities; aws/aws-sdk-js#2327";
        FreshGuest: Observed,
            "Every GetId without logins creates a new guest.",
            "Developer Guide, authentication-flow";
        TokenClaims: Observed,
            "sub, aud, amr, tags, iss, identity-pool-arn, exp, iat, in this order; RS512; kid is the region and a digit.",
            "pfeilbr/aws-cognito-developer-authenticated-identities-playground";
        TokenLife: Documented,
            "A developer token lives 900 s unless TokenDuration says otherwise; a token of GetOpenIdToken 600 s (observed).",
            "API reference, GetOpenIdTokenForDeveloperIdentity and GetOpenIdToken";
        CredentialsHour: Observed,
            "Credentials of the enhanced flow live one hour.",
            "Developer Guide, authentication-flow; pfeilbr/aws-cognito-developer-authenticated-identities-playground";
        SessionName: Observed,
            "The session of the enhanced flow is named CognitoIdentityCredentials, for every user.",
            "aws-amplify/amplify-js#1643";
        UnsignedIgnoresAuthorization: Assumed,
            "GetId, GetCredentialsForIdentity, GetOpenIdToken and UnlinkIdentity ignore an Authorization header; the record keeps that one came.",
            "";
        CheckOrder: Assumed,
            "Target, JSON, authentication, constraints, throttling, pool or identity, meaning.",
            "";
        ContentType: Deviation,
            "An operation is found by X-Amz-Target; a Content-Type other than application/x-amz-json-1.1 is not refused. No source says what AWS does.",
            "";
        ErrorForm: Observed,
            "Status 400 for every fault of the caller, 500 for the service's; __type and message in the body, x-amzn-ErrorType and x-amzn-ErrorMessage in the head.",
            "aws-amplify/amplify-js#2443; aws-amplify/aws-sdk-ios#4394; aws-amplify/amplify-js#9704";
        ClassicFlowOmitted: Observed,
            "AllowClassicFlow left out is kept as left out, and allows the classic flow.",
            "aws/aws-cli#7652";
        GuestLinked: Observed,
            "A guest that is linked to a login nobody has becomes that user and keeps its id.",
            "aws-amplify/amplify-js#14207";
        GuestMerged: Observed,
            "A guest shown with a login of another identity is merged into it: the answer has the owner's id, the guest's is disabled.",
            "aws-amplify/amplify-js#14207; aws-amplify/amplify-js#6616";
        DisabledLogins: Observed,
            "DescribeIdentity and ListIdentities show DISABLED among the logins of an identity that was merged away.",
            "aws-amplify/amplify-js#1015";
        ImplicitMerge: Assumed,
            "GetOpenIdTokenForDeveloperIdentity for a guest and a user that has another identity is refused (option: merge).",
            "";
        LastLoginRemoved: Documented,
            "An identity whose last login is removed is inaccessible for good, no guest again.",
            "API reference, UnlinkIdentity";
        DeletedUnknown: Assumed,
            "DeleteIdentities of an unknown id is silently fine; a deleted user gets a new identity the next time.",
            "";
        DeveloperRole: Documented,
            "Developer identities get the default authenticated role; role mappings do not apply.",
            "API reference, GetCredentialsForIdentity";
        MappingKeys: Observed,
            "Role mappings and principal-tag maps apply under the provider's host, its host and client id, or the ARN of an IAM OIDC provider; the most exact one first (assumed).",
            "catnekaise/actions-constructs; nextstrain/infra; hashicorp/terraform-provider-aws#24834 and #25964";
        UnregisteredRole: Deviation,
            "A role that is not registered with the pool trusts it, with a maximum session of 12 hours. Real roles never trust by default.",
            "IAM User Guide, id_roles_terms-and-concepts";
        TrustPolicy: Documented,
            "A registered role's trust policy is judged by IAM's rules: explicit Deny first, all operators and set qualifiers, IfExists, Not elements, policy variables (a variable without a value is like nothing), key names and tag keys regardless of case.",
            "IAM User Guide, reference_policies_elements_condition_operators, reference_policies_condition-single-vs-multi-valued-context-keys, reference_policies_variables";
        TrustPolicyContext: Assumed,
            "Keys that a request has: aud, sub and amr under the partition's prefix, aws:RequestTag, aws:TagKeys, sts:RoleSessionName, aws:CurrentTime, aws:EpochTime, aws:SecureTransport (true), aws:SourceIp (127.0.0.1), aws:UserAgent (in the enhanced flow cognito-identity.amazonaws.com), aws:RequestedRegion, aws:ResourceAccount, aws:ViaAWSService (false). Every other key is absent.",
            "";
        TrustPolicyTypes: Assumed,
            "A value of the request that is not of an operator's kind satisfies neither the operator nor its negation; an operator without ForAllValues or ForAnyValue does not hold for a key that can have several values, such as amr.",
            "";
        TokensAfterUnlink: Documented,
            "Credentials stay valid until they expire, whatever becomes of their identity.",
            "Developer Guide, authentication-flow";
        ClassicExchangeOfDeveloperTokens: Assumed,
            "STS exchanges a developer token even if AllowClassicFlow is false (option: refuse).",
            "";
        ClockGrace: Assumed,
            "No grace after the exp of Cognito's own tokens (option).",
            "";
        ExternalGrace: Documented,
            "Tokens of external providers are accepted for five minutes after their exp (option).",
            "Developer Guide, open-id";
        IssuerHost: Observed,
            "iss is cognito-identity.amazonaws.com, in China the regional host; in GovCloud and in the European Sovereign Cloud it is the regional host (assumed). An option.",
            "aws/aws-sdk-net#1251";
        TrustPrincipal: Documented,
            "The principal in a trust policy, and the prefix of its condition keys: cognito-identity.amazonaws.com; cognito-identity-us-gov.amazonaws.com in GovCloud West, cognito-identity.us-gov-east-1.amazonaws.com in East; in China the regional host, with the prefix cognito-identity.amazonaws.com.cn accepted besides; in the European Sovereign Cloud the regional host (assumed).",
            "AWS GovCloud (US) User Guide, govcloud-cog; docs.amazonaws.cn, identity-pools-security-best-practices";
        Throttling: Documented,
            "Requests a second over all pools: GetId 25, GetOpenIdToken and GetCredentialsForIdentity 200, GetOpenIdTokenForDeveloperIdentity 50, DeleteIdentities 10, ListIdentities 5, tags 5, 5 and 10; others (assumed) 5. Off unless switched on.",
            "Developer Guide, quotas";
        Cors: Observed,
            "Any origin may call; x-amzn-RequestId, x-amzn-ErrorType, x-amzn-ErrorMessage and Date are exposed.",
            "aws-amplify/amplify-js#2443; aws-amplify/aws-sdk-ios#720";
        NotSimulated: Deviation,
            "SAML logins (refused as an unsupported provider), ServerSideTokenCheck, the client ids of IAM OIDC providers, session policies (their grammar is checked, nothing is judged by them), the enhanced flow's scope-down policy for guests, and IAM policies beyond the operations that the builder denies.",
            "";
        ListOrder: Assumed,
            "Pools and identities are listed in the order of creation; LookupDeveloperIdentity lists users in alphabetical order, up to 60 a page.",
            "";
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
