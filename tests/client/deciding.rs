//! `Login::decided_by`: when the app is asked, whose answer counts, and what those who wait get.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::stage::{Stage, failure, google, key, until, within};
use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    CognitoCredentialsProvider, ErrorKind, IdentityId, Login, Logins, client::EventKind, client::Events,
    developer::developer_fn,
};
use futures_util::FutureExt;
use futures_util::future::join_all;

/// A provider whose login is what `answer` says, and how often it was asked.
fn decided(
    stage: &Stage,
    answer: impl Fn() -> Login + Send + Sync + 'static,
) -> (CognitoCredentialsProvider, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let provider = stage
        .builder()
        .login(Login::decided_by(move || {
            count.fetch_add(1, Ordering::SeqCst);
            answer()
        }))
        .build()
        .unwrap();
    (provider, asked)
}

async fn signer(stage: &Stage, provider: &CognitoCredentialsProvider) -> IdentityId {
    let key = key(provider).await;
    IdentityId::new(stage.pool.identity_of(&key).unwrap()).unwrap()
}

async fn identity(stage: &Stage, user: &str) -> IdentityId {
    stage.backend(user).vend(None).await.unwrap().identity_id().clone()
}

fn undecided(events: &mut Events) -> usize {
    let events = std::iter::from_fn(|| events.next().now_or_never().flatten());
    events
        .filter(|event| matches!(event.kind, EventKind::LoginUndecided { .. }))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_requests_of_one_user_whose_login_is_made_anew_are_no_switch() {
    for how in ["named", "one Arc", "the same tokens", "the same identity"] {
        let stage = Stage::start().await;
        let backend = stage.backend("alice");
        let answer: Box<dyn Fn() -> Login + Send + Sync> = match how {
            "named" => Box::new(move || Login::developer(backend.clone()).subject("alice")),
            "one Arc" => Box::new(move || Login::developer(Arc::clone(&backend))),
            "the same tokens" => {
                let logins = google(&stage.google(), "alice");
                Box::new(move || Login::external(logins.clone()))
            }
            _ => {
                let identity = backend.vend(None).await.unwrap();
                Box::new(move || Login::developer(identity.clone()))
            }
        };
        let (provider, _) = decided(&stage, answer);
        let session = provider.session();
        let before = stage.cognito_calls().1;
        let all = join_all((0..60).map(|_| provider.provide_credentials())).await;
        assert!(
            all.iter().all(Result::is_ok),
            "{how}: {:?}",
            all.iter().find(|one| one.is_err())
        );
        assert_eq!(stage.cognito_calls().1, before + 1, "{how}: one exchange");
        for _ in 0..3 {
            stage.clock.advance(Duration::from_secs(3_600));
            let all = join_all((0..20).map(|_| provider.provide_credentials())).await;
            // A token that does not change ends, and that is no switch either.
            assert!(
                how == "the same identity" || how == "the same tokens" || all.iter().all(Result::is_ok),
                "{how}"
            );
        }
        assert!(session.is_current(), "{how}: no switch");
    }
}

#[tokio::test]
async fn the_newest_tokens_of_a_named_external_login_are_the_ones_in_use() {
    let stage = Stage::start().await;
    let issuer = stage.google();
    for subject in [Some("alice"), None] {
        let issuer = issuer.clone();
        let (provider, _) = decided(&stage, move || {
            let login = Login::external(google(&issuer, "alice"));
            match subject {
                Some(subject) => login.subject(subject),
                None => login,
            }
        });
        let session = provider.session();
        for _ in 0..4 {
            key(&provider).await;
            stage.clock.advance(Duration::from_secs(3_600));
        }
        assert!(session.is_current(), "{subject:?}");
    }
}

#[tokio::test]
async fn nobody_is_asked_while_there_are_credentials_that_serve() {
    let stage = Stage::start().await;
    let backend = stage.backend("alice");
    let (provider, asked) = decided(&stage, move || Login::developer(backend.clone()).subject("alice"));
    key(&provider).await;
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..40 {
        stage.clock.advance(Duration::from_secs(60));
        key(&provider).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), before);
    stage.clock.advance(Duration::from_secs(3_600));
    join_all((0..50).map(|_| provider.provide_credentials())).await;
    assert_eq!(asked.load(Ordering::SeqCst), before + 1, "once for all who wait");
}

