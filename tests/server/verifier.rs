//! The token verifier: what it accepts, what it refuses, and how it gets its keys. Attacks by their names.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stage::{PROVIDER, Stage, until, user, within};
use aws_config::SdkConfig;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::test_util::InstantSleep;
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_http_client::test_util::{NeverClient, infallible_client_fn};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use base64_simd::URL_SAFE_NO_PAD;
use cognito_identity_pool::{
    Error, ErrorKind, Logins, OpenIdToken, TokenVerifier,
    error::CauseKind,
    local::LocalClock,
    server::{HttpRefusal, PrincipalTags, TokenVerifierBuilder, VendRequest},
    token::TokenDuration,
};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

/// The key that local pools share: public knowledge.
const SHARED_KEY: &[u8] = include_bytes!("../../src/local/shared_key.der");

fn verifier(stage: &Stage) -> TokenVerifier {
    builder(stage, &stage.config())
        .jwks_uri(stage.pool.jwks_uri())
        .build()
        .unwrap()
}

fn builder(stage: &Stage, config: &SdkConfig) -> TokenVerifierBuilder {
    TokenVerifier::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(config)
        .issuer_host(stage.pool.issuer_host())
}

async fn token(stage: &Stage, id: &str) -> String {
    let vended = stage.vendor().vend(&user(id)).await.unwrap();
    vended.identity().token().expose_secret().to_owned()
}

fn parts(token: &str) -> (Value, Value) {
    let part = |n: usize| {
        let part = URL_SAFE_NO_PAD.decode_to_vec(token.split('.').nth(n).unwrap()).unwrap();
        serde_json::from_slice(&part).unwrap()
    };
    (part(0), part(1))
}

/// A token with the pool's own key: what whoever holds that key could make.
fn signed(header: &Value, claims: &Value) -> String {
    let mut own: Header = Header::new(Algorithm::RS512);
    own.kid = header["kid"].as_str().map(str::to_owned);
    jsonwebtoken::encode(&own, claims, &EncodingKey::from_rsa_der(SHARED_KEY)).unwrap()
}

fn with_header(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode_to_string(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

/// Refused as a bearer, with this cause, and nothing of the token shown.
async fn refused(verifier: &TokenVerifier, token: &str, cause: CauseKind) {
    let error = verifier.verify(token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidToken, "{error:?}");
    assert_eq!(error.causes()[0].kind, cause, "{error:?}");
    nothing_leaks(&error, token);
}

fn nothing_leaks(error: &Error, token: &str) {
    let logged = format!("{error:?} {error}");
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!logged.contains(part), "a part of the token in {logged}");
    }
    let refusal = HttpRefusal::from(error);
    assert_eq!(refusal.status(), 401);
    assert_eq!(serde_json::to_string(&refusal).unwrap(), r#"{"error":"invalid_token"}"#);
}

#[tokio::test]
async fn a_vended_token_says_who_the_user_is() {
    let stage = Stage::start().await;
    let tags = PrincipalTags::new().with("tenant", "acme").unwrap();
    let request = VendRequest::new(user("a:b:c")).principal_tags(tags);
    let vended = stage.vendor().vend_with(request).await.unwrap();
    let verified = verifier(&stage)
        .verify(vended.identity().token().expose_secret())
        .await
        .unwrap();
    assert_eq!(verified.identity_id(), vended.identity_id());
    assert_eq!(verified.user_id(), &user("a:b:c"));
    assert_eq!(verified.principal_tags()["tenant"], "acme");
    assert_eq!(verified.issued_at(), stage.clock.now());
    assert_eq!(verified.expires_at(), vended.expires_at());
}

#[tokio::test]
async fn a_second_library_is_of_the_same_opinion() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let set = stage.pool.http_get_jwks().await;
    let good = token(&stage, "alice").await;
    let (header, claims) = parts(&good);
    let key = &set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] == header["kid"])
        .unwrap()
        .clone();
    let key = DecodingKey::from_rsa_components(key["n"].as_str().unwrap(), key["e"].as_str().unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::RS512);
    rules.set_audience(&[stage.pool.identity_pool_id()]);
    rules.set_issuer(&[format!("https://{}", stage.pool.issuer_host())]);
    rules.validate_exp = false;
    let mut other_pool = claims.clone();
    other_pool["aud"] = json!("us-east-1:99999999-87c9-4bbd-a314-93b47d91fadd");
    let mut other_issuer = claims.clone();
    other_issuer["iss"] = json!("https://evil.example");
    let mut tampered = good.clone().into_bytes();
    let at = tampered.len() / 2;
    tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
    for (token, accepted) in [
        (good.clone(), true),
        (signed(&header, &claims), true),
        (signed(&header, &other_pool), false),
        (signed(&header, &other_issuer), false),
        (String::from_utf8(tampered).unwrap(), false),
        (good[..good.len() - 2].to_owned(), false),
    ] {
        let theirs = jsonwebtoken::decode::<Value>(&token, &key, &rules).is_ok();
        assert_eq!((theirs, verifier.verify(&token).await.is_ok()), (accepted, accepted));
    }
}

