//! `LocalIdentityPool`: the handle that tests hold.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::SdkConfig;
use aws_types::region::Region;
use bytes::Bytes;
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use super::builder::LocalIdentityPoolBuilder;
use super::client::InProcess;
use super::error::LocalPoolError;
use super::faults::LocalFaults;
use super::http::Server;
use super::issuers::{AmrForm, LocalIssuer, TrustedIssuer};
use super::pool_service::{LOCAL_APP, PoolService};
use super::record::LocalRequest;
use super::rules::{self, FidelityRule};
use super::snapshot::Snapshot;
use super::state_file::StateWriter;

/// An identity pool, with STS, that runs in this process and refuses what Cognito refuses.
///
/// It has two forms of one service: an HTTP server on 127.0.0.1 ([`endpoint_url`](Self::endpoint_url)), for any client in
/// any language, and an HTTP client to put into an `SdkConfig` ([`http_client`](Self::http_client)), without a socket.
/// [`client_config`](Self::client_config) and [`backend_config`](Self::backend_config) carry the latter.
///
/// Tokens are real RS512 JWTs, verified on exchange; vended credentials sign requests that STS `GetCallerIdentity`
/// verifies. It is for tests and demonstrations: the key that signs the tokens is published with this crate.
///
/// Clones are handles of the same pool. The server stops with the last handle; HTTP clients and configs taken from the
/// pool keep answering.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cognito_identity_pool::LocalIdentityPool;
///
/// let pool = LocalIdentityPool::builder().developer_provider("login.mycompany.myapp").start().await?;
/// let backend = aws_sdk_cognitoidentity::Client::new(&pool.backend_config());
/// let vended = backend
///     .get_open_id_token_for_developer_identity()
///     .identity_pool_id(pool.identity_pool_id())
///     .logins("login.mycompany.myapp", "user-42")
///     .send()
///     .await?;
/// let client = aws_sdk_cognitoidentity::Client::new(&pool.client_config());
/// let exchanged = client
///     .get_credentials_for_identity()
///     .identity_id(vended.identity_id().unwrap_or_default())
///     .logins("cognito-identity.amazonaws.com", vended.token().unwrap_or_default())
///     .send()
///     .await?;
/// assert_eq!(exchanged.identity_id(), vended.identity_id());
/// assert_eq!(pool.requests().len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalIdentityPool {
    running: Arc<RunningPool>,
}

struct RunningPool {
    service: Arc<PoolService>,
    server: Server,
    /// Dropped after the server, so that what is written last is all there was.
    _writer: Option<StateWriter>,
}

impl fmt::Debug for LocalIdentityPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIdentityPool")
            .field("identity_pool_id", &self.running.service.settings.identity_pool_id)
            .field("address", &self.running.server.address)
            .finish_non_exhaustive()
    }
}

impl LocalIdentityPool {
    #[cfg(test)]
    pub(super) fn service(&self) -> &Arc<PoolService> {
        &self.running.service
    }

    /// A builder; every setting has a default.
    pub fn builder() -> LocalIdentityPoolBuilder {
        LocalIdentityPoolBuilder::new()
    }

    pub(super) fn new(service: Arc<PoolService>, server: Server, writer: Option<StateWriter>) -> Self {
        Self {
            running: Arc::new(RunningPool {
                service,
                server,
                _writer: writer,
            }),
        }
    }

    /// The id of the pool that the builder described. Further pools can be created over the API.
    pub fn identity_pool_id(&self) -> &str {
        &self.running.service.settings.identity_pool_id
    }

    /// The region of the pool.
    pub fn region(&self) -> &str {
        &self.running.service.settings.region
    }

    /// Where the server is reached from this machine, such as `http://127.0.0.1:4599`: the endpoint of Cognito and of STS.
    pub fn endpoint_url(&self) -> String {
        let mut address = self.running.server.address;
        if address.ip().is_unspecified() {
            let loopback = match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            address.set_ip(loopback);
        }
        format!("http://{address}")
    }

    /// The AWS account of the pool's roles.
    pub fn account_id(&self) -> &str {
        &self.running.service.settings.account_id
    }

    /// The name under which the backend is known to the pool, if there is one.
    pub fn developer_provider(&self) -> Option<String> {
        let state = self.running.service.state();
        let pool = state.pool(self.identity_pool_id()).ok()?;
        pool.settings.developer_provider_name.clone()
    }

    /// Where the server publishes the keys that verify tokens.
    pub fn jwks_uri(&self) -> String {
        format!("{}/.well-known/jwks_uri", self.endpoint_url())
    }

