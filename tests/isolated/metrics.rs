//! What an operator is told, group by group, by names that the guide has in a table; and a recorder that misbehaves.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    BackendError, ErrorKind, Login, TokenVendor, TokenVerifier, UserCredentials,
    local::LocalFault,
    server::{GuestClaim, GuestClaims, MemorySharedStore, RequestLimit, VendRequest},
};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::stage::{DEADLINE, Order, PROVIDER, Stage, failure, until, user};

const PREFIX: &str = "cognito_identity_pool_";
const TOKEN: &str = "GetOpenIdTokenForDeveloperIdentity";
const EXCHANGE: &str = "GetCredentialsForIdentity";

/// What each test below is about: together, the whole table.
const VENDS: &[&str] = &[
    "vends_total",
    "vend_duration_seconds",
    "attempts_total",
    "exchanges_total",
    "exchange_duration_seconds",
    "token_cache_entries",
    "token_cache_evictions_total",
];
const LIMIT: &[&str] = &[
    "turn_duration_seconds",
    "turns_waiting",
    "turns_refused_total",
    "rate_limit",
];
const REFUSALS: &[&str] = &["operations_total", "guest_claims_refused_total", "denied_users"];
const DENY_LIST: &[&str] = &["deny_list_entries", "deny_list_read_timestamp_seconds"];
const VERIFIER: &[&str] = &[
    "verifications_total",
    "key_fetches_total",
    "keys_fetched_timestamp_seconds",
];
const USERS: &[&str] = &["users_kept", "credentials_age_seconds"];
const CLIENT: &[&str] = &["first_credentials_seconds", "login_changes_total"];

/// A recorder for this thread, on which all of a test runs.
struct Recorded {
    snapshotter: Snapshotter,
    /// What was seen before: a snapshot takes it away.
    seen: std::sync::Mutex<Seen>,
    _installed: metrics::LocalRecorderGuard<'static>,
}

/// What was counted, and the values of histograms.
type Seen = (BTreeMap<String, f64>, BTreeMap<String, Vec<f64>>);

/// The names and labels of the guide's table.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let guide = include_str!("../../docs/operating.md");
    let rows = guide
        .lines()
        .filter(|line| line.starts_with("| `cognito_identity_pool_"));
    let words = |cell: &str| {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        (words(cells[1]).remove(0), words(cells[3]).into_iter().collect())
    })
    .collect()
}

impl Recorded {
    fn start() -> Self {
        let recorder: &'static DebuggingRecorder = Box::leak(Box::new(DebuggingRecorder::new()));
        Self {
            snapshotter: recorder.snapshotter(),
            seen: std::sync::Mutex::default(),
            _installed: metrics::set_default_local_recorder(recorder),
        }
    }

    /// Everything that is counted or measured: `name{label=value,…}`, without the prefix. Of a histogram how many values there were.
    fn all(&self) -> BTreeMap<String, f64> {
        let table = table();
        let mut seen = self.seen.lock().unwrap();
        let (all, values) = &mut *seen;
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let key = key.key();
            let labels: BTreeMap<_, _> = key.labels().map(|label| (label.key(), label.value())).collect();
            let names: BTreeSet<_> = labels.keys().map(|label| (*label).to_owned()).collect();
            assert_eq!(table.get(key.name()), Some(&names), "the guide's row of {}", key.name());
            for value in labels.values() {
                let is_word = value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                assert!(is_word, "no id and no number is a label: {value}");
            }
            let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
            let name = key.name().strip_prefix(PREFIX).unwrap();
            let name = format!("{name}{{{}}}", labels.join(","));
            let before = all.entry(name.clone()).or_default();
            match value {
                DebugValue::Counter(count) => *before += count as f64,
                // Set, not changed: nothing new if it is 0.
                DebugValue::Gauge(value) if name.contains("timestamp") || name.starts_with("deny_list_") => {
                    *before = before.max(value.into_inner());
                }
                DebugValue::Gauge(change) => *before += change.into_inner(),
                DebugValue::Histogram(new) => {
                    let values = values.entry(name).or_default();
                    values.extend(new.iter().map(|value| value.into_inner()));
                    *before = values.len() as f64;
                }
            }
        }
        // Sums of differences are not exact.
        all.iter()
            .map(|(name, value)| (name.clone(), (value * 1_000.0).round() / 1_000.0))
            .collect()
    }

    /// The value, 0 if there is none.
    fn get(&self, name: &str) -> f64 {
        self.all().get(name).copied().unwrap_or(0.0)
    }

    #[track_caller]
    fn has(&self, expected: &[(&str, f64)]) {
        let all = self.all();
        for (name, value) in expected {
            assert_eq!(all.get(*name), Some(value), "{name} in {all:#?}");
        }
    }

    /// The values of a histogram.
    fn values(&self, name: &str) -> Vec<f64> {
        self.all();
        self.seen.lock().unwrap().1.get(name).cloned().unwrap_or_default()
    }

    /// Each of these names has been told.
    #[track_caller]
    fn names(&self, names: &[&str]) {
        let all = self.all();
        for name in names {
            let told = all.keys().any(|key| key.split('{').next() == Some(name));
            assert!(told, "{name} in {all:#?}");
        }
    }
}

