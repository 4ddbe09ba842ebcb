//! `HttpBackend` over real sockets: what it sends, and what it makes of every kind of answer.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stage::Stage;
use aws_config::SdkConfig;
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use cognito_identity_pool::{
    BackendError, DeveloperIdentity, DeveloperIdentityProvider, Error, ErrorKind, HttpBackend, Login, Logins,
    RefreshRequest,
    http_backend::{BearerReason, HttpBackendBuilder},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";

// ---- A backend that says what it is told to, byte by byte, and remembers what it was asked. ----

enum Reply {
    Bytes(Vec<u8>),
    /// A body without an end.
    Endless,
    /// Some bytes, then nothing more, on an open connection.
    Stalls(Vec<u8>),
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn bearers(&self) -> Vec<String> {
        let of = |request: &String| {
            let line = request
                .lines()
                .find_map(|line| line.strip_prefix("authorization: Bearer "));
            line.unwrap_or("none").to_owned()
        };
        self.all().iter().map(of).collect()
    }

    fn body(&self, index: usize) -> Value {
        let request = &self.all()[index];
        serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

struct Server {
    url: String,
    seen: Seen,
    answered: Arc<Notify>,
}

async fn request_of(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.unwrap_or("0").parse().unwrap() || read == 0 {
            return text.into_owned();
        }
    }
}

/// One answer per connection, in their order.
async fn serve(replies: impl IntoIterator<Item = Reply>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/aws/identity?v=1", listener.local_addr().unwrap());
    let (seen, answered) = (Seen::default(), Arc::new(Notify::new()));
    let replies: Vec<_> = replies.into_iter().collect();
    let (log, news) = (seen.clone(), Arc::clone(&answered));
    tokio::spawn(async move {
        let mut held = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = request_of(&mut stream).await;
            log.0.lock().unwrap().push(request);
            match reply {
                Reply::Bytes(bytes) => stream.write_all(&bytes).await.unwrap(),
                Reply::Endless => {
                    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\"";
                    stream.write_all(head).await.unwrap();
                    while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
                }
                Reply::Stalls(bytes) => {
                    stream.write_all(&bytes).await.unwrap();
                    held.push(stream);
                }
            }
            news.notify_one();
        }
        // What comes now is refused at the socket.
        drop(listener);
        std::future::pending::<()>().await;
        drop(held);
    });
    Server { url, seen, answered }
}

fn answer(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
            .into_bytes(),
    )
}

fn identity() -> Reply {
    let body = json!({ "identityId": ID, "token": "canary.token.t", "expiresAt": 1_790_000_900 }).to_string();
    answer("200 OK", "content-type: application/json; charset=utf-8\r\n", &body)
}

// ---- What the hook is asked. ----

/// The request of a session's first use.
async fn first_use() -> RefreshRequest {
    request_for(&Stage::start().await, |login| login).await
}

async fn request_for(stage: &Stage, login: impl FnOnce(Login) -> Login) -> RefreshRequest {
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    backend.links.store(false, std::sync::atomic::Ordering::SeqCst);
    provider.switch_to(Login::guest()).ready().await.unwrap();
    provider
        .switch_to(login(Login::developer(Arc::clone(&backend))))
        .ready()
        .await
        .unwrap();
    let seen = backend.seen.lock().unwrap();
    seen[0].clone()
}

fn config() -> SdkConfig {
    SdkConfig::builder().build()
}

fn backend(server: &Server) -> HttpBackendBuilder {
    HttpBackend::builder(&server.url)
        .configure(&config())
        .bearer("canary-bearer")
}

async fn refused(result: Result<DeveloperIdentity, BackendError>) -> Error {
    let error = Error::from(result.unwrap_err());
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    error
}

fn source(error: &Error) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

// ---- ----

