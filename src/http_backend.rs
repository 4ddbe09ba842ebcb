//! [`HttpBackend`]: the ready-made [`DeveloperIdentityProvider`] over HTTP, and its request's JSON form.

mod answer;
mod builder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer, ser::SerializeMap};
use zeroize::Zeroizing;

use self::answer::Answer;
pub use self::builder::HttpBackendBuilder;
use crate::developer::{DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest};
use crate::error::BackendError;
use crate::ids::IdentityId;
use crate::logins::Logins;
use crate::service::http::{Http, Unanswered};
use crate::token::RefreshReason;

/// Asks a backend for the user's identity and token by one `POST`: the ready-made counterpart of a handler that calls
/// [`TokenVendor::vend`](crate::TokenVendor::vend). A client in five lines:
///
/// ```no_run
/// # use aws_config::BehaviorVersion;
/// # use cognito_identity_pool::{CognitoCredentialsProvider, HttpBackend, Login};
/// # async fn example(session: String) -> Result<(), Box<dyn std::error::Error>> {
/// let base = aws_config::load_defaults(BehaviorVersion::latest()).await;
/// let backend = HttpBackend::builder("https://api.example.com/aws/identity").configure(&base).bearer(session).build()?;
/// let provider = CognitoCredentialsProvider::builder("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d").configure(&base).build()?;
/// let alice = provider.switch_to(Login::developer(backend).subject("user-42"));
/// let sts = aws_sdk_sts::Client::new(&alice.sdk_config(&base));
/// # Ok(()) }
/// ```
///
/// # The request
///
/// ```json
/// {
///   "reason": "firstUse",
///   "attempt": 1,
///   "guest": { "identityId": "us-east-1:0b1c2d3e-…", "claim": "…" },
///   "logins": { "graph.facebook.com": "EAAB…" }
/// }
/// ```
///
/// - `reason`: `firstUse`, `expiring`, `tokenRejected`, `invalidated` or `forced` ([`RefreshReason`]). After `tokenRejected` a
///   token from a cache would be refused again ([`VendRequest::fresh`](crate::server::VendRequest::fresh)).
/// - `attempt`: from 1 ([`RefreshRequest::attempt`]).
/// - `guest`, if there is a guest to link and a ticket for it ([`HttpBackendBuilder::guest_claim`]): for
///   [`TokenVendor::link_guest`](crate::TokenVendor::link_guest). Without a ticket the guest's id, which is as secret as a
///   session cookie, is not sent.
/// - `logins`, if there are external logins to link: for [`TokenVendor::link_external`](crate::TokenVendor::link_external).
///
/// The user is not in it: the backend knows who asks from the bearer. Neither is the identity that the session has so far: a
/// backend takes it from its own records.
///
/// # The answer
///
/// The JSON form of a [`DeveloperIdentity`], at most 64 KiB, as `application/json`. Everything else is an error that names what
/// came, without quoting it:
///
/// | answer | outcome |
/// |---|---|
/// | 401 | the bearer is asked for once more ([`BearerReason::Rejected`]), if there is a closure for it; then signed out |
/// | 408, 425, 429, 5xx | transient, with `Retry-After` |
/// | 302, 303, 307 | transient; no redirect is followed, so that the bearer goes nowhere else |
/// | other 3xx, 4xx | terminal |
/// | HTML, broken off, too large, another form | transient |
///
/// `https` alone is spoken, except with this machine.
#[derive(Clone)]
pub struct HttpBackend {
    inner: Arc<Inner>,
}

struct Inner {
    url: Uri,
    bearer: Bearer,
    guest_claim: Option<SecretString>,
    http: Http,
    timeout: Duration,
    time: SharedTimeSource,
}

/// Why a bearer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BearerReason {
    /// A request is about to be sent: the one at hand will do.
    Needed,
    /// The backend has answered the last one with 401. An answer from a cache would be refused again.
    Rejected,
}

