//! [`UserMetrics`].

use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened in a [`UserCredentials`](crate::UserCredentials) since it was made. The same is told through `tracing`, at
/// level `DEBUG` of the target `cognito_identity_pool::users`, each time the refresher goes round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserMetrics {
    /// Sessions that are kept at this moment.
    pub users: usize,
    /// Sessions asked for that were there.
    pub hits: u64,
    /// Sessions asked for that had to be made.
    pub misses: u64,
    /// First exchanges that succeeded.
    pub exchanges: u64,
    /// Later exchanges that succeeded.
    pub refreshes: u64,
    /// Exchanges that failed because this process or the account is at its limit of requests.
    pub throttles: u64,
    /// Exchanges that failed for another reason.
    pub failures: u64,
    /// Sessions that were dropped for others, for idleness, or by [`evict`](crate::UserCredentials::evict).
    pub evictions: u64,
}

/// Hits, misses and evictions are counted by the table, under the locks that it takes anyhow.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) exchanges: AtomicU64,
    pub(super) refreshes: AtomicU64,
    pub(super) throttles: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
