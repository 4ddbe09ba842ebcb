//! What a change of login does to the identity, row by row; and the table of amplify-js PR 14207, which is a device's whole story.

use std::sync::atomic::Ordering;

use crate::stage::{Order, Stage, Wallet, failure, google, google_login, key};
use cognito_identity_pool::{
    CognitoCredentialsProvider, DeveloperIdentity, ErrorKind, IdentityId, Login, Logins, Session,
    client::{IdentityOutcome, IdentityPolicy},
    developer::developer_fn,
    local::LocalFault,
};

async fn id(session: &Session) -> IdentityId {
    session.ready().await.unwrap().identity_id
}

async fn guest(provider: &CognitoCredentialsProvider) -> IdentityId {
    id(&provider.switch_to(Login::guest())).await
}

// ---- guest -> developer / external ----

#[tokio::test]
async fn a_guest_whom_the_backend_links_becomes_the_user_and_is_no_guest_any_more() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let before = guest(&provider).await;
    let user = provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    assert_eq!((&user.identity_id, user.outcome), (&before, IdentityOutcome::Kept));
    assert_eq!(backend.seen.lock().unwrap()[0].guest_to_link(), Some(&before));
    provider.sign_out();
    assert_ne!(guest(&provider).await, before, "the guest is the user now");
}

#[tokio::test]
async fn a_guest_whom_the_backend_does_not_link_stays_the_guest() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    backend.links.store(false, Ordering::SeqCst);
    let before = guest(&provider).await;
    let user = provider.switch_to(Login::developer(backend)).ready().await.unwrap();
    assert_ne!(user.identity_id, before);
    assert_eq!(user.outcome, IdentityOutcome::Replaced { from: before.clone() });
    assert_eq!(guest(&provider).await, before);
}

#[tokio::test]
async fn a_guest_that_is_merged_into_an_external_user_is_forgotten() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let alice = id(&stage.provider().switch_to(google_login(&issuer, "alice"))).await;
    let before = guest(&provider).await;
    stage.pool.clear_requests();
    let user = provider
        .switch_to(google_login(&issuer, "alice"))
        .ready()
        .await
        .unwrap();
    assert_eq!(
        (&user.identity_id, user.outcome),
        (&alice, IdentityOutcome::Replaced { from: before.clone() })
    );
    assert_eq!(stage.cognito_calls(), (0, 1));
    stage.pool.clear_requests();
    assert_ne!(guest(&provider).await, before, "it is disabled");
    assert_eq!(stage.cognito_calls(), (1, 1), "and was not tried");
}

#[tokio::test]
async fn a_user_who_is_known_takes_the_guest_along_too() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let login = || google_login(&issuer, "alice").subject("alice");
    let alice = id(&provider.switch_to(login())).await;
    let before = guest(&provider).await;
    stage.pool.clear_requests();
    let again = provider.switch_to(login()).ready().await.unwrap();
    assert_eq!((again.identity_id, again.outcome), (alice, IdentityOutcome::Kept));
    assert_eq!(stage.cognito_calls(), (0, 1));
    assert_ne!(guest(&provider).await, before);
}

#[tokio::test]
async fn a_backend_that_fails_leaves_the_guest_in_its_slot() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let before = guest(&provider).await;
    backend.order(Order::Fail(cognito_identity_pool::BackendError::transient("down")));
    provider.switch_to(Login::developer(backend.clone()));
    assert_eq!(failure(&provider).await.kind(), ErrorKind::Backend);
    provider.sign_out();
    assert_eq!(guest(&provider).await, before);
}

#[tokio::test]
async fn an_answer_that_is_not_to_be_believed_does_not_cost_the_guest() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let before = guest(&provider).await;
    // The guest's id with somebody else's token: a mix-up.
    let token = stage.backend("bob").vend(None).await.unwrap().token().clone();
    backend.order(Order::Answer(DeveloperIdentity::new(before.clone(), token)));
    provider.switch_to(Login::developer(backend));
    assert_eq!(failure(&provider).await.kind(), ErrorKind::InvalidResponse);
    assert_eq!(guest(&provider).await, before);
}

// ---- user -> guest, user -> user ----

#[tokio::test]
async fn a_user_who_becomes_a_guest_is_the_devices_guest_and_never_the_user() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let alice = id(&provider.switch_to(Login::developer(stage.backend("alice")))).await;
    let guest_session = provider.switch_to(Login::guest());
    assert_ne!(guest_session.identity_id().await.unwrap(), alice);
    assert_ne!(id(&guest_session).await, alice);
    // Nor by way of `link`, which is for the same person.
    let bob = id(&provider.switch_to(Login::developer(stage.backend("bob")))).await;
    let linked = provider.link(Login::guest());
    assert_ne!(linked.identity_id().await.unwrap(), bob);
}

