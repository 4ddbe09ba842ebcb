//! [`SharedStore`]: what the instances of a backend must agree on, in one small store.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::{Clock, Now};
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperProviderName, IdentityPoolId};
use crate::store::StoreError;

/// A key-value store with expiry that all instances of a backend share: who named a guest first, which tickets are used, who is
/// denied, who is being forgotten.
///
/// Keys are at most 128 bytes of `a-z`, `0-9`, `-` and `/`, and hold hashes in place of ids. Values are at most 4,096 bytes of JSON.
/// No token and no credential is ever in either. An implementation is a dozen lines a
/// method over Redis, DynamoDB or a table with a unique key:
///
/// | method | consistency | Redis |
/// |---|---|---|
/// | [`put_if_absent`](Self::put_if_absent) | linearizable for each key | `SET key value NX GET PX ttl` |
/// | [`put`](Self::put) | as above | `SET key value PX ttl` |
/// | [`get`](Self::get) | strong: sees every `put` that has returned | `GET key` |
/// | [`remove`](Self::remove) | as above | `DEL key` |
/// | [`list`](Self::list) | may lag by up to 5 s | `SCAN` and `MGET` |
///
/// An entry whose time has passed is absent for every method, whether the store has deleted it yet or not.
///
/// # Cancel safety
///
/// Every future may be dropped at any point; the operation has then happened or not.
#[async_trait]
pub trait SharedStore: Send + Sync {
    /// Stores `value` for `ttl` if nothing is stored under `key`: `None` if it was stored, else the value that is there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be asked, or it is not known whether the value was stored.
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError>;

    /// Stores `value` for `ttl`, in place of what is there.
    ///
    /// # Errors
    ///
    /// As [`put_if_absent`](Self::put_if_absent).
    async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), StoreError>;

    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be asked.
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError>;

    /// Removes what is stored under `key`; nothing there is no error.
    ///
    /// # Errors
    ///
    /// As [`put_if_absent`](Self::put_if_absent).
    async fn remove(&self, key: &str) -> Result<(), StoreError>;

    /// All keys that begin with `prefix`, each with its value, in any order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be asked; a part of the list is never answered as the whole.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError>;
}

#[async_trait]
impl<T: SharedStore + ?Sized> SharedStore for Arc<T> {
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        (**self).put_if_absent(key, value, ttl).await
    }

    async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        (**self).put(key, value, ttl).await
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        (**self).get(key).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        (**self).remove(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        (**self).list(prefix).await
    }
}

/// A [`SharedStore`] in the memory of this process: for one instance, and for tests.
///
/// ```
/// # use cognito_identity_pool::server::{MemorySharedStore, SharedStore};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemorySharedStore::new();
/// let minute = Duration::from_secs(60);
/// assert_eq!(store.put_if_absent("key", "1", minute).await?, None);
/// assert_eq!(store.put_if_absent("key", "2", minute).await?, Some("1".to_owned()));
/// # Ok(()) }
/// ```
///
/// It holds at most 500,000 entries: more are an attack, and are refused.
#[derive(Clone)]
pub struct MemorySharedStore {
    entries: Arc<Mutex<BTreeMap<String, MemoryEntry>>>,
    clock: Clock,
}

struct MemoryEntry {
    value: String,
    expires_at: SystemTime,
}

impl MemorySharedStore {
    const MOST: usize = 500_000;

    /// An empty store that goes by the system's clock.
    pub fn new() -> Self {
        Self::with_clock(Clock::new(SharedTimeSource::default()))
    }

    /// The same, by a clock of your own.
    #[must_use]
    pub fn time_source(self, time: impl TimeSource + 'static) -> Self {
        Self {
            clock: Clock::new(SharedTimeSource::new(time)),
            ..self
        }
    }

    pub(super) fn with_clock(clock: Clock) -> Self {
        Self {
            entries: Arc::default(),
            clock,
        }
    }

    /// Looks at the live entries alone. Those whose time has passed are removed when they are met, and all of them each time that
    /// the number of entries has doubled.
    fn entries<T>(&self, look: impl FnOnce(&mut BTreeMap<String, MemoryEntry>, SystemTime) -> T) -> T {
        let now = self.clock.now().system_time();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len().is_power_of_two() || entries.len() >= Self::MOST {
            entries.retain(|_, entry| entry.expires_at > now);
        }
        look(&mut entries, now)
    }

