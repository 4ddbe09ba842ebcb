//! A `SharedStore` on Valkey or Redis (7.0 or newer), as long as it takes to write one. `VALKEY_URL=redis://127.0.0.1/ cargo run
//! --example valkey_store` runs the conformance check against a server; without the variable it only says so.
#![allow(clippy::print_stdout, reason = "an example talks")]

use std::collections::BTreeSet;
use std::time::Duration;

use cognito_identity_pool::async_trait;
use cognito_identity_pool::server::{SharedStore, check_shared_store};
use cognito_identity_pool::store::StoreError;
use redis::aio::ConnectionManager;
use redis::{AsyncCommands, cmd};

/// The connection is shared, and made anew when it is lost.
#[allow(missing_debug_implementations, reason = "it holds a connection and nothing else")]
pub struct ValkeyStore(pub ConnectionManager);

fn millis(ttl: Duration) -> u64 {
    ttl.as_millis().clamp(1, u128::from(u32::MAX) * 1_000) as u64
}

#[async_trait]
impl SharedStore for ValkeyStore {
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        let mut set = cmd("SET");
        set.arg(key).arg(value).arg("NX").arg("GET").arg("PX").arg(millis(ttl));
        set.query_async(&mut self.0.clone()).await.map_err(StoreError::new)
    }

    async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        Ok(self
            .0
            .clone()
            .pset_ex(key, value, millis(ttl))
            .await
            .map_err(StoreError::new)?)
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.0.clone().get(key).await.map_err(StoreError::new)
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.0.clone().del(key).await.map_err(StoreError::new)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let mut connection = self.0.clone();
        let (mut cursor, mut keys) = (0u64, BTreeSet::new());
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(format!("{prefix}*"))
                .arg("COUNT")
                .arg(1_000);
            let (next, found): (u64, Vec<String>) = scan.query_async(&mut connection).await.map_err(StoreError::new)?;
            keys.extend(found); // a key may come twice
            if next == 0 {
                break;
            }
            cursor = next;
        }
        let mut entries = Vec::new();
        for key in keys {
            let value: Option<String> = connection.get(&key).await.map_err(StoreError::new)?;
            entries.extend(value.map(|value| (key, value))); // it may have expired meanwhile
        }
        Ok(entries)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Ok(url) = std::env::var("VALKEY_URL") else {
        println!("set VALKEY_URL to the address of a server to try the store");
        return Ok(());
    };
    let store = ValkeyStore(redis::Client::open(url)?.get_connection_manager().await?);
    check_shared_store(store, aws_smithy_async::rt::sleep::TokioSleep::new()).await?;
    println!("the store conforms");
    Ok(())
}
