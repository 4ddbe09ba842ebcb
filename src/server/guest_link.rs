//! Tickets that let a guest become a user: [`GuestClaims`] issues them, [`GuestClaim`] is one that came back.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use super::hmac_key::HmacKey;
use crate::error::{BackendError, Error, ErrorKind};
use crate::ids::{IdentityId, IdentityPoolId};

/// How a backend issues and redeems the tickets for [`TokenVendor::link_guest`](crate::TokenVendor::link_guest).
///
/// Whoever knows a guest's id can *be* that guest, so an id sent along with a sign-in proves nothing: a thief would take the
/// guest's data into an account of his own. A ticket proves that this backend gave it to this client for this guest: it is
/// authenticated (HMAC-SHA256), lives 10 minutes unless set otherwise, serves once, and is bound to guest, client and pool.
///
/// Instances of one backend share the key. They share what has been used, too, if [`shared`](Self::shared) is given a store
/// that they have in common; otherwise a ticket serves once *per process*.
///
/// ```
/// # use {cognito_identity_pool::server::GuestClaims, std::time::Duration};
/// # let key_from_secret_store = "0123456789abcdef0123456789abcdef";
/// let claims = GuestClaims::hmac_sha256(key_from_secret_store)?.lifetime(Duration::from_secs(120));
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct GuestClaims {
    key: HmacKey,
    lifetime: Duration,
    used: Arc<dyn UsedClaims>,
}

/// Expiry, in seconds since the epoch; 16 random bytes; the authentication.
const TICKET: usize = 8 + 16 + 32;
const PURPOSE: &str = "guest claim v1";

impl GuestClaims {
    /// A ticket lives no longer, whatever is set.
    const LONGEST: Duration = Duration::from_secs(3_600);

    /// Tickets by `key`, of at least 32 bytes, from the backend's secret store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] for a shorter key.
    pub fn hmac_sha256(key: impl Into<SecretString>) -> Result<Self, Error> {
        Ok(Self {
            key: HmacKey::new(&key.into(), "the key of GuestClaims")?,
            lifetime: Duration::from_secs(600),
            used: Arc::new(MemoryUsedClaims::default()),
        })
    }

    /// How long a ticket lives: in whole seconds, at least 1 s, at most one hour, by default 10 minutes.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.clamp(Duration::from_secs(1), Self::LONGEST);
        self
    }

    /// Remembers the used tickets in a store that all instances of the backend share.
    pub fn shared(mut self, used: impl UsedClaims + 'static) -> Self {
        self.used = Arc::new(used);
        self
    }

    pub(super) fn issue(
        &self,
        pool: &IdentityPoolId,
        guest: &IdentityId,
        client: &str,
        now: SystemTime,
    ) -> Result<GuestTicket, Error> {
        if client.is_empty() {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the client that a guest claim is for is empty",
            )
            .with_hint("pass what the backend knows the client by, e.g. the id of its session"));
        }
        check_region(pool, guest)?;
        let expires = seconds(now).saturating_add(self.lifetime.as_secs());
        let mut ticket = expires.to_be_bytes().to_vec();
        ticket.extend(uuid::Uuid::new_v4().into_bytes());
        let mac = self.key.sign(PURPOSE, &bound(pool, guest, client, &ticket));
        ticket.extend(mac);
        Ok(base64_simd::URL_SAFE_NO_PAD.encode_to_string(&ticket).into())
    }

    /// Checks a claim and marks it used. What comes back takes the mark away again.
    pub(super) async fn redeem(
        &self,
        pool: &IdentityPoolId,
        claim: &GuestClaim,
        now: SystemTime,
    ) -> Result<RedeemedClaim, Error> {
        check_region(pool, &claim.guest)?;
        let ticket = base64_simd::URL_SAFE_NO_PAD
            .decode_to_vec(claim.ticket.expose())
            .ok()
            .filter(|ticket| ticket.len() == TICKET)
            .ok_or_else(|| refused("is not one of this backend's"))?;
        let (signed, mac) = ticket.split_at(TICKET - 32);
        if !self
            .key
            .is_authentic(PURPOSE, &bound(pool, &claim.guest, &claim.client, signed), mac)
        {
            return Err(refused("is forged, or for another guest, client or pool"));
        }
        let (expires, nonce) = signed.split_at(8);
        let expires = expires.try_into().map_or(0, u64::from_be_bytes);
        // Not longer than it can be either: a clock that was wrong at issue must not make a ticket for good.
        let remaining = expires.saturating_sub(seconds(now));
        if remaining == 0 || remaining > Self::LONGEST.as_secs() {
            return Err(refused("has expired"));
        }
        let id = base64_simd::URL_SAFE_NO_PAD.encode_to_string(nonce);
        let expires_at = UNIX_EPOCH.checked_add(Duration::from_secs(expires)).unwrap_or(now);
        match self.used.redeem(&id, expires_at, now).await {
            Ok(true) => Ok(RedeemedClaim { id }),
            Ok(false) => Err(refused("was used before")),
            Err(error) => Err(Error::from(error)),
        }
    }

    /// Makes a ticket usable again, after a failure that passes.
    pub(super) async fn release(&self, redeemed: RedeemedClaim) {
        if let Err(error) = self.used.release(&redeemed.id).await {
            tracing::warn!(%error, "a guest claim stays used although nothing was linked");
        }
    }
}

