//! Over sockets, with many tasks and a service that fails one time in ten: no operation is ever signed by a user who was not signed
//! in when it began.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::stage::script::no_pause;
use crate::stage::{Backend, PROVIDER};
use aws_sdk_sts::config::Region;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, ErrorKind, LocalIdentityPool, Login,
    developer::developer_fn, local::LocalFault,
};
use tokio::sync::watch;

const TASKS: usize = 64;
const SWITCHES: usize = 1_000;
const USERS: usize = 5;

/// Who has signed which request, by its `x-request` header: written down by the server, before any fault.
type Record = Arc<Mutex<HashMap<String, String>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_and_a_thousand_switches_over_sockets() {
    // Access key -> identity, as the pool gave them out.
    let owners: Record = Arc::default();
    let issued = Arc::clone(&owners);
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .on_request(move |request| {
            if let (Some(key), Some(id)) = (&request.issued_access_key_id, &request.identity_id) {
                issued.lock().unwrap().insert(key.clone(), id.clone());
            }
        })
        .start()
        .await
        .unwrap();
    let mut users: Vec<(String, DeveloperIdentity)> = Vec::new();
    for n in 0..USERS {
        let backend = Backend::new(&pool, &format!("user-{n}"));
        backend.token_seconds.store(86_400, Ordering::SeqCst);
        let identity = backend.vend(None).await.unwrap();
        users.push((identity.identity_id().as_str().to_owned(), identity));
    }
    pool.faults().seeded(7, 10, [LocalFault::Status(503)]);

    let base = aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(Region::new(pool.region().to_owned()))
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
            aws_smithy_async::rt::sleep::TokioSleep::new(),
        ))
        .time_source(aws_smithy_async::time::SystemTimeSource::new())
        .endpoint_url(pool.endpoint_url())
        .retry_config(no_pause())
        .build();
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&base)
        .endpoint_url(pool.endpoint_url())
        .retry_config(no_pause())
        .build()
        .unwrap();
    let login = {
        let users = users.clone();
        move |n: usize| {
            let identity = users[n % USERS].1.clone();
            Login::developer(developer_fn(move |_| {
                let identity = identity.clone();
                async move { Ok::<_, BackendError>(identity) }
            }))
        }
    };
    provider.switch_to(login(0));

    // What signs is seen in the client, attempt by attempt.
    let (asked, signers) = (
        AtomicUsize::new(0),
        Arc::new(Mutex::new(HashMap::<usize, Vec<String>>::new())),
    );
    // The number of the last switch that has begun, and of the last that has returned.
    let (begun, returned) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(watch::Sender::new(0_usize)));
    let asked = Arc::new(asked);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (provider, base) = (provider.clone(), base.clone());
            let (asked, signers, begun, returned, stop, served) = (
                Arc::clone(&asked),
                Arc::clone(&signers),
                Arc::clone(&begun),
                Arc::clone(&returned),
                Arc::clone(&stop),
                Arc::clone(&served),
            );
            tokio::spawn(async move {
                let config = provider.sdk_config(&base);
                let conf = aws_sdk_sts::config::Builder::from(&config);
                let conf = conf.interceptor(Signers(Arc::clone(&signers))).build();
                let sts = aws_sdk_sts::Client::from_conf(conf);
                let mut seen = Vec::new();
                while !stop.load(Ordering::SeqCst) || seen.is_empty() {
                    let number = asked.fetch_add(1, Ordering::SeqCst);
                    let from = returned.load(Ordering::SeqCst);
                    let call = sts.get_caller_identity().customize().mutate_request(move |request| {
                        request.headers_mut().insert("x-number", number.to_string());
                    });
                    let result = call.send().await;
                    let to = begun.load(Ordering::SeqCst);
                    served.send_modify(|served| *served += usize::from(result.is_ok()));
                    let kind = result
                        .err()
                        .map(|error| cognito_identity_pool::Error::find(&error).map(|ours| ours.kind()));
                    seen.push((number, from, to, kind));
                    if task % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                seen
            })
        })
        .collect();
    for n in 1..=SWITCHES {
        begun.store(n, Ordering::SeqCst);
        provider.switch_to(login(n));
        returned.store(n, Ordering::SeqCst);
        // Most switches come in the middle of a sign-in; every tenth user is left to do something.
        let enough = *served.borrow() + if n % 10 == 0 { 20 } else { 0 };
        tokio::task::yield_now().await;
        served.subscribe().wait_for(|served| *served >= enough).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);

    let (mut signed, mut ended, mut retried) = (0, 0, 0);
    let mut by_task = Vec::new();
    for task in tasks {
        by_task.extend(task.await.unwrap());
    }
    // Only now: the last of them have got credentials after the stop.
    let owners = owners.lock().unwrap().clone();
    let signers = signers.lock().unwrap();
    for (number, from, to, kind) in by_task {
        let keys = signers.get(&number).cloned().unwrap_or_default();
        let mut ids: Vec<_> = keys.iter().map(|key| owners[key].clone()).collect();
        retried += usize::from(ids.len() > 1);
        ids.dedup();
        assert!(ids.len() <= 1, "operation {number} was signed by {ids:?}");
        if let Some(id) = ids.first() {
            // Signed by one who was signed in between its start and its end; with no switch in between, by that very one.
            let allowed: Vec<_> = (from..=to).map(|n| users[n % USERS].0.clone()).collect();
            assert!(
                allowed.contains(id),
                "operation {number}, begun at switch {from}, was signed by {id}"
            );
            signed += 1;
        }
        match kind {
            Some(Some(ErrorKind::SessionEnded)) => ended += 1,
            // The service's 503, three times in a row, comes without an error of ours.
            None | Some(None) => {}
            Some(Some(kind)) => assert!(matches!(kind, ErrorKind::Service), "operation {number}: {kind:?}"),
        }
    }
    println!("{signed} operations signed, {retried} of them retried, {ended} ended");
    assert!(signed > SWITCHES && ended > 0 && retried > 0);
}

/// Writes down who signs each attempt of each operation.
#[derive(Debug)]
struct Signers(Arc<Mutex<HashMap<usize, Vec<String>>>>);

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl aws_sdk_sts::config::Intercept for Signers {
    fn name(&self) -> &'static str {
        "Signers"
    }

    fn read_before_transmit(
        &self,
        context: &aws_sdk_sts::config::interceptors::BeforeTransmitInterceptorContextRef<'_>,
        _: &aws_sdk_sts::config::RuntimeComponents,
        _: &mut aws_sdk_sts::config::ConfigBag,
    ) -> Result<(), aws_sdk_sts::error::BoxError> {
        let headers = context.request().headers();
        let number = headers.get("x-number").unwrap().parse().unwrap();
        let signer = headers
            .get("authorization")
            .unwrap()
            .split_once("Credential=")
            .unwrap()
            .1;
        let key = signer.split('/').next().unwrap().to_owned();
        self.0.lock().unwrap().entry(number).or_default().push(key);
        Ok(())
    }
}
