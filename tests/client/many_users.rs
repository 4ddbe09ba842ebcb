//! Many users in one process: each with the user's own identity, kept, refreshed, dropped and denied apart from all others.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::stage::PROVIDER;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::TimeSource;
use aws_types::request_id::RequestId;
use cognito_identity_pool::{
    DeveloperUserId, ErrorKind, IdentityAdmin, LocalIdentityPool, Session, TokenVendor, UserCredentials,
    client::{ClassicFlow, Flow},
    local::LocalRole,
    server::PrincipalTags,
    users::{UserCredentialsBuilder, UserOptions},
};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// The wall clock of tokio's virtual time: where nothing is left to do, an hour passes at once.
#[derive(Debug, Clone)]
struct VirtualTime(tokio::time::Instant);

impl VirtualTime {
    fn start() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl TimeSource for VirtualTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + self.0.elapsed()
    }
}

struct Stage {
    pool: LocalIdentityPool,
}

impl Stage {
    async fn start() -> Self {
        let pool = LocalIdentityPool::builder()
            .developer_provider(PROVIDER)
            .time_source(VirtualTime::start())
            .start();
        Self {
            pool: pool.await.unwrap(),
        }
    }

    fn vendor(&self) -> TokenVendor {
        let vendor = TokenVendor::builder(self.pool.identity_pool_id(), PROVIDER)
            .configure(&self.pool.backend_config())
            .requests_per_second(None);
        vendor.build().unwrap()
    }

    fn builder(&self) -> UserCredentialsBuilder {
        UserCredentials::builder(self.vendor())
    }

    fn users(&self) -> UserCredentials {
        self.builder().build().unwrap()
    }

    /// Vends, exchanges.
    fn calls(&self) -> (usize, usize) {
        let count = |operation| self.pool.requests_of(operation).len();
        (
            count("GetOpenIdTokenForDeveloperIdentity"),
            count("GetCredentialsForIdentity"),
        )
    }
}

fn user(id: &str) -> DeveloperUserId {
    DeveloperUserId::new(id).unwrap()
}

async fn key(session: &Session) -> String {
    session.provide_credentials().await.unwrap().access_key_id().to_owned()
}

async fn refused(session: &Session) -> cognito_identity_pool::Error {
    crate::stage::ours(&session.provide_credentials().await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_sign_a_thousand_users_requests_each_as_its_own_user() {
    const USERS: usize = 1_000;
    const TASKS: usize = 64;
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .start()
        .await
        .unwrap();
    let http = aws_smithy_http_client::Builder::new().build_http();
    let over_sockets = |credentials| {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(pool.endpoint_url())
            .http_client(http.clone())
            .sleep_impl(TokioSleep::new());
        match credentials {
            Some(credentials) => config.credentials_provider(credentials).build(),
            None => config.build(),
        }
    };
    let developer = aws_credential_types::provider::SharedCredentialsProvider::new(pool.developer_credentials());
    let vendor = TokenVendor::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&over_sockets(Some(developer)))
        .endpoint_url(pool.endpoint_url())
        .requests_per_second(None)
        .build()
        .unwrap();
    let users = UserCredentials::builder(vendor.clone()).build().unwrap();
    let base = over_sockets(None);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (users, base) = (users.clone(), base.clone());
            tokio::spawn(async move {
                let mut calls = Vec::new();
                // Every user is worked for by two tasks at about the same time.
                for n in (0..USERS).filter(|n| n % 32 == task % 32) {
                    let session = users.for_user(&user(&format!("user-{n:04}")));
                    let sts = aws_sdk_sts::Client::new(&session.sdk_config(&base));
                    let answer = sts.get_caller_identity().send().await.unwrap();
                    calls.push((n, answer.request_id().unwrap().to_owned()));
                }
                calls
            })
        })
        .collect();
    let mut whose = HashMap::new();
    for task in tasks {
        whose.extend(task.await.unwrap().into_iter().map(|(n, request)| (request, n)));
    }
    let requests = pool.requests();
    let count = |operation| requests.iter().filter(|request| request.operation == operation).count();
    assert_eq!(count("GetOpenIdTokenForDeveloperIdentity"), USERS);
    assert_eq!(count("GetCredentialsForIdentity"), USERS);
    let signed: Vec<_> = requests
        .iter()
        .filter(|request| request.operation == "GetCallerIdentity")
        .collect();
    assert_eq!((signed.len(), whose.len()), (USERS * 2, USERS * 2));
    // Who a user is, by another way than the one that is tested.
    let mut identities = HashMap::new();
    for n in 0..USERS {
        let vended = vendor.vend(&user(&format!("user-{n:04}"))).await.unwrap();
        identities.insert(vended.identity_id().as_str().to_owned(), n);
    }
    assert_eq!(identities.len(), USERS);
    for request in signed {
        assert_eq!(
            identities[request.identity_id.as_deref().unwrap()],
            whose[&request.request_id]
        );
    }
    let metrics = users.metrics();
    assert_eq!((metrics.misses, metrics.hits, metrics.exchanges), (1_000, 1_000, 1_000));
}

