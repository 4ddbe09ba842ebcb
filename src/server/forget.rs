//! [`IdentityAdmin::forget_user`]: a user and the user's identity are taken down, step by step, so that it can be cut off anywhere and
//! gone on with.
//!
//! The order is what makes it safe. Everything that vends is held, and what was sent before is waited for, so that nothing lands
//! afterwards. The identities are written into the journal, and into the audit trail, before the first change: once the user is
//! unlinked, nothing else leads to them. A lost answer is no reason to stop: what is not linked any more counts as unlinked, what does
//! not exist as deleted. At the end the user is looked up again, because somebody who was not told may have vended meanwhile.
//!
//! Where instances share a store, the hold is written there, and nothing is taken down before every instance has read it or vends
//! nothing until it does ([`shared_deny_list`](super::shared_deny_list)). At the end the journal goes before the hold: whoever works on
//! the same user at the same time finds no journal any more by when the user can have a new identity, and leaves that one alone.

use std::time::Duration;

use aws_smithy_async::rt::sleep::AsyncSleep;
use serde::{Deserialize, Serialize};

use super::admin::{DeleteReport, IdentityAdmin, short};
use super::audit::Audit;
use super::deny_entry::{DenyEntry, FORGOTTEN_FOR, Standing};
use super::deny_list::ON_ITS_WAY;
use super::linking::VendorHold;
use super::shared_store::EntryKind;
use super::vending::TokenVendor;
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperUserId, IdentityId};

/// A journal that nobody goes on with ends after this.
const JOURNAL: Duration = Duration::from_secs(90 * 24 * 3_600);

/// While nothing has been changed, a hold that nobody goes on with ends so soon after the wait.
const SPARE: Duration = Duration::from_secs(15 * 60);

/// How far a forgetting has come, as it stands in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Journal {
    /// So that another instance can go on, which knows hashes alone.
    user: DeveloperUserId,
    step: Step,
    /// What is to go.
    identities: Vec<IdentityId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// Instances are being told. Nothing has been changed.
    Telling,
    /// All know, or vend nothing until they do.
    TakingDown,
}

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
    /// It can be cut off anywhere, and made again: which identities it works on is remembered, in this process or in the
    /// [shared](crate::server::IdentityAdminBuilder::shared) store, and stands in the audit trail before the first change.
    ///
    /// **With a shared store** the vendors of all instances refuse the user from the moment that this is called until it is complete.
    /// Before the first change it waits until each has heard of it, or vends nothing to anybody until it has: 17 s longer than
    /// [`max_stale`](crate::server::IdentityAdminBuilder::max_stale), 77 s unless set otherwise. An instance that was cut off from the
    /// store all the while drops what it has kept of the user when it is back, if that is within 25 hours, and everything otherwise.
    /// If this process ends, any other goes on: [`unfinished_forgets`](Self::unfinished_forgets) names the users. What a machine was
    /// about to send at the moment at which it was suspended it may send when it wakes up: look the user up once more where
    /// that happens.
    ///
    /// **Without one**, processes that are not named here may vend to the user again, who then gets a new, empty identity, and if this
    /// process ends in the middle, pass what the trail names to [`delete_identities`](Self::delete_identities).
    ///
    /// End the user's account in the app first: whoever signs in afterwards gets a new identity. Credentials that are out live for
    /// up to an hour. What the app has stored under the identity's id is the app's to delete; the report names the id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`]: the shared store is down; nothing was changed. [`ErrorKind::Configuration`]: a vendor shares a store and
    /// this administration does not. As [`identity_of_user`](Self::identity_of_user), if not even the user's identity could be found
    /// out: nothing was changed then, either. Whatever fails later is in the report, together with what is left; until the same call is
    /// complete the instances refuse the user.
    ///
    /// # Cancel safety
    ///
    /// Some of it may be done. The same call again goes on.
    pub async fn forget_user(&self, user: &DeveloperUserId, vendors: &[&TokenVendor]) -> Result<ForgetReport, Error> {
        if self.staleness.is_none() && vendors.iter().any(|vendor| vendor.inner.deny_list.shared().is_some()) {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the vendors share a store with other instances, and the administration does not",
            )
            .with_hint("give `IdentityAdmin::builder(…).shared(…)` the store of `TokenVendor::builder(…).shared(…)`"));
        }
        let mut forgetting = Forgetting {
            admin: self,
            vendors,
            holds: Vec::new(),
            held_too: Vec::new(),
            report: ForgetReport::default(),
        };
        forgetting.hold(user).await;
        let mut pending = match forgetting.begin(user).await {
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
            pending = match forgetting.made_meanwhile(user).await {
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
            && let Err(error) = forgetting.end(user).await
        {
            forgetting.report.failure = Some(error);
        }
        Ok(forgetting.report)
    }

    /// The users whose forgetting was begun, by whichever instance, and is not complete: pass each to
    /// [`forget_user`](Self::forget_user), at the start of a process and from time to time. One that another instance is working on right
    /// now is among them; to go on with it from here does no harm.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`]: the shared store failed.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn unfinished_forgets(&self) -> Result<Vec<DeveloperUserId>, Error> {
        let journals = self.store.list::<Journal>(EntryKind::Forget).await?;
        Ok(journals.into_iter().map(|(_, journal)| journal.user).collect())
    }
}

