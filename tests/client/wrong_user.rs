//! Over sockets, with many tasks and a service that fails one time in ten: no operation is ever signed by a user who was not signed
//! in when it was under way, and none by two, whatever stands between the client and the provider.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::config::Region;
use cognito_identity_pool::local::LocalFault;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, Error, ErrorKind, LocalIdentityPool, Login, Session,
    developer::developer_fn,
};
use tokio::sync::watch;

use crate::any_service::{AnyService, role_of};
use crate::composition::{assumed_on, in_a_task, waits_afterwards};
use crate::stage::script::no_pause;
use crate::stage::{Backend, PROVIDER};

const TASKS: usize = 64;
const SWITCHES: usize = 1_000;
/// How long a user's credentials may be signed with after the switch, where nobody can be told of it.
const LEASE: Duration = Duration::from_secs(1);

/// What stands between the clients and the provider.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wiring {
    Provider,
    Session,
    Loader,
    AssumedRole,
    Chain,
    WrapperThatWaits,
    WrapperWithATask,
    /// Each of two providers on the other's configuration.
    TwoProviders,
    /// No identity cache of ours: the SDK's own.
    Plain,
    ConfigOverride,
}

struct Ground {
    wiring: Wiring,
    service: AnyService,
    base: SdkConfig,
    providers: [CognitoCredentialsProvider; 2],
    users: Vec<(String, DeveloperIdentity)>,
    _pool: LocalIdentityPool,
}

impl Ground {
    async fn new(wiring: Wiring) -> Self {
        let pool = LocalIdentityPool::builder()
            .developer_provider(PROVIDER)
            .start()
            .await
            .unwrap();
        // Under a lease each switch is to another user: within a second all of a few would be signed in.
        let count = if wiring == Wiring::Plain { SWITCHES + 1 } else { 5 };
        let mut users = Vec::new();
        for n in 0..count {
            let backend = Backend::new(&pool, &format!("user-{n}"));
            backend.token_seconds.store(86_400, Ordering::SeqCst);
            let identity = backend.vend(None).await.unwrap();
            users.push((identity.identity_id().as_str().to_owned(), identity));
        }
        pool.faults().seeded(7, 10, [LocalFault::Status(503)]);
        let service = AnyService::start(&pool).await;
        service.fail_each(10);
        let base = SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(Region::new(pool.region().to_owned()))
            .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
            .time_source(aws_smithy_async::time::SystemTimeSource::new())
            .build();
        let provider = || {
            let builder = CognitoCredentialsProvider::builder(pool.identity_pool_id()).configure(&base);
            let builder = builder.endpoint_url(pool.endpoint_url()).retry_config(no_pause());
            let builder = if wiring == Wiring::Plain {
                builder.lease(LEASE)
            } else {
                builder
            };
            builder.build().unwrap()
        };
        Self {
            wiring,
            base: service.config(&base),
            providers: [provider(), provider()],
            service,
            users,
            _pool: pool,
        }
    }

    /// Who is signed in at a provider after the n-th switch.
    fn user(&self, provider: usize, n: usize) -> &(String, DeveloperIdentity) {
        &self.users[(n + 2 * provider) % self.users.len()]
    }

    fn switch(&self, n: usize) -> Session {
        let [first, _] = [0, 1].map(|provider| {
            let identity = self.user(provider, n).1.clone();
            let login = Login::developer(developer_fn(move |_| {
                let identity = identity.clone();
                async move { Ok::<_, BackendError>(identity) }
            }));
            self.providers[provider].switch_to(login)
        });
        first
    }

    /// Whose sessions a task's operations are of.
    fn provider_of(&self, task: usize) -> usize {
        if self.wiring == Wiring::TwoProviders {
            task % 2
        } else {
            0
        }
    }

    /// The client of a task; for a bound one there is none but the session's.
    async fn client(&self, task: usize) -> aws_sdk_sts::Client {
        let provider = &self.providers[self.provider_of(task)];
        let on = |config: &SdkConfig| aws_sdk_sts::config::Builder::from(config);
        let ours = provider.sdk_config(&self.base);
        let config = match self.wiring {
            Wiring::Provider | Wiring::Session => on(&ours),
            Wiring::Loader => {
                let loaded = self.base.to_builder().identity_cache(provider.identity_cache());
                on(&loaded
                    .credentials_provider(SharedCredentialsProvider::new(provider.clone()))
                    .build())
            }
            Wiring::AssumedRole => on(&ours).credentials_provider(assumed_on(&ours).await),
            Wiring::Chain => on(&ours).credentials_provider(
                CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
                    .or_else("cognito", provider.clone()),
            ),
            Wiring::WrapperThatWaits => on(&ours).credentials_provider(waits_afterwards(provider)),
            Wiring::WrapperWithATask => on(&ours).credentials_provider(in_a_task(provider)),
            Wiring::TwoProviders => {
                let other = self.providers[1 - self.provider_of(task)].sdk_config(&self.base);
                on(&other).credentials_provider(provider.clone())
            }
            // Without a cache of ours only an interceptor knows that an attempt is a later one.
            Wiring::Plain => on(&self.base)
                .credentials_provider(provider.clone())
                .interceptor(provider.rejection_interceptor()),
            Wiring::ConfigOverride => on(&ours),
        };
        aws_sdk_sts::Client::from_conf(config.build())
    }
}

