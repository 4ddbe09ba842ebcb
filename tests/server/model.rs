//! Forgetting, denying, vending, linking and refreshing in random order, over a service whose answers get lost and whose requests
//! arrive late, in virtual time: 400 sequences, or as many as `MODEL_SEQUENCES` says; 10,000 before a release.
//!
//! The service is the smallest that can tell right from wrong: who has which identity. It is not the local pool, whose signatures
//! would take most of the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_cognitoidentity::config::BehaviorVersion;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use cognito_identity_pool::server::{GuestClaim, GuestClaims, VendRequest};
use cognito_identity_pool::{ErrorKind, IdentityAdmin, IdentityId, TokenVendor, UserCredentials};
use serde_json::{Value, json};

use crate::audit::{listen, logged_bytes, with_log};
use crate::stage::{PROVIDER, user};

pub(crate) const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";
pub(crate) const START: u64 = 1_790_000_000;

/// A small generator of random numbers: the same everywhere for a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[derive(Default)]
pub(crate) struct Cognito {
    /// By identity: its users; a guest has none.
    identities: BTreeMap<String, BTreeSet<String>>,
    made: u64,
    /// Each change, with the operation and user or identity that the audit trail has to have a line of, and how long the trail was.
    changes: Vec<(&'static str, String, usize)>,
}

impl Cognito {
    pub(crate) fn identity_of(&self, user: &str) -> Option<String> {
        let with = |(id, users): (&String, &BTreeSet<String>)| users.contains(user).then(|| id.clone());
        self.identities.iter().find_map(with)
    }

    pub(crate) fn identities(&self) -> Vec<String> {
        self.identities
            .iter()
            .map(|(id, users)| format!("{id} {users:?}"))
            .collect()
    }

    pub(crate) fn make(&mut self) -> String {
        self.made += 1;
        let id = format!("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-{:012x}", self.made);
        self.identities.insert(id.clone(), BTreeSet::new());
        id
    }

    fn changed(&mut self, operation: &'static str, of: &str) {
        self.changes.push((operation, of.to_owned(), logged_bytes()));
    }

    fn answer(&mut self, operation: &str, ask: &Value, now: u64) -> Result<Value, &'static str> {
        let text = |name: &str| ask[name].as_str().unwrap_or_default().to_owned();
        match operation {
            "GetId" => Ok(json!({ "IdentityId": self.make() })),
            "GetOpenIdTokenForDeveloperIdentity" => {
                let name = ask["Logins"][PROVIDER].as_str().unwrap().to_owned();
                let named = ask["IdentityId"].as_str().map(str::to_owned);
                let identity = match (self.identity_of(&name), named) {
                    (Some(own), None) => own,
                    (Some(own), Some(named)) if own == named => own,
                    (Some(_), Some(_)) => return Err("DeveloperUserAlreadyRegisteredException"),
                    (None, named) => {
                        let identity = match named {
                            Some(guest) if self.identities.get(&guest).is_none_or(|users| !users.is_empty()) => {
                                return Err("NotAuthorizedException");
                            }
                            Some(guest) => guest,
                            None => self.make(),
                        };
                        self.changed("vend|vend_credentials|link_guest|vend_in_process|refresh_ahead", &name);
                        self.identities.get_mut(&identity).unwrap().insert(name);
                        identity
                    }
                };
                let claims = json!({ "sub": identity, "aud": POOL, "iat": now, "exp": now + 900 });
                let claims = base64_simd::URL_SAFE_NO_PAD.encode_to_string(claims.to_string());
                Ok(json!({ "IdentityId": identity, "Token": format!("e30.{claims}.c2ln") }))
            }
            "GetCredentialsForIdentity" => {
                let id = text("IdentityId");
                if !self.identities.contains_key(&id) {
                    return Err("ResourceNotFoundException");
                }
                let credentials = json!({
                    "AccessKeyId": "ASIA", "SecretKey": "secret", "SessionToken": "token", "Expiration": now + 600,
                });
                Ok(json!({ "IdentityId": id, "Credentials": credentials }))
            }
            "LookupDeveloperIdentity" => {
                let (name, id) = (ask["DeveloperUserIdentifier"].as_str(), ask["IdentityId"].as_str());
                let found = match (name, id) {
                    (Some(name), None) => self.identity_of(name),
                    (Some(name), Some(id)) => self.identity_of(name).filter(|own| own == id),
                    (None, id) => id.filter(|id| self.identities.contains_key(*id)).map(str::to_owned),
                };
                let found = found.ok_or("ResourceNotFoundException")?;
                let users = &self.identities[&found];
                Ok(json!({ "IdentityId": found, "DeveloperUserIdentifierList": users }))
            }
            "UnlinkDeveloperIdentity" => {
                let (name, id) = (text("DeveloperUserIdentifier"), text("IdentityId"));
                let users = self.identities.get_mut(&id).ok_or("ResourceNotFoundException")?;
                if !users.remove(&name) {
                    return Err("ResourceConflictException");
                }
                self.changed("unlink_user", &name);
                Ok(json!({}))
            }
            "MergeDeveloperIdentities" => {
                let (from, into) = (text("SourceUserIdentifier"), text("DestinationUserIdentifier"));
                let source = self.identity_of(&from).ok_or("ResourceNotFoundException")?;
                let target = self.identity_of(&into).ok_or("ResourceNotFoundException")?;
                let users = self.identities.remove(&source).unwrap();
                self.identities.get_mut(&target).unwrap().extend(users);
                self.changed("merge", &from);
                Ok(json!({ "IdentityId": target }))
            }
            "DeleteIdentities" => {
                for id in ask["IdentityIdsToDelete"].as_array().unwrap() {
                    let id = id.as_str().unwrap();
                    if self.identities.remove(id).is_some() {
                        self.changed("delete_identity", &id[id.len() - 4..]);
                    }
                }
                Ok(json!({ "UnprocessedIdentityIds": [] }))
            }
            "DescribeIdentity" => {
                let id = text("IdentityId");
                let users = self.identities.get(&id).ok_or("ResourceNotFoundException")?;
                let logins: Vec<_> = users.iter().take(1).map(|_| PROVIDER).collect();
                Ok(json!({ "IdentityId": id, "Logins": logins, "CreationDate": START }))
            }
            other => panic!("the model does not know {other}"),
        }
    }
}

