//! Lives virtual weeks on a real multi-thread runtime: users switch, backends fail, credentials expire, users are denied, hundreds of
//! users are served beside each other. Prints what must stay flat (memory, tasks, sockets), and ends with an error if a promise broke.
//!
//! `cargo bench --all-features --bench soak -- --seconds 600`; a minute by default, and two seconds as a test.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a program that talks and stops at a failure"
)]

mod harness;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_async::time::TimeSource;
use cognito_identity_pool::local::LocalFault;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, DeveloperUserId, Error,
    ErrorKind, IdentityId, LocalIdentityPool, Login, RefreshRequest, Session, TokenVendor, UserCredentials,
    async_trait,
};
use harness::counting::{Count, Counting};
use harness::{is_quick, table};

#[global_allocator]
static COUNTING: Counting = Counting;

const PROVIDER: &str = "login.mycompany.myapp";
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
const USERS: u64 = 300;
const CALLERS: usize = 6;
/// How much virtual time passes at once.
const STEP: Duration = Duration::from_secs(20);

/// Time that passes when it is told to, for the clocks and for those who sleep; it works on any runtime.
#[derive(Clone, Debug)]
struct VirtualTime(tokio::sync::watch::Sender<Duration>);

impl VirtualTime {
    fn start() -> Self {
        Self(tokio::sync::watch::Sender::new(Duration::from_secs(1_790_000_000)))
    }

    fn pass(&self, time: Duration) {
        self.0.send_modify(|now| *now += time);
    }
}

impl TimeSource for VirtualTime {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + *self.0.borrow()
    }
}

impl AsyncSleep for VirtualTime {
    fn sleep(&self, duration: Duration) -> Sleep {
        let (mut now, end) = (self.0.subscribe(), *self.0.borrow() + duration);
        Sleep::new(async move { drop(now.wait_for(|now| *now >= end).await) })
    }
}

/// What happened, over all tasks.
#[derive(Default)]
struct Counts {
    served: AtomicU64,
    refused: AtomicU64,
    switches: AtomicU64,
    outages: AtomicU64,
    denials: AtomicU64,
    violations: AtomicU64,
}

impl Counts {
    fn violation(&self, what: &str) {
        println!("VIOLATION: {what}");
        self.violations.fetch_add(1, Ordering::Relaxed);
    }
}

/// The app's backend, without the network in between.
struct Backend {
    vendor: TokenVendor,
    user: DeveloperUserId,
}

#[async_trait]
impl DeveloperIdentityProvider for Backend {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        Ok(self.vendor.vend(&self.user).await?.identity().clone())
    }
}

/// Everything that the tasks share.
struct World {
    pool: LocalIdentityPool,
    time: VirtualTime,
    vendor: TokenVendor,
    provider: CognitoCredentialsProvider,
    users: UserCredentials,
    /// Who each of [`PEOPLE`] is to the pool.
    identities: Vec<IdentityId>,
    counts: Counts,
    over: AtomicBool,
}

fn user(name: &str) -> DeveloperUserId {
    DeveloperUserId::new(name).unwrap()
}

fn with(config: &SdkConfig, time: &VirtualTime) -> SdkConfig {
    config.to_builder().sleep_impl(time.clone()).build()
}

fn provider_of(pool: &LocalIdentityPool, time: &VirtualTime) -> CognitoCredentialsProvider {
    let builder = CognitoCredentialsProvider::builder(pool.identity_pool_id());
    builder.configure(&with(&pool.client_config(), time)).build().unwrap()
}

