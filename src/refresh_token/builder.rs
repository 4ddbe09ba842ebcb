//! [`RefreshTokenLoginsBuilder`].

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient};
use aws_types::SdkConfig;
use http::Uri;
use secrecy::SecretString;

use super::grant::{Endpoint, Protocol, Secret};
use super::token_store::{InMemory, RefreshToken, RefreshTokenStore};
use super::{RefreshTokenLogins, Renewal};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::ids::Partition;
use crate::service::http::{Http, has_user, is_private};
use crate::service::settings::{service_endpoint, sleep_impl, time_source};

/// Builds [`RefreshTokenLogins`].
#[must_use = "a builder does nothing until `build`"]
pub struct RefreshTokenLoginsBuilder {
    of: Of,
    client_id: String,
    secret: Secret,
    scope: Option<String>,
    provider: Option<String>,
    endpoint_url: Option<String>,
    username: Option<String>,
    device_key: Option<String>,
    initiate_auth: bool,
    store: Option<Box<dyn RefreshTokenStore>>,
    app: Option<SdkConfig>,
    client: Option<SharedHttpClient>,
    timeout: Duration,
}

enum Of {
    UserPool(String),
    TokenEndpoint(String),
}

impl RefreshTokenLoginsBuilder {
    fn new(of: Of, client_id: String) -> Self {
        Self {
            of,
            client_id,
            secret: Secret::None,
            scope: None,
            provider: None,
            endpoint_url: None,
            username: None,
            device_key: None,
            initiate_auth: false,
            store: None,
            app: None,
            client: None,
            timeout: Duration::from_secs(5),
        }
    }

    pub(super) fn user_pool(id: String, client_id: String) -> Self {
        Self::new(Of::UserPool(id), client_id)
    }

    pub(super) fn oauth2(token_endpoint: String, client_id: String) -> Self {
        Self::new(Of::TokenEndpoint(token_endpoint), client_id)
    }

    /// Takes HTTP client, sleep and time source from the app's config, and for a user pool the endpoint that is set for that
    /// service (`AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER`).
    pub fn configure(mut self, config: &SdkConfig) -> Self {
        self.app = Some(config.clone());
        self
    }

    /// The HTTP client, if it is not the config's. It must not follow redirects.
    pub fn http_client(mut self, client: impl HttpClient + 'static) -> Self {
        self.client = Some(SharedHttpClient::new(client));
        self
    }

    /// Where the refresh token is kept. Either this or [`refresh_token`](Self::refresh_token) is required.
    pub fn store(mut self, store: impl RefreshTokenStore + 'static) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// A refresh token that is kept in memory only, together with whatever the server replaces it by.
    pub fn refresh_token(self, token: impl Into<String>) -> Self {
        self.store(InMemory(Mutex::new(RefreshToken::new(token))))
    }

    /// The secret of a confidential client, sent as HTTP Basic authentication (`client_secret_basic`), or in the way of user pools.
    /// An app on a device has none.
    pub fn client_secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Secret::Header(SecretString::from(secret.into()));
        self
    }

    /// As [`client_secret`](Self::client_secret), in the body (`client_secret_post`), for OAuth 2.0 servers that want it so.
    pub fn client_secret_in_body(mut self, secret: impl Into<String>) -> Self {
        self.secret = Secret::Body(SecretString::from(secret.into()));
        self
    }

    /// The scopes to ask for, separated by spaces; by default those of the refresh token. The answer has an ID token only if
    /// `openid` is among them. Not for user pools.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The name under which the identity pool knows the provider. By default the user pool's, or the issuer of the ID token without
    /// `https://`.
    pub fn provider(mut self, name: impl Into<String>) -> Self {
        self.provider = Some(name.into());
        self
    }

    /// Another URL of the user pool's service than that of its region, e.g. an emulator's.
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// Asks the user pool by `InitiateAuth` with `REFRESH_TOKEN_AUTH`, in place of `GetTokensFromRefreshToken`. The app client must
    /// allow it (`ALLOW_REFRESH_TOKEN_AUTH`), which it cannot if it rotates refresh tokens.
    pub fn initiate_auth(mut self) -> Self {
        self.initiate_auth = true;
        self
    }

    /// The user's name in the user pool, or the `sub`: `InitiateAuth` wants it of a client that has a secret.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The key of the device that the refresh token was issued to, if the user pool remembers devices.
    pub fn device_key(mut self, key: impl Into<String>) -> Self {
        self.device_key = Some(key.into());
        self
    }

