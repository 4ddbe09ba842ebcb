//! Signers that are no SDK clients: API Gateway and AppSync over any HTTP client, MQTT over WebSocket with AWS IoT, presigned URLs of
//! S3. Each takes its credentials from a session, so that it signs as that user and as nobody else.
//!
//! Runs offline, on a local identity pool: `cargo run --example signers --features local`. In your `Cargo.toml`:
//!
//! ```toml
//! aws-sigv4 = { version = "1.4", default-features = false, features = ["http1", "sign-http"] }
//! ```
#![allow(clippy::print_stdout, reason = "a story is told")]

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SessionTokenMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use cognito_identity_pool::client::{EventKind, Events};
use cognito_identity_pool::{CognitoCredentialsProvider, LocalIdentityPool, Login, Session};

type Request = http::Request<Vec<u8>>;

/// What a signature is for, apart from the request.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) at: SystemTime,
}

fn apply(
    request: &mut Request,
    as_whom: &Credentials,
    scope: Scope<'_>,
    settings: SigningSettings,
) -> anyhow::Result<()> {
    let unsigned = settings.payload_checksum_kind == PayloadChecksumKind::NoHeader
        && settings.signature_location == SignatureLocation::QueryParams
        && scope.service == "s3";
    let identity = as_whom.clone().into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(scope.at)
        .settings(settings)
        .build()?
        .into();
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| Ok((name.as_str(), value.to_str()?)));
    let headers = headers.collect::<anyhow::Result<Vec<_>>>()?;
    let body = if unsigned {
        SignableBody::UnsignedPayload
    } else {
        SignableBody::Bytes(request.body())
    };
    let uri = request.uri().to_string();
    let signable = SignableRequest::new(request.method().as_str(), uri, headers.into_iter(), body)?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    instructions.apply_to_request_http1x(request);
    Ok(())
}

/// **API Gateway** (service `execute-api`) and **AppSync** (service `appsync`): any request of any HTTP client, signed in its headers.
/// Ask for credentials for each request; while they are good, that costs nothing.
pub(crate) async fn signed(session: &Session, scope: Scope<'_>, mut request: Request) -> anyhow::Result<Request> {
    let credentials = session.provide_credentials().await?;
    apply(&mut request, &credentials, scope, SigningSettings::default())?;
    Ok(request)
}

/// **AWS IoT**: the URL of an MQTT connection over WebSocket. The session token is not part of what is signed there, and comes last. A
/// connection lives on when the credentials expire, so a URL is needed for each new connection only.
pub(crate) async fn mqtt_url(session: &Session, host: &str, scope: Scope<'_>) -> anyhow::Result<String> {
    let credentials = session.provide_credentials().await?;
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.session_token_mode = SessionTokenMode::Exclude;
    settings.expires_in = Some(Duration::from_secs(300));
    let mut request = http::Request::get(format!("https://{host}/mqtt")).body(Vec::new())?;
    apply(&mut request, &credentials, scope, settings)?;
    Ok(request.uri().to_string().replacen("https", "wss", 1))
}

/// When an MQTT connection has to be made anew: whoever is connected is not signed in any more, or was taken for somebody else.
/// `None`: nobody is signed in, so the connection is to be closed.
pub(crate) async fn reconnect(provider: &CognitoCredentialsProvider, events: &mut Events) -> Option<Session> {
    while let Some(event) = events.next().await {
        match event.kind {
            EventKind::SignedIn { .. } | EventKind::IdentityReplaced { .. } => return Some(provider.session()),
            EventKind::SignedOut => return None,
            // The same user with newer credentials: the connection goes on.
            _ => {}
        }
    }
    None
}

/// **S3**: a URL that whoever has it can fetch for `valid_for`. It ends with the credentials that signed it, however long it says it is
/// good for: so they are asked to last as long.
pub(crate) async fn s3_url(
    session: &Session,
    bucket: &str,
    key: &str,
    valid_for: Duration,
    scope: Scope<'_>,
) -> anyhow::Result<String> {
    let credentials = session.credentials_valid_for(valid_for).await?;
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(valid_for);
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    let url = format!("https://{bucket}.s3.{}.amazonaws.com/{key}", scope.region);
    let mut request = http::Request::get(url).body(Vec::new())?;
    apply(&mut request, &credentials, scope, settings)?;
    Ok(request.uri().to_string())
}

pub(crate) async fn story(mut say: impl FnMut(String)) -> anyhow::Result<()> {
    let pool = LocalIdentityPool::builder().allow_guests(true).start().await?;
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&pool.client_config())
        .build()?;
    let mut events = provider.events();
    let guest = provider.switch_to(Login::guest());
    let scope = |service| Scope {
        service,
        region: "us-east-1",
        at: SystemTime::now(),
    };

    let request =
        http::Request::get("https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/prod/pets").body(Vec::new())?;
    let request = signed(&guest, scope("execute-api"), request).await?;
    say(format!(
        "API Gateway: {} headers, signed: {}",
        request.headers().len(),
        request.headers().contains_key("authorization")
    ));

    let query = br#"{"query":"{ pets { name } }"}"#.to_vec();
    let request = http::Request::post("https://a1b2c3d4e5.appsync-api.us-east-1.amazonaws.com/graphql")
        .header("content-type", "application/json")
        .body(query)?;
    let request = signed(&guest, scope("appsync"), request).await?;
    say(format!(
        "AppSync: signed: {}",
        request.headers().contains_key("authorization")
    ));

    let connected = reconnect(&provider, &mut events).await;
    say(format!("AWS IoT: somebody to connect as: {}", connected.is_some()));
    let url = mqtt_url(
        &guest,
        "a1b2c3d4e5-ats.iot.us-east-1.amazonaws.com",
        scope("iotdevicegateway"),
    )
    .await?;
    say(format!("AWS IoT: {}", &url[..url.find('?').unwrap_or(url.len())]));

    let url = s3_url(&guest, "photos", "2026/cat.jpg", Duration::from_secs(900), scope("s3")).await?;
    say(format!(
        "S3: {}, for a quarter of an hour: {}",
        &url[..url.find('?').unwrap_or(url.len())],
        url.contains("X-Amz-Expires=900")
    ));

    provider.sign_out();
    let connected = reconnect(&provider, &mut events).await;
    say(format!("AWS IoT: after the sign-out nobody: {}", connected.is_none()));
    let request =
        http::Request::get("https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/prod/pets").body(Vec::new())?;
    let refused = signed(&guest, scope("execute-api"), request).await.is_err();
    say(format!("API Gateway: after the sign-out nothing is signed: {refused}"));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    story(|line| println!("{line}")).await
}
