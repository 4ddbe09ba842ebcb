//! The table, row by row, with the messages that were seen on the wire.

use std::collections::BTreeSet;

use super::*;
use crate::ids::IdentityId;
use crate::token::OpenIdToken;
use CauseKind as C;
use ErrorKind as K;
use Remedy::{NewIdentity, NewIdentityIfStored, NewToken, None as Nothing};

const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";
const ALICE: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
const COGNITO: &str = "cognito-identity.amazonaws.com";
const NOW: u64 = 1_700_000_000;

const CREDENTIALS: &str = "GetCredentialsForIdentity";
const FOR_DEVELOPER: &str = "GetOpenIdTokenForDeveloperIdentity";

fn pool() -> IdentityPoolId {
    IdentityPoolId::new(POOL).unwrap()
}

fn alice() -> IdentityId {
    IdentityId::new(ALICE).unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn developer_token(changes: &[(&str, serde_json::Value)]) -> String {
    let mut claims = serde_json::json!({
        "sub": ALICE, "aud": POOL, "iss": "https://cognito-identity.amazonaws.com", "iat": NOW - 10, "exp": NOW + 890,
    });
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    format!(
        "e30.{}.c2ln",
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(claims.to_string())
    )
}

/// The refusal of a developer's login, of which nothing is seen to be wrong.
fn developer(operation: &'static str, code: &str, message: &str) -> Refused {
    with_token(operation, code, message, &developer_token(&[]))
}

fn with_token(operation: &'static str, code: &str, message: &str, token: &str) -> Refused {
    let id = alice();
    let token = OpenIdToken::new(token).unwrap();
    let facts = Facts::new([(COGNITO, &token)], Some(&id), now());
    classify(operation, &pool(), Some(code), message, 400, facts)
}

fn guest(code: &str, message: &str) -> Refused {
    let id = alice();
    classify(
        CREDENTIALS,
        &pool(),
        Some(code),
        message,
        400,
        Facts::new([], Some(&id), now()),
    )
}

fn first_cause(refused: &Refused) -> Option<C> {
    refused.error.causes().first().map(|cause| cause.kind)
}

#[test]
fn every_refusal_of_cognito_has_its_meaning() {
    #[rustfmt::skip]
    #[allow(clippy::type_complexity, reason = "a table's row")]
    let rows: &[(&'static str, &str, &str, K, Remedy, bool, Option<C>)] = &[
        // E.2, by its numbers.
        (CREDENTIALS, "NotAuthorizedException", "Logins don't match. Please include at least one valid login for this identity or identity pool.", K::NotAuthorized, NewIdentity, false, Some(C::WrongIdentity)),
        (CREDENTIALS, "NotAuthorizedException", "Unauthenticated access is not supported for this identity pool.", K::Configuration, Nothing, false, Some(C::GuestsNotAllowed)),
        (CREDENTIALS, "NotAuthorizedException", "Token is not from a supported provider of this identity pool.", K::Configuration, Nothing, false, Some(C::ProviderNotConfigured)),
        (CREDENTIALS, "NotAuthorizedException", "Invalid login token. Token expired: 1433877130 >= 1433877130", K::NotAuthorized, NewToken, false, Some(C::TokenExpired)),
        (CREDENTIALS, "NotAuthorizedException", "Invalid login token. Token is expired.", K::NotAuthorized, NewToken, false, Some(C::TokenExpired)),
        (CREDENTIALS, "NotAuthorizedException", "Invalid login token. Couldn't verify signed token.", K::NotAuthorized, NewToken, true, Some(C::SignatureNotVerified)),
        (CREDENTIALS, "NotAuthorizedException", "Invalid login token. Issuer doesn't match providerName", K::Configuration, Nothing, false, Some(C::WrongLoginsKey)),
        (CREDENTIALS, "NotAuthorizedException", "Invalid login token. Missing a required claim: aud", K::Configuration, Nothing, false, Some(C::WrongTokenKind)),
        (CREDENTIALS, "NotAuthorizedException", "Invalid login token. Not a Cognito token.", K::NotAuthorized, NewToken, false, Some(C::WrongTokenKind)),
        ("GetId", "NotAuthorizedException", "Invalid login token. Can't pass in a Cognito token.", K::Configuration, Nothing, false, Some(C::WrongLoginsKey)),
        (CREDENTIALS, "NotAuthorizedException", "Access to Identity 'us-east-1:0b1c' is forbidden.", K::NotAuthorized, NewIdentity, false, Some(C::IdentityForbidden)),
        (CREDENTIALS, "NotAuthorizedException", "The ambiguous role mapping rules for: cognito-idp.us-east-1.amazonaws.com/us-east-1_A:client denied this request.", K::NotAuthorized, Nothing, false, Some(C::RoleNotAssumable)),
        ("SetIdentityPoolRoles", "NotAuthorizedException", "Access to Role 'arn:aws:iam::123456789012:role/x' is forbidden.", K::NotAuthorized, Nothing, false, Some(C::AccessDenied)),
        (CREDENTIALS, "NotAuthorizedException", "Access to Role 'arn:aws:iam::123456789012:role/x' is forbidden.", K::NotAuthorized, Nothing, false, Some(C::AccessDenied)),
        (FOR_DEVELOPER, "InvalidParameterException", "Please provide a valid public provider", K::Configuration, Nothing, false, Some(C::WrongLoginsKey)),
        ("GetId", "InvalidParameterException", "Please provide a valid public provider", K::Configuration, Nothing, false, Some(C::WrongLoginsKey)),
        (FOR_DEVELOPER, "NotAuthorizedException", "This identity pool does not support the specified developer provider", K::Configuration, Nothing, false, Some(C::ProviderNotConfigured)),
        (FOR_DEVELOPER, "InvalidParameterException", "This identity pool does not support the specified developer provider", K::Configuration, Nothing, false, Some(C::ProviderNotConfigured)),
        ("GetOpenIdToken", "InvalidParameterException", "Basic (classic) flow is not enabled, please use enhanced flow.", K::Configuration, Nothing, false, Some(C::ClassicFlowDisabled)),
        ("GetOpenIdToken", "InvalidParameterException", "Basic (classic) flow is not supported with RoleMappings, please use enhanced flow.", K::Configuration, Nothing, false, Some(C::ClassicFlowDisabled)),
        ("SetIdentityPoolRoles", "InvalidParameterException", "graph.example.com is not a valid RoleMapping ProviderName or is not a configured provider.", K::Configuration, Nothing, false, Some(C::ProviderNotConfigured)),
        (CREDENTIALS, "ResourceNotFoundException", "Identity 'us-east-1:0b1c' not found.", K::IdentityNotFound, NewIdentity, false, Some(C::IdentityDeleted)),
        ("GetId", "ResourceNotFoundException", "IdentityPool 'us-east-1:335c' not found.", K::Configuration, Nothing, false, Some(C::PoolNotFound)),
        (CREDENTIALS, "InvalidIdentityPoolConfigurationException", "Invalid identity pool configuration. Check assigned IAM roles for this pool.", K::Configuration, Nothing, false, Some(C::RoleNotAssumable)),
        ("GetId", "TooManyRequestsException", "Rate exceeded", K::Throttled, Nothing, true, Some(C::Throttled)),
        ("GetId", "AccessDeniedException", "User: anonymous is not authorized to perform: cognito-identity:GetId on resource: * with an explicit deny in a resource control policy", K::NotAuthorized, Nothing, false, Some(C::AccessDenied)),
        (FOR_DEVELOPER, "SerializationException", "Start of list found where not expected", K::Configuration, Nothing, false, None),
        (FOR_DEVELOPER, "DeveloperUserAlreadyRegisteredException", "", K::UserAlreadyRegistered, Nothing, false, None),
        ("LookupDeveloperIdentity", "ResourceConflictException", "", K::Conflict, Nothing, false, None),
        (CREDENTIALS, "InvalidParameterException", "", K::Configuration, NewIdentityIfStored, false, None),
        // E.1: what falls back on the type.
        (CREDENTIALS, "NotAuthorizedException", "words that are new", K::NotAuthorized, NewIdentity, false, None),
        (CREDENTIALS, "NotAuthorizedException", "Invalid login token. Words that are new.", K::NotAuthorized, NewToken, false, None),
        (CREDENTIALS, "ResourceNotFoundException", "words that are new", K::IdentityNotFound, NewIdentity, false, Some(C::IdentityDeleted)),
        (CREDENTIALS, "ValidationException", "words that are new", K::Configuration, NewIdentityIfStored, false, None),
        ("GetId", "LimitExceededException", "", K::Configuration, Nothing, false, None),
        ("UpdateIdentityPool", "ConcurrentModificationException", "", K::Service, Nothing, true, None),
        ("GetId", "ExternalServiceException", "", K::Service, Nothing, true, None), ("GetId", "InternalErrorException", "", K::Service, Nothing, true, None), ("GetId", "InternalFailure", "", K::Service, Nothing, true, None), ("GetId", "ServiceUnavailable", "", K::Service, Nothing, true, None), ("GetId", "ThrottlingException", "", K::Throttled, Nothing, true, Some(C::Throttled)),
        ("GetId", "SomethingNewException", "Rate exceeded", K::Throttled, Nothing, true, Some(C::Throttled)),
        ("GetId", "UnknownOperationException", "", K::Configuration, Nothing, false, None),
        (FOR_DEVELOPER, "AccessDeniedException", "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: cognito-identity:GetOpenIdTokenForDeveloperIdentity", K::NotAuthorized, Nothing, false, Some(C::AccessDenied)),
        (FOR_DEVELOPER, "UnrecognizedClientException", "", K::NotAuthorized, Nothing, false, Some(C::AccessDenied)),
        (FOR_DEVELOPER, "InvalidSignatureException", "", K::NotAuthorized, Nothing, false, Some(C::AccessDenied)),
        (FOR_DEVELOPER, "InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than", K::NotAuthorized, Nothing, false, Some(C::ClockSkew)),
        (FOR_DEVELOPER, "InvalidSignatureException", "Signature not yet current: 20260101T000000Z", K::NotAuthorized, Nothing, false, Some(C::ClockSkew)),
        (FOR_DEVELOPER, "MissingAuthenticationTokenException", "", K::NotAuthorized, Nothing, false, Some(C::AccessDenied)),
        (FOR_DEVELOPER, "IncompleteSignatureException", "", K::NotAuthorized, Nothing, false, Some(C::AccessDenied)),
        (FOR_DEVELOPER, "ExpiredTokenException", "The security token included in the request is expired", K::NotAuthorized, Nothing, true, Some(C::AccessDenied)),
    ];
    for (operation, code, message, kind, remedy, passes, cause) in rows {
        check(
            developer(operation, code, message),
            code,
            message,
            (*kind, *remedy, *passes, *cause),
        );
    }
}

#[test]
fn the_same_words_are_advised_upon_by_the_operation_that_was_refused() {
    let hint = |operation, code, message| developer(operation, code, message).error.hint().unwrap().to_owned();
    let role = "Access to Role 'arn:aws:iam::123456789012:role/x' is forbidden.";
    assert!(hint(CREDENTIALS, "NotAuthorizedException", role).contains("custom_role_arn"));
    assert!(hint("SetIdentityPoolRoles", "NotAuthorizedException", role).contains("iam:PassRole"));
    let provider = "Please provide a valid public provider";
    let hint = |operation| hint(operation, "InvalidParameterException", provider);
    assert!(hint("GetId").contains("Login::developer"));
    assert!(hint(CREDENTIALS).contains("Login::developer"));
    assert!(hint(FOR_DEVELOPER).contains("link logins of providers that the pool lists"));
    assert!(hint("UpdateIdentityPool").contains("SupportedLoginProviders"));
}

#[test]
fn every_refusal_of_sts_has_its_meaning() {
    #[rustfmt::skip]
    #[allow(clippy::type_complexity, reason = "a table's row")]
    let rows: &[(&str, &str, K, Remedy, bool, Option<C>)] = &[
        ("ExpiredTokenException", "Token expired: current date/time 1624482533 must be before the expiration date/time1624482335", K::NotAuthorized, NewToken, false, Some(C::TokenExpired)),
        ("ExpiredTokenException", "Token too old: 441398", K::NotAuthorized, NewToken, false, Some(C::TokenExpired)),
        ("InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)", K::NotAuthorized, NewToken, false, Some(C::WrongTokenKind)),
        ("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements", K::Service, Nothing, true, Some(C::SignatureNotVerified)),
        ("InvalidIdentityToken", "Incorrect token audience", K::NotAuthorized, NewToken, false, Some(C::WrongPool)),
        ("InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://accounts.google.com", K::Configuration, Nothing, false, Some(C::ProviderNotConfigured)),
        ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", K::NotAuthorized, Nothing, false, Some(C::RoleNotAssumable)),
        ("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", K::Configuration, Nothing, false, None),
        ("ValidationError", "words that are new", K::Configuration, Nothing, false, None),
        ("PackedPolicyTooLarge", "Packed size of session tags consumes 142% of allotted space.", K::Configuration, Nothing, false, None),
        ("PackedPolicyTooLarge", "Serialized token too large for session", K::Configuration, Nothing, false, None),
        ("MalformedPolicyDocument", "", K::Configuration, Nothing, false, None), ("IDPRejectedClaim", "", K::NotAuthorized, NewToken, false, None), ("IDPCommunicationError", "", K::Service, Nothing, true, None), ("RegionDisabledException", "", K::Configuration, Nothing, false, None), ("Throttling", "Rate exceeded", K::Throttled, Nothing, true, Some(C::Throttled)),
    ];
    for (code, message, kind, remedy, passes, cause) in rows {
        check(
            developer(ASSUME_ROLE, code, message),
            code,
            message,
            (*kind, *remedy, *passes, *cause),
        );
    }
}

fn check(refused: Refused, code: &str, message: &str, expected: (K, Remedy, bool, Option<C>)) {
    let error = &refused.error;
    let found = (
        error.kind(),
        refused.remedy,
        error.is_retryable(),
        first_cause(&refused),
    );
    assert_eq!(found, expected, "{code}: {message}");
    assert_eq!(error.code(), Some(code));
    // None of the service's own words.
    let said = message
        .split([':', '.'])
        .max_by_key(|part| part.len())
        .unwrap_or_default()
        .trim();
    assert!(said.len() < 20 || !format!("{error:?}").contains(said), "{error:?}");
}

#[test]
fn an_error_without_a_type_is_told_by_its_status() {
    for (status, kind) in [
        (500, K::Service),
        (503, K::Service),
        (429, K::Throttled),
        (404, K::Configuration),
        (400, K::NotAuthorized),
        (403, K::NotAuthorized),
    ] {
        let refused = classify("GetId", &pool(), None, "", status, Facts::none(now()));
        assert_eq!((refused.error.kind(), refused.remedy), (kind, Nothing), "{status}");
    }
    // With a type the status says nothing.
    let refused = classify(
        "GetId",
        &pool(),
        Some("NotAuthorizedException"),
        "Invalid login token. Token is expired.",
        500,
        Facts::none(now()),
    );
    assert_eq!(refused.remedy, NewToken);
}

#[test]
fn a_guest_is_given_up_only_if_it_is_gone_or_forbidden() {
    for (code, message, remedy) in [
        (
            "ResourceNotFoundException",
            "Identity 'us-east-1:0b1c' not found.",
            NewIdentity,
        ),
        (
            "NotAuthorizedException",
            "Access to Identity 'us-east-1:0b1c' is forbidden.",
            NewIdentity,
        ),
        ("NotAuthorizedException", "words that are new", Nothing),
        (
            "NotAuthorizedException",
            "Logins don't match. Please include at least one valid login.",
            Nothing,
        ),
        (
            "NotAuthorizedException",
            "Unauthenticated access is not supported for this identity pool.",
            Nothing,
        ),
    ] {
        let refused = guest(code, message);
        assert_eq!(refused.remedy, remedy, "{message}");
        let gone = refused
            .error
            .causes()
            .iter()
            .any(|c| matches!(c.kind, C::IdentityForbidden | C::IdentityDeleted));
        assert_eq!(gone, remedy == NewIdentity, "{message}: {:?}", refused.error.causes());
    }
}

#[test]
fn what_is_missing_is_the_pool_unless_an_identity_was_asked_for() {
    let refused = classify(
        "ListIdentities",
        &pool(),
        Some("ResourceNotFoundException"),
        "new",
        400,
        Facts::none(now()),
    );
    assert_eq!((refused.error.kind(), refused.remedy), (K::Configuration, Nothing));
}

#[test]
fn a_token_for_another_pool_is_a_wrong_setting_and_not_a_wrong_identity() {
    let token = developer_token(&[("aud", "eu-west-1:335c1f44-87c9-4bbd-a314-93b47d91fadd".into())]);
    let refused = with_token(
        CREDENTIALS,
        "NotAuthorizedException",
        "Logins don't match. Please",
        &token,
    );
    assert_eq!((refused.error.kind(), refused.remedy), (K::Configuration, Nothing));
    assert_eq!(first_cause(&refused), Some(C::WrongPool));
    let hint = refused.error.hint().unwrap();
    assert!(hint.contains("eu-west-1:335c1f44") && hint.contains(POOL), "{hint}");
}

#[test]
fn an_unclear_refusal_of_an_expired_token_asks_for_a_new_token_and_keeps_the_identity() {
    let token = developer_token(&[("exp", (NOW - 42).into())]);
    let refused = with_token(CREDENTIALS, "NotAuthorizedException", "words that are new", &token);
    assert_eq!(
        (refused.remedy, first_cause(&refused)),
        (NewToken, Some(C::TokenExpired))
    );
    assert!(refused.error.hint().unwrap().contains("expired 42 s ago"));
    // In words that mean the wrong kind of token, as was seen for expired ones.
    let refused = with_token(
        CREDENTIALS,
        "NotAuthorizedException",
        "Invalid login token. Not a Cognito token.",
        &token,
    );
    assert_eq!(
        (refused.remedy, first_cause(&refused)),
        (NewToken, Some(C::TokenExpired))
    );
}

#[test]
fn a_token_that_cognito_did_not_issue_is_not_asked_for_again() {
    let token = developer_token(&[(
        "iss",
        "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI".into(),
    )]);
    let refused = with_token(
        CREDENTIALS,
        "NotAuthorizedException",
        "Invalid login token. Not a Cognito token.",
        &token,
    );
    assert_eq!((refused.error.kind(), refused.remedy), (K::Configuration, Nothing));
    assert!(refused.error.causes()[0].evidence.contains("us-east-1_AbCdEfGhI"));
}

#[test]
fn a_signature_that_cognito_cannot_verify_passes_only_if_it_is_its_own() {
    let refuse = |token: &str| {
        with_token(
            CREDENTIALS,
            "NotAuthorizedException",
            "Invalid login token. Couldn't verify signed token.",
            token,
        )
    };
    assert!(refuse(&developer_token(&[])).error.is_retryable());
    let forged = refuse(&developer_token(&[("iss", "https://accounts.google.com".into())]));
    assert!(!forged.error.is_retryable());
    assert_eq!(forged.remedy, NewToken);
    assert!(!refuse("opaque").error.is_retryable());
}

#[test]
fn logins_that_do_not_match_come_with_what_is_seen_first_and_what_may_be_last() {
    let bob = developer_token(&[("sub", "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4bb0b0".into())]);
    let refused = with_token(
        CREDENTIALS,
        "NotAuthorizedException",
        "Logins don't match. Please",
        &bob,
    );
    let kinds: Vec<_> = refused.error.causes().iter().map(|cause| cause.kind).collect();
    assert_eq!(
        (refused.remedy, kinds),
        (NewIdentity, vec![C::WrongIdentity, C::WrongPool])
    );
    assert!(refused.error.causes()[0].evidence.contains("…b0b0"));
}

#[test]
fn the_service_tells_how_far_the_clocks_are_apart() {
    let message = format!("Invalid login token. Token expired: {} >= {}", NOW + 7_200, NOW + 890);
    let refused = developer(CREDENTIALS, "NotAuthorizedException", &message);
    let told: Vec<_> = refused
        .error
        .causes()
        .iter()
        .map(|cause| (cause.kind, &*cause.evidence))
        .collect();
    assert_eq!(
        told,
        [
            (C::TokenExpired, "by the service's clock the token expired 6310 s ago"),
            (C::ClockSkew, "the local clock is 7200 s behind the service's"),
        ]
    );
    // Clocks that agree are not mentioned.
    let message = format!(
        "Token expired: current date/time {NOW} must be before the expiration date/time{}",
        NOW - 5
    );
    let refused = developer(ASSUME_ROLE, "ExpiredTokenException", &message);
    assert_eq!(refused.error.causes().len(), 1);
    assert!(refused.error.causes()[0].evidence.contains("5 s ago"));
}

#[test]
fn a_validation_error_names_the_member_and_never_its_value() {
    const ECHO: &str = "1 validation error detected: Value '{cognito-identity.amazonaws.com=canary}' at 'logins' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 50000, Member must have length greater than or equal to 1]";
    let refused = developer(CREDENTIALS, "ValidationException", ECHO);
    assert_eq!(refused.remedy, Nothing, "another identity does not shorten the token");
    assert!(
        refused.error.to_string().contains("a parameter was refused: logins"),
        "{}",
        refused.error
    );
    assert!(!format!("{refused:?}").contains("canary"));

    let stored = "2 validation errors detected: Value '' at 'identityId' failed to satisfy constraint: Member must have length greater than or equal to 1; Value 'canary' at 'customRoleArn' failed to satisfy constraint: Member must have length greater than or equal to 20";
    let refused = developer(CREDENTIALS, "ValidationException", stored);
    assert_eq!(refused.remedy, NewIdentityIfStored);
    assert!(
        refused.error.to_string().contains("identityId, customRoleArn"),
        "{}",
        refused.error
    );
    assert!(!format!("{refused:?}").contains("canary"));
}

#[test]
fn every_row_can_be_reached_and_says_what_it_means() {
    let mut seen = BTreeSet::new();
    for row in table::rows() {
        let (by, code, message) = row.example();
        let found = lookup(by, code, &message, 400);
        assert_eq!(found.place(), row.place(), "a row above takes {code:?} {message}");
        assert!(!row.meaning.is_empty() && row.meaning.is_ascii(), "{row:?}");
        assert!(seen.insert(row.place()), "{row:?}");
    }
    assert!(seen.len() > 45);
}

// ---- the troubleshooting guide ----

const TROUBLESHOOTING: &str = include_str!("../../../docs/troubleshooting.md");

/// All variants, as the compiler knows them.
macro_rules! all {
    ($type:ident: $($name:ident)+) => {{
        const fn complete(kind: $type) {
            match kind {
                $($type::$name)|+ => {}
            }
        }
        let all = [$($type::$name),+];
        all.into_iter().for_each(complete);
        all.map(|kind| format!("{kind:?}"))
    }};
}

#[test]
fn troubleshooting_has_an_entry_for_every_cause_and_every_kind_of_error() {
    let (causes, kinds) = TROUBLESHOOTING.split_once("\n## Kinds of errors\n").unwrap();
    let named = all!(CauseKind: TokenExpired WrongPool WrongIdentity WrongRegion WrongLoginsKey ProviderNotConfigured
        GuestsNotAllowed IdentityForbidden IdentityDeleted PoolNotFound RoleNotAssumable AccessDenied ClassicFlowDisabled ClockSkew
        SignatureNotVerified WrongTokenKind Throttled BackendUnreachable BackendStatus BackendAnswer);
    for name in named {
        assert!(causes.contains(&format!("\n### `{name}`\n")), "cause {name}");
    }
    let named = all!(ErrorKind: Configuration SignedOut SessionEnded IdentityChanged NotAuthorized IdentityNotFound
        UserAlreadyRegistered Conflict Denied ClaimRefused InvalidToken Throttled Service Transport Timeout InvalidResponse Backend Store Panicked
        Reentered Runtime);
    for name in named {
        assert!(kinds.contains(&format!("\n### `{name}`")), "kind {name}");
    }
}

#[test]
fn troubleshooting_can_be_searched_for_the_messages_that_tell_a_cause() {
    let page = TROUBLESHOOTING.replace("\n> ", " ");
    for row in table::rows().filter(|row| row.certain) {
        let says = row.place().2;
        assert!(page.contains(says), "{says}");
    }
}
