//! Tickets that let a guest become a user: [`GuestClaims`] issues them, [`GuestClaim`] is one that came back.
//!
//! A ticket is `expires · named at · nonce · key id · HMAC` over itself, the pool, the guest and the client. Three locks stand behind it: the
//! guest belongs to the client that named it first ([`EntryKind::GuestOwner`]), a ticket serves one user ([`EntryKind::UsedTicket`]), and
//! Cognito itself links a guest once. The first two are kept in the store, so that instances agree.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::claim_keys::{ClaimKeys, KEY_ID, NotSigned};
use super::claim_refusal::{ClaimRefusal, refused};
use super::shared_store::{EntryKind, SharedState};
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperUserId, IdentityId, IdentityPoolId};

/// How a backend issues and redeems the tickets for [`TokenVendor::link_guest`](crate::TokenVendor::link_guest).
///
/// Whoever knows a guest's id can *be* that guest, so an id sent along with a sign-in proves nothing: a thief would take the
/// guest's data into an account of his own. So a guest belongs to the client that named it first to this backend, and only that
/// client gets a ticket: authenticated (HMAC-SHA256), bound to guest, client and pool, good for one user. It serves only if the
/// guest was named within 10 minutes of being made ([`named_within`](Self::named_within)): a thief who has come by the id of a guest
/// that nobody has named yet gains nothing, and can at worst keep it from being linked until his own ticket has ended. Where the
/// backend makes the guest itself ([`TokenVendor::new_guest`](crate::TokenVendor::new_guest)) no client names one, and there is
/// nothing to be first at.
///
/// **What a client is** is yours to say. Take what stands for the device and outlives sessions (an installation id that the
/// backend gave out, kept as a session is kept): then the guest can still be linked when the session has ended. The id of a session
/// serves, too, but a new session is a stranger to the guest.
///
/// **When it ends**: a guest is kept for its client as long as the newest ticket lives, 30 days unless set otherwise, and each ticket
/// that is issued to the same client makes it longer. Issue one with each session.
///
/// Who named which guest, and which tickets were used, is remembered in this process, unless
/// [`shared`](crate::server::TokenVendorBuilder::shared) is given a store that all instances have in common. Instances share the key.
///
/// **A new key** takes three deployments, each of which may roll: the instances with the setting of one step and those with the next
/// take each other's tickets.
///
/// 1. `hmac_sha256(old)?.also_accept(new)?`: all learn the new key, nobody uses it yet.
/// 2. `hmac_sha256(new)?.also_accept(old)?`: tickets are signed with the new one.
/// 3. After the [`lifetime`](Self::lifetime) of a ticket: `hmac_sha256(new)?`. If the old key has leaked, do this at once; clients
///    that still have one of its tickets then keep their guests only if they ask for another ticket in time.
///
/// A restart forgets what the process remembers, but not a ticket: one that a client still has is proof enough.
///
/// ```
/// # use {cognito_identity_pool::server::GuestClaims, std::time::Duration};
/// # let key_from_secret_store = "0123456789abcdef0123456789abcdef";
/// let claims = GuestClaims::hmac_sha256(key_from_secret_store)?.lifetime(Duration::from_secs(7 * 24 * 3_600));
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct GuestClaims {
    keys: ClaimKeys,
    lifetime: Duration,
    named_within: Duration,
}

/// Expiry and when the guest was named, in seconds since the epoch; 16 random bytes; which key; the authentication.
const TICKET: usize = SIGNED + 32;
const SIGNED: usize = NONCE.end + KEY_ID;
const NONCE: std::ops::Range<usize> = 16..32;
const PURPOSE: &str = "guest claim v3";

impl GuestClaims {
    /// A ticket lives no longer, whatever is set.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

    /// Tickets by `key`, of at least 32 bytes, from the backend's secret store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] for a shorter key.
    pub fn hmac_sha256(key: impl Into<SecretString>) -> Result<Self, Error> {
        Ok(Self {
            keys: ClaimKeys::new(&key.into())?,
            lifetime: Duration::from_secs(30 * 24 * 3_600),
            named_within: Duration::from_secs(600),
        })
    }

    /// Takes tickets of another key as well, of at least 32 bytes: the last one, or the next one. Call it once for each.
    ///
    /// ```
    /// # use cognito_identity_pool::server::GuestClaims;
    /// # let (old, new) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    /// let claims = GuestClaims::hmac_sha256(new)?.also_accept(old)?;
    /// # Ok::<(), cognito_identity_pool::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] for a shorter key.
    pub fn also_accept(mut self, key: impl Into<SecretString>) -> Result<Self, Error> {
        self.keys.accept(&key.into())?;
        Ok(self)
    }

