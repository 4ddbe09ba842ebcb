//! What a local pool is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::box_error::BoxError;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::clock::PoolClock;
use super::error::LocalPoolError;
use super::faults::LocalFaults;
use super::hosts::Hosts;
use super::http::Server;
use super::issuers::Issuers;
use super::partitions::Partition;
use super::pool::LocalIdentityPool;
use super::pool_service::{Options, PoolService, Settings};
use super::pools::{Pool, PoolSettings, State};
use super::record::{LocalRequest, Records};
use super::roles::{LocalRole, Roles};
use super::sessions::{LocalAssumeRole, Mint, Upstream};
use super::snapshot::Snapshot;
use super::state_file::{StateFile, StateWriter};
use super::throttle::Throttle;
use super::tokens::KeyRing;
use super::{model, pools_file, shapes};

/// The life of credentials of the enhanced flow.
const CREDENTIALS_SECONDS: i64 = 3600;

/// Builds a [`LocalIdentityPool`].
#[must_use]
pub struct LocalIdentityPoolBuilder {
    region: String,
    account_id: String,
    pool_id: Option<String>,
    name: String,
    developer_provider: Option<String>,
    allow_guests: Option<bool>,
    allow_classic_flow: Option<bool>,
    /// Those that were set; the others are of the pool's account, unless there shall be none.
    roles: BTreeMap<String, String>,
    default_roles: bool,
    registered: Roles,
    further: Vec<Pool>,
    options: Options,
    host: IpAddr,
    port: u16,
    allowed_hosts: Vec<String>,
    state_file: Option<PathBuf>,
    admin_token: Option<String>,
    time: SharedTimeSource,
    developer: Option<(String, SecretString)>,
    issuer_host: Option<String>,
    own_key: bool,
    records: Records,
    upstream: Option<Upstream>,
    credentials_seconds: i64,
    cors: bool,
}

impl fmt::Debug for LocalIdentityPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIdentityPoolBuilder").finish_non_exhaustive()
    }
}

