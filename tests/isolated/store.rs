//! Identity stores: what a file looks like after a kill, between two processes and on a full disk, and what is refused.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cognito_identity_pool::{
    Error, ErrorKind, IdentityId, IdentityPoolId,
    store::{FileStore, IdentityStore, MemoryStore, StoreKey, Swapped},
};

// The example is held to the same contract.
#[allow(dead_code, reason = "its main is a test here")]
#[path = "../../examples/keychain_store.rs"]
mod keychain_store;

use keychain_store::KeychainStore;

fn keychain() -> Arc<keyring_core::mock::Store> {
    keyring_core::mock::Store::new().unwrap()
}

fn pool() -> IdentityPoolId {
    IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd").unwrap()
}

fn guest() -> StoreKey {
    StoreKey::guest(&pool(), "test").unwrap()
}

fn subject(n: usize) -> StoreKey {
    StoreKey::subject(&pool(), "test", &format!("user-{n}")).unwrap()
}

fn id(n: usize) -> IdentityId {
    IdentityId::new(format!("us-east-1:00000000-0000-0000-0000-{n:012x}")).unwrap()
}

async fn load(store: &dyn IdentityStore, key: &StoreKey) -> Option<IdentityId> {
    store.load(key).await.map_err(Error::from).unwrap()
}

async fn swap(
    store: &dyn IdentityStore,
    key: &StoreKey,
    expected: Option<&IdentityId>,
    new: Option<&IdentityId>,
) -> Swapped {
    store.swap(key, expected, new).await.map_err(Error::from).unwrap()
}

/// Fills an empty slot.
async fn put(store: &dyn IdentityStore, key: &StoreKey, id: &IdentityId) {
    assert_eq!(swap(store, key, None, Some(id)).await, Swapped::Yes);
}

/// What every store has to do.
async fn keeps_the_contract(store: &dyn IdentityStore) {
    let (one, two) = (id(1), id(2));
    assert_eq!(load(store, &guest()).await, None);
    assert_eq!(swap(store, &guest(), None, None).await, Swapped::Yes);
    assert_eq!(swap(store, &guest(), None, Some(&one)).await, Swapped::Yes);
    assert_eq!(load(store, &guest()).await, Some(one.clone()));
    assert_eq!(load(store, &subject(1)).await, None, "each key has a slot of its own");

    for (expected, new) in [
        (None, Some(&two)),
        (Some(&two), Some(&one)),
        (None, None),
        (Some(&two), None),
    ] {
        let lost = Swapped::No {
            current: Some(one.clone()),
        };
        assert_eq!(swap(store, &guest(), expected, new).await, lost);
        assert_eq!(
            load(store, &guest()).await,
            Some(one.clone()),
            "who loses changes nothing"
        );
    }

    assert_eq!(swap(store, &subject(1), None, Some(&one)).await, Swapped::Yes);
    assert_eq!(swap(store, &guest(), Some(&one), Some(&one)).await, Swapped::Yes);
    assert_eq!(swap(store, &guest(), Some(&one), Some(&two)).await, Swapped::Yes);
    assert_eq!(swap(store, &guest(), Some(&two), None).await, Swapped::Yes);
    assert_eq!(load(store, &guest()).await, None);
    assert_eq!(load(store, &subject(1)).await, Some(one.clone()));
    let lost = swap(store, &guest(), Some(&two), Some(&one)).await;
    assert_eq!(lost, Swapped::No { current: None });
}

#[tokio::test]
async fn every_store_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    keeps_the_contract(&MemoryStore::new()).await;
    keeps_the_contract(&FileStore::new(directory.path().join("ids.json"))).await;
    keeps_the_contract(&KeychainStore::new(keychain(), "app")).await;
    let pointed_to: Box<dyn IdentityStore> = Box::new(Arc::new(MemoryStore::new()));
    keeps_the_contract(&pointed_to).await;
}

