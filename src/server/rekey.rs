//! [`IdentityAdmin::rekey`]: users keep their identities under pseudonyms of another key.
//!
//! Cognito cannot rename a user. So the new pseudonym is vended to, which makes an identity for it, and merged into the old one, which
//! disables that identity and leaves the old one with both. What was made in between is in the journal first: after an end in the
//! middle it is merged, while an identity that the user came by otherwise is never touched.

use std::time::Duration;

use super::admin::IdentityAdmin;
use super::audit::Audit;
use super::rate_limit::Lane;
use super::shared_store::EntryKind;
use super::user_ids::UserIds;
use super::vending::{Ask, TokenVendor};
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperUserId, IdentityId};

/// A journal that nobody goes on with ends after this.
const JOURNAL: Duration = Duration::from_secs(90 * 24 * 3_600);

/// How long a request waits for its turn: nobody is waiting for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What [`IdentityAdmin::rekey`] did, or would do.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RekeyReport {
    /// Identities that the new pseudonym leads to now, as well as the old one. After a dry run those that it would lead to.
    pub moved: Vec<IdentityId>,
    /// How many had been moved before.
    pub moved_before: usize,
    /// How many users have no identity under the old pseudonym: there is nothing to move.
    pub unknown: usize,
    /// Users who have an identity under each pseudonym: the old one and the new one. Nothing was changed; where the two have data, only
    /// the app can say what becomes of them. [`IdentityAdmin::merge`] of the new pseudonym into the old one disables the new identity.
    pub conflicts: Vec<(DeveloperUserId, DeveloperUserId)>,
    /// Users, by their old pseudonym, with whom it failed. The same call again goes on.
    pub failed: Vec<(DeveloperUserId, Error)>,
}

impl RekeyReport {
    /// Whether each user who has an identity has it under the new pseudonym.
    pub fn is_complete(&self) -> bool {
        self.conflicts.is_empty() && self.failed.is_empty()
    }
}

enum Outcome {
    Moved(IdentityId),
    MovedBefore,
    Unknown,
    Conflict,
}

/// One user's two pseudonyms.
struct Move<'a> {
    old: &'a DeveloperUserId,
    new: &'a DeveloperUserId,
}

impl IdentityAdmin {
    /// Lets `users`, whom `old` gave their pseudonyms, keep their identities under the pseudonyms of `new`. `vendor` does the vending
    /// that it takes, in its background lane; this administration does the rest. Afterwards both pseudonyms lead to the identity.
    ///
    /// Deploy the new key afterwards. Whoever came by an identity under the old one meanwhile is found by the same call again, if it is
    /// made before that user signs in under the new key.
    ///
    /// `users` are the app's own ids, as they are given to [`UserIds::pseudonym`]; take them page by page. Two lookups a user at least,
    /// whose quota is low. It can be cut off anywhere, and made again: what was begun is remembered in this process, or in the
    /// [shared](crate::server::IdentityAdminBuilder::shared) store.
    ///
    /// ```no_run
    /// # use cognito_identity_pool::{server::UserIds, IdentityAdmin, TokenVendor};
    /// # async fn example(admin: IdentityAdmin, vendor: TokenVendor, old_key: String, new_key: String) -> anyhow::Result<()> {
    /// let (old, new) = (UserIds::hmac_sha256(old_key)?, UserIds::hmac_sha256(new_key)?);
    /// let users = ["alice@example.com", "bob@example.com"];
    /// println!("{:?}", admin.rekey_dry_run(&old, &new, &users).await);
    /// let report = admin.rekey(&vendor, &old, &new, &users).await;
    /// assert!(report.is_complete(), "{report:?}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Some of it may be done. The same call again goes on.
    pub async fn rekey(
        &self,
        vendor: &TokenVendor,
        old: &UserIds,
        new: &UserIds,
        users: &[impl AsRef<str> + Sync],
    ) -> RekeyReport {
        self.rekey_with(Some(vendor), old, new, users).await
    }

