//! How this crate calls a service: timeouts, retries, endpoint and region of its own, transport and time of the app.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cognitoidentity::config::retry::RetryConfig;
use aws_sdk_cognitoidentity::config::timeout::TimeoutConfig;
use aws_sdk_cognitoidentity::config::{
    BehaviorVersion, Builder as ConfigBuilder, FrameworkMetadata, IdentityCache, Region,
};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, default_async_sleep};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use super::retry::CognitoRetryClassifier;
use crate::error::{Error, ErrorKind};
use crate::ids::IdentityPoolId;

/// How this crate calls a service, apart from what the app's `SdkConfig` says. Timeouts, retries, endpoint and region are its
/// own: those of the app were chosen for other services.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceSettings {
    pub(crate) endpoint_url: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) timeouts: Option<TimeoutConfig>,
    pub(crate) retries: Option<RetryConfig>,
}

impl ServiceSettings {
    fn timeouts(&self) -> TimeoutConfig {
        self.timeouts.clone().unwrap_or_else(|| {
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_millis(3_100))
                .operation_attempt_timeout(Duration::from_secs(5))
                .operation_timeout(Duration::from_secs(12))
                .build()
        })
    }

    /// The configuration of a Cognito client for `pool`, with what `app` says about transport and time, and its [`destination`].
    pub(super) fn client_config(
        &self,
        pool: &IdentityPoolId,
        app: Option<&SdkConfig>,
    ) -> Result<(ConfigBuilder, Arc<str>), Error> {
        let sdk_config = self.sdk_config(pool, app, "Cognito Identity")?;
        let mut config = ConfigBuilder::from(&sdk_config);
        config = config.retry_classifier(CognitoRetryClassifier);
        if let Ok(framework) = FrameworkMetadata::new(env!("CARGO_PKG_NAME"), Some(env!("CARGO_PKG_VERSION"))) {
            config.push_framework_metadata(framework);
        }
        Ok((config, destination(&sdk_config)))
    }

    /// The same for any service that takes part in an exchange.
    pub(super) fn sdk_config(
        &self,
        pool: &IdentityPoolId,
        app: Option<&SdkConfig>,
        service_id: &'static str,
    ) -> Result<SdkConfig, Error> {
        if let Some(region) = &self.region {
            check_region(region)?;
        }
        let timeouts = self.timeouts();
        let mut config = SdkConfig::builder()
            .region(Region::new(
                self.region.clone().unwrap_or_else(|| pool.region().to_owned()),
            ))
            .behavior_version(
                app.and_then(SdkConfig::behavior_version)
                    .unwrap_or_else(BehaviorVersion::latest),
            )
            .identity_cache(IdentityCache::no_cache())
            .stalled_stream_protection(stalled_stream_protection(&timeouts))
            .timeout_config(timeouts)
            .retry_config(self.retries.clone().unwrap_or_else(RetryConfig::standard))
            .time_source(time_source(app))
            .sleep_impl(sleep_impl(app)?);
        let endpoint_url = self.endpoint_url.clone();
        let endpoint_url = endpoint_url.or_else(|| app.and_then(|app| service_endpoint(app, service_id)));
        if let Some(url) = &endpoint_url {
            check_endpoint(url)?;
        }
        config.set_endpoint_url(endpoint_url);
        if let Some(app) = app {
            config.set_http_client(app.http_client());
            config.set_app_name(app.app_name().cloned());
            config.set_use_fips(app.use_fips());
            config.set_use_dual_stack(app.use_dual_stack());
        }
        if app.is_none_or(|app| app.http_client().is_none()) && cfg!(not(feature = "default-https-client")) {
            return Err(Error::new(ErrorKind::Configuration, "there is no HTTP client")
                .with_hint("enable the feature `default-https-client`, or set an http_client in the SdkConfig that is passed to `configure`"));
        }
        Ok(config.build())
    }
}

/// Where a client with `config` sends, for messages: the host of the endpoint that is set, as what else is in its URL may be secret, or
/// the region.
pub(super) fn destination(config: &SdkConfig) -> Arc<str> {
    let authority = config.endpoint_url().and_then(authority);
    // After the user name and password.
    let host = authority.and_then(|authority| authority.rsplit('@').next());
    match (host, config.region()) {
        (Some(host), _) => host.into(),
        (None, Some(region)) => format!("AWS in {region}").into(),
        (None, None) => "AWS".into(),
    }
}

/// Host and port of an http or https URL, with a user name and password if it has them.
fn authority(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    rest.split(['/', '?', '#']).next()
}

/// The SDK watches how fast a body comes. Where an attempt has a time that includes reading the answer, that adds nothing but its cost,
/// which is as much as all that vending adds to the operation.
fn stalled_stream_protection(timeouts: &TimeoutConfig) -> StalledStreamProtectionConfig {
    if timeouts
        .operation_attempt_timeout()
        .or(timeouts.operation_timeout())
        .is_some()
    {
        StalledStreamProtectionConfig::disabled()
    } else {
        StalledStreamProtectionConfig::enabled().build()
    }
}

/// What no request could be sent to.
fn check_endpoint(url: &str) -> Result<(), Error> {
    let is_legal = |host: &str| !host.is_empty() && !host.starts_with(':') && !host.contains(char::is_whitespace);
    if authority(url).is_some_and(is_legal) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Configuration,
        "the endpoint is not an http or https URL with a host",
    )
    .with_hint("it looks like https://cognito-identity.us-east-1.amazonaws.com; leave it out to call AWS"))
}

/// What is the name of no region.
fn check_region(region: &str) -> Result<(), Error> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !region.is_empty() && region.bytes().all(legal) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Configuration,
        format!("`{region}` is not the name of a region"),
    )
    .with_hint("it looks like us-east-1; leave it out to call the region of the identity pool"))
}

/// The app's time source, or the system's.
pub(crate) fn time_source(app: Option<&SdkConfig>) -> SharedTimeSource {
    app.and_then(SdkConfig::time_source).unwrap_or_default()
}

/// The app's sleep implementation, or tokio's.
pub(crate) fn sleep_impl(app: Option<&SdkConfig>) -> Result<SharedAsyncSleep, Error> {
    app.and_then(SdkConfig::sleep_impl)
        .or_else(default_async_sleep)
        .ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "there is no sleep implementation").with_hint(
                "enable the feature `rt-tokio`, or set a sleep_impl in the SdkConfig that is passed to `configure`",
            )
        })
}

/// What is set for this very service: `AWS_ENDPOINT_URL_COGNITO_IDENTITY`, or `endpoint_url` in a profile's service section.
pub(crate) fn service_endpoint(app: &SdkConfig, service_id: &'static str) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id(service_id)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    app.service_config()?.load_config(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_the_host_that_is_set_or_the_region() {
        let to = |config: aws_types::sdk_config::Builder| destination(&config.build()).to_string();
        let config = || SdkConfig::builder().region(Region::new("eu-west-1"));
        assert_eq!(to(config()), "AWS in eu-west-1");
        assert_eq!(to(SdkConfig::builder()), "AWS");
        for (url, host) in [
            ("https://vpce-1.example.com", "vpce-1.example.com"),
            ("http://127.0.0.1:4566/path?query#fragment", "127.0.0.1:4566"),
            ("http://[::1]:4566/", "[::1]:4566"),
            ("https://name:password@example.com:8443/path", "example.com:8443"),
            ("https://a@b:password@example.com", "example.com"),
            ("https://example.com?at=@", "example.com"),
        ] {
            assert_eq!(to(config().endpoint_url(url)), host, "{url}");
        }
    }
}
