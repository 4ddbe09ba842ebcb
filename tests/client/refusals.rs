//! The reaction table, end to end: what the provider does about each refusal that Cognito is known to make.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::stage::script::{Act, Script};
use crate::stage::{Stage, Wallet, google, ours};
use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{ErrorKind, Login, client::IdentityPolicy, token::RefreshReason};

const EXCHANGE: &str = "GetCredentialsForIdentity";
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Asks for a new token, once.
    NewToken,
    /// Asks anew who the user is, once.
    NewIdentity,
    /// Tries the same again, within bounds.
    Retries,
    /// Fails at once.
    Fails,
}
use Does::{Fails, NewIdentity, NewToken, Retries};
use ErrorKind::{Configuration, Conflict, IdentityNotFound, NotAuthorized, Service, Throttled};

/// Type, message, what it is, what is done for a developer user.
const TABLE: &[(&str, &str, ErrorKind, Does)] = &[
    (
        "NotAuthorizedException",
        "Invalid login token. Token expired: 1667365798 >= 1667235770",
        NotAuthorized,
        NewToken,
    ),
    (
        "NotAuthorizedException",
        "Invalid login token. Token is expired.",
        NotAuthorized,
        NewToken,
    ),
    (
        "NotAuthorizedException",
        "Invalid login token. Couldn't verify signed token.",
        NotAuthorized,
        NewToken,
    ),
    (
        "NotAuthorizedException",
        "Invalid login token. Not a Cognito token.",
        NotAuthorized,
        NewToken,
    ),
    (
        "NotAuthorizedException",
        "Invalid login token. Can't pass in a Cognito token.",
        Configuration,
        Fails,
    ),
    (
        "NotAuthorizedException",
        "Invalid login token. Issuer doesn't match providerName",
        Configuration,
        Fails,
    ),
    (
        "NotAuthorizedException",
        "Invalid login token. Missing a required claim: aud",
        Configuration,
        Fails,
    ),
    (
        "NotAuthorizedException",
        "Token is not from a supported provider of this identity pool.",
        Configuration,
        Fails,
    ),
    (
        "NotAuthorizedException",
        "This identity pool does not support the specified developer provider",
        Configuration,
        Fails,
    ),
    (
        "NotAuthorizedException",
        "Unauthenticated access is not supported for this identity pool.",
        Configuration,
        Fails,
    ),
    (
        "NotAuthorizedException",
        "The ambiguous role mapping rules for: p:c denied this request.",
        NotAuthorized,
        Fails,
    ),
    (
        "NotAuthorizedException",
        "Logins don't match. Please include at least one valid login for this identity or identity pool.",
        NotAuthorized,
        NewIdentity,
    ),
    (
        "NotAuthorizedException",
        "Access to Identity 'us-east-1:x' is forbidden.",
        NotAuthorized,
        NewIdentity,
    ),
    (
        "NotAuthorizedException",
        "Words that nobody has seen yet",
        NotAuthorized,
        NewIdentity,
    ),
    (
        "ResourceNotFoundException",
        "Identity 'us-east-1:x' not found.",
        IdentityNotFound,
        NewIdentity,
    ),
    (
        "ResourceNotFoundException",
        "IdentityPool 'us-east-1:x' not found.",
        Configuration,
        Fails,
    ),
    (
        "InvalidParameterException",
        "Please provide a valid public provider",
        Configuration,
        Fails,
    ),
    ("InvalidParameterException", "Something is wrong", Configuration, Fails),
    (
        "ValidationException",
        "1 validation error detected: Value 'canary-token' at 'logins' failed to satisfy constraint: x",
        Configuration,
        Fails,
    ),
    (
        "InvalidIdentityPoolConfigurationException",
        "Invalid identity pool configuration. Check assigned IAM roles for this pool.",
        Configuration,
        Fails,
    ),
    ("ResourceConflictException", "Login is already linked", Conflict, Fails),
    ("LimitExceededException", "limit", Configuration, Fails),
    (
        "AccessDeniedException",
        "User: anonymous is not authorized",
        NotAuthorized,
        Fails,
    ),
    ("TooManyRequestsException", "Rate exceeded", Throttled, Retries),
    ("ThrottlingException", "Rate exceeded", Throttled, Retries),
    ("ExternalServiceException", "x", Service, Retries),
    ("ConcurrentModificationException", "x", Service, Retries),
    ("InternalErrorException", "x", Service, Retries),
];

