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
    BackendError, DeveloperIdentity, DeveloperIdentityProvider, Error, ErrorKind, HttpBackend, IdentityId, Logins,
    OpenIdToken, RefreshRequest,
    error::CauseKind,
    http_backend::{BearerReason, HttpBackendBuilder},
    token::RefreshReason,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
const GUEST: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b6e57";

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

/// The request of a session's first use, after a guest.
fn first_use() -> RefreshRequest {
    RefreshRequest::new(RefreshReason::FirstUse).with_guest_to_link(IdentityId::new(GUEST).unwrap())
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

fn html(status: &str) -> Reply {
    answer(
        status,
        "content-type: text/html; charset=utf-8\r\n",
        "<!doctype html><p>canary</p>",
    )
}

// ---- ----

#[tokio::test]
async fn one_post_brings_identity_and_token() {
    let server = serve([identity()]).await;
    let request = first_use();
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
    let request = first_use();
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
        json!({ "identityId": GUEST, "claim": "the-ticket" })
    );
    backend(&server).build().unwrap().refresh(&request).await.unwrap();
    assert!(!server.seen.all()[1].contains(GUEST));
}

#[tokio::test]
async fn external_logins_go_along_for_linking() {
    let request = first_use().with_external_logins(Logins::new().facebook("EAAB").unwrap());
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
    let request = first_use();
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
    let error = refused(backend(&server).build().unwrap().refresh(&first_use()).await).await;
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
    assert!(refused(backend.refresh(&first_use()).await).await.needs_sign_in());
    assert!(server.seen.all().is_empty());
}

