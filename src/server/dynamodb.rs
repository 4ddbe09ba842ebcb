//! [`DynamoDbStore`]: a [`SharedStore`] in one DynamoDB table.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ReturnValuesOnConditionCheckFailure,
    ScalarAttributeType, TableStatus, TimeToLiveSpecification,
};
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, default_async_sleep};
use aws_types::SdkConfig;
use aws_types::region::Region;

use super::shared_store::SharedStore;
use crate::clock::Clock;
use crate::ids::Partition;
use crate::store::StoreError;

const FOLDER: &str = "folder";
const NAME: &str = "name";
const VALUE: &str = "value";
const EXPIRES_AT: &str = "expires_at";

/// A [`SharedStore`] in one DynamoDB table, which any number of pools and crates may share.
///
/// The table has the partition key `folder` and the sort key `name` (both strings), and the TTL attribute `expires_at`.
/// [`create_table`](Self::create_table) makes it; as CloudFormation:
///
/// ```yaml
/// SharedState:
///   Type: AWS::DynamoDB::Table
///   Properties:
///     BillingMode: PAY_PER_REQUEST
///     AttributeDefinitions:
///       - { AttributeName: folder, AttributeType: S }
///       - { AttributeName: name, AttributeType: S }
///     KeySchema:
///       - { AttributeName: folder, KeyType: HASH }
///       - { AttributeName: name, KeyType: RANGE }
///     TimeToLiveSpecification: { AttributeName: expires_at, Enabled: true }
/// ```
///
/// DynamoDB deletes expired items within days; until then they count as absent here, by this instance's clock. Times are kept in whole
/// seconds. Reads are strongly consistent.
///
/// ```no_run
/// # async fn example(aws: &aws_config::SdkConfig) {
/// use cognito_identity_pool::server::DynamoDbStore;
///
/// let store = DynamoDbStore::new(aws, "my-backend-shared-state");
/// # }
/// ```
#[derive(Clone)]
pub struct DynamoDbStore {
    client: Client,
    table: String,
    region: String,
    clock: Clock,
    sleep: Option<SharedAsyncSleep>,
}

impl DynamoDbStore {
    /// The store in the table `table`, with the credentials, region, endpoint, retries and timeouts of `config`.
    pub fn new(config: &SdkConfig, table: impl Into<String>) -> Self {
        Self {
            client: Client::new(config),
            table: table.into(),
            region: config.region().map_or("*", Region::as_ref).to_owned(),
            clock: Clock::new(config.time_source().unwrap_or_default()),
            sleep: config.sleep_impl().or_else(default_async_sleep),
        }
    }

    /// Makes the table, billed by request, and waits until it can be used. One that exists already is left as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if DynamoDB refuses, or the table is not active after a minute.
    ///
    /// # Cancel safety
    ///
    /// The table may have been made when the future is dropped; call it again.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        let attribute = |name: &str| {
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build()
        };
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
        let made = self
            .client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute(FOLDER).map_err(failed)?)
            .attribute_definitions(attribute(NAME).map_err(failed)?)
            .key_schema(key(FOLDER, KeyType::Hash).map_err(failed)?)
            .key_schema(key(NAME, KeyType::Range).map_err(failed)?)
            .send()
            .await;
        match made {
            Err(SdkError::ServiceError(refused))
                if matches!(refused.err(), CreateTableError::ResourceInUseException(_)) =>
            {
                return self.active().await;
            }
            made => drop(made.map_err(failed)?),
        }
        self.active().await?;
        let ttl = TimeToLiveSpecification::builder()
            .attribute_name(EXPIRES_AT)
            .enabled(true)
            .build()
            .map_err(failed)?;
        let deletes = self
            .client
            .update_time_to_live()
            .table_name(&self.table)
            .time_to_live_specification(ttl)
            .send()
            .await;
        match deletes {
            // Some emulators do not delete what has expired; it counts as absent all the same.
            Err(error) if error.code() == Some("UnknownOperationException") => {}
            deletes => drop(deletes.map_err(failed)?),
        }
        Ok(())
    }

    async fn active(&self) -> Result<(), StoreError> {
        for _ in 0..60 {
            let described = self
                .client
                .describe_table()
                .table_name(&self.table)
                .send()
                .await
                .map_err(failed)?;
            if described.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active) {
                return Ok(());
            }
            let Some(sleep) = &self.sleep else { break };
            sleep.sleep(Duration::from_secs(1)).await;
        }
        Err(StoreError::new(format!("the table {} is not active yet", self.table)))
    }

    /// The minimal IAM policy for the backend's role, as JSON: this table in the region of the configuration, in any account.
    /// [`create_table`](Self::create_table) needs `dynamodb:CreateTable`, `dynamodb:DescribeTable` and
    /// `dynamodb:UpdateTimeToLive` besides.
    pub fn required_iam_policy(&self) -> String {
        let (partition, region) = (Partition::of(&self.region).name, &self.region);
        let policy = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Sid": "SharedState",
                "Effect": "Allow",
                "Action": ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"],
                "Resource": format!("arn:{partition}:dynamodb:{region}:*:table/{}", self.table),
            }],
        });
        format!("{policy:#}")
    }

    fn now(&self) -> u64 {
        let now = self.clock.now().system_time();
        now.duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs())
    }

    /// The last second in which an entry made now with `ttl` counts; at least the next one.
    fn item(&self, key: &str, value: &str, ttl: Duration) -> HashMap<String, AttributeValue> {
        let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0)).max(1);
        let mut item = address(key);
        item.insert(VALUE.to_owned(), AttributeValue::S(value.to_owned()));
        let end = self.now().saturating_add(seconds);
        item.insert(EXPIRES_AT.to_owned(), AttributeValue::N(end.to_string()));
        item
    }

    /// The value of an item whose time has not passed.
    fn value(&self, item: &HashMap<String, AttributeValue>) -> Option<String> {
        let end: u64 = item.get(EXPIRES_AT)?.as_n().ok()?.parse().ok()?;
        let value = item.get(VALUE)?.as_s().ok()?;
        (end > self.now()).then(|| value.clone())
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::new(error)
}

