//! The server half keeps its word where answers get lost, AWS says no, or credentials are rotated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::time::TimeSource;
use cognito_identity_pool::local::LocalFault;
use cognito_identity_pool::server::{
    GuestClaim, HttpRefusal, MemorySharedStore, PrincipalTags, SharedStore, VendRequest,
};
use cognito_identity_pool::store::StoreError;
use cognito_identity_pool::{ErrorKind, async_trait};

use crate::stage::{Stage, until, user};

#[tokio::test]
async fn forgetting_that_was_cut_off_between_unlink_and_delete_is_gone_on_with() {
    let stage = Stage::start().await;
    let (vendor, admin) = (stage.vendor(), stage.admin());
    let identity = vendor.vend(&user("alice")).await.unwrap().identity_id().clone();
    stage.pool.faults().next_of("DeleteIdentities", LocalFault::Hang);
    let alice = user("alice");
    {
        let vendors = [&vendor];
        let mut forget = Box::pin(admin.forget_user(&alice, &vendors));
        until("the deletion is sent", || {
            drop(futures_util::FutureExt::now_or_never(forget.as_mut()));
            stage.calls("DeleteIdentities") > 0
        })
        .await;
    }
    assert_eq!(
        admin.identity_of_user(&alice).await.unwrap(),
        None,
        "nothing leads to it any more"
    );
    let again = admin.forget_user(&alice, &[&vendor]).await.unwrap();
    assert!(again.is_complete());
    assert_eq!(again.identities.deleted, [identity]);
    vendor
        .vend(&alice)
        .await
        .expect("the hold has ended with the call that was cut off");
}

#[tokio::test]
async fn a_lost_answer_of_a_guest_link_locks_nobody_out() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "device").await.unwrap();
    let claim = || GuestClaim::new(ticket.expose(), guest.clone(), "device");
    stage
        .pool
        .faults()
        .next_of("GetOpenIdTokenForDeveloperIdentity", LocalFault::HalfResponse);
    let error = vendor.link_guest(&user("alice"), claim()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(
        vendor.link_guest(&user("alice"), claim()).await.unwrap().identity_id(),
        &guest
    );
}

#[tokio::test]
async fn a_guest_that_is_gone_is_told_as_such_and_keeps_nobody_out() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "device").await.unwrap();
    stage
        .admin()
        .delete_identities(std::slice::from_ref(&guest))
        .await
        .unwrap();
    let claim = || GuestClaim::new(ticket.expose(), guest.clone(), "device");
    let error = vendor.link_guest(&user("alice"), claim()).await.unwrap_err();
    assert_eq!(
        (error.kind(), HttpRefusal::from(&error).status()),
        (ErrorKind::IdentityNotFound, 410)
    );
    let signed_in = vendor
        .vend_linking_guest(VendRequest::new(user("alice")), claim())
        .await
        .unwrap();
    assert_eq!(signed_in.not_linked.unwrap().kind(), ErrorKind::IdentityNotFound);
    assert!(stage.exchange(&signed_in.vended).await.is_ok());
}

/// A store that goes down.
#[derive(Clone, Default)]
struct Outage {
    store: MemorySharedStore,
    down: Arc<AtomicBool>,
}

impl Outage {
    fn up(&self) -> Result<&MemorySharedStore, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::new("down"));
        }
        Ok(&self.store)
    }
}

#[async_trait]
impl SharedStore for Outage {
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        self.up()?.put_if_absent(key, value, ttl).await
    }

    async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        self.up()?.put(key, value, ttl).await
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.up()?.get(key).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.up()?.remove(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.up()?.list(prefix).await
    }
}

