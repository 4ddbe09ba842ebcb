//! Looking after identities: who is who, merging, unlinking, forgetting.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::audit::Audit;
use super::deny_list_updates::DenyListUpdates;
use super::doctor::{self, Diagnosis};
use super::policy::{self, Statement};
use super::setup::{ServiceSetup, setup_methods};
use super::shared_store::{SharedState, SharedStore};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperProviderName, DeveloperUserId, IdentityId, IdentityPoolId, IntoId};
use crate::logins::Logins;
use crate::service::settings::{sleep_impl, time_source};
use crate::service::signed::{IdentityRow, PAGE, SignedService};

/// Looks after the identities of a pool: for support, privacy and operations. Cheap to clone.
///
/// A type of its own, so that the role that vends tokens need not be able to merge and delete:
/// [`required_iam_policy`](Self::required_iam_policy) prints what this one needs. The operations have low quotas (a few per
/// second); none belongs on the path of a sign-in.
///
/// ```no_run
/// # use cognito_identity_pool::{DeveloperUserId, IdentityAdmin, TokenVendor};
/// # async fn example(aws_config: &aws_config::SdkConfig, vendor: &TokenVendor) -> anyhow::Result<()> {
/// let admin = IdentityAdmin::builder("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd", "login.mycompany.myapp")
///     .configure(aws_config)
///     .build()?;
/// let report = admin.forget_user(&DeveloperUserId::new("user-42")?, &[vendor]).await?;
/// assert!(report.is_complete(), "{report:?}");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct IdentityAdmin {
    pub(super) service: SignedService,
    pub(super) store: SharedState,
    /// The store is one that instances share; `None` otherwise. How long until all have heard of what is written there.
    pub(super) staleness: Option<Duration>,
    account_id: Option<String>,
}

/// Builds an [`IdentityAdmin`]: see [`IdentityAdmin::builder`].
#[must_use]
pub struct IdentityAdminBuilder {
    setup: ServiceSetup,
    store: Option<Arc<dyn SharedStore>>,
    max_stale: Duration,
    account_id: Option<String>,
}

impl IdentityAdminBuilder {
    setup_methods!();

    /// The AWS account of the pool, for [`IdentityAdmin::required_iam_policy`] alone. By default the policy leaves it open.
    pub fn account_id(mut self, account_id: impl Into<String>) -> Self {
        self.account_id = Some(account_id.into());
        self
    }

    /// Where [`IdentityAdmin::forget_user`] has the vendors of all instances hold the user, and remembers how far it has come, so that
    /// another instance, or the next process, goes on from there: the store that
    /// [`TokenVendorBuilder::shared`](crate::server::TokenVendorBuilder::shared) was given. By default a
    /// [`MemorySharedStore`](crate::server::MemorySharedStore), for this process.
    pub fn shared(mut self, store: impl SharedStore + 'static) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// The longest [`DenyListUpdates::max_stale`](crate::server::DenyListUpdates::max_stale) of any vendor on the
    /// [`shared`](Self::shared) store, by default 60 s. [`IdentityAdmin::forget_user`] waits for it: less than a vendor has lets that one
    /// vend to a user who is being forgotten.
    pub fn max_stale(mut self, max_stale: Duration) -> Self {
        self.max_stale = max_stale;
        self
    }

    /// Makes the administration. No request is made.
    ///
    /// # Errors
    ///
    /// As [`TokenVendorBuilder::build`](crate::server::TokenVendorBuilder::build).
    pub fn build(self) -> Result<IdentityAdmin, Error> {
        let service = self.setup.service(None)?;
        let app = self.setup.app()?;
        let clock = Clock::new(time_source(Some(app)));
        let sleep = sleep_impl(Some(app))?;
        let staleness = DenyListUpdates::staleness(self.max_stale);
        Ok(IdentityAdmin {
            staleness: self.store.is_some().then_some(staleness),
            store: SharedState::of(self.store, service.pool(), service.provider(), &clock, sleep),
            service,
            account_id: self.account_id,
        })
    }
}

impl fmt::Debug for IdentityAdminBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityAdminBuilder")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}

/// An identity, as the service describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentityDetails {
    /// The identity.
    pub identity_id: IdentityId,
    /// The names of the providers that it has logins of. None for a guest, and for an identity that was merged into another
    /// or whose last login was removed.
    pub providers: Vec<String>,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// When it was changed last.
    pub modified: Option<SystemTime>,
}

