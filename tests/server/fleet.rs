//! What instances of a backend agree on: a store that they share, ways to it that fail, and clocks that differ, in virtual time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::time::TimeSource;
use cognito_identity_pool::server::{
    DenyListUpdates, GuestClaims, HttpRefusal, SharedStore, TokenVendorBuilder, UserIds, VendRequest,
};
use cognito_identity_pool::store::StoreError;
use cognito_identity_pool::{
    DeveloperUserId, Error, ErrorKind, IdentityAdmin, TokenVendor, UserCredentials, async_trait,
};

use crate::audit::{listen, logged};
use crate::model::{Network, POOL, Random, START};
use crate::stage::{CLAIMS_KEY, PROVIDER, idle, user};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How long the last list serves.
pub(crate) const MAX_STALE: Duration = Duration::from_secs(60);
/// By when a denial is known to every instance that still vends.
pub(crate) const STALENESS: Duration = Duration::from_secs(65);

/// The one store. What has expired stays in it, as in DynamoDB.
#[derive(Default)]
pub(crate) struct Central {
    entries: Mutex<BTreeMap<String, (String, Duration)>>,
}

/// An instance's way to the store.
#[derive(Clone)]
pub(crate) struct Link {
    central: Arc<Central>,
    began: tokio::time::Instant,
    pub(crate) state: Arc<LinkState>,
}

pub(crate) struct LinkState {
    pub(crate) cut: AtomicBool,
    pub(crate) faulty: AtomicBool,
    /// Milliseconds that each operation takes longer.
    slow: AtomicU64,
    random: Mutex<Random>,
    lists: AtomicUsize,
    gets: AtomicUsize,
}

/// What goes wrong with one operation.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Fault {
    None,
    /// It is done, and nobody is told.
    Lost,
    Twice,
    /// The answer is another key's.
    Mixed,
    /// What has expired is answered as if it had not.
    Expired,
}

impl Link {
    pub(crate) fn new(central: &Arc<Central>, began: tokio::time::Instant, seed: u64) -> Self {
        Self {
            central: Arc::clone(central),
            began,
            state: Arc::new(LinkState {
                cut: false.into(),
                faulty: false.into(),
                slow: 0.into(),
                random: Mutex::new(Random(seed | 1)),
                lists: AtomicUsize::new(0),
                gets: AtomicUsize::new(0),
            }),
        }
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.state.cut.store(cut, Ordering::SeqCst);
    }

    /// The operation takes its time, and may not arrive.
    async fn way(&self) -> Result<Fault, StoreError> {
        let (faulty, cut) = (
            self.state.faulty.load(Ordering::SeqCst),
            self.state.cut.load(Ordering::SeqCst),
        );
        let (pause, fault) = {
            let mut random = self.state.random.lock().unwrap();
            let pause = match random.below(12) {
                0 if faulty => random.below(4_000),
                _ => random.below(20),
            };
            let fault = match random.below(40) {
                0 | 1 if faulty => Fault::Lost,
                2 | 3 if faulty => Fault::Twice,
                4 if faulty => Fault::Mixed,
                5 if faulty => Fault::Expired,
                _ => Fault::None,
            };
            (pause + self.state.slow.load(Ordering::SeqCst), fault)
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if cut {
            return Err(StoreError::new("no route to the store"));
        }
        Ok(fault)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn told<T>(fault: Fault, answer: T) -> Result<T, StoreError> {
        if fault == Fault::Lost {
            return Err(StoreError::new("the answer was lost"));
        }
        Ok(answer)
    }
}

#[async_trait]
impl SharedStore for Link {
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        let fault = self.way().await?;
        let now = self.now();
        let mut entries = self.central.entries.lock().unwrap();
        let mut answer = None;
        for _ in 0..1 + usize::from(fault == Fault::Twice) {
            answer = entries
                .get(key)
                .filter(|(_, end)| *end > now || fault == Fault::Expired)
                .map(|(value, _)| value.clone());
            if answer.is_none() {
                entries.insert(key.to_owned(), (value.to_owned(), now + ttl));
            }
        }
        if fault == Fault::Mixed && answer.is_some() {
            answer = entries.values().next().map(|(value, _)| value.clone());
        }
        Self::told(fault, answer)
    }

    async fn put(&self, key: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        let fault = self.way().await?;
        let end = self.now() + ttl;
        let mut entries = self.central.entries.lock().unwrap();
        entries.insert(key.to_owned(), (value.to_owned(), end));
        Self::told(fault, ())
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.state.gets.fetch_add(1, Ordering::SeqCst);
        let fault = self.way().await?;
        let now = self.now();
        let entries = self.central.entries.lock().unwrap();
        let mut answer = entries
            .get(key)
            .filter(|(_, end)| *end > now || fault == Fault::Expired)
            .map(|(value, _)| value.clone());
        if fault == Fault::Mixed {
            answer = entries.values().next().map(|(value, _)| value.clone());
        }
        Self::told(fault, answer)
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let fault = self.way().await?;
        self.central.entries.lock().unwrap().remove(key);
        Self::told(fault, ())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.state.lists.fetch_add(1, Ordering::SeqCst);
        let fault = self.way().await?;
        let now = self.now();
        let entries = self.central.entries.lock().unwrap();
        let theirs = entries.iter().filter(|(key, _)| key.starts_with(prefix));
        let live = theirs.filter(|(_, (_, end))| *end > now || fault == Fault::Expired);
        let mut listed: Vec<_> = live.map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        if let (Fault::Mixed, Some((key, _)), Some((value, _))) =
            (fault, listed.last().cloned(), entries.values().next())
        {
            listed.pop();
            listed.push((key, value.clone()));
        }
        Self::told(fault, listed)
    }
}

/// A clock that is wrong by a while.
#[derive(Debug, Clone)]
struct Skewed {
    began: tokio::time::Instant,
    /// Seconds, of which 60 are none.
    ahead: u64,
}

impl TimeSource for Skewed {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(START + self.ahead - 60) + self.began.elapsed()
    }
}

