//! The vendor's audit trail. Alone in its program: where another test comes by a callsite at the moment at which the subscriber is set,
//! tracing takes it for one that nobody listens to.

use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::stage::{Stage, user};
use cognito_identity_pool::server::{AUDIT_TARGET, GuestClaim, PrincipalTags, VendRequest};
use secrecy::ExposeSecret;

/// Collects what is logged while it is in force.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_audit_trail_says_who_got_what_and_never_the_token() {
    let stage = Stage::start().await;
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("off,cognito_identity_pool=trace")
        .with_ansi(false)
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let vendor = stage.vendor();
    let tags = PrincipalTags::new().with("tenant", "acme").unwrap();
    let vended = vendor
        .vend_with(VendRequest::new(user("alice")).principal_tags(tags))
        .await
        .unwrap();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "s").unwrap();
    vendor
        .link_guest(
            &user("alice"),
            GuestClaim::new(ticket.expose_secret(), guest.clone(), "s"),
        )
        .await
        .unwrap_err();
    vendor.deny(&user("mallory"));
    vendor.vend(&user("mallory")).await.unwrap_err();
    let credentials = vendor.vend_credentials(&user("bob")).await.unwrap();
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
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
            "cached=false",
            request_id,
            r#"outcome="ok""#,
        ],
        &[r#"operation="link_guest""#, "outcome=UserAlreadyRegistered"],
        &[r#"user="mallory""#, "outcome=Denied"],
        &[r#"operation="vend_credentials""#, r#"user="bob""#],
        &[r#"operation="exchange""#, r#"user="bob""#, r#"outcome="ok""#],
    ] {
        assert!(line(fields), "{fields:?} not in\n{log}");
    }
    let secrets = [
        vended.identity().token().expose_secret(),
        ticket.expose_secret(),
        guest.as_str(),
        credentials.credentials().secret_access_key(),
        credentials.credentials().session_token().unwrap(),
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "a secret in\n{log}");
    }
}
