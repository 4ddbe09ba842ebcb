//! [`ClassicFlow`]: `GetOpenIdToken`, then STS `AssumeRoleWithWebIdentity` with what the app has chosen.

mod builder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_types::SdkConfig;

use super::login::{Login, Who};
use crate::error::{Error, ErrorKind};
use crate::ids::{IdentityId, IdentityPoolId};
use crate::service::refusal::{Refused, Remedy};
use crate::service::settings::ServiceSettings;
use crate::service::sts::{RoleFor, StsService};
use crate::service::{Exchanged, IdentityService, Proof};
use crate::token::OpenIdToken;

pub use self::builder::ClassicFlowBuilder;
pub(super) use self::builder::check_role;

/// The classic flow's settings: which role, under which session name, for how long, scoped down by which policy.
///
/// Guests and external logins get a token of Cognito by `GetOpenIdToken` (two calls in the place of one); a developer user's
/// token goes straight to STS. STS is asked in the pool's region. Whoever holds such a token can assume *any* role that trusts
/// the pool with it, so check `aud` and `amr` in every trust policy; the choice made here restrains the app, not its user.
///
/// ```
/// use std::time::Duration;
/// use cognito_identity_pool::{client::{ClassicFlow, Flow}, CognitoCredentialsProvider};
///
/// # fn example(config: &aws_config::SdkConfig) -> Result<(), cognito_identity_pool::Error> {
/// let flow = ClassicFlow::builder()
///     .authenticated_role("arn:aws:iam::123456789012:role/member")
///     .unauthenticated_role("arn:aws:iam::123456789012:role/visitor")
///     .duration(Duration::from_secs(4 * 3_600))
///     .build()?;
/// let provider = CognitoCredentialsProvider::builder("us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d")
///     .configure(config)
///     .flow(Flow::classic(flow))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ClassicFlow {
    settings: Arc<Settings>,
}

type Choose = Arc<dyn Fn(&ClassicLogin<'_>) -> Option<String> + Send + Sync>;

#[derive(Clone, Default)]
struct Settings {
    authenticated_role: Option<String>,
    unauthenticated_role: Option<String>,
    role: Option<Choose>,
    session_name: SessionName,
    duration: Option<Duration>,
    policy: Option<String>,
    policy_arns: Vec<String>,
    sts_endpoint_url: Option<String>,
    sts_region: Option<String>,
}

#[derive(Clone, Default)]
enum SessionName {
    /// The identity id, with a dot in the place of its colon, which STS does not allow.
    #[default]
    Identity,
    Fixed(String),
    Chosen(Choose),
}

/// For whom a role or a session name is chosen: what the closures of [`ClassicFlowBuilder`] are given.
#[derive(Debug, Clone, Copy)]
pub struct ClassicLogin<'a> {
    identity_id: &'a IdentityId,
    login: &'a Login,
    proof: &'a Proof,
}

impl<'a> ClassicLogin<'a> {
    /// Who it is to Cognito.
    pub fn identity_id(&self) -> &'a IdentityId {
        self.identity_id
    }

    /// The name that the app gave the person: [`Login::subject`](crate::Login::subject).
    pub fn subject(&self) -> Option<&'a str> {
        self.login.subject.as_deref()
    }

    /// Whether nobody has signed in.
    pub fn is_guest(&self) -> bool {
        self.login.is_guest()
    }

    /// Whether it is a user of the app's own backend.
    pub fn is_developer(&self) -> bool {
        matches!(self.login.who, Who::Developer { .. })
    }

    /// The public providers that the user is signed in with. None for guests and developer users.
    pub fn providers(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        match self.proof {
            Proof::External(logins) => Some(logins.providers()),
            Proof::Guest | Proof::Developer { .. } => None,
        }
        .into_iter()
        .flatten()
    }
}

