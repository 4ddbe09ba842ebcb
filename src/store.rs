//! The identity store: where identity ids outlive a session, and the process if a store is chosen that does.

mod file;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Texts};
use crate::ids::{IdentityId, IdentityPoolId};

pub use file::FileStore;

/// The namespace of a store key: 1..=128 of the characters `A-Z a-z 0-9 . _ -`.
const MAX_NAMESPACE: usize = 128;

/// Remembers the identity ids of guests and of users, so that they need not be asked for, or minted, again.
///
/// Identity ids are all that it is given: never a token, never credentials. A guest's id is all it takes to be that guest,
/// though, so keep it where other users cannot read it. [`MemoryStore`] and [`FileStore`] come with the crate; an operating
/// system's keychain is a store in about twenty lines (`examples/keychain_store.rs`).
///
/// Two rules make it safe to share between tasks and processes:
///
/// - What cannot be read is an *error*, never "absent": for an absent guest a new one is minted, and the old one is lost.
/// - Changes are compare-and-swap. Of two writers who both found the slot empty, one is told that it lost, and to whom.
///
/// ```
/// use std::{collections::HashMap, sync::Mutex};
/// use cognito_identity_pool::{store::{IdentityStore, StoreError, StoreKey, Swapped}, IdentityId, async_trait};
///
/// #[derive(Default)]
/// struct Preferences(Mutex<HashMap<String, IdentityId>>);
///
/// #[async_trait]
/// impl IdentityStore for Preferences {
///     async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
///         let values = self.0.lock().map_err(|_| StoreError::new("the preferences are broken"))?;
///         Ok(values.get(&key.to_string()).cloned())
///     }
///
///     async fn swap(
///         &self,
///         key: &StoreKey,
///         expected: Option<&IdentityId>,
///         new: Option<&IdentityId>,
///     ) -> Result<Swapped, StoreError> {
///         let mut values = self.0.lock().map_err(|_| StoreError::new("the preferences are broken"))?;
///         let current = values.get(&key.to_string()).cloned();
///         if current.as_ref() != expected {
///             return Ok(Swapped::No { current });
///         }
///         match new {
///             Some(id) => values.insert(key.to_string(), id.clone()),
///             None => values.remove(&key.to_string()),
///         };
///         Ok(Swapped::Yes)
///     }
/// }
/// ```
#[async_trait]
pub trait IdentityStore: Send + Sync {
    /// The identity id under `key`; `None` only if there surely is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be told.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: the future may be dropped at any time.
    async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError>;

    /// Puts `new` under `key` (`None` empties it) if and only if `expected` is what is there now.
    ///
    /// Once it has answered [`Swapped::Yes`], every later [`load`](Self::load) finds `new`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the old value or the new one is there then, never anything else.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: if the future is dropped, the old value or the new one is there.
    async fn swap(
        &self,
        key: &StoreKey,
        expected: Option<&IdentityId>,
        new: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError>;

    /// Empties every slot of `pool` and `namespace`: the guest's and all users'. For
    /// [`forget_everything`](crate::CognitoCredentialsProvider::forget_everything).
    ///
    /// The default is an error: a store that can list its keys implements it, so that no trace is left of users whom this process
    /// has not seen.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if anything may be left.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: if the future is dropped, any of the slots may be empty or not.
    #[allow(unused_variables, reason = "named for those who implement it")]
    async fn remove_all(&self, pool: &IdentityPoolId, namespace: &str) -> Result<(), StoreError> {
        Err(StoreError::new(
            "this identity store cannot list what it holds: implement IdentityStore::remove_all, or empty it by its own means",
        )
        .permanent())
    }
}

/// What became of an [`IdentityStore::swap`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a swap that lost has changed nothing"]
pub enum Swapped {
    /// The new value is stored.
    Yes,
    /// Another value than the expected one was there, and still is.
    No {
        /// What is there.
        current: Option<IdentityId>,
    },
}

macro_rules! forwarded {
    ($($pointer:ident),+) => {$(
        #[async_trait]
        impl<T: IdentityStore + ?Sized> IdentityStore for $pointer<T> {
            async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
                (**self).load(key).await
            }

            async fn swap(
                &self,
                key: &StoreKey,
                expected: Option<&IdentityId>,
                new: Option<&IdentityId>,
            ) -> Result<Swapped, StoreError> {
                (**self).swap(key, expected, new).await
            }

            async fn remove_all(&self, pool: &IdentityPoolId, namespace: &str) -> Result<(), StoreError> {
                (**self).remove_all(pool, namespace).await
            }
        }
    )+};
}