#[tokio::test]
async fn a_store_that_is_down_links_nobody_and_keeps_nobody_from_signing_in() {
    let stage = Stage::start().await;
    let guest = stage.guest().await;
    let ticket = stage.vendor().issue_guest_claim(&guest, "device").await.unwrap();
    let store = Outage::default();
    let vendor = stage.vendor_builder().shared(store.clone()).build().unwrap();
    vendor.vend(&user("bob")).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    let error = vendor.issue_guest_claim(&guest, "device").await.unwrap_err();
    assert_eq!(
        (error.kind(), HttpRefusal::from(&error).status()),
        (ErrorKind::Store, 503)
    );
    let claim = GuestClaim::new(ticket, guest.clone(), "device");
    let signed_in = vendor
        .vend_linking_guest(VendRequest::new(user("alice")), claim)
        .await
        .unwrap();
    assert_eq!(signed_in.not_linked.unwrap().kind(), ErrorKind::Store);
    assert_ne!(signed_in.vended.identity_id(), &guest);
    assert!(stage.is_guest(&guest).await);
    let admin = stage.admin_builder().shared(store.clone()).build().unwrap();
    let error = admin.forget_user(&user("alice"), &[&vendor]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "it does not start");
    assert!(admin.identity_of_user(&user("alice")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_linked_users_token_carries_its_tags() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "device").await.unwrap();
    let tags = PrincipalTags::new().with("tenant", "acme").unwrap();
    let request = VendRequest::new(user("alice")).principal_tags(tags);
    let claim = GuestClaim::new(ticket, guest, "device");
    let linked = vendor.link_guest_with(request, claim).await.unwrap();
    let claims = linked.identity().token().expose_secret().split('.').nth(1).unwrap();
    let claims = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(claims).unwrap();
    assert!(String::from_utf8(claims).unwrap().contains("acme"));
}

#[tokio::test]
async fn a_refused_link_makes_no_identity_for_whoever_tried() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "device").await.unwrap();
    let claim = || GuestClaim::new(ticket.expose(), guest.clone(), "device");
    vendor.link_guest(&user("alice"), claim()).await.unwrap();
    let second = vendor.issue_guest_claim(&guest, "device").await.unwrap();
    let claim = GuestClaim::new(second, guest.clone(), "device");
    let error = vendor.link_guest(&user("mallory"), claim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClaimRefused);
    assert_eq!(stage.admin().identity_of_user(&user("mallory")).await.unwrap(), None);
}

#[tokio::test]
async fn a_stranger_who_names_a_guest_first_does_not_gain_it() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    // The owner never told the backend; days later a stranger does, who has seen the id.
    stage.clock.advance(Duration::from_secs(3 * 86_400));
    let ticket = vendor.issue_guest_claim(&guest, "stranger").await.unwrap();
    let claim = GuestClaim::new(ticket, guest.clone(), "stranger");
    let error = vendor.link_guest(&user("mallory"), claim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClaimRefused, "{error}");
    assert!(stage.is_guest(&guest).await);
    // Where the backend makes the guest, nobody can be first.
    let made = vendor.new_guest("device").await.unwrap();
    let stolen = vendor.issue_guest_claim(&made.identity_id, "stranger").await;
    assert_eq!(stolen.unwrap_err().kind(), ErrorKind::ClaimRefused);
    let claim = GuestClaim::new(made.ticket, made.identity_id.clone(), "device");
    let linked = vendor.link_guest(&user("alice"), claim).await.unwrap();
    assert_eq!(linked.identity_id(), &made.identity_id);
}

#[tokio::test]
async fn a_token_that_is_still_good_is_served_when_aws_says_no() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let first = vendor.vend(&user("alice")).await.unwrap();
    let refuses = || {
        let fault = LocalFault::refuse("InternalErrorException").unwrap();
        stage.pool.faults().next_of("GetOpenIdTokenForDeveloperIdentity", fault);
    };
    // 299 s are left: less than what a token is vended with as a rule.
    stage.clock.advance(Duration::from_secs(601));
    refuses();
    let stale = vendor.vend(&user("alice")).await.unwrap();
    assert_eq!(stale.request_id(), first.request_id());
    let health = vendor.health();
    assert!(!health.is_healthy() && health.last_failure.is_some());
    stage.clock.advance(Duration::from_secs(239));
    refuses();
    assert!(
        vendor.vend(&user("alice")).await.unwrap_err().is_retryable(),
        "a minute is too little"
    );
    let next = vendor.vend(&user("alice")).await.unwrap();
    assert_ne!(next.request_id(), first.request_id());
}