impl From<IdentityRow> for IdentityDetails {
    fn from(row: IdentityRow) -> Self {
        let IdentityRow {
            identity_id,
            logins,
            created,
            modified,
        } = row;
        Self {
            identity_id,
            providers: logins,
            created,
            modified,
        }
    }
}

/// What [`IdentityAdmin::describe_user`] tells of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserIdentity {
    /// The user's identity.
    pub identity: IdentityDetails,
    /// All users of the app that have it, this one included: more than one after a merge.
    pub users: Vec<DeveloperUserId>,
}

/// What became of identities that were to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteReport {
    /// Those that are gone. One that did not exist counts, too.
    pub deleted: Vec<IdentityId>,
    /// Those that are not, with the service's code or the kind of error.
    pub unprocessed: Vec<(IdentityId, String)>,
}

impl IdentityAdmin {
    /// For the identity pool `pool_id`, which knows the backend as `provider_name`.
    pub fn builder(
        pool_id: impl IntoId<IdentityPoolId>,
        provider_name: impl IntoId<DeveloperProviderName>,
    ) -> IdentityAdminBuilder {
        IdentityAdminBuilder {
            setup: ServiceSetup::new(pool_id, provider_name),
            store: None,
            max_stale: DenyListUpdates::MAX_STALE,
            account_id: None,
        }
    }

