//! The token vendor against the local pool, over sockets, and against an answer that no pool gives.

use std::convert::Infallible;
use std::future;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::model::POOL;
use crate::stage::{PROVIDER, Stage, actions, user};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;
use axum::body::Bytes;
use cognito_identity_pool::{
    CognitoCredentialsProvider, DeveloperIdentity, ErrorKind, Login, Logins, TokenVendor,
    server::{GuestClaim, HttpRefusal, PrincipalTags, RequestLimit, VendRequest},
    token::TokenDuration,
};
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;

#[tokio::test]
async fn a_user_has_one_identity_and_the_token_opens_it() {
    let stage = Stage::start().await;
    let (one, other) = (stage.vendor(), stage.vendor());
    let alice = one.vend(&user("alice")).await.unwrap();
    assert_eq!(
        other.vend(&user("alice")).await.unwrap().identity_id(),
        alice.identity_id()
    );
    assert_ne!(one.vend(&user("bob")).await.unwrap().identity_id(), alice.identity_id());
    let key = stage.exchange(&alice).await.unwrap();
    assert_eq!(
        stage.pool.identity_of(&key).as_deref(),
        Some(alice.identity_id().as_str())
    );
}

#[tokio::test]
async fn what_a_handler_sends_is_what_a_client_signs_in_with() {
    let stage = Stage::start().await;
    let vended = stage.vendor().vend(&user("alice")).await.unwrap();
    let sent = serde_json::to_string(&vended.expose()).unwrap();
    let received: DeveloperIdentity = serde_json::from_str(&sent).unwrap();
    let client = CognitoCredentialsProvider::builder(stage.pool.identity_pool_id())
        .configure(&stage.pool.client_config())
        .build()
        .unwrap();
    drop(client.switch_to(Login::developer(received)));
    let credentials = client.provide_credentials().await.unwrap();
    assert_eq!(
        stage.pool.identity_of(credentials.access_key_id()).as_deref(),
        Some(vended.identity_id().as_str())
    );
}

