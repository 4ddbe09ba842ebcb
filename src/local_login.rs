//! One line that signs a user in at the local pool. It stands above the wings: the pool knows nothing of the client.

use async_trait::async_trait;
use aws_sdk_cognitoidentity::Client;
use aws_sdk_cognitoidentity::error::ProvideErrorMetadata as _;

use crate::client::Login;
use crate::developer::{DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest};
use crate::error::BackendError;
use crate::ids::IdentityId;
use crate::local::LocalIdentityPool;
use crate::token::OpenIdToken;

impl LocalIdentityPool {
    /// A login of the user whom the app's own backend knows as `user`, with that backend played: it vends a token with the
    /// pool's developer credentials, links a guest that may be linked, and passes external logins on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cognito_identity_pool::{CognitoCredentialsProvider, LocalIdentityPool};
    ///
    /// let pool = LocalIdentityPool::builder().developer_provider("login.mycompany.myapp").start().await?;
    /// let config = pool.client_config();
    /// let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id()).configure(&config).build()?;
    ///
    /// let alice = provider.switch_to(pool.login("alice"));
    /// let sts = aws_sdk_sts::Client::new(&alice.sdk_config(&config)); // only ever Alice
    /// assert!(sts.get_caller_identity().send().await?.arn().is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn login(&self, user: impl Into<String>) -> Login {
        let user = user.into();
        let backend = LocalBackend {
            pool: self.clone(),
            client: Client::new(&self.backend_config()),
            user: user.clone(),
        };
        Login::developer(backend).subject(user)
    }
}

/// The app's backend, as short as it can be.
struct LocalBackend {
    pool: LocalIdentityPool,
    client: Client,
    user: String,
}

impl LocalBackend {
    async fn vend(&self, request: &RefreshRequest, link: Option<&IdentityId>) -> Result<DeveloperIdentity, Refusal> {
        let provider = self.pool.developer_provider();
        let provider = provider
            .ok_or_else(|| Refusal::text("the local pool has no developer provider: name one in its builder"))?;
        let mut call = self
            .client
            .get_open_id_token_for_developer_identity()
            .identity_pool_id(self.pool.identity_pool_id())
            .logins(provider, &self.user)
            .set_identity_id(link.map(|id| id.as_str().to_owned()));
        let external = request.external_logins();
        for provider in external.providers() {
            call = call.logins(provider, external.expose_secret(provider).unwrap_or_default());
        }
        let answer = call.send().await.map_err(|error| {
            // Its text and code alone: the error itself holds the answer.
            let code = error.code().map(str::to_owned);
            let text = match error.message() {
                Some(message) => message.to_owned(),
                None => error.to_string(),
            };
            Refusal { code, text }
        })?;
        let identity = IdentityId::new(answer.identity_id.unwrap_or_default())
            .map_err(|error| Refusal::text(&error.to_string()))?;
        let token =
            OpenIdToken::new(answer.token.unwrap_or_default()).map_err(|error| Refusal::text(&error.to_string()))?;
        Ok(DeveloperIdentity::new(identity, token))
    }
}

#[async_trait]
impl DeveloperIdentityProvider for LocalBackend {
    async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let linked = match request.guest_to_link() {
            Some(guest) => match self.vend(request, Some(guest)).await {
                // The user has an identity already: the guest stays what it is.
                Err(refusal) if refusal.is("DeveloperUserAlreadyRegisteredException") => self.vend(request, None).await,
                other => other,
            },
            None => self.vend(request, None).await,
        };
        linked.map_err(|refusal| match refusal.code {
            // What an app's backend would call a defect of its own.
            Some(code) if code != "TooManyRequestsException" && code != "InternalErrorException" => {
                BackendError::terminal(format!("{code}: {}", refusal.text))
            }
            _ => BackendError::transient(refusal.text),
        })
    }
}

/// Why the pool vends no token.
struct Refusal {
    code: Option<String>,
    text: String,
}

impl Refusal {
    fn text(text: &str) -> Self {
        Self {
            code: Some("Configuration".to_owned()),
            text: text.to_owned(),
        }
    }

    fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::ProvideCredentials as _;

    use crate::{CognitoCredentialsProvider, LocalIdentityPool, Login};

    async fn stage() -> (LocalIdentityPool, CognitoCredentialsProvider) {
        let pool = LocalIdentityPool::builder()
            .developer_provider("login.app")
            .allow_guests(true)
            .start()
            .await
            .unwrap();
        let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
            .configure(&pool.client_config())
            .build()
            .unwrap();
        (pool, provider)
    }

    #[tokio::test]
    async fn one_line_signs_a_user_in_and_the_next_one_another() {
        let (pool, provider) = stage().await;
        let alice = provider
            .switch_to(pool.login("alice"))
            .ready()
            .await
            .unwrap()
            .identity_id;
        let bob = provider.switch_to(pool.login("bob")).ready().await.unwrap().identity_id;
        assert_ne!(alice, bob);
        let credentials = provider.provide_credentials().await.unwrap();
        assert_eq!(
            pool.identity_of(credentials.access_key_id()).as_deref(),
            Some(bob.as_str())
        );
        assert_eq!(
            provider
                .switch_to(pool.login("alice"))
                .ready()
                .await
                .unwrap()
                .identity_id,
            alice
        );
    }

    #[tokio::test]
    async fn a_guest_becomes_a_new_user_and_stays_beside_one_who_is_known() {
        let (pool, provider) = stage().await;
        let guest = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
        let alice = provider
            .switch_to(pool.login("alice"))
            .ready()
            .await
            .unwrap()
            .identity_id;
        assert_eq!(alice, guest);
        let second = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
        assert_ne!(second, guest);
        assert_eq!(
            provider
                .switch_to(pool.login("alice"))
                .ready()
                .await
                .unwrap()
                .identity_id,
            alice
        );
    }

    #[tokio::test]
    async fn a_pool_without_a_developer_provider_says_so() {
        let pool = LocalIdentityPool::builder().start().await.unwrap();
        let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
            .configure(&pool.client_config())
            .build()
            .unwrap();
        let error = provider.switch_to(pool.login("alice")).ready().await.unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += &cause.to_string();
            source = cause.source();
        }
        assert!(text.contains("no developer provider"), "{text}");
    }
}