#[tokio::test]
async fn a_token_is_accepted_to_the_end_of_its_leeway_and_not_a_second_more() {
    let stage = Stage::start().await;
    for (leeway, accepted) in [(0, 0), (60, 60), (300, 300), (301, 300), (100_000, 300)] {
        let duration = TokenDuration::from_secs(60).unwrap();
        let request = VendRequest::new(user("alice")).token_duration(duration).fresh(true);
        let vended = stage.vendor().vend_with(request).await.unwrap();
        let token = vended.identity().token().expose_secret();
        let verifier = builder(&stage, &stage.config())
            .jwks_uri(stage.pool.jwks_uri())
            .leeway(Duration::from_secs(leeway))
            .build()
            .unwrap();
        stage.clock.advance(Duration::from_secs(60 + accepted - 1));
        assert!(verifier.verify(token).await.is_ok(), "{leeway}");
        stage.clock.advance(Duration::from_secs(1));
        refused(&verifier, token, CauseKind::TokenExpired).await;
    }
}

#[tokio::test]
async fn cross_pool_token() {
    let stage = Stage::start().await;
    let attackers = Stage::start().await;
    let token = token(&attackers, "alice").await;
    assert_eq!(
        parts(&token).0,
        parts(&self::token(&stage, "alice").await).0,
        "signed by the same key"
    );
    refused(&verifier(&stage), &token, CauseKind::WrongPool).await;
}

#[tokio::test]
async fn unverified_sub() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let victim = stage.vendor().vend(&user("victim")).await.unwrap();
    let own = token(&stage, "thief").await;
    let (header, mut claims) = parts(&own);
    claims["sub"] = json!(victim.identity_id().as_str());
    let signature = own.rsplit('.').next().unwrap();
    for signature in [signature, "", "AAAA", &URL_SAFE_NO_PAD.encode_to_string([0; 256])] {
        refused(
            &verifier,
            &with_header(&header, &claims, signature),
            CauseKind::SignatureNotVerified,
        )
        .await;
    }
}

#[tokio::test]
async fn algorithm_none_and_every_other_than_rs512() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let good = token(&stage, "alice").await;
    let (header, claims) = parts(&good);
    let signature = good.rsplit('.').next().unwrap();
    for alg in [
        "none", "None", "NONE", "", "HS256", "HS512", "RS256", "RS384", "PS512", "ES512", "rs512", "RS512 ",
    ] {
        let mut header = header.clone();
        header["alg"] = json!(alg);
        for signature in ["", signature] {
            refused(
                &verifier,
                &with_header(&header, &claims, signature),
                CauseKind::WrongTokenKind,
            )
            .await;
        }
    }
    // Signed well, by the very key, with another hash.
    let mut rs256 = Header::new(Algorithm::RS256);
    rs256.kid = header["kid"].as_str().map(str::to_owned);
    let token = jsonwebtoken::encode(&rs256, &claims, &EncodingKey::from_rsa_der(SHARED_KEY)).unwrap();
    refused(&verifier, &token, CauseKind::WrongTokenKind).await;
}

