//! The lease: what leaves through plain `ProvideCredentials` says an expiry of a minute ahead at most, so that whoever keeps it until
//! then, and cannot be told of a switch, asks again soon.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_credential_types::Credentials;

use super::exchange::Snapshot;
use crate::clock::Now;
use crate::refresh::Cached;

/// Unless the builder says otherwise.
pub(crate) const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// What a session's credentials are handed out as.
pub(super) struct Leased {
    served: Cached<Snapshot>,
    pub(super) credentials: Credentials,
    /// In milliseconds of the wall clock: handed out from then, until half of the lease is over.
    from: i64,
    until: i64,
}

impl Leased {
    pub(super) fn new(served: &Cached<Snapshot>, lease: Option<Duration>, now: Now) -> Self {
        let mut credentials = served.credentials.clone();
        let from = now.wall_millis();
        let mut until = i64::MAX;
        if let Some(lease) = lease {
            let end = now.system_time().checked_add(lease);
            if let Some(end) = end.filter(|end| credentials.expiry().is_none_or(|expiry| expiry > *end)) {
                *credentials.expiry_mut() = Some(end);
            }
            until = from.saturating_add(i64::try_from((lease / 2).as_millis()).unwrap_or(i64::MAX));
        }
        Self {
            served: served.clone(),
            credentials,
            from,
            until,
        }
    }

    fn serves(&self, bound: Option<u64>, wall: i64) -> bool {
        self.from <= wall && wall < self.until && self.served.is_fresh(wall) && self.served.serves(bound)
    }

    /// Whether it need not be made anew for these credentials.
    pub(super) fn is_of(&self, served: &Cached<Snapshot>, now: Now) -> bool {
        let wall = now.wall_millis();
        self.from <= wall && wall < self.until && self.served.is(served)
    }
}

/// What is handed out now.
#[derive(Default)]
pub(super) struct LeaseSlot(ArcSwapOption<Leased>);

impl LeaseSlot {
    /// A hit: one pointer and the wall clock, no lock, no allocation.
    #[inline]
    pub(super) fn read<R>(&self, bound: Option<u64>, wall: i64, read: impl FnOnce(Option<&Credentials>) -> R) -> R {
        let leased = self.0.load();
        let leased = leased.as_deref().filter(|leased| leased.serves(bound, wall));
        read(leased.map(|leased| &leased.credentials))
    }

    pub(super) fn get(&self) -> Option<Arc<Leased>> {
        self.0.load_full()
    }

    pub(super) fn put(&self, leased: Option<Arc<Leased>>) {
        self.0.store(leased);
    }
}
