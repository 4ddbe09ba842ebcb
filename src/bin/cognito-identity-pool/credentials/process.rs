//! Credentials for `credential_process`.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_async::time::{SystemTimeSource, TimeSource as _};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_types::SdkConfig;
use cognito_identity_pool::Error;
use serde_json::json;

use super::Source;
use super::bearer::Bearer;
use super::cache::{Cache, Kept};
use crate::output::{self, Failure, Outcome};

/// The shortest life that is worth giving out.
const LEAST: Duration = Duration::from_secs(60);

pub(super) async fn run(source: &Source, config: &SdkConfig, folder: Option<PathBuf>) -> Outcome {
    let folder = match folder.or_else(default_folder) {
        Some(folder) => folder,
        None => return Err(Failure::new("there is no folder to keep credentials in: say --cache")),
    };
    let cache = Cache::new(&folder, &[&source.pool, &source.backend, &source.bearer_command])
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let bearer = match source.bearer().ask().await {
        Ok(Some(bearer)) => bearer,
        Ok(None) => {
            // The user before has left: nothing of theirs stays behind.
            cache.remove()?;
            return Err(Failure::new("nobody is signed in: the bearer command printed nothing"));
        }
        Err(error) => return Err(Failure(error)),
    };
    let kept = match fresh(&cache, &bearer, source.lease()) {
        Some(kept) => kept,
        None => exchange(source, config, &cache, bearer).await?,
    };
    let leased = kept.expires.min(now().saturating_add(source.lease().as_secs()));
    let expiration = DateTime::from_secs(i64::try_from(leased).unwrap_or(i64::MAX)).fmt(Format::DateTime)?;
    output::json(&json!({
        "Version": 1,
        "AccessKeyId": kept.access_key_id,
        "SecretAccessKey": kept.secret_access_key,
        "SessionToken": kept.session_token,
        "Expiration": expiration,
    }))
}

/// What is kept for this user, if it lives for the whole lease.
fn fresh(cache: &Cache, bearer: &Bearer, lease: Duration) -> Option<Kept> {
    alive(cache, bearer, lease.saturating_add(LEAST))
}

fn alive(cache: &Cache, bearer: &Bearer, least: Duration) -> Option<Kept> {
    let until = now().saturating_add(least.as_secs());
    cache
        .read()
        .filter(|kept| kept.user == bearer.fingerprint && kept.expires > until)
}

/// One exchange, whoever else waits for it.
async fn exchange(source: &Source, config: &SdkConfig, cache: &Cache, bearer: Bearer) -> Result<Kept, Failure> {
    let _lock = cache.lock()?;
    if let Some(kept) = fresh(cache, &bearer, source.lease()) {
        return Ok(kept);
    }
    let user = bearer.fingerprint.clone();
    let provider = source.provider(config)?;
    provider.switch_to(source.login(config, bearer.secret.clone())?);
    let credentials = match provider.provide_credentials().await {
        Ok(credentials) => credentials,
        Err(error) => {
            let refused = Error::find(&error).is_some_and(Error::needs_sign_in);
            if refused {
                cache.remove()?;
            } else if let Some(kept) = alive(cache, &bearer, LEAST) {
                // What is good is served while the backend does not answer.
                return Ok(kept);
            }
            return Err(error.into());
        }
    };
    let expires = credentials.expiry().and_then(|end| end.duration_since(UNIX_EPOCH).ok());
    let kept = Kept {
        user,
        access_key_id: credentials.access_key_id().to_owned(),
        secret_access_key: credentials.secret_access_key().to_owned(),
        session_token: credentials.session_token().unwrap_or_default().to_owned(),
        expires: expires.map_or(0, |end| end.as_secs()),
    };
    cache.write(&kept)?;
    Ok(kept)
}

fn now() -> u64 {
    SystemTimeSource::new()
        .now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The user's cache folder.
fn default_folder() -> Option<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = variable("XDG_CACHE_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("cognito-identity-pool"))
}