#[tokio::test]
async fn key_confusion_with_the_public_key_as_an_hmac_secret() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let good = token(&stage, "alice").await;
    let (header, claims) = parts(&good);
    let set = stage.pool.http_get_jwks().await;
    let modulus = set["keys"][0]["n"].as_str().unwrap();
    let secrets = [
        modulus.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.decode_to_vec(modulus).unwrap(),
        set.to_string().into_bytes(),
    ];
    for secret in secrets {
        for algorithm in [Algorithm::HS256, Algorithm::HS512] {
            let mut forged = Header::new(algorithm);
            forged.kid = header["kid"].as_str().map(str::to_owned);
            let hs = jsonwebtoken::encode(&forged, &claims, &EncodingKey::from_secret(&secret)).unwrap();
            refused(&verifier, &hs, CauseKind::WrongTokenKind).await;
            // The same bytes, declared as what is expected.
            let mut rs = header.clone();
            rs["alg"] = json!("RS512");
            let token = with_header(&rs, &claims, hs.rsplit('.').next().unwrap());
            refused(&verifier, &token, CauseKind::SignatureNotVerified).await;
        }
    }
}

#[tokio::test]
async fn a_key_that_the_token_brings_along() {
    let stage = Stage::start().await;
    let attackers = Stage::with(|builder| builder.own_key()).await;
    let set = attackers.pool.http_get_jwks().await;
    let (header, claims) = parts(&token(&stage, "victim").await);
    let theirs = token(&attackers, "victim").await;
    let verifier = verifier(&stage);
    for (name, value) in [
        ("jwk", set["keys"][0].clone()),
        ("jku", json!(attackers.pool.jwks_uri())),
        ("x5u", json!(attackers.pool.jwks_uri())),
        ("kid", json!("us-east-1999")),
    ] {
        // An unknown key may be looked for once a minute.
        stage.clock.advance(Duration::from_secs(60));
        let mut header = header.clone();
        header[name] = value;
        let forged = with_header(&header, &claims, theirs.rsplit('.').next().unwrap());
        refused(&verifier, &forged, CauseKind::SignatureNotVerified).await;
    }
    assert_eq!(
        attackers.calls("/.well-known/jwks_uri"),
        1,
        "the attacker's URL was never asked"
    );
    let mut header = header;
    header["crit"] = json!(["b64"]);
    refused(
        &verifier,
        &with_header(&header, &claims, "AAAA"),
        CauseKind::WrongTokenKind,
    )
    .await;
}

#[tokio::test]
async fn a_guest_or_another_providers_user_in_place_of_the_developers() {
    let stage = Stage::with(|builder| builder.allow_classic_flow(true)).await;
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let verifier = verifier(&stage);
    let client = stage.client();
    let guest = stage.guest().await;
    let token = client
        .get_open_id_token()
        .identity_id(guest.as_str())
        .send()
        .await
        .unwrap()
        .token
        .unwrap();
    refused(&verifier, &token, CauseKind::WrongTokenKind).await;
    let login = google.token("g");
    let id = client
        .get_id()
        .identity_pool_id(stage.pool.identity_pool_id())
        .logins(Logins::GOOGLE, &login);
    let id = id.send().await.unwrap().identity_id.unwrap();
    let token = client
        .get_open_id_token()
        .identity_id(id)
        .logins(Logins::GOOGLE, login)
        .send()
        .await
        .unwrap();
    refused(&verifier, &token.token.unwrap(), CauseKind::WrongTokenKind).await;
}

