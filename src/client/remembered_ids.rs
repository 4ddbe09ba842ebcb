//! Remembered identity ids: in memory first, the store behind them. Changed by compare-and-swap only, and written through one
//! queue, so that what is stored last is what was decided last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::store_queue::{Memory, StoreQueue, Stored};
use crate::error::Error;
use crate::ids::IdentityId;
use crate::store::StoreKey;

/// One remembered id.
pub(super) struct RememberedId {
    key: StoreKey,
    queue: Arc<StoreQueue>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` until the store has been read.
    id: Option<Option<IdentityId>>,
    /// It was forgotten for good: whoever still holds it writes nothing any more.
    retired: bool,
}

impl RememberedId {
    pub(super) fn new(key: StoreKey, queue: Arc<StoreQueue>) -> Arc<Self> {
        Arc::new(Self {
            key,
            queue,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered. The store is read once; that it cannot be read is an error, never "nothing".
    pub(super) async fn get(&self) -> Result<Option<IdentityId>, Error> {
        if let Some(id) = &self.state().id {
            return Ok(id.clone());
        }
        let found = self.queue.load(&self.key).await?;
        Ok(self.state().id.get_or_insert(found).clone())
    }

    /// What is in memory, without asking the store.
    pub(super) fn in_memory(&self) -> Option<IdentityId> {
        self.state().id.clone().flatten()
    }

    /// Puts `to` in the place of `from` in memory, and queues the same for the store. `None` if something else is remembered.
    ///
    /// The write goes on whether or not it is waited for.
    pub(super) fn swap(self: &Arc<Self>, from: Option<&IdentityId>, to: Option<&IdentityId>) -> Option<Stored> {
        let mut state = self.state();
        if state.retired || state.id.as_ref().is_some_and(|id| id.as_ref() != from) {
            return None;
        }
        state.id = Some(to.cloned());
        // Queued under the lock: the order of the writes is the order of the changes.
        let stored = self
            .queue
            .swap(self.key.clone(), Arc::clone(self) as Memory, from.cloned(), to.cloned());
        drop(state);
        Some(stored)
    }

    /// As [`swap`](Self::swap), and waits for the store, up to its patience. The error is the store's, and is told there.
    pub(super) async fn put(self: &Arc<Self>, from: Option<&IdentityId>, to: Option<&IdentityId>) -> Result<(), Error> {
        match self.swap(from, to) {
            Some(stored) => stored.wait().await.map(drop),
            None => Ok(()),
        }
    }

    /// Takes over what another process has stored, unless the memory has moved on from `ours`.
    pub(super) fn adopt(&self, ours: &IdentityId, theirs: Option<IdentityId>) -> bool {
        let mut state = self.state();
        let still_ours = state.id.as_ref().is_some_and(|id| id.as_ref() == Some(ours));
        if still_ours {
            state.id = Some(theirs);
        }
        still_ours
    }

    /// Forgets in memory; what the store holds is emptied by whoever calls this.
    pub(super) fn forget(&self, for_good: bool) {
        *self.state() = State {
            id: Some(None),
            retired: for_good,
        };
    }
}