impl ClassicFlow {
    /// Starts with no role, the session name derived from the identity id, and STS's default of one hour.
    pub fn builder() -> ClassicFlowBuilder {
        ClassicFlowBuilder::default()
    }
}

impl fmt::Debug for ClassicFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &*self.settings;
        f.debug_struct("ClassicFlow")
            .field("authenticated_role", &settings.authenticated_role)
            .field("unauthenticated_role", &settings.unauthenticated_role)
            .field("role_chosen", &settings.role.is_some())
            .field("duration", &settings.duration)
            .field("policy", &settings.policy)
            .field("policy_arns", &settings.policy_arns)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The login's own role comes first, then what the closure says, then the role for the kind of login.
    fn role(&self, login: &ClassicLogin<'_>) -> Result<String, Error> {
        let own = || login.login.custom_role_arn.as_deref().map(str::to_owned);
        let chosen = || self.role.as_ref().and_then(|choose| choose(login));
        if let Some(role) = own().or_else(chosen) {
            check_role(&role)?;
            return Ok(role);
        }
        let (role, who, setting) = if login.is_guest() {
            (&self.unauthenticated_role, "guests", "unauthenticated_role")
        } else {
            (&self.authenticated_role, "this login", "authenticated_role")
        };
        role.clone().ok_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                format!("the classic flow has no role for {who}"),
            )
            .with_hint(format!("set `{setting}` of ClassicFlow's builder"))
        })
    }

    fn session_name(&self, login: &ClassicLogin<'_>) -> Result<String, Error> {
        let derived = || login.identity_id.as_str().replace(':', ".");
        Ok(match &self.session_name {
            SessionName::Identity => derived(),
            SessionName::Fixed(name) => name.clone(),
            SessionName::Chosen(choose) => match choose(login) {
                Some(name) => {
                    builder::check_session_name(&name)?;
                    name
                }
                None => derived(),
            },
        })
    }
}

/// The flow, with a way to STS.
pub(super) struct Classic {
    settings: Arc<Settings>,
    sts: StsService,
}

impl Classic {
    pub(super) fn new(
        flow: ClassicFlow,
        pool: &IdentityPoolId,
        settings: &ServiceSettings,
        app: Option<&SdkConfig>,
    ) -> Result<Self, Error> {
        let own = ServiceSettings {
            endpoint_url: flow.settings.sts_endpoint_url.clone(),
            region: flow.settings.sts_region.clone(),
            ..settings.clone()
        };
        Ok(Self {
            settings: flow.settings,
            sts: StsService::new(pool.clone(), &own, app)?,
        })
    }

    pub(super) async fn exchange(
        &self,
        service: &IdentityService,
        shown: &IdentityId,
        proof: &Proof,
        login: &Login,
    ) -> Result<Exchanged, Refused> {
        if let Proof::Developer { token, .. } = proof {
            return self.assume(shown, token, proof, login).await;
        }
        let (id, token) = service.open_id_token(shown, proof).await?;
        match self.assume(&id, &token, proof, login).await {
            // It is Cognito's token that STS refuses, not the app's logins: those need not be asked for again.
            Err(refused) if refused.remedy == Remedy::NewToken => {}
            result => return result,
        }
        let (id, token) = service.open_id_token(shown, proof).await?;
        let result = self.assume(&id, &token, proof, login).await;
        result.map_err(|refused| refused.error.into())
    }

    async fn assume(
        &self,
        identity_id: &IdentityId,
        token: &OpenIdToken,
        proof: &Proof,
        login: &Login,
    ) -> Result<Exchanged, Refused> {
        let whose = ClassicLogin {
            identity_id,
            login,
            proof,
        };
        let ask = RoleFor {
            identity_id,
            token,
            role_arn: self.settings.role(&whose)?,
            session_name: self.settings.session_name(&whose)?,
            duration: self.settings.duration,
            policy: self.settings.policy.as_deref(),
            policy_arns: &self.settings.policy_arns,
        };
        self.sts.assume_role(ask).await
    }
}
