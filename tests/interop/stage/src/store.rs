//! `interop_stage store ENDPOINT`: this crate's DynamoDB store against a DynamoDB that others wrote.

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use cognito_identity_pool::server::{DynamoDbStore, SharedStore, check_shared_store};

async fn store(endpoint: &str) -> (DynamoDbStore, SdkConfig) {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region("us-east-1")
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "interop"))
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(std::time::Duration::from_secs(30))
                .build(),
        )
        .load()
        .await;
    (DynamoDbStore::new(&config, "shared-state"), config)
}

/// Makes the table that instances share.
pub(crate) async fn make(endpoint: &str) -> anyhow::Result<()> {
    Ok(store(endpoint).await.0.create_table().await?)
}

pub(crate) async fn check(endpoint: &str) -> anyhow::Result<()> {
    let (store, config) = store(endpoint).await;
    store.create_table().await?;
    // What exists is left as it is.
    store.put("kept/1", "1", std::time::Duration::from_secs(600)).await?;
    store.create_table().await?;
    anyhow::ensure!(
        store.get("kept/1").await? == Some("1".to_owned()),
        "create_table made the table anew"
    );
    let sleep = config.sleep_impl().ok_or_else(|| anyhow::anyhow!("no sleep"))?;
    check_shared_store(store, sleep).await?;
    Ok(())
}