#[tokio::test]
async fn claims_that_a_real_token_never_has() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let pool = stage.pool.identity_pool_id();
    let (header, good) = parts(&token(&stage, "alice").await);
    assert!(verifier.verify(&signed(&header, &good)).await.is_ok());
    let amr = |list: Value| ("amr", list);
    for (name, value) in [
        ("aud", json!([pool])),
        ("aud", json!([pool, "another"])),
        ("aud", json!("")),
        ("aud", Value::Null),
        ("iss", json!("http://cognito-identity.amazonaws.com")),
        ("iss", json!("https://cognito-identity.amazonaws.com.evil.example")),
        ("sub", json!("alice")),
        ("sub", json!("eu-west-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d")),
        ("exp", json!("never")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", Value::Null),
        ("iat", json!(-1)),
        amr(json!([])),
        amr(json!(["unauthenticated"])),
        amr(json!(["authenticated"])),
        amr(json!(["authenticated", PROVIDER])),
        amr(json!(["unauthenticated", PROVIDER, format!("{PROVIDER}:{pool}:alice")])),
        amr(json!([
            "authenticated",
            "login.other",
            format!("login.other:{pool}:alice")
        ])),
        amr(json!([
            "authenticated",
            PROVIDER,
            format!("{PROVIDER}:us-east-1:0:alice")
        ])),
        amr(json!(["authenticated", PROVIDER, format!("{PROVIDER}:{pool}:")])),
        amr(json!("authenticated")),
    ] {
        let mut claims = good.clone();
        claims[name] = value.clone();
        let token = signed(&header, &claims);
        let error = verifier.verify(&token).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidToken, "{name}: {value}");
        nothing_leaks(&error, &token);
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_and_asks_for_no_keys() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let long = "A".repeat(50_001);
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "e30.e30.",
        "e30.e30.AAAA",
        "three words here",
        "Bearer x",
        "\u{0}",
        &long,
    ] {
        refused(&verifier, token, CauseKind::WrongTokenKind).await;
    }
    assert_eq!(stage.calls("/.well-known/jwks_uri"), 0);
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_who_ask_at_once() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let token = token(&stage, "alice").await;
    let verifications = (0..100).map(|_| {
        let (verifier, token) = (verifier.clone(), token.clone());
        tokio::spawn(async move { verifier.verify(&token).await.is_ok() })
    });
    for verified in futures_util::future::join_all(verifications).await {
        assert!(verified.unwrap());
    }
    assert_eq!(stage.calls("/.well-known/jwks_uri"), 1);
}