#[tokio::test]
async fn a_developer_session_reacts_as_the_table_says() {
    for (code, message, kind, does) in TABLE {
        for times in [1, 3] {
            let stage = Stage::start().await;
            let (script, backend) = (Script::new(&stage), stage.backend("alice"));
            backend.token_seconds.store(86_400, Ordering::SeqCst);
            let provider = script.builder(&stage).build().unwrap();
            let session = provider.switch_to(Login::developer(backend.clone()));
            let alice = session.ready().await.unwrap().identity_id;
            script.clear();
            for _ in 0..times {
                script.refuse(EXCHANGE, code, message);
            }
            stage.clock.advance(HOUR);
            let result = provider.provide_credentials().await;
            let row = format!("{code} {message:?} x {times}");
            let (backend_calls, exchanges) = match (does, times) {
                (NewToken | NewIdentity, _) => (1, 2),
                (Retries, 1) => (0, 2),
                (Retries, _) => (0, 3),
                (Fails, _) => (0, 1),
            };
            assert_eq!(
                (backend.calls() - 1, script.counts()),
                (backend_calls, (0, exchanges)),
                "{row}"
            );
            if times == 1 && *does != Fails {
                result.expect(&row);
            } else {
                let error = ours(&result.unwrap_err());
                assert_eq!((error.kind(), error.code()), (*kind, Some(*code)), "{row}");
                assert_eq!(
                    error.is_retryable(),
                    *does == Retries || message.contains("Couldn't verify"),
                    "{row}"
                );
                assert!(!format!("{error:?} {error}").contains("canary"), "{row}");
            }
            let last = backend.seen.lock().unwrap().last().unwrap().clone();
            match does {
                NewToken => assert_eq!(
                    (last.reason(), last.identity_id()),
                    (RefreshReason::TokenRejected, Some(&alice))
                ),
                NewIdentity => assert_eq!(
                    (last.reason(), last.identity_id()),
                    (RefreshReason::TokenRejected, None)
                ),
                Retries | Fails => {}
            }
            // The id is never lost to an error.
            assert_eq!(provider.identity_id().await.unwrap(), alice, "{row}");
        }
    }
}

#[tokio::test]
async fn a_guest_keeps_its_id_through_every_refusal_but_two() {
    for policy in [IdentityPolicy::Recreate, IdentityPolicy::Fail] {
        for (code, message, _, does) in TABLE {
            let stage = Stage::start().await;
            let script = Script::new(&stage);
            let provider = script.builder(&stage).identity_policy(policy).build().unwrap();
            let guest = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
            script.clear();
            script.refuse(EXCHANGE, code, message);
            stage.clock.advance(HOUR);
            let result = provider.provide_credentials().await;
            let gone = message.contains("forbidden") || message.contains("Identity 'us-east-1:x' not found");
            let recreated = gone && policy == IdentityPolicy::Recreate;
            let row = format!("{code} {message:?} {policy:?}");
            assert_eq!(result.is_ok(), recreated || *does == Retries, "{row}");
            let exchanges = if result.is_ok() { 2 } else { 1 };
            assert_eq!(script.counts(), (usize::from(recreated), exchanges), "{row}");
            assert_eq!(provider.identity_id().await.unwrap() != guest, recreated, "{row}");
            provider.sign_out();
            let again = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
            assert_eq!(again != guest, recreated, "{row}");
        }
    }
}

#[tokio::test]
async fn an_external_session_reacts_as_the_table_says() {
    for (code, message, _, does) in TABLE {
        let stage = Stage::start().await;
        let (script, issuer) = (Script::new(&stage), stage.google());
        let wallet = Wallet::new(google(&issuer, "alice"));
        let provider = script.builder(&stage).build().unwrap();
        let login = Login::external(wallet.clone()).subject("alice");
        let alice = provider.switch_to(login).ready().await.unwrap().identity_id;
        script.clear();
        script.refuse(EXCHANGE, code, message);
        stage.clock.advance(HOUR);
        *wallet.logins.lock().unwrap() = google(&issuer, "alice");
        let result = provider.provide_credentials().await;
        let row = format!("{code} {message:?}");
        let (asked, get_id, exchanges) = match does {
            NewToken => (2, 0, 2),
            NewIdentity => (1, 1, 2),
            Retries => (1, 0, 2),
            Fails => (1, 0, 1),
        };
        assert_eq!(
            (wallet.asked() - 1, script.counts()),
            (asked, (get_id, exchanges)),
            "{row}"
        );
        assert_eq!(result.is_ok(), *does != Fails, "{row}");
        assert_eq!(provider.identity_id().await.unwrap(), alice, "{row}");
    }
}

