//! [`ClassicFlowBuilder`], and the limits of STS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{ClassicFlow, ClassicLogin, SessionName, Settings};
use crate::error::{Error, ErrorKind};

const SHORTEST: Duration = Duration::from_secs(900);
const LONGEST: Duration = Duration::from_secs(43_200);
const POLICY: usize = 2048;
const POLICY_ARNS: usize = 10;

/// Builds a [`ClassicFlow`].
///
/// ```
/// use cognito_identity_pool::client::ClassicFlow;
///
/// let flow = ClassicFlow::builder()
///     .role_by(|login| {
///         let role = if login.subject()?.starts_with("admin-") { "admin" } else { "member" };
///         Some(format!("arn:aws:iam::123456789012:role/{role}"))
///     })
///     .session_name_by(|login| login.subject().map(str::to_owned))
///     .policy(r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#)
///     .build()?;
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct ClassicFlowBuilder {
    settings: Settings,
}

impl ClassicFlowBuilder {
    /// The role of those who have signed in, as an ARN.
    pub fn authenticated_role(mut self, arn: impl Into<String>) -> Self {
        self.settings.authenticated_role = Some(arn.into());
        self
    }

    /// The role of guests, as an ARN.
    pub fn unauthenticated_role(mut self, arn: impl Into<String>) -> Self {
        self.settings.unauthenticated_role = Some(arn.into());
        self
    }

    /// Chooses the role at each exchange. `None` leaves it to the two roles above; a login's own
    /// [`custom_role_arn`](crate::Login::custom_role_arn) comes before. What is no role's ARN fails the exchange with
    /// [`ErrorKind::Configuration`].
    pub fn role_by(mut self, choose: impl Fn(&ClassicLogin<'_>) -> Option<String> + Send + Sync + 'static) -> Self {
        self.settings.role = Some(Arc::new(choose));
        self
    }

    /// The session name: 2 to 64 characters, letters, digits and `_ + = , . @ -` (`RoleSessionName` in the STS reference). It
    /// stands in the caller's ARN and in CloudTrail.
    ///
    /// By default the identity id, with a dot in the place of its colon (`us-east-1.1a2b3c4d-…`), so that the log of every
    /// service tells users apart; the enhanced flow calls them all `CognitoIdentityCredentials`.
    pub fn session_name(mut self, name: impl Into<String>) -> Self {
        self.settings.session_name = SessionName::Fixed(name.into());
        self
    }

    /// Chooses the session name at each exchange. `None` is the default name; one that is not allowed fails the exchange with
    /// [`ErrorKind::Configuration`].
    pub fn session_name_by(
        mut self,
        choose: impl Fn(&ClassicLogin<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.settings.session_name = SessionName::Chosen(Arc::new(choose));
        self
    }

    /// How long credentials live: 900 s to 12 hours, in whole seconds, and at most the role's own `MaxSessionDuration` (one hour
    /// unless it was raised), which STS alone knows. One hour by default.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.settings.duration = Some(duration);
        self
    }

    /// A session policy in JSON, of at most 2048 characters: the credentials can do what both it and the role allow.
    pub fn policy(mut self, json: impl Into<String>) -> Self {
        self.settings.policy = Some(json.into());
        self
    }

    /// One managed policy more to serve as session policy, as an ARN. At most 10.
    pub fn policy_arn(mut self, arn: impl Into<String>) -> Self {
        self.settings.policy_arns.push(arn.into());
        self
    }

    /// The endpoint of STS, e.g. a local pool's. By default the regional one, or what is set for STS itself in the app's
    /// configuration (`AWS_ENDPOINT_URL_STS`).
    pub fn sts_endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.settings.sts_endpoint_url = Some(url.into());
        self
    }

    /// The region of STS, if it is not the pool's.
    pub fn sts_region(mut self, region: impl Into<String>) -> Self {
        self.settings.sts_region = Some(region.into());
        self
    }

    /// Checks the settings against the limits of STS.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: no role at all, a value that is no role's or policy's ARN, a duration, session name or
    /// policy out of its limits.
    pub fn build(self) -> Result<ClassicFlow, Error> {
        let settings = self.settings;
        let roles = [&settings.authenticated_role, &settings.unauthenticated_role];
        if roles.iter().all(|role| role.is_none()) && settings.role.is_none() {
            return Err(wrong("the classic flow has no role".to_owned())
                .with_hint("set `authenticated_role`, `unauthenticated_role` or `role_by`"));
        }
        roles.into_iter().flatten().try_for_each(|role| check_role(role))?;
        if let SessionName::Fixed(name) = &settings.session_name {
            check_session_name(name)?;
        }
        if let Some(duration) = settings.duration.filter(|d| !(SHORTEST..=LONGEST).contains(d)) {
            return Err(wrong(format!(
                "a session of {} s: must be 900 s to 43200 s (12 hours)",
                duration.as_secs_f64()
            )));
        }
        settings.policy.as_deref().map_or(Ok(()), check_policy)?;
        if settings.policy_arns.len() > POLICY_ARNS {
            return Err(wrong(format!(
                "{} policy ARNs: STS takes at most 10",
                settings.policy_arns.len()
            )));
        }
        settings.policy_arns.iter().try_for_each(|arn| check_policy_arn(arn))?;
        Ok(ClassicFlow {
            settings: Arc::new(settings),
        })
    }
}

impl fmt::Debug for ClassicFlowBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = ClassicFlow {
            settings: Arc::new(self.settings.clone()),
        };
        f.debug_tuple("ClassicFlowBuilder").field(&flow).finish()
    }
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

