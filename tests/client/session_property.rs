//! Random lives of a device, against the local pool: whatever the order of sign-ins, refusals, outages and clears,
//! nothing is signed by anybody else, no guest is minted beside another one, and no identity is lost to an error.
//!
//! `PROPTEST_CASES=10000 cargo test --all-features --test client lives_of_a_device -- --nocapture` tries more than the 1,500 of a
//! plain `cargo test`, and prints how often each thing happened.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stage::script::{Act, Script};
use crate::stage::{Backend, PROVIDER, Stage, ours, sequences};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, Error, ErrorKind,
    IdentityId, Login, Logins, RefreshRequest, async_trait,
    store::{IdentityStore, MemoryStore, StoreError, StoreKey, Swapped},
    token::RefreshReason,
};
use futures_util::FutureExt;
use proptest::prelude::*;

const THREADS: u8 = 2;
/// Unless `PROPTEST_CASES` says otherwise.
const SEQUENCES: u32 = 1_500;
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const EXCHANGE: &str = "GetCredentialsForIdentity";

#[derive(Clone, Copy, Debug)]
enum Action {
    SignIn(usize),
    External(usize),
    Guest,
    Link(usize),
    SignOut,
    ClearCredentials,
    ClearIdentity,
    Expire,
    Wait(u16),
    Use,
    AskId,
    Refresh,
    Invalidate,
    Refuse(usize),
    Throttle,
    Outage,
    /// Asks for credentials and goes away half-way.
    DropCall,
    /// Asks for credentials, and waits for them after the next action only.
    Meanwhile,
    BackendFails,
    BackendSignedOut,
    StoreFails(bool),
    DeleteAtPool,
    MergeAtPool(usize, usize),
}

const REFUSALS: [(&str, &str); 9] = [
    ("NotAuthorizedException", "Invalid login token. Token expired: 2 >= 1"),
    (
        "NotAuthorizedException",
        "Invalid login token. Couldn't verify signed token.",
    ),
    (
        "NotAuthorizedException",
        "Unauthenticated access is not supported for this identity pool.",
    ),
    (
        "NotAuthorizedException",
        "Logins don't match. Please include at least one valid login",
    ),
    ("NotAuthorizedException", "Words that nobody has seen yet"),
    (
        "InvalidIdentityPoolConfigurationException",
        "Invalid identity pool configuration.",
    ),
    ("ResourceConflictException", "Login is already linked"),
    ("InvalidParameterException", "Something is wrong"),
    ("ExternalServiceException", "x"),
];

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (0..3usize).prop_map(Action::SignIn),
        3 => (0..3usize).prop_map(Action::External),
        4 => Just(Action::Guest),
        1 => (0..3usize).prop_map(Action::Link),
        2 => Just(Action::SignOut),
        1 => Just(Action::ClearCredentials),
        1 => Just(Action::ClearIdentity),
        2 => Just(Action::Expire),
        2 => (1..1_000u16).prop_map(Action::Wait),
        6 => Just(Action::Use),
        2 => Just(Action::AskId),
        1 => Just(Action::Refresh),
        1 => Just(Action::Invalidate),
        3 => (0..REFUSALS.len()).prop_map(Action::Refuse),
        1 => Just(Action::Throttle),
        1 => Just(Action::Outage),
        1 => Just(Action::DropCall),
        2 => Just(Action::Meanwhile),
        1 => Just(Action::BackendFails),
        1 => Just(Action::BackendSignedOut),
        1 => any::<bool>().prop_map(Action::StoreFails),
        1 => Just(Action::DeleteAtPool),
        1 => (0..3usize, 0..3usize).prop_map(|(a, b)| Action::MergeAtPool(a, b)),
    ]
}

/// Who is signed in, or has proven to be by what Cognito was shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Who {
    Nobody,
    Guest,
    User(&'static str),
    External(&'static str),
}

impl Who {
    fn kind(&self) -> &'static str {
        match self {
            Self::Nobody => "out",
            Self::Guest => "guest",
            Self::User(_) => "user",
            Self::External(_) => "external",
        }
    }
}

#[derive(Default)]
struct Store {
    inner: MemoryStore,
    fails: AtomicBool,
}