    /// The identity of a user; `None` if the user has none. One is never made by asking.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAuthorized`]: the AWS credentials were refused, or may not do this. [`ErrorKind::Throttled`], and what
    /// passes: service, transport, timeout. [`ErrorKind::Configuration`]: there is no such pool.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn identity_of_user(&self, user: &DeveloperUserId) -> Result<Option<IdentityId>, Error> {
        self.service.identity_of(user).await
    }

    /// The users of the app that have an identity: more than one after a merge, none for a guest or an unknown identity.
    /// Follows the service's pages to the end.
    ///
    /// # Errors
    ///
    /// As [`identity_of_user`](Self::identity_of_user).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn users_of_identity(&self, identity_id: &IdentityId) -> Result<Vec<DeveloperUserId>, Error> {
        let mut all = Vec::new();
        let mut next = None;
        while let Some((page, following)) = self.service.users_of(identity_id, next.clone()).await? {
            all.extend(page);
            match following.filter(|token| !token.is_empty()) {
                None => break,
                following if following == next => return Err(endless("LookupDeveloperIdentity")),
                following => next = following,
            }
        }
        Ok(all)
    }

    /// Whether a user has an identity.
    ///
    /// # Errors
    ///
    /// As [`identity_of_user`](Self::identity_of_user).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn is_linked(&self, user: &DeveloperUserId, identity_id: &IdentityId) -> Result<bool, Error> {
        self.service.is_linked(user, identity_id).await
    }

    /// All that the service knows of a user: the identity, its providers, and the users that share it. A developer provider
    /// gives a user one identity at a time.
    ///
    /// # Errors
    ///
    /// As [`identity_of_user`](Self::identity_of_user).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn describe_user(&self, user: &DeveloperUserId) -> Result<Option<UserIdentity>, Error> {
        let Some(identity_id) = self.identity_of_user(user).await? else {
            return Ok(None);
        };
        let users = self.users_of_identity(&identity_id).await?;
        Ok(Some(UserIdentity {
            identity: self.describe(&identity_id).await?,
            users,
        }))
    }

    /// An identity's providers and dates.
    ///
    /// # Errors
    ///
    /// As [`identity_of_user`](Self::identity_of_user), and [`ErrorKind::IdentityNotFound`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn describe(&self, identity_id: &IdentityId) -> Result<IdentityDetails, Error> {
        self.service.describe(identity_id).await.map(IdentityDetails::from)
    }

    /// Moves the user `from`, with all logins of its identity, to the identity of `into`, and tells that identity. The one that
    /// `from` had is **disabled for good**: what the app has stored under its id has to be moved.
    ///
    /// Both have to exist. Never call it because a client asks: prove first that both users are the same person.
    ///
    /// # Errors
    ///
    /// As [`identity_of_user`](Self::identity_of_user). [`ErrorKind::Conflict`]: both have a login of the same public provider.
    /// [`ErrorKind::Configuration`]: one of them is unknown, or there would be more than 20 logins.
    ///
    /// # Cancel safety
    ///
    /// Not safe: they may be merged.
    pub async fn merge(&self, from: &DeveloperUserId, into: &DeveloperUserId) -> Result<IdentityId, Error> {
        if from == into {
            return Err(Error::new(
                ErrorKind::Configuration,
                "a user cannot be merged with itself",
            ));
        }
        let audit = Audit::of("merge").user(from).into_user(into).begin();
        let result = self.service.merge(from, into).await;
        match &result {
            Ok(identity) => audit.identity(identity).ended("ok"),
            Err(error) => audit.failed(error),
        }
        result
    }

    /// Takes a user from an identity. The next vend gives the user a new identity; an identity without any login is
    /// inaccessible for good.
    ///
    /// # Errors
    ///
    /// As [`identity_of_user`](Self::identity_of_user), and [`ErrorKind::Conflict`] or [`ErrorKind::IdentityNotFound`] if they
    /// are not linked.
    ///
    /// # Cancel safety
    ///
    /// Not safe: they may be unlinked.
    pub async fn unlink_user(&self, user: &DeveloperUserId, identity_id: &IdentityId) -> Result<(), Error> {
        // Until it has come off the identity may be anybody's, a guest's for instance.
        let audit = Audit::of("unlink_user").user(user).guest(identity_id).begin();
        let result = self.service.unlink_user(user, identity_id).await;
        match &result {
            Ok(()) => audit.identity(identity_id).ended("ok"),
            Err(error) => audit.failed(error),
        }
        result
    }

    /// Takes the logins of public providers from an identity. The service asks for proof: `proof` holds a valid token of a
    /// login that the identity has, e.g. of the very one that is to go.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAuthorized`]: the token is not of this identity, or not valid. [`ErrorKind::Configuration`]: nothing to
    /// remove, or no proof. Else as [`identity_of_user`](Self::identity_of_user).
    ///
    /// # Cancel safety
    ///
    /// Not safe: they may be unlinked.
    pub async fn unlink_external(
        &self,
        identity_id: &IdentityId,
        proof: &Logins,
        providers: &[&str],
    ) -> Result<(), Error> {
        if providers.is_empty() || proof.is_empty() {
            let what = if providers.is_empty() {
                "no provider to unlink"
            } else {
                "no login as proof"
            };
            return Err(Error::new(ErrorKind::Configuration, what));
        }
        let remove: Vec<_> = providers.iter().map(|&provider| provider.to_owned()).collect();
        let audit = Audit::of("unlink_external").guest(identity_id);
        let audit = audit.providers(providers.iter().copied()).begin();
        let result = self.service.unlink_external(identity_id, proof, &remove).await;
        match &result {
            Ok(()) => audit.identity(identity_id).ended("ok"),
            Err(error) => audit.failed(error),
        }
        result
    }

    /// Deletes identities, 60 per call, and reports what became of each. A call that fails does not stop the others.
    ///
    /// An identity that is deleted is gone for good, and credentials that it has live on for up to an hour.
    ///
    /// # Errors
    ///
    /// As [`identity_of_user`](Self::identity_of_user), if not one call went through.
    ///
    /// # Cancel safety
    ///
    /// Not safe: some may be deleted.
    pub async fn delete_identities(&self, identities: &[IdentityId]) -> Result<DeleteReport, Error> {
        let mut report = DeleteReport::default();
        let mut failure = None;
        for page in identities.chunks(PAGE) {
            let begun = page.iter().map(|id| Audit::of("delete_identity").guest(id).begin());
            let begun: Vec<_> = begun.collect();
            match self.service.delete(page).await {
                Ok(unprocessed) => {
                    for (id, audit) in page.iter().zip(begun) {
                        match unprocessed.iter().find(|(left, _)| left == id) {
                            Some((_, why)) => audit.undone(why),
                            None => {
                                audit.identity(id).ended("ok");
                                report.deleted.push(id.clone());
                            }
                        }
                    }
                    report.unprocessed.extend(unprocessed);
                }
                Err(error) => {
                    begun.into_iter().for_each(|audit| audit.failed(&error));
                    let why = short(&error);
                    report
                        .unprocessed
                        .extend(page.iter().map(|id| (id.clone(), why.clone())));
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if report.deleted.is_empty() => Err(error),
            _ => Ok(report),
        }
    }

    /// The identities of the pool, page by page.
    ///
    /// ```no_run
    /// # async fn example(admin: cognito_identity_pool::IdentityAdmin) -> Result<(), cognito_identity_pool::Error> {
    /// let mut identities = admin.identities();
    /// while let Some(page) = identities.next_page().await? {
    ///     for identity in page {
    ///         println!("{} {:?}", identity.identity_id, identity.providers);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn identities(&self) -> IdentityPages {
        IdentityPages {
            service: self.service.clone(),
            size: 60,
            hide_disabled: false,
            next: Next::First,
        }
    }

    /// Examines the pool by the identity-pool API: whether it exists and knows the backend by this name, its roles, the
    /// classic flow, guests. What could not be examined is a finding.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn doctor(&self) -> Diagnosis {
        doctor::examine(&self.service).await
    }

    /// The least that the administrator's role has to be allowed, as a JSON policy document: every operation of this type.
    /// `UnlinkIdentity`, which [`unlink_external`](Self::unlink_external) calls, is not signed.
    pub fn required_iam_policy(&self) -> String {
        let statements = [
            Statement {
                sid: "AdministerIdentities",
                actions: &[
                    "LookupDeveloperIdentity",
                    "MergeDeveloperIdentities",
                    "UnlinkDeveloperIdentity",
                    "ListIdentities",
                ],
                on_pool: true,
            },
            Statement {
                sid: "DescribeAndDeleteIdentities",
                actions: &["DescribeIdentity", "DeleteIdentities"],
                on_pool: false,
            },
            Statement {
                sid: "Doctor",
                actions: &["DescribeIdentityPool", "GetIdentityPoolRoles"],
                on_pool: true,
            },
        ];
        policy::document(self.service.pool(), self.account_id.as_deref(), &statements)
    }
}

