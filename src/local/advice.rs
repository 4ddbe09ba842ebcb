//! What to do about a refusal, by its rule: the sentence that the real service leaves out.

/// What to do about a refusal of the rule with this id.
pub(super) fn of(rule: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(id, _)| *id == rule).map(|(_, advice)| *advice)
}

const CLOCK: &str = "set the client's clock, or let the client correct it by the Date header as the SDKs do";
const SIGN: &str = "sign with the backend's access key, which the pool prints at start (AWS_ACCESS_KEY_ID); an app has no business here";
const SIGNATURE: &str = "sign what is sent, headers and body unchanged by a proxy, for the pool's region, with the secret key that belongs to the access key id";
const EXPIRED_KEY: &str = "get new credentials: those of an identity live for an hour";
const INJECTED: &str = "a fault that was planned: wait for its end, or DELETE /_local/faults";
const CLASSIC: &str = "use GetCredentialsForIdentity, or allow the classic flow on a pool without role mappings";

static ADVICE: &[(&str, &str)] = &[
    (
        "UnknownOperation",
        "send X-Amz-Target: AWSCognitoIdentityService.<Operation> with an operation of the API",
    ),
    (
        "NotFound",
        "POST to / with the content type of an AWS SDK; /_local/ is the admin path",
    ),
    (
        "BodyTooLarge",
        "send less than 1 MiB: no request of this API needs more",
    ),
    (
        "NotJson",
        "send a JSON object with the content type application/x-amz-json-1.1",
    ),
    (
        "WrongType",
        "give the member the type that the API reference says; Logins is a map from provider name to token",
    ),
    (
        "WrongScalar",
        "give the member the type that the API reference says; Logins is a map from provider name to token",
    ),
    ("MissingAuthentication", SIGN),
    ("IncompleteSignature", "let an SDK sign the request (AWS4-HMAC-SHA256)"),
    ("UnknownAccessKey", SIGN),
    ("InvalidSignature", SIGNATURE),
    ("SignatureTime", CLOCK),
    ("SignerExpired", EXPIRED_KEY),
    (
        "AccessDenied",
        "call it from the backend: credentials of an identity may do nothing here, and the backend what its policy allows",
    ),
    (
        "DeniedByResourcePolicy",
        "take the operation out of what the pool was told to deny",
    ),
    (
        "Constraint",
        "bring the member within the limits that the message names",
    ),
    (
        "Throttled",
        "retry with back-off and jitter, cache tokens and credentials until shortly before they expire; or switch throttling off",
    ),
    ("Internal", INJECTED),
    (
        "PoolNotFound",
        "use the id that the pool prints at start (COGNITO_IDENTITY_POOL_ID), or one of ListIdentityPools; with --state it stays the same across restarts",
    ),
    (
        "IdentityNotFound",
        "forget the stored identity id and call GetId (or vend) again; with --state identities stay across restarts",
    ),
    (
        "DeveloperUserNotFound",
        "vend a token for the user first: that makes the identity",
    ),
    (
        "ArnNotFound",
        "use the pool's ARN, arn:aws:cognito-identity:<region>:<account>:identitypool/<pool id>",
    ),
    ("PoolLimit", "delete pools that are not needed"),
    ("TagLimit", "remove tags: 50 is the quota"),
    ("ConcurrentModification", "retry"),
    (
        "DeveloperProviderFixed",
        "keep the name, or make a new pool: a pool's developer provider cannot be renamed",
    ),
    (
        "RoleMappingProvider",
        "name a provider that the pool has, a user pool with its client id: cognito-idp.<region>.amazonaws.com/<user pool>:<client id>",
    ),
    (
        "RoleMappingIncomplete",
        "give a mapping of type Rules its RulesConfiguration and AmbiguousRoleResolution",
    ),
    ("RoleForbidden", "give the ARN of a role in the pool's own account"),
    (
        "GuestsNotAllowed",
        "show a login, or allow guests (--guests, AllowUnauthenticatedIdentities)",
    ),
    (
        "IdentityForbidden",
        "show the identity's login; if it was merged away or lost its last login, forget its id and sign in again",
    ),
    (
        "LoginsDontMatch",
        "show the token that was vended for this identity id, of this pool: token and identity id belong together",
    ),
    (
        "PublicProviderOnly",
        "a developer provider's name is no key here: pass the vended token under cognito-identity.amazonaws.com to GetCredentialsForIdentity",
    ),
    (
        "UnsupportedProvider",
        "configure the provider on the pool with this app's client id (--identity-provider, --user-pool), or show a token of the configured one",
    ),
    (
        "CognitoTokenPassed",
        "call GetCredentialsForIdentity with the identity id that came with the token, under the key cognito-identity.amazonaws.com; GetId is for public providers",
    ),
    (
        "NotACognitoToken",
        "pass a token of another provider under that provider's own name; here goes what GetOpenIdTokenForDeveloperIdentity returned",
    ),
    (
        "BadTokenSignature",
        "show the token unchanged. A real provider's token is accepted where the pool knows its keys (jwks=URL), a simulated one's if this pool issued it (POST /_local/tokens); one from before a restart needs --state",
    ),
    (
        "TokenExpired",
        "get a new token before this one ends; if it is not old, compare the clocks",
    ),
    ("OpaqueTokenExpired", "get a new token from the provider"),
    (
        "IssuerMismatch",
        "use the token's own issuer as the key of the logins map, without https://",
    ),
    ("MissingClaim", "show the ID token, not the access token"),
    (
        "InvalidToken",
        "show what the provider issued: an ID token, for Facebook, Amazon and Twitter an access token",
    ),
    (
        "ExternalService",
        "retry; the provider was made unavailable, or its keys could not be fetched",
    ),
    (
        "UnsupportedDeveloperProvider",
        "use the pool's DeveloperProviderName (COGNITO_DEVELOPER_PROVIDER)",
    ),
    (
        "UnsupportedDeveloperProviderParameter",
        "use the pool's DeveloperProviderName (COGNITO_DEVELOPER_PROVIDER)",
    ),
    (
        "MissingDeveloperProvider",
        "add the user under the developer provider's name to Logins",
    ),
    (
        "DeveloperUserRegistered",
        "leave IdentityId out, or pass the identity that the user has (LookupDeveloperIdentity); merge if both are the same person's",
    ),
    ("LookupNeedsOne", "give IdentityId, DeveloperUserIdentifier, or both"),
    (
        "InvalidNextToken",
        "pass the NextToken of the page before, unchanged, to the same operation",
    ),
    (
        "LookupMismatch",
        "look up one of the two alone to see what it is linked to",
    ),
    (
        "NotLinked",
        "look up what the identity is linked to; somebody may have unlinked it already",
    ),
    (
        "LoginConflict",
        "an identity has one login for each public provider: unlink the other, or sign in without the guest's id",
    ),
    (
        "TooManyLogins",
        "unlink logins that are not needed: an identity has 20 at most",
    ),
    ("ClassicFlowOff", CLASSIC),
    ("ClassicFlowWithMappings", CLASSIC),
    (
        "PoolConfiguration",
        "give the pool a role for this kind of identity whose trust policy allows sts:AssumeRoleWithWebIdentity for the pool's id as aud and the right amr, and sts:TagSession where there are principal tags",
    ),
    (
        "AmbiguousRole",
        "add a mapping rule that fits the token's claims, or resolve ambiguity with AuthenticatedRole",
    ),
    (
        "CustomRoleDenied",
        "leave CustomRoleArn out, or ask for a role that the token's claims or the mapping allow",
    ),
    (
        "StsUnknownAction",
        "the local STS has AssumeRoleWithWebIdentity and GetCallerIdentity, version 2011-06-15",
    ),
    (
        "StsConstraint",
        "bring the parameter within the limits that the message names",
    ),
    (
        "StsMissingAuthentication",
        "sign GetCallerIdentity; AssumeRoleWithWebIdentity alone needs no signature",
    ),
    (
        "StsIncompleteSignature",
        "let an SDK sign the request (AWS4-HMAC-SHA256)",
    ),
    (
        "StsUnknownAccessKey",
        "use credentials that this pool gave out, with their session token; those from before a restart need --state",
    ),
    ("StsInvalidSignature", SIGNATURE),
    ("StsSignatureTime", CLOCK),
    ("StsSignerExpired", EXPIRED_KEY),
    (
        "StsNoJwt",
        "pass the token that GetOpenIdToken or GetOpenIdTokenForDeveloperIdentity returned as WebIdentityToken",
    ),
    (
        "StsNoKey",
        "pass the token unchanged; one from before a restart needs --state",
    ),
    (
        "StsNoProvider",
        "exchange the provider's token at Cognito first (GetId, GetOpenIdToken): this STS trusts Cognito alone",
    ),
    ("StsTokenExpired", "get a new token before this one ends"),
    (
        "StsAccessDenied",
        "let the role's trust policy allow this token (principal, aud, amr, sts:TagSession), or ask for another role of this account",
    ),
    ("StsDuration", "ask for less, or raise the role's MaxSessionDuration"),
    ("StsPacked", "use fewer or shorter session tags"),
    ("StsPolicy", "send the session policy as a JSON object"),
    ("ServiceUnavailable", INJECTED),
    ("IdpRejectedClaim", INJECTED),
    ("IdpCommunication", INJECTED),
    ("RegionDisabled", INJECTED),
    (
        "ExpectedOther",
        "give the member the type that the API reference says; Logins is a map from provider name to token",
    ),
    (
        "PrincipalTagsNotFound",
        "set the map first (SetPrincipalTagAttributeMap), under the same provider name",
    ),
    ("IdentityLimit", "delete identities, or reset the pool"),
    (
        "InvalidUserPool",
        "name a user pool as cognito-idp.<region>.amazonaws.com/<user pool id>, with its client id",
    ),
    (
        "InvalidLoginProvider",
        "name a social provider here; OIDC providers go into OpenIdConnectProviderARNs, user pools into CognitoIdentityProviders",
    ),
    (
        "InvalidProviderArn",
        "give the ARN of an IAM identity provider, such as arn:aws:iam::<account>:oidc-provider/<host>",
    ),
    (
        "RoleMappingRules",
        "use fewer rules, or take the role from the token (type Token)",
    ),
    ("TagMapProvider", "name a provider that the pool has"),
    ("NotAnIdToken", "show the ID token, a JWT, that the provider issued"),
    (
        "StsTagConstraint",
        "bring key and value of the session tag within length and characters: letters, digits, spaces and _ . : / = + - @",
    ),
    ("StsReservedTag", "name the tag otherwise"),
    ("StsDuplicateTag", "use one spelling for the tag"),
    (
        "TrustPolicyMalformed",
        "write the trust policy as IAM takes it; the message says what it would refuse",
    ),
    (
        "TrustPolicyNotJudged",
        "take the condition out for the local pool, which cannot judge it",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalIdentityPool;

    #[test]
    fn every_rule_that_refuses_says_what_to_do() {
        let refusals: Vec<_> = LocalIdentityPool::rules()
            .filter(|rule| !rule.error.is_empty())
            .collect();
        let without: Vec<_> = refusals
            .iter()
            .filter(|rule| of(rule.id).is_none())
            .map(|rule| rule.id)
            .collect();
        assert!(without.is_empty(), "add advice for {without:?}");
        for (id, advice) in ADVICE {
            assert!(refusals.iter().any(|rule| rule.id == *id), "{id} is no rule any more");
            assert!(
                advice.is_ascii() && advice.len() < 400,
                "{id}: it has to fit into a header"
            );
        }
    }
}
