//! [`HttpBackend`]: the ready-made [`DeveloperIdentityProvider`] over HTTP.

mod answer;
mod builder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

pub use self::answer::BackendAnswer;
use self::answer::{Read, Received};
pub use self::builder::HttpBackendBuilder;
use crate::developer::{DeveloperIdentity, DeveloperIdentityProvider, IdentityRequest, RefreshRequest};
use crate::error::{BackendError, BackendErrorKind, CauseKind, public_text};
use crate::service::http::{Http, Unanswered};

/// Asks a backend for the user's identity and token over HTTP: the ready-made counterpart of a handler that calls
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
/// A `POST` whose body is an [`IdentityRequest`] as JSON:
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
/// - `guest`, if there is a guest to link and a ticket for it ([`HttpBackendBuilder::guest_claim`]): for
///   [`TokenVendor::link_guest`](crate::TokenVendor::link_guest). Without a ticket the guest's id, which is as secret as a
///   session cookie, is not sent.
/// - `logins`, if there are external logins to link: for [`TokenVendor::link_external`](crate::TokenVendor::link_external).
///
/// The user is not in it: the backend knows who asks from the bearer, or from headers of your own
/// ([`header`](HttpBackendBuilder::header), [`headers_fn`](HttpBackendBuilder::headers_fn)). Neither is the identity that the session
/// has so far: a backend takes it from its own records. A backend that wants a `GET` gets one without a body
/// ([`get`](HttpBackendBuilder::get)).
///
/// # The answer
///
/// The JSON of a [`DeveloperIdentity`], in any of its forms, at most 64 KiB, whatever the content type says. Everything else is an
/// error that names status, content type and members, and never a value:
///
/// | answer | outcome |
/// |---|---|
/// | 401 | bearer and headers are asked for once more ([`BearerReason::Rejected`]), if there is a closure for them; then signed out |
/// | 407, 408, 425, 429, 5xx | transient, with `Retry-After` |
/// | 302, 303, 307 | transient; no redirect is followed, so that the bearer goes nowhere else |
/// | other 3xx, 4xx | terminal |
/// | 2xx whose JSON says that nobody is signed in: a `false` or 0 under a name like `login`, `success`, `status`; 401 as `code` | signed out |
/// | HTML, broken off, compressed, too large, JSON of another form | transient |
///
/// A backend that is unlike all of these is read by a closure: [`read_answer`](HttpBackendBuilder::read_answer).
///
/// Only `https` is spoken, except with this machine.
#[derive(Clone)]
pub struct HttpBackend {
    endpoint: Arc<Endpoint>,
}

struct Endpoint {
    url: Uri,
    method: Method,
    headers: Vec<(HeaderName, HeaderValue)>,
    bearer: Bearer,
    more_headers: Option<Ask<Vec<(String, SecretString)>>>,
    guest_claim: Option<SecretString>,
    read: Option<Arc<Read>>,
    http: Http,
    timeout: Duration,
    time: SharedTimeSource,
}

/// Why a bearer, or headers, are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BearerReason {
    /// A request is about to be sent: the present ones will do.
    Needed,
    /// The backend has answered the last ones with 401. An answer from a cache would be refused again.
    Rejected,
}

/// An async closure of the app's.
type Ask<T> = Arc<dyn Fn(BearerReason) -> BoxFuture<'static, Result<T, BackendError>> + Send + Sync>;

#[derive(Clone)]
enum Bearer {
    None,
    Fixed(SecretString),
    Asked(Ask<SecretString>),
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
        let endpoint = &*self.endpoint;
        let body = endpoint.body(request)?;
        let mut received = endpoint.send(&body, BearerReason::Needed).await?;
        if received.status() == 401 && endpoint.can_renew() {
            received = endpoint.send(&body, BearerReason::Rejected).await?;
        }
        received.read(endpoint.read.as_deref(), &endpoint.method)
    }
}

impl Endpoint {
    fn body(&self, request: &RefreshRequest) -> Result<Zeroizing<Vec<u8>>, BackendError> {
        if self.method == Method::GET {
            if request.external_logins().is_empty() {
                return Ok(Zeroizing::default());
            }
            let reason = "a GET has no body that could carry the external logins";
            return Err(BackendError::terminal(reason).with_hint("leave out HttpBackendBuilder::get"));
        }
        let wire = IdentityRequest::new(request, self.guest_claim.as_ref());
        Ok(Zeroizing::new(serde_json::to_vec(&wire.expose())?))
    }

    /// Whether the app may have another bearer, or other headers, than those that were refused.
    fn can_renew(&self) -> bool {
        matches!(self.bearer, Bearer::Asked(_)) || self.more_headers.is_some()
    }

    async fn send(&self, body: &[u8], reason: BearerReason) -> Result<Received, BackendError> {
        let bearer = match &self.bearer {
            Bearer::None => None,
            Bearer::Fixed(bearer) => Some(bearer.clone()),
            Bearer::Asked(ask) => Some(ask(reason).await?),
        };
        let more = match &self.more_headers {
            Some(ask) => ask(reason).await?,
            None => Vec::new(),
        };
        let request = self.request(body, bearer.as_ref(), &more)?;
        let exchange = async {
            let response = self
                .http
                .send(request)
                .await
                .map_err(|error| self.unreachable(&error))?;
            Received::of(response, self.time.now()).await
        };
        match self.http.within(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(Unanswered::Late) => {
                let reason = format!(
                    "the backend at {} did not answer within {:?}",
                    self.host(),
                    self.timeout
                );
                Err(BackendError::with_reason(BackendErrorKind::Transient, reason)
                    .because(CauseKind::BackendUnreachable))
            }
            Err(Unanswered::NoRuntime) => Err(BackendError::transient("there is no async runtime to wait with")),
        }
    }

    fn unreachable(&self, error: &ConnectorError) -> BackendError {
        let reason = format!(
            "the backend at {} could not be reached: {}",
            self.host(),
            public_text(error)
        );
        let unreachable = BackendError::with_reason(BackendErrorKind::Transient, reason).caused_by(error);
        if unreachable.causes().is_empty() {
            return unreachable.because(CauseKind::BackendUnreachable);
        }
        unreachable
    }

    /// Host and port, which are no secret.
    fn host(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }

    fn request(
        &self,
        body: &[u8],
        bearer: Option<&SecretString>,
        more: &[(String, SecretString)],
    ) -> Result<HttpRequest, BackendError> {
        let json = HeaderValue::from_static("application/json");
        let mut request = http::Request::builder()
            .method(self.method.clone())
            .uri(self.url.clone())
            .header(ACCEPT, json.clone())
            .header(
                USER_AGENT,
                concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
            )
            .body(SdkBody::from(body))?;
        let headers = request.headers_mut();
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, json);
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in more {
            let (name, value) = builder::header(name, value).map_err(BackendError::terminal)?;
            headers.insert(name, value);
        }
        if let Some(bearer) = bearer {
            let mut value = Zeroizing::new(format!("Bearer {}", bearer.expose_secret()))
                .parse::<HeaderValue>()
                .map_err(|_| BackendError::terminal("the bearer has characters that no HTTP header can carry"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(HttpRequest::try_from(request)?)
    }
}

impl fmt::Debug for HttpBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpBackend")
            .field("host", &self.endpoint.url.host())
            .finish_non_exhaustive()
    }
}
