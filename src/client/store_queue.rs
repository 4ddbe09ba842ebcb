//! [`StoreQueue`]: the writes to the app's store, one at a time, in the order in which they were decided.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::app_code::{drop_quietly, quietly};
use super::detached::detach;
use super::turns::Patience;
use crate::clock::Expiry;
use crate::error::{Error, ErrorKind};
use crate::ids::{IdentityId, IdentityPoolId};
use crate::store::{IdentityStore, StoreError, StoreKey, Swapped};

/// How long a sign-in waits for the store. The write goes on, and what is in memory does not depend on it.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What is kept alive until the store has caught up with it.
pub(super) type Memory = Arc<dyn Send + Sync>;

/// The app's store, and what is on its way to it.
pub(super) struct StoreQueue {
    store: Arc<dyn IdentityStore>,
    /// When whoever writes counts as lost, with its runtime most likely, and another does it again.
    patience: Patience,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Arc<Write>>,
    /// The one that is being written, its number, and when whoever does it is overtaken.
    writing: Option<(Arc<Write>, u64, Expiry)>,
    begun: u64,
    /// What the store still holds where a write has failed. It keeps the memory alive, which is ahead of the store.
    behind: HashMap<StoreKey, (Option<IdentityId>, Memory)>,
}

struct Write {
    change: Change,
    stored: Mutex<Option<oneshot::Sender<Result<Swapped, StoreError>>>>,
}

enum Change {
    Swap {
        key: StoreKey,
        memory: Memory,
        from: Option<IdentityId>,
        to: Option<IdentityId>,
    },
    RemoveAll {
        pool: IdentityPoolId,
        namespace: String,
    },
}

/// A write that is on its way.
pub(super) struct Stored {
    queue: Arc<StoreQueue>,
    result: oneshot::Receiver<Result<Swapped, StoreError>>,
}

