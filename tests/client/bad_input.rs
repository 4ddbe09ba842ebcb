//! What is wrong is refused where it comes in, with an error that says what and what to do; and what is still valid is served on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::stage::{Order, Stage, ours};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperProviderName, DeveloperUserId, Error,
    ErrorKind, Login, OpenIdToken, developer::developer_fn, server::PrincipalTags, token::TokenDuration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn build_error(pool: &str) -> Error {
    CognitoCredentialsProvider::builder(pool).build().unwrap_err()
}

#[test]
fn a_pool_name_in_place_of_a_pool_id_is_refused() {
    let error = build_error("my-app-pool");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("is it the pool's name?"), "{error}");
    assert!(build_error("us-east-1_AbCdEfGhI").to_string().contains("user pool"));
}

#[tokio::test]
async fn an_identity_id_in_place_of_a_pool_id_is_told_by_what_cognito_answers() {
    // The two have the same form, so nothing can be seen before the call.
    let stage = Stage::start().await;
    let user = stage.backend("alice").vend(None).await.unwrap();
    let builder = CognitoCredentialsProvider::builder(user.identity_id().as_str());
    let provider = builder.configure(&stage.pool.client_config()).build().unwrap();
    provider.switch_to(Login::guest());
    let error = ours(&provider.provide_credentials().await.unwrap_err());
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Configuration, Some("ResourceNotFoundException"))
    );
    assert!(error.hint().unwrap().contains("pool id"), "{error:?}");
    // A developer's token says for which pool it is.
    provider.switch_to(Login::developer(user));
    let error = ours(&provider.provide_credentials().await.unwrap_err());
    assert!(error.to_string().contains("another pool"), "{error}");
}

#[test]
fn an_empty_token_a_duration_out_of_range_and_51_tags_are_refused() {
    assert!(OpenIdToken::new("").unwrap_err().to_string().contains("empty"));
    for seconds in [0, 86_401] {
        assert!(
            TokenDuration::from_secs(seconds)
                .unwrap_err()
                .to_string()
                .contains("86400")
        );
    }
    let tags = (0..51).map(|n| (format!("k{n}"), "v".to_owned()));
    assert!(
        PrincipalTags::try_from_iter(tags)
            .unwrap_err()
            .to_string()
            .contains("50")
    );
    assert!(
        DeveloperProviderName::new("my company")
            .unwrap_err()
            .to_string()
            .contains("space")
    );
    assert!(
        DeveloperUserId::new("x".repeat(1025))
            .unwrap_err()
            .to_string()
            .contains("1025")
    );
}

#[test]
fn a_provider_is_built_without_a_runtime() {
    let provider = CognitoCredentialsProvider::builder("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd");
    #[cfg(feature = "default-https-client")]
    provider.build().unwrap();
    #[cfg(not(feature = "default-https-client"))]
    assert!(
        provider
            .build()
            .unwrap_err()
            .hint()
            .unwrap()
            .contains("default-https-client")
    );
}

/// A server that answers every request with the same bytes.
async fn backend_that_answers(bytes: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/aws/identity", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            socket.read(&mut request).await.map(drop).unwrap_or_default();
            socket.write_all(bytes).await.unwrap_or_default();
        }
    });
    url
}

/// The hook of the crate's documentation, after one good answer.
async fn signed_in_once(stage: &Stage, url: String) -> CognitoCredentialsProvider {
    let (http, backend, first) = (
        reqwest::Client::new(),
        stage.backend("alice"),
        Arc::new(AtomicBool::new(true)),
    );
    let provider = stage.provider();
    let alice = provider.switch_to(Login::developer(developer_fn(move |_| {
        let (http, url, backend, first) = (http.clone(), url.clone(), backend.clone(), Arc::clone(&first));
        async move {
            if first.swap(false, Ordering::SeqCst) {
                return backend.vend(None).await;
            }
            let response = http.post(url).send().await?;
            if response.status() == 401 {
                return Err(BackendError::signed_out());
            }
            Ok(response.error_for_status()?.json::<DeveloperIdentity>().await?)
        }
    })));
    alice.ready().await.unwrap();
    provider
}

