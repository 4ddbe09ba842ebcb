//! This crate.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{CognitoCredentialsProvider, HttpBackend, Login, Logins};

use super::{Answer, Client, Settings, Who};

pub(crate) async fn base(settings: &Settings) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(settings.region.clone()))
        .no_credentials()
        .load()
        .await
}

pub(crate) struct Ours {
    provider: CognitoCredentialsProvider,
    backend: String,
    base: SdkConfig,
}

impl Ours {
    pub(crate) fn new(settings: &Settings, base: &SdkConfig, who: Who) -> anyhow::Result<Self> {
        let provider = CognitoCredentialsProvider::builder(settings.pool_id.as_str())
            .configure(base)
            .endpoint_url(&settings.endpoint)
            .build()?;
        let ours = Self {
            provider,
            backend: settings.backend.clone(),
            base: base.clone(),
        };
        ours.provider.switch_to(ours.login(who)?);
        Ok(ours)
    }

    fn login(&self, who: Who) -> anyhow::Result<Login> {
        Ok(match who.state.as_str() {
            "developer" => {
                let url = format!("{}/{}", self.backend, who.user);
                Login::developer(HttpBackend::builder(url).configure(&self.base).get().build()?)
            }
            "social" => Login::external(Logins::new().with(who.login, who.token)?),
            _ => Login::guest(),
        })
    }
}

impl Client for Ours {
    async fn ask(&self) -> Answer {
        let credentials = self.provider.provide_credentials().await;
        credentials
            .map(|credentials| credentials.access_key_id().to_owned())
            .map_err(|error| format!("{error:?}"))
    }

    async fn again(&self) -> Answer {
        let held = self
            .provider
            .provide_credentials()
            .await
            .map_err(|error| format!("{error:?}"))?;
        if !self.provider.invalidate(&held) {
            return Err("nothing to invalidate".into());
        }
        self.ask().await
    }

    fn switch(&mut self, who: Who) -> Result<(), &'static str> {
        let login = self.login(who).map_err(|_| "no such login")?;
        self.provider.switch_to(login);
        Ok(())
    }
}