/// An operation that has ended.
struct Done {
    number: usize,
    task: usize,
    /// The last switch that had returned when it began, and the last that had begun when it ended.
    from: usize,
    to: usize,
    began: Instant,
    error: Option<Option<ErrorKind>>,
}

async fn never_signs_as_anybody_else(wiring: Wiring) {
    let ground = Arc::new(Ground::new(wiring).await);
    let (in_force, _) = watch::channel((0, ground.switch(0)));
    let in_force = Arc::new(in_force);
    let (asked, begun, returned) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let counters = Arc::new((asked, begun, returned));
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(watch::Sender::new(0_usize)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (ground, counters, in_force) = (Arc::clone(&ground), Arc::clone(&counters), Arc::clone(&in_force));
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                let client = ground.client(task).await;
                let (asked, begun, returned) = &*counters;
                let mut done = Vec::new();
                while !stop.load(Ordering::SeqCst) || done.is_empty() {
                    let number = asked.fetch_add(1, Ordering::SeqCst);
                    let (began, mut from) = (Instant::now(), returned.load(Ordering::SeqCst));
                    let mut bound = None;
                    if wiring == Wiring::Session {
                        let (n, session) = in_force.borrow().clone();
                        from = n;
                        bound = Some(aws_sdk_sts::Client::new(&session.sdk_config(&ground.base)));
                    }
                    let client = bound.as_ref().unwrap_or(&client);
                    let mut call = client.get_caller_identity().customize().mutate_request(move |request| {
                        request.headers_mut().insert("x-number", number.to_string());
                    });
                    if wiring == Wiring::ConfigOverride {
                        let own = aws_sdk_sts::Config::builder().credentials_provider(ground.providers[0].clone());
                        call = call.config_override(own);
                    }
                    let result = call.send().await;
                    let to = if bound.is_some() {
                        from
                    } else {
                        begun.load(Ordering::SeqCst)
                    };
                    served.send_modify(|served| *served += usize::from(result.is_ok()));
                    let error = result.err().map(|error| Error::find(&error).map(Error::kind));
                    done.push(Done {
                        number,
                        task,
                        from,
                        to,
                        began,
                        error,
                    });
                    if task % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                done
            })
        })
        .collect();
    // When each user's turn was over.
    let mut over = vec![Instant::now()];
    for n in 1..=SWITCHES {
        counters.1.store(n, Ordering::SeqCst);
        let session = ground.switch(n);
        over.push(Instant::now());
        in_force.send_replace((n, session));
        counters.2.store(n, Ordering::SeqCst);
        // Most switches come in the middle of a sign-in; every tenth user is left to do something.
        let enough = *served.borrow() + if n % 10 == 0 { 20 } else { 0 };
        tokio::task::yield_now().await;
        served.subscribe().wait_for(|served| *served >= enough).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let mut done = Vec::new();
    for task in tasks {
        done.extend(task.await.unwrap());
    }

    let mut signers = HashMap::<usize, Vec<String>>::new();
    for seen in ground.service.seen() {
        if let Some(number) = seen.number {
            signers.entry(number).or_default().push(seen.by);
        }
    }
    let (mut signed, mut ended, mut retried) = (0, 0, 0);
    for done in done {
        let number = done.number;
        let mut signers = signers.remove(&number).unwrap_or_default();
        retried += usize::from(signers.len() > 1);
        signers.dedup();
        assert!(signers.len() <= 1, "operation {number} was signed by {signers:?}");
        if let Some(signer) = signers.first() {
            // One who was signed in between its start and its end; with no switch in between, that very one. Under a lease also
            // one whose turn ended less than the lease before its start.
            let leased = (0..done.from)
                .rev()
                .take_while(|n| wiring == Wiring::Plain && over[n + 1] + LEASE > done.began);
            let label = |n: usize| {
                let id = &ground.user(ground.provider_of(done.task), n).0;
                if wiring == Wiring::AssumedRole {
                    role_of(id)
                } else {
                    id.clone()
                }
            };
            let allowed: Vec<_> = (done.from..=done.to).chain(leased).map(label).collect();
            let from = done.from;
            assert!(
                allowed.contains(signer),
                "operation {number}, begun at switch {from}, was signed by {signer}"
            );
            signed += 1;
        }
        match done.error {
            Some(Some(ErrorKind::SessionEnded)) => ended += 1,
            // The service's 503, three times in a row, comes without an error of ours.
            None | Some(None) => {}
            Some(Some(kind)) => assert!(matches!(kind, ErrorKind::Service), "operation {number}: {kind:?}"),
        }
    }
    println!("{signed} operations signed, {retried} of them retried, {ended} ended");
    assert!(signed > SWITCHES && ended > 0 && retried > 0);
}

macro_rules! never_signs_as_anybody_else {
    ($($name:ident: $wiring:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            never_signs_as_anybody_else(Wiring::$wiring).await;
        }
    )*};
}

never_signs_as_anybody_else! {
    on_the_providers_configuration: Provider,
    on_a_sessions_configuration: Session,
    through_the_loader_with_our_identity_cache: Loader,
    with_a_role_assumed_on_top: AssumedRole,
    in_a_chain_of_providers: Chain,
    in_a_wrapper_that_waits: WrapperThatWaits,
    in_a_wrapper_with_a_task_of_its_own: WrapperWithATask,
    on_another_providers_configuration: TwoProviders,
    as_a_plain_provider_but_for_the_lease: Plain,
    as_an_operations_own_credentials: ConfigOverride,
}
