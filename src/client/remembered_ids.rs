//! Remembered identity ids: in memory first, the store behind them. Changed by compare-and-swap only, and written through one
//! queue, so that what is stored last is what was decided last.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::Error;
use crate::ids::IdentityId;
use crate::store::{IdentityStore, StoreError, StoreKey, Swapped};

/// One remembered id.
pub(super) struct RememberedId {
    key: StoreKey,
    writes: Arc<StoreQueue>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` until the store has been read.
    id: Option<Option<IdentityId>>,
}

impl RememberedId {
    pub(super) fn new(key: StoreKey, writes: Arc<StoreQueue>) -> Self {
        Self {
            key,
            writes,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered. The store is read once; that it cannot be read is an error, never "nothing".
    pub(super) async fn get(&self) -> Result<Option<IdentityId>, Error> {
        if let Some(id) = &self.state().id {
            return Ok(id.clone());
        }
        let found = self.writes.store.load(&self.key).await?;
        Ok(self.state().id.get_or_insert(found).clone())
    }

    /// What is in memory, without asking the store.
    pub(super) fn in_memory(&self) -> Option<IdentityId> {
        self.state().id.clone().flatten()
    }

    /// Puts `to` in the place of `from`, if that is what is remembered, and does not wait for the store.
    pub(super) async fn put(self: &Arc<Self>, from: Option<&IdentityId>, to: Option<&IdentityId>) {
        if let Some(stored) = self.swap(from, to)
            // Without a runtime there is nobody else to write it.
            && let Some(inline) = detach(async { drop(stored.await) })
        {
            inline.await;
        }
    }

    /// Puts `to` in the place of `from` in memory, and queues the same for the store. `None` if something else is remembered.
    ///
    /// The returned future tells what is stored after it: another process's id if that one was faster.
    pub(super) fn swap(
        self: &Arc<Self>,
        from: Option<&IdentityId>,
        to: Option<&IdentityId>,
    ) -> Option<impl Future<Output = Result<Swapped, Error>> + Send + 'static + use<>> {
        let mut state = self.state();
        if state.id.as_ref().is_some_and(|id| id.as_ref() != from) {
            return None;
        }
        state.id = Some(to.cloned());
        // Queued under the lock: the order of the writes is the order of the changes.
        let stored = self.writes.queue(self.key.clone(), from.cloned(), to.cloned());
        drop(state);
        let writes = Arc::clone(&self.writes);
        let inline = detach(writes.drain());
        Some(async move {
            if let Some(inline) = inline {
                inline.await;
            }
            let result = stored
                .await
                .unwrap_or_else(|_| Err(StoreError::new("the store's write was given up")));
            result.map_err(|error| {
                tracing::warn!(error = %error, "an identity id could not be stored; it is kept in memory");
                Error::from(error)
            })
        })
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
}

/// The queue of writes to a store: one at a time, in the order in which they were decided.
pub(super) struct StoreQueue {
    pub(super) store: Arc<dyn IdentityStore>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Write>,
    draining: bool,
    /// What the store still holds where a write has failed.
    behind: HashMap<StoreKey, Option<IdentityId>>,
}

struct Write {
    key: StoreKey,
    from: Option<IdentityId>,
    to: Option<IdentityId>,
    stored: oneshot::Sender<Result<Swapped, StoreError>>,
}

impl StoreQueue {
    pub(super) fn new(store: Arc<dyn IdentityStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            queue: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(
        &self,
        key: StoreKey,
        from: Option<IdentityId>,
        to: Option<IdentityId>,
    ) -> oneshot::Receiver<Result<Swapped, StoreError>> {
        let (stored, receiver) = oneshot::channel();
        self.lock().pending.push_back(Write { key, from, to, stored });
        receiver
    }

    /// StoreQueue what is queued, unless somebody is at it already.
    async fn drain(self: Arc<Self>) {
        if std::mem::replace(&mut self.lock().draining, true) {
            return;
        }
        let mut rest = Rest(Some(&self));
        loop {
            let next = {
                let mut queue = self.lock();
                let next = queue.pending.pop_front();
                queue.draining = next.is_some();
                next
            };
            let Some(write) = next else {
                // Another may be draining by now.
                rest.0 = None;
                return;
            };
            let result = self.write(&write).await;
            // Whoever decided it may have gone.
            write.stored.send(result).unwrap_or_default();
        }
    }

    async fn write(&self, write: &Write) -> Result<Swapped, StoreError> {
        let mut result = self
            .store
            .swap(&write.key, write.from.as_ref(), write.to.as_ref())
            .await;
        if let (Ok(Swapped::No { current: None }), Some(_)) = (&result, &write.to) {
            // What was to be replaced is gone; an empty slot is nobody's.
            result = self.store.swap(&write.key, None, write.to.as_ref()).await;
        }
        let behind = self.lock().behind.get(&write.key).cloned();
        if let (Ok(Swapped::No { current }), Some(behind)) = (&result, behind)
            && *current == behind
        {
            // Not another process's: what an earlier write of ours failed to replace.
            result = self.store.swap(&write.key, behind.as_ref(), write.to.as_ref()).await;
        }
        let mut queue = self.lock();
        match &result {
            Ok(_) => drop(queue.behind.remove(&write.key)),
            Err(_) => drop(
                queue
                    .behind
                    .entry(write.key.clone())
                    .or_insert_with(|| write.from.clone()),
            ),
        }
        drop(queue);
        result
    }
}

/// Whoever drains and is dropped half-way leaves the rest to the next.
struct Rest<'a>(Option<&'a StoreQueue>);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if let Some(writes) = self.0 {
            writes.lock().draining = false;
        }
    }
}

/// Hands `task` to the tokio runtime, or back to the caller where there is none.
#[cfg(feature = "rt-tokio")]
pub(super) fn detach<F: Future<Output = ()> + Send + 'static>(task: F) -> Option<F> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            drop(runtime.spawn(task));
            None
        }
        Err(_) => Some(task),
    }
}

/// Hands `task` back to the caller: there is no runtime to carry it.
#[cfg(not(feature = "rt-tokio"))]
pub(super) fn detach<F: Future<Output = ()> + Send + 'static>(task: F) -> Option<F> {
    Some(task)
}