    /// The issuer's host: the key of the logins map under which the pool's own tokens are accepted.
    pub fn issuer_host(&self) -> &str {
        &self.running.service.settings.issuer_host
    }

    /// Makes the pool trust an OpenID Connect provider, such as `accounts.example.com`, and returns the provider: it
    /// issues the tokens. The audience is `local-app`.
    ///
    /// `graph.facebook.com`, `www.amazon.com`, `api.twitter.com`, `www.digits.com` (opaque tokens),
    /// `accounts.google.com` and `appleid.apple.com` become supported login providers, every other host an IAM OIDC
    /// provider. Pools that were created over the API are configured over the API; a provider is known to all of them.
    ///
    /// # Errors
    ///
    /// [`LocalPoolError`] if the name cannot be a key of the logins map.
    pub fn oidc_issuer(&self, host: &str) -> Result<LocalIssuer, LocalPoolError> {
        let (form, opaque) = self.form_of(host);
        self.simulate(host, LOCAL_APP, form, opaque)
    }

    /// Makes the pool trust a user pool, such as `us-east-1_Example`, with one app client, and returns it: it issues
    /// the ID tokens.
    ///
    /// # Errors
    ///
    /// [`LocalPoolError`] if the name or the client id is not one that Cognito accepts.
    pub fn user_pool(&self, id: &str, client_id: &str) -> Result<LocalIssuer, LocalPoolError> {
        self.simulate(&self.user_pool_name(id), client_id, AmrForm::UserPool, false)
    }

    /// Makes the pool trust a provider of the developer's own, such as `auth.example.com/realms/app` or, over plain HTTP,
    /// `localhost:8080/realms/app`. Its tokens are accepted once [`TrustedIssuer::set_keys`] was told its keys: RS256
    /// signatures alone, and only for `audience` if there is one.
    ///
    /// # Errors
    ///
    /// [`LocalPoolError`] if the name is none that a logins map can have.
    pub fn trust_issuer(&self, host: &str, audience: Option<&str>) -> Result<TrustedIssuer, LocalPoolError> {
        let (form, _) = self.form_of(host);
        self.trust_keys_of(host, audience.unwrap_or_default(), form)
    }

    /// Makes the pool trust a real user pool with one app client, as [`trust_issuer`](Self::trust_issuer).
    ///
    /// # Errors
    ///
    /// [`LocalPoolError`] if the name or the client id is not one that Cognito accepts.
    pub fn trust_user_pool(&self, id: &str, client_id: &str) -> Result<TrustedIssuer, LocalPoolError> {
        self.trust_keys_of(&self.user_pool_name(id), client_id, AmrForm::UserPool)
    }

    fn user_pool_name(&self, id: &str) -> String {
        format!("cognito-idp.{}.amazonaws.com/{id}", self.region())
    }

    fn form_of(&self, host: &str) -> (AmrForm, bool) {
        self.running.service.form_of(host)
    }

    fn simulate(&self, name: &str, audience: &str, form: AmrForm, opaque: bool) -> Result<LocalIssuer, LocalPoolError> {
        let time = self.running.service.time.clone();
        let issuer = LocalIssuer::new(name.to_owned(), audience.to_owned(), form, opaque, time);
        let issuer = issuer.ok_or(LocalPoolError::Key)?;
        self.running.service.trust(issuer.clone())?;
        Ok(issuer)
    }

    fn trust_keys_of(&self, name: &str, audience: &str, form: AmrForm) -> Result<TrustedIssuer, LocalPoolError> {
        let time = self.running.service.time.clone();
        let issuer = LocalIssuer::published(name.to_owned(), audience.to_owned(), form, time);
        self.running.service.trust(issuer.clone())?;
        Ok(TrustedIssuer(issuer))
    }

    /// Signs with a new key from now on. Tokens of the older keys stay good if `keep` is set; otherwise their
    /// signatures do not hold any more.
    pub fn rotate_keys(&self, keep: bool) {
        self.running.service.keys.rotate(keep);
        self.running.service.changed();
    }

    /// Moves the pool's time ahead of its source: its tokens and credentials expire, and the tokens of its providers are
    /// issued then. The configs that it gives out travel along. Whoever signs with a clock of their own is still
    /// believed. Less than a second has no effect; the past is out of reach.
    pub fn advance_clock(&self, by: Duration) {
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        self.running.service.clock.advance(seconds);
    }

    /// Whether the documented quotas are kept from now on; see
    /// [`LocalIdentityPoolBuilder::throttling`](super::LocalIdentityPoolBuilder::throttling).
    pub fn set_throttling(&self, on: bool) {
        self.running.service.throttle.switch(on);
    }

