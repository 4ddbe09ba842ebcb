//! [`IdentityState`]: what a session knows of its user's identity, and what becomes of the identity that was expected.

use std::sync::{Arc, Mutex, PoisonError};

use super::events::EventKind;
use super::login_subjects::LoginSubjects;
use super::turns::{Patience, Turn, Turns};
use crate::clock::Expiry;
use crate::error::Error;
use crate::ids::IdentityId;

/// A session that has made its first exchange: see [`Session::ready`](super::Session::ready).
///
/// ```no_run
/// # use cognito_identity_pool::{Session, client::IdentityOutcome};
/// # async fn example(alice: Session) -> Result<(), cognito_identity_pool::Error> {
/// let signed_in = alice.ready().await?;
/// if let IdentityOutcome::Replaced { from } = &signed_in.outcome {
///     println!("what is stored under {from} has to be moved to {}", signed_in.identity_id);
/// }
/// if let Some(error) = &signed_in.not_stored {
///     println!("the disk may be full: {error}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SignIn {
    /// Who the user is to Cognito.
    pub identity_id: IdentityId,
    /// What the sign-in did to the identity that was there before.
    pub outcome: IdentityOutcome,
    /// Why an identity id could not be stored, if it could not. The session is good; the next process may find what was stored
    /// before: no identity of this user, or the guest that was linked. `None`: all is stored.
    pub not_stored: Option<Error>,
}

/// By identity and outcome; errors cannot be compared.
impl PartialEq for SignIn {
    fn eq(&self, other: &Self) -> bool {
        self.identity_id == other.identity_id && self.outcome == other.outcome
    }
}

impl Eq for SignIn {}

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

/// What the session knows of its identity. It outlives the caches when the credentials are cleared.
#[derive(Default)]
pub(super) struct IdentityState {
    known: Mutex<KnownIdentity>,
    /// The app's hooks are called one at a time.
    hooks: Arc<Turns>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct KnownIdentity {
    pub(super) identity: Option<IdentityId>,
    /// The identity expected before the first exchange.
    pub(super) expected: Option<(IdentityId, Expected)>,
    /// Set by the first exchange; from then on the identity changes no more, except where the service asks for it.
    pub(super) outcome: Option<IdentityOutcome>,
    /// The service has said that a developer's identity is gone: the next one that the backend names takes its place.
    pub(super) lost: bool,
    /// Whom the tokens were about that Cognito accepted last.
    pub(super) person: LoginSubjects,
    /// The end of the credentials that came last.
    pub(super) expires: Option<Expiry>,
    /// The last refresh failed for want of a sign-in.
    pub(super) needs_sign_in: bool,
    /// Why an identity id could not be stored.
    pub(super) not_stored: Option<Error>,
}

/// Whose the identity is that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It was in force before the change of login: the guest's that is offered, or the user's who signs in with one provider more.
    Before,
    /// It was remembered: that it is the same is no news.
    Remembered,
}

impl KnownIdentity {
    /// Takes `id` as the session's, and answers what is to be told of it.
    pub(super) fn adopt(&mut self, id: &IdentityId, person: LoginSubjects, expires: Expiry) -> Vec<EventKind> {
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

impl IdentityState {
    /// Of a person who is known by an identity.
    pub(super) fn expecting(identity: Option<IdentityId>) -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::new(KnownIdentity {
                expected: identity.clone().map(|id| (id, Expected::Before)),
                identity,
                ..KnownIdentity::default()
            }),
            hooks: Arc::default(),
        })
    }

    /// Of a user whose identity is settled, if it is known.
    pub(super) fn already(identity: Option<IdentityId>) -> Arc<Self> {
        let outcome = identity.is_some().then_some(IdentityOutcome::Kept);
        Arc::new(Self {
            known: Mutex::new(KnownIdentity {
                identity,
                outcome,
                ..KnownIdentity::default()
            }),
            hooks: Arc::default(),
        })
    }

    pub(super) fn known(&self) -> KnownIdentity {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut KnownIdentity)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for the hook that is being called.
    pub(super) async fn turn(&self, patience: &Patience) -> Turn {
        self.hooks.take(patience).await
    }
}
