//! The traces that AWS's Android SDK was seen to leave, and what is wanted of ours. Each is named after its case; requests are
//! counted at the pool, or at the script in front of it.

use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::stage::script::{Act, Script};
use crate::stage::{Order, Stage, Wallet, failure, google, google_login, key};
use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    CognitoCredentialsProvider, ErrorKind, IdentityId, Login, Logins,
    client::{EventKind, Events, IdentityOutcome, IdentityPolicy},
    local::LocalFault,
    store::MemoryStore,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// For how long after its end Cognito still takes an external token.
const GRACE: Duration = Duration::from_secs(300);
const EXCHANGE: &str = "GetCredentialsForIdentity";

async fn sign_in(provider: &CognitoCredentialsProvider, login: Login) -> IdentityId {
    provider.switch_to(login).ready().await.unwrap().identity_id
}

/// What is waiting to be fetched.
fn told(events: &mut Events) -> Vec<EventKind> {
    use futures_util::StreamExt;
    std::iter::from_fn(|| {
        let mut context = std::task::Context::from_waker(Waker::noop());
        match events.poll_next_unpin(&mut context) {
            std::task::Poll::Ready(event) => event.map(|event| event.kind),
            std::task::Poll::Pending => None,
        }
    })
    .collect()
}

#[tokio::test]
async fn trace_01_cold_guest_then_again() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    sign_in(&provider, Login::guest()).await;
    key(&provider).await;
    assert_eq!(stage.cognito_calls(), (1, 1));
}

#[tokio::test]
async fn trace_02_set_logins_then_get_credentials() {
    let stage = Stage::start().await;
    let (provider, facebook) = (stage.provider(), stage.facebook());
    let guest = sign_in(&provider, Login::guest()).await;
    stage.pool.clear_requests();
    let logins = Logins::new().facebook(facebook.token("alice")).unwrap();
    provider.switch_to(Login::external(logins));
    key(&provider).await;
    assert_eq!(stage.cognito_calls(), (0, 1));
    assert_eq!(provider.identity_id().await.unwrap(), guest);
}

#[tokio::test]
async fn trace_03_set_logins_refresh_and_get_credentials() {
    let stage = Stage::start().await;
    let (provider, facebook) = (stage.provider(), stage.facebook());
    sign_in(&provider, Login::guest()).await;
    stage.pool.clear_requests();
    let logins = Logins::new().facebook(facebook.token("alice")).unwrap();
    provider.switch_to(Login::external(logins)).ready().await.unwrap();
    key(&provider).await;
    assert_eq!(stage.cognito_calls(), (0, 1));
}

/// DESIGN has decided otherwise ("Identity within a session"): an id that changes on a plain refresh is `IdentityChanged`. Where
/// it may change, the first exchange of a guest with logins, the credentials of that very call are returned, and an event tells.
#[tokio::test]
async fn trace_04_the_exchange_answers_another_id() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let alice = sign_in(&stage.provider(), google_login(&issuer, "alice")).await;
    let guest = sign_in(&provider, Login::guest()).await;
    let mut events = provider.events();
    stage.pool.clear_requests();
    provider.switch_to(google_login(&issuer, "alice"));
    let first = key(&provider).await;
    assert_eq!(stage.pool.identity_of(&first).unwrap(), alice.as_str());
    assert_eq!(stage.cognito_calls(), (0, 1));
    let replaced =
        |kind: &EventKind| matches!(kind, EventKind::IdentityReplaced { from, to } if *from == guest && *to == alice);
    assert!(told(&mut events).iter().any(replaced));

    stage.pool.faults().next_of(EXCHANGE, LocalFault::OtherIdentity);
    assert_eq!(
        provider.refresh_now().await.unwrap_err().kind(),
        ErrorKind::IdentityChanged
    );
    assert_eq!(provider.identity_id().await.unwrap(), alice);
}

#[tokio::test]
async fn trace_05_guest_the_exchange_is_refused_once() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    let guest = sign_in(&provider, Login::guest()).await;
    script.clear();
    script.refuse(
        EXCHANGE,
        "NotAuthorizedException",
        "Some words that nobody has seen yet.",
    );
    assert_eq!(
        provider.refresh_now().await.unwrap_err().kind(),
        ErrorKind::NotAuthorized
    );
    assert_eq!(script.counts(), (0, 1));
    provider.refresh_now().await.unwrap();
    assert_eq!(provider.identity_id().await.unwrap(), guest);
    assert_eq!(script.counts(), (0, 2));
}

#[tokio::test]
async fn trace_06_guests_off_both_are_refused() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    let guest = sign_in(&provider, Login::guest()).await;
    script.clear();
    let off = "Unauthenticated access is not supported for this identity pool.";
    script.refuse(EXCHANGE, "NotAuthorizedException", off);
    let error = provider.refresh_now().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Configuration, false));
    assert_eq!(script.counts(), (0, 1));
    provider.sign_out();
    assert_eq!(sign_in(&provider, Login::guest()).await, guest);
}

