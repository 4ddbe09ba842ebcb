//! The examples of the backend half do what they say, and withstand what a backend meets.

#[path = "../../examples/axum_backend/backend.rs"]
mod backend;
#[path = "../../examples/forget_user.rs"]
mod forget_user;
#[path = "../../examples/lambda_backend/handler.rs"]
mod handler;
#[path = "../../examples/axum_backend/prometheus.rs"]
mod prometheus;
#[path = "../../examples/tenant_tags.rs"]
mod tenant_tags;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::stage::{PROVIDER, Stage, ours};
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use axum::http::HeaderValue;
use backend::{Backend, User};
use cognito_identity_pool::{
    CognitoCredentialsProvider, ErrorKind, HttpBackend, IdentityId, Login, Logins, TokenVendor, TokenVerifier,
    client::IdentityOutcome,
    http_backend::HttpBackendBuilder,
    local::LocalFault,
    server::{GuestClaims, TokenVendorBuilder, UserIds},
};
use handler::Function;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const ORIGIN: &str = "https://app.example.com";

/// The example's backend on a socket, over a local pool.
struct App {
    stage: Stage,
    url: String,
    http: reqwest::Client,
}

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn member(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap().to_owned()
    }
}

/// On a socket of its own: where that is.
async fn serve(routes: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

impl App {
    async fn start() -> Self {
        Self::with(|vendor| vendor).await
    }

    async fn with(change: impl FnOnce(TokenVendorBuilder) -> TokenVendorBuilder) -> Self {
        let stage = Stage::start().await;
        let vendor = TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
            .configure(&stage.pool.backend_config())
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .guest_claims(GuestClaims::hmac_sha256(KEY).unwrap());
        let user = |password, id| User { password, id };
        let users = [
            ("alice@example.com", user("wonderland", "user-7f3a")),
            ("bob@example.com", user("builder", "user-c41d")),
        ];
        let verifier = TokenVerifier::builder(stage.pool.identity_pool_id(), PROVIDER)
            .configure(&stage.pool.backend_config())
            .jwks_uri(stage.pool.jwks_uri())
            .build()
            .unwrap();
        let backend = Backend::new(
            change(vendor).build().unwrap(),
            verifier,
            HeaderValue::from_static(ORIGIN),
            users.into(),
        );
        Self {
            stage,
            url: serve(backend.routes()).await,
            http: reqwest::Client::new(),
        }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
        let request = self.http.post(format!("{}{path}", self.url)).body(body);
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    async fn post_json(&self, path: &str, bearer: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {bearer}");
        let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
        self.post(path, &headers, body.to_string()).await
    }

    /// A session that has named `guest`, and the guest's ticket.
    async fn begin(&self, guest: Option<&IdentityId>) -> (String, Option<String>) {
        let answer = self
            .post_json("/session", "none", json!({ "guest": guest.map(IdentityId::as_str) }))
            .await;
        assert_eq!(answer.status, 200);
        (
            answer.member("session"),
            answer.json()["guestClaim"].as_str().map(str::to_owned),
        )
    }

    async fn sign_in(&self, session: &str, email: &str, password: &str) -> Answer {
        self.post_json("/sign-in", session, json!({ "email": email, "password": password }))
            .await
    }

    async fn signed_in(&self, email: &str, password: &str) -> String {
        let (session, _) = self.begin(None).await;
        self.sign_in(&session, email, password).await.member("session")
    }

    async fn alice(&self) -> String {
        self.signed_in("alice@example.com", "wonderland").await
    }

    async fn identity(&self, session: &str) -> Answer {
        self.post_json("/aws/identity", session, json!({ "reason": "firstUse", "attempt": 1 }))
            .await
    }

    fn http_backend(&self, session: &str) -> HttpBackendBuilder {
        HttpBackend::builder(format!("{}/aws/identity", self.url))
            .configure(&SdkConfig::builder().build())
            .bearer(session)
    }

    async fn guest(&self, provider: &CognitoCredentialsProvider) -> IdentityId {
        provider.switch_to(Login::guest()).ready().await.unwrap().identity_id
    }
}

// ---- axum_backend and HttpBackend ----

#[tokio::test]
async fn the_scraper_reads_what_the_backend_counts() {
    let recorder = prometheus::recorder().unwrap();
    let routes = prometheus::routes(recorder.handle());
    let _installed = metrics::set_default_local_recorder(&recorder);
    let app = App::start().await;
    let backend = app.http_backend(&app.alice().await).build().unwrap();
    let alice = app
        .stage
        .provider()
        .switch_to(Login::developer(backend).subject("alice"));
    alice.ready().await.unwrap();
    let url = serve(routes).await;
    let scraped = app
        .http
        .get(format!("{url}/metrics"))
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    assert_eq!(scraped.headers()["content-type"], "text/plain; version=0.0.4");
    let scraped = scraped.text().await.unwrap();
    for line in [
        "# TYPE cognito_identity_pool_vends_total counter",
        r#"cognito_identity_pool_vends_total{operation="vend",source="asked",outcome="ok"} 1"#,
        r#"cognito_identity_pool_attempts_total{outcome="ok"} 1"#,
        "# TYPE cognito_identity_pool_vend_duration_seconds histogram",
        r#"cognito_identity_pool_vend_duration_seconds_bucket{source="asked",le="+Inf"} 1"#,
    ] {
        assert!(scraped.lines().any(|scraped| scraped == line), "{line} in\n{scraped}");
    }
}

#[tokio::test]
async fn a_user_of_the_backend_signs_aws_requests() {
    let app = App::start().await;
    let provider = app.stage.provider();
    let backend = app.http_backend(&app.alice().await).build().unwrap();
    let alice = provider.switch_to(Login::developer(backend).subject("alice"));
    let sts = crate::stage::sts(&alice.sdk_config(&app.stage.pool.client_config()));
    sts.get_caller_identity().send().await.unwrap();
    assert_eq!(
        app.stage.last_signer().as_deref(),
        Some(alice.identity_id().await.unwrap().as_str())
    );
}

#[tokio::test]
async fn a_guest_who_signs_in_keeps_what_it_had() {
    let app = App::start().await;
    let provider = app.stage.provider();
    let guest = app.guest(&provider).await;
    let (session, claim) = app.begin(Some(&guest)).await;
    let session = app
        .sign_in(&session, "alice@example.com", "wonderland")
        .await
        .member("session");
    let backend = app.http_backend(&session).guest_claim(claim.unwrap()).build().unwrap();
    let signed_in = provider.switch_to(Login::developer(backend)).ready().await.unwrap();
    assert_eq!(
        (signed_in.outcome, signed_in.identity_id),
        (IdentityOutcome::Kept, guest)
    );
}

#[tokio::test]
async fn a_stolen_guest_is_not_linked_and_nobody_is_kept_out() {
    let app = App::start().await;
    let victim = app.guest(&app.stage.provider()).await;
    let (_, claim) = app.begin(Some(&victim)).await;
    let claim = claim.unwrap();
    // Mallory knows the victim's id, and has even got hold of its ticket: it is another session's.
    let mallory = app.signed_in("bob@example.com", "builder").await;
    for claim in [&*claim, "forged", ""] {
        let ask = json!({ "reason": "firstUse", "guest": { "identityId": victim.as_str(), "claim": claim } });
        let answer = app.post_json("/aws/identity", &mallory, ask).await;
        assert_eq!(answer.status, 200);
        assert_ne!(answer.member("identityId"), victim.as_str());
    }
}

#[tokio::test]
async fn theft_of_a_guest_by_naming_it() {
    let app = App::start().await;
    let provider = app.stage.provider();
    let victim = app.guest(&provider).await;
    let (session, claim) = app.begin(Some(&victim)).await;
    // Mallory has seen the id, and begins a session with it, before her sign-in and as often as she likes.
    for _ in 0..3 {
        let (thief, stolen) = app.begin(Some(&victim)).await;
        assert_eq!(stolen, None, "the guest belongs to the device that named it first");
        let thief = app
            .sign_in(&thief, "bob@example.com", "builder")
            .await
            .member("session");
        let ask = json!({ "reason": "firstUse", "guest": { "identityId": victim.as_str(), "claim": claim } });
        let answer = app.post_json("/aws/identity", &thief, ask).await;
        assert_eq!(answer.status, 200);
        assert_ne!(answer.member("identityId"), victim.as_str());
    }
    // The owner is not locked out.
    let session = app
        .sign_in(&session, "alice@example.com", "wonderland")
        .await
        .member("session");
    let backend = app.http_backend(&session).guest_claim(claim.unwrap()).build().unwrap();
    let signed_in = provider.switch_to(Login::developer(backend)).ready().await.unwrap();
    assert_eq!(signed_in.identity_id, victim);
}

#[tokio::test]
async fn a_device_keeps_its_guest_across_sessions() {
    let app = App::start().await;
    let guest = app.guest(&app.stage.provider()).await;
    let begin = async |device: Option<&str>| {
        let body = json!({ "guest": guest.as_str(), "device": device });
        app.post_json("/session", "none", body).await.json()
    };
    let first = begin(None).await;
    let device = first["device"].as_str().unwrap();
    let second = begin(Some(device)).await;
    assert!(second["guestClaim"].is_string() && second["device"] == device);
    assert!(begin(None).await["guestClaim"].is_null());
}

#[tokio::test]
async fn what_a_request_says_about_its_user_counts_for_nothing() {
    let app = App::start().await;
    let alice = app.identity(&app.alice().await).await.member("identityId");
    let bob = app.signed_in("bob@example.com", "builder").await;
    let ask = json!({
        "reason": "firstUse", "userId": "user-7f3a", "user": "user-7f3a", "identityId": alice, "duration": 86_400,
        "tags": { "tenant": "acme" }, "logins": {},
    });
    let answer = app.post_json("/aws/identity", &bob, ask).await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.member("identityId"), alice);
    let vends = app.stage.pool.requests_of("GetOpenIdTokenForDeveloperIdentity");
    assert!(vends.iter().all(|vend| vend.principal_tags.is_empty()));
}

#[tokio::test]
async fn an_external_login_of_an_unknown_provider_is_refused() {
    let app = App::start().await;
    let session = app.alice().await;
    for logins in [
        json!({ "evil.example": "t" }),
        json!({ PROVIDER: "user-c41d" }),
        json!({ "cognito-identity.amazonaws.com": "t" }),
        json!({ Logins::FACEBOOK: "" }),
    ] {
        let answer = app
            .post_json(
                "/aws/identity",
                &session,
                json!({ "reason": "forced", "logins": logins }),
            )
            .await;
        assert_eq!((answer.status, &*answer.text), (400, r#"{"error":"Bad Request"}"#));
    }
}

#[tokio::test]
async fn a_google_account_is_linked_by_the_backend_and_opens_the_same_identity() {
    let app = App::start().await;
    let google = app.stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let logins = Logins::new().google(google.token("alice-at-google")).unwrap();
    let backend = app.http_backend(&app.alice().await).build().unwrap();
    let provider = app.stage.provider();
    let alice = Login::developer(backend).with_external(logins.clone());
    let alice = provider.switch_to(alice).ready().await.unwrap().identity_id;
    let by_google = provider
        .switch_to(Login::external(logins))
        .ready()
        .await
        .unwrap()
        .identity_id;
    assert_eq!(by_google, alice);
}

#[tokio::test]
async fn who_signs_out_at_the_backend_is_signed_out_in_the_app() {
    let app = App::start().await;
    let session = app.alice().await;
    let provider = app.stage.provider();
    let backend = app.http_backend(&session).build().unwrap();
    let alice = provider.switch_to(Login::developer(backend));
    alice.ready().await.unwrap();
    assert_eq!(app.post_json("/sign-out", &session, json!({})).await.status, 204);
    app.stage.clock.advance(Duration::from_secs(3_600));
    let error = ours(&alice.provide_credentials().await.unwrap_err());
    assert!(error.needs_sign_in() && error.kind() == ErrorKind::SignedOut);
}

#[tokio::test]
async fn a_replayed_sign_in_is_refused_and_so_is_the_session_from_before() {
    let app = App::start().await;
    let (before, _) = app.begin(None).await;
    let after = app.sign_in(&before, "alice@example.com", "wonderland").await;
    assert_eq!(after.status, 200);
    assert_ne!(after.member("session"), before);
    assert_eq!(
        app.sign_in(&before, "alice@example.com", "wonderland").await.status,
        401
    );
    assert_eq!(app.identity(&before).await.status, 401);
}

#[tokio::test]
async fn a_session_is_good_for_five_wrong_passwords_and_tells_nobody_who_is_a_user() {
    let app = App::start().await;
    let (session, _) = app.begin(None).await;
    let mut texts = Vec::new();
    for email in [
        "alice@example.com",
        "nobody@example.com",
        "alice@example.com",
        "",
        "alice@example.com",
    ] {
        let answer = app.sign_in(&session, email, "guess").await;
        texts.push((answer.status, answer.text));
    }
    assert!(
        texts
            .iter()
            .all(|answer| *answer == (401, r#"{"error":"Unauthorized"}"#.to_owned()))
    );
    assert_eq!(
        app.sign_in(&session, "alice@example.com", "wonderland").await.status,
        401
    );
}

#[tokio::test]
async fn only_a_signed_in_session_gets_a_token() {
    let app = App::start().await;
    let (session, _) = app.begin(None).await;
    let long = "x".repeat(10_000);
    for bearer in [&*session, "", "undefined", "../../etc", &long] {
        let answer = app.identity(bearer).await;
        assert_eq!(
            (answer.status, &*answer.text),
            (401, r#"{"error":"Unauthorized"}"#),
            "{bearer}"
        );
    }
    assert_eq!(app.stage.calls("GetOpenIdTokenForDeveloperIdentity"), 0);
}

#[tokio::test]
async fn a_cookie_counts_on_the_apps_own_pages_alone() {
    let app = App::start().await;
    let (begun, _) = app.begin(None).await;
    let signed_in = app.sign_in(&begun, "alice@example.com", "wonderland").await;
    let set = signed_in.headers["set-cookie"].to_str().unwrap();
    for attribute in [
        "__Host-session=",
        "; Path=/",
        "; Secure",
        "; HttpOnly",
        "; SameSite=Lax",
    ] {
        assert!(set.contains(attribute), "{attribute}: {set}");
    }
    let cookie = set.split(';').next().unwrap();
    let ask = r#"{"reason":"firstUse"}"#;
    for (origin, status) in [
        (Some(ORIGIN), 200),
        (Some("https://evil.example"), 403),
        (Some("null"), 403),
        (Some("https://app.example.com.evil.example"), 403),
        (None, 403),
    ] {
        let mut headers = vec![("content-type", "application/json"), ("cookie", cookie)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        assert_eq!(
            app.post("/aws/identity", &headers, ask).await.status,
            status,
            "{origin:?}"
        );
    }
    // What a form of a foreign page can send without asking the browser's leave.
    for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let headers = [("content-type", form), ("cookie", cookie), ("origin", ORIGIN)];
        assert_eq!(app.post("/aws/identity", &headers, ask).await.status, 415, "{form}");
    }
}

#[tokio::test]
async fn no_answer_may_be_cached() {
    let app = App::start().await;
    let session = app.alice().await;
    for answer in [
        app.identity(&session).await,
        app.identity("none").await,
        app.post_json("/session", "none", json!({})).await,
        app.post_json("/sign-in", "none", json!({})).await,
        app.post("/nowhere", &[], "").await,
    ] {
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let got = app.http.get(format!("{}/aws/identity", app.url)).send().await.unwrap();
    assert_eq!(got.status(), 405);
}

#[tokio::test]
async fn hostile_bodies_are_refused_and_not_quoted() {
    let app = App::start().await;
    let session = app.alice().await;
    let bearer = format!("Bearer {session}");
    let deep = "[".repeat(60_000);
    let bodies: [&[u8]; 12] = [
        b"",
        b"null",
        b"canary",
        b"[]",
        b"{",
        b"\"canary\"",
        deep.as_bytes(),
        b"{\"reason\":{\"canary\":1},\"email\":[],\"guest\":1}",
        b"{\"reason\":\"x\",\"reason\":\"canary\",\"email\":1,\"guest\":\"canary\"}",
        b"{\"reason\":\"\xff\xfe canary\",\"email\":\"\xff\",\"guest\":\"\xff\"}",
        b"{\"reason\":\"x\",\"guest\":{\"identityId\":\"canary\",\"claim\":\"canary\"},\"email\":\"canary\"}",
        b"{\"reason\":\"x\",\"logins\":{\"canary\":1},\"guest\":\"canary\",\"email\":1}",
    ];
    for path in ["/session", "/sign-in", "/aws/identity"] {
        for body in bodies {
            let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
            let answer = app.post(path, &headers, body.to_vec()).await;
            let shown = String::from_utf8_lossy(body.get(..60).unwrap_or(body)).into_owned();
            assert_eq!(
                (answer.status, &*answer.text),
                (400, r#"{"error":"Bad Request"}"#),
                "{path} {shown}"
            );
        }
    }
    assert_eq!(app.identity(&session).await.status, 200, "the backend goes on");
}

#[tokio::test]
async fn ten_megabytes_are_refused_after_sixty_four_kilobytes() {
    let app = App::start().await;
    let session = app.alice().await;
    let mut stream = tokio::net::TcpStream::connect(app.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let head = format!(
        "POST /aws/identity HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {session}\r\n\
         content-type: application/json\r\ncontent-length: 10485760\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // One byte more than is taken; the other ten megabytes never have to be sent.
    stream.write_all(&vec![b'['; 64 * 1024 + 1]).await.unwrap();
    let mut answer = [0; 512];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn too_many_vends_are_told_when_to_come_back() {
    let app = App::with(|vendor| vendor.requests_per_second(NonZeroU32::new(1)).max_wait(Duration::ZERO)).await;
    let (alice, bob) = (app.alice().await, app.signed_in("bob@example.com", "builder").await);
    assert_eq!(app.identity(&alice).await.status, 200);
    let answer = app.identity(&bob).await;
    assert_eq!((answer.status, &*answer.text), (429, r#"{"error":"throttled"}"#));
    assert_eq!(answer.headers["retry-after"], "1");
    // And the app hears it.
    let backend = app.http_backend(&bob).build().unwrap();
    let error = app
        .stage
        .provider()
        .switch_to(Login::developer(backend))
        .ready()
        .await
        .unwrap_err();
    assert_eq!(
        (error.is_retryable(), error.retry_after()),
        (true, Some(Duration::from_secs(1)))
    );
}

#[tokio::test]
async fn one_client_cannot_use_up_the_quota_with_rejected_tokens() {
    let app = App::start().await;
    let session = app.alice().await;
    for _ in 0..20 {
        let ask = json!({ "reason": "tokenRejected", "attempt": 2 });
        assert_eq!(app.post_json("/aws/identity", &session, ask).await.status, 200);
    }
    assert_eq!(app.stage.calls("GetOpenIdTokenForDeveloperIdentity"), 1);
}

#[tokio::test]
async fn a_failure_of_aws_is_a_word_to_the_client() {
    let app = App::start().await;
    let session = app.alice().await;
    for (fault, status, text) in [
        ("InternalErrorException", 503, r#"{"error":"unavailable"}"#),
        ("TooManyRequestsException", 429, r#"{"error":"throttled"}"#),
        ("AccessDeniedException", 500, r#"{"error":"internal"}"#),
    ] {
        let fault = LocalFault::refuse(fault).unwrap();
        app.stage
            .pool
            .faults()
            .next_of("GetOpenIdTokenForDeveloperIdentity", fault);
        let answer = app.identity(&session).await;
        assert_eq!((answer.status, &*answer.text), (status, text));
    }
}

async fn profile(app: &App, token: &str) -> (u16, Value) {
    let request = app.http.get(format!("{}/profile", app.url)).bearer_auth(token);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn the_second_service_knows_the_user_by_a_verified_token() {
    let app = App::start().await;
    let vended = app.identity(&app.alice().await).await;
    let expected = json!({ "identityId": vended.member("identityId"), "user": "user-7f3a" });
    assert_eq!(profile(&app, &vended.member("token")).await, (200, expected));
}

#[tokio::test]
async fn the_second_service_refuses_what_is_not_verified() {
    let app = App::start().await;
    let token = app.identity(&app.alice().await).await.member("token");
    let [head, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("{token}")
    };
    let other = App::start().await;
    let foreign = other.identity(&other.alice().await).await.member("token");
    let bobs = app
        .identity(&app.signed_in("bob@example.com", "builder").await)
        .await
        .member("token");
    let none = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"alg":"none"}"#);
    let swapped = bobs.split('.').nth(1).unwrap();
    for (what, token) in [
        ("another pool's", foreign),
        ("unsigned", format!("{none}.{claims}.")),
        (
            "bob's claims under alice's signature",
            format!("{head}.{swapped}.{signature}"),
        ),
        ("cut off", token[..token.len() - 8].to_owned()),
        ("nonsense", "canary".to_owned()),
        ("the session", app.alice().await),
    ] {
        let (status, body) = profile(&app, &token).await;
        assert_eq!((status, body), (401, json!({ "error": "invalid_token" })), "{what}");
    }
    app.stage.clock.advance(Duration::from_secs(3_600));
    assert_eq!(profile(&app, &token).await.0, 401, "expired");
}

// ---- lambda_backend ----

async fn lambda(event: &Value) -> (u16, Value, http::HeaderMap) {
    let stage = Stage::start().await;
    let function = Function {
        vendor: TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
            .configure(&stage.pool.backend_config())
            .build()
            .unwrap(),
        user_ids: UserIds::hmac_sha256(KEY).unwrap(),
    };
    let request = lambda_http::request::from_str(&event.to_string()).unwrap();
    let response = function.handle(request).await.unwrap();
    let body = serde_json::from_slice(response.body()).unwrap();
    (response.status().as_u16(), body, response.headers().clone())
}

fn event() -> Value {
    serde_json::from_str(include_str!("../../examples/lambda_backend/event.json")).unwrap()
}

#[tokio::test]
async fn the_function_answers_what_api_gateway_sends() {
    let (status, body, headers) = lambda(&event()).await;
    assert_eq!(status, 200);
    assert!(body["identityId"].is_string() && body["token"].is_string());
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["content-type"], "application/json");
    // The user is a pseudonym: no e-mail address is in the token.
    let claims = body["token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims = String::from_utf8(base64_simd::URL_SAFE_NO_PAD.decode_to_vec(claims).unwrap()).unwrap();
    assert!(!claims.contains("alice") && claims.contains(PROVIDER), "{claims}");
}

#[tokio::test]
async fn the_function_vends_credentials_to_clients_that_cannot_reach_cognito() {
    let mut event = event();
    event["rawPath"] = "/aws/credentials".into();
    event["requestContext"]["http"]["path"] = "/aws/credentials".into();
    let (status, body, _) = lambda(&event).await;
    assert_eq!(status, 200);
    for member in [
        "identityId",
        "accessKeyId",
        "secretAccessKey",
        "sessionToken",
        "expiration",
    ] {
        assert!(body[member].is_string(), "{member}");
    }
}

#[tokio::test]
async fn the_function_believes_the_authorizer_alone() {
    for (pointer, value) in [
        ("/requestContext/authorizer", Value::Null),
        ("/requestContext/authorizer/jwt", Value::Null),
        ("/requestContext/authorizer/jwt/claims", json!({})),
        ("/requestContext/authorizer/jwt/claims/sub", json!("")),
        ("/requestContext/authorizer/jwt/claims/iss", json!("")),
    ] {
        let mut event = event();
        *event.pointer_mut(pointer).unwrap() = value;
        event["headers"]["authorization"] = "Bearer e30.eyJzdWIiOiJhbGljZSJ9.c2ln".into();
        event["headers"]["x-user"] = "alice@example.com".into();
        event["body"] = r#"{"sub":"alice@example.com"}"#.into();
        let (status, body, _) = lambda(&event).await;
        assert_eq!((status, body), (401, json!({ "error": "signed_out" })), "{pointer}");
    }
}

#[tokio::test]
async fn the_function_has_two_routes() {
    for (pointer, value, expected) in [
        ("/requestContext/http/method", "GET", 405),
        ("/rawPath", "/aws/identity/other", 404),
        ("/rawPath", "/", 404),
    ] {
        let mut event = event();
        *event.pointer_mut(pointer).unwrap() = value.into();
        assert_eq!(lambda(&event).await.0, expected, "{pointer} {value}");
    }
}

#[tokio::test]
async fn the_same_subject_of_another_issuer_is_another_user() {
    let user = async |issuer: &str| {
        let mut event = event();
        event["requestContext"]["authorizer"]["jwt"]["claims"]["iss"] = issuer.into();
        let (_, body, _) = lambda(&event).await;
        let claims = body["token"].as_str().unwrap().split('.').nth(1).unwrap();
        let claims = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(claims).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let amr = claims["amr"].as_array().unwrap().last().unwrap().as_str().unwrap();
        amr.rsplit(':').next().unwrap().to_owned()
    };
    let (one, again, other) = (
        user("https://login.mycompany.example").await,
        user("https://login.mycompany.example").await,
        user("https://login.other.example").await,
    );
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[tokio::test]
async fn the_function_is_found_under_a_named_stage() {
    let mut event = event();
    event["requestContext"]["stage"] = "prod".into();
    event["rawPath"] = "/prod/aws/identity".into();
    event["requestContext"]["http"]["path"] = "/prod/aws/identity".into();
    assert_eq!(lambda(&event).await.0, 200);
    event["rawPath"] = "/production/aws/identity".into();
    assert_eq!(lambda(&event).await.0, 404, "another path that begins alike");
}

// ---- forget_user, tenant_tags ----

#[tokio::test]
async fn a_forgotten_user_comes_back_as_somebody_new() {
    let story = forget_user::story().await.unwrap();
    assert!(story.report.is_complete());
    assert_eq!(story.report.identity_id.as_ref(), Some(&story.before));
    assert_eq!(story.report.identities.deleted, std::slice::from_ref(&story.before));
    assert!(story.old_token.is_some(), "the token from before is good for nothing");
    assert_ne!(story.after, story.before);
}

#[tokio::test]
async fn each_user_signs_with_the_tags_of_the_users_tenant() {
    let seen = tenant_tags::story().await.unwrap();
    let tenant = |user: &str| seen[user]["tenant"].clone();
    assert_eq!(
        (tenant("user-7f3a"), tenant("user-c41d")),
        ("acme".to_owned(), "globex".to_owned())
    );
    assert_eq!(seen["user-7f3a"]["plan"], "basic");
}

#[test]
fn every_example_is_in_the_list() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let list = std::fs::read_to_string(format!("{directory}/README.md")).unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let example = name.trim_end_matches(".rs");
        assert!(name == "README.md" || list.contains(&format!("[`{example}")), "{name}");
    }
}