/// A failure in a word, for a report.
pub(super) fn short(error: &Error) -> String {
    error
        .code()
        .map_or_else(|| format!("{:?}", error.kind()), str::to_owned)
}

/// Where [`IdentityPages`] stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    First,
    At(String),
    Done,
}

/// The identities of a pool, page by page: see [`IdentityAdmin::identities`].
#[derive(Debug, Clone)]
#[must_use]
pub struct IdentityPages {
    service: SignedService,
    size: u8,
    hide_disabled: bool,
    next: Next,
}

impl IdentityPages {
    /// How many identities make a page: 1..=60 (`QueryLimit` in the API reference), by default 60.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] outside of that range.
    pub fn page_size(mut self, size: u8) -> Result<Self, Error> {
        if !(1..=60).contains(&size) {
            let message = format!("pages of {size} identities: must be 1 to 60");
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        self.size = size;
        Ok(self)
    }

    /// Whether identities that were merged into others are left out. By default they are shown.
    pub fn hide_disabled(mut self, hide: bool) -> Self {
        self.hide_disabled = hide;
        self
    }

    /// The next page, which may be empty; `None` after the last.
    ///
    /// # Errors
    ///
    /// As [`IdentityAdmin::identity_of_user`]. The same page can be asked for again.
    ///
    /// # Cancel safety
    ///
    /// Safe: a page that was not returned comes again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<IdentityDetails>>, Error> {
        let at = match &self.next {
            Next::First => None,
            Next::At(token) => Some(token.clone()),
            Next::Done => return Ok(None),
        };
        let (rows, following) = self.service.list(self.size, self.hide_disabled, at.clone()).await?;
        self.next = match following.filter(|token| !token.is_empty()) {
            None => Next::Done,
            following if following == at => return Err(endless("ListIdentities")),
            Some(token) => Next::At(token),
        };
        Ok(Some(rows.into_iter().map(IdentityDetails::from).collect()))
    }
}

fn endless(operation: &'static str) -> Error {
    Error::new(
        ErrorKind::InvalidResponse,
        format!("{operation} returned the same page token twice"),
    )
}

#[cfg(test)]
mod tests;
