//! What the classic flow asks of STS: `AssumeRoleWithWebIdentity`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_sts::Client;
use aws_sdk_sts::types::PolicyDescriptorType;
use aws_smithy_async::time::SharedTimeSource;
use aws_types::SdkConfig;

use super::facts::Facts;
use super::refusal::{ASSUME_ROLE, Refused};
use super::retry::CognitoRetryClassifier;
use super::settings::{ServiceSettings, destination, time_source};
use super::{Exchanged, ServerDate, incomplete, present, refused};
use crate::error::{Error, ErrorKind};
use crate::ids::{IdentityId, IdentityPoolId};
use crate::token::{OpenIdToken, TokenClaims};

/// What `AssumeRoleWithWebIdentity` is asked.
#[derive(Debug)]
pub(crate) struct RoleFor<'a> {
    pub(crate) identity_id: &'a IdentityId,
    pub(crate) token: &'a OpenIdToken,
    pub(crate) role_arn: String,
    pub(crate) session_name: String,
    pub(crate) duration: Option<Duration>,
    pub(crate) policy: Option<&'a str>,
    pub(crate) policy_arns: &'a [String],
}

/// STS, as far as it takes tokens of one identity pool.
#[derive(Debug, Clone)]
pub(crate) struct StsService {
    client: Client,
    pool: IdentityPoolId,
    destination: Arc<str>,
    time_source: SharedTimeSource,
}

impl StsService {
    pub(crate) fn new(
        pool: IdentityPoolId,
        settings: &ServiceSettings,
        app: Option<&SdkConfig>,
    ) -> Result<Self, Error> {
        let sdk_config = settings.sdk_config(&pool, app, "STS")?;
        let mut config = aws_sdk_sts::config::Builder::from(&sdk_config);
        config = config.retry_classifier(CognitoRetryClassifier);
        Ok(Self {
            client: Client::from_conf(config.build()),
            pool,
            destination: destination(&sdk_config),
            time_source: time_source(app),
        })
    }

    /// `AssumeRoleWithWebIdentity`, unsigned, with a token that Cognito issued.
    pub(crate) async fn assume_role(&self, ask: RoleFor<'_>) -> Result<Exchanged, Refused> {
        let mut request = self
            .client
            .assume_role_with_web_identity()
            .role_arn(ask.role_arn)
            .role_session_name(ask.session_name)
            .web_identity_token(ask.token.expose_secret())
            .set_policy(ask.policy.map(str::to_owned));
        if let Some(duration) = ask.duration {
            request = request.duration_seconds(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
        }
        for arn in ask.policy_arns {
            request = request.policy_arns(PolicyDescriptorType::builder().arn(arn).build());
        }
        let date = ServerDate::default();
        let own_host = ask.token.unverified_claims().and_then(TokenClaims::cognito_issuer_host);
        let host = own_host.map_or_else(|| self.pool.issuer_host(), str::to_owned);
        let facts = || Facts::new([(&*host, ask.token)], Some(ask.identity_id), self.time_source.now());
        let sent = Box::pin(request.customize().interceptor(date.clone()).send()).await;
        let output = sent.map_err(|error| refused(&self.pool, &self.destination, ASSUME_ROLE, &error, facts()))?;
        let subject = output.subject_from_web_identity_token;
        if subject.is_some_and(|subject| subject != ask.identity_id.as_str()) {
            let message = "STS read another identity from the token than the one that was asked for";
            return Err(Error::new(ErrorKind::InvalidResponse, message).into());
        }
        let credentials = output
            .credentials
            .ok_or_else(|| incomplete(ASSUME_ROLE, "credentials"))?;
        Ok(Exchanged {
            identity_id: ask.identity_id.clone(),
            access_key_id: present(ASSUME_ROLE, "access key id", Some(credentials.access_key_id))?,
            secret_access_key: present(ASSUME_ROLE, "secret key", Some(credentials.secret_access_key))?.into(),
            session_token: present(ASSUME_ROLE, "session token", Some(credentials.session_token))?.into(),
            expiration: SystemTime::try_from(credentials.expiration)
                .map_err(|_| incomplete(ASSUME_ROLE, "valid expiration"))?,
            server_date: date.take(),
        })
    }
}