#[test]
fn every_name_of_the_guide_has_a_test_and_every_query_of_the_example_a_name() {
    let tested: BTreeSet<_> = [VENDS, LIMIT, REFUSALS, DENY_LIST, VERIFIER, USERS, CLIENT]
        .concat()
        .iter()
        .map(|name| format!("{PREFIX}{name}"))
        .collect();
    let table = table();
    assert_eq!(tested, table.keys().cloned().collect());
    let readme = include_str!("../../examples/axum_backend/README.md");
    let queried: BTreeSet<_> = readme
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(PREFIX))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect();
    assert_eq!(queried, tested, "the dashboard shows everything, and nothing else");
}

#[tokio::test]
async fn vends_are_counted_by_where_the_token_came_from_and_what_came_of_it() {
    let recorded = Recorded::start();
    let stage = Stage::start().await;
    let vendor = stage.vendor_builder().cache_capacity(2).build().unwrap();
    let (alice, bob) = (user("alice"), user("bob"));
    vendor.vend(&alice).await.unwrap();
    vendor.vend(&alice).await.unwrap();
    vendor.vend(&alice).await.unwrap();
    let (one, other) = tokio::join!(vendor.vend(&bob), vendor.vend(&bob));
    assert_eq!(one.unwrap().request_id(), other.unwrap().request_id());
    recorded.has(&[
        ("vends_total{operation=vend,outcome=ok,source=asked}", 2.0),
        ("vends_total{operation=vend,outcome=ok,source=cached}", 2.0),
        ("vends_total{operation=vend,outcome=ok,source=joined}", 1.0),
        ("vend_duration_seconds{source=asked}", 2.0),
        ("vend_duration_seconds{source=joined}", 1.0),
        ("attempts_total{outcome=ok}", 2.0),
        ("token_cache_entries{}", 2.0),
    ]);
    vendor.vend(&user("carol")).await.unwrap();
    recorded.has(&[("token_cache_entries{}", 2.0), ("token_cache_evictions_total{}", 1.0)]);
    // Ten minutes and a bit: no longer served, but good for a while if AWS says no.
    stage.clock.advance(Duration::from_secs(610));
    stage
        .pool
        .faults()
        .next_of(TOKEN, LocalFault::refuse("TooManyRequestsException").unwrap());
    vendor.vend(&user("carol")).await.unwrap();
    stage.pool.faults().next_of(TOKEN, LocalFault::Status(500));
    let fresh = VendRequest::new(user("carol")).fresh(true);
    vendor.vend_with(fresh).await.unwrap_err();
    let refuse = LocalFault::refuse("ResourceConflictException").unwrap();
    stage.pool.faults().next_of(TOKEN, refuse);
    vendor.vend(&user("erin")).await.unwrap_err();
    vendor.deny(&alice).await.unwrap();
    assert_eq!(vendor.vend(&alice).await.unwrap_err().kind(), ErrorKind::Denied);
    vendor.vend_credentials(&bob).await.unwrap();
    recorded.has(&[
        ("vends_total{operation=vend,outcome=ok,source=stale}", 1.0),
        ("vends_total{operation=vend,outcome=service,source=asked}", 1.0),
        ("vends_total{operation=vend,outcome=denied,source=none}", 1.0),
        ("vends_total{operation=vend_credentials,outcome=ok,source=asked}", 1.0),
        ("attempts_total{outcome=throttled}", 1.0),
        ("attempts_total{outcome=refused}", 1.0),
        ("attempts_total{outcome=failed}", 1.0),
        ("exchanges_total{by=vendor,kind=first,outcome=ok}", 1.0),
        ("operations_total{operation=exchange,outcome=ok}", 1.0),
    ]);
    // Whoever hangs up is counted, too.
    stage.pool.faults().next_of(TOKEN, LocalFault::Hang);
    let (dave, before) = (user("dave"), stage.calls(TOKEN));
    let mut hangs_up = Box::pin(vendor.vend(&dave));
    until("the request is under way", || {
        assert!(futures_util::FutureExt::now_or_never(&mut hangs_up).is_none());
        stage.calls(TOKEN) > before
    })
    .await;
    drop(hangs_up);
    recorded.has(&[("vends_total{operation=vend,outcome=cancelled,source=none}", 1.0)]);
    recorded.names(VENDS);
    drop(vendor);
    recorded.has(&[("token_cache_entries{}", 0.0)]);
}

