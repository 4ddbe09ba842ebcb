//! Keeps one value fresh: refreshed ahead of time, loaded once for many callers, served through outages.
//!
//! Knows nothing of AWS; `client` keeps a session's credentials in it. Who owns whom:
//!
//! ```text
//! RefreshCache<T>            the handle; clones share one engine
//!   Engine                   clock, policy and source joined; one per cache, gone with the last handle
//!     Source                 the owner's: loads a value
//!     Slot -> Entry<T>       the current value, replaced under the lock, read without
//!     Locked                 behind the engine's lock, which nothing of the owner's runs under
//!       State                what is known of the value and of failures: decides (pure; `state`, `policy`)
//!       Flight               the load under way, shared by all who wait; driven by a task, else by them
//!       Background           the task that refreshes while nobody asks; holds the engine weakly
//! HotValue<T>                an owner's copy of some cache's Slot: a hit without reaching the cache
//! Cached<T>                  a value that was handed out
//! ```
//!
//! Two locks: the engine's, and each flight's, which may be taken under the engine's and never the other way round. Nothing
//! of the owner's runs under either: no load, drop, wake, clone of a waker or reading of the time.

mod background;
mod engine;
mod flight;
mod policy;
mod spawn;
mod state;
mod sync;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use futures_util::future::BoxFuture;

pub(crate) use self::engine::Setup;
use self::engine::{Demand, Engine};
pub use self::policy::{RefreshPolicy, RefreshPolicyBuilder};
pub(crate) use self::spawn::Reentry;
pub(crate) use self::state::Reason;
use self::sync::{AtomicI64, Ordering, Slot};
use crate::clock::{Clock, Expiry, Now, Timer};

/// For this long after a full check, a hit compares only the wall clock: reading the second clock would double its cost. A
/// clock that was set back is noticed, except in the one second in which it shows the same time again.
const RECHECK_MILLIS: i64 = 1_000;

/// What the cache needs to know about its source's errors, and the errors that it raises itself. Every caller that waits for
/// the same load gets a clone.
pub(crate) trait Failure: Clone + Send + Sync + 'static {
    /// Trying again will not help, and the cached value must not be served any longer.
    fn is_terminal(&self) -> bool;
    /// Like a terminal failure, until the user signs in again.
    fn needs_sign_in(&self) -> bool;
    /// How long the source wants to be left alone.
    fn retry_after(&self) -> Option<Duration>;
    /// The load panicked.
    fn panicked(message: String) -> Self;
    /// The load took longer than the policy's timeout.
    fn timed_out(after: Duration) -> Self;
    /// The load asked the cache that it was loading for, and would have waited for itself.
    fn reentered() -> Self;
    /// [`RefreshCache::end`] was called.
    fn ended() -> Self;
    /// The value that was loaded had expired already.
    fn expired_on_arrival() -> Self;
    /// A caller needed a value for at least `wanted`, and the source gave one for `given`.
    fn too_short(wanted: Duration, given: Duration) -> Self;
}

/// What a load returns.
#[derive(Clone, Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) value: T,
    /// `None`: it never expires.
    pub(crate) expires: Option<Expiry>,
}

/// Why a load is started, and which attempt it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadRequest {
    pub(crate) reason: Reason,
    /// 1 for the first attempt after a success, and one more for each failure since.
    pub(crate) attempt: u32,
}

/// What can be kept.
pub(crate) trait Value: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> Value for T {}

/// Where values come from.
pub(crate) trait Source<T, E>: Send + Sync {
    /// Loads a value. The call itself is part of the load: if it panics, the load has failed.
    fn load(&self, request: LoadRequest) -> BoxFuture<'static, Result<Loaded<T>, E>>;

    /// A load failed: it returned an error, timed out, panicked, or returned a value that had expired. Called before those
    /// who wait are told.
    fn failed(&self, _error: &E) {}
}

impl<T, E, F> Source<T, E> for F
where
    F: Fn(LoadRequest) -> BoxFuture<'static, Result<Loaded<T>, E>> + Send + Sync,
{
    fn load(&self, request: LoadRequest) -> BoxFuture<'static, Result<Loaded<T>, E>> {
        self(request)
    }
}

pub(crate) type Load<T, E> = Arc<dyn Source<T, E>>;