/// tokio's paused clock as the wall clock.
#[derive(Debug, Clone)]
pub(crate) struct VirtualTime(tokio::time::Instant);

impl TimeSource for VirtualTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(START) + self.0.elapsed()
    }
}

/// The way to the model: requests take their time, and some answers are lost. A request that has been sent arrives, whether anybody
/// still waits for the answer or not.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) cognito: Arc<Mutex<Cognito>>,
    random: Arc<Mutex<Random>>,
    time: VirtualTime,
    pub(crate) faulty: Arc<std::sync::atomic::AtomicBool>,
    /// Milliseconds that each request takes to arrive, if not by chance.
    pub(crate) there: Arc<std::sync::atomic::AtomicU64>,
    /// The operation whose next answer is lost.
    pub(crate) loses: Arc<Mutex<Option<&'static str>>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap().to_owned();
        let ask: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
        let faulty = self.faulty.load(std::sync::atomic::Ordering::SeqCst);
        let (there, back, lost) = {
            let mut random = self.random.lock().unwrap();
            let there = if faulty && random.below(8) == 0 {
                1_000 + random.below(9_000)
            } else {
                random.below(400)
            };
            (there, random.below(400), faulty && random.below(6) == 0)
        };
        let planned = self.loses.lock().unwrap().take_if(|next| *next == operation).is_some();
        let lost = lost || planned;
        let there = match self.there.load(std::sync::atomic::Ordering::SeqCst) {
            0 => there,
            set => set,
        };
        let this = self.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(there)).await;
            let now = START + this.time.0.elapsed().as_secs();
            let answer = this.cognito.lock().unwrap().answer(&operation, &ask, now);
            tokio::time::sleep(Duration::from_millis(back)).await;
            drop(tell.send(answer));
        });
        HttpConnectorFuture::new(async move {
            let answer = told.await.unwrap();
            if lost {
                return Err(ConnectorError::io("the connection was reset".into()));
            }
            let (status, body) = match answer {
                Ok(body) => (200, body),
                Err(code) => (400, json!({ "__type": code, "message": "no" })),
            };
            let response = http::Response::builder()
                .status(status)
                .body(SdkBody::from(body.to_string()));
            Ok(HttpResponse::try_from(response.unwrap()).unwrap())
        })
    }
}