#[tokio::test]
async fn the_shared_deny_list_tells_when_it_was_read_and_how_long_it_is() {
    let recorded = Recorded::start();
    let stage = Stage::start().await;
    let store = MemorySharedStore::new();
    let instance = || stage.vendor_builder().shared(store.clone()).build().unwrap();
    let (one, other) = (instance(), instance());
    one.vend(&user("alice")).await.unwrap();
    one.vend(&user("mallory")).await.unwrap();
    recorded.has(&[("deny_list_entries{}", 0.0), ("token_cache_entries{}", 2.0)]);
    let read = || recorded.get("deny_list_read_timestamp_seconds{}");
    let first = read();
    other.deny(&user("mallory")).await.unwrap();
    // Half an interval late: whoever vends has the list read, beside the vend, as the one that there is still serves.
    stage.clock.advance(Duration::from_secs(16));
    one.vend(&user("bob")).await.unwrap();
    until("the list is read", || read() > first).await;
    // Bob's came, and Mallory's is gone.
    recorded.has(&[("deny_list_entries{}", 1.0), ("token_cache_entries{}", 2.0)]);
    recorded.names(DENY_LIST);
}

#[tokio::test]
async fn the_limit_tells_its_rate_and_who_waits_and_who_is_refused() {
    let recorded = Recorded::start();
    let stage = Stage::start().await;
    let n = |n| NonZeroU32::new(n).unwrap();
    let limit = RequestLimit::per_second(n(10)).burst(n(1)).instances(n(2));
    let vendor = |wait| {
        let vendor = stage.vendor_builder().request_limit(limit.clone()).max_wait(wait);
        vendor.build().unwrap()
    };
    let (impatient, patient) = (vendor(Duration::ZERO), vendor(Duration::from_secs(100)));
    impatient.vend(&user("alice")).await.unwrap();
    recorded.has(&[("rate_limit{}", 5.0), ("turn_duration_seconds{lane=interactive}", 1.0)]);
    // The clock stands still: there is no second turn.
    let refused = impatient.vend(&user("bob")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Throttled);
    recorded.has(&[("turns_refused_total{lane=interactive}", 1.0)]);
    let carol = user("carol");
    let mut waits = Box::pin(patient.vend(&carol));
    assert!(futures_util::poll!(&mut waits).is_pending());
    recorded.has(&[("turns_waiting{lane=interactive}", 1.0)]);
    drop(waits);
    recorded.has(&[("turns_waiting{lane=interactive}", 0.0)]);
    stage.clock.advance(Duration::from_secs(1));
    stage
        .pool
        .faults()
        .next_of(TOKEN, LocalFault::refuse("TooManyRequestsException").unwrap());
    impatient.vend(&user("dave")).await.unwrap_err();
    stage.clock.advance(Duration::from_secs(1));
    impatient.vend(&user("dave")).await.unwrap();
    recorded.has(&[("rate_limit{}", 4.25)]);
    recorded.names(LIMIT);
    drop((impatient, patient, limit));
    recorded.has(&[("rate_limit{}", 0.0)]);
}

