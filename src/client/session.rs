//! [`Session`]: the time between two changes of login, and the handle that is bound to it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_types::SdkConfig;

use super::events::EventKind;
use super::exchange::{Cells, Snapshot};
use super::login::{Login, Who};
use super::person::Person;
use super::{Served, Shared, sdk};
use crate::clock::Expiry;
use crate::error::{Error, ErrorKind};
use crate::ids::IdentityId;
use crate::refresh::{Failure, RefreshCache};

/// One login, from the moment it took force until another takes its place: a handle that never serves anybody else.
///
/// What is signed with it is signed as this user, or fails with [`ErrorKind::SessionEnded`] once the login has changed, provided
/// that the identity cache is ours ([`sdk_config`](Self::sdk_config) sees to that) or `no_cache`. The SDK's default cache does
/// not ask again before the credentials expire, and would sign as this user after the end.
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
    pub(super) shared: Arc<Shared>,
    pub(super) epoch: u64,
}

/// A session that has made its first exchange: see [`Session::ready`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignIn {
    /// Who the user is to Cognito.
    pub identity_id: IdentityId,
    /// What the sign-in did to the identity that was there before.
    pub outcome: IdentityOutcome,
}

/// What became of the identity that was expected: a guest's that was offered for linking, or the one that was remembered for the
/// person.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityOutcome {
    /// None was expected.
    Created,
    /// It is the one that was expected; a guest's data are the user's now.
    Kept,
    /// It is another one.
    Replaced {
        /// The one that was expected.
        from: IdentityId,
    },
}

impl Session {
    /// The number of this session: it grows with every change of login, over all providers of the process.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the session is still in force.
    pub fn is_current(&self) -> bool {
        self.shared.current.load().epoch == self.epoch
    }

    /// Waits for the first exchange and tells what became of the identity. Afterwards it answers at once.
    ///
    /// # Errors
    ///
    /// What an operation of this session would fail with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the exchange to others.
    pub async fn ready(&self) -> Result<SignIn, Error> {
        let (state, snapshot) = self.shared.serve(Some(self.epoch)).await?;
        match &state.cells {
            Some(cells) => cells.sign_in().ok_or_else(Error::ended),
            None => Ok(SignIn {
                identity_id: snapshot.identity_id.clone(),
                outcome: IdentityOutcome::Created,
            }),
        }
    }

    /// The user's identity id, from what is known if possible, else by the cheapest call there is.
    ///
    /// # Errors
    ///
    /// What the backend or Cognito refused it with; [`ErrorKind::SessionEnded`], [`ErrorKind::SignedOut`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the call to others.
    pub async fn identity_id(&self) -> Result<IdentityId, Error> {
        self.shared.identity_id(Some(self.epoch)).await
    }

    /// `base` with this session's credentials, and the identity cache that makes a client fail closed once the session has ended.
    pub fn sdk_config(&self, base: &SdkConfig) -> SdkConfig {
        sdk::config(
            base,
            Served {
                shared: Arc::clone(&self.shared),
                bound: Some(self.epoch),
            },
        )
    }

    /// The identity cache of [`sdk_config`](Self::sdk_config), for a configuration that is built elsewhere.
    pub fn identity_cache(&self) -> SharedIdentityCache {
        sdk::identity_cache(Served {
            shared: Arc::clone(&self.shared),
            bound: Some(self.epoch),
        })
    }
}

impl ProvideCredentials for Session {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.shared.provide(Some(self.epoch))
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

/// What the provider's pointer points to.
pub(super) struct SessionState {
    pub(super) epoch: u64,
    pub(super) login: Login,
    /// `None`: signed out.
    pub(super) cells: Option<Arc<Cells>>,
    pub(super) credentials: Option<RefreshCache<Snapshot, Error>>,
    /// Why nobody gets anything any more.
    pub(super) closed: Option<Error>,
}

impl SessionState {
    /// Waits for credentials of this session; the caller looks afterwards whether it is still in force.
    pub(super) async fn obtain(&self, forced: bool) -> Result<crate::refresh::Cached<Snapshot>, Error> {
        match &self.credentials {
            None => Err(self.nobody()),
            Some(credentials) if forced => credentials.refresh_now().await,
            Some(credentials) => credentials.get().await,
        }
    }

    pub(super) fn nobody(&self) -> Error {
        if let Some(error) = &self.closed {
            return error.clone();
        }
        match self.login.who {
            Who::SignedOut => Error::new(ErrorKind::SignedOut, "nobody is signed in")
                .with_hint("call switch_to with the user's Login, or with Login::guest()"),
            Who::Decided(_) => Error::new(ErrorKind::Configuration, "what decides the login has decided none")
                .with_hint("the closure of Login::decided_by panicked, or answered with another Login::decided_by"),
            _ => Error::ended(),
        }
    }

