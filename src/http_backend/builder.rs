//! [`HttpBackendBuilder`].

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient};
use aws_types::SdkConfig;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Uri};
use secrecy::{ExposeSecret, SecretString};

use super::answer::{BackendAnswer, Read};
use super::{Ask, Bearer, BearerReason, Endpoint, HttpBackend};
use crate::developer::DeveloperIdentity;
use crate::error::{BackendError, Error, ErrorKind};
use crate::service::http::{Http, has_user, is_private};
use crate::service::settings::time_source;

/// Builds an [`HttpBackend`]: see [`HttpBackend::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct HttpBackendBuilder {
    url: String,
    app: Option<SdkConfig>,
    client: Option<SharedHttpClient>,
    method: Method,
    headers: Vec<(String, SecretString)>,
    more_headers: Option<Ask<Vec<(String, SecretString)>>>,
    bearer: Bearer,
    guest_claim: Option<SecretString>,
    read: Option<Arc<Read>>,
    timeout: Duration,
}

impl HttpBackendBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            app: None,
            client: None,
            method: Method::POST,
            headers: Vec::new(),
            more_headers: None,
            bearer: Bearer::None,
            guest_claim: None,
            read: None,
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

    /// Asks by `GET`, without a body, instead of by `POST`: for a backend that reads nothing but headers. There is no place for a guest
    /// claim and for external logins then.
    pub fn get(mut self) -> Self {
        self.method = Method::GET;
        self
    }

    /// A header that goes along with each request, e.g. an API key. It may be called several times; a name that comes again replaces
    /// the value. The value is treated as a secret.
    ///
    /// ```
    /// # use cognito_identity_pool::HttpBackend;
    /// let backend = HttpBackend::builder("https://api.example.com/aws/identity").header("x-api-key", "k3y").build()?;
    /// # Ok::<(), cognito_identity_pool::Error>(())
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Headers from an async closure that is asked for each request, e.g. a cookie or the id of the device. After a 401 it is asked
    /// once more, with [`BearerReason::Rejected`].
    ///
    /// ```
    /// # use cognito_identity_pool::{http_backend::HttpBackendBuilder, HttpBackend};
    /// # #[derive(Clone)] struct CookieJar;
    /// # impl CookieJar { async fn header(&self) -> std::io::Result<String> { Ok("session=…".into()) } }
    /// # fn example(jar: CookieJar) -> HttpBackendBuilder {
    /// HttpBackend::builder("https://api.example.com/aws/identity").headers_fn(move |_reason| {
    ///     let jar = jar.clone();
    ///     async move { Ok([("cookie", jar.header().await?), ("x-device", "a1b2".to_owned())]) }
    /// })
    /// # }
    /// ```
    pub fn headers_fn<F, Fut, H, K, V>(mut self, ask: F) -> Self
    where
        F: Fn(BearerReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<H, BackendError>> + Send + 'static,
        H: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<SecretString>,
    {
        self.more_headers = Some(Arc::new(move |reason| {
            let headers = ask(reason);
            Box::pin(async move {
                let headers = headers.await?.into_iter();
                Ok(headers.map(|(name, value)| (name.into(), value.into())).collect())
            })
        }));
        self
    }

    /// Reads the answers of a backend that is unlike all that [`HttpBackend`] reads by itself. The closure sees each whole answer, of
    /// any status (of a 401 only the last one); [`BackendAnswer::identity`] is what it would replace.
    ///
    /// ```
    /// # use cognito_identity_pool::{http_backend::HttpBackendBuilder, BackendError, DeveloperIdentity, HttpBackend, IdentityId, OpenIdToken};
    /// # fn example() -> HttpBackendBuilder {
    /// HttpBackend::builder("https://api.example.com/v1/session").read_answer(|answer| {
    ///     let json = answer.json().unwrap_or_default();
    ///     match (answer.status(), json["aws"][0].as_str(), json["aws"][1].as_str()) {
    ///         (200, Some(id), Some(token)) => Ok(DeveloperIdentity::new(IdentityId::new(id)?, OpenIdToken::new(token)?)),
    ///         (419, ..) => Err(BackendError::signed_out()),
    ///         _ => answer.identity(),
    ///     }
    /// })
    /// # }
    /// ```
    pub fn read_answer(
        mut self,
        read: impl Fn(&BackendAnswer<'_>) -> Result<DeveloperIdentity, BackendError> + Send + Sync + 'static,
    ) -> Self {
        self.read = Some(Arc::new(read));
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
    /// [`ErrorKind::Configuration`]: a URL that is not valid, is neither `https` nor this machine's, or holds a password; a header that
    /// HTTP cannot carry or that is not the app's to set; a bearer beside a header `authorization`; a guest claim with a `GET`; no
    /// HTTP client; no sleep implementation.
    pub fn build(self) -> Result<HttpBackend, Error> {
        let app = self.app.as_ref();
        let headers = self.headers.iter().map(|(name, value)| header(name, value));
        let headers = headers.collect::<Result<Vec<_>, _>>()?;
        let has_bearer = !matches!(self.bearer, Bearer::None);
        if has_bearer && headers.iter().any(|(name, _)| *name == AUTHORIZATION) {
            return Err(refused("the backend's requests would have two `authorization` headers")
                .with_hint("set a bearer or the header, not both"));
        }
        if self.method == Method::GET && self.guest_claim.is_some() {
            return Err(refused("a GET has no body that could carry the guest claim")
                .with_hint("leave out HttpBackendBuilder::get, or the guest claim"));
        }
        Ok(HttpBackend {
            endpoint: Arc::new(Endpoint {
                url: checked(&self.url)?,
                method: self.method,
                headers,
                bearer: self.bearer,
                more_headers: self.more_headers,
                guest_claim: self.guest_claim,
                read: self.read,
                http: Http::new(app, self.client)?,
                timeout: self.timeout,
                time: time_source(app),
            }),
        })
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

/// A header of the app's. Neither name nor value is repeated in an error, unless the name is one.
pub(super) fn header(name: &str, value: &SecretString) -> Result<(HeaderName, HeaderValue), Error> {
    let name: HeaderName = name
        .parse()
        .map_err(|_| refused("a header's name is not valid in HTTP"))?;
    if [HOST, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, CONNECTION].contains(&name) {
        return Err(refused(format!("the header `{name}` belongs to the HTTP client")));
    }
    let mut value: HeaderValue = value.expose_secret().parse().map_err(|_| {
        refused(format!(
            "the header `{name}` has characters that no HTTP header can carry"
        ))
    })?;
    value.set_sensitive(true);
    Ok((name, value))
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
    let uri: Uri = url.parse().map_err(|_| {
        refused("the backend's URL is not a valid URL").with_hint("it looks like https://api.example.com/aws/identity")
    })?;
    if has_user(&uri) {
        return Err(refused("the backend's URL contains a user name or a password")
            .with_hint("use `bearer` or `header` for that"));
    }
    if is_private(&uri) {
        Ok(uri)
    } else {
        Err(refused("the backend's URL is not https").with_hint(
            "bearer and token would cross the network in clear; http is only for this machine (localhost, 127.0.0.1, [::1])",
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
    fn headers_that_cannot_be_sent_are_refused_and_not_shown() {
        let builder = || HttpBackend::builder("https://api.example.com/x");
        for (refused, says) in [
            (builder().header("x canary", "v"), "name is not valid"),
            (builder().header("x-key", "canary\r\nx: y"), "`x-key`"),
            (builder().header("Content-Length", "canary"), "`content-length`"),
            (builder().header("host", "canary"), "`host`"),
            (
                builder().header("authorization", "canary").bearer("canary"),
                "two `authorization`",
            ),
            (builder().get().guest_claim("canary"), "GET"),
        ] {
            let error = refused.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let text = format!("{error:?}");
            assert!(text.contains(says) && !text.contains("canary"), "{text}");
        }
        assert!(builder().header("authorization", "Basic canary").build().is_ok());
    }

    #[test]
    fn debug_shows_neither_bearer_nor_claim() {
        let builder = HttpBackend::builder("https://api.example.com/x?key=canary")
            .bearer("canary")
            .guest_claim("canary");
        assert!(!format!("{builder:?}").contains("canary"));
    }
}
