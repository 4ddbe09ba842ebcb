//! What happens when things happen in between: each test drives one interleaving by hand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stage::script::{Act, Script};
use crate::stage::{Backend, Order, Stage, failure, google_login, idle, key, ours};
use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    CognitoCredentialsProvider, DeveloperIdentityProvider, ErrorKind, IdentityId, IdentityPoolId, Login,
    RefreshRequest, async_trait,
    client::{EventKind, IdentityOutcome, IdentityPolicy},
    developer::developer_fn,
    store::{IdentityStore, MemoryStore, StoreError, StoreKey, Swapped},
};
use tokio::sync::{Notify, oneshot};

const EXCHANGE: &str = "GetCredentialsForIdentity";

async fn sign_in(provider: &CognitoCredentialsProvider, login: Login) -> IdentityId {
    provider.switch_to(login).ready().await.unwrap().identity_id
}

/// A backend that links the guest and then takes its time with the answer.
fn links_and_waits(backend: Arc<Backend>, held: oneshot::Receiver<()>, linked: Arc<Notify>) -> Login {
    let held = Arc::new(Mutex::new(Some(held)));
    Login::developer(developer_fn(move |request: RefreshRequest| {
        let (backend, held, linked) = (Arc::clone(&backend), Arc::clone(&held), Arc::clone(&linked));
        async move {
            let answer = backend.refresh(&request).await;
            linked.notify_one();
            let held = held.lock().unwrap().take();
            if let Some(held) = held {
                held.await.unwrap_or_default();
            }
            answer
        }
    }))
}

#[tokio::test]
async fn a_retry_across_a_switch() {
    let stage = Stage::start().await;
    let (provider, script) = (stage.provider(), Script::new(&stage));
    // The script stands before the service that is called; the first attempt is answered by a 503 when Bob is in already.
    let client = aws_sdk_cognitoidentity::Client::new(&provider.sdk_config(&script.config(&stage)));
    let alice = sign_in(&provider, Login::developer(stage.backend("alice"))).await;
    let release = script.hold("ListIdentityPools");
    let call = tokio::spawn(async move { client.list_identity_pools().max_results(1).send().await });
    script.reached("ListIdentityPools", 1).await;
    stage.pool.faults().next_of(
        "ListIdentityPools",
        cognito_identity_pool::local::LocalFault::Status(503),
    );
    let bob = sign_in(&provider, Login::developer(stage.backend("bob"))).await;
    release.send(()).unwrap();
    let error = ours(&call.await.unwrap().unwrap_err());
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    assert_eq!(script.count("ListIdentityPools"), 1, "the retry was not sent");
    assert_ne!(alice, bob);
}

#[tokio::test(start_paused = true)]
async fn a_caller_waiting_while_the_pointer_moves() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    let alice = provider.switch_to(Login::developer(stage.backend("alice")));
    let release = script.hold(EXCHANGE);
    let waiting = |bound: bool| {
        let (provider, alice) = (provider.clone(), alice.clone());
        tokio::spawn(async move {
            if bound {
                alice.provide_credentials().await
            } else {
                provider.provide_credentials().await
            }
        })
    };
    let (free, bound, ready) = (waiting(false), waiting(true), alice.clone());
    let ready = tokio::spawn(async move { ready.ready().await });
    let asking = provider.clone();
    let asking = tokio::spawn(async move { asking.refresh_now().await });
    script.reached(EXCHANGE, 1).await;
    idle().await;
    provider.switch_to(Login::guest());
    // Woken at once: Alice's exchange has not been answered.
    for waiting in [free, bound] {
        assert_eq!(
            ours(&waiting.await.unwrap().unwrap_err()).kind(),
            ErrorKind::SessionEnded
        );
    }
    assert_eq!(ready.await.unwrap().unwrap_err().kind(), ErrorKind::SessionEnded);
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), ErrorKind::SessionEnded);
    drop(release);
    key(&provider).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_in_flight_followed_by_sign_out_to_guest() {
    let stage = Stage::start().await;
    let provider = stage.builder().identity_policy(IdentityPolicy::Fail).build().unwrap();
    let before = sign_in(&provider, Login::guest()).await;
    let ((release, held), linked) = (oneshot::channel(), Arc::new(Notify::new()));
    let user = provider.switch_to(links_and_waits(stage.backend("alice"), held, Arc::clone(&linked)));
    let waiting = tokio::spawn(async move { user.ready().await });
    linked.notified().await;
    // Linked at the pool, and nobody here knows. The user is signed out, and goes on as a guest.
    provider.sign_out();
    let guest = provider.switch_to(Login::guest());
    let guest = tokio::spawn(async move { guest.ready().await });
    idle().await;
    assert!(!guest.is_finished(), "it waits for what becomes of the guest");
    release.send(()).unwrap();
    let guest = guest.await.unwrap().unwrap();
    assert_ne!(guest.identity_id, before, "that is the user now");
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::SessionEnded);
    assert_eq!(
        sign_in(&provider, Login::developer(stage.backend("alice"))).await,
        before
    );
}

