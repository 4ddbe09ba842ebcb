//! [`SharedStore`]: what the instances of a backend have to agree on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::error::{BackendError, Error, ErrorKind};
use crate::ids::{DeveloperProviderName, IdentityPoolId};

/// An entry of a [`SharedStore`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreEntry {
    /// At most 128 characters of `A-Z a-z 0-9 - _ /`: a kind and hashes. No id of a user, a client or an identity is in it.
    pub key: String,
    /// At most 2 kB of text. Never a token or a credential.
    pub value: String,
    /// The entry counts for nothing from then on, whether it is still there or not. Store it in whole seconds at least.
    pub expires_at: SystemTime,
}

impl StoreEntry {
    /// An entry that ends at `expires_at`.
    pub fn new(key: impl Into<String>, value: impl Into<String>, expires_at: SystemTime) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            expires_at,
        }
    }
}

/// A small store of short entries that all instances of a backend share: who named a guest first, which tickets were used, how far
/// [`forget_user`](crate::IdentityAdmin::forget_user) has come.
///
/// Five operations, each on one key, are all that is needed: a table with a primary key, or Redis. No token and no credential is
/// ever put into it. Without one, a [`MemoryStore`] serves one process.
///
/// A failure is a [`BackendError`], which `?` makes of any error; it fails what needs the store (a ticket, a link) and never a
/// sign-in.
#[async_trait]
pub trait SharedStore: Send + Sync {
    /// Puts `entry` if there is none of its key, or one that has ended at `now`; answers the one that is there otherwise.
    ///
    /// Linearizable for each key: of any number of instances that call at once, exactly one is answered `None`.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or answers nonsense.
    async fn put_if_absent(&self, entry: StoreEntry, now: SystemTime) -> Result<Option<StoreEntry>, BackendError>;

    /// Puts `entry`, in place of any other of its key.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached.
    async fn put(&self, entry: StoreEntry) -> Result<(), BackendError>;

    /// The entry of `key`, with everything that was put before this call began. One that has ended may be answered.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or answers nonsense.
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, BackendError>;

    /// Removes the entry of `key`; it is no error if there is none.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached.
    async fn remove(&self, key: &str) -> Result<(), BackendError>;

    /// The entries whose keys begin with `prefix`. May lag behind the other operations by seconds.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or answers nonsense.
    async fn list(&self, prefix: &str) -> Result<Vec<StoreEntry>, BackendError>;
}

/// A [`SharedStore`] in the memory of one process. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryStore {
    entries: Arc<Mutex<BTreeMap<String, (String, SystemTime)>>>,
}

impl MemoryStore {
    /// More live entries than this are an attack: they are refused, and none is forgotten.
    const MOST: usize = 500_000;

    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (String, SystemTime)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(entries: &mut BTreeMap<String, (String, SystemTime)>, entry: StoreEntry) -> Result<(), BackendError> {
        if entries.len() >= Self::MOST && !entries.contains_key(&entry.key) {
            return Err(BackendError::transient("the store in memory is full"));
        }
        entries.insert(entry.key, (entry.value, entry.expires_at));
        Ok(())
    }
}

#[async_trait]
impl SharedStore for MemoryStore {
    async fn put_if_absent(&self, entry: StoreEntry, now: SystemTime) -> Result<Option<StoreEntry>, BackendError> {
        let mut entries = self.lock();
        // A walk each time that the number has doubled costs each entry little.
        if entries.len().is_power_of_two() || entries.len() >= Self::MOST {
            entries.retain(|_, (_, expires_at)| *expires_at > now);
        }
        match entries.get(&entry.key) {
            Some((value, expires_at)) if *expires_at > now => {
                Ok(Some(StoreEntry::new(entry.key.as_str(), value.as_str(), *expires_at)))
            }
            _ => Self::insert(&mut entries, entry).map(|()| None),
        }
    }

    async fn put(&self, entry: StoreEntry) -> Result<(), BackendError> {
        Self::insert(&mut self.lock(), entry)
    }

    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, BackendError> {
        let entries = self.lock();
        let found = entries.get(key);
        Ok(found.map(|(value, expires_at)| StoreEntry::new(key, value.as_str(), *expires_at)))
    }

    async fn remove(&self, key: &str) -> Result<(), BackendError> {
        self.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StoreEntry>, BackendError> {
        let entries = self.lock();
        let found = entries.range(prefix.to_owned()..);
        let found = found.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found
            .map(|(key, (value, expires_at))| StoreEntry::new(key.as_str(), value.as_str(), *expires_at))
            .collect())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.lock().len())
            .finish()
    }
}

/// A store as one vendor or administration uses it: keys within its pool and provider, ended entries left out.
#[derive(Clone)]
pub(super) struct ScopedStore {
    store: Arc<dyn SharedStore>,
    scope: String,
}

/// What entries are about. The first part of their keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Which client named a guest first.
    GuestOwner,
    /// Who has used a ticket.
    UsedTicket,
    /// Identities of a user that are being taken down.
    Forgetting,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::GuestOwner => "guest-owner",
            Self::UsedTicket => "used-ticket",
            Self::Forgetting => "forgetting",
        }
    }
}

