//! A plain `GET` through the app's HTTP client, for what Cognito publishes.

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
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_types::byte_stream::ByteStream;
use aws_types::SdkConfig;
use futures_util::future::{Either, select};

use super::{sleep_impl, time_source};
use crate::clock::Timer;
use crate::error::{Error, ErrorKind};
use aws_sdk_cognitoidentity::config::IdentityCache;

/// A URL that can be fetched again and again.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    url: String,
    client: SharedHttpClient,
    components: RuntimeComponents,
    settings: HttpConnectorSettings,
    timer: Timer,
}

/// From connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Fetch {
    /// `url` was checked.
    pub(crate) fn new(url: String, app: Option<&SdkConfig>) -> Result<Self, Error> {
        let client = app.and_then(SdkConfig::http_client).or_else(default_client).ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "there is no HTTP client")
                .with_hint("enable the feature `default-https-client`, or set an http_client in the SdkConfig that is passed to `configure`")
        })?;
        let sleep: SharedAsyncSleep = sleep_impl(app)?;
        // A client reads time and sleep alone of it, but there is no such set without the rest.
        let components = RuntimeComponents::builder("Fetch")
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
            url,
            client,
            components,
            settings,
            timer: Timer::new(Some(sleep)),
        })
    }

    /// What is there, at most `longest` bytes. Redirects are not followed.
    pub(crate) async fn get(&self, longest: usize) -> Result<Vec<u8>, Error> {
        let Some(late) = self.timer.after(TIMEOUT) else {
            return Err(Error::new(ErrorKind::Runtime, "there is no runtime to wait with"));
        };
        match select(pin!(self.fetch(longest)), late).await {
            Either::Left((fetched, _)) => fetched,
            Either::Right(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("{} did not answer within 5 s", self.url),
            )),
        }
    }

    async fn fetch(&self, longest: usize) -> Result<Vec<u8>, Error> {
        let mut request = HttpRequest::empty();
        request.set_uri(self.url.as_str()).map_err(|error| {
            Error::new(ErrorKind::Configuration, format!("{} is no URL", self.url)).caused_by(&error)
        })?;
        request.headers_mut().insert("accept", "application/json");
        let connector = self.client.http_connector(&self.settings, &self.components);
        let response = connector.call(request).await.map_err(|error| {
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
        let mut body = ByteStream::new(response.into_body());
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk =
                chunk.map_err(|_| Error::new(ErrorKind::Transport, format!("the answer of {} broke off", self.url)))?;
            if bytes.len().saturating_add(chunk.len()) > longest {
                return Err(Error::new(
                    ErrorKind::InvalidResponse,
                    format!("the answer of {} is longer than {longest} bytes", self.url),
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The client that an AWS SDK client would take for itself.
fn default_client() -> Option<SharedHttpClient> {
    default_http_client_plugin_v2(BehaviorVersion::latest())?
        .runtime_components(&RuntimeComponentsBuilder::new("default"))
        .http_client()
}