pub(super) struct RedeemedClaim {
    id: String,
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
        Err(refused("is for an identity of another region"))
    }
}

pub(super) fn refused(why: &str) -> Error {
    Error::new(ErrorKind::ClaimRefused, format!("the guest claim {why}"))
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

/// Remembers which tickets were used, for [`GuestClaims::shared`]: a table with a unique key, or `SET NX` with an expiry.
#[async_trait]
pub trait UsedClaims: Send + Sync {
    /// Marks `claim` as used, atomically: `true` if it was not so far. It may be forgotten after `expires_at`.
    ///
    /// # Errors
    ///
    /// [`BackendError`]; the claim is refused then.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the caller of `link_guest` gives up; the claim may count as used then.
    async fn redeem(&self, claim: &str, expires_at: SystemTime, now: SystemTime) -> Result<bool, BackendError>;

    /// Takes the mark away: the call that the claim was used for has failed for a passing reason.
    ///
    /// # Errors
    ///
    /// [`BackendError`]; the claim stays used then.
    ///
    /// # Cancel safety
    ///
    /// As [`redeem`](Self::redeem).
    async fn release(&self, claim: &str) -> Result<(), BackendError>;
}

/// What has been used in this process.
#[derive(Default)]
struct MemoryUsedClaims(Mutex<HashMap<String, SystemTime>>);

impl MemoryUsedClaims {
    /// More live tickets than this are an attack. They are refused, not forgotten.
    const MOST: usize = 100_000;
}

#[async_trait]
impl UsedClaims for MemoryUsedClaims {
    async fn redeem(&self, claim: &str, expires_at: SystemTime, now: SystemTime) -> Result<bool, BackendError> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= Self::MOST || used.len() == used.capacity() {
            used.retain(|_, expires_at| *expires_at > now);
        }
        if used.len() >= Self::MOST {
            return Err(BackendError::transient("too many guest claims at once"));
        }
        Ok(used.insert(claim.to_owned(), expires_at).is_none())
    }

    async fn release(&self, claim: &str) -> Result<(), BackendError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(claim);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_790_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn pool() -> IdentityPoolId {
        IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd").unwrap()
    }

    fn guest(last: char) -> IdentityId {
        IdentityId::new(format!("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6{last}")).unwrap()
    }

    fn redeem(
        claims: &GuestClaims,
        ticket: &str,
        guest: IdentityId,
        client: &str,
        now: u64,
    ) -> Result<RedeemedClaim, Error> {
        claims
            .redeem(&pool(), &GuestClaim::new(ticket, guest, client), at(now))
            .now_or_never()
            .unwrap()
    }

    fn refusal(result: Result<RedeemedClaim, Error>) -> String {
        let error = result.err().unwrap();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ClaimRefused, false));
        error.to_string()
    }

    #[test]
    fn a_ticket_serves_its_client_and_guest_once() {
        let claims = GuestClaims::hmac_sha256(KEY).unwrap();
        let ticket = claims.issue(&pool(), &guest('a'), "session-1", at(NOW)).unwrap();
        let ticket = ticket.expose();
        assert!(refusal(redeem(&claims, ticket, guest('b'), "session-1", NOW)).contains("another guest"));
        assert!(refusal(redeem(&claims, ticket, guest('a'), "session-2", NOW)).contains("client"));
        assert!(redeem(&claims, ticket, guest('a'), "session-1", NOW).is_ok());
        assert!(refusal(redeem(&claims, ticket, guest('a'), "session-1", NOW)).contains("used before"));
    }

    #[test]
    fn a_ticket_lives_to_its_last_second_and_not_one_more() {
        let claims = GuestClaims::hmac_sha256(KEY).unwrap().lifetime(Duration::from_secs(60));
        let ticket = claims.issue(&pool(), &guest('a'), "s", at(NOW)).unwrap();
        assert!(refusal(redeem(&claims, ticket.expose(), guest('a'), "s", NOW + 60)).contains("expired"));
        assert!(redeem(&claims, ticket.expose(), guest('a'), "s", NOW + 59).is_ok());
        // Issued while the clock was a year ahead.
        let ticket = claims.issue(&pool(), &guest('a'), "s", at(NOW + 31_536_000)).unwrap();
        assert!(refusal(redeem(&claims, ticket.expose(), guest('a'), "s", NOW)).contains("expired"));
    }

    #[test]
    fn a_lifetime_keeps_within_its_bounds() {
        for (set, lives) in [(0, 1), (1, 1), (3_600, 3_600), (3_601, 3_600)] {
            let claims = GuestClaims::hmac_sha256(KEY)
                .unwrap()
                .lifetime(Duration::from_secs(set));
            let ticket = claims.issue(&pool(), &guest('a'), "s", at(NOW)).unwrap();
            assert!(
                redeem(&claims, ticket.expose(), guest('a'), "s", NOW + lives).is_err(),
                "{set}"
            );
            assert!(
                redeem(&claims, ticket.expose(), guest('a'), "s", NOW + lives - 1).is_ok(),
                "{set}"
            );
        }
    }

    #[test]
    fn a_changed_ticket_is_forged_whichever_byte_was_changed() {
        let claims = GuestClaims::hmac_sha256(KEY).unwrap();
        let ticket = claims.issue(&pool(), &guest('a'), "s", at(NOW)).unwrap();
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(ticket.expose()).unwrap();
        for n in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[n] ^= 1;
            let changed = base64_simd::URL_SAFE_NO_PAD.encode_to_string(changed);
            refusal(redeem(&claims, &changed, guest('a'), "s", NOW));
        }
        for nonsense in ["", "x", "e30.e30.c2ln", &"A".repeat(100_000)] {
            refusal(redeem(&claims, nonsense, guest('a'), "s", NOW));
        }
        let another = GuestClaims::hmac_sha256("another key of at least 32 bytes!").unwrap();
        refusal(redeem(&another, ticket.expose(), guest('a'), "s", NOW));
    }

    #[test]
    fn a_released_ticket_serves_again() {
        let claims = GuestClaims::hmac_sha256(KEY).unwrap();
        let ticket = claims.issue(&pool(), &guest('a'), "s", at(NOW)).unwrap();
        let redeemed = redeem(&claims, ticket.expose(), guest('a'), "s", NOW).unwrap();
        claims.release(redeemed).now_or_never().unwrap();
        assert!(redeem(&claims, ticket.expose(), guest('a'), "s", NOW).is_ok());
    }

    #[test]
    fn a_ticket_is_for_a_client_and_a_guest_of_the_pools_region() {
        let claims = GuestClaims::hmac_sha256(KEY).unwrap();
        assert!(claims.issue(&pool(), &guest('a'), "", at(NOW)).is_err());
        let foreign = IdentityId::new("eu-west-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d").unwrap();
        assert_eq!(
            claims.issue(&pool(), &foreign, "s", at(NOW)).unwrap_err().kind(),
            ErrorKind::ClaimRefused
        );
    }

    #[test]
    fn used_tickets_are_forgotten_once_they_have_expired() {
        let used = MemoryUsedClaims::default();
        for n in 0..10_000 {
            let now = at(NOW + n);
            assert!(
                used.redeem(&n.to_string(), now + Duration::from_secs(60), now)
                    .now_or_never()
                    .unwrap()
                    .unwrap()
            );
        }
        assert!(used.0.lock().unwrap().len() < 1_000);
    }

    #[test]
    fn debug_shows_neither_key_nor_ticket() {
        let shown = format!(
            "{:?}{:?}",
            GuestClaims::hmac_sha256(KEY).unwrap(),
            GuestClaim::new("tick", guest('a'), "s")
        );
        assert!(!shown.contains(KEY) && !shown.contains("tick"));
    }
}