struct Forgetting<'a> {
    admin: &'a IdentityAdmin,
    vendors: &'a [&'a TokenVendor],
    holds: Vec<VendorHold>,
    /// Others who have the same identity, and are held in all instances.
    held_too: Vec<DeveloperUserId>,
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

    /// Has all instances hold the user. The identities that are to go: those of earlier attempts, and the one that the user has. They
    /// are in the journal when this returns.
    async fn begin(&self, user: &DeveloperUserId) -> Result<Vec<IdentityId>, Error> {
        let journal = self.journal(user).await?;
        if let Some(staleness) = self.admin.staleness
            && journal.as_ref().is_none_or(|journal| journal.step == Step::Telling)
        {
            self.write_journal(user, Step::Telling, &[]).await?;
            let wait = staleness.saturating_add(ON_ITS_WAY);
            self.write_standing(user, Standing::Held, wait.saturating_add(SPARE))
                .await?;
            self.admin.store.sleeper().sleep(wait).await;
        }
        let mut pending = journal.map(|journal| journal.identities).unwrap_or_default();
        if let Some(identity) = self.admin.identity_of_user(user).await?
            && !pending.contains(&identity)
        {
            pending.push(identity);
        }
        if !pending.is_empty() {
            if self.admin.staleness.is_some() {
                self.write_standing(user, Standing::Held, JOURNAL).await?;
            }
            self.write_journal(user, Step::TakingDown, &pending).await?;
        }
        Ok(pending)
    }

    /// An identity that the user got although it was being forgotten. None if somebody else has completed it by now: the user may
    /// have signed in again since.
    async fn made_meanwhile(&self, user: &DeveloperUserId) -> Result<Option<IdentityId>, Error> {
        let Some(identity) = self.admin.identity_of_user(user).await? else {
            return Ok(None);
        };
        Ok(self.journal(user).await?.map(|_| identity))
    }

    /// Lets everybody serve the user again, if the app does, and has all drop what is left of before.
    async fn end(&self, user: &DeveloperUserId) -> Result<(), Error> {
        self.admin.store.remove(EntryKind::Forget, user.as_str()).await?;
        if self.admin.staleness.is_none() {
            return Ok(());
        }
        for user in self.held_too.iter().chain([user]) {
            let entry = self.write_standing(user, Standing::Forgotten, FORGOTTEN_FOR).await?;
            for vendor in self.vendors {
                if let Some(shared) = vendor.inner.deny_list.shared() {
                    shared.forgotten(user, entry.clone());
                }
            }
        }
        Ok(())
    }

    async fn journal(&self, user: &DeveloperUserId) -> Result<Option<Journal>, Error> {
        self.admin.store.get(EntryKind::Forget, user.as_str()).await
    }

    async fn write_journal(&self, user: &DeveloperUserId, step: Step, identities: &[IdentityId]) -> Result<(), Error> {
        let journal = Journal {
            user: user.clone(),
            step,
            identities: identities.to_vec(),
        };
        let store = &self.admin.store;
        store.put(EntryKind::Forget, user.as_str(), &journal, JOURNAL).await
    }

    async fn write_standing(
        &self,
        user: &DeveloperUserId,
        standing: Standing,
        ttl: Duration,
    ) -> Result<DenyEntry, Error> {
        let entry = DenyEntry::new(user, standing, self.admin.store.now());
        self.admin
            .store
            .put(EntryKind::Held, user.as_str(), &entry, ttl)
            .await?;
        Ok(entry)
    }

    /// Takes down identities of a user. `false` if something is left.
    async fn take_down(&mut self, user: &DeveloperUserId, identities: &[IdentityId]) -> bool {
        if let Err(error) = self.write_journal(user, Step::TakingDown, identities).await {
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
        let others = || users.iter().filter(|other| *other != user);
        for other in others() {
            self.hold(other).await;
        }
        if let Some(staleness) = self.admin.staleness
            && others().next().is_some()
        {
            let wait = staleness.saturating_add(ON_ITS_WAY);
            for other in others() {
                self.write_standing(other, Standing::Held, wait.saturating_add(SPARE))
                    .await?;
                self.held_too.push(other.clone());
            }
            self.admin.store.sleeper().sleep(wait).await;
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
