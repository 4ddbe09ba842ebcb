//! Identities and their life cycle: a pure state machine, no protocol.
//!
//! ```text
//! guest --link--> authenticated --merged away--> disabled
//!   |                   '--last login removed--> inaccessible
//!   '--merged away--> disabled
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::rules::{Refusal, Rule};

/// How many identities all pools together can have: AWS has no limit, the memory of this machine has.
const MAX_IDENTITIES: usize = 1_000_000;

/// What one identity can have, dev users and public logins together.
const MAX_LINKS: usize = 20;

/// Where an identity stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Life {
    /// No login yet.
    Guest,
    /// At least one login.
    Authenticated,
    /// Merged into another identity; for good.
    Disabled,
    /// Its last login was removed; for good.
    Inaccessible,
}

impl Life {
    /// The one place that says what may follow what.
    fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Guest | Self::Authenticated, Event::Linked) => Some(Self::Authenticated),
            (Self::Guest | Self::Authenticated, Event::MergedAway) => Some(Self::Disabled),
            (Self::Authenticated, Event::LastLoginRemoved) => Some(Self::Inaccessible),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Linked,
    MergedAway,
    LastLoginRemoved,
}

/// One login: a subject of a public provider, or a developer user of the pool's developer provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Link {
    Public {
        provider: String,
        subject: String,
    },
    Developer {
        #[serde(rename = "developer_provider")]
        provider: String,
        #[serde(rename = "developer_user")]
        user: String,
    },
}

impl Link {
    pub(super) fn provider(&self) -> &str {
        match self {
            Self::Public { provider, .. } | Self::Developer { provider, .. } => provider,
        }
    }
}

/// One identity.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) pool: String,
    pub(super) life: Life,
    pub(super) links: BTreeSet<Link>,
    pub(super) created: f64,
    pub(super) modified: f64,
    serial: u64,
}

impl Identity {
    /// The identity, if it can be used at all.
    pub(super) fn enabled(&self, id: &str) -> Result<&Self, Refusal> {
        match self.life {
            Life::Guest | Life::Authenticated => Ok(self),
            Life::Disabled | Life::Inaccessible => Err(Rule::IdentityForbidden.refuse(&[&id])),
        }
    }

    /// The names of its providers, each once.
    pub(super) fn providers(&self) -> BTreeSet<&str> {
        self.links.iter().map(Link::provider).collect()
    }
}

/// All identities of all pools.
#[derive(Clone)]
pub(super) struct Directory {
    limit: usize,
    identities: HashMap<String, Identity>,
    owners: HashMap<(String, Link), String>,
    /// Per pool, in the order of creation.
    by_serial: HashMap<String, BTreeMap<u64, String>>,
    serial: u64,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            limit: MAX_IDENTITIES,
            identities: HashMap::new(),
            owners: HashMap::new(),
            by_serial: HashMap::new(),
            serial: 0,
        }
    }
}

impl Directory {
    pub(super) fn get(&self, id: &str) -> Result<&Identity, Refusal> {
        self.identities
            .get(id)
            .ok_or_else(|| Rule::IdentityNotFound.refuse(&[&id]))
    }

    /// The identity that has `link` in `pool`.
    pub(super) fn owner(&self, pool: &str, link: &Link) -> Option<&str> {
        // The key is a pair, so a borrowed look-up would need a type of its own; links are short.
        self.owners.get(&(pool.to_owned(), link.clone())).map(String::as_str)
    }

    /// The identities of a pool after `serial`, in the order of creation.
    pub(super) fn list(&self, pool: &str, after: u64) -> impl Iterator<Item = (u64, &str, &Identity)> {
        let range = self
            .by_serial
            .get(pool)
            .map(|members| members.range(after.saturating_add(1)..));
        range
            .into_iter()
            .flatten()
            .filter_map(|(serial, id)| Some((*serial, id.as_str(), self.identities.get(id)?)))
    }