impl LocalIdentityPoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account_id: "123456789012".to_owned(),
            pool_id: None,
            name: "local".to_owned(),
            developer_provider: None,
            allow_guests: None,
            allow_classic_flow: None,
            roles: BTreeMap::new(),
            default_roles: true,
            registered: Roles::default(),
            further: Vec::new(),
            options: Options::default(),
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            allowed_hosts: Vec::new(),
            state_file: None,
            admin_token: None,
            time: SharedTimeSource::default(),
            developer: None,
            issuer_host: None,
            own_key: false,
            records: Records::default(),
            upstream: None,
            credentials_seconds: CREDENTIALS_SECONDS,
            cors: true,
        }
    }

    /// The region, `us-east-1` by default.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// The AWS account, `123456789012` by default.
    pub fn account_id(mut self, account_id: impl Into<String>) -> Self {
        self.account_id = account_id.into();
        self
    }

    /// The pool's id, a new one by default. It must begin with the region.
    pub fn identity_pool_id(mut self, id: impl Into<String>) -> Self {
        self.pool_id = Some(id.into());
        self
    }

    /// The developer provider's name; without one the pool has no developer identities.
    pub fn developer_provider(mut self, name: impl Into<String>) -> Self {
        self.developer_provider = Some(name.into());
        self
    }

    /// Whether the pool has guests. It has none by default.
    pub fn allow_guests(mut self, allow: bool) -> Self {
        self.allow_guests = Some(allow);
        self
    }

    /// Whether the classic flow is allowed. Left out it is allowed, as on AWS.
    pub fn allow_classic_flow(mut self, allow: bool) -> Self {
        self.allow_classic_flow = Some(allow);
        self
    }

    /// The role of authenticated identities. By default a role of the pool's account.
    pub fn authenticated_role(mut self, arn: impl Into<String>) -> Self {
        self.roles.insert("authenticated".to_owned(), arn.into());
        self
    }

    /// The role of guests. By default a role of the pool's account.
    pub fn unauthenticated_role(mut self, arn: impl Into<String>) -> Self {
        self.roles.insert("unauthenticated".to_owned(), arn.into());
        self
    }

    /// A pool without roles, as CreateIdentityPool leaves it: every exchange is refused.
    pub fn without_roles(mut self) -> Self {
        self.roles.clear();
        self.default_roles = false;
        self
    }

    /// Registers a role: its trust policy is checked from then on. A role that is not registered trusts the pool.
    pub fn role(mut self, role: LocalRole) -> Self {
        self.registered.0.insert(role.arn.clone(), role);
        self
    }

    /// Adds the pools and roles of a pools file, JSON with AWS's own member names:
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cognito_identity_pool::LocalIdentityPool;
    ///
    /// let builder = LocalIdentityPool::builder().pools_file(
    ///     r#"{
    ///       "IdentityPools": [{
    ///         "IdentityPoolId": "us-east-1:11111111-2222-3333-4444-555555555555",
    ///         "IdentityPoolName": "second",
    ///         "AllowUnauthenticatedIdentities": true,
    ///         "Roles": { "unauthenticated": "arn:aws:iam::123456789012:role/guest" }
    ///       }],
    ///       "Roles": [{
    ///         "RoleArn": "arn:aws:iam::123456789012:role/guest",
    ///         "TrustPolicy": { "Statement": [{
    ///           "Effect": "Allow",
    ///           "Principal": { "Federated": "cognito-identity.amazonaws.com" },
    ///           "Action": "sts:AssumeRoleWithWebIdentity",
    ///           "Condition": { "ForAnyValue:StringLike": { "cognito-identity.amazonaws.com:amr": "unauthenticated" } }
    ///         }] },
    ///         "MaxSessionDuration": 7200
    ///       }]
    ///     }"#,
    /// )?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LocalPoolError::Setting`] if it is no such file, or a pool is one that Cognito refuses.
    pub fn pools_file(mut self, text: &str) -> Result<Self, LocalPoolError> {
        let (pools, roles) = pools_file::read(text)?;
        self.further.extend(pools);
        self.registered
            .0
            .extend(roles.into_iter().map(|role| (role.arn.clone(), role)));
        Ok(self)
    }

    /// Registers roles from what `aws iam get-role` (or `list-roles`) prints; the trust policy may be an object or text.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use cognito_identity_pool::LocalIdentityPool;
    /// let builder = LocalIdentityPool::builder().roles_json(
    ///     r#"{ "Role": {
    ///       "RoleName": "app",
    ///       "Arn": "arn:aws:iam::123456789012:role/app",
    ///       "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [{
    ///         "Effect": "Allow",
    ///         "Principal": { "Federated": "cognito-identity.amazonaws.com" },
    ///         "Action": "sts:AssumeRoleWithWebIdentity",
    ///         "Condition": { "StringEquals": { "cognito-identity.amazonaws.com:aud": "us-east-1:11111111-2222-3333-4444-555555555555" } }
    ///       }] },
    ///       "MaxSessionDuration": 3600
    ///     } }"#,
    /// )?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LocalPoolError::Setting`] if it is no such output, or a trust policy is none.
    pub fn roles_json(mut self, text: &str) -> Result<Self, LocalPoolError> {
        for role in pools_file::read_roles(text)? {
            self.registered.0.insert(role.arn.clone(), role);
        }
        Ok(self)
    }

    /// Refuses what exceeds the documented quotas, each second of the time source. Off by default.
    pub fn throttling(mut self, on: bool) -> Self {
        self.options.throttling = on;
        self
    }

    /// Denies an operation: a signed one to the developer credentials, as their IAM policy would; an unsigned one to
    /// everybody, as a resource control policy would.
    pub fn deny(mut self, operation: impl Into<String>) -> Self {
        self.options.denied.insert(operation.into());
        self
    }

    /// What GetOpenIdTokenForDeveloperIdentity does with a guest and a user who has another identity: refuse
    /// (`false`, the default) or merge the guest into the user's. Which of them AWS does is not known.
    pub fn merge_guests(mut self, merge: bool) -> Self {
        self.options.merge_guests = merge;
        self
    }

    /// Whether a wrong developer provider is an InvalidParameterException; by default it is a NotAuthorizedException.
    /// Which of them AWS raises is not known.
    pub fn wrong_provider_is_invalid_parameter(mut self, invalid_parameter: bool) -> Self {
        self.options.wrong_provider_is_parameter = invalid_parameter;
        self
    }

    /// Whether a CustomRoleArn is ignored where it does not apply, with a developer token or without a role mapping; by
    /// default it is refused there. Which of them AWS does is not known.
    pub fn ignore_custom_role(mut self, ignore: bool) -> Self {
        self.options.ignore_custom_role = ignore;
        self
    }

    /// Whether STS refuses tokens of a pool without the classic flow; by default it exchanges them. What AWS does is
    /// not known; the default is the careful one for whoever relies on it.
    pub fn refuse_classic_exchange(mut self, refuse: bool) -> Self {
        self.options.refuse_classic_exchange = refuse;
        self
    }

    /// How long after its end a token that Cognito issued is still accepted, in whole seconds; 0 by default.
    pub fn token_grace(mut self, grace: Duration) -> Self {
        self.options.token_grace = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        self
    }

    /// How long after its end a token of an external provider is still accepted, in whole seconds; 300 by default, as
    /// documented for OpenID Connect providers.
    pub fn external_token_grace(mut self, grace: Duration) -> Self {
        self.options.external_grace = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        self
    }

    /// Gets the credentials from elsewhere: `assume_role` is given the role that the pool chose, and answers with what
    /// a signed `sts:AssumeRole` at an AWS-compatible server gave it. The pool then stands in front of that server:
    /// its credentials open what that server has, and its own STS does not know them.
    ///
    /// If it fails, the exchange is refused with InvalidIdentityPoolConfigurationException, and the error is logged.
    pub fn credentials_from<F, Fut>(mut self, assume_role: F) -> Self
    where
        F: Fn(LocalAssumeRole) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
    {
        self.upstream = Some(Box::new(move |request| Box::pin(assume_role(request))));
        self
    }

    /// The life of credentials of the enhanced flow, in seconds. 3600 by default, as it is fixed on AWS; shorter for a
    /// test in which they expire.
    pub fn credentials_seconds(mut self, seconds: u32) -> Self {
        self.credentials_seconds = i64::from(seconds);
        self
    }

    /// Whether web pages of any origin may call, as on AWS. On by default.
    pub fn cors(mut self, cors: bool) -> Self {
        self.cors = cors;
        self
    }

    /// The interface that the server listens on, 127.0.0.1 by default. On another one everybody who reaches this machine
    /// reaches the pool, and any IP address is taken as its name; it opens nothing but itself.
    pub fn host(mut self, host: impl Into<IpAddr>) -> Self {
        self.host = host.into();
        self
    }

    /// A further name by which requests may call the server, such as `10.0.2.2` for an Android emulator or a
    /// container's name; `*.example.test` allows what ends so. Loopback addresses, `localhost`, `*.localhost` and AWS's
    /// own names are answered always; every other name might be one that a web page pointed at this machine, and is
    /// answered with status 421.
    pub fn allow_host(mut self, name: impl Into<String>) -> Self {
        self.allowed_hosts.push(name.into());
        self
    }

    /// Keeps the state in a file: pools, identities, simulated providers and keys survive a restart, so that ids,
    /// tokens and credentials from before stay good. A file that does not exist is made, for its owner alone (it holds the
    /// pool's keys); one that does says which id, region and keys the pool has. It is written within 200 ms of a change,
    /// and when the last handle of the pool is dropped, which waits for the write.
    ///
    /// Settings of the builder win over those of the file, except that a developer provider cannot be renamed.
    /// Registered roles are not kept: register them each time.
    pub fn state_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_file = Some(path.into());
        self
    }

    /// The token of the [admin path](crate::guide::local_pool#the-admin-path), a random one by default.
    pub fn admin_token(mut self, token: impl Into<String>) -> Self {
        self.admin_token = Some(token.into());
        self
    }

    /// The port of the server; 0, the default, takes any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The clock of the pool and of the configs that it gives out. See [`LocalClock`](super::LocalClock).
    pub fn time_source(mut self, time: impl TimeSource + 'static) -> Self {
        self.time = SharedTimeSource::new(time);
        self
    }

    /// The backend's credentials; random ones by default.
    pub fn developer_credentials(mut self, access_key_id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.developer = Some((access_key_id.into(), secret.into()));
        self
    }

    /// The host of the tokens' issuer, and with it the key of the logins map. By default
    /// `cognito-identity.amazonaws.com`; in China and in GovCloud the host of the region. The principal that trust policies
    /// name follows the region alone.
    pub fn issuer_host(mut self, host: impl Into<String>) -> Self {
        self.issuer_host = Some(host.into());
        self
    }

    /// Signs with a key that this pool generates (29 to 71 ms), not with the published one.
    pub fn own_key(mut self) -> Self {
        self.own_key = true;
        self
    }

    /// Called with every request that was answered, for a log. It must not block.
    pub fn on_request(mut self, observer: impl Fn(&LocalRequest) + Send + Sync + 'static) -> Self {
        self.records.observer = Some(Box::new(observer));
        self
    }

    /// Starts the pool: it listens when this returns, after less than a millisecond in a release build. The first signature of a
    /// process takes some 30 ms more, in which AWS-LC gathers entropy.
    ///
    /// # Errors
    ///
    /// [`LocalPoolError`] if a setting is one that Cognito refuses, or the port is taken.
    ///
    /// # Cancel safety
    ///
    /// Nothing is started by a future that was dropped before it was polled; it never waits.
    pub async fn start(self) -> Result<LocalIdentityPool, LocalPoolError> {
        let (file, kept) = match &self.state_file {
            Some(path) => {
                let (file, kept) = StateFile::open(path.clone())?;
                (Some(file), kept)
            }
            None => (None, None),
        };
        let (address, port) = (self.host, self.port);
        let hosts = Hosts::new(self.allowed_hosts.clone(), address);
        let service = Arc::new(self.service(kept.as_ref())?);
        let server = Server::start(Arc::clone(&service), address, port, hosts).map_err(LocalPoolError::Listen)?;
        let writer = file
            .map(|file| StateWriter::start(file, Arc::clone(&service)))
            .transpose()
            .map_err(LocalPoolError::Listen)?;
        Ok(LocalIdentityPool::new(service, server, writer))
    }

    /// The service, with what was kept of an earlier one.
    fn service(self, kept: Option<&Snapshot>) -> Result<PoolService, LocalPoolError> {
        let kept_id = kept.map(|kept| kept.identity_pool_id.clone());
        if let (Some(asked), Some(kept)) = (&self.pool_id, &kept_id)
            && asked != kept
        {
            let text = format!("the state file is that of the pool {kept}, not of {asked}");
            return Err(LocalPoolError::Setting(text));
        }
        let pool_id = kept_id
            .or_else(|| self.pool_id.clone())
            .unwrap_or_else(|| format!("{}:{}", self.region, uuid::Uuid::new_v4()));
        in_region(&pool_id, &self.region)?;
        let mut state = kept.map_or_else(|| Ok(State::default()), Snapshot::state)?;
        for pool in &self.further {
            in_region(&pool.settings.identity_pool_id, &self.region)?;
            pool.settings.check()?;
            pool.check_roles(&self.account_id)
                .map_err(|refusal| LocalPoolError::Setting(refusal.message))?;
            put(&mut state, pool.clone())?;
        }
        let partition = Partition::of(&self.region);
        let pool = self.described(&pool_id, &partition, state.pool(&pool_id).ok())?;
        put(&mut state, pool)?;

        let mint = match kept {
            Some(kept) => Mint::import(&kept.credentials_key),
            None => Mint::new(),
        };
        let mint = mint.ok_or(LocalPoolError::Key)?;
        let keys = KeyRing::new(&self.region, self.own_key).ok_or(LocalPoolError::Key)?;
        let kept_developer = kept.map(|kept| (kept.access_key_id.clone(), kept.secret_access_key.clone().into()));
        let (developer_access_key, developer_secret) = match self.developer.or(kept_developer) {
            Some(developer) => developer,
            None => {
                let (id, secret) = mint.access_key("AKIA").ok_or(LocalPoolError::Key)?;
                (id, secret.into())
            }
        };
        let settings = Settings {
            identity_pool_id: pool_id,
            issuer_host: self.issuer_host.unwrap_or_else(|| partition.issuer_host.clone()),
            partition,
            region: self.region,
            account_id: self.account_id,
            developer_access_key,
            developer_secret,
            credentials_seconds: self.credentials_seconds,
            cors: self.cors,
            admin_token: self.admin_token.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        };
        let clock = PoolClock::new(self.time);
        let service = PoolService {
            settings,
            throttle: Throttle::new(self.options.throttling),
            options: self.options,
            roles: self.registered,
            issuers: Issuers::default(),
            faults: LocalFaults::default(),
            upstream: self.upstream,
            keys,
            mint,
            records: self.records,
            time: SharedTimeSource::new(clock.clone()),
            clock,
            initial: Mutex::new(state.without_identities()),
            state: Mutex::new(state),
            changes: Arc::default(),
        };
        if let Some(kept) = kept {
            service.keys.import(kept.signing_keys()).ok_or(LocalPoolError::Key)?;
            service.add_providers(kept)?;
        }
        Ok(service)
    }

    /// The pool that the builder describes, on top of what was kept of it.
    fn described(&self, id: &str, partition: &Partition, kept: Option<&Pool>) -> Result<Pool, LocalPoolError> {
        let mut pool = kept.cloned().unwrap_or_else(|| Pool {
            settings: PoolSettings {
                identity_pool_id: id.to_owned(),
                identity_pool_name: self.name.clone(),
                ..PoolSettings::default()
            },
            ..Pool::default()
        });
        if !self.default_roles {
            pool.roles.clear();
        }
        pool.roles
            .extend(self.roles.iter().map(|(kind, arn)| (kind.clone(), arn.clone())));
        if self.default_roles && kept.is_none() {
            for kind in ["authenticated", "unauthenticated"] {
                pool.roles
                    .entry(kind.to_owned())
                    .or_insert_with(|| default_role(partition, &self.account_id, kind));
            }
        }
        let settings = &mut pool.settings;
        if let (Some(asked), Some(known)) = (&self.developer_provider, &settings.developer_provider_name)
            && asked != known
        {
            let text = format!("the developer provider of the kept pool is {known}, and cannot become {asked}");
            return Err(LocalPoolError::Setting(text));
        }
        if self.developer_provider.is_some() {
            settings.developer_provider_name.clone_from(&self.developer_provider);
        }
        if let Some(allow) = self.allow_guests {
            settings.allow_unauthenticated_identities = allow;
        }
        if self.allow_classic_flow.is_some() {
            settings.allow_classic_flow = self.allow_classic_flow;
        }
        settings.check()?;
        Ok(pool)
    }
}

