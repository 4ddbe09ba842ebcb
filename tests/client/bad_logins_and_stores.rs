//! What an app or a disk may get wrong, seen from the provider: a clear error each, and nothing lost.

use std::path::Path;

use crate::stage::{Stage, failure};
use cognito_identity_pool::{
    CognitoCredentialsProvider, ErrorKind, IdentityId, Login, Logins, async_trait,
    store::{FileStore, IdentityStore, StoreError, StoreKey, Swapped},
};

async fn guest(provider: &CognitoCredentialsProvider) -> IdentityId {
    provider.switch_to(Login::guest()).ready().await.unwrap().identity_id
}

#[tokio::test]
async fn logins_that_cannot_be_right_are_refused_before_the_network() {
    let stage = Stage::start().await;
    let vended = stage.backend("alice").vend(None).await.unwrap();
    let token = vended.token().expose_secret();
    let eleven = (0..11).try_fold(Logins::new(), |logins, n| {
        logins.with(format!("idp{n}.example.com"), "token")
    });
    for (what, logins) in [
        ("an empty token", Logins::new().google("")),
        ("white space", Logins::new().google(" \t")),
        ("eleven logins", eleven),
        ("a developer token under a provider's name", Logins::new().google(token)),
        (
            "a developer token under its own",
            Logins::new().with("cognito-identity.amazonaws.com", token),
        ),
        (
            "a developer token under the developer provider's",
            Logins::new().with(crate::stage::PROVIDER, token),
        ),
    ] {
        let error = logins.map(drop).expect_err(what);
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Configuration, false),
            "{what}"
        );
        assert!(
            error.hint().is_some() && !format!("{error:?}").contains(token),
            "{what}"
        );
    }
    assert_eq!(stage.cognito_calls(), (0, 0));
}

#[tokio::test]
async fn a_provider_that_the_pool_does_not_know_is_a_setting_to_mend_and_costs_nobody_anything() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let before = guest(&provider).await;
    for name in ["accounts.google.com", "login.unknown.example", "login.mycompany.myapp"] {
        provider.switch_to(Login::external(Logins::new().with(name, "opaque-token").unwrap()));
        let error = failure(&provider).await;
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Configuration, false),
            "{name}"
        );
        assert!(
            error.hint().is_some() && !format!("{error:?}").contains("opaque-token"),
            "{name}"
        );
        assert_eq!(guest(&provider).await, before, "{name}");
    }
    assert_eq!(stage.identities().await, 1);
}

#[tokio::test]
async fn a_builder_that_cannot_work_says_what_to_set() {
    let stage = Stage::start().await;
    for pool in ["", "my-pool", "us-east-1:NOT-A-UUID", "us-east-1_AbCdEfGhI"] {
        let built = CognitoCredentialsProvider::builder(pool)
            .configure(&stage.pool.client_config())
            .build();
        assert_eq!(built.expect_err(pool).kind(), ErrorKind::Configuration, "{pool}");
    }
    for namespace in ["", "a/b", "a b"] {
        assert_eq!(
            stage.builder().namespace(namespace).build().unwrap_err().kind(),
            ErrorKind::Configuration
        );
    }
}

#[tokio::test]
async fn a_blank_subject_tells_nobody_apart() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let login = |user| Login::developer(stage.backend(user)).subject(" ");
    let alice = provider.switch_to(login("alice")).ready().await.unwrap();
    let bob = provider.switch_to(login("bob")).ready().await.unwrap();
    assert_eq!(bob.outcome, cognito_identity_pool::client::IdentityOutcome::Created);
    assert_ne!(alice.identity_id, bob.identity_id);
}

/// What is wrong with a store's file, by the test that makes it so.
fn spoil(file: &Path, how: &str) {
    let good = std::fs::read_to_string(file).unwrap();
    std::fs::remove_file(file).unwrap();
    match how {
        "truncated" => std::fs::write(file, &good[..good.len() / 2]).unwrap(),
        "empty" => std::fs::write(file, "").unwrap(),
        "of a newer version" => std::fs::write(file, good.replace("\"version\":1", "\"version\":99")).unwrap(),
        "a directory" => std::fs::create_dir(file).unwrap(),
        #[cfg(unix)]
        "a symbolic link" => {
            let elsewhere = file.with_extension("elsewhere");
            std::fs::write(&elsewhere, good).unwrap();
            std::os::unix::fs::symlink(elsewhere, file).unwrap();
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_store_file_that_is_spoilt_is_an_error_and_never_a_new_guest() {
    for how in [
        "truncated",
        "empty",
        "of a newer version",
        "a directory",
        "a symbolic link",
    ] {
        let stage = Stage::start().await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("identities.json");
        let process = || stage.builder().identity_store(FileStore::new(&file)).build().unwrap();
        let before = guest(&process()).await;
        let good = std::fs::read_to_string(&file)
            .unwrap()
            .split_whitespace()
            .collect::<String>();
        std::fs::write(&file, &good).unwrap();
        spoil(&file, how);
        let provider = process();
        for login in [Login::guest(), Login::developer(stage.backend("alice"))] {
            provider.switch_to(login);
            let error = failure(&provider).await;
            assert_eq!(error.kind(), ErrorKind::Store, "{how}");
            assert!(std::error::Error::source(&error).is_some(), "{how}: it says why");
        }
        assert_eq!(stage.identities().await, 1, "{how}: nothing is minted");
        // Mended, it goes on where it was.
        if file.is_dir() {
            std::fs::remove_dir(&file).unwrap();
        } else {
            std::fs::remove_file(&file).unwrap();
        }
        std::fs::write(&file, &good).unwrap();
        assert_eq!(guest(&process()).await, before, "{how}");
    }
}

/// A store on a disk that is full: what is there can be read.
#[derive(Default)]
struct Full;

#[async_trait]
impl IdentityStore for Full {
    async fn load(&self, _: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
        Ok(None)
    }

    async fn swap(&self, _: &StoreKey, _: Option<&IdentityId>, _: Option<&IdentityId>) -> Result<Swapped, StoreError> {
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
    }
}

#[tokio::test]
async fn a_disk_that_is_full_leaves_the_session_alone() {
    let stage = Stage::start().await;
    let provider = stage.builder().identity_store(Full).build().unwrap();
    let before = guest(&provider).await;
    provider.sign_out();
    assert_eq!(guest(&provider).await, before, "what is in memory goes on");
    let login = Login::developer(stage.backend("alice")).subject("alice");
    let user = provider.switch_to(login).ready().await.unwrap();
    assert_eq!(user.identity_id, before, "and is linked");
    let not_stored = user.not_stored.map(|error| error.kind());
    assert_eq!(not_stored, Some(ErrorKind::Store), "and who signs in is told");
    // Only the one who asks for it to be forgotten has to know that the disk still has it.
    guest(&provider).await;
    assert_eq!(provider.clear_identity().await.unwrap_err().kind(), ErrorKind::Store);
}
