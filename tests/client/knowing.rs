//! What an app can know without the network, what it can have forgotten, and what it is told when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::stage::{Order, Stage, failure, google_login, key, within};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::time::TimeSource;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, ErrorKind, IdentityPoolId,
    Login, RefreshRequest, async_trait,
    client::LoginKind,
    store::{FileStore, IdentityStore, MemoryStore, StoreKey},
};

#[tokio::test]
async fn the_login_is_known_without_asking_anybody() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let nobody = provider.current();
    assert_eq!(
        (nobody.kind, nobody.identity_id, nobody.needs_sign_in),
        (LoginKind::SignedOut, None, true)
    );
    provider.switch_to(Login::guest());
    assert_eq!(provider.current().kind, LoginKind::Guest);
    let guest = provider.session().ready().await.unwrap().identity_id;
    let backend = stage.backend("alice");
    let session = provider.switch_to(Login::developer(backend.clone()).subject("alice"));
    let before = session.status().unwrap();
    assert_eq!(
        (before.kind, before.identity_id, before.expires_at),
        (LoginKind::User, None, None)
    );
    session.ready().await.unwrap();
    let asked = (backend.calls(), stage.cognito_calls());
    let known = provider.current();
    assert_eq!(
        (known.epoch, known.identity_id.as_ref()),
        (session.epoch(), Some(&guest))
    );
    // The true end, not that of the lease.
    assert_eq!(known.expires_at, Some(stage.clock.now() + Duration::from_secs(3_600)));
    let leased = provider.provide_credentials().await.unwrap().expiry();
    assert!(leased < known.expires_at);
    assert!(!known.needs_sign_in);
    stage.clock.advance(Duration::from_secs(3_601));
    assert_eq!(provider.current().expires_at, None);
    backend.order(Order::Fail(BackendError::signed_out()));
    assert!(failure(&provider).await.needs_sign_in());
    assert!(provider.current().needs_sign_in);
    assert_eq!((backend.calls(), stage.cognito_calls()), (asked.0 + 1, asked.1));
    provider.sign_out();
    assert_eq!(session.status(), None);
}

#[tokio::test]
async fn ready_answers_at_once_after_the_first_exchange_whatever_became_of_the_credentials() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let session = provider.switch_to(Login::developer(backend.clone()));
    let first = session.ready().await.unwrap();
    stage.clock.advance(Duration::from_secs(7_200));
    backend.order(Order::Fail(BackendError::signed_out()));
    failure(&provider).await;
    assert_eq!(session.ready().await.unwrap(), first);
    provider.sign_out();
    assert_eq!(session.ready().await.unwrap_err().kind(), ErrorKind::SessionEnded);
}

#[tokio::test]
async fn events_end_with_the_last_provider_though_a_client_lives() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let mut events = provider.events();
    let client = crate::stage::sts(&provider.sdk_config(&stage.pool.client_config()));
    let (clone, session) = (provider.clone(), provider.switch_to(Login::guest()));
    session.ready().await.unwrap();
    drop(provider);
    let mut late = clone.events();
    drop(clone);
    assert!(events.next().await.is_some(), "what happened before is still told");
    within("the end", async { while events.next().await.is_some() {} }).await;
    assert!(within("the end", late.next()).await.is_none());
    client.get_caller_identity().send().await.unwrap();
}

#[tokio::test]
async fn a_named_user_is_known_from_the_store_when_the_backend_cannot_be_asked() {
    let stage = Stage::start().await;
    let store = Arc::new(MemoryStore::new());
    let process = || stage.builder().identity_store(Arc::clone(&store)).build().unwrap();
    let login = |backend: &Arc<crate::stage::Backend>| Login::developer(backend.clone()).subject("alice");
    let backend = stage.backend("alice");
    let id = process().switch_to(login(&backend)).ready().await.unwrap().identity_id;
    let provider = process();
    provider.switch_to(login(&backend));
    backend.order(Order::Fail(BackendError::transient("out of reach")));
    assert_eq!(provider.identity_id().await.unwrap(), id);
    backend.order(Order::Fail(BackendError::signed_out()));
    assert!(
        provider.identity_id().await.unwrap_err().needs_sign_in(),
        "only if it could not be asked"
    );
}

#[tokio::test]
async fn nothing_is_left_of_anybody_after_forgetting_everything() {
    let stage = Stage::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.json");
    let process = |namespace: &str| {
        let builder = stage.builder().namespace(namespace);
        builder.identity_store(FileStore::new(&path)).build().unwrap()
    };
    let provider = process("app");
    let guest = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    // Users of this process and of one before.
    let earlier = process("app");
    earlier
        .switch_to(google_login(&stage.google(), "zoe").subject("zoe"))
        .ready()
        .await
        .unwrap();
    let other = process("other-app");
    let others = other.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    let alice = provider.switch_to(Login::developer(stage.backend("alice")).subject("alice"));
    alice.ready().await.unwrap();
    provider.forget_everything().await.unwrap();
    assert_eq!(failure(&provider).await.kind(), ErrorKind::SignedOut);
    let left = std::fs::read_to_string(&path).unwrap();
    assert!(!left.contains("/app/") && left.contains("/other-app/guest"), "{left}");
    assert_eq!(provider.current().identity_id, None);
    assert_ne!(
        provider.switch_to(Login::guest()).ready().await.unwrap().identity_id,
        guest
    );
    assert_eq!(
        process("other-app")
            .switch_to(Login::guest())
            .ready()
            .await
            .unwrap()
            .identity_id,
        others
    );
}

