//! [`Login`]: how the app is signed in.

use std::fmt;
use std::sync::Arc;

use crate::developer::DeveloperIdentityProvider;
use crate::ids::IdentityId;
use crate::logins::LoginsProvider;

/// How the app is signed in: what [`CognitoCredentialsProvider::switch_to`](crate::CognitoCredentialsProvider::switch_to) takes.
///
/// ```
/// # use cognito_identity_pool::{DeveloperIdentity, Login, Logins};
/// # fn example(backend: DeveloperIdentity) -> Result<(), cognito_identity_pool::Error> {
/// let guest = Login::guest();
/// let user = Login::developer(backend).subject("user-42");
/// let social = Login::external(Logins::new().google("the-ID-token")?);
/// let nobody = Login::signed_out();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Login {
    pub(super) who: Who,
    pub(super) subject: Option<Arc<str>>,
    pub(super) custom_role_arn: Option<Arc<str>>,
    pub(super) account_id: Option<Arc<str>>,
    pub(super) identity_id: Option<IdentityId>,
}

#[derive(Clone)]
pub(super) enum Who {
    SignedOut,
    Guest,
    Developer {
        backend: Arc<dyn DeveloperIdentityProvider>,
        external: Option<Arc<dyn LoginsProvider>>,
    },
    External(Arc<dyn LoginsProvider>),
    Decided(Arc<dyn Fn() -> Login + Send + Sync>),
}

impl Login {
    fn new(who: Who) -> Self {
        Self {
            who,
            subject: None,
            custom_role_arn: None,
            account_id: None,
            identity_id: None,
        }
    }

    /// Nobody: requests fail with [`ErrorKind::SignedOut`](crate::ErrorKind::SignedOut). A provider starts like this.
    pub fn signed_out() -> Self {
        Self::new(Who::SignedOut)
    }

    /// A guest, if the pool allows guests. The guest of this device is remembered across sign-in and sign-out until it is
    /// linked to a user.
    pub fn guest() -> Self {
        Self::new(Who::Guest)
    }

    /// A user of the app's own backend, which is asked for a Cognito token.
    pub fn developer(backend: impl DeveloperIdentityProvider + 'static) -> Self {
        Self::new(Who::Developer {
            backend: Arc::new(backend),
            external: None,
        })
    }

    /// A user who is signed in with public providers: their tokens ([`Logins`](crate::Logins)), or who supplies them.
    pub fn external(logins: impl LoginsProvider + 'static) -> Self {
        Self::new(Who::External(Arc::new(logins)))
    }

    /// The app decides anew each time, as with iOS's `logins`: `decide` is asked whenever the session has no fresh credentials,
    /// never for a hit, and an answer that means somebody else is a switch.
    ///
    /// Two answers mean the same login if they are of the same kind and have the same [`subject`](Self::subject); without
    /// one, if they hold the very same provider (clones of one `Login`).
    ///
    /// ```
    /// # use cognito_identity_pool::{DeveloperIdentity, Login};
    /// # fn example(backend: DeveloperIdentity, signed_in: impl Fn() -> bool + Send + Sync + 'static) {
    /// let user = Login::developer(backend).subject("user-42");
    /// let login = Login::decided_by(move || if signed_in() { user.clone() } else { Login::guest() });
    /// # }
    /// ```
    pub fn decided_by(decide: impl Fn() -> Self + Send + Sync + 'static) -> Self {
        Self::new(Who::Decided(Arc::new(decide)))
    }

