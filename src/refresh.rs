//! Keeps one value fresh: refreshed ahead of time, loaded once for many callers, served through outages.
//!
//! Knows nothing of AWS; `credentials` puts a session's credentials into it. `policy` and `state` decide, `flight` carries a
//! load, `engine` joins them to clock, lock and runtime; this file is the face they show.

mod background;
mod carrier;
mod engine;
mod flight;
mod policy;
mod state;
mod sync;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use futures_util::future::BoxFuture;

pub(crate) use self::engine::Setup;
use self::engine::{Demand, Inner};
pub use self::policy::{RefreshPolicy, RefreshPolicyBuilder};
pub(crate) use self::state::Reason;
use self::sync::{AtomicI64, Ordering, Slot};
use crate::clock::{Clock, Expiry, Now, Timer};

/// A hit is good for this long without looking at anything but the wall clock, which is half of what a hit costs. A clock
/// that was set back is noticed unless nobody asks until it reads this very second again.
const LOOK_EVERY_MILLIS: i64 = 1_000;

/// What the cache has to know of its source's errors, and those that it raises itself. A clone is handed to every caller.
pub(crate) trait Failure: Clone + Send + Sync + 'static {
    /// Trying again will not help; the value at hand is not to be served any longer.
    fn is_terminal(&self) -> bool;
    /// As terminal, until the user signs in again.
    fn needs_sign_in(&self) -> bool;
    /// The source asked not to be asked again before this.
    fn retry_after(&self) -> Option<Duration>;
    /// The load panicked.
    fn panicked(message: String) -> Self;
    /// The load took longer than the policy's timeout.
    fn timed_out(after: Duration) -> Self;
    /// The load asked the very cache that it was called for, and would have waited for itself.
    fn reentered() -> Self;
    /// [`RefreshCache::end`] was called.
    fn ended() -> Self;
    /// The value that was loaded had expired already.
    fn expired_on_arrival() -> Self;
}

/// What a load brings.
#[derive(Clone, Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) value: T,
    /// `None`: it never expires.
    pub(crate) expires: Option<Expiry>,
}

/// Why, and for which time, a load is started.
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
    /// Loads a value. The call itself is made inside the load, so that it may panic like the rest of it.
    fn load(&self, request: LoadRequest) -> BoxFuture<'static, Result<Loaded<T>, E>>;

    /// A load came to nothing: it answered with an error, took too long, panicked, or brought what had expired. Those who wait
    /// are told afterwards.
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
    inner: Arc<Inner<T, E>>,
}

/// A cache as its own load sees it.
pub(crate) struct WeakCache<T: Value, E: Failure>(Weak<Inner<T, E>>);

/// What whoever refreshes many caches has to know of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// When a caller asked last, give or take the few seconds that a hit is good for; by the wall clock, in milliseconds.
    pub(crate) asked: i64,
    /// What is left of the value's life, and how long that was. `None`: there is none that serves, or it never expires.
    pub(crate) life: Option<(Duration, Duration)>,
}

/// A value of some cache, kept where it is one pointer away. It is read for as long as its cache would serve it with no
/// further look, and no longer: the cache tells the value itself when it is over.
pub(crate) struct AtHand<T>(Slot<Entry<T>>);

/// A value that the cache has handed out. Clones share it.
pub(crate) struct Served<T>(Arc<Entry<T>>);

struct Entry<T> {
    value: T,
    /// Up to this moment of the wall clock, in milliseconds, a hit needs no other look; nor does it from `LOOK_EVERY_MILLIS`
    /// before. Written under the lock.
    fresh_until: AtomicI64,
}

impl<T: Value, E: Failure> RefreshCache<T, E> {
    pub(crate) fn new(policy: RefreshPolicy, clock: Clock, sleep: Option<SharedAsyncSleep>, load: Load<T, E>) -> Self {
        Self {
            inner: Arc::new(Inner::new(Setup::new(policy, clock, sleep), load)),
        }
    }

    /// As [`new`](Self::new), with what other caches share, and a load that can look at the cache that it is for.
    pub(crate) fn sharing(setup: Arc<Setup>, load: impl FnOnce(WeakCache<T, E>) -> Load<T, E>) -> Self {
        Self {
            inner: Arc::new_cyclic(|inner| Inner::new(setup, load(WeakCache(Weak::clone(inner))))),
        }
    }

