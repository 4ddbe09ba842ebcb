//! What was vended and still serves, and what is being asked for right now.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::request::PrincipalTags;
use crate::clock::{Expiry, Now};
use crate::error::Error;
use crate::ids::DeveloperUserId;
use crate::token::TokenDuration;

/// What two vends to one user can differ in. Pool and provider are the vendor's own, hence the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenOptions {
    pub(super) duration: TokenDuration,
    pub(super) tags: PrincipalTags,
}

/// A request on its way that several callers wait for. It belongs to them: whoever is left drives it on, and it ends with the
/// last one.
pub(super) type Flight<V> = Shared<BoxFuture<'static, Result<V, Error>>>;

/// Which flight may land: the slot that it was started for, if that is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlightId(u64);

pub(super) enum Lookup<V> {
    Value(V),
    Flight(Flight<V>),
}

/// A bounded cache with one flight per key.
pub(super) struct TokenCache<V> {
    capacity: usize,
    state: Mutex<State<V>>,
}

struct State<V> {
    // By user first, so that a hit allocates nothing and a user is forgotten at once.
    users: HashMap<DeveloperUserId, Vec<Slot<V>>>,
    slots: usize,
    counter: u64,
}

struct Slot<V> {
    options: TokenOptions,
    id: FlightId,
    used: u64,
    value: Option<CachedToken<V>>,
    flight: Option<WeakShared<BoxFuture<'static, Result<V, Error>>>>,
}

struct CachedToken<V> {
    value: V,
    serves: Expiry,
}

impl<V: Clone + Send + Sync + 'static> TokenCache<V> {
    /// For at most `capacity` values; with 0 it keeps none and joins no requests.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::new(State {
                users: HashMap::new(),
                slots: 0,
                counter: 0,
            }),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.capacity == 0
    }

    /// The value, if it still serves.
    pub(super) fn get(&self, user: &DeveloperUserId, options: &TokenOptions, now: Now) -> Option<V> {
        let mut state = self.lock();
        state.counter += 1;
        let used = state.counter;
        let slot = state
            .users
            .get_mut(user)?
            .iter_mut()
            .find(|slot| slot.options == *options)?;
        slot.used = used;
        slot.value
            .as_ref()
            .filter(|kept| !kept.serves.is_over(now))
            .map(|kept| kept.value.clone())
    }

    /// The value if it still serves (and may, i.e. not `fresh`), else the flight for it: the one that is out, or the one that
    /// `start` makes. `start` must not begin its work before it is polled.
    pub(super) fn join(
        &self,
        user: &DeveloperUserId,
        options: &TokenOptions,
        fresh: bool,
        now: Now,
        start: impl FnOnce(FlightId) -> BoxFuture<'static, Result<V, Error>>,
    ) -> Lookup<V> {
        let mut state = self.lock();
        state.counter += 1;
        let counter = state.counter;
        if let Some(slot) = state
            .users
            .get_mut(user)
            .and_then(|slots| slots.iter_mut().find(|s| s.options == *options))
        {
            slot.used = counter;
            if let Some(kept) = slot.value.as_ref().filter(|kept| !fresh && !kept.serves.is_over(now)) {
                return Lookup::Value(kept.value.clone());
            }
            if let Some(flight) = slot.flight.as_ref().and_then(WeakShared::upgrade) {
                return Lookup::Flight(flight);
            }
            let flight = start(slot.id).shared();
            slot.flight = flight.downgrade();
            return Lookup::Flight(flight);
        }
        if state.slots >= self.capacity {
            state.make_room(self.capacity, now);
        }
        let id = FlightId(counter);
        let flight = start(id).shared();
        let slot = Slot {
            options: options.clone(),
            id,
            used: counter,
            value: None,
            flight: flight.downgrade(),
        };
        state.users.entry(user.clone()).or_default().push(slot);
        state.slots += 1;
        Lookup::Flight(flight)
    }

    /// What a flight brought. Nothing is kept if the user was evicted meanwhile.
    pub(super) fn land(&self, user: &DeveloperUserId, id: FlightId, brought: Option<(V, Expiry)>) {
        let mut state = self.lock();
        let Some(slots) = state.users.get_mut(user) else { return };
        let Some(at) = slots.iter().position(|slot| slot.id == id) else {
            return;
        };
        let slot = &mut slots[at];
        slot.flight = None;
        if let Some((value, serves)) = brought {
            slot.value = Some(CachedToken { value, serves });
        } else if slot.value.is_none() {
            slots.swap_remove(at);
            let empty = slots.is_empty();
            state.slots -= 1;
            if empty {
                state.users.remove(user);
            }
        }
    }

    /// Forgets all that is kept for `user`; a flight that is out will not be kept either.
    pub(super) fn evict(&self, user: &DeveloperUserId) {
        let mut state = self.lock();
        if let Some(slots) = state.users.remove(user) {
            state.slots -= slots.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> State<V> {
    /// Drops what serves nobody any more, and then the least recently used, until an eighth is free: one walk pays for many
    /// insertions.
    fn make_room(&mut self, capacity: usize, now: Now) {
        let serves = |slot: &Slot<V>| {
            slot.value.as_ref().is_some_and(|kept| !kept.serves.is_over(now))
                || slot.flight.as_ref().is_some_and(|flight| flight.upgrade().is_some())
        };
        self.retain(serves);
        let target = capacity - (capacity / 8).max(1);
        if self.slots > target {
            let mut used: Vec<u64> = self.users.values().flatten().map(|slot| slot.used).collect();
            let excess = self.slots - target;
            let (_, last_dropped, _) = used.select_nth_unstable(excess - 1);
            let last_dropped = *last_dropped;
            self.retain(|slot| slot.used > last_dropped);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Slot<V>) -> bool) {
        self.users.retain(|_, slots| {
            slots.retain(&keep);
            !slots.is_empty()
        });
        self.slots = self.users.values().map(Vec::len).sum();
    }
}

impl<V> std::fmt::Debug for TokenCache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
