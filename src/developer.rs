//! The app's own backend, as the credentials provider sees it.

pub(crate) mod answer;
mod identity_request;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

pub use identity_request::IdentityRequest;

use crate::error::BackendError;
use crate::ids::IdentityId;
use crate::logins::{Key, Logins, ProviderKey};
use crate::token::{OpenIdToken, RefreshReason};

/// Asks the app's own backend who the signed-in user is to Cognito: iOS's `AWSCognitoCredentialsProviderHelper` and Android's
/// `AWSAbstractCognitoDeveloperIdentityProvider`, with one required method in place of three overrides.
///
/// The identity id and the token come back *together*, as one value.
///
/// Within a session a hook is called at most once at a time, never under a lock, possibly from a background task, and not while
/// its last token still serves (unless that one was rejected, or a refresh was forced). It must not ask the provider that it
/// serves for credentials; that is answered with a typed error.
///
/// ```
/// # use cognito_identity_pool::{BackendError, DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest, async_trait};
/// struct Backend { http: reqwest::Client, session: String }
///
/// #[async_trait]
/// impl DeveloperIdentityProvider for Backend {
///     async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
///         let request = self.http.post("https://api.example.com/aws/identity").bearer_auth(&self.session);
///         let response = request.send().await?;
///         if !response.status().is_success() {
///             return Err(BackendError::http_status(response.status().as_u16())); // 401: signed out
///         }
///         Ok(response.json().await?)
///     }
/// }
/// ```
///
/// Implemented for `Arc<T>` and `Box<T>`, for a ready [`DeveloperIdentity`] (which serves until its token expires), and for
/// closures through [`developer_fn`].
#[async_trait]
pub trait DeveloperIdentityProvider: Send + Sync {
    /// The user's identity id and a fresh token for it, from the backend.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: transient (what `?` makes of any error), terminal, or signed out.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the session ends, unless it has been shown a guest to link: then it goes on to its end, or to the
    /// timeout, so that it is known what became of the guest. A caller that gives up waiting does not drop it.
    async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError>;

    /// The user's identity id alone, if the backend has a cheaper way to tell it. By default `None`: use
    /// [`refresh`](Self::refresh), whose token is then kept for the exchange.
    ///
    /// # Errors
    ///
    /// As [`refresh`](Self::refresh).
    ///
    /// # Cancel safety
    ///
    /// As [`refresh`](Self::refresh).
    #[allow(unused_variables, reason = "named for those who implement it")]
    async fn get_identity_id(&self, request: &RefreshRequest) -> Result<Option<IdentityId>, BackendError> {
        Ok(None)
    }

    /// Of no use outside of the crate.
    #[doc(hidden)]
    fn key(&self) -> ProviderKey {
        ProviderKey::default()
    }
}

macro_rules! forwarded {
    ($pointer:ident, $key:expr) => {
        #[async_trait]
        impl<T: DeveloperIdentityProvider + ?Sized> DeveloperIdentityProvider for $pointer<T> {
            async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
                (**self).refresh(request).await
            }

            async fn get_identity_id(&self, request: &RefreshRequest) -> Result<Option<IdentityId>, BackendError> {
                (**self).get_identity_id(request).await
            }

            fn key(&self) -> ProviderKey {
                let key: fn(&Self) -> ProviderKey = $key;
                key(self)
            }
        }
    };
}

forwarded!(Arc, |pointer| (**pointer).key().or_pointer(pointer));
forwarded!(Box, |pointer| (**pointer).key());

#[async_trait]
impl DeveloperIdentityProvider for DeveloperIdentity {
    async fn refresh(&self, request: &RefreshRequest) -> Result<Self, BackendError> {
        if request.reason() == RefreshReason::TokenRejected {
            return Err(BackendError::signed_out());
        }
        Ok(self.clone())
    }

    async fn get_identity_id(&self, _: &RefreshRequest) -> Result<Option<IdentityId>, BackendError> {
        Ok(Some(self.identity_id.clone()))
    }

    fn key(&self) -> ProviderKey {
        ProviderKey(Key::Identity(self.identity_id.clone(), self.token.clone()))
    }
}

