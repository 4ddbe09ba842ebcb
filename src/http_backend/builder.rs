//! [`HttpBackendBuilder`].

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime::client::auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme};
use aws_smithy_runtime::client::defaults::default_http_client_plugin_v2;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::identity::no_auth::NoAuthIdentityResolver;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpClient};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_types::SdkConfig;
use http::Uri;
use secrecy::SecretString;

use super::{Bearer, BearerReason, HttpBackend, Inner};
use crate::error::{BackendError, Error, ErrorKind};
use crate::service::{sleep_impl, time_source};

/// Builds an [`HttpBackend`]: see [`HttpBackend::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct HttpBackendBuilder {
    url: String,
    app: Option<SdkConfig>,
    client: Option<SharedHttpClient>,
    bearer: Bearer,
    guest_claim: Option<SecretString>,
    timeout: Duration,
}

impl HttpBackendBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            app: None,
            client: None,
            bearer: Bearer::None,
            guest_claim: None,
            timeout: Duration::from_secs(5),
        }
    }

    /// Takes HTTP client, sleep and time source from the app's config. Without an HTTP client in it, it is the SDK's own (feature
    /// `default-https-client`).
    pub fn configure(mut self, config: &SdkConfig) -> Self {
        self.app = Some(config.clone());
        self
    }

    /// The HTTP client, if it is not the config's: where that one goes elsewhere, as a
    /// [`LocalIdentityPool`](crate::LocalIdentityPool)'s does. It must not follow redirects.
    pub fn http_client(mut self, client: impl HttpClient + 'static) -> Self {
        self.client = Some(SharedHttpClient::new(client));
        self
    }

    /// What the user is known by at the backend, e.g. the id of the session, sent as `Authorization: Bearer …`. When it is
    /// refused, the user is signed out.
    pub fn bearer(mut self, bearer: impl Into<SecretString>) -> Self {
        self.bearer = Bearer::Fixed(bearer.into());
        self
    }

    /// As [`bearer`](Self::bearer), from an async closure that is asked for each request. After a 401 it is asked once more, with
    /// [`BearerReason::Rejected`], so that an access token can be renewed.
    ///
    /// ```
    /// # use cognito_identity_pool::{BearerReason, HttpBackend, HttpBackendBuilder};
    /// # #[derive(Clone)] struct Account;
    /// # impl Account { async fn access_token(&self, renew: bool) -> std::io::Result<String> { Ok("token".into()) } }
    /// # fn example(account: Account) -> HttpBackendBuilder {
    /// HttpBackend::builder("https://api.example.com/aws/identity").bearer_fn(move |reason| {
    ///     let account = account.clone();
    ///     async move { Ok(account.access_token(reason == BearerReason::Rejected).await?) }
    /// })
    /// # }
    /// ```
    pub fn bearer_fn<F, Fut, T>(mut self, ask: F) -> Self
    where
        F: Fn(BearerReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, BackendError>> + Send + 'static,
        T: Into<SecretString>,
    {
        self.bearer = Bearer::Asked(Arc::new(move |reason| {
            let bearer = ask(reason);
            Box::pin(async move { bearer.await.map(Into::into) })
        }));
        self
    }

    /// The ticket that the backend has issued for this device's guest
    /// ([`TokenVendor::issue_guest_claim`](crate::TokenVendor::issue_guest_claim)), as it stands in the backend's answer. It goes
    /// along with the guest's id while there is a guest to link, so that the guest's data become the user's.
    pub fn guest_claim(mut self, ticket: impl Into<SecretString>) -> Self {
        self.guest_claim = Some(ticket.into());
        self
    }

    /// How long a request may take, from connecting to the last byte of the answer: by default 5 s. The refresh as a whole has
    /// [its own limit](crate::RefreshPolicyBuilder::load_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Builds the backend. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: a URL that is none, is not `https` and not this machine's, or has a password in it; no HTTP
    /// client; no way to wait.
    pub fn build(self) -> Result<HttpBackend, Error> {
        let url = checked(&self.url)?;
        let app = self.app.as_ref();
        let client = self
            .client
            .or_else(|| app.and_then(SdkConfig::http_client))
            .or_else(default_client)
            .ok_or_else(|| {
                Error::new(ErrorKind::Configuration, "there is no HTTP client")
                    .with_hint("enable the feature `default-https-client`, or set an http_client in the SdkConfig that is passed to `configure`")
            })?;
        let (time, sleep) = (time_source(app), sleep_impl(app)?);
        let parts = RuntimeComponents::builder("HttpBackend")
            .with_http_client(Some(client.clone()))
            .with_sleep_impl(Some(sleep.clone()))
            .with_time_source(Some(time.clone()));
        Ok(HttpBackend {
            inner: Arc::new(Inner {
                url,
                bearer: self.bearer,
                guest_claim: self.guest_claim,
                client,
                components: components(parts)?,
                settings: HttpConnectorSettings::builder()
                    .connect_timeout(self.timeout.min(Duration::from_millis(3_100)))
                    .build(),
                timeout: self.timeout,
                sleep,
                time,
            }),
        })
    }
}

