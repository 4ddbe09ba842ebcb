//! What is wrong with a pool's settings, in words.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::ids::DeveloperProviderName;
use crate::service::signed::{PoolRow, RolesRow, SignedService};

/// How much a [`Finding`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Works, but should not stay so.
    Warning,
    /// Does not work.
    Problem,
}

/// One thing that [`IdentityAdmin::doctor`](crate::IdentityAdmin::doctor) found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was seen.
    pub text: String,
    /// What to do about it.
    pub advice: &'static str,
}

/// What [`IdentityAdmin::doctor`](crate::IdentityAdmin::doctor) found, the worst first. `Display` writes a line for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    findings: Vec<Finding>,
}

impl Diagnosis {
    /// What was found, the worst first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether nothing was found that keeps tokens from being vended and exchanged.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Problem)
    }

    fn add(&mut self, severity: Severity, text: impl Into<String>, advice: &'static str) {
        self.findings.push(Finding {
            severity,
            text: text.into(),
            advice,
        });
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return f.write_str("nothing found\n");
        }
        for Finding { severity, text, advice } in &self.findings {
            writeln!(f, "{severity:?}: {text}; {advice}")?;
        }
        Ok(())
    }
}

/// Looks at the pool. What could not be looked at is a finding, too.
pub(super) async fn examine(service: &SignedService) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    match service.describe_pool().await {
        Ok(pool) => {
            examine_pool(&mut diagnosis, &pool, service.provider());
            match service.pool_roles().await {
                Ok(roles) => examine_roles(&mut diagnosis, &roles, pool.guests),
                Err(error) => unseen(&mut diagnosis, "the pool's roles", &error),
            }
        }
        Err(error) => unseen(&mut diagnosis, "the pool", &error),
    }
    diagnosis
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    diagnosis
}

fn unseen(diagnosis: &mut Diagnosis, what: &str, error: &Error) {
    // A missing permission of the examiner's says nothing about the pool.
    let (severity, advice) = match error.kind() {
        ErrorKind::NotAuthorized => (Severity::Warning, "allow the doctor what `required_iam_policy` lists"),
        _ if error.is_retryable() => (Severity::Warning, "try again"),
        _ => (
            Severity::Problem,
            "check pool id, region and the backend's AWS credentials",
        ),
    };
    diagnosis.add(severity, format!("{what} could not be examined: {error}"), advice);
}

fn examine_pool(diagnosis: &mut Diagnosis, pool: &PoolRow, provider: &DeveloperProviderName) {
    match provider_matches(pool, provider) {
        Ok(()) => {}
        Err(text) => diagnosis.add(
            Severity::Problem,
            text,
            "use the pool's name (DeveloperProviderName); once set it cannot be changed on the pool",
        ),
    }
    if pool.classic_flow != Some(false) {
        let text = match pool.classic_flow {
            Some(_) => "the classic flow is allowed",
            None => "the classic flow is allowed, because nobody has said otherwise",
        };
        diagnosis.add(
            Severity::Warning,
            text,
            "set AllowClassicFlow to false unless it is used: it lets a client choose the role and the session's length",
        );
    }
    if pool.guests {
        diagnosis.add(
            Severity::Note,
            "guests are allowed",
            "set AllowUnauthenticatedIdentities to false if the app has none",
        );
    }
    if pool.other_providers > 0 {
        diagnosis.add(
            Severity::Note,
            format!(
                "the pool has {} more providers beside the developer provider",
                pool.other_providers
            ),
            "AWS advises against mixing single sign-on and a developer provider in one pool",
        );
    }
}

pub(super) fn provider_matches(pool: &PoolRow, provider: &DeveloperProviderName) -> Result<(), String> {
    match &pool.developer_provider {
        Some(name) if name == provider.as_str() => Ok(()),
        Some(name) => Err(format!(
            "the pool `{}` knows its backend as `{name}`, not as `{provider}`",
            pool.name
        )),
        None => Err(format!("the pool `{}` has no developer provider", pool.name)),
    }
}

fn examine_roles(diagnosis: &mut Diagnosis, roles: &RolesRow, guests: bool) {
    if roles.authenticated.is_none() {
        diagnosis.add(
            Severity::Problem,
            "the pool has no role for authenticated identities",
            "set one (SetIdentityPoolRoles): every exchange of a token fails without",
        );
    }
    if guests && roles.unauthenticated.is_none() {
        diagnosis.add(
            Severity::Problem,
            "guests are allowed, and there is no role for them",
            "set a role for `unauthenticated`, or allow no guests",
        );
    }
    if roles.has_mappings {
        diagnosis.add(
            Severity::Note,
            "the pool maps roles",
            "mappings do not apply to developer identities, which get the authenticated role; they disable the classic flow",
        );
    }
    diagnosis.add(
        Severity::Note,
        "the trust policies of the roles were not examined, which takes IAM's own API",
        "they need sts:AssumeRoleWithWebIdentity for cognito-identity.amazonaws.com with this pool as `aud` and `authenticated` in `amr`, and sts:TagSession where there are principal tags",
    );
}
