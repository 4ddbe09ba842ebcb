//! [`UserLimit`]: what one user can cause.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::ids::DeveloperUserId;

/// How many requests one user can cause: `burst` at once, then one every `interval`.
#[derive(Debug)]
pub(in crate::server) struct UserLimit {
    interval: u64,
    depth: u64,
    /// When a user's allowance will be full again, in nanoseconds since a fixed moment.
    full_at: Mutex<HashMap<DeveloperUserId, u64>>,
}

impl UserLimit {
    pub(in crate::server) fn new(burst: NonZeroU32, interval: Duration) -> Self {
        let interval = nanos(interval);
        Self {
            interval,
            depth: interval.saturating_mul(u64::from(burst.get())),
            full_at: Mutex::default(),
        }
    }

    /// Takes one at `now`, the time since any fixed moment.
    pub(in crate::server) fn take(&self, user: &DeveloperUserId, now: Duration) -> Result<(), Error> {
        let now = nanos(now);
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|_, full_at| *full_at > now);
        }
        let kept = all.get_mut(user);
        let full_at = kept.as_deref().copied().unwrap_or(0).max(now);
        let next = full_at.saturating_add(self.interval);
        let wait = next.saturating_sub(now).saturating_sub(self.depth);
        if wait > 0 {
            return Err(Error::new(
                ErrorKind::Throttled,
                "the user has caused too many requests in a short time",
            )
            .with_retry_after(Some(Duration::from_nanos(wait)))
            .with_hint("`user_limit` on the vendor's builder sets how many a user may cause"));
        }
        match kept {
            Some(full_at) => *full_at = next,
            None => drop(all.insert(user.clone(), next)),
        }
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_causes_so_many_and_leaves_the_others_alone() {
        let limit = UserLimit::new(NonZeroU32::new(3).unwrap(), Duration::from_secs(2));
        let user = |id: &str| DeveloperUserId::new(id).unwrap();
        let at = Duration::from_secs(1_000);
        for _ in 0..3 {
            limit.take(&user("a"), at).unwrap();
        }
        let error = limit.take(&user("a"), at).unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        limit.take(&user("b"), at).unwrap();
        limit.take(&user("a"), at + Duration::from_secs(2)).unwrap();
        for n in 0..10_000 {
            limit
                .take(&user(&n.to_string()), at + Duration::from_secs(10 * n))
                .unwrap();
        }
        assert!(limit.full_at.lock().unwrap().len() < 1_000);
    }
}