#[tokio::test]
async fn one_post_brings_identity_and_token() {
    let server = serve([identity()]).await;
    let request = first_use().await;
    let identity = backend(&server).build().unwrap().refresh(&request).await.unwrap();
    assert_eq!(
        (identity.identity_id().as_str(), identity.token().expose_secret()),
        (ID, "canary.token.t")
    );
    let sent = server.seen.all()[0].to_lowercase();
    assert!(sent.starts_with("post /aws/identity?v=1 http/1.1\r\n"), "{sent}");
    for header in [
        "content-type: application/json",
        "accept: application/json",
        "authorization: bearer canary-bearer",
        "user-agent: cognito-identity-pool/",
    ] {
        assert!(sent.contains(&format!("\r\n{header}")), "{header}: {sent}");
    }
    // The guest, and the identity so far, are nobody's affair without a ticket.
    assert_eq!(server.seen.body(0), json!({ "reason": "firstUse", "attempt": 1 }));
}

#[tokio::test]
async fn the_guest_goes_along_with_its_ticket_and_never_without() {
    let stage = Stage::start().await;
    let request = request_for(&stage, |login| login).await;
    let guest = request.guest_to_link().unwrap().as_str().to_owned();
    let server = serve([identity(), identity()]).await;
    backend(&server)
        .guest_claim("the-ticket")
        .build()
        .unwrap()
        .refresh(&request)
        .await
        .unwrap();
    assert_eq!(
        server.seen.body(0)["guest"],
        json!({ "identityId": guest, "claim": "the-ticket" })
    );
    backend(&server).build().unwrap().refresh(&request).await.unwrap();
    assert!(!server.seen.all()[1].contains(&guest));
}

#[tokio::test]
async fn external_logins_go_along_for_linking() {
    let stage = Stage::start().await;
    let logins = Logins::new().facebook("EAAB").unwrap();
    let request = request_for(&stage, |login| login.with_external(logins)).await;
    let server = serve([identity()]).await;
    backend(&server).build().unwrap().refresh(&request).await.unwrap();
    assert_eq!(server.seen.body(0)["logins"], json!({ "graph.facebook.com": "EAAB" }));
}

#[tokio::test]
async fn a_rejected_bearer_is_asked_for_once_more_and_then_the_user_is_signed_out() {
    let unauthorized = || answer("401 Unauthorized", "", "canary");
    let server = serve([unauthorized(), identity(), unauthorized(), unauthorized(), identity()]).await;
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&reasons);
    let backend = HttpBackend::builder(&server.url)
        .configure(&config())
        .bearer_fn(move |reason| {
            log.lock().unwrap().push(reason);
            let count = log.lock().unwrap().len();
            async move { Ok(format!("bearer-{count}")) }
        })
        .build()
        .unwrap();
    let request = first_use().await;
    assert!(backend.refresh(&request).await.is_ok());
    let error = refused(backend.refresh(&request).await).await;
    assert!(error.needs_sign_in() && error.kind() == ErrorKind::SignedOut);
    use BearerReason::{Needed, Rejected};
    assert_eq!(*reasons.lock().unwrap(), [Needed, Rejected, Needed, Rejected]);
    assert_eq!(server.seen.bearers(), ["bearer-1", "bearer-2", "bearer-3", "bearer-4"]);
}

#[tokio::test]
async fn a_bearer_that_cannot_change_is_sent_once() {
    let server = serve([answer("401 Unauthorized", "", "")]).await;
    let error = refused(backend(&server).build().unwrap().refresh(&first_use().await).await).await;
    assert!(error.needs_sign_in());
    assert_eq!(server.seen.all().len(), 1);
}

#[tokio::test]
async fn what_the_closure_says_is_passed_on_and_nothing_is_sent() {
    let server = serve([identity()]).await;
    let backend = HttpBackend::builder(&server.url)
        .configure(&config())
        .bearer_fn(async |_| Err::<String, _>(BackendError::signed_out()))
        .build()
        .unwrap();
    assert!(refused(backend.refresh(&first_use().await).await).await.needs_sign_in());
    assert!(server.seen.all().is_empty());
}