#[tokio::test(start_paused = true)]
async fn many_callers_of_one_user_are_as_one() {
    let stage = Stage::start().await;
    let users = stage.users();
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let users = users.clone();
            tokio::spawn(async move { key(&users.for_user(&user("alice"))).await })
        })
        .collect();
    let mut keys = std::collections::HashSet::new();
    for caller in callers {
        keys.insert(caller.await.unwrap());
    }
    assert_eq!((keys.len(), stage.calls()), (1, (1, 1)));
    // Nobody holds the session any more, and it is still there.
    key(&users.for_user(&user("alice"))).await;
    assert_eq!((stage.calls(), users.metrics().users), ((1, 1), 1));
}

#[tokio::test(start_paused = true)]
async fn the_session_tells_who_the_user_is() {
    let stage = Stage::start().await;
    let (users, vendor) = (stage.users(), stage.vendor());
    let session = users.for_user(&user("alice"));
    let known = vendor.vend(&user("alice")).await.unwrap();
    assert_eq!(session.identity_id().await.unwrap(), *known.identity_id());
    assert_eq!(session.ready().await.unwrap().identity_id, *known.identity_id());
    assert!(session.is_current());
}

#[tokio::test(start_paused = true)]
async fn tags_are_part_of_whose_credentials_they_are() {
    let stage = Stage::start().await;
    let users = stage.users();
    let tags = |tenant: &str| UserOptions::new().principal_tags(PrincipalTags::new().with("tenant", tenant).unwrap());
    let plain = key(&users.for_user(&user("alice"))).await;
    let acme = key(&users.for_user_with(&user("alice"), &tags("acme")).unwrap()).await;
    let other = key(&users.for_user_with(&user("alice"), &tags("other")).unwrap()).await;
    assert!(plain != acme && acme != other && plain != other);
    let again = users.for_user_with(&user("alice"), &tags("acme")).unwrap();
    assert_eq!((key(&again).await, stage.calls()), (acme, (3, 3)));
    let plain_again = users.for_user_with(&user("alice"), &UserOptions::new()).unwrap();
    assert_eq!(key(&plain_again).await, plain);
    let sts = aws_sdk_sts::Client::new(&again.sdk_config(&stage.pool.client_config()));
    sts.get_caller_identity().send().await.unwrap();
    let signed = stage.pool.requests_of("GetCallerIdentity");
    assert_eq!(signed[0].principal_tags["tenant"], "acme");
}

