//! The operations that Cognito takes from a backend alone: signed with the app's own AWS credentials.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_cognitoidentity::Client;
use aws_sdk_cognitoidentity::config::IdentityCache;
use aws_sdk_cognitoidentity::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cognitoidentity::types::IdentityDescription as Described;
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::interceptors::SharedInterceptor;
use aws_smithy_runtime_api::http::Response;
use aws_types::SdkConfig;
use aws_types::request_id::RequestId;

use super::attempts::{AttemptWatch, CountAttempts, TOKEN_OPERATION};
use super::facts::Facts;
use super::settings::{ServiceSettings, time_source};
use super::{checked_identity, present, refused};
use crate::clock::{Clock, Now};
use crate::error::{Error, ErrorKind};
use crate::ids::{DeveloperProviderName, DeveloperUserId, IdentityId, IdentityPoolId};
use crate::logins::Logins;
use crate::token::{OpenIdToken, TokenDuration};

/// What the service takes and gives at most in one page (`QueryLimit`), and deletes at most in one call.
pub(crate) const PAGE: usize = 60;

/// Credentials that AWS refused are dropped no more often than this.
const DROP_EVERY: Duration = Duration::from_secs(30);

/// The signed operations on one identity pool.
#[derive(Debug, Clone)]
pub(crate) struct SignedService {
    client: Arc<ArcSwap<Client>>,
    watch: Option<Arc<dyn AttemptWatch>>,
    /// When credentials that AWS refused were dropped last.
    dropped: Arc<Mutex<Option<Now>>>,
    clock: Clock,
    pool: IdentityPoolId,
    destination: Arc<str>,
    provider: DeveloperProviderName,
    time_source: SharedTimeSource,
}

/// What `GetOpenIdTokenForDeveloperIdentity` is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenFor<'a> {
    pub(crate) user: &'a DeveloperUserId,
    /// An identity that exists and is to be the user's.
    pub(crate) identity_id: Option<&'a IdentityId>,
    pub(crate) external: Option<&'a Logins>,
    pub(crate) tags: &'a [(String, String)],
    pub(crate) duration: TokenDuration,
}

/// What it answers, checked.
#[derive(Debug)]
pub(crate) struct DeveloperToken {
    pub(crate) identity_id: IdentityId,
    pub(crate) token: OpenIdToken,
    pub(crate) request_id: Option<String>,
}

/// An identity as `DescribeIdentity` and `ListIdentities` show it.
#[derive(Debug, Clone)]
pub(crate) struct IdentityRow {
    pub(crate) identity_id: IdentityId,
    pub(crate) logins: Vec<String>,
    pub(crate) created: Option<SystemTime>,
    pub(crate) modified: Option<SystemTime>,
}

/// The settings of a pool that matter to a developer provider.
#[derive(Debug, Clone)]
pub(crate) struct PoolRow {
    pub(crate) name: String,
    pub(crate) developer_provider: Option<String>,
    pub(crate) guests: bool,
    /// `None` counts as allowed.
    pub(crate) classic_flow: Option<bool>,
    pub(crate) other_providers: usize,
}

/// The roles of a pool.
#[derive(Debug, Clone)]
pub(crate) struct RolesRow {
    pub(crate) authenticated: Option<String>,
    pub(crate) unauthenticated: Option<String>,
    pub(crate) has_mappings: bool,
}