forwarded!(Arc, Box);

/// Names one slot of an [`IdentityStore`]: a pool, a namespace within the app, and its guest or one of its users.
///
/// Its text form ([`Display`](fmt::Display)) is stable, so it may be the key in a store of your own. It has one of
///
/// ```text
/// <identity pool id>/<namespace>/guest
/// <identity pool id>/<namespace>/guest-in-doubt
/// <identity pool id>/<namespace>/subject/<64 hexadecimal digits>
/// ```
///
/// The second holds the guest's id while it is shown to a backend, or to Cognito, for linking: a process that ends in between leaves
/// it there, and the next one knows what it means if Cognito refuses the guest. In the third,
/// the digits are the SHA-256 of identity pool id, namespace and subject, joined by line feeds. The subject itself, which
/// may be personal, is not kept. The text has at most 257 characters, all of them ASCII and none of them white space.
///
/// ```
/// # use cognito_identity_pool::{store::StoreKey, IdentityPoolId};
/// let pool = IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd")?;
/// let guest = StoreKey::guest(&pool, "default")?;
/// assert_eq!(guest.to_string(), "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd/default/guest");
/// let alice = StoreKey::subject(&pool, "default", "alice@example.com")?;
/// assert!(!alice.to_string().contains("alice"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreKey {
    pool: IdentityPoolId,
    namespace: String,
    of: Of,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    Guest,
    GuestInDoubt,
    /// By a hash.
    Subject([u8; 32]),
}

impl StoreKey {
    /// The slot of `pool`'s guest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] if the namespace is not 1 to 128 of the characters `A-Z a-z 0-9 . _ -`.
    pub fn guest(pool: &IdentityPoolId, namespace: &str) -> Result<Self, Error> {
        Self::new(pool, namespace, |_| Of::Guest)
    }

    /// The slot of the guest's id while nobody knows whether it was linked.
    pub(crate) fn guest_in_doubt(pool: &IdentityPoolId, namespace: &str) -> Result<Self, Error> {
        Self::new(pool, namespace, |_| Of::GuestInDoubt)
    }

    /// The slot of a user, who is known to the app as `subject`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] for an empty or blank subject, and as [`StoreKey::guest`].
    pub fn subject(pool: &IdentityPoolId, namespace: &str, subject: &str) -> Result<Self, Error> {
        if subject.trim().is_empty() {
            return Err(
                Error::new(ErrorKind::Configuration, "the subject of a login is empty").with_hint(
                    "pass the id by which your app knows the user, or set no subject: the identity id is then kept in memory only",
                ),
            );
        }
        Self::new(pool, namespace, |namespace| {
            let clear = [pool.as_str(), namespace, subject].join("\n");
            Of::Subject(Sha256::digest(clear.as_bytes()).into())
        })
    }

    fn new(pool: &IdentityPoolId, namespace: &str, of: impl FnOnce(&str) -> Of) -> Result<Self, Error> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if namespace.is_empty() || namespace.len() > MAX_NAMESPACE || !namespace.bytes().all(legal) {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the namespace of an identity store must have 1 to 128 characters out of A-Z a-z 0-9 . _ -",
            ));
        }
        Ok(Self {
            pool: pool.clone(),
            namespace: namespace.to_owned(),
            of: of(namespace),
        })
    }

    /// The identity pool.
    pub fn pool(&self) -> &IdentityPoolId {
        &self.pool
    }

    /// The namespace within the app.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether it is the guest's slot.
    pub fn is_guest(&self) -> bool {
        self.of == Of::Guest
    }
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.pool, self.namespace)?;
        match &self.of {
            Of::Guest => f.write_str("guest"),
            Of::GuestInDoubt => f.write_str("guest-in-doubt"),
            Of::Subject(hash) => {
                f.write_str("subject/")?;
                hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({self})")
    }
}