#[tokio::test]
async fn a_token_lives_as_long_as_was_asked_for_and_not_a_second_more() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    for seconds in [1, 60, 86_400] {
        let duration = TokenDuration::from_secs(seconds).unwrap();
        let request = || VendRequest::new(user("alice")).token_duration(duration).fresh(true);
        let vended = vendor.vend_with(request()).await.unwrap();
        stage.clock.advance(Duration::from_secs(seconds - 1));
        assert!(stage.exchange(&vended).await.is_ok(), "{seconds}");
        stage.clock.advance(Duration::from_secs(1));
        assert_eq!(
            stage.exchange(&vended).await.unwrap_err(),
            "NotAuthorizedException",
            "{seconds}"
        );
        // Nor is it vended again.
        assert!(
            stage
                .exchange(&vendor.vend_with(request().fresh(false)).await.unwrap())
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn a_kept_token_is_vended_while_five_minutes_are_left() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    for (advance, asked) in [(0, 1), (599, 1), (1, 2), (600, 3)] {
        stage.clock.advance(Duration::from_secs(advance));
        let vended = vendor.vend(&user("alice")).await.unwrap();
        assert_eq!(stage.calls("GetOpenIdTokenForDeveloperIdentity"), asked);
        let left = vended
            .expires_at()
            .duration_since(aws_smithy_async::time::TimeSource::now(&stage.clock))
            .unwrap();
        assert!(left > Duration::from_secs(300), "{left:?}");
    }
}

#[tokio::test]
async fn tags_arrive_in_the_users_credentials() {
    let stage = Stage::start().await;
    let tags = PrincipalTags::new().with("tenant", "acme").unwrap();
    let vended = stage
        .vendor()
        .vend_with(VendRequest::new(user("alice")).principal_tags(tags))
        .await
        .unwrap();
    stage.exchange(&vended).await.unwrap();
    let exchange = stage.pool.requests_of("GetCredentialsForIdentity").pop().unwrap();
    assert_eq!(exchange.principal_tags["tenant"], "acme");
}

#[tokio::test]
async fn ids_and_tags_at_their_limits_are_taken_by_the_pool() {
    let stage = Stage::start().await;
    let tags =
        PrincipalTags::try_from_iter((0..50).map(|n| (format!("{n}{}", "k".repeat(3)), "v".to_owned()))).unwrap();
    let longest = PrincipalTags::new().with("k".repeat(128), "v".repeat(256)).unwrap();
    for (id, tags) in [
        ("x".repeat(1024), tags),
        ("ü".repeat(512), longest),
        ("a:b:c".to_owned(), PrincipalTags::new()),
    ] {
        stage
            .vendor()
            .vend_with(VendRequest::new(user(&id)).principal_tags(tags))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn credentials_are_vended_for_backends_that_hand_them_out() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let vended = vendor.vend_credentials(&user("alice")).await.unwrap();
    let credentials = vended.credentials();
    assert_eq!(
        stage.pool.identity_of(credentials.access_key_id()).as_deref(),
        Some(vended.identity_id().as_str())
    );
    let now = aws_smithy_async::time::TimeSource::now(&stage.clock);
    assert_eq!(
        credentials.expiry().unwrap().duration_since(now).unwrap(),
        Duration::from_secs(3_600)
    );
    let json = serde_json::to_value(vended.expose()).unwrap();
    assert_eq!(json["accessKeyId"], credentials.access_key_id());
    assert_eq!(json["expiration"], "2026-09-21T15:13:20Z");
}

#[tokio::test]
async fn credentials_for_a_user_whose_identity_was_deleted_come_with_a_new_one() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let first = vendor.vend_credentials(&user("alice")).await.unwrap();
    stage
        .admin()
        .delete_identities(&[first.identity_id().clone()])
        .await
        .unwrap();
    let second = vendor.vend_credentials(&user("alice")).await.unwrap();
    assert_ne!(first.identity_id(), second.identity_id());
    assert_eq!(stage.calls("GetOpenIdTokenForDeveloperIdentity"), 2);
}

#[tokio::test]
async fn a_guest_becomes_the_user_and_keeps_its_id() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "session-1").await.unwrap();
    let claim = GuestClaim::new(ticket.expose(), guest.clone(), "session-1");
    let linked = vendor.link_guest(&user("alice"), claim).await.unwrap();
    assert_eq!((linked.identity_id(), linked.replaces()), (&guest, None));
    assert!(stage.exchange(&linked).await.is_ok());
    assert!(!stage.is_guest(&guest).await, "the id alone does not open it any more");
    assert_eq!(vendor.vend(&user("alice")).await.unwrap().identity_id(), &guest);
}

#[tokio::test]
async fn the_same_user_may_link_the_same_guest_again() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    for _ in 0..2 {
        let ticket = vendor.issue_guest_claim(&guest, "session-1").await.unwrap();
        let claim = GuestClaim::new(ticket, guest.clone(), "session-1");
        assert_eq!(
            vendor.link_guest(&user("alice"), claim).await.unwrap().identity_id(),
            &guest
        );
    }
}

#[tokio::test]
async fn a_guest_of_a_user_who_has_an_identity_is_never_merged_here() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let own = vendor.vend(&user("alice")).await.unwrap();
    let guest = stage.guest().await;
    let claim = GuestClaim::new(vendor.issue_guest_claim(&guest, "s").await.unwrap(), guest.clone(), "s");
    let error = vendor.link_guest(&user("alice"), claim).await.unwrap_err();
    assert_eq!(
        (error.kind(), HttpRefusal::from(&error).status()),
        (ErrorKind::UserAlreadyRegistered, 409)
    );
    assert!(stage.is_guest(&guest).await);
    assert_eq!(
        vendor.vend(&user("alice")).await.unwrap().identity_id(),
        own.identity_id()
    );
}

#[tokio::test]
async fn a_guest_that_the_service_merges_is_reported_as_replaced() {
    let stage = Stage::with(|builder| builder.merge_guests(true)).await;
    let vendor = stage.vendor();
    let own = vendor.vend(&user("alice")).await.unwrap();
    let guest = stage.guest().await;
    let claim = GuestClaim::new(vendor.issue_guest_claim(&guest, "s").await.unwrap(), guest.clone(), "s");
    let linked = vendor.link_guest(&user("alice"), claim).await.unwrap();
    assert_eq!(
        (linked.identity_id(), linked.replaces()),
        (own.identity_id(), Some(&guest))
    );
}