impl StoreQueue {
    pub(super) fn new(store: Arc<dyn IdentityStore>, patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            store,
            patience,
            queue: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, Error> {
        let load = self.store.load(key);
        match self.patience.timer.after(self.patience.limit) {
            None => Ok(load.await?),
            Some(sleep) => match select(load, sleep).await {
                Either::Left((loaded, _)) => Ok(loaded?),
                Either::Right(_) => Err(slow(self.patience.limit)),
            },
        }
    }

    pub(super) fn swap(
        self: &Arc<Self>,
        key: StoreKey,
        memory: Memory,
        from: Option<IdentityId>,
        to: Option<IdentityId>,
    ) -> Stored {
        self.push(Change::Swap { key, memory, from, to })
    }

    /// Empties the whole namespace.
    pub(super) fn remove_all(self: &Arc<Self>, pool: IdentityPoolId, namespace: String) -> Stored {
        self.push(Change::RemoveAll { pool, namespace })
    }

    fn push(self: &Arc<Self>, change: Change) -> Stored {
        let (stored, result) = oneshot::channel();
        let stored = Mutex::new(Some(stored));
        self.lock().pending.push_back(Arc::new(Write { change, stored }));
        Stored {
            queue: Arc::clone(self),
            result,
        }
    }

    /// Writes what is queued, unless somebody is at it.
    async fn drain(self: Arc<Self>) {
        loop {
            let Some((write, number)) = self.next() else { return };
            let mut unfinished = Unfinished {
                queue: &self,
                number: Some(number),
            };
            // A store that panics has failed; what is queued behind it goes on.
            let written = AssertUnwindSafe(self.write(&write, number)).catch_unwind().await;
            let result = written.unwrap_or_else(|panic| {
                drop_quietly(panic);
                Err(StoreError::new("the identity store panicked"))
            });
            unfinished.number = None;
            if !self.finish(number) {
                return;
            }
            write.report(result);
        }
    }

    /// The next to be written, and its number. `None`: somebody is at it, or there is none.
    fn next(&self) -> Option<(Arc<Write>, u64)> {
        let now = self.patience.clock.now();
        let mut queue = self.lock();
        match queue.writing.take() {
            Some(writing) if !writing.2.is_over(now) => {
                queue.writing = Some(writing);
                return None;
            }
            // Compare-and-swap: it does no harm to do it twice.
            Some((lost, ..)) => queue.pending.push_front(lost),
            None => {}
        }
        let write = queue.pending.pop_front()?;
        queue.begun += 1;
        let number = queue.begun;
        queue.writing = Some((Arc::clone(&write), number, Expiry::after(now, self.patience.limit)));
        Some((write, number))
    }

    fn is_ours(&self, number: u64) -> bool {
        self.lock().writing.as_ref().is_some_and(|writing| writing.1 == number)
    }

    /// `false`: somebody else has taken the write over.
    fn finish(&self, number: u64) -> bool {
        let mut queue = self.lock();
        let ours = queue.writing.as_ref().is_some_and(|writing| writing.1 == number);
        let done = if ours { queue.writing.take() } else { None };
        drop(queue);
        drop(done);
        ours
    }

    async fn write(&self, write: &Write, number: u64) -> Result<Swapped, StoreError> {
        let (key, memory, from, to) = match &write.change {
            Change::Swap { key, memory, from, to } => (key, memory, from, to),
            Change::RemoveAll { pool, namespace } => {
                self.store.remove_all(pool, namespace).await?;
                let forgotten = std::mem::take(&mut self.lock().behind);
                drop(forgotten);
                return Ok(Swapped::Yes);
            }
        };
        let mut result = self.store.swap(key, from.as_ref(), to.as_ref()).await;
        if let Ok(Swapped::No { current }) = &result
            && current == to
        {
            // Done before by one who was overtaken.
            result = Ok(Swapped::Yes);
        }
        if let (Ok(Swapped::No { current: None }), Some(_)) = (&result, to)
            && self.is_ours(number)
        {
            // What was to be replaced is gone; an empty slot is nobody's.
            result = self.store.swap(key, None, to.as_ref()).await;
        }
        let behind = self.lock().behind.get(key).map(|(stored, _)| stored.clone());
        if let (Ok(Swapped::No { current }), Some(behind)) = (&result, behind)
            && *current == behind
            && self.is_ours(number)
        {
            // Not another process's: what an earlier write of ours failed to replace.
            result = self.store.swap(key, behind.as_ref(), to.as_ref()).await;
        }
        let mut queue = self.lock();
        let caught_up = match &result {
            Ok(_) => queue.behind.remove(key),
            Err(_) => {
                let behind = || (from.clone(), Arc::clone(memory));
                queue.behind.entry(key.clone()).or_insert_with(behind);
                None
            }
        };
        drop(queue);
        drop(caught_up);
        result
    }
}

impl Write {
    fn report(&self, result: Result<Swapped, StoreError>) {
        if let Err(error) = &result {
            tracing::warn!(%error, "the identity store could not be written; what is in memory stays in use");
        }
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever decided it may have gone, and its waker is anybody's code.
        quietly(|| stored.map(|stored| stored.send(result).map(drop)));
    }
}

/// Whoever is dropped in the middle of a write leaves it to the next.
struct Unfinished<'a> {
    queue: &'a StoreQueue,
    number: Option<u64>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut queue = self.queue.lock();
        if queue.writing.as_ref().is_some_and(|writing| writing.1 == number)
            && let Some((write, ..)) = queue.writing.take()
        {
            queue.pending.push_front(write);
        }
    }
}

impl Stored {
    /// Sets the write going, and does not wait for it. Without a runtime it is done here.
    pub(super) async fn in_background(self) {
        if let Some(inline) = detach(Arc::clone(&self.queue).drain()) {
            inline.await;
        }
    }

    /// Waits for the store, up to [`STORE_PATIENCE`], and says what is stored: another process's id if that one was faster.
    pub(super) async fn wait(self) -> Result<Swapped, Error> {
        let Self { queue, result } = self;
        let timer = queue.patience.timer.clone();
        if let Some(inline) = detach(Arc::clone(&queue).drain()) {
            inline.await;
        }
        let written = match timer.after(STORE_PATIENCE) {
            None => result.await,
            Some(sleep) => match select(result, sleep).await {
                Either::Left((written, _)) => written,
                Either::Right(_) => return Err(slow(STORE_PATIENCE)),
            },
        };
        Ok(written.unwrap_or_else(|_| Err(StoreError::new("the write was given up")))?)
    }
}

fn slow(limit: Duration) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("the identity store did not answer within {} s", limit.as_secs_f32()),
    )
    .with_hint("what is in memory stays in use, and the write is still under way")
}
