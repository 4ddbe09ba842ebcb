//! Many users in one process, on canned answers: memory per user, lookups beside a plain moka cache, ten thousand newcomers under
//! the quota, a day of a thousand users in virtual time, and one user with twenty thousand sets of options.
//!
//! `cargo bench --all-features --bench many_users`; with `--test` one quick round, to see that it runs; with `memory`, `newcomers`,
//! `day`, `lookups` or `options` that part alone.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark talks and stops at a failure"
)]

mod harness;

use std::future::Future;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_cognitoidentity::config::BehaviorVersion;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource, TimeSource};
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::{DateTime, Format};
use aws_types::region::Region;
use cognito_identity_pool::server::{PrincipalTags, VendRequest};
use cognito_identity_pool::users::UserOptions;
use cognito_identity_pool::{DeveloperUserId, TokenVendor, UserCredentials};
use harness::counting::{Count, Counting};
use harness::{is_quick, median, middle, ratio, table};

const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";
const PROVIDER: &str = "login.mycompany.myapp";
const ACCESS_KEY: usize = 20;
const SECRET_KEY: usize = 40;
const SESSION_TOKEN: usize = 1_200;

#[global_allocator]
static COUNTING: Counting = Counting;

/// The wall clock of tokio's virtual time.
#[derive(Debug)]
struct VirtualTime(tokio::time::Instant);

impl TimeSource for VirtualTime {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000) + self.0.elapsed()
    }
}

/// The second in which each call came: vends, exchanges.
#[derive(Default)]
struct Seen([Vec<u32>; 2]);

/// Answers as Cognito does, with credentials of one hour, and takes down when it was asked.
fn canned(time: SharedTimeSource, seen: Arc<Mutex<Seen>>) -> SdkConfig {
    let start = time.now();
    let clock = time.clone();
    let session_token = "t".repeat(SESSION_TOKEN);
    let secret_key = "s".repeat(SECRET_KEY);
    let keys = AtomicUsize::new(0);
    let http = infallible_client_fn(move |request: http::Request<SdkBody>| {
        let now = clock.now();
        let second = now.duration_since(start).unwrap().as_secs() as u32;
        let input: serde_json::Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let (body, which) = match input.get("IdentityPoolId") {
            Some(_) => {
                let user = input["Logins"][PROVIDER].as_str().unwrap();
                let number: u64 = user.rsplit('-').next().unwrap().parse().unwrap();
                let id = format!("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-{number:012x}");
                (format!(r#"{{"IdentityId":"{id}","Token":"opaque"}}"#), 0)
            }
            None => {
                let id = input["IdentityId"].as_str().unwrap();
                let expiration = now.duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600;
                let key = keys.fetch_add(1, Ordering::Relaxed);
                let body = format!(
                    r#"{{"IdentityId":"{id}","Credentials":{{"AccessKeyId":"ASIA{key:016}","SecretKey":"{secret_key}","SessionToken":"{session_token}","Expiration":{expiration}}}}}"#
                );
                (body, 1)
            }
        };
        seen.lock().unwrap().0[which].push(second);
        let date = DateTime::from(now).fmt(Format::HttpDate).unwrap();
        let response = http::Response::builder().status(200).header("date", date);
        response.body(SdkBody::from(body)).unwrap()
    });
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "AKIA", "secret", None, None, "bench",
        )))
        .time_source(time)
        .sleep_impl(TokioSleep::new())
        .http_client(http)
        .build()
}

fn users(config: &SdkConfig, per_second: Option<u32>) -> UserCredentials {
    let vendor = TokenVendor::builder(POOL, PROVIDER)
        .configure(config)
        .requests_per_second(per_second.and_then(NonZeroU32::new))
        .build()
        .unwrap();
    UserCredentials::builder(vendor).build().unwrap()
}

fn names(count: usize) -> Vec<DeveloperUserId> {
    (0..count)
        .map(|n| DeveloperUserId::new(format!("user-{n:06}")).unwrap())
        .collect()
}