#[tokio::test]
async fn an_external_account_is_linked_and_signs_in_as_the_user() {
    let stage = Stage::start().await;
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let vendor = stage.vendor();
    let alice = vendor.vend(&user("alice")).await.unwrap();
    let logins = Logins::new().google(google.token("g-1")).unwrap();
    let linked = vendor.link_external(&user("alice"), &logins).await.unwrap();
    assert_eq!(linked.identity_id(), alice.identity_id());
    let request = stage.client().get_id().identity_pool_id(stage.pool.identity_pool_id());
    let found = request
        .logins(Logins::GOOGLE, google.token("g-1"))
        .send()
        .await
        .unwrap();
    assert_eq!(found.identity_id.as_deref(), Some(alice.identity_id().as_str()));
    // A second account of the same provider cannot be added.
    let second = Logins::new().google(google.token("g-2")).unwrap();
    let error = vendor.link_external(&user("alice"), &second).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stalls_halfway_ends_in_time_whichever_timeouts_there_are() {
    let stalls = infallible_client_fn(|_: http::Request<SdkBody>| {
        let half = Frame::data(Bytes::from_static(br#"{"IdentityId":"us-east-1:"#));
        let body = stream::once(future::ready(Ok::<_, Infallible>(half))).chain(stream::pending());
        http::Response::new(SdkBody::from_body_1_x(StreamBody::new(body)))
    });
    let seconds = Duration::from_secs;
    let attempt = TimeoutConfig::builder().operation_attempt_timeout(seconds(2));
    let operation = TimeoutConfig::builder().operation_timeout(seconds(3));
    for (timeouts, kind, at_most) in [
        (None, ErrorKind::Timeout, seconds(6)),
        (Some(attempt.build()), ErrorKind::Timeout, seconds(3)),
        (Some(operation.build()), ErrorKind::Timeout, seconds(4)),
        // The SDK's own watch.
        (Some(TimeoutConfig::disabled()), ErrorKind::InvalidResponse, seconds(60)),
    ] {
        let config = Fleet::new(1).config(60).into_builder();
        let config = config.http_client(stalls.clone()).build();
        let mut builder = TokenVendor::builder(POOL, PROVIDER)
            .configure(&config)
            .retry_config(RetryConfig::disabled());
        if let Some(timeouts) = timeouts.clone() {
            builder = builder.timeout_config(timeouts);
        }
        let (vendor, alice) = (builder.build().unwrap(), user("alice"));
        let vended = tokio::time::timeout(at_most, vendor.vend(&alice)).await;
        let error = vended.expect("it ends in time").unwrap_err();
        assert_eq!(error.kind(), kind, "{timeouts:?}: {error}");
    }
}

#[tokio::test]
async fn under_the_quota_the_service_never_has_to_refuse() {
    let stage = Stage::with(|builder| builder.throttling(true)).await;
    // The clock stands still: whatever the vendor lets through falls into one second of the service's. It lets half of its limit
    // through at once, and the other half in the rest of the second.
    let vendor = stage
        .vendor_builder()
        .cache_capacity(0)
        .max_wait(Duration::ZERO)
        .request_limit(RequestLimit::per_second(50.try_into().unwrap()).burst(25.try_into().unwrap()))
        .build()
        .unwrap();
    let vends = (0..60).map(|n| {
        let vendor = vendor.clone();
        async move { vendor.vend(&user(&format!("user-{n}"))).await }
    });
    let refused: Vec<_> = futures_util::future::join_all(vends)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert_eq!(
        (refused.len(), stage.calls("GetOpenIdTokenForDeveloperIdentity")),
        (35, 25)
    );
    for error in refused {
        assert_eq!((error.kind(), error.code()), (ErrorKind::Throttled, None));
        assert!(error.retry_after().unwrap() > Duration::ZERO);
    }
}

#[tokio::test]
async fn a_throttled_account_is_told_with_a_time_to_come_again() {
    let stage = Stage::with(|builder| builder.throttling(true)).await;
    let vendor = stage
        .vendor_builder()
        .cache_capacity(0)
        .requests_per_second(None)
        .build()
        .unwrap();
    for n in 0..50 {
        vendor.vend(&user(&format!("user-{n}"))).await.unwrap();
    }
    let error = vendor.vend(&user("one-more")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Throttled, Some("TooManyRequestsException"))
    );
    let refusal = HttpRefusal::from(&error);
    assert_eq!((refusal.status(), refusal.retry_after_secs()), (429, Some(1)));
}

#[tokio::test]
async fn backend_credentials_that_are_wrong_expired_or_not_allowed_are_the_backends_fault() {
    let stage = Stage::start().await;
    let good = stage.pool.developer_credentials();
    let wrong = Credentials::new(good.access_key_id(), "another secret", None, None, "test");
    let unknown = Credentials::new("AKIAUNKNOWN", "secret", None, None, "test");
    let vendor = |config: aws_config::SdkConfig, stage: &Stage| {
        TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
            .configure(&config)
            .endpoint_url(stage.pool.endpoint_url())
            .retry_config(RetryConfig::disabled())
            .build()
            .unwrap()
    };
    for credentials in [wrong, unknown] {
        let config = stage
            .config()
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        let error = vendor(config.build(), &stage).vend(&user("alice")).await.unwrap_err();
        assert_eq!(
            (error.kind(), HttpRefusal::from(&error).status()),
            (ErrorKind::NotAuthorized, 500),
            "{error:?}"
        );
    }
    let stage = Stage::with(|builder| builder.deny("GetOpenIdTokenForDeveloperIdentity")).await;
    let error = stage.vendor().vend(&user("alice")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::NotAuthorized, Some("AccessDeniedException"))
    );
    let sent = serde_json::to_string(&HttpRefusal::from(&error)).unwrap();
    assert_eq!(sent, r#"{"error":"internal"}"#);
}

#[tokio::test]
async fn ready_says_whether_the_pool_knows_this_backend() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    vendor.ready().await.unwrap();
    vendor.ready().await.unwrap();
    assert_eq!(stage.calls("DescribeIdentityPool"), 1, "a success is remembered");
    stage.clock.advance(Duration::from_secs(86_400));
    vendor.ready().await.unwrap();
    assert_eq!(
        stage.calls("DescribeIdentityPool"),
        1,
        "settings that are right stay so"
    );

    let other = Stage::with(|builder| builder.developer_provider("login.other")).await;
    let error = other.vendor().ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("login.other"), "{error}");
}