/// Puts a pool in the place of one with the same id, or beside the others.
fn put(state: &mut State, pool: Pool) -> Result<(), LocalPoolError> {
    match state.pool_mut(&pool.settings.identity_pool_id) {
        Ok(known) => *known = pool,
        Err(_) => state
            .add_pool(pool)
            .map_err(|refusal| LocalPoolError::Setting(refusal.message))?,
    }
    Ok(())
}

impl PoolSettings {
    /// The same constraints as UpdateIdentityPool has.
    pub(super) fn check(&self) -> Result<(), LocalPoolError> {
        let input: Map<String, Value> = match json!(self) {
            Value::Object(input) => input,
            _ => Map::new(),
        };
        shapes::check(model::UPDATE_POOL, &input)
            .and_then(|()| self.check_providers())
            .map_err(|refusal| LocalPoolError::Setting(refusal.message))
    }
}

fn in_region(pool_id: &str, region: &str) -> Result<(), LocalPoolError> {
    match pool_id.split(':').next() == Some(region) {
        true => Ok(()),
        false => Err(LocalPoolError::Setting(
            "the pool id does not begin with the region".to_owned(),
        )),
    }
}

fn default_role(partition: &Partition, account_id: &str, kind: &str) -> String {
    format!("arn:{}:iam::{account_id}:role/local-{kind}", partition.name)
}