impl Store {
    fn check(&self) -> Result<(), StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            Err(StoreError::new("locked"))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl IdentityStore for Store {
    async fn load(&self, key: &StoreKey) -> Result<Option<IdentityId>, StoreError> {
        self.check()?;
        self.inner.load(key).await
    }

    async fn swap(
        &self,
        key: &StoreKey,
        from: Option<&IdentityId>,
        to: Option<&IdentityId>,
    ) -> Result<Swapped, StoreError> {
        self.check()?;
        self.inner.swap(key, from, to).await
    }
}

/// What a thread's sequences have in common: a pool, and tokens that are good for a day.
struct World {
    stage: Stage,
    issuer: cognito_identity_pool::local::LocalIssuer,
    admin: aws_sdk_cognitoidentity::Client,
    backends: Vec<Arc<Backend>>,
    vended: Mutex<HashMap<String, (DeveloperIdentity, std::time::SystemTime)>>,
    lives: AtomicUsize,
    tokens: Mutex<HashMap<&'static str, (String, std::time::SystemTime)>>,
}

impl World {
    async fn new() -> Arc<Self> {
        let stage = Stage::start().await;
        Arc::new(Self {
            issuer: stage.google(),
            admin: aws_sdk_cognitoidentity::Client::new(&stage.pool.backend_config()),
            backends: USERS.iter().map(|user| stage.backend(user)).collect(),
            vended: Mutex::default(),
            lives: AtomicUsize::new(0),
            stage,
            tokens: Mutex::default(),
        })
    }

    fn now(&self) -> std::time::SystemTime {
        use aws_smithy_async::time::TimeSource;
        self.stage.clock.now()
    }

    fn google(&self, user: &'static str) -> Logins {
        let (now, day) = (self.now(), Duration::from_secs(86_400));
        let mut tokens = self.tokens.lock().unwrap();
        let cached = tokens.entry(user).or_insert_with(|| (String::new(), now));
        if cached.1 < now + Duration::from_secs(600) {
            *cached = (self.issuer.token_for(user).lifetime(day).issue(), now + day);
        }
        Logins::new().google(cached.0.clone()).unwrap()
    }
}

/// The app's backend: vends, remembers a token for a day, and fails when it is told to.
struct Vends {
    world: Arc<World>,
    backend: Arc<Backend>,
    fail: Arc<Mutex<Option<BackendError>>>,
    offered: Arc<Mutex<HashSet<String>>>,
    at_once: AtomicUsize,
}

#[async_trait]
impl DeveloperIdentityProvider for Vends {
    async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        assert_eq!(
            self.at_once.fetch_add(1, Ordering::SeqCst),
            0,
            "the hook is called one at a time"
        );
        let result = self.answer(request).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

impl Vends {
    async fn answer(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        if let Some(guest) = request.guest_to_link() {
            self.offered.lock().unwrap().insert(guest.as_str().to_owned());
        }
        if let Some(error) = self.fail.lock().unwrap().take() {
            return Err(error);
        }
        let (now, day) = (self.world.now(), Duration::from_secs(86_400));
        let cached = self.world.vended.lock().unwrap().get(&self.backend.user).cloned();
        if let Some((identity, until)) = cached
            && request.guest_to_link().is_none()
            && request.reason() != RefreshReason::TokenRejected
            && until > now + Duration::from_secs(600)
        {
            return Ok(identity);
        }
        let identity = self.backend.vend(request.guest_to_link()).await?;
        let mut vended = self.world.vended.lock().unwrap();
        vended.insert(self.backend.user.clone(), (identity.clone(), now + day));
        drop(vended);
        Ok(identity)
    }
}

struct Life {
    world: Arc<World>,
    script: Script,
    store: Arc<Store>,
    provider: CognitoCredentialsProvider,
    users: Vec<Arc<Vends>>,
    fail: Arc<Mutex<Option<BackendError>>>,
    offered: Arc<Mutex<HashSet<String>>>,
    who: Who,
    last: Option<Credentials>,
    pending: Option<(
        Who,
        tokio::task::JoinHandle<Result<Credentials, aws_credential_types::provider::error::CredentialsError>>,
    )>,
    deleted: HashSet<String>,
    cleared: HashSet<String>,
    counts: Counts,
}

type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

impl Life {
    fn new(world: &Arc<World>, counts: &Counts) -> Self {
        let (script, store) = (Script::new(&world.stage), Arc::new(Store::default()));
        let (fail, offered) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(HashSet::new())));
        let vends = |backend: &Arc<Backend>| {
            backend.token_seconds.store(86_400, Ordering::SeqCst);
            Arc::new(Vends {
                world: Arc::clone(world),
                backend: Arc::clone(backend),
                fail: Arc::clone(&fail),
                offered: Arc::clone(&offered),
                at_once: AtomicUsize::new(0),
            })
        };
        Self {
            provider: script
                .builder(&world.stage)
                .identity_store(Arc::clone(&store))
                .build()
                .unwrap(),
            users: world.backends.iter().map(vends).collect(),
            world: Arc::clone(world),
            script,
            store,
            fail,
            offered,
            who: Who::Nobody,
            last: None,
            pending: None,
            deleted: HashSet::new(),
            cleared: HashSet::new(),
            counts: Arc::clone(counts),
        }
    }