/// A [`DeveloperIdentityProvider`] from an async closure.
///
/// The closure is called again and again, so each call works on clones of what it captures:
///
/// ```
/// use cognito_identity_pool::{BackendError, DeveloperIdentity, Login, developer::developer_fn};
///
/// fn login(http: reqwest::Client, session: String) -> Login {
///     Login::developer(developer_fn(move |_request| {
///         let (http, session) = (http.clone(), session.clone());
///         async move {
///             let request = http.post("https://api.example.com/aws/identity").bearer_auth(session);
///             let response = request.send().await?;
///             if !response.status().is_success() {
///                 return Err(BackendError::http_status(response.status().as_u16()));
///             }
///             Ok(response.json::<DeveloperIdentity>().await?)
///         }
///     }))
/// }
/// ```
pub fn developer_fn<F, Fut>(ask: F) -> impl DeveloperIdentityProvider
where
    F: Fn(RefreshRequest) -> Fut + Send + Sync,
    Fut: Future<Output = Result<DeveloperIdentity, BackendError>> + Send,
{
    struct FromFn<F>(F);

    #[async_trait]
    impl<F, Fut> DeveloperIdentityProvider for FromFn<F>
    where
        F: Fn(RefreshRequest) -> Fut + Send + Sync,
        Fut: Future<Output = Result<DeveloperIdentity, BackendError>> + Send,
    {
        async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
            (self.0)(request.clone()).await
        }
    }

    FromFn(ask)
}

/// What a backend is asked, and why.
///
/// The provider makes it. A test of a hook makes its own:
///
/// ```
/// # use cognito_identity_pool::{DeveloperIdentityProvider, DeveloperIdentity, RefreshRequest, token::RefreshReason};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let json = r#"{"IdentityId":"us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d","Token":"eyJh.e30.c2ln"}"#;
/// # let hook: DeveloperIdentity = serde_json::from_str(json)?;
/// let request = RefreshRequest::new(RefreshReason::TokenRejected).with_attempt(2);
/// let error = hook.refresh(&request).await.unwrap_err();
/// assert_eq!(error.reason(), "the backend says that the user is signed out");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct RefreshRequest {
    pub(crate) reason: RefreshReason,
    pub(crate) attempt: u32,
    pub(crate) identity_id: Option<IdentityId>,
    pub(crate) guest_to_link: Option<IdentityId>,
    pub(crate) external_logins: Logins,
}

impl RefreshRequest {
    /// The first attempt of an exchange, for `reason`; no identity, no guest, no external logins.
    pub fn new(reason: RefreshReason) -> Self {
        Self {
            reason,
            attempt: 1,
            identity_id: None,
            guest_to_link: None,
            external_logins: Logins::new(),
        }
    }

    /// With another [`attempt`](Self::attempt) than 1.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// With an [`identity_id`](Self::identity_id).
    #[must_use]
    pub fn with_identity_id(mut self, identity_id: IdentityId) -> Self {
        self.identity_id = Some(identity_id);
        self
    }

    /// With a [`guest_to_link`](Self::guest_to_link).
    #[must_use]
    pub fn with_guest_to_link(mut self, guest: IdentityId) -> Self {
        self.guest_to_link = Some(guest);
        self
    }

    /// With [`external_logins`](Self::external_logins).
    #[must_use]
    pub fn with_external_logins(mut self, logins: Logins) -> Self {
        self.external_logins = logins;
        self
    }

    /// Why the token is asked for. After [`RefreshReason::TokenRejected`] an answer from a cache would be refused again.
    pub fn reason(&self) -> RefreshReason {
        self.reason
    }

    /// Which attempt within one exchange this is, from 1; 2 follows a refusal.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The identity that the session has so far. `None` at first use, and after Cognito said that it is gone: the backend
    /// then answers with the one that the user has now.
    ///
    /// For comparison: a backend takes the identity from its own record of the user, never from a client.
    pub fn identity_id(&self) -> Option<&IdentityId> {
        self.identity_id.as_ref()
    }