/// `arn:<partition>:iam::<account>:role/<path and name>`, of 20 to 2048 characters.
pub(in crate::client) fn check_role(arn: &str) -> Result<(), Error> {
    if iam_name(arn, "role/").is_some_and(|account| account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()))
    {
        return Ok(());
    }
    Err(wrong(format!("not a role's ARN: {}", shown(arn)))
        .with_hint("it must look like arn:aws:iam::123456789012:role/name"))
}

/// As a role's, with `policy/`; AWS's own policies have the account `aws`.
fn check_policy_arn(arn: &str) -> Result<(), Error> {
    let accounts =
        |account: &str| account == "aws" || (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()));
    if iam_name(arn, "policy/").is_some_and(accounts) {
        return Ok(());
    }
    Err(wrong(format!("not a policy's ARN: {}", shown(arn)))
        .with_hint("it must look like arn:aws:iam::123456789012:policy/name"))
}

/// The account of an IAM ARN whose resource begins with `kind`.
fn iam_name<'a>(arn: &'a str, kind: &str) -> Option<&'a str> {
    let legible = (20..=2048).contains(&arn.len()) && arn.bytes().all(|b| b.is_ascii_graphic());
    let mut parts = arn.splitn(6, ':');
    let mut next = || parts.next();
    let (scheme, partition, service, region, account, resource) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    let named = resource.strip_prefix(kind).is_some_and(|name| !name.is_empty());
    (legible && scheme == "arn" && !partition.is_empty() && service == "iam" && region.is_empty() && named)
        .then_some(account)
}

pub(super) fn check_session_name(name: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if (2..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(wrong(format!("not a session name: {}", shown(name)))
        .with_hint("2 to 64 letters, digits and _ + = , . @ -; an identity id has a colon, which is not among them"))
}

fn check_policy(json: &str) -> Result<(), Error> {
    let length = json.encode_utf16().count();
    if !(1..=POLICY).contains(&length) {
        return Err(wrong(format!(
            "a session policy of {length} characters: must have 1 to {POLICY}"
        ))
        .with_hint("leave out white space, or attach the policy to the role"));
    }
    let legible = json.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}'));
    if legible && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json).is_ok() {
        return Ok(());
    }
    Err(wrong(
        "the session policy is no JSON object of Latin-1 characters".to_owned(),
    ))
}

/// The beginning, in quotes: what is passed by mistake may be long, and may be secret.
fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(24).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::123456789012:role/app";

    fn builder() -> ClassicFlowBuilder {
        ClassicFlow::builder().authenticated_role(ROLE)
    }

    fn refusal(builder: ClassicFlowBuilder) -> String {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    }

    #[test]
    fn a_flow_without_a_role_is_none() {
        assert!(refusal(ClassicFlow::builder()).contains("no role"));
        assert!(ClassicFlow::builder().role_by(|_| None).build().is_ok());
    }

    #[test]
    fn role_arns_have_their_form() {
        for arn in [
            ROLE,
            "arn:aws-cn:iam::123456789012:role/a/path/app",
            "arn:aws-us-gov:iam::123456789012:role/app",
        ] {
            assert!(check_role(arn).is_ok(), "{arn}");
        }
        for arn in [
            "",
            "app",
            "arn:aws:iam::123456789012:user/app",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam:us-east-1:123456789012:role/app",
            "arn:aws:iam::1234:role/app-of-no-account",
            "arn:aws:sts::123456789012:assumed-role/app/session",
            "arn:aws:iam::123456789012:role/a b",
            &format!("{ROLE}{}", "x".repeat(2048)),
        ] {
            assert!(
                refusal(ClassicFlow::builder().unauthenticated_role(arn)).contains("not a role's ARN"),
                "{arn}"
            );
        }
    }

    #[test]
    fn durations_are_stss() {
        for seconds in [900, 3_600, 43_200] {
            assert!(
                builder().duration(Duration::from_secs(seconds)).build().is_ok(),
                "{seconds}"
            );
        }
        for millis in [0, 899_999, 43_200_001, u64::MAX] {
            assert!(
                refusal(builder().duration(Duration::from_millis(millis))).contains("43200"),
                "{millis}"
            );
        }
    }

    #[test]
    fn session_names_are_stss() {
        for name in ["ab", "us-east-1.1a2b", "a+b=c,d.e@f-g_h", &"x".repeat(64)] {
            assert!(builder().session_name(name).build().is_ok(), "{name}");
        }
        for name in ["", "a", "us-east-1:1a2b", "a b", "käse", &"x".repeat(65)] {
            assert!(refusal(builder().session_name(name)).contains("session name"), "{name}");
        }
    }

    #[test]
    fn policies_are_json_of_2048_characters() {
        let policy = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
        assert!(builder().policy(policy(2048)).build().is_ok());
        assert!(refusal(builder().policy(policy(2049))).contains("2049"));
        for json in ["", "[]", "{", "\"text\"", "{\"a\":\"\u{2603}\"}"] {
            assert!(refusal(builder().policy(json)).contains("policy"), "{json}");
        }
    }

    #[test]
    fn policy_arns_are_at_most_ten_and_are_policies() {
        let arn = |n: usize| format!("arn:aws:iam::123456789012:policy/p{n}");
        let with = |n: usize| (0..n).fold(builder(), |builder, i| builder.policy_arn(arn(i)));
        assert!(with(10).build().is_ok());
        assert!(refusal(with(11)).contains("at most 10"));
        assert!(
            builder()
                .policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess")
                .build()
                .is_ok()
        );
        assert!(refusal(builder().policy_arn(ROLE)).contains("not a policy's ARN"));
    }

    #[test]
    fn an_error_does_not_repeat_all_of_what_was_passed_by_mistake() {
        let error = refusal(builder().session_name(format!("{}canary", "x".repeat(80))));
        assert!(!error.contains("canary"));
    }
}
