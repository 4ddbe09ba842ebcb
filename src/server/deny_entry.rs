//! An entry of the shared deny list, and the list as it was read.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::deny_list_updates::DenyListUpdates;
use super::shared_store::{EntryKind, SharedState};
use crate::clock::{Expiry, Now};
use crate::error::{Error, ErrorKind};
use crate::ids::DeveloperUserId;

/// An entry of a user who was forgotten stays for longer than a token can live.
pub(super) const FORGOTTEN_FOR: Duration = Duration::from_secs(25 * 3_600);

/// How long after a user was forgotten an instance may still have requests that began before it: what a request may take, by clocks
/// that are apart.
const BEGAN_BEFORE: Duration = Duration::from_secs(120);

/// The error of a user who is denied.
pub(super) fn denied() -> Error {
    Error::new(ErrorKind::Denied, "the user is denied")
}

/// The error of a user who is being forgotten, or was, since a request began.
pub(super) fn held() -> Error {
    Error::new(ErrorKind::Denied, "the user is being forgotten")
        .retryable(true)
        .with_hint("a request that begins after `forget_user` has returned makes a new identity, if the app still lets the user in")
}

/// What an entry says of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// Gets nothing.
    Denied,
    /// Gets nothing: the user's identity is being taken down.
    Held,
    /// Gets something, but nothing that was kept from before.
    Forgotten,
}

/// An entry, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DenyEntry {
    /// Drawn anew each time it is written, so that an old one is known as such.
    pub(super) id: u64,
    pub(super) standing: Standing,
    /// When it was written, by the writer's clock, in seconds since the epoch.
    #[serde(default)]
    at: i64,
    /// Of the user's id: most users are told from those on the list by this alone, without SHA-256.
    pub(super) fingerprint: u32,
}

impl DenyEntry {
    pub(super) fn is_of_forgotten(&self) -> bool {
        self.standing == Standing::Forgotten
    }

    /// Whether the user was forgotten so lately that a request may have begun before it.
    fn is_of_lately_forgotten(&self, now: Now) -> bool {
        // The store may say anything.
        let age = (now.wall_millis() / 1_000).saturating_sub(self.at);
        self.is_of_forgotten() && age < BEGAN_BEFORE.as_secs().cast_signed()
    }

    pub(super) fn new(user: &DeveloperUserId, standing: Standing, now: Now) -> Self {
        Self {
            id: fastrand::u64(..),
            standing,
            at: now.wall_millis() / 1_000,
            fingerprint: fingerprint(user),
        }
    }
}

/// FNV-1a, folded: the same in every build.
pub(super) fn fingerprint(user: &DeveloperUserId) -> u32 {
    let hash = user.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as u32 ^ hash as u32
}

/// The list as it was read.
pub(super) struct List {
    pub(super) began: Now,
    /// Since when it is known here.
    pub(super) heard: Now,
    /// Until then it serves.
    pub(super) serves: Expiry,
    /// By then the next one should be there.
    pub(super) due: Expiry,
    /// By fingerprint; each with its hash.
    pub(super) entries: HashMap<u32, Vec<(String, DenyEntry)>>,
}

impl List {
    pub(super) fn of(began: Now, updates: DenyListUpdates, all: impl IntoIterator<Item = (String, DenyEntry)>) -> Self {
        let interval = updates.interval.unwrap_or_default();
        let mut list = Self {
            serves: Expiry::after(began, updates.max_stale),
            due: Expiry::after(began, interval.saturating_add(interval / 2)),
            ..Self::none(began)
        };
        for (hash, entry) in all {
            list.entries.entry(entry.fingerprint).or_default().push((hash, entry));
        }
        list
    }

    /// Serves nobody.
    pub(super) fn none(now: Now) -> Self {
        Self {
            began: now,
            heard: now,
            serves: Expiry::after(now, Duration::ZERO),
            due: Expiry::after(now, Duration::ZERO),
            entries: HashMap::new(),
        }
    }

    /// Whether it was read from the store, and not only written to.
    pub(super) fn has_served(&self) -> bool {
        !self.serves.life().is_zero()
    }

    pub(super) fn has(&self, (hash, entry): &(String, DenyEntry)) -> bool {
        let similar = self.entries.get(&entry.fingerprint).into_iter().flatten();
        similar
            .into_iter()
            .any(|(other, known)| other == hash && known.id == entry.id)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &DenyEntry> {
        self.entries.values().flatten().map(|(_, entry)| entry)
    }

    /// The entries of a user.
    pub(super) fn of_user<'a>(&'a self, user: &DeveloperUserId, store: &SharedState) -> Vec<&'a DenyEntry> {
        // Most of the time nobody is denied, and a hit comes by here.
        if self.entries.is_empty() {
            return Vec::new();
        }
        let Some(similar) = self.entries.get(&fingerprint(user)) else {
            return Vec::new();
        };
        let hashes = [EntryKind::Denied, EntryKind::Held].map(|kind| store.hash_of(kind, user.as_str()));
        let theirs = similar.iter().filter(|(hash, _)| hashes.contains(hash));
        theirs.map(|(_, entry)| entry).collect()
    }
}

/// A denial counts for more than a hold: it is the one that stays.
pub(super) fn refusal<'a>(entries: impl IntoIterator<Item = &'a DenyEntry>) -> Result<(), Error> {
    let mut result = Ok(());
    for entry in entries {
        match entry.standing {
            Standing::Denied => return Err(denied()),
            Standing::Held => result = Err(held()),
            Standing::Forgotten => {}
        }
    }
    result
}

/// Whether a user may have been forgotten since a request began: the entries that say so were heard of in the middle of it.
pub(super) fn forgotten_since<'a>(
    entries: impl IntoIterator<Item = &'a DenyEntry>,
    heard: Now,
    began: Now,
    now: Now,
) -> bool {
    let mut entries = entries.into_iter();
    began.since(heard).is_zero() && entries.any(|entry| entry.is_of_lately_forgotten(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use aws_smithy_async::time::SharedTimeSource;

    #[test]
    fn whatever_the_store_says_of_the_time_of_an_entry_is_no_panic() {
        let now = Clock::new(SharedTimeSource::default()).now();
        let user = DeveloperUserId::new("alice").unwrap();
        for (at, is_lately) in [(i64::MIN, false), (0, false), (i64::MAX, true)] {
            let entry = DenyEntry {
                at,
                ..DenyEntry::new(&user, Standing::Forgotten, now)
            };
            assert_eq!(entry.is_of_lately_forgotten(now), is_lately, "{at}");
        }
    }
}
