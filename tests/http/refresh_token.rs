//! `RefreshTokenLogins` before token endpoints of both kinds, over real sockets: what is sent, what is made of each answer, and that
//! no refresh token is ever lost. The ID tokens are of issuers that the local pool trusts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stage::{Stage, ours};
use aws_credential_types::provider::ProvideCredentials;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use cognito_identity_pool::{
    Error, ErrorKind, Login, Logins, async_trait,
    local::LocalIssuer,
    logins::LoginsProvider,
    refresh_token::{RefreshToken, RefreshTokenLogins, RefreshTokenLoginsBuilder, RefreshTokenStore},
    store::StoreError,
    token::RefreshReason,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

const POOL: &str = "us-east-1_AbCdEfGhI";

/// A server of tokens that rotates its refresh tokens (`canary-refresh-1`, `-2`, …) and refuses each that was used before.
struct Idp {
    issuer: LocalIssuer,
    state: Mutex<IdpState>,
    /// A permit for each answer.
    answers: Semaphore,
    asked: Notify,
}

/// Status, headers and body of an answer.
type Order = (u16, Vec<(&'static str, &'static str)>, String);

#[derive(Default)]
struct IdpState {
    good: usize,
    rotates: bool,
    requests: Vec<(HeaderMap, String)>,
    orders: VecDeque<Order>,
}

impl Idp {
    fn token(&self) -> String {
        format!("canary-refresh-{}", self.state.lock().unwrap().good)
    }

    fn requests(&self) -> Vec<(HeaderMap, String)> {
        self.state.lock().unwrap().requests.clone()
    }

    fn order(&self, status: u16, headers: &[(&'static str, &'static str)], body: &str) {
        let order = (status, headers.to_vec(), body.to_owned());
        self.state.lock().unwrap().orders.push_back(order);
    }

    fn grant(&self, refresh_token: &str, of_user_pool: bool) -> Response {
        let mut state = self.state.lock().unwrap();
        if refresh_token != format!("canary-refresh-{}", state.good) {
            drop(state);
            return if of_user_pool {
                let body =
                    json!({ "__type": "NotAuthorizedException", "message": "Refresh Token has been revoked canary" });
                (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
            } else {
                let body = json!({ "error": "invalid_grant", "error_description": "canary" });
                (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
            };
        }
        if state.rotates {
            state.good += 1;
        }
        let (rotates, new) = (state.rotates, format!("canary-refresh-{}", state.good));
        drop(state);
        let id_token = self.issuer.token("alice");
        let body = if of_user_pool {
            let mut result = json!({ "IdToken": id_token, "AccessToken": "canary-access", "ExpiresIn": 3600 });
            if rotates {
                result["RefreshToken"] = new.into();
            }
            json!({ "AuthenticationResult": result, "ChallengeParameters": {} })
        } else {
            let mut result = json!({ "id_token": id_token, "access_token": "canary-access", "token_type": "Bearer" });
            if rotates {
                result["refresh_token"] = new.into();
            }
            result
        };
        axum::Json(body).into_response()
    }
}

async fn answer(State(idp): State<Arc<Idp>>, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    idp.state.lock().unwrap().requests.push((headers.clone(), body.clone()));
    idp.asked.notify_waiters();
    idp.answers.acquire().await.unwrap().forget();
    let order = idp.state.lock().unwrap().orders.pop_front();
    if let Some((status, headers, body)) = order {
        let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    if headers.contains_key("x-amz-target") {
        let request: Value = serde_json::from_str(&body).unwrap();
        let token = request["RefreshToken"].as_str();
        let token = token.or_else(|| request["AuthParameters"]["REFRESH_TOKEN"].as_str());
        return idp.grant(token.unwrap(), true);
    }
    let token = body.split('&').find_map(|pair| pair.strip_prefix("refresh_token="));
    idp.grant(&token.unwrap().replace("%2D", "-"), false)
}

const MANY: usize = 1_000;

async fn serve(issuer: LocalIssuer, rotates: bool, answers: usize) -> (Arc<Idp>, String) {
    let idp = Arc::new(Idp {
        issuer,
        state: Mutex::new(IdpState {
            good: 1,
            rotates,
            ..IdpState::default()
        }),
        answers: Semaphore::new(answers),
        asked: Notify::new(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let routes = Router::new().fallback(answer).with_state(Arc::clone(&idp));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (idp, url)
}

/// The app's store, which may refuse to write.
struct Keychain {
    token: Mutex<Option<RefreshToken>>,
    broken: Mutex<bool>,
}

impl Keychain {
    fn with(token: &str) -> Arc<Self> {
        Arc::new(Self {
            token: Mutex::new(Some(RefreshToken::new(token))),
            broken: Mutex::new(false),
        })
    }

    fn text(&self) -> String {
        let token = self.token.lock().unwrap();
        token.as_ref().map(RefreshToken::expose).unwrap_or_default().to_owned()
    }

    fn set(&self, token: Option<&str>) {
        *self.token.lock().unwrap() = token.map(RefreshToken::new);
    }

    fn break_down(&self, broken: bool) {
        *self.broken.lock().unwrap() = broken;
    }
}

#[async_trait]
impl RefreshTokenStore for Keychain {
    async fn load(&self) -> Result<Option<RefreshToken>, StoreError> {
        Ok(self.token.lock().unwrap().clone())
    }

    async fn replace(&self, used: &RefreshToken, new: RefreshToken) -> Result<(), StoreError> {
        if *self.broken.lock().unwrap() {
            return Err(StoreError::new("the keychain is locked"));
        }
        let mut token = self.token.lock().unwrap();
        if token.as_ref() == Some(used) {
            *token = Some(new);
        }
        Ok(())
    }
}

fn oauth2(stage: &Stage, url: &str, keychain: &Arc<Keychain>) -> RefreshTokenLoginsBuilder {
    let config = aws_config::SdkConfig::builder()
        .time_source(stage.clock.clone())
        .build();
    RefreshTokenLogins::oauth2(url, "client")
        .configure(&config)
        .provider(Logins::GOOGLE)
        .store(Arc::clone(keychain))
}

async fn refused(logins: &RefreshTokenLogins) -> Error {
    let error = Error::from(logins.logins(RefreshReason::Forced).await.unwrap_err());
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    error
}

#[tokio::test]
async fn a_session_lives_on_with_logins_that_renew_themselves() {
    let stage = Stage::start().await;
    let (idp, url) = serve(stage.google(), true, MANY).await;
    let keychain = Keychain::with("canary-refresh-1");
    let provider = stage.provider();
    let alice = provider.switch_to(Login::external(oauth2(&stage, &url, &keychain).build().unwrap()).subject("alice"));
    let identity = alice.ready().await.unwrap().identity_id;
    assert_eq!(keychain.text(), "canary-refresh-2");
    for round in 3..6 {
        stage.clock.advance(Duration::from_secs(3_700));
        alice.provide_credentials().await.unwrap();
        assert_eq!(alice.ready().await.unwrap().identity_id, identity);
        assert_eq!(keychain.text(), format!("canary-refresh-{round}"));
    }
    // The grant is revoked: the app hears that a sign-in is needed.
    idp.state.lock().unwrap().good = 100;
    stage.clock.advance(Duration::from_secs(3_700));
    let error = ours(&alice.provide_credentials().await.unwrap_err());
    assert!(
        error.needs_sign_in() && error.kind() == ErrorKind::SignedOut,
        "{error:?}"
    );
    assert!(error.to_string().contains("revoked"), "{error}");
}

#[tokio::test]
async fn an_oauth_server_is_asked_by_the_refresh_token_grant() {
    let stage = Stage::start().await;
    let (idp, url) = serve(stage.google(), false, MANY).await;
    let keychain = Keychain::with("canary-refresh-1");
    let logins = oauth2(&stage, &url, &keychain).scope("openid profile").build().unwrap();
    let map = logins.logins(RefreshReason::FirstUse).await.unwrap();
    assert_eq!(map.providers().collect::<Vec<_>>(), [Logins::GOOGLE]);
    oauth2(&stage, &url, &keychain)
        .client_secret("s:3cr&t")
        .build()
        .unwrap()
        .logins(RefreshReason::FirstUse)
        .await
        .unwrap();
    oauth2(&stage, &url, &keychain)
        .client_secret_in_body("s3cr&t")
        .build()
        .unwrap()
        .logins(RefreshReason::FirstUse)
        .await
        .unwrap();
    let requests = idp.requests();
    let sent: Vec<_> = requests.iter().map(|(_, body)| body.as_str()).collect();
    assert_eq!(
        sent,
        [
            "grant_type=refresh_token&refresh_token=canary%2Drefresh%2D1&client_id=client&scope=openid%20profile",
            "grant_type=refresh_token&refresh_token=canary%2Drefresh%2D1",
            "grant_type=refresh_token&refresh_token=canary%2Drefresh%2D1&client_id=client&client_secret=s3cr%26t",
        ]
    );
    let header = |index: usize, name: &str| requests[index].0.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header(0, "content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(header(0, "authorization"), None);
    let basic = format!("Basic {}", base64_simd::STANDARD.encode_to_string("client:s%3A3cr%26t"));
    assert_eq!(header(1, "authorization"), Some(&*basic));
}

#[tokio::test]
async fn a_user_pool_is_asked_in_either_of_its_ways() {
    let stage = Stage::start().await;
    let issuer = stage.pool.user_pool(POOL, "client").unwrap();
    let (idp, url) = serve(issuer, true, MANY).await;
    let keychain = Keychain::with("canary-refresh-1");
    let config = aws_config::SdkConfig::builder()
        .time_source(stage.clock.clone())
        .build();
    let builder = || {
        RefreshTokenLogins::user_pool(POOL, "client")
            .configure(&config)
            .endpoint_url(&url)
            .store(Arc::clone(&keychain))
    };
    let map = builder()
        .build()
        .unwrap()
        .logins(RefreshReason::FirstUse)
        .await
        .unwrap();
    let provider = format!("cognito-idp.us-east-1.amazonaws.com/{POOL}");
    assert_eq!(map.providers().collect::<Vec<_>>(), [&*provider]);
    let asks = [
        builder().client_secret("secret").device_key("device"),
        builder().initiate_auth(),
        builder()
            .initiate_auth()
            .client_secret("secret")
            .username("alice")
            .device_key("device"),
    ];
    for ask in asks {
        ask.build().unwrap().logins(RefreshReason::FirstUse).await.unwrap();
    }
    assert_eq!(keychain.text(), "canary-refresh-5");
    let target = |operation: &str| format!("AWSCognitoIdentityProviderService.{operation}");
    let sent = idp.requests().into_iter().map(|(headers, body)| {
        let target = headers["x-amz-target"].to_str().unwrap().to_owned();
        (target, serde_json::from_str::<Value>(&body).unwrap())
    });
    // echo -n aliceclient | openssl dgst -sha256 -hmac secret -binary | base64
    let hash = "RTsve+FQ659UKyESgvLg9GYmZEL+QjzQsW/OjL77/b0=";
    let sent: Vec<_> = sent.collect();
    assert_eq!(
        sent[0],
        (
            target("GetTokensFromRefreshToken"),
            json!({ "RefreshToken": "canary-refresh-1", "ClientId": "client" })
        )
    );
    assert_eq!(
        sent[1],
        (
            target("GetTokensFromRefreshToken"),
            json!({ "RefreshToken": "canary-refresh-2", "ClientId": "client", "ClientSecret": "secret", "DeviceKey": "device" })
        )
    );
    assert_eq!(
        sent[2],
        (
            target("InitiateAuth"),
            json!({ "AuthFlow": "REFRESH_TOKEN_AUTH", "ClientId": "client", "AuthParameters": { "REFRESH_TOKEN": "canary-refresh-3" } })
        )
    );
    assert_eq!(sent[3].1["AuthParameters"]["SECRET_HASH"], hash);
    assert_eq!(sent[3].1["AuthParameters"]["DEVICE_KEY"], "device");
    // And the pool takes what came of it.
    let login = Login::external(builder().build().unwrap());
    stage.provider().switch_to(login).ready().await.unwrap();
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_renewal_and_what_is_good_is_not_renewed() {
    let stage = Stage::start().await;
    let (idp, url) = serve(stage.google(), true, MANY).await;
    let keychain = Keychain::with("canary-refresh-1");
    let logins = oauth2(&stage, &url, &keychain).build().unwrap();
    let asked = (0..20).map(|_| logins.logins(RefreshReason::FirstUse));
    for map in futures_util::future::join_all(asked).await {
        map.unwrap();
    }
    logins.logins(RefreshReason::Expiring).await.unwrap();
    assert_eq!(idp.requests().len(), 1);
    // A token that Cognito has refused is renewed, however good it looks.
    logins.logins(RefreshReason::TokenRejected).await.unwrap();
    assert_eq!((idp.requests().len(), &*keychain.text()), (2, "canary-refresh-3"));
}

#[tokio::test]
async fn a_rotation_is_not_lost_when_those_who_asked_have_given_up() {
    let stage = Stage::start().await;
    let (idp, url) = serve(stage.google(), true, 0).await;
    let keychain = Keychain::with("canary-refresh-1");
    let logins = oauth2(&stage, &url, &keychain).build().unwrap();
    let asked = idp.asked.notified();
    {
        let call = logins.logins(RefreshReason::FirstUse);
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("there is no answer yet"),
            () = asked => {}
        }
    }
    idp.answers.add_permits(1);
    logins.logins(RefreshReason::FirstUse).await.unwrap();
    assert_eq!((idp.requests().len(), &*keychain.text()), (1, "canary-refresh-2"));
}

#[tokio::test]
async fn a_token_that_another_process_has_rotated_is_taken_from_the_store() {
    let stage = Stage::start().await;
    let (idp, url) = serve(stage.google(), true, 0).await;
    let keychain = Keychain::with("canary-refresh-1");
    let logins = oauth2(&stage, &url, &keychain).build().unwrap();
    let asked = idp.asked.notified();
    let call = tokio::spawn({
        let logins = logins.clone();
        async move { logins.logins(RefreshReason::FirstUse).await }
    });
    asked.await;
    // Meanwhile the other process was faster.
    idp.state.lock().unwrap().good = 2;
    keychain.set(Some("canary-refresh-2"));
    idp.answers.add_permits(2);
    call.await.unwrap().unwrap();
    assert_eq!((idp.requests().len(), &*keychain.text()), (2, "canary-refresh-3"));
}

#[tokio::test]
async fn a_token_that_is_refused_and_has_no_successor_is_a_sign_out_after_one_request() {
    let stage = Stage::start().await;
    let (idp, url) = serve(stage.google(), true, MANY).await;
    let keychain = Keychain::with("canary-refresh-0");
    let logins = oauth2(&stage, &url, &keychain).build().unwrap();
    let error = refused(&logins).await;
    assert!(error.needs_sign_in(), "{error:?}");
    assert_eq!(error.code(), Some("invalid_grant"));
    assert_eq!((idp.requests().len(), &*keychain.text()), (1, "canary-refresh-0"));
    keychain.set(None);
    let error = refused(&logins).await;
    assert!(
        error.needs_sign_in() && error.to_string().contains("no refresh token"),
        "{error:?}"
    );
    assert_eq!(idp.requests().len(), 1);
    // The user has signed in again.
    keychain.set(Some(&idp.token()));
    logins.logins(RefreshReason::Forced).await.unwrap();
}

#[tokio::test]
async fn a_store_that_does_not_take_the_new_token_is_offered_it_again() {
    let stage = Stage::start().await;
    let (_idp, url) = serve(stage.google(), true, MANY).await;
    let keychain = Keychain::with("canary-refresh-1");
    let logins = oauth2(&stage, &url, &keychain).build().unwrap();
    keychain.break_down(true);
    logins.logins(RefreshReason::FirstUse).await.unwrap();
    assert_eq!(keychain.text(), "canary-refresh-1");
    // Each next renewal uses what is in memory, and the store gets the last one as soon as it can.
    logins.logins(RefreshReason::Forced).await.unwrap();
    assert_eq!(keychain.text(), "canary-refresh-1");
    keychain.break_down(false);
    logins.logins(RefreshReason::Forced).await.unwrap();
    assert_eq!(keychain.text(), "canary-refresh-4");
}

#[tokio::test]
async fn every_other_answer_is_named_and_nothing_of_it_is_shown() {
    use ErrorKind::{Configuration, InvalidResponse, Service, SignedOut, Throttled};
    let stage = Stage::start().await;
    let (idp, url) = serve(stage.google(), true, MANY).await;
    let keychain = Keychain::with("canary-refresh-1");
    let logins = oauth2(&stage, &url, &keychain).build().unwrap();
    let error = |code: &str| json!({ "error": code, "error_description": "canary" }).to_string();
    for (status, body, kind, says) in [
        (429, error("slow_down"), Throttled, "limits"),
        (503, "<html>canary</html>".to_owned(), Service, "503"),
        (500, error("server_error"), Service, "500"),
        (400, error("temporarily_unavailable"), Service, "moment"),
        (401, error("invalid_client"), Configuration, "client"),
        (400, error("unauthorized_client"), Configuration, "allow"),
        (400, error("invalid_scope"), Configuration, "scope"),
        (400, error("canary"), Configuration, "refuses the request"),
        (400, error("interaction_required"), SignedOut, "sign in again"),
        (200, error("bad_refresh_token"), SignedOut, "revoked"),
        (200, "<html>canary</html>".to_owned(), InvalidResponse, "200"),
        (302, String::new(), InvalidResponse, "302"),
        (200, "[]".to_owned(), InvalidResponse, "200"),
        (400, "{}".to_owned(), InvalidResponse, "400"),
        (
            200,
            json!({ "access_token": "canary" }).to_string(),
            Configuration,
            "no ID token",
        ),
        (200, json!({ "id_token": "" }).to_string(), Configuration, "no ID token"),
        (
            200,
            json!({ "id_token": "canary canary" }).to_string(),
            Configuration,
            "white space",
        ),
    ] {
        idp.order(status, &[("retry-after", "7")], &body);
        let before = idp.requests().len();
        let error = refused(&logins).await;
        assert_eq!(error.kind(), kind, "{status} {body}: {error:?}");
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert_eq!(error.needs_sign_in(), kind == SignedOut);
        if matches!(status, 429 | 500 | 503) {
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{status}");
        }
        assert_eq!(idp.requests().len(), before + 1, "one request each");
    }
    assert_eq!(keychain.text(), "canary-refresh-1");
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let logins = oauth2(&stage, &format!("http://{gone}/token?canary"), &keychain)
        .build()
        .unwrap();
    let error = refused(&logins).await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Transport, true));
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!format!("{logins:?}{:?}", RefreshToken::new("canary")).contains("canary"));
}
