//! The only door to AWS: one typed function per operation used. Responses are checked for completeness, and nothing that can
//! hold a secret (an SDK input, output or error) leaves this room.

pub(crate) mod attempts;
mod explain;
mod facts;
#[cfg(any(feature = "http-backend", feature = "refresh-token", feature = "verify"))]
pub(crate) mod http;
pub(crate) mod refusal;
mod retry;
pub(crate) mod settings;
pub(crate) mod signed;
#[cfg(feature = "classic-flow")]
pub(crate) mod sts;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sdk_cognitoidentity::Client;
use aws_sdk_cognitoidentity::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_cognitoidentity::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cognitoidentity::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::interceptors::{context, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::error::ErrorMetadata;
use aws_types::SdkConfig;
use aws_types::request_id::RequestId;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, ErrorKind};
use crate::ids::{IdentityId, IdentityPoolId};
use crate::logins::Logins;
use crate::token::OpenIdToken;
pub use explain::explain;
use facts::Facts;
use refusal::Refused;
use settings::{ServiceSettings, time_source};

/// What Cognito is shown as proof of who is calling.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    Guest,
    /// A token that Cognito itself issued to a developer user, and the host that it is keyed by.
    Developer {
        issuer_host: String,
        token: OpenIdToken,
    },
    External(Logins),
}

impl Proof {
    /// The Logins of the request, made here and nowhere else. A developer token has its one key, and no other kind of proof
    /// can come under that.
    fn pairs(&self) -> Vec<(&str, &OpenIdToken)> {
        match self {
            Self::Guest => Vec::new(),
            Self::Developer { issuer_host, token } => vec![(issuer_host, token)],
            Self::External(logins) => logins.iter().collect(),
        }
    }

    /// What may be known of it without the network, for [`refusal`].
    fn facts<'a>(&'a self, identity_id: Option<&'a IdentityId>, now: SystemTime) -> Facts<'a> {
        Facts::new(self.pairs(), identity_id, now)
    }
}

/// The answer of `GetCredentialsForIdentity`, checked.
#[derive(Debug)]
pub(crate) struct Exchanged {
    pub(crate) identity_id: IdentityId,
    pub(crate) access_key_id: String,
    secret_access_key: SecretString,
    session_token: SecretString,
    pub(crate) expiration: SystemTime,
    /// The server's clock when it answered.
    pub(crate) server_date: Option<SystemTime>,
}

impl Exchanged {
    /// The credentials as the SDK takes them, expiring at `expiry` by the local clock.
    pub(crate) fn credentials(&self, expiry: SystemTime, provider_name: &'static str) -> Credentials {
        Credentials::new(
            self.access_key_id.clone(),
            self.secret_access_key.expose_secret(),
            Some(self.session_token.expose_secret().to_owned()),
            Some(expiry),
            provider_name,
        )
    }
}

/// The unsigned operations of one identity pool.
#[derive(Debug, Clone)]
pub(crate) struct IdentityService {
    client: Client,
    pool: IdentityPoolId,
    destination: Arc<str>,
    /// The region that is asked, if it is set.
    region: Option<String>,
    time_source: SharedTimeSource,
}

impl IdentityService {
    pub(crate) fn new(
        pool: IdentityPoolId,
        settings: &ServiceSettings,
        app: Option<&SdkConfig>,
    ) -> Result<Self, Error> {
        let (config, destination) = settings.client_config(&pool, app)?;
        Ok(Self {
            client: Client::from_conf(config.build()),
            pool,
            destination,
            region: settings.region.clone(),
            time_source: time_source(app),
        })
    }

    /// `GetId`, for guests and external logins. A developer's token has no way in here.
    pub(crate) async fn get_id(
        &self,
        logins: Option<&Logins>,
        account_id: Option<&str>,
    ) -> Result<IdentityId, Refused> {
        let proof = logins.map_or(Proof::Guest, |logins| Proof::External(logins.clone()));
        let mut request = self.client.get_id().identity_pool_id(self.pool.as_str());
        request = request.set_account_id(account_id.map(str::to_owned));
        for (provider, token) in proof.pairs() {
            request = request.logins(provider, token.expose_secret());
        }
        let facts = || {
            proof
                .facts(None, self.time_source.now())
                .in_region(self.region.as_deref())
        };
        let output = Box::pin(request.send())
            .await
            .map_err(|error| refused(&self.pool, &self.destination, "GetId", &error, facts()))?;
        checked_identity("GetId", output.identity_id)
    }

    /// `GetOpenIdToken`, for guests and external logins: the identity may be another than the one that was asked for.
    pub(crate) async fn open_id_token(
        &self,
        identity_id: &IdentityId,
        proof: &Proof,
    ) -> Result<(IdentityId, OpenIdToken), Refused> {
        const OPERATION: &str = "GetOpenIdToken";
        let mut request = self.client.get_open_id_token().identity_id(identity_id.as_str());
        for (provider, token) in proof.pairs() {
            request = request.logins(provider, token.expose_secret());
        }
        let facts = || {
            let facts = proof.facts(Some(identity_id), self.time_source.now());
            facts.in_region(self.region.as_deref())
        };
        let sent = Box::pin(request.send()).await;
        let output = sent.map_err(|error| refused(&self.pool, &self.destination, OPERATION, &error, facts()))?;
        let identity_id = checked_identity(OPERATION, output.identity_id)?;
        let token = OpenIdToken::new(present(OPERATION, "token", output.token)?)
            .map_err(|_| incomplete(OPERATION, "valid token"))?;
        Ok((identity_id, token))
    }