#[tokio::test]
async fn a_link_whose_answer_is_lost_followed_by_sign_out_to_guest() {
    let stage = Stage::start().await;
    let provider = stage.builder().identity_policy(IdentityPolicy::Fail).build().unwrap();
    let before = sign_in(&provider, Login::guest()).await;
    let backend = stage.backend("alice");
    let login = developer_fn(move |request: RefreshRequest| {
        let backend = Arc::clone(&backend);
        async move {
            drop(backend.refresh(&request).await?);
            Err(cognito_identity_pool::BackendError::transient("the answer was lost"))
        }
    });
    provider.switch_to(Login::developer(login));
    assert_eq!(failure(&provider).await.kind(), ErrorKind::Backend);
    // Forbidden on an id that was offered means: linked. Even where a lost guest is an error, this one is not lost.
    let mut events = provider.events();
    let guest = sign_in(&provider, Login::guest()).await;
    assert_ne!(guest, before);
    while let Some(event) = futures_util::FutureExt::now_or_never(events.next()).flatten() {
        assert!(!matches!(event.kind, EventKind::IdentityLost { .. }), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_external_link_in_flight_followed_by_sign_out_to_guest() {
    let stage = Stage::start().await;
    let (script, issuer) = (Script::new(&stage), stage.google());
    let provider = script.builder(&stage).build().unwrap();
    let before = sign_in(&provider, Login::guest()).await;
    let release = script.hold_answer(EXCHANGE);
    let user = provider.switch_to(google_login(&issuer, "alice"));
    let waiting = tokio::spawn(async move { user.ready().await });
    script.reached(EXCHANGE, 2).await;
    let guest = provider.switch_to(Login::guest());
    let guest = tokio::spawn(async move { guest.ready().await });
    idle().await;
    assert!(!guest.is_finished());
    release.send(()).unwrap();
    assert_ne!(guest.await.unwrap().unwrap().identity_id, before);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::SessionEnded);
}

#[tokio::test(start_paused = true)]
async fn a_guest_on_offer_is_not_offered_to_somebody_else() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let before = sign_in(&provider, Login::guest()).await;
    let ((release, held), linked) = (oneshot::channel(), Arc::new(Notify::new()));
    let user = provider.switch_to(links_and_waits(stage.backend("alice"), held, Arc::clone(&linked)));
    let waiting = tokio::spawn(async move { user.ready().await });
    linked.notified().await;
    let bobs = stage.backend("bob");
    let bob = provider
        .switch_to(Login::developer(bobs.clone()))
        .ready()
        .await
        .unwrap();
    assert_eq!(bobs.seen.lock().unwrap()[0].guest_to_link(), None);
    assert_ne!(bob.identity_id, before);
    release.send(()).unwrap();
    waiting.await.unwrap().unwrap_err();
}

/// Holds its writes back, or fails.
#[derive(Default)]
struct SlowStore {
    inner: MemoryStore,
    slow: AtomicBool,
    broken: AtomicBool,
    go: Notify,
}

#[async_trait]
impl IdentityStore for SlowStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::new("the keychain is locked"));
        }
        self.inner.load(key).await
    }

    async fn swap(
        &self,
        key: &StoreKey,
        from: Option<&IdentityId>,
        to: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::new("the keychain is locked"));
        }
        while self.slow.load(Ordering::SeqCst) {
            self.go.notified().await;
        }
        self.inner.swap(key, from, to).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_minted_while_the_store_is_slow_and_a_user_signs_in() {
    let stage = Stage::start().await;
    let store = Arc::new(SlowStore::default());
    store.slow.store(true, Ordering::SeqCst);
    let process = || stage.builder().identity_store(Arc::clone(&store)).build().unwrap();
    let provider = process();
    let guest = sign_in(&provider, Login::guest()).await;
    let backend = stage.backend("alice");
    let user = provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    assert_eq!((&user.identity_id, user.outcome), (&guest, IdentityOutcome::Kept));
    // What is written last is what was decided last.
    store.slow.store(false, Ordering::SeqCst);
    store.go.notify_waiters();
    idle().await;
    let key = StoreKey::guest(&IdentityPoolId::new(stage.pool.identity_pool_id()).unwrap(), "default").unwrap();
    assert_eq!(
        store
            .load(&key)
            .await
            .map_err(cognito_identity_pool::Error::from)
            .unwrap(),
        None
    );
    assert_ne!(sign_in(&process(), Login::guest()).await, guest);
}

