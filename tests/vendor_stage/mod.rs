//! A local pool over a socket, with a clock that is turned by hand, and what a backend and its clients do with it.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's failure is a panic")]

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_cognitoidentity::Client;
use aws_sdk_cognitoidentity::error::ProvideErrorMetadata;
use cognito_identity_pool::{
    DeveloperUserId, IdentityAdmin, IdentityId, LocalIdentityPool, TokenVendor,
    local::{LocalClock, LocalIdentityPoolBuilder},
    server::{GuestClaims, TokenVendorBuilder, VendedToken},
};

pub const PROVIDER: &str = "login.mycompany.myapp";
pub const CLAIMS_KEY: &str = "0123456789abcdef0123456789abcdef";

pub struct Stage {
    pub pool: LocalIdentityPool,
    pub clock: LocalClock,
}

impl Stage {
    pub async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    pub async fn with(change: impl FnOnce(LocalIdentityPoolBuilder) -> LocalIdentityPoolBuilder) -> Self {
        // A whole second: the service's times have no fractions.
        let clock = LocalClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000));
        let builder = LocalIdentityPool::builder()
            .developer_provider(PROVIDER)
            .allow_guests(true)
            .time_source(clock.clone());
        let pool = change(builder).start().await.unwrap();
        Self { pool, clock }
    }

    /// The backend's config, with the SDK's own HTTP client: what is sent goes over a socket.
    pub fn config(&self) -> SdkConfig {
        let mut config = self.pool.backend_config().into_builder();
        config.set_http_client(None);
        config.build()
    }

    pub fn vendor_builder(&self) -> TokenVendorBuilder {
        TokenVendor::builder(self.pool.identity_pool_id(), PROVIDER)
            .configure(&self.config())
            .endpoint_url(self.pool.endpoint_url())
            .retry_config(RetryConfig::disabled())
            .guest_claims(GuestClaims::hmac_sha256(CLAIMS_KEY).unwrap())
    }

    pub fn vendor(&self) -> TokenVendor {
        self.vendor_builder().build().unwrap()
    }

    pub fn admin(&self) -> IdentityAdmin {
        IdentityAdmin::builder(self.pool.identity_pool_id(), PROVIDER)
            .configure(&self.config())
            .endpoint_url(self.pool.endpoint_url())
            .retry_config(RetryConfig::disabled())
            .build()
            .unwrap()
    }

    /// A client of the end user's, without any credentials.
    pub fn client(&self) -> Client {
        let mut config = self.pool.client_config().into_builder();
        config.set_http_client(None);
        Client::new(&config.endpoint_url(self.pool.endpoint_url()).build())
    }

    /// A new guest, as a client makes one.
    pub async fn guest(&self) -> IdentityId {
        let answer = self
            .client()
            .get_id()
            .identity_pool_id(self.pool.identity_pool_id())
            .send()
            .await
            .unwrap();
        IdentityId::new(answer.identity_id.unwrap()).unwrap()
    }

    /// Whether whoever knows the id alone can be this identity.
    pub async fn is_guest(&self, identity: &IdentityId) -> bool {
        self.client()
            .get_credentials_for_identity()
            .identity_id(identity.as_str())
            .send()
            .await
            .is_ok()
    }

    /// Exchanges a token for credentials, as a client does: the access key, or the service's code.
    pub async fn exchange(&self, vended: &VendedToken) -> Result<String, String> {
        let request = self
            .client()
            .get_credentials_for_identity()
            .identity_id(vended.identity_id().as_str());
        let token = vended.identity().token().expose_secret();
        match request.logins(self.pool.issuer_host(), token).send().await {
            Ok(answer) => Ok(answer.credentials.unwrap().access_key_id.unwrap()),
            Err(error) => Err(error.code().unwrap_or_default().to_owned()),
        }
    }

    pub fn calls(&self, operation: &str) -> usize {
        self.pool.requests_of(operation).len()
    }

    /// The operations that were called with a signature.
    pub fn signed_operations(&self) -> BTreeSet<String> {
        let signed = self.pool.requests().into_iter().filter(|request| request.authorization);
        signed
            .map(|request| format!("cognito-identity:{}", request.operation))
            .collect()
    }
}

pub fn user(id: &str) -> DeveloperUserId {
    DeveloperUserId::new(id).unwrap()
}

/// The actions that a policy document allows.
pub fn actions(policy: &str) -> BTreeSet<String> {
    let policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    let statements = policy["Statement"].as_array().unwrap().iter();
    let actions = statements.flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}