impl ScopedStore {
    pub(super) fn new(store: Arc<dyn SharedStore>, pool: &IdentityPoolId, provider: &DeveloperProviderName) -> Self {
        Self {
            store,
            scope: hash(&["scope", pool.as_str(), provider.as_str()]),
        }
    }

    pub(super) async fn put_if_absent(
        &self,
        kind: Kind,
        of: &str,
        value: &str,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> Result<Option<String>, Error> {
        let entry = StoreEntry::new(self.key(kind, of), value, expires_at);
        let there = self.store.put_if_absent(entry, now).await.map_err(failed)?;
        Ok(there.map(|entry| entry.value))
    }

    pub(super) async fn put(&self, kind: Kind, of: &str, value: &str, expires_at: SystemTime) -> Result<(), Error> {
        let entry = StoreEntry::new(self.key(kind, of), value, expires_at);
        self.store.put(entry).await.map_err(failed)
    }

    pub(super) async fn get(&self, kind: Kind, of: &str, now: SystemTime) -> Result<Option<String>, Error> {
        let key = self.key(kind, of);
        let found = self.store.get(&key).await.map_err(failed)?;
        match found {
            Some(entry) if entry.key != key => Err(failed(BackendError::transient("another entry than was asked for"))),
            found => Ok(found.filter(|entry| entry.expires_at > now).map(|entry| entry.value)),
        }
    }

    pub(super) async fn remove(&self, kind: Kind, of: &str) -> Result<(), Error> {
        self.store.remove(&self.key(kind, of)).await.map_err(failed)
    }

    fn key(&self, kind: Kind, of: &str) -> String {
        format!("{}/{}/{}", kind.name(), self.scope, hash(&[kind.name(), of]))
    }
}

/// 32 characters of base64url that stand for `parts`.
pub(super) fn hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(&hash.finalize()[..24])
}

fn failed(error: BackendError) -> Error {
    Error::new(ErrorKind::Store, "the shared store failed")
        .retryable(true)
        .caused_by(&Error::from(error))
}

impl fmt::Debug for ScopedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopedStore")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use futures_util::FutureExt;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().unwrap()
    }

    fn entry(key: &str, value: &str, ends: u64) -> StoreEntry {
        StoreEntry::new(key, value, at(ends))
    }

    #[test]
    fn the_first_one_who_puts_has_it_until_it_ends() {
        let store = MemoryStore::new();
        assert_eq!(now(store.put_if_absent(entry("k", "a", 10), at(0))).unwrap(), None);
        let there = now(store.put_if_absent(entry("k", "b", 20), at(9))).unwrap();
        assert_eq!(there, Some(entry("k", "a", 10)));
        assert_eq!(now(store.put_if_absent(entry("k", "b", 20), at(10))).unwrap(), None);
        assert_eq!(now(store.get("k")).unwrap().unwrap().value, "b");
        now(store.remove("k")).unwrap();
        assert_eq!(now(store.get("k")).unwrap(), None);
    }

    #[test]
    fn a_prefix_lists_its_own() {
        let store = MemoryStore::new();
        for key in ["a/1", "a/2", "ab", "b/1"] {
            now(store.put(entry(key, "", 10))).unwrap();
        }
        let keys: Vec<_> = now(store.list("a/")).unwrap().into_iter().map(|e| e.key).collect();
        assert_eq!(keys, ["a/1", "a/2"]);
    }

    #[test]
    fn ended_entries_are_forgotten() {
        let store = MemoryStore::new();
        for n in 0..10_000 {
            now(store.put_if_absent(entry(&n.to_string(), "", n + 60), at(n))).unwrap();
        }
        assert!(store.lock().len() <= 4_096, "{store:?}");
    }

    #[test]
    fn what_has_ended_counts_for_nothing_and_keys_tell_nothing() {
        let store = MemoryStore::new();
        let pool = IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd").unwrap();
        let provider = DeveloperProviderName::new("login.mycompany.myapp").unwrap();
        let scoped = ScopedStore::new(Arc::new(store.clone()), &pool, &provider);
        now(scoped.put(Kind::Forgetting, "alice", "x", at(10))).unwrap();
        assert_eq!(
            now(scoped.get(Kind::Forgetting, "alice", at(9))).unwrap().as_deref(),
            Some("x")
        );
        assert_eq!(now(scoped.get(Kind::Forgetting, "alice", at(10))).unwrap(), None);
        let other = ScopedStore::new(
            Arc::new(store.clone()),
            &pool,
            &DeveloperProviderName::new("other").unwrap(),
        );
        assert_eq!(now(other.get(Kind::Forgetting, "alice", at(9))).unwrap(), None);
        let key = store.lock().keys().next().cloned().unwrap();
        assert!(
            key.len() <= 128 && !key.contains("alice") && !key.contains("335c1f44"),
            "{key}"
        );
    }
}