    /// What [`rekey`](Self::rekey) would do. Nothing is changed.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn rekey_dry_run(&self, old: &UserIds, new: &UserIds, users: &[impl AsRef<str> + Sync]) -> RekeyReport {
        self.rekey_with(None, old, new, users).await
    }

    async fn rekey_with(
        &self,
        vendor: Option<&TokenVendor>,
        old: &UserIds,
        new: &UserIds,
        users: &[impl AsRef<str> + Sync],
    ) -> RekeyReport {
        let mut report = RekeyReport::default();
        for user in users {
            // An id that is empty is nobody's.
            let (Ok(old), Ok(new)) = (old.pseudonym(user.as_ref()), new.pseudonym(user.as_ref())) else {
                report.unknown += 1;
                continue;
            };
            match self.rekey_user(vendor, Move { old: &old, new: &new }).await {
                Ok(Outcome::Moved(identity)) => report.moved.push(identity),
                Ok(Outcome::MovedBefore) => report.moved_before += 1,
                Ok(Outcome::Unknown) => report.unknown += 1,
                Ok(Outcome::Conflict) => report.conflicts.push((old, new)),
                Err(error) => report.failed.push((old, error)),
            }
        }
        report
    }

    async fn rekey_user(&self, vendor: Option<&TokenVendor>, user: Move<'_>) -> Result<Outcome, Error> {
        let Some(identity) = self.identity_of_user(user.old).await? else {
            return Ok(Outcome::Unknown);
        };
        let there = self.identity_of_user(user.new).await?;
        if there.as_ref() == Some(&identity) {
            if vendor.is_some() {
                self.store.remove(EntryKind::Rekey, user.new.as_str()).await?;
            }
            return Ok(Outcome::MovedBefore);
        }
        let begun = self
            .store
            .get::<bool>(EntryKind::Rekey, user.new.as_str())
            .await?
            .is_some();
        if there.is_some() && !begun {
            return Ok(Outcome::Conflict);
        }
        let Some(vendor) = vendor else {
            return Ok(Outcome::Moved(identity));
        };
        let audit = Audit::of("rekey")
            .user(user.old)
            .into_user(user.new)
            .identity(&identity)
            .begin();
        let moved = self.move_user(vendor, &user, there.is_none(), &identity).await;
        audit.end(&moved);
        moved.map(|()| Outcome::Moved(identity))
    }

    async fn move_user(
        &self,
        vendor: &TokenVendor,
        user: &Move<'_>,
        make: bool,
        identity: &IdentityId,
    ) -> Result<(), Error> {
        if make {
            self.store
                .put(EntryKind::Rekey, user.new.as_str(), &true, JOURNAL)
                .await?;
            vendor.vend_for_rekey(user.new).await?;
        }
        // What was vended for the identity that is disabled now was never kept.
        let merged = self.merge(user.new, user.old).await?;
        if merged != *identity {
            let message = "the merge ended in another identity than the user had";
            return Err(Error::new(ErrorKind::InvalidResponse, message).retryable(false));
        }
        self.store.remove(EntryKind::Rekey, user.new.as_str()).await
    }
}

impl TokenVendor {
    /// Makes an identity for a user, past the cache.
    async fn vend_for_rekey(&self, user: &DeveloperUserId) -> Result<(), Error> {
        let inner = &self.inner;
        let audit = Audit::of("vend").user(user).options(&inner.defaults).begin();
        let asked = async {
            let admission = inner.begin(user).await?;
            let ask = Ask {
                lane: Lane::Background,
                patience: PATIENCE,
                ..inner.interactive(user, &inner.defaults)
            };
            inner.ask(&admission, ask).await
        };
        let result = asked.await;
        audit.vended(super::audit::TokenSource::Asked, &result);
        result.map(drop)
    }
}
