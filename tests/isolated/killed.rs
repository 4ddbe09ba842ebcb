//! A process that is killed on its way from guest to user: at each step of its store, and the next process has a guest that works.
//! `KILLED_RUNS` says how often, 48 times unless it is set.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    CognitoCredentialsProvider, IdentityId, LocalIdentityPool, Login, Logins, async_trait,
    client::IdentityPolicy,
    local::LocalClock,
    store::{FileStore, IdentityStore, StoreError, StoreKey, Swapped},
};

use crate::stage::{PROVIDER, Stage, google};

/// Kills the process before or after a step of the store, and says so.
struct Stops {
    inner: FileStore,
    at: usize,
    step: AtomicUsize,
}

impl Stops {
    async fn step(&self) {
        if self.step.fetch_add(1, Ordering::SeqCst) == self.at {
            println!("stopped");
            std::io::stdout().flush().unwrap();
            // At once, and not when somebody has read it: after two seconds a sign-in goes on without its store.
            let this = std::process::id().to_string();
            drop(Command::new("kill").args(["-9", &this]).status());
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl IdentityStore for Stops {
    async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
        self.inner.load(key).await
    }

    async fn swap(
        &self,
        key: &StoreKey,
        from: Option<&IdentityId>,
        to: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError> {
        self.step().await;
        let swapped = self.inner.swap(key, from, to).await;
        self.step().await;
        swapped
    }
}

/// Runs in a process of its own; does nothing without its environment.
#[test]
fn child() {
    let Ok(endpoint) = std::env::var("KILLED_ENDPOINT") else {
        return;
    };
    let var = |name: &str| std::env::var(name).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Stops {
            inner: FileStore::new(var("KILLED_FILE")),
            at: var("KILLED_AT").parse().unwrap(),
            step: AtomicUsize::new(0),
        };
        let provider = CognitoCredentialsProvider::builder(var("KILLED_POOL"))
            .endpoint_url(endpoint)
            .identity_store(Arc::new(store))
            .identity_policy(IdentityPolicy::Fail)
            .login(Login::guest())
            .build()
            .unwrap();
        provider.provide_credentials().await.unwrap();
        let logins = Logins::new().google(var("KILLED_TOKEN")).unwrap();
        provider
            .switch_to(Login::external(logins).subject("user"))
            .ready()
            .await
            .unwrap();
        println!("reported");
        std::io::stdout().flush().unwrap();
        std::future::pending::<()>().await;
    });
}

#[tokio::test]
async fn a_process_that_is_killed_at_any_step_leaves_a_guest_that_works() {
    let clock = LocalClock::at_present();
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .allow_guests(true)
        .time_source(clock.clone())
        .start()
        .await
        .unwrap();
    let stage = Stage::of(pool, clock);
    let issuer = stage.google();
    let mut reported = 0;
    // Five changes are stored: ten steps, and twice past the last.
    let runs = std::env::var("KILLED_RUNS").map_or(48, |runs| runs.parse().unwrap());
    for run in 0..runs {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ids.json");
        let user = format!("user-{run}");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child", "--nocapture", "--test-threads=1"])
            .env("KILLED_ENDPOINT", stage.pool.endpoint_url())
            .env("KILLED_POOL", stage.pool.identity_pool_id())
            .env("KILLED_FILE", &file)
            .env("KILLED_TOKEN", issuer.token(&user))
            .env("KILLED_AT", (run % 12).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let stopped = tokio::task::spawn_blocking(move || {
            let mut lines = out.lines().map_while(Result::ok);
            lines.find(|line| line.ends_with("stopped") || line.ends_with("reported"))
        });
        let stopped = stopped.await.unwrap().expect("the child goes on until it is killed");
        // It may have done it itself.
        drop(child.kill());
        child.wait().unwrap();

        // The next process, in which a guest whose identity is forbidden is not made anew unless the store says why.
        let next = || {
            let builder = stage.builder().identity_store(FileStore::new(&file));
            builder.identity_policy(IdentityPolicy::Fail).build().unwrap()
        };
        let process = next();
        let guest = process.switch_to(Login::guest());
        let known = process.identity_id().await.expect("a guest, or none yet");
        guest
            .provide_credentials()
            .await
            .unwrap_or_else(|error| panic!("run {run}, {stopped}: {error:?}"));
        let id = guest.ready().await.unwrap().identity_id;
        let users = stage
            .provider()
            .switch_to(Login::external(google(&issuer, &user)))
            .ready()
            .await
            .unwrap();
        assert!(
            id != users.identity_id && known != users.identity_id,
            "run {run}: a user's id is no guest's"
        );
        assert_eq!(
            next().switch_to(Login::guest()).ready().await.unwrap().identity_id,
            id,
            "run {run}"
        );
        reported += usize::from(stopped.ends_with("reported"));
    }
    assert!(
        reported > 0 && reported < runs,
        "{reported}: steps before the report, and the report itself"
    );
}