    fn count(&self, what: String) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn login(&self, who: &Who) -> Login {
        let of = |name: &str| USERS.iter().position(|user| *user == name).unwrap();
        match who {
            Who::Nobody => Login::signed_out(),
            Who::Guest => Login::guest(),
            Who::User(name) => Login::developer(Arc::clone(&self.users[of(name)])).subject(*name),
            Who::External(name) => {
                let world = Arc::clone(&self.world);
                let name = USERS[of(name)];
                let logins = cognito_identity_pool::logins::logins_fn(move |_| {
                    futures_util::future::ready(Ok(world.google(name)))
                });
                Login::external(logins).subject(format!("google/{name}"))
            }
        }
    }

    /// Whom Cognito was shown when it gave these credentials out.
    fn proven(&self, credentials: &Credentials) -> Who {
        let shown = self.script.exchange_of(credentials.access_key_id(), |exchange| {
            let (provider, token) = exchange.request["Logins"].as_object()?.iter().next()?;
            Some((provider.clone(), token.as_str()?.to_owned()))
        });
        let Some((provider, token)) = shown else {
            return Who::Guest;
        };
        let payload = token.split('.').nth(1).unwrap();
        let claims = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let named = |text: &str| USERS.iter().copied().find(|user| text.ends_with(user));
        if provider == Logins::GOOGLE {
            return Who::External(named(claims["sub"].as_str().unwrap()).unwrap());
        }
        let amr = claims["amr"].as_array().unwrap();
        let user = amr
            .iter()
            .find(|entry| entry.as_str().unwrap().starts_with(&format!("{PROVIDER}:")));
        Who::User(named(user.unwrap().as_str().unwrap()).unwrap())
    }

    fn switch(&mut self, to: Who) {
        self.count(format!("{} -> {}", self.who.kind(), to.kind()));
        self.provider.switch_to(self.login(&to));
        self.who = to;
    }

    fn check(&mut self, result: Result<Credentials, aws_credential_types::provider::error::CredentialsError>) {
        match result {
            Ok(credentials) => {
                assert_eq!(self.proven(&credentials), self.who, "signed by the login in force");
                self.last = Some(credentials);
                self.count(format!("{} served", self.who.kind()));
            }
            Err(error) => {
                let error = ours(&error);
                if self.who == Who::Nobody {
                    assert_eq!(error.kind(), ErrorKind::SignedOut);
                } else {
                    assert_ne!(error.kind(), ErrorKind::SessionEnded, "nothing has ended");
                }
                self.count(format!("{} {:?}", self.who.kind(), error.kind()));
            }
        }
    }

    async fn resolve_pending(&mut self) {
        let Some((who, task)) = self.pending.take() else { return };
        match task.await.unwrap() {
            Ok(credentials) => assert_eq!(
                self.proven(&credentials),
                who,
                "begun by the one, never signed by the other"
            ),
            Err(error) => self.count(format!("waited, {:?}", ours(&error).kind())),
        }
    }