#[tokio::test(start_paused = true)]
async fn an_evicted_user_gets_new_credentials_and_whoever_holds_the_old_session_goes_on() {
    let stage = Stage::start().await;
    let users = stage.users();
    let held = users.for_user(&user("alice"));
    let before = key(&held).await;
    users.evict(&user("alice"));
    assert_eq!(users.metrics().users, 0);
    let after = key(&users.for_user(&user("alice"))).await;
    assert_ne!(before, after);
    assert_eq!(key(&held).await, before);
    // It even refreshes.
    tokio::time::advance(HOUR).await;
    assert_ne!(key(&held).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_denied_user_is_refused_at_once_in_every_session_that_there_is() {
    let stage = Stage::start().await;
    let users = stage.users();
    let (alice, bob) = (user("alice"), user("bob"));
    let evicted = users.for_user(&alice);
    key(&evicted).await;
    users.evict(&alice);
    let held = users.for_user(&alice);
    let tagged = users
        .for_user_with(
            &alice,
            &UserOptions::new().principal_tags(PrincipalTags::new().with("a", "b").unwrap()),
        )
        .unwrap();
    key(&held).await;
    let client = aws_sdk_sts::Client::new(&held.sdk_config(&stage.pool.client_config()));
    client.get_caller_identity().send().await.unwrap();
    let bobs = users.for_user(&bob);
    let bobs_key = key(&bobs).await;

    users.deny(&alice).await.unwrap();
    for session in [&evicted, &held, &tagged, &users.for_user(&alice)] {
        assert_eq!(refused(session).await.kind(), ErrorKind::Denied);
        assert_eq!(session.identity_id().await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(session.ready().await.unwrap_err().kind(), ErrorKind::Denied);
    }
    let error = client.get_caller_identity().send().await.unwrap_err();
    assert_eq!(crate::stage::ours(&error).kind(), ErrorKind::Denied);
    assert_eq!(users.vendor().vend(&alice).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(key(&bobs).await, bobs_key);

    users.allow(&alice).await.unwrap();
    key(&users.for_user(&alice)).await;
    assert_eq!(refused(&held).await.kind(), ErrorKind::Denied);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_when_the_user_is_denied_is_refused() {
    let stage = Stage::start().await;
    let vendor = TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&stage.pool.backend_config())
        .requests_per_second(NonZeroU32::new(1).unwrap());
    let users = UserCredentials::builder(vendor.build().unwrap()).build().unwrap();
    key(&users.for_user(&user("first"))).await;
    let waiting = users.for_user(&user("alice"));
    let waiting = tokio::spawn(async move { refused(&waiting).await.kind() });
    crate::stage::idle().await;
    users.deny(&user("alice")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), ErrorKind::Denied);
    // And it was not for the answer that it waited.
    assert_eq!(stage.calls(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_users_failure_is_not_anothers() {
    let stage = Stage::start().await;
    let users = stage.users();
    let error = refused(&users.for_user(&user("alice@example.com"))).await;
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let bob = users.for_user(&user("bob"));
    key(&bob).await;
    assert_eq!(
        refused(&users.for_user(&user("alice@example.com"))).await.kind(),
        ErrorKind::Configuration
    );
    key(&bob).await;
    let text = format!("{error:?} {users:?} {bob:?}");
    assert!(!text.contains("bob") && !text.contains("alice"), "{text}");
    let metrics = users.metrics();
    assert_eq!((metrics.exchanges, metrics.failures), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_are_dropped_for_others() {
    let stage = Stage::start().await;
    let users = stage.builder().capacity(3).build().unwrap();
    let mut keys = Vec::new();
    for name in ["a", "b", "c"] {
        keys.push(key(&users.for_user(&user(name))).await);
        tokio::time::advance(MINUTE).await;
    }
    // Used through a session that was there before, which counts as well.
    let a = users.for_user(&user("a"));
    tokio::time::advance(MINUTE).await;
    assert_eq!(key(&a).await, keys[0]);
    key(&users.for_user(&user("d"))).await;
    assert_eq!((users.metrics().users, users.metrics().evictions), (3, 1));
    assert_eq!(key(&users.for_user(&user("a"))).await, keys[0]);
    assert_eq!(key(&users.for_user(&user("c"))).await, keys[2]);
    assert_ne!(key(&users.for_user(&user("b"))).await, keys[1]);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_idle_is_dropped_and_whoever_is_in_use_is_refreshed_ahead() {
    let stage = Stage::start().await;
    let users = stage.builder().time_to_idle(30 * MINUTE).build().unwrap();
    key(&users.for_user(&user("idle"))).await;
    let session = users.for_user(&user("busy"));
    let mut keys = vec![key(&session).await];
    for _ in 0..120 {
        tokio::time::sleep(MINUTE).await;
        let asked = stage.calls();
        let now = key(&session).await;
        // No caller ever waits for an exchange.
        assert_eq!(stage.calls(), asked);
        if keys.last() != Some(&now) {
            keys.push(now);
        }
    }
    let metrics = users.metrics();
    assert_eq!((metrics.users, metrics.evictions), (1, 1));
    assert!((3..=5).contains(&keys.len()), "{}", keys.len());
    assert_eq!(metrics.refreshes, keys.len() as u64 - 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_not_made_anew_for_each_lookup_and_is_let_go_when_nobody_has_it() {
    let stage = Stage::start().await;
    let users = stage.users();
    let alice = user("alice");
    let epoch = users.for_user(&alice).epoch();
    assert_eq!(users.for_user(&alice).epoch(), epoch);
    tokio::time::sleep(MINUTE).await;
    let held = users.for_user(&alice);
    assert_ne!(held.epoch(), epoch);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(users.for_user(&alice).epoch(), held.epoch());
}

#[tokio::test(start_paused = true)]
async fn a_herd_that_came_together_is_refreshed_evenly() {
    let stage = Stage::start().await;
    let users = stage.users();
    let sessions: Vec<_> = (0..200).map(|n| users.for_user(&user(&format!("user-{n}")))).collect();
    let mut exchanges = Vec::new();
    for _ in 0..180 {
        for session in &sessions {
            key(session).await;
        }
        exchanges.push(stage.calls().1);
        tokio::time::sleep(MINUTE).await;
    }
    assert_eq!(exchanges[0], 200);
    // From the first refresh on.
    let each = exchanges.windows(2).map(|counts| counts[1] - counts[0]);
    let each: Vec<_> = each.skip_while(|count| *count == 0).collect();
    let most = *each.iter().max().unwrap() as f64;
    let mean = each.iter().sum::<usize>() as f64 / each.len() as f64;
    // Without spreading it is two hundred.
    assert!(most <= 4.0 * mean, "{most} in a minute, {mean} in the mean: {each:?}");
    // Each user at most 1.4 times an hour.
    assert!(each.iter().sum::<usize>() as f64 <= 200.0 * 1.4 * 3.0, "{each:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_in_no_use_is_not_refreshed() {
    let stage = Stage::start().await;
    let users = stage.builder().time_to_idle(10 * HOUR).build().unwrap();
    key(&users.for_user(&user("alice"))).await;
    tokio::time::sleep(5 * HOUR).await;
    assert_eq!((stage.calls(), users.metrics().users), ((1, 1), 1));
    key(&users.for_user(&user("alice"))).await;
    assert_eq!(stage.calls(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_refresher_ends_with_the_last_handle() {
    let stage = Stage::start().await;
    let users = stage.users();
    key(&users.for_user(&user("alice"))).await;
    drop(users);
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(stage.calls(), (1, 1));
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn newcomers_beyond_the_quota_wait_their_turn_and_none_is_refused() {
    let stage = Stage::start().await;
    let vendor = TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&stage.pool.backend_config())
        .requests_per_second(NonZeroU32::new(10).unwrap());
    let users = UserCredentials::builder(vendor.build().unwrap()).build().unwrap();
    let start = tokio::time::Instant::now();
    let newcomers: Vec<_> = (0..300)
        .map(|n| {
            let session = users.for_user(&user(&format!("user-{n}")));
            tokio::spawn(async move { key(&session).await })
        })
        .collect();
    for newcomer in newcomers {
        newcomer.await.unwrap();
    }
    // Ten at once, then ten each second.
    let taken = start.elapsed().as_secs_f64();
    assert!((28.9..31.0).contains(&taken), "{taken}");
    assert_eq!((stage.calls(), users.metrics().throttles), ((300, 300), 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_would_wait_too_long_is_told_when_to_come_again() {
    let stage = Stage::start().await;
    let vendor = TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&stage.pool.backend_config())
        .requests_per_second(NonZeroU32::new(1).unwrap());
    let users = UserCredentials::builder(vendor.build().unwrap())
        .max_wait(Duration::ZERO)
        .build()
        .unwrap();
    key(&users.for_user(&user("first"))).await;
    let error = refused(&users.for_user(&user("second"))).await;
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::Throttled, Some(Duration::from_secs(1)))
    );
    assert_eq!(users.metrics().throttles, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    key(&users.for_user(&user("second"))).await;
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_identity_was_merged_is_told_and_starts_anew_after_an_eviction() {
    let stage = Stage::start().await;
    let users = stage.users();
    let (old, new) = (user("old-account"), user("new-account"));
    let session = users.for_user(&old);
    key(&session).await;
    let kept = users.for_user(&new).identity_id().await.unwrap();
    let admin = IdentityAdmin::builder(stage.pool.identity_pool_id(), PROVIDER)
        .configure(&stage.pool.backend_config())
        .build()
        .unwrap();
    admin.merge(&old, &new).await.unwrap();
    tokio::time::advance(HOUR).await;
    let error = refused(&session).await;
    assert_eq!(error.kind(), ErrorKind::IdentityChanged);
    assert!(!error.to_string().contains(kept.as_str()));
    users.evict(&old);
    assert_eq!(users.for_user(&old).identity_id().await.unwrap(), kept);
}

#[tokio::test(start_paused = true)]
async fn bad_settings_are_refused_by_name() {
    let stage = Stage::start().await;
    let error = stage.builder().capacity(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let role = UserOptions::new().role_arn("arn:aws:iam::123456789012:role/worker");
    let error = stage.users().for_user_with(&user("alice"), &role).unwrap_err();
    assert!(error.hint().unwrap().contains("Flow::classic"));
    let classic = ClassicFlow::builder().authenticated_role("arn:aws:iam::123456789012:role/member");
    let users = stage
        .builder()
        .flow(Flow::classic(classic.build().unwrap()))
        .build()
        .unwrap();
    let error = users
        .for_user_with(&user("alice"), &UserOptions::new().role_arn("worker"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    // As much as the tags' own limits allow is more than STS can pack.
    let tags = (0..50).map(|n| (format!("key-{n}"), "v".repeat(256)));
    let tags = UserOptions::new().principal_tags(PrincipalTags::try_from_iter(tags).unwrap());
    let session = users.for_user_with(&user("alice"), &tags).unwrap();
    assert_eq!(refused(&session).await.kind(), ErrorKind::Configuration);
    assert_eq!(stage.pool.requests_of("AssumeRoleWithWebIdentity").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn in_the_classic_flow_each_session_may_have_its_role_and_a_duration_beyond_it_is_explained() {
    let trust = r#"{"Statement":[{"Effect":"Allow","Principal":{"Federated":"cognito-identity.amazonaws.com"},
        "Action":"sts:AssumeRoleWithWebIdentity",
        "Condition":{"ForAnyValue:StringLike":{"cognito-identity.amazonaws.com:amr":"authenticated"}}}]}"#;
    let short = "arn:aws:iam::123456789012:role/short";
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .time_source(VirtualTime::start())
        .role(LocalRole::new(short, trust).unwrap());
    let stage = Stage {
        pool: pool.start().await.unwrap(),
    };
    let flow = ClassicFlow::builder()
        .authenticated_role("arn:aws:iam::123456789012:role/member")
        .duration(4 * HOUR);
    let users = stage
        .builder()
        .flow(Flow::classic(flow.build().unwrap()))
        .build()
        .unwrap();
    let arn = async |session: Session| {
        let sts = aws_sdk_sts::Client::new(&session.sdk_config(&stage.pool.client_config()));
        sts.get_caller_identity().send().await.map(|answer| answer.arn.unwrap())
    };
    assert!(arn(users.for_user(&user("alice"))).await.unwrap().contains("/member/"));
    let worker = UserOptions::new().role_arn("arn:aws:iam::123456789012:role/worker");
    assert!(
        arn(users.for_user_with(&user("alice"), &worker).unwrap())
            .await
            .unwrap()
            .contains("/worker/")
    );
    let short = users
        .for_user_with(&user("alice"), &UserOptions::new().role_arn(short))
        .unwrap();
    let error = refused(&short).await;
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.hint().unwrap().contains("MaxSessionDuration"));
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_wrapped_session_does_not_outlive_a_denial_in_the_sdks_cache() {
    let stage = Stage::start().await;
    let users = Arc::new(stage.users());
    let session = users.for_user(&user("alice"));
    // As aws-config's loader does it: the session in another wrapper, and its cache beside it.
    let config = stage
        .pool
        .client_config()
        .into_builder()
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
            session.clone(),
        ))
        .identity_cache(session.identity_cache())
        .build();
    let sts = aws_sdk_sts::Client::new(&config);
    sts.get_caller_identity().send().await.unwrap();
    sts.get_caller_identity().send().await.unwrap();
    users.deny(&user("alice")).await.unwrap();
    let error = sts.get_caller_identity().send().await.unwrap_err();
    assert_eq!(crate::stage::ours(&error).kind(), ErrorKind::Denied);
}
