//! The identity providers that the pool trusts: simulated ones, and the developer's own by their keys.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep as _, TokioSleep};
use aws_types::SdkConfig;
use cognito_identity_pool::LocalIdentityPool;
use cognito_identity_pool::local::TrustedIssuer;
use tokio::task::JoinHandle;

use super::log::Log;
use super::settings::Settings;
use crate::fetch;
use crate::output::Failure;

/// How often known keys are fetched again; a provider rotates them.
const AGAIN: Duration = Duration::from_secs(60);

/// How soon after a failure: the provider may start beside the pool.
const RETRY: Duration = Duration::from_secs(1);

/// `NAME,key=value,…`
struct Spec<'a> {
    name: &'a str,
    jwks: Option<&'a str>,
    audience: Option<&'a str>,
    client: Option<&'a str>,
}

impl<'a> Spec<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let name = name
            .strip_prefix("https://")
            .or(name.strip_prefix("http://"))
            .unwrap_or(name);
        let mut spec = Self {
            name: name.trim_end_matches('/'),
            jwks: None,
            audience: None,
            client: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("jwks", url)) => spec.jwks = Some(url),
                Some(("audience", audience)) => spec.audience = Some(audience),
                Some(("client", client)) => spec.client = Some(client),
                _ => {
                    return Err(Failure::new(format!(
                        "`{part}` in `{text}` is not jwks=URL, audience=APP or client=CLIENT"
                    )));
                }
            }
        }
        Ok(spec)
    }
}

/// Makes the pool trust what the settings name. The task fetches keys until it is aborted.
pub(super) fn trust(
    pool: &LocalIdentityPool,
    settings: &Settings,
    config: SdkConfig,
    log: &Arc<Log>,
) -> Result<JoinHandle<()>, Failure> {
    let mut trusted = Vec::new();
    for text in settings.identity_providers() {
        let spec = Spec::parse(text)?;
        match spec.jwks {
            Some(url) => trusted.push((pool.trust_issuer(spec.name, spec.audience)?, url.to_owned())),
            None => drop(pool.oidc_issuer(spec.name)?),
        }
    }
    for text in settings.user_pools() {
        let spec = Spec::parse(text)?;
        let client = spec
            .client
            .ok_or_else(|| Failure::new(format!("`{text}` has no client=CLIENT")))?;
        match spec.jwks {
            Some(url) => trusted.push((pool.trust_user_pool(spec.name, client)?, url.to_owned())),
            None => drop(pool.user_pool(spec.name, client)?),
        }
    }
    let log = Arc::clone(log);
    Ok(tokio::spawn(async move {
        let watches = trusted.iter().map(|(issuer, url)| watch(issuer, url, &config, &log));
        futures_util::future::join_all(watches).await;
    }))
}

/// Keeps the keys of a provider.
async fn watch(issuer: &TrustedIssuer, url: &str, config: &SdkConfig, log: &Log) {
    let mut last = None;
    loop {
        let kept = match fetch::get(config, url).await {
            Ok(jwks) => issuer.set_keys(&jwks).map_err(|error| format!("{url}: {error}")),
            Err(error) => Err(error),
        };
        let wait = if kept.is_ok() { AGAIN } else { RETRY };
        // Said once, not every second.
        let outcome = kept.err();
        if last.as_ref() != Some(&outcome) {
            match &outcome {
                None => log.note(&format!("the keys of {} are known", issuer.provider_name())),
                Some(error) => log.note(&format!(
                    "the keys of {} are not known: {error}",
                    issuer.provider_name()
                )),
            }
        }
        last = Some(outcome);
        TokioSleep::new().sleep(wait).await;
    }
}