#[tokio::test]
async fn refusals_of_users_and_guests_are_counted_by_cause() {
    let recorded = Recorded::start();
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    vendor.deny(&user("mallory")).await.unwrap();
    vendor.deny(&user("mallory")).await.unwrap();
    vendor.deny(&user("trudy")).await.unwrap();
    recorded.has(&[
        ("denied_users{}", 2.0),
        ("operations_total{operation=deny,outcome=ok}", 3.0),
    ]);
    vendor.allow(&user("mallory")).await.unwrap();
    vendor.allow(&user("alice")).await.unwrap();
    recorded.has(&[("denied_users{}", 1.0)]);
    let made = vendor.new_guest("device-1").await.unwrap();
    let claim = |client: &str| GuestClaim::new(made.ticket.expose(), made.identity_id.clone(), client);
    vendor
        .issue_guest_claim(&made.identity_id, "device-2")
        .await
        .unwrap_err();
    vendor.link_guest(&user("eve"), claim("device-2")).await.unwrap_err();
    let garbage = GuestClaim::new("garbage", made.identity_id.clone(), "device-1");
    vendor.link_guest(&user("eve"), garbage).await.unwrap_err();
    vendor.link_guest(&user("alice"), claim("device-1")).await.unwrap();
    vendor.link_guest(&user("eve"), claim("device-1")).await.unwrap_err();
    let keys = GuestClaims::hmac_sha256("another key of at least 32 bytes!").unwrap();
    let elsewhere = stage.vendor_builder().guest_claims(keys).build().unwrap();
    let made = elsewhere.new_guest("device-3").await.unwrap();
    let theirs = GuestClaim::new(made.ticket.expose(), made.identity_id, "device-3");
    vendor.link_guest(&user("eve"), theirs).await.unwrap_err();
    recorded.has(&[
        ("operations_total{operation=new_guest,outcome=ok}", 2.0),
        (
            "operations_total{operation=issue_guest_claim,outcome=claim_refused}",
            1.0,
        ),
        ("operations_total{operation=link_guest,outcome=ok}", 1.0),
        ("operations_total{operation=link_guest,outcome=claim_refused}", 4.0),
        ("guest_claims_refused_total{cause=foreign_client}", 1.0),
        ("guest_claims_refused_total{cause=forged}", 1.0),
        ("guest_claims_refused_total{cause=malformed}", 1.0),
        ("guest_claims_refused_total{cause=unknown_key}", 1.0),
        ("guest_claims_refused_total{cause=used}", 1.0),
    ]);
    recorded.names(REFUSALS);
    drop(vendor);
    recorded.has(&[("denied_users{}", 0.0)]);
}

#[tokio::test]
async fn verifications_are_counted_by_cause_and_the_keys_have_an_age() {
    let recorded = Recorded::start();
    let stage = Stage::start().await;
    let verifier = TokenVerifier::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&stage.config())
        .issuer_host(stage.pool.issuer_host())
        .jwks_uri(stage.pool.jwks_uri())
        .build()
        .unwrap();
    let vended = stage.vendor().vend(&user("alice")).await.unwrap();
    let token = vended.identity().token().expose_secret();
    verifier.verify(token).await.unwrap();
    verifier.verify(token).await.unwrap();
    verifier.verify("garbage").await.unwrap_err();
    // A key id that Cognito does not publish.
    let (_, rest) = token.split_once('.').unwrap();
    let header = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"kid":"forged","alg":"RS512"}"#);
    stage.clock.advance(Duration::from_secs(61));
    verifier.verify(&format!("{header}.{rest}")).await.unwrap_err();
    stage.clock.advance(Duration::from_secs(3_600));
    verifier.verify(token).await.unwrap_err();
    let now = recorded.get("keys_fetched_timestamp_seconds{}");
    assert_eq!(now, 1_790_000_061.0);
    recorded.has(&[
        ("verifications_total{cause=none,outcome=ok}", 2.0),
        ("verifications_total{cause=wrong_token_kind,outcome=invalid_token}", 1.0),
        ("verifications_total{cause=token_expired,outcome=invalid_token}", 1.0),
        (
            "verifications_total{cause=signature_not_verified,outcome=invalid_token}",
            1.0,
        ),
        ("key_fetches_total{outcome=ok}", 2.0),
    ]);
    recorded.names(VERIFIER);
}