    fn insert(
        entries: &mut BTreeMap<String, MemoryEntry>,
        key: &str,
        value: &str,
        expires_at: SystemTime,
    ) -> Result<(), StoreError> {
        if entries.len() >= Self::MOST && !entries.contains_key(key) {
            return Err(StoreError::new("the shared store in memory is full"));
        }
        let entry = MemoryEntry {
            value: value.to_owned(),
            expires_at,
        };
        entries.insert(key.to_owned(), entry);
        Ok(())
    }
}

impl Default for MemorySharedStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemorySharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySharedStore").finish_non_exhaustive()
    }
}

fn end(now: SystemTime, ttl: Duration) -> SystemTime {
    now.checked_add(ttl).unwrap_or(now)
}

#[async_trait]
impl SharedStore for MemorySharedStore {
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        self.entries(|entries, now| {
            if let Some(entry) = entries.get(key).filter(|entry| entry.expires_at > now) {
                return Ok(Some(entry.value.clone()));
            }
            Self::insert(entries, key, value, end(now, ttl)).map(|()| None)
        })
    }

    async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        self.entries(|entries, now| Self::insert(entries, key, value, end(now, ttl)))
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.entries(|entries, now| {
            let entry = entries.get(key).filter(|entry| entry.expires_at > now);
            entry.map(|entry| entry.value.clone())
        }))
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.entries(|entries, _| drop(entries.remove(key)));
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(self.entries(|entries, now| {
            let from = entries.range(prefix.to_owned()..);
            from.take_while(|(key, _)| key.starts_with(prefix))
                .filter(|(_, entry)| entry.expires_at > now)
                .map(|(key, entry)| (key.clone(), entry.value.clone()))
                .collect()
        }))
    }
}

/// What an entry is about. It is the first part of its key, and of the prefix that lists its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// Which client named a guest first.
    GuestOwner,
    /// A guest ticket that was used.
    UsedTicket,
    /// A user who gets nothing.
    Denied,
    /// A user who is being forgotten, or was. It is listed together with [`Denied`](Self::Denied).
    Held,
    /// How far the forgetting of a user has come.
    Forget,
    /// A pseudonym that an identity is being made for, to be merged into that of the old one.
    Rekey,
}

impl EntryKind {
    fn name(self) -> &'static str {
        match self {
            Self::GuestOwner => "guest-owner",
            Self::UsedTicket => "used-ticket",
            Self::Denied => "denied",
            Self::Held => "held",
            Self::Forget => "forget",
            Self::Rekey => "rekey",
        }
    }

    /// What is polled as one list lies in one folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Held => Self::Denied.name(),
            other => other.name(),
        }
    }
}

/// A [`SharedStore`] as one pool and provider see it: hashed keys, checked values, and an end to waiting.
#[derive(Clone)]
pub(super) struct SharedState {
    store: Arc<dyn SharedStore>,
    scope: String,
    clock: Clock,
    sleep: SharedAsyncSleep,
    timeout: Duration,
}

/// The form in which values are stored. The hash binds a value to its key, so that a store which mixes them up is noticed.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    key: String,
    expires_at: u64,
    value: T,
}

const VERSION: u32 = 1;

/// By how much the clocks of two instances may differ.
const CLOCKS_APART: Duration = Duration::from_secs(60);

impl SharedState {
    /// How long one operation of the store may take.
    pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

    /// Of the store that was given, else of one in memory.
    pub(super) fn of(
        store: Option<Arc<dyn SharedStore>>,
        pool: &IdentityPoolId,
        provider: &DeveloperProviderName,
        clock: &Clock,
        sleep: SharedAsyncSleep,
    ) -> Self {
        let store = store.unwrap_or_else(|| Arc::new(MemorySharedStore::with_clock(clock.clone())));
        Self::new(store, pool, provider, clock.clone(), sleep)
    }

    pub(super) fn new(
        store: Arc<dyn SharedStore>,
        pool: &IdentityPoolId,
        provider: &DeveloperProviderName,
        clock: Clock,
        sleep: SharedAsyncSleep,
    ) -> Self {
        Self {
            store,
            scope: hash(&[pool.as_str(), provider.as_str()]),
            clock,
            sleep,
            timeout: Self::TIMEOUT,
        }
    }

    /// By the clock of whoever has the store.
    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// The hash by which `id` is known in the store, and so in a [`list`](Self::list).
    pub(super) fn hash_of(&self, kind: EntryKind, id: &str) -> String {
        hash(&[&self.scope, kind.name(), id])
    }

    fn prefix(&self, kind: EntryKind) -> String {
        format!("cip1/{}/{}/", self.scope, kind.folder())
    }