#[tokio::test]
async fn those_who_wait_go_on_with_the_user_that_the_app_decides_for() {
    let stage = Stage::start().await;
    let who = Arc::new(Mutex::new("alice"));
    let (alice, bob, now) = (stage.backend("alice"), stage.backend("bob"), Arc::clone(&who));
    let (provider, asked) = decided(&stage, move || match *now.lock().unwrap() {
        "alice" => Login::developer(alice.clone()).subject("alice"),
        _ => Login::developer(bob.clone()).subject("bob"),
    });
    key(&provider).await;
    let alices = provider.session();
    stage.clock.advance(Duration::from_secs(3_600));
    *who.lock().unwrap() = "bob";
    let before = asked.load(Ordering::SeqCst);
    let bobs = identity(&stage, "bob").await;
    for credentials in join_all((0..60).map(|_| provider.provide_credentials())).await {
        let key = credentials.expect("nobody is turned away").access_key_id().to_owned();
        assert_eq!(stage.pool.identity_of(&key).as_deref(), Some(bobs.as_str()));
    }
    assert_eq!(asked.load(Ordering::SeqCst), before + 1);
    let error = alices.provide_credentials().await.unwrap_err();
    assert_eq!(crate::stage::ours(&error).kind(), ErrorKind::SessionEnded);
}

#[tokio::test]
async fn a_failure_that_is_remembered_does_not_keep_the_next_user_out() {
    let stage = Stage::start().await;
    let who = Arc::new(Mutex::new(
        Login::developer(developer_fn(async |_| {
            Err(cognito_identity_pool::BackendError::signed_out())
        }))
        .subject("alice"),
    ));
    let now = Arc::clone(&who);
    let (provider, _) = decided(&stage, move || now.lock().unwrap().clone());
    for _ in 0..3 {
        assert!(failure(&provider).await.needs_sign_in());
    }
    *who.lock().unwrap() = Login::developer(stage.backend("bob")).subject("bob");
    assert_eq!(signer(&stage, &provider).await, identity(&stage, "bob").await);
}

#[tokio::test]
async fn an_answer_that_is_of_no_use_leaves_a_good_session_alone_and_says_so() {
    let stage = Stage::start().await;
    let how = Arc::new(AtomicUsize::new(0));
    let (backend, now) = (stage.backend("alice"), Arc::clone(&how));
    let (provider, _) = decided(&stage, move || match now.load(Ordering::SeqCst) {
        1 => panic!("canary"),
        2 => Login::decided_by(Login::guest),
        _ => {
            // Made for this answer, without a name.
            let backend = backend.clone();
            Login::developer(developer_fn(move |request| {
                let backend = backend.clone();
                async move { cognito_identity_pool::DeveloperIdentityProvider::refresh(&backend, &request).await }
            }))
        }
    });
    let mut events = provider.events();
    let alice = signer(&stage, &provider).await;
    let session = provider.session();
    for useless in 0..3 {
        how.store(useless, Ordering::SeqCst);
        undecided(&mut events);
        stage.clock.advance(Duration::from_secs(3_600));
        assert_eq!(signer(&stage, &provider).await, alice, "{useless}");
        assert!(session.is_current(), "{useless}");
        assert_eq!(undecided(&mut events), 1, "{useless}");
    }
}

