//! An app on this crate's provider: an S3 client, in front of servers that others wrote.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperUserId, Error, Login, TokenVendor, developer::developer_fn,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{orders, say};

#[derive(Deserialize)]
struct Setup {
    /// The endpoint of the identity pool.
    cognito: String,
    pool_id: String,
    region: String,
    /// The endpoint of S3.
    s3: String,
    /// A user, who is vended tokens; otherwise a guest.
    developer: Option<Developer>,
    /// Whether refused credentials are replaced and the operation tried again.
    #[serde(default)]
    rejection: bool,
}

#[derive(Deserialize)]
struct Developer {
    user: DeveloperUserId,
    provider: String,
    key: String,
    secret: String,
}

#[derive(Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
enum Order {
    Put {
        bucket: String,
        key: String,
        body: String,
    },
    Get {
        bucket: String,
        key: String,
    },
    /// The identity id, the access key, and how often the backend was asked.
    Who,
}

pub async fn run(setup: &str) -> anyhow::Result<()> {
    let setup: Setup = serde_json::from_str(setup).context("no setup")?;
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(setup.region))
        .no_credentials()
        .load()
        .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let login = match setup.developer {
        None => Login::guest(),
        Some(Developer {
            user,
            provider,
            key,
            secret,
        }) => {
            let backend = base
                .to_builder()
                .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                    key, secret, None, None, "backend",
                )))
                .build();
            let vendor = TokenVendor::builder(setup.pool_id.as_str(), provider.as_str())
                .configure(&backend)
                .endpoint_url(&setup.cognito)
                .build()?;
            let (vendor, asked) = (Arc::new(vendor), Arc::clone(&asked));
            Login::developer(developer_fn(move |_request| {
                asked.fetch_add(1, Ordering::Relaxed);
                let (vendor, user) = (Arc::clone(&vendor), user.clone());
                async move {
                    let vended = vendor.vend(&user).await.map_err(BackendError::transient)?;
                    Ok(vended.identity().clone())
                }
            }))
        }
    };
    let provider = CognitoCredentialsProvider::builder(setup.pool_id.as_str())
        .configure(&base)
        .endpoint_url(&setup.cognito)
        .login(login)
        .build()?;
    let mut config = aws_sdk_s3::config::Builder::from(&provider.sdk_config(&base))
        .endpoint_url(&setup.s3)
        .force_path_style(true)
        .retry_config(RetryConfig::standard());
    if setup.rejection {
        config = config
            .interceptor(provider.rejection_interceptor())
            .retry_classifier(provider.rejection_retry());
    }
    let s3 = aws_sdk_s3::Client::from_conf(config.build());

    let mut lines = orders();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line).with_context(|| format!("no order: {line}"))? {
            Order::Put { bucket, key, body } => {
                let body = body.into_bytes().into();
                let put = s3.put_object().bucket(bucket).key(key).body(body).send().await;
                put.map(|_| json!(null)).map_err(|error| refused(&error))
            }
            Order::Get { bucket, key } => match s3.get_object().bucket(bucket).key(key).send().await {
                Ok(object) => Ok(json!(String::from_utf8_lossy(
                    &object.body.collect().await?.into_bytes()
                ))),
                Err(error) => Err(refused(&error)),
            },
            Order::Who => match provider.provide_credentials().await {
                Ok(credentials) => Ok(json!({
                    "identity": provider.identity_id().await?,
                    "key": credentials.access_key_id(),
                    "asked": asked.load(Ordering::Relaxed),
                })),
                Err(error) => Err(json!(format!("{:?}", Error::find(&error).map(Error::kind)))),
            },
        };
        say(&match answer {
            Ok(answer) => json!({ "answer": answer }),
            Err(code) => json!({ "error": code }),
        })?;
    }
    Ok(())
}

/// The service's code, or the kind of this crate's error.
fn refused<E>(error: &SdkError<E>) -> Value
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match Error::find(error) {
        Some(own) => json!(format!("{:?}", own.kind())),
        None => json!(error.code().unwrap_or("(no code)")),
    }
}