#[tokio::test]
async fn a_rotated_key_is_found_and_an_old_one_ends() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let day = Duration::from_secs(86_400);
    let duration = TokenDuration::MAX;
    let vend = || async {
        let request = VendRequest::new(user("alice")).token_duration(duration).fresh(true);
        stage
            .vendor()
            .vend_with(request)
            .await
            .unwrap()
            .identity()
            .token()
            .expose_secret()
            .to_owned()
    };
    verifier.verify(&vend().await).await.unwrap();
    stage.clock.advance(Duration::from_secs(60));
    stage.pool.rotate_keys(true);
    verifier.verify(&vend().await).await.unwrap();
    assert_eq!(stage.calls("/.well-known/jwks_uri"), 2);
    // The key is withdrawn: what it signed is refused once the kept keys are a day old, and new ones have been fetched.
    let old = vend().await;
    stage.pool.rotate_keys(false);
    verifier.verify(&old).await.unwrap();
    stage.clock.advance(day - Duration::from_secs(1));
    verifier.verify(&old).await.unwrap();
    stage.clock.advance(Duration::from_secs(1));
    verifier.verify(&old).await.expect("what is kept serves at once");
    let new = vend().await;
    within("the new key", async {
        while verifier.verify(&new).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(
        verifier.verify(&old).await.unwrap_err().kind(),
        ErrorKind::Service,
        "it may be a new key"
    );
    assert_eq!(stage.calls("/.well-known/jwks_uri"), 3);
    stage.clock.advance(Duration::from_secs(60));
    refused(&verifier, &old, CauseKind::SignatureNotVerified).await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_fetches_once_a_minute() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let (header, claims) = parts(&token(&stage, "alice").await);
    let flood = |from: usize, may_ask: bool| {
        let (verifier, header, claims) = (verifier.clone(), header.clone(), claims.clone());
        async move {
            for n in from..from + 500 {
                let mut header = header.clone();
                header["kid"] = json!(format!("unknown-{n}"));
                let forged = with_header(&header, &claims, "AAAA");
                let error = verifier.verify(&forged).await.unwrap_err();
                // The first asks for the keys. For the others there may be a new one that nobody has seen yet.
                let (kind, status) = if n == from && may_ask {
                    (ErrorKind::InvalidToken, 401)
                } else {
                    (ErrorKind::Service, 503)
                };
                assert_eq!(
                    (error.kind(), HttpRefusal::from(&error).status()),
                    (kind, status),
                    "{n}"
                );
            }
        }
    };
    flood(0, true).await;
    assert_eq!(stage.calls("/.well-known/jwks_uri"), 1);
    stage.clock.advance(Duration::from_secs(59));
    flood(500, false).await;
    assert_eq!(stage.calls("/.well-known/jwks_uri"), 1);
    stage.clock.advance(Duration::from_secs(1));
    flood(1_000, true).await;
    assert_eq!(stage.calls("/.well-known/jwks_uri"), 2);
    // Meanwhile everybody else is served.
    verifier.verify(&token(&stage, "bob").await).await.unwrap();
    assert_eq!(stage.calls("/.well-known/jwks_uri"), 2);
}

#[tokio::test]
async fn clients_that_hang_up_do_not_keep_a_new_key_from_being_found() {
    let stage = Stage::start().await;
    let verifier = verifier(&stage);
    let (header, claims) = parts(&token(&stage, "alice").await);
    let mut unknown = header.clone();
    unknown["kid"] = json!("unknown");
    let unknown = with_header(&unknown, &claims, "AAAA");
    // At the very first fetch, and at the one that a rotation needs.
    for fetches in [1, 2] {
        for _ in 0..10 {
            assert!(
                verifier.verify(&unknown).now_or_never().is_none(),
                "polled once, and dropped"
            );
        }
        let vended = stage.vendor().vend(&user("alice")).await.unwrap();
        verifier
            .verify(vended.identity().token().expose_secret())
            .await
            .unwrap();
        assert_eq!(stage.calls("/.well-known/jwks_uri"), fetches);
        stage.clock.advance(Duration::from_secs(60));
        stage.pool.rotate_keys(true);
    }
}

/// A key endpoint that answers what it is told to, and counts.
struct Endpoint {
    answer: Mutex<(u16, String)>,
    asked: AtomicUsize,
}

impl Endpoint {
    fn new(status: u16, body: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new((status, body.into())),
            asked: AtomicUsize::new(0),
        })
    }

    fn answers(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn config(self: &Arc<Self>, clock: &LocalClock) -> SdkConfig {
        let this = Arc::clone(self);
        SdkConfig::builder()
            .time_source(SharedTimeSource::new(clock.clone()))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .http_client(infallible_client_fn(move |_: http::Request<SdkBody>| {
                this.asked.fetch_add(1, Ordering::SeqCst);
                let (status, body) = this.answer.lock().unwrap().clone();
                http::Response::builder()
                    .status(status)
                    .body(SdkBody::from(body))
                    .unwrap()
            }))
            .build()
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_left_alone_and_asked_again() {
    let stage = Stage::start().await;
    let token = token(&stage, "alice").await;
    let endpoint = Endpoint::new(503, "");
    let verifier = builder(&stage, &endpoint.config(&stage.clock)).build().unwrap();
    for _ in 0..10 {
        let error = verifier.verify(&token).await.unwrap_err();
        assert_eq!(
            (error.kind(), HttpRefusal::from(&error).status()),
            (ErrorKind::Service, 503)
        );
    }
    assert_eq!(endpoint.asked(), 1);
    endpoint.answers(200, stage.pool.http_get_jwks().await.to_string());
    stage.clock.advance(Duration::from_secs(5));
    verifier.verify(&token).await.unwrap();
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test]
async fn kept_keys_outlast_a_failing_endpoint_for_a_week_and_no_longer() {
    let stage = Stage::start().await;
    let endpoint = Endpoint::new(200, stage.pool.http_get_jwks().await.to_string());
    let verifier = builder(&stage, &endpoint.config(&stage.clock)).build().unwrap();
    verifier.verify(&token(&stage, "alice").await).await.unwrap();
    endpoint.answers(500, "");
    for _ in 0..6 {
        stage.clock.advance(Duration::from_secs(86_400));
        let token = token(&stage, "alice").await;
        for _ in 0..10 {
            verifier.verify(&token).await.unwrap();
        }
    }
    until("it was asked once a day, since no minute passes between", || {
        endpoint.asked() == 7
    })
    .await;
    stage.clock.advance(Duration::from_secs(86_400));
    let error = verifier.verify(&token(&stage, "alice").await).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Service, true));
}