/// A closure as a source.
pub(crate) fn load_fn<T, E, F>(load: F) -> Load<T, E>
where
    F: Fn(LoadRequest) -> BoxFuture<'static, Result<Loaded<T>, E>> + Send + Sync + 'static,
{
    Arc::new(load)
}

/// One value, kept fresh. Clones share it.
pub(crate) struct RefreshCache<T: Value, E: Failure> {
    engine: Arc<Engine<T, E>>,
}

/// A cache as its own load sees it.
pub(crate) struct WeakCache<T: Value, E: Failure>(Weak<Engine<T, E>>);

/// What the owner of many caches needs to know about each, to refresh and evict them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheStatus {
    /// When a caller asked last, to within the second for which a hit is not recorded; on the wall clock, in milliseconds.
    pub(crate) asked: i64,
    /// The value's remaining life and its full life. `None`: there is no value to serve, or it never expires.
    pub(crate) life: Option<(Duration, Duration)>,
}

/// A lock-free copy of the value of some cache, which may change over time. It can be read exactly as long as its cache would
/// serve it without a full check: the cache marks the value itself when that ends.
pub(crate) struct HotValue<T>(Slot<Entry<T>>);

/// A value that the cache has handed out. Clones share it.
pub(crate) struct Cached<T>(Arc<Entry<T>>);

struct Entry<T> {
    value: T,
    /// A hit needs no full check while the wall clock, in milliseconds, is within the `RECHECK_MILLIS` before this. Written
    /// under the engine's lock.
    fresh_until: AtomicI64,
}

impl<T: Value, E: Failure> RefreshCache<T, E> {
    pub(crate) fn new(policy: RefreshPolicy, clock: Clock, sleep: Option<SharedAsyncSleep>, load: Load<T, E>) -> Self {
        Self {
            engine: Arc::new(Engine::new(Setup::new(policy, clock, sleep), load)),
        }
    }

    /// Like [`new`](Self::new), with a setup shared between caches and a source that can look at its own cache.
    pub(crate) fn sharing(setup: Arc<Setup>, load: impl FnOnce(WeakCache<T, E>) -> Load<T, E>) -> Self {
        Self {
            engine: Arc::new_cyclic(|engine| Engine::new(setup, load(WeakCache(Weak::clone(engine))))),
        }
    }

    /// Reads the value if it may be served without a full check: see [`HotValue::read`].
    #[allow(dead_code, reason = "for tests and benches: owners keep a hot value of their own")]
    pub(crate) fn peek<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        read_fresh(&self.engine.entry, &self.engine.clock, |fresh| fresh.map(read))
    }

    /// The value: at once if it may be served, else after the load that is under way or is started now.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the load; other callers get its result.
    pub(crate) async fn get(&self) -> Result<Cached<T>, E> {
        if let Some(entry) = self.engine.entry.load()
            && entry.is_fresh(self.engine.clock.wall_millis())
        {
            return Ok(Cached(entry));
        }
        self.engine.obtain(Demand::Fresh).await
    }

    /// A value from a forced load, whether or not the cached value is still good and whatever failed before. Calls that
    /// wait at the same time share one load.
    ///
    /// # Cancel safety
    /// As for [`get`](Self::get).
    pub(crate) async fn refresh_now(&self) -> Result<Cached<T>, E> {
        self.engine.obtain(Demand::Forced).await
    }

    /// A value that is valid for at least `least` longer: the cached one if it is, else one that is loaded now, ahead of its
    /// windows. Calls that wait at the same time share one load.
    ///
    /// # Errors
    /// [`Failure::too_short`] if the source does not give that much, without asking it more than once a minute; the
    /// source's error if the load fails, and for the 1 to 5 seconds (or what the source asked for) after one has failed.
    ///
    /// # Cancel safety
    /// As for [`get`](Self::get).
    #[cfg_attr(not(test), allow(dead_code, reason = "sessions are about to offer it"))]
    pub(crate) async fn get_valid_for(&self, least: Duration) -> Result<Cached<T>, E> {
        self.engine.obtain(Demand::ValidFor(least)).await
    }

    /// If `is_current` recognises the cached value, the next caller waits for a new one. The old one is kept, and served if
    /// the load fails for a passing reason. `false`: the value is another one, or was invalidated before.
    pub(crate) fn invalidate(&self, is_current: impl FnOnce(&T) -> bool) -> bool {
        let Some(judged) = self.engine.entry.load() else {
            return false;
        };
        is_current(&judged.value) && self.engine.invalidate(&judged)
    }

    /// Drops the value and the load that is under way. Everybody, including those who wait, gets [`Failure::ended`] from now
    /// on.
    pub(crate) fn end(&self) {
        self.engine.end();
    }

    /// Starts a refresh that no caller has asked for. `false`: one is under way, the cache backs off after a failure, or there
    /// is nothing to refresh.
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(crate) fn refresh_ahead(&self) -> bool {
        self.engine.refresh_ahead()
    }

    /// When the cache was used last, and how much life its value has left.
    pub(crate) fn status(&self) -> CacheStatus {
        self.engine.status()
    }

    /// The last value, however old. `None` once ended.
    pub(crate) fn current(&self) -> Option<Cached<T>> {
        self.engine.entry.load().map(Cached)
    }
}