    /// The guest that this device was before the sign-in, and that the backend may link to the user, so that the guest's data
    /// become the user's. Holding the id is all it takes to be the guest, so it is as secret as a session cookie.
    ///
    /// A backend links only what it knows to be this client's guest (a `GuestClaim`): else a thief who knows a guest's id
    /// takes the guest over.
    pub fn guest_to_link(&self) -> Option<&IdentityId> {
        self.guest_to_link.as_ref()
    }

    /// The tokens of the public providers that are to be linked with the user, since linking happens at the backend.
    pub fn external_logins(&self) -> &Logins {
        &self.external_logins
    }
}

/// A user's identity id and the OpenID token that proves it: what a backend answers.
///
/// # JSON form
///
/// ```json
/// { "identityId": "us-east-1:0b1c2d3e-…", "token": "eyJraWQi…" }
/// ```
///
/// That is what [`expose`](Self::expose) writes. What is read is what existing backends send:
///
/// - `identityId`, `cognitoId`, `cognitoIdentity` or `cognitoIdentityId`, and `token`, `cognitoToken`, `openIdToken` or
///   `cognitoOpenIdToken`, in any case and with `_` or `-` in them (`IdentityId`, `cognito_token`);
/// - the JavaScript SDK's `{"identityId": …, "logins": {"cognito-identity.amazonaws.com": token}}`;
/// - each of these also nested once, under any one member: `{"code": 0, "data": {…}}`.
///
/// Without an identity id it is the token's `sub`. Beside a more specific name, `token` is taken for the app's own session. Other
/// members are ignored. Two spellings that disagree are an error.
///
/// ```
/// # use cognito_identity_pool::DeveloperIdentity;
/// let json = r#"{"IdentityId":"us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d","Token":"eyJh.e30.c2ln"}"#;
/// let identity: DeveloperIdentity = serde_json::from_str(json)?;
/// assert_eq!(identity.identity_id().region(), "us-east-1");
/// assert!(!format!("{identity:?}").contains("eyJh"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DeveloperIdentity {
    identity_id: IdentityId,
    token: OpenIdToken,
}

impl DeveloperIdentity {
    /// Puts the two together.
    pub fn new(identity_id: IdentityId, token: OpenIdToken) -> Self {
        Self { identity_id, token }
    }

    /// Who the user is to Cognito.
    pub fn identity_id(&self) -> &IdentityId {
        &self.identity_id
    }

    /// The proof of it.
    pub fn token(&self) -> &OpenIdToken {
        &self.token
    }

    pub(crate) fn into_parts(self) -> (IdentityId, OpenIdToken) {
        (self.identity_id, self.token)
    }

    /// The JSON form, with the token in clear: for the response to the user whose token it is, and nowhere else.
    pub fn expose(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Exposed<'a> {
            identity_id: &'a IdentityId,
            token: &'a str,
        }
        Exposed {
            identity_id: &self.identity_id,
            token: self.token.expose_secret(),
        }
    }
}

impl fmt::Debug for dyn DeveloperIdentityProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the app's value: it holds what the app signs in with.
        f.write_str("DeveloperIdentityProvider")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";

    #[test]
    fn what_is_exposed_is_read_back() {
        let identity = DeveloperIdentity::new(IdentityId::new(ID).unwrap(), OpenIdToken::new("t.t.t").unwrap());
        let json = serde_json::to_string(&identity.expose()).unwrap();
        assert_eq!(json, format!(r#"{{"identityId":"{ID}","token":"t.t.t"}}"#));
        assert!(serde_json::from_str::<DeveloperIdentity>(&json).is_ok());
    }

    #[test]
    fn closures_and_pointers_are_providers() {
        fn takes(_: impl DeveloperIdentityProvider + 'static) {}
        let ready = DeveloperIdentity::new(IdentityId::new(ID).unwrap(), OpenIdToken::new("t").unwrap());
        takes(ready.clone());
        takes(Arc::new(ready.clone()));
        takes(Box::new(ready.clone()) as Box<dyn DeveloperIdentityProvider>);
        takes(developer_fn(move |_| {
            let ready = ready.clone();
            async move { Ok(ready) }
        }));
        takes(developer_fn(async |request: RefreshRequest| {
            let _number: u32 = "x".parse::<u32>()?;
            Err(BackendError::transient(format!("{:?}", request.reason())))
        }));
    }
}