fn in_virtual_time<F: Future>(work: impl FnOnce(SharedTimeSource) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async { work(SharedTimeSource::new(VirtualTime(tokio::time::Instant::now()))).await })
}

fn memory() {
    let count = if is_quick() { 2_000 } else { 100_000 };
    in_virtual_time(async |time| {
        let seen = Arc::<Mutex<Seen>>::default();
        let config = canned(time, Arc::clone(&seen));
        let users = users(&config, None);
        let names = names(count);
        let counted = Count::start();
        for name in &names {
            let session = users.for_user(name);
            session.provide_credentials().await.unwrap();
        }
        *seen.lock().unwrap() = Seen::default();
        let used = counted.bytes();
        // One round of the refresher, which lets go of what sessions that nobody holds have left behind.
        tokio::time::sleep(Duration::from_secs(11)).await;
        let settled = counted.bytes();
        assert_eq!(users.metrics().users, count);
        let held: Vec<_> = names.iter().map(|name| users.for_user(name)).collect();
        let with_sessions = counted.bytes() - (held.capacity() * size_of_val(&held[0])) as i64;
        drop(counted);
        let each = |bytes: i64| {
            let each = bytes as f64 / count as f64;
            let strings = (ACCESS_KEY + SECRET_KEY + SESSION_TOKEN) as f64;
            vec![format!("{each:.0}"), format!("{:.0}", each - strings)]
        };
        let row = |name: &str, bytes| [vec![name.to_owned()], each(bytes)].concat();
        table(
            &format!("Memory per user, {count} users, bytes"),
            &[
                row!["", "in all", "over the credential strings"],
                row("right after the exchange", used),
                row("settled (aim: 600)", settled),
                row("while each user's session is held", with_sessions),
            ],
        );
    });
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    let future = std::pin::pin!(future);
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it is no hit"),
    }
}

/// Nanoseconds of a call, with `threads` at it.
fn by_threads(threads: usize, count: usize, call: impl Fn(usize) + Sync) -> f64 {
    let rounds = if is_quick() { 1 } else { 400_000 / count };
    let taken = median(|| {
        let barrier = Barrier::new(threads + 1);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (barrier, call) = (&barrier, &call);
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..rounds {
                        for n in 0..count {
                            // Everybody elsewhere, and in no order that a cache line would like.
                            call((n * 7_919 + thread * 104_729 + round) % count);
                        }
                    }
                    barrier.wait();
                });
            }
            barrier.wait();
            let start = Instant::now();
            barrier.wait();
            start.elapsed()
        })
    });
    taken.as_nanos() as f64 / (rounds * count) as f64
}

fn lookups() {
    let counts: &[usize] = if is_quick() { &[500] } else { &[1_000, 10_000] };
    counts.iter().copied().for_each(lookups_among);
}

fn lookups_among(count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let time = SharedTimeSource::new(SystemTimeSource::new());
    let users = users(&canned(time, Arc::default()), None);
    let names = names(count);
    let plain: moka::sync::Cache<DeveloperUserId, Credentials> = moka::sync::Cache::builder()
        .max_capacity(100_000)
        .time_to_idle(Duration::from_secs(3_600))
        .build();
    let held: Vec<_> = runtime.block_on(async {
        let mut held = Vec::new();
        for name in &names {
            let session = users.for_user(name);
            plain.insert(name.clone(), session.provide_credentials().await.unwrap());
            held.push(session);
        }
        held
    });
    let mut rows = vec![row!["", "1 thread", "2 threads", "4 threads"]];
    let mut measure = |name: &str, call: &(dyn Fn(usize) + Sync)| {
        let nanos = [1, 2, 4].map(|threads| by_threads(threads, count, call));
        let cells = nanos.iter().map(|nanos| format!("{nanos:.0} ns"));
        rows.push([name.to_owned()].into_iter().chain(cells).collect());
        nanos
    };
    let moka = measure("a plain moka cache of credentials", &|n| {
        drop(black_box(plain.get(&names[n]).unwrap()))
    });
    measure("a session that is held", &|n| {
        drop(black_box(ready(held[n].provide_credentials()).unwrap()))
    });
    measure("for_user, the session in use elsewhere, and its credentials", &|n| {
        let session = users.for_user(&names[n]);
        drop(black_box(ready(session.provide_credentials()).unwrap()));
    });
    drop(held);
    let ours = measure("for_user, nobody else there, and its credentials", &|n| {
        let session = users.for_user(&names[n]);
        drop(black_box(ready(session.provide_credentials()).unwrap()));
    });
    let ratios = ours.iter().zip(moka).map(|(ours, moka)| format!("{:.2}", ours / moka));
    rows.push(
        ["the last against moka (aim: 1.5)".to_owned()]
            .into_iter()
            .chain(ratios)
            .collect(),
    );
    table(
        &format!("A warm user of {count}, looked up (aim: less than 300 ns)"),
        &rows,
    );
}