/// A question that was asked earlier and is answered later.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_older_answer_never_replaces_a_newer_one() {
    let stage = Stage::start().await;
    let (alice, bob) = (stage.backend("alice"), stage.backend("bob"));
    let bobs = identity(&stage, "bob").await;
    for round in 0..300 {
        let who = Arc::new(AtomicUsize::new(0));
        let (alice, bob, now) = (alice.clone(), bob.clone(), Arc::clone(&who));
        let (provider, _) = decided(&stage, move || {
            let who = now.load(Ordering::SeqCst);
            // Up to 200 microseconds pass before the answer is out.
            let until = std::time::Instant::now() + Duration::from_micros(u64::from(fastrand::u8(..)) * 200 / 255);
            while std::time::Instant::now() < until {
                std::hint::spin_loop();
            }
            match who {
                0 => Login::signed_out(),
                1 => Login::developer(alice.clone()).subject("alice"),
                _ => Login::developer(bob.clone()).subject("bob"),
            }
        });
        let asks = |provider: CognitoCredentialsProvider| {
            tokio::spawn(async move { provider.provide_credentials().await.map(drop) })
        };
        let mut waiting: Vec<_> = (0..3).map(|_| asks(provider.clone())).collect();
        who.store(1, Ordering::SeqCst);
        waiting.extend((0..3).map(|_| asks(provider.clone())));
        who.store(2, Ordering::SeqCst);
        // What was asked before is void from here on.
        provider.clear_credentials();
        let last = within("the last answer", provider.provide_credentials()).await;
        let key = last
            .unwrap_or_else(|error| panic!("{round}: {error:?}"))
            .access_key_id()
            .to_owned();
        assert_eq!(
            stage.pool.identity_of(&key).as_deref(),
            Some(bobs.as_str()),
            "round {round}"
        );
        for one in waiting {
            drop(one.await.unwrap());
        }
        assert_eq!(signer(&stage, &provider).await, bobs, "round {round}, at the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_that_a_newer_one_has_overtaken_is_dropped() {
    let stage = Stage::start().await;
    let (alice, bob) = (stage.backend("alice"), stage.backend("bob"));
    let bobs = identity(&stage, "bob").await;
    let (release, held) = mpsc::channel::<()>();
    let (held, number) = (Mutex::new(held), AtomicUsize::new(0));
    let (provider, asked) = decided(&stage, move || match number.fetch_add(1, Ordering::SeqCst) {
        0 => Login::signed_out(),
        1 => {
            held.lock().unwrap().recv().unwrap_or_default();
            Login::developer(alice.clone()).subject("alice")
        }
        _ => Login::developer(bob.clone()).subject("bob"),
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1, "when it is built");
    let overtaken = tokio::spawn({
        let provider = provider.clone();
        async move { provider.provide_credentials().await.map(drop) }
    });
    until("the older question", || asked.load(Ordering::SeqCst) == 2).await;
    // What was asked before is void from here on.
    provider.clear_credentials();
    let newer = within("the newer answer", provider.provide_credentials()).await;
    assert_eq!(
        stage.pool.identity_of(newer.unwrap().access_key_id()).as_deref(),
        Some(bobs.as_str())
    );
    let bobs_session = provider.session();
    release.send(()).unwrap();
    drop(within("whoever asked first", overtaken).await.unwrap());
    assert_eq!(
        provider.session().epoch(),
        bobs_session.epoch(),
        "nobody else came in force"
    );
    assert_eq!(signer(&stage, &provider).await, bobs);
}

#[tokio::test]
async fn a_closure_that_asks_its_own_provider_is_told_so() {
    let stage = Stage::start().await;
    let slot: Arc<Mutex<Option<CognitoCredentialsProvider>>> = Arc::default();
    let (inner, seen) = (Arc::clone(&slot), Arc::new(Mutex::new(None)));
    let (backend, told) = (stage.backend("alice"), Arc::clone(&seen));
    let (provider, _) = decided(&stage, move || {
        let provider = inner.lock().unwrap().clone();
        if let Some(provider) = provider {
            let answer = provider.provide_credentials().now_or_never();
            *told.lock().unwrap() = answer.map(|answer| crate::stage::ours(&answer.unwrap_err()).kind());
        }
        Login::developer(backend.clone()).subject("alice")
    });
    *slot.lock().unwrap() = Some(provider.clone());
    key(&provider).await;
    assert_eq!(*seen.lock().unwrap(), Some(ErrorKind::Reentered));
    *slot.lock().unwrap() = None;
}

#[tokio::test]
async fn opaque_tokens_of_somebody_else_are_a_switch() {
    let stage = Stage::start().await;
    let who = Arc::new(Mutex::new("a"));
    let now = Arc::clone(&who);
    let (provider, _) = decided(&stage, move || {
        Login::external(
            Logins::new()
                .facebook(format!("opaque-{}", now.lock().unwrap()))
                .unwrap(),
        )
    });
    let session = provider.session();
    drop(provider.provide_credentials().await);
    assert!(session.is_current());
    *who.lock().unwrap() = "b";
    drop(provider.provide_credentials().await);
    assert!(!session.is_current());
    until("nothing is left to wait for", || true).await;
}
