//! Who is kept: sessions by user, in shards, with the least recently used dropped for others.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;

use super::entry::UserEntry;
use super::options::UserOptions;
use crate::client::Session;
use crate::client::user_sessions::{UserSessionCredentials, WeakSession};
use crate::ids::DeveloperUserId;

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
    denied: HashSet<DeveloperUserId>,
    /// Sessions that were dropped while somebody held them: they go on, but can be denied.
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
    user: Arc<UserEntry>,
    session: WeakSession,
}

pub(super) enum Lookup {
    Kept(Session),
    Made(Session),
    Denied,
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
        if let Some(session) = record.session.filter(Session::is_shared) {
            if self.detached.len().is_power_of_two() {
                self.detached.retain(|session| session.session.is_held());
            }
            self.detached.push(DetachedSession {
                user: record.user,
                session: session.downgrade(),
            });
        }
    }

    fn take(&mut self, hash: u64, user: &DeveloperUserId) -> Vec<Record> {
        let mut taken = Vec::new();
        while let Ok(entry) = self.records.find_entry(hash, |record| record.user.user() == user) {
            taken.push(entry.remove().0);
        }
        taken
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

    fn hash(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }

    /// The lowest bits choose the shard; the table within it takes the highest, and others.
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let at = hash.rotate_right(32) as usize % SHARDS;
        lock(&self.shards[at])
    }

    pub(super) fn find(
        &self,
        user: &DeveloperUserId,
        options: Option<&UserOptions>,
        now: i64,
        make: impl FnOnce() -> (Arc<UserEntry>, UserSessionCredentials),
        start: impl FnOnce(&UserSessionCredentials) -> Session,
    ) -> Lookup {
        let hash = self.hash(user.as_str());
        let mut shard = self.shard(hash);
        if !shard.denied.is_empty() && shard.denied.contains(user) {
            return Lookup::Denied;
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
        shard
            .records
            .insert_unique(hash, record, |record| self.hash(record.user.user().as_str()));
        shard.misses += 1;
        drop(shard);
        self.len.fetch_add(1, Ordering::Relaxed);
        Lookup::Made(session)
    }

    /// Drops the least recently used while there are too many: a sixteenth at once, so that one walk pays for many users.
    pub(super) fn make_room(&self) {
        if self.len() <= self.capacity {
            return;
        }
        let Ok(_one_at_a_time) = self.making_room.try_lock() else {
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
        self.drop_where(|record, asked| {
            let drop = left > 0 && record.used(asked) <= last;
            left -= usize::from(drop);
            drop
        });
    }

    /// Drops who has not been in use since `since`, and calls `look` for everybody else.
    pub(super) fn walk(&self, since: i64, mut look: impl FnMut(SessionView<'_>)) {
        self.drop_where(|record, asked| record.used(asked) < stamp(since));
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

    fn drop_where(&self, mut unwanted: impl FnMut(&Record, i64) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let dropped: Vec<_> = shard
                .records
                .extract_if(|record| unwanted(record, record.credentials.status().asked))
                .collect();
            self.len.fetch_sub(dropped.len(), Ordering::Relaxed);
            dropped.into_iter().for_each(|record| shard.drop_record(record));
        }
    }

    pub(super) fn evict(&self, user: &DeveloperUserId) {
        let hash = self.hash(user.as_str());
        let mut shard = self.shard(hash);
        let taken = shard.take(hash, user);
        self.len.fetch_sub(taken.len(), Ordering::Relaxed);
        taken.into_iter().for_each(|record| shard.drop_record(record));
    }

    /// Notes that the user is denied, and answers all sessions that somebody holds.
    pub(super) fn deny(&self, user: &DeveloperUserId) -> Vec<Session> {
        let hash = self.hash(user.as_str());
        let mut shard = self.shard(hash);
        shard.denied.insert(user.clone());
        let taken = shard.take(hash, user);
        self.len.fetch_sub(taken.len(), Ordering::Relaxed);
        taken.into_iter().for_each(|record| shard.drop_record(record));
        let theirs = |session: &mut DetachedSession| session.user.user() == user;
        shard
            .detached
            .extract_if(.., theirs)
            .filter_map(|session| session.session.upgrade())
            .collect()
    }

    pub(super) fn allow(&self, user: &DeveloperUserId) {
        self.shard(self.hash(user.as_str())).denied.remove(user);
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

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
