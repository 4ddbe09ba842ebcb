//! The documented quotas, counted over all pools, as the service does for an account.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Requests a second.
fn quota(operation: &str) -> u32 {
    match operation {
        "GetCredentialsForIdentity" | "GetOpenIdToken" => 200,
        "GetOpenIdTokenForDeveloperIdentity" => 50,
        "GetId" => 25,
        "DeleteIdentities" | "ListTagsForResource" => 10,
        _ => 5,
    }
}

/// Counts the requests of each second, while it is switched on.
#[derive(Default)]
pub(super) struct Throttle {
    on: AtomicBool,
    counts: Mutex<HashMap<&'static str, (i64, u32)>>,
}

impl Throttle {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on: on.into(),
            counts: Mutex::default(),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(super) fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Whether one request more fits into this second.
    pub(super) fn admit(&self, operation: &'static str, second: i64) -> bool {
        if !self.is_on() {
            return true;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (counted, count) = counts.entry(operation).or_default();
        if *counted != second {
            (*counted, *count) = (second, 0);
        }
        *count = count.saturating_add(1);
        *count <= quota(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_own_quota_each_second() {
        let throttle = Throttle::new(true);
        let admitted = |second| (0..60).filter(|_| throttle.admit("GetId", second)).count();
        assert_eq!(admitted(1), 25);
        assert!(throttle.admit("GetOpenIdToken", 1));
        assert_eq!(admitted(2), 25);
        throttle.switch(false);
        assert_eq!(admitted(2), 60);
    }
}
