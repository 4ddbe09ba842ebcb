//! [`Session`]: the time between two changes of login, and the handle that is bound to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_types::SdkConfig;

use super::current_session::{BoundProvider, CurrentSession};
use super::identity_cache;
use super::identity_state::{IdentityOutcome, SignIn};
use super::login_status::LoginStatus;
use super::session_state::Demand;
use crate::error::Error;
use crate::ids::IdentityId;
use crate::refresh::Failure;
use crate::token::OpenIdToken;

/// One login, from the moment it took force until another takes its place: a handle that never serves anybody else.
///
/// What is signed with it is signed as this user, or fails with [`ErrorKind::SessionEnded`](crate::ErrorKind::SessionEnded) once the login has changed, provided
/// that the identity cache is ours ([`sdk_config`](Self::sdk_config) sees to that) or `no_cache`. Under the SDK's
/// default cache a client learns of the end within a [lease](crate::client::CognitoCredentialsProviderBuilder::lease).
///
/// Cheap to clone. Made by [`CognitoCredentialsProvider::switch_to`](crate::CognitoCredentialsProvider::switch_to).
///
/// ```no_run
/// # use cognito_identity_pool::{CognitoCredentialsProvider, DeveloperIdentity, Login};
/// # async fn example(provider: CognitoCredentialsProvider, backend: DeveloperIdentity, base: aws_config::SdkConfig) -> Result<(), cognito_identity_pool::Error> {
/// let alice = provider.switch_to(Login::developer(backend).subject("user-42"));
/// let sts = aws_sdk_sts::Client::new(&alice.sdk_config(&base)); // only ever Alice
/// println!("signed in as {}", alice.ready().await?.identity_id);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Session {
    pub(super) current: Arc<CurrentSession>,
    pub(super) epoch: u64,
}

impl Session {
    /// The number of this session: it grows with every change of login, over all providers of the process.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the session is still in force.
    pub fn is_current(&self) -> bool {
        self.current.epoch() == self.epoch
    }

    /// Waits for the first exchange and tells what became of the identity. Afterwards it answers at once, for as long as the
    /// session is in force, whatever the credentials are worth by then.
    ///
    /// # Errors
    ///
    /// What an operation of this session would fail with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the exchange to others.
    pub async fn ready(&self) -> Result<SignIn, Error> {
        if let Some(done) = self.current.signed_in(self.epoch) {
            return Ok(done);
        }
        let (state, snapshot) = self.current.serve(Some(self.epoch)).await?;
        match &state.caches {
            Some(caches) => caches.sign_in().ok_or_else(Error::ended),
            None => Ok(SignIn {
                identity_id: snapshot.identity_id.clone(),
                outcome: IdentityOutcome::Created,
                not_stored: None,
            }),
        }
    }

    /// Credentials that are valid for at least `least` longer, for presigned URLs and long jobs: the cached ones if they are, else
    /// those of one refresh that all who ask at the time share. They say when they really end, not the end of a lease.
    ///
    /// The enhanced flow gives credentials for one hour; the classic flow for its own duration, up to 12 hours
    /// (`ClassicFlow`, `DurationSeconds` in the API reference).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(session: cognito_identity_pool::Session) -> Result<(), cognito_identity_pool::Error> {
    /// let credentials = session.credentials_valid_for(Duration::from_secs(15 * 60)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if the service never gives them for so long; otherwise what the
    /// refresh failed with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the refresh to others.
    pub async fn credentials_valid_for(&self, least: Duration) -> Result<Credentials, Error> {
        let (_, snapshot) = self
            .current
            .serve_from(Some(self.epoch), Demand::ValidFor(least))
            .await?;
        Ok(snapshot.credentials.clone())
    }

    /// What is known of the session without asking anybody; `None` once it has ended.
    ///
    /// ```no_run
    /// # use cognito_identity_pool::Session;
    /// # fn example(session: &Session) {
    /// let left = session.status().and_then(|status| status.expires_at);
    /// println!("the credentials end at {left:?}");
    /// # }
    /// ```
    pub fn status(&self) -> Option<LoginStatus> {
        let status = self.current.status();
        (status.epoch == self.epoch).then_some(status)
    }

    /// The user's identity id, from what is known if possible, else by the cheapest call there is.
    ///
    /// # Errors
    ///
    /// What the backend or Cognito refused it with; [`ErrorKind::SessionEnded`](crate::ErrorKind::SessionEnded), [`ErrorKind::SignedOut`](crate::ErrorKind::SignedOut).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the call to others.
    pub async fn identity_id(&self) -> Result<IdentityId, Error> {
        self.current.identity_id(Some(self.epoch)).await
    }

    /// The token that Cognito has issued for this user, for services that take it as a bearer
    /// ([`TokenVerifier`](crate::server) is their half): at least a minute is left of it. It is a secret; whoever has it is the user.
    ///
    /// A developer's session has one already, and asks the backend for another only if it is too old. For guests and external logins
    /// it is a new one each time (`GetOpenIdToken`), which the pool must allow (`AllowClassicFlow`).
    ///
    /// ```no_run
    /// # async fn example(alice: cognito_identity_pool::Session, http: reqwest::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let token = alice.open_id_token().await?;
    /// http.get("https://api.example.com/profile").bearer_auth(token.expose_secret()).send().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready), and [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if the pool does not allow the
    /// classic flow.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops its request; the session stays as it is.
    pub async fn open_id_token(&self) -> Result<OpenIdToken, Error> {
        self.current.open_id_token(Some(self.epoch)).await
    }

    /// `base` with this session's credentials, and the identity cache that makes a client fail closed once the session has ended.
    pub fn sdk_config(&self, base: &SdkConfig) -> SdkConfig {
        identity_cache::config(
            base,
            BoundProvider {
                current: Arc::clone(&self.current),
                bound: Some(self.epoch),
            },
        )
    }

    /// The identity cache of [`sdk_config`](Self::sdk_config), for a configuration that is built elsewhere.
    pub fn identity_cache(&self) -> SharedIdentityCache {
        identity_cache::identity_cache(BoundProvider {
            current: Arc::clone(&self.current),
            bound: Some(self.epoch),
        })
    }
}

impl ProvideCredentials for Session {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.current.provide(Some(self.epoch))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("epoch", &self.epoch)
            .field("current", &self.is_current())
            .finish()
    }
}