#[tokio::test]
async fn a_guest_being_minted_when_a_user_signs_in_is_not_lost() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    let release = script.hold_answer("GetId");
    let first = provider.switch_to(Login::guest());
    let first = tokio::spawn(async move { first.ready().await });
    script.reached("GetId", 1).await;
    sign_in(&provider, Login::developer(stage.backend("alice"))).await;
    release.send(()).unwrap();
    first.await.unwrap().unwrap_err();
    sign_in(&provider, Login::guest()).await;
    assert_eq!(script.counts().0, 1, "the one that was minted is the guest");
    assert_eq!(stage.identities().await, 2);
}

#[tokio::test]
async fn a_store_that_fails_is_never_taken_for_an_empty_one() {
    let stage = Stage::start().await;
    let store = Arc::new(SlowStore::default());
    let process = || stage.builder().identity_store(Arc::clone(&store)).build().unwrap();
    let guest = sign_in(&process(), Login::guest()).await;
    store.broken.store(true, Ordering::SeqCst);
    let provider = process();
    let backend = stage.backend("alice");
    for login in [
        Login::guest(),
        Login::developer(backend.clone()),
        google_login(&stage.google(), "alice"),
    ] {
        provider.switch_to(login);
        let error = failure(&provider).await;
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
        assert_eq!(provider.identity_id().await.unwrap_err().kind(), ErrorKind::Store);
    }
    assert_eq!(
        (stage.identities().await, backend.calls()),
        (1, 0),
        "nothing is minted because of it"
    );
    store.broken.store(false, Ordering::SeqCst);
    assert_eq!(sign_in(&provider, Login::guest()).await, guest);
    // And what is in memory goes on.
    store.broken.store(true, Ordering::SeqCst);
    provider.refresh_now().await.unwrap();
    assert_eq!(sign_in(&provider, Login::guest()).await, guest);
}

