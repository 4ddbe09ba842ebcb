//! What the shared store says of who gets nothing: users who are denied, and users who are being forgotten, or were.
//!
//! An instance polls the list, or reads the two entries of a user at each vend that the cache does not answer. Either way it knows
//! *when* that was, and says no to everybody once it is longer ago than [`DenyListUpdates::max_stale`]. So whoever writes an entry
//! and waits for [`staleness`](DenyListUpdates::staleness) knows that each instance has read it or vends nothing until it has.
//!
//! A user who was forgotten leaves an entry behind that refuses nothing: an instance that was cut off all the while drops what it
//! has kept of that user as soon as it reads on.
//!
//! Nothing here needs a task. Whoever vends brings the list up to date, in one flight that all share, and waits for it only where
//! there is no list that serves. Where there is a tokio runtime, a task does so as well, so that sessions on the vendor end although
//! nobody vends; it is aborted with the last handle.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared, join};

use super::deny_entry::{DenyEntry, FORGOTTEN_FOR, List, Standing, fingerprint, forgotten_since, held, refusal};
use super::deny_list_updates::{DenyListUpdates, LAG};
use super::shared_store::{EntryKind, SharedState};
use crate::clock::{Clock, Expiry, Now};
use crate::error::{Error, ErrorKind};
use crate::ids::DeveloperUserId;

/// After a poll that failed, the next one is made so soon.
const AGAIN: Duration = Duration::from_secs(2);

/// A denial without an end.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// What keeps something of users, and has to let go of it.
pub(super) trait Keeper: Send + Sync {
    /// Drops what is kept of each user for whom `ended` has an error, and answers with it whoever still holds some of it.
    fn end_where(&self, ended: &(dyn Fn(&DeveloperUserId) -> Option<Error> + Sync));
}

pub(super) struct SharedDenyList {
    store: SharedState,
    updates: DenyListUpdates,
    clock: Clock,
    keeper: Weak<dyn Keeper>,
    list: ArcSwapOption<List>,
    /// What this process has written itself, until lists are sure to have it.
    written: Mutex<HashMap<String, Written>>,
    /// Where each vend reads: what was read lately.
    reads: Mutex<HashMap<DeveloperUserId, Read>>,
    poll: Mutex<Poll>,
}

struct Written {
    at: Now,
    /// `Err`: the entry of this id was removed.
    entry: Result<DenyEntry, u64>,
}

struct Read {
    serves: Expiry,
    /// Since when it is known here.
    heard: Now,
    found: [Option<DenyEntry>; 2],
}

impl Read {
    fn refusal(&self) -> Result<(), Error> {
        refusal(self.found.iter().flatten())
    }
}

#[derive(Default)]
struct Poll {
    flight: Option<WeakShared<BoxFuture<'static, ()>>>,
    next: Option<Expiry>,
    failure: Option<Error>,
    #[cfg(feature = "rt-tokio")]
    task: Option<tokio::task::AbortHandle>,
}

/// What is known of one user.
struct Known<'a> {
    /// Until then.
    serves: Expiry,
    /// Since then.
    heard: Now,
    entries: Vec<&'a DenyEntry>,
}

