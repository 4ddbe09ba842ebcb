//! The audit trail. One subscriber serves the whole program and keeps what was logged on this thread: a subscriber of a test's own
//! would race with the callsites that other tests register.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use crate::stage::{Stage, user};
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
    vendor.deny(&user("mallory"));
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
