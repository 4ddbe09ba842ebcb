//! What the tests of the client half use: providers, backends, external logins, and what the pool was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_cognitoidentity::Client;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, Error, IdentityId, Login, Logins, async_trait,
    client::CognitoCredentialsProviderBuilder, local::LocalIssuer, logins::LoginsProvider, token::RefreshReason,
};

use super::{Backend, Stage, ours};

impl Stage {
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

    /// Deletes an identity at the pool, behind everybody's back.
    pub async fn delete(&self, id: &IdentityId) {
        Client::new(&self.pool.backend_config())
            .delete_identities()
            .identity_ids_to_delete(id.as_str())
            .send()
            .await
            .unwrap();
    }

    /// How many identities the pool has, those that were merged away included.
    pub async fn identities(&self) -> usize {
        let pages = Client::new(&self.pool.backend_config())
            .list_identities()
            .identity_pool_id(self.pool.identity_pool_id())
            .max_results(60)
            .send();
        pages.await.unwrap().identities().len()
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
