//! What a provider tells of its sessions: in order, with their epochs, and no listener holds it up.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::stage::script::{Act, Script};
use crate::stage::{Order, Stage, failure, google_login, key};
use cognito_identity_pool::{
    BackendError, Login,
    client::{EventKind, Events},
    refresh::RefreshPolicy,
};
use futures_util::StreamExt;

/// What waits to be fetched: epoch and kind.
fn told(events: &mut Events) -> Vec<(u64, String)> {
    std::iter::from_fn(
        || match events.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        },
    )
    .map(|event| {
        let name = format!("{:?}", event.kind);
        (event.epoch, name.split([' ', '(']).next().unwrap().to_owned())
    })
    .collect()
}

fn names(events: &mut Events) -> Vec<String> {
    told(events).into_iter().map(|(_, name)| name).collect()
}

#[tokio::test]
async fn a_devices_story_is_told_in_order_with_its_epochs() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let mut events = provider.events();
    let guest = provider.switch_to(Login::guest());
    guest.ready().await.unwrap();
    provider.refresh_now().await.unwrap();
    let alice = provider.switch_to(google_login(&issuer, "alice"));
    alice.ready().await.unwrap();
    provider.clear_credentials();
    key(&provider).await;
    provider.sign_out();
    provider.sign_out();
    let told = told(&mut events);
    let expected = [
        (guest.epoch(), "SignedIn"),
        (guest.epoch(), "Refreshed"),
        (alice.epoch(), "SignedIn"),
        (alice.epoch(), "IdentityKept"),
        (alice.epoch(), "Refreshed"),
        (alice.epoch() + 1, "SignedOut"),
    ];
    // Other tests of this process count epochs, too.
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((epoch, name), (expected_epoch, expected_name)) in told.iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert!(*epoch >= expected_epoch);
    }
    assert!(told.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}

#[tokio::test]
async fn loading_from_a_store_is_no_event() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    for login in [Login::guest(), google_login(&issuer, "alice").subject("alice")] {
        provider.switch_to(login.clone()).ready().await.unwrap();
        provider.sign_out();
        let mut events = provider.events();
        provider.switch_to(login).ready().await.unwrap();
        assert_eq!(names(&mut events), ["SignedIn"]);
        provider.clear_identity().await.unwrap();
        provider.sign_out();
    }
}

#[tokio::test]
async fn a_refresh_that_fails_is_news_in_the_last_five_minutes_only() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    let mut events = provider.events();
    let fail = || (0..3).for_each(|_| script.next("GetCredentialsForIdentity", Act::Break));
    fail();
    stage.clock.advance(Duration::from_secs(3_000));
    provider.refresh_now().await.unwrap_err();
    assert!(names(&mut events).is_empty(), "ten minutes are left");
    fail();
    stage.clock.advance(Duration::from_secs(360));
    provider.refresh_now().await.unwrap_err();
    assert_eq!(names(&mut events), ["RefreshFailing"]);
    provider.refresh_now().await.unwrap();
    assert_eq!(names(&mut events), ["Refreshed"]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_takes_too_long_is_news_as_well() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    // Before the service's own timeouts: the load is dropped, and lives to tell nobody.
    let policy = RefreshPolicy::builder().load_timeout(Duration::from_secs(2)).build();
    let provider = script.builder(&stage).refresh_policy(policy).build().unwrap();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    let mut events = provider.events();
    let _held = script.hold("GetCredentialsForIdentity");
    stage.clock.advance(Duration::from_secs(3_360));
    let error = provider.refresh_now().await.unwrap_err();
    assert!(error.to_string().contains("after 2 s"), "{error}");
    assert_eq!(names(&mut events), ["RefreshFailing"]);
}

#[tokio::test]
async fn the_need_to_sign_in_is_told_once() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    let mut events = provider.events();
    for _ in 0..3 {
        backend.order(Order::Fail(BackendError::signed_out()));
        stage.clock.advance(Duration::from_secs(3_600));
        assert!(failure(&provider).await.needs_sign_in());
    }
    assert_eq!(names(&mut events), ["NeedsSignIn"]);
    stage.clock.advance(Duration::from_secs(3_600));
    key(&provider).await;
    assert_eq!(names(&mut events), ["Refreshed"]);
}

#[tokio::test]
async fn a_listener_that_never_listens_holds_up_nobody() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let mut slow = provider.events();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    for _ in 0..Events::CAPACITY + 10 {
        provider.refresh_now().await.unwrap();
    }
    let told = names(&mut slow);
    assert_eq!((told[0].as_str(), told.len()), ("Missed", Events::CAPACITY + 1));
}

#[tokio::test]
async fn a_listener_that_switches_the_login_while_it_is_woken_does_not_lock_up() {
    use std::sync::Arc;
    struct Switches(cognito_identity_pool::CognitoCredentialsProvider);
    impl std::task::Wake for Switches {
        fn wake(self: Arc<Self>) {
            self.0.switch_to(Login::guest());
        }
    }
    let stage = Stage::start().await;
    let provider = stage.provider();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    let mut events = provider.events();
    let waker = Waker::from(Arc::new(Switches(provider.clone())));
    assert!(events.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    provider.sign_out();
    key(&provider).await;
    assert_eq!(names(&mut events), ["SignedOut", "SignedIn"]);
}

#[tokio::test]
async fn a_subscription_ends_with_its_provider() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let mut events = provider.events();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    drop(provider);
    assert!(matches!(events.next().await.unwrap().kind, EventKind::SignedIn { .. }));
    assert!(events.next().await.is_none());
}