#[tokio::test]
async fn trace_07_logged_in_the_token_has_expired_on_both() {
    let stage = Stage::start().await;
    let issuer = stage.google();
    let wallet = Wallet::new(google(&issuer, "alice"));
    let provider = stage.provider();
    let alice = sign_in(&provider, Login::external(wallet.clone())).await;
    // An hour and Cognito's five minutes of grace later the token at hand is old; the hook is told so, and gets a new one.
    stage.clock.advance(HOUR + GRACE);
    *wallet.renewed.lock().unwrap() = Some(google(&issuer, "alice"));
    stage.pool.clear_requests();
    key(&provider).await;
    assert_eq!((wallet.asked(), stage.cognito_calls()), (3, (0, 2)));
    assert_eq!(provider.identity_id().await.unwrap(), alice);
    // One that cannot be had: the id is kept, and the user is to sign in again.
    stage.clock.advance(HOUR + GRACE);
    let error = failure(&provider).await;
    assert!(error.needs_sign_in());
    assert_eq!(provider.identity_id().await.unwrap(), alice);
}

#[tokio::test]
async fn trace_08_two_pools_one_is_cleared() {
    let (a, b) = (Stage::start().await, Stage::start().await);
    let store = Arc::new(MemoryStore::new());
    let second_pool = b.pool.identity_pool_id() != a.pool.identity_pool_id();
    let build = |stage: &Stage, name: &str| {
        let namespace = if second_pool { "default" } else { name };
        stage
            .builder()
            .identity_store(Arc::clone(&store))
            .namespace(namespace)
            .build()
            .unwrap()
    };
    let (in_a, in_b) = (build(&a, "a"), build(&b, "b"));
    let (guest_a, guest_b) = (
        sign_in(&in_a, Login::guest()).await,
        sign_in(&in_b, Login::guest()).await,
    );
    in_a.clear_identity().await.unwrap();
    // As after a restart.
    assert_eq!(sign_in(&build(&b, "b"), Login::guest()).await, guest_b);
    assert_ne!(sign_in(&build(&a, "a"), Login::guest()).await, guest_a);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_09_eight_threads_ask_for_the_identity_id() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    provider.switch_to(Login::guest());
    let tasks = (0..8).map(|_| {
        let provider = provider.clone();
        tokio::spawn(async move { provider.identity_id().await.unwrap() })
    });
    let ids = futures_util::future::join_all(tasks).await;
    assert!(
        ids.windows(2)
            .all(|pair| pair[0].as_ref().unwrap() == pair[1].as_ref().unwrap())
    );
    assert_eq!(stage.cognito_calls(), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_10_eight_threads_ask_for_credentials() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    provider.switch_to(Login::guest());
    let tasks = (0..8).map(|_| {
        let provider = provider.clone();
        tokio::spawn(async move { key(&provider).await })
    });
    futures_util::future::join_all(tasks).await;
    assert_eq!(stage.cognito_calls(), (1, 1));
}

#[tokio::test]
async fn trace_11_the_expiry_is_read_during_a_refresh() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).lease(None).build().unwrap();
    sign_in(&provider, Login::guest()).await;
    let before = provider.provide_credentials().await.unwrap();
    // Fourteen minutes before the end: a refresh in the background is due, and hangs.
    let release = script.hold(EXCHANGE);
    stage.clock.advance(Duration::from_secs(3_000));
    let during = provider.provide_credentials().await.unwrap();
    script.reached(EXCHANGE, 2).await;
    assert_eq!(provider.provide_credentials().await.unwrap().expiry(), before.expiry());
    assert_eq!(during.access_key_id(), before.access_key_id());
    release.send(()).unwrap();
}

#[tokio::test]
async fn trace_12_four_hundred_seconds_left_and_offline() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    sign_in(&provider, Login::guest()).await;
    let before = key(&provider).await;
    stage.clock.advance(Duration::from_secs(3_200));
    for _ in 0..3 {
        script.next(EXCHANGE, Act::Break);
    }
    assert_eq!(key(&provider).await, before);
    script.reached(EXCHANGE, 4).await;
    assert_eq!(key(&provider).await, before);
}

#[tokio::test]
async fn trace_13_developer_first_call_and_after_set_logins() {
    let stage = Stage::start().await;
    let (provider, backend, issuer) = (stage.provider(), stage.backend("alice"), stage.google());
    sign_in(&provider, Login::developer(backend.clone())).await;
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 1)));
    stage.pool.clear_requests();
    let more = Login::developer(backend.clone()).with_external(google(&issuer, "alice"));
    provider.link(more).ready().await.unwrap();
    assert_eq!((backend.calls(), stage.cognito_calls()), (2, (0, 1)));
}

#[tokio::test]
async fn trace_14_user_a_is_cleared_and_user_b_signs_in() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let a = sign_in(&provider, google_login(&issuer, "a")).await;
    stage.pool.clear_requests();
    provider.clear_credentials();
    let b = sign_in(&provider, google_login(&issuer, "b")).await;
    assert_ne!(a, b);
    assert_eq!(stage.cognito_calls(), (1, 1));
    let exchanged = stage.pool.requests_of(EXCHANGE);
    assert_eq!(exchanged[0].identity_id.as_deref(), Some(b.as_str()));
}