#[tokio::test]
async fn a_stored_id_that_cognito_cannot_read_is_asked_for_anew_once() {
    for (code, message, reset) in [
        ("InvalidParameterException", "Something is wrong", true),
        (
            "ValidationException",
            "1 validation error detected: Value 'x' at 'identityId' failed to satisfy constraint: x",
            true,
        ),
        (
            "ValidationException",
            "1 validation error detected: Value 'x' at 'logins' failed to satisfy constraint: x",
            false,
        ),
    ] {
        let stage = Stage::start().await;
        let (script, issuer) = (Script::new(&stage), stage.google());
        let provider = script.builder(&stage).build().unwrap();
        let login = || crate::stage::google_login(&issuer, "alice").subject("alice");
        let alice = provider.switch_to(login()).ready().await.unwrap().identity_id;
        script.clear();
        script.refuse(EXCHANGE, code, message);
        provider.switch_to(login());
        let result = provider.provide_credentials().await;
        assert_eq!(
            (result.is_ok(), script.counts()),
            (reset, if reset { (1, 2) } else { (0, 1) }),
            "{message}"
        );
        assert_eq!(provider.identity_id().await.unwrap(), alice);
    }
}

#[tokio::test]
async fn a_reset_after_a_new_token_is_bounded_too() {
    let stage = Stage::start().await;
    let (script, backend) = (Script::new(&stage), stage.backend("alice"));
    let provider = script.builder(&stage).build().unwrap();
    for _ in 0..4 {
        script.refuse(
            EXCHANGE,
            "NotAuthorizedException",
            "Invalid login token. Token is expired.",
        );
        script.refuse(EXCHANGE, "NotAuthorizedException", "Logins don't match.");
    }
    provider.switch_to(Login::developer(backend.clone()));
    provider.provide_credentials().await.unwrap_err();
    // The first, one for the token, one for the identity.
    assert_eq!((backend.calls(), script.counts()), (3, (0, 3)));
}

#[tokio::test]
async fn a_token_that_was_rejected_is_not_shown_again_though_its_clock_says_that_it_is_good() {
    let stage = Stage::start().await;
    let (script, backend) = (Script::new(&stage), stage.backend("alice"));
    backend.token_seconds.store(86_400, Ordering::SeqCst);
    let provider = script.builder(&stage).build().unwrap();
    provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    script.clear();
    script.refuse(
        EXCHANGE,
        "NotAuthorizedException",
        "Invalid login token. Token is expired.",
    );
    backend.order(crate::stage::Order::Fail(
        cognito_identity_pool::BackendError::transient("down"),
    ));
    stage.clock.advance(HOUR);
    provider.provide_credentials().await.unwrap_err();
    stage.clock.advance(Duration::from_secs(10));
    provider.provide_credentials().await.unwrap();
    assert_eq!((backend.calls(), script.counts()), (3, (0, 2)));
}

#[tokio::test]
async fn a_broken_answer_is_a_typed_error_and_the_next_call_works() {
    for (body, kind) in [
        ("{}".to_owned(), ErrorKind::InvalidResponse),
        ("{\"IdentityId\":".to_owned(), ErrorKind::InvalidResponse),
        ("{\"IdentityId\":\"not an id\"}".to_owned(), ErrorKind::InvalidResponse),
    ] {
        let stage = Stage::start().await;
        let script = Script::new(&stage);
        let provider = script.builder(&stage).build().unwrap();
        provider.switch_to(Login::guest());
        script.next("GetId", Act::Raw(200, body));
        let error = crate::stage::failure(&provider).await;
        assert_eq!((error.kind(), error.is_retryable()), (kind, true));
        provider.provide_credentials().await.unwrap();
        script.next(
            EXCHANGE,
            Act::Raw(
                200,
                "{\"IdentityId\":\"us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d\"}".to_owned(),
            ),
        );
        assert_eq!(
            provider.refresh_now().await.unwrap_err().kind(),
            ErrorKind::InvalidResponse
        );
        provider.provide_credentials().await.unwrap();
    }
}
