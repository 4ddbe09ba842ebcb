//! [`Flow`]: by which calls an identity and its proof become credentials.

use aws_types::SdkConfig;

#[cfg(feature = "classic-flow")]
use super::classic::{Classic, ClassicFlow};
use super::login::Login;
use crate::error::{Error, ErrorKind};
use crate::ids::{IdentityId, IdentityPoolId};
use crate::service::refusal::Refused;
use crate::service::settings::ServiceSettings;
use crate::service::{Exchanged, IdentityService, Proof};

/// By which calls an identity becomes AWS credentials.
///
/// ```
/// # use cognito_identity_pool::{client::Flow, CognitoCredentialsProvider};
/// # fn example(config: &aws_config::SdkConfig) -> Result<(), cognito_identity_pool::Error> {
/// let provider = CognitoCredentialsProvider::builder("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d")
///     .configure(config)
///     .flow(Flow::Enhanced)
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Flow {
    /// `GetCredentialsForIdentity`: credentials of one hour, for the role that the pool decides.
    #[default]
    Enhanced,
    /// STS `AssumeRoleWithWebIdentity`: role, session name, duration and policy are the app's choice.
    #[cfg(feature = "classic-flow")]
    #[cfg_attr(docsrs, doc(cfg(feature = "classic-flow")))]
    Classic(ClassicFlow),
}

impl Flow {
    /// The classic flow. The pool must allow it (`AllowClassicFlow`), and must not have role mappings.
    #[cfg(feature = "classic-flow")]
    #[cfg_attr(docsrs, doc(cfg(feature = "classic-flow")))]
    pub fn classic(flow: ClassicFlow) -> Self {
        Self::Classic(flow)
    }
}

impl Flow {
    /// Whether `arn` can be asked for.
    pub(crate) fn check_role(&self, arn: &str) -> Result<(), Error> {
        match self {
            Self::Enhanced => Err(Error::new(
                ErrorKind::Configuration,
                format!("the enhanced flow has no choice of role for developer users: {arn}"),
            )
            .with_hint("the pool alone decides it; use `Flow::classic` (feature `classic-flow`)")),
            #[cfg(feature = "classic-flow")]
            Self::Classic(_) => super::classic::check_role(arn),
        }
    }
}

/// A flow with the services that it calls beside Cognito.
pub(super) enum Exchange {
    Enhanced,
    #[cfg(feature = "classic-flow")]
    Classic(Classic),
}

impl Exchange {
    #[cfg_attr(
        not(feature = "classic-flow"),
        allow(unused_variables, reason = "the enhanced flow needs nothing of its own")
    )]
    pub(super) fn new(
        flow: Flow,
        pool: &IdentityPoolId,
        settings: &ServiceSettings,
        app: Option<&SdkConfig>,
    ) -> Result<Self, Error> {
        Ok(match flow {
            Flow::Enhanced => Self::Enhanced,
            #[cfg(feature = "classic-flow")]
            Flow::Classic(flow) => Self::Classic(Classic::new(flow, pool, settings, app)?),
        })
    }

    /// Whether a single answer tells what was done: the classic flow can link a guest and be refused the role afterwards.
    pub(super) fn is_one_call(&self) -> bool {
        matches!(self, Self::Enhanced)
    }

    /// Identity and proof for credentials.
    pub(super) async fn trade(
        &self,
        service: &IdentityService,
        shown: &IdentityId,
        proof: &Proof,
        login: &Login,
    ) -> Result<Exchanged, Refused> {
        match self {
            Self::Enhanced => {
                let role = login.custom_role_arn.as_deref();
                service.get_credentials(shown, proof, role).await
            }
            #[cfg(feature = "classic-flow")]
            Self::Classic(flow) => flow.exchange(service, shown, proof, login).await,
        }
    }
}
