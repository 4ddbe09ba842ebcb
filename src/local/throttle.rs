//! The documented quotas, counted over all pools, as the service does for an account.

use std::collections::HashMap;
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

/// Counts the requests of each second.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<&'static str, (i64, u32)>>);

impl Throttle {
    /// Whether one request more fits into this second.
    pub(super) fn admit(&self, operation: &'static str, second: i64) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let throttle = Throttle::default();
        let admitted = |second| (0..60).filter(|_| throttle.admit("GetId", second)).count();
        assert_eq!(admitted(1), 25);
        assert!(throttle.admit("GetOpenIdToken", 1));
        assert_eq!(admitted(2), 25);
    }
}