#[tokio::test(start_paused = true)]
async fn a_backend_whose_cookie_jar_changes_hands_during_a_background_refresh() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let alice = sign_in(&provider, Login::developer(backend.clone())).await;
    let before = key(&provider).await;
    backend.order(Order::Answer(stage.backend("bob").vend(None).await.unwrap()));
    stage.clock.advance(Duration::from_secs(3_000));
    assert_eq!(key(&provider).await, before, "nobody waits for the refresh");
    idle().await;
    assert_eq!(failure(&provider).await.kind(), ErrorKind::IdentityChanged);
    let issued = stage.pool.requests_of(EXCHANGE);
    assert!(
        issued
            .iter()
            .all(|request| request.identity_id.as_deref() == Some(alice.as_str()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_event_of_the_old_session() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    let guest = sign_in(&provider, Login::guest()).await;
    let mut events = provider.events();
    // Alice's link is answered when Bob is signed in.
    let release = script.hold_answer(EXCHANGE);
    let alice = provider.switch_to(google_login(&stage.google(), "alice"));
    let waiting = tokio::spawn(async move { alice.ready().await });
    script.reached(EXCHANGE, 2).await;
    let bob = provider.switch_to(Login::developer(stage.backend("bob")));
    bob.ready().await.unwrap();
    release.send(()).unwrap();
    waiting.await.unwrap().unwrap_err();
    idle().await;
    let event = events.next().await.unwrap();
    assert_eq!(event.epoch, bob.epoch());
    assert!(futures_util::FutureExt::now_or_never(events.next()).is_none());
    drop(guest);
}

#[tokio::test]
async fn a_clear_during_a_flight() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    let session = provider.switch_to(Login::developer(stage.backend("alice")));
    let release = script.hold(EXCHANGE);
    let waiting = |()| {
        let session = session.clone();
        tokio::spawn(async move {
            let id = session.identity_id().await;
            (id, session.provide_credentials().await)
        })
    };
    let waiter = waiting(());
    script.reached(EXCHANGE, 1).await;
    provider.clear_credentials();
    // Whoever waits gets the new ones; the old flight is not waited for.
    let (id, credentials) = waiter.await.unwrap();
    assert_eq!(script.count(EXCHANGE), 2);
    let signer = stage.pool.identity_of(credentials.unwrap().access_key_id()).unwrap();
    assert_eq!(signer, id.unwrap().as_str());
    drop(release);

    let release = script.hold(EXCHANGE);
    provider.clear_credentials();
    let waiter = waiting(());
    script.reached(EXCHANGE, 3).await;
    let next = provider.clear_identity().await.unwrap();
    assert_eq!(
        ours(&waiter.await.unwrap().1.unwrap_err()).kind(),
        ErrorKind::SessionEnded
    );
    drop(release);
    next.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clear_while_the_backend_is_linking_calls_it_one_at_a_time() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let guest = sign_in(&provider, Login::guest()).await;
    let ((release, held), linked, backend) = (oneshot::channel(), Arc::new(Notify::new()), stage.backend("alice"));
    let session = provider.switch_to(links_and_waits(backend.clone(), held, Arc::clone(&linked)));
    let ready = session.clone();
    let ready = tokio::spawn(async move { ready.ready().await });
    linked.notified().await;
    provider.clear_credentials();
    idle().await;
    assert_eq!(backend.calls(), 1, "the first call is still out");
    release.send(()).unwrap();
    let ready = ready.await.unwrap().unwrap();
    assert_eq!((&ready.identity_id, ready.outcome), (&guest, IdentityOutcome::Kept));
    assert_eq!(backend.calls(), 2);
}

#[tokio::test]
async fn two_processes_at_once_mint_one_guest() {
    let stage = Stage::start().await;
    let (script, store) = (Script::new(&stage), Arc::new(MemoryStore::new()));
    let process = || {
        script
            .builder(&stage)
            .identity_store(Arc::clone(&store))
            .build()
            .unwrap()
    };
    let (a, b) = (process(), process());
    let (release_a, release_b) = (script.hold("GetId"), script.hold("GetId"));
    let (first, second) = (a.switch_to(Login::guest()), b.switch_to(Login::guest()));
    let (first, second) = (
        tokio::spawn(async move { first.ready().await }),
        tokio::spawn(async move { second.ready().await }),
    );
    script.reached("GetId", 2).await;
    release_a.send(()).unwrap();
    release_b.send(()).unwrap();
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!(first.identity_id, second.identity_id);
    assert_eq!(stage.identities().await, 2, "one of them is an orphan");
}

#[tokio::test]
async fn a_transport_that_breaks_in_the_middle_of_a_link_loses_nobody() {
    let stage = Stage::start().await;
    let (script, issuer) = (Script::new(&stage), stage.google());
    let provider = script.builder(&stage).build().unwrap();
    let guest = sign_in(&provider, Login::guest()).await;
    for _ in 0..3 {
        script.next(EXCHANGE, Act::Break);
    }
    provider.switch_to(google_login(&issuer, "alice"));
    assert_eq!(failure(&provider).await.kind(), ErrorKind::Transport);
    // It was not linked after all; the next attempt does it.
    let user = provider.session().ready().await.unwrap();
    assert_eq!((user.identity_id, user.outcome), (guest, IdentityOutcome::Kept));
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_flight_has_landed_when_the_pointer_moves() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script.builder(&stage).build().unwrap();
    provider.switch_to(Login::developer(stage.backend("alice")));
    let mut caller = Box::pin(provider.provide_credentials());
    assert!(futures_util::FutureExt::now_or_never(&mut caller).is_none());
    // The exchange is over, and the caller has not been told yet.
    script.reached(EXCHANGE, 1).await;
    idle().await;
    provider.switch_to(Login::guest());
    assert_eq!(ours(&caller.await.unwrap_err()).kind(), ErrorKind::SessionEnded);
}
