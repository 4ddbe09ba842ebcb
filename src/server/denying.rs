//! Denying: a user gets nothing from now on, here or from any instance.

use std::time::Duration;

use super::audit::Audit;
use super::deny_entry;
use super::shared_deny_list::Keeper;
use super::vending::{TokenVendor, VendorInner};
use crate::error::Error;
use crate::ids::DeveloperUserId;

impl TokenVendor {
    /// Refuses `user` from now on, until [`allow`](Self::allow), with [`ErrorKind::Denied`](crate::ErrorKind::Denied), and forgets
    /// what is kept. It reaches what stands on this vendor, too: sessions of [`UserCredentials`](crate::UserCredentials) end at once.
    /// What is on its way is refused when it arrives.
    ///
    /// With a [shared](super::TokenVendorBuilder::shared) store it reaches every instance, also those that start later: as soon as
    /// each polls the list the next time, and at the latest 5 s after
    /// [`max_stale`](super::DenyListUpdates::max_stale), because then an instance that has not heard of it vends nothing to anybody.
    /// Without one it is known in this process alone.
    ///
    /// What was vended before stays good: a token until it expires, its credentials up to an hour longer. The one way to end
    /// those is a policy on the role that denies by `aws:TokenIssueTime`.
    ///
    /// Entries without an end make a list that only grows. Where the app ends sessions itself, [`deny_for`](Self::deny_for) the time
    /// that they can live.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store): the shared store failed. The user is denied in this process until it reads the list
    /// the next time, which then says what counts. Call it again, here or at any other instance. Never without a shared store.
    ///
    /// # Cancel safety
    ///
    /// As after an error: the user is denied in this process, maybe not in others. The same call again does no harm.
    pub async fn deny(&self, user: &DeveloperUserId) -> Result<(), Error> {
        self.deny_until(user, None).await
    }

    /// As [`deny`](Self::deny), for some time. The time is counted by the clock of the store, or of each instance; they may be a minute
    /// apart.
    ///
    /// # Errors
    ///
    /// As [`deny`](Self::deny).
    ///
    /// # Cancel safety
    ///
    /// As [`deny`](Self::deny).
    pub async fn deny_for(&self, user: &DeveloperUserId, time: Duration) -> Result<(), Error> {
        self.deny_until(user, Some(time)).await
    }

    async fn deny_until(&self, user: &DeveloperUserId, time: Option<Duration>) -> Result<(), Error> {
        let inner = &self.inner;
        let audit = Audit::of("deny").user(user);
        let shared = inner.deny_list.shared();
        let audit = if shared.is_some() { audit.begin() } else { audit };
        // What was begun before never lands.
        inner.deny_list.deny(user, time);
        let entry = shared.map(|shared| {
            let entry = shared.deny_here(user);
            // It stands in the list, from which any instance may take it.
            inner.deny_list.allow(user);
            entry
        });
        inner.cache.evict(user);
        inner.dependents.end(user, &deny_entry::denied());
        let stored = match shared.zip(entry) {
            Some((shared, entry)) => shared.write(user, entry, time).await,
            None => Ok(()),
        };
        let stored = stored.map_err(|error| {
            error.with_hint(
                "the other instances may not know, and this one forgets it when it reads the store again: call it once more",
            )
        });
        audit.end(&stored);
        stored
    }

    /// Takes [`deny`](Self::deny) back, whichever instance denied the user. The others follow as they poll. Sessions that were refused
    /// stay refused: ask for new ones.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store): the shared store failed, and the user may be denied still. Never without a shared
    /// store.
    ///
    /// # Cancel safety
    ///
    /// The user may be denied or not. The same call again does no harm.
    pub async fn allow(&self, user: &DeveloperUserId) -> Result<(), Error> {
        let list = &self.inner.deny_list;
        let audit = Audit::of("allow").user(user);
        let Some(shared) = list.shared() else {
            list.allow(user);
            audit.ended("ok");
            return Ok(());
        };
        let audit = audit.begin();
        let allowed = shared.allow(user).await;
        if allowed.is_ok() {
            list.allow(user);
        }
        audit.end(&allowed);
        allowed
    }
}

impl VendorInner {
    /// Brings what the instances agree on up to date, as far as it is about this user. With `anew` it is for a request that the cache
    /// does not answer.
    pub(super) async fn hear(&self, user: &DeveloperUserId, anew: bool) {
        if let Some(shared) = self.deny_list.shared() {
            shared.update(user, anew).await;
        }
    }
}

impl Keeper for VendorInner {
    fn end_where(&self, ended: &(dyn Fn(&DeveloperUserId) -> Option<Error> + Sync)) {
        self.cache.evict_where(|user| ended(user).is_some());
        self.dependents.end_where(ended);
    }
}