#[test]
fn a_file_store_needs_no_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::new(directory.path().join("ids.json"));
    let mut done = Box::pin(keeps_the_contract(&store));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(
        done.as_mut().poll(&mut context).is_ready(),
        "without a runtime nothing is waited for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_tasks_that_fill_an_empty_slot_one_wins_and_all_others_hear_whom_to_follow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.json");
    let stores: [Arc<dyn IdentityStore>; 3] = [
        Arc::new(MemoryStore::new()),
        Arc::new(KeychainStore::new(keychain(), "app")),
        // Two handles on one file, as two parts of an app would have.
        Arc::new(FileStore::new(path)),
    ];
    for store in stores {
        let tasks = (0..16).map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                match swap(&*store, &guest(), None, Some(&id(n))).await {
                    Swapped::Yes => (true, id(n)),
                    Swapped::No { current } => (false, current.unwrap()),
                }
            })
        });
        let mut winners = 0;
        let mut adopted = BTreeSet::new();
        for task in tasks.collect::<Vec<_>>() {
            let (won, id) = task.await.unwrap();
            winners += usize::from(won);
            adopted.insert(id);
        }
        assert_eq!((winners, adopted.len()), (1, 1));
        assert_eq!(load(&*store, &guest()).await, adopted.pop_first());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_different_slots_do_not_undo_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.json");
    let tasks = (0..20).map(|n| {
        let store = FileStore::new(&path);
        tokio::spawn(async move { swap(&store, &subject(n), None, Some(&id(n))).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap(), Swapped::Yes);
    }
    for n in 0..20 {
        assert_eq!(load(&FileStore::new(&path), &subject(n)).await, Some(id(n)));
    }
}

/// A keychain before the device was first unlocked: iOS's SDK took it for empty, and minted a new guest.
#[tokio::test]
async fn a_locked_keychain_is_not_an_absent_identity() {
    let keychain = keychain();
    let store = KeychainStore::new(Arc::clone(&keychain) as _, "app");
    put(&store, &guest(), &id(1)).await;
    let lock = || {
        let entry =
            keyring_core::api::CredentialStoreApi::build(&*keychain, "app", &guest().to_string(), None).unwrap();
        let held: &keyring_core::mock::Cred = entry.as_any().downcast_ref().unwrap();
        held.set_error(keyring_core::Error::NoStorageAccess("the device is locked".into()));
    };
    lock();
    let error = Error::from(store.load(&guest()).await.unwrap_err());
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
    lock();
    assert!(store.swap(&guest(), None, Some(&id(2))).await.is_err());
    assert_eq!(load(&store, &guest()).await, Some(id(1)));
}

#[test]
fn the_example_finds_its_guest_again() {
    keychain_store::main().unwrap();
}

// ---- files that are no store ----

/// Both operations are refused for the given reason, and what is there stays as it is.
async fn is_refused(path: &Path, reason: &str, passes: bool) {
    let store = FileStore::new(path);
    let before = std::fs::read(path).ok();
    let loaded = store.load(&guest()).await.map(drop);
    let swapped = store.swap(&guest(), None, Some(&id(1))).await.map(drop);
    for outcome in [loaded, swapped] {
        let error = Error::from(outcome.unwrap_err());
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains(reason), "{why}");
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Store, passes),
            "{why}"
        );
    }
    assert_eq!(std::fs::read(path).ok(), before, "nothing is lost");
}