pub(crate) struct Fleet {
    pub(crate) network: Network,
    pub(crate) central: Arc<Central>,
    began: tokio::time::Instant,
    links: AtomicUsize,
}

impl Fleet {
    pub(crate) fn new(seed: u64) -> Self {
        let network = Network::new(seed);
        network.faulty.store(false, Ordering::SeqCst);
        Self {
            network,
            central: Arc::default(),
            began: tokio::time::Instant::now(),
            links: AtomicUsize::new(0),
        }
    }

    pub(crate) fn link(&self, seed: u64) -> Link {
        let number = self.links.fetch_add(1, Ordering::SeqCst) as u64;
        Link::new(
            &self.central,
            self.began,
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 32),
        )
    }

    /// The config of an instance whose clock is `ahead - 60` seconds ahead.
    pub(crate) fn config(&self, ahead: u64) -> SdkConfig {
        let time = Skewed {
            began: self.began,
            ahead,
        };
        self.network.config().into_builder().time_source(time).build()
    }

    pub(crate) fn builder(&self, link: &Link, config: &SdkConfig) -> TokenVendorBuilder {
        TokenVendor::builder(POOL, PROVIDER)
            .configure(config)
            .retry_config(RetryConfig::disabled())
            .guest_claims(GuestClaims::hmac_sha256(CLAIMS_KEY).unwrap())
            .shared(link.clone())
    }

    pub(crate) fn admin(&self, link: &Link, config: &SdkConfig) -> IdentityAdmin {
        IdentityAdmin::builder(POOL, PROVIDER)
            .configure(config)
            .retry_config(RetryConfig::disabled())
            .shared(link.clone())
            .build()
            .unwrap()
    }

    /// A vendor with a way of its own to the store.
    fn vendor(&self) -> (TokenVendor, Link) {
        let link = self.link(1);
        (self.builder(&link, &self.config(60)).build().unwrap(), link)
    }

    pub(crate) fn identity_of(&self, user: &DeveloperUserId) -> Option<String> {
        self.network.cognito.lock().unwrap().identity_of(user.as_str())
    }
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

const DENIED: Option<ErrorKind> = Some(ErrorKind::Denied);