/// An endpoint that answers, and then hangs.
#[derive(Debug, Clone)]
struct Hanging {
    body: String,
    hangs: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl HttpConnector for Hanging {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (hangs, body) = (self.hangs.load(Ordering::SeqCst), self.body.clone());
        HttpConnectorFuture::new(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            let response = http::Response::builder().status(200).body(SdkBody::from(body)).unwrap();
            Ok(HttpResponse::try_from(response).unwrap())
        })
    }
}

#[tokio::test]
async fn a_hanging_key_endpoint_stalls_nobody_whose_key_is_kept() {
    let stage = Stage::start().await;
    let endpoint = Hanging {
        body: stage.pool.http_get_jwks().await.to_string(),
        hangs: Arc::default(),
        asked: Arc::default(),
    };
    let connector = SharedHttpConnector::new(endpoint.clone());
    let config = SdkConfig::builder()
        .time_source(SharedTimeSource::new(stage.clock.clone()))
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    let verifier = builder(&stage, &config).build().unwrap();
    verifier.ready().await.unwrap();
    verifier.ready().await.unwrap();
    assert_eq!(endpoint.asked.load(Ordering::SeqCst), 1, "there are keys");
    endpoint.hangs.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        stage.clock.advance(Duration::from_secs(86_400));
        let token = token(&stage, "alice").await;
        for _ in 0..100 {
            let verified = verifier.verify(&token).now_or_never();
            verified.expect("without waiting").unwrap();
        }
    }
    assert!(endpoint.asked.load(Ordering::SeqCst) >= 2, "it is asked aside");
}

#[tokio::test]
async fn a_token_of_two_developer_users_is_ambiguous() {
    let stage = Stage::start().await;
    let (header, mut claims) = parts(&token(&stage, "alice").await);
    let pool = stage.pool.identity_pool_id();
    let users = ["alice", "bob"].map(|name| format!("{PROVIDER}:{pool}:{name}"));
    claims["amr"] = json!(["authenticated", PROVIDER, users[0], users[1]]);
    refused(&verifier(&stage), &signed(&header, &claims), CauseKind::WrongTokenKind).await;
}

