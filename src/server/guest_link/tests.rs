//! Tickets by themselves: a store in memory, and time told by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};

use super::*;
use crate::clock::Clock;
use crate::ids::DeveloperProviderName;
use crate::server::shared_store::MemorySharedStore;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_790_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn pool() -> IdentityPoolId {
    IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd").unwrap()
}

/// A clock that is set.
#[derive(Debug, Clone)]
struct Told(Arc<AtomicU64>);

impl TimeSource for Told {
    fn now(&self) -> SystemTime {
        at(self.0.load(Ordering::Relaxed))
    }
}

/// Nothing is waited for.
#[derive(Debug)]
struct Never;

impl AsyncSleep for Never {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::pending())
    }
}

fn store(time: &Told) -> SharedState {
    let provider = DeveloperProviderName::new("login.mycompany.myapp").unwrap();
    SharedState::new(
        Arc::new(MemorySharedStore::new().time_source(time.clone())),
        &pool(),
        &provider,
        Clock::new(SharedTimeSource::new(time.clone())),
        SharedAsyncSleep::new(Never),
    )
}

fn guest(last: char) -> IdentityId {
    IdentityId::new(format!("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6{last}")).unwrap()
}

fn user(id: &str) -> DeveloperUserId {
    DeveloperUserId::new(id).unwrap()
}

/// Claims with a store and a clock of their own.
struct Backend {
    claims: GuestClaims,
    store: SharedState,
    time: Told,
}

impl Backend {
    fn new() -> Self {
        let time = Told(Arc::new(AtomicU64::new(NOW)));
        Self {
            claims: GuestClaims::hmac_sha256(KEY).unwrap(),
            store: store(&time),
            time,
        }
    }

    fn issue(&self, guest: &IdentityId, client: &str, now: u64) -> Result<GuestTicket, Error> {
        self.time.0.store(now, Ordering::Relaxed);
        let pool = pool();
        let issued = self.claims.issue(&pool, &self.store, guest, client, at(now));
        issued.now_or_never().unwrap()
    }

    fn renew(&self, claim: &GuestClaim, now: u64) -> Result<GuestTicket, Error> {
        self.time.0.store(now, Ordering::Relaxed);
        let pool = pool();
        let renewed = self.claims.renew(&pool, &self.store, claim, at(now));
        renewed.now_or_never().unwrap()
    }

    fn redeem(&self, ticket: &str, guest: IdentityId, client: &str, who: &str, now: u64) -> Result<(), Error> {
        self.time.0.store(now, Ordering::Relaxed);
        let claim = GuestClaim::new(ticket, guest, client);
        let checked = self.claims.check(&pool(), &claim, at(now))?;
        let user = user(who);
        let redeemed = checked.redeem(&self.store, &claim, &user);
        redeemed.now_or_never().unwrap()
    }
}

fn refusal<T: fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ClaimRefused, false));
    error.to_string()
}

#[test]
fn a_ticket_serves_its_client_and_guest_and_one_user() {
    let backend = Backend::new();
    let ticket = backend.issue(&guest('a'), "device-1", NOW).unwrap();
    let ticket = ticket.expose();
    assert!(refusal(backend.redeem(ticket, guest('b'), "device-1", "u", NOW)).contains("another guest"));
    assert!(refusal(backend.redeem(ticket, guest('a'), "device-2", "u", NOW)).contains("client"));
    // The same user may come again, because an answer may have been lost.
    for _ in 0..2 {
        backend.redeem(ticket, guest('a'), "device-1", "u", NOW).unwrap();
    }
    assert!(refusal(backend.redeem(ticket, guest('a'), "device-1", "v", NOW)).contains("used before"));
}

#[test]
fn a_guest_belongs_to_the_client_that_named_it_first() {
    let backend = Backend::new();
    let lifetime = 30 * 24 * 3_600;
    backend.issue(&guest('a'), "first", NOW).unwrap();
    assert!(refusal(backend.issue(&guest('a'), "thief", NOW)).contains("another client"));
    // Each ticket for the owner keeps it longer.
    backend.issue(&guest('a'), "first", NOW + lifetime - 1).unwrap();
    refusal(backend.issue(&guest('a'), "thief", NOW + lifetime));
    backend.issue(&guest('a'), "another", NOW + 2 * lifetime).unwrap();
}

#[test]
fn a_ticket_outlives_the_memory_of_who_named_the_guest() {
    let before = Backend::new();
    let ticket = before.issue(&guest('a'), "owner", NOW).unwrap();
    // A restart, and a thief is the first to name the guest.
    let after = Backend::new();
    let stolen = after.issue(&guest('a'), "thief", NOW + 5_000).unwrap();
    let claim = GuestClaim::new(ticket.expose(), guest('a'), "owner");
    let renewed = after.renew(&claim, NOW + 6_000).unwrap();
    after
        .redeem(renewed.expose(), guest('a'), "owner", "u", NOW + 6_001)
        .unwrap();
    // And the thief's ticket counts no longer.
    assert!(refusal(after.redeem(stolen.expose(), guest('a'), "thief", "v", NOW + 6_002)).contains("another client"));
}

#[test]
fn a_guest_that_was_named_late_is_not_linked() {
    let backend = Backend::new();
    let ticket = backend.issue(&guest('a'), "c", NOW).unwrap();
    let claim = GuestClaim::new(ticket, guest('a'), "c");
    let checked = backend.claims.check(&pool(), &claim, at(NOW)).unwrap();
    let age = |claims: &GuestClaims, created| claims.check_age(&checked, Some(at(created)));
    assert!(age(&backend.claims, NOW - 660).is_ok() && age(&backend.claims, NOW + 60).is_ok());
    assert!(refusal(age(&backend.claims, NOW - 661)).contains("too long"));
    let lenient = backend.claims.clone().named_within(Duration::MAX);
    assert!(age(&lenient, 0).is_ok());
}

