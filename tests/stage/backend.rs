//! A backend in this process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_sdk_cognitoidentity::Client;
use cognito_identity_pool::{
    BackendError, DeveloperIdentity, DeveloperIdentityProvider, IdentityId, LocalIdentityPool, OpenIdToken,
    RefreshRequest, async_trait,
};

use super::PROVIDER;

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
    pub links: AtomicBool,
}

impl Backend {
    pub fn new(pool: &LocalIdentityPool, user: &str) -> Arc<Self> {
        Self::of(&pool.backend_config(), pool, user)
    }

    /// With a configuration of its own.
    pub fn of(config: &SdkConfig, pool: &LocalIdentityPool, user: &str) -> Arc<Self> {
        Arc::new(Self {
            client: Client::new(config),
            pool_id: pool.identity_pool_id().to_owned(),
            user: user.to_owned(),
            calls: AtomicUsize::new(0),
            seen: Mutex::default(),
            orders: Mutex::default(),
            token_seconds: AtomicUsize::new(900),
            links: AtomicBool::new(true),
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