impl<T: Value, E: Failure> WeakCache<T, E> {
    /// The last value, however old.
    pub(crate) fn current(&self) -> Option<Cached<T>> {
        self.0.upgrade()?.entry.load().map(Cached)
    }
}

impl<T> HotValue<T> {
    pub(crate) fn empty() -> Self {
        Self(Slot::empty())
    }

    /// What `cache` has now.
    pub(crate) fn of<E: Failure>(cache: &RefreshCache<T, E>) -> Self
    where
        T: Value,
    {
        Self(Slot::new(cache.engine.entry.load()))
    }

    /// Reads the value if it may be served without a full check: one pointer and the wall clock, no lock, no allocation.
    /// `None` means only that its cache has to be asked.
    #[inline]
    pub(crate) fn read<R>(&self, clock: &Clock, read: impl FnOnce(Option<&T>) -> R) -> R {
        read_fresh(&self.0, clock, read)
    }

    pub(crate) fn is(&self, value: &Cached<T>) -> bool {
        self.0
            .read(|entry| entry.is_some_and(|entry| std::ptr::eq(entry, &*value.0)))
    }

    pub(crate) fn put(&self, value: &Cached<T>) {
        drop(self.0.swap(Some(Arc::clone(&value.0))));
    }

    pub(crate) fn clear(&self) {
        drop(self.0.swap(None));
    }
}

impl Setup {
    pub(crate) fn new(policy: RefreshPolicy, clock: Clock, sleep: Option<SharedAsyncSleep>) -> Arc<Self> {
        Arc::new(Self {
            policy,
            clock,
            timer: Timer::new(sleep),
        })
    }
}

#[inline]
fn read_fresh<T, R>(slot: &Slot<Entry<T>>, clock: &Clock, read: impl FnOnce(Option<&T>) -> R) -> R {
    let wall = clock.wall_millis();
    slot.read(|entry| read(entry.filter(|entry| entry.is_fresh(wall)).map(|entry| &entry.value)))
}

impl<T> Entry<T> {
    #[inline]
    fn is_fresh(&self, wall: i64) -> bool {
        let until = self.fresh_until.load(Ordering::Acquire);
        wall < until && until.saturating_sub(RECHECK_MILLIS) <= wall
    }

    fn serve_hits_for(&self, now: Now, length: Duration) {
        let length = i64::try_from(length.as_millis())
            .unwrap_or(i64::MAX)
            .min(RECHECK_MILLIS);
        self.fresh_until
            .store(now.wall_millis().saturating_add(length), Ordering::Release);
    }

    fn stop_hits(&self) {
        self.fresh_until.store(i64::MIN, Ordering::Release);
    }
}

impl<T: Value, E: Failure> Clone for RefreshCache<T, E> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
        }
    }
}

impl<T: Value, E: Failure> fmt::Debug for RefreshCache<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshCache")
            .field("policy", &self.engine.policy)
            .finish_non_exhaustive()
    }
}

impl<T> Cached<T> {
    /// Whether its cache would serve it with no further look, at this moment of the wall clock in milliseconds.
    #[inline]
    pub(crate) fn is_fresh(&self, wall: i64) -> bool {
        self.0.is_fresh(wall)
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Clone for Cached<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Cached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

/// The value is most likely a secret.
impl<T> fmt::Debug for Cached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