    /// Stores `value` unless there is one: `None` if it was stored, else what is there.
    pub(super) async fn put_if_absent<T>(
        &self,
        kind: EntryKind,
        id: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<Option<T>, Error>
    where
        T: Serialize + for<'de> Deserialize<'de> + Sync,
    {
        let hashed = self.hash_of(kind, id);
        let (key, text) = (self.prefix(kind) + &hashed, self.seal(&hashed, value, ttl)?);
        let there = self.within(self.store.put_if_absent(&key, &text, ttl)).await?;
        let opened = there.map(|text| open(&hashed, &text)).transpose()?;
        Ok(opened.map(|envelope| envelope.value))
    }

    /// Stores `value`, in place of what is there.
    pub(super) async fn put<T: Serialize + Sync>(
        &self,
        kind: EntryKind,
        id: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<(), Error> {
        let hashed = self.hash_of(kind, id);
        let (key, text) = (self.prefix(kind) + &hashed, self.seal(&hashed, value, ttl)?);
        self.within(self.store.put(&key, &text, ttl)).await
    }

    pub(super) async fn get<T: for<'de> Deserialize<'de>>(
        &self,
        kind: EntryKind,
        id: &str,
    ) -> Result<Option<T>, Error> {
        let hashed = self.hash_of(kind, id);
        let key = self.prefix(kind) + &hashed;
        let there = self.within(self.store.get(&key)).await?;
        let opened = there.map(|text| open(&hashed, &text)).transpose()?;
        Ok(opened.and_then(|envelope| self.living(envelope)))
    }

    pub(super) async fn remove(&self, kind: EntryKind, id: &str) -> Result<(), Error> {
        let key = self.prefix(kind) + &self.hash_of(kind, id);
        self.within(self.store.remove(&key)).await
    }

    /// All entries of a kind's folder, by the hash of their ids. One that cannot be read is an error: it may be the one that
    /// matters.
    pub(super) async fn list<T: for<'de> Deserialize<'de>>(&self, kind: EntryKind) -> Result<Vec<(String, T)>, Error> {
        let prefix = self.prefix(kind);
        let entries = self.within(self.store.list(&prefix)).await?;
        let mut living = Vec::with_capacity(entries.len());
        for (key, text) in entries {
            let hashed = key.strip_prefix(&prefix).ok_or_else(foreign)?;
            if let Some(value) = self.living(open(hashed, &text)?) {
                living.push((hashed.to_owned(), value));
            }
        }
        Ok(living)
    }

    /// The value, unless its time has passed: a store may keep it longer than it should, and clocks may be a minute apart.
    fn living<T>(&self, envelope: Envelope<T>) -> Option<T> {
        let now = self.clock.now().system_time();
        let ends =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(envelope.expires_at).saturating_add(CLOCKS_APART));
        ends.is_none_or(|ends| now < ends).then_some(envelope.value)
    }

    /// How waiting is done.
    pub(super) fn sleeper(&self) -> SharedAsyncSleep {
        self.sleep.clone()
    }

    fn seal<T: Serialize>(&self, hashed: &str, value: &T, ttl: Duration) -> Result<String, Error> {
        let expires_at = end(self.clock.now().system_time(), ttl);
        let envelope = Envelope {
            version: VERSION,
            key: hashed.to_owned(),
            expires_at: expires_at
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
            value,
        };
        serde_json::to_string(&envelope).map_err(|_| {
            Error::new(
                ErrorKind::Store,
                "an entry of the shared store cannot be written as JSON",
            )
        })
    }

    async fn within<T>(&self, operation: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, Error> {
        match select(Box::pin(operation), self.sleep.sleep(self.timeout)).await {
            Either::Left((result, _)) => result.map_err(|error| error.of("the shared store failed")),
            Either::Right(_) => Err(Error::new(
                ErrorKind::Store,
                format!("the shared store did not answer within {} s", self.timeout.as_secs()),
            )
            .retryable(true)),
        }
    }
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

fn open<T: for<'de> Deserialize<'de>>(hashed: &str, text: &str) -> Result<Envelope<T>, Error> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let newer = serde_json::from_str::<Version>(text).is_ok_and(|found| found.version > VERSION);
    if newer {
        return Err(Error::new(
            ErrorKind::Store,
            "the shared store holds an entry of a newer version of this crate",
        )
        .with_hint("update this instance, or finish the deployment that is under way"));
    }
    let envelope: Envelope<T> = serde_json::from_str(text).map_err(|_| {
        Error::new(ErrorKind::Store, "the shared store holds an entry that cannot be read")
            .with_hint("something else writes under the prefix cip1/; remove the entry")
    })?;
    if envelope.key == hashed {
        Ok(envelope)
    } else {
        Err(foreign())
    }
}

fn foreign() -> Error {
    Error::new(
        ErrorKind::Store,
        "the shared store answered with the entry of another key",
    )
    .with_hint("the SharedStore mixes up keys: run its conformance check")
}

/// SHA-256 over the parts, each with its length before it, cut to 128 bits; in hexadecimal.
fn hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn state(store: impl SharedStore + 'static) -> SharedState {
        SharedState::new(
            Arc::new(store),
            &IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd").unwrap(),
            &DeveloperProviderName::new("login.mycompany.myapp").unwrap(),
            Clock::new(SharedTimeSource::default()),
            SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()),
        )
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn keys_hold_hashes_and_values_come_back() {
        let store = MemorySharedStore::new();
        let state = state(store.clone());
        assert_eq!(
            state
                .put_if_absent(EntryKind::Denied, "user-42", &1, MINUTE)
                .await
                .unwrap(),
            None
        );
        assert_eq!(
            state
                .put_if_absent(EntryKind::Denied, "user-42", &2, MINUTE)
                .await
                .unwrap(),
            Some(1)
        );
        assert_eq!(
            state.get::<u32>(EntryKind::Forget, "user-42").await.unwrap(),
            None,
            "another kind"
        );
        let hashed = state.hash_of(EntryKind::Denied, "user-42");
        assert_eq!(state.list::<u32>(EntryKind::Denied).await.unwrap(), [(hashed, 1)]);
        let (key, value) = store.list("").await.unwrap().remove(0);
        assert!(!format!("{key} {value}").contains("user-42") && key.len() <= 128);
        assert!(
            key.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-/".contains(&byte))
        );
        state.remove(EntryKind::Denied, "user-42").await.unwrap();
        assert_eq!(state.get::<u32>(EntryKind::Denied, "user-42").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_cannot_be_trusted_is_an_error_and_no_answer() {
        let store = MemorySharedStore::new();
        let state = state(store.clone());
        state.put(EntryKind::Denied, "user-42", &1, MINUTE).await.unwrap();
        let (key, good) = store.list("").await.unwrap().remove(0);
        for (text, why) in [
            ("no JSON".to_owned(), "cannot be read"),
            (good.replace(r#""version":1"#, r#""version":2"#), "newer version"),
            (good.replace(r#""key":""#, r#""key":"0"#), "another key"),
            (good.replace(r#""value":1"#, r#""value":[]"#), "cannot be read"),
        ] {
            store.put(&key, &text, MINUTE).await.unwrap();
            let error = state.get::<u32>(EntryKind::Denied, "user-42").await.unwrap_err();
            assert!(
                error.kind() == ErrorKind::Store && error.to_string().contains(why),
                "{error}"
            );
            assert!(state.list::<u32>(EntryKind::Denied).await.is_err());
        }
    }

    struct Silent;

    #[async_trait]
    impl SharedStore for Silent {
        async fn put_if_absent(&self, _: &str, _: &str, _: Duration) -> Result<Option<String>, StoreError> {
            std::future::pending().await
        }

        async fn put(&self, _: &str, _: &str, _: Duration) -> Result<(), StoreError> {
            std::future::pending().await
        }

        async fn get(&self, _: &str) -> Result<Option<String>, StoreError> {
            std::future::pending().await
        }

        async fn remove(&self, _: &str) -> Result<(), StoreError> {
            std::future::pending().await
        }

        async fn list(&self, _: &str) -> Result<Vec<(String, String)>, StoreError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_a_failure_after_two_seconds() {
        let error = state(Silent)
            .get::<u32>(EntryKind::Denied, "user-42")
            .await
            .unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("2 s"), "{error}");
    }

    #[test]
    fn entries_whose_time_has_passed_are_absent_and_do_not_pile_up() {
        let time = aws_smithy_async::test_util::ManualTimeSource::new(SystemTime::UNIX_EPOCH);
        let store = MemorySharedStore::new().time_source(time.clone());
        for n in 0..10_000 {
            let stored = store
                .put_if_absent(&format!("key/{n}"), "1", MINUTE)
                .now_or_never()
                .unwrap();
            assert_eq!(stored.unwrap(), None);
            time.advance(Duration::from_secs(1));
        }
        assert!(store.entries.lock().unwrap().len() <= 16_384);
        assert_eq!(store.list("key/").now_or_never().unwrap().unwrap().len(), 59);
        assert_eq!(store.get("key/1").now_or_never().unwrap().unwrap(), None);
        assert_eq!(
            store
                .put_if_absent("key/1", "2", MINUTE)
                .now_or_never()
                .unwrap()
                .unwrap(),
            None
        );
    }
}