#[tokio::test]
async fn the_policy_names_exactly_the_operations_that_are_called() {
    let stage = Stage::start().await;
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let claim = GuestClaim::new(vendor.issue_guest_claim(&guest, "s").await.unwrap(), guest.clone(), "s");
    vendor.ready().await.unwrap();
    vendor.link_guest(&user("alice"), claim.clone()).await.unwrap();
    vendor.link_guest(&user("alice"), claim).await.unwrap();
    vendor.vend(&user("alice")).await.unwrap();
    vendor
        .vend_with(VendRequest::new(user("alice")).fresh(true))
        .await
        .unwrap();
    vendor.vend_credentials(&user("alice")).await.unwrap();
    let logins = Logins::new().google(google.token("g")).unwrap();
    vendor.link_external(&user("alice"), &logins).await.unwrap();
    assert_eq!(actions(&vendor.required_iam_policy()), stage.signed_operations());
}

#[tokio::test]
async fn without_guest_claims_the_policy_is_smaller_and_no_guest_is_linked() {
    let stage = Stage::start().await;
    let vendor = TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&stage.config())
        .build()
        .unwrap();
    assert!(!vendor.required_iam_policy().contains("DescribeIdentity\""));
    let guest = stage.guest().await;
    let error = vendor.issue_guest_claim(&guest, "s").await.unwrap_err();
    assert!(error.hint().unwrap().contains(".guest_claims("));
    let error = vendor
        .link_guest(&user("alice"), GuestClaim::new("ticket", guest, "s"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}
