//! [`DenyListUpdates`]: how an instance keeps up with the deny list of all.

use std::time::Duration;

use super::shared_store::SharedState;
use crate::error::{Error, ErrorKind};

/// By how much [`SharedStore::list`](super::SharedStore::list) may lag.
pub(super) const LAG: Duration = Duration::from_secs(5);

/// How a vendor keeps up with the deny list in the shared store: see
/// [`TokenVendorBuilder::deny_list`](super::TokenVendorBuilder::deny_list).
///
/// | | reads of the store | for |
/// |---|---|---|
/// | [`polled_every`](Self::polled_every) 10 s, the default | one `list` per instance and interval, whatever is vended | servers |
/// | [`read_for_each_vend`](Self::read_for_each_vend) | two `get`s, at once, for each vend that is not answered from memory | functions: many sandboxes, few vends each |
///
/// ```
/// # use {cognito_identity_pool::server::DenyListUpdates, std::time::Duration};
/// let in_lambda = DenyListUpdates::read_for_each_vend().max_stale(Duration::from_secs(30));
/// # let _ = in_lambda;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct DenyListUpdates {
    /// `None`: read for each vend.
    pub(super) interval: Option<Duration>,
    pub(super) max_stale: Duration,
}

impl DenyListUpdates {
    /// The whole list is read every `interval`, at least 1 s.
    pub fn polled_every(interval: Duration) -> Self {
        Self {
            interval: Some(interval.max(Duration::from_secs(1))),
            ..Self::default()
        }
    }

    /// The entries of a user are read at each vend that is not answered from memory, and at one that is if the last time is longer
    /// ago than [`max_stale`](Self::max_stale).
    pub fn read_for_each_vend() -> Self {
        Self {
            interval: None,
            ..Self::default()
        }
    }

    /// For how long after it was read the list serves, by default 60 s. If it cannot be read for longer, vending stops, with
    /// [`ErrorKind::Store`]. A denied user is vended nothing anywhere after this time and 5 s more, by which a list may lag.
    ///
    /// Whoever forgets users has to know the longest that any vendor is given:
    /// [`IdentityAdminBuilder::max_stale`](super::IdentityAdminBuilder::max_stale).
    pub fn max_stale(self, max_stale: Duration) -> Self {
        Self { max_stale, ..self }
    }

    pub(super) const MAX_STALE: Duration = Duration::from_secs(60);

    /// After which time every instance has read what was written, or vends nothing until it has.
    pub(super) fn staleness(max_stale: Duration) -> Duration {
        max_stale.saturating_add(LAG)
    }

    /// # Errors
    ///
    /// If vending would stop between two polls.
    pub(super) fn checked(self) -> Result<Self, Error> {
        let needed = self.interval.map_or(Duration::ZERO, |interval| {
            interval.saturating_mul(2).saturating_add(SharedState::TIMEOUT)
        });
        if self.max_stale < needed {
            let message = format!(
                "a deny list that serves for {} s and is polled every {} s: vending would stop whenever one poll fails",
                self.max_stale.as_secs_f64(),
                self.interval.unwrap_or_default().as_secs_f64(),
            );
            return Err(Error::new(ErrorKind::Configuration, message).with_hint(
                "`max_stale` has to be twice the interval and 2 s more, at least; or use `read_for_each_vend`",
            ));
        }
        Ok(self)
    }
}

impl Default for DenyListUpdates {
    /// Polled every 10 s.
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(10)),
            max_stale: Self::MAX_STALE,
        }
    }
}
