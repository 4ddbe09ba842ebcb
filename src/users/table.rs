//! Who is kept: sessions by user, in shards, with the least recently used dropped for others.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hashbrown::HashTable;

use super::entry::UserEntry;
use super::options::UserOptions;
use crate::client::Session;
use crate::client::user_sessions::{UserSessionCredentials, WeakSession};
use crate::error::Error;
use crate::ids::DeveloperUserId;
use crate::metrics;

const SHARDS: usize = 64;

pub(super) struct Table {
    capacity: usize,
    len: AtomicUsize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// One at a time drops users for others.
    making_room: Mutex<()>,
}

#[derive(Default)]
struct Shard {
    records: HashTable<Record>,
    /// What was dropped while somebody held the session, or an exchange was out: it goes on, but can be ended.
    detached: Vec<DetachedSession>,
    /// Orders what happens within a millisecond.
    sequence: u64,
    hits: u64,
    misses: u64,
    evictions: u64,
}

/// What is kept of one session. The session itself is let go soon after nobody else has it, and made anew for the next.
struct Record {
    user: Arc<UserEntry>,
    credentials: UserSessionCredentials,
    session: Option<Session>,
    /// When it was asked for last: milliseconds, then the order within them.
    used: u64,
}

struct DetachedSession {
    user: Weak<UserEntry>,
    session: Option<WeakSession>,
}

pub(super) enum Lookup {
    Kept(Session),
    Made(Session),
    Refused(Error),
}

/// A session as the refresher sees it.
pub(super) struct SessionView<'a> {
    pub(super) credentials: &'a UserSessionCredentials,
    /// What is left of the credentials' life, and how long that was.
    pub(super) life: Option<(std::time::Duration, std::time::Duration)>,
    /// When the user was in use last, by the wall clock in milliseconds.
    pub(super) used: i64,
    /// Tells the sessions apart.
    pub(super) id: usize,
}

const ORDER_BITS: u32 = 20;

impl Shard {
    fn stamp(&mut self, now: i64) -> u64 {
        self.sequence = self.sequence.wrapping_add(1);
        stamp(now) | (self.sequence & ((1 << ORDER_BITS) - 1))
    }

    fn drop_record(&mut self, record: Record) {
        self.evictions += 1;
        let session = record
            .session
            .filter(Session::is_shared)
            .map(|session| session.downgrade());
        drop(record.credentials);
        // Nobody else has it: no session, no exchange.
        if session.is_none() && Arc::strong_count(&record.user) == 1 {
            return;
        }
        if self.detached.len().is_power_of_two() {
            self.detached.retain(|detached| detached.user.strong_count() > 0);
        }
        self.detached.push(DetachedSession {
            user: Arc::downgrade(&record.user),
            session,
        });
    }

    /// Ends what was taken from the table and what was detached before, where `theirs` says so: the sessions that somebody holds.
    fn end(&mut self, taken: Vec<Record>, theirs: impl Fn(&UserEntry) -> bool) -> Vec<Session> {
        for record in taken {
            record.user.end();
            self.drop_record(record);
        }
        let mut held = Vec::new();
        self.detached.retain(|detached| {
            let Some(user) = detached.user.upgrade() else {
                return false;
            };
            if !theirs(&user) {
                return true;
            }
            user.end();
            held.extend(detached.session.as_ref().and_then(WeakSession::upgrade));
            false
        });
        held
    }

    fn take(&mut self, user: &DeveloperUserId) -> Vec<Record> {
        self.records.extract_if(|record| record.user.user() == user).collect()
    }
}

fn stamp(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0) << ORDER_BITS
}