/// A key is a folder and a name in it.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('/').unwrap_or(("-", key))
}

fn address(key: &str) -> HashMap<String, AttributeValue> {
    let (folder, name) = split(key);
    HashMap::from([
        (FOLDER.to_owned(), AttributeValue::S(folder.to_owned())),
        (NAME.to_owned(), AttributeValue::S(name.to_owned())),
    ])
}

#[async_trait]
impl SharedStore for DynamoDbStore {
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        // The second round is for an entry that came to its end between the refusal and the look at it.
        for _ in 0..2 {
            let put = self
                .client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(self.item(key, value, ttl)))
                .condition_expression("attribute_not_exists(#name) OR #expires <= :now")
                .expression_attribute_names("#name", NAME)
                .expression_attribute_names("#expires", EXPIRES_AT)
                .expression_attribute_values(":now", AttributeValue::N(self.now().to_string()))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
                .await;
            let refused = match put {
                Ok(_) => return Ok(None),
                Err(SdkError::ServiceError(refused)) => refused,
                Err(error) => return Err(failed(error)),
            };
            let PutItemError::ConditionalCheckFailedException(there) = refused.err() else {
                return Err(failed(SdkError::<PutItemError, _>::ServiceError(refused)));
            };
            // Not every implementation says what is there.
            let there = match there.item() {
                Some(item) => self.value(item),
                None => self.get(key).await?,
            };
            if there.is_some() {
                return Ok(there);
            }
        }
        Err(StoreError::new("the entry changed while it was looked at"))
    }

    async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        let item = self.item(key, value, ttl);
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .send()
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(address(key)))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed)?;
        Ok(found.item().and_then(|item| self.value(item)))
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(address(key)))
            .send()
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let (folder, begins) = split(prefix);
        let mut names = HashMap::from([("#folder".to_owned(), FOLDER.to_owned())]);
        let mut values = HashMap::from([(":folder".to_owned(), AttributeValue::S(folder.to_owned()))]);
        let mut condition = "#folder = :folder".to_owned();
        if !begins.is_empty() {
            condition.push_str(" AND begins_with(#name, :begins)");
            names.insert("#name".to_owned(), NAME.to_owned());
            values.insert(":begins".to_owned(), AttributeValue::S(begins.to_owned()));
        }
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut entries = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(failed)?;
            let name = item.get(NAME).and_then(|name| name.as_s().ok());
            if let (Some(name), Some(value)) = (name, self.value(&item)) {
                entries.push((format!("{folder}/{name}"), value));
            }
        }
        Ok(entries)
    }
}

impl fmt::Debug for DynamoDbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbStore")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
