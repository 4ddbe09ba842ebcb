//! What needs no pool: answers by a closure, time told by hand.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::TimeSource;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_types::SdkConfig;

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::server::{HttpRefusal, PrincipalTags};
use crate::token::TokenDuration;

pub(in crate::server) const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";
pub(in crate::server) const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
const NOW: u64 = 1_790_000_000;

#[derive(Debug, Clone)]
pub(in crate::server) struct Told(Arc<Mutex<SystemTime>>);

impl Told {
    pub(in crate::server) fn new() -> Self {
        Self(Arc::new(Mutex::new(UNIX_EPOCH + Duration::from_secs(NOW))))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl TimeSource for Told {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

pub(in crate::server) fn user(id: &str) -> DeveloperUserId {
    DeveloperUserId::new(id).unwrap()
}

fn token(sub: &str, aud: &str) -> String {
    let payload = format!(r#"{{"sub":"{sub}","aud":"{aud}","iat":{NOW},"exp":{}}}"#, NOW + 900);
    format!("e30.{}.c2ln", base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload))
}

fn good() -> (u16, String) {
    (200, format!(r#"{{"IdentityId":"{ID}","Token":"{}"}}"#, token(ID, POOL)))
}

pub(in crate::server) fn refusal(code: &str, message: &str) -> (u16, String) {
    (400, format!(r#"{{"__type":"{code}","message":"{message}"}}"#))
}

pub(in crate::server) fn config(
    time: &Told,
    answer: impl Fn(String) -> (u16, String) + Send + Sync + 'static,
) -> aws_types::sdk_config::Builder {
    SdkConfig::builder()
        .behavior_version(aws_sdk_cognitoidentity::config::BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
        .time_source(time.clone())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .http_client(infallible_client_fn(move |request: http::Request<SdkBody>| {
            let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
            let (status, answer) = answer(body);
            http::Response::builder()
                .status(status)
                .body(SdkBody::from(answer))
                .unwrap()
        }))
}

fn builder(config: aws_types::sdk_config::Builder) -> TokenVendorBuilder {
    TokenVendor::builder(POOL, "login.mycompany.myapp")
        .configure(&config.build())
        .retry_config(RetryConfig::disabled())
}

/// A vendor, and how often it has asked.
fn counted(time: &Told, answer: fn() -> (u16, String)) -> (TokenVendorBuilder, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let config = config(time, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        answer()
    });
    (builder(config), asked)
}

#[test]
fn what_is_wrong_with_the_settings_is_told_by_build() {
    let good = config(&Told::new(), |_| good()).build();
    let build = |pool: &str, name: &str| TokenVendor::builder(pool, name).configure(&good).build();
    assert!(build(POOL, "login.mycompany.myapp").is_ok());
    for (pool, name, says) in [
        ("MyPool", "login", "pool's name"),
        (POOL, "my app", "space"),
        ("", "login", "empty"),
    ] {
        let error = build(pool, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = TokenVendor::builder(POOL, "login").build().unwrap_err();
    assert!(error.hint().unwrap().contains(".configure("), "{error}");
    let bare = SdkConfig::builder().build();
    let error = TokenVendor::builder(POOL, "login")
        .configure(&bare)
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("no credentials provider"), "{error}");
}

#[tokio::test]
async fn a_token_is_vended_again_while_enough_of_its_life_is_left() {
    let time = Told::new();
    let (builder, asked) = counted(&time, good);
    let vendor = builder.build().unwrap();
    let vended = vendor.vend(&user("u")).await.unwrap();
    assert_eq!(vended.identity_id().as_str(), ID);
    time.advance(Duration::from_secs(599));
    vendor.vend(&user("u")).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    time.advance(Duration::from_secs(1));
    vendor.vend(&user("u")).await.unwrap();
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "five minutes are left, and that is the limit"
    );
}

#[tokio::test]
async fn another_user_duration_or_tag_is_another_token() {
    let (builder, asked) = counted(&Told::new(), good);
    let vendor = builder.build().unwrap();
    let tags = PrincipalTags::new().with("tenant", "a").unwrap();
    for _ in 0..2 {
        vendor.vend(&user("u")).await.unwrap();
        vendor.vend(&user("v")).await.unwrap();
        vendor
            .vend_with(VendRequest::new(user("u")).principal_tags(tags.clone()))
            .await
            .unwrap();
        let longer = TokenDuration::from_secs(901).unwrap();
        vendor
            .vend_with(VendRequest::new(user("u")).token_duration(longer))
            .await
            .unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    vendor.vend_with(VendRequest::new(user("u")).fresh(true)).await.unwrap();
    assert_eq!(
        asked.load(Ordering::SeqCst),
        5,
        "a token that was refused is not vended again"
    );
    vendor.evict(&user("u"));
    vendor.vend(&user("u")).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn with_the_cache_off_each_vend_is_a_request() {
    let (builder, asked) = counted(&Told::new(), good);
    let vendor = builder.cache_capacity(0).build().unwrap();
    for _ in 0..3 {
        vendor.vend(&user("u")).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn many_vends_at_once_are_one_request() {
    let (builder, asked) = counted(&Told::new(), good);
    let vendor = builder.build().unwrap();
    let vends = (0..1_000).map(|_| {
        let vendor = vendor.clone();
        tokio::spawn(async move { vendor.vend(&user("u")).await.map(|vended| vended.identity_id().clone()) })
    });
    for vend in futures_util::future::join_all(vends).await {
        assert_eq!(vend.unwrap().unwrap().as_str(), ID);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Credentials that are asked for through a gate: a vend stands still where a test wants it.
#[derive(Debug)]
struct Gate(tokio::sync::Semaphore);

impl ProvideCredentials for Gate {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            drop(self.0.acquire().await);
            Ok(Credentials::for_tests())
        })
    }
}

fn gated(config: aws_types::sdk_config::Builder) -> (Arc<Gate>, aws_types::sdk_config::Builder) {
    let gate = Arc::new(Gate(tokio::sync::Semaphore::new(0)));
    let provider: Arc<dyn ProvideCredentials> = Arc::<Gate>::clone(&gate);
    (
        gate,
        config.credentials_provider(SharedCredentialsProvider::new(provider)),
    )
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_wait_and_not_kept() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (gate, config) = gated(config(&Told::new(), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        refusal("InternalErrorException", "x")
    }));
    let vendor = builder(config).build().unwrap();
    let user = user("u");
    let open = async { gate.0.add_permits(100) };
    let (a, b, ()) = tokio::join!(vendor.vend(&user), vendor.vend(&user), open);
    assert!(a.unwrap_err().is_retryable() && b.unwrap_err().is_retryable());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    vendor.vend(&user).await.unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_user_who_is_denied_while_the_request_is_out_gets_nothing() {
    let (gate, config) = gated(config(&Told::new(), |_| good()));
    let vendor = builder(config).build().unwrap();
    let vend = tokio::spawn({
        let vendor = vendor.clone();
        async move { vendor.vend(&user("u")).await }
    });
    tokio::task::yield_now().await;
    vendor.deny(&user("u")).await.unwrap();
    gate.0.add_permits(100);
    assert_eq!(vend.await.unwrap().unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(vendor.vend(&user("u")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert!(vendor.vend(&user("v")).await.is_ok());
    vendor.allow(&user("u")).await.unwrap();
    assert!(vendor.vend(&user("u")).await.is_ok());
}

#[tokio::test]
async fn a_caller_who_leaves_takes_nothing_from_the_others() {
    let (gate, config) = gated(config(&Told::new(), |_| good()));
    let vendor = builder(config).build().unwrap();
    let vend = || {
        let vendor = vendor.clone();
        tokio::spawn(async move { vendor.vend(&user("u")).await })
    };
    let (first, second) = (vend(), vend());
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.0.add_permits(100);
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test]
async fn credentials_that_panic_are_an_error_for_all_who_wait() {
    #[derive(Debug)]
    struct Panics;
    impl ProvideCredentials for Panics {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async { panic!("credentials") })
        }
    }
    let config = config(&Told::new(), |_| good()).credentials_provider(SharedCredentialsProvider::new(Panics));
    let vendor = builder(config).build().unwrap();
    let user = user("u");
    let (a, b) = tokio::join!(vendor.vend(&user), vendor.vend(&user));
    assert_eq!(
        (a.unwrap_err().kind(), b.unwrap_err().kind()),
        (ErrorKind::Panicked, ErrorKind::Panicked)
    );
}

#[tokio::test]
async fn credentials_that_cannot_be_loaded_are_a_typed_error_that_shows_the_client_nothing() {
    #[derive(Debug)]
    struct Fails;
    impl ProvideCredentials for Fails {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("profile arn:aws:iam::1:role/x")))
        }
    }
    let config = config(&Told::new(), |_| good()).credentials_provider(SharedCredentialsProvider::new(Fails));
    let error = builder(config).build().unwrap().vend(&user("u")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Configuration, false));
    assert!(
        error.to_string().contains("AWS credentials could not be loaded"),
        "{error}"
    );
    assert!(!error.to_string().contains("arn:"));
    let refusal = HttpRefusal::from(&error);
    assert_eq!(
        (refusal.status(), serde_json::to_string(&refusal).unwrap()),
        (500, r#"{"error":"internal"}"#.into())
    );
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named_to_the_backend_and_not_to_the_client() {
    let (builder, _) = counted(&Told::new(), || {
        refusal(
            "AccessDeniedException",
            "User: arn:aws:sts::123456789012:assumed-role/backend/i-1 is not authorized",
        )
    });
    let error = builder.build().unwrap().vend(&user("u")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::NotAuthorized, Some("AccessDeniedException"))
    );
    assert_eq!(HttpRefusal::from(&error).status(), 500);
    assert!(!error.to_string().contains("arn:"), "{error}");
}

#[tokio::test]
async fn a_throttled_account_and_an_exhausted_bucket_say_when_to_come_again() {
    let (builder, asked) = counted(&Told::new(), || refusal("TooManyRequestsException", "Rate exceeded"));
    let vendor = builder
        .requests_per_second(std::num::NonZeroU32::new(2))
        .max_wait(Duration::ZERO)
        .build()
        .unwrap();
    let error = vendor.vend(&user("u")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::Throttled, Some(Duration::from_secs(1)))
    );
    assert_eq!(error.code(), Some("TooManyRequestsException"));
    // The account throttles: from here on it is asked less than twice a second.
    let error = vendor.vend(&user("u")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.retry_after().unwrap() > Duration::from_millis(500), "{error:?}");
    assert_eq!((error.code(), HttpRefusal::from(&error).status()), (None, 429));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn answers_that_fit_no_request_are_refused() {
    let other = "us-east-1:99999999-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
    let bodies = [
        "{}".to_owned(),
        format!(r#"{{"IdentityId":"{ID}"}}"#),
        format!(r#"{{"Token":"{}"}}"#, token(ID, POOL)),
        format!(r#"{{"IdentityId":"{ID}","Token":""}}"#),
        r#"{"IdentityId":"my-pool","Token":"t.t.t"}"#.to_owned(),
        format!(r#"{{"IdentityId":"{ID}","Token":"secret with space"}}"#),
        format!(r#"{{"IdentityId":"{ID}","Token":"{}"}}"#, token(other, POOL)),
        format!(r#"{{"IdentityId":"{ID}","Token":"{}"}}"#, token(ID, other)),
    ];
    for body in bodies {
        let shown = body.clone();
        let vendor = builder(config(&Told::new(), move |_| (200, body.clone())))
            .build()
            .unwrap();
        let error = vendor.vend(&user("u")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{shown}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn an_identity_other_than_the_one_on_record_is_reported() {
    let (builder, _) = counted(&Told::new(), good);
    let vendor = builder.build().unwrap();
    let on_record = IdentityId::new("us-east-1:99999999-5e6f-7a8b-9c0d-1e2f3a4b5c6d").unwrap();
    for _ in 0..2 {
        let request = VendRequest::new(user("u")).expect_identity(on_record.clone());
        assert_eq!(vendor.vend_with(request).await.unwrap().replaces(), Some(&on_record));
    }
    assert_eq!(vendor.vend(&user("u")).await.unwrap().replaces(), None);
}

#[tokio::test]
async fn a_user_id_that_looks_like_personal_data_never_leaves_the_process() {
    let (builder, asked) = counted(&Told::new(), good);
    let vendor = builder.build().unwrap();
    let error = vendor.vend(&user("alice@example.com")).await.unwrap_err();
    assert!(error.hint().unwrap().contains(".allow_personal_user_ids()"));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let (builder, asked) = counted(&Told::new(), good);
    builder
        .allow_personal_user_ids()
        .build()
        .unwrap()
        .vend(&user("alice@example.com"))
        .await
        .unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_vend_names_the_user_and_never_an_identity() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let config = config(&Told::new(), move |body| {
        seen.lock().unwrap().push(body);
        good()
    });
    let vendor = builder(config).build().unwrap();
    let on_record = IdentityId::new(ID).unwrap();
    let tags = PrincipalTags::new().with("tenant", "a").unwrap();
    vendor
        .vend_with(
            VendRequest::new(user("a:b"))
                .principal_tags(tags)
                .expect_identity(on_record),
        )
        .await
        .unwrap();
    let body: serde_json::Value = serde_json::from_str(&bodies.lock().unwrap()[0]).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "IdentityPoolId": POOL,
            "Logins": { "login.mycompany.myapp": "a:b" },
            "PrincipalTags": { "tenant": "a" },
            "TokenDuration": 900,
        })
    );
}

#[tokio::test]
async fn external_logins_are_counted_before_the_network() {
    let (builder, asked) = counted(&Told::new(), good);
    let vendor = builder.build().unwrap();
    let logins = |n: usize| {
        (0..n)
            .try_fold(Logins::new(), |logins, n| logins.with(format!("idp{n}.example"), "t"))
            .unwrap()
    };
    for refused in [
        logins(0),
        logins(10),
        Logins::new().with("login.mycompany.myapp", "someone-else").unwrap(),
    ] {
        let error = vendor.link_external(&user("u"), &refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    vendor.link_external(&user("u"), &logins(9)).await.unwrap();
    vendor.link_external(&user("u"), &logins(9)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2, "never cached");
}