#[tokio::test]
async fn an_endpoint_that_serves_no_usable_keys_verifies_nothing() {
    let stage = Stage::start().await;
    let good = token(&stage, "alice").await;
    let (header, claims) = parts(&good);
    let kid = header["kid"].clone();
    let secret = URL_SAFE_NO_PAD.encode_to_string("secret");
    let bodies = [
        json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": kid, "k": secret}]}).to_string(),
        json!({"keys": [{"kty": "oct", "alg": "RS512", "kid": kid, "k": secret, "n": secret, "e": "AQAB"}]})
            .to_string(),
        json!({"keys": [{"kty": "RSA", "alg": "none", "kid": kid, "n": "", "e": ""}]}).to_string(),
        "<html>sign in</html>".to_owned(),
        format!(r#"{{"keys":[],"padding":"{}"}}"#, "x".repeat(300 * 1024)),
    ];
    let mut hs = Header::new(Algorithm::HS256);
    hs.kid = kid.as_str().map(str::to_owned);
    let forged = jsonwebtoken::encode(&hs, &claims, &EncodingKey::from_secret(b"secret")).unwrap();
    for body in bodies {
        let endpoint = Endpoint::new(200, body.clone());
        let verifier = builder(&stage, &endpoint.config(&stage.clock)).build().unwrap();
        refused(&verifier, &forged, CauseKind::WrongTokenKind).await;
        let error = verifier.verify(&good).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{}", &body[..20]);
    }
    for (status, kind) in [
        (302, ErrorKind::InvalidResponse),
        (404, ErrorKind::InvalidResponse),
        (500, ErrorKind::Service),
    ] {
        let endpoint = Endpoint::new(status, stage.pool.http_get_jwks().await.to_string());
        let verifier = builder(&stage, &endpoint.config(&stage.clock)).build().unwrap();
        assert_eq!(verifier.verify(&good).await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers_times_out() {
    let stage = Stage::start().await;
    let config = SdkConfig::builder()
        .time_source(SharedTimeSource::new(stage.clock.clone()))
        .sleep_impl(SharedAsyncSleep::new(InstantSleep::unlogged()))
        .http_client(NeverClient::new())
        .build();
    let verifier = builder(&stage, &config).build().unwrap();
    let error = verifier.verify(&token(&stage, "alice").await).await.unwrap_err();
    assert_eq!(
        (error.kind(), HttpRefusal::from(&error).status()),
        (ErrorKind::Timeout, 503)
    );
}

#[test]
fn keys_come_by_https_or_from_this_machine() {
    let build = |uri: &str| {
        TokenVerifier::builder("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd", PROVIDER)
            .configure(
                &SdkConfig::builder()
                    .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
                    .build(),
            )
            .jwks_uri(uri)
            .build()
    };
    for good in [
        "https://keys.example/jwks",
        "http://127.0.0.1:1/jwks",
        "http://localhost:80/x",
        "http://[::1]:1/x",
    ] {
        assert!(build(good).is_ok(), "{good}");
    }
    for bad in [
        "http://keys.example/jwks",
        "http://127.0.0.1.evil.example/x",
        "http://localhost.evil.example/",
        "ftp://keys.example",
        "file:///etc/passwd",
        "keys.example",
        "",
        "https://",
    ] {
        assert_eq!(build(bad).unwrap_err().kind(), ErrorKind::Configuration, "{bad}");
    }
    for secret in [
        "https://name:canary@keys.example/jwks",
        "http://canary@127.0.0.1:1/jwks",
        "https://a@b:canary@keys.example",
        "http://name:canary@keys.example/jwks",
    ] {
        let error = build(secret).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{secret}");
        assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
    }
    let error = TokenVerifier::builder("my-pool", PROVIDER).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic_or_pass(token in r"[A-Za-z0-9_.\-]{0,200}|\PC{0,100}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let endpoint = Endpoint::new(503, "");
        let clock = LocalClock::at_present();
        let verifier = TokenVerifier::builder("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd", PROVIDER)
            .configure(&endpoint.config(&clock))
            .build()
            .unwrap();
        proptest::prop_assert!(runtime.block_on(verifier.verify(&token)).is_err());
        drop(OpenIdToken::new(token));
    }
}

/// The pool's key set, as anybody can fetch it.
trait Jwks {
    async fn http_get_jwks(&self) -> Value;
}

impl Jwks for cognito_identity_pool::LocalIdentityPool {
    async fn http_get_jwks(&self) -> Value {
        reqwest::get(self.jwks_uri()).await.unwrap().json().await.unwrap()
    }
}