impl SharedDenyList {
    pub(super) fn new(
        store: SharedState,
        updates: DenyListUpdates,
        clock: Clock,
        keeper: Weak<dyn Keeper>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            updates,
            clock,
            keeper,
            list: ArcSwapOption::empty(),
            written: Mutex::default(),
            reads: Mutex::default(),
            poll: Mutex::default(),
        })
    }

    /// Looks at what is known of a user: by the last read of the user's entries, or by the last list.
    fn known<R>(&self, user: &DeveloperUserId, look: impl FnOnce(Option<Known<'_>>) -> R) -> R {
        if self.updates.interval.is_none() {
            return look(lock(&self.reads).get(user).map(|read| Known {
                serves: read.serves,
                heard: read.heard,
                entries: read.found.iter().flatten().collect(),
            }));
        }
        look(self.list.load().as_ref().map(|list| Known {
            serves: list.serves,
            heard: list.heard,
            entries: list.of_user(user, &self.store),
        }))
    }

    /// Whether the user may be served, by what is known at this moment. Nobody may if that is too long ago.
    pub(super) fn check(&self, user: &DeveloperUserId, now: Now) -> Result<(), Error> {
        let standing = self.known(user, |known| {
            let known = known.filter(|known| !known.serves.is_over(now));
            known.map(|known| refusal(known.entries))
        });
        standing.unwrap_or_else(|| Err(self.stale()))
    }

    /// As [`check`](Self::check), for a request that began at `began` and may have waited for the list: if the user has been forgotten
    /// since, it must not land.
    pub(super) fn check_begun(&self, user: &DeveloperUserId, began: Now, now: Now) -> Result<(), Error> {
        self.check(user, now)?;
        let forgotten = self.known(user, |known| {
            known.is_some_and(|known| forgotten_since(known.entries, known.heard, began, now))
        });
        if forgotten { Err(held()) } else { Ok(()) }
    }

    /// As [`check`](Self::check), but whoever is not known to be refused is not.
    pub(super) fn check_known(&self, user: &DeveloperUserId) -> Result<(), Error> {
        self.known(user, |known| known.map_or(Ok(()), |known| refusal(known.entries)))
    }

    /// Whether what is known of `user` should be brought up to date.
    pub(super) fn is_due(&self, user: &DeveloperUserId, now: Now) -> bool {
        if self.updates.interval.is_some() {
            return self.list.load().as_ref().is_none_or(|list| list.due.is_over(now));
        }
        // Whoever is refused may have been allowed since.
        let serves = |read: &Read| !read.serves.is_over(now) && read.refusal().is_ok();
        !lock(&self.reads).get(user).is_some_and(serves)
    }

    /// Brings what is known of `user` up to date, if that is due. With `anew` it is for a vend that the cache does not answer.
    pub(super) async fn update(self: &Arc<Self>, user: &DeveloperUserId, anew: bool) {
        let reads_each = self.updates.interval.is_none();
        if reads_each && anew || self.is_due(user, self.clock.now()) {
            if reads_each {
                self.read(user).await;
            } else {
                self.keep_polling();
                self.poll(false).await;
            }
        }
    }

    /// Denies a user here, until the store says what counts: see [`write`](Self::write).
    pub(super) fn deny_here(&self, user: &DeveloperUserId) -> DenyEntry {
        let entry = DenyEntry::new(user, Standing::Denied, self.clock.now());
        self.wrote(user, EntryKind::Denied, Ok(entry.clone()));
        entry
    }

    /// Has the store tell all of a denial.
    pub(super) async fn write(
        &self,
        user: &DeveloperUserId,
        entry: DenyEntry,
        time: Option<Duration>,
    ) -> Result<(), Error> {
        let ttl = time.unwrap_or(FOREVER);
        let stored = self.store.put(EntryKind::Denied, user.as_str(), &entry, ttl).await;
        // Also if it failed: it may be there. The next list tells, once it is sure to be from after this.
        self.wrote(user, EntryKind::Denied, Ok(entry));
        stored
    }

    /// Takes a denial back.
    pub(super) async fn allow(&self, user: &DeveloperUserId) -> Result<(), Error> {
        let there = self.store.get::<DenyEntry>(EntryKind::Denied, user.as_str()).await?;
        self.store.remove(EntryKind::Denied, user.as_str()).await?;
        if let Some(there) = there {
            self.wrote(user, EntryKind::Denied, Err(there.id));
        }
        Ok(())
    }

    /// A user was forgotten, by somebody in this process.
    pub(super) fn forgotten(&self, user: &DeveloperUserId, entry: DenyEntry) {
        self.wrote(user, EntryKind::Held, Ok(entry));
    }

    /// What this process has written, it knows at once, and keeps knowing although a list that comes may be from before.
    fn wrote(&self, user: &DeveloperUserId, kind: EntryKind, entry: Result<DenyEntry, u64>) {
        let at = self.clock.now();
        if self.updates.interval.is_none() {
            let mut reads = lock(&self.reads);
            // The next vend that is not answered from memory reads anew.
            let mut found = reads.remove(user).map(|read| read.found).unwrap_or_default();
            if let Ok(entry) = entry {
                found[usize::from(kind == EntryKind::Held)] = Some(entry);
                let serves = Expiry::after(at, self.updates.max_stale);
                let read = Read {
                    serves,
                    heard: at,
                    found,
                };
                reads.insert(user.clone(), read);
            }
            return;
        }
        let hash = self.store.hash_of(kind, user.as_str());
        let mut written = lock(&self.written);
        let mut list = match self.list.load().as_ref() {
            Some(list) => List {
                heard: at,
                entries: list.entries.clone(),
                ..**list
            },
            None => List::none(at),
        };
        let of_print = list.entries.entry(fingerprint(user)).or_default();
        of_print.retain(|(other, _)| *other != hash);
        of_print.extend(entry.clone().ok().map(|entry| (hash.clone(), entry)));
        written.insert(hash, Written { at, entry });
        self.list.store(Some(Arc::new(list)));
    }

    /// Reads the entries of one user.
    async fn read(&self, user: &DeveloperUserId) {
        let began = self.clock.now();
        let get = |kind| self.store.get::<DenyEntry>(kind, user.as_str());
        let (denied, held) = join(get(EntryKind::Denied), get(EntryKind::Held)).await;
        let found = match (denied, held) {
            (Ok(denied), Ok(held)) => [denied, held],
            (Err(error), _) | (_, Err(error)) => return self.failed(error),
        };
        let before = lock(&self.reads).get(user).map(|read| (read.heard, read.found.clone()));
        let known = |entry: &DenyEntry| {
            let found = before.iter().flat_map(|(_, found)| found.iter().flatten());
            found.into_iter().any(|other| other.id == entry.id)
        };
        let new: Vec<_> = found.iter().flatten().filter(|entry| !known(entry)).cloned().collect();
        let end = |other: &DeveloperUserId| (other == user).then(|| ended(&new));
        self.tell_if(new.iter().any(DenyEntry::is_of_forgotten), &end);
        let mut reads = lock(&self.reads);
        if reads.len().is_power_of_two() {
            reads.retain(|_, read| !read.serves.is_over(began));
        }
        let serves = Expiry::after(began, self.updates.max_stale);
        let heard = before.filter(|_| new.is_empty()).map(|(heard, _)| heard);
        let heard = heard.unwrap_or_else(|| self.clock.now());
        reads.insert(user.clone(), Read { serves, heard, found });
        drop(reads);
        self.tell_if(!new.is_empty(), &end);
    }

    /// Polls if it is time. With `drive` it waits for the end, else only where nothing serves, or nobody else drives it.
    async fn poll(self: &Arc<Self>, drive: bool) {
        // Once more, if the flight was an old one, of a machine that was stopped for instance.
        for _ in 0..2 {
            let now = self.clock.now();
            let serves = self.list.load().as_ref().is_some_and(|list| !list.serves.is_over(now));
            let flight = {
                let mut poll = lock(&self.poll);
                let out = poll.flight.as_ref().and_then(WeakShared::upgrade);
                let waits = drive || !serves;
                if (out.is_some() && !waits) || (out.is_none() && poll.next.is_some_and(|next| !next.is_over(now))) {
                    return;
                }
                out.unwrap_or_else(|| {
                    poll.next = Some(Expiry::after(now, self.interval()));
                    let flight = self.fly();
                    poll.flight = flight.downgrade();
                    flight
                })
            };
            if serves && !drive {
                #[cfg(feature = "rt-tokio")]
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    drop(runtime.spawn(flight));
                    return;
                }
            }
            flight.await;
        }
    }

    fn interval(&self) -> Duration {
        self.updates.interval.unwrap_or_default()
    }

    fn fly(self: &Arc<Self>) -> Shared<BoxFuture<'static, ()>> {
        let this = Arc::clone(self);
        let fly = async move {
            let began = this.clock.now();
            let listed = AssertUnwindSafe(this.store.list(EntryKind::Denied))
                .catch_unwind()
                .await;
            match listed {
                Ok(Ok(entries)) => {
                    let count = entries.len();
                    this.land(began, entries);
                    crate::metrics::deny_list_read(began, count);
                }
                Ok(Err(error)) => this.failed(error),
                Err(_) => this.failed(Error::new(ErrorKind::Panicked, "the shared store panicked")),
            }
        };
        fly.boxed().shared()
    }

    fn land(&self, began: Now, listed: Vec<(String, DenyEntry)>) {
        // Before the first list nothing was vended, so that there is nothing to let go of.
        let before = self.list.load_full().filter(|list| list.has_served());
        let new = match &before {
            Some(before) => List::of(
                began,
                self.updates,
                listed.iter().filter(|entry| !before.has(entry)).cloned(),
            ),
            None => List::none(began),
        };
        let is_gap = before.is_some_and(|before| began.since(before.began) >= FORGOTTEN_FOR);
        let end = |user: &DeveloperUserId| {
            let theirs = new.of_user(user, &self.store);
            // After such a gap, whoever was forgotten in it may not be on the list any more.
            (is_gap || !theirs.is_empty()).then(|| ended(theirs))
        };
        // What is kept of a forgotten user has to be gone before the list lets anybody have it. What is kept of a user who is held
        // from now on may still have come until the list said so.
        self.tell_if(is_gap || new.entries().any(DenyEntry::is_of_forgotten), &end);
        let mut written = lock(&self.written);
        written.retain(|_, written| began.since(written.at) < LAG);
        let mut all: HashMap<String, DenyEntry> = listed.into_iter().collect();
        for (hash, written) in written.iter() {
            match &written.entry {
                Ok(entry) => {
                    all.insert(hash.clone(), entry.clone());
                }
                // Whoever was denied once more by somebody else stays denied.
                Err(removed) => {
                    if all.get(hash).is_some_and(|entry| entry.id == *removed) {
                        all.remove(hash);
                    }
                }
            }
        }
        let list = List {
            heard: self.clock.now(),
            ..List::of(began, self.updates, all)
        };
        self.list.store(Some(Arc::new(list)));
        drop(written);
        let mut poll = lock(&self.poll);
        poll.next = Some(Expiry::after(began, self.interval()));
        poll.failure = None;
        drop(poll);
        self.tell_if(new.entries().next().is_some(), &end);
    }

    fn tell_if(&self, tell: bool, ended: &(dyn Fn(&DeveloperUserId) -> Option<Error> + Sync)) {
        if tell && let Some(keeper) = self.keeper.upgrade() {
            keeper.end_where(ended);
        }
    }

    fn failed(&self, error: Error) {
        tracing::warn!(%error, "the deny list of the shared store could not be read");
        let now = self.clock.now();
        let mut poll = lock(&self.poll);
        poll.next = Some(Expiry::after(now, AGAIN));
        let before = poll.failure.replace(error);
        drop((poll, before));
    }

    /// The error of everybody, while the list is too old.
    fn stale(&self) -> Error {
        let failure = lock(&self.poll).failure.clone();
        let error = Error::new(
            ErrorKind::Store,
            format!(
                "the deny list has not been read from the shared store for {} s, so that nothing is vended",
                self.updates.max_stale.as_secs()
            ),
        )
        .retryable(true)
        .with_retry_after(Some(AGAIN))
        .with_hint(
            "bring the shared store back; `DenyListUpdates::max_stale` says how long the last list serves, and with it \
             denied users of other instances",
        );
        match failure {
            Some(failure) => error.caused_by(&failure),
            None => error,
        }
    }

    /// Starts the task that polls, if there is a runtime and it is not running.
    #[cfg(feature = "rt-tokio")]
    fn keep_polling(self: &Arc<Self>) {
        use aws_smithy_async::rt::sleep::AsyncSleep;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let runs = |poll: &Poll| poll.task.as_ref().is_some_and(|task| !task.is_finished());
        if runs(&lock(&self.poll)) {
            return;
        }
        let (list, sleep, mut wait) = (Arc::downgrade(self), self.store.sleeper(), self.interval());
        let task = runtime.spawn(async move {
            loop {
                sleep.sleep(wait).await;
                let Some(list) = list.upgrade() else { return };
                list.poll(true).await;
                wait = list.next_poll();
            }
        });
        let mut poll = lock(&self.poll);
        if runs(&poll) {
            // Somebody was faster.
            task.abort();
        } else {
            poll.task = Some(task.abort_handle());
        }
    }

    /// How long until the next poll is due.
    #[cfg(feature = "rt-tokio")]
    fn next_poll(&self) -> Duration {
        let next = lock(&self.poll).next;
        let wait = next.map_or(self.interval(), |next| next.remaining(self.clock.now()));
        // Times are in whole milliseconds, and a clock that stands still is no reason to spin.
        wait + Duration::from_millis(1)
    }

    /// Without a runtime there is no task: whoever vends drives the poll.
    #[cfg(not(feature = "rt-tokio"))]
    fn keep_polling(self: &Arc<Self>) {}
}

#[cfg(feature = "rt-tokio")]
impl Drop for SharedDenyList {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.poll).task.take() {
            task.abort();
        }
    }
}

/// What is answered to whoever still holds something of a user who has entries that were not there before.
fn ended<'a>(entries: impl IntoIterator<Item = &'a DenyEntry>) -> Error {
    refusal(entries).err().unwrap_or_else(held)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for SharedDenyList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedDenyList")
            .field("updates", &self.updates)
            .finish_non_exhaustive()
    }
}
