//! Plain HTTP through the app's client: for what Cognito publishes, and for a backend of the app's own.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use aws_smithy_runtime::client::auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme};
use aws_smithy_runtime::client::defaults::default_http_client_plugin_v2;
use aws_smithy_runtime::client::identity::no_auth::NoAuthIdentityResolver;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnector, HttpConnectorSettings, SharedHttpClient};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_types::byte_stream::ByteStream;
use aws_types::SdkConfig;
use futures_util::future::{Either, select};
use http::Uri;
use zeroize::Zeroizing;

use super::settings::{sleep_impl, time_source};
use crate::clock::Timer;
use crate::error::{Error, ErrorKind};
use aws_sdk_cognitoidentity::config::IdentityCache;

/// The app's HTTP client, or the SDK's own, outside any AWS operation: nothing is logged, repeated or added to a request.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: SharedHttpClient,
    components: RuntimeComponents,
    settings: HttpConnectorSettings,
    timer: Timer,
}

/// Why no answer was waited for any longer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    Late,
    /// There is no runtime to wait with.
    NoRuntime,
}

/// Why a body is not whole.
#[derive(Debug)]
pub(crate) enum Cut {
    BrokenOff { after: usize },
    TooLong,
}

impl Http {
    /// Through `client` if it is given, else through the app's.
    pub(crate) fn new(app: Option<&SdkConfig>, client: Option<SharedHttpClient>) -> Result<Self, Error> {
        let client = client.or_else(|| app.and_then(SdkConfig::http_client)).or_else(default_client).ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "there is no HTTP client")
                .with_hint("enable the feature `default-https-client`, or set an http_client in the SdkConfig that is passed to `configure`")
        })?;
        let sleep: SharedAsyncSleep = sleep_impl(app)?;
        // A client reads time and sleep alone of it, but there is no such set without the rest.
        let components = RuntimeComponents::builder("Http")
            .with_http_client(Some(client.clone()))
            .with_sleep_impl(Some(sleep.clone()))
            .with_time_source(Some(time_source(app)))
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![NO_AUTH_SCHEME_ID])))
            .with_auth_scheme(NoAuthScheme::new())
            .with_identity_cache(Some(IdentityCache::no_cache()))
            .with_identity_resolver(NO_AUTH_SCHEME_ID, NoAuthIdentityResolver::new())
            .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(0)))
            .with_retry_strategy(Some(NeverRetryStrategy::new()))
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Configuration, "the HTTP client cannot be set up").caused_by(&error)
            })?;
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(Duration::from_millis(3_100))
            .build();
        Ok(Self {
            client,
            components,
            settings,
            timer: Timer::new(Some(sleep)),
        })
    }

    /// One request. Redirects are not followed.
    pub(crate) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let connector = self.client.http_connector(&self.settings, &self.components);
        connector.call(request).await
    }

    /// What `exchange` comes to, from connecting to the last byte.
    pub(crate) async fn within<T>(&self, limit: Duration, exchange: impl Future<Output = T>) -> Result<T, Unanswered> {
        let late = self.timer.after(limit).ok_or(Unanswered::NoRuntime)?;
        match select(pin!(exchange), late).await {
            Either::Left((answer, _)) => Ok(answer),
            Either::Right(_) => Err(Unanswered::Late),
        }
    }
}

/// The body of a response, at most `longest` bytes of it.
pub(crate) async fn body(response: HttpResponse, longest: usize) -> Result<Zeroizing<Vec<u8>>, Cut> {
    let mut body = ByteStream::new(response.into_body());
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Cut::BrokenOff { after: bytes.len() })?;
        if bytes.len().saturating_add(chunk.len()) > longest {
            return Err(Cut::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Whether what is sent to `uri` can be read by nobody on the way: `https`, or this machine.
pub(crate) fn is_private(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => {
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
        }
        _ => false,
    }
}

/// Whether `uri` names a user, with a password or without: nothing is sent of it, and messages would show it.
pub(crate) fn has_user(uri: &Uri) -> bool {
    uri.authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
}

/// A URL that can be fetched again and again.
#[cfg(feature = "verify")]
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    url: String,
    http: Http,
}

#[cfg(feature = "verify")]
impl Fetch {
    const TIMEOUT: Duration = Duration::from_secs(5);

    /// `url` was checked.
    pub(crate) fn new(url: String, app: Option<&SdkConfig>) -> Result<Self, Error> {
        Ok(Self {
            url,
            http: Http::new(app, None)?,
        })
    }

    /// What is there, at most `longest` bytes.
    pub(crate) async fn get(&self, longest: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        match self.http.within(Self::TIMEOUT, self.fetch(longest)).await {
            Ok(fetched) => fetched,
            Err(Unanswered::NoRuntime) => Err(Error::new(ErrorKind::Runtime, "there is no async runtime to wait with")),
            Err(Unanswered::Late) => Err(Error::new(
                ErrorKind::Timeout,
                format!("{} did not answer within 5 s", self.url),
            )),
        }
    }

    async fn fetch(&self, longest: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut request = HttpRequest::empty();
        request.set_uri(self.url.as_str()).map_err(|error| {
            Error::new(ErrorKind::Configuration, format!("{} is not a valid URL", self.url)).caused_by(&error)
        })?;
        request.headers_mut().insert("accept", "application/json");
        let response = self.http.send(request).await.map_err(|error| {
            let kind = if error.is_timeout() {
                ErrorKind::Timeout
            } else {
                ErrorKind::Transport
            };
            Error::new(kind, format!("{} could not be reached", self.url)).caused_by(&error)
        })?;
        let status = response.status().as_u16();
        if status != 200 {
            let kind = if status >= 500 {
                ErrorKind::Service
            } else {
                ErrorKind::InvalidResponse
            };
            return Err(Error::new(kind, format!("{} answered HTTP status {status}", self.url)));
        }
        body(response, longest).await.map_err(|cut| match cut {
            Cut::BrokenOff { after } => Error::new(
                ErrorKind::Transport,
                format!("the answer of {} broke off after {after} bytes", self.url),
            ),
            Cut::TooLong => Error::new(
                ErrorKind::InvalidResponse,
                format!("the answer of {} is longer than {longest} bytes", self.url),
            ),
        })
    }
}

/// The client that an AWS SDK client would take for itself.
fn default_client() -> Option<SharedHttpClient> {
    default_http_client_plugin_v2(BehaviorVersion::latest())?
        .runtime_components(&RuntimeComponentsBuilder::new("default"))
        .http_client()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_private() {
        let is_private = |url: &str| url.parse().is_ok_and(|uri| is_private(&uri));
        for url in [
            "https://api.example.com/aws/identity",
            "https://api.example.com:8443/aws/identity?v=1",
            "http://localhost:3000/aws/identity",
            "http://LOCALHOST/x",
            "http://127.0.0.1:3000/",
            "http://127.8.9.1/",
            "http://[::1]:3000/",
        ] {
            assert!(is_private(url), "{url}");
        }
        for url in [
            "http://api.example.com/",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://10.0.0.1/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://2130706433/",
            "ftp://localhost/",
            "ws://localhost/",
            "/aws/identity",
            "api.example.com",
            "",
            "https://",
            "https:///path",
            "not a url",
        ] {
            assert!(!is_private(url), "{url}");
        }
    }
}