#[tokio::test]
async fn nothing_of_one_user_is_kept_for_the_next() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let alice = id(&provider.switch_to(google_login(&issuer, "alice"))).await;
    stage.pool.clear_requests();
    let bob = provider.switch_to(google_login(&issuer, "bob")).ready().await.unwrap();
    assert_ne!(bob.identity_id, alice);
    assert_eq!(bob.outcome, IdentityOutcome::Created);
    let asked = stage.pool.requests_of("GetCredentialsForIdentity");
    assert!(
        asked
            .iter()
            .all(|request| request.identity_id.as_deref() != Some(alice.as_str()))
    );
    let backend = stage.backend("carol");
    provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    let seen = backend.seen.lock().unwrap()[0].clone();
    assert_eq!((seen.identity_id(), seen.guest_to_link()), (None, None));
}

// ---- link ----

#[tokio::test]
async fn a_login_more_of_the_same_person_keeps_the_identity() {
    let stage = Stage::start().await;
    let (provider, issuer, facebook) = (stage.provider(), stage.google(), stage.facebook());
    let alice = id(&provider.switch_to(google_login(&issuer, "alice"))).await;
    let both = google(&issuer, "alice").facebook(facebook.token("alice.f")).unwrap();
    stage.pool.clear_requests();
    let linked = provider.link(Login::external(both)).ready().await.unwrap();
    assert_eq!((&linked.identity_id, linked.outcome), (&alice, IdentityOutcome::Kept));
    assert_eq!(stage.cognito_calls(), (0, 1));
    // From now on either opens it.
    let facebook = Logins::new().facebook(facebook.token("alice.f")).unwrap();
    assert_eq!(id(&stage.provider().switch_to(Login::external(facebook))).await, alice);
}

#[tokio::test]
async fn a_login_of_somebody_else_is_reported_as_replaced() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let alice = id(&provider.switch_to(google_login(&issuer, "alice"))).await;
    let other = provider.link(google_login(&issuer, "bob")).ready().await.unwrap();
    assert_ne!(other.identity_id, alice);
    assert_eq!(other.outcome, IdentityOutcome::Replaced { from: alice });
}

#[tokio::test]
async fn developer_plus_external_gives_the_backend_the_token_to_link() {
    let stage = Stage::start().await;
    let (provider, issuer, backend) = (stage.provider(), stage.google(), stage.backend("alice"));
    let login = Login::developer(backend.clone()).with_external(google(&issuer, "alice"));
    provider.switch_to(login).ready().await.unwrap();
    let seen = backend.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.external_logins().providers().collect::<Vec<_>>(), [Logins::GOOGLE]);
    let asked = stage.pool.requests_of("GetCredentialsForIdentity");
    assert_eq!(asked[0].logins, ["cognito-identity.amazonaws.com"]);
}

// ---- sign out, clear ----

#[tokio::test]
async fn signed_out_requests_fail_closed_and_the_guest_survives() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let before = guest(&provider).await;
    provider.sign_out();
    let error = failure(&provider).await;
    assert_eq!((error.kind(), error.needs_sign_in()), (ErrorKind::SignedOut, true));
    assert_eq!(provider.identity_id().await.unwrap_err().kind(), ErrorKind::SignedOut);
    stage.pool.clear_requests();
    assert_eq!(guest(&provider).await, before);
    assert_eq!(stage.cognito_calls(), (0, 1));
}

#[tokio::test]
async fn cleared_credentials_are_made_anew_for_the_same_identity() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let session = provider.switch_to(Login::guest());
    let (before, key_before) = (session.ready().await.unwrap(), key(&provider).await);
    stage.pool.clear_requests();
    provider.clear_credentials();
    assert!(session.is_current());
    assert_ne!(key(&provider).await, key_before);
    assert_eq!(session.ready().await.unwrap(), before);
    assert_eq!(stage.cognito_calls(), (0, 1));
}

#[tokio::test]
async fn a_cleared_identity_is_forgotten_and_its_handles_end() {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let session = provider.switch_to(Login::guest());
    let before = id(&session).await;
    let cleared = provider.clear_identity().await.unwrap();
    assert_eq!(session.identity_id().await.unwrap_err().kind(), ErrorKind::SessionEnded);
    assert_ne!(id(&cleared).await, before);
    // A user's id is asked for anew, and is what it was: the pool knows the user.
    let session = provider.switch_to(google_login(&issuer, "alice").subject("alice"));
    let alice = id(&session).await;
    stage.pool.clear_requests();
    let cleared = provider.clear_identity().await.unwrap();
    assert_eq!(id(&cleared).await, alice);
    assert_eq!(stage.cognito_calls(), (1, 1));
}