impl Record {
    /// Whichever is later: the last time it was asked for, or that credentials were asked of it.
    fn used(&self, asked: i64) -> u64 {
        self.used.max(stamp(asked))
    }
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            len: AtomicUsize::new(0),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            making_room: Mutex::new(()),
        }
    }

    fn hash(&self, user: &DeveloperUserId) -> u64 {
        self.hasher.hash_one(user.as_str())
    }

    /// However many variants a user has, each is found as fast as the first.
    fn hash_with(&self, user: u64, options: Option<&UserOptions>) -> u64 {
        options.map_or(user, |options| self.hasher.hash_one((user, options)))
    }

    /// By the user alone: all that is a user's is in one shard.
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let at = hash.rotate_right(32) as usize % SHARDS;
        lock(&self.shards[at])
    }

    pub(super) fn find(
        &self,
        user: &DeveloperUserId,
        options: Option<&UserOptions>,
        now: i64,
        admit: impl FnOnce() -> Result<(), Error>,
        make: impl FnOnce() -> (Arc<UserEntry>, UserSessionCredentials),
        start: impl FnOnce(&UserSessionCredentials) -> Session,
    ) -> Lookup {
        let of_user = self.hash(user);
        let hash = self.hash_with(of_user, options);
        let mut shard = self.shard(of_user);
        // Under the lock: whoever refuses the user first says so, and then ends what is here.
        if let Err(error) = admit() {
            return Lookup::Refused(error);
        }
        let used = shard.stamp(now);
        if let Some(record) = shard.records.find_mut(hash, |record| record.user.is(user, options)) {
            record.used = used;
            let session = record.session.get_or_insert_with(|| start(&record.credentials)).clone();
            shard.hits += 1;
            return Lookup::Kept(session);
        }
        let (user, credentials) = make();
        let session = start(&credentials);
        let record = Record {
            user,
            credentials,
            session: Some(session.clone()),
            used,
        };
        // Hashed anew when the table grows, which is rare: a hash in each record would cost every user ten bytes.
        let hash_of = |record: &Record| self.hash_with(self.hash(record.user.user()), record.user.options());
        shard.records.insert_unique(hash, record, hash_of);
        shard.misses += 1;
        // Under the lock, or whoever drops the user at once would count below zero.
        self.len.fetch_add(1, Ordering::Relaxed);
        drop(shard);
        metrics::users_kept(1.0);
        Lookup::Made(session)
    }

    /// Drops the least recently used while there are too many: a sixteenth at once, so that one walk pays for many users.
    pub(super) fn make_room(&self) {
        if self.len() <= self.capacity {
            return;
        }
        let Ok(one_at_a_time) = self.making_room.try_lock() else {
            return;
        };
        let len = self.len();
        if len <= self.capacity {
            return;
        }
        let mut used = Vec::with_capacity(len);
        for shard in &self.shards {
            let shard = lock(shard);
            used.extend(
                shard
                    .records
                    .iter()
                    .map(|record| record.used(record.credentials.status().asked)),
            );
        }
        // What is too much, and a sixteenth in advance, but never all.
        let excess = (len - self.capacity)
            .max(self.capacity / 16)
            .min(used.len().saturating_sub(1));
        if excess == 0 {
            return;
        }
        let (_, last, _) = used.select_nth_unstable(excess - 1);
        let (last, mut left) = (*last, excess);
        let dropped = self.drop_where(|record, asked| {
            let drop = left > 0 && record.used(asked) <= last;
            left -= usize::from(drop);
            drop
        });
        drop(one_at_a_time);
        tell_dropped(dropped);
    }

    /// Drops who has not been in use since `since`, and calls `look` for everybody else.
    pub(super) fn walk(&self, since: i64, mut look: impl FnMut(SessionView<'_>)) {
        tell_dropped(self.drop_where(|record, asked| record.used(asked) < stamp(since)));
        for shard in &self.shards {
            let mut shard = lock(shard);
            for record in shard.records.iter_mut() {
                // Idle users are many; who is in use gets by without a new session until the next walk.
                record.session.take_if(|session| !session.is_shared());
                let status = record.credentials.status();
                look(SessionView {
                    credentials: &record.credentials,
                    life: status.life,
                    used: i64::try_from(record.used(status.asked) >> ORDER_BITS).unwrap_or(i64::MAX),
                    id: Arc::as_ptr(&record.user).addr(),
                });
            }
        }
    }

    fn drop_where(&self, mut unwanted: impl FnMut(&Record, i64) -> bool) -> usize {
        let mut all = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let dropped: Vec<_> = shard
                .records
                .extract_if(|record| unwanted(record, record.credentials.status().asked))
                .collect();
            self.len.fetch_sub(dropped.len(), Ordering::Relaxed);
            all += dropped.len();
            dropped.into_iter().for_each(|record| shard.drop_record(record));
        }
        all
    }

    pub(super) fn evict(&self, user: &DeveloperUserId) {
        let mut shard = self.shard(self.hash(user));
        let taken = shard.take(user);
        let count = taken.len();
        self.len.fetch_sub(count, Ordering::Relaxed);
        taken.into_iter().for_each(|record| shard.drop_record(record));
        drop(shard);
        tell_dropped(count);
    }

    /// Drops a user for good: no exchange that is out lands any more. Answers all sessions that somebody holds.
    pub(super) fn end(&self, user: &DeveloperUserId) -> Vec<Session> {
        let mut shard = self.shard(self.hash(user));
        let taken = shard.take(user);
        let count = taken.len();
        self.len.fetch_sub(count, Ordering::Relaxed);
        let held = shard.end(taken, |entry| entry.user() == user);
        drop(shard);
        tell_dropped(count);
        held
    }

    /// Those of whom something is kept, and for whom `is` has an answer.
    pub(super) fn users_where<T>(&self, is: impl Fn(&DeveloperUserId) -> Option<T>) -> Vec<(DeveloperUserId, T)> {
        let mut users = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let detached: Vec<_> = shard.detached.iter().filter_map(|d| d.user.upgrade()).collect();
            let kept = shard.records.iter().map(|record| &record.user);
            let theirs = kept.chain(&detached).map(|entry| entry.user());
            users.extend(theirs.filter_map(|user| Some((user.clone(), is(user)?))));
        }
        users
    }

    /// Drops everybody for good. The credentials come along: an exchange that is out goes on for as long as they are kept.
    pub(super) fn end_all(&self) -> (Vec<Session>, Vec<UserSessionCredentials>) {
        let (mut held, mut credentials) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            let mut shard = lock(shard);
            let taken: Vec<_> = shard.records.drain().collect();
            let count = taken.len();
            self.len.fetch_sub(count, Ordering::Relaxed);
            credentials.extend(taken.iter().map(|record| record.credentials.clone()));
            held.extend(shard.end(taken, |_| true));
            drop(shard);
            tell_dropped(count);
        }
        (held, credentials)
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Hits, misses, evictions.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        self.shards.iter().fold((0, 0, 0), |(hits, misses, evictions), shard| {
            let shard = lock(shard);
            (hits + shard.hits, misses + shard.misses, evictions + shard.evictions)
        })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        metrics::users_kept(-(self.len() as f64));
    }
}

/// Under no lock: the app's recorder runs.
fn tell_dropped(count: usize) {
    metrics::users_kept(-(count as f64));
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