struct World {
    network: Network,
    vendor: TokenVendor,
    users: UserCredentials,
    admin: IdentityAdmin,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            cognito: Arc::default(),
            random: Arc::new(Mutex::new(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))),
            time: VirtualTime(tokio::time::Instant::now()),
            faulty: Arc::new(true.into()),
            there: Arc::default(),
            loses: Arc::default(),
        }
    }

    pub(crate) fn config(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
            .time_source(self.time.clone())
            .sleep_impl(TokioSleep::new())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let network = Network::new(seed);
        let config = network.config();
        let vendor = TokenVendor::builder(POOL, PROVIDER)
            .configure(&config)
            .retry_config(RetryConfig::disabled())
            .guest_claims(GuestClaims::hmac_sha256("0123456789abcdef0123456789abcdef").unwrap())
            .build()
            .unwrap();
        Self {
            users: UserCredentials::builder(vendor.clone()).build().unwrap(),
            admin: IdentityAdmin::builder(POOL, PROVIDER)
                .configure(&config)
                .retry_config(RetryConfig::disabled())
                .build()
                .unwrap(),
            vendor,
            network,
        }
    }
}

/// What has happened, in order: begins and ends of vends, and the moments after which older vends may not succeed.
#[derive(Default)]
struct History {
    moment: u64,
    /// By user: how often a denial was taken back.
    allowed: HashMap<&'static str, u64>,
    /// By user: the begin of the last denial or forgetting that has returned. What began before may not end well any more.
    barrier: HashMap<&'static str, u64>,
}

impl History {
    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }
}

const USERS: [&str; 2] = ["alice", "bob"];

