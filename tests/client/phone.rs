//! The life of an app on a phone: guest, user, killed, started offline, online again after four hours. What each step answers.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::stage::script::{Act, Script, no_pause};
use crate::stage::{Order, Stage, failure, key, ours};
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, ErrorKind, IdentityId, Login,
    client::{IdentityOutcome, LoginKind},
    error::CauseKind,
    store::FileStore,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// The store is written behind the app's back: waits until the file has `what`.
async fn stored(directory: &Path, what: &str) {
    let begun = Instant::now();
    while !std::fs::read_to_string(directory.join("identities.json")).is_ok_and(|text| text.contains(what)) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} is not stored");
        tokio::task::yield_now().await;
    }
}

/// What the app knows without asking anybody: who is signed in, as which identity, and whether a sign-in is needed.
fn knows(app: &CognitoCredentialsProvider) -> (LoginKind, Option<IdentityId>, bool) {
    let status = app.current();
    (status.kind, status.identity_id, status.needs_sign_in)
}

#[tokio::test]
async fn guest_user_killed_started_offline_online_after_four_hours() {
    let stage = Stage::start().await;
    let directory = tempfile::tempdir().unwrap();
    let script = Script::new(&stage);
    // A process of the app: what it knows is in the file.
    let start = || -> CognitoCredentialsProvider {
        let store = FileStore::new(directory.path().join("identities.json"));
        stage
            .builder()
            .configure(&script.config(&stage))
            .retry_config(no_pause())
            .identity_store(store)
            .build()
            .unwrap()
    };
    let backend = stage.backend("alice");
    let alice = || Login::developer(backend.clone()).subject("alice");

    // 1. The first start: a guest.
    let app = start();
    assert_eq!(knows(&app), (LoginKind::SignedOut, None, true));
    assert_eq!(
        failure(&app).await.kind(),
        ErrorKind::SignedOut,
        "nobody, until the app says so"
    );
    let guest = app.switch_to(Login::guest()).ready().await.unwrap();
    assert_eq!(guest.outcome, IdentityOutcome::Created);
    assert_eq!(knows(&app), (LoginKind::Guest, Some(guest.identity_id.clone()), false));
    let of_guest = key(&app).await;

    // 2. The guest signs in, and is linked: the same identity, other credentials.
    let session = app.switch_to(alice());
    let signed_in = session.ready().await.unwrap();
    assert_eq!(
        (signed_in.outcome, &signed_in.identity_id),
        (IdentityOutcome::Kept, &guest.identity_id)
    );
    assert!(session.is_current());
    assert_ne!(key(&app).await, of_guest);
    assert_eq!(knows(&app), (LoginKind::User, Some(guest.identity_id.clone()), false));

    // 3. The system kills the app; it is started again without a network.
    stored(directory.path(), "/subject/").await;
    drop((app, session));
    let app = start();
    let offline = || {
        backend.order(Order::Fail(BackendError::from(std::io::Error::from(
            std::io::ErrorKind::NetworkUnreachable,
        ))));
        script.next("GetCredentialsForIdentity", Act::Break);
        script.next("GetId", Act::Break);
    };
    offline();
    let session = app.switch_to(alice());
    assert!(session.is_current(), "the login is in force, whatever the network says");
    let error = ours(
        &aws_credential_types::provider::ProvideCredentials::provide_credentials(&session)
            .await
            .unwrap_err(),
    );
    assert_eq!(
        (error.kind(), error.is_retryable(), error.needs_sign_in()),
        (ErrorKind::Backend, true, false)
    );
    assert_eq!(error.causes()[0].kind, CauseKind::BackendUnreachable);
    assert!(error.causes()[0].evidence.contains("offline"), "{error:?}");
    assert_eq!(knows(&app).0, LoginKind::User);
    offline();
    assert_eq!(app.identity_id().await.unwrap(), guest.identity_id, "from the store");
    // Nobody has become a guest, and nothing was asked of Cognito.
    assert_eq!(script.count("GetId"), 1, "the first guest's");
    backend.orders.lock().unwrap().clear();
    script.forget_acts();

    // 4. Four hours later there is a network: the first call succeeds, as the same user, without a word from the app.
    stage.clock.advance(4 * HOUR);
    key(&app).await;
    assert_eq!(session.identity_id().await.unwrap(), guest.identity_id);
    assert_eq!(knows(&app), (LoginKind::User, Some(guest.identity_id.clone()), false));
    assert_eq!(session.ready().await.unwrap().outcome, IdentityOutcome::Kept);

    // 5. Offline again while the credentials are good: nobody notices. When they are over, the error says why.
    for _ in 0..20 {
        offline();
    }
    let before = key(&app).await;
    stage.clock.advance(HOUR / 3);
    assert_eq!(key(&app).await, before);
    stage.clock.advance(HOUR);
    assert!(failure(&app).await.is_retryable());
}
