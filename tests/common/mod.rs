//! What the tests share: a local pool with a clock that is turned by hand, and a backend that counts and obeys.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's failure is a panic")]

pub mod script;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_sdk_cognitoidentity::Client;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, Error, IdentityId,
    LocalIdentityPool, Login, Logins, OpenIdToken, RefreshRequest, async_trait,
    client::CognitoCredentialsProviderBuilder,
    local::{LocalClock, LocalIssuer},
    logins::LoginsProvider,
    token::RefreshReason,
};

pub const PROVIDER: &str = "login.mycompany.myapp";

/// A pool, its clock, and what both halves need to reach it.
pub struct Stage {
    pub pool: LocalIdentityPool,
    pub clock: LocalClock,
}

impl Stage {
    pub async fn start() -> Self {
        Self::with(true).await
    }

    pub async fn with(guests: bool) -> Self {
        // A whole second: the service's times have no fractions.
        let clock = LocalClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000));
        let pool = LocalIdentityPool::builder()
            .developer_provider(PROVIDER)
            .allow_guests(guests)
            .time_source(clock.clone())
            .start()
            .await
            .unwrap();
        Self { pool, clock }
    }

    pub fn builder(&self) -> CognitoCredentialsProviderBuilder {
        CognitoCredentialsProvider::builder(self.pool.identity_pool_id()).configure(&self.pool.client_config())
    }

    pub fn provider(&self) -> CognitoCredentialsProvider {
        self.builder().build().unwrap()
    }

    pub fn backend(&self, user: &str) -> Arc<Backend> {
        Backend::new(&self.pool, user)
    }

    /// A social provider of the pool.
    pub fn google(&self) -> LocalIssuer {
        self.pool.oidc_issuer(Logins::GOOGLE).unwrap()
    }

    pub fn facebook(&self) -> LocalIssuer {
        self.pool.oidc_issuer(Logins::FACEBOOK).unwrap()
    }

    fn admin(&self) -> Client {
        Client::new(&self.pool.backend_config())
    }

    /// Deletes an identity at the pool, behind everybody's back.
    pub async fn delete(&self, id: &IdentityId) {
        self.admin()
            .delete_identities()
            .identity_ids_to_delete(id.as_str())
            .send()
            .await
            .unwrap();
    }

    /// How many identities the pool has, those that were merged away included.
    pub async fn identities(&self) -> usize {
        let pages = self
            .admin()
            .list_identities()
            .identity_pool_id(self.pool.identity_pool_id())
            .max_results(60)
            .send();
        pages.await.unwrap().identities().len()
    }

    pub fn sts(&self, config: &aws_config::SdkConfig) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(config)
    }

    pub fn calls(&self, operation: &str) -> usize {
        self.pool.requests_of(operation).len()
    }

    /// GetId, GetCredentialsForIdentity.
    pub fn cognito_calls(&self) -> (usize, usize) {
        (self.calls("GetId"), self.calls("GetCredentialsForIdentity"))
    }

    /// Which identity signed the last call of STS.
    pub fn last_signer(&self) -> Option<String> {
        let calls = self.pool.requests_of("GetCallerIdentity");
        self.pool.identity_of(calls.last()?.access_key_id.as_deref()?)
    }
}

/// What the backend is to do with a request, in place of vending.
pub enum Order {
    Fail(BackendError),
    Panic,
    /// Answers what is given, whoever asks.
    Answer(DeveloperIdentity),
    /// Holds the answer back until it is let go.
    Hold(tokio::sync::oneshot::Receiver<()>),
}

/// A backend in this process: asks the pool for tokens with developer credentials, counts, and obeys.
pub struct Backend {
    client: Client,
    pool_id: String,
    pub user: String,
    calls: AtomicUsize,
    pub seen: Mutex<Vec<RefreshRequest>>,
    pub orders: Mutex<VecDeque<Order>>,
    pub token_seconds: AtomicUsize,
    /// Links the guest that the request names, as a backend does that knows the guest to be this client's.
    pub links: std::sync::atomic::AtomicBool,
}

