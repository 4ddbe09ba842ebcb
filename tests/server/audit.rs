//! The audit trail. One subscriber serves the whole program and keeps what was logged on this thread: a subscriber of a test's own
//! would race with the callsites that other tests register.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use crate::stage::{PROVIDER, Stage, until, user};
use cognito_identity_pool::TokenVerifier;
use cognito_identity_pool::local::LocalFault;
use cognito_identity_pool::server::{AUDIT_TARGET, GuestClaim, PrincipalTags, VendRequest};

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct ThreadLog;

impl Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Forgets what this thread has logged so far; from now on everything is kept.
pub(crate) fn listen() {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        tracing_subscriber::fmt()
            .with_env_filter("off,cognito_identity_pool=trace")
            .with_ansi(false)
            .with_writer(|| ThreadLog)
            .init();
    });
    LOG.with_borrow_mut(Vec::clear);
}

/// How many bytes this thread has logged since [`listen`].
pub(crate) fn logged_bytes() -> usize {
    LOG.with_borrow(Vec::len)
}

/// Reads what this thread has logged since [`listen`].
pub(crate) fn with_log<T>(read: impl FnOnce(&[u8]) -> T) -> T {
    LOG.with_borrow(|log| read(log))
}

/// What this thread has logged since [`listen`].
pub(crate) fn logged() -> String {
    String::from_utf8(LOG.with_borrow(Vec::clone)).unwrap()
}

#[tokio::test]
async fn the_audit_trail_says_who_got_what_and_never_the_token() {
    let stage = Stage::start().await;
    listen();
    let vendor = stage.vendor();
    let tags = PrincipalTags::new().with("tenant", "acme").unwrap();
    let vended = vendor
        .vend_with(VendRequest::new(user("alice")).principal_tags(tags))
        .await
        .unwrap();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "s").await.unwrap();
    vendor
        .link_guest(&user("alice"), GuestClaim::new(ticket.expose(), guest.clone(), "s"))
        .await
        .unwrap_err();
    vendor.deny(&user("mallory")).await.unwrap();
    vendor.vend(&user("mallory")).await.unwrap_err();
    let credentials = vendor.vend_credentials(&user("bob")).await.unwrap();
    let log = logged();
    let line = |with: &[&str]| {
        log.lines()
            .any(|line| line.contains(AUDIT_TARGET) && with.iter().all(|w| line.contains(w)))
    };
    let request_id = vended.request_id().unwrap();
    for fields in [
        &[
            r#"operation="vend""#,
            r#"user="alice""#,
            vended.identity_id().as_str(),
            r#"{"tenant": "acme"}"#,
        ][..],
        &[
            r#"user="alice""#,
            "duration=900",
            r#"source="asked""#,
            request_id,
            r#"outcome="ok""#,
        ],
        &[r#"operation="link_guest""#, r#"outcome="UserAlreadyRegistered""#],
        &[r#"user="mallory""#, r#"outcome="Denied""#],
        &[r#"operation="vend_credentials""#, r#"user="bob""#],
        &[r#"operation="exchange""#, r#"user="bob""#, r#"outcome="ok""#],
    ] {
        assert!(line(fields), "{fields:?} not in\n{log}");
    }
    let secrets = [
        vended.identity().token().expose_secret(),
        ticket.expose(),
        guest.as_str(),
        credentials.credentials().secret_access_key(),
        credentials.credentials().session_token().unwrap(),
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "a secret in\n{log}");
    }
}

/// The lines of the audit trail that have all of `parts`.
fn audited(parts: &[&str]) -> Vec<String> {
    let log = logged();
    let lines = log.lines().filter(|line| line.contains(AUDIT_TARGET));
    let lines = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn dodging_the_audit_by_hanging_up() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "device").await.unwrap();
    listen();
    stage
        .pool
        .faults()
        .next_of("GetOpenIdTokenForDeveloperIdentity", LocalFault::Hang);
    {
        let alice = user("alice");
        let link = vendor.link_guest(&alice, GuestClaim::new(ticket, guest.clone(), "device"));
        let mut link = std::pin::pin!(link);
        until("the link is sent", || {
            drop(futures_util::FutureExt::now_or_never(link.as_mut()));
            stage.calls("GetOpenIdTokenForDeveloperIdentity") > 0
        })
        .await;
    }
    let tail = &guest.as_str()[guest.as_str().len() - 4..];
    let of_link = [r#"operation="link_guest""#, r#"user="alice""#, tail];
    let with = |part| [&of_link[..], &[part]].concat();
    assert_eq!(audited(&with(r#"phase="begin""#)).len(), 1, "{}", logged());
    assert_eq!(audited(&with(r#"outcome="cancelled""#)).len(), 1, "{}", logged());
    assert!(!logged().contains(guest.as_str()), "a guest's id is shortened");
}

#[tokio::test]
async fn every_decision_and_every_id_that_is_touched_has_its_line() {
    let stage = Stage::start().await;
    let (vendor, admin) = (stage.vendor(), stage.admin());
    let (guest, other) = (stage.guest().await, stage.guest().await);
    let (alice, bob) = (user("alice"), user("bob"));
    listen();
    vendor.issue_guest_claim(&guest, "device").await.unwrap();
    vendor.issue_guest_claim(&guest, "thief").await.unwrap_err();
    vendor.new_guest("device").await.unwrap();
    let kept = vendor.vend(&alice).await.unwrap().identity_id().clone();
    vendor.vend(&bob).await.unwrap();
    admin.unlink_user(&alice, &guest).await.unwrap_err();
    admin.merge(&bob, &alice).await.unwrap();
    admin.delete_identities(std::slice::from_ref(&other)).await.unwrap();
    vendor.deny(&bob).await.unwrap();
    vendor.allow(&bob).await.unwrap();
    vendor.evict(&bob);
    stage.pool.faults().next_of(
        "DeleteIdentities",
        LocalFault::refuse("InternalErrorException").unwrap(),
    );
    let report = admin.forget_user(&alice, &[&vendor]).await.unwrap();
    assert!(!report.is_complete());
    let verifier = TokenVerifier::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&stage.config())
        .build()
        .unwrap();
    verifier.verify("not a token").await.unwrap_err();
    for parts in [
        &[r#"operation="issue_guest_claim""#, r#"outcome="ok""#][..],
        &[r#"operation="issue_guest_claim""#, r#"outcome="ClaimRefused""#],
        &[r#"operation="new_guest""#, r#"outcome="ok""#],
        &[r#"operation="unlink_user""#, r#"user="alice""#, r#"phase="end""#],
        &[
            r#"operation="merge""#,
            r#"phase="begin""#,
            r#"user="bob""#,
            r#"into="alice""#,
        ],
        &[r#"operation="delete_identity""#, other.as_str(), r#"outcome="ok""#],
        &[r#"operation="deny""#, r#"user="bob""#],
        &[r#"operation="allow""#, r#"user="bob""#],
        &[r#"operation="evict""#, r#"user="bob""#],
        &[r#"operation="forget_user""#, r#"phase="begin""#, kept.as_str()],
        &[
            r#"operation="forget_user""#,
            r#"phase="end""#,
            r#"outcome="Service""#,
            kept.as_str(),
        ],
        &[r#"operation="verify""#, "cause=WrongTokenKind"],
    ] {
        assert!(!audited(parts).is_empty(), "{parts:?} not in\n{}", logged());
    }
    assert!(
        !logged().contains(guest.as_str()),
        "a refused unlink shows no guest's id"
    );
}
