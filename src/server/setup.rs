//! What a vendor and an administration are built from.

use std::sync::Arc;

use aws_types::SdkConfig;

use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperProviderName, IdentityPoolId, IntoId};
use crate::service::attempts::AttemptWatch;
use crate::service::settings::ServiceSettings;
use crate::service::signed::SignedService;

/// Pool, provider name and how to reach the service; what is wrong with any of them is told by `build`.
#[derive(Debug)]
pub(super) struct ServiceSetup {
    pool: Result<IdentityPoolId, Error>,
    provider: Result<DeveloperProviderName, Error>,
    pub(super) app: Option<SdkConfig>,
    pub(super) settings: ServiceSettings,
}

impl ServiceSetup {
    pub(super) fn new(pool: impl IntoId<IdentityPoolId>, provider: impl IntoId<DeveloperProviderName>) -> Self {
        Self {
            pool: pool.into_id().map_err(Error::from),
            provider: provider.into_id().map_err(Error::from),
            app: None,
            settings: ServiceSettings::default(),
        }
    }

    pub(super) fn pool(&self) -> Result<IdentityPoolId, Error> {
        self.pool.clone()
    }

    pub(super) fn app(&self) -> Result<&SdkConfig, Error> {
        self.app.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "no SdkConfig was given")
                .with_hint("call `.configure(&config)` with the config of `aws_config::load_defaults(…)`: vending is signed with its credentials")
        })
    }

    /// `watch` is told what the SDK does with requests for tokens on its own.
    pub(super) fn service(&self, watch: Option<Arc<dyn AttemptWatch>>) -> Result<SignedService, Error> {
        let (pool, provider) = (self.pool.clone()?, self.provider.clone()?);
        SignedService::new(pool, provider, &self.settings, self.app()?, watch)
    }
}

/// The setters that all builders of this room have.
macro_rules! setup_methods {
    () => {
        /// Takes HTTP client, credentials, identity cache, sleep, time source, app name, FIPS and dual-stack from the app's
        /// config. Its timeouts, retries, region, and an endpoint set in code, are left alone: they were chosen for other services. One
        /// for this very service (`AWS_ENDPOINT_URL_COGNITO_IDENTITY`, or a profile's service section) is taken, and so is what the
        /// environment or the profile says for all services (`AWS_ENDPOINT_URL`).
        pub fn configure(mut self, config: &aws_types::SdkConfig) -> Self {
            self.setup.app = Some(config.clone());
            self
        }

        /// The URL of Cognito, e.g. that of a [`LocalIdentityPool`](crate::LocalIdentityPool). By default that of the region.
        pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
            self.setup.settings.endpoint_url = Some(url.into());
            self
        }

        /// The region of the calls. By default the pool's.
        pub fn region(mut self, region: impl Into<String>) -> Self {
            self.setup.settings.region = Some(region.into());
            self
        }

        /// The timeouts of the calls. By default 3.1 s to connect, 5 s per attempt, 12 s per call.
        pub fn timeout_config(mut self, timeouts: aws_smithy_types::timeout::TimeoutConfig) -> Self {
            self.setup.settings.timeouts = Some(timeouts);
            self
        }

        /// How calls are repeated. By default as the SDK does: at most 3 attempts.
        pub fn retry_config(mut self, retries: aws_smithy_types::retry::RetryConfig) -> Self {
            self.setup.settings.retries = Some(retries);
            self
        }
    };
}

pub(super) use setup_methods;