    /// Forgets identities, requests, faults, a moved clock and pools that were made over the API: the pool is again what
    /// it was when it started, with the providers that it was told to trust since. Keys stay.
    pub fn reset(&self) {
        self.running.service.reset();
    }

    /// Pools, identities, simulated providers and keys, as JSON of this version of the crate. It holds the keys of the
    /// pool, which open nothing but local pools.
    pub fn export_state(&self) -> String {
        self.running.service.export()
    }

    /// Takes over what [`export_state`](Self::export_state) said: pools, identities, simulated providers and the keys that
    /// sign tokens. The backend's credentials stay as they are.
    ///
    /// # Errors
    ///
    /// [`LocalPoolError::Setting`] if the text is no state of this version; nothing has changed then.
    pub fn import_state(&self, state: &str) -> Result<(), LocalPoolError> {
        self.running.service.import(&Snapshot::parse(state)?)
    }

    /// An HTTP client that reaches the pool without a socket, whatever the endpoint.
    pub fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(InProcess::new(Arc::clone(&self.running.service)))
    }

    /// The credentials of the backend: the only ones that may call the signed operations.
    pub fn developer_credentials(&self) -> Credentials {
        let settings = &self.running.service.settings;
        Credentials::new(
            settings.developer_access_key.clone(),
            settings.developer_secret.expose_secret().to_owned(),
            None,
            None,
            "LocalIdentityPool",
        )
    }

    /// A config for the client half: region, time source, sleep, and an HTTP client that reaches the pool; no
    /// credentials.
    pub fn client_config(&self) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region().to_owned()))
            .time_source(self.running.service.time.clone())
            .sleep_impl(TokioSleep::new())
            .http_client(self.http_client())
            .build()
    }

    /// A config for the server half: as [`client_config`](Self::client_config), with the developer credentials.
    pub fn backend_config(&self) -> SdkConfig {
        self.client_config()
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(self.developer_credentials()))
            .build()
    }

    /// Answers one request without transport, to mount the pool into another server. `Host` is not checked here. A
    /// fault that cuts the connection is an error, for the server to do so.
    ///
    /// # Errors
    ///
    /// [`LocalPoolError::Cut`] by a fault alone.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have taken effect.
    pub async fn respond(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, LocalPoolError> {
        // Where there is no runtime, nothing can wait, and tokio's sleep would panic.
        let sleep = Handle::try_current()
            .is_ok()
            .then(|| SharedAsyncSleep::new(TokioSleep::new()));
        self.running
            .service
            .respond(&request, sleep)
            .await
            .map_err(|_| LocalPoolError::Cut)
    }

    /// What shall go wrong, per operation and count. Nothing does by default.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cognito_identity_pool::{local::LocalFault, LocalIdentityPool};
    ///
    /// let pool = LocalIdentityPool::builder().allow_guests(true).start().await?;
    /// pool.faults().next_n_of("GetId", 2, LocalFault::Status(503));
    /// let client = aws_sdk_cognitoidentity::Client::new(&pool.client_config());
    /// client.get_id().identity_pool_id(pool.identity_pool_id()).send().await?; // the SDK's third attempt
    /// assert_eq!(pool.requests_of("GetId").len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn faults(&self) -> LocalFaults {
        self.running.service.faults.clone()
    }

    /// What the header `x-local-admin` has to carry on the [admin path](crate::guide::local_pool#the-admin-path) of the server, `/_local`,
    /// where other processes see and steer the pool.
    pub fn admin_token(&self) -> &str {
        &self.running.service.settings.admin_token
    }

    /// The last 65,536 requests (fewer if they would take more than 64 MiB), oldest first: what was asked, by whom, and
    /// how it was answered.
    ///
    /// It tells which identity an access key belongs to. The ARN cannot: it ends in `CognitoIdentityCredentials` for
    /// every user, as on AWS.
    pub fn requests(&self) -> Vec<LocalRequest> {
        self.running.service.records.all()
    }

    /// The requests of one operation, oldest first.
    pub fn requests_of(&self, operation: &str) -> Vec<LocalRequest> {
        self.running
            .service
            .records
            .filtered(|request| request.operation == operation)
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.running.service.records.clear();
    }

    /// The identity to which credentials with this access key were given, if that is among the remembered requests.
    pub fn identity_of(&self, access_key_id: &str) -> Option<String> {
        let issued = |request: &LocalRequest| request.issued_access_key_id.as_deref() == Some(access_key_id);
        self.running.service.records.newest(issued)?.identity_id
    }

    /// Every rule that the pool keeps, and how well it is known to hold for the real service.
    pub fn rules() -> impl Iterator<Item = &'static FidelityRule> {
        rules::all()
    }
}
