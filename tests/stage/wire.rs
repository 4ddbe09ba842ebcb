//! Plain SDK clients over a socket, and requests that no SDK would send.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cognitoidentity::Client;
use aws_sdk_cognitoidentity::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentity::types::Credentials as Vended;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use cognito_identity_pool::{IdentityId, LocalIdentityPool};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PROVIDER, Stage};

pub const ISSUER: &str = "cognito-identity.amazonaws.com";

/// The same config, over a socket and with the SDK's own HTTP client.
pub fn over_socket(config: SdkConfig, pool: &LocalIdentityPool) -> SdkConfig {
    let mut builder = config.into_builder().endpoint_url(pool.endpoint_url());
    builder.set_http_client(None);
    builder.build()
}

pub fn signed_by(config: SdkConfig, credentials: &Vended) -> SdkConfig {
    let credentials = Credentials::new(
        credentials.access_key_id().unwrap(),
        credentials.secret_key().unwrap(),
        credentials.session_token().map(str::to_owned),
        None,
        "test",
    );
    config
        .into_builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

impl Stage {
    pub fn id(&self) -> &str {
        self.pool.identity_pool_id()
    }

    /// Signs with the developer credentials.
    pub fn signing(&self) -> &Client {
        self.signing
            .get_or_init(|| Client::new(&over_socket(self.pool.backend_config(), &self.pool)))
    }

    /// A client of the end user's: has no credentials.
    pub fn client(&self) -> &Client {
        self.unsigned
            .get_or_init(|| Client::new(&over_socket(self.pool.client_config(), &self.pool)))
    }

    /// The clients call the pool in this process instead.
    pub fn in_process(mut self) -> Self {
        self.signing = Client::new(&self.pool.backend_config()).into();
        self.unsigned = Client::new(&self.pool.client_config()).into();
        self
    }

    /// Identity and token of a developer user.
    pub async fn vend(&self, user: &str) -> (String, String) {
        let vended = self
            .signing()
            .get_open_id_token_for_developer_identity()
            .identity_pool_id(self.id())
            .logins(PROVIDER, user)
            .send()
            .await
            .unwrap();
        (vended.identity_id.unwrap(), vended.token.unwrap())
    }

    /// A new guest, as a client makes one.
    pub async fn guest(&self) -> IdentityId {
        IdentityId::new(self.guest_id().await).unwrap()
    }

    pub async fn guest_id(&self) -> String {
        let call = self.client().get_id().identity_pool_id(self.id());
        call.send().await.unwrap().identity_id.unwrap()
    }

    /// Exchanges a token for credentials, as a client does.
    pub async fn credentials(&self, id: &str, token: &str) -> Vended {
        let call = self
            .client()
            .get_credentials_for_identity()
            .identity_id(id)
            .logins(ISSUER, token);
        call.send().await.unwrap().credentials.unwrap()
    }

    /// STS without credentials.
    pub fn sts(&self) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&over_socket(self.pool.client_config(), &self.pool))
    }

    /// Any operation with any body, signed by the backend if `signed`. The error's type and message.
    pub async fn call(&self, operation: &str, body: impl Into<String>, signed: bool) -> (String, String) {
        let (target, body) = (format!("AWSCognitoIdentityService.{operation}"), body.into());
        let replace = move |request: &mut aws_smithy_runtime_api::client::orchestrator::HttpRequest| {
            request.headers_mut().insert("x-amz-target", target.clone());
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.clone());
        };
        if signed {
            error(
                self.signing()
                    .list_identity_pools()
                    .customize()
                    .mutate_request(replace)
                    .send()
                    .await,
            )
        } else {
            error(self.client().get_id().customize().mutate_request(replace).send().await)
        }
    }

    /// As [`call`](Self::call), with a JSON value.
    pub async fn json(&self, operation: &str, body: Value, signed: bool) -> (String, String) {
        self.call(operation, body.to_string(), signed).await
    }

    /// The rule that refused the last request.
    pub fn last_rule(&self) -> &'static str {
        self.pool
            .requests()
            .last()
            .and_then(|request| request.rule)
            .unwrap_or("none")
    }

    /// What the server sends back for these bytes, until it closes or `enough`.
    pub async fn raw(&self, bytes: &[u8], enough: impl Fn(&str) -> bool) -> String {
        let mut stream = TcpStream::connect(self.pool.endpoint_url().trim_start_matches("http://"))
            .await
            .unwrap();
        // A server that has refused already may close while the rest is still being sent.
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if enough(&text) {
                return text;
            }
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return text,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// Type and message of an error; empty for success and for what is no service error.
pub fn error<T, E: ProvideErrorMetadata, R>(result: Result<T, SdkError<E, R>>) -> (String, String) {
    let Err(error) = result else { return Default::default() };
    let Some(error) = error.as_service_error() else {
        return Default::default();
    };
    (
        error.code().unwrap_or_default().to_owned(),
        error.message().unwrap_or_default().to_owned(),
    )
}