    /// How long a ticket lives, and the guest is kept for its client: in whole seconds, at least 1 s, at most 365 days, by default
    /// 30 days.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.clamp(Duration::from_secs(1), Self::LONGEST);
        self
    }

    /// How soon after a guest was made its client has to name it, by default 10 minutes. Name it as soon as the app has it.
    ///
    /// A longer time, or `Duration::MAX`, lets guests be linked that existed before the backend asked for their names, and lets
    /// whoever has seen the id of one that nobody has named take it.
    pub fn named_within(mut self, time: Duration) -> Self {
        self.named_within = time;
        self
    }

    /// Binds `guest` to `client`, if it is not bound to another, and issues a ticket.
    pub(super) async fn issue(
        &self,
        pool: &IdentityPoolId,
        store: &SharedState,
        guest: &IdentityId,
        client: &str,
        now: SystemTime,
    ) -> Result<GuestTicket, Error> {
        if client.is_empty() {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the client that a guest claim is for is empty",
            )
            .with_hint("pass what the backend knows the client by, e.g. an installation id"));
        }
        check_region(pool, guest)?;
        let mut named_at = seconds(now);
        let expires = named_at.saturating_add(self.lifetime.as_secs());
        let owner = Owner::new(store, client, named_at);
        let of = guest.as_str();
        let there = store
            .put_if_absent(EntryKind::GuestOwner, of, &owner, self.lifetime)
            .await?;
        if let Some(there) = there {
            if there.client != owner.client {
                return Err(refused(ClaimRefusal::ForeignClient));
            }
            named_at = there.named_at;
            store.put(EntryKind::GuestOwner, of, &there, self.lifetime).await?;
        }
        Ok(self.sign(pool, guest, client, expires, named_at))
    }

    /// A new ticket for a client that has one, on its strength alone: the guest need not be remembered here.
    pub(super) async fn renew(
        &self,
        pool: &IdentityPoolId,
        store: &SharedState,
        claim: &GuestClaim,
        now: SystemTime,
    ) -> Result<GuestTicket, Error> {
        let checked = self.check(pool, claim, now)?;
        checked.check_owner(store, claim).await?;
        let expires = seconds(now).saturating_add(self.lifetime.as_secs());
        let owner = Owner::new(store, &claim.client, checked.named_at);
        let of = claim.guest.as_str();
        store.put(EntryKind::GuestOwner, of, &owner, self.lifetime).await?;
        Ok(self.sign(pool, &claim.guest, &claim.client, expires, checked.named_at))
    }

    fn sign(
        &self,
        pool: &IdentityPoolId,
        guest: &IdentityId,
        client: &str,
        expires: u64,
        named_at: u64,
    ) -> GuestTicket {
        let mut ticket = expires.to_be_bytes().to_vec();
        ticket.extend(named_at.to_be_bytes());
        ticket.extend(uuid::Uuid::new_v4().into_bytes());
        ticket.extend(self.keys.signing_id());
        let mac = self.keys.sign(PURPOSE, &bound(pool, guest, client, &ticket));
        ticket.extend(mac);
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(&ticket).into()
    }

    /// Checks what a ticket says by itself.
    pub(super) fn check(
        &self,
        pool: &IdentityPoolId,
        claim: &GuestClaim,
        now: SystemTime,
    ) -> Result<CheckedClaim, Error> {
        check_region(pool, &claim.guest)?;
        let ticket = base64_simd::URL_SAFE_NO_PAD
            .decode_to_vec(claim.ticket.expose())
            .ok()
            .filter(|ticket| ticket.len() == TICKET)
            .ok_or_else(|| refused(ClaimRefusal::Malformed))?;
        let (signed, mac) = ticket.split_at(SIGNED);
        let parts = bound(pool, &claim.guest, &claim.client, signed);
        match self.keys.check(&signed[NONCE.end..], PURPOSE, &parts, mac) {
            Ok(()) => {}
            Err(NotSigned::Forged) => return Err(refused(ClaimRefusal::Forged)),
            Err(NotSigned::UnknownKey) => {
                return Err(refused(ClaimRefusal::UnknownKey).with_hint(
                    "while a key is replaced, all instances have to accept the new one before any signs with it: \
                     `GuestClaims::also_accept`",
                ));
            }
        }
        let number = |at: usize| {
            let bytes = signed.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_be_bytes)
        };
        let (expires, named_at) = (number(0), number(8));
        // Not longer than it can be either: a clock that was wrong at issue must not make a ticket for good.
        let remaining = expires.saturating_sub(seconds(now));
        if remaining == 0 || remaining > Self::LONGEST.as_secs() {
            return Err(refused(ClaimRefusal::Expired));
        }
        Ok(CheckedClaim {
            nonce: base64_simd::URL_SAFE_NO_PAD.encode_to_string(&signed[NONCE]),
            remaining: Duration::from_secs(remaining),
            named_at,
        })
    }

    /// Whether a guest that was made at `created` was named soon enough. Two clocks are compared: a minute is forgiven.
    pub(super) fn check_age(&self, claim: &CheckedClaim, created: Option<SystemTime>) -> Result<(), Error> {
        let latest = created.map(|created| {
            seconds(created)
                .saturating_add(self.named_within.as_secs())
                .saturating_add(60)
        });
        if latest.is_none_or(|latest| claim.named_at <= latest) {
            Ok(())
        } else {
            Err(refused(ClaimRefusal::NamedLate))
        }
    }
}