#[tokio::test(start_paused = true)]
async fn a_denial_reaches_every_instance_within_a_poll_and_outlives_a_restart() {
    let fleet = Fleet::new(1);
    let (here, _) = fleet.vendor();
    let (there, _) = fleet.vendor();
    let (alice, mallory) = (user("alice"), user("mallory"));
    for name in [&alice, &mallory] {
        here.vend(name).await.unwrap();
        there.vend(name).await.unwrap();
    }
    here.deny(&mallory).await.unwrap();
    assert_eq!(kind(here.vend(&mallory).await), DENIED, "at once where it was said");
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(kind(there.vend(&mallory).await), DENIED, "its token is cached there");
    assert_eq!(kind(there.vend_credentials(&mallory).await), DENIED);
    there.vend(&alice).await.unwrap();
    drop((here, there));
    let (restarted, _) = fleet.vendor();
    assert_eq!(kind(restarted.vend(&mallory).await), DENIED);
    // Taken back by whichever instance.
    restarted.allow(&mallory).await.unwrap();
    restarted.vend(&mallory).await.expect("at once where it was said");
    let (there, _) = fleet.vendor();
    there.vend(&mallory).await.unwrap();
    let keys: Vec<_> = fleet
        .central
        .entries
        .lock()
        .unwrap()
        .iter()
        .map(|e| format!("{e:?}"))
        .collect();
    assert!(!keys.concat().contains("mallory"), "hashed");
}

