//! [`Login`]: how the app is signed in.

use std::fmt;
use std::sync::Arc;

use super::login_subjects::LoginSubjects;
use crate::developer::DeveloperIdentityProvider;
use crate::ids::IdentityId;
use crate::logins::{Key, LoginsProvider};

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
    /// Which of them it is, for those who count.
    pub(super) fn kind(&self) -> &'static str {
        match self.who {
            Who::SignedOut => "signed_out",
            Who::Guest => "guest",
            Who::Developer { .. } => "developer",
            Who::External(_) => "external",
            Who::Decided(_) => "undecided",
        }
    }
}

/// Whether two logins mean the same person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sameness {
    Same,
    Different,
    /// Both are without a subject, and the newer was made for this answer alone.
    Unknown,
}

fn compare_keys(in_force: &Key, answer: &Key) -> Sameness {
    let same = match (in_force, answer) {
        (Key::Logins(a), Key::Logins(b)) => {
            a.is_same_as(b) || LoginSubjects::of_logins(a).is_surely(&LoginSubjects::of_logins(b))
        }
        (Key::Identity(a, _), Key::Identity(b, _)) => a == b,
        (Key::Pointer { address: a, .. }, Key::Pointer { address: b, kept }) => {
            if a != b && !kept {
                return Sameness::Unknown;
            }
            a == b
        }
        (Key::None, Key::None) => return Sameness::Unknown,
        _ => false,
    };
    if same { Sameness::Same } else { Sameness::Different }
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

    /// The app decides anew each time, as with iOS's `logins`: `decide` is asked before credentials are loaded or refreshed, once
    /// for all who wait, and for each request while nobody is signed in; never for credentials that are in the cache. It runs
    /// under no lock, but must not block: those who wait for credentials wait for it.
    ///
    /// An answer that means somebody else is a switch, with which those who wait go on. An answer that means the same person is
    /// none: its tokens, or its backend, are the ones that are used from then on. Two answers mean the same person
    ///
    /// - if they are of the same kind and have the same [`subject`](Self::subject): name your users, and make the login anew as
    ///   often as you like;
    /// - without a subject, if they hold the very same provider (clones of one `Login`, or of one `Arc`), or the same content: a
    ///   [`DeveloperIdentity`](crate::DeveloperIdentity) of the same identity, [`Logins`](crate::Logins) with the same tokens or
    ///   with tokens of the same subject.
    ///
    /// Where that cannot be told, because there is no subject and the provider was made for this answer, and if `decide` panics,
    /// the login stays as it is, and [`EventKind::LoginUndecided`](crate::client::EventKind::LoginUndecided) says so.
    ///
    /// After [`clear_credentials`](crate::CognitoCredentialsProvider::clear_credentials), or a switch, earlier questions are void,
    /// and `decide` is asked again.
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

    /// Whether `answer` means the same person, signed in the same way.
    pub(super) fn compare(&self, answer: &Self) -> Sameness {
        let options = |login: &Self| {
            (
                login.custom_role_arn.clone(),
                login.account_id.clone(),
                login.identity_id.clone(),
            )
        };
        if options(self) != options(answer) {
            return Sameness::Different;
        }
        let (same_pointer, answer_is_kept) = match (&self.who, &answer.who) {
            (Who::SignedOut, Who::SignedOut) | (Who::Guest, Who::Guest) => return Sameness::Same,
            (Who::Developer { backend: a, .. }, Who::Developer { backend: b, .. }) => {
                (Arc::ptr_eq(a, b), Arc::strong_count(b) > 1)
            }
            (Who::External(a), Who::External(b)) => (Arc::ptr_eq(a, b), Arc::strong_count(b) > 1),
            _ => return Sameness::Different,
        };
        match (&self.subject, &answer.subject) {
            (Some(a), Some(b)) if a == b => Sameness::Same,
            (None, None) if same_pointer => Sameness::Same,
            (None, None) => match compare_keys(&self.key(), &answer.key()) {
                // The app has it elsewhere, too, so it is not one that was made for this answer: it is somebody else's.
                Sameness::Unknown if answer_is_kept => Sameness::Different,
                sameness => sameness,
            },
            _ => Sameness::Different,
        }
    }

    fn key(&self) -> Key {
        match &self.who {
            Who::Developer { backend, .. } => backend.key().0,
            Who::External(logins) => logins.key().0,
            Who::SignedOut | Who::Guest | Who::Decided(_) => Key::None,
        }
    }

    /// Whether it has other tokens than `older`, as far as tokens are part of the login itself.
    pub(super) fn has_other_tokens_than(&self, older: &Self) -> bool {
        match (self.key(), older.key()) {
            (Key::Logins(new), Key::Logins(old)) => !new.is_same_as(&old),
            (Key::Identity(_, new), Key::Identity(_, old)) => new.expose_secret() != old.expose_secret(),
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
        use Sameness::{Different, Same, Unknown};
        let alice = backend().subject("alice");
        assert_eq!(alice.compare(&backend().subject("alice")), Same);
        assert_eq!(alice.compare(&backend().subject("bob")), Different);
        assert_eq!(alice.compare(&backend()), Different);
        let nameless = backend();
        assert_eq!(nameless.compare(&nameless.clone()), Same);
        // Made for this answer alone, or kept by the app.
        assert_eq!(nameless.compare(&backend()), Unknown);
        let kept = backend();
        assert_eq!(nameless.compare(&kept.clone()), Different);
        assert_eq!(Login::guest().compare(&Login::guest()), Same);
        assert_eq!(Login::guest().compare(&Login::signed_out()), Different);
        assert_eq!(Login::guest().compare(&nameless), Different);
        let other_role = alice.clone().custom_role_arn("arn:aws:iam::123456789012:role/other");
        assert_eq!(alice.compare(&other_role), Different);
    }

    #[test]
    fn a_backend_behind_an_arc_is_the_same_in_every_login() {
        use Sameness::{Different, Same, Unknown};
        let backend = || Arc::new(developer_fn(async |_| Err(BackendError::signed_out())));
        let (alice, bob) = (backend(), backend());
        let in_force = Login::developer(Arc::clone(&alice));
        assert_eq!(in_force.compare(&Login::developer(Arc::clone(&alice))), Same);
        assert_eq!(in_force.compare(&Login::developer(Arc::clone(&bob))), Different);
        assert_eq!(in_force.compare(&Login::developer(backend())), Unknown);
    }

    #[test]
    fn logins_of_one_person_are_the_same_with_newer_tokens() {
        use Sameness::{Different, Same};
        let token = |sub: &str, nonce: u32| {
            let claims = format!(r#"{{"sub":"{sub}","nonce":{nonce}}}"#);
            format!("e30.{}.c2ln", base64_simd::URL_SAFE_NO_PAD.encode_to_string(claims))
        };
        let google = |token: String| Login::external(crate::Logins::new().google(token).unwrap());
        let alice = google(token("alice", 1));
        let again = google(token("alice", 1));
        assert_eq!(alice.compare(&again), Same);
        assert!(!again.has_other_tokens_than(&alice));
        let newer = google(token("alice", 2));
        assert_eq!(alice.compare(&newer), Same);
        assert!(newer.has_other_tokens_than(&alice));
        assert_eq!(alice.compare(&google(token("bob", 1))), Different);
        // Who cannot be read may be anybody.
        assert_eq!(google("opaque-1".into()).compare(&google("opaque-2".into())), Different);
        assert_eq!(google("opaque-1".into()).compare(&google("opaque-1".into())), Same);
    }

    #[test]
    fn debug_does_not_tell_who_it_is() {
        assert!(!format!("{:?}", backend().subject("alice")).contains("alice"));
    }
}
