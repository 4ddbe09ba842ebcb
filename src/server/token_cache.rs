//! What was vended and still serves, and what is being asked for right now.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::request::PrincipalTags;
use crate::clock::{Expiry, Now};
use crate::error::Error;
use crate::ids::DeveloperUserId;
use crate::metrics;
use crate::token::TokenDuration;

/// What two vends to one user can differ in. Pool and provider are the vendor's own, hence the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// Another caller's.
    Joined(Flight<V>),
    Started(Flight<V>),
}

/// A bounded cache with one flight per key.
pub(super) struct TokenCache<V> {
    capacity: usize,
    state: Mutex<State<V>>,
}

struct State<V> {
    // By user first, so that a hit allocates nothing and a user is forgotten at once.
    users: HashMap<DeveloperUserId, Slots<V>>,
    slots: usize,
    /// Slots that were dropped for others since this was told last.
    evicted: u64,
    counter: u64,
}

struct Slot<V> {
    options: TokenOptions,
    id: FlightId,
    used: u64,
    value: Option<CachedToken<V>>,
    flight: Option<WeakShared<BoxFuture<'static, Result<V, Error>>>>,
}

/// The slots of one user. Nearly all users have one: a few are searched in order, further ones are in a map, so that whatever a user
/// asks for costs the same.
struct Slots<V> {
    few: Vec<Slot<V>>,
    many: HashMap<TokenOptions, Slot<V>>,
}

const FEW: usize = 8;

impl<V> Slots<V> {
    fn find_mut(&mut self, options: &TokenOptions) -> Option<&mut Slot<V>> {
        let few = self.few.iter_mut().find(|slot| slot.options == *options);
        few.or_else(|| {
            if self.many.is_empty() {
                None
            } else {
                self.many.get_mut(options)
            }
        })
    }

    fn push(&mut self, slot: Slot<V>) {
        if self.few.len() < FEW {
            self.few.push(slot);
        } else {
            self.many.insert(slot.options.clone(), slot);
        }
    }

    fn remove(&mut self, options: &TokenOptions) {
        match self.few.iter().position(|slot| slot.options == *options) {
            Some(at) => drop(self.few.swap_remove(at)),
            None => drop(self.many.remove(options)),
        }
    }

    fn retain(&mut self, keep: impl Fn(&Slot<V>) -> bool) {
        self.few.retain(&keep);
        self.many.retain(|_, slot| keep(slot));
    }

    fn iter(&self) -> impl Iterator<Item = &Slot<V>> {
        self.few.iter().chain(self.many.values())
    }

    fn len(&self) -> usize {
        self.few.len() + self.many.len()
    }
}

impl<V> Default for Slots<V> {
    fn default() -> Self {
        Self {
            few: Vec::new(),
            many: HashMap::new(),
        }
    }
}

struct CachedToken<V> {
    value: V,
    kept: KeptFor,
}

/// How long a value is good for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptFor {
    /// From then on it is time to ask for the next.
    pub(super) ahead: Expiry,
    /// Until then it is served without asking.
    pub(super) serves: Expiry,
    /// Until then it is served if asking fails.
    pub(super) usable: Expiry,
}

/// A refresh ahead that failed is not tried again for so long.
const AHEAD_AGAIN: Duration = Duration::from_secs(30);