#[tokio::test]
async fn trace_15_the_same_by_a_refresh() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    sign_in(&provider, google_login(&issuer, "a")).await;
    stage.pool.clear_requests();
    let b = provider.switch_to(google_login(&issuer, "b"));
    provider.refresh_now().await.unwrap();
    assert_eq!(b.ready().await.unwrap().outcome, IdentityOutcome::Created);
    assert_eq!(stage.cognito_calls(), (1, 1));
}

#[tokio::test]
async fn trace_16_the_guest_was_deleted() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let guest = sign_in(&provider, Login::guest()).await;
    let mut events = provider.events();
    stage.delete(&guest).await;
    stage.pool.clear_requests();
    stage.clock.advance(HOUR);
    key(&provider).await;
    assert_eq!(stage.cognito_calls(), (1, 2));
    let new = provider.identity_id().await.unwrap();
    let told = told(&mut events);
    assert!(
        matches!(&told[0], EventKind::IdentityLost { identity_id } if *identity_id == guest),
        "{told:?}"
    );
    assert!(
        matches!(&told[1], EventKind::IdentityReplaced { from, to } if *from == guest && *to == new),
        "{told:?}"
    );
    // Or an error, if the app would rather have that.
    let strict = stage.builder().identity_policy(IdentityPolicy::Fail).build().unwrap();
    let guest = sign_in(&strict, Login::guest()).await;
    stage.delete(&guest).await;
    stage.clock.advance(HOUR);
    assert_eq!(failure(&strict).await.kind(), ErrorKind::IdentityNotFound);
    assert_eq!(strict.identity_id().await.unwrap(), guest);
}

#[tokio::test]
async fn trace_17_too_many_requests() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    let guest = sign_in(&provider, Login::guest()).await;
    for _ in 0..2 {
        script.refuse(EXCHANGE, "TooManyRequestsException", "Rate exceeded");
    }
    stage.clock.advance(HOUR);
    key(&provider).await;
    assert_eq!(script.counts(), (1, 4));
    assert_eq!(provider.identity_id().await.unwrap(), guest);
}

#[tokio::test]
async fn trace_18_a_service_error_without_a_code() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    provider.switch_to(Login::guest());
    script.next("GetId", Act::Raw(400, "<html>captive portal</html>".to_owned()));
    let error = failure(&provider).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidResponse, None));
    assert!(error.is_retryable());
    key(&provider).await;
}

#[tokio::test]
async fn trace_19_set_logins_to_null() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    sign_in(&provider, google_login(&issuer, "alice")).await;
    stage.pool.clear_requests();
    provider.sign_out();
    assert_eq!(failure(&provider).await.kind(), ErrorKind::SignedOut);
    // An empty map is no guest either.
    provider.switch_to(Login::external(Logins::new()));
    assert_eq!(failure(&provider).await.kind(), ErrorKind::SignedOut);
    assert_eq!(stage.cognito_calls(), (0, 0));
}

#[tokio::test]
async fn trace_20_a_listener_panics() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("the listener's executor");
        }
    }
    let stage = Stage::start().await;
    let provider = stage.provider();
    let (mut bad, mut good) = (provider.events(), provider.events());
    let waker = Waker::from(Arc::new(Panics));
    let mut next = Box::pin(bad.next());
    assert!(
        next.as_mut()
            .poll(&mut std::task::Context::from_waker(&waker))
            .is_pending()
    );
    sign_in(&provider, Login::guest()).await;
    key(&provider).await;
    assert!(matches!(told(&mut good)[..], [EventKind::SignedIn { .. }]));
}

/// Credentials are kept in memory only, after a recovery as before one; what a new process finds is the identity.
#[tokio::test]
async fn trace_21_a_new_process_after_a_recovery() {
    let stage = Stage::start().await;
    let store = Arc::new(MemoryStore::new());
    let process = || stage.builder().identity_store(Arc::clone(&store)).build().unwrap();
    let first = process();
    let guest = sign_in(&first, Login::guest()).await;
    stage.delete(&guest).await;
    first.refresh_now().await.unwrap();
    let recovered = first.identity_id().await.unwrap();
    drop(first);
    stage.pool.clear_requests();
    assert_eq!(sign_in(&process(), Login::guest()).await, recovered);
    assert_eq!(stage.cognito_calls(), (0, 1));
}

#[tokio::test]
async fn a_backend_that_is_asked_by_many_is_asked_once() {
    // Pain point 3 beside the traces: the hook is behind the same gate as the exchange.
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let seen: Mutex<Vec<String>> = Mutex::default();
    backend.order(Order::Fail(cognito_identity_pool::BackendError::transient("down")));
    provider.switch_to(Login::developer(backend.clone()));
    let all = futures_util::future::join_all((0..50).map(|_| provider.provide_credentials())).await;
    for result in all {
        seen.lock()
            .unwrap()
            .push(crate::stage::ours(&result.unwrap_err()).to_string());
    }
    assert_eq!(backend.calls(), 1);
    seen.lock().unwrap().dedup();
    assert_eq!(seen.lock().unwrap().len(), 1);
}