#[tokio::test(start_paused = true)]
async fn a_denial_with_an_end_ends() {
    let fleet = Fleet::new(1);
    let ((here, _), (there, _)) = (fleet.vendor(), fleet.vendor());
    there.vend(&user("alice")).await.unwrap();
    here.deny_for(&user("alice"), 30 * SECOND).await.unwrap();
    tokio::time::sleep(11 * SECOND).await;
    for vendor in [&here, &there] {
        assert_eq!(kind(vendor.vend(&user("alice")).await), DENIED);
    }
    tokio::time::sleep(30 * SECOND).await;
    for vendor in [&here, &there] {
        vendor.vend(&user("alice")).await.unwrap();
    }
    // The same in one process.
    let config = fleet.config(60);
    let alone = TokenVendor::builder(POOL, PROVIDER).configure(&config).build().unwrap();
    alone.deny_for(&user("alice"), 30 * SECOND).await.unwrap();
    assert_eq!(kind(alone.vend(&user("alice")).await), DENIED);
    tokio::time::sleep(31 * SECOND).await;
    alone.vend(&user("alice")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_the_last_list_serves_for_max_stale_and_then_nobody_is_vended_to() {
    let fleet = Fleet::new(1);
    let (vendor, link) = fleet.vendor();
    let alice = user("alice");
    vendor.vend(&alice).await.unwrap();
    link.cut(true);
    tokio::time::sleep(MAX_STALE - 3 * SECOND).await;
    vendor.vend(&alice).await.expect("the last list serves");
    vendor.vend(&user("bob")).await.expect("uncached, too");
    tokio::time::sleep(3 * SECOND).await;
    listen();
    for result in [
        vendor.vend(&alice).await,
        vendor.vend_with(VendRequest::new(alice.clone()).fresh(true)).await,
    ] {
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Store, true),
            "{error:?}"
        );
        assert!(error.to_string().contains("deny list") && error.to_string().contains("60 s"));
        assert!(error.hint().unwrap().contains("max_stale") && format!("{error:?}").contains("no route"));
        let refusal = HttpRefusal::from(&error);
        assert_eq!((refusal.status(), refusal.retry_after_secs()), (503, Some(2)));
    }
    assert_eq!(kind(vendor.vend_credentials(&alice).await), Some(ErrorKind::Store));
    assert!(
        logged()
            .lines()
            .any(|line| line.contains(r#"operation="vend""#) && line.contains(r#"outcome="Store""#)),
        "{}",
        logged()
    );
    // A denial fails to reach the others, says so, and counts here.
    let error = vendor.deny(&user("bob")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Store && error.hint().unwrap().contains("once more"));
    assert!(error.to_string().contains("shared store"), "{error}");
    link.cut(false);
    tokio::time::sleep(3 * SECOND).await;
    vendor.vend(&alice).await.expect("the store is back");
    assert_eq!(kind(vendor.vend(&user("bob")).await), DENIED);
    tokio::time::sleep(11 * SECOND).await;
    vendor
        .vend(&user("bob"))
        .await
        .expect("what counts is what all instances know");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_when_the_list_becomes_too_old_is_not_handed_out() {
    let fleet = Fleet::new(1);
    let (vendor, link) = fleet.vendor();
    vendor.vend(&user("alice")).await.unwrap();
    link.cut(true);
    tokio::time::sleep(MAX_STALE - SECOND).await;
    fleet.network.there.store(2_000, Ordering::SeqCst);
    assert_eq!(kind(vendor.vend(&user("bob")).await), Some(ErrorKind::Store));
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_the_first_list_share_one_poll_and_no_task_outlives_the_vendor() {
    let fleet = Fleet::new(1);
    let (vendor, link) = fleet.vendor();
    let vends = (0..50).map(|n| {
        let vendor = vendor.clone();
        async move { vendor.vend(&user(&format!("user-{n}"))).await.unwrap() }
    });
    futures_util::future::join_all(vends).await;
    assert_eq!(link.state.lists.load(Ordering::SeqCst), 1);
    // Nobody vends, and the list is kept up to date all the same, for the sessions on the vendor.
    tokio::time::sleep(35 * SECOND).await;
    assert_eq!(link.state.lists.load(Ordering::SeqCst), 4);
    let store = Arc::downgrade(&link.state);
    drop((vendor, link));
    idle().await;
    assert!(store.upgrade().is_none(), "a task holds the store");
}

#[tokio::test(start_paused = true)]
async fn sessions_of_other_instances_end_when_they_hear_of_a_denial() {
    let fleet = Fleet::new(1);
    let ((here, _), (there, _)) = (fleet.vendor(), fleet.vendor());
    let users = UserCredentials::builder(there).build().unwrap();
    let (mallory, alice) = (users.for_user(&user("mallory")), users.for_user(&user("alice")));
    for session in [&mallory, &alice] {
        session.provide_credentials().await.unwrap();
    }
    here.deny(&user("mallory")).await.unwrap();
    tokio::time::sleep(11 * SECOND).await;
    for session in [&mallory, &users.for_user(&user("mallory"))] {
        assert_eq!(kind(session.identity_id().await), DENIED);
    }
    alice.provide_credentials().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_function_reads_for_each_vend_that_is_not_cached() {
    let fleet = Fleet::new(1);
    let link = fleet.link(1);
    let builder = fleet.builder(&link, &fleet.config(60));
    let vendor = builder
        .deny_list(DenyListUpdates::read_for_each_vend())
        .build()
        .unwrap();
    let (here, _) = fleet.vendor();
    let mallory = user("mallory");
    let gets = || link.state.gets.load(Ordering::SeqCst);
    vendor.vend(&mallory).await.unwrap();
    let first = gets();
    vendor.vend(&mallory).await.unwrap();
    assert_eq!(gets(), first, "cached");
    here.deny(&mallory).await.unwrap();
    let fresh = VendRequest::new(mallory.clone()).fresh(true);
    assert_eq!(
        kind(vendor.vend_with(fresh).await),
        DENIED,
        "read before it is vended anew"
    );
    here.allow(&mallory).await.unwrap();
    vendor
        .vend_with(VendRequest::new(mallory.clone()).fresh(true))
        .await
        .unwrap();
    // A cached one is not handed out on what was read longer than max_stale ago.
    here.deny(&mallory).await.unwrap();
    tokio::time::sleep(MAX_STALE).await;
    assert_eq!(kind(vendor.vend(&mallory).await), DENIED);
    link.cut(true);
    vendor.vend(&user("alice")).await.unwrap_err();
    assert_eq!(kind(vendor.vend(&user("alice")).await), Some(ErrorKind::Store));
    assert_eq!(link.state.lists.load(Ordering::SeqCst), 0, "nothing is polled");
    // What it says itself it knows.
    link.cut(false);
    vendor.vend(&user("alice")).await.unwrap();
    vendor.deny(&user("alice")).await.unwrap();
    assert_eq!(kind(vendor.vend(&user("alice")).await), DENIED);
    vendor.allow(&user("alice")).await.unwrap();
    vendor.vend(&user("alice")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_user_may_cause_counts_when_it_is_asked_of_the_service_not_while_it_waits_for_the_store() {
    let fleet = Fleet::new(1);
    let link = fleet.link(1);
    for cached in [0, 1_000] {
        let vendor = fleet
            .builder(&link, &fleet.config(60))
            .deny_list(DenyListUpdates::read_for_each_vend())
            .cache_capacity(cached)
            .user_limit(1.try_into().unwrap(), SECOND)
            .build()
            .unwrap();
        let vend = || vendor.vend_with(VendRequest::new(user("alice")).fresh(true));
        vend().await.unwrap();
        link.state.slow.store(1_500, Ordering::SeqCst);
        vend().await.expect("the second of the first is over");
        link.state.slow.store(0, Ordering::SeqCst);
        assert_eq!(
            kind(vend().await),
            Some(ErrorKind::Throttled),
            "that of the second is not"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_would_run_out_between_two_polls_is_a_wrong_setting() {
    let fleet = Fleet::new(1);
    let build = |updates| {
        fleet
            .builder(&fleet.link(1), &fleet.config(60))
            .deny_list(updates)
            .build()
    };
    let updates = |interval, max_stale| DenyListUpdates::polled_every(SECOND * interval).max_stale(SECOND * max_stale);
    let error = build(updates(10, 21)).unwrap_err();
    assert!(error.kind() == ErrorKind::Configuration && error.hint().unwrap().contains("read_for_each_vend"));
    assert!(build(updates(10, 22)).is_ok());
    assert!(build(DenyListUpdates::read_for_each_vend().max_stale(Duration::ZERO)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_list_is_no_list() {
    let fleet = Fleet::new(1);
    let ((here, _), (there, _)) = (fleet.vendor(), fleet.vendor());
    there.vend(&user("alice")).await.unwrap();
    here.deny(&user("mallory")).await.unwrap();
    for (value, _) in fleet.central.entries.lock().unwrap().values_mut() {
        *value = "rubbish".to_owned();
    }
    tokio::time::sleep(MAX_STALE + SECOND).await;
    let error = there.vend(&user("alice")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(format!("{error:?}").contains("cannot be read"), "{error:?}");
}

// ---- forgetting -------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_forgotten_user_is_refused_everywhere_until_it_is_complete_and_no_old_token_is_vended_afterwards() {
    let fleet = Fleet::new(1);
    let ((here, link), (there, _), (cut_off, cut)) = (fleet.vendor(), fleet.vendor(), fleet.vendor());
    let admin = fleet.admin(&link, &fleet.config(60));
    let alice = user("alice");
    let sessions = UserCredentials::builder(cut_off.clone()).build().unwrap();
    let session = sessions.for_user(&alice);
    session.provide_credentials().await.unwrap();
    let old = here.vend(&alice).await.unwrap();
    for vendor in [&there, &cut_off] {
        vendor.vend(&alice).await.unwrap();
    }
    cut.cut(true);
    let forget = tokio::spawn({
        let (admin, here, alice) = (admin.clone(), here.clone(), alice.clone());
        async move { admin.forget_user(&alice, &[&here]).await }
    });
    tokio::time::sleep(12 * SECOND).await;
    let error = there.vend(&alice).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Denied, true));
    cut_off
        .vend(&alice)
        .await
        .expect("it has not heard, and the identity is still there");
    tokio::time::sleep(50 * SECOND).await;
    assert!(
        fleet.identity_of(&alice).is_some(),
        "others may have a list from before"
    );
    assert_eq!(kind(cut_off.vend(&alice).await), Some(ErrorKind::Store));
    let report = forget.await.unwrap().unwrap();
    assert!(report.is_complete() && report.identities.deleted.contains(old.identity_id()));
    assert_eq!(fleet.identity_of(&alice), None);
    assert_eq!(admin.unfinished_forgets().await.unwrap(), []);
    // The one that was cut off hears of it when it is back: neither is the old token vended, nor does its session come back.
    cut.cut(false);
    tokio::time::sleep(15 * SECOND).await;
    session.provide_credentials().await.unwrap_err();
    tokio::time::sleep(900 * SECOND).await;
    session.provide_credentials().await.unwrap_err();
    assert_eq!(
        fleet.identity_of(&alice),
        None,
        "somebody who did not hear made it anew"
    );
    let mut vended = None;
    for vendor in [&cut_off, &here, &there] {
        let now = vendor.vend(&alice).await.expect("the app lets the user in again");
        assert_ne!(now.identity_id(), old.identity_id());
        assert!(vended.is_none_or(|before| before == *now.identity_id()));
        vended = Some(now.identity_id().clone());
    }
}

#[tokio::test(start_paused = true)]
async fn what_began_before_a_user_was_forgotten_and_waited_for_the_store_does_not_land_afterwards() {
    let alice = user("alice");
    for updates in [
        DenyListUpdates::polled_every(10 * SECOND),
        DenyListUpdates::read_for_each_vend(),
    ] {
        let fleet = Fleet::new(1);
        let ((here, link), slow) = (fleet.vendor(), fleet.link(1));
        let there = fleet
            .builder(&slow, &fleet.config(60))
            .deny_list(updates)
            .build()
            .unwrap();
        let admin = fleet.admin(&link, &fleet.config(60));
        here.vend(&alice).await.unwrap();
        let forget = tokio::spawn({
            let (admin, here, alice) = (admin.clone(), here.clone(), alice.clone());
            async move { admin.forget_user(&alice, &[&here]).await }
        });
        while fleet.identity_of(&alice).is_some() {
            tokio::time::sleep(SECOND / 1_000).await;
        }
        slow.state.slow.store(1_900, Ordering::SeqCst);
        let vend = tokio::spawn({
            let (there, alice) = (there.clone(), alice.clone());
            async move { there.vend(&alice).await }
        });
        idle().await;
        assert!(!forget.is_finished(), "it begins before");
        assert!(forget.await.unwrap().unwrap().is_complete());
        assert!(!vend.is_finished(), "it still waits for the store");
        let error = vend.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Denied, true));
        assert_eq!(fleet.identity_of(&alice), None);
        tokio::time::sleep(SECOND).await;
        there
            .vend(&alice)
            .await
            .expect("what begins afterwards makes a new identity");
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_cut_off_all_the_while_does_not_vend_what_it_has_kept() {
    let fleet = Fleet::new(1);
    let ((here, link), (cut_off, cut)) = (fleet.vendor(), fleet.vendor());
    let admin = fleet.admin(&link, &fleet.config(60));
    let old = cut_off.vend(&user("alice")).await.unwrap();
    cut.cut(true);
    let report = admin.forget_user(&user("alice"), &[&here]).await.unwrap();
    assert!(report.is_complete());
    cut.cut(false);
    tokio::time::sleep(3 * SECOND).await;
    let vended = cut_off.vend(&user("alice")).await.unwrap();
    assert_ne!(vended.identity_id(), old.identity_id(), "a token of the dead identity");
}

#[tokio::test(start_paused = true)]
async fn forgetting_does_not_start_while_the_store_is_down_and_another_instance_goes_on_where_one_has_ended() {
    let fleet = Fleet::new(1);
    let ((here, link), (there, other)) = (fleet.vendor(), fleet.vendor());
    let alice = user("alice");
    here.vend(&alice).await.unwrap();
    let admin = fleet.admin(&link, &fleet.config(60));
    link.cut(true);
    assert_eq!(kind(admin.forget_user(&alice, &[&here]).await), Some(ErrorKind::Store));
    assert!(fleet.identity_of(&alice).is_some());
    link.cut(false);
    // It ends in the middle: while it waits, and while it takes down.
    fleet.network.loses.lock().unwrap().replace("DeleteIdentities");
    let dropped = tokio::time::timeout(30 * SECOND, admin.forget_user(&alice, &[&here])).await;
    assert!(dropped.is_err() && fleet.identity_of(&alice).is_some());
    assert_eq!(admin.unfinished_forgets().await.unwrap(), std::slice::from_ref(&alice));
    let report = admin.forget_user(&alice, &[&here]).await.unwrap();
    assert!(!report.is_complete());
    assert_eq!(kind(there.vend(&alice).await), DENIED, "held until it is complete");
    drop((admin, here));
    let admin = fleet.admin(&other, &fleet.config(60));
    let unfinished = admin.unfinished_forgets().await.unwrap();
    let before = tokio::time::Instant::now();
    let report = admin.forget_user(&unfinished[0], &[&there]).await.unwrap();
    assert!(report.is_complete());
    assert!(before.elapsed() < MAX_STALE, "everybody knows already");
    assert_eq!(admin.unfinished_forgets().await.unwrap(), []);
    there.vend(&alice).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn users_who_share_the_identity_are_held_everywhere_too() {
    let fleet = Fleet::new(1);
    let ((here, link), (there, _)) = (fleet.vendor(), fleet.vendor());
    let admin = fleet.admin(&link, &fleet.config(60));
    here.vend(&user("alice")).await.unwrap();
    here.vend(&user("alice-too")).await.unwrap();
    admin.merge(&user("alice-too"), &user("alice")).await.unwrap();
    let old = there.vend(&user("alice-too")).await.unwrap();
    let report = admin.forget_user(&user("alice"), &[&here]).await.unwrap();
    assert!(report.is_complete() && report.unlinked.len() == 2, "{report:?}");
    tokio::time::sleep(11 * SECOND).await;
    let new = there.vend(&user("alice-too")).await.unwrap();
    assert_ne!(new.identity_id(), old.identity_id());
}

#[tokio::test(start_paused = true)]
async fn an_administration_without_the_store_of_its_vendors_is_a_wrong_setting() {
    let fleet = Fleet::new(1);
    let (vendor, _) = fleet.vendor();
    let config = fleet.config(60);
    let admin = IdentityAdmin::builder(POOL, PROVIDER)
        .configure(&config)
        .build()
        .unwrap();
    let error = admin.forget_user(&user("alice"), &[&vendor]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Configuration && error.hint().unwrap().contains(".shared("));
}

// ---- pseudonyms of another key ----------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn users_keep_their_identities_under_the_pseudonyms_of_another_key() {
    let fleet = Fleet::new(1);
    let ((vendor, link), (_, other)) = (fleet.vendor(), fleet.vendor());
    let admin = fleet.admin(&link, &fleet.config(60));
    let old = UserIds::hmac_sha256(CLAIMS_KEY).unwrap();
    let new = UserIds::hmac_sha256("fedcba9876543210fedcba9876543210").unwrap();
    let identity = |ids: &UserIds, name: &str| fleet.identity_of(&ids.pseudonym(name).unwrap());
    let users = ["alice", "bob", "carol", "nobody"];
    for name in &users[..3] {
        vendor.vend(&old.pseudonym(name).unwrap()).await.unwrap();
    }
    let before: Vec<_> = users.iter().map(|name| identity(&old, name)).collect();
    // Carol has come by an identity under the new key: what is in it is hers.
    vendor.vend(&new.pseudonym("carol").unwrap()).await.unwrap();
    let dry = admin.rekey_dry_run(&old, &new, &users).await;
    assert_eq!(
        (dry.moved.len(), dry.unknown, dry.conflicts.len()),
        (2, 1, 1),
        "{dry:?}"
    );
    assert_eq!(identity(&new, "alice"), None, "nothing was changed");
    // Alice's is cut off between the two halves, and another instance goes on.
    fleet
        .network
        .loses
        .lock()
        .unwrap()
        .replace("GetOpenIdTokenForDeveloperIdentity");
    listen();
    let report = admin.rekey(&vendor, &old, &new, &users).await;
    assert_eq!((report.moved.len(), report.failed.len()), (1, 1), "{report:?}");
    assert_ne!(identity(&new, "alice"), before[0]);
    let again = fleet.admin(&other, &fleet.config(60));
    let report = again.rekey(&vendor, &old, &new, &users).await;
    assert_eq!(
        (report.moved.len(), report.moved_before, report.unknown),
        (1, 1, 1),
        "{report:?}"
    );
    assert!(!report.is_complete() && report.conflicts.len() == 1);
    for (name, before) in users[..2].iter().zip(&before) {
        assert!(identity(&new, name) == *before && identity(&old, name) == *before);
    }
    assert_ne!(identity(&new, "carol"), before[2], "never touched");
    let pseudonym = new.pseudonym("alice").unwrap();
    for operation in ["rekey", "vend", "merge"] {
        for phase in ["begin", "end"] {
            let (operation, phase) = (format!(r#"operation="{operation}""#), format!(r#"phase="{phase}""#));
            let told = |line: &str| {
                [&*operation, &phase, pseudonym.as_str()]
                    .iter()
                    .all(|part| line.contains(part))
            };
            assert!(logged().lines().any(told), "{operation} {phase} not in\n{}", logged());
        }
    }
}