impl<V: Clone + Send + Sync + 'static> TokenCache<V> {
    /// For at most `capacity` values; with 0 it keeps none and joins no requests.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::new(State {
                users: HashMap::new(),
                slots: 0,
                evicted: 0,
                counter: 0,
            }),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.capacity == 0
    }

    /// The value, if it still serves, and whether it is time to ask for the next.
    pub(super) fn get(&self, user: &DeveloperUserId, options: &TokenOptions, now: Now) -> Option<(V, bool)> {
        let mut state = self.lock();
        state.counter += 1;
        let used = state.counter;
        let slot = state.users.get_mut(user)?.find_mut(options)?;
        slot.used = used;
        let cached = slot.value.as_ref().filter(|cached| !cached.kept.serves.is_over(now))?;
        Some((cached.value.clone(), cached.kept.ahead.is_over(now)))
    }

    /// The value, if it is still good when nothing better can be had.
    pub(super) fn stale(&self, user: &DeveloperUserId, options: &TokenOptions, now: Now) -> Option<V> {
        let mut state = self.lock();
        let slot = state.users.get_mut(user)?.find_mut(options)?;
        let cached = slot.value.as_ref().filter(|cached| !cached.kept.usable.is_over(now))?;
        Some(cached.value.clone())
    }

    /// Begins to ask for the next value, unless that is being done or was done a moment ago.
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "needs a task that drives the flight")
    )]
    pub(super) fn begin_ahead(
        &self,
        user: &DeveloperUserId,
        options: &TokenOptions,
        now: Now,
        start: impl FnOnce(FlightId) -> BoxFuture<'static, Result<V, Error>>,
    ) -> Option<Flight<V>> {
        let mut state = self.lock();
        let slot = state.users.get_mut(user)?.find_mut(options)?;
        let cached = slot.value.as_mut().filter(|cached| cached.kept.ahead.is_over(now))?;
        if slot.flight.as_ref().and_then(WeakShared::upgrade).is_some() {
            return None;
        }
        cached.kept.ahead = Expiry::after(now, AHEAD_AGAIN);
        let flight = start(slot.id).shared();
        slot.flight = flight.downgrade();
        Some(flight)
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
        self.change(|state| {
            state.counter += 1;
            let counter = state.counter;
            if let Some(slot) = state.users.get_mut(user).and_then(|slots| slots.find_mut(options)) {
                slot.used = counter;
                if let Some(cached) = slot
                    .value
                    .as_ref()
                    .filter(|cached| !fresh && !cached.kept.serves.is_over(now))
                {
                    return Lookup::Value(cached.value.clone());
                }
                if let Some(flight) = slot.flight.as_ref().and_then(WeakShared::upgrade) {
                    return Lookup::Joined(flight);
                }
                let flight = start(slot.id).shared();
                slot.flight = flight.downgrade();
                return Lookup::Started(flight);
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
            Lookup::Started(flight)
        })
    }

    /// What a flight brought. Nothing is kept if the user was evicted meanwhile.
    pub(super) fn land(
        &self,
        user: &DeveloperUserId,
        options: &TokenOptions,
        id: FlightId,
        brought: Option<(V, KeptFor)>,
    ) {
        self.change(|state| {
            let Some(slots) = state.users.get_mut(user) else { return };
            let Some(slot) = slots.find_mut(options).filter(|slot| slot.id == id) else {
                return;
            };
            slot.flight = None;
            if let Some((value, kept)) = brought {
                slot.value = Some(CachedToken { value, kept });
            } else if slot.value.is_none() {
                slots.remove(options);
                let empty = slots.len() == 0;
                state.slots -= 1;
                if empty {
                    state.users.remove(user);
                }
            }
        });
    }

    /// Forgets all that is kept for `user`; a flight that is out will not be kept either.
    pub(super) fn evict(&self, user: &DeveloperUserId) {
        self.change(|state| {
            if let Some(slots) = state.users.remove(user) {
                state.slots -= slots.len();
            }
        });
    }

    /// Changes the state, and tells afterwards how many slots there are more.
    fn change<T>(&self, change: impl FnOnce(&mut State<V>) -> T) -> T {
        let mut state = self.lock();
        let before = state.slots;
        let changed = change(&mut state);
        let (after, evicted) = (state.slots, std::mem::take(&mut state.evicted));
        drop(state);
        metrics::cached_tokens(after as f64 - before as f64, evicted);
        changed
    }

    /// As [`evict`](Self::evict), for all users that `is` names.
    pub(super) fn evict_where(&self, is: impl Fn(&DeveloperUserId) -> bool) {
        self.change(|state| {
            state.users.retain(|user, _| !is(user));
            state.slots = state.users.values().map(Slots::len).sum();
        });
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
            slot.value
                .as_ref()
                .is_some_and(|cached| !cached.kept.serves.is_over(now))
                || slot.flight.as_ref().is_some_and(|flight| flight.upgrade().is_some())
        };
        let before = self.slots;
        self.retain(serves);
        let target = capacity - (capacity / 8).max(1);
        if self.slots > target {
            let mut used: Vec<u64> = self
                .users
                .values()
                .flat_map(Slots::iter)
                .map(|slot| slot.used)
                .collect();
            let excess = self.slots - target;
            let (_, last_dropped, _) = used.select_nth_unstable(excess - 1);
            let last_dropped = *last_dropped;
            self.retain(|slot| slot.used > last_dropped);
        }
        self.evicted += (before - self.slots) as u64;
    }

    fn retain(&mut self, keep: impl Fn(&Slot<V>) -> bool) {
        self.users.retain(|_, slots| {
            slots.retain(&keep);
            slots.len() > 0
        });
        self.slots = self.users.values().map(Slots::len).sum();
    }
}

impl<V> Drop for TokenCache<V> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        metrics::cached_tokens(-(state.slots as f64), 0);
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