fn newcomers() {
    let count = if is_quick() { 500 } else { 10_000 };
    in_virtual_time(async |time| {
        let users = users(&canned(time, Arc::default()), Some(50));
        let start = tokio::time::Instant::now();
        let tasks: Vec<_> = names(count)
            .into_iter()
            .map(|name| {
                let users = users.clone();
                tokio::spawn(async move {
                    users
                        .for_user(&name)
                        .provide_credentials()
                        .await
                        .map(|_| start.elapsed())
                        .map_err(drop)
                })
            })
            .collect();
        let (mut refused, mut last) = (0, Duration::ZERO);
        for task in tasks {
            match task.await.unwrap() {
                Ok(after) => last = last.max(after),
                Err(()) => refused += 1,
            }
        }
        let quota = count as f64 / 50.0;
        table(
            &format!("{count} newcomers at once, 50 vends per second"),
            &[
                row!["refused", "the last served after", "the quota's own time", "more by"],
                row![
                    refused,
                    format!("{:.1} s", last.as_secs_f64()),
                    format!("{quota:.1} s"),
                    format!("{:.1} %", (last.as_secs_f64() / quota - 1.0) * 100.0)
                ],
            ],
        );
    });
}

fn a_day() {
    let (count, hours) = if is_quick() { (100, 3) } else { (1_000, 24) };
    in_virtual_time(async |time| {
        let seen = Arc::<Mutex<Seen>>::default();
        let users = users(&canned(time, Arc::clone(&seen)), Some(50));
        let names = names(count);
        let (mut failed, start, mut newcomers) = (0, tokio::time::Instant::now(), 0);
        // Everybody at work once a minute, a sixtieth of them in each second.
        for second in 0..hours * 3_600 {
            if second == 60 {
                // Some of them had to wait for their turn.
                newcomers = start.elapsed().as_secs() as u32 + 1;
            }
            for name in names.iter().skip(second % 60).step_by(60) {
                failed += usize::from(users.for_user(name).provide_credentials().await.is_err());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let seen = seen.lock().unwrap();
        let mut rows = vec![row![
            "",
            "per user and hour (aim: 1.4)",
            "most in a second",
            "against the mean (aim: 3)"
        ]];
        for (name, calls) in ["vends", "exchanges"].iter().zip(&seen.0) {
            let steady: Vec<_> = calls.iter().filter(|second| **second >= newcomers).collect();
            let mut seconds = vec![0_u32; hours * 3_600 + 60];
            steady.iter().for_each(|second| seconds[**second as usize] += 1);
            let mean = steady.len() as f64 / (hours * 3_600) as f64;
            let most = seconds.iter().max().copied().unwrap_or(0);
            rows.push(row![
                name,
                format!("{:.2}", calls.len() as f64 / (count * hours) as f64),
                most,
                format!("{:.1}", f64::from(most) / mean)
            ]);
        }
        table(
            &format!("{hours} hours of {count} users in use, {failed} refused"),
            &rows,
        );
        println!("\n{:?}", users.metrics());
    });
}

/// The time of `count` calls, one after the other.
async fn taken(count: usize, mut call: impl AsyncFnMut(usize)) -> Duration {
    let start = Instant::now();
    for n in 0..count {
        call(n).await;
    }
    start.elapsed()
}

/// All that is kept by user and options must find one of a user's many variants as fast as one of many users.
fn options() {
    let (count, rounds) = if is_quick() { (200, 1) } else { (20_000, 5) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = canned(SharedTimeSource::new(SystemTimeSource::new()), Arc::default());
    let vendor = || {
        TokenVendor::builder(POOL, PROVIDER)
            .configure(&config)
            .requests_per_second(None)
            .user_limit(NonZeroU32::MAX, Duration::from_nanos(1))
            .cache_capacity(count)
            .build()
            .unwrap()
    };
    let names = names(count);
    let tags: Vec<_> = (0..count)
        .map(|n| PrincipalTags::new().with("tenant", format!("tenant-{n}")).unwrap())
        .collect();
    let one = &names[0];
    let measure = async || {
        let (users_vendor, variants_vendor) = (vendor(), vendor());
        let vend = async |vendor: &TokenVendor, user: &DeveloperUserId, tags: &PrincipalTags| {
            let request = VendRequest::new(user.clone()).principal_tags(tags.clone());
            drop(black_box(vendor.vend_with(request).await.unwrap()));
        };
        let none = PrincipalTags::new();
        let of_users = async |n: usize| vend(&users_vendor, &names[n], &none).await;
        let of_variants = async |n: usize| vend(&variants_vendor, one, &tags[n]).await;
        let vends = async || [taken(count, of_users).await, taken(count, of_variants).await];
        let [vended, vended_again] = [vends().await, vends().await];
        let (users, variants) = (
            UserCredentials::builder(users_vendor).build().unwrap(),
            UserCredentials::builder(variants_vendor).build().unwrap(),
        );
        let of_users = async |n: usize| {
            let session = users.for_user(&names[n]);
            drop(black_box(session.provide_credentials().await.unwrap()));
        };
        let of_variants = async |n: usize| {
            let options = UserOptions::new().principal_tags(tags[n].clone());
            let session = variants.for_user_with(one, &options).unwrap();
            drop(black_box(session.provide_credentials().await.unwrap()));
        };
        let exchanges = async || [taken(count, of_users).await, taken(count, of_variants).await];
        let [exchanged, exchanged_again] = [exchanges().await, exchanges().await];
        let start = Instant::now();
        names.iter().for_each(|name| users.evict(name));
        let of_users = start.elapsed();
        let start = Instant::now();
        variants.evict(one);
        let evicted = [of_users, start.elapsed()];
        [vended, vended_again, exchanged, exchanged_again, evicted]
    };
    let rounds: Vec<_> = (0..rounds).map(|_| runtime.block_on(measure())).collect();
    let names = [
        "vended, first",
        "vended again",
        "credentials, first",
        "credentials again",
        "evicted, all of them",
    ];
    let mut rows = vec![row!["", "of as many users", "of one user's options", "ratio (aim: 2)"]];
    for (row, name) in names.iter().enumerate() {
        let of = |column: usize| middle(rounds.iter().map(|round| round[row][column]));
        let (users, variants) = (of(0), of(1));
        rows.push(row![
            name,
            format!("{users:.1?}"),
            format!("{variants:.1?}"),
            ratio(variants, users)
        ]);
    }
    table(&format!("{count} sets of options of one user, in turn"), &rows);
}

fn main() {
    let parts: [(&str, fn()); 5] = [
        ("options", options),
        ("memory", memory),
        ("newcomers", newcomers),
        ("day", a_day),
        ("lookups", lookups),
    ];
    let named = |name: &str| std::env::args().any(|argument| argument == name);
    let all = !parts.iter().any(|(name, _)| named(name));
    for (name, part) in parts {
        if all || named(name) {
            part();
        }
    }
}