    /// Reads the value if it may be served with no further look: see [`AtHand::read`].
    pub(crate) fn peek<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        read_fresh(&self.inner.entry, &self.inner.clock, |fresh| fresh.map(read))
    }

    /// The value: at once if it may be served, else after the load that is in the air or is started now.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the load to the others, and to whoever asks next.
    pub(crate) async fn get(&self) -> Result<Served<T>, E> {
        if let Some(entry) = self.inner.entry.load()
            && entry.is_fresh(self.inner.clock.wall_millis())
        {
            return Ok(Served(entry));
        }
        self.inner.obtain(Demand::Fresh).await
    }

    /// A value from a load that was forced, by this call or by one that is still waiting, whatever the one at hand is worth
    /// and whatever failed before.
    ///
    /// # Cancel safety
    /// As for [`get`](Self::get).
    pub(crate) async fn refresh_now(&self) -> Result<Served<T>, E> {
        self.inner.obtain(Demand::Forced).await
    }

    /// If `is_current` recognises the value at hand, the next caller waits for a new one. The old one is kept and serves
    /// if the load fails for a passing reason. `false`: it is another, or was invalidated before.
    pub(crate) fn invalidate(&self, is_current: impl FnOnce(&T) -> bool) -> bool {
        let Some(judged) = self.inner.entry.load() else {
            return false;
        };
        is_current(&judged.value) && self.inner.invalidate(&judged)
    }

    /// Drops the value and the load that is in the air, and answers everybody, those who wait included, with
    /// [`Failure::ended`] from now on.
    pub(crate) fn end(&self) {
        self.inner.end();
    }

    /// Starts a refresh that no caller has asked for. `false`: one is in the air, a failed one is being paused for, or there is
    /// nothing to refresh.
    #[cfg_attr(
        not(feature = "rt-tokio"),
        allow(dead_code, reason = "for the refresher, which is a task")
    )]
    pub(crate) fn refresh_ahead(&self) -> bool {
        self.inner.refresh_ahead()
    }

    /// How the cache is used, and what is left of its value.
    pub(crate) fn outlook(&self) -> Outlook {
        self.inner.outlook()
    }

    /// The last value, however old. `None` once ended.
    pub(crate) fn current(&self) -> Option<Served<T>> {
        self.inner.entry.load().map(Served)
    }
}

impl<T: Value, E: Failure> WeakCache<T, E> {
    /// The last value, however old.
    pub(crate) fn current(&self) -> Option<Served<T>> {
        self.0.upgrade()?.entry.load().map(Served)
    }
}

impl<T> AtHand<T> {
    pub(crate) fn empty() -> Self {
        Self(Slot::empty())
    }

    /// What `cache` has now.
    pub(crate) fn of<E: Failure>(cache: &RefreshCache<T, E>) -> Self
    where
        T: Value,
    {
        Self(Slot::new(cache.inner.entry.load()))
    }

    /// Reads the value if it may be served with no further look: one pointer and the wall clock, no lock, no allocation.
    /// `None` says no more than that its cache has to be asked.
    #[inline]
    pub(crate) fn read<R>(&self, clock: &Clock, read: impl FnOnce(Option<&T>) -> R) -> R {
        read_fresh(&self.0, clock, read)
    }

    pub(crate) fn is(&self, served: &Served<T>) -> bool {
        self.0
            .read(|entry| entry.is_some_and(|entry| std::ptr::eq(entry, &*served.0)))
    }

    pub(crate) fn put(&self, served: &Served<T>) {
        drop(self.0.swap(Some(Arc::clone(&served.0))));
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
        wall < until && until.saturating_sub(LOOK_EVERY_MILLIS) <= wall
    }

    fn open(&self, now: Now, length: Duration) {
        let length = i64::try_from(length.as_millis())
            .unwrap_or(i64::MAX)
            .min(LOOK_EVERY_MILLIS);
        self.fresh_until
            .store(now.wall_millis().saturating_add(length), Ordering::Release);
    }

    fn close(&self) {
        self.fresh_until.store(i64::MIN, Ordering::Release);
    }
}

impl<T: Value, E: Failure> Clone for RefreshCache<T, E> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T: Value, E: Failure> fmt::Debug for RefreshCache<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshCache")
            .field("policy", &self.inner.policy)
            .finish_non_exhaustive()
    }
}

impl<T> Clone for Served<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Served<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

/// The value is most likely a secret.
impl<T> fmt::Debug for Served<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