/// The bad input of the issue, and what the app is told: whether it passes, when to come back, and what the message says. One request
/// each, and nothing of the body.
#[tokio::test]
async fn every_answer_that_is_not_an_identity_is_named_and_not_quoted() {
    const JSON: &str = "content-type: application/json\r\n";
    let big = format!("\"{}\"", "x".repeat(65_535));
    let fits = format!("\"{}\"", "x".repeat(65_534));
    for (reply, passes, retry_after, says) in [
        (
            answer("429 Too Many Requests", "retry-after: 7\r\n", ""),
            true,
            Some(7),
            "429 Too Many Requests",
        ),
        (
            answer("503 Service Unavailable", "retry-after: 120\r\n", "canary"),
            true,
            Some(120),
            "503 Service Unavailable",
        ),
        (html("503 Service Unavailable"), true, None, "503 Service Unavailable"),
        (answer("500 Internal Server Error", "", "canary"), true, None, "500"),
        (
            answer("403 Forbidden", JSON, r#"{"error":"canary"}"#),
            false,
            None,
            "HTTP status 403 Forbidden",
        ),
        (answer("404 Not Found", "", ""), false, None, "404 Not Found"),
        (
            answer("405 Method Not Allowed", "allow: GET, HEAD\r\n", ""),
            false,
            None,
            "it was asked by POST and takes GET, HEAD",
        ),
        (
            answer("405 Method Not Allowed", "allow: canary canary\r\n", ""),
            false,
            None,
            "POST is not what it expects",
        ),
        (
            answer(
                "407 Proxy Authentication Required",
                "proxy-authenticate: Basic realm=canary\r\n",
                "",
            ),
            true,
            None,
            "407",
        ),
        (
            answer("302 Found", "location: https://sso.example/?state=canary\r\n", ""),
            true,
            None,
            "302 Found",
        ),
        (
            answer("308 Permanent Redirect", "location: /canary\r\n", ""),
            false,
            None,
            "308",
        ),
        (
            html("200 OK"),
            true,
            None,
            "(HTTP status 200, text/html) is HTML or XML and not JSON",
        ),
        (
            answer("200 OK", "", "<?xml version=\"1.0\"?><canary/>"),
            true,
            None,
            "(HTTP status 200, no content type) is HTML or XML",
        ),
        (
            answer("204 No Content", "", ""),
            true,
            None,
            "(HTTP status 204, no content type) is empty",
        ),
        (answer("200 OK", JSON, "canary canary"), true, None, "is not JSON"),
        (
            answer("200 OK", JSON, r#"{"token":"a"} {"canary":1}"#),
            true,
            None,
            "is not JSON",
        ),
        (answer("200 OK", JSON, ""), true, None, "is empty"),
        (
            answer("200 OK", JSON, r#"{"token":"canary"#),
            true,
            None,
            "broke off after 16 bytes",
        ),
        (
            answer(
                "200 OK",
                "content-type: application/json\r\ncontent-encoding: gzip\r\n",
                "\u{1f}canary",
            ),
            true,
            None,
            "is compressed (gzip), which was not asked for",
        ),
        (
            answer("200 OK", JSON, r#"{"secretKey":"canary"}"#),
            true,
            None,
            "it has the members `secretKey` and no token",
        ),
        (
            answer("200 OK", JSON, r#"{"token":"opaque"}"#),
            true,
            None,
            "does not name an identity",
        ),
        (
            answer("200 OK", JSON, r#"[{"identityId":"canary"}]"#),
            true,
            None,
            "it is a list and not an object",
        ),
        (
            answer("200 OK", JSON, r#"{"identityId":"canary","token":"t"}"#),
            true,
            None,
            "identity id: must look like",
        ),
        (
            answer(
                "200 OK",
                JSON,
                r#"{"token":"canary1","Token":"canary2","cognitoToken":"","identityId":"x"}"#,
            ),
            true,
            None,
            "two different values for the token",
        ),
        (
            answer("200 OK", JSON, &fits),
            true,
            None,
            "it is a string and not an object",
        ),
        (answer("200 OK", JSON, &big), true, None, "larger than 64 KiB"),
        (Reply::Endless, true, None, "larger than 64 KiB"),
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
        let error = refused(backend(&server).build().unwrap().refresh(&first_use()).await).await;
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Backend, passes),
            "{says}: {error:?}"
        );
        assert_eq!(error.retry_after().map(|after| after.as_secs()), retry_after, "{says}");
        assert!(error.to_string().contains(says), "{says}: {error:?}");
        assert!(!error.needs_sign_in(), "{says}");
        assert_eq!(error.causes().len(), 1, "{says}: {error:?}");
        assert!(error.to_string().ends_with(&error.causes()[0].evidence), "{error:?}");
        assert_eq!(server.seen.all().len(), 1, "{says}");
    }
}

/// What backends that are in use send, values replaced, and what the client makes of each: the identity, a sign-out, or a failure.
#[tokio::test]
async fn the_answers_of_existing_backends() {
    enum Made {
        Identity,
        SignedOut,
        Passes,
    }
    use Made::{Identity, Passes, SignedOut};
    const TYPES: [&str; 5] = [
        "content-type: application/json\r\n",
        // A script's echo.
        "content-type: text/html; charset=UTF-8\r\n",
        // Cognito's own answer, handed on.
        "content-type: application/x-amz-json-1.1\r\n",
        "content-type: text/plain\r\n",
        "",
    ];
    let forms = [
        ("this crate's own", r#"{"identityId":"ID","token":"TOKEN"}"#, Identity),
        ("Cognito's", r#"{"IdentityId":"ID","Token":"TOKEN"}"#, Identity),
        (
            "the JavaScript SDK's",
            r#"{"identityId":"ID","logins":{"cognito-identity.amazonaws.com":"TOKEN"}}"#,
            Identity,
        ),
        (
            "the JavaScript SDK v2's",
            r#"{"IdentityPoolId":"us-east-1:0","IdentityId":"ID","Logins":{"cognito-identity.amazonaws.com":"TOKEN"}}"#,
            Identity,
        ),
        ("a Rails app", r#"{"identity_id":"ID","token":"TOKEN"}"#, Identity),
        (
            "a tutorial's TypeScript",
            r#"{"identityId":"ID","cognitoToken":"TOKEN"}"#,
            Identity,
        ),
        (
            "an envelope",
            r#"{"code":0,"message":"ok","data":{"cognitoId":"ID","cognitoToken":"TOKEN"}}"#,
            Identity,
        ),
        (
            "an appliance maker's cloud",
            r#"{"resultCode":"0000","result":{"cognito_id":"ID","cognito_token":"TOKEN","expires":900}}"#,
            Identity,
        ),
        (
            "a profile",
            r#"{"profile":{"name":"x","id":7},"cognitoIdentity":{"Token":"TOKEN","IdentityId":"ID"}}"#,
            Identity,
        ),
        (
            "a Django view",
            r#"{"CognitoIdentity":"ID","CognitoToken":"TOKEN"}"#,
            Identity,
        ),
        (
            "an Express app with its own session",
            r#"{"token":"session","openIdToken":"TOKEN","identityId":"ID"}"#,
            Identity,
        ),
        (
            "two generations of apps",
            r#"{"identityId":"ID","token":"TOKEN","IdentityId":"ID","Token":"TOKEN"}"#,
            Identity,
        ),
        ("the token alone", r#"{"token":"TOKEN"}"#, Identity),
        (
            "an Android sample",
            r#"{"identityPoolId":"us-east-1:0","identityId":"ID","token":"TOKEN"}"#,
            Identity,
        ),
        (
            "a mark that an editor left",
            "\u{feff}{\"identityId\":\"ID\",\"token\":\"TOKEN\"}",
            Identity,
        ),
        (
            "white space around it",
            "\n\n {\"identityId\":\"ID\",\"token\":\"TOKEN\"}\r\n",
            Identity,
        ),
        (
            "empty members",
            r#"{"identityId":"","token":"TOKEN","error":null}"#,
            Identity,
        ),
        ("nobody signed in", r#"{"login":false}"#, SignedOut),
        ("a PHP refusal", r#"{"status":0,"message":"canary"}"#, SignedOut),
        (
            "an envelope's refusal",
            r#"{"code":401,"message":"canary","data":null}"#,
            SignedOut,
        ),
        (
            "a success that is none",
            r#"{"success":false,"error":"canary"}"#,
            SignedOut,
        ),
        ("a nested refusal", r#"{"data":{"isLoggedIn":false}}"#, SignedOut),
        (
            "an OAuth answer",
            r#"{"access_token":"canary","id_token":"canary","expires_in":3600}"#,
            Passes,
        ),
        (
            "credentials",
            r#"{"AccessKeyId":"canary","SecretKey":"canary"}"#,
            Passes,
        ),
        ("a list", r#"["canary"]"#, Passes),
    ];
    assert!(forms.len() >= 20);
    let payload = base64(&json!({ "sub": ID, "iss": "https://cognito-identity.amazonaws.com" }).to_string());
    let token = format!("e30.{payload}.canary");
    for (round, content_type) in TYPES.into_iter().enumerate() {
        for (of, form, made) in &forms {
            let body = form.replace("TOKEN", &token).replace("ID\"", &format!("{ID}\""));
            let server = serve([answer("200 OK", content_type, &body)]).await;
            let result = backend(&server).build().unwrap().refresh(&first_use()).await;
            match made {
                Identity => {
                    let identity = result.unwrap_or_else(|error| panic!("{round} {of}: {error}"));
                    let read = (identity.identity_id().as_str(), identity.token().expose_secret());
                    assert_eq!(read, (ID, &*token), "{round} {of}");
                }
                SignedOut => assert!(refused(result).await.needs_sign_in(), "{round} {of}"),
                Passes => {
                    let error = refused(result).await;
                    assert!(error.is_retryable() && !error.needs_sign_in(), "{round} {of}");
                    assert_eq!(error.causes()[0].kind, CauseKind::BackendAnswer, "{round} {of}");
                }
            }
        }
    }
}

fn base64(text: &str) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(text)
}

#[tokio::test]
async fn a_get_has_headers_and_no_body() {
    let server = serve([identity(), identity()]).await;
    let backend = HttpBackend::builder(&server.url)
        .configure(&config())
        .get()
        .header("X-Api-Key", "canary-key")
        .header("cookie", "session=canary")
        .build()
        .unwrap();
    backend.refresh(&first_use()).await.unwrap();
    let sent = server.seen.all()[0].to_lowercase();
    assert!(
        sent.starts_with("get /aws/identity?v=1 http/1.1\r\n") && sent.ends_with("\r\n\r\n"),
        "{sent}"
    );
    assert!(
        sent.contains("\r\nx-api-key: canary-key\r\n") && sent.contains("\r\ncookie: session=canary\r\n"),
        "{sent}"
    );
    assert!(!sent.contains("content-type"), "{sent}");
    // Logins that a GET cannot carry are not dropped in silence.
    let logins = Logins::new().facebook("canary-facebook").unwrap();
    let error = refused(backend.refresh(&first_use().with_external_logins(logins)).await).await;
    assert!(!error.is_retryable() && error.to_string().contains("GET"), "{error:?}");
    assert_eq!(server.seen.all().len(), 1);
    assert!(!format!("{backend:?}").contains("canary"));
}

#[tokio::test]
async fn headers_from_a_closure_are_asked_for_once_more_after_a_401() {
    let server = serve([answer("401 Unauthorized", "", ""), identity()]).await;
    let backend = HttpBackend::builder(&server.url)
        .configure(&config())
        .header("x-device", "a1b2")
        .headers_fn(async |reason| Ok([("cookie", format!("reason={reason:?}"))]))
        .build()
        .unwrap();
    backend.refresh(&first_use()).await.unwrap();
    let sent = server.seen.all();
    assert!(
        sent[0].contains("cookie: reason=Needed") && sent[1].contains("cookie: reason=Rejected"),
        "{sent:?}"
    );
    assert!(
        sent.iter().all(|request| request.contains("x-device: a1b2")),
        "{sent:?}"
    );
    for (name, value) in [("x-key", "canary\r\nx: y"), ("x canary", "v"), ("host", "canary")] {
        let server = serve([identity()]).await;
        let backend = HttpBackend::builder(&server.url)
            .configure(&config())
            .headers_fn(move |_| async move { Ok([(name, value)]) })
            .build()
            .unwrap();
        let error = refused(backend.refresh(&first_use()).await).await;
        assert!(!error.is_retryable() && server.seen.all().is_empty(), "{error:?}");
    }
}

#[tokio::test]
async fn a_closure_reads_what_nobody_else_can() {
    let json = json!({ "aws": [ID, "canary.token.t"] }).to_string();
    let server = serve([
        answer("200 OK", "x-version: 2\r\n", &json),
        answer("419 Page Expired", "", "canary"),
        answer("503 Service Unavailable", "retry-after: 3\r\n", "canary"),
        identity(),
    ])
    .await;
    let backend = backend(&server)
        .read_answer(|answer| {
            let json = answer.json().unwrap_or_default();
            match (answer.status(), json["aws"][0].as_str(), json["aws"][1].as_str()) {
                (200, Some(id), Some(token)) if answer.header("X-Version") == Some("2") => {
                    Ok(DeveloperIdentity::new(IdentityId::new(id)?, OpenIdToken::new(token)?))
                }
                (419, ..) => Err(BackendError::signed_out()),
                (503, ..) => Err(BackendError::transient("it is being maintained")),
                _ => answer.identity(),
            }
        })
        .build()
        .unwrap();
    let identity = backend.refresh(&first_use()).await.unwrap();
    assert_eq!(identity.token().expose_secret(), "canary.token.t");
    assert!(refused(backend.refresh(&first_use()).await).await.needs_sign_in());
    let maintained = refused(backend.refresh(&first_use()).await).await;
    assert_eq!(
        maintained.to_string(),
        "the app's backend gave no token: it is being maintained"
    );
    assert_eq!(maintained.retry_after(), Some(Duration::from_secs(3)));
    assert!(backend.refresh(&first_use()).await.is_ok());
}

#[tokio::test]
async fn what_speaks_no_http_and_what_does_not_listen_is_a_failure_that_passes() {
    for reply in [Reply::Bytes(b"SSH-2.0-canary\r\n".to_vec()), Reply::Bytes(Vec::new())] {
        let server = serve([reply]).await;
        let error = refused(backend(&server).build().unwrap().refresh(&first_use()).await).await;
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, true));
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let backend = HttpBackend::builder(format!("http://{gone}/"))
        .configure(&config())
        .build()
        .unwrap();
    let error = refused(backend.refresh(&first_use()).await).await;
    assert!(
        error.is_retryable() && error.to_string().contains(&gone.to_string()),
        "{error:?}"
    );
    assert_eq!(error.causes()[0].kind, CauseKind::BackendUnreachable);
    assert!(error.causes()[0].evidence.contains("refused"), "{error:?}");
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
        refused(backend(&server).build().unwrap().refresh(&first_use()).await).await;
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
    let error = refused(backend.build().unwrap().refresh(&first_use()).await).await;
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
        let error = refused(backend.refresh(&first_use()).await).await;
        assert!(
            error.is_retryable() && error.to_string().contains("did not answer within 2s"),
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
        let error = refused(backend.refresh(&first_use()).await).await;
        assert!(
            !error.is_retryable() && error.to_string().contains("header"),
            "{error:?}"
        );
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
    let request = first_use();
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
    let request = first_use().with_external_logins(Logins::new().facebook("canary-facebook").unwrap());
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