impl World {
    async fn start() -> Arc<Self> {
        let time = VirtualTime::start();
        let pool = LocalIdentityPool::builder()
            .developer_provider(PROVIDER)
            .allow_guests(true)
            .time_source(time.clone())
            .start()
            .await
            .unwrap();
        let vendor = TokenVendor::builder(pool.identity_pool_id(), PROVIDER)
            .configure(&with(&pool.backend_config(), &time))
            .requests_per_second(None)
            .build()
            .unwrap();
        let mut identities = Vec::new();
        for name in PEOPLE {
            identities.push(vendor.vend(&user(name)).await.unwrap().identity_id().clone());
        }
        Arc::new(Self {
            users: UserCredentials::builder(vendor.clone()).build().unwrap(),
            provider: provider_of(&pool, &time),
            pool,
            time,
            vendor,
            identities,
            counts: Counts::default(),
            over: AtomicBool::new(false),
        })
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn login(&self, person: usize) -> Login {
        let backend = Backend {
            vendor: self.vendor.clone(),
            user: user(PEOPLE[person]),
        };
        Login::developer(backend).subject(PEOPLE[person])
    }

    /// Whose credentials a session hands out, judged by the pool's own record.
    async fn check(&self, session: &Session, expected: Option<&IdentityId>) {
        match session.provide_credentials().await {
            Ok(credentials) => {
                self.counts.served.fetch_add(1, Ordering::Relaxed);
                let signer = self.pool.identity_of(credentials.access_key_id());
                if let (Some(signer), Some(expected)) = (signer, expected)
                    && signer != expected.as_str()
                {
                    self.counts.violation("a session served somebody else's credentials");
                }
            }
            Err(error) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                if Error::find(&error).is_none() {
                    self.counts.violation(&format!("an error that is not ours: {error:?}"));
                }
            }
        }
    }

    /// Signs in and out, and asks as whoever is signed in.
    async fn caller(self: Arc<Self>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bound: Option<(Session, Option<usize>)> = None;
        while !self.is_over() {
            match random.u32(0..2_000) {
                0..3 => {
                    self.counts.switches.fetch_add(1, Ordering::Relaxed);
                    bound = match random.usize(0..PEOPLE.len() + 2) {
                        person if person < PEOPLE.len() => {
                            Some((self.provider.switch_to(self.login(person)), Some(person)))
                        }
                        3 => Some((self.provider.switch_to(Login::guest()), None)),
                        _ => {
                            self.provider.sign_out();
                            bound
                        }
                    };
                }
                3..5 => self.provider.clear_credentials(),
                5 => {
                    // Cut off in the middle: the load has to go on, or be begun anew.
                    drop(tokio::time::timeout(Duration::from_micros(200), self.provider.provide_credentials()).await);
                }
                _ => {
                    if let Some((session, person)) = &bound {
                        self.check(session, person.map(|person| &self.identities[person])).await;
                    }
                    self.check(&self.provider.session(), None).await;
                }
            }
            tokio::time::sleep(Duration::from_micros(random.u64(0..2_000))).await;
        }
    }

    /// Users whom nobody waits for, some of them denied for a while.
    async fn operator(self: Arc<Self>) {
        let mut random = fastrand::Rng::with_seed(7);
        while !self.is_over() {
            let user = user(&format!("user-{}", random.u64(0..USERS)));
            if random.u32(0..50) == 0 {
                self.counts.denials.fetch_add(1, Ordering::Relaxed);
                self.users.deny(&user).await.unwrap();
                self.vendor.deny(&user).await.unwrap();
                if self.vendor.vend(&user).await.is_ok()
                    || self.users.for_user(&user).provide_credentials().await.is_ok()
                {
                    self.counts.violation("a denied user was served");
                }
                self.vendor.allow(&user).await.unwrap();
                self.users.allow(&user).await.unwrap();
            } else {
                self.check(&self.users.for_user(&user), None).await;
            }
            tokio::time::sleep(Duration::from_micros(random.u64(0..1_000))).await;
        }
    }

    /// Turns time, and breaks the service for a while now and then.
    async fn time_passes(self: Arc<Self>) {
        let mut random = fastrand::Rng::with_seed(3);
        while !self.is_over() {
            if random.u32(0..4_000) == 0 {
                self.counts.outages.fetch_add(1, Ordering::Relaxed);
                let faults = [
                    LocalFault::Status(503),
                    LocalFault::ConnectionReset,
                    LocalFault::HalfResponse,
                ];
                self.pool.faults().seeded(random.u64(..), 1 + random.u32(0..2), faults);
                for _ in 0..random.u32(1..180) {
                    self.step().await;
                }
                self.pool.faults().clear();
            }
            self.step().await;
        }
        // Whoever still waits for virtual time to pass gets the time.
        for _ in 0..200 {
            self.step().await;
        }
    }