/// Why an identity store could not answer.
///
/// `?` turns an I/O error, a serde_json error or an invalid id into one; for any other error there is
/// `.map_err(StoreError::new)`. Only the texts of that error and of its sources are kept.
///
/// It becomes an [`Error`] of [`ErrorKind::Store`]. Nothing is minted, replaced or deleted because of it, and what is in memory
/// stays in use.
///
/// ```
/// # use cognito_identity_pool::{store::StoreError, Error, ErrorKind};
/// fn read() -> Result<String, StoreError> {
///     Ok(std::fs::read_to_string("/no/such/file")?)
/// }
/// let error = Error::from(read().unwrap_err());
/// assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
/// let error = Error::from(StoreError::new("the keychain is locked for good").permanent());
/// assert!(!error.is_retryable());
/// ```
#[derive(Clone)]
pub struct StoreError {
    texts: Arc<Texts>,
    permanent: bool,
}

impl StoreError {
    /// An error with the texts of `source`: any error, or a text. It counts as one that passes by itself.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            texts: Arc::new(Texts::of(&*source.into())),
            permanent: false,
        }
    }

    /// Marks it as one that does not pass by itself: somebody has to repair the store.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The error that says which store it was.
    pub(crate) fn of(self, message: &str) -> Error {
        Error::new(ErrorKind::Store, message)
            .retryable(!self.permanent)
            .with_texts(Some(self.texts))
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}

impl From<crate::ids::InvalidId> for StoreError {
    fn from(error: crate::ids::InvalidId) -> Self {
        Self::new(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        error.of("the identity store failed")
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.texts.fmt(f)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.texts.source()
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("texts", &self.texts)
            .field("permanent", &self.permanent)
            .finish()
    }
}

/// An identity store that lives as long as the process. The default.
///
/// It keeps the ids of up to [`MemoryStore::MAX_SUBJECTS`] users; beyond that, those that were stored first are forgotten, and the
/// user's identity is asked for again. Guests are never forgotten.
///
/// ```
/// # use cognito_identity_pool::{store::{IdentityStore, MemoryStore, StoreKey, Swapped}, Error, IdentityId, IdentityPoolId};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let key = StoreKey::guest(&IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd")?, "default")?;
/// let id = IdentityId::new("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d")?;
/// assert_eq!(store.swap(&key, None, Some(&id)).await.map_err(Error::from)?, Swapped::Yes);
/// // Whoever still takes the slot for empty is told better.
/// assert_eq!(store.swap(&key, None, None).await.map_err(Error::from)?, Swapped::No { current: Some(id) });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    ids: HashMap<StoreKey, IdentityId>,
    /// The keys of users, in the order in which they came.
    subjects: VecDeque<StoreKey>,
}

impl Slots {
    fn put(&mut self, key: &StoreKey, id: &IdentityId) {
        if self.ids.insert(key.clone(), id.clone()).is_none() && matches!(key.of, Of::Subject(_)) {
            self.subjects.push_back(key.clone());
        }
        while self.subjects.len() > MemoryStore::MAX_SUBJECTS {
            if let Some(oldest) = self.subjects.pop_front() {
                self.ids.remove(&oldest);
            }
        }
    }

    fn remove(&mut self, mut is_gone: impl FnMut(&StoreKey) -> bool) {
        self.ids.retain(|key, _| !is_gone(key));
        self.subjects.retain(|key| !is_gone(key));
    }
}

