//! [`IdentityAdmin::forget_user`]: a user and the user's identity are taken down, step by step, so that it can be cut off anywhere and
//! gone on with.
//!
//! The order is what makes it safe. Everything that vends is held, and what was sent before is waited for, so that nothing lands
//! afterwards. The identities are written into the journal, and into the audit trail, before the first change: once the user is
//! unlinked, nothing else leads to them. A lost answer is no reason to stop: what is not linked any more counts as unlinked, what does
//! not exist as deleted. At the end the user is looked up again, because somebody who was not told may have vended meanwhile.

use std::time::Duration;

use super::admin::{DeleteReport, IdentityAdmin, short};
use super::audit::Audit;
use super::linking::VendorHold;
use super::shared_store::EntryKind;
use super::vending::TokenVendor;
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperUserId, IdentityId};

/// A journal that nobody goes on with ends after this.
const JOURNAL: Duration = Duration::from_secs(90 * 24 * 3_600);

/// How often the user is looked up again for an identity that was made meanwhile.
const ROUNDS: usize = 3;

/// What [`IdentityAdmin::forget_user`] did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ForgetReport {
    /// The identity that the user had; `None` if there was none to forget.
    pub identity_id: Option<IdentityId>,
    /// The users that were unlinked from it: the user, and those that had been merged with it.
    pub unlinked: Vec<DeveloperUserId>,
    /// What became of the identity, and of any other that the user was given while it was being forgotten or in an earlier attempt.
    pub identities: DeleteReport,
    /// What has kept it from being completed.
    pub failure: Option<Error>,
}

impl ForgetReport {
    /// Whether nothing is left. If not, make the same call again: it goes on from here. What is left is in
    /// [`identities`](Self::identities) as unprocessed.
    pub fn is_complete(&self) -> bool {
        self.identities.unprocessed.is_empty() && self.failure.is_none()
    }
}

impl IdentityAdmin {
    /// Forgets a user: ends what `vendors`, and what stands on them, keep of the user; unlinks the user and the users that were
    /// merged with it; deletes the identity. While this goes on, those vendors refuse the user, and what was begun before it never
    /// lands.
    ///
    /// It can be cut off anywhere, and made again: which identities it works on is remembered, in this process or in the store that
    /// [`shared`](crate::server::IdentityAdminBuilder::shared) was given, and stands in the audit trail before the first change.
    /// If a process ends in the middle and there is no shared store, pass what the trail names to
    /// [`delete_identities`](Self::delete_identities).
    ///
    /// Processes that are not named here may vend to the user again, who then gets a new, empty identity: end the user's
    /// account in the app first, and use [`TokenVendor::deny`] where it may still be signed in. Credentials that are out live
    /// for up to an hour. What the app has stored under the identity's id is the app's to delete; the report names the id.
    ///
    /// # Errors
    ///
    /// As [`identity_of_user`](Self::identity_of_user), and [`ErrorKind::Store`], if not even the user's identity could be found out:
    /// nothing was changed then. Whatever fails later is in the report, together with what is left.
    ///
    /// # Cancel safety
    ///
    /// Some of it may be done. The same call again goes on.
    pub async fn forget_user(&self, user: &DeveloperUserId, vendors: &[&TokenVendor]) -> Result<ForgetReport, Error> {
        let mut forgetting = Forgetting {
            admin: self,
            vendors,
            holds: Vec::new(),
            report: ForgetReport::default(),
        };
        forgetting.hold(user).await;
        let mut pending = match forgetting.pending(user).await {
            Ok(pending) => pending,
            Err(error) => {
                Audit::of("forget_user").user(user).failed(&error);
                return Err(error);
            }
        };
        if pending.is_empty() {
            Audit::of("forget_user").user(user).ended("ok");
        }
        for _ in 0..ROUNDS {
            let Some(first) = pending.first() else { break };
            forgetting.report.identity_id.get_or_insert_with(|| first.clone());
            if !forgetting.take_down(user, &pending).await {
                break;
            }
            pending = match self.identity_of_user(user).await {
                Ok(again) => again.into_iter().collect(),
                Err(error) => {
                    forgetting.report.failure = Some(error);
                    break;
                }
            };
        }
        let left = pending.iter().filter(|_| forgetting.report.is_complete());
        let left: Vec<_> = left.map(|id| (id.clone(), "made again and again".to_owned())).collect();
        forgetting.report.identities.unprocessed.extend(left);
        if forgetting.report.is_complete()
            && let Err(error) = self.store.remove(EntryKind::Forget, user.as_str()).await
        {
            // The next call finds identities that do not exist any more, and deletes them again.
            tracing::warn!(?error, "the journal of a user who was forgotten could not be removed");
        }
        Ok(forgetting.report)
    }
}

