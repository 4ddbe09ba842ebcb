//! Roles, and whether they trust a token.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::partitions::Partition;
use super::policy::{self, Context, Malformed, Peer, Policy, Verdict};
use super::rules::{Refusal, Rule};
use super::session_tags;
use super::sessions::split_role;

/// The longest session of a role that nobody registered.
const LONGEST_SESSION: i64 = 43_200;

/// A role that the local STS knows: whom it trusts, and for how long at most.
///
/// The trust policy is judged as IAM judges it: every condition operator and set qualifier, `Deny`, the `Not…`
/// elements, policy variables, and the condition keys of such a request. A role that is not registered trusts every
/// token of the pool, with sessions of up to 12 hours.
///
/// ```
/// use cognito_identity_pool::{LocalIdentityPool, local::LocalRole};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let role = LocalRole::new(
///     "arn:aws:iam::123456789012:role/app",
///     r#"{ "Version": "2012-10-17", "Statement": [{
///         "Effect": "Allow",
///         "Principal": { "Federated": "cognito-identity.amazonaws.com" },
///         "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
///         "Condition": { "ForAnyValue:StringLike": { "cognito-identity.amazonaws.com:amr": "authenticated" } }
///     }] }"#,
/// )?;
/// let builder = LocalIdentityPool::builder().role(role).authenticated_role("arn:aws:iam::123456789012:role/app");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LocalRole {
    pub(super) arn: String,
    trust: Policy,
    max_session: i64,
}

/// A trust policy that is not taken: because IAM would not save it, or because this pool cannot judge it.
///
/// Its text is what IAM would answer, or what the pool cannot judge.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", refusal.error(), refusal.message)]
pub struct TrustPolicyError {
    refusal: Refusal,
}

impl TrustPolicyError {
    /// The rule that refuses the policy, as in [`FidelityRule::id`](super::FidelityRule::id).
    pub fn rule(&self) -> &'static str {
        self.refusal.id()
    }
}

impl From<Malformed> for TrustPolicyError {
    fn from(malformed: Malformed) -> Self {
        let rule = match malformed.only_here {
            true => Rule::TrustPolicyNotJudged,
            false => Rule::TrustPolicyMalformed,
        };
        Self {
            refusal: rule.refuse(&[&malformed.message]),
        }
    }
}

impl LocalRole {
    /// A role with a trust policy, as IAM takes it, and sessions of up to an hour.
    ///
    /// # Errors
    ///
    /// [`TrustPolicyError`] if IAM would answer MalformedPolicyDocument, or if the policy asks for something that this
    /// pool does not know and therefore could only guess.
    pub fn new(arn: impl Into<String>, trust_policy: &str) -> Result<Self, TrustPolicyError> {
        Self::with_trust(arn, policy::trust(trust_policy, true)?)
    }

    /// A role that was saved before March 2024, when IAM began to require a condition of every role that trusts Cognito.
    /// Such roles still work; new ones are refused.
    ///
    /// ```
    /// use cognito_identity_pool::local::LocalRole;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let arn = "arn:aws:iam::123456789012:role/old";
    /// let policy = r#"{ "Version": "2012-10-17", "Statement": [{
    ///     "Effect": "Allow",
    ///     "Principal": { "Federated": "cognito-identity.amazonaws.com" },
    ///     "Action": "sts:AssumeRoleWithWebIdentity"
    /// }] }"#;
    /// assert!(LocalRole::new(arn, policy).is_err());
    /// let role = LocalRole::saved_before_2024(arn, policy)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), but for the condition.
    pub fn saved_before_2024(arn: impl Into<String>, trust_policy: &str) -> Result<Self, TrustPolicyError> {
        Self::with_trust(arn, policy::trust(trust_policy, false)?)
    }

    fn with_trust(arn: impl Into<String>, trust: Policy) -> Result<Self, TrustPolicyError> {
        Ok(Self {
            arn: arn.into(),
            trust,
            max_session: 3600,
        })
    }

    /// The longest session of the classic flow, 3600 s by default. The enhanced flow has an hour, whatever stands here.
    #[must_use]
    pub fn max_session_seconds(mut self, seconds: u32) -> Self {
        self.max_session = i64::from(seconds);
        self
    }
}

/// What a role is asked to trust.
pub(super) struct Claimant<'a> {
    pub(super) partition: &'a Partition,
    pub(super) region: &'a str,
    /// The account of the pool.
    pub(super) account_id: &'a str,
    pub(super) now: SystemTime,
    pub(super) peer: Peer<'a>,
    pub(super) session_name: &'a str,
    pub(super) aud: &'a str,
    pub(super) sub: &'a str,
    pub(super) amr: &'a [String],
    pub(super) tags: &'a BTreeMap<String, String>,
}

impl Claimant<'_> {
    /// The condition keys of the request, for a role of `account`.
    fn context(&self, account: &str) -> Context {
        let mut context = Context::default();
        context.set_global(self.now, self.region, account, self.peer);
        context.set("sts:RoleSessionName", self.session_name);
        for key in self.partition.claim_keys("aud") {
            context.set(&key, self.aud);
        }
        for key in self.partition.claim_keys("sub") {
            context.set(&key, self.sub);
        }
        for key in self.partition.claim_keys("amr") {
            context.set_all(&key, self.amr.iter().cloned());
        }
        context.set_tags(self.tags);
        context
    }
}

/// The roles that were registered.
#[derive(Default)]
pub(super) struct Roles(pub(super) BTreeMap<String, LocalRole>);

impl Roles {
    /// Whether STS lets the claimant assume the role `arn`; the refusal is STS's own.
    pub(super) fn admit(&self, arn: &str, claimant: &Claimant<'_>) -> Result<(), Refusal> {
        session_tags::check(claimant.tags)?;
        let denied = |why: String| Refusal::from(Rule::StsAccessDenied).because(why);
        let (account, _) = split_role(arn).ok_or_else(|| denied(format!("{arn} is not the ARN of a role")))?;
        let Some(role) = self.0.get(arn) else { return Ok(()) };
        let principal = &claimant.partition.trust_principal;
        if account != claimant.account_id {
            let keys: Vec<String> = ["aud", "amr"].map(|claim| format!("{principal}:{claim}")).into();
            if !role.trust.requires(principal, &keys) {
                return Err(denied(format!(
                    "{arn} belongs to another account than the pool, and its trust policy lacks a condition on {}",
                    keys.join(" or ")
                )));
            }
        }
        let context = claimant.context(account);
        let mut actions = vec!["sts:AssumeRoleWithWebIdentity"];
        if !claimant.tags.is_empty() {
            actions.push("sts:TagSession");
        }
        for action in actions {
            match role.trust.judge(principal, action, &context) {
                Verdict::Allowed => {}
                verdict => {
                    return Err(denied(format!(
                        "the trust policy of {arn}, asked for {action}: {verdict}"
                    )));
                }
            }
        }
        Ok(())
    }

    pub(super) fn max_session(&self, arn: &str) -> i64 {
        self.0.get(arn).map_or(LONGEST_SESSION, |role| role.max_session)
    }
}