    /// `GetCredentialsForIdentity`: the enhanced flow.
    pub(crate) async fn get_credentials(
        &self,
        identity_id: &IdentityId,
        proof: &Proof,
        custom_role_arn: Option<&str>,
    ) -> Result<Exchanged, Refused> {
        const OPERATION: &str = "GetCredentialsForIdentity";
        let mut request = self
            .client
            .get_credentials_for_identity()
            .identity_id(identity_id.as_str());
        request = request.set_custom_role_arn(custom_role_arn.map(str::to_owned));
        for (provider, token) in proof.pairs() {
            request = request.logins(provider, token.expose_secret());
        }
        let date = ServerDate::default();
        let facts = || {
            proof
                .facts(Some(identity_id), self.time_source.now())
                .in_region(self.region.as_deref())
        };
        // Boxed: the SDK's future is 25 kB.
        let sent = Box::pin(request.customize().interceptor(date.clone()).send()).await;
        let output = sent.map_err(|error| refused(&self.pool, &self.destination, OPERATION, &error, facts()))?;
        let identity_id = checked_identity(OPERATION, output.identity_id)?;
        let credentials = output.credentials.ok_or_else(|| incomplete(OPERATION, "credentials"))?;
        let expiration = credentials
            .expiration
            .ok_or_else(|| incomplete(OPERATION, "expiration"))?;
        Ok(Exchanged {
            identity_id,
            access_key_id: present(OPERATION, "access key id", credentials.access_key_id)?,
            secret_access_key: present(OPERATION, "secret key", credentials.secret_key)?.into(),
            session_token: present(OPERATION, "session token", credentials.session_token)?.into(),
            expiration: SystemTime::try_from(expiration).map_err(|_| incomplete(OPERATION, "valid expiration"))?,
            server_date: date.take(),
        })
    }
}

pub(crate) fn checked_identity(operation: &'static str, id: Option<String>) -> Result<IdentityId, Refused> {
    let id = present(operation, "identity id", id)?;
    IdentityId::new(id).map_err(|_| incomplete(operation, "valid identity id"))
}

/// A member that a success response must have.
pub(crate) fn present(operation: &'static str, what: &'static str, value: Option<String>) -> Result<String, Refused> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| incomplete(operation, what))
}

fn incomplete(operation: &'static str, what: &'static str) -> Refused {
    Refused::from(
        Error::new(
            ErrorKind::InvalidResponse,
            format!("the response to {operation} has no {what}"),
        )
        .with_hint("an emulator or a proxy may have answered instead of Cognito"),
    )
}

/// What an SDK error says, in our words. The error itself stays behind: its `Debug` holds the service's raw message, which
/// may echo a token, and for an unreadable response the whole body.
pub(crate) fn refused<E>(
    pool: &IdentityPoolId,
    destination: &str,
    operation: &'static str,
    error: &SdkError<E, aws_smithy_runtime_api::http::Response>,
    facts: Facts<'_>,
) -> Refused
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let (code, message) = (context.err().code(), context.err().message());
            let status = context.raw().status().as_u16();
            let refused = refusal::classify(operation, pool, code, message.unwrap_or_default(), status, facts);
            refused.map_error(|refusal| refusal.with_request_id(error.request_id()))
        }
        SdkError::TimeoutError(_) => {
            let message = format!("{operation} was not answered by {destination} in time");
            Error::new(ErrorKind::Timeout, message).into()
        }
        SdkError::DispatchFailure(failure) => {
            let Some(connector) = failure.as_connector_error() else {
                let message = format!("{operation} was not answered by {destination}");
                return Error::new(ErrorKind::Transport, message).into();
            };
            let kind = if connector.is_timeout() {
                ErrorKind::Timeout
            } else if connector.is_io() || connector.is_other() {
                ErrorKind::Transport
            } else {
                ErrorKind::Configuration
            };
            Error::new(kind, format!("{operation} could not be sent to {destination}"))
                .with_hint(
                    "look at DNS, TLS and the proxy; for a local pool in another process set AWS_ENDPOINT_URL_COGNITO_IDENTITY and AWS_ENDPOINT_URL_STS",
                )
                .caused_by(connector)
                .into()
        }
        SdkError::ConstructionFailure(_) => {
            Error::new(ErrorKind::Configuration, format!("{operation} could not be built")).into()
        }
        SdkError::ResponseError(context) => {
            let status = context.raw().status().as_u16();
            let message =
                format!("the response to {operation} from {destination} could not be read (HTTP status {status})");
            // A load balancer's answer has no error type, but a status.
            let kind = match status {
                429 => ErrorKind::Throttled,
                500.. => ErrorKind::Service,
                _ => ErrorKind::InvalidResponse,
            };
            let refused = Error::new(kind, message).with_request_id(error.request_id());
            refused
                .with_hint("an emulator or a proxy may have answered instead of Cognito")
                .into()
        }
        _ => Error::new(ErrorKind::Transport, format!("{operation} failed")).into(),
    }
}

/// Reads the `Date` of the last attempt's response.
#[derive(Debug, Clone, Default)]
struct ServerDate(Arc<Mutex<Option<SystemTime>>>);

impl ServerDate {
    fn take(&self) -> Option<SystemTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[dyn_dispatch_hint]
impl Intercept for ServerDate {
    fn name(&self) -> &'static str {
        "ServerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let date = date.and_then(|date| SystemTime::try_from(date).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

/// The service's code in an orchestrator's error, if the operation has no error type of its own for it: those are about what was sent,
/// as STS's `ExpiredTokenException` is about a web identity token, and not about who signed.
pub(crate) fn code_of(error: &OrchestratorError<context::Error>) -> Option<&str> {
    let mut next = Some(error.as_operation_error()? as &dyn std::error::Error);
    while let Some(error) = next {
        if let Some(metadata) = error.downcast_ref::<ErrorMetadata>() {
            return metadata.code();
        }
        next = error.source();
    }
    None
}