struct Forgetting<'a> {
    admin: &'a IdentityAdmin,
    vendors: &'a [&'a TokenVendor],
    holds: Vec<VendorHold>,
    report: ForgetReport,
}

impl Forgetting<'_> {
    /// Holds a user everywhere, and waits for what was sent before.
    async fn hold(&mut self, user: &DeveloperUserId) {
        let before = self.holds.len();
        self.holds.extend(self.vendors.iter().map(|vendor| vendor.hold(user)));
        for hold in &self.holds[before..] {
            hold.drained().await;
        }
    }

    /// The identities that are to go: those of earlier attempts, and the one that the user has. They are in the journal when this
    /// returns.
    async fn pending(&self, user: &DeveloperUserId) -> Result<Vec<IdentityId>, Error> {
        let store = &self.admin.store;
        let journal = store.get::<Vec<IdentityId>>(EntryKind::Forget, user.as_str()).await?;
        let mut pending = journal.unwrap_or_default();
        if let Some(identity) = self.admin.identity_of_user(user).await?
            && !pending.contains(&identity)
        {
            pending.push(identity);
        }
        if !pending.is_empty() {
            self.write_journal(user, &pending).await?;
        }
        Ok(pending)
    }

    async fn write_journal(&self, user: &DeveloperUserId, pending: &[IdentityId]) -> Result<(), Error> {
        let pending = pending.to_vec();
        let store = &self.admin.store;
        store.put(EntryKind::Forget, user.as_str(), &pending, JOURNAL).await
    }

    /// Takes down identities of a user. `false` if something is left.
    async fn take_down(&mut self, user: &DeveloperUserId, identities: &[IdentityId]) -> bool {
        if let Err(error) = self.write_journal(user, identities).await {
            self.report.failure = Some(error);
        }
        for identity in identities {
            let audit = Audit::of("forget_user").user(user).identity(identity).begin();
            if self.report.failure.is_none()
                && let Err(error) = self.unlink_all(user, identity).await
            {
                self.report.failure = Some(error);
            }
            if let Some(failure) = &self.report.failure {
                audit.failed(failure);
                self.report
                    .identities
                    .unprocessed
                    .push((identity.clone(), short(failure)));
                continue;
            }
            match self.admin.delete_identities(std::slice::from_ref(identity)).await {
                Ok(deleted) => {
                    audit.ended(if deleted.unprocessed.is_empty() {
                        "ok"
                    } else {
                        "incomplete"
                    });
                    self.report.identities.deleted.extend(deleted.deleted);
                    self.report.identities.unprocessed.extend(deleted.unprocessed);
                }
                Err(error) => {
                    audit.failed(&error);
                    self.report
                        .identities
                        .unprocessed
                        .push((identity.clone(), short(&error)));
                    self.report.failure = Some(error);
                }
            }
        }
        self.report.is_complete()
    }

    /// Unlinks all users of an identity, the forgotten one last: until then it leads to the identity, should anything fail.
    async fn unlink_all(&mut self, user: &DeveloperUserId, identity: &IdentityId) -> Result<(), Error> {
        let mut users = self.admin.users_of_identity(identity).await?;
        users.sort_by_key(|other| other == user);
        for other in users.iter().filter(|other| *other != user) {
            self.hold(other).await;
        }
        for other in users {
            match self.admin.unlink_user(&other, identity).await {
                Ok(()) => {}
                // Not linked any more: an answer was lost, or somebody else was faster.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::IdentityNotFound) => {
                    if self.admin.is_linked(&other, identity).await? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            self.report.unlinked.push(other);
        }
        Ok(())
    }
}