impl fmt::Debug for HttpBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpBackendBuilder")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The client that an AWS SDK client would take for itself.
fn default_client() -> Option<SharedHttpClient> {
    default_http_client_plugin_v2(BehaviorVersion::latest())?
        .runtime_components(&RuntimeComponentsBuilder::new("default"))
        .http_client()
}

/// What an HTTP client wants to be given when it is asked for a connector. Beyond time and sleep it reads nothing of it, but
/// there is no such set without the rest.
fn components(parts: RuntimeComponentsBuilder) -> Result<RuntimeComponents, Error> {
    parts
        .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![NO_AUTH_SCHEME_ID])))
        .with_auth_scheme(NoAuthScheme::new())
        .with_identity_cache(Some(IdentityCache::no_cache()))
        .with_identity_resolver(NO_AUTH_SCHEME_ID, NoAuthIdentityResolver::new())
        .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(0)))
        .with_retry_strategy(Some(NeverRetryStrategy::new()))
        .build()
        .map_err(|error| Error::new(ErrorKind::Configuration, "the HTTP client cannot be set up").caused_by(&error))
}

/// The URL is not repeated in an error: it may hold a password.
fn checked(url: &str) -> Result<Uri, Error> {
    let refused = |message: &str| Error::new(ErrorKind::Configuration, message);
    let uri: Uri = url.parse().map_err(|_| {
        refused("the backend's URL is none").with_hint("it looks like https://api.example.com/aws/identity")
    })?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(refused("the backend's URL has no scheme or no host"));
    };
    if authority.as_str().contains('@') {
        return Err(refused("the backend's URL has a user name in it").with_hint("the bearer is for that"));
    }
    match scheme {
        "https" => Ok(uri),
        "http" if is_loopback(authority.host()) => Ok(uri),
        _ => Err(refused("the backend's URL is not https").with_hint(
            "bearer and token would cross the network in clear; http is for this machine alone (localhost, 127.0.0.1, [::1])",
        )),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_alone_is_spoken_except_with_this_machine() {
        for url in [
            "https://api.example.com/aws/identity",
            "https://api.example.com:8443/aws/identity?v=1",
            "http://localhost:3000/aws/identity",
            "http://LOCALHOST/x",
            "http://127.0.0.1:3000/",
            "http://127.8.9.1/",
            "http://[::1]:3000/",
        ] {
            assert!(checked(url).is_ok(), "{url}");
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
            assert_eq!(checked(url).unwrap_err().kind(), ErrorKind::Configuration, "{url}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for url in [
            "https://user:canary@api.example.com/",
            "https://canary@localhost/",
            "http://localhost@canary.example/",
        ] {
            let error = checked(url).unwrap_err();
            assert!(!format!("{error:?}").contains("canary"), "{url}");
        }
    }

    #[test]
    fn debug_shows_neither_bearer_nor_claim() {
        let builder = HttpBackend::builder("https://api.example.com/x?key=canary")
            .bearer("canary")
            .guest_claim("canary");
        assert!(!format!("{builder:?}").contains("canary"));
    }
}
