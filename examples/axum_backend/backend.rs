//! A complete backend on axum: its own users and sessions, and the AWS identity of whoever is signed in.
//!
//! ```text
//! POST /session       {"device", "guest"}           a session, before anybody has signed in; a ticket for the guest
//! POST /sign-in       {"email", "password"}         the session becomes a user's, under a new id
//! POST /sign-out                                    it ends
//! POST /aws/identity  what `HttpBackend` sends      the user's identity and token
//! GET  /profile       with that token as bearer     who it is: a service that knows no sessions
//! ```
//!
//! A session is sent as a bearer (apps) or as a cookie (browsers).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use cognito_identity_pool::{
    DeveloperUserId, Error, IdentityId, Logins, TokenVendor, TokenVerifier,
    developer::IdentityRequest,
    server::{GuestTicket, HttpRefusal, VendRequest, VendedToken, VerifiedToken},
    token::RefreshReason,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// `__Host-`: no other host and no plain HTTP page can set it.
const SESSION_COOKIE: &str = "__Host-session";
/// A session is good for so many wrong passwords. A real backend counts by account and by address, too.
const WRONG_PASSWORDS: u8 = 5;
/// No body that is sent here is larger; a login of a public provider has a few kilobytes.
const LARGEST_BODY: usize = 64 * 1024;

pub(crate) struct Backend {
    vendor: TokenVendor,
    verifier: TokenVerifier,
    /// Where the app's own pages come from.
    origin: HeaderValue,
    users: HashMap<&'static str, User>,
    /// By id. Yours are in a database, with an expiry.
    sessions: Mutex<HashMap<String, Session>>,
}

pub(crate) struct User {
    /// Yours is a hash.
    pub(crate) password: &'static str,
    /// Opaque, for good, never given to anybody else: it stands in each token and in CloudTrail.
    pub(crate) id: &'static str,
}

#[derive(Clone)]
struct Session {
    /// What a guest's ticket is bound to: the secret of the device. Unlike the session's id it stays the same at sign-in.
    client: String,
    user: Option<&'static str>,
    wrong_passwords: u8,
    last_fresh: Option<Instant>,
}

impl Backend {
    pub(crate) fn new(
        vendor: TokenVendor,
        verifier: TokenVerifier,
        origin: HeaderValue,
        users: HashMap<&'static str, User>,
    ) -> Arc<Self> {
        Arc::new(Self {
            vendor,
            verifier,
            origin,
            users,
            sessions: Mutex::default(),
        })
    }

    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/session", post(begin))
            .route("/sign-in", post(sign_in))
            .route("/sign-out", post(sign_out))
            .route("/aws/identity", post(aws_identity))
            .route("/profile", get(profile))
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .layer(middleware::map_response(uncached))
            .with_state(Arc::clone(self))
    }

    fn sessions<T>(&self, then: impl FnOnce(&mut HashMap<String, Session>) -> T) -> T {
        then(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self, session: Session) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        self.sessions(|all| all.insert(id.clone(), session));
        id
    }
}

/// Tokens and sessions are for nobody's cache.
async fn uncached(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

// ---- Who is asking ----

/// Whoever has the session that the request names.
struct Caller {
    id: String,
    session: Session,
}

impl FromRequestParts<Arc<Backend>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, backend: &Arc<Backend>) -> Result<Self, Refusal> {
        let id = match bearer(&parts.headers) {
            Some(bearer) => bearer,
            // A browser adds the cookie to whatever a page of somebody else makes it send, but it says whose page that is.
            None if parts.headers.get(ORIGIN) == Some(&backend.origin) => {
                cookie(&parts.headers).ok_or(StatusCode::UNAUTHORIZED)?
            }
            None if cookie(&parts.headers).is_some() => return Err(StatusCode::FORBIDDEN.into()),
            None => return Err(StatusCode::UNAUTHORIZED.into()),
        };
        let session = backend
            .sessions(|all| all.get(id).cloned())
            .ok_or(StatusCode::UNAUTHORIZED)?;
        Ok(Self {
            id: id.to_owned(),
            session,
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get(COOKIE)?.to_str().ok()?.split(';');
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value)
}

// ---- What is answered when something is wrong ----

/// A status and a word. What is wrong with a request, or in here, goes to the log.
pub(crate) enum Refusal {
    Request(StatusCode),
    Vend(HttpRefusal),
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self::Request(status)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        tracing::warn!(?error, "refused");
        Self::Vend(HttpRefusal::from(&error))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Request(status) => {
                let word = status.canonical_reason().unwrap_or("refused");
                (status, Json(json!({ "error": word }))).into_response()
            }
            Self::Vend(refusal) => refusal.into(),
        }
    }
}

/// A JSON body. axum's own refusals quote what they stumble over.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(JsonRejection::JsonDataError(_)) => Err(StatusCode::BAD_REQUEST.into()),
            Err(rejection) => Err(rejection.status().into()),
        }
    }
}

// ---- Sessions ----

#[derive(Deserialize)]
struct Begin {
    /// The secret of the installation, which an earlier session gave out: a device outlives its sessions.
    device: Option<String>,
    guest: Option<String>,
}