impl Backend {
    pub fn new(pool: &LocalIdentityPool, user: &str) -> Arc<Self> {
        Arc::new(Self {
            client: Client::new(&pool.backend_config()),
            pool_id: pool.identity_pool_id().to_owned(),
            user: user.to_owned(),
            calls: AtomicUsize::new(0),
            seen: Mutex::default(),
            orders: Mutex::default(),
            token_seconds: AtomicUsize::new(900),
            links: std::sync::atomic::AtomicBool::new(true),
        })
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn order(&self, order: Order) {
        self.orders.lock().unwrap().push_back(order);
    }

    pub fn hold(&self) -> tokio::sync::oneshot::Sender<()> {
        let (release, held) = tokio::sync::oneshot::channel();
        self.order(Order::Hold(held));
        release
    }

    pub async fn vend(&self, guest: Option<&IdentityId>) -> Result<DeveloperIdentity, BackendError> {
        let answer = self
            .client
            .get_open_id_token_for_developer_identity()
            .identity_pool_id(&self.pool_id)
            .set_identity_id(guest.map(|id| id.as_str().to_owned()))
            .logins(PROVIDER, &self.user)
            .token_duration(self.token_seconds.load(Ordering::SeqCst) as i64)
            .send()
            .await;
        let answer = match (answer, guest) {
            (Ok(answer), _) => answer,
            (Err(_), Some(_)) => return Box::pin(self.vend(None)).await,
            (Err(error), None) => return Err(error.into()),
        };
        let id = IdentityId::new(answer.identity_id.unwrap())?;
        Ok(DeveloperIdentity::new(id, OpenIdToken::new(answer.token.unwrap())?))
    }
}

#[async_trait]
impl DeveloperIdentityProvider for Backend {
    async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().unwrap().push(request.clone());
        let order = self.orders.lock().unwrap().pop_front();
        match order {
            Some(Order::Fail(error)) => return Err(error),
            Some(Order::Panic) => panic!("the backend's code panicked with canary-panic"),
            Some(Order::Answer(answer)) => return Ok(answer),
            Some(Order::Hold(held)) => held.await.unwrap_or_default(),
            None => {}
        }
        let links = self.links.load(Ordering::SeqCst);
        self.vend(request.guest_to_link().filter(|_| links)).await
    }
}

/// External logins that count how often they are asked for, and can be changed.
pub struct Wallet {
    pub logins: Mutex<Logins>,
    asked: AtomicUsize,
    pub reasons: Mutex<Vec<RefreshReason>>,
    /// Takes the place of `logins` once a token was rejected.
    pub renewed: Mutex<Option<Logins>>,
}

impl Wallet {
    pub fn new(logins: Logins) -> Arc<Self> {
        Arc::new(Self {
            logins: Mutex::new(logins),
            asked: AtomicUsize::new(0),
            reasons: Mutex::default(),
            renewed: Mutex::default(),
        })
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl LoginsProvider for Wallet {
    async fn logins(&self, reason: RefreshReason) -> Result<Logins, BackendError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.reasons.lock().unwrap().push(reason);
        let renewed = if reason == RefreshReason::TokenRejected {
            self.renewed.lock().unwrap().take()
        } else {
            None
        };
        if let Some(renewed) = renewed {
            *self.logins.lock().unwrap() = renewed;
        }
        Ok(self.logins.lock().unwrap().clone())
    }
}

pub fn google(issuer: &LocalIssuer, user: &str) -> Logins {
    Logins::new().google(issuer.token(user)).unwrap()
}

pub fn google_login(issuer: &LocalIssuer, user: &str) -> Login {
    Login::external(google(issuer, user))
}

pub async fn key(provider: &CognitoCredentialsProvider) -> String {
    use aws_credential_types::provider::ProvideCredentials;
    provider.provide_credentials().await.unwrap().access_key_id().to_owned()
}

pub async fn failure(provider: &CognitoCredentialsProvider) -> Error {
    use aws_credential_types::provider::ProvideCredentials;
    ours(&provider.provide_credentials().await.unwrap_err())
}

/// Our error in an SDK error.
pub fn ours<E: std::error::Error + 'static>(error: &E) -> Error {
    Error::find(error)
        .unwrap_or_else(|| panic!("no error of ours in {error:?}"))
        .clone()
}