    /// Tells all who wait that the session is over, and lets go of what is secret.
    pub(super) fn end(&self) {
        if let Some(cells) = &self.cells {
            cells.end();
        }
        if let Some(credentials) = &self.credentials {
            credentials.end();
        }
    }
}

/// What the session knows of its identity. It outlives the cells when the credentials are cleared.
#[derive(Debug, Default)]
pub(super) struct Settled {
    known: Mutex<Known>,
    /// The app's hooks are called one at a time.
    hooks: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    pub(super) identity: Option<IdentityId>,
    /// What the outcome is measured by.
    pub(super) expected: Option<(IdentityId, Expected)>,
    /// Set by the first exchange; from then on the identity changes no more, except where the service asks for it.
    pub(super) outcome: Option<IdentityOutcome>,
    /// The service has said that a developer's identity is gone: the next one that the backend names takes its place.
    pub(super) lost: bool,
    /// Whom the tokens were about that Cognito accepted last.
    pub(super) person: Person,
    /// The end of the credentials that came last.
    pub(super) expires: Option<Expiry>,
    /// The last refresh failed for want of a sign-in.
    pub(super) needs_sign_in: bool,
}

/// Whose the identity is that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It was in force before the change of login: the guest's that is offered, or the user's who signs in with one provider more.
    Before,
    /// It was remembered: that it is the same is no news.
    Remembered,
}

impl Known {
    /// Takes `id` as the session's, and answers what is to be told of it.
    pub(super) fn adopt(&mut self, id: &IdentityId, person: Person, expires: Expiry) -> Vec<EventKind> {
        let first = self.outcome.is_none();
        let before = self.identity.take().filter(|_| !first);
        let expected = self.expected.take().or(before.map(|id| (id, Expected::Remembered)));
        let (identity_id, mut news) = (id.clone(), Vec::new());
        if first {
            news.push(EventKind::SignedIn {
                identity_id: identity_id.clone(),
            });
        }
        let outcome = match expected {
            None => IdentityOutcome::Created,
            Some((expected, as_whose)) if expected == *id => {
                if as_whose == Expected::Before {
                    news.push(EventKind::IdentityKept { identity_id });
                }
                IdentityOutcome::Kept
            }
            Some((from, _)) => {
                news.push(EventKind::IdentityReplaced {
                    from: from.clone(),
                    to: identity_id,
                });
                IdentityOutcome::Replaced { from }
            }
        };
        if news.is_empty() {
            news.push(EventKind::Refreshed);
        }
        if first || matches!(outcome, IdentityOutcome::Replaced { .. }) {
            self.outcome = Some(outcome);
        }
        self.identity = Some(id.clone());
        self.lost = false;
        self.person = person;
        self.expires = Some(expires);
        self.needs_sign_in = false;
        news
    }
}

impl Settled {
    /// Of a person who is known by an identity.
    pub(super) fn expecting(identity: Option<IdentityId>) -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::new(Known {
                expected: identity.clone().map(|id| (id, Expected::Before)),
                identity,
                ..Known::default()
            }),
            hooks: tokio::sync::Mutex::default(),
        })
    }

    /// Of a user whose identity is settled, if it is known.
    pub(super) fn already(identity: Option<IdentityId>) -> Arc<Self> {
        let outcome = identity.is_some().then_some(IdentityOutcome::Kept);
        Arc::new(Self {
            known: Mutex::new(Known {
                identity,
                outcome,
                ..Known::default()
            }),
            hooks: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for the hook that is being called.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.hooks.lock().await
    }
}

impl Failure for Error {
    fn is_terminal(&self) -> bool {
        !self.is_retryable()
    }

    fn needs_sign_in(&self) -> bool {
        Self::needs_sign_in(self)
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        Self::retry_after(self)
    }

    fn panicked(_: String) -> Self {
        // Not its message: it may quote a response.
        Self::new(ErrorKind::Panicked, "the app's hook panicked")
            .with_hint("the panic's own message went to the panic hook of the process, stderr by default")
    }

    fn timed_out(after: std::time::Duration) -> Self {
        Self::new(
            ErrorKind::Timeout,
            format!("no credentials after {} s", after.as_secs_f32()),
        )
        .with_hint("the app's backend or Cognito did not answer; the limit is RefreshPolicy's load_timeout")
    }

    fn reentered() -> Self {
        Self::new(ErrorKind::Reentered, "a hook asked its own provider for credentials")
            .with_hint("give the hook an HTTP client or SDK configuration of its own: it would wait for itself")
    }

    fn ended() -> Self {
        Self::new(
            ErrorKind::SessionEnded,
            "the session has ended: another login took its place",
        )
        .with_hint("begin the operation anew, with the configuration of the session that is in force now")
    }

    fn expired_on_arrival() -> Self {
        Self::new(
            ErrorKind::InvalidResponse,
            "the credentials had expired when they arrived",
        )
        .with_hint("compare the service's `Date` with the expiration that it sent")
    }

    fn too_short(wanted: std::time::Duration, given: std::time::Duration) -> Self {
        Self::new(
            ErrorKind::Configuration,
            format!(
                "credentials for {} s were asked for, and the service gives them for {} s",
                wanted.as_secs(),
                given.as_secs()
            ),
        )
        .with_hint("ask for less; in the classic flow, the role's maximum session duration and the flow's duration set the limit")
    }
}