#[tokio::test]
async fn users_are_counted_with_their_exchanges_and_the_age_of_what_they_use() {
    let recorded = Recorded::start();
    let stage = Stage::start().await;
    let users = UserCredentials::builder(stage.vendor()).build().unwrap();
    let (alice, bob) = (users.for_user(&user("alice")), users.for_user(&user("bob")));
    alice.provide_credentials().await.unwrap();
    alice.provide_credentials().await.unwrap();
    stage.pool.faults().next_of(EXCHANGE, LocalFault::Status(500));
    bob.provide_credentials().await.unwrap_err();
    recorded.has(&[
        ("users_kept{}", 2.0),
        ("exchanges_total{by=users,kind=first,outcome=ok}", 1.0),
        ("exchanges_total{by=users,kind=first,outcome=service}", 1.0),
        ("exchange_duration_seconds{by=users}", 2.0),
        ("turn_duration_seconds{lane=background}", 2.0),
        ("vends_total{operation=vend_in_process,outcome=ok,source=asked}", 2.0),
    ]);
    stage.clock.advance(Duration::from_secs(1_000));
    alice.provide_credentials().await.unwrap();
    assert_eq!(recorded.values("credentials_age_seconds{by=users}"), [0.0, 1_000.0]);
    stage.clock.advance(Duration::from_secs(2_600));
    alice.provide_credentials().await.unwrap();
    recorded.has(&[("exchanges_total{by=users,kind=refresh,outcome=ok}", 1.0)]);
    users.evict(&user("bob"));
    users.deny(&user("alice")).await.unwrap();
    recorded.has(&[("users_kept{}", 0.0)]);
    drop(users.for_user(&user("carol")));
    recorded.names(USERS);
    drop((users, alice, bob));
    recorded.has(&[("users_kept{}", 0.0)]);
}

#[tokio::test]
async fn an_app_counts_its_logins_their_exchanges_and_how_long_the_first_took() {
    let recorded = Recorded::start();
    let stage = Stage::start().await;
    let provider = stage.provider();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    let backend = stage.backend("alice");
    let alice = provider.switch_to(Login::developer(backend.clone()).subject("alice"));
    backend.order(Order::Fail(BackendError::transient("a proxy is down")));
    alice.ready().await.unwrap_err();
    stage.clock.advance(Duration::from_secs(7));
    alice.ready().await.unwrap();
    provider.provide_credentials().await.unwrap();
    stage.clock.advance(Duration::from_secs(3_600));
    provider.provide_credentials().await.unwrap();
    provider.sign_out();
    failure(&provider).await;
    recorded.has(&[
        ("login_changes_total{login=guest}", 1.0),
        ("login_changes_total{login=developer}", 1.0),
        ("login_changes_total{login=signed_out}", 1.0),
        ("exchanges_total{by=client,kind=first,outcome=ok}", 2.0),
        ("exchanges_total{by=client,kind=first,outcome=backend}", 1.0),
        ("exchanges_total{by=client,kind=refresh,outcome=ok}", 1.0),
        ("exchange_duration_seconds{by=client}", 4.0),
    ]);
    assert_eq!(recorded.values("first_credentials_seconds{login=guest}"), [0.0]);
    assert_eq!(recorded.values("first_credentials_seconds{login=developer}"), [7.0]);
    recorded.names(CLIENT);
}

/// A recorder that calls back into everything that it can reach, and panics.
struct Hostile {
    reach: std::sync::Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    inside: AtomicBool,
    told: AtomicUsize,
}

struct Handle(&'static Hostile);

impl Hostile {
    fn told(&self) {
        self.told.fetch_add(1, Ordering::SeqCst);
        if self.inside.swap(true, Ordering::SeqCst) {
            return;
        }
        let reach = self.reach.lock().unwrap().clone();
        if let Some(reach) = reach {
            reach();
        }
        self.inside.store(false, Ordering::SeqCst);
        std::panic::panic_any(Bomb);
    }
}

/// What the recorder panics with, which panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a payload that panics, too");
    }
}

impl CounterFn for Handle {
    fn increment(&self, _: u64) {
        self.0.told();
    }
    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        self.0.told();
    }
    fn decrement(&self, _: f64) {}
    fn set(&self, _: f64) {
        self.0.told();
    }
}

