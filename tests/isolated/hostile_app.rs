//! An app whose code does the worst at the worst place: each place has a process to itself, with a deadline, so that a hang is a
//! failure of its own. Whatever the app does, the next user is served, and as nobody else.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_async::time::TimeSource;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, ErrorKind, IdentityId,
    Login, Logins, RefreshRequest, async_trait,
    logins::LoginsProvider,
    refresh::RefreshPolicy,
    store::{IdentityStore, MemoryStore, StoreError, StoreKey, Swapped},
    token::RefreshReason,
};
use futures_util::FutureExt;
use futures_util::future::select;
use tokio::runtime::{Builder, Runtime};

use crate::stage::{Backend, DEADLINE, Stage, google, ours};

const PLACES: [&str; 10] = [
    "hook",
    "drop of a hook's future",
    "drop of a backend",
    "waker",
    "listener",
    "store",
    "time source",
    "closure",
    "log subscriber",
    "logins provider",
];
const RUNTIMES: [&str; 4] = ["current thread", "multi thread", "two", "none"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    SignOut,
    Switch,
    Ask,
    Clear,
    Link,
    DropProvider,
    Panic,
}

const ACTIONS: [Action; 7] = [
    Action::SignOut,
    Action::Switch,
    Action::Ask,
    Action::Clear,
    Action::Link,
    Action::DropProvider,
    Action::Panic,
];

/// What the app's code does wherever it is put, as often as it has shots.
#[derive(Clone)]
struct Hostile(Arc<Inner>);

struct Inner {
    provider: OnceLock<CognitoCredentialsProvider>,
    carol: Arc<Backend>,
    action: Action,
    shots: AtomicUsize,
    fired: AtomicUsize,
}

thread_local! {
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

impl Hostile {
    fn fire(&self) {
        struct Free;
        impl Drop for Free {
            fn drop(&mut self) {
                BUSY.set(false);
            }
        }
        let Some(provider) = self.0.provider.get() else { return };
        if BUSY.get() || std::thread::panicking() {
            return;
        }
        let less = |shots: usize| shots.checked_sub(1);
        if self
            .0
            .shots
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_err()
        {
            return;
        }
        BUSY.set(true);
        let _free = Free;
        self.0.fired.fetch_add(1, Ordering::SeqCst);
        let carol = || Login::developer(Arc::clone(&self.0.carol));
        match self.0.action {
            Action::SignOut => provider.sign_out(),
            Action::Switch => drop(provider.switch_to(carol())),
            Action::Ask => drop(provider.provide_credentials().now_or_never()),
            Action::Clear => provider.clear_credentials(),
            Action::Link => drop(provider.link(carol())),
            Action::DropProvider => drop(provider.clone()),
            Action::Panic => panic!("the app's code panics"),
        }
    }
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hostile")
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        Hostile(self).fire();
    }
}

impl TimeSource for Hostile {
    fn now(&self) -> SystemTime {
        self.fire();
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }
}

/// A backend in which the code is put into the hook, into the drop of its future, or into its own.
struct HostileBackend {
    hostile: Hostile,
    inner: Arc<Backend>,
    place: &'static str,
}

struct FiresOnDrop(Option<Hostile>);

impl Drop for FiresOnDrop {
    fn drop(&mut self) {
        if let Some(hostile) = &self.0 {
            hostile.fire();
        }
    }
}

#[async_trait]
impl DeveloperIdentityProvider for HostileBackend {
    async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let at_drop = self.place == "drop of a hook's future";
        let _fires = FiresOnDrop(at_drop.then(|| self.hostile.clone()));
        if self.place == "hook" {
            self.hostile.fire();
        }
        tokio::task::yield_now().await;
        if at_drop {
            // It is dropped in the middle.
            std::future::pending::<()>().await;
        }
        self.inner.refresh(request).await
    }
}

impl Drop for HostileBackend {
    fn drop(&mut self) {
        if self.place == "drop of a backend" {
            self.hostile.fire();
        }
    }
}