impl SignedService {
    /// A client with the app's own credentials and identity cache.
    pub(crate) fn new(
        pool: IdentityPoolId,
        provider: DeveloperProviderName,
        settings: &ServiceSettings,
        app: &SdkConfig,
        watch: Option<Arc<dyn AttemptWatch>>,
    ) -> Result<Self, Error> {
        let credentials = app.credentials_provider().ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "the SdkConfig has no credentials provider").with_hint(
                "vending is signed with the backend's own AWS credentials: pass the config of `aws_config::load_defaults(…)`",
            )
        })?;
        let (config, destination) = settings.client_config(&pool, Some(app))?;
        let mut config = config.credentials_provider(credentials);
        config.push_interceptor(SharedInterceptor::permanent(CountAttempts(watch.clone())));
        match app.identity_cache() {
            Some(cache) => config.set_identity_cache(cache),
            None => config.set_identity_cache(IdentityCache::lazy().build()),
        };
        Ok(Self {
            client: Arc::new(ArcSwap::from_pointee(Client::from_conf(config.build()))),
            watch,
            dropped: Arc::default(),
            clock: Clock::new(time_source(Some(app))),
            pool,
            destination,
            provider,
            time_source: time_source(Some(app)),
        })
    }

    pub(crate) fn pool(&self) -> &IdentityPoolId {
        &self.pool
    }

    pub(crate) fn provider(&self) -> &DeveloperProviderName {
        &self.provider
    }

    fn client(&self) -> Client {
        self.client.load().as_ref().clone()
    }

    /// AWS has refused the credentials themselves. They may have been rotated, and would be kept until they expire: the next request
    /// loads new ones. At most every 30 s, so that credentials that are simply wrong are not loaded for each request.
    fn drop_credentials(&self) -> bool {
        let now = self.clock.now();
        {
            let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            if dropped.is_some_and(|at| now.since(at) < DROP_EVERY) {
                return false;
            }
            *dropped = Some(now);
        }
        let config = self.client.load().config().to_builder();
        let config = config.identity_cache(IdentityCache::lazy().build());
        self.client.store(Arc::new(Client::from_conf(config.build())));
        tracing::warn!("AWS refused the backend's credentials: they are loaded anew");
        true
    }

    /// `GetOpenIdTokenForDeveloperIdentity`. A request whose credentials were refused is made once more with new ones.
    pub(crate) async fn developer_token(&self, ask: TokenFor<'_>) -> Result<DeveloperToken, Error> {
        let used = self.client.load_full();
        let first = self.ask_for_token(&used, ask).await;
        if !first.as_ref().is_err_and(are_credentials_refused) {
            return first;
        }
        // Another request may have had them replaced by now.
        let current = self.client.load_full();
        if Arc::ptr_eq(&used, &current) {
            return first;
        }
        if let Some(watch) = &self.watch {
            watch.repeated();
        }
        self.ask_for_token(&current, ask).await
    }

    async fn ask_for_token(&self, client: &Client, ask: TokenFor<'_>) -> Result<DeveloperToken, Error> {
        const OPERATION: &str = TOKEN_OPERATION;
        let external = || ask.external.into_iter().flat_map(Logins::iter);
        let mut request = client
            .get_open_id_token_for_developer_identity()
            .identity_pool_id(self.pool.as_str())
            .set_identity_id(ask.identity_id.map(|id| id.as_str().to_owned()))
            .token_duration(ask.duration.as_secs().cast_signed());
        for (provider, token) in external() {
            request = request.logins(provider, token.expose_secret());
        }
        // After the external ones: whatever they are, the user of this call is the one that the backend named.
        request = request.logins(self.provider.as_str(), ask.user.as_str());
        for (key, value) in ask.tags {
            request = request.principal_tags(key, value);
        }
        let facts = || Facts::new(external(), ask.identity_id, self.time_source.now());
        // An operation's future has 25 KB: boxed once here, it does not swell what awaits it. It is made where it stays: `Box::pin`
        // would copy it there.
        let sent = Box::into_pin(Box::write(Box::new_uninit(), request.send()));
        let output = sent.await.map_err(|error| self.refused(OPERATION, &error, facts()))?;
        let request_id = output.request_id().map(str::to_owned);
        let identity_id = checked_identity(OPERATION, output.identity_id)?;
        let token = OpenIdToken::new(present(OPERATION, "token", output.token)?)
            .map_err(|_| invalid(OPERATION, "a malformed token"))?;
        // An emulator's opaque token says nothing.
        if let Some(claims) = token.unverified_claims() {
            if claims.sub.as_ref().is_some_and(|sub| sub != identity_id.as_str()) {
                return Err(invalid(OPERATION, "a token that belongs to another identity"));
            }
            if claims.aud.as_ref().is_some_and(|aud| aud != self.pool.as_str()) {
                return Err(invalid(OPERATION, "a token for another identity pool"));
            }
        }
        Ok(DeveloperToken {
            identity_id,
            token,
            request_id,
        })
    }

    /// `LookupDeveloperIdentity` by user. `None`: the user has no identity.
    pub(crate) async fn identity_of(&self, user: &DeveloperUserId) -> Result<Option<IdentityId>, Error> {
        const OPERATION: &str = "LookupDeveloperIdentity";
        let request = self
            .client()
            .lookup_developer_identity()
            .identity_pool_id(self.pool.as_str());
        match request
            .developer_user_identifier(user.as_str())
            .max_results(1)
            .send()
            .await
        {
            Ok(output) => Ok(Some(checked_identity(OPERATION, output.identity_id)?)),
            Err(error) if no_such_thing(&error) => Ok(None),
            Err(error) => Err(self.refused(OPERATION, &error, self.no_facts())),
        }
    }

    /// `LookupDeveloperIdentity` by identity: one page of its users, and where the next begins. No page: no such identity.
    pub(crate) async fn users_of(
        &self,
        identity_id: &IdentityId,
        next: Option<String>,
    ) -> Result<Option<(Vec<DeveloperUserId>, Option<String>)>, Error> {
        const OPERATION: &str = "LookupDeveloperIdentity";
        let request = self
            .client()
            .lookup_developer_identity()
            .identity_pool_id(self.pool.as_str());
        let request = request
            .identity_id(identity_id.as_str())
            .max_results(PAGE as i32)
            .set_next_token(next);
        match request.send().await {
            Ok(output) => {
                let users = output.developer_user_identifier_list.unwrap_or_default();
                let users = users
                    .into_iter()
                    .map(|user| DeveloperUserId::new(user).map_err(|_| invalid(OPERATION, "a malformed user id")));
                Ok(Some((users.collect::<Result<_, _>>()?, output.next_token)))
            }
            Err(error) if no_such_thing(&error) => Ok(None),
            Err(error) => Err(self.refused(OPERATION, &error, self.facts_of(identity_id))),
        }
    }

    /// `LookupDeveloperIdentity` with both: whether the user is linked to the identity.
    pub(crate) async fn is_linked(&self, user: &DeveloperUserId, identity_id: &IdentityId) -> Result<bool, Error> {
        const OPERATION: &str = "LookupDeveloperIdentity";
        let request = self
            .client()
            .lookup_developer_identity()
            .identity_pool_id(self.pool.as_str());
        let request = request
            .developer_user_identifier(user.as_str())
            .identity_id(identity_id.as_str());
        match request.max_results(1).send().await {
            Ok(_) => Ok(true),
            Err(error) if no_such_thing(&error) || has_code(&error, "ResourceConflictException") => Ok(false),
            Err(error) => Err(self.refused(OPERATION, &error, self.facts_of(identity_id))),
        }
    }

    /// `MergeDeveloperIdentities`: the identity that both have now.
    pub(crate) async fn merge(&self, from: &DeveloperUserId, into: &DeveloperUserId) -> Result<IdentityId, Error> {
        const OPERATION: &str = "MergeDeveloperIdentities";
        let request = self
            .client()
            .merge_developer_identities()
            .identity_pool_id(self.pool.as_str());
        let request = request.developer_provider_name(self.provider.as_str());
        let request = request
            .source_user_identifier(from.as_str())
            .destination_user_identifier(into.as_str());
        let output = request
            .send()
            .await
            .map_err(|error| self.refused(OPERATION, &error, self.no_facts()))?;
        Ok(checked_identity(OPERATION, output.identity_id)?)
    }

    /// `UnlinkDeveloperIdentity`.
    pub(crate) async fn unlink_user(&self, user: &DeveloperUserId, identity_id: &IdentityId) -> Result<(), Error> {
        let request = self
            .client()
            .unlink_developer_identity()
            .identity_pool_id(self.pool.as_str());
        let request = request.developer_provider_name(self.provider.as_str());
        let request = request
            .developer_user_identifier(user.as_str())
            .identity_id(identity_id.as_str());
        let sent = request.send().await;
        sent.map(drop)
            .map_err(|error| self.refused("UnlinkDeveloperIdentity", &error, self.facts_of(identity_id)))
    }

    /// `UnlinkIdentity`: unsigned, but here because it is what an administrator does.
    pub(crate) async fn unlink_external(
        &self,
        identity_id: &IdentityId,
        proof: &Logins,
        remove: &[String],
    ) -> Result<(), Error> {
        let mut request = self.client().unlink_identity().identity_id(identity_id.as_str());
        for (provider, token) in proof.iter() {
            request = request.logins(provider, token.expose_secret());
        }
        let facts = || Facts::new(proof, Some(identity_id), self.time_source.now());
        let sent = request.set_logins_to_remove(Some(remove.to_vec())).send().await;
        sent.map(drop)
            .map_err(|error| self.refused("UnlinkIdentity", &error, facts()))
    }

    /// `DescribeIdentity`.
    pub(crate) async fn describe(&self, identity_id: &IdentityId) -> Result<IdentityRow, Error> {
        const OPERATION: &str = "DescribeIdentity";
        let sent = self
            .client()
            .describe_identity()
            .identity_id(identity_id.as_str())
            .send()
            .await;
        let output = sent.map_err(|error| self.refused(OPERATION, &error, self.facts_of(identity_id)))?;
        Ok(IdentityRow {
            identity_id: checked_identity(OPERATION, output.identity_id)?,
            logins: output.logins.unwrap_or_default(),
            created: output.creation_date.and_then(|date| SystemTime::try_from(date).ok()),
            modified: output
                .last_modified_date
                .and_then(|date| SystemTime::try_from(date).ok()),
        })
    }

    /// `DeleteIdentities`, at most [`PAGE`]: what was not deleted, and why.
    pub(crate) async fn delete(&self, identities: &[IdentityId]) -> Result<Vec<(IdentityId, String)>, Error> {
        const OPERATION: &str = "DeleteIdentities";
        let ids = identities.iter().map(|id| id.as_str().to_owned()).collect();
        let sent = self
            .client()
            .delete_identities()
            .set_identity_ids_to_delete(Some(ids))
            .send()
            .await;
        let output = sent.map_err(|error| self.refused(OPERATION, &error, self.no_facts()))?;
        let rows = output
            .unprocessed_identity_ids
            .unwrap_or_default()
            .into_iter()
            .map(|row| {
                let code = row
                    .error_code
                    .map_or_else(|| "unknown".to_owned(), |code| code.as_str().to_owned());
                Ok((checked_identity(OPERATION, row.identity_id)?, code))
            });
        rows.collect()
    }

    /// `ListIdentities`: one page of at most `max`, and where the next begins.
    pub(crate) async fn list(
        &self,
        max: u8,
        hide_disabled: bool,
        next: Option<String>,
    ) -> Result<(Vec<IdentityRow>, Option<String>), Error> {
        const OPERATION: &str = "ListIdentities";
        let request = self
            .client()
            .list_identities()
            .identity_pool_id(self.pool.as_str())
            .max_results(i32::from(max));
        let sent = request.hide_disabled(hide_disabled).set_next_token(next).send().await;
        let output = sent.map_err(|error| self.refused(OPERATION, &error, self.no_facts()))?;
        let rows = output.identities.unwrap_or_default().into_iter().map(|row: Described| {
            Ok(IdentityRow {
                identity_id: checked_identity(OPERATION, row.identity_id)?,
                logins: row.logins.unwrap_or_default(),
                created: row.creation_date.and_then(|date| SystemTime::try_from(date).ok()),
                modified: row.last_modified_date.and_then(|date| SystemTime::try_from(date).ok()),
            })
        });
        Ok((rows.collect::<Result<_, Error>>()?, output.next_token))
    }

    /// `DescribeIdentityPool`.
    pub(crate) async fn describe_pool(&self) -> Result<PoolRow, Error> {
        let sent = self
            .client()
            .describe_identity_pool()
            .identity_pool_id(self.pool.as_str())
            .send()
            .await;
        let output = sent.map_err(|error| self.refused("DescribeIdentityPool", &error, self.no_facts()))?;
        Ok(PoolRow {
            other_providers: output
                .supported_login_providers
                .as_ref()
                .map_or(0, std::collections::HashMap::len)
                + output.open_id_connect_provider_arns().len()
                + output.cognito_identity_providers().len()
                + output.saml_provider_arns().len(),
            name: output.identity_pool_name,
            developer_provider: output.developer_provider_name.filter(|name| !name.is_empty()),
            guests: output.allow_unauthenticated_identities,
            classic_flow: output.allow_classic_flow,
        })
    }

    /// `GetIdentityPoolRoles`.
    pub(crate) async fn pool_roles(&self) -> Result<RolesRow, Error> {
        let sent = self
            .client()
            .get_identity_pool_roles()
            .identity_pool_id(self.pool.as_str())
            .send()
            .await;
        let output = sent.map_err(|error| self.refused("GetIdentityPoolRoles", &error, self.no_facts()))?;
        let mut roles = output.roles.unwrap_or_default();
        Ok(RolesRow {
            authenticated: roles.remove("authenticated"),
            unauthenticated: roles.remove("unauthenticated"),
            has_mappings: output.role_mappings.is_some_and(|mappings| !mappings.is_empty()),
        })
    }

    fn no_facts(&self) -> Facts<'static> {
        Facts::none(self.time_source.now())
    }

    fn facts_of<'a>(&self, identity_id: &'a IdentityId) -> Facts<'a> {
        Facts::new([], Some(identity_id), self.time_source.now())
    }

    fn refused<E>(&self, operation: &'static str, error: &SdkError<E, Response>, facts: Facts<'_>) -> Error
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        if let Some(credentials) = failed_credentials(error) {
            return no_credentials(operation, credentials);
        }
        let error = refused(&self.pool, &self.destination, operation, error, facts).into();
        if are_credentials_refused(&error) {
            self.drop_credentials();
        }
        error
    }
}