#[derive(Clone)]
enum Bearer {
    None,
    Fixed(SecretString),
    Asked(Arc<dyn Fn(BearerReason) -> BoxFuture<'static, Result<SecretString, BackendError>> + Send + Sync>),
}

impl HttpBackend {
    /// A backend that answers at `url`.
    pub fn builder(url: impl Into<String>) -> HttpBackendBuilder {
        HttpBackendBuilder::new(url.into())
    }
}

#[async_trait]
impl DeveloperIdentityProvider for HttpBackend {
    async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let body = self.inner.body(request)?;
        let mut reason = BearerReason::Needed;
        loop {
            let bearer = match &self.inner.bearer {
                Bearer::None => None,
                Bearer::Fixed(bearer) => Some(bearer.clone()),
                Bearer::Asked(ask) => Some(ask(reason).await?),
            };
            match self.inner.send(&body, bearer.as_ref()).await? {
                Answer::Identity(identity) => return Ok(identity),
                Answer::Unauthorized => {
                    let may_have_another = matches!(self.inner.bearer, Bearer::Asked(_));
                    if reason == BearerReason::Rejected || !may_have_another {
                        return Err(BackendError::signed_out());
                    }
                    reason = BearerReason::Rejected;
                }
            }
        }
    }
}

impl Inner {
    fn body(&self, request: &RefreshRequest) -> Result<Zeroizing<Vec<u8>>, BackendError> {
        let guest = request.guest_to_link().zip(self.guest_claim.as_ref());
        let wire = Wire {
            reason: word(request.reason()),
            attempt: request.attempt(),
            guest: guest.map(|(identity_id, claim)| Guest {
                identity_id,
                claim: claim.expose_secret(),
            }),
            logins: Tokens(request.external_logins()),
        };
        Ok(Zeroizing::new(serde_json::to_vec(&wire)?))
    }

    async fn send(&self, body: &[u8], bearer: Option<&SecretString>) -> Result<Answer, BackendError> {
        let request = self.request(body, bearer)?;
        let exchange = async {
            let response = self.http.send(request).await?;
            answer::read(response, self.time.now()).await
        };
        match self.http.within(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(Unanswered::Late) => Err(BackendError::transient(format!(
                "the backend did not answer within {:?}",
                self.timeout
            ))),
            Err(Unanswered::NoRuntime) => Err(BackendError::transient("there is no runtime to wait with")),
        }
    }

    fn request(&self, body: &[u8], bearer: Option<&SecretString>) -> Result<HttpRequest, BackendError> {
        let json = HeaderValue::from_static("application/json");
        let mut request = http::Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, json.clone())
            .header(ACCEPT, json)
            .header(
                USER_AGENT,
                concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
            )
            .body(SdkBody::from(body))?;
        if let Some(bearer) = bearer {
            let mut value = Zeroizing::new(format!("Bearer {}", bearer.expose_secret()))
                .parse::<HeaderValue>()
                .map_err(|_| BackendError::terminal("the bearer has characters that no HTTP header can carry"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(HttpRequest::try_from(request)?)
    }
}

impl fmt::Debug for HttpBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpBackend")
            .field("host", &self.inner.url.host())
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    reason: &'static str,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<Guest<'a>>,
    #[serde(skip_serializing_if = "Tokens::is_empty")]
    logins: Tokens<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Guest<'a> {
    identity_id: &'a IdentityId,
    claim: &'a str,
}

struct Tokens<'a>(&'a Logins);

impl Tokens<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Tokens<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (provider, token) in self.0.iter() {
            map.serialize_entry(provider, token.expose_secret())?;
        }
        map.end()
    }
}

fn word(reason: RefreshReason) -> &'static str {
    match reason {
        RefreshReason::FirstUse => "firstUse",
        RefreshReason::Expiring => "expiring",
        RefreshReason::TokenRejected => "tokenRejected",
        RefreshReason::Invalidated => "invalidated",
        RefreshReason::Forced => "forced",
    }
}