// ---- somebody else behind the same login ----

#[tokio::test]
async fn a_backend_whose_cookie_jar_has_changed_hands_is_refused_until_it_changes_back() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let alice = id(&provider.switch_to(Login::developer(backend.clone()))).await;
    backend.order(Order::Answer(stage.backend("bob").vend(None).await.unwrap()));
    stage.clock.advance(std::time::Duration::from_secs(3_600));
    stage.pool.clear_requests();
    let error = failure(&provider).await;
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::IdentityChanged, false)
    );
    assert_eq!(stage.cognito_calls(), (0, 0), "nothing was made with it");
    // Remembered for a few seconds; then the backend is asked again.
    stage.clock.advance(std::time::Duration::from_secs(10));
    key(&provider).await;
    assert_eq!(provider.identity_id().await.unwrap(), alice);
}

#[tokio::test]
async fn a_logins_provider_whose_user_has_changed_does_not_hand_the_session_over() {
    let stage = Stage::start().await;
    let issuer = stage.google();
    let (provider, wallet) = (stage.provider(), Wallet::new(google(&issuer, "alice")));
    provider
        .switch_to(Login::external(wallet.clone()))
        .ready()
        .await
        .unwrap();
    *wallet.logins.lock().unwrap() = google(&issuer, "bob");
    stage.clock.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(failure(&provider).await.kind(), ErrorKind::IdentityChanged);
    // Opaque tokens cannot be read: Cognito's refusal stands, and the session is nobody else's either.
    let facebook = stage.facebook();
    let logins = |user: &str| Logins::new().facebook(facebook.token(user)).unwrap();
    let wallet = Wallet::new(logins("alice"));
    let session = provider.switch_to(Login::external(wallet.clone()));
    let alice = id(&session).await;
    *wallet.logins.lock().unwrap() = logins("bob");
    stage.clock.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(failure(&provider).await.kind(), ErrorKind::NotAuthorized);
    assert_eq!(provider.identity_id().await.unwrap(), alice);
}

#[tokio::test]
async fn another_identity_in_an_answer_of_cognito_is_refused_too() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let before = guest(&provider).await;
    stage
        .pool
        .faults()
        .next_of("GetCredentialsForIdentity", LocalFault::OtherIdentity);
    assert_eq!(
        provider.refresh_now().await.unwrap_err().kind(),
        ErrorKind::IdentityChanged
    );
    assert_eq!(provider.identity_id().await.unwrap(), before);
    provider.refresh_now().await.unwrap();
}

// ---- the policy for guests that are gone ----

#[tokio::test]
async fn a_guest_that_is_gone_is_made_anew_or_reported_as_the_policy_says() {
    for (policy, recreated) in [(IdentityPolicy::Recreate, true), (IdentityPolicy::Fail, false)] {
        let stage = Stage::start().await;
        let provider = stage.builder().identity_policy(policy).build().unwrap();
        let before = guest(&provider).await;
        stage.delete(&before).await;
        let result = provider.refresh_now().await;
        assert_eq!(result.is_ok(), recreated);
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::IdentityNotFound);
            assert_eq!(stage.cognito_calls(), (1, 2));
        }
        assert_eq!(provider.identity_id().await.unwrap() != before, recreated);
    }
}

// ---- decided anew each time ----

#[tokio::test]
async fn an_app_that_decides_anew_is_asked_only_without_fresh_credentials() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    let stage = Stage::start().await;
    let (signed_in, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let user = Login::developer(stage.backend("alice")).subject("alice");
    let (flag, count) = (Arc::clone(&signed_in), Arc::clone(&asked));
    let provider = stage
        .builder()
        .login(Login::decided_by(move || {
            count.fetch_add(1, Ordering::SeqCst);
            if flag.load(Ordering::SeqCst) {
                user.clone()
            } else {
                Login::guest()
            }
        }))
        .build()
        .unwrap();
    key(&provider).await;
    let (before, first) = (asked.load(Ordering::SeqCst), provider.session());
    for _ in 0..10 {
        key(&provider).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), before);
    stage.clock.advance(std::time::Duration::from_secs(3_600));
    key(&provider).await;
    assert!(first.is_current(), "the same answer is no switch");
    signed_in.store(true, Ordering::SeqCst);
    stage.clock.advance(std::time::Duration::from_secs(3_600));
    key(&provider).await;
    assert!(!first.is_current());
}

