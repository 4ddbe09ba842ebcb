//! Credentials over HTTP on loopback, as the SDKs of all languages read them (the container credentials provider).

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_async::time::{SystemTimeSource, TimeSource as _};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_types::SdkConfig;
use bytes::Bytes;
use cognito_identity_pool::{CognitoCredentialsProvider, Error, Session};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use super::Source;
use super::bearer::BearerCommand;
use crate::output::Failure;

const PATH: &str = "/credentials";

/// For how long an answer of the bearer command holds: many programs that ask at once run it once.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(10);

struct Endpoint {
    source: Source,
    config: SdkConfig,
    bearer: BearerCommand,
    token: String,
    provider: CognitoCredentialsProvider,
    current: Mutex<Current>,
}

/// Who was signed in when it was asked last.
#[derive(Default)]
struct Current {
    user: Option<String>,
    asked: Option<Instant>,
    session: Option<Session>,
}

/// Why there are no credentials: a status, a code, and a text.
struct Refused(StatusCode, &'static str, String);

/// Listens, and returns the URL and the token that goes with it.
pub(super) async fn start(source: &Source, config: &SdkConfig, port: u16) -> Result<(String, String), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let url = format!("http://{}{PATH}", listener.local_addr()?);
    let token = uuid::Uuid::new_v4().to_string();
    let endpoint = Arc::new(Endpoint {
        bearer: source.bearer(),
        provider: source.provider(config)?,
        source: source.clone(),
        config: config.clone(),
        token: token.clone(),
        current: Mutex::default(),
    });
    tokio::spawn(async move {
        loop {
            // A client that left at once, or no file descriptor: the next one is served.
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(Arc::clone(&endpoint), stream))),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    Ok((url, token))
}

async fn connection(endpoint: Arc<Endpoint>, stream: TcpStream) {
    let answer = service_fn(move |request| {
        let endpoint = Arc::clone(&endpoint);
        async move { Ok::<_, Infallible>(endpoint.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), answer);
    drop(served.await);
}

impl Endpoint {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, value) = match self.admit(request) {
            Ok(()) => match self.credentials().await {
                Ok(credentials) => (StatusCode::OK, self.leased(&credentials)),
                Err(refused) => refused.said(),
            },
            Err(refused) => refused.said(),
        };
        let mut response = Response::new(Full::from(value.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Whoever has the token, from this machine, and no web page.
    fn admit(&self, request: &Request<Incoming>) -> Result<(), Refused> {
        let refused = |text: &str| Err(Refused(StatusCode::FORBIDDEN, "AccessDenied", text.to_owned()));
        let text = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let host = text(header::HOST).unwrap_or_default();
        let name = host
            .rsplit_once(':')
            .map_or(host, |(name, _)| name)
            .trim_matches(['[', ']']);
        if name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
            return refused("this endpoint answers to loopback names alone");
        }
        if request.headers().contains_key(header::ORIGIN) {
            return refused("this is not for web pages");
        }
        let token = text(header::AUTHORIZATION).unwrap_or_default();
        if aws_lc_rs::constant_time::verify_slices_are_equal(token.as_bytes(), self.token.as_bytes()).is_err() {
            return refused("Authorization has to carry AWS_CONTAINER_AUTHORIZATION_TOKEN");
        }
        if request.uri().path() != PATH {
            return Err(Refused(StatusCode::NOT_FOUND, "NotFound", format!("ask for {PATH}")));
        }
        Ok(())
    }

    async fn credentials(&self) -> Result<Credentials, Refused> {
        let session = self.session().await?;
        session.provide_credentials().await.map_err(|error| {
            let known = Error::find(&error);
            let signed_out = known.is_some_and(Error::needs_sign_in);
            let (status, code) = match known {
                _ if signed_out => (StatusCode::UNAUTHORIZED, "SignedOut"),
                Some(known) if !known.is_retryable() => (StatusCode::BAD_REQUEST, "Refused"),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "TryAgain"),
            };
            Refused(status, code, Failure::from(error).0)
        })
    }

    /// The session of who is signed in now.
    async fn session(&self) -> Result<Session, Refused> {
        let mut current = self.current.lock().await;
        let recent = current.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN);
        if !recent {
            let bearer = self
                .bearer
                .ask()
                .await
                .map_err(|error| Refused(StatusCode::SERVICE_UNAVAILABLE, "TryAgain", error))?;
            current.asked = Some(Instant::now());
            let user = bearer.as_ref().map(|bearer| bearer.fingerprint.clone());
            if user != current.user {
                current.session = match bearer {
                    Some(bearer) => {
                        let login = self.source.login(&self.config, bearer.secret);
                        let login =
                            login.map_err(|Failure(text)| Refused(StatusCode::BAD_REQUEST, "Configuration", text))?;
                        Some(self.provider.switch_to(login))
                    }
                    None => {
                        self.provider.sign_out();
                        None
                    }
                };
                current.user = user;
            }
        }
        current.session.clone().ok_or_else(|| {
            let text = "nobody is signed in: the bearer command printed nothing";
            Refused(StatusCode::UNAUTHORIZED, "SignedOut", text.to_owned())
        })
    }

    /// The credentials, said to end with the lease: whoever caches them by their end asks again then.
    fn leased(&self, credentials: &Credentials) -> Value {
        let lease = SystemTimeSource::new().now().checked_add(self.source.lease());
        let end = [lease, credentials.expiry()].into_iter().flatten().min();
        let end = DateTime::from(end.unwrap_or(SystemTime::UNIX_EPOCH)).fmt(Format::DateTime);
        json!({
            "AccessKeyId": credentials.access_key_id(),
            "SecretAccessKey": credentials.secret_access_key(),
            "Token": credentials.session_token(),
            "Expiration": end.unwrap_or_default(),
        })
    }
}

impl Refused {
    fn said(self) -> (StatusCode, Value) {
        let Self(status, code, text) = self;
        // Both spellings are read by some SDK.
        (
            status,
            json!({ "Code": code, "code": code, "Message": text, "message": text }),
        )
    }
}