    /// The identities of all pools, in the order of creation.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Identity)> {
        let mut all: Vec<_> = self
            .identities
            .iter()
            .map(|(id, identity)| (id.as_str(), identity))
            .collect();
        all.sort_by_key(|(_, identity)| identity.serial);
        all.into_iter()
    }

    /// Puts back an identity that was exported, as the newest.
    pub(super) fn restore(
        &mut self,
        id: String,
        pool: &str,
        life: Life,
        links: BTreeSet<Link>,
        (created, modified): (f64, f64),
    ) -> Result<(), Refusal> {
        self.create(id.clone(), pool, created)?;
        for link in &links {
            self.owners.insert((pool.to_owned(), link.clone()), id.clone());
        }
        if let Some(identity) = self.identities.get_mut(&id) {
            (identity.life, identity.links, identity.modified) = (life, links, modified);
        }
        Ok(())
    }

    /// A new identity, a guest until something is linked to it.
    pub(super) fn create(&mut self, id: String, pool: &str, now: f64) -> Result<(), Refusal> {
        if self.identities.len() >= self.limit {
            return Err(Rule::IdentityLimit.refuse(&[&self.limit]));
        }
        self.serial += 1;
        let identity = Identity {
            pool: pool.to_owned(),
            life: Life::Guest,
            links: BTreeSet::new(),
            created: now,
            modified: now,
            serial: self.serial,
        };
        self.by_serial
            .entry(pool.to_owned())
            .or_default()
            .insert(self.serial, id.clone());
        self.identities.insert(id, identity);
        Ok(())
    }

    /// Links `links` to the identity `into`. Those that other identities have bring their whole identity along: it is
    /// merged into this one and disabled. Nothing changes unless everything can.
    pub(super) fn join(
        &mut self,
        into: &str,
        sources: &BTreeSet<String>,
        links: &BTreeSet<Link>,
        now: f64,
    ) -> Result<(), Refusal> {
        let target = self.get(into)?.enabled(into)?;
        let pool = target.pool.clone();
        let mut sources = sources.clone();
        sources.extend(
            links
                .iter()
                .filter_map(|link| self.owner(&pool, link))
                .map(str::to_owned),
        );
        sources.remove(into);

        let mut all = target.links.clone();
        all.extend(links.iter().cloned());
        for source in &sources {
            all.extend(self.get(source)?.enabled(source)?.links.iter().cloned());
        }
        let mut seen = BTreeMap::new();
        for link in &all {
            if let Link::Public { provider, subject } = link
                && seen.insert(provider, subject).is_some_and(|other| other != subject)
            {
                return Err(Rule::LoginConflict.into());
            }
        }
        if all.len() > MAX_LINKS {
            return Err(Rule::TooManyLogins.into());
        }

        for source in &sources {
            if let Some(identity) = self.identities.get_mut(source) {
                identity.links.clear();
            }
            self.pass(source, Event::MergedAway, now);
        }
        for link in &all {
            self.owners.insert((pool.clone(), link.clone()), into.to_owned());
        }
        if let Some(identity) = self.identities.get_mut(into)
            && identity.links != all
        {
            identity.links = all;
            self.pass(into, Event::Linked, now);
        }
        Ok(())
    }

    /// Takes `link` from the identity that has it.
    pub(super) fn unlink(&mut self, id: &str, link: &Link, now: f64) -> Result<(), Refusal> {
        let Some(identity) = self.identities.get_mut(id) else {
            return Err(Rule::IdentityNotFound.refuse(&[&id]));
        };
        if !identity.links.remove(link) {
            return Err(Rule::NotLinked.into());
        }
        identity.modified = now;
        let (pool, last) = (identity.pool.clone(), identity.links.is_empty());
        self.owners.remove(&(pool, link.clone()));
        if last {
            self.pass(id, Event::LastLoginRemoved, now);
        }
        Ok(())
    }

    /// Removes an identity with its links. Whether there was one.
    pub(super) fn delete(&mut self, id: &str) -> bool {
        let Some(identity) = self.identities.remove(id) else {
            return false;
        };
        for link in identity.links {
            self.owners.remove(&(identity.pool.clone(), link));
        }
        if let Some(members) = self.by_serial.get_mut(&identity.pool) {
            members.remove(&identity.serial);
        }
        true
    }

    /// Removes all identities of a pool.
    pub(super) fn delete_pool(&mut self, pool: &str) {
        for id in self.by_serial.remove(pool).into_iter().flat_map(BTreeMap::into_values) {
            self.delete(&id);
        }
    }

    fn pass(&mut self, id: &str, event: Event, now: f64) {
        if let Some(identity) = self.identities.get_mut(id)
            && let Some(next) = identity.life.after(event)
        {
            identity.life = next;
            identity.modified = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(provider: &str, subject: &str) -> Link {
        Link::Public {
            provider: provider.into(),
            subject: subject.into(),
        }
    }

    fn user(user: &str) -> Link {
        Link::Developer {
            provider: "login.app".into(),
            user: user.into(),
        }
    }

    fn directory(ids: &[&str]) -> Directory {
        let mut directory = Directory::default();
        for id in ids {
            directory.create((*id).to_owned(), "pool", 0.0).unwrap();
        }
        directory
    }

    fn life(directory: &Directory, id: &str) -> Life {
        directory.get(id).unwrap().life
    }

    #[test]
    fn no_client_can_make_identities_without_end() {
        let mut directory = directory(&["a"]);
        directory.limit = 2;
        directory.create("b".to_owned(), "pool", 0.0).unwrap();
        let refused = directory.create("c".to_owned(), "pool", 0.0).unwrap_err();
        assert_eq!(refused.rule, Rule::IdentityLimit);
        assert!(directory.get("c").is_err());
        directory.delete("a");
        directory.create("c".to_owned(), "pool", 0.0).unwrap();
    }

    #[test]
    fn a_guest_that_is_linked_keeps_its_id() {
        let mut directory = directory(&["a"]);
        directory.join("a", &BTreeSet::new(), &[user("u")].into(), 1.0).unwrap();
        assert_eq!(life(&directory, "a"), Life::Authenticated);
        assert_eq!(directory.owner("pool", &user("u")), Some("a"));
        assert_eq!(directory.owner("another", &user("u")), None);
    }

    #[test]
    fn a_merge_moves_every_login_and_disables_the_source() {
        let mut directory = directory(&["a", "b"]);
        directory
            .join("a", &BTreeSet::new(), &[user("u"), public("g", "1")].into(), 1.0)
            .unwrap();
        directory.join("b", &BTreeSet::new(), &[user("v")].into(), 1.0).unwrap();
        directory
            .join("b", &BTreeSet::new(), &[public("g", "1")].into(), 2.0)
            .unwrap();
        assert_eq!(
            (life(&directory, "a"), life(&directory, "b")),
            (Life::Disabled, Life::Authenticated)
        );
        assert_eq!(directory.owner("pool", &user("u")), Some("b"));
        assert_eq!(directory.get("b").unwrap().links.len(), 3);
        assert!(
            directory.join("a", &BTreeSet::new(), &[user("w")].into(), 3.0).is_err(),
            "disabled is for good"
        );
    }

    #[test]
    fn a_second_login_of_one_provider_changes_nothing() {
        let mut directory = directory(&["a", "b"]);
        directory
            .join("a", &BTreeSet::new(), &[public("g", "1")].into(), 1.0)
            .unwrap();
        directory
            .join("b", &BTreeSet::new(), &[public("g", "2"), user("v")].into(), 1.0)
            .unwrap();
        let refused = directory
            .join("a", &BTreeSet::new(), &[user("v")].into(), 2.0)
            .unwrap_err();
        assert_eq!(refused.rule, Rule::LoginConflict);
        assert_eq!(
            (life(&directory, "a"), life(&directory, "b")),
            (Life::Authenticated, Life::Authenticated)
        );
        assert_eq!(directory.owner("pool", &user("v")), Some("b"));
    }

    #[test]
    fn the_twenty_first_login_is_refused() {
        let mut directory = directory(&["a"]);
        let links = |n: usize| (0..n).map(|i| user(&i.to_string())).collect::<BTreeSet<_>>();
        directory.join("a", &BTreeSet::new(), &links(20), 1.0).unwrap();
        assert_eq!(
            directory.join("a", &BTreeSet::new(), &links(21), 1.0).unwrap_err().rule,
            Rule::TooManyLogins
        );
    }

    #[test]
    fn without_its_last_login_an_identity_is_inaccessible() {
        let mut directory = directory(&["a"]);
        directory.join("a", &BTreeSet::new(), &[user("u")].into(), 1.0).unwrap();
        directory.unlink("a", &user("u"), 2.0).unwrap();
        assert_eq!(life(&directory, "a"), Life::Inaccessible);
        assert_eq!(directory.owner("pool", &user("u")), None);
        assert_eq!(
            directory.unlink("a", &user("u"), 2.0).unwrap_err().rule,
            Rule::NotLinked
        );
    }

    #[test]
    fn a_deleted_identity_frees_its_logins() {
        let mut directory = directory(&["a", "b"]);
        directory.join("a", &BTreeSet::new(), &[user("u")].into(), 1.0).unwrap();
        assert!(directory.delete("a"));
        assert!(!directory.delete("a"));
        assert_eq!(directory.owner("pool", &user("u")), None);
        assert_eq!(
            directory.list("pool", 0).map(|(_, id, _)| id).collect::<Vec<_>>(),
            ["b"]
        );
    }
}
