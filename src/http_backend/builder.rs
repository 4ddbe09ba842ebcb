//! [`HttpBackendBuilder`].

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient};
use aws_types::SdkConfig;
use http::Uri;
use secrecy::SecretString;

use super::{Bearer, BearerReason, HttpBackend, Inner};
use crate::error::{BackendError, Error, ErrorKind};
use crate::service::http::{Http, is_private};
use crate::service::time_source;

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
    /// # use cognito_identity_pool::{http_backend::{BearerReason, HttpBackendBuilder}, HttpBackend};
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
    /// [its own limit](crate::refresh::RefreshPolicyBuilder::load_timeout).
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
        let app = self.app.as_ref();
        Ok(HttpBackend {
            inner: Arc::new(Inner {
                url: checked(&self.url)?,
                bearer: self.bearer,
                guest_claim: self.guest_claim,
                http: Http::new(app, self.client)?,
                timeout: self.timeout,
                time: time_source(app),
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

/// The URL is not repeated in an error: it may hold a password.
fn checked(url: &str) -> Result<Uri, Error> {
    let refused = |message: &str| Error::new(ErrorKind::Configuration, message);
    let uri: Uri = url.parse().map_err(|_| {
        refused("the backend's URL is none").with_hint("it looks like https://api.example.com/aws/identity")
    })?;
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(refused("the backend's URL has a user name in it").with_hint("the bearer is for that"));
    }
    if is_private(&uri) {
        Ok(uri)
    } else {
        Err(refused("the backend's URL is not https").with_hint(
            "bearer and token would cross the network in clear; http is for this machine alone (localhost, 127.0.0.1, [::1])",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_alone_is_spoken_except_with_this_machine() {
        assert!(checked("https://api.example.com/aws/identity").is_ok());
        assert!(checked("http://localhost:3000/aws/identity").is_ok());
        for url in [
            "http://api.example.com/",
            "/aws/identity",
            "api.example.com",
            "",
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
