//! Work that was begun on a runtime that nobody drives any more: those who wait take over after its deadline.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_smithy_async::time::SystemTimeSource;

use crate::stage::{Stage, script::Script, until, within};
use cognito_identity_pool::{
    IdentityId, Login, Session, client::IdentityPolicy, developer::developer_fn, refresh::RefreshPolicy,
    store::MemoryStore,
};
use futures_util::FutureExt;
use tokio::runtime::{Builder, Runtime};

fn lives_but_is_not_driven() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The pool's clock stands still; a deadline that several waiters share is read off a clock that goes.
fn real_time(config: &SdkConfig) -> SdkConfig {
    config.to_builder().time_source(SystemTimeSource::new()).build()
}

fn quick() -> RefreshPolicy {
    RefreshPolicy::builder()
        .load_timeout(Duration::from_millis(400))
        .build()
}

/// Signs in, however often the deadline comes in between.
async fn sign_in(session: impl Fn() -> Session + Sync) -> IdentityId {
    within("a sign-in", async {
        loop {
            match session().ready().await {
                Ok(sign_in) => return sign_in.identity_id,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_being_made_on_an_abandoned_runtime_keeps_nobody_waiting_for_ever() {
    let stage = Stage::start().await;
    let script = Script::new(&stage);
    let provider = script
        .builder(&stage)
        .configure(&real_time(&script.config(&stage)))
        .refresh_policy(quick())
        .build()
        .unwrap();
    let held = script.hold("GetId");
    let session = provider.switch_to(Login::guest());
    let (abandoned, session) = std::thread::spawn(move || {
        let runtime = lives_but_is_not_driven();
        runtime.block_on(async {
            assert!(session.ready().now_or_never().is_none());
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        });
        (runtime, session)
    })
    .join()
    .unwrap();
    until("the pool is being asked", || script.count("GetId") == 1).await;
    let guest = sign_in(|| provider.switch_to(Login::guest())).await;
    assert_eq!(sign_in(|| provider.switch_to(Login::guest())).await, guest);
    drop((held, session));
    std::thread::spawn(move || drop(abandoned)).join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_who_is_shown_to_a_backend_on_an_abandoned_runtime_is_in_doubt_and_signs_in() {
    let stage = Stage::start().await;
    let store = Arc::new(MemoryStore::new());
    let builder = || {
        stage
            .builder()
            .configure(&real_time(&stage.pool.client_config()))
            .identity_store(Arc::clone(&store))
            .identity_policy(IdentityPolicy::Fail)
    };
    let provider = builder().refresh_policy(quick()).build().unwrap();
    let guest = sign_in(|| provider.switch_to(Login::guest())).await;
    let session = provider.switch_to(Login::developer(developer_fn(async |_| std::future::pending().await)));
    let (abandoned, session) = std::thread::spawn(move || {
        let runtime = lives_but_is_not_driven();
        runtime.block_on(async {
            assert!(session.ready().now_or_never().is_none());
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        });
        (runtime, session)
    })
    .join()
    .unwrap();
    assert_eq!(
        sign_in(|| provider.switch_to(Login::guest())).await,
        guest,
        "it was not linked"
    );
    // Nor does it keep the user from signing in, in the same session or the next.
    let alice = stage.backend("alice");
    sign_in(|| provider.switch_to(Login::developer(Arc::clone(&alice)))).await;
    drop(session);
    std::thread::spawn(move || drop(abandoned)).join().unwrap();
}