    async fn act(&mut self, action: Action) {
        let provider = self.provider.clone();
        match action {
            Action::SignIn(user) => self.switch(Who::User(USERS[user])),
            Action::External(user) => self.switch(Who::External(USERS[user])),
            Action::Guest => self.switch(Who::Guest),
            Action::SignOut => self.switch(Who::Nobody),
            Action::Link(user) => {
                let to = if matches!(self.who, Who::User(_)) {
                    Who::User(USERS[user])
                } else {
                    Who::External(USERS[user])
                };
                self.count(format!("{} linked to {}", self.who.kind(), to.kind()));
                self.provider.link(self.login(&to));
                self.who = to;
            }
            Action::ClearCredentials => provider.clear_credentials(),
            Action::ClearIdentity => {
                // Where the store fails, the id is forgotten in memory, or not at all.
                let guests = if self.who == Who::Guest {
                    self.minted()
                } else {
                    Vec::new()
                };
                self.cleared.extend(guests);
                if let Err(error) = provider.clear_identity().await {
                    assert_eq!(error.kind(), ErrorKind::Store);
                }
            }
            Action::Expire => self.world.stage.clock.advance(Duration::from_secs(3_600)),
            Action::Wait(seconds) => self.world.stage.clock.advance(Duration::from_secs(seconds.into())),
            Action::Use => {
                let result = provider.provide_credentials().await;
                self.check(result);
            }
            Action::AskId => {
                if let Err(error) = provider.identity_id().await {
                    self.count(format!("{} {:?}", self.who.kind(), error.kind()));
                }
            }
            Action::Refresh => {
                if let Err(error) = provider.refresh_now().await {
                    self.count(format!("{} {:?}", self.who.kind(), error.kind()));
                }
            }
            Action::Invalidate => {
                if let Some(credentials) = &self.last {
                    provider.invalidate(credentials);
                }
            }
            Action::Refuse(n) => self.script.refuse(EXCHANGE, REFUSALS[n].0, REFUSALS[n].1),
            Action::Throttle => (0..3).for_each(|_| {
                self.script
                    .refuse(EXCHANGE, "TooManyRequestsException", "Rate exceeded")
            }),
            Action::Outage => (0..3).for_each(|_| self.script.next(EXCHANGE, Act::Break)),
            Action::DropCall => drop(provider.provide_credentials().now_or_never()),
            Action::Meanwhile => {
                let task = tokio::spawn(async move { provider.provide_credentials().await });
                tokio::task::yield_now().await;
                self.pending = Some((self.who.clone(), task));
                return;
            }
            Action::BackendFails => *self.fail.lock().unwrap() = Some(BackendError::transient("down")),
            Action::BackendSignedOut => *self.fail.lock().unwrap() = Some(BackendError::signed_out()),
            Action::StoreFails(fails) => self.store.fails.store(fails, Ordering::SeqCst),
            Action::DeleteAtPool => {
                if let Some(id) = self.last.as_ref().and_then(|credentials| self.identity_of(credentials)) {
                    let request = self.world.admin.delete_identities().identity_ids_to_delete(&id);
                    request.send().await.unwrap();
                    self.deleted.insert(id);
                }
            }
            Action::MergeAtPool(from, into) => {
                let request = self.world.admin.merge_developer_identities();
                let request = request.identity_pool_id(self.world.stage.pool.identity_pool_id());
                let request = request.developer_provider_name(PROVIDER);
                let request = request
                    .source_user_identifier(USERS[from])
                    .destination_user_identifier(USERS[into]);
                // Refused where one of them has not been seen yet.
                drop(request.send().await);
            }
        }
        self.resolve_pending().await;
    }

    fn identity_of(&self, credentials: &Credentials) -> Option<String> {
        self.script.exchange_of(credentials.access_key_id(), |exchange| {
            exchange.answer["IdentityId"].as_str().map(str::to_owned)
        })
    }

    /// The guests that were made for this device, in order.
    fn minted(&self) -> Vec<String> {
        self.script.answered(|answered| {
            let guests = answered
                .iter()
                .filter(|answered| answered.operation == "GetId" && !shows_logins(&answered.request));
            guests
                .filter_map(|answered| answered.answer["IdentityId"].as_str().map(str::to_owned))
                .collect()
        })
    }

