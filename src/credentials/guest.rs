//! The guest of this device: the one identity that outlives sessions without a name, and what becomes of it when it is shown to
//! somebody who may link it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::memory::{Slot, detach};
use crate::error::Error;
use crate::ids::IdentityId;
use crate::refresh::Failure;
use crate::store::Swapped;

/// Where the guest's identity id is kept.
pub(super) struct GuestSlot {
    slot: Arc<Slot>,
    offers: Mutex<Offers>,
    settled: Notify,
}

#[derive(Default)]
struct Offers {
    /// How many have been shown the id and have not reported.
    open: u32,
    /// The id whose last offer ended without a report: it may be linked by now, or not.
    in_doubt: Option<IdentityId>,
}

/// A guest's id that is being shown to a backend or to Cognito for linking. Marked before it is shown; whoever shows it reports
/// what became of it, and if that never happens the id is in doubt.
pub(super) struct Offer {
    guest: Arc<GuestSlot>,
    id: IdentityId,
    reported: bool,
}

/// The guest for a session that wants to be it.
pub(super) struct Taken {
    pub(super) id: Option<IdentityId>,
    /// It was shown to somebody, and nobody knows whether it was linked: *forbidden* means that it was.
    pub(super) in_doubt: bool,
}

impl GuestSlot {
    pub(super) fn new(slot: Slot) -> Arc<Self> {
        Arc::new(Self {
            slot: Arc::new(slot),
            offers: Mutex::default(),
            settled: Notify::new(),
        })
    }

    fn offers(&self) -> std::sync::MutexGuard<'_, Offers> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the guest as offered; `None` if there is none.
    pub(super) async fn offer(self: &Arc<Self>) -> Result<Option<Offer>, Error> {
        let Some(id) = self.slot.get().await? else {
            return Ok(None);
        };
        self.offers().open += 1;
        Ok(Some(Offer {
            guest: Arc::clone(self),
            id,
            reported: false,
        }))
    }

    /// The guest's id, once nobody has it on offer any more.
    pub(super) async fn take(&self) -> Result<Taken, Error> {
        loop {
            let settled = self.settled.notified();
            if self.offers().open == 0 {
                let id = self.slot.get().await?;
                let in_doubt = id.is_some() && self.offers().in_doubt == id;
                return Ok(Taken { id, in_doubt });
            }
            settled.await;
        }
    }

    /// Remembers a guest that was just minted, in the place of one that is lost (or of none), and answers the one to use:
    /// another process's, if that one was faster.
    pub(super) async fn minted(&self, lost: Option<&IdentityId>, new: IdentityId) -> Result<IdentityId, Error> {
        let Some(stored) = self.slot.swap(lost, Some(&new)) else {
            return Ok(self.slot.get().await?.unwrap_or(new));
        };
        match stored.await {
            Ok(Swapped::No { current: Some(theirs) }) if self.slot.adopt(&new, Some(theirs.clone())) => Ok(theirs),
            // A store that cannot be written is reported where it happens; the id in memory goes on.
            Ok(_) | Err(_) => Ok(new),
        }
    }

    /// Forgets the guest, if it is still this one.
    pub(super) async fn forget(&self, id: &IdentityId) {
        if let Some(stored) = self.slot.swap(Some(id), None) {
            stored.await.map(drop).unwrap_or_default();
        }
    }

    /// The id as it is remembered, offered or not.
    pub(super) async fn peek(&self) -> Result<Option<IdentityId>, Error> {
        self.slot.get().await
    }
}

impl Offer {
    pub(super) fn id(&self) -> &IdentityId {
        &self.id
    }

    /// The guest has become a user, or was merged into one: it is nobody's guest any more.
    pub(super) async fn linked(mut self) {
        self.guest.forget(&self.id).await;
        self.report(None);
    }

    /// The guest is what it was.
    pub(super) fn untouched(mut self) {
        self.report(None);
    }

    fn report(&mut self, in_doubt: Option<IdentityId>) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        let mut offers = self.guest.offers();
        offers.open = offers.open.saturating_sub(1);
        offers.in_doubt = in_doubt;
        drop(offers);
        self.guest.settled.notify_waiters();
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.report(Some(self.id.clone()));
    }
}

/// Runs `task` to its end even if the caller goes: what becomes of an offer must be known although the session has ended.
pub(super) async fn to_its_end<T: Send + 'static>(
    task: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    let task = async move { sender.send(task.await).map(drop).unwrap_or_default() };
    if let Some(inline) = detach(task) {
        inline.await;
    }
    // The task is gone without an answer: its runtime is, or the app's hook panicked.
    receiver.await.unwrap_or_else(|_| Err(Error::panicked(String::new())))
}
