//! The operating system's keychain as an [`IdentityStore`]: who the guest of this device is survives a restart, where no other
//! user of the device can read it.
//!
//! It stands on `keyring-core`, so it is the same for the Keychain of macOS and iOS, Windows' Credential Manager, the Secret
//! Service of Linux desktops and Android. Here it runs on keyring-core's in-memory keychain; an app passes its platform's, e.g.
//! `apple_native_keyring_store::keychain::Store::new()?`.
//!
//! ```text
//! cargo run --example keychain_store
//! ```
#![allow(clippy::print_stdout, reason = "an example tells a story")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cognito_identity_pool::{
    CognitoCredentialsProvider, Error, IdentityId, IdentityPoolId, LocalIdentityPool, Login, async_trait,
    store::{IdentityStore, StoreError, StoreKey, Swapped},
};
use keyring_core::CredentialStore;

/// Identity ids in a keychain, one entry for each key: the service is the app's name, the user the key's text form.
///
/// Make one and clone it.
#[derive(Clone)]
pub(crate) struct KeychainStore {
    keychain: Arc<CredentialStore>,
    app: String,
    /// Keychains have no compare-and-swap. This makes one for the tasks that share this store; an app of several processes
    /// holds a lock file as well, as `FileStore` does.
    swapping: Arc<Mutex<()>>,
}

impl KeychainStore {
    pub(crate) fn new(keychain: Arc<CredentialStore>, app: impl Into<String>) -> Self {
        Self {
            keychain,
            app: app.into(),
            swapping: Arc::default(),
        }
    }

    /// Only "there is no such entry" means absent. A keychain that is locked or out of reach is an error.
    fn read(&self, key: &str) -> Result<Option<IdentityId>, StoreError> {
        let entry = self.keychain.build(&self.app, key, None).map_err(StoreError::new)?;
        match entry.get_password() {
            Ok(id) => Ok(Some(
                IdentityId::new(id).map_err(|error| StoreError::new(error).permanent())?,
            )),
            Err(keyring_core::Error::NoEntry) => Ok(None),
            Err(error) => Err(StoreError::new(error)),
        }
    }

    fn replace(
        &self,
        key: &str,
        expected: Option<&IdentityId>,
        new: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError> {
        let swapping = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.read(key)?;
        if current.as_ref() != expected {
            return Ok(Swapped::No { current });
        }
        let entry = self.keychain.build(&self.app, key, None).map_err(StoreError::new)?;
        match new {
            Some(id) => entry.set_password(id.as_str()).map_err(StoreError::new)?,
            None if current.is_some() => entry.delete_credential().map_err(StoreError::new)?,
            None => {}
        }
        drop(swapping);
        Ok(Swapped::Yes)
    }

    /// Deletes the app's entries whose key begins so. Not every keychain can be searched: then this is an error, and the app
    /// deletes its entries by the platform's own means.
    fn remove(&self, beginning: &str) -> Result<(), StoreError> {
        let _swapping = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        let of_app = HashMap::from([("service", self.app.as_str())]);
        for entry in self.keychain.search(&of_app).map_err(StoreError::new)? {
            // A keychain may find more than was asked for.
            let is_ours = |(app, key): (String, String)| app == self.app && key.starts_with(beginning);
            if entry.get_specifiers().is_some_and(is_ours) {
                match entry.delete_credential() {
                    Ok(()) | Err(keyring_core::Error::NoEntry) => {}
                    Err(error) => return Err(StoreError::new(error)),
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl IdentityStore for KeychainStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
        let (store, key) = (self.clone(), key.to_string());
        // A keychain may wait for the user's finger.
        tokio::task::spawn_blocking(move || store.read(&key))
            .await
            .map_err(StoreError::new)?
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expected: Option<&IdentityId>,
        new: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError> {
        let (store, key, expected, new) = (self.clone(), key.to_string(), expected.cloned(), new.cloned());
        tokio::task::spawn_blocking(move || store.replace(&key, expected.as_ref(), new.as_ref()))
            .await
            .map_err(StoreError::new)?
    }

    async fn remove_all(&self, pool: &IdentityPoolId, namespace: &str) -> Result<(), StoreError> {
        // The text form of a key begins with pool and namespace.
        let (store, beginning) = (self.clone(), format!("{pool}/{namespace}/"));
        tokio::task::spawn_blocking(move || store.remove(&beginning))
            .await
            .map_err(StoreError::new)?
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = LocalIdentityPool::builder().allow_guests(true).start().await?;
    let keychain: Arc<CredentialStore> = keyring_core::mock::Store::new()?;
    let first = start_of_the_app(&pool, &keychain)?.session().ready().await?.identity_id;
    println!("the first start of the app made a guest:  {first:?}");
    let provider = start_of_the_app(&pool, &keychain)?;
    let again = provider.session().ready().await?.identity_id;
    println!("the second start found it in the keychain: {again:?}");
    assert_eq!(first, again);

    provider.forget_everything().await?;
    let left = keychain.search(&HashMap::new())?.into_iter();
    let left = left.filter(|entry| entry.get_password().is_ok()).count();
    println!("after forget_everything() the keychain has {left} entries");
    assert_eq!(left, 0);
    Ok(())
}

fn start_of_the_app(
    pool: &LocalIdentityPool,
    keychain: &Arc<CredentialStore>,
) -> Result<CognitoCredentialsProvider, Error> {
    CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&pool.client_config())
        .identity_store(KeychainStore::new(Arc::clone(keychain), "com.example.app"))
        .login(Login::guest())
        .build()
}