    /// The guests that are guests no more, or that nobody can tell of: shown for linking, refused as gone, or cleared.
    fn gone(&self) -> HashSet<String> {
        let id = |request: &serde_json::Value| request["IdentityId"].as_str().map(str::to_owned);
        let mut gone: HashSet<String> = self.offered.lock().unwrap().union(&self.cleared).cloned().collect();
        let seen = self.script.seen();
        gone.extend(
            seen.iter()
                .filter(|(_, request)| shows_logins(request))
                .filter_map(|(_, request)| id(request)),
        );
        self.script.answered(|answered| {
            let refused = |answered: &&crate::stage::script::Answered| {
                let said = answered.answer["message"].as_str().unwrap_or_default();
                said.contains("not found") || said.contains("forbidden")
            };
            gone.extend(
                answered
                    .iter()
                    .filter(refused)
                    .filter_map(|answered| id(&answered.request)),
            );
        });
        gone
    }

    /// What must hold at the end of a life, and that it can go on.
    async fn end(&mut self) {
        self.resolve_pending().await;
        for (operation, request) in self.script.seen() {
            let cognito = |key: &String| key.starts_with("cognito-identity");
            let keys = request["Logins"].as_object();
            if operation == "GetId" {
                assert!(
                    !keys.is_some_and(|keys| keys.keys().any(cognito)),
                    "never GetId with a developer token"
                );
            }
        }
        let (minted, gone) = (self.minted(), self.gone());
        for guest in minted.iter().rev().skip(1) {
            assert!(gone.contains(guest), "minted although {guest} was there: {minted:?}");
        }
        // Whatever went wrong, the next legitimate sign-in works, and finds who it was.
        self.script.forget_acts();
        *self.fail.lock().unwrap() = None;
        self.store.fails.store(false, Ordering::SeqCst);
        self.world.stage.clock.advance(Duration::from_secs(120));
        if let Some(guest) = minted
            .last()
            .filter(|guest| !gone.contains(*guest) && !self.deleted.contains(*guest))
        {
            self.switch(Who::Guest);
            let signed_in = self.provider.session().ready().await.unwrap();
            assert_eq!(signed_in.identity_id.as_str(), guest, "the guest was lost");
        }
        let next = [Who::User("alice"), Who::External("bob"), Who::Guest];
        let who = next[self.world.lives.fetch_add(1, Ordering::Relaxed) % next.len()].clone();
        self.switch(who.clone());
        let ready: Result<_, Error> = self.provider.session().ready().await;
        ready.unwrap_or_else(|error| panic!("{who:?} cannot sign in: {error:?}"));
        let credentials = self.provider.provide_credentials().await;
        self.check(credentials);
    }
}

fn shows_logins(request: &serde_json::Value) -> bool {
    request["Logins"].as_object().is_some_and(|logins| !logins.is_empty())
}

fn run(thread: u8, counts: &Counts) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(World::new());
    let actions = AtomicUsize::new(0);
    let lives = proptest::collection::vec(action(), 20..=22);
    sequences(thread, THREADS, SEQUENCES)
        .run(&lives, |sequence| {
            actions.fetch_add(sequence.len(), Ordering::Relaxed);
            runtime.block_on(async {
                let mut life = Life::new(&world, counts);
                let limit = crate::stage::DEADLINE;
                for action in sequence {
                    let done = tokio::time::timeout(limit, life.act(action)).await;
                    done.unwrap_or_else(|_| panic!("{action:?} takes for ever"));
                }
                tokio::time::timeout(limit, life.end()).await.unwrap();
            });
            Ok(())
        })
        .unwrap();
    actions.load(Ordering::Relaxed) as u64
}

#[test]
fn lives_of_a_device() {
    let counts = Counts::default();
    let actions: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let counts = &counts;
                scope.spawn(move || run(thread, counts))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let counts = counts.lock().unwrap();
    println!("{actions} actions");
    for (what, count) in counts.iter() {
        println!("{count:>8}  {what}");
    }
    for from in ["out", "guest", "user", "external"] {
        for to in ["out", "guest", "user", "external"] {
            assert!(
                counts.contains_key(&format!("{from} -> {to}")),
                "{from} -> {to} was not tried"
            );
        }
    }
}
