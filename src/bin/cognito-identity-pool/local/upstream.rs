//! A pool whose credentials open what the server behind it has.

use std::net::IpAddr;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_sdk_sts::error::DisplayErrorContext;
use cognito_identity_pool::local::LocalIdentityPoolBuilder;

use super::log::Log;
use super::settings::Settings;
use crate::output::Failure;

pub(super) async fn behind(
    builder: LocalIdentityPoolBuilder,
    endpoint: &str,
    settings: &Settings,
    log: Arc<Log>,
) -> Result<LocalIdentityPoolBuilder, Failure> {
    let remote = !is_loopback(endpoint);
    if remote && !settings.allow_remote_sts() {
        return Err(Failure::new(format!(
            "{endpoint} is not on this machine: --allow-remote-sts"
        )));
    }
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new(settings.region().to_owned()))
        .endpoint_url(endpoint)
        .load()
        .await;
    let sts = aws_sdk_sts::Client::new(&config);
    let builder = builder.credentials_from(move |request| {
        let call = sts
            .assume_role()
            .role_arn(request.role_arn)
            .role_session_name(request.role_session_name)
            .duration_seconds(request.duration_seconds);
        let log = Arc::clone(&log);
        async move {
            let output = call.send().await.inspect_err(|error| {
                log.note(&format!("AssumeRole at the STS behind: {}", DisplayErrorContext(error)))
            })?;
            let credentials = output.credentials.ok_or("AssumeRole answered without credentials")?;
            Ok(Credentials::new(
                credentials.access_key_id,
                credentials.secret_access_key,
                Some(credentials.session_token),
                credentials.expiration.try_into().ok(),
                "AssumeRole",
            ))
        }
    });
    Ok(if remote { builder.cors(false) } else { builder })
}

fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_another_machine_is_told_from_one_here() {
        for url in ["http://127.0.0.1:4566", "http://localhost", "https://[::1]:1/x"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "http://127.0.0.1@example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "",
            "x",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