    async fn step(&self) {
        self.time.pass(STEP);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Kilobytes of memory and open file descriptors, where the system tells.
fn resources() -> (u64, usize) {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    (resident.unwrap_or(0) * 4, open)
}

/// Signs users in whom nobody has seen before, and out again. How many bytes are left of the first half of them, and of the second:
/// what a provider remembers of users has a bound.
async fn subjects(world: &World, users: u64) -> (i64, i64) {
    let count = Count::start();
    let provider = provider_of(&world.pool, &world.time);
    let mut half = 0;
    for n in 0..users {
        let backend = Arc::new(Backend {
            vendor: world.vendor.clone(),
            user: user(PEOPLE[0]),
        });
        provider.switch_to(Login::developer(backend).subject(format!("subject-{n}")));
        // It is remembered; a token that the vendor has kept says it.
        assert_eq!(provider.identity_id().await.unwrap(), world.identities[0]);
        if n + 1 == users / 2 {
            provider.sign_out();
            half = count.bytes();
        }
    }
    provider.sign_out();
    (half, count.bytes() - half)
}

fn seconds() -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--seconds");
    let given = arguments.nth(1).and_then(|text| text.parse().ok());
    given.unwrap_or(if is_quick() { 2 } else { 60 })
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let (start, whole) = (Instant::now(), Duration::from_secs(seconds()));
    let world = World::start().await;
    let users = if is_quick() { 2_000 } else { 20_000 };
    let (early, late) = subjects(&world, users).await;
    println!("{users} subjects signed in: {early:+} bytes stay of the first half, {late:+} of the second");
    if late > 64 * 1024 {
        world.counts.violation("what is known of users grows");
    }
    let began = world.time.now();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..CALLERS as u64 {
        tasks.spawn(Arc::clone(&world).caller(seed));
    }
    tasks.spawn(Arc::clone(&world).operator());
    let clock = tokio::spawn(Arc::clone(&world).time_passes());

    let names = [
        "seconds",
        "virtual days",
        "memory, MB",
        "tasks",
        "open files",
        "served",
        "refused",
    ];
    let mut rows = vec![names.map(str::to_owned).to_vec()];
    let mut memory = Vec::new();
    for part in 1..=10 {
        tokio::time::sleep_until((start + whole * part / 10).into()).await;
        let (kilobytes, open) = resources();
        memory.push(kilobytes);
        let days = world.time.now().duration_since(began).unwrap().as_secs_f64() / 86_400.0;
        rows.push(vec![
            start.elapsed().as_secs().to_string(),
            format!("{days:.1}"),
            format!("{:.1}", kilobytes as f64 / 1_024.0),
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
                .to_string(),
            open.to_string(),
            world.counts.served.load(Ordering::Relaxed).to_string(),
            world.counts.refused.load(Ordering::Relaxed).to_string(),
        ]);
    }
    world.over.store(true, Ordering::Relaxed);
    let ended = tokio::time::timeout(Duration::from_secs(60), tasks.join_all())
        .await
        .is_ok();
    if !ended {
        world.counts.violation("a caller still waits a minute after the end");
    }
    clock.await.unwrap();

    table("Soak", &rows);
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let counts = &world.counts;
    println!(
        "\n{} switches, {} outages, {} denials; {} violations",
        of(&counts.switches),
        of(&counts.outages),
        of(&counts.denials),
        of(&counts.violations)
    );
    // The first part warms up. What grows in the others without an end would show as a slope over nine of them.
    let (early, late) = (memory[2], memory[9]);
    println!(
        "memory from the third tenth to the last: {:+} kB",
        late as i64 - early as i64
    );
    if whole >= Duration::from_secs(60) && late > early + early / 4 {
        counts.violation("memory grows");
    }
    if world.provider.session().epoch() == 0 || of(&counts.served) == 0 {
        counts.violation("nothing was served");
    }
    let signed_out = {
        world.provider.sign_out();
        world.provider.provide_credentials().await
    };
    let kind = signed_out
        .as_ref()
        .err()
        .and_then(|error| Error::find(error))
        .map(Error::kind);
    if kind != Some(ErrorKind::SignedOut) {
        counts.violation("signed out, and served");
    }
    if of(&counts.violations) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
