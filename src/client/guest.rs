//! The guest of this device: the one identity that outlives sessions without a name, and what becomes of it when it is shown to
//! somebody who may link it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use futures_util::future::{Either, select};
use tokio::sync::{Notify, oneshot};

use super::remembered_ids::{RememberedId, detach};
use crate::error::Error;
use crate::ids::IdentityId;
use crate::refresh::Failure;
use crate::store::Swapped;

/// For how long a guest that was just minted waits to hear from the store whether another process was faster. What is in memory
/// does not depend on it.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What happens to a guest whose identity Cognito does not know any more, or forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum IdentityPolicy {
    /// A new guest takes its place, and an event tells.
    #[default]
    Recreate,
    /// Requests fail, and the id is kept.
    Fail,
}

/// Where the guest's identity id is kept.
pub(super) struct GuestSlot {
    slot: Arc<RememberedId>,
    offers: Mutex<Reservations>,
    settled: Notify,
}

#[derive(Default)]
struct Reservations {
    /// Somebody is being shown the id and has not reported, or a new one is being minted.
    open: bool,
    /// An id that was offered without a report: it may be linked by now, or not.
    in_doubt: Option<IdentityId>,
}

/// A guest's id that is being shown to a backend or to Cognito for linking. Marked before it is shown; whoever shows it reports
/// what became of it, and if that never happens the id is in doubt.
pub(super) struct LinkReservation {
    id: IdentityId,
    reported: bool,
    /// Dropped last: the outcome is known before another one takes the guest.
    turn: Turn,
}

/// The guest for a session that wants to be it.
pub(super) struct Taken {
    pub(super) id: Option<IdentityId>,
    /// It was shown to somebody, and nobody knows whether it was linked: *forbidden* means that it was.
    pub(super) in_doubt: bool,
}

impl GuestSlot {
    pub(super) fn new(slot: RememberedId) -> Arc<Self> {
        Arc::new(Self {
            slot: Arc::new(slot),
            offers: Mutex::default(),
            settled: Notify::new(),
        })
    }

    fn offers(&self) -> std::sync::MutexGuard<'_, Reservations> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the guest as offered; `None` if there is none, or if somebody else is being shown it.
    pub(super) async fn offer(self: &Arc<Self>) -> Result<Option<LinkReservation>, Error> {
        drop(self.slot.get().await?);
        let mut offers = self.offers();
        // Under the lock: whoever linked it has emptied the slot before the end of the offer.
        let id = self.slot.in_memory().filter(|_| !offers.open);
        offers.open |= id.is_some();
        Ok(id.map(|id| LinkReservation {
            turn: Turn(Arc::clone(self)),
            id,
            reported: false,
        }))
    }

    /// The guest's id, once nobody has it on offer any more, nor is a new one being minted.
    pub(super) async fn take(&self) -> Result<Taken, Error> {
        loop {
            let settled = self.settled.notified();
            if !self.offers().open {
                let id = self.slot.get().await?;
                let in_doubt = id.is_some() && self.offers().in_doubt == id;
                return Ok(Taken { id, in_doubt });
            }
            settled.await;
        }
    }

    /// Waits until there is no other, and keeps others waiting.
    pub(super) async fn turn(self: &Arc<Self>) -> Turn {
        loop {
            let settled = self.settled.notified();
            if !std::mem::replace(&mut self.offers().open, true) {
                return Turn(Arc::clone(self));
            }
            settled.await;
        }
    }

    /// Remembers a guest that was just minted, in the place of one that is lost (or of none), and answers the one to use:
    /// another process's, if that one was faster.
    pub(super) async fn minted(
        &self,
        lost: Option<&IdentityId>,
        new: IdentityId,
        sleep: &SharedAsyncSleep,
    ) -> Result<IdentityId, Error> {
        let Some(stored) = self.slot.swap(lost, Some(&new)) else {
            return Ok(self.slot.get().await?.unwrap_or(new));
        };
        // The write goes on by itself.
        match select(Box::pin(stored), sleep.sleep(STORE_PATIENCE)).await {
            Either::Left((Ok(Swapped::No { current: Some(theirs) }), _))
                if self.slot.adopt(&new, Some(theirs.clone())) =>
            {
                Ok(theirs)
            }
            // A store that cannot be written is reported where it happens; the id in memory goes on.
            _ => Ok(new),
        }
    }

    /// The id as it is remembered, offered or not.
    pub(super) async fn peek(&self) -> Result<Option<IdentityId>, Error> {
        self.slot.get().await
    }

    /// Where it is kept.
    pub(super) fn slot(&self) -> &Arc<RememberedId> {
        &self.slot
    }
}

/// Keeps others from taking the guest.
pub(super) struct Turn(Arc<GuestSlot>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.offers().open = false;
        self.0.settled.notify_waiters();
    }
}

impl LinkReservation {
    pub(super) fn id(&self) -> &IdentityId {
        &self.id
    }

    /// The guest has become a user, or was merged into one: it is nobody's guest any more.
    pub(super) async fn linked(mut self) {
        self.reported = true;
        self.turn.0.slot.put(Some(&self.id), None).await;
    }

    /// The guest is what it was.
    pub(super) fn untouched(mut self) {
        self.reported = true;
    }
}

impl Drop for LinkReservation {
    fn drop(&mut self) {
        if !self.reported {
            self.turn.0.offers().in_doubt = Some(self.id.clone());
        }
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