/// Neither ids nor subjects.
impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("ids", &self.ids.len())
            .finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// How many users' ids are kept at most.
    pub const MAX_SUBJECTS: usize = 1_000;

    /// A store without entries.
    pub fn new() -> Self {
        Self::default()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl IdentityStore for MemoryStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
        Ok(self.slots().ids.get(key).cloned())
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expected: Option<&IdentityId>,
        new: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError> {
        let mut slots = self.slots();
        let current = slots.ids.get(key);
        if current != expected {
            return Ok(Swapped::No {
                current: current.cloned(),
            });
        }
        match new {
            Some(id) => slots.put(key, id),
            None if expected.is_some() => slots.remove(|gone| gone == key),
            None => {}
        }
        Ok(Swapped::Yes)
    }

    async fn remove_all(&self, pool: &IdentityPoolId, namespace: &str) -> Result<(), StoreError> {
        self.slots()
            .remove(|key| key.pool == *pool && key.namespace == namespace);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";

    fn pool() -> IdentityPoolId {
        IdentityPoolId::new(POOL).unwrap()
    }

    #[test]
    fn the_text_form_of_a_key_is_what_stores_out_there_have_written() {
        let key = StoreKey::subject(&pool(), "my-app.v2", "user-42").unwrap();
        let hash = "c013ad9c0767243b46b5b0542d48db2e92dbb1538726514b60333cebc0019d7c";
        assert_eq!(key.to_string(), format!("{POOL}/my-app.v2/subject/{hash}"));
    }

    #[test]
    fn keys_differ_by_pool_namespace_and_subject_and_in_nothing_else() {
        let other = IdentityPoolId::new("eu-west-1:335c1f44-87c9-4bbd-a314-93b47d91fadd").unwrap();
        let keys = [
            StoreKey::guest(&pool(), "a").unwrap(),
            StoreKey::guest(&other, "a").unwrap(),
            StoreKey::guest(&pool(), "b").unwrap(),
            StoreKey::subject(&pool(), "a", "guest").unwrap(),
            StoreKey::subject(&pool(), "a", "x").unwrap(),
            StoreKey::subject(&pool(), "b", "x").unwrap(),
            StoreKey::subject(&other, "a", "x").unwrap(),
        ];
        let texts: std::collections::HashSet<_> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), keys.len());
        assert_eq!(keys[4], StoreKey::subject(&pool(), "a", "x").unwrap());
        assert!(keys[0].is_guest() && !keys[3].is_guest());
        // The same person has another hash in each namespace, so that two stores cannot be joined.
        let hash = |n: usize| texts_of(&keys[n]);
        assert_ne!(hash(4), hash(5));
    }

    fn texts_of(key: &StoreKey) -> String {
        key.to_string().rsplit('/').next().unwrap().to_owned()
    }

    #[test]
    fn a_namespace_or_subject_that_tells_nobody_apart_is_refused() {
        for namespace in ["", "a/b", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert!(StoreKey::guest(&pool(), namespace).is_err(), "{namespace:?}");
        }
        for subject in ["", "  ", "\n"] {
            assert!(StoreKey::subject(&pool(), "a", subject).is_err(), "{subject:?}");
        }
        let longest = IdentityPoolId::new(format!("us-east-1:{}", "a".repeat(45))).unwrap();
        let key = StoreKey::subject(&longest, &"x".repeat(128), "s").unwrap();
        assert_eq!(key.to_string().len(), 55 + 1 + 128 + 1 + 8 + 64);
    }

    #[test]
    fn a_store_error_keeps_texts_and_becomes_an_error_of_its_kind() {
        let error = Error::from(StoreError::from(std::io::Error::other("disk on fire")));
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "disk on fire");
        assert!(!source.is::<std::io::Error>());
        assert!(!Error::from(StoreError::new("broken").permanent()).is_retryable());
    }

    #[test]
    fn debug_of_a_store_shows_neither_ids_nor_subjects() {
        let store = MemoryStore::new();
        let key = StoreKey::subject(&pool(), "a", "alice").unwrap();
        let id = IdentityId::new("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d").unwrap();
        store.slots().put(&key, &id);
        let debug = format!("{store:?}");
        assert!(!debug.contains("0b1c2d3e") && !debug.contains("alice"), "{debug}");
    }
}