impl HistogramFn for Handle {
    fn record(&self, _: f64) {
        self.0.told();
    }
}

struct Hostiles(&'static Hostile);

impl Recorder for Hostiles {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        self.0.told();
    }
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Handle(self.0)))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Handle(self.0)))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Handle(self.0)))
    }
}

/// Each of the calls that take a lock of ours is made from within the recorder. One that was told of something under that lock would
/// wait for itself.
#[test]
fn a_recorder_that_calls_back_and_panics_harms_nobody() {
    let (done, ends) = std::sync::mpsc::channel();
    let run = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let outcome = std::panic::catch_unwind(|| runtime.block_on(under_a_hostile_recorder()));
        done.send(outcome.is_ok()).unwrap();
    });
    let ended = ends.recv_timeout(DEADLINE);
    assert_eq!(
        ended,
        Ok(true),
        "the recorder was called under a lock, or its panic came through"
    );
    run.join().unwrap();
}

#[allow(clippy::future_not_send, reason = "the recorder is this thread's")]
async fn under_a_hostile_recorder() {
    let hostile: &'static Hostile = Box::leak(Box::new(Hostile {
        reach: std::sync::Mutex::new(None),
        inside: AtomicBool::new(false),
        told: AtomicUsize::new(0),
    }));
    let _installed = metrics::set_default_local_recorder(Box::leak(Box::new(Hostiles(hostile))));
    let stage = Stage::start().await;
    let vendor = stage.vendor_builder().cache_capacity(1).build().unwrap();
    let users = UserCredentials::builder(vendor.clone()).capacity(2).build().unwrap();
    let provider = stage.provider();
    let reach = {
        let (vendor, users, provider) = (vendor.clone(), users.clone(), provider.clone());
        move || reach_everything(&vendor, &users, &provider)
    };
    *hostile.reach.lock().unwrap() = Some(Arc::new(reach));

    for name in ["alice", "alice", "bob", "carol"] {
        vendor.vend(&user(name)).await.unwrap();
        users.for_user(&user(name)).provide_credentials().await.unwrap();
    }
    vendor.vend_credentials(&user("alice")).await.unwrap();
    vendor.deny(&user("mallory")).await.unwrap();
    assert_eq!(
        vendor.vend(&user("mallory")).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    vendor.allow(&user("mallory")).await.unwrap();
    users.evict(&user("alice"));
    stage.pool.faults().next_of(TOKEN, LocalFault::Status(500));
    vendor.vend(&user("dave")).await.unwrap_err();
    let verifier = TokenVerifier::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&stage.config())
        .issuer_host(stage.pool.issuer_host())
        .jwks_uri(stage.pool.jwks_uri())
        .build()
        .unwrap();
    let vended = vendor.vend(&user("alice")).await.unwrap();
    verifier
        .verify(vended.identity().token().expose_secret())
        .await
        .unwrap();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    let alice = provider.switch_to(Login::developer(stage.backend("alice")));
    alice.ready().await.unwrap();
    provider.sign_out();
    users.close().await;
    assert!(hostile.told.load(Ordering::SeqCst) > 50);
    *hostile.reach.lock().unwrap() = None;
}

fn reach_everything(
    vendor: &TokenVendor,
    users: &UserCredentials,
    provider: &cognito_identity_pool::CognitoCredentialsProvider,
) {
    let nobody = user("nobody");
    let poll_once = |future: std::pin::Pin<Box<dyn Future<Output = ()> + '_>>| {
        let _: Option<()> = futures_util::FutureExt::now_or_never(future);
    };
    vendor.evict(&nobody);
    poll_once(Box::pin(async { drop(vendor.deny(&nobody).await) }));
    poll_once(Box::pin(async { drop(vendor.allow(&nobody).await) }));
    drop(vendor.health());
    poll_once(Box::pin(async { drop(vendor.vend(&nobody).await) }));
    let _: usize = users.metrics().users;
    let session = users.for_user(&nobody);
    poll_once(Box::pin(async { drop(session.provide_credentials().await) }));
    users.evict(&nobody);
    drop(provider.current());
    drop(provider.events());
    let session = provider.session();
    poll_once(Box::pin(async { drop(session.provide_credentials().await) }));
}