    /// Names the person, by what the app knows them under. It is hashed before it is stored; the identity id of a person with
    /// a name is remembered in the [`IdentityStore`](crate::store::IdentityStore), without one it is kept in memory only. A blank name
    /// tells nobody apart, and counts as none.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        let subject: String = subject.into();
        self.subject = (!subject.trim().is_empty()).then(|| subject.into());
        self
    }

    /// For a developer login: the public providers whose logins are to be linked to the user. Their tokens go to the backend in
    /// the [`RefreshRequest`](crate::RefreshRequest), since linking happens there. Ignored for other logins.
    #[must_use]
    pub fn with_external(mut self, logins: impl LoginsProvider + 'static) -> Self {
        if let Who::Developer { external, .. } = &mut self.who {
            *external = Some(Arc::new(logins));
        }
        self
    }

    /// The role to ask for, among those that the pool's role mappings allow (`CustomRoleArn` in the API reference).
    /// Not for developer logins, whose role the pool alone decides. In the classic flow ([`Flow`](crate::client::Flow)) it is the role to
    /// assume, for every kind of login.
    #[must_use]
    pub fn custom_role_arn(mut self, arn: impl Into<String>) -> Self {
        self.custom_role_arn = Some(arn.into().into());
        self
    }

    /// The AWS account of the pool (`AccountId` in the API reference), which `GetId` takes.
    #[must_use]
    pub fn account_id(mut self, account_id: impl Into<String>) -> Self {
        self.account_id = Some(account_id.into().into());
        self
    }

    /// A fixed identity id, which the app knows already, for guests and external logins: `GetId` is never called, the guest of this
    /// device is neither shown nor changed, and an identity that is gone is an error. A developer's identity comes from the backend
    /// alone; there it is ignored.
    ///
    /// ```
    /// # use cognito_identity_pool::{IdentityId, Login};
    /// let id = IdentityId::new("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d")?;
    /// let login = Login::guest().identity_id(id);
    /// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
    /// ```
    #[must_use]
    pub fn identity_id(mut self, identity_id: IdentityId) -> Self {
        self.identity_id = Some(identity_id);
        self
    }

    /// The fixed identity id, where the kind of login has one.
    pub(super) fn fixed_identity(&self) -> Option<&IdentityId> {
        let takes_it = matches!(self.who, Who::Guest | Who::External(_));
        self.identity_id.as_ref().filter(|_| takes_it)
    }

    /// Whether the two mean the same person, signed in the same way.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let same_subject = self.subject.is_some() && self.subject == other.subject;
        let same_options = self.subject == other.subject
            && self.custom_role_arn == other.custom_role_arn
            && self.account_id == other.account_id
            && self.identity_id == other.identity_id;
        same_options
            && match (&self.who, &other.who) {
                (Who::SignedOut, Who::SignedOut) | (Who::Guest, Who::Guest) | (Who::Decided(_), Who::Decided(_)) => {
                    true
                }
                (Who::Developer { backend: a, .. }, Who::Developer { backend: b, .. }) => {
                    same_subject || Arc::ptr_eq(a, b)
                }
                (Who::External(a), Who::External(b)) => same_subject || Arc::ptr_eq(a, b),
                _ => false,
            }
    }

    pub(super) fn is_signed_out(&self) -> bool {
        matches!(self.who, Who::SignedOut)
    }

    pub(super) fn is_guest(&self) -> bool {
        matches!(self.who, Who::Guest)
    }

    /// Whether it is somebody's, with an identity that is not a guest's.
    pub(super) fn is_user(&self) -> bool {
        matches!(self.who, Who::Developer { .. } | Who::External(_))
    }
}

impl fmt::Debug for Login {
    /// Neither tokens nor the app's own values, nor who it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match &self.who {
            Who::SignedOut => "signed out",
            Who::Guest => "guest",
            Who::Developer { external: None, .. } => "developer",
            Who::Developer { external: Some(_), .. } => "developer and external",
            Who::External(_) => "external",
            Who::Decided(_) => "decided by a closure",
        };
        f.debug_tuple("Login").field(&who).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::developer::developer_fn;
    use crate::error::BackendError;

    fn backend() -> Login {
        Login::developer(developer_fn(async |_| Err(BackendError::signed_out())))
    }

    #[test]
    fn a_login_is_the_same_by_subject_or_by_its_very_provider() {
        let alice = backend().subject("alice");
        assert!(alice.is_same_as(&backend().subject("alice")));
        assert!(!alice.is_same_as(&backend().subject("bob")));
        assert!(!alice.is_same_as(&backend()));
        let nameless = backend();
        assert!(nameless.is_same_as(&nameless.clone()));
        assert!(!nameless.is_same_as(&backend()));
        assert!(Login::guest().is_same_as(&Login::guest()));
        assert!(!Login::guest().is_same_as(&Login::signed_out()));
        assert!(!backend().subject(" ").is_same_as(&backend().subject(" ")));
        assert!(!alice.is_same_as(&alice.clone().custom_role_arn("arn:aws:iam::123456789012:role/other")));
    }

    #[test]
    fn debug_does_not_tell_who_it_is() {
        assert!(!format!("{:?}", backend().subject("alice")).contains("alice"));
    }
}