#[tokio::test]
async fn a_closure_that_panics_or_hands_the_question_on_has_decided_nothing() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    provider.switch_to(Login::decided_by(|| panic!("canary")));
    let error = failure(&provider).await;
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(!format!("{error:?}").contains("canary"));
    provider.switch_to(Login::decided_by(|| Login::decided_by(Login::guest)));
    assert_eq!(failure(&provider).await.kind(), ErrorKind::Configuration);
    guest(&provider).await;
}

// ---- the whole story of a device ----

/// The rows of the table, with a backend that links the guest of a new user and merges nothing, or with an external provider.
async fn story(external: bool) {
    let stage = Stage::start().await;
    let (provider, issuer) = (stage.provider(), stage.google());
    let login = |user: &'static str| {
        if external {
            google_login(&issuer, user)
        } else {
            Login::developer(stage.backend(user))
        }
    };
    let id1 = guest(&provider).await; // guest, before the sign-in
    assert_eq!(guest(&provider).await, id1); // signed up, not yet signed in
    assert_eq!(id(&provider.switch_to(login("u1"))).await, id1); // first sign-in: linked
    provider.sign_out();
    let id2 = guest(&provider).await; // after the sign-out: a new guest
    assert_ne!(id2, id1);
    assert_eq!(id(&provider.switch_to(login("u1"))).await, id1); // the existing user
    provider.sign_out();
    let id3 = guest(&provider).await; // after the second sign-out
    if external {
        // The second guest was merged into the user, and is disabled.
        assert!(id3 != id1 && id3 != id2);
    } else {
        // The backend did not link it: DESIGN, "a developer backend that did not link leaves it as it was".
        assert_eq!(id3, id2);
    }
    assert_eq!(guest(&provider).await, id3); // signed up as a second user, not yet signed in
    assert_eq!(id(&provider.switch_to(login("u2"))).await, id3); // their first sign-in: linked
    provider.sign_out();
    assert_eq!(id(&provider.switch_to(login("u1"))).await, id1); // the first user once more
    provider.sign_out();
    let id4 = guest(&provider).await; // guest, without an account
    assert!(id4 != id1 && id4 != id3);
    // The table has a new guest after a sign-out without an account. DESIGN: the slot survives a sign-out; who wants a new one
    // clears the identity.
    provider.sign_out();
    assert_eq!(guest(&provider).await, id4);
    let id5 = id(&provider.clear_identity().await.unwrap()).await;
    assert_ne!(id5, id4);
}

#[tokio::test]
async fn the_table_of_amplify_pr_14207_with_an_external_provider() {
    story(true).await;
}

#[tokio::test]
async fn the_table_of_amplify_pr_14207_with_a_backend() {
    story(false).await;
}

#[tokio::test]
async fn the_cheap_hook_is_asked_once_for_all_and_its_answer_kept() {
    use cognito_identity_pool::{BackendError, DeveloperIdentityProvider, RefreshRequest, async_trait};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    struct Cheap(Arc<crate::stage::Backend>, IdentityId, AtomicUsize);
    #[async_trait]
    impl DeveloperIdentityProvider for Cheap {
        async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
            self.0.refresh(request).await
        }
        async fn get_identity_id(&self, _: &RefreshRequest) -> Result<Option<IdentityId>, BackendError> {
            self.2.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(Some(self.1.clone()))
        }
    }
    let stage = Stage::start().await;
    let backend = stage.backend("alice");
    let known = backend.vend(None).await.unwrap().identity_id().clone();
    let cheap = Arc::new(Cheap(backend.clone(), known.clone(), AtomicUsize::new(0)));
    let provider = stage.provider();
    provider.switch_to(Login::developer(cheap.clone()));
    let ids = futures_util::future::join_all((0..20).map(|_| provider.identity_id())).await;
    assert!(ids.into_iter().all(|id| id.unwrap() == known));
    assert_eq!((cheap.2.load(Ordering::SeqCst), backend.calls()), (1, 0));
    key(&provider).await;
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 1)));
}

#[tokio::test]
async fn a_hook_that_asks_its_own_provider_gets_a_typed_error() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let inner = provider.clone();
    provider.switch_to(Login::developer(developer_fn(move |_| {
        let inner = inner.clone();
        async move {
            inner.identity_id().await?;
            unreachable!("it would wait for itself")
        }
    })));
    let error = failure(&provider).await;
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("asked its own provider")
    );
}
