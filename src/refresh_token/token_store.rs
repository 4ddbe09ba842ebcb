//! [`RefreshToken`], and [`RefreshTokenStore`]: where the app keeps it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use crate::store::StoreError;

/// A refresh token: whoever has it is the user until it is revoked. `Debug` does not show it.
#[derive(Clone)]
pub struct RefreshToken(pub(super) SecretString);

impl RefreshToken {
    /// Wraps a refresh token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(SecretString::from(token.into()))
    }

    /// The token as text, for the one place that stores it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for RefreshToken {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for RefreshToken {}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(<redacted>)")
    }
}

/// Where the app keeps the user's refresh token, e.g. the keychain.
///
/// ```
/// use std::sync::Mutex;
/// use cognito_identity_pool::{async_trait, refresh_token::{RefreshToken, RefreshTokenStore}, store::StoreError};
///
/// struct Keychain(Mutex<Option<RefreshToken>>);
///
/// #[async_trait]
/// impl RefreshTokenStore for Keychain {
///     async fn load(&self) -> Result<Option<RefreshToken>, StoreError> {
///         Ok(self.0.lock().map_err(|_| StoreError::new("the keychain is broken"))?.clone())
///     }
///
///     async fn replace(&self, _used: &RefreshToken, new: RefreshToken) -> Result<(), StoreError> {
///         *self.0.lock().map_err(|_| StoreError::new("the keychain is broken"))? = Some(new);
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait RefreshTokenStore: Send + Sync {
    /// The refresh token of the user who is signed in. `None`: nobody is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be told. Nobody is signed out by that.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: the future may be dropped at any time.
    async fn load(&self) -> Result<Option<RefreshToken>, StoreError>;

    /// The server has rotated the token: `new` takes the place of `used`. A store that several processes share replaces it only if
    /// `used` is still there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The new token is then kept in memory and offered again.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: if the future is dropped, the old token or the new one is there.
    async fn replace(&self, used: &RefreshToken, new: RefreshToken) -> Result<(), StoreError>;
}

#[async_trait]
impl<T: RefreshTokenStore + ?Sized> RefreshTokenStore for Arc<T> {
    async fn load(&self) -> Result<Option<RefreshToken>, StoreError> {
        (**self).load().await
    }

    async fn replace(&self, used: &RefreshToken, new: RefreshToken) -> Result<(), StoreError> {
        (**self).replace(used, new).await
    }
}

/// For a token that nobody wants to keep.
pub(super) struct InMemory(pub(super) Mutex<RefreshToken>);

#[async_trait]
impl RefreshTokenStore for InMemory {
    async fn load(&self) -> Result<Option<RefreshToken>, StoreError> {
        Ok(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    async fn replace(&self, _: &RefreshToken, new: RefreshToken) -> Result<(), StoreError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}