/// The guest belongs to the device that has named it first: whoever names it later, or at the sign-in, gets no ticket. Without a
/// ticket the session begins all the same, and the guest stays what it is.
async fn begin(State(backend): State<Arc<Backend>>, Body(form): Body<Begin>) -> Result<Response, Refusal> {
    // Long enough that it is one of ours: whoever makes one up is a device of its own.
    let known = form.device.filter(|device| device.len() == 36);
    let device = known.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let claim = match form.guest {
        Some(guest) => {
            let guest = IdentityId::new(guest).map_err(|_| StatusCode::BAD_REQUEST)?;
            let claim = backend.vendor.issue_guest_claim(&guest, &device).await;
            claim
                .inspect_err(|error| tracing::warn!(?error, "no ticket for the guest"))
                .ok()
        }
        None => None,
    };
    let id = backend.open(Session {
        client: device.clone(),
        user: None,
        wrong_passwords: 0,
        last_fresh: None,
    });
    let claim = claim.as_ref().map(GuestTicket::expose);
    let begun = json!({ "session": id, "device": device, "guestClaim": claim });
    Ok((in_cookie(&id), Json(begun)).into_response())
}

#[derive(Deserialize)]
struct SignIn {
    email: String,
    password: String,
}

/// The session gets a new id, so that nobody who knew the old one is signed in with it, and a sign-in that is sent a second time
/// finds no session.
async fn sign_in(
    State(backend): State<Arc<Backend>>,
    caller: Caller,
    Body(form): Body<SignIn>,
) -> Result<Response, Refusal> {
    let user = backend
        .users
        .get(form.email.as_str())
        .filter(|user| user.password == form.password);
    let session = backend.sessions(|all| {
        let mut session = all.remove(&caller.id)?;
        if user.is_none() {
            session.wrong_passwords += 1;
            if session.wrong_passwords < WRONG_PASSWORDS {
                all.insert(caller.id.clone(), session);
            }
            return None;
        }
        Some(session)
    });
    let (Some(user), Some(session)) = (user, session) else {
        return Err(StatusCode::UNAUTHORIZED.into());
    };
    let id = backend.open(Session {
        user: Some(user.id),
        ..session
    });
    Ok((in_cookie(&id), Json(json!({ "session": id }))).into_response())
}

async fn sign_out(State(backend): State<Arc<Backend>>, caller: Caller) -> StatusCode {
    backend.sessions(|all| all.remove(&caller.id));
    StatusCode::NO_CONTENT
}

fn in_cookie(id: &str) -> [(HeaderName, String); 1] {
    let cookie = format!("{SESSION_COOKIE}={id}; Path=/; Secure; HttpOnly; SameSite=Lax");
    [(SET_COOKIE, cookie)]
}

// ---- The AWS identity ----

async fn aws_identity(
    State(backend): State<Arc<Backend>>,
    caller: Caller,
    Body(ask): Body<IdentityRequest>,
) -> Result<Response, Refusal> {
    let user = caller.session.user.ok_or(StatusCode::UNAUTHORIZED)?;
    let user = DeveloperUserId::new(user).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let vended = vend(&backend, &caller, &user, ask).await?;
    Ok(Json(vended.expose()).into_response())
}

async fn vend(
    backend: &Backend,
    caller: &Caller,
    user: &DeveloperUserId,
    ask: IdentityRequest,
) -> Result<VendedToken, Refusal> {
    if let Some(claim) = ask.guest_claim(&*caller.session.client) {
        // A guest that is not linked is no reason to keep the user out: it stays what it is.
        let linked = backend
            .vendor
            .vend_linking_guest(VendRequest::new(user.clone()), claim)
            .await?;
        if let Some(error) = linked.not_linked {
            tracing::warn!(?error, "guest not linked");
        }
        return Ok(linked.vended);
    }
    if !ask.logins().is_empty() {
        let known = [Logins::FACEBOOK, Logins::GOOGLE];
        if ask.logins().providers().any(|provider| !known.contains(&provider)) {
            return Err(StatusCode::BAD_REQUEST.into());
        }
        return Ok(backend.vendor.link_external(user, ask.logins()).await?);
    }
    let fresh = ask.reason() == RefreshReason::TokenRejected && may_be_fresh(backend, caller);
    Ok(backend
        .vendor
        .vend_with(VendRequest::new(user.clone()).fresh(fresh))
        .await?)
}

/// A fresh token costs a request of the quota that all users share.
fn may_be_fresh(backend: &Backend, caller: &Caller) -> bool {
    backend.sessions(|all| {
        let Some(session) = all.get_mut(&caller.id) else {
            return false;
        };
        let pause = Duration::from_secs(10);
        let may = session.last_fresh.is_none_or(|last| last.elapsed() >= pause);
        if may {
            session.last_fresh = Some(Instant::now());
        }
        may
    })
}

// ---- A service that takes the token for a bearer ----

/// Whoever has a token of the pool. It is verified: a `sub` that is only read is whatever the client has written there.
struct Verified(VerifiedToken);

impl FromRequestParts<Arc<Backend>> for Verified {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, backend: &Arc<Backend>) -> Result<Self, Refusal> {
        let token = bearer(&parts.headers).ok_or(StatusCode::UNAUTHORIZED)?;
        Ok(Self(backend.verifier.verify(token).await?))
    }
}

async fn profile(Verified(token): Verified) -> Json<serde_json::Value> {
    Json(json!({ "identityId": token.identity_id(), "user": token.user_id().as_str() }))
}
