//! The task that keeps a cache warm while nobody asks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{AbortHandle, abortable};

use super::engine::{Demand, Engine, Step};
use super::flight::drop_quietly;
use super::spawn::Spawner;
use super::state::Verdict;
use super::sync::lock;
use super::{Failure, Value};

/// The longest sleep of the background task, so that it notices a machine that was suspended, or a clock that was set.
const BACKGROUND_STEP: Duration = Duration::from_secs(30);

/// The running task.
pub(super) struct Background {
    task: AbortHandle,
    /// Dangling once the task is gone, with its runtime for instance.
    alive: Weak<()>,
}

impl Background {
    fn is_alive(&self) -> bool {
        self.alive.strong_count() > 0
    }

    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

impl<T: Value, E: Failure> Engine<T, E> {
    /// Starts the background task if the policy has one and it is not running.
    pub(super) fn start_background(self: &Arc<Self>, spawner: &Spawner) {
        if !self.policy.background() {
            return;
        }
        let mut shared = lock(&self.shared);
        if shared.ended || shared.background.as_deref().is_some_and(Background::is_alive) {
            return;
        }
        let alive = Arc::new(());
        let engine = Arc::downgrade(self);
        let (mark, timer) = (Arc::downgrade(&alive), self.timer.clone());
        let (task, handle) = abortable(async move {
            // If the runtime drops the task, this goes with it, and another task can be started.
            let _alive = alive;
            while let Some(step) = engine.upgrade().and_then(|engine| engine.refresh_if_due()) {
                let Some(sleep) = timer.after(step) else { return };
                sleep.await;
            }
        });
        let gone = shared.background.replace(Box::new(Background {
            task: handle,
            alive: mark,
        }));
        drop(shared);
        // It may hold the last waker of its task.
        drop_quietly(gone);
        spawner.spawn(task.map(drop));
    }

    /// Starts the refresh that is due, if any, and says when to look again. `None`: never.
    fn refresh_if_due(self: &Arc<Self>) -> Option<Duration> {
        let now = self.clock.now();
        let shared = lock(&self.shared);
        if shared.ended {
            return None;
        }
        let (due, verdict) = (
            shared.state.is_due_unasked(&self.policy, now),
            shared.state.classify(&self.policy, now),
        );
        drop(shared);
        if due && let Step::Overdue(flight) = self.look(Demand::Fresh, Spawner::here().as_ref()) {
            flight.cancel();
        }
        Some(match verdict {
            Verdict::Serve(length) if !length.is_zero() => length.min(BACKGROUND_STEP),
            _ => BACKGROUND_STEP,
        })
    }
}