/// Inside the window in which callers wait for a refresh, and with nearly a minute left.
const NEARLY_OVER: Duration = Duration::from_secs(3_600 - 50);

#[tokio::test]
async fn a_backend_that_answers_nonsense_is_named_and_what_is_valid_is_served_on() {
    for (bytes, why) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 21\r\n\r\n<html>sign in!</html>"[..],
            "decod",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\nconnection: close\r\n\r\n{\"identityId\":\"us-east",
            "decod",
        ),
        (
            b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
            "500",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "decod"),
    ] {
        let stage = Stage::start().await;
        let provider = signed_in_once(&stage, backend_that_answers(bytes).await).await;
        let before = provider.provide_credentials().await.unwrap();
        stage.clock.advance(NEARLY_OVER);
        let during = provider.provide_credentials().await.unwrap();
        assert_eq!(before.access_key_id(), during.access_key_id());
        stage.clock.advance(Duration::from_secs(60));
        let error = ours(&provider.provide_credentials().await.unwrap_err());
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, true));
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(why), "{source}");
        assert!(!format!("{error:?}").contains("sign in!"), "{error:?}");
    }
}

#[tokio::test]
async fn a_backend_that_answers_401_means_signed_out() {
    let stage = Stage::start().await;
    let url = backend_that_answers(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    let provider = signed_in_once(&stage, url).await;
    stage.clock.advance(NEARLY_OVER);
    // A refusal is not an outage: it is raised at once, although the credentials had 50 s left.
    let error = ours(&provider.provide_credentials().await.unwrap_err());
    assert_eq!((error.kind(), error.needs_sign_in()), (ErrorKind::SignedOut, true));
}

#[tokio::test]
async fn a_token_for_another_pool_or_identity_is_named_and_what_is_valid_is_served_on() {
    let (stage, elsewhere) = (Stage::start().await, Stage::start().await);
    let (alice, bob) = (stage.backend("alice"), stage.backend("bob"));
    let other_pool = elsewhere.backend("alice").vend(None).await.unwrap();
    let (of_alice, of_bob) = (alice.vend(None).await.unwrap(), bob.vend(None).await.unwrap());
    let mixed_up = DeveloperIdentity::new(of_alice.identity_id().clone(), of_bob.token().clone());
    for (answer, why) in [(other_pool, "another pool"), (mixed_up, "another identity")] {
        let provider = stage.provider();
        let backend = stage.backend("alice");
        provider
            .switch_to(Login::developer(backend.clone()))
            .ready()
            .await
            .unwrap();
        let before = provider.provide_credentials().await.unwrap();
        backend.order(Order::Answer(answer.clone()));
        backend.order(Order::Answer(answer));
        stage.clock.advance(NEARLY_OVER);
        let during = provider.provide_credentials().await.unwrap();
        assert_eq!(before.access_key_id(), during.access_key_id());
        stage.clock.advance(Duration::from_secs(60));
        let error = ours(&provider.provide_credentials().await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::InvalidResponse);
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Sleeps that never end, until all of them end at once.
#[derive(Debug, Clone, Default)]
struct Sleeps(Arc<AtomicBool>);

impl AsyncSleep for Sleeps {
    fn sleep(&self, _: Duration) -> Sleep {
        let over = Arc::clone(&self.0);
        Sleep::new(std::future::poll_fn(move |_| {
            if over.load(Ordering::SeqCst) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        }))
    }
}

#[tokio::test]
async fn a_backend_that_never_answers_is_a_timeout() {
    let stage = Stage::start().await;
    let sleeps = Sleeps::default();
    let config = stage
        .pool
        .client_config()
        .into_builder()
        .sleep_impl(sleeps.clone())
        .build();
    let provider = CognitoCredentialsProvider::builder(stage.pool.identity_pool_id())
        .configure(&config)
        .build()
        .unwrap();
    let backend = stage.backend("alice");
    let _never = backend.hold();
    provider.switch_to(Login::developer(backend));
    sleeps.0.store(true, Ordering::SeqCst);
    let error = ours(&provider.provide_credentials().await.unwrap_err());
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true));
    assert!(error.hint().unwrap().contains("load_timeout"));
}

#[tokio::test]
async fn a_response_of_cognito_that_lacks_something_is_named_and_no_panic() {
    const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
    let credentials =
        r#""AccessKeyId":"ASIA","SecretKey":"canary-secret","SessionToken":"canary-session","Expiration":1.9E9"#;
    for (body, lacks) in [
        ("{}".to_owned(), "identity id"),
        (format!(r#"{{"IdentityId":"{ID}"}}"#), "credentials"),
        (format!(r#"{{"IdentityId":"{ID}","Credentials":{{}}}}"#), "expiration"),
        (
            format!(
                r#"{{"IdentityId":"{ID}","Credentials":{{{}}}}}"#,
                credentials.replace(r#""SecretKey":"canary-secret","#, "")
            ),
            "secret key",
        ),
        (
            format!(
                r#"{{"IdentityId":"{ID}","Credentials":{{{}}}}}"#,
                credentials.replace(r#","Expiration":1.9E9"#, "")
            ),
            "expiration",
        ),
        (
            format!(r#"{{"IdentityId":"not an id","Credentials":{{{credentials}}}}}"#),
            "valid identity id",
        ),
        (
            format!(r#"{{"IdentityId":"{ID}","Credentials":{{{}"#, &credentials[..40]),
            "could not be read",
        ),
        ("<html>".to_owned(), "could not be read"),
    ] {
        let stage = Stage::start().await;
        let identity = stage.backend("alice").vend(None).await.unwrap();
        let client = infallible_client_fn(move |_: http::Request<SdkBody>| {
            http::Response::builder()
                .status(200)
                .body(SdkBody::from(body.clone()))
                .unwrap()
        });
        let config = stage.pool.client_config().into_builder().http_client(client).build();
        let builder = CognitoCredentialsProvider::builder(stage.pool.identity_pool_id());
        let provider = builder.configure(&config).build().unwrap();
        provider.switch_to(Login::developer(identity));
        let error = provider.provide_credentials().await.unwrap_err();
        let ours = ours(&error);
        assert_eq!(ours.kind(), ErrorKind::InvalidResponse);
        assert!(ours.to_string().contains(lacks), "{ours} should say {lacks}");
        let shown = format!("{error:?} {}", aws_sdk_sts::error::DisplayErrorContext(&error));
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[tokio::test]
async fn a_hook_that_panics_or_asks_its_own_provider_is_a_typed_error_and_the_next_call_tries_again() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    backend.order(Order::Panic);
    provider.switch_to(Login::developer(backend.clone()));
    let error = ours(&provider.provide_credentials().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(!format!("{error:?}").contains("canary-panic"));
    provider.provide_credentials().await.unwrap();

    for asks_for_identity in [false, true] {
        let own = provider.clone();
        provider.switch_to(Login::developer(developer_fn(move |_| {
            let own = own.clone();
            async move {
                if asks_for_identity {
                    own.identity_id().await?;
                } else {
                    own.provide_credentials().await?;
                }
                Err(BackendError::terminal("not reached"))
            }
        })));
        let error = ours(&provider.provide_credentials().await.unwrap_err());
        let mut chain = format!("{error}");
        let mut next = std::error::Error::source(&error);
        while let Some(source) = next {
            chain.push_str(&source.to_string());
            next = source.source();
        }
        assert!(chain.contains("asked its own provider"), "{chain}");
    }
}
