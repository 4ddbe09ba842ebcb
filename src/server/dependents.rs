//! What stands on a vendor and keeps something of its users.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::Error;
use crate::ids::DeveloperUserId;

/// Whatever makes more of a vendor's tokens than handing them out registers with it, so that denying and forgetting reach it.
pub(crate) trait Dependent: Send + Sync {
    /// Drops what is kept of a user.
    fn evict(&self, user: &DeveloperUserId);

    /// Drops what is kept of a user, and answers with `error` whoever still holds some of it, for good.
    fn end(&self, user: &DeveloperUserId, error: &Error);

    /// As [`end`](Self::end), for each user for whom `ended` has an error.
    fn end_where(&self, ended: &(dyn Fn(&DeveloperUserId) -> Option<Error> + Sync));
}

/// The dependents of one vendor, held weakly.
#[derive(Default)]
pub(super) struct Dependents(Mutex<Vec<Weak<dyn Dependent>>>);

impl Dependents {
    pub(super) fn add(&self, dependent: Weak<dyn Dependent>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(dependent);
    }

    pub(super) fn evict(&self, user: &DeveloperUserId) {
        self.alive().iter().for_each(|dependent| dependent.evict(user));
    }

    pub(super) fn end(&self, user: &DeveloperUserId, error: &Error) {
        self.alive().iter().for_each(|dependent| dependent.end(user, error));
    }

    pub(super) fn end_where(&self, ended: &(dyn Fn(&DeveloperUserId) -> Option<Error> + Sync)) {
        self.alive().iter().for_each(|dependent| dependent.end_where(ended));
    }

    /// Called outside the lock.
    fn alive(&self) -> Vec<Arc<dyn Dependent>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Dependents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dependents")
    }
}
