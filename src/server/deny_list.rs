//! Who gets nothing from this process.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::error::{Error, ErrorKind};
use crate::ids::DeveloperUserId;

/// Users who are denied for good, and users who are held while something is done to their identity.
#[derive(Debug, Default)]
pub(super) struct DenyList(RwLock<HashMap<DeveloperUserId, DenyEntry>>);

#[derive(Debug, Default)]
struct DenyEntry {
    denied: bool,
    holds: usize,
}

impl DenyList {
    pub(super) fn check(&self, user: &DeveloperUserId) -> Result<(), Error> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(user) {
            None => Ok(()),
            Some(DenyEntry { denied: true, .. }) => Err(Error::new(ErrorKind::Denied, "the user is denied")),
            Some(_) => Err(Error::new(ErrorKind::Denied, "the user is being forgotten").retryable(true)),
        }
    }

    pub(super) fn deny(&self, user: &DeveloperUserId) {
        self.change(user, |why| why.denied = true);
    }

    pub(super) fn allow(&self, user: &DeveloperUserId) {
        self.change(user, |why| why.denied = false);
    }

    pub(super) fn hold(&self, user: &DeveloperUserId) {
        self.change(user, |why| why.holds += 1);
    }

    pub(super) fn release(&self, user: &DeveloperUserId) {
        self.change(user, |why| why.holds = why.holds.saturating_sub(1));
    }

    fn change(&self, user: &DeveloperUserId, change: impl FnOnce(&mut DenyEntry)) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let why = all.entry(user.clone()).or_default();
        change(why);
        if !why.denied && why.holds == 0 {
            all.remove(user);
        }
    }
}