#[tokio::test]
async fn a_store_that_cannot_list_says_so_and_loses_what_this_process_knows() {
    struct Plain(MemoryStore);
    #[async_trait]
    impl IdentityStore for Plain {
        async fn load(
            &self,
            key: &StoreKey,
        ) -> Result<Option<cognito_identity_pool::IdentityId>, cognito_identity_pool::store::StoreError> {
            self.0.load(key).await
        }
        async fn swap(
            &self,
            key: &StoreKey,
            from: Option<&cognito_identity_pool::IdentityId>,
            to: Option<&cognito_identity_pool::IdentityId>,
        ) -> Result<cognito_identity_pool::store::Swapped, cognito_identity_pool::store::StoreError> {
            self.0.swap(key, from, to).await
        }
    }
    let stage = Stage::start().await;
    let store = Arc::new(Plain(MemoryStore::new()));
    let provider = stage.builder().identity_store(Arc::clone(&store)).build().unwrap();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    let error = provider.forget_everything().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, false));
    let pool = IdentityPoolId::new(stage.pool.identity_pool_id()).unwrap();
    assert_eq!(
        store.load(&StoreKey::guest(&pool, "default").unwrap()).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn credentials_that_live_long_enough_are_had_or_refused() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let session = provider.switch_to(Login::guest());
    let quarter = Duration::from_secs(15 * 60);
    let first = provider.credentials_valid_for(quarter).await.unwrap();
    stage.clock.advance(Duration::from_secs(40 * 60));
    let same = session.credentials_valid_for(quarter).await.unwrap();
    assert_eq!(first.access_key_id(), same.access_key_id());
    let longer = Duration::from_secs(30 * 60);
    let all = futures_util::future::join_all((0..20).map(|_| session.credentials_valid_for(longer))).await;
    for credentials in all {
        let credentials = credentials.unwrap();
        assert_ne!(credentials.access_key_id(), first.access_key_id());
        assert_eq!(
            credentials.expiry(),
            Some(stage.clock.now() + Duration::from_secs(3_600))
        );
    }
    assert_eq!(stage.cognito_calls().1, 2);
    let error = provider
        .credentials_valid_for(Duration::from_secs(7_200))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[test]
fn what_cannot_be_called_is_refused_when_it_is_built() {
    let builder = || CognitoCredentialsProvider::builder("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d");
    for endpoint in [
        "",
        "localhost:4566",
        "ftp://x",
        "https://",
        "http:// x/",
        "https:///path",
    ] {
        let error = builder().endpoint_url(endpoint).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{endpoint:?}");
    }
    for region in ["", "us east 1", "US-EAST-1", "us-east-1\n"] {
        let error = builder().region(region).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{region:?}");
    }
    builder()
        .endpoint_url("http://127.0.0.1:4566/x")
        .region("eu-west-1")
        .build()
        .unwrap();
}

#[test]
fn without_a_runtime_that_has_a_timer_the_error_names_it() {
    let provider = CognitoCredentialsProvider::builder("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d")
        .endpoint_url("http://127.0.0.1:1")
        .login(Login::guest())
        .build()
        .unwrap();
    let kind = |error: aws_credential_types::provider::error::CredentialsError| crate::stage::ours(&error).kind();
    let error = futures_util::FutureExt::now_or_never(provider.provide_credentials());
    assert_eq!(kind(error.expect("it does not wait").unwrap_err()), ErrorKind::Runtime);
    let without_timer = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = without_timer.block_on(provider.provide_credentials()).unwrap_err();
    assert_eq!(kind(error), ErrorKind::Runtime);
}

/// A backend that counts how many of its kind are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl DeveloperIdentityProvider for Counted {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn twenty_thousand_switches_leave_nothing_behind() {
    let stage = Stage::start().await;
    let (provider, alive) = (stage.provider(), Arc::new(AtomicUsize::new(0)));
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for n in 0..20_000 {
        let session = provider.switch_to(Login::developer(Counted::new(&alive)).subject(format!("user-{n}")));
        if n % 100 == 0 {
            // A load is in the air at the next switch.
            let waiting = futures_util::FutureExt::now_or_never(session.provide_credentials());
            assert!(waiting.is_none());
        }
    }
    provider.sign_out();
    crate::stage::until("the last load is gone", || {
        alive.load(Ordering::SeqCst) == 0 && tasks() <= before
    })
    .await;
    key_of_a_guest(&provider).await;
}

async fn key_of_a_guest(provider: &CognitoCredentialsProvider) {
    provider.switch_to(Login::guest());
    key(provider).await;
}

/// A backend whose destructor comes back to its provider.
struct Clings(CognitoCredentialsProvider);

impl Drop for Clings {
    fn drop(&mut self) {
        self.0.sign_out();
        drop(futures_util::FutureExt::now_or_never(self.0.provide_credentials()));
    }
}

#[async_trait]
impl DeveloperIdentityProvider for Clings {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_backend_whose_drop_signs_out_holds_up_no_switch() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let session = provider.switch_to(Login::developer(Clings(provider.clone())));
    assert!(futures_util::FutureExt::now_or_never(session.provide_credentials()).is_none());
    let (switched, other) = (Arc::new(AtomicUsize::new(0)), provider.clone());
    let done = Arc::clone(&switched);
    // In a thread of its own: a hang would be one of the thread.
    std::thread::spawn(move || {
        drop(other.switch_to(Login::guest()));
        done.store(1, Ordering::SeqCst);
    });
    crate::stage::until("the switch returns", || switched.load(Ordering::SeqCst) == 1).await;
    key_of_a_guest(&provider).await;
}
