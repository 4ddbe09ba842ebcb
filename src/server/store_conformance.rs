//! [`check_shared_store`]: what a [`SharedStore`] must do, tried out.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::rt::sleep::AsyncSleep;
use futures_util::future::join_all;

use super::shared_store::SharedStore;
use crate::store::StoreError;

/// What a [`SharedStore`] does wrong, as [`check_shared_store`] found it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConformanceError {
    /// The store breaks a rule of [`SharedStore`].
    #[error("{rule}: expected {expected}, found {found}")]
    #[non_exhaustive]
    Rule {
        /// The rule, in a sentence.
        rule: &'static str,
        /// What the rule demands.
        expected: String,
        /// What the store answered.
        found: String,
    },
    /// An operation failed.
    #[error("the store failed: {0}")]
    #[non_exhaustive]
    Failed(String),
}

impl From<StoreError> for ConformanceError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

const LONG: Duration = Duration::from_secs(600);
/// A whole second, as the coarsest of stores count.
const SHORT: Duration = Duration::from_secs(1);
/// By then every store must have dropped what was stored for [`SHORT`].
const AFTER: Duration = Duration::from_millis(2_500);

/// Tries a store: for the tests of whoever implements [`SharedStore`]. It takes a few seconds of `sleep`'s time, and leaves entries under
/// `conformance/…` that expire within ten minutes.
///
/// ```no_run
/// use cognito_identity_pool::server::{MemorySharedStore, check_shared_store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemorySharedStore::new();
/// check_shared_store(store, aws_smithy_async::rt::sleep::TokioSleep::new()).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// The first rule that the store breaks.
///
/// # Cancel safety
///
/// Dropped, it leaves entries that expire.
pub async fn check_shared_store(store: impl SharedStore, sleep: impl AsyncSleep) -> Result<(), ConformanceError> {
    let folder = format!("conformance/{}/", uuid::Uuid::new_v4());
    let key = |name: &str| format!("{folder}{name}");
    let some = |text: &str| Some(text.to_owned());

    let a = key("a");
    rule("an unknown key is absent", &None, &store.get(&a).await?)?;
    rule(
        "put_if_absent stores what is absent",
        &None,
        &store.put_if_absent(&a, "1", LONG).await?,
    )?;
    rule("get sees what was stored", &some("1"), &store.get(&a).await?)?;
    rule(
        "put_if_absent answers what is there",
        &some("1"),
        &store.put_if_absent(&a, "2", LONG).await?,
    )?;
    rule("and leaves it", &some("1"), &store.get(&a).await?)?;
    store.put(&a, "3", LONG).await?;
    rule("put replaces", &some("3"), &store.get(&a).await?)?;
    store.remove(&a).await?;
    rule("remove removes", &None, &store.get(&a).await?)?;
    store.remove(&a).await?;
    rule(
        "what was removed is absent for put_if_absent",
        &None,
        &store.put_if_absent(&a, "4", LONG).await?,
    )?;

    let long = key(&"n".repeat(128 - folder.len()));
    let text = format!("{{\"text\":\"\\\"é 🦀 {}\"}}", "x".repeat(4_000));
    store.put(&long, &text, LONG).await?;
    rule(
        "keys of 128 bytes and values of 4 kB come back as they are",
        &some(&text),
        &store.get(&long).await?,
    )?;

    let mut listed = store.list(&folder).await?;
    listed.sort();
    let mut expected = vec![(a.clone(), "4".to_owned()), (long.clone(), text)];
    expected.sort();
    rule("list answers all of a folder", &expected, &listed)?;
    rule(
        "list answers nothing of other folders",
        &Vec::new(),
        &store.list(&format!("conformance/{}/", uuid::Uuid::new_v4())).await?,
    )?;
    for number in 0..300 {
        store
            .put(&format!("{folder}many/{number}"), &"y".repeat(4_000), LONG)
            .await?;
    }
    rule(
        "list answers more than a page",
        &300,
        &store.list(&format!("{folder}many/")).await?.len(),
    )?;

    one_of_many_wins(&store, &key("race")).await?;

    let brief = key("brief");
    store.put(&brief, "1", SHORT).await?;
    store.put(&key("put-again"), "1", SHORT).await?;
    store.put(&key("put-again"), "2", LONG).await?;
    rule("put_if_absent respects what has not expired", &None, &{
        let there = store.put_if_absent(&key("brief-too"), "1", SHORT).await?;
        there.map(|_| ())
    })?;
    sleep.sleep(AFTER).await;
    rule("what has expired is absent for get", &None, &store.get(&brief).await?)?;
    rule(
        "a put gives the entry a new end",
        &some("2"),
        &store.get(&key("put-again")).await?,
    )?;
    let left: Vec<_> = store
        .list(&folder)
        .await?
        .into_iter()
        .filter(|(key, _)| key.contains("brief"))
        .collect();
    rule("what has expired is absent for list", &Vec::new(), &left)?;
    rule(
        "what has expired is absent for put_if_absent",
        &None,
        &store.put_if_absent(&brief, "2", LONG).await?,
    )?;
    rule(
        "and what took its place lives on",
        &some("2"),
        &store.get(&brief).await?,
    )
}

