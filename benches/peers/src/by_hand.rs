//! The SDK's `IdentityCache::lazy()` over the shortest provider that one writes oneself: the identity id is kept, and the
//! backend is asked each time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future};
use aws_sdk_cognitoidentity::config::{ConfigBag, IdentityCache, RuntimeComponents};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::identity::{ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use tokio::sync::OnceCell;

use super::{Answer, Client, Settings, Who};

#[derive(Clone)]
struct Provider {
    cognito: aws_sdk_cognitoidentity::Client,
    pool_id: String,
    backend: String,
    /// Who is signed in, and the identity id once it is known: the provider is asked, not told.
    signed_in: Arc<RwLock<(Who, Arc<OnceCell<String>>)>>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider")
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Vended {
    identity_id: String,
    token: String,
}

impl Provider {
    async fn load(&self) -> anyhow::Result<Credentials> {
        let (who, known) = self.signed_in.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (identity, login) = match who.state.as_str() {
            "developer" => {
                let answer = reqwest::get(format!("{}/{}", self.backend, who.user)).await?;
                let vended: Vended = answer.error_for_status()?.json().await?;
                (vended.identity_id, Some((&who.login, vended.token)))
            }
            state => {
                let login = (state == "social").then(|| (&who.login, who.token.clone()));
                let identity = known.get_or_try_init(async || {
                    let mut call = self.cognito.get_id().identity_pool_id(&self.pool_id);
                    if let Some((key, token)) = &login {
                        call = call.logins(*key, token);
                    }
                    anyhow::Ok(call.send().await?.identity_id.unwrap_or_default())
                });
                (identity.await?.clone(), login)
            }
        };
        let mut call = self.cognito.get_credentials_for_identity().identity_id(identity);
        if let Some((key, token)) = login {
            call = call.logins(key, token);
        }
        let given = call.send().await?.credentials;
        let given = given.ok_or_else(|| anyhow::anyhow!("no credentials"))?;
        let expiry = given.expiration.map(SystemTime::try_from).transpose()?;
        Ok(Credentials::new(
            given.access_key_id.unwrap_or_default(),
            given.secret_key.unwrap_or_default(),
            given.session_token,
            expiry,
            "by hand",
        ))
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.load().await.map_err(CredentialsError::provider_error) })
    }
}

pub(crate) struct ByHand {
    provider: Provider,
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    bag: ConfigBag,
}

impl ByHand {
    pub(crate) fn new(settings: &Settings, base: &SdkConfig, who: Who) -> anyhow::Result<Self> {
        let config = aws_sdk_cognitoidentity::config::Builder::from(base)
            .region(Region::new(settings.region.clone()))
            .endpoint_url(&settings.endpoint)
            .build();
        let provider = Provider {
            cognito: aws_sdk_cognitoidentity::Client::from_conf(config),
            pool_id: settings.pool_id.clone(),
            backend: settings.backend.clone(),
            signed_in: Arc::new(RwLock::new((who, Arc::default()))),
        };
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(SharedTimeSource::default()))
            .with_sleep_impl(Some(SharedAsyncSleep::new(TokioSleep::new())))
            .build()?;
        Ok(Self {
            resolver: SharedIdentityResolver::new(SharedCredentialsProvider::new(provider.clone())),
            provider,
            cache: IdentityCache::lazy().build(),
            components,
            bag: ConfigBag::base(),
        })
    }
}

impl Client for ByHand {
    async fn ask(&self) -> Answer {
        let identity = self
            .cache
            .resolve_cached_identity(self.resolver.clone(), &self.components, &self.bag)
            .await;
        match identity {
            Ok(identity) => match identity.data::<Credentials>() {
                Some(credentials) => Ok(credentials.access_key_id().to_owned()),
                None => Err("no credentials".into()),
            },
            Err(error) => Err(format!("{error:?}")),
        }
    }

    async fn again(&self) -> Answer {
        // It cannot be told; this is what it does at the expiry.
        let credentials = self.provider.load().await.map_err(|error| format!("{error:?}"))?;
        Ok(credentials.access_key_id().to_owned())
    }

    fn switch(&mut self, who: Who) -> Result<(), &'static str> {
        *self.provider.signed_in.write().unwrap_or_else(PoisonError::into_inner) = (who, Arc::default());
        Ok(())
    }
}