#[async_trait]
impl LoginsProvider for HostileBackend {
    async fn logins(&self, _: RefreshReason) -> Result<Logins, BackendError> {
        self.hostile.fire();
        tokio::task::yield_now().await;
        Err(BackendError::transient("the logins provider does something else"))
    }
}

struct HostileStore(Hostile, MemoryStore);

#[async_trait]
impl IdentityStore for HostileStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
        self.0.fire();
        self.1.load(key).await
    }

    async fn swap(
        &self,
        key: &StoreKey,
        from: Option<&IdentityId>,
        to: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError> {
        self.0.fire();
        self.1.swap(key, from, to).await
    }
}

/// A subscriber that listens to everything, once for the process.
struct HostileSubscriber;

static LISTENS: std::sync::Mutex<Option<Hostile>> = std::sync::Mutex::new(None);

impl tracing::Subscriber for HostileSubscriber {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("cognito_identity_pool")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        let hostile = LISTENS.lock().unwrap().clone();
        if let Some(hostile) = hostile {
            hostile.fire();
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

fn runtime(multi: bool) -> Runtime {
    let mut builder = if multi {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// The timer of an app that has no runtime.
#[derive(Debug)]
struct ThreadSleep;

impl AsyncSleep for ThreadSleep {
    fn sleep(&self, duration: Duration) -> Sleep {
        let (sender, over) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(duration);
            let _ = sender.send(());
        });
        Sleep::new(async move { drop(over.await) })
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `work` to its end: on a runtime, or on this thread alone.
fn drive<T>(runtime: Option<&Runtime>, work: impl Future<Output = T>) -> T {
    if let Some(runtime) = runtime {
        return runtime.block_on(work);
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut work = std::pin::pin!(work);
    loop {
        if let Poll::Ready(output) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

/// One place and one action: what is armed runs its course, then the next user signs in.
fn scenario(place: &'static str, action: Action, kind: &str) {
    let (first, second) = (runtime(kind == "multi thread"), runtime(false));
    let (armed_on, last) = match kind {
        "two" => (Some(&first), Some(&second)),
        "none" => (None, None),
        _ => (Some(&first), Some(&first)),
    };
    let stage = first.block_on(Stage::start());
    let (mut config, mut of_backend) = (
        stage.pool.client_config().into_builder(),
        stage.pool.backend_config().into_builder(),
    );
    if kind == "none" {
        config = config.sleep_impl(ThreadSleep);
        of_backend = of_backend.sleep_impl(ThreadSleep);
    }
    let of_backend = of_backend.build();
    let backend = |user: &str| Backend::of(&of_backend, &stage.pool, user);
    let hostile = Hostile(Arc::new(Inner {
        provider: OnceLock::new(),
        carol: backend("carol"),
        action,
        shots: AtomicUsize::new(0),
        fired: AtomicUsize::new(0),
    }));
    if place == "time source" {
        config = config.time_source(hostile.clone());
    }
    let policy = RefreshPolicy::builder().load_timeout(Duration::from_secs(2)).build();
    let mut builder = CognitoCredentialsProvider::builder(stage.pool.identity_pool_id())
        .configure(&config.build())
        .refresh_policy(policy);
    if place == "store" {
        builder = builder.identity_store(HostileStore(hostile.clone(), MemoryStore::new()));
    }
    if place == "log subscriber" {
        *LISTENS.lock().unwrap() = Some(hostile.clone());
    }
    let provider = builder.build().unwrap();
    assert!(hostile.0.provider.set(provider.clone()).is_ok());

    // What the app's code can do is unwind into the caller that runs it, never into another.
    let armed = async {
        hostile.0.shots.store(3, Ordering::SeqCst);
        let hostile_backend = || HostileBackend {
            hostile: hostile.clone(),
            inner: backend("alice"),
            place,
        };
        let listener = Waker::from(Arc::clone(&hostile.0));
        let mut events = provider.events();
        if place == "listener" {
            let next = std::pin::pin!(events.next());
            assert!(next.poll(&mut Context::from_waker(&listener)).is_pending());
        }
        let login = match place {
            "closure" => {
                let (hostile, inner) = (hostile.clone(), backend("alice"));
                Login::decided_by(move || {
                    hostile.fire();
                    Login::developer(Arc::clone(&inner)).subject("alice")
                })
            }
            "logins provider" => Login::external(hostile_backend()),
            _ => Login::developer(hostile_backend()),
        };
        let session = provider.switch_to(login.subject("alice"));
        if place == "waker" {
            let mut asked = std::pin::pin!(session.provide_credentials());
            drop(asked.as_mut().poll(&mut Context::from_waker(&listener)));
            tokio::task::yield_now().await;
            provider.clear_credentials();
        }
        let wait = ThreadSleep.sleep(Duration::from_millis(300));
        drop(select(provider.provide_credentials(), wait).await);
        let external = provider.switch_to(Login::external(google(&stage.google(), "alice")));
        drop(external.ready().await);
    };
    drop(drive(armed_on, AssertUnwindSafe(armed).catch_unwind()));

    hostile.0.shots.store(0, Ordering::SeqCst);
    drive(last, async {
        let bob = backend("bob").vend(None).await.unwrap().identity_id().clone();
        let session = provider.switch_to(Login::developer(backend("bob")).subject("bob"));
        for _ in 0..3 {
            let credentials = provider.provide_credentials().await.expect("the next user is served");
            let signer = stage.pool.identity_of(credentials.access_key_id());
            assert_eq!(signer.as_deref(), Some(bob.as_str()));
        }
        assert_eq!(session.ready().await.unwrap().identity_id, bob);
        provider.sign_out();
        let error = ours(&provider.provide_credentials().await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::SignedOut);
    });
    println!("fired {} times", hostile.0.fired.load(Ordering::SeqCst));
    *LISTENS.lock().unwrap() = None;
}

/// Runs in a process of its own; does nothing without the place in its environment.
#[test]
fn child() {
    let Ok(place) = std::env::var("HOSTILE_PLACE") else {
        return;
    };
    let kind = std::env::var("HOSTILE_RUNTIME").unwrap();
    let place = PLACES.into_iter().find(|known| *known == place).unwrap();
    if place == "log subscriber" {
        tracing::subscriber::set_global_default(HostileSubscriber).unwrap();
    }
    for action in ACTIONS {
        println!("begins {action:?}");
        scenario(place, action, &kind);
    }
    println!("survived");
}

#[test]
fn whatever_the_app_does_the_next_user_is_served() {
    let this = std::env::current_exe().unwrap();
    let mut failed = Vec::new();
    for place in PLACES {
        for kind in RUNTIMES {
            let mut child = Command::new(&this)
                .args(["--exact", "hostile_app::child", "--nocapture", "--test-threads=1"])
                .envs([
                    ("HOSTILE_PLACE", place),
                    ("HOSTILE_RUNTIME", kind),
                    ("RUST_BACKTRACE", "0"),
                ])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
            let read = |pipe: Box<dyn std::io::Read + Send>| {
                std::thread::spawn(move || BufReader::new(pipe).lines().map_while(Result::ok).collect::<Vec<_>>())
            };
            let (out, err) = (read(Box::new(out)), read(Box::new(err)));
            let (sender, over) = std::sync::mpsc::channel();
            let id = child.id();
            std::thread::spawn(move || drop(sender.send(child.wait())));
            let in_time = over.recv_timeout(DEADLINE);
            if in_time.is_err() {
                drop(Command::new("kill").args(["-9", &id.to_string()]).status());
            }
            let (out, err) = (out.join().unwrap(), err.join().unwrap());
            if !out.iter().any(|line| line == "survived") {
                let last = out.iter().rev().find(|line| line.starts_with("begins"));
                let panic = err.iter().rev().find(|line| !line.is_empty());
                failed.push(format!(
                    "{place}, {kind}: {last:?}, in time: {}, {panic:?}",
                    in_time.is_ok()
                ));
            }
            // A place that is never reached would prove nothing.
            let fired = out
                .iter()
                .filter(|line| line.starts_with("fired"))
                .any(|line| line != "fired 0 times");
            assert!(fired || !failed.is_empty(), "{place}, {kind} was never reached");
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