#[tokio::test]
async fn a_damaged_file_is_never_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.json");
    put(&FileStore::new(&path), &guest(), &id(1)).await;
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        is_refused(&path, "is truncated", false).await;
    }
    for damaged in [
        "null",
        "[]",
        "not JSON",
        r#"{"version":0}"#,
        r#"{"version":1}"#,
        r#"{"version":1,"identities":{},"tokens":{}}"#,
        r#"{"version":1,"identities":{"k":"no id, but secret"}}"#,
        r#"{"version":1,"identities":"us-east-1:secret"}"#,
        "{\"version\":1,\"identities\":{}}\0\0\0",
    ] {
        std::fs::write(&path, damaged).unwrap();
        is_refused(&path, "is damaged", false).await;
        let error = FileStore::new(&path).load(&guest()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    std::fs::write(&path, [0xFF, 0xFE]).unwrap();
    is_refused(&path, "cannot be read", true).await;
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.json");
    std::fs::write(&path, r#"{"version":2,"slots":[{"id":"us-east-1:0b1c2d3e"}]}"#).unwrap();
    is_refused(&path, "newer version", false).await;
}

#[tokio::test]
async fn a_directory_or_a_missing_directory_is_not_an_absent_identity() {
    let directory = tempfile::tempdir().unwrap();
    is_refused(directory.path(), "is a directory", false).await;
    is_refused(
        &directory.path().join("unmounted").join("ids.json"),
        "does not exist",
        true,
    )
    .await;
}

#[tokio::test]
async fn a_file_larger_than_any_store_is_not_read_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.json");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(17 * 1024 * 1024).unwrap();
    let error = FileStore::new(&path).load(&guest()).await.unwrap_err();
    assert!(error.to_string().contains("16 MiB"), "{error}");
}

/// Memory of this very process: a regular file that can be opened, and of which the first page cannot be read.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_unreadable_file_is_an_error() {
    let error = FileStore::new("/proc/self/mem").load(&guest()).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert!(Error::from(error).is_retryable());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[tokio::test]
    async fn symbolic_links_are_not_followed_wherever_they_are_put() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("ids.json"), directory.path().join("victim"));
        std::fs::write(&victim, r#"{"version":1,"identities":{}}"#).unwrap();
        let untouched = std::fs::read(&victim).unwrap();

        symlink(&victim, &path).unwrap();
        is_refused(&path, "symbolic link", false).await;
        std::fs::remove_file(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        is_refused(&path, "symbolic link", false).await;
        std::fs::remove_file(&path).unwrap();

        // Under the name of the temporary file: it is the link that goes.
        symlink(&victim, directory.path().join("ids.json.tmp")).unwrap();
        put(&FileStore::new(&path), &guest(), &id(1)).await;
        assert_eq!(load(&FileStore::new(&path), &guest()).await, Some(id(1)));

        // Under the name of the lock.
        let lock = directory.path().join("ids.json.lock");
        std::fs::remove_file(&lock).unwrap();
        symlink(&victim, &lock).unwrap();
        let error = FileStore::new(&path)
            .swap(&guest(), Some(&id(1)), None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(load(&FileStore::new(&path), &guest()).await, Some(id(1)));
        assert_eq!(std::fs::read(&victim).unwrap(), untouched);
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_the_directory_is_not_an_absent_identity() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        is_refused(
            &directory.path().join("file").join("ids.json"),
            "cannot be opened",
            true,
        )
        .await;
    }

    #[tokio::test]
    async fn a_pipe_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ids.json");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = FileStore::new(&path).load(&guest()).await.unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[tokio::test]
    async fn the_files_are_the_owners_alone_whatever_they_were_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ids.json");
        std::fs::write(&path, r#"{"version":1,"identities":{}}"#).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        put(&FileStore::new(&path), &guest(), &id(1)).await;
        for name in ["ids.json", "ids.json.lock"] {
            let mode = directory.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(
            std::fs::read_dir(&directory).unwrap().count(),
            2,
            "no temporary file is left"
        );
    }

    /// The limit on the size of a file stands for the full disk: the write of the temporary file fails half-way.
    #[tokio::test]
    async fn a_full_disk_is_an_error_and_the_old_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ids.json");
        let store = FileStore::new(&path);
        for n in 0..20 {
            put(&store, &subject(n), &id(n)).await;
        }
        let before = std::fs::read(&path).unwrap();
        assert!(before.len() > 1024, "larger than the limit below");

        // Ignored, the signal of the limit leaves the error of the write.
        let limited = ["sh", "-c", r#"trap "" XFSZ; ulimit -f 1; exec "$@""#, "sh"];
        let mut child = spawn(&limited, "full_disk", &path);
        let said: Vec<_> = lines(&mut child).collect();
        assert!(child.wait().unwrap().success(), "{said:?}");
        assert!(said.iter().any(|line| line.contains("cannot be written")), "{said:?}");

        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(
            std::fs::read_dir(&directory).unwrap().count(),
            2,
            "no temporary file is left"
        );
        assert_eq!(swap(&store, &guest(), None, Some(&id(99))).await, Swapped::Yes);
    }
}

// ---- other processes ----

/// Runs [`child`] in a process of its own.
fn spawn(prefix: &[&str], role: &str, path: &Path) -> Child {
    let this = std::env::current_exe().unwrap();
    let mut command = match prefix {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
    };
    command
        .args(["--exact", "store::child", "--nocapture"])
        .env("STORE_CHILD", role)
        .env("STORE_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it says: on its standard error, as the test harness writes to the standard output.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap)
}

/// The other process of the tests here. By itself it does nothing.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var("STORE_CHILD") else { return };
    let store = FileStore::new(std::env::var("STORE_PATH").unwrap());
    match &*role {
        "writes" => {
            let mut current = load(&store, &guest()).await.unwrap();
            for n in 1..=1_000 {
                let next = id(1 + n % 2);
                assert_eq!(swap(&store, &guest(), Some(&current), Some(&next)).await, Swapped::Yes);
                current = next;
                eprintln!("{n}");
            }
        }
        "mints" => {
            // Both are ready before either starts.
            eprintln!("ready");
            std::io::stdin().read_line(&mut String::new()).unwrap();
            for n in 0..ROUNDS {
                let found = load(&store, &subject(n)).await;
                let (minted, adopted) = match found {
                    Some(found) => (false, found),
                    None => {
                        let mine = id(std::process::id() as usize * 1_000 + n);
                        match swap(&store, &subject(n), None, Some(&mine)).await {
                            Swapped::Yes => (true, mine),
                            Swapped::No { current } => (true, current.unwrap()),
                        }
                    }
                };
                eprintln!("{minted} {adopted}");
            }
        }
        "full_disk" => {
            let error = store.swap(&guest(), None, Some(&id(99))).await.unwrap_err();
            assert_eq!(load(&store, &subject(0)).await, Some(id(0)));
            eprintln!("{error}");
        }
        other => panic!("no such role: {other}"),
    }
}

const ROUNDS: usize = 100;

/// Killed at points spread over 1000 writes, and each time anywhere within a write.
#[tokio::test]
async fn a_kill_leaves_one_of_the_two_states() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.json");
    let store = FileStore::new(&path);
    let others = 50;
    for n in 0..others {
        put(&store, &subject(n), &id(n)).await;
    }
    put(&store, &guest(), &id(1)).await;

    for writes in [1, 2, 3, 10, 100, 300, 999] {
        let mut child = spawn(&[], "writes", &path);
        let reached = lines(&mut child).any(|line| line == writes.to_string());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(reached, "the child came to its {writes}th write");

        let left = load(&store, &guest()).await.unwrap();
        assert!(left == id(1) || left == id(2), "{left}");
        for n in 0..others {
            assert_eq!(load(&store, &subject(n)).await, Some(id(n)));
        }
        // Neither the lock nor a temporary file of the dead is in the way.
        assert_eq!(swap(&store, &guest(), Some(&left), Some(&id(1))).await, Swapped::Yes);
    }
}

#[test]
fn two_processes_at_once_mint_at_most_one_orphan_and_agree() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids.json");
    let mut children = [(); 2].map(|()| spawn(&[], "mints", &path));
    let mut said = children.each_mut().map(lines);
    for lines in &mut said {
        assert_eq!(lines.find(|line| line == "ready").as_deref(), Some("ready"));
    }
    for child in &mut children {
        // Closing its input lets it go.
        drop(child.stdin.take());
    }
    let said =
        said.map(|lines| lines.map(|line| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap()));
    let [mine, theirs] = said.map(Iterator::collect::<Vec<_>>);
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!((mine.len(), theirs.len()), (ROUNDS, ROUNDS));
    for ((mine_minted, mine), (theirs_minted, theirs)) in mine.iter().zip(&theirs) {
        assert_eq!(mine, theirs, "both go on with the same identity");
        assert!(mine_minted == "true" || theirs_minted == "true", "somebody minted it");
    }
}