/// Which client a guest belongs to, as it stands in the store.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    /// Hashed.
    client: String,
    named_at: u64,
}

impl Owner {
    fn new(store: &SharedState, client: &str, named_at: u64) -> Self {
        Self {
            client: store.hash_of(EntryKind::GuestOwner, client),
            named_at,
        }
    }
}

/// A ticket that is authentic and alive.
#[derive(Debug)]
pub(super) struct CheckedClaim {
    nonce: String,
    remaining: Duration,
    named_at: u64,
}

impl CheckedClaim {
    /// The guest must not belong to another client that named it earlier.
    async fn check_owner(&self, store: &SharedState, claim: &GuestClaim) -> Result<(), Error> {
        let Some(owner) = store.get::<Owner>(EntryKind::GuestOwner, claim.guest.as_str()).await? else {
            return Ok(());
        };
        let own = Owner::new(store, &claim.client, self.named_at);
        if owner.client != own.client && owner.named_at <= own.named_at {
            return Err(refused(ClaimRefusal::ForeignClient));
        }
        Ok(())
    }

    /// Checks who owns the guest, and marks the ticket as this user's. The same user may come again: the answer to the first
    /// attempt may have been lost.
    pub(super) async fn redeem(
        &self,
        store: &SharedState,
        claim: &GuestClaim,
        user: &DeveloperUserId,
    ) -> Result<(), Error> {
        self.check_owner(store, claim).await?;
        let user = store.hash_of(EntryKind::UsedTicket, user.as_str());
        let used = store.put_if_absent(EntryKind::UsedTicket, &self.nonce, &user, self.remaining);
        match used.await? {
            Some(other) if other != user => Err(refused(ClaimRefusal::Used)),
            _ => Ok(()),
        }
    }
}

fn bound<'a>(pool: &'a IdentityPoolId, guest: &'a IdentityId, client: &'a str, ticket: &'a [u8]) -> [&'a [u8]; 4] {
    [
        pool.as_str().as_bytes(),
        guest.as_str().as_bytes(),
        client.as_bytes(),
        ticket,
    ]
}

fn check_region(pool: &IdentityPoolId, guest: &IdentityId) -> Result<(), Error> {
    if guest.region() == pool.region() {
        Ok(())
    } else {
        Err(refused(ClaimRefusal::OtherRegion))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl fmt::Debug for GuestClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestClaims")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// A ticket for a guest, as [`TokenVendor::issue_guest_claim`](crate::TokenVendor::issue_guest_claim) issues it: a secret of the
/// client's. `Debug` does not show it.
///
/// ```
/// # use cognito_identity_pool::server::GuestTicket;
/// fn body(ticket: &GuestTicket) -> String {
///     format!(r#"{{"guestClaim":"{}"}}"#, ticket.expose())
/// }
/// ```
#[derive(Clone)]
pub struct GuestTicket(SecretString);

impl GuestTicket {
    /// The ticket as text, for the response to the client that it is for, and nowhere else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for GuestTicket {
    fn from(ticket: String) -> Self {
        Self(ticket.into())
    }
}

impl From<&str> for GuestTicket {
    fn from(ticket: &str) -> Self {
        Self(ticket.into())
    }
}

impl fmt::Debug for GuestTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestTicket(<redacted>)")
    }
}

/// A ticket that a client has sent back, with what it is checked against.
///
/// ```
/// # use cognito_identity_pool::{server::GuestClaim, IdentityId};
/// # let ticket_from_request = "…";
/// # let guest_id_from_request = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
/// # let session_id = "session-7";
/// let claim = GuestClaim::new(ticket_from_request, IdentityId::new(guest_id_from_request)?, session_id);
/// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
/// ```
#[derive(Clone)]
pub struct GuestClaim {
    ticket: GuestTicket,
    pub(super) guest: IdentityId,
    client: String,
}

impl GuestClaim {
    /// `ticket` and `guest` may come from the request. `client` is what the backend itself knows the caller by (the id of its
    /// session, say): the same as when the ticket was issued.
    pub fn new(ticket: impl Into<GuestTicket>, guest: IdentityId, client: impl Into<String>) -> Self {
        Self {
            ticket: ticket.into(),
            guest,
            client: client.into(),
        }
    }
}

impl fmt::Debug for GuestClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestClaim")
            .field("guest", &self.guest)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