/// Whether AWS has refused the credentials that signed a request, as opposed to what they may do.
fn are_credentials_refused(error: &Error) -> bool {
    const CODES: [&str; 5] = [
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "ExpiredTokenException",
        "ExpiredToken",
    ];
    error.code().is_some_and(|code| CODES.contains(&code))
}

/// The answer "there is no such user or identity", as opposed to "there is no such pool".
fn no_such_thing<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> bool {
    has_code(error, "ResourceNotFoundException")
        && !error
            .as_service_error()
            .and_then(E::message)
            .unwrap_or_default()
            .starts_with("IdentityPool ")
}

fn has_code<E: ProvideErrorMetadata>(error: &SdkError<E, Response>, code: &str) -> bool {
    error.as_service_error().and_then(E::code) == Some(code)
}

fn invalid(operation: &'static str, what: &'static str) -> Error {
    Error::new(
        ErrorKind::InvalidResponse,
        format!("the response to {operation} has {what}"),
    )
    .with_hint("an emulator or a proxy may have answered instead of Cognito")
}

/// The failure of the app's own credentials provider, which the SDK reports as a failure to send.
fn failed_credentials<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn no_credentials(operation: &'static str, error: &CredentialsError) -> Error {
    let passes = !matches!(
        error,
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
    );
    Error::new(
        ErrorKind::Configuration,
        format!("{operation}: the backend's own AWS credentials could not be loaded"),
    )
    .with_hint("vending is signed: give the backend a role, or check the one that it has")
    .retryable(passes)
    .caused_by(error)
}
