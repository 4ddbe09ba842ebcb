//! The guest of this device: the one identity that outlives sessions without a name, and what becomes of it when it is shown to
//! somebody who may link it.

use std::sync::Arc;

use super::remembered_ids::RememberedId;
use super::turns::{Patience, Turn, Turns};
use crate::error::Error;
use crate::ids::IdentityId;
use crate::store::Swapped;

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
    id: Arc<RememberedId>,
    /// An id that was, or is about to be, shown to somebody who may link it, without a word of what became of it: *forbidden* means
    /// that it was linked. It is stored before the id is shown, so that the next process knows, too.
    in_doubt: Arc<RememberedId>,
    /// Whoever shows the id to somebody, or has a new one made.
    turns: Arc<Turns>,
    patience: Patience,
}

/// A guest's id that is being shown to a backend or to Cognito for linking. Marked before it is shown; whoever shows it reports
/// what became of it, and if that never happens the id stays in doubt.
pub(super) struct LinkReservation {
    id: IdentityId,
    guest: Arc<GuestSlot>,
    turn: Turn,
}

/// The guest for a session that wants to be it.
pub(super) struct KnownGuest {
    pub(super) id: Option<IdentityId>,
    /// It was shown to somebody, and nobody knows whether it was linked: *forbidden* means that it was.
    pub(super) in_doubt: bool,
}

impl GuestSlot {
    pub(super) fn new(id: Arc<RememberedId>, in_doubt: Arc<RememberedId>, patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            id,
            in_doubt,
            turns: Arc::default(),
            patience,
        })
    }

    /// Marks the guest as shown for linking, in the store, too; `None` if there is none, or if somebody else is being shown it.
    ///
    /// A store that cannot be written does not keep the user out; the second value says so.
    pub(super) async fn reserve(self: &Arc<Self>) -> Result<(Option<LinkReservation>, Result<(), Error>), Error> {
        drop(self.id.get().await?);
        drop(self.in_doubt.get().await?);
        let Some(turn) = self.turns.try_take(&self.patience) else {
            return Ok((None, Ok(())));
        };
        // After the turn was taken: whoever linked it has emptied the slot before the end of the turn.
        let Some(id) = self.id.in_memory() else {
            return Ok((None, Ok(())));
        };
        let before = self.in_doubt.in_memory();
        let mut marked = Ok(());
        if before.as_ref() != Some(&id) {
            marked = self.in_doubt.put(before.as_ref(), Some(&id)).await;
        }
        let guest = Arc::clone(self);
        Ok((Some(LinkReservation { id, guest, turn }), marked))
    }

    /// The guest's id, once nobody shows it to anybody any more, nor has a new one made; or after the deadline for that.
    pub(super) async fn known(&self) -> Result<KnownGuest, Error> {
        self.turns.until_free(&self.patience).await;
        let id = self.id.get().await?;
        let in_doubt = id.is_some() && self.in_doubt.get().await? == id;
        Ok(KnownGuest { id, in_doubt })
    }

    /// Waits until nobody shows the id or has a new one made, and keeps others from it.
    pub(super) async fn turn(&self) -> Turn {
        self.turns.take(&self.patience).await
    }

    /// Remembers a guest that was just made, in the place of one that is lost (or of none), and answers the one to use:
    /// another process's, if that one was faster. The second value says whether it could be stored.
    pub(super) async fn made(
        &self,
        lost: Option<&IdentityId>,
        new: IdentityId,
    ) -> Result<(IdentityId, Result<(), Error>), Error> {
        let Some(stored) = self.id.swap(lost, Some(&new)) else {
            return Ok((self.id.get().await?.unwrap_or(new), Ok(())));
        };
        let written = stored.wait().await;
        self.settle(lost).await;
        Ok(match written {
            Ok(Swapped::No { current: Some(theirs) }) if self.id.adopt(&new, Some(theirs.clone())) => (theirs, Ok(())),
            Ok(_) => (new, Ok(())),
            Err(error) => (new, Err(error)),
        })
    }

    /// Takes the mark from `id`, about which nothing is in doubt any more. Not waited for: a mark too many does no harm.
    pub(super) async fn settle(&self, id: Option<&IdentityId>) {
        if id.is_some()
            && self.in_doubt.in_memory().as_ref() == id
            && let Some(stored) = self.in_doubt.swap(id, None)
        {
            stored.in_background().await;
        }
    }

    /// The id as it is remembered, shown to somebody or not.
    pub(super) async fn peek(&self) -> Result<Option<IdentityId>, Error> {
        self.id.get().await
    }

    /// What is in memory, unless it is in doubt.
    pub(super) fn in_memory(&self) -> Option<IdentityId> {
        let id = self.id.in_memory()?;
        (self.in_doubt.in_memory().as_ref() != Some(&id)).then_some(id)
    }

    /// Where the id is kept.
    pub(super) fn slot(&self) -> &Arc<RememberedId> {
        &self.id
    }

    /// All that is kept of the guest.
    pub(super) fn slots(&self) -> [&Arc<RememberedId>; 2] {
        [&self.id, &self.in_doubt]
    }
}

impl LinkReservation {
    pub(super) fn id(&self) -> &IdentityId {
        &self.id
    }

    /// The guest has become a user, or was merged into one: it is nobody's guest any more. Waits for the store, whose error is
    /// the answer.
    pub(super) async fn linked(self) -> Result<(), Error> {
        let emptied = self.guest.id.put(Some(&self.id), None).await;
        // After the id itself: a process that ends in between finds the id in doubt.
        self.guest.settle(Some(&self.id)).await;
        emptied
    }

    /// The guest is what it was.
    pub(super) async fn untouched(self) {
        // Whoever has taken over shows it to somebody by now.
        if self.turn.is_ours() {
            self.guest.settle(Some(&self.id)).await;
        }
    }
}