#[tokio::test]
async fn a_token_is_asked_for_anew_in_the_background_from_half_of_its_life_on() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let first = vendor.vend(&user("alice")).await.unwrap();
    stage.clock.advance(Duration::from_secs(449));
    vendor.vend(&user("alice")).await.unwrap();
    assert_eq!(stage.calls("GetOpenIdTokenForDeveloperIdentity"), 1);
    stage.clock.advance(Duration::from_secs(1));
    let kept = vendor.vend(&user("alice")).await.unwrap();
    assert_eq!(kept.request_id(), first.request_id(), "nobody waits");
    let is_ahead = || {
        let vended = futures_util::FutureExt::now_or_never(vendor.vend(&user("alice")))
            .expect("nobody waits")
            .unwrap();
        vended.request_id() != first.request_id()
    };
    until("the token that was asked for ahead is there", is_ahead).await;
    assert_eq!(stage.calls("GetOpenIdTokenForDeveloperIdentity"), 2);
}

/// Credentials that were rotated: the old ones claim to be good for an hour.
#[derive(Debug)]
struct Rotated {
    good: Credentials,
    loads: Arc<AtomicUsize>,
    now: SystemTime,
}

impl ProvideCredentials for Rotated {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let first = self.loads.fetch_add(1, Ordering::SeqCst) == 0;
        let expiry = self.now + Duration::from_secs(3_600);
        let (key, secret) = if first {
            ("AKIAROTATEDAWAY", "old")
        } else {
            (self.good.access_key_id(), self.good.secret_access_key())
        };
        future::ProvideCredentials::ready(Ok(Credentials::new(key, secret, None, Some(expiry), "rotated")))
    }
}

#[tokio::test]
async fn rotated_backend_credentials_are_dropped_when_aws_refuses_them() {
    let stage = Stage::start().await;
    let loads = Arc::new(AtomicUsize::new(0));
    let provider = Rotated {
        good: stage.pool.developer_credentials(),
        loads: Arc::clone(&loads),
        now: stage.clock.now(),
    };
    let config = stage.config().into_builder();
    let config = config
        .credentials_provider(SharedCredentialsProvider::new(provider))
        .build();
    let vendor = stage.vendor_builder().configure(&config).build().unwrap();
    vendor
        .vend(&user("alice"))
        .await
        .expect("made once more with what was loaded anew");
    vendor.vend(&user("bob")).await.unwrap();
    assert_eq!(loads.load(Ordering::SeqCst), 2);
    // Credentials that are simply wrong are not loaded for each request.
    let loads = Arc::new(AtomicUsize::new(0));
    let provider = Rotated {
        good: Credentials::new("AKIAUNKNOWN", "wrong", None, None, "test"),
        loads: Arc::clone(&loads),
        now: stage.clock.now(),
    };
    let config = stage.config().into_builder();
    let config = config
        .credentials_provider(SharedCredentialsProvider::new(provider))
        .build();
    let vendor = stage.vendor_builder().configure(&config).build().unwrap();
    for n in 0..10 {
        vendor.vend(&user(&format!("user-{n}"))).await.unwrap_err();
    }
    assert_eq!(loads.load(Ordering::SeqCst), 2, "once in 30 s");
}

#[tokio::test]
async fn one_client_with_rubbish_logins_leaves_the_others_their_first_vend() {
    let stage = Stage::with(|builder| builder.throttling(true)).await;
    let vendor = stage.vendor_builder().max_wait(Duration::ZERO).build().unwrap();
    let google = stage.pool.oidc_issuer(cognito_identity_pool::Logins::GOOGLE).unwrap();
    let mut refused = 0;
    for _ in 0..200 {
        let rubbish = google.token_for("g").forged().issue();
        let logins = cognito_identity_pool::Logins::new().google(rubbish).unwrap();
        let error = vendor.link_external(&user("mallory"), &logins).await.unwrap_err();
        refused += usize::from(error.kind() == ErrorKind::Throttled);
        stage.clock.advance(Duration::from_millis(25));
    }
    assert!(
        refused >= 160,
        "of 200 within five seconds at most 35 reach AWS: {refused} were refused"
    );
    for n in 0..20 {
        vendor
            .vend(&user(&format!("user-{n}")))
            .await
            .expect("the others are served");
        stage.clock.advance(Duration::from_millis(25));
    }
}