#[tokio::test]
async fn every_answer_that_is_none_is_named_and_not_quoted() {
    const JSON: &str = "content-type: application/json\r\n";
    let big = format!("\"{}\"", "x".repeat(65_536));
    for (reply, passes, retry_after, says) in [
        (
            answer("429 Too Many Requests", "retry-after: 7\r\n", ""),
            true,
            Some(7),
            "429",
        ),
        (
            answer("503 Service Unavailable", "retry-after: 120\r\n", "canary"),
            true,
            Some(120),
            "503",
        ),
        (answer("503 Service Unavailable", "", ""), true, None, "503"),
        (answer("500 Internal Server Error", "", "canary"), true, None, "500"),
        (
            answer("403 Forbidden", JSON, r#"{"error":"canary"}"#),
            false,
            None,
            "403",
        ),
        (answer("404 Not Found", "", ""), false, None, "404"),
        (
            answer("302 Found", "location: https://sso.example/?state=canary\r\n", ""),
            true,
            None,
            "redirect",
        ),
        (
            answer("308 Permanent Redirect", "location: /canary\r\n", ""),
            false,
            None,
            "redirect",
        ),
        (
            answer("200 OK", "content-type: text/html\r\n", "<html>canary</html>"),
            true,
            None,
            "text/html",
        ),
        (
            answer("200 OK", "", r#"{"token":"canary"}"#),
            true,
            None,
            "no content type",
        ),
        (answer("204 No Content", "", ""), true, None, "no content type"),
        (answer("200 OK", JSON, "<html>canary</html>"), true, None, "not JSON"),
        (answer("200 OK", JSON, ""), true, None, "broke off"),
        (answer("200 OK", JSON, r#"{"token":"canary"#), true, None, "broke off"),
        (
            answer("200 OK", JSON, r#"{"secretKey":"canary"}"#),
            true,
            None,
            "secretKey",
        ),
        (answer("200 OK", JSON, &big), true, None, "64 KiB"),
        (Reply::Endless, true, None, "64 KiB"),
        // The connection closes in the middle of what was announced.
        (
            Reply::Bytes(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"token\":\"canary"
                    .to_vec(),
            ),
            true,
            None,
            "broke off after 16 bytes",
        ),
        (
            Reply::Bytes(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{\"\r\n"
                    .to_vec(),
            ),
            true,
            None,
            "broke off after 2 bytes",
        ),
    ] {
        let server = serve([reply]).await;
        let error = refused(backend(&server).build().unwrap().refresh(&first_use().await).await).await;
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Backend, passes),
            "{says}: {error:?}"
        );
        assert_eq!(error.retry_after().map(|after| after.as_secs()), retry_after, "{says}");
        assert!(source(&error).contains(says), "{says}: {error:?}");
        assert!(!error.needs_sign_in(), "{says}");
    }
}

#[tokio::test]
async fn what_speaks_no_http_and_what_does_not_listen_is_a_failure_that_passes() {
    for reply in [Reply::Bytes(b"SSH-2.0-canary\r\n".to_vec()), Reply::Bytes(Vec::new())] {
        let server = serve([reply]).await;
        let error = refused(backend(&server).build().unwrap().refresh(&first_use().await).await).await;
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, true));
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let backend = HttpBackend::builder(format!("http://{gone}/"))
        .configure(&config())
        .build()
        .unwrap();
    assert!(refused(backend.refresh(&first_use().await).await).await.is_retryable());
}

#[tokio::test]
async fn a_redirect_takes_the_bearer_nowhere() {
    let elsewhere = serve([identity()]).await;
    let location = format!("location: {}\r\n", elsewhere.url);
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
    ] {
        let server = serve([answer(status, &location, "")]).await;
        refused(backend(&server).build().unwrap().refresh(&first_use().await).await).await;
    }
    assert!(elsewhere.seen.all().is_empty());
}

#[tokio::test]
async fn https_does_not_fall_back_to_clear_text() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/aws/identity", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 4096];
        let read = stream.read(&mut hello).await.unwrap();
        let clear = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(clear).await.unwrap();
        hello.truncate(read);
        hello
    });
    let backend = HttpBackend::builder(url).configure(&config()).bearer("canary-bearer");
    let error = refused(backend.build().unwrap().refresh(&first_use().await).await).await;
    assert!(error.is_retryable(), "{error:?}");
    let hello = server.await.unwrap();
    assert_eq!(hello[0], 22, "a TLS handshake, and nothing else");
    assert!(!String::from_utf8_lossy(&hello).contains("canary"));
}