    /// How long a request may take, from connecting to the last byte of the answer: by default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Builds the provider. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: what is not the id of a user pool; a URL that is not valid, or neither `https` nor this machine's;
    /// no client id; no refresh token and no store; a client secret without a user name for `InitiateAuth`; no HTTP client; no sleep
    /// implementation.
    pub fn build(self) -> Result<RefreshTokenLogins, Error> {
        let refused = |message: &str, hint: &str| Error::new(ErrorKind::Configuration, message).with_hint(hint);
        let app = self.app.as_ref();
        let (url, provider, protocol) = match &self.of {
            Of::UserPool(id) => {
                let Some((region, _)) = id
                    .split_once('_')
                    .filter(|(region, rest)| !region.is_empty() && !rest.is_empty())
                else {
                    return Err(refused(
                        "not the id of a user pool",
                        "it looks like us-east-1_AbCdEfGhI",
                    ));
                };
                let host = format!("cognito-idp.{region}.{}", Partition::of(region).dns_suffix);
                let set = self.endpoint_url.clone();
                let set = set.or_else(|| app.and_then(|app| service_endpoint(app, "Cognito Identity Provider")));
                let protocol = if self.initiate_auth {
                    Protocol::InitiateAuth
                } else {
                    Protocol::GetTokens
                };
                let url = set.unwrap_or_else(|| format!("https://{host}/"));
                (url, Some(format!("{host}/{id}")), protocol)
            }
            Of::TokenEndpoint(url) => (url.clone(), None, Protocol::OAuth2),
        };
        let url: Uri = url.parse().map_err(|_| {
            refused(
                "the token endpoint is not a valid URL",
                "it looks like https://idp.example.com/token",
            )
        })?;
        if !is_private(&url) || has_user(&url) {
            return Err(refused(
                "the token endpoint is not an https URL, or has a password in it",
                "the refresh token would cross the network in clear; http is only for this machine (localhost, 127.0.0.1, [::1])",
            ));
        }
        if self.client_id.trim().is_empty() {
            return Err(refused(
                "the client id is empty",
                "it is the id of the app client at the provider",
            ));
        }
        if protocol == Protocol::InitiateAuth && !matches!(self.secret, Secret::None) && self.username.is_none() {
            return Err(refused(
                "InitiateAuth of a client with a secret needs the user's name",
                "set RefreshTokenLoginsBuilder::username, or leave out initiate_auth",
            ));
        }
        let store = self.store.ok_or_else(|| {
            refused(
                "there is no refresh token",
                "set RefreshTokenLoginsBuilder::store or ::refresh_token",
            )
        })?;
        let renewal = Renewal {
            endpoint: Endpoint {
                url,
                protocol,
                client_id: self.client_id,
                secret: self.secret,
                scope: self.scope,
                provider: self.provider.or(provider),
                username: self.username,
                device_key: self.device_key,
            },
            store,
            unsaved: Mutex::default(),
            http: Http::new(app, self.client)?,
            timeout: self.timeout,
            clock: Clock::new(time_source(app)),
        };
        Ok(RefreshTokenLogins::new(renewal, sleep_impl(app)?))
    }
}

impl fmt::Debug for RefreshTokenLoginsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokenLoginsBuilder")
            .field("provider", &self.provider)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_before_the_network() {
        let pool = || RefreshTokenLogins::user_pool("us-east-1_AbCdEfGhI", "client").refresh_token("canary");
        let oauth = |url: &str| RefreshTokenLogins::oauth2(url, "client").refresh_token("canary");
        assert!(pool().build().is_ok());
        assert!(pool().client_secret("canary").build().is_ok());
        assert!(
            pool()
                .client_secret("canary")
                .initiate_auth()
                .username("alice")
                .build()
                .is_ok()
        );
        assert!(oauth("https://idp.example.com/token").build().is_ok());
        assert!(oauth("http://localhost:9000/token").build().is_ok());
        for (refused, says) in [
            (
                RefreshTokenLogins::user_pool("my-pool", "client").refresh_token("canary"),
                "user pool",
            ),
            (
                RefreshTokenLogins::user_pool("us-east-1_AbCdEfGhI", " ").refresh_token("canary"),
                "client id",
            ),
            (
                RefreshTokenLogins::user_pool("us-east-1_AbCdEfGhI", "client"),
                "no refresh token",
            ),
            (pool().endpoint_url("http://idp.example.com/canary"), "https"),
            (pool().initiate_auth().client_secret("canary"), "user's name"),
            (oauth("http://idp.example.com/token?canary"), "https"),
            (oauth("https://canary:canary@idp.example.com/token"), "password"),
            (oauth("not a url canary"), "valid URL"),
        ] {
            let error = refused.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(says), "{error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        assert!(!format!("{:?}", pool().client_secret("canary")).contains("canary"));
    }
}