#[test]
fn a_ticket_lives_to_its_last_second_and_not_one_more() {
    let mut backend = Backend::new();
    backend.claims = backend.claims.lifetime(Duration::from_secs(60));
    let ticket = backend.issue(&guest('a'), "s", NOW).unwrap();
    let ticket = ticket.expose();
    assert!(refusal(backend.redeem(ticket, guest('a'), "s", "u", NOW + 60)).contains("expired"));
    assert!(backend.redeem(ticket, guest('a'), "s", "u", NOW + 59).is_ok());
    // Issued while the clock was two years ahead.
    let ticket = backend.issue(&guest('b'), "s", NOW + 2 * 31_536_000).unwrap();
    assert!(refusal(backend.redeem(ticket.expose(), guest('b'), "s", "u", NOW)).contains("expired"));
}

#[test]
fn a_lifetime_keeps_within_its_bounds() {
    const YEAR: u64 = 31_536_000;
    for (set, lives) in [(0, 1), (1, 1), (YEAR, YEAR), (YEAR + 1, YEAR)] {
        let mut backend = Backend::new();
        backend.claims = backend.claims.lifetime(Duration::from_secs(set));
        let ticket = backend.issue(&guest('a'), "s", NOW).unwrap();
        let redeem = |now| backend.redeem(ticket.expose(), guest('a'), "s", "u", now);
        assert!(redeem(NOW + lives).is_err(), "{set}");
        assert!(redeem(NOW + lives - 1).is_ok(), "{set}");
    }
}

#[test]
fn a_changed_ticket_is_forged_whichever_byte_was_changed() {
    let backend = Backend::new();
    let ticket = backend.issue(&guest('a'), "s", NOW).unwrap();
    let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(ticket.expose()).unwrap();
    for n in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[n] ^= 1;
        let changed = base64_simd::URL_SAFE_NO_PAD.encode_to_string(changed);
        refusal(backend.redeem(&changed, guest('a'), "s", "u", NOW));
    }
    for nonsense in ["", "x", "e30.e30.c2ln", &"A".repeat(100_000)] {
        refusal(backend.redeem(nonsense, guest('a'), "s", "u", NOW));
    }
    let mut another = Backend::new();
    another.claims = GuestClaims::hmac_sha256("another key of at least 32 bytes!").unwrap();
    refusal(another.redeem(ticket.expose(), guest('a'), "s", "u", NOW));
}

#[test]
fn a_ticket_is_for_a_client_and_a_guest_of_the_pools_region() {
    let backend = Backend::new();
    let error = backend.issue(&guest('a'), "", NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let foreign = IdentityId::new("eu-west-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d").unwrap();
    refusal(backend.issue(&foreign, "s", NOW));
}

#[test]
fn debug_shows_neither_key_nor_ticket() {
    let shown = format!(
        "{:?}{:?}{:?}",
        GuestClaims::hmac_sha256(KEY).unwrap(),
        GuestClaim::new("tick", guest('a'), "s"),
        GuestTicket::from("tick"),
    );
    assert!(!shown.contains(KEY) && !shown.contains("tick"));
}

#[test]
fn a_key_is_replaced_while_instances_of_both_settings_run() {
    const NEXT: &str = "fedcba9876543210fedcba9876543210";
    let of = |signing: &str, accepted: &[&str]| {
        let claims = GuestClaims::hmac_sha256(signing).unwrap();
        let also = |claims: GuestClaims, key: &&str| claims.also_accept(*key).unwrap();
        accepted.iter().fold(claims, also)
    };
    let steps = [of(KEY, &[]), of(KEY, &[NEXT]), of(NEXT, &[KEY]), of(NEXT, &[])];
    for rolling in steps[..3].windows(2) {
        for (issuer, redeemer) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
            let mut backend = Backend::new();
            backend.claims = rolling[issuer].clone();
            let ticket = backend.issue(&guest('a'), "s", NOW).unwrap();
            backend.claims = rolling[redeemer].clone();
            let claim = GuestClaim::new(ticket.expose(), guest('a'), "s");
            let renewed = backend.renew(&claim, NOW + 1).unwrap();
            backend.claims = rolling[issuer].clone();
            for ticket in [ticket.expose(), renewed.expose()] {
                backend.redeem(ticket, guest('a'), "s", "u", NOW + 2).unwrap();
            }
        }
    }
    // The last step: what the old key signed has run out, and counts no more.
    let mut backend = Backend::new();
    backend.claims = steps[1].clone();
    let ticket = backend.issue(&guest('a'), "s", NOW).unwrap();
    backend.claims = steps[3].clone();
    let error = backend.redeem(ticket.expose(), guest('a'), "s", "u", NOW).unwrap_err();
    assert!(error.hint().unwrap().contains("also_accept"), "{error:?}");
    backend.claims = steps[2].clone();
    let ticket = backend.issue(&guest('a'), "s", NOW).unwrap();
    backend.claims = steps[3].clone();
    backend.redeem(ticket.expose(), guest('a'), "s", "u", NOW).unwrap();
    // Somebody who names a key and does not have it.
    let mut bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(ticket.expose()).unwrap();
    bytes[NONCE.end..SIGNED].copy_from_slice(&steps[0].keys.signing_id());
    let forged = base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
    backend.claims = steps[2].clone();
    assert!(refusal(backend.redeem(&forged, guest('a'), "s", "u", NOW)).contains("forged"));
}