/// A sleep that ends when the backend has answered, as far as it does.
#[derive(Debug, Clone)]
struct UntilAnswered(Arc<Notify>);

impl AsyncSleep for UntilAnswered {
    fn sleep(&self, _: Duration) -> Sleep {
        let answered = Arc::clone(&self.0);
        Sleep::new(async move { answered.notified().await })
    }
}

#[tokio::test]
async fn silence_ends_with_the_timeout_wherever_it_begins() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"tok".to_vec();
    for reply in [Reply::Stalls(Vec::new()), Reply::Stalls(head)] {
        let server = serve([reply]).await;
        let sleep = SharedAsyncSleep::new(UntilAnswered(Arc::clone(&server.answered)));
        let backend = HttpBackend::builder(&server.url)
            .configure(&SdkConfig::builder().sleep_impl(sleep).build())
            .timeout(Duration::from_secs(2))
            .build()
            .unwrap();
        let error = refused(backend.refresh(&first_use().await).await).await;
        assert!(
            error.is_retryable() && source(&error).contains("within 2s"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_bearer_that_no_header_can_carry_is_refused_and_not_shown() {
    for bearer in ["canary\r\nx-admin: 1", "canary\n", "canary\0"] {
        let server = serve([identity()]).await;
        let backend = HttpBackend::builder(&server.url)
            .configure(&config())
            .bearer(bearer)
            .build()
            .unwrap();
        let error = refused(backend.refresh(&first_use().await).await).await;
        assert!(!error.is_retryable() && source(&error).contains("header"), "{error:?}");
        assert!(server.seen.all().is_empty());
    }
}

/// Counts how often it is asked for a connector, and hands on to the stage's.
#[derive(Debug, Clone)]
struct Counting(SharedHttpClient, Arc<Mutex<usize>>);

impl HttpClient for Counting {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        assert!(settings.connect_timeout().is_some() && components.sleep_impl().is_some());
        *self.1.lock().unwrap() += 1;
        self.0.http_connector(settings, components)
    }
}

#[tokio::test]
async fn it_speaks_through_the_configs_http_client_unless_it_is_given_another() {
    let stage = Stage::start().await;
    let pools = stage.pool.client_config().http_client().unwrap();
    let (of_config, of_builder) = (Arc::default(), Arc::default());
    let config = SdkConfig::builder()
        .http_client(Counting(pools.clone(), Arc::clone(&of_config)))
        .build();
    let url = "https://api.example.com/aws/identity";
    let request = first_use().await;
    let backend = HttpBackend::builder(url).configure(&config);
    refused(backend.build().unwrap().refresh(&request).await).await;
    let backend = HttpBackend::builder(url)
        .configure(&config)
        .http_client(Counting(pools, Arc::clone(&of_builder)));
    refused(backend.build().unwrap().refresh(&request).await).await;
    assert_eq!((*of_config.lock().unwrap(), *of_builder.lock().unwrap()), (1, 1));
}

#[tokio::test]
async fn no_secret_is_logged_at_any_level() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let stage = Stage::start().await;
    let logins = Logins::new().facebook("canary-facebook").unwrap();
    let request = request_for(&stage, |login| login.with_external(logins)).await;
    let server = serve([
        identity(),
        answer("500 Oops", "content-type: application/json\r\n", "canary"),
    ])
    .await;
    let backend = backend(&server).guest_claim("canary-claim").build().unwrap();
    let _logging = tracing::subscriber::set_default(subscriber);
    tracing::trace!("the log works");
    backend.refresh(&request).await.unwrap();
    refused(backend.refresh(&request).await).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the log works"));
    assert!(!log.contains("canary"), "{log}");
    assert!(!format!("{backend:?}").contains("canary"));
}