/// One random life. Several operations are under way at once, and some callers hang up.
async fn sequence(seed: u64) {
    listen();
    let world = Arc::new(World::new(seed));
    let history = Arc::new(Mutex::new(History::default()));
    let mut random = Random(seed | 1);
    for _ in 0..8 {
        random.next();
    }
    let mut running = Vec::new();
    for _ in 0..4 + random.below(5) {
        let name = USERS[random.below(2) as usize];
        let (what, patience, pause) = (random.below(10), random.below(4), random.below(1_500));
        let (world, history) = (Arc::clone(&world), Arc::clone(&history));
        let operation = async move {
            let who = user(name);
            let mut began = history.lock().unwrap().tick();
            let vended = match what {
                0 | 1 => world.vendor.vend(&who).await.map(drop),
                2 => world
                    .vendor
                    .vend_with(VendRequest::new(who.clone()).fresh(true))
                    .await
                    .map(drop),
                3 => world.vendor.vend_credentials(&who).await.map(drop),
                4 | 5 => {
                    let session = world.users.for_user(&who);
                    match session.provide_credentials().await {
                        Ok(_) => Ok(()),
                        Err(_) => return,
                    }
                }
                6 => {
                    let Ok(guest) = world.vendor.new_guest("device").await else {
                        return;
                    };
                    let claim = GuestClaim::new(guest.ticket, guest.identity_id, "device");
                    began = history.lock().unwrap().tick();
                    world.vendor.link_guest(&who, claim).await.map(drop)
                }
                7 => {
                    let allowed = || history.lock().unwrap().allowed.get(name).copied();
                    world.vendor.deny(&who).await.unwrap();
                    history.lock().unwrap().barrier.insert(name, began);
                    let before = allowed();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    let vended = world.vendor.vend(&who).await.map_err(|error| error.kind());
                    assert!(
                        matches!(vended, Err(ErrorKind::Denied)) || allowed() != before,
                        "seed {seed}: {name} was vended to while denied"
                    );
                    *history.lock().unwrap().allowed.entry(name).or_default() += 1;
                    world.vendor.allow(&who).await.unwrap();
                    return;
                }
                _ => {
                    if let Ok(report) = world.admin.forget_user(&who, &[&world.vendor]).await {
                        if report.is_complete() {
                            history.lock().unwrap().barrier.insert(name, began);
                        } else {
                            let named = report.identities.unprocessed.len() + usize::from(report.identity_id.is_some());
                            assert!(named > 0, "{report:?} names nothing");
                        }
                    }
                    return;
                }
            };
            let barrier = history.lock().unwrap().barrier.get(name).copied();
            assert!(
                vended.is_err() || barrier.is_none_or(|barrier| barrier < began),
                "seed {seed}: {name} was vended to by what had begun before a forgetting or denial that has returned ({what})"
            );
        };
        running.push(tokio::spawn(async move {
            if patience == 0 {
                drop(tokio::time::timeout(Duration::from_millis(pause), operation).await);
            } else {
                operation.await;
            }
        }));
        tokio::time::sleep(Duration::from_millis(pause / 2)).await;
    }
    for task in running {
        if let Err(error) = task.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    // Refreshes go on for whoever is still in use.
    tokio::time::sleep(Duration::from_secs(random.below(2) * 480)).await;

    // Now everybody is forgotten, on a network that works: whatever happened, it is found.
    world.network.faulty.store(false, std::sync::atomic::Ordering::SeqCst);
    for name in USERS {
        let report = world.admin.forget_user(&user(name), &[&world.vendor]).await.unwrap();
        assert!(report.is_complete(), "seed {seed}: {report:?}");
    }
    let left = |world: &World| {
        let cognito = world.network.cognito.lock().unwrap();
        let named = cognito.identities.iter().filter(|(_, users)| !users.is_empty());
        named.map(|(id, users)| format!("{id} {users:?}")).collect::<Vec<_>>()
    };
    assert_eq!(
        left(&world),
        Vec::<String>::new(),
        "seed {seed}: somebody is not forgotten"
    );
    // And nobody comes back who is not asked for: the credentials of this service live for ten minutes.
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(left(&world), Vec::<String>::new(), "seed {seed}: somebody came back");
    check_audit(seed, &world.network.cognito.lock().unwrap().changes);
    world.users.close().await;
}

/// Each change has a line that was written before it.
fn check_audit(seed: u64, changes: &[(&'static str, String, usize)]) {
    with_log(|log| {
        for (operations, of, before) in changes {
            let before = std::str::from_utf8(&log[..*before]).unwrap();
            let told = before.lines().any(|line| {
                line.contains(r#"phase="begin""#)
                    && line.contains(of)
                    && operations
                        .split('|')
                        .any(|operation| line.contains(&format!(r#"operation="{operation}""#)))
            });
            assert!(told, "seed {seed}: no line before {operations} of {of} in\n{before}");
        }
    });
}

impl World {
    fn reliable() -> Self {
        let world = Self::new(1);
        world.network.faulty.store(false, std::sync::atomic::Ordering::SeqCst);
        world
    }

    fn identities(&self) -> usize {
        self.network.cognito.lock().unwrap().identities.len()
    }
}

#[tokio::test(start_paused = true)]
async fn resurrection_after_forgetting() {
    let world = World::reliable();
    let names: Vec<_> = (0..50).map(|n| user(&format!("user-{n}"))).collect();
    let mut sessions = Vec::new();
    for name in &names {
        let session = world.users.for_user(name);
        session.provide_credentials().await.unwrap();
        sessions.push(session);
    }
    assert_eq!(world.identities(), 50);
    for name in &names {
        // The admin is told of the vendor alone: what stands on it is reached all the same.
        let report = world.admin.forget_user(name, &[&world.vendor]).await.unwrap();
        assert!(report.is_complete());
    }
    // Hours pass, and whoever still holds a session goes on asking.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(120)).await;
        for session in &sessions {
            assert!(session.provide_credentials().await.is_err());
        }
    }
    assert_eq!(world.identities(), 0, "forgotten users have come back");
}

#[tokio::test(start_paused = true)]
async fn landing_after_a_hold() {
    let world = Arc::new(World::reliable());
    let alice = user("alice");
    world.vendor.vend(&alice).await.unwrap();
    for hang_up in [false, true] {
        // A request is under way for four seconds; in the second round its caller hangs up meanwhile.
        world.network.there.store(4_000, std::sync::atomic::Ordering::SeqCst);
        let vend = tokio::spawn({
            let (vendor, alice) = (world.vendor.clone(), alice.clone());
            async move { vendor.vend_with(VendRequest::new(alice).fresh(true)).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        if hang_up {
            vend.abort();
            tokio::task::yield_now().await;
        }
        world.network.there.store(1, std::sync::atomic::Ordering::SeqCst);
        let report = world.admin.forget_user(&alice, &[&world.vendor]).await.unwrap();
        assert!(report.is_complete());
        if !hang_up {
            assert_eq!(vend.await.unwrap().unwrap_err().kind(), ErrorKind::Denied);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.identities(), 0, "what was under way has made an identity");
        world.vendor.vend(&alice).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn forgetting_whose_answers_were_lost_names_what_is_left_and_is_gone_on_with() {
    for operation in ["UnlinkDeveloperIdentity", "DeleteIdentities"] {
        let world = World::reliable();
        let alice = user("alice");
        let identity = world.vendor.vend(&alice).await.unwrap().identity_id().clone();
        *world.network.loses.lock().unwrap() = Some(operation);
        let report = world.admin.forget_user(&alice, &[&world.vendor]).await.unwrap();
        assert!(
            !report.is_complete() && report.failure.is_some(),
            "{operation}: {report:?}"
        );
        assert_eq!(
            report.identity_id.as_ref(),
            Some(&identity),
            "it names the identity that is left"
        );
        assert_eq!(report.identities.unprocessed[0].0, identity);
        let again = world.admin.forget_user(&alice, &[&world.vendor]).await.unwrap();
        assert!(again.is_complete(), "{operation}: {again:?}");
        assert_eq!(again.identities.deleted, [identity]);
        assert_eq!(world.identities(), 0, "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_ends_all_sessions_and_waits_for_what_is_out() {
    let world = World::reliable();
    world.network.there.store(3_000, std::sync::atomic::Ordering::SeqCst);
    let (alice, bob) = (world.users.for_user(&user("alice")), world.users.for_user(&user("bob")));
    let mut out = Box::pin(alice.provide_credentials());
    assert!(futures_util::poll!(out.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.users.close().await;
    assert!(out.await.is_err());
    assert!(bob.provide_credentials().await.is_err());
    let error = world.users.for_user(&user("carol")).identity_id().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionEnded);
    let made = world.identities();
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    assert_eq!(world.identities(), made, "nothing is out");
}

#[tokio::test(start_paused = true)]
async fn denying_at_the_vendor_reaches_the_sessions_on_it() {
    let world = World::reliable();
    let session = world.users.for_user(&user("alice"));
    session.provide_credentials().await.unwrap();
    world.vendor.deny(&user("alice")).await.unwrap();
    for session in [session, world.users.for_user(&user("alice"))] {
        let error = session.identity_id().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Denied, false));
    }
    world.users.allow(&user("alice")).await.unwrap();
    assert!(
        world.vendor.vend(&user("alice")).await.is_ok(),
        "there is one deny list"
    );
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_of_a_users_session_are_made_anew() {
    let world = World::reliable();
    let session = world.users.for_user(&user("alice"));
    let first = session.provide_credentials().await.unwrap();
    assert!(session.invalidate(&first));
    let asked = || world.network.random.lock().unwrap().0;
    let before = asked();
    session.provide_credentials().await.unwrap();
    assert_ne!(asked(), before, "the network was asked");
}

fn sequences(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(sequence(seed));
    }
}

/// The seeds of a part, of four. `MODEL_SEQUENCES` sets how many there are in all.
fn part(part: u64) -> std::ops::Range<u64> {
    let all: u64 = std::env::var("MODEL_SEQUENCES").map_or(400, |all| all.parse().unwrap());
    part * all / 4..(part + 1) * all / 4
}

#[test]
fn nothing_lands_after_a_forgetting_or_denial_and_nothing_is_left_1() {
    sequences(part(0));
}

#[test]
fn nothing_lands_after_a_forgetting_or_denial_and_nothing_is_left_2() {
    sequences(part(1));
}

#[test]
fn nothing_lands_after_a_forgetting_or_denial_and_nothing_is_left_3() {
    sequences(part(2));
}

#[test]
fn nothing_lands_after_a_forgetting_or_denial_and_nothing_is_left_4() {
    sequences(part(3));
}

/// A guest's id, for the compiler: the model's guests are identities like any other.
#[test]
fn the_models_identities_are_legal() {
    let id = Cognito::default().make();
    assert!(IdentityId::new(id).is_ok());
}