/// Fifty callers at once want the same key, ten times over.
async fn one_of_many_wins(store: &impl SharedStore, key: &str) -> Result<(), ConformanceError> {
    for round in 0..10 {
        let key = Arc::<str>::from(format!("{key}-{round}"));
        let callers = (0..50).map(|caller| {
            let key = Arc::clone(&key);
            async move {
                let mine = caller.to_string();
                let there = store.put_if_absent(&key, &mine, LONG).await?;
                // A retry of the transport may find its own value.
                Ok::<_, StoreError>(there.unwrap_or(mine))
            }
        });
        let winners = join_all(callers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let there = store.get(&key).await?;
        let wrong = winners.iter().filter(|winner| Some(*winner) != there.as_ref()).count();
        rule(
            "of many that put at once one wins, and all are told the same",
            &0,
            &wrong,
        )?;
    }
    Ok(())
}

fn rule<T: PartialEq + std::fmt::Debug>(rule: &'static str, expected: &T, found: &T) -> Result<(), ConformanceError> {
    if expected == found {
        return Ok(());
    }
    let short = |value: &T| format!("{value:?}").chars().take(200).collect();
    Err(ConformanceError::Rule {
        rule,
        expected: short(expected),
        found: short(found),
    })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use aws_smithy_async::test_util::instant_time_and_sleep;

    use super::*;
    use crate::server::MemorySharedStore;

    /// A memory store with one thing wrong.
    struct Wrong(MemorySharedStore, &'static str);

    #[async_trait]
    impl SharedStore for Wrong {
        async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
            if self.1 == "race" && key.contains("race") {
                let there = self.0.get(key).await?;
                tokio::task::yield_now().await;
                if there.is_none() {
                    self.0.put(key, value, ttl).await?;
                }
                return Ok(there);
            }
            self.0.put_if_absent(key, value, ttl).await
        }

        async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
            let ttl = if self.1 == "expiry" { LONG } else { ttl };
            self.0.put(key, value, ttl).await
        }

        async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
            self.0.get(key).await
        }

        async fn remove(&self, key: &str) -> Result<(), StoreError> {
            if self.1 == "remove" {
                Ok(())
            } else {
                self.0.remove(key).await
            }
        }

        async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
            let mut listed = self.0.list(prefix).await?;
            if self.1 == "page" {
                listed.truncate(250);
            }
            Ok(listed)
        }
    }

    async fn check(fault: &'static str) -> Result<(), ConformanceError> {
        let (time, sleep) = instant_time_and_sleep(std::time::SystemTime::UNIX_EPOCH);
        check_shared_store(Wrong(MemorySharedStore::new().time_source(time), fault), sleep).await
    }

    #[tokio::test]
    async fn a_store_with_one_thing_wrong_is_found() {
        for (fault, word) in [
            ("race", "one wins"),
            ("expiry", "expired"),
            ("remove", "remove removes"),
            ("page", "more than a page"),
        ] {
            let error = check(fault).await.unwrap_err();
            assert!(error.to_string().contains(word), "{fault}: {error}");
        }
        check("nothing").await.unwrap();
    }
}
